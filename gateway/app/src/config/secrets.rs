//! Secrets from files, the environment, systemd credentials, or as they stand.
//!
//! Turns the value of a key such as `password` into a [`Secret`]. No problem ever repeats a secret: where a secret
//! stands, `Problem::value` is a path or a name, or empty.

use std::path::{Path, PathBuf};

use kerbside_model::document::{Node, NodeKind, Section};
use kerbside_runtime::Secret;

use super::read::Context;

/// Longest secret: a private key of RSA 16384 in PEM has 13 KiB.
const SECRET_BYTES_MAX: usize = 64 << 10;
/// Folder of a unit's credentials, set by systemd (systemd.exec(5), LoadCredential=).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
const MEND: &str = "write {file: PATH}, {env: NAME}, {credential: NAME} or {value: TEXT}";

/// A secret, when the key is there and can be read.
pub(super) fn optional(section: &Section<'_>, key: &'static str, context: &Context<'_>) -> Option<Secret> {
    let node = section.node(key)?;
    let text = match &node.kind {
        NodeKind::Scalar { text, .. } => text.clone(),
        NodeKind::Map(_) => reference(&section.section(key)?, context)?,
        NodeKind::List(_) => {
            section.problem(key, "", "a list stands where a secret is needed", MEND);
            return None;
        }
    };
    if text.is_empty() {
        section.problem(key, "", "this secret is empty", MEND);
        return None;
    }
    if text.len() > SECRET_BYTES_MAX {
        section.problem(key, "", format!("this secret is longer than {SECRET_BYTES_MAX} bytes"), MEND);
        return None;
    }
    Some(Secret::new(text))
}

/// A secret that must be there. Gives an empty one after a problem.
pub(super) fn required(section: &Section<'_>, key: &'static str, context: &Context<'_>) -> Secret {
    if section.node(key).is_none() {
        section.missing(key, MEND);
        return Secret::new("");
    }
    optional(section, key, context).unwrap_or_else(|| Secret::new(""))
}

/// The file that a secret comes from, if any: for those who read it again later.
pub(super) fn file(section: &Section<'_>, key: &'static str, context: &Context<'_>) -> Option<PathBuf> {
    let node = section.node(key)?;
    if !matches!(node.kind, NodeKind::Map(_)) {
        return None;
    }
    let inner = section.nested(section.path_of(key), node);
    if let Some(file) = inner.text("file") {
        return Some(context.resolve(&file));
    }
    let folder = context.environment.variable(CREDENTIALS_DIRECTORY)?;
    Some(Path::new(&folder).join(inner.text("credential")?))
}

/// A secret in a map of free names, such as the headers of a webhook.
pub(super) fn of_node(section: &Section<'_>, path: String, node: &Node, context: &Context<'_>) -> Option<Secret> {
    match &node.kind {
        NodeKind::Scalar { text, .. } => Some(Secret::new(text.clone())),
        _ => reference(&section.nested(path, node), context).map(Secret::new),
    }
}

fn reference(section: &Section<'_>, context: &Context<'_>) -> Option<String> {
    let file = section.text("file");
    let variable = section.text("env");
    let credential = section.text("credential");
    let value = section.text("value");
    let given = [&file, &variable, &credential, &value].into_iter().flatten().count();
    section.known_only();
    if given != 1 {
        section.problem("", "", "exactly one of file, env, credential and value is needed", MEND);
        return None;
    }
    if let Some(file) = file {
        return from_file(section, "file", &file, &context.resolve(&file), context);
    }
    if let Some(name) = variable {
        let found = context.environment.variable(&name);
        if found.is_none() {
            let what = format!("the environment variable {name} is not set");
            section.problem("env", &name, what, format!("set {name} for the service, or read the secret from a file"));
        }
        return found;
    }
    if let Some(name) = credential {
        return from_credential(section, &name, context);
    }
    value
}

fn from_credential(section: &Section<'_>, name: &str, context: &Context<'_>) -> Option<String> {
    if name.contains(['/', '\0']) || name.starts_with('.') {
        section.problem("credential", name, "not the name of a credential", "write the name as in LoadCredential=");
        return None;
    }
    let Some(folder) = context.environment.variable(CREDENTIALS_DIRECTORY) else {
        let mend = format!("run under systemd with LoadCredential={name}:PATH, or use {{file: PATH}}");
        section.problem("credential", name, format!("{CREDENTIALS_DIRECTORY} is not set"), mend);
        return None;
    };
    from_file(section, "credential", name, &Path::new(&folder).join(name), context)
}

fn from_file(
    section: &Section<'_>,
    key: &'static str,
    written: &str,
    path: &Path,
    context: &Context<'_>,
) -> Option<String> {
    let bytes = match context.environment.read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let what = format!("this secret cannot be read: {error}");
            section.problem(
                key,
                written,
                what,
                format!("put the secret into {} and let kerbside read it", path.display()),
            );
            return None;
        }
    };
    let Ok(text) = String::from_utf8(bytes) else {
        section.problem(key, written, "this secret is not UTF-8 text", "write the secret as text");
        return None;
    };
    Some(text.trim_end_matches(['\r', '\n']).to_owned())
}
