//! Opens a damaged database for reading, with a schema of its own making where the old one cannot be read.
//!
//! The first page holds the file's header and the way to the schema, which says where each table begins. All our
//! databases are made by the same migrations with `auto_vacuum`, which puts the roots of tables at the same pages in
//! every file. So the schema of a new database fits: its pages are put over the damaged ones as a commit at the end
//! of the log, and the database file itself stays as it is.

use std::fs;
use std::path::Path;

use kerbside_runtime::Chain;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tracing::warn;

use crate::open::with_suffix;
use crate::wal::{self, PAGE_BYTES};

/// Bytes of the header that are the same in every database of ours.
const FIXED: [(usize, usize); 4] = [(0, 24), (44, 48), (56, 60), (64, 68)];
/// Where the header has the size in pages.
const SIZE: usize = 28;
/// Where the header has the first free page and their number; a file that is only read needs neither.
const FREE: usize = 32;
/// Where the b-tree of the schema begins in the first page.
const TREE: usize = 100;
const INTERIOR_TABLE: u8 = 5;
const LEAF_TABLE: u8 = 13;

/// A connection to what can be read; `None` when nothing can. `fresh` is an empty database of the newest schema.
pub(super) fn open_damaged(path: &Path, fresh: &Path) -> Option<Connection> {
    if is_header_sound(path, fresh)
        && let Some(connection) = open(path)
    {
        return Some(connection);
    }
    if let Err(cause) = graft(path, fresh) {
        warn!(cause = %Chain(&cause), "the schema of the damaged database could not be replaced");
        return None;
    }
    open(path)
}

fn open(path: &Path) -> Option<Connection> {
    let connection = Connection::open(path).ok()?;
    // Nothing may be copied into the damaged file.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).ok()?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(())).ok()?;
    connection.pragma_update(None, "query_only", true).ok()?;
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('cases', 'alarms', 'batches', 'outbox', 'totals')";
    let tables: u32 = connection.query_row(tables, [], |row| row.get(0)).ok()?;
    (tables == 5).then_some(connection)
}

/// Whether the parts of the header that never change are as they should be.
fn is_header_sound(path: &Path, fresh: &Path) -> bool {
    let log = fs::read(with_suffix(path, "-wal")).unwrap_or_default();
    let first = wal::page_and_size(&log, 1).0.or_else(|| page_of(path, 1).ok());
    let (Some(first), Ok(wanted)) = (first, page_of(fresh, 1)) else { return false };
    FIXED.iter().all(|&(begin, end)| first[begin..end] == wanted[begin..end])
}

fn page_of(path: &Path, number: u32) -> std::io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let mut page = vec![0; PAGE_BYTES];
    let offset = u64::from(number - 1) * PAGE_BYTES as u64;
    fs::File::open(path)?.read_exact_at(&mut page, offset)?;
    Ok(page)
}

/// Puts the schema of the new database over that of the damaged one.
fn graft(path: &Path, fresh: &Path) -> std::io::Result<()> {
    let log_path = with_suffix(path, "-wal");
    let log = fs::read(&log_path).unwrap_or_default();
    let file_bytes = fs::metadata(path)?.len();
    if file_bytes == 0 {
        // SQLite throws the log of an empty file away.
        fs::write(path, vec![0; PAGE_BYTES])?;
    }
    let in_file = u32::try_from(file_bytes / PAGE_BYTES as u64).unwrap_or(u32::MAX / 2);
    let old_size = wal::page_and_size(&log, 1).1.unwrap_or(0).max(in_file).max(1);
    let mut first = page_of(fresh, 1)?;
    let children = children_of(&first);
    let mut pages = Vec::new();
    for (position, (place, child)) in children.iter().enumerate() {
        let number = old_size + 1 + u32::try_from(position).unwrap_or(0);
        let page = page_of(fresh, *child)?;
        if page[0] != LEAF_TABLE {
            return Err(std::io::Error::other("the schema is deeper than it ever was"));
        }
        first[*place..place + 4].copy_from_slice(&number.to_be_bytes());
        pages.push((number, page));
    }
    let size = old_size + u32::try_from(pages.len()).unwrap_or(0);
    first[SIZE..SIZE + 4].copy_from_slice(&size.to_be_bytes());
    first[FREE..FREE + 8].fill(0);
    pages.push((1, first));
    fs::write(&log_path, wal::with_commit(&log, &pages, size))?;
    match fs::remove_file(with_suffix(path, "-shm")) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

/// The pages below the first one, and where it names them.
fn children_of(first: &[u8]) -> Vec<(usize, u32)> {
    if first[TREE] != INTERIOR_TABLE {
        return Vec::new();
    }
    let short = |place: usize| usize::from(u16::from_be_bytes([first[place], first[place + 1]]));
    let cells = short(TREE + 3);
    let mut places: Vec<usize> = (0..cells).map(|cell| short(TREE + 12 + 2 * cell)).collect();
    places.push(TREE + 8);
    let number =
        |place: usize| u32::from_be_bytes([first[place], first[place + 1], first[place + 2], first[place + 3]]);
    places.into_iter().map(|place| (place, number(place))).collect()
}
