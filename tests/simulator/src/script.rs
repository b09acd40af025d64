//! Turns a seed and a start into the things that will go wrong, so that tests can compare what was found with what
//! was injected.
//!
//! Every cycle of six simulated hours has one storm and the same kinds of incident, on other devices and at other
//! minutes; all of it is over two and a half hours after the start of the cycle. Pure; there are no metrics.

use std::time::Duration;

use kerbside_model::Timestamp;
use serde::Serialize;

use crate::layout::{DeviceKind, SimulatedDevice};
use crate::noise::{Noise, draw};
use crate::weather::{Rise, Storm};

/// After this the scenario begins again with other devices.
pub(crate) const CYCLE: Duration = Duration::from_secs(6 * 3_600);

/// Id of the device that nobody entered into the inventory, followed by the number of the cycle.
const UNKNOWN_DEVICE: &str = "MH-X";

/// Something that the simulation does to the district.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScriptedEvent {
    /// When it begins.
    pub at: Timestamp,
    /// When it is over.
    pub until: Timestamp,
    /// The device that shows it; empty for the storm.
    pub device: String,
    /// What it is.
    pub what: ScriptedWhat,
}

/// The kinds of event in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptedWhat {
    /// A cover is opened by nobody who may; it closes at `until`.
    CoverOpens,
    /// A crew opens a cover with a permit: mask it in time, or it is an open cover like any other.
    CoverOpensWithPermit,
    /// Lorries shake a cover: the tilt returns within two seconds and nothing is wrong.
    TrafficShakes,
    /// Rain over the whole district.
    Storm,
    /// A drain rises above 400 mm; `until` is when it has fallen below again.
    DrainSurges,
    /// Water stands at the foot of a pole.
    WaterStands,
    /// A pole in standing water leaks current: more than 30 mA some minutes after `at`.
    PoleLeaks,
    /// A level sensor falls silent because its battery is empty.
    BatteryDies,
    /// A level sensor falls silent because the water has reached its antenna.
    AntennaDrowns,
    /// A device sends one frame that is not whole.
    MalformedFrame,
    /// A device reports that is not in the inventory.
    UnknownDevice,
}

/// What happens to one device, with what its values need to follow it.
#[derive(Clone, Debug)]
pub(crate) enum Incident {
    Open { from: Timestamp, until: Timestamp, tilt_deg: f64 },
    Shaken { at: Vec<Timestamp> },
    Water { rise: Rise },
    Leak { from: Timestamp, until: Timestamp, ramp: Duration, peak_ma: f64 },
    Silent { from: Timestamp, until: Timestamp, battery: bool },
    Malformed { at: Timestamp },
}

/// One cycle of the scenario.
#[derive(Debug)]
pub(crate) struct Cycle {
    pub(crate) storm: Storm,
    pub(crate) events: Vec<ScriptedEvent>,
    /// By position of the device.
    pub(crate) incidents: Vec<(usize, Incident)>,
    pub(crate) unknown: (String, Timestamp),
}

/// Writes cycle `number`, which begins at `start`.
pub(crate) fn write_cycle(noise: Noise, number: u64, start: Timestamp, devices: &[SimulatedDevice]) -> Cycle {
    let mut generator = noise.part(number).generator();
    let onset = start.plus(minutes(draw(&mut generator, 11.5, 12.5)));
    let storm = Storm::new(onset, &mut generator);
    let unknown = (format!("{UNKNOWN_DEVICE}{number:05}"), start.plus(minutes(draw(&mut generator, 9.0, 16.0))));
    let mut writer = Writer { start, onset, generator, devices, events: Vec::new(), incidents: Vec::new() };
    writer.note(onset, storm.end(), "", ScriptedWhat::Storm);
    writer.note(unknown.1, unknown.1, &unknown.0, ScriptedWhat::UnknownDevice);
    let covers = writer.shuffled(DeviceKind::Cover);
    writer.covers(&covers);
    let drains = writer.shuffled(DeviceKind::Drain);
    writer.drains(&drains);
    let poles = writer.shuffled(DeviceKind::Pole);
    writer.poles(&poles);
    let probes = writer.shuffled(DeviceKind::LevelProbe);
    for probe in probes {
        writer.gentle_rise(probe);
    }
    let Writer { mut events, incidents, .. } = writer;
    events.sort_by(|left, right| left.at.cmp(&right.at).then_with(|| left.device.cmp(&right.device)));
    Cycle { storm, events, incidents, unknown }
}

struct Writer<'a> {
    start: Timestamp,
    onset: Timestamp,
    generator: fastrand::Rng,
    devices: &'a [SimulatedDevice],
    events: Vec<ScriptedEvent>,
    incidents: Vec<(usize, Incident)>,
}

impl Writer<'_> {
    fn draw(&mut self, low: f64, high: f64) -> f64 {
        draw(&mut self.generator, low, high)
    }

    fn minute(&mut self, low: f64, high: f64) -> Timestamp {
        let minute = self.draw(low, high);
        self.start.plus(minutes(minute))
    }

    fn after_onset(&mut self, low: f64, high: f64) -> Timestamp {
        let minute = self.draw(low, high);
        self.onset.plus(minutes(minute))
    }

    fn note(&mut self, at: Timestamp, until: Timestamp, device: &str, what: ScriptedWhat) {
        self.events.push(ScriptedEvent { at, until, device: device.to_owned(), what });
    }

    fn incident(&mut self, position: usize, incident: Incident) {
        self.incidents.push((position, incident));
    }

    fn shuffled(&mut self, kind: DeviceKind) -> Vec<usize> {
        let mut positions: Vec<usize> =
            (0..self.devices.len()).filter(|position| self.devices[*position].kind == kind).collect();
        self.generator.shuffle(&mut positions);
        positions
    }

    fn open_cover(&mut self, position: usize, from: Timestamp, length: Duration, what: ScriptedWhat) {
        let until = from.plus(length);
        let tilt_deg = self.draw(32.0, 78.0);
        let device = self.devices[position].id.clone();
        self.note(from, until, &device, what);
        self.incident(position, Incident::Open { from, until, tilt_deg });
    }

    /// Opens three covers and shakes one in twenty: each cover has one incident at most.
    fn covers(&mut self, covers: &[usize]) {
        let mut covers = covers.iter().copied();
        if let Some(position) = covers.next() {
            let (from, length) = (self.minute(5.0, 7.5), self.draw(58.0, 70.0));
            self.open_cover(position, from, minutes(length), ScriptedWhat::CoverOpens);
        }
        if let Some(position) = covers.next() {
            let (from, length) = (self.minute(6.0, 8.5), self.draw(16.0, 22.0));
            self.open_cover(position, from, minutes(length), ScriptedWhat::CoverOpensWithPermit);
        }
        if let Some(position) = covers.next() {
            let (from, length) = (self.minute(7.5, 10.0), self.draw(9.0, 14.0));
            self.open_cover(position, from, minutes(length), ScriptedWhat::CoverOpens);
        }
        if let Some(position) = covers.next() {
            let at = self.minute(8.0, 14.0);
            self.malformed(position, at);
        }
        let shaken = self.devices.iter().filter(|device| device.kind == DeviceKind::Cover).count().div_ceil(20).max(2);
        for position in covers.take(shaken) {
            self.shake(position);
        }
    }

    fn malformed(&mut self, position: usize, at: Timestamp) {
        let device = self.devices[position].id.clone();
        self.note(at, at, &device, ScriptedWhat::MalformedFrame);
        self.incident(position, Incident::Malformed { at });
    }

    fn shake(&mut self, position: usize) {
        let from = self.minute(3.0, 30.0);
        let mut at = vec![from];
        for _ in 0..self.generator.usize(2..5) {
            let pause = self.draw(15.0, 90.0);
            let previous = at.last().copied().unwrap_or(from);
            at.push(previous.plus(Duration::from_secs_f64(pause)));
        }
        let until = at.last().copied().unwrap_or(from).plus(Duration::from_secs(2));
        let device = self.devices[position].id.clone();
        self.note(from, until, &device, ScriptedWhat::TrafficShakes);
        self.incident(position, Incident::Shaken { at });
    }

    /// One drain in twenty surges, one sensor falls silent, the others rise as drains do.
    fn drains(&mut self, drains: &[usize]) {
        let surging = (drains.len() / 20).max(1);
        for (order, position) in drains.iter().copied().enumerate() {
            if order < surging {
                self.surge(position);
            } else if order == surging {
                self.fall_silent(position);
            } else {
                self.gentle_rise(position);
            }
        }
    }

    fn surge(&mut self, position: usize) {
        let (onset, peak_mm) = (self.after_onset(1.5, 3.0), self.draw(440.0, 500.0));
        let recession = minutes(self.draw(45.0, 70.0));
        let rise = Rise::Surge { onset, peak_mm, recession };
        // The dry level is 62 mm or more, so 340 mm of rise is more than 400 mm of water.
        let mut above = (0..240)
            .map(|half| onset.plus(Duration::from_secs(30 * half)))
            .filter(|time| rise.height_mm(*time) >= 340.0);
        let from = above.next().unwrap_or(onset);
        let until = above.next_back().unwrap_or(from);
        let device = self.devices[position].id.clone();
        self.note(from, until, &device, ScriptedWhat::DrainSurges);
        self.incident(position, Incident::Water { rise });
    }

    fn fall_silent(&mut self, position: usize) {
        let battery = self.generator.bool();
        let from = self.minute(16.0, 19.0);
        let until = self.minute(130.0, 150.0);
        let device = self.devices[position].id.clone();
        let what = if battery { ScriptedWhat::BatteryDies } else { ScriptedWhat::AntennaDrowns };
        self.note(from, until, &device, what);
        self.incident(position, Incident::Silent { from, until, battery });
        self.gentle_rise(position);
    }

    /// The steepest is 130 mm in 16 minutes, 13 mm a minute: under the median flood's greatest rise of 16 mm a minute.
    fn gentle_rise(&mut self, position: usize) {
        let onset = self.after_onset(1.0, 6.0);
        let (rise, recession) = (minutes(self.draw(16.0, 26.0)), minutes(self.draw(35.0, 80.0)));
        let peak_mm = self.draw(50.0, 130.0);
        self.incident(position, Incident::Water { rise: Rise::Gentle { onset, rise, peak_mm, recession } });
    }

    /// Water stands at one pole in ten, two at least; the first of them leaks.
    fn poles(&mut self, poles: &[usize]) {
        let hollows = (poles.len() / 10).max(2);
        for (order, position) in poles.iter().copied().take(hollows).enumerate() {
            let onset = self.after_onset(3.0, 5.0);
            let peak_mm = if order == 0 { self.draw(170.0, 220.0) } else { self.draw(60.0, 190.0) };
            let (rise, recession) = (minutes(self.draw(8.0, 12.0)), minutes(self.draw(30.0, 50.0)));
            let device = self.devices[position].id.clone();
            self.note(onset, onset.plus(rise).plus(recession), &device, ScriptedWhat::WaterStands);
            self.incident(position, Incident::Water { rise: Rise::Gentle { onset, rise, peak_mm, recession } });
            if order == 0 {
                self.leak(position);
            }
        }
    }

    fn leak(&mut self, position: usize) {
        let from = self.after_onset(9.0, 11.0);
        let until = self.minute(85.0, 95.0);
        let (ramp, peak_ma) = (minutes(self.draw(4.0, 6.0)), self.draw(48.0, 90.0));
        let device = self.devices[position].id.clone();
        self.note(from, until, &device, ScriptedWhat::PoleLeaks);
        self.incident(position, Incident::Leak { from, until, ramp, peak_ma });
    }
}

pub(crate) fn minutes(number: f64) -> Duration {
    // Whole milliseconds, because timestamps are.
    Duration::from_millis((number * 60_000.0) as u64)
}
