//! Asks the units of a bus that no gateway polls: for installers at the command line.
//!
//! A link, opened at the first question, and nothing else: no polls, no frames, nothing that survives. A bus that is
//! polled is asked through its task (`lanes`), because only one can talk on a line. There is no question that writes.
//! Its metrics are those of a line, in a registry of its own that nobody reads.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kerbside_runtime::{Health, Metrics};

use crate::modbus::lanes::{BusError, check_request};
use crate::modbus::link::{Identification, Line, LineConfig, Link, ModemDesk};
use crate::modbus::metrics::LineMetrics;
use crate::modbus::plan::Request;

/// Longest wait between two tries to connect: somebody watches.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A person thinks between two questions; the next one may come over a new connection.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// How a bus is asked directly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectConfig {
    /// How it is reached.
    pub link: Link,
    /// Longest wait for an answer; what the bytes take on a serial line comes on top.
    pub timeout: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Silence between two requests; that of the protocol where this is shorter.
    pub pause: Duration,
}

/// A bus of our own.
pub struct DirectBus {
    line: Line,
}

impl fmt::Debug for DirectBus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DirectBus").finish_non_exhaustive()
    }
}

impl DirectBus {
    /// Nothing is opened yet.
    pub fn new(config: DirectConfig) -> DirectBus {
        let (metrics, health) = (Metrics::default(), Health::default());
        let line_config = LineConfig {
            link: config.link,
            timeout: config.timeout,
            connect_timeout: config.connect_timeout,
            pause: config.pause,
            pause_after_connect: Duration::ZERO,
            units: BTreeMap::new(),
            backoff_max: BACKOFF_MAX,
            idle_max: IDLE_MAX,
        };
        let desk = ModemDesk::new(&metrics, &health);
        DirectBus { line: Line::new(line_config, desk, LineMetrics::new(&metrics, "direct")) }
    }

    /// Reads registers, or coils and discrete inputs as 0 and 1. The answer is as long as asked for.
    pub async fn read(&mut self, unit: u8, request: Request) -> Result<Vec<u16>, BusError> {
        check_request(&request)?;
        self.line.read(unit, request).await.map_err(|error| BusError::of(&error))
    }

    /// What a unit says of itself.
    pub async fn identify(&mut self, unit: u8) -> Result<Identification, BusError> {
        self.line.identify(unit).await.map_err(|error| BusError::of(&error))
    }
}

#[cfg(test)]
mod tests {
    use kerbside_model::RegisterTable;

    use super::*;
    use crate::modbus::link::Endpoint;
    use crate::modbus::test_server::{Asked, Reply, TestServer};

    fn bus(port: u16) -> DirectBus {
        DirectBus::new(DirectConfig {
            link: Link::Tcp(Endpoint { host: "127.0.0.1".to_owned(), port }),
            timeout: Duration::from_millis(200),
            connect_timeout: Duration::from_secs(2),
            pause: Duration::ZERO,
        })
    }

    fn request(address: u16, count: u16) -> Request {
        Request { table: RegisterTable::Holding, address, count }
    }

    #[tokio::test]
    async fn answers_refusals_silence_and_no_link_are_four_different_things() {
        let server = TestServer::start(|asked: Asked| match asked.unit {
            1 => Reply::Values,
            2 => Reply::Exception(2),
            _ => Reply::Nothing,
        })
        .await;
        let mut direct = bus(server.address.port());
        assert_eq!(direct.read(1, request(7, 2)).await.unwrap().len(), 2);
        let refused = direct.read(2, request(7, 2)).await.unwrap_err();
        assert_eq!(refused, BusError::Refused { exception: 2 });
        assert_eq!(refused.to_string(), "exception 2 (illegal data address)");
        let silent = direct.read(3, request(7, 2)).await.unwrap_err();
        assert_eq!(silent, BusError::NoAnswer("timeout after 200 ms".to_owned()));
        assert!(matches!(direct.read(1, request(65_535, 2)).await, Err(BusError::Impossible { .. })));
        let port = server.address.port();
        drop(server);
        let nobody = bus(port).read(1, request(0, 1)).await.unwrap_err();
        assert!(matches!(nobody, BusError::Down(_)), "{nobody:?}");
    }
}
