//! How well the shipped level profile finds floods, and how rarely it takes something else for one.
//!
//! Floods are series of depths: made ones here, and with `KERBSIDE_FLOODNET=FOLDER` and `--ignored` those that FloodNet
//! measured in New York (`flood-events.csv` of NYC Open Data, unpacked, in the folder). docs/benchmarks.md has the figures.
//!
//! `KERBSIDE_SEED` gives other months of noise, `KERBSIDE_NOISE=2` twice the noise of the sensor, `KERBSIDE_LOSS=0.2` loses
//! a fifth of the readings: what the figures are worth shows when they are shaken.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod street;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kerbside_engine::Engine;
use kerbside_engine::rehearsal::Rehearsal;
use kerbside_model::document::Problems;
use kerbside_model::inventory::Device;
use kerbside_model::profile::{Profile, Slot, parse_profile_text};
use kerbside_model::{Input, Timestamp, Value};

use street::{Flood, LABELLED, NOISE_CLASSES, Noise};

/// Depths of the grades, mm: watch level, and where a road is closed.
const WATCH_MM: f64 = 150.0;
const CLOSE_MM: f64 = 270.0;
/// An announcement that leaves less time than this is none.
const LEAD_MIN: Duration = Duration::from_secs(180);
const START: Timestamp = Timestamp(1_767_225_600_000);
/// How often each flood is sampled, each time from another moment on.
const PHASES: u64 = 12;
const MONTH: Duration = Duration::from_secs(30 * 86_400);
const MINUTE: u64 = 60;

fn profile() -> Profile {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device-profiles/json-level.yaml");
    parse_profile_text("json-level.yaml", &std::fs::read_to_string(file).unwrap(), &Problems::default()).unwrap()
}

/// How much worse than usual sensors and radios are, and where the chance of them begins.
#[derive(Clone, Copy, Debug)]
struct Street {
    noise: f64,
    loss: f64,
    seed: u64,
}

impl Street {
    const USUAL: Street = Street { noise: 1.0, loss: 0.0, seed: 1 };

    /// What the environment asks for.
    fn asked_for() -> Street {
        let number = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        Street {
            noise: number("KERBSIDE_NOISE").map_or(1.0, |text| text.parse().unwrap()),
            loss: number("KERBSIDE_LOSS").map_or(0.0, |text| text.parse().unwrap()),
            seed: number("KERBSIDE_SEED").map_or(1, |text| text.parse().unwrap()),
        }
    }

    /// What the sensor adds to a depth; nothing when the reading is lost.
    fn noise(self, chance: &mut fastrand::Rng) -> Option<f64> {
        let noise = self.noise * street::floor_noise(chance);
        (self.loss == 0.0 || chance.f64() >= self.loss).then_some(noise)
    }
}

/// A sensor in the street, under the shipped rules.
struct Sensor {
    engine: Engine,
    rehearsal: Rehearsal,
    level: u16,
    /// When which condition was raised.
    raised: Vec<(Timestamp, String)>,
}

impl Sensor {
    fn new(profile: &Profile, interval: Duration) -> Sensor {
        let level = u16::try_from(profile.point_index("level_mm").unwrap()).unwrap();
        let device =
            Device { id: "s".to_owned(), address: "s".to_owned(), interval: Some(interval), ..Device::default() };
        let rehearsal = Rehearsal::new(profile, &[level], vec![device]);
        let mut engine = Engine::new(Arc::clone(rehearsal.site()));
        engine.step(START, &[Input::Site(Arc::clone(rehearsal.site()))]);
        Sensor { engine, rehearsal, level, raised: Vec::new() }
    }

    fn reads(&mut self, at: Timestamp, depth_mm: f64) {
        // Sensors tell whole millimetres.
        let slot = Slot::Read(Value::Number(depth_mm.round()));
        let frame = self.rehearsal.frame("s", at, &[(self.level, &slot)]).unwrap();
        let effects = self.engine.step(at, &[Input::Frame(frame)]);
        for alarm in effects.alarms.iter().filter(|alarm| alarm.opened_at == alarm.updated_at) {
            self.raised.push((alarm.opened_at, alarm.condition.clone()));
        }
    }

    fn first(&self, condition: &str) -> Option<Timestamp> {
        self.raised.iter().find(|(_, raised)| raised == condition).map(|(at, _)| *at)
    }

    fn count(&self, condition: &str) -> usize {
        self.raised.iter().filter(|(_, raised)| raised == condition).count()
    }
}

/// What became of floods at one cadence.
#[derive(Debug, Default)]
struct Score {
    floods: usize,
    alarmed: usize,
    /// From the crossing of the watch level to the alarm, in seconds.
    delays: Vec<f64>,
    /// Readings beyond the watch level before the alarm, without the one that raised it.
    waited: Vec<f64>,
    closing: usize,
    announced: usize,
    /// From the announcement to the level at which roads are closed, in seconds; of those that were announced.
    leads: Vec<f64>,
}

fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}

fn score(profile: &Profile, floods: &[Flood], interval: Duration, world: Street) -> Score {
    let mut score = Score::default();
    let mut noise = fastrand::Rng::with_seed(world.seed);
    for flood in floods {
        let watch_at = flood.reaches(WATCH_MM);
        let close_at = flood.reaches(CLOSE_MM);
        let Some(watch_at) = watch_at else { continue };
        for phase in 0..PHASES {
            let mut sensor = Sensor::new(profile, interval);
            let dry = 6.0 * interval.as_secs_f64();
            let mut after = interval.as_secs_f64() * phase as f64 / PHASES as f64;
            let mut beyond = Vec::new();
            while after < flood.seconds() + 2.0 * dry {
                let depth = flood.depth(after - dry);
                let at = START.plus(Duration::from_secs_f64(after));
                if let Some(noise) = world.noise(&mut noise) {
                    sensor.reads(at, depth + noise);
                }
                if depth >= WATCH_MM {
                    beyond.push(at);
                }
                after += interval.as_secs_f64();
            }
            let moment = |seconds: f64| START.plus(Duration::from_secs_f64(seconds + dry));
            score.floods += 1;
            if let Some(raised) = sensor.first("surcharged") {
                score.alarmed += 1;
                score.delays.push(raised.since(moment(watch_at)).as_secs_f64());
                score.waited.push(beyond.iter().filter(|at| **at < raised).count() as f64);
            }
            if let Some(close_at) = close_at {
                score.closing += 1;
                let lead = sensor.first("surging").map(|raised| moment(close_at).since(raised));
                score.announced += usize::from(lead.is_some_and(|lead| lead >= LEAD_MIN));
                score.leads.extend(lead.filter(|lead| !lead.is_zero()).map(|lead| lead.as_secs_f64()));
            }
        }
    }
    score
}

/// False alarms (floods, announcements) of each class of noise alone and of all together, in a number of sensor-months.
fn false_alarms(
    profile: &Profile,
    interval: Duration,
    months: usize,
    classes: &[Noise],
    world: Street,
) -> (usize, usize) {
    let (mut floods, mut announcements) = (0, 0);
    for month in 0..months {
        let mut chance = fastrand::Rng::with_seed(month as u64 + world.seed);
        let happenings = street::month_of_noise(&mut chance, classes);
        let mut sensor = Sensor::new(profile, interval);
        let mut after = Duration::ZERO;
        while after < MONTH {
            let depth = street::depth_of_noise(&happenings, after.as_secs_f64(), &mut chance);
            if let Some(noise) = world.noise(&mut chance) {
                sensor.reads(START.plus(after), depth + noise);
            }
            after += interval;
        }
        floods += sensor.count("surcharged");
        announcements += sensor.count("surging");
    }
    (floods, announcements)
}

fn report(profile: &Profile, floods: &[Flood], months: usize, world: Street) -> String {
    let mut text = format!("{} floods, {PHASES} phases each\n", floods.len());
    for minutes in [1, 5, 15] {
        let interval = Duration::from_secs(minutes * MINUTE);
        let mut score = score(profile, floods, interval, world);
        let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
        text += &format!(
            "{minutes:>2} min: beyond 15 cm {} times, alarmed {:.1} %, median delay {:.1} min, 95 % within {:.1} min \
             ({:.0} readings beyond it before); beyond 27 cm {} times, announced 3 min before {:.1} %, median lead {:.1} min\n",
            score.floods,
            percent(score.alarmed, score.floods),
            median(&mut score.delays) / 60.0,
            quantile(&mut score.delays, 0.95) / 60.0,
            median(&mut score.waited),
            score.closing,
            percent(score.announced, score.closing),
            median(&mut score.leads) / 60.0,
        );
        if months == 0 {
            continue;
        }
        let per_month = |classes: &[Noise]| {
            let (floods, announcements) = false_alarms(profile, interval, months, classes, world);
            (floods as f64 / months as f64, announcements as f64 / months as f64)
        };
        for (name, classes) in [("all labelled", &LABELLED[..]), ("and debris", &NOISE_CLASSES[..])] {
            let (floods, announcements) = per_month(classes);
            text += &format!(
                "        {name}: {floods:.2} false floods and {announcements:.2} false announcements a sensor-month\n"
            );
        }
        for class in NOISE_CLASSES {
            let (floods, announcements) = per_month(&[class]);
            let name = format!("{class:?}");
            text += &format!("          {name:<14} {floods:.2}  {announcements:.2}\n");
        }
    }
    text
}

#[test]
fn made_floods_are_told_at_once_and_noise_is_none() {
    let profile = profile();
    let floods: Vec<Flood> = (0..40).map(Flood::made).collect();
    let minute = Duration::from_secs(MINUTE);
    let mut score = score(&profile, &floods, minute, Street::USUAL);
    let told = format!("{score:?}");
    assert!(score.floods >= 12 * 20 && score.alarmed * 100 >= score.floods * 99, "{told}");
    assert!(median(&mut score.delays) <= MINUTE as f64, "{told}");
    assert!(score.closing >= 12 * 8 && score.announced * 2 >= score.closing, "{told}");
    let (floods, announcements) = false_alarms(&profile, minute, 6, &LABELLED, Street::USUAL);
    assert!(floods < 6 && announcements < 6, "{floods} floods, {announcements} announcements in 6 sensor-months");
}

#[test]
fn a_restart_after_any_reading_changes_nothing_of_what_is_found() {
    let profile = profile();
    let minute = Duration::from_secs(MINUTE);
    let mut chance = fastrand::Rng::with_seed(7);
    let happenings = street::month_of_noise(&mut chance, &NOISE_CLASSES);
    let (mut plain, mut restarted) = (Sensor::new(&profile, minute), Sensor::new(&profile, minute));
    let flood = Flood::made(3);
    for number in 0..3_000_u32 {
        let after = minute * number;
        let noise = street::depth_of_noise(&happenings, after.as_secs_f64(), &mut chance);
        let depth = noise.max(flood.depth(after.as_secs_f64() - 60_000.0));
        plain.reads(START.plus(after), depth);
        let snapshot = restarted.engine.snapshot();
        let site = Arc::clone(restarted.engine.site());
        restarted.engine = Engine::restore(site, kerbside_engine::ENGINE_VERSION, &snapshot).unwrap();
        restarted.reads(START.plus(after), depth);
    }
    assert!(plain.count("surcharged") > 0, "{:?}", plain.raised);
    assert_eq!(plain.raised, restarted.raised);
    assert_eq!(plain.engine.snapshot(), restarted.engine.snapshot());
}

#[test]
#[ignore = "needs the measured floods in the folder that KERBSIDE_FLOODNET names"]
fn measured_floods() {
    let folder = PathBuf::from(std::env::var("KERBSIDE_FLOODNET").expect("KERBSIDE_FLOODNET names a folder"));
    let all = street::measured(&folder);
    let months = std::env::var("KERBSIDE_MONTHS").ok().and_then(|months| months.parse().ok()).unwrap_or(30);
    let world = Street::asked_for();
    println!("{}", report(&profile(), &all, months, world));
    let rain: Vec<Flood> = all.into_iter().filter(|flood| !flood.is_tidal).collect();
    println!("without sensors under the tide:\n{}", report(&profile(), &rain, 0, world));
}
