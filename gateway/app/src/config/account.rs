//! Accounts, and the rule that nothing listens to the street without them.

use std::net::SocketAddr;

use kerbside_model::document::Section;
use kerbside_runtime::Secret;

use super::read::Context;
use super::secrets;

/// Somebody who may come in.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// User name.
    pub name: String,
    /// Password.
    pub password: Secret,
    /// What it may do.
    pub role: Role,
}

/// What somebody with an account may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Look at everything, change nothing and ask no device anything.
    Viewer,
    /// All that the API offers.
    #[default]
    Operator,
}

impl Role {
    /// Its name in the configuration and the API.
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
        }
    }
}

/// Reads the key `accounts`.
pub(super) fn read(section: &Section<'_>, context: &Context<'_>) -> Vec<Account> {
    let mut accounts: Vec<Account> = Vec::new();
    for inner in section.sections("accounts") {
        let name = inner.required_text("name", "write the user's name");
        let password = secrets::required(&inner, "password", context);
        if name.contains(':') {
            inner.problem("name", &name, "a user's name has no colon (RFC 7617)", "leave the colon out");
        } else if accounts.iter().any(|other| other.name == name) {
            inner.problem("name", &name, "there is another account of this name", "keep one of the two");
        }
        let role =
            inner.choice("role", &[Role::Viewer, Role::Operator].map(|role| (role.name(), role))).unwrap_or_default();
        accounts.push(Account { name, password, role });
        inner.finish();
    }
    accounts
}

/// Refuses to listen beyond this machine while nobody has to show who he is.
pub(super) fn check_listen(section: &Section<'_>, listen: SocketAddr, accounts: usize) {
    if listen.ip().is_loopback() || accounts > 0 {
        return;
    }
    let mend = "listen on 127.0.0.1, or write accounts here: [{name: ops, password: {file: PATH}}]";
    let what = "this listens beyond the machine itself, and no accounts are configured";
    section.problem("listen", &listen.to_string(), what, mend);
}
