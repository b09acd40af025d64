//! TLS: one crypto provider (ring) for the whole process, and certificates from files that may be replaced meanwhile.
//!
//! Nothing survives a crash and nothing is counted here: whoever connects says in its health what is wrong with a file.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Where the certificates of a connection lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate chain, when the other side asks for one.
    pub certificate: Option<PathBuf>,
    /// The key of our certificate.
    pub key: Option<PathBuf>,
}

/// A certificate file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds no such thing.
    #[error("read {what} from {}", path.display())]
    File {
        /// "certificates" or "a private key".
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// A file was read and holds no certificate: it may be half written.
    #[error("read certificates from {}: there is none in it", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// The certificate and the key do not fit, or are of an unknown kind.
    #[error("use the certificate and key")]
    Unusable(#[source] rustls::Error),
    /// A server needs both.
    #[error("use TLS: certificate and key are both needed")]
    Incomplete,
}

/// Makes ring the crypto provider of the process. To be called first in `main` and in tests; later calls do nothing.
pub fn install_crypto_provider() {
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// The client side of a connection.
pub fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(path) => add_roots(&mut roots, &PemFile::read("certificates", path)?)?,
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let own = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            Some((PemFile::read("certificates", certificate)?, PemFile::read("a private key", key)?))
        }
        (None, None) => None,
        _ => return Err(TlsError::Incomplete),
    };
    with_roots(roots, own.as_ref())
}

/// The server side of a connection.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = PemFile::read("certificates", certificate)?.certificates()?;
    let key = PemFile::read("a private key", key)?.private_key()?;
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).map_err(TlsError::Unusable)?;
    Ok(Arc::new(config))
}

/// What reading the files again has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The files hold what is in use.
    Unchanged,
    /// The next connection uses what the files hold now.
    Changed,
}

/// The client side of connections whose certificates are looked at again, because they are renewed every few weeks.
#[derive(Clone, Debug)]
pub struct ReloadingClient {
    files: TlsFiles,
    config: Arc<ClientConfig>,
    /// Of the contents of the files, at the last time that they could be used.
    fingerprint: u64,
}

impl ReloadingClient {
    /// Reads the files for the first time; now they must be sound.
    pub fn new(files: TlsFiles) -> Result<ReloadingClient, TlsError> {
        // Before the contents: a file that changes in between is read once more, not once less.
        let fingerprint = fingerprint(&files)?;
        let config = client_config(&files)?;
        Ok(ReloadingClient { files, config, fingerprint })
    }

    /// For the next connection. A running one keeps what it began with.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Whether there is a file that may change. The system's own authorities are read at the start only.
    pub fn has_files(&self) -> bool {
        self.files != TlsFiles::default()
    }

    /// Reads the files again. After an error, what was read last stays in use.
    pub fn refresh(&mut self) -> Result<Reload, TlsError> {
        let fingerprint = fingerprint(&self.files)?;
        if fingerprint == self.fingerprint {
            return Ok(Reload::Unchanged);
        }
        self.config = client_config(&self.files)?;
        self.fingerprint = fingerprint;
        Ok(Reload::Changed)
    }
}

/// Contents, not times: a renewal that copies a file with its old time is one, and a touched file is none.
fn fingerprint(files: &TlsFiles) -> Result<u64, TlsError> {
    let mut hasher = DefaultHasher::new();
    for (what, path) in
        [("certificates", &files.ca), ("certificates", &files.certificate), ("a private key", &files.key)]
    {
        let Some(path) = path else { continue };
        let file = PemFile::read(what, path)?;
        hasher.write_usize(file.bytes.len());
        hasher.write(&file.bytes);
    }
    Ok(hasher.finish())
}

fn with_roots(roots: RootCertStore, own: Option<&(PemFile<'_>, PemFile<'_>)>) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = match own {
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificate.certificates()?, key.private_key()?)
            .map_err(TlsError::Unusable)?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn add_roots(roots: &mut RootCertStore, file: &PemFile<'_>) -> Result<(), TlsError> {
    for certificate in file.certificates()? {
        roots.add(certificate).map_err(TlsError::Unusable)?;
    }
    Ok(())
}

/// The bytes of a PEM file.
struct PemFile<'a> {
    what: &'static str,
    path: &'a Path,
    bytes: Vec<u8>,
}

impl PemFile<'_> {
    fn read<'a>(what: &'static str, path: &'a Path) -> Result<PemFile<'a>, TlsError> {
        let failed = |error| TlsError::File { what, path: path.to_owned(), source: pem::Error::Io(error) };
        Ok(PemFile { what, path, bytes: fs::read(path).map_err(failed)? })
    }

    fn failed(&self, source: pem::Error) -> TlsError {
        TlsError::File { what: self.what, path: self.path.to_owned(), source }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let certificates = certificates.map_err(|error| self.failed(error))?;
        if certificates.is_empty() {
            return Err(TlsError::Empty { path: self.path.to_owned() });
        }
        Ok(certificates)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| self.failed(error))
    }
}
