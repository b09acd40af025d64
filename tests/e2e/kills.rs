//! `kill -9` at random moments under load: what was acknowledged is in the database, and no hole in the street has
//! two cases.

use std::net::SocketAddr;
use std::time::Duration;

use kerbside_runtime::Clock;

use crate::city::City;
use crate::external::Mosquitto;
use crate::gateway::{Gateway, Site};
use crate::influx::Influx;
use crate::traffic::{
    INCIDENTS, PLATFORM_TAKES, PROFILE, SETTLE_WITHIN, Sent, Traffic, check_cases, inventory, wait_for_readiness,
};
use crate::wait::wait_for;

/// The gateway is killed at a moment between these after it began to live.
const LIFE_MS: std::ops::Range<u64> = 50..2_500;

/// Kills and restarts the gateway, then lets everything come to rest and compares.
async fn kill_under_load(mut site: Site, broker: SocketAddr, kills: usize, chance: u32, seed: u64) {
    let (influx, city) = (Influx::start().await, City::start().await);
    city.answer_after(PLATFORM_TAKES);
    site.write("profiles/e2e-cover.yaml", PROFILE);
    let config = std::fs::read_to_string(site.path("sources.yaml")).unwrap();
    site.configure(
        &[
            "profiles: profiles/\nstore: {snapshot_interval: 2s}\n".to_owned(),
            config,
            Influx::config(influx.port()),
            City::config(city.port(), "json"),
        ]
        .concat(),
    );
    let began = Clock::stamp();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut gateway = site.start().await;
    wait_for_readiness(&gateway).await;
    let mut found_again = 0;
    let traffic = Traffic::start(broker, seed, chance);
    for kill in 0..kills {
        let life = Duration::from_millis(random.u64(LIFE_MS));
        // A moment, not a state, is what is waited for here.
        tokio::time::sleep(life).await;
        found_again += count_found_again(&gateway);
        gateway.kill();
        gateway = site.start().await;
        eprintln!("kill {}: after {life:?}, ready again in {:?}", kill + 1, gateway.age());
    }
    wait_for("every cover that is to open has opened", SETTLE_WITHIN, || {
        let count = traffic.open_count();
        if count == INCIDENTS { Ok(()) } else { Err(format!("{count} of {INCIDENTS}")) }
    })
    .await;
    let Sent { acknowledged, opened, reconnects } = traffic.end().await;
    influx.wait_for_numbers("seq", &acknowledged, SETTLE_WITHIN).await;
    check_cases(&gateway, &city, &opened).await;
    influx.assert_content();
    found_again += count_found_again(&gateway);
    eprintln!(
        "{kills} kills, {} messages acknowledged over {reconnects} reconnects, {INCIDENTS} cases, {found_again} of them \
         found again at the platform, {:?}",
        acknowledged.len(),
        began.elapsed()
    );
    gateway.stop().await;
}

/// Cases whose answer a kill cut off, so that they were looked up before a second try.
fn count_found_again(gateway: &Gateway) -> usize {
    gateway.log().matches("case was already at the platform").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_embedded_broker_acknowledged_survives_five_kills() {
    let site = Site::new(&inventory());
    site.write("sources.yaml", &format!("sources:\n{}", site.embedded_broker()));
    let broker = site.broker();
    kill_under_load(site, broker, 5, 6, 20_260_101).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto: run tests/run"]
async fn what_was_acknowledged_to_mosquitto_survives_twenty_five_kills() {
    let mosquitto = Mosquitto::start().await;
    let site = Site::new(&inventory());
    site.write("sources.yaml", &format!("sources:\n{}", Mosquitto::source(mosquitto.address.port())));
    kill_under_load(site, mosquitto.address, 25, 25, 20_260_102).await;
}
