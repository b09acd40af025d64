//! Who may come in: accounts of the configuration, of the accounts file, and certificates of clients.
//!
//! Turns a user name with a password, or a certificate, into the permissions of an account. Keeps everything in memory;
//! the file is read again when it changes. Metrics are counted by the caller.
//!
//! The library's own password check hashes on the thread that serves all connections, some tens of milliseconds each: a
//! district that comes back after a power cut, or one device with a wrong password that tries again and again, would
//! stop the gateway. And it locks out an address after five failures, with every device behind it. Here one thread
//! hashes, beside the connections, and what was found out of a password is remembered as a digest, so that a device
//! pays once. Passwords of the configuration stand there in plain, so a slow hash would protect nothing.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use kerbside_runtime::Secret;
use mqtt5::packet::connect::ConnectPacket;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::files::Watched;
use super::password::PasswordHash;
use super::rights::{Permissions, Rights, is_account_name};
use super::settings::{BrokerConfig, BrokerError};
use super::tally::Refusal;
use super::tls::is_made_out_to;

/// Who everybody is where nobody is asked.
const ANYBODY: &str = "anonymous";
/// Stands for the hash of an account that is locked.
const LOCKED: &str = "!";
/// Logins that wait for the one that is hashed; more would outlive the patience of their devices.
const LOGINS_WAITING_MAX: usize = 1_000;
/// So many lines that cannot be used are logged one by one.
const LINES_LOGGED_MAX: usize = 10;

/// Somebody who came in.
pub(super) struct Entry {
    pub(super) account: String,
    pub(super) permissions: Permissions,
    pub(super) proof: Proof,
}

/// What somebody came in by.
pub(super) enum Proof {
    /// Nobody is asked.
    Open,
    /// The password of an account.
    Password(Arc<Account>),
    /// A certificate made out to the account.
    Certificate,
}

/// Everybody who may come in.
pub(super) struct Accounts {
    is_open: bool,
    configured: HashMap<String, Arc<Account>>,
    device_rights: Rights,
    file: Mutex<Option<AccountsFile>>,
    devices: RwLock<HashMap<String, Arc<Account>>>,
    hashing: Semaphore,
    waiting: Semaphore,
}

struct AccountsFile {
    path: PathBuf,
    watched: Watched,
    bad_lines: usize,
}

/// Somebody who may come in.
pub(super) struct Account {
    password: Password,
    /// `None`: those of all devices.
    rights: Option<Rights>,
}

enum Password {
    Plain([u8; 32]),
    Hashed { hash: PasswordHash, found: Mutex<Found> },
    Locked,
}

/// Digests of passwords that were tried.
#[derive(Clone, Copy, Default)]
struct Found {
    right: Option<[u8; 32]>,
    wrong: Option<[u8; 32]>,
}

/// What reading the file again brought.
#[derive(Debug, Default)]
pub(super) struct Reloaded {
    /// Accounts that are gone, locked, or have another password.
    pub(super) revoked: BTreeSet<String>,
}

impl Accounts {
    pub(super) fn new(config: &BrokerConfig) -> Result<Accounts, BrokerError> {
        let of = |password: &Secret| Password::Plain(digest(password.expose().as_bytes()));
        let configured = config.accounts.iter().map(|account| {
            let entry = Account { password: of(&account.password), rights: Some(account.rights.clone()) };
            (account.name.clone(), Arc::new(entry))
        });
        let accounts = Accounts {
            is_open: config.is_open(),
            configured: configured.collect(),
            device_rights: config.device_rights.clone(),
            file: Mutex::new(None),
            devices: RwLock::default(),
            hashing: Semaphore::new(1),
            waiting: Semaphore::new(LOGINS_WAITING_MAX),
        };
        if let Some(path) = &config.accounts_file {
            // Looked at before it is read: what changes meanwhile is read again.
            let watched = Watched::new(vec![path.clone()]);
            let (devices, bad_lines) = accounts.read(path)?;
            *accounts.devices.write().unwrap_or_else(PoisonError::into_inner) = devices;
            let file = AccountsFile { path: path.clone(), watched, bad_lines };
            *accounts.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        }
        Ok(accounts)
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// How many lines of the file cannot be used.
    pub(super) fn bad_lines(&self) -> usize {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, |file| file.bad_lines)
    }

    pub(super) fn count(&self) -> usize {
        self.configured.len() + self.devices.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Reads the file again when it changed. After an error the accounts stay as they were. It reads from disk.
    pub(super) fn refresh(&self) -> Result<Option<Reloaded>, BrokerError> {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = guard.as_mut() else { return Ok(None) };
        if !file.watched.have_changed() {
            return Ok(None);
        }
        let (mut new, bad_lines) = self.read(&file.path)?;
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        let mut reloaded = Reloaded::default();
        for (name, old) in devices.iter() {
            match new.get_mut(name) {
                // What was found out of its password stays known.
                Some(account) if account.password.is_same(&old.password) => *account = Arc::clone(old),
                _ => {
                    reloaded.revoked.insert(name.clone());
                }
            }
        }
        for (name, account) in &new {
            // A device with a certificate may be in without a line so far.
            if matches!(account.password, Password::Locked) && !devices.contains_key(name) {
                reloaded.revoked.insert(name.clone());
            }
        }
        // An empty file is far more often half of a copy than the end of all devices.
        if new.is_empty() && !devices.is_empty() {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidData, "it holds no account any more");
            return Err(BrokerError::AccountsFile { path: file.path.clone(), source });
        }
        file.bad_lines = bad_lines;
        *devices = new;
        info!(path = %file.path.display(), accounts = devices.len(), revoked = reloaded.revoked.len(), "broker accounts read again");
        Ok(Some(reloaded))
    }

    /// The accounts of the file, and how many of its lines cannot be used: one bad line locks out one device.
    fn read(&self, path: &Path) -> Result<(HashMap<String, Arc<Account>>, usize), BrokerError> {
        let bytes =
            std::fs::read(path).map_err(|source| BrokerError::AccountsFile { path: path.to_owned(), source })?;
        let mut accounts = HashMap::new();
        let mut bad_lines = 0;
        for (position, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let problem = match parse_line(line) {
                Ok((name, _)) if self.configured.contains_key(name) => "the account stands in the configuration too",
                Ok((name, _)) if accounts.contains_key(name) => "the account stands above already",
                Ok((name, account)) => {
                    accounts.insert(name.to_owned(), Arc::new(account));
                    continue;
                }
                Err(problem) => problem,
            };
            bad_lines += 1;
            if bad_lines <= LINES_LOGGED_MAX {
                warn!(path = %path.display(), line = position + 1, problem, "line of the accounts file left out");
            }
        }
        if bad_lines > LINES_LOGGED_MAX {
            warn!(path = %path.display(), count = bad_lines, "lines of the accounts file left out");
        }
        Ok((accounts, bad_lines))
    }

    /// Finds out who a client is.
    pub(super) async fn login(
        &self,
        connect: &ConnectPacket,
        certificate: Option<&CertificateDer<'_>>,
    ) -> Result<Entry, Refusal> {
        if self.is_open {
            let permissions = Rights::everything().of(ANYBODY);
            return Ok(Entry { account: ANYBODY.to_owned(), permissions, proof: Proof::Open });
        }
        let named = connect.username.as_deref().unwrap_or(&connect.client_id);
        if certificate.is_some_and(|certificate| is_account_name(named) && is_made_out_to(certificate, named)) {
            return self.vouched_for(named);
        }
        let Some(username) = connect.username.as_deref() else { return Err(Refusal::Account) };
        let account = self.account(username).ok_or(Refusal::Account)?;
        let password = connect.password.as_deref().unwrap_or_default();
        match self.is_password(&account, password).await? {
            true => Ok(self.entry(username, Some(&*account), Proof::Password(Arc::clone(&account)))),
            false => Err(Refusal::Password),
        }
    }

    /// An authority of ours signed the name; it needs no line in the file, but a line can lock it.
    fn vouched_for(&self, name: &str) -> Result<Entry, Refusal> {
        let account = self.account(name);
        match account.as_deref() {
            Some(Account { password: Password::Locked, .. }) => Err(Refusal::Locked),
            account => Ok(self.entry(name, account, Proof::Certificate)),
        }
    }

    /// Whether somebody would still get in by what he came in by.
    pub(super) fn stands(&self, name: &str, proof: &Proof) -> bool {
        match proof {
            Proof::Open => true,
            Proof::Password(account) => self.account(name).is_some_and(|now| Arc::ptr_eq(&now, account)),
            Proof::Certificate => {
                self.account(name).is_none_or(|account| !matches!(account.password, Password::Locked))
            }
        }
    }

    fn entry(&self, name: &str, account: Option<&Account>, proof: Proof) -> Entry {
        let rights = account.and_then(|account| account.rights.as_ref()).unwrap_or(&self.device_rights);
        Entry { account: name.to_owned(), permissions: rights.of(name), proof }
    }

    fn account(&self, name: &str) -> Option<Arc<Account>> {
        let configured = self.configured.get(name).map(Arc::clone);
        configured.or_else(|| self.devices.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone))
    }

    async fn is_password(&self, account: &Arc<Account>, password: &[u8]) -> Result<bool, Refusal> {
        let given = digest(password);
        let found = match &account.password {
            Password::Locked => return Err(Refusal::Locked),
            Password::Plain(expected) => return Ok(is_same(expected, &given)),
            Password::Hashed { found, .. } => found,
        };
        if let Some(known) = answer(found, &given) {
            return Ok(known);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| Refusal::Busy)?;
        let _hashing = self.hashing.acquire().await.map_err(|_| Refusal::Busy)?;
        // Another connection of the same device may have been faster.
        if let Some(known) = answer(found, &given) {
            return Ok(known);
        }
        let (hashed, tried) = (Arc::clone(account), password.to_vec());
        let verified = tokio::task::spawn_blocking(move || hashed.password.verify(&tried)).await;
        let is_right = verified.map_err(|_| Refusal::Busy)?;
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        match is_right {
            true => found.right = Some(given),
            false => found.wrong = Some(given),
        }
        Ok(is_right)
    }
}

impl Password {
    fn verify(&self, password: &[u8]) -> bool {
        match self {
            Password::Hashed { hash, .. } => hash.is_of(password),
            Password::Plain(expected) => is_same(expected, &digest(password)),
            Password::Locked => false,
        }
    }

    fn is_same(&self, other: &Password) -> bool {
        match (self, other) {
            (Password::Hashed { hash, .. }, Password::Hashed { hash: other, .. }) => hash == other,
            (Password::Locked, Password::Locked) => true,
            _ => false,
        }
    }
}

fn parse_line(line: &str) -> Result<(&str, Account), &'static str> {
    let (name, password) = line.split_once(':').ok_or("the line is not NAME:HASH")?;
    if !is_account_name(name) {
        return Err("the name is empty, longer than 128 bytes, or holds a blank or one of / + # : $");
    }
    let password = match password {
        LOCKED => Password::Locked,
        text => Password::Hashed { hash: PasswordHash::parse(text)?, found: Mutex::default() },
    };
    Ok((name, Account { password, rights: None }))
}

/// What an earlier try found out of the same password.
fn answer(found: &Mutex<Found>, given: &[u8; 32]) -> Option<bool> {
    let found = *found.lock().unwrap_or_else(PoisonError::into_inner);
    if found.right.is_some_and(|right| is_same(&right, given)) {
        return Some(true);
    }
    if found.wrong.is_some_and(|wrong| is_same(&wrong, given)) { Some(false) } else { None }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Tells nothing by its time.
fn is_same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.iter().zip(right).fold(0, |differences, (left, right)| differences | (left ^ right)) == 0
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::password;
    use super::*;

    fn connect(username: &str, password: &str) -> ConnectPacket {
        let options = mqtt5::ConnectOptions::new("client").with_credentials(username, password.as_bytes());
        ConnectPacket::new(options.protocol_options)
    }

    fn accounts(folder: &Path, text: &str) -> Accounts {
        let path = folder.join("accounts");
        std::fs::write(&path, text).unwrap();
        let mut config = super::super::tests::config();
        config.accounts_file = Some(path);
        Accounts::new(&config).unwrap()
    }

    #[tokio::test]
    async fn a_password_is_hashed_once_whether_it_is_right_or_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let hash = password::hash("one", NonZeroU32::MIN).unwrap();
        let accounts = accounts(folder.path(), &format!("MH-1:{hash}\n"));
        assert!(accounts.login(&connect("MH-1", "one"), None).await.is_ok());
        assert_eq!(accounts.login(&connect("MH-1", "two"), None).await.err(), Some(Refusal::Password));
        // From here on nothing is hashed any more.
        accounts.hashing.close();
        let entry = accounts.login(&connect("MH-1", "one"), None).await.unwrap();
        assert_eq!(accounts.login(&connect("MH-1", "two"), None).await.err(), Some(Refusal::Password));
        assert_eq!(accounts.login(&connect("MH-1", "three"), None).await.err(), Some(Refusal::Busy));
        assert_eq!(accounts.login(&connect("MH-2", "one"), None).await.err(), Some(Refusal::Account));
        // An account that stays as it is keeps what was found out; one that was revoked does not stand any more.
        std::fs::write(folder.path().join("accounts"), format!("MH-1:{hash}\n\n")).unwrap();
        assert!(accounts.refresh().unwrap().unwrap().revoked.is_empty());
        assert!(accounts.stands("MH-1", &entry.proof));
        assert!(accounts.login(&connect("MH-1", "one"), None).await.is_ok());
        std::fs::write(folder.path().join("accounts"), "MH-1:!\nMH-2:!\n").unwrap();
        let revoked = accounts.refresh().unwrap().unwrap().revoked;
        assert_eq!(revoked, BTreeSet::from(["MH-1".to_owned(), "MH-2".to_owned()]));
        assert!(!accounts.stands("MH-1", &entry.proof) && !accounts.stands("MH-2", &Proof::Certificate));
        assert!(accounts.stands("MH-3", &Proof::Certificate));
        assert!(accounts.refresh().unwrap().is_none(), "nothing has changed since");
    }

    #[test]
    fn a_bad_line_locks_out_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let hash = password::hash("one", NonZeroU32::MIN).unwrap();
        let text = format!("# devices\n\nMH-1:{hash}\nMH-1:!\nMH-2\nMH/3:{hash}\nMH-4:one\n MH-5:{hash} \n");
        let accounts = accounts(folder.path(), &text);
        assert_eq!((accounts.count(), accounts.bad_lines()), (2, 4));
        assert!(accounts.account("MH-5").is_some() && accounts.account("MH-4").is_none());
    }
}
