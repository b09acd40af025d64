//! A district for a month: 2,000 covers, drains, poles and weather stations, of which nearly nothing is wrong.
//!
//! Of 100 devices 60 are covers, 20 drains, 19 poles and one is a weather station, on one feeder and in one catchment,
//! under a sky of its own. In each such neighbourhood everything that can go wrong does so once or twice, whatever the
//! length; the rest of the time traps are all there is: lorries, crews with permits (3,957 wells in two months, as the
//! city of Shifeng had it, is one opening of each cover a month), heat and frost, switching surges, gusts, splashes,
//! condensation, parked cars, lithium cells that sag, radios that lose 1 to 20 % of their messages, deliver some twice
//! and some hours late, base stations that fail, and storms of which most fill no pipe. How often each of these happens
//! is an assumption; figures that are measured stand beside their constants.

mod cover;
mod drain;
mod pole;
mod sky;

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use kerbside_model::Timestamp;
use kerbside_model::inventory::Device;

use super::{Act, Event, Extent, Floors, Messages, Radio, Reports, Said, Scenario, Sender, Span, Trap, Wants};
use crate::noise::draw;
use sky::Sky;

/// Midnight in China, in July.
const START: Timestamp = Timestamp(1_783_008_000_000);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// What a neighbourhood has.
const COVERS: usize = 60;
const DRAINS: usize = 20;
const POLES: usize = 19;
/// Radios lose between these shares of their messages (IEEE Access 2024 on manholes, T/ZZB 1255-2019: under 5 %).
const LOSS: (f64, f64) = (0.01, 0.20);
/// So many moments are drawn until one suits.
const MOMENTS_TRIED: usize = 30;
/// Nothing is wrong before: devices learn what is usual for them.
const QUIET: Duration = DAY;

/// Floors of the quick extent: 600 device-days with everything that can go wrong, so that one false case counts as 1.7.
pub(super) const FLOORS: Floors =
    Floors { recall: 0.9, recall_of: &[], precision: 0.0, precision_of: PRECISION_OF, false_cases: 4.0 };
/// What is never raised for nothing: sagging cells and lamps that are switched in a puddle were once.
const PRECISION_OF: &[(&str, f64)] = &[("battery_ending", 1.0), ("displaced", 1.0), ("leaking", 1.0), ("tilted", 1.0)];

/// One scenario of all neighbourhoods.
pub(super) fn scenarios(extent: Extent, seed: u64) -> Vec<Scenario> {
    let (neighbourhoods, days, storms) = match extent {
        Extent::Quick => (2, 3, 1),
        Extent::Full => (20, 30, 4),
    };
    let mut chance = Rng::with_seed(seed);
    let span = Span::of(START, DAY * days);
    let mut street = Street {
        scenario: Scenario {
            name: format!("{days} days"),
            start: START,
            length: DAY * days,
            senders: Vec::new(),
            acts: Vec::new(),
            events: Vec::new(),
            traps: Vec::new(),
        },
        span,
        chance: chance.fork(),
    };
    let storm_begins: Vec<Timestamp> = (0..storms).map(|_| street.moment()).collect();
    for number in 0..neighbourhoods {
        let sky = Arc::new(Sky::new(&storm_begins, span, &mut chance));
        let place = Place { number, catchment: format!("CA-{number:02}"), feeder: format!("FE-{number:02}"), sky };
        street.neighbourhood(&place);
    }
    vec![street.scenario]
}

/// Where a neighbourhood is, and its weather.
#[derive(Clone, Debug)]
struct Place {
    number: usize,
    catchment: String,
    feeder: String,
    sky: Arc<Sky>,
}

impl Place {
    /// A device of this place: 100 m apart in a grid, neighbourhoods 3 km apart.
    fn device(&self, kind: &str, number: usize, parent: &str) -> Device {
        // One degree of latitude is 111 km, one of longitude there 90 km.
        let east = 3.0 * (self.number % 5) as f64 + 0.1 * (number % 10) as f64;
        let north = 3.0 * (self.number / 5) as f64 + 0.1 * (number / 10) as f64;
        Device {
            id: format!("{kind}-{:02}{number:02}", self.number),
            position: Some((114.29 + east / 90.0, 35.74 + north / 111.0)),
            parent: parent.to_owned(),
            ..Device::default()
        }
    }
}

/// The scenario while it is made.
struct Street {
    scenario: Scenario,
    span: Span,
    chance: Rng,
}

/// One thing that is really wrong at one device.
struct Trouble<'a> {
    kind: &'static str,
    device: &'a str,
    any_of: &'static [&'static str],
    also: &'static [&'static str],
    span: Span,
    /// Found later than so long after its begin it is missed.
    within: Duration,
    wants: Wants,
}

impl Street {
    fn neighbourhood(&mut self, place: &Place) {
        let cell_fails = Span::of(self.moment(), HOUR.mul_f64(draw(&mut self.chance, 2.0, 6.0)));
        let feeder_fails = Span::of(self.moment(), HOUR.mul_f64(draw(&mut self.chance, 1.0, 4.0)));
        self.outage(place, &place.catchment, cell_fails, "base station fails");
        self.outage(place, &place.feeder, feeder_fails, "feeder fails");
        (0..COVERS).for_each(|number| self.cover(place, number, cell_fails));
        (0..DRAINS).for_each(|number| self.drain(place, number, cell_fails));
        (0..POLES).for_each(|number| self.pole(place, number, feeder_fails));
        self.station(place);
    }

    /// A moment at which something may begin: not in the first quiet time, and so that its end is seen.
    fn moment(&mut self) -> Timestamp {
        let length = self.span.until.since(self.span.from);
        self.span.from.plus(QUIET + (length - QUIET - HOUR * 14).mul_f64(self.chance.f64()))
    }

    /// The same, and with half a day behind it in which the device is heard.
    fn moment_outside(&mut self, outages: &[Span]) -> Timestamp {
        let tries: Vec<Timestamp> = (0..MOMENTS_TRIED).map(|_| self.moment()).collect();
        let is_heard = |at: &Timestamp| {
            let looked_at = Span { from: at.minus(HOUR), until: at.plus(HOUR * 14) };
            !outages.iter().any(|outage| outage.from < looked_at.until && looked_at.from < outage.until)
        };
        tries.iter().copied().find(is_heard).unwrap_or(tries[0])
    }

    /// One of the devices that something happens to, so many times a neighbourhood.
    fn is_one_of(number: usize, offset: usize, count: usize) -> bool {
        (offset..offset + count).contains(&number)
    }

    fn radio(&mut self, outages: Vec<Span>) -> Radio {
        Radio {
            loss: LOSS.0 * (LOSS.1 / LOSS.0).powf(self.chance.f64()),
            delay_max: SECOND * 10,
            twice: 0.02,
            late: 0.002,
            late_max: HOUR * 3,
            outages,
        }
    }

    fn trouble(&mut self, trouble: Trouble<'_>) {
        let Trouble { kind, device, any_of, also, span, within, wants } = trouble;
        self.scenario.events.push(Event {
            kind,
            devices: vec![device.to_owned()],
            any_of: any_of.to_vec(),
            also: also.to_vec(),
            from: span.from,
            due_by: span.from.plus(within),
            until: span.until,
            wants,
        });
    }

    /// What may be raised for a while and need not.
    fn tolerate(&mut self, device: &str, conditions: &'static [&'static str], span: Span) {
        let within = Duration::ZERO;
        let wants = Wants::Nothing;
        self.trouble(Trouble { kind: "", device, any_of: conditions, also: &[], span, within, wants });
    }

    fn trap(&mut self, kind: &'static str, device: &str, conditions: &[&'static str], span: Span) {
        let (devices, conditions) = (vec![device.to_owned()], conditions.to_vec());
        self.scenario.traps.push(Trap { kind, devices, conditions, span });
    }

    /// All devices on one parent fall silent together: one incident, and no case of any of them.
    fn outage(&mut self, place: &Place, parent: &str, span: Span, kind: &'static str) {
        let of_catchment = parent == place.catchment;
        let ids: Vec<String> = if of_catchment {
            let covers = (0..COVERS).map(|number| place.device("MH", number, parent).id);
            covers.chain((0..DRAINS).map(|number| place.device("DL", number, parent).id)).collect()
        } else {
            (0..POLES).map(|number| place.device("SP", number, parent).id).collect()
        };
        // Covers report hourly and are silent after three; poles after half an hour.
        let within = HOUR * 5;
        let long_enough = span.until.since(span.from) >= HOUR;
        self.scenario.events.push(Event {
            kind,
            devices: ids,
            any_of: vec!["silent"],
            also: vec!["outage", "flooded_and_silent", "mains_lost", "phase_lost", "feeder_lost"],
            from: span.from,
            due_by: span.from.plus(within),
            until: span.until.plus(HOUR * 2),
            wants: if long_enough { Wants::Case } else { Wants::Nothing },
        });
    }

    fn send(&mut self, facts: Device, profile: &'static str, points: &[&'static str], messages: Messages) {
        self.scenario.senders.push(Sender { facts, profile, points: points.to_vec(), messages });
    }

    /// Reports of a device in a rhythm that begins anywhere.
    fn reports(&mut self, every: Duration, outages: Vec<Span>) -> Reports {
        let radio = self.radio(outages);
        let begin = self.span.from.plus(every.mul_f64(self.chance.f64()));
        let span = Span { from: begin, until: self.span.until };
        Reports { jitter: every / 20, radio, ..Reports::every(span, every, self.chance.u64(..)) }
    }

    /// A weather station on a mast with mains and a cable.
    fn station(&mut self, place: &Place) {
        let facts = place.device("WS", 0, &place.feeder);
        let sky = Arc::clone(&place.sky);
        for storm in sky.spans(HOUR) {
            self.tolerate(&facts.id, &["strong_wind", "heavy_rain"], storm);
        }
        let reports = Reports { radio: Radio::default(), ..self.reports(MINUTE, Vec::new()) };
        let mut fallen = 0.0;
        let messages = reports.of(move |at, chance| {
            fallen += sky.rain_mm_h(at) / 60.0;
            vec![
                ("wind_speed_m_s", Said::Number(tenths(sky.wind_m_s(at, chance)))),
                ("temperature_c", Said::Number(tenths(sky.temperature_c(at) + 0.1 * chance.f64()))),
                ("humidity_percent", Said::Number(tenths(60.0 + 20.0 * chance.f64()))),
                ("rainfall_total_mm", Said::Number(tenths(fallen))),
                ("pressure_kpa", Said::Number(tenths(100.4 + 0.2 * chance.f64()))),
            ]
        });
        let points = ["wind_speed_m_s", "temperature_c", "humidity_percent", "rainfall_total_mm", "pressure_kpa"];
        self.send(facts, "cwt-weather-500", &points, messages);
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
