//! The sink against a strict stand-in of the database, and the encoder against a parser of its own.

mod catching_up;
mod delivery;
pub(super) mod lines;
mod looking;
mod refusals;
mod stand_in;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kerbside_model::inventory::Device;
use kerbside_model::port::{Backlog, BacklogError, RefusedPoint, TelemetryBatch};
use kerbside_model::profile::{DocumentFormat, Origin, PayloadFormat, Point, ValueType};
use kerbside_model::site::SiteFacts;
use kerbside_model::vocabulary::Kind;
use kerbside_model::{DeviceIndex, Observations, PointReading, Profile, Quality, Site, Timestamp, Value};

use super::*;

pub(super) fn config(url: &str) -> InfluxConfig {
    InfluxConfig {
        name: "influx".to_owned(),
        url: url.to_owned(),
        org: "city".to_owned(),
        bucket: "street".to_owned(),
        token: Some(Secret::new("t0ken")),
        ca: None,
        gzip: Gzip::Off,
        lines_max: 5_000,
        bytes_max: 1 << 20,
        flush_interval: Duration::from_millis(20),
        timeout: Duration::from_secs(5),
        requests_max: 4,
        backlog_share_percent: 50,
        backoff_max: Duration::from_millis(20),
        queue_batches_max: 256,
    }
}

pub(super) fn point(name: &str, value_type: ValueType) -> Point {
    Point {
        name: name.into(),
        value_type,
        unit: String::new(),
        origin: Origin::Json(Vec::new()),
        scale: 1.0,
        offset: 0.0,
        range: None,
        map: Vec::new(),
        invalid: Vec::new(),
        required: false,
        interval: None,
        storm_interval: None,
        quality: kerbside_model::profile::PointQuality::default(),
    }
}

pub(super) fn device(id: &str) -> Device {
    Device { id: id.to_owned(), address: id.to_owned(), ..Device::default() }
}

pub(super) fn site_of(profile: &str, points: Vec<Point>, devices: Vec<Device>) -> Arc<Site> {
    let profile = Profile {
        name: profile.to_owned(),
        version: 1,
        kind: Kind::Drain,
        vendor: String::new(),
        model: String::new(),
        component_class: String::new(),
        payload: PayloadFormat::Json(DocumentFormat::default()),
        interval: None,
        points,
        conditions: Vec::new(),
        detectors: Vec::new(),
        samples: Vec::new(),
        walk_test: Vec::new(),
        overrides: Vec::new(),
        tests: Vec::new(),
    };
    Arc::new(Site::new(SiteFacts::new("test", vec![Arc::new(profile)], devices)))
}

/// A street with a level, a switch and a text a device.
fn site(devices: &[&str]) -> Arc<Site> {
    let points = vec![
        point("level_mm", ValueType::Number),
        point("water_present", ValueType::Boolean),
        point("state", ValueType::Enumeration),
    ];
    site_of("level-meter", points, devices.iter().map(|id| device(id)).collect())
}

fn good(point: u16, value: Value) -> PointReading {
    PointReading { point, value: Some(value), quality: Quality::GOOD }
}

/// A batch of one level a device of the site, all at a time of its own.
fn batch(site: &Arc<Site>, sequence: u64) -> TelemetryBatch {
    let mut observations = Observations::default();
    for index in 0..site.devices().len() {
        let at = Timestamp(1_700_000_000_000 + i64::try_from(sequence).unwrap());
        let level = good(0, Value::Number(sequence as f64 + 0.5));
        observations.push(
            DeviceIndex(u32::try_from(index).unwrap()),
            at,
            at.plus(Duration::from_millis(7)),
            false,
            [level],
        );
    }
    TelemetryBatch { sequence, site: Arc::clone(site), observations: Arc::new(observations) }
}

/// What the store would do, in memory.
#[derive(Default)]
struct Store {
    batches: Mutex<BTreeMap<u64, TelemetryBatch>>,
    /// Every cursor that was ever stored, in order.
    cursors: Mutex<Vec<u64>>,
    /// Every line that was refused, in order.
    refused: Mutex<Vec<RefusedPoint>>,
    reads: AtomicUsize,
    is_broken: AtomicBool,
    /// Nothing is wrong, and nothing is given yet.
    waits: AtomicBool,
}

impl Store {
    const BATCHES_A_READ: usize = 8;

    fn commit(&self, batch: &TelemetryBatch) {
        self.batches.lock().unwrap().insert(batch.sequence, batch.clone());
    }

    fn last_cursor(&self) -> u64 {
        self.cursors.lock().unwrap().last().copied().unwrap_or(0)
    }

    fn check(&self) -> Result<(), BacklogError> {
        if self.is_broken.load(Ordering::SeqCst) { Err(BacklogError::Store("disk on fire".into())) } else { Ok(()) }
    }
}

impl Backlog for Store {
    fn read_after(&self, sequence: u64, _bytes_max: usize) -> Result<Vec<TelemetryBatch>, BacklogError> {
        self.check()?;
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.waits.load(Ordering::SeqCst) {
            return Err(BacklogError::Waits("waiting for the clock".to_owned()));
        }
        let batches = self.batches.lock().unwrap();
        Ok(batches.range(sequence + 1..).take(Store::BATCHES_A_READ).map(|(_, batch)| batch.clone()).collect())
    }

    fn delivered_through(&self, _sink: &str, sequence: u64) -> Result<(), BacklogError> {
        self.check()?;
        self.cursors.lock().unwrap().push(sequence);
        Ok(())
    }

    fn cursor(&self, _sink: &str) -> Result<u64, BacklogError> {
        self.check()?;
        Ok(self.last_cursor())
    }

    fn keep_refused(&self, _sink: &str, points: &[RefusedPoint]) -> Result<(), BacklogError> {
        self.check()?;
        self.refused.lock().unwrap().extend_from_slice(points);
        Ok(())
    }
}

/// Waits for a state; says what it waited for when it never comes.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
