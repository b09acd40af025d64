//! Who is connected under which client id. Keeps it in memory; a connection that ends is taken out.
//!
//! A second connection of a client takes over its session (MQTT 5, section 3.1.4), so it counts once; and nobody takes
//! over the client id of another account, or any device could throw out any other.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use super::tally::Refusal;

/// Everybody who is connected.
#[derive(Debug, Default)]
pub(super) struct Presence(Mutex<Present>);

#[derive(Debug, Default)]
struct Present {
    clients: HashMap<String, Client>,
    /// Clients of each account.
    accounts: HashMap<String, usize>,
}

#[derive(Debug)]
struct Client {
    account: String,
    /// Where its newest connection comes from.
    address: SocketAddr,
    connections: usize,
}

/// A client of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Somebody {
    pub(super) client: String,
    pub(super) account: String,
    pub(super) address: SocketAddr,
}

impl Presence {
    /// Takes a connection in, at most `clients_max` clients of an account.
    pub(super) fn enter(&self, somebody: Somebody, clients_max: usize) -> Result<(), Refusal> {
        let Somebody { client, account, address } = somebody;
        let mut present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = present.clients.get_mut(&client) {
            if known.account != account {
                return Err(Refusal::ClientId);
            }
            known.connections += 1;
            known.address = address;
            return Ok(());
        }
        if present.accounts.get(&account).is_some_and(|clients| *clients >= clients_max) {
            return Err(Refusal::AccountConnections);
        }
        *present.accounts.entry(account.clone()).or_default() += 1;
        present.clients.insert(client, Client { account, address, connections: 1 });
        Ok(())
    }

    /// Takes out a connection that entered.
    pub(super) fn leave(&self, client: &str) {
        let mut present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = present.clients.get_mut(client) else { return };
        known.connections -= 1;
        if known.connections > 0 {
            return;
        }
        let Some(gone) = present.clients.remove(client) else { return };
        if let Some(clients) = present.accounts.get_mut(&gone.account) {
            *clients -= 1;
            if *clients == 0 {
                present.accounts.remove(&gone.account);
            }
        }
    }

    /// The clients of some accounts.
    pub(super) fn clients_of(&self, accounts: &BTreeSet<String>) -> Vec<Somebody> {
        let present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_these = present.clients.iter().filter(|(_, client)| accounts.contains(&client.account));
        let somebody = |(id, client): (&String, &Client)| Somebody {
            client: id.clone(),
            account: client.account.clone(),
            address: client.address,
        };
        of_these.map(somebody).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody(client: &str, account: &str) -> Somebody {
        let address = "127.0.0.1:9".parse().unwrap();
        Somebody { client: client.to_owned(), account: account.to_owned(), address }
    }

    #[test]
    fn a_takeover_counts_once_and_makes_room_only_when_the_last_connection_ends() {
        let presence = Presence::default();
        let enter = |client, account| presence.enter(somebody(client, account), 1);
        assert_eq!(enter("a", "MH-1"), Ok(()));
        assert_eq!(enter("a", "MH-1"), Ok(()), "its own second connection");
        assert_eq!(enter("b", "MH-1"), Err(Refusal::AccountConnections));
        assert_eq!(enter("a", "MH-2"), Err(Refusal::ClientId));
        presence.leave("a");
        assert_eq!(enter("b", "MH-1"), Err(Refusal::AccountConnections));
        presence.leave("a");
        assert_eq!(enter("b", "MH-1"), Ok(()));
        assert_eq!(enter("a", "MH-2"), Ok(()));
        let accounts = BTreeSet::from(["MH-2".to_owned()]);
        assert_eq!(presence.clients_of(&accounts), [somebody("a", "MH-2")]);
        presence.leave("nobody");
    }
}
