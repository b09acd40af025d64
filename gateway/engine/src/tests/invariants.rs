//! What must hold after every step, whatever people, platforms, sources, clocks and configurations do; and that a
//! restart at any point changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::site::LEDGER;
use kerbside_model::{
    Alarm, AlarmState, Case, CaseState, Delivery, DeliveryOutcome, Effects, Input, MaskKind, OperatorAction, OutboxRow,
    OutboxTask, PlatformStatus, ServiceState, Site, SourceStatus, Suppression, Timestamp,
};
use proptest::prelude::*;

use super::support::*;
use crate::{ENGINE_VERSION, Engine};

/// What may happen. Numbers choose among the cases, rows and alarms that are there by then.
#[derive(Clone, Debug)]
enum Event {
    Frame { device: u8, payload: String, lag: i64, time: Option<i64>, retained: bool },
    Tick,
    Sign(usize),
    Move(usize, CaseState),
    Acknowledge(usize),
    Mask { device: u8, kind: MaskKind, from: i64, until: i64 },
    Unmask(u8),
    Deliver { row: usize, outcome: u8 },
    Platform(usize, CaseState),
    Source(bool),
    Site(u8),
    SetBack(i64),
}

fn payloads() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any::<bool>().prop_map(|open| format!(r#""cover_open":{open}"#)),
        2 => (0..60).prop_map(|tilt| format!(r#""tilt_deg":{tilt}"#)),
        2 => (0..600).prop_map(|level| format!(r#""level_mm":{level}"#)),
        2 => (0..60, any::<bool>()).prop_map(|(leak, wet)| format!(r#""leakage_ma":{leak},"water_present":{wet}"#)),
        1 => any::<bool>().prop_map(|wet| format!(r#""water_present":{wet}"#)),
        1 => Just(r#""cover_open":"maybe","water_present":"?""#.to_owned()),
        1 => Just("]".to_owned()),
    ]
}

fn events() -> impl Strategy<Value = Event> {
    let states = prop::sample::select(CaseState::ALL.to_vec());
    let kinds = prop::sample::select(vec![MaskKind::Maintenance, MaskKind::Permit]);
    prop_oneof![
        20 => (1..4_u8, payloads(), 0..30_i64, prop::option::of(-40_000..200_i64), prop::bool::weighted(0.05))
            .prop_map(|(device, payload, lag, time, retained)| Event::Frame { device, payload, lag, time, retained }),
        4 => Just(Event::Tick),
        2 => any::<usize>().prop_map(Event::Sign),
        3 => (any::<usize>(), states.clone()).prop_map(|(case, state)| Event::Move(case, state)),
        1 => any::<usize>().prop_map(Event::Acknowledge),
        3 => (1..4_u8, kinds, -600..2_000_i64, 0..8_000_i64)
            .prop_map(|(device, kind, from, until)| Event::Mask { device, kind, from, until }),
        1 => (1..4_u8).prop_map(Event::Unmask),
        3 => (any::<usize>(), 0..4_u8).prop_map(|(row, outcome)| Event::Deliver { row, outcome }),
        3 => (any::<usize>(), states).prop_map(|(case, state)| Event::Platform(case, state)),
        2 => any::<bool>().prop_map(Event::Source),
        3 => (0..7_u8).prop_map(Event::Site),
        1 => (0..30_000_i64).prop_map(Event::SetBack),
    ]
}

fn histories() -> impl Strategy<Value = Vec<(i64, Event)>> {
    let gaps = prop_oneof![4 => 0..60_i64, 3 => 0..1_200_i64, 1 => 0..100_000_i64];
    prop::collection::vec((gaps, events()), 1..80)
}

/// Small changes of the street and its profile.
fn site(variant: u8, platform: &str) -> Arc<Site> {
    let mut facts = facts();
    facts.cases.platform = platform.to_owned();
    let mut changed = profile();
    match variant {
        1 => facts.devices[2].service = ServiceState::InService,
        2 => drop(facts.devices.remove(0)),
        3 => changed.detectors[1].hold = Duration::from_secs(60),
        4 => {
            changed.conditions.remove(3);
            changed.detectors.remove(4);
            changed.detectors[4].condition = 3;
            changed.detectors[5].condition = 4;
        }
        5 => facts.cases.platform = "another".to_owned(),
        6 => changed.points.swap(0, 1),
        _ => {}
    }
    if variant == 6 {
        changed.detectors[0].point = Some(1);
        changed.detectors[1].point = Some(0);
        changed.detectors[2].clear_hold = Duration::from_secs(100);
        changed.detectors[2].hold = Duration::from_secs(100);
    }
    facts.profiles = vec![Arc::new(changed)];
    Arc::new(Site::new(facts))
}

/// Turns what happens into inputs, with the ids that came out so far.
struct Street {
    platform: &'static str,
    cases: Vec<String>,
    alarms: Vec<String>,
    rows: Vec<OutboxRow>,
}

impl Street {
    fn new(platform: &'static str) -> Street {
        Street { platform, cases: Vec::new(), alarms: Vec::new(), rows: Vec::new() }
    }

    fn learn(&mut self, effects: &Effects) {
        for case in &effects.cases {
            if !self.cases.contains(&case.id) {
                self.cases.push(case.id.clone());
            }
        }
        for alarm in &effects.alarms {
            if !self.alarms.contains(&alarm.id) {
                self.alarms.push(alarm.id.clone());
            }
        }
        self.rows.extend(effects.outbox.iter().cloned());
    }

    fn input(&self, now: Timestamp, event: &Event) -> Option<Input> {
        let chosen = |from: &[String], number: usize| from.get(number % from.len().max(1)).cloned();
        let by = || "王".to_owned();
        let at = |seconds: i64| Timestamp(now.0 + seconds * 1_000);
        Some(match event {
            Event::Tick | Event::SetBack(_) => return None,
            Event::Frame { device, payload, lag, time, retained } => {
                let received_at = at(-lag);
                let time = time.map(|time| format!(r#","ts":{}"#, received_at.0 + time * 1_000)).unwrap_or_default();
                let mut input = frame(&format!("MH-{device}"), received_at, &format!("{{{payload}{time}}}"));
                if let Input::Frame(frame) = &mut input {
                    frame.retained = *retained;
                }
                input
            }
            Event::Sign(case) => {
                Input::Operator(OperatorAction::Sign { case_id: chosen(&self.cases, *case)?, by: by() })
            }
            Event::Move(case, to) => Input::Operator(OperatorAction::MoveCase {
                case_id: chosen(&self.cases, *case)?,
                to: *to,
                by: by(),
                note: String::new(),
            }),
            Event::Acknowledge(alarm) => {
                Input::Operator(OperatorAction::Acknowledge { alarm_id: chosen(&self.alarms, *alarm)?, by: by() })
            }
            Event::Mask { device, kind, from, until } => Input::Operator(OperatorAction::Mask {
                device: format!("MH-{device}"),
                kind: *kind,
                from: at(*from),
                until: at(*until),
                by: by(),
                reason: String::new(),
            }),
            Event::Unmask(device) => {
                Input::Operator(OperatorAction::Unmask { device: format!("MH-{device}"), by: by() })
            }
            Event::Deliver { row, outcome } => {
                let row = self.rows.get(row % self.rows.len().max(1))?;
                let is_case = matches!(row.task, OutboxTask::OpenCase(_));
                let outcome = match outcome {
                    0 => DeliveryOutcome::Attempting,
                    1 => DeliveryOutcome::Delivered { platform_id: is_case.then(|| "7".to_owned()) },
                    2 => DeliveryOutcome::Delivered { platform_id: None },
                    _ => DeliveryOutcome::Refused { reason: "no".to_owned() },
                };
                let (row_id, case_id, target) = (row.id.clone(), row.case_id.clone(), row.target.clone());
                Input::Delivery(Delivery { row_id, case_id, target, outcome })
            }
            Event::Platform(case, state) => Input::Platform(PlatformStatus {
                case_id: chosen(&self.cases, *case)?,
                platform: "city".to_owned(),
                platform_id: "7".to_owned(),
                state: *state,
                note: String::new(),
            }),
            Event::Source(connected) => {
                Input::Source(SourceStatus { source: Arc::from("city"), connected: *connected })
            }
            Event::Site(variant) => Input::Site(site(*variant, self.platform)),
        })
    }
}

/// Steps as the pipeline would commit them, each with what it did.
fn live(history: &[(i64, Event)], platform: &'static str) -> (Engine, Vec<(Timestamp, Vec<Input>, Effects)>) {
    let mut engine = Engine::new(site(0, platform));
    let mut street = Street::new(platform);
    let mut now = START;
    let mut steps = Vec::new();
    let mut inputs = vec![Input::Site(site(0, platform))];
    for (gap, event) in history {
        let effects = engine.step(now, &inputs);
        street.learn(&effects);
        check(&engine, now, &inputs, &effects);
        steps.push((now, inputs, effects));
        now = Timestamp(now.0 + gap * 1_000);
        if let Event::SetBack(seconds) = event {
            // The pipeline hands the site in again when the clock was set.
            now = Timestamp(now.0 - seconds * 1_000);
            inputs = vec![Input::Site(Arc::clone(engine.site()))];
        } else {
            inputs = street.input(now, event).into_iter().collect();
        }
    }
    (engine, steps)
}

fn check(engine: &Engine, now: Timestamp, inputs: &[Input], effects: &Effects) {
    let mut open = BTreeSet::new();
    for case in engine.cases.all() {
        if !case.state.is_final() {
            assert!(open.insert((&case.device, &case.condition)), "two cases for one thing: {case:?}");
        }
    }
    let site = engine.site();
    for (position, (device, state)) in site.devices().iter().zip(&engine.devices).enumerate() {
        let index = kerbside_model::DeviceIndex(u32::try_from(position).unwrap());
        let profile = site.profile_of(device);
        for (condition, slot) in state.conditions.iter() {
            let mut detectors = profile.detectors.iter().zip(&state.detectors);
            let is_held =
                detectors.any(|(detector, slot)| usize::from(detector.condition) == condition && slot.is_active());
            assert_eq!(is_held || slot.carried, slot.alarm.is_some(), "{} {condition} {slot:?}", device.id);
            let Some(alarm) = &slot.alarm else { continue };
            match &alarm.case_id {
                Some(case_id) => {
                    let case = engine.cases.get(case_id).unwrap_or_else(|| panic!("no case of {alarm:?}"));
                    assert_eq!(
                        case.state.is_final(),
                        alarm.suppressed == Some(Suppression::Void),
                        "{alarm:?} {case:?}"
                    );
                    assert!(case.standing, "{alarm:?} {case:?}");
                }
                None => {
                    let reason = engine.suppression(site, index, condition, now);
                    assert!(reason.is_some() && alarm.suppressed.is_some(), "nobody takes care of {alarm:?}");
                }
            }
        }
    }
    let is_site = inputs.iter().any(|input| matches!(input, Input::Site(_)));
    for alarm in effects.alarms.iter().filter(|alarm| alarm.state == AlarmState::Cleared) {
        assert!(is_site || is_told(site, alarm, effects), "cleared without good data: {alarm:?}");
    }
}

/// Whether a good and live reading of a point that the alarm's condition depends on came in the step.
fn is_told(site: &Site, alarm: &Alarm, effects: &Effects) -> bool {
    effects.observations.iter().any(|(observation, readings)| {
        let device = site.device(observation.device);
        let profile = site.profile_of(device);
        let depends = |point: u16| {
            profile.detectors.iter().any(|detector| {
                let is_its = profile.conditions[usize::from(detector.condition)].name.as_ref() == alarm.condition;
                let mut guards = detector.when.iter().map(|guard| guard.point);
                is_its && (detector.point == Some(point) || guards.any(|guard| guard == point))
            })
        };
        let mut points = readings.iter().filter(|reading| reading.quality.is_good()).map(|reading| reading.point);
        device.id == alarm.device && !observation.late && (alarm.condition == "silent" || points.any(depends))
    })
}

/// Everything that came out, but for the observations.
fn told(effects: &Effects) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?}",
        effects.alarms, effects.cases, effects.case_events, effects.outbox, effects.outbox_changes, effects.audit
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_restart_at_any_point_changes_nothing(
        history in histories(),
        platform in prop::sample::select(vec![LEDGER, "city"]),
        snapshot_at in any::<usize>(),
    ) {
        let (end, steps) = live(&history, platform);
        let split = snapshot_at % steps.len();
        let mut engine = Engine::new(site(0, platform));
        for (position, (now, inputs, effects)) in steps.iter().enumerate() {
            let is_stored = !inputs.is_empty() || effects.is_urgent() || !effects.audit.is_empty();
            if !is_stored && position >= split {
                continue;
            }
            let again = engine.step(*now, inputs);
            prop_assert_eq!(told(effects), told(&again), "step {}", position);
            if position == split {
                engine = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &engine.snapshot()).unwrap();
            }
        }
        prop_assert_eq!(end.cases.all().collect::<Vec<_>>(), engine.cases.all().collect::<Vec<_>>());
    }

    #[test]
    fn from_the_tables_nothing_is_lost_or_opened_twice(
        history in histories(),
        platform in prop::sample::select(vec![LEDGER, "city"]),
    ) {
        let (mut end, steps) = live(&history, platform);
        let (mut alarms, mut cases) = (BTreeMap::new(), BTreeMap::new());
        for (_, _, effects) in &steps {
            alarms.extend(effects.alarms.iter().map(|alarm| (alarm.id.clone(), alarm.clone())));
            cases.extend(effects.cases.iter().map(|case| (case.id.clone(), case.clone())));
        }
        alarms.retain(|_, alarm| alarm.state != AlarmState::Cleared);
        cases.retain(|_, case| !case.state.is_final() || case.standing);
        let kept: Vec<_> = end.cases.all().cloned().collect();
        prop_assert_eq!(&cases.values().cloned().collect::<Vec<_>>(), &kept, "the tables say what the engine does");
        let now = steps.last().map_or(START, |(now, _, _)| *now);
        let site = Arc::clone(end.site());
        // Masks are in the snapshot only: after an upgrade they are gone for both.
        end.devices.iter_mut().for_each(|state| state.masks.clear());
        let inputs = [Input::Site(Arc::clone(&site))];
        let expected = end.step(now, &inputs);
        let mut new = Engine::from_tables(
            Arc::clone(&site), alarms.into_values().collect(), cases.into_values().collect(), now,
        );
        let effects = new.step(now, &inputs);
        check(&new, now, &inputs, &effects);
        prop_assert_eq!(effects.counts.cases_opened, expected.counts.cases_opened);
        // A case that is done may be closed later than it would have been, and so may that of a link: its devices are
        // waited for anew.
        let open = |engine: &Engine| -> Vec<String> {
            let is_open = |case: &&Case| {
                !case.state.is_final() && case.state != CaseState::Done && case.condition != "source_down"
            };
            engine.cases.all().filter(is_open).map(|case| case.id.clone()).collect()
        };
        prop_assert_eq!(open(&new), open(&end));
    }
}
