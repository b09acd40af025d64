//! Builds every component of a configuration once, with nothing behind it.
//!
//! Constructors check what only they can: certificates, keys, headers, ranges of protocols. They open no connection,
//! so `kerbside check` and a running gateway may call them; what they refuse would otherwise end `kerbside run` at its
//! start.

mod fit;

use std::error::Error;
use std::sync::Arc;

use kerbside_model::document::Problem;
use kerbside_model::port::{Backlog, BacklogError, RefusedPoint, TelemetryBatch};
use kerbside_runtime::{Chain, Clock, Health, Intake, Metrics};
use kerbside_sinks::channels;
use kerbside_sinks::influx::InfluxSink;
use kerbside_sinks::platforms::open311::Open311;
use kerbside_sources::broker::BrokerSource;
use kerbside_sources::modbus::ModbusBus;
use kerbside_sources::mqtt::MqttSource;

use crate::config::{Config, PlatformConfig};

pub use fit::overloaded;

/// A backlog that is always empty.
struct NoBacklog;

impl Backlog for NoBacklog {
    fn read_after(&self, _sequence: u64, _bytes_max: usize) -> Result<Vec<TelemetryBatch>, BacklogError> {
        Ok(Vec::new())
    }

    fn delivered_through(&self, _sink: &str, _sequence: u64) -> Result<(), BacklogError> {
        Ok(())
    }

    fn cursor(&self, _sink: &str) -> Result<u64, BacklogError> {
        Ok(0)
    }

    fn keep_refused(&self, _sink: &str, _points: &[RefusedPoint]) -> Result<(), BacklogError> {
        Err(BacklogError::Store("a trial keeps nothing".into()))
    }
}

/// What the constructors refuse.
pub fn refused(config: &Config) -> Vec<Problem> {
    let mut trial = Trial { file: config.path.display().to_string(), problems: Vec::new() };
    let (intake, _receiver) = Intake::new(1, 1);
    let (clock, metrics, health) = (Clock::default(), Metrics::default(), Health::default());
    for source in &config.mqtt {
        let built = MqttSource::new(source.clone(), intake.clone(), clock.clone(), &metrics, &health);
        trial.note(format!("sources.{}", source.name), built);
    }
    for source in &config.brokers {
        let built = BrokerSource::new(source.clone(), intake.clone(), clock.clone(), &metrics, &health);
        trial.note(format!("sources.{}", source.name), built);
    }
    for bus in &config.modbus {
        let built = ModbusBus::new(bus.clone(), intake.clone(), clock.clone(), &metrics, &health);
        trial.note(format!("sources.{}", bus.source), built);
    }
    for sink in &config.sinks {
        let built = InfluxSink::new(sink.clone(), Arc::new(NoBacklog), &metrics, &health);
        trial.note(format!("sinks.{}", sink.name), built);
    }
    if let PlatformConfig::Open311(platform) = &config.platform {
        trial.note("platform".to_owned(), Open311::new(platform.clone(), clock.clone(), &metrics));
    }
    for channel in &config.channels {
        trial.note(format!("channels.{}", channel.name), channels::build(channel.clone(), clock.clone()));
    }
    trial.problems
}

struct Trial {
    file: String,
    problems: Vec<Problem>,
}

impl Trial {
    fn note<T, E: Error + 'static>(&mut self, key: String, built: Result<T, E>) {
        let Err(error) = built else { return };
        self.problems.push(Problem {
            file: self.file.clone(),
            line: 0,
            key,
            value: String::new(),
            what: format!("failed to {}", Chain(&error)),
            mend: "correct the key, file or secret that the message names".to_owned(),
        });
    }
}
