//! A link that is down is one incident with one case; rain that is known of makes a storm of the first flood.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::incident::{IncidentKind, RainLevel, RainTopic};
use kerbside_model::site::{LEDGER, SiteFacts};
use kerbside_model::{
    CaseState, Effects, Input, NoticeReason, OperatorAction, OutboxTask, ServiceState, Site, SourceStatus, Suppression,
};

use super::support::*;
use crate::{ENGINE_VERSION, Engine, Incident};

const CALM: &str = r#"{"level_mm":10}"#;
const FULL: &str = r#"{"level_mm":500}"#;

fn street(count: usize) -> SiteFacts {
    let devices = (0..count).map(|number| device(&format!("D-{number}"), ServiceState::InService));
    SiteFacts { devices: devices.collect(), ..facts() }
}

fn link(engine: &mut Engine, seconds: i64, connected: bool) -> Effects {
    engine.step(at(seconds), &[Input::Source(SourceStatus { source: Arc::from("city"), connected })])
}

fn open(engine: &Engine) -> Vec<Incident> {
    engine.incidents().into_iter().filter(|incident| incident.ended_at.is_none()).collect()
}

/// `reason: English explanation` of the messages to the duty.
fn told(effects: &Effects) -> Vec<String> {
    let mut told = Vec::new();
    for row in &effects.outbox {
        if let OutboxTask::Notify(notice) = &row.task {
            told.push(format!("{:?}: {}", notice.reason, notice.report.explanation));
        }
    }
    told
}

#[test]
fn a_lost_link_is_one_case_in_the_ledger_and_ends_with_a_summary() {
    let mut facts = street(4);
    facts.cases.platform = "city-platform".to_owned();
    facts.devices[3].service = ServiceState::Commissioning;
    let mut engine = engine(facts);
    (0..3).for_each(|number| drop(send(&mut engine, &format!("D-{number}"), 0, CALM)));
    link(&mut engine, 100, false);
    assert_eq!((tick(&mut engine, 399).cases.len(), open(&engine)), (0, Vec::new()));
    let effects = tick(&mut engine, 400);
    let case = &effects.cases[0];
    assert_eq!(
        (case.device.as_str(), case.condition.as_str(), case.platform.as_str()),
        ("city", "source_down", LEDGER)
    );
    let down = "the link of source city is down: 3 devices not heard, nobody knows what happens there";
    assert_eq!(told(&effects), [format!("Opened: {down}")]);
    let incident = &open(&engine)[0];
    assert_eq!((incident.kind, incident.began_at, incident.opened_at), (IncidentKind::Source, at(100), at(400)));
    assert_eq!((&incident.devices, incident.peak), (&vec!["D-0".to_owned(), "D-1".to_owned(), "D-2".to_owned()], 3));
    // A day of silence is nobody's: we are deaf. A snapshot in the middle changes nothing.
    let mut engine = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &engine.snapshot()).unwrap();
    assert_eq!(tick(&mut engine, 86_400).alarms, []);
    link(&mut engine, 86_500, true);
    send(&mut engine, "D-0", 86_510, CALM);
    tick(&mut engine, 86_565);
    assert_eq!(open(&engine)[0].standing, ["D-1", "D-2"], "one is heard again");
    send(&mut engine, "D-1", 86_570, CALM);
    // Two periods of ten minutes.
    let effects = tick(&mut engine, 86_500 + 1_260);
    let over = "the link is back after 1 d: 2 of 3 devices heard again; still not heard: D-2";
    assert_eq!(told(&effects), [format!("Over: {over}")]);
    assert_eq!((open(&engine).len(), &engine.incidents()[0].standing[..]), (0, &["D-2".to_owned()][..]));
    assert_eq!(engine.incidents()[0].alarms, Vec::<String>::new());
    // The one that stays away has been silent since the link is back.
    let effects = tick(&mut engine, 86_500 + 1_800);
    let silent: Vec<&str> = effects.alarms.iter().map(|alarm| alarm.device.as_str()).collect();
    assert_eq!(silent, ["D-2", "D-3"], "D-3 is not in service yet, and was not counted");
    assert_eq!(engine.next_timer().map(|timer| timer > at(86_500 + 1_800)), Some(true));
}

#[test]
fn the_incident_of_a_link_ends_as_soon_as_all_are_heard_again() {
    let mut engine = engine(street(2));
    link(&mut engine, 100, false);
    tick(&mut engine, 400);
    link(&mut engine, 500, true);
    (0..2).for_each(|number| drop(send(&mut engine, &format!("D-{number}"), 510, CALM)));
    let effects = tick(&mut engine, 560);
    let over = "the link is back after 7 min 40 s: 2 of 2 devices heard again; still not heard: none";
    assert_eq!(told(&effects), [format!("Over: {over}")]);
    assert!(engine.incidents.losses.is_empty() && engine.incidents.records.is_empty());
}

#[test]
fn a_link_that_flaps_or_has_no_devices_calls_nobody() {
    let mut engine = engine(street(2));
    for round in 0..20 {
        link(&mut engine, 1_000 * round, false);
        link(&mut engine, 1_000 * round + 299, true);
    }
    assert_eq!((engine.incidents(), engine.open_cases()), (Vec::new(), 0));
    // Not in service, or behind another source.
    let mut facts = street(2);
    facts.devices[0].service = ServiceState::Commissioning;
    facts.devices[1].source = Some("other".to_owned());
    let mut engine = super::support::engine(facts);
    link(&mut engine, 100, false);
    let effects = tick(&mut engine, 90_000);
    assert_eq!((engine.incidents(), effects.counts.incidents_opened), (Vec::new(), 0));
}

#[test]
fn a_link_that_goes_again_while_its_devices_are_waited_for_stays_one_incident() {
    let mut engine = engine(street(2));
    link(&mut engine, 100, false);
    let first = tick(&mut engine, 400).cases[0].id.clone();
    link(&mut engine, 500, true);
    link(&mut engine, 520, false);
    let later = tick(&mut engine, 50_000);
    assert!(told(&later).iter().all(|line| line.starts_with("Escalated")), "{later:?}");
    assert_eq!((open(&engine).len(), open(&engine)[0].case_id.as_ref(), engine.open_cases()), (1, Some(&first), 1));
}

#[test]
fn a_gateway_that_starts_gives_a_link_its_time_and_a_source_that_is_taken_out_ends_its_incident() {
    let mut engine = engine(street(2));
    link(&mut engine, 100, false);
    let site = Arc::clone(engine.site());
    engine.step(at(5_000), &[Input::Site(Arc::clone(&site))]);
    assert_eq!(open(&engine), []);
    tick(&mut engine, 5_299);
    assert_eq!(open(&engine), []);
    tick(&mut engine, 5_300);
    assert_eq!(open(&engine).len(), 1);
    engine.step(at(6_000), &[Input::Site(site)]);
    assert_eq!(open(&engine).len(), 1, "a restart changes nothing of it");
    let site = Arc::new(Site::new(SiteFacts { sources: Vec::new(), ..street(2) }));
    let effects = engine.step(at(7_000), &[Input::Change { site, by: "wang".to_owned() }]);
    assert_eq!((open(&engine), told(&effects).len()), (Vec::new(), 1));
    assert_eq!(engine.next_timer(), engine.next_timer().filter(|timer| *timer > at(7_000)));
}

#[test]
fn after_an_upgrade_a_link_that_is_still_down_keeps_its_case_and_its_summary() {
    let mut old = engine(street(2));
    link(&mut old, 100, false);
    let cases = tick(&mut old, 400).cases;
    let site = Arc::clone(old.site());
    let mut new = Engine::from_tables(Arc::clone(&site), Vec::new(), cases, at(1_000));
    new.step(at(1_000), &[Input::Site(site)]);
    assert_eq!((open(&new).len(), open(&new)[0].began_at), (1, at(100)));
    link(&mut new, 1_001, false);
    let effects = tick(&mut new, 5_000);
    assert_eq!((effects.counts.cases_opened, open(&new).len(), new.open_cases()), (0, 1, 1));
    link(&mut new, 5_010, true);
    (0..2).for_each(|number| drop(send(&mut new, &format!("D-{number}"), 5_020, CALM)));
    let over = "Over: the link is back after 1 h 22 min: 2 of 2 devices heard again; still not heard: none";
    assert!(told(&tick(&mut new, 5_070)).contains(&over.to_owned()));
    assert_eq!(open(&new), []);
}

#[test]
fn devices_that_we_are_deaf_to_are_no_reason_to_call_a_silent_one_an_outage() {
    let mut facts = street(4);
    facts.devices.iter_mut().for_each(|device| device.parent = "FEEDER-1".to_owned());
    let other = kerbside_model::site::SourceRule { source: Arc::from("other"), ..facts.sources[0].clone() };
    facts.sources.push(other);
    (1..4).for_each(|number| facts.devices[number].source = Some("other".to_owned()));
    let mut engine = engine(facts);
    send(&mut engine, "D-0", 0, CALM);
    engine.step(at(10), &[Input::Source(SourceStatus { source: Arc::from("other"), connected: false })]);
    let effects = tick(&mut engine, 1_800);
    let silent: Vec<&str> = effects.alarms.iter().map(|alarm| alarm.device.as_str()).collect();
    assert_eq!(silent, ["D-0"]);
    let kinds: Vec<IncidentKind> = open(&engine).iter().map(|incident| incident.kind).collect();
    assert_eq!(kinds, [IncidentKind::Source], "and no outage of the feeder");
}

#[test]
fn the_case_of_an_outage_says_how_many_are_away_when_the_first_is_found() {
    let mut facts = street(5);
    facts.devices.iter_mut().for_each(|device| device.parent = "FEEDER-1".to_owned());
    let mut engine = engine(facts);
    (0..5).for_each(|number| drop(send(&mut engine, &format!("D-{number}"), number * 60, CALM)));
    let effects = tick(&mut engine, 1_800);
    assert_eq!(told(&effects), ["Opened: 5 devices on FEEDER-1 stopped reporting together"]);
    tick(&mut engine, 1_800 + 4 * 60);
    assert_eq!(open(&engine)[0].explanation, "5 devices on FEEDER-1 fell silent together, 5 are silent now");
    assert!(open(&engine)[0].explanation_zh.contains("5 台设备同时失联"), "{:?}", open(&engine));
}

#[test]
fn a_flood_that_stands_for_hours_stays_one_storm() {
    let mut engine = engine(street(8));
    (0..8).for_each(|number| drop(send(&mut engine, &format!("D-{number}"), 0, r#"{"level_mm":390}"#)));
    let mut opened = 0;
    for minute in 5..300 {
        let inputs: Vec<Input> =
            (0..8).map(|number| frame(&format!("D-{number}"), at(minute * 60 + number), FULL)).collect();
        opened += engine.step(at(minute * 60 + 10), &inputs).counts.cases_opened;
    }
    assert_eq!((opened, open(&engine).len(), open(&engine)[0].standing.len()), (3, 1, 8));
    // Five places dry up; what stands two hours later is no storm.
    (0..5).for_each(|number| drop(send(&mut engine, &format!("D-{number}"), 18_000, CALM)));
    (0..5).for_each(|number| drop(send(&mut engine, &format!("D-{number}"), 18_000 + 7_100, CALM)));
    tick(&mut engine, 18_000 + 7_199);
    assert_eq!(open(&engine).len(), 1);
    tick(&mut engine, 18_000 + 7_201);
    assert_eq!(open(&engine), []);
}

#[test]
fn an_alarm_after_the_case_of_its_incident_was_ended_opens_its_own_case() {
    let mut engine = engine(street(5));
    (0..5).for_each(|number| drop(send(&mut engine, &format!("D-{number}"), 0, r#"{"level_mm":390}"#)));
    for number in 0..4 {
        send(&mut engine, &format!("D-{number}"), 300 + number, FULL);
    }
    tick(&mut engine, 340);
    let storm = open(&engine)[0].case_id.clone().unwrap();
    let by = || "wang".to_owned();
    act(&mut engine, 350, OperatorAction::MoveCase { case_id: storm, to: CaseState::Void, by: by(), note: by() });
    assert_eq!(engine.open_cases(), 2, "of the first two");
    send(&mut engine, "D-4", 360, FULL);
    let effects = tick(&mut engine, 400);
    assert_eq!(effects.alarms.iter().filter(|alarm| alarm.case_id.is_some()).count(), 1, "{effects:?}");
    assert_eq!(engine.open_cases(), 3);
    // Those that had their say are not brought up again by a change of the configuration.
    let site = Arc::clone(engine.site());
    let effects = engine.step(at(500), &[Input::Change { site, by: by() }]);
    assert_eq!((effects.counts.cases_opened, engine.open_cases()), (0, 3));
}

fn rain_topic(level: Option<&str>) -> RainTopic {
    let path = |text| kerbside_model::profile::JsonPath::parse(text).unwrap();
    RainTopic {
        source: "city".to_owned(),
        topic: "t/rain".to_owned(),
        level: level.map(path),
        until: level.map(|_| path("until")),
        lasts: Duration::from_secs(3_600),
    }
}

#[test]
fn a_signal_on_a_topic_lasts_and_is_renewed_and_lifted() {
    let mut facts = street(2);
    facts.incidents.rain_topics = vec![rain_topic(None)];
    let mut engine = engine(facts);
    let effects = send(&mut engine, "rain", 10, "橙色");
    let signal = engine.rain_signal().unwrap();
    assert_eq!((signal.level, signal.until), (RainLevel::Orange, at(3_610)));
    assert_eq!((effects.audit.len(), effects.undecoded.len(), effects.counts.frames_decoded), (1, 0, 0));
    assert_eq!(effects.audit[0].by, "city");
    let effects = send(&mut engine, "rain", 600, "orange");
    assert_eq!((engine.rain_signal().unwrap().until, effects.audit.len()), (at(4_200), 0), "renewed");
    send(&mut engine, "rain", 700, "大风蓝色预警信号");
    assert_eq!(engine.rain_signal().unwrap().level, RainLevel::Orange, "wind is no rain");
    let effects = send(&mut engine, "rain", 800, "purple");
    assert_eq!((effects.undecoded.len(), engine.rain_signal().unwrap().level), (1, RainLevel::Orange));
    send(&mut engine, "D-0", 900, CALM);
    send(&mut engine, "D-0", 1_000, FULL);
    tick(&mut engine, 1_030);
    assert!(engine.has_storm());
    let effects = send(&mut engine, "rain", 1_100, "解除");
    assert_eq!((engine.rain_signal().unwrap().until, effects.audit.len()), (at(1_100), 1));
    assert_eq!(send(&mut engine, "rain", 1_200, "none").audit.len(), 0);
}

#[test]
fn a_retained_signal_counts_only_with_an_end_of_its_own() {
    for (payload, expected) in [
        (r#"{"level":"red"}"#.to_owned(), None),
        (format!(r#"{{"level":"red","until":{}}}"#, at(500).0), Some(at(500))),
        (format!(r#"{{"level":"red","until":{}}}"#, at(-500).0), None),
        (format!(r#"{{"level":"red","until":{}}}"#, at(90 * 86_400).0), Some(at(10 + 3 * 86_400))),
    ] {
        let mut facts = street(1);
        facts.incidents.rain_topics = vec![rain_topic(Some("level"))];
        let mut engine = engine(facts);
        let mut input = frame("rain", at(10), &payload);
        if let Input::Frame(frame) = &mut input {
            frame.retained = true;
        }
        engine.step(at(10), &[input]);
        assert_eq!(engine.rain_signal().map(|signal| signal.until), expected, "{payload}");
    }
}

#[test]
fn a_rain_station_that_is_not_heard_any_more_knows_of_no_rain() {
    let mut facts = street(2);
    let mut station = profile();
    station.conditions[0].name = "heavy_rain".into();
    facts.profiles.push(Arc::new(station));
    facts.devices.push(kerbside_model::Device { profile: 1, ..device("RAIN-1", ServiceState::InService) });
    let mut engine = engine(facts);
    send(&mut engine, "RAIN-1", 0, r#"{"cover_open":true}"#);
    send(&mut engine, "D-0", 9_900, CALM);
    send(&mut engine, "D-0", 10_000, FULL);
    let effects = tick(&mut engine, 10_040);
    assert!(!engine.has_storm(), "{effects:?}");
    assert!(effects.alarms.iter().all(|alarm| alarm.suppressed != Some(Suppression::Incident)));
    assert!(told(&effects).iter().all(|line| !line.starts_with(&format!("{:?}", NoticeReason::Over))));
}
