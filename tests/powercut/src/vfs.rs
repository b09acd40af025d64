//! The recording layer: turns SQLite's calls on files into [`Operation`]s.
//!
//! The system's VFS is copied and registered as the default one, with its own opening and deleting. A file that is
//! opened keeps the system's functions but for writing, resizing, syncing and closing. Files are known by the address
//! of SQLite's file structure, which lives from opening to closing. Syncs are noted and not done: a cut is made from
//! the notes, and nothing in the process of a test is worth waiting for a disk.

#![expect(unsafe_code, reason = "a VFS is a table of C functions; rusqlite has no safe way to give SQLite one")]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::mem::take;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rusqlite::ffi::{
    SQLITE_IOERR_WRITE, SQLITE_OK, SQLITE_OPEN_CREATE, SQLITE_OPEN_MAIN_JOURNAL, SQLITE_OPEN_SUPER_JOURNAL,
    SQLITE_OPEN_WAL, sqlite3_file, sqlite3_filename, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find,
    sqlite3_vfs_register,
};

use crate::Operation;

const NAME: &CStr = c"recording";
/// Version 2 of the table has everything but memory-mapped files, whose writes could not be seen.
const METHODS_VERSION: c_int = 2;

/// Kinds of files whose first sync is followed by one of the folder.
const JOURNALS: c_int = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL;

type Log = Arc<Mutex<Vec<Operation>>>;

/// Notes what SQLite does in one folder, from its making until it is dropped.
#[derive(Debug)]
pub struct Recording {
    folder: PathBuf,
    log: Log,
}

impl Recording {
    /// Begins to note what happens to the files of a folder. Files that are open already are not seen.
    pub fn start(folder: &Path) -> io::Result<Recording> {
        system();
        let folder = folder.canonicalize()?;
        let log = Log::default();
        registry().folders.push((folder.clone(), Arc::clone(&log)));
        Ok(Recording { folder, log })
    }

    /// A handle that notes what is done, for callbacks.
    pub fn noter(&self) -> impl Fn(u64) + Clone + Send + 'static {
        let log = Arc::clone(&self.log);
        move |number| lock(&log).push(Operation::Done(number))
    }

    /// Ends the recording and gives what was noted, in order.
    pub fn finish(self) -> Vec<Operation> {
        take(&mut *lock(&self.log))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        registry().folders.retain(|(folder, _)| *folder != self.folder);
    }
}

/// The folders that are recorded, and the files in them that are open.
#[derive(Default)]
struct Registry {
    folders: Vec<(PathBuf, Log)>,
    files: HashMap<usize, OpenFile>,
}

struct OpenFile {
    name: String,
    /// None when its folder is not recorded; its syncs are spared all the same.
    log: Option<Log>,
    /// The system's VFS syncs the folder with the first sync of a journal, which makes its name durable.
    syncs_folder: bool,
    system_methods: *const sqlite3_io_methods,
    /// What SQLite calls while the file is open.
    methods: Box<sqlite3_io_methods>,
}

// SAFETY: the pointer is to a constant table of the system's VFS, which any thread may read.
unsafe impl Send for OpenFile {}

impl OpenFile {
    fn is_in(&self, folder: &Log) -> bool {
        self.log.as_ref().is_some_and(|log| Arc::ptr_eq(log, folder))
    }
}

/// The system's VFS. SQLite keeps it for the life of the process.
struct System(*mut sqlite3_vfs);

// SAFETY: SQLite's own VFS may be used by any thread, and its structure is only read here.
unsafe impl Send for System {}
// SAFETY: as above.
unsafe impl Sync for System {}

fn registry() -> MutexGuard<'static, Registry> {
    static REGISTRY: OnceLock<Mutex<Registry>> = OnceLock::new();
    lock(REGISTRY.get_or_init(Mutex::default))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The system's VFS; registers the recording one above it at the first call.
fn system() -> &'static System {
    static SYSTEM: OnceLock<System> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        // SAFETY: asking for the default VFS initializes SQLite and gives a structure that is never freed.
        let system = unsafe { sqlite3_vfs_find(ptr::null()) };
        assert!(!system.is_null(), "SQLite has a file system");
        // SAFETY: it was just found and is only read. The functions of the copy that are not replaced get the copy,
        // which holds the same sizes and application data as the original.
        let copy = unsafe { *system };
        let recording = sqlite3_vfs {
            zName: NAME.as_ptr(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xRandomness: Some(randomness),
            ..copy
        };
        // SAFETY: the structure is leaked, because SQLite keeps it for the life of the process.
        let code = unsafe { sqlite3_vfs_register(Box::into_raw(Box::new(recording)), 1) };
        assert_eq!(code, SQLITE_OK, "SQLite takes another file system");
        System(system)
    })
}

/// Folder and name of a path that SQLite made absolute.
fn parts(path: &CStr) -> Option<(PathBuf, String)> {
    let path = Path::new(path.to_str().ok()?);
    Some((path.parent()?.to_owned(), path.file_name()?.to_str()?.to_owned()))
}

/// Where the operations on a path are noted, and the file's name.
fn log_of(registry: &Registry, path: &CStr) -> Option<(Log, String)> {
    let (folder, name) = parts(path)?;
    let (_, log) = registry.folders.iter().find(|(recorded, _)| *recorded == folder)?;
    Some((Arc::clone(log), name))
}

unsafe extern "C" fn open(
    _vfs: *mut sqlite3_vfs,
    path: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    let system = system().0;
    // SAFETY: SQLite's arguments are passed on to the function that it would have called itself.
    let code = unsafe {
        let open = (*system).xOpen.expect("a file system can open files");
        open(system, path, file, flags, flags_out)
    };
    if code != SQLITE_OK {
        return code;
    }
    let mut registry = registry();
    // Temporary files have no name.
    let found = if path.is_null() {
        None
    } else {
        // SAFETY: SQLite's names end with a zero byte and live while the file is open.
        log_of(&registry, unsafe { CStr::from_ptr(path) })
    };
    if let Some((log, name)) = &found
        && !registry.files.values().any(|open| open.name == *name && open.is_in(log))
    {
        // SAFETY: as above.
        note_found(unsafe { CStr::from_ptr(path) }, log, name);
    }
    let syncs_folder = flags & SQLITE_OPEN_CREATE != 0 && flags & JOURNALS != 0;
    let (log, name) = found.map_or_else(Default::default, |(log, name)| (Some(log), name));
    // SAFETY: after a successful opening the structure names the system's functions, which are constants.
    unsafe {
        let system_methods = (*file).pMethods;
        let methods = Box::new(sqlite3_io_methods {
            iVersion: METHODS_VERSION.min((*system_methods).iVersion),
            xClose: Some(close),
            xWrite: Some(write),
            xTruncate: Some(truncate),
            xSync: Some(sync),
            ..*system_methods
        });
        // The box outlives the file: it is dropped by `close`.
        (*file).pMethods = &raw const *methods;
        registry.files.insert(file as usize, OpenFile { name, log, syncs_folder, system_methods, methods });
    }
    SQLITE_OK
}

/// Notes what a file holds before SQLite writes to it: somebody else may have written it.
fn note_found(path: &CStr, log: &Log, name: &str) {
    if let Ok(path) = path.to_str()
        && let Ok(bytes) = std::fs::read(path)
        && !bytes.is_empty()
    {
        lock(log).push(Operation::Found { file: name.to_owned(), bytes });
    }
}

unsafe extern "C" fn delete(_vfs: *mut sqlite3_vfs, path: *const c_char, sync_folder: c_int) -> c_int {
    let system = system().0;
    // SAFETY: SQLite's arguments are passed on; the folder is not synced, only the note says so.
    let (code, path) = unsafe {
        let delete = (*system).xDelete.expect("a file system can delete files");
        (delete(system, path, 0), CStr::from_ptr(path))
    };
    if code == SQLITE_OK
        && let Some((log, file)) = log_of(&registry(), path)
    {
        let mut log = lock(&log);
        log.push(Operation::Delete { file });
        if sync_folder != 0 {
            log.push(Operation::SyncFolder);
        }
    }
    code
}

/// The same bytes in every process, so that a seed repeats a run down to the salts of the log.
unsafe extern "C" fn randomness(_vfs: *mut sqlite3_vfs, count: c_int, out: *mut c_char) -> c_int {
    let Ok(size) = usize::try_from(count) else { return 0 };
    // SAFETY: SQLite gives room for `count` bytes.
    let room = unsafe { std::slice::from_raw_parts_mut(out.cast::<u8>(), size) };
    fastrand::Rng::with_seed(1).fill(room);
    count
}

/// The system's functions for an open file.
fn system_methods(file: *mut sqlite3_file) -> Option<sqlite3_io_methods> {
    // SAFETY: the table of a file that is open is a constant of the system's VFS.
    registry().files.get(&(file as usize)).map(|open| unsafe { *open.system_methods })
}

/// Notes an operation on an open file whose folder is recorded.
fn note(file: *mut sqlite3_file, operation: impl FnOnce(String) -> Operation) {
    let registry = registry();
    if let Some(open) = registry.files.get(&(file as usize))
        && let Some(log) = &open.log
    {
        lock(log).push(operation(open.name.clone()));
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let Some(open) = registry().files.remove(&(file as usize)) else { return SQLITE_OK };
    // SAFETY: the file gets the system's functions back before they see it for the last time; only then is the copy
    // of the table dropped, which nobody else has.
    unsafe {
        (*file).pMethods = open.system_methods;
        drop(open.methods);
        (*open.system_methods).xClose.map_or(SQLITE_OK, |close| close(file))
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    count: c_int,
    offset: sqlite3_int64,
) -> c_int {
    let (Some(methods), Ok(size), Ok(at)) = (system_methods(file), usize::try_from(count), u64::try_from(offset))
    else {
        return SQLITE_IOERR_WRITE;
    };
    // SAFETY: SQLite's arguments are passed on, and `bytes` holds `count` bytes during the call.
    let (code, bytes) = unsafe {
        let Some(write) = methods.xWrite else { return SQLITE_IOERR_WRITE };
        (write(file, bytes, count, offset), std::slice::from_raw_parts(bytes.cast::<u8>(), size))
    };
    if code == SQLITE_OK {
        note(file, |name| Operation::Write { file: name, offset: at, bytes: bytes.to_vec() });
    }
    code
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    let (Some(methods), Ok(length)) = (system_methods(file), u64::try_from(size)) else { return SQLITE_IOERR_WRITE };
    // SAFETY: SQLite's arguments are passed on.
    let code = unsafe { methods.xTruncate.map_or(SQLITE_IOERR_WRITE, |truncate| truncate(file, size)) };
    if code == SQLITE_OK {
        note(file, |name| Operation::Resize { file: name, length });
    }
    code
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    note(file, |name| Operation::Sync { file: name });
    let syncs_folder = registry().files.get_mut(&(file as usize)).is_some_and(|open| take(&mut open.syncs_folder));
    if syncs_folder {
        note(file, |_| Operation::SyncFolder);
    }
    SQLITE_OK
}
