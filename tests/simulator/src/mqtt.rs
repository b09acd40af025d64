//! Turns the district's uplinks into QoS 1 messages to a broker, in simulated time.
//!
//! A lost connection is made again; what the broker had not acknowledged is then sent once more. What is unsent when
//! the process ends is gone, as with a district that is switched off. There are no metrics.

use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Duration;

use kerbside_runtime::{Backoff, Chain, Clock, Secret, Shutdown};
use rumqttc::{AsyncClient, EventLoop, MqttOptions, QoS};
use tracing::{debug, warn};

use crate::district::{SharedDistrict, Uplink};

/// Uplinks that wait for the connection; when it is full the district stands still.
const QUEUE_MAX: usize = 1_000;
const INFLIGHT_MAX: u16 = 200;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_LONGEST: Duration = Duration::from_secs(5);

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// An account at a broker.
#[derive(Clone, Debug)]
pub struct BrokerAccount {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// Publishes the district's uplinks until shutdown.
pub async fn publish(district: SharedDistrict, broker: SocketAddr, account: Option<BrokerAccount>, shutdown: Shutdown) {
    let broker = BrokerAddress { host: broker.ip().to_string(), port: broker.port() };
    publish_to(district, broker, account, shutdown).await;
}

/// Publishes the district's uplinks to a broker by name until shutdown.
pub async fn publish_to(
    district: SharedDistrict,
    broker: BrokerAddress,
    account: Option<BrokerAccount>,
    shutdown: Shutdown,
) {
    let mut options = MqttOptions::new("kerbside-simulated-district", broker.host, broker.port);
    options.set_keep_alive(KEEP_ALIVE).set_inflight(INFLIGHT_MAX).set_clean_session(false);
    if let Some(account) = account {
        options.set_credentials(account.username, account.password.expose());
    }
    let (client, event_loop) = AsyncClient::new(options, QUEUE_MAX);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keep_connected(event_loop) => {}
        () = feed(district, client) => {}
    }
}

/// Never ends: an error of the event loop means that its next poll connects anew.
async fn keep_connected(mut event_loop: EventLoop) {
    let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_LONGEST);
    loop {
        match event_loop.poll().await {
            Ok(event) => {
                backoff.reset();
                debug!(?event, "broker event");
            }
            Err(error) => {
                if backoff.tries() == 0 {
                    warn!(error = %Chain(&error), "simulated district lost its broker");
                }
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    }
}

async fn feed(district: SharedDistrict, client: AsyncClient) {
    let clock = district.lock().unwrap_or_else(PoisonError::into_inner).clock();
    loop {
        let (uplinks, next_due) = step(&district, &clock);
        for uplink in uplinks {
            if client.publish(uplink.topic, QoS::AtLeastOnce, false, uplink.payload).await.is_err() {
                // Its event loop ends only with the process or the shutdown.
                return;
            }
        }
        clock.sleep_until(next_due).await;
    }
}

fn step(district: &SharedDistrict, clock: &Clock) -> (Vec<Uplink>, kerbside_model::Timestamp) {
    let mut district = district.lock().unwrap_or_else(PoisonError::into_inner);
    let uplinks = district.step(clock.now());
    (uplinks, district.next_due())
}
