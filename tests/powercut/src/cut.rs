//! What a disk holds after a power cut: turns the operations before it into files.
//!
//! A sync is the only promise. Each write after the last sync of its file may be lost, whole, or torn, whatever became
//! of those before it: disks write in the order they like. A torn write keeps some of its sectors, and one sector may
//! hold the beginning of the new bytes and noise behind them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use fastrand::Rng;

use crate::Operation;

/// Bytes that a disk writes as one; flash has larger ones, which tear less.
const SECTOR_BYTES: usize = 512;

/// The files of a folder by name.
pub type Image = BTreeMap<String, Vec<u8>>;

/// How much of the unsynced writes survives, drawn once for each cut so that both extremes are common.
#[derive(Clone, Copy)]
enum Mood {
    NothingSurvives,
    EverythingSurvives,
    /// Each write with this chance in percent.
    Some(u32),
}

/// The files after the power went behind the last of `operations`, which began on `base`.
pub fn after_cut(base: &Image, operations: &[Operation], random: &mut Rng) -> Image {
    let (mut durable, mut written) = (base.clone(), base.clone());
    let mut pending: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        match operation {
            // Not what SQLite left in it: another wrote it, and has synced it, or so it is to be hoped.
            Operation::Found { file, bytes } if written.get(file).is_none_or(|known| known != bytes) => {
                pending.remove(file.as_str());
                durable.insert(file.clone(), bytes.clone());
            }
            Operation::Found { .. } => {}
            Operation::Write { file, .. } | Operation::Resize { file, .. } => {
                pending.entry(file).or_default().push(operation);
            }
            Operation::Sync { file } => {
                for done in pending.remove(file.as_str()).into_iter().flatten() {
                    apply(&mut durable, done);
                }
            }
            Operation::Delete { file } => pending.entry(file).or_default().push(operation),
            Operation::SyncFolder => pending.iter_mut().for_each(|(file, pending)| {
                if let Some(deleted) = pending.iter().rposition(|operation| is_deletion(operation)) {
                    durable.remove(*file);
                    pending.drain(..=deleted);
                }
            }),
            Operation::Done(_) => {}
        }
        apply(&mut written, operation);
    }
    let mood = match random.u32(0..4) {
        0 => Mood::NothingSurvives,
        1 => Mood::EverythingSurvives,
        _ => Mood::Some(random.u32(1..100)),
    };
    for operation in pending.into_values().flatten() {
        apply_by_chance(&mut durable, operation, mood, random);
    }
    durable
}

/// Reads every file of a folder, but none of its folders.
pub fn read_image(folder: &Path) -> io::Result<Image> {
    let mut image = Image::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            image.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
        }
    }
    Ok(image)
}

/// Writes every file of an image into a folder that is there.
pub fn write_image(folder: &Path, image: &Image) -> io::Result<()> {
    for (name, bytes) in image {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

fn apply(image: &mut Image, operation: &Operation) {
    match operation {
        Operation::Write { file, offset, bytes } => put(image.entry(file.clone()).or_default(), *offset, bytes),
        Operation::Resize { file, length } => image.entry(file.clone()).or_default().resize(to_size(*length), 0),
        Operation::Delete { file } => {
            image.remove(file);
        }
        Operation::Found { file, bytes } => {
            image.insert(file.clone(), bytes.clone());
        }
        Operation::Sync { .. } | Operation::SyncFolder | Operation::Done(_) => {}
    }
}

fn is_deletion(operation: &Operation) -> bool {
    matches!(operation, Operation::Delete { .. })
}

fn apply_by_chance(image: &mut Image, operation: &Operation, mood: Mood, random: &mut Rng) {
    let survives = match mood {
        Mood::NothingSurvives => false,
        Mood::EverythingSurvives => true,
        Mood::Some(percent) => random.u32(0..100) < percent,
    };
    match operation {
        Operation::Write { file, offset, bytes }
            if survives && matches!(mood, Mood::Some(_)) && random.u8(0..4) == 0 =>
        {
            tear(image.entry(file.clone()).or_default(), *offset, bytes, random);
        }
        _ if survives => apply(image, operation),
        _ => {}
    }
}

/// Writes some of the sectors, and of at most one of them only the beginning, with noise behind it.
fn tear(content: &mut Vec<u8>, offset: u64, bytes: &[u8], random: &mut Rng) {
    let sectors = bytes.len().div_ceil(SECTOR_BYTES);
    let torn = random.usize(0..=sectors);
    for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
        let at = offset + (number * SECTOR_BYTES) as u64;
        if number == torn {
            let mut half = sector.to_vec();
            let kept = random.usize(0..half.len());
            random.fill(&mut half[kept..]);
            put(content, at, &half);
        } else if random.bool() {
            put(content, at, sector);
        }
    }
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let begin = to_size(offset);
    let end = begin + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[begin..end].copy_from_slice(bytes);
}

fn to_size(length: u64) -> usize {
    usize::try_from(length).expect("a file of a test fits into memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, bytes: &[u8]) -> Operation {
        Operation::Write { file: "log".to_owned(), offset, bytes: bytes.to_vec() }
    }

    fn images(operations: &[Operation]) -> Vec<Option<Vec<u8>>> {
        let cut = |seed| after_cut(&Image::new(), operations, &mut Rng::with_seed(seed)).remove("log");
        (0..200).map(cut).collect()
    }

    #[test]
    fn what_was_synced_is_there_after_every_cut() {
        let operations = [write(0, b"abc"), write(3, b"def"), Operation::Sync { file: "log".to_owned() }];
        assert!(images(&operations).iter().all(|log| log.as_deref() == Some(b"abcdef")));
    }

    #[test]
    fn what_was_not_synced_is_lost_whole_or_torn_in_any_order() {
        let long = [7_u8; 3 * SECTOR_BYTES];
        let seen = images(&[write(0, b"abc"), write(3, &long)]);
        let whole = [b"abc".as_slice(), &long].concat();
        assert!(seen.contains(&None), "everything can be lost");
        assert!(seen.contains(&Some(whole.clone())), "everything can survive");
        assert!(seen.contains(&Some(b"abc".to_vec())), "the beginning can survive");
        let begins_empty = |log: &Option<Vec<u8>>| log.as_ref().is_some_and(|log| log.starts_with(&[0, 0, 0, 7]));
        assert!(seen.iter().any(begins_empty), "the end can survive alone");
        let is_torn = |log: &Option<Vec<u8>>| log.as_ref().is_some_and(|log| log.len() > 3 && *log != whole);
        assert!(seen.iter().filter(|log| is_torn(log)).count() > 10, "writes tear");
    }

    #[test]
    fn a_file_that_another_wrote_counts_as_it_was_found() {
        let found = |bytes: &[u8]| Operation::Found { file: "log".to_owned(), bytes: bytes.to_vec() };
        assert!(images(&[write(0, b"abc"), found(b"xyz")]).iter().all(|log| log.as_deref() == Some(b"xyz")));
        assert!(images(&[write(0, b"abc"), found(b"abc")]).contains(&None), "what SQLite wrote is not synced by that");
    }

    #[test]
    fn a_sync_of_one_file_promises_nothing_of_another() {
        let other = Operation::Sync { file: "database".to_owned() };
        assert!(images(&[write(0, b"abc"), other]).contains(&None));
    }

    #[test]
    fn a_file_that_was_deleted_with_its_folder_synced_stays_away() {
        let sync = Operation::Sync { file: "log".to_owned() };
        let gone = Operation::Delete { file: "log".to_owned() };
        let synced = [write(0, b"abc"), sync.clone(), gone.clone(), Operation::SyncFolder];
        assert!(images(&synced).iter().all(Option::is_none));
        let seen = images(&[write(0, b"abc"), sync, gone]);
        assert!(seen.contains(&None) && seen.contains(&Some(b"abc".to_vec())));
    }
}
