//! Turns a seed and the simulated time into what the devices of a district send and what their registers hold.
//!
//! The core is pure: the same seed and start give the same uplinks, however coarsely it is stepped. It reads no
//! clock and does no I/O; a restart begins again from the seed. There are no metrics.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_runtime::Clock;

use crate::layout::{
    COVER_INTERVAL, DRAIN_INTERVAL, DRAIN_INTERVAL_RAIN, DeviceKind, POLE_INTERVAL, SimulatedDevice, inventory_csv,
    lay_out,
};
use crate::noise::{Noise, draw};
use crate::report::{CoverReport, LevelReport, PoleReport, cover_topic, payload};
use crate::script::{CYCLE, Cycle, Incident, ScriptedEvent, minutes, write_cycle};
use crate::weather::{air_temperature_c, diurnal_factor, lamps_burn, wind_m_s};

/// The most uplinks that one step gives; the rest is due at once.
pub const STEP_UPLINKS_MAX: usize = 10_000;

/// All devices report once within this after the start, as after a power cut.
const BOOT_SPREAD: Duration = Duration::from_secs(45);
/// Water of this depth in mm closes the contact at a pole's foot.
const WATER_CONTACT_MM: f64 = 10.0;
/// How long a vehicle tilts a cover; the terminal reports the return after `SHAKE_REPORT`.
const SHAKE: Duration = Duration::from_millis(900);
const SHAKE_REPORT: Duration = Duration::from_millis(1_400);

/// What a district consists of.
#[derive(Clone, Debug)]
pub struct DistrictConfig {
    /// Everything that looks random follows from it.
    pub seed: u64,
    /// Number of manhole covers.
    pub covers: usize,
    /// Number of smart poles.
    pub poles: usize,
    /// Number of drain-level sensors.
    pub drains: usize,
    /// The clock that `publish` and `serve_modbus` live by; the core itself never reads it.
    pub clock: Clock,
    /// When the scenario begins.
    pub started_at: Timestamp,
}

impl DistrictConfig {
    /// The demonstration's district: 60 covers, 30 poles and 20 drains, which begin now.
    pub fn demo(seed: u64, clock: Clock) -> DistrictConfig {
        let started_at = clock.now();
        DistrictConfig { seed, covers: 60, poles: 30, drains: 20, clock, started_at }
    }
}

/// One message of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// When it is sent.
    pub at: Timestamp,
    /// The device that sends it.
    pub device_id: String,
    /// MQTT topic.
    pub topic: String,
    /// JSON, or something that should have been.
    pub payload: String,
}

/// A district that MQTT and Modbus share.
pub type SharedDistrict = Arc<Mutex<District>>;

/// The simulated district.
#[derive(Debug)]
pub struct District {
    clock: Clock,
    started_at: Timestamp,
    noise: Noise,
    devices: Vec<SimulatedDevice>,
    traits: Vec<Traits>,
    incidents: Vec<Vec<Incident>>,
    cycle_number: u64,
    cycle: Cycle,
    due: BinaryHeap<Reverse<(Timestamp, usize, Cause)>>,
}

/// What makes one device differ from the next.
#[derive(Clone, Copy, Debug)]
struct Traits {
    noise: Noise,
    battery_v: f64,
    rssi_dbm: f64,
    tilt_deg: f64,
    leakage_ma: f64,
    dry_level_mm: f64,
    power_w: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Cycle,
    /// The periodic report.
    Report,
    /// Sent at once because something happened.
    Event,
    Malformed,
    Unknown,
}

impl District {
    /// Lays out the devices and writes the first script.
    pub fn new(config: DistrictConfig) -> District {
        let noise = Noise::new(config.seed);
        let devices = lay_out(noise.part(1), config.covers, config.poles, config.drains);
        let traits = (0..devices.len()).map(|position| Traits::draw(noise.part(1_000 + position as u64))).collect();
        let cycle = write_cycle(noise.part(2), 0, config.started_at, &devices);
        let mut district = District {
            clock: config.clock,
            started_at: config.started_at,
            noise,
            traits,
            incidents: vec![Vec::new(); devices.len()],
            devices,
            cycle_number: 0,
            cycle,
            due: BinaryHeap::new(),
        };
        district.schedule_cycle();
        for position in 0..district.devices.len() {
            if district.devices[position].topic.is_some() {
                district.schedule_first_reports(position);
            }
        }
        district
    }

    /// The devices, in the order of the inventory.
    pub fn devices(&self) -> Vec<SimulatedDevice> {
        self.devices.clone()
    }

    /// The clock that the district's sockets live by.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// For sharing between MQTT and Modbus.
    pub fn shared(self) -> SharedDistrict {
        Arc::new(Mutex::new(self))
    }

    /// The inventory as CSV in UTF-8, for the sources `broker` and `pole-bus`.
    pub fn inventory_csv(&self) -> String {
        inventory_csv(&self.devices)
    }

    /// What goes wrong in the present cycle of six hours, by time.
    pub fn script(&self) -> Vec<ScriptedEvent> {
        self.cycle.events.clone()
    }

    /// When the next uplink may be due.
    pub fn next_due(&self) -> Timestamp {
        // The next cycle is always scheduled, so the queue is never empty.
        self.due.peek().map_or(self.started_at, |Reverse((at, _, _))| *at)
    }

    /// Gives what is due by `now`, oldest first and at most `STEP_UPLINKS_MAX`.
    pub fn step(&mut self, now: Timestamp) -> Vec<Uplink> {
        let mut uplinks = Vec::new();
        while uplinks.len() < STEP_UPLINKS_MAX && self.next_due() <= now {
            let Some(Reverse((at, position, cause))) = self.due.pop() else { break };
            match cause {
                Cause::Cycle => self.begin_cycle(at),
                Cause::Unknown => uplinks.push(self.unknown_uplink(at)),
                Cause::Malformed => uplinks.extend(self.malformed_uplink(position, at)),
                Cause::Event => uplinks.extend(self.uplink(position, at)),
                Cause::Report => {
                    uplinks.extend(self.uplink(position, at));
                    self.schedule_next_report(position, at);
                }
            }
        }
        uplinks
    }

    fn begin_cycle(&mut self, start: Timestamp) {
        self.cycle_number += 1;
        self.cycle = write_cycle(self.noise.part(2), self.cycle_number, start, &self.devices);
        self.schedule_cycle();
    }

    /// Gives the incidents of the cycle to their devices and schedules what is sent at once because of them.
    fn schedule_cycle(&mut self) {
        for incidents in &mut self.incidents {
            incidents.clear();
        }
        let start = self.started_at.plus(CYCLE * u32::try_from(self.cycle_number).unwrap_or(u32::MAX));
        self.due.push(Reverse((start.plus(CYCLE), 0, Cause::Cycle)));
        for minute in [0.0, 10.0, 20.0] {
            self.due.push(Reverse((self.cycle.unknown.1.plus(minutes(minute)), 0, Cause::Unknown)));
        }
        for (position, incident) in std::mem::take(&mut self.cycle.incidents) {
            for (at, cause) in prompts(&incident) {
                self.due.push(Reverse((at, position, cause)));
            }
            self.incidents[position].push(incident);
        }
    }

    fn schedule_first_reports(&mut self, position: usize) {
        let noise = self.traits[position].noise.part(1);
        let boot = noise.between(self.started_at, 0.0, BOOT_SPREAD.as_secs_f64());
        let boot = self.started_at.plus(Duration::from_secs_f64(boot));
        self.due.push(Reverse((boot, position, Cause::Event)));
        let phase = noise.part(2).between(self.started_at, 0.2, 1.0);
        let first = boot.plus(self.interval(position, boot).mul_f64(phase));
        self.due.push(Reverse((first, position, Cause::Report)));
    }

    /// Clocks of field devices are a little off, so the interval is too.
    fn schedule_next_report(&mut self, position: usize, at: Timestamp) {
        let jitter = self.traits[position].noise.part(3).between(at, 0.98, 1.02);
        let next = at.plus(self.interval(position, at).mul_f64(jitter));
        self.due.push(Reverse((next, position, Cause::Report)));
    }

    fn interval(&self, position: usize, at: Timestamp) -> Duration {
        match self.devices[position].kind {
            DeviceKind::Cover => COVER_INTERVAL,
            DeviceKind::Drain if self.cycle.storm.raining(at) => DRAIN_INTERVAL_RAIN,
            DeviceKind::Drain => DRAIN_INTERVAL,
            _ => POLE_INTERVAL,
        }
    }

    fn uplink(&self, position: usize, at: Timestamp) -> Option<Uplink> {
        let device = &self.devices[position];
        let silent = self.incidents[position]
            .iter()
            .any(|incident| matches!(incident, Incident::Silent { from, until, .. } if (*from..*until).contains(&at)));
        let topic = device.topic.clone()?;
        let payload = match device.kind {
            _ if silent => return None,
            DeviceKind::Cover => payload(&self.cover_report(position, at)),
            DeviceKind::Pole => payload(&self.pole_report(position, at)),
            DeviceKind::Drain => payload(&self.level_report(position, at)),
            DeviceKind::Meter | DeviceKind::WeatherStation | DeviceKind::LevelProbe => return None,
        };
        Some(Uplink { at, device_id: device.id.clone(), topic, payload })
    }

    /// A frame that ends in the middle, as after a buffer overrun in the terminal.
    fn malformed_uplink(&self, position: usize, at: Timestamp) -> Option<Uplink> {
        let mut uplink = self.uplink(position, at)?;
        uplink.payload.truncate(uplink.payload.len() / 2);
        uplink.payload.push('\u{fffd}');
        Some(uplink)
    }

    fn unknown_uplink(&self, at: Timestamp) -> Uplink {
        let device_id = self.cycle.unknown.0.clone();
        let payload = payload(&CoverReport::quiet(&device_id, at));
        Uplink { at, topic: cover_topic("d01", &device_id), device_id, payload }
    }

    fn cover_report(&self, position: usize, at: Timestamp) -> CoverReport {
        let traits = &self.traits[position];
        let mut report = CoverReport {
            tilt: rounded(traits.tilt_deg + traits.noise.part(10).between(at, -0.15, 0.15), 1),
            batt: traits.battery(at),
            rssi: traits.rssi(at, 0.0),
            // Two metres down the day's heat hardly arrives.
            temp: rounded(18.0 + 0.2 * (air_temperature_c(&self.cycle.storm, at) - 22.0), 1),
            ch4: rounded(traits.noise.part(11).between(at, 0.0, 0.6), 2),
            h2s: rounded(traits.noise.part(12).between(at, 0.0, 0.5), 2),
            ..CoverReport::quiet(&self.devices[position].id, at)
        };
        for incident in &self.incidents[position] {
            match incident {
                Incident::Open { from, until, tilt_deg } if (*from..*until).contains(&at) => {
                    report.open = true;
                    report.tilt = rounded(tilt_deg + traits.noise.part(13).between(at, -0.4, 0.4), 1);
                }
                Incident::Shaken { at: shakes }
                    if shakes.iter().any(|shake| (*shake..shake.plus(SHAKE)).contains(&at)) =>
                {
                    report.tilt = rounded(traits.noise.part(14).between(at, 12.0, 26.0), 1);
                }
                _ => {}
            }
        }
        report
    }

    fn pole_report(&self, position: usize, at: Timestamp) -> PoleReport {
        let traits = &self.traits[position];
        let storm = &self.cycle.storm;
        let wind = wind_m_s(storm, traits.noise.part(20), at);
        let lamp = lamps_burn(at);
        let depth = self.water_mm(position, at);
        // Wet insulation leaks a little more everywhere.
        let wet = 1.0 + 0.8 * storm.darkness(at);
        let leakage =
            traits.leakage_ma * wet + traits.noise.part(21).between(at, 0.0, 0.4) + self.leak_ma(position, at);
        PoleReport {
            leakage: rounded(leakage, 1),
            tilt: rounded(traits.tilt_deg * 0.5 + wind * traits.noise.part(22).between(at, 0.0, 0.05), 1),
            lamp,
            water: depth > WATER_CONTACT_MM,
            depth: rounded(depth + traits.noise.part(23).between(at, 0.0, 2.0), 0),
            volt: rounded(traits.noise.part(24).between(at, 226.5, 233.5), 1),
            power: rounded(traits.power(lamp) + traits.noise.part(25).between(at, -0.8, 0.8), 1),
            temp: rounded(air_temperature_c(storm, at) + 2.0, 1),
            rssi: traits.rssi(at, 0.0),
            ..PoleReport::quiet(&self.devices[position].id, at)
        }
    }

    fn level_report(&self, position: usize, at: Timestamp) -> LevelReport {
        let traits = &self.traits[position];
        let mut report = LevelReport {
            level: rounded(self.level_mm(position, at), 0),
            batt: traits.battery(at),
            rssi: traits.rssi(at, 0.0),
            temp: rounded(17.0 + 0.3 * (air_temperature_c(&self.cycle.storm, at) - 22.0), 1),
            ..LevelReport::quiet(&self.devices[position].id, at)
        };
        for incident in &self.incidents[position] {
            let Incident::Silent { from, until, battery } = incident else { continue };
            // Nearer than ten minutes the end shows: 0 is far off, 1 is there.
            let near = 1.0 - (from.since(at).as_secs_f64() / 600.0).min(1.0);
            if at >= *until {
                continue;
            }
            if *battery {
                report.batt = rounded(report.batt - 0.75 * near, 2);
            } else {
                report.rssi = traits.rssi(at, 16.0 * near);
            }
        }
        report
    }

    /// Water level of a drain or probe in mm, without the noise of rounding.
    pub(crate) fn level_mm(&self, position: usize, at: Timestamp) -> f64 {
        let traits = &self.traits[position];
        let ripple = traits.noise.part(30).between(at, -3.0, 3.0);
        traits.dry_level_mm * diurnal_factor(at) + self.water_mm(position, at) + ripple
    }

    fn water_mm(&self, position: usize, at: Timestamp) -> f64 {
        let incidents = self.incidents[position].iter();
        incidents
            .filter_map(|incident| match incident {
                Incident::Water { rise } => Some(rise.height_mm(at)),
                _ => None,
            })
            .sum()
    }

    fn leak_ma(&self, position: usize, at: Timestamp) -> f64 {
        let incidents = self.incidents[position].iter();
        incidents
            .filter_map(|incident| match incident {
                Incident::Leak { from, until, ramp, peak_ma } if (*from..*until).contains(&at) => {
                    Some(peak_ma * (at.since(*from).as_secs_f64() / ramp.as_secs_f64()).min(1.0))
                }
                _ => None,
            })
            .sum()
    }

    pub(crate) fn cycle(&self) -> &Cycle {
        &self.cycle
    }

    pub(crate) fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// The device behind a Modbus unit, with the streams of noise that its registers draw on.
    pub(crate) fn modbus_device(&self, unit: u8) -> Option<(usize, DeviceKind, Noise)> {
        let position = self.devices.iter().position(|device| device.modbus_unit() == Some(unit))?;
        Some((position, self.devices[position].kind, self.traits[position].noise))
    }

    /// Power that a pole's meter sees in W.
    pub(crate) fn meter_power_w(&self, position: usize, at: Timestamp) -> f64 {
        let traits = &self.traits[position];
        traits.power(lamps_burn(at)) + traits.noise.part(40).between(at, -0.8, 0.8)
    }
}

impl Traits {
    fn draw(noise: Noise) -> Traits {
        let mut generator = noise.generator();
        Traits {
            noise,
            battery_v: draw(&mut generator, 3.54, 3.64),
            rssi_dbm: draw(&mut generator, -104.0, -72.0),
            tilt_deg: draw(&mut generator, 0.2, 1.4),
            leakage_ma: draw(&mut generator, 0.6, 2.4),
            dry_level_mm: draw(&mut generator, 100.0, 150.0),
            power_w: draw(&mut generator, 105.0, 160.0),
        }
    }

    fn battery(&self, at: Timestamp) -> f64 {
        rounded(self.battery_v + self.noise.part(50).between(at, -0.01, 0.01), 2)
    }

    /// `weaker` in dB.
    fn rssi(&self, at: Timestamp, weaker: f64) -> i32 {
        (self.rssi_dbm - weaker + self.noise.part(51).between(at, -3.0, 3.0)).round() as i32
    }

    /// Nine and a half watts are the camera and the controller.
    fn power(&self, lamp: bool) -> f64 {
        if lamp { self.power_w } else { 9.5 }
    }
}

/// When a device speaks up because of an incident: terminals repeat an opening after 10 s and a minute.
fn prompts(incident: &Incident) -> Vec<(Timestamp, Cause)> {
    let seconds = Duration::from_secs;
    match incident {
        Incident::Open { from, until, .. } => {
            let opened = [*from, from.plus(seconds(10)), from.plus(seconds(60))];
            let closed = [*until, until.plus(seconds(10)), until.plus(seconds(60))];
            opened.into_iter().chain(closed).map(|at| (at, Cause::Event)).collect()
        }
        Incident::Shaken { at } => {
            at.iter().flat_map(|at| [(*at, Cause::Event), (at.plus(SHAKE_REPORT), Cause::Event)]).collect()
        }
        Incident::Malformed { at } => vec![(*at, Cause::Malformed)],
        Incident::Water { .. } | Incident::Leak { .. } | Incident::Silent { .. } => Vec::new(),
    }
}

/// Rounds as the devices do, so that 3.58 is sent as 3.58.
fn rounded(value: f64, decimals: i32) -> f64 {
    let factor = 10_f64.powi(decimals);
    let rounded = (value * factor).round() / factor;
    // Minus zero is a zero that surprises readers.
    if rounded == 0.0 { 0.0 } else { rounded }
}
