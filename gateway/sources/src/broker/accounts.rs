//! User names and passwords of the embedded broker. Keeps digests in memory.
//!
//! The broker's own password check hashes with Argon2 on the thread that serves all connections, some tens of
//! milliseconds each: a district that comes back after a power cut, or one device with a wrong password that tries
//! again and again, would stop the gateway. And it locks out an address after five failures, with every device behind
//! it. The passwords stand in the configuration in plain, so a slow hash would protect nothing: SHA-256 it is, and the
//! comparison of two digests tells nothing by its time.

use std::collections::HashMap;
use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;

use kerbside_runtime::Secret;
use mqtt5::broker::{AuthProvider, AuthResult};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use sha2::{Digest, Sha256};
use tracing::warn;

/// Lets in whoever knows a user name and its password.
pub(super) struct Accounts {
    digests: HashMap<String, [u8; 32]>,
}

impl Accounts {
    pub(super) fn new(accounts: &[(String, Secret)]) -> Accounts {
        let digests =
            accounts.iter().map(|(username, password)| (username.clone(), digest(password.expose().as_bytes())));
        Accounts { digests: digests.collect() }
    }

    fn is_known(&self, connect: &ConnectPacket) -> bool {
        let (Some(username), Some(password)) = (&connect.username, &connect.password) else { return false };
        let given = digest(password);
        self.digests.get(username).is_some_and(|expected| is_same(expected, &given))
    }
}

impl AuthProvider for Accounts {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        client_addr: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = mqtt5::Result<AuthResult>> + Send + 'a>> {
        let result = match &connect.username {
            Some(username) if self.is_known(connect) => AuthResult::success_with_user(username.clone()),
            username => {
                let username = username.as_deref().unwrap_or_default();
                warn!(client = %connect.client_id, username, address = %client_addr, "broker login refused");
                AuthResult::fail(ReasonCode::BadUsernameOrPassword)
            }
        };
        Box::pin(ready(Ok(result)))
    }

    fn authorize_publish<'a>(
        &'a self,
        _client_id: &str,
        _user_id: Option<&'a str>,
        _topic: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(ready(true))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        _client_id: &str,
        _user_id: Option<&'a str>,
        _topic_filter: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(ready(true))
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn is_same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.iter().zip(right).fold(0, |differences, (left, right)| differences | (left ^ right)) == 0
}
