//! The key behind the links with which officers sign. Made once, kept in the data folder, readable by the owner only.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kerbside_runtime::Secret;

const FILE: &str = "sign.key";
const KEY_BYTES: usize = 32;
/// A key file longer than this is not ours.
const FILE_BYTES_MAX: u64 = 1024;

/// The key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignKeyError {
    #[error("read the key for sign links from {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("write the key for sign links to {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("make a key for sign links: the system gives no random bytes")]
    Random,
}

/// Reads the key of this folder, or makes one.
pub(super) fn load_or_make(data_dir: &Path) -> Result<Secret, SignKeyError> {
    let path = data_dir.join(FILE);
    match File::open(&path) {
        Ok(file) => {
            let mut text = String::new();
            let read = file.take(FILE_BYTES_MAX).read_to_string(&mut text);
            read.map_err(|source| SignKeyError::Read { path: path.clone(), source })?;
            if text.trim().len() >= KEY_BYTES {
                return Ok(Secret::new(text.trim()));
            }
            make(&path)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(&path),
        Err(source) => Err(SignKeyError::Read { path, source }),
    }
}

fn make(path: &Path) -> Result<Secret, SignKeyError> {
    let mut bytes = [0_u8; KEY_BYTES];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| SignKeyError::Random)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let failed = |source| SignKeyError::Write { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let first = load_or_make(folder.path()).unwrap();
        assert_eq!(first.expose().len(), 2 * KEY_BYTES);
        assert_eq!(load_or_make(folder.path()).unwrap().expose(), first.expose());
    }
}
