//! Lines that the database refuses: kept with the reason, and in nobody's way.

use kerbside_runtime::HealthState;
use kerbside_runtime::tls::install_crypto_provider;

use super::delivery::{Rig, street};
use super::stand_in::{Database, Refusing, Reply};
use super::*;
use crate::influx::deliver::{Delivery, Gathered, Lane, Writer};
use crate::influx::encode::Encoder;
use crate::influx::meters::Meters;

#[tokio::test]
async fn a_refused_line_is_kept_with_the_words_of_the_database() {
    let rig = Rig::start(|_| {}).await;
    rig.commit_batch(batch(&street(1_000, &[617]), 1));
    rig.until_points(999).await;
    rig.until_cursor(1).await;
    let kept = rig.store.refused.lock().unwrap().clone();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].device, "poison-617");
    assert!(kept[0].line.starts_with("drain,device=poison-617,profile=level-meter level_mm=1.5,"), "{}", kept[0].line);
    assert!(kept[0].line.ends_with(" 1700000000001"), "{}", kept[0].line);
    assert!(kept[0].reason.contains("unable to parse"), "{}", kept[0].reason);
    assert!(kept[0].at > Timestamp(1_700_000_000_000));
    rig.end().await;
}

#[tokio::test]
async fn nothing_waits_for_a_refused_line_but_the_cursor() {
    let rig = Rig::start(|_| {}).await;
    rig.until_state(HealthState::Ok, "").await;
    rig.store.is_broken.store(true, Ordering::SeqCst);
    rig.commit_batch(batch(&street(10, &[7]), 1));
    rig.until_points(9).await;
    for sequence in 2..=20 {
        rig.commit(sequence);
    }
    rig.until_points(28).await;
    rig.until_state(HealthState::Degraded, "disk on fire").await;
    assert_eq!(rig.store.last_cursor(), 0, "nobody has the refused line yet");
    rig.store.is_broken.store(false, Ordering::SeqCst);
    rig.until_cursor(20).await;
    assert_eq!(rig.store.refused.lock().unwrap().len(), 1);
    rig.end().await;
}

#[tokio::test]
async fn a_line_that_was_found_out_before_an_outage_is_kept_too() {
    let rig = Rig::start(|config| config.lines_max = 4).await;
    // The first four hold the bad one: whole, two halves, its two quarters; then the fault.
    let fault = Reply(503, &[], "");
    let street = street(8, &[0]);
    rig.database.is_held.store(true, Ordering::SeqCst);
    rig.commit_batch(batch(&street, 1));
    until("the first request is there", || rig.database.requests() == 1).await;
    rig.database.permits.add_permits(5);
    until("the rest is asked for", || rig.database.requests() == 6).await;
    rig.database.script.lock().unwrap().push_back(fault);
    rig.database.permits.add_permits(100);
    rig.until_points(7).await;
    rig.until_cursor(1).await;
    let kept = rig.store.refused.lock().unwrap().clone();
    assert_eq!(kept.iter().map(|point| point.device.as_str()).collect::<Vec<_>>(), ["poison-0"]);
    rig.end().await;
}

#[tokio::test]
async fn the_end_keeps_a_refused_line_before_it_stores_the_cursor() {
    let rig = Rig::start(|_| {}).await;
    rig.until_state(HealthState::Ok, "").await;
    rig.store.is_broken.store(true, Ordering::SeqCst);
    rig.commit_batch(batch(&street(10, &[7]), 1));
    rig.until_points(9).await;
    rig.until_state(HealthState::Degraded, "disk on fire").await;
    rig.store.is_broken.store(false, Ordering::SeqCst);
    let store = rig.end().await;
    assert_eq!((store.refused.lock().unwrap().len(), store.last_cursor()), (1, 1));
}

#[tokio::test]
async fn a_kind_that_is_refused_whole_does_not_fill_the_disk() {
    let database = Database::new();
    *database.refusing.lock().unwrap() = Refusing::Partial;
    let address = database.start().await;
    let rig = Rig::with(database, address, Arc::new(Store::default()), |_| {});
    let all: Vec<usize> = (0..1_500).collect();
    rig.commit_batch(batch(&street(1_500, &all), 1));
    rig.until_cursor(1).await;
    assert_eq!(rig.metric("kerbside_influx_points_refused_total"), "1500");
    assert_eq!(rig.store.refused.lock().unwrap().len(), 1_000, "as many as a minute allows");
    rig.end().await;
}

#[tokio::test]
async fn lines_of_a_type_conflict_are_told_apart_by_the_words_of_the_database() {
    let rig = Rig::start(|_| {}).await;
    *rig.database.refusing.lock().unwrap() = Refusing::Partial;
    let street = street(1_000, &[3, 500, 999]);
    let mut observations = Observations::default();
    for (row, readings) in batch(&street, 1).observations.iter() {
        let state = good(2, Value::Text("on".into()));
        let is_bad = street.device(row.device).id.contains("poison");
        let readings = readings.iter().cloned().chain(is_bad.then_some(state));
        observations.push(row.device, row.observed_at, row.received_at, false, readings);
    }
    rig.commit_batch(TelemetryBatch { sequence: 1, site: street, observations: Arc::new(observations) });
    rig.until_points(997).await;
    rig.until_cursor(1).await;
    assert_eq!(rig.database.requests(), 1, "nothing is sent again");
    let kept = rig.store.refused.lock().unwrap().clone();
    let devices: Vec<&str> = kept.iter().map(|point| point.device.as_str()).collect();
    assert_eq!(devices, ["poison-3", "poison-500", "poison-999"]);
    assert_eq!(rig.metric("kerbside_influx_points_total"), "997");
    rig.end().await;
}

#[tokio::test]
async fn the_memory_of_lines_that_arrived_is_used_again() {
    install_crypto_provider();
    let database = Database::new();
    let config = config(&format!("http://{}", database.start().await));
    let writer = Writer::new(config, Meters::new(&Metrics::default(), "influx")).unwrap();
    let mut gathered = Gathered::default();
    assert!(gathered.add(&mut Encoder::default(), &batch(&street(500, &[]), 1)));
    let report = writer.deliver(Delivery::new(Lane::Live, gathered), false).await;
    assert_eq!((report.problem, database.points()), (None, 500));
    let spare = report.delivery.into_spare().expect("nobody holds the lines any more");
    assert_eq!((spare.len(), spare.bytes()), (0, 0));
    let (body, ends) = spare.into_parts();
    assert!(body.capacity() > 500 * 50 && ends.capacity() >= 500);
}
