//! Poles of a district through a month: what is wrong with one, each on a pole of its own, and what only looks so. Every
//! pole stands in the same weather, so rain, wind and sun are traps for all of them.

use std::time::Duration;

use fastrand::Rng;
use kerbside_model::inventory::Device;
use kerbside_model::{MaskKind, Timestamp};

use super::{Act, Event, Extent, Floors, Radio, Reports, Said, Scenario, Sender, Span, Trap, Wants};

/// Midnight of a Friday in China.
const START: Timestamp = Timestamp(1_799_942_400_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const DAYS: u32 = 30;
const EVERY: Duration = Duration::from_secs(600);
/// Rules that learn have learnt by then.
const CALM_DAYS: u32 = 16;
const STATION: &str = "WS-1";
const POINTS: [&str; 12] = [
    "leakage_ma",
    "tilt_deg",
    "door_open",
    "lamp_on",
    "water_present",
    "water_depth_mm",
    "cabinet_water",
    "humidity_percent",
    "voltage_v",
    "active_power_w",
    "temperature_c",
    "signal_dbm",
];

/// A contact that flaps and comes to rest open for a minute is an open door.
pub(super) const FLOORS: Floors =
    Floors { recall: 0.95, recall_of: &[], precision: 0.9, precision_of: &[("door_open", 0.5)], false_cases: 1.0 };

/// What happens to a pole, or seems to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Twist {
    /// Leakage by so many mA more.
    Leakage(f64),
    /// It stands in water, and leaks so many mA more.
    LeakageInWater(f64),
    /// Water at its foot, mm.
    Water(f64),
    /// It leans by so many degrees more.
    Lean(f64),
    /// It leans by so many degrees more each day.
    Leaning(f64),
    /// It sways in the wind: the standard deviation, in degrees.
    Sway(f64),
    Door,
    /// The door contact changes with each message.
    LooseDoor,
    CabinetWater,
    /// The cabinet becomes hotter by so many degrees each minute, up to 110 degC.
    Fire(f64),
    /// The cabinet is hotter by so many degrees in the sun.
    Sun(f64),
    /// The thermometer gives the same value.
    StuckThermometer,
    /// Its lamp circuit is switched off at the feeder by day.
    SwitchedFeeder,
    /// The leakage monitor says that it has no value.
    NoMonitor,
    /// The signal falls by so many dB a day.
    Fading(f64),
    /// The lamp is on and takes this share of its power.
    LampPower(f64),
    /// The lamp burns by day as well, although it is switched off.
    LampByDay,
    Silent,
}

/// What happens, when, and what must or must not come of it.
struct Story {
    kind: &'static str,
    twist: Twist,
    length: Duration,
    truth: Truth,
}

enum Truth {
    /// It must be found, within this time.
    Found { any_of: &'static [&'static str], also: &'static [&'static str], within: Duration, wants: Wants },
    /// Nothing of these conditions, or of all, may be raised.
    Nothing(&'static [&'static str]),
}

fn found(any_of: &'static [&'static str], also: &'static [&'static str], within: Duration) -> Truth {
    Truth::Found { any_of, also, within, wants: Wants::Case }
}

fn told(any_of: &'static [&'static str], also: &'static [&'static str], within: Duration) -> Truth {
    Truth::Found { any_of, also, within, wants: Wants::Alarm }
}

/// The stories of a month; each comes to a pole of its own.
fn stories(chance: &mut Rng) -> Vec<Story> {
    let mut some = |from: f64, to: f64| from + (to - from) * chance.f64();
    let story = |kind, twist, length, truth| Story { kind, twist, length, truth };
    let weak: &[&str] = &["insulation_weak"];
    let rest = DAY * 12;
    vec![
        story("leakage", Twist::Leakage(some(36.0, 90.0)), HOUR * 8, found(&["leaking"], weak, MINUTE * 30)),
        story(
            "leakage in standing water",
            Twist::LeakageInWater(some(33.0, 60.0)),
            HOUR * 3,
            found(&["leaking"], &["flooded", "insulation_weak", "storm"], MINUTE * 12),
        ),
        story("ageing insulation", Twist::Leakage(some(3.0, 6.0)), rest, told(weak, &[], DAY * 10)),
        story("one surge of leakage", Twist::Leakage(45.0), MINUTE * 9, Truth::Nothing(&[])),
        story("struck by a car", Twist::Lean(some(4.0, 9.0)), rest, found(&["tilted"], &["leaning"], MINUTE * 40)),
        story("leaning more and more", Twist::Leaning(some(0.15, 0.25)), rest, told(&["leaning"], &["tilted"], rest)),
        story("a lorry shakes it", Twist::Lean(7.0), MINUTE * 9, Truth::Nothing(&[])),
        story("swaying in a storm", Twist::Sway(some(1.0, 2.0)), HOUR * 10, Truth::Nothing(&["tilted", "leaning"])),
        story("broken open", Twist::Door, MINUTE * 25, found(&["door_open"], &[], MINUTE * 3)),
        story("opened with a permit", Twist::Door, HOUR * 2, Truth::Nothing(&[])),
        story("loose door contact", Twist::LooseDoor, MINUTE * 10, told(&["contact_flapping"], &[], MINUTE * 5)),
        story("water in the cabinet", Twist::CabinetWater, HOUR * 4, found(&["cabinet_flooded"], &[], MINUTE)),
        story(
            "standing water",
            Twist::Water(some(160.0, 250.0)),
            HOUR * 2,
            found(&["flooded"], &["storm"], MINUTE * 12),
        ),
        story("fire", Twist::Fire(some(3.0, 8.0)), HOUR, found(&["fire"], &["overheated"], MINUTE * 45)),
        story("a hot day", Twist::Sun(some(20.0, 26.0)), DAY * 3, Truth::Nothing(&["fire", "overheated"])),
        story("one hot reading", Twist::Sun(60.0), MINUTE * 9, Truth::Nothing(&["fire", "overheated"])),
        story("stuck thermometer", Twist::StuckThermometer, DAY * 5, told(&["sensor_stuck"], &[], HOUR * 26)),
        story("feeder switched by day", Twist::SwitchedFeeder, rest, Truth::Nothing(&[])),
        story("no leakage monitor", Twist::NoMonitor, DAY, told(&["sensor_fault"], &[], HOUR * 2)),
        story("fading signal", Twist::Fading(some(0.6, 0.9)), DAY * 14, told(&["link_poor"], &[], DAY * 14)),
        story("lamp out", Twist::LampPower(0.01), DAY * 2, found(&["lamp_out"], &["lamp_degraded"], HOUR * 14)),
        story("lamp degraded", Twist::LampPower(0.6), DAY * 7, told(&["lamp_degraded"], &[], DAY * 5)),
        story("lit by day", Twist::LampByDay, DAY * 3, told(&["lamp_by_day"], &["lamp_degraded"], HOUR * 26)),
        story("silent alone", Twist::Silent, DAY, found(&["silent"], &[], MINUTE * 80)),
    ]
}

pub(super) fn scenarios(extent: Extent, seed: u64) -> Vec<Scenario> {
    let rounds = match extent {
        Extent::Quick => 1,
        Extent::Full => 10,
    };
    let mut chance = Rng::with_seed(seed);
    let span = Span::of(START, DAY * DAYS);
    let mut scenario = Scenario {
        name: "poles in all weathers".to_owned(),
        start: START,
        length: DAY * DAYS,
        senders: Vec::new(),
        acts: Vec::new(),
        events: Vec::new(),
        traps: Vec::new(),
    };
    let weather = Weather::of(&mut chance);
    station(&mut scenario, &weather, span, &mut chance);
    for round in 0..rounds {
        for (number, story) in stories(&mut chance).into_iter().enumerate() {
            pole(&mut scenario, format!("SP-{round}-{number}"), &story, &weather, &mut chance);
        }
        feeder(&mut scenario, round, &weather, &mut chance);
        circuit(&mut scenario, round, &weather, &mut chance);
        meter(&mut scenario, round, &mut chance);
    }
    vec![scenario]
}

/// Rain and wind over all of them.
#[derive(Clone, Debug)]
struct Weather {
    /// Rain and how much of it falls in an hour, mm.
    rain: Vec<(Span, f64)>,
    storms: Vec<Span>,
}

impl Weather {
    fn of(chance: &mut Rng) -> Weather {
        let mut rain = Vec::new();
        for day in (1..DAYS).step_by(3) {
            let from = START.plus(DAY * day + HOUR * chance.u32(0..16));
            rain.push((Span::of(from, HOUR * chance.u32(3..9)), 1.0 + 4.0 * chance.f64()));
        }
        // The one that is a rainstorm.
        rain.push((Span::of(START.plus(DAY * 21 + HOUR * 3), HOUR * 3), 25.0));
        let storms = [12, 18, 25].map(|day| Span::of(START.plus(DAY * day), HOUR * 8)).to_vec();
        Weather { rain, storms }
    }

    /// mm in an hour.
    fn rain_at(&self, at: Timestamp) -> f64 {
        self.rain.iter().filter(|(span, _)| span.has(at)).map(|(_, intensity)| intensity).sum()
    }

    /// How wet insulation is, from 0 to 1: it dries within six hours.
    fn wetness(&self, at: Timestamp) -> f64 {
        let wet = self.rain.iter().filter(|(span, _)| span.from <= at).map(|(span, _)| {
            let dry = at.since(span.until.min(at)).as_secs_f64() / HOUR.as_secs_f64() / 6.0;
            (1.0 - dry).clamp(0.0, 1.0)
        });
        wet.fold(0.0, f64::max)
    }
}

/// The weather station, whose counter is set back every midnight of the tenth day.
fn station(scenario: &mut Scenario, weather: &Weather, span: Span, chance: &mut Rng) {
    let storm = weather.rain.last().map(|(span, _)| *span).unwrap_or(span);
    scenario.events.push(Event {
        kind: "rainstorm",
        devices: vec![STATION.to_owned()],
        any_of: vec!["heavy_rain"],
        also: Vec::new(),
        from: storm.from.plus(HOUR),
        due_by: storm.until.plus(MINUTE * 15),
        until: storm.until.plus(HOUR * 14),
        wants: Wants::Alarm,
    });
    let weather = weather.clone();
    let mut total = 40.0;
    let mut last = span.from;
    let messages = Reports::every(span, MINUTE * 5, chance.u64(..)).of(move |at, chance| {
        total += weather.rain_at(at) * at.since(last).as_secs_f64() / HOUR.as_secs_f64();
        if at.since(span.from).as_secs() / DAY.as_secs() != last.since(span.from).as_secs() / DAY.as_secs() {
            total = 0.0;
        }
        last = at;
        let is_stormy = weather.storms.iter().any(|storm| storm.has(at));
        let wind = if is_stormy { 9.0 + 4.0 * chance.f64() } else { 1.0 + 3.0 * chance.f64() };
        vec![
            ("rainfall_total_mm", Said::Number((total * 10.0).floor() / 10.0)),
            ("wind_speed_m_s", Said::Number(wind)),
            ("temperature_c", Said::Number(15.0 + day_wave(at) * 6.0 + chance.f64())),
        ]
    });
    let facts = Device { id: STATION.to_owned(), interval: Some(MINUTE * 5), ..Device::default() };
    let points = vec!["rainfall_total_mm", "wind_speed_m_s", "temperature_c"];
    scenario.senders.push(Sender { facts, profile: "cwt-weather-500", points, messages });
}

/// -1 at four in the morning, 1 in the afternoon.
fn day_wave(at: Timestamp) -> f64 {
    let hour = at.since(START).as_secs_f64() / HOUR.as_secs_f64() % 24.0;
    ((hour - 10.0) / 24.0 * std::f64::consts::TAU).sin()
}

/// Lamps burn from half past six in the evening to half past five.
fn is_night(at: Timestamp) -> bool {
    let minute = at.since(START).as_secs() / 60 % 1_440;
    !(330..1_110).contains(&minute)
}

/// A pole with its story, at a time after the calm days.
fn pole(scenario: &mut Scenario, id: String, story: &Story, weather: &Weather, chance: &mut Rng) {
    let room = DAY * (DAYS - CALM_DAYS) - story.length.min(DAY * (DAYS - CALM_DAYS)) + MINUTE;
    let mut from = START.plus(DAY * CALM_DAYS + room.mul_f64(0.95 * chance.f64()));
    // In dry weather, where the story is not one of the rain: the truth would be another one.
    while weather.wetness(from) > 0.0 && story.length < DAY {
        from = from.plus(HOUR);
    }
    let mut at_once = Vec::new();
    if matches!(story.twist, Twist::Door | Twist::CabinetWater) {
        at_once = vec![from, from.plus(story.length)];
    } else if story.twist == Twist::LooseDoor {
        at_once = (0..20).map(|number| from.plus(MINUTE / 3 * number)).collect();
    }
    let span = Span::of(from, story.length);
    tell(scenario, &id, story, span);
    let radio = Radio {
        loss: 0.01,
        delay_max: Duration::from_secs(5),
        twice: 0.02,
        late: 0.01,
        late_max: HOUR * 3,
        outages: if story.twist == Twist::Silent { vec![span] } else { Vec::new() },
    };
    put_up(scenario, id, String::new(), Some((story.twist, span)), (weather, at_once, radio), chance);
}

/// What is true of a story.
fn tell(scenario: &mut Scenario, id: &str, story: &Story, span: Span) {
    let devices = vec![id.to_owned()];
    match &story.truth {
        Truth::Found { any_of, also, within, wants } => scenario.events.push(Event {
            kind: story.kind,
            devices,
            any_of: any_of.to_vec(),
            also: also.to_vec(),
            from: span.from,
            due_by: span.from.plus(*within),
            until: span.until.plus(HOUR * 4),
            wants: *wants,
        }),
        Truth::Nothing(conditions) => {
            if story.kind == "opened with a permit" {
                let span = Span { from: span.from.minus(MINUTE * 5), until: span.until.plus(MINUTE * 15) };
                scenario.acts.push(Act::Mask { device: id.to_owned(), kind: MaskKind::Permit, span });
            }
            let span = Span { from: span.from, until: span.until.plus(HOUR) };
            scenario.traps.push(Trap { kind: story.kind, devices, conditions: conditions.to_vec(), span });
        }
    }
}

/// A pole and what it sends.
fn put_up(
    scenario: &mut Scenario,
    id: String,
    parent: String,
    twist: Option<(Twist, Span)>,
    (weather, at_once, radio): (&Weather, Vec<Timestamp>, Radio),
    chance: &mut Rng,
) {
    let mut sensors = Sensors {
        weather: weather.clone(),
        twist,
        leakage: 1.5 + 1.5 * chance.f64(),
        lean: 0.2 + 1.2 * chance.f64(),
        signal: -70.0 - 25.0 * chance.f64(),
        lamp_w: 50.0 + 60.0 * chance.f64(),
        stuck: None,
        is_loose: false,
    };
    let span = Span::of(START, DAY * DAYS);
    let reports = Reports { at_once, radio, jitter: MINUTE / 2, ..Reports::every(span, EVERY, chance.u64(..)) };
    let messages = reports.of(move |at, chance| sensors.read(at, chance));
    let facts = Device { id, parent, interval: Some(EVERY), ..Device::default() };
    scenario.senders.push(Sender { facts, profile: "json-pole", points: POINTS.to_vec(), messages });
}

/// The sensors of a pole.
struct Sensors {
    weather: Weather,
    twist: Option<(Twist, Span)>,
    leakage: f64,
    lean: f64,
    signal: f64,
    lamp_w: f64,
    stuck: Option<f64>,
    is_loose: bool,
}

impl Sensors {
    fn read(&mut self, at: Timestamp, chance: &mut Rng) -> Vec<(&'static str, Said)> {
        let mut noise = |spread: f64| spread * (chance.f64() + chance.f64() + chance.f64() - 1.5) * 2.0;
        let now = self.twist.filter(|(_, span)| span.has(at));
        let twist = now.map(|(twist, _)| twist);
        let since = now.map_or(0.0, |(_, span)| at.since(span.from).as_secs_f64());
        let (wet, is_dark) = (self.weather.wetness(at), is_night(at));
        let is_stormy = self.weather.storms.iter().any(|storm| storm.has(at));
        let leakage = self.leakage * (1.0 + 1.8 * wet) + if is_dark { 0.8 } else { 0.0 } + noise(0.15);
        let sway = if is_stormy { 0.5 } else { 0.05 };
        let mut lean = self.lean + noise(sway);
        let mut air = 25.0 + 8.0 * day_wave(at) + noise(0.3);
        let mut volt = 228.0 + noise(2.0);
        let (mut burns, mut share) = (is_dark, 1.0);
        let (mut extra, mut depth, mut is_open, mut is_in_cabinet, mut fade) = (0.0, 0.0, false, false, 0.0);
        match twist {
            Some(Twist::Leakage(by)) => extra = by,
            Some(Twist::LeakageInWater(by)) => (extra, depth) = (by, 180.0),
            Some(Twist::Water(height)) => depth = height,
            Some(Twist::Lean(by)) => lean += by,
            Some(Twist::Leaning(by)) => lean += by * since / DAY.as_secs_f64(),
            Some(Twist::Sway(spread)) => lean += noise(spread),
            Some(Twist::Door) => is_open = true,
            Some(Twist::LooseDoor) => {
                self.is_loose = !self.is_loose;
                is_open = self.is_loose;
            }
            Some(Twist::CabinetWater) => is_in_cabinet = true,
            Some(Twist::Fire(by)) => air = (air + by * since / 60.0).min(110.0),
            Some(Twist::Sun(by)) => air += by,
            Some(Twist::StuckThermometer) => air = *self.stuck.get_or_insert((air * 10.0).round() / 10.0),
            Some(Twist::SwitchedFeeder) if !is_dark => volt = 0.0,
            Some(Twist::Fading(by)) => fade = by * since / DAY.as_secs_f64(),
            Some(Twist::LampPower(of)) => share = of,
            Some(Twist::LampByDay) => burns = true,
            Some(Twist::SwitchedFeeder | Twist::NoMonitor | Twist::Silent) | None => {}
        }
        let tenth = |number: f64| Said::Number((number * 10.0).round() / 10.0);
        let power = if burns && volt > 100.0 { self.lamp_w * share + noise(0.5) } else { 0.4 };
        let monitor = if twist == Some(Twist::NoMonitor) { Said::Invalid } else { tenth((leakage + extra).max(0.0)) };
        vec![
            ("leakage_ma", monitor),
            ("tilt_deg", tenth(lean.abs())),
            ("door_open", Said::Flag(is_open)),
            ("lamp_on", Said::Flag(is_dark)),
            ("water_present", Said::Flag(depth > 30.0)),
            ("water_depth_mm", Said::Number(depth)),
            ("cabinet_water", Said::Flag(is_in_cabinet)),
            ("humidity_percent", tenth((55.0 + 30.0 * wet + noise(2.0)).min(93.0))),
            ("voltage_v", tenth(volt)),
            ("active_power_w", tenth(power.max(0.0))),
            ("temperature_c", tenth(air)),
            ("signal_dbm", Said::Number((self.signal - fade + noise(2.0)).round())),
        ]
    }
}

/// Six poles on a feeder: it goes off, and all of them are silent together, which is one case.
fn feeder(scenario: &mut Scenario, round: usize, weather: &Weather, chance: &mut Rng) {
    let parent = format!("FD-{round}");
    let span = Span::of(START.plus(DAY * CALM_DAYS + HOUR * chance.u32(0..240)), HOUR * 5);
    let mut devices = Vec::new();
    for number in 0..6 {
        let id = format!("SF-{round}-{number}");
        let radio = Radio { outages: vec![span], delay_max: Duration::from_secs(5), ..Radio::default() };
        put_up(scenario, id.clone(), parent.clone(), None, (weather, Vec::new(), radio), chance);
        devices.push(id);
    }
    scenario.events.push(Event {
        kind: "feeder without power",
        devices,
        any_of: vec!["silent"],
        also: vec!["outage"],
        from: span.from,
        due_by: span.from.plus(HOUR),
        until: span.until.plus(HOUR),
        wants: Wants::Case,
    });
}

/// Six poles on a circuit: three lamps are dark in one night, which is one case.
fn circuit(scenario: &mut Scenario, round: usize, weather: &Weather, chance: &mut Rng) {
    let parent = format!("CR-{round}");
    // After dusk.
    let from = START.plus(DAY * (CALM_DAYS + chance.u32(0..10)) + HOUR * 19 + MINUTE * chance.u32(0..300));
    let span = Span::of(from, DAY * 2);
    let mut devices = Vec::new();
    for number in 0..6 {
        let id = format!("SC-{round}-{number}");
        let twist = (number < 3).then_some((Twist::LampPower(0.01), span));
        let radio = Radio { delay_max: Duration::from_secs(5), ..Radio::default() };
        put_up(scenario, id.clone(), parent.clone(), twist, (weather, Vec::new(), radio), chance);
        devices.extend(twist.map(|_| id));
    }
    scenario.events.push(Event {
        kind: "three lamps of a circuit dark",
        devices,
        any_of: vec!["lamp_out"],
        also: vec!["circuit_out", "lamp_degraded"],
        from,
        due_by: from.plus(HOUR),
        until: span.until.plus(DAY),
        wants: Wants::Case,
    });
}

/// The meter of a lamp cabinet, whose second phase is lost once, and which sees motors start.
fn meter(scenario: &mut Scenario, round: usize, chance: &mut Rng) {
    let id = format!("EM-{round}");
    let every = MINUTE * 5;
    let lost = Span::of(START.plus(DAY * 20 + HOUR * chance.u32(0..200)), HOUR * 4);
    let dip = Span::of(START.plus(DAY * 5 + HOUR * chance.u32(0..200)), every * 2);
    scenario.events.push(Event {
        kind: "phase lost",
        devices: vec![id.clone()],
        any_of: vec!["phase_lost"],
        also: Vec::new(),
        from: lost.from,
        due_by: lost.from.plus(every * 3),
        until: lost.until.plus(HOUR),
        wants: Wants::Case,
    });
    let (devices, span) = (vec![id.clone()], Span { from: dip.from, until: dip.until.plus(HOUR) });
    scenario.traps.push(Trap { kind: "a motor starts", devices, conditions: Vec::new(), span });
    let messages = Reports::every(Span::of(START, DAY * DAYS), every, chance.u64(..)).of(move |at, chance| {
        let mut volt = |low: bool| Said::Number(if low { 0.4 } else { 226.0 + 8.0 * chance.f64() });
        let first = if dip.has(at) { Said::Number(188.0) } else { volt(false) };
        vec![("voltage_l1_v", first), ("voltage_l2_v", volt(lost.has(at))), ("voltage_l3_v", volt(false))]
    });
    let facts = Device { id, interval: Some(every), ..Device::default() };
    let points = vec!["voltage_l1_v", "voltage_l2_v", "voltage_l3_v"];
    scenario.senders.push(Sender { facts, profile: "chint-dtsu666", points, messages });
}
