//! `kerbside broker account`: accounts of devices at the embedded broker.
//!
//! Turns names into lines of the accounts file and prints each name with its password, which stands nowhere else. A
//! running gateway reads the file by itself; it is replaced whole, so nobody ever sees half of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kerbside_sources::broker::{hash_password, is_account_name, random_password};
use tempfile::NamedTempFile;

use super::say;

/// Arguments of `kerbside broker`.
#[derive(Debug, clap::Args)]
pub(super) struct BrokerArguments {
    #[command(subcommand)]
    command: BrokerCommand,
}

#[derive(Debug, clap::Subcommand)]
enum BrokerCommand {
    /// Gives devices an account, or a new password, and prints it.
    Account(AccountArguments),
}

#[derive(Debug, clap::Args)]
struct AccountArguments {
    /// The accounts file, as `accounts_file` of the source names it; it is made when it is not there.
    #[arg(long)]
    file: PathBuf,
    /// Locks the accounts instead.
    #[arg(long)]
    lock: bool,
    /// Names of devices; `-` reads them from standard input, one a line, with or without a password behind a blank.
    #[arg(required = true)]
    names: Vec<String>,
}

/// A name, and the password that somebody chose for it.
type Wanted = (String, Option<String>);

/// Does what the command says.
pub(super) fn run(arguments: &BrokerArguments) -> anyhow::Result<u8> {
    let BrokerCommand::Account(arguments) = &arguments.command;
    let mut wanted = Vec::new();
    for name in &arguments.names {
        match name.as_str() {
            "-" => wanted.extend(read_names(std::io::stdin().lock())?),
            name => wanted.push((name.to_owned(), None)),
        }
    }
    let mut lines = BTreeMap::new();
    let mut told = Vec::with_capacity(wanted.len());
    for (name, password) in wanted {
        if !is_account_name(&name) {
            bail!("use {name:?} as an account: a name has at most 128 bytes, no blank, and none of / + # : $");
        }
        if arguments.lock {
            lines.insert(name.clone(), format!("{name}:!"));
            told.push(format!("{name} is locked"));
            continue;
        }
        let password = password.map_or_else(random_password, Ok)?;
        lines.insert(name.clone(), format!("{name}:{}", hash_password(&password)?));
        told.push(format!("{name} {password}"));
    }
    let path = &arguments.file;
    replace(path, lines).with_context(|| format!("write accounts to {}", path.display()))?;
    // Only now: what is printed holds.
    for line in told {
        say(&line);
    }
    Ok(0)
}

fn read_names(input: impl BufRead) -> anyhow::Result<Vec<Wanted>> {
    let mut wanted = Vec::new();
    for line in input.lines() {
        let line = line.context("read names from standard input")?;
        let line = line.trim();
        match line.split_once(char::is_whitespace) {
            _ if line.is_empty() => {}
            Some((name, password)) => wanted.push((name.to_owned(), Some(password.trim_start().to_owned()))),
            None => wanted.push((line.to_owned(), None)),
        }
    }
    Ok(wanted)
}

/// Puts lines in the places of those with the same names, and the others at the end.
fn merge(text: &str, mut lines: BTreeMap<String, String>) -> String {
    let mut merged = String::with_capacity(text.len());
    for old in text.lines() {
        let name = old.split_once(':').map_or("", |(name, _)| name.trim());
        merged.push_str(lines.remove(name).as_deref().unwrap_or(old));
        merged.push('\n');
    }
    for new in lines.into_values() {
        merged.push_str(&new);
        merged.push('\n');
    }
    merged
}

fn replace(path: &Path, lines: BTreeMap<String, String>) -> anyhow::Result<()> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context("read what it holds"),
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder).context("make a file beside it")?;
    file.write_all(merge(&text, lines).as_bytes())?;
    // Whoever may read the old one may read the new one; a first one is for its owner only.
    if let Ok(metadata) = fs::metadata(path) {
        file.as_file().set_permissions(metadata.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(path: &Path, lock: bool, names: &[&str]) -> anyhow::Result<u8> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let arguments = AccountArguments { file: path.to_owned(), lock, names };
        run(&BrokerArguments { command: BrokerCommand::Account(arguments) })
    }

    #[test]
    fn accounts_are_added_renewed_and_locked_in_place_and_all_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts");
        account(&path, false, &["MH-2", "MH-1"]).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        assert!(first.starts_with("MH-1:$7$") && first.lines().count() == 2, "{first}");
        fs::write(&path, format!("# district 1\n{first}")).unwrap();
        account(&path, false, &["MH-1"]).unwrap();
        account(&path, true, &["MH-2", "MH-3"]).unwrap();
        let second = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = second.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[2], lines[3]), (4, "# district 1", "MH-2:!", "MH-3:!"));
        assert!(lines[1].starts_with("MH-1:$7$") && !first.contains(lines[1]), "a new password");
        assert!(account(&path, false, &["a/b"]).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), second, "a mistake changes nothing");
    }

    #[test]
    fn names_come_with_or_without_a_password() {
        let wanted = read_names(&b"MH-1\n\n  MH-2  two words \n"[..]).unwrap();
        assert_eq!(wanted, [("MH-1".to_owned(), None), ("MH-2".to_owned(), Some("two words".to_owned()))]);
    }
}
