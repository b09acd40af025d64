//! A small street for the tests: one cover, one level sensor, one pole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kerbside_model::inventory::{Datum, Device};
use kerbside_model::profile::*;
use kerbside_model::site::{AddressRule, DutyStep, SiteFacts, SourceRule};
use kerbside_model::topic::TopicRule;
use kerbside_model::vocabulary::Kind;
use kerbside_model::{
    ByteText, Effects, Frame, Input, OperatorAction, Payload, ServiceState, Severity, Site, Timestamp, Value,
};

use crate::Engine;

pub(super) const START: Timestamp = Timestamp(1_800_000_000_000);

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp(START.0 + seconds * 1_000)
}

pub(super) fn point(name: &str, value_type: ValueType, range: Option<(f64, f64)>) -> Point {
    Point {
        name: Arc::from(name),
        value_type,
        unit: String::new(),
        origin: Origin::Json(vec![JsonPath::parse(name).unwrap()]),
        scale: 1.0,
        offset: 0.0,
        range: range.map(|(min, max)| Range { min, max }),
        map: Vec::new(),
        invalid: Vec::new(),
        required: false,
        interval: None,
        storm_interval: None,
        quality: PointQuality::default(),
    }
}

pub(super) fn detector(condition: u16, severity: Severity, point: Option<u16>, rule: Rule) -> Detector {
    Detector {
        condition,
        severity,
        point,
        rule,
        hold: Duration::ZERO,
        count: 1,
        clear_hold: Duration::ZERO,
        when: Vec::new(),
        during: None,
        zone: None,
        name: String::new(),
        around: None,
        unless: Vec::new(),
    }
}

pub(super) fn above(raise: f64, clear: f64) -> Rule {
    Rule::Threshold { side: Side::Above, raise, clear, approach: None }
}

pub(super) fn condition(name: &str) -> Condition {
    Condition {
        name: Arc::from(name),
        title: name.to_owned(),
        title_zh: name.to_owned(),
        opens_case: true,
        life: None,
        permit_at_most: None,
    }
}

/// Points: 0 cover_open, 1 tilt_deg, 2 level_mm, 3 water_present, 4 leakage_ma.
/// Conditions: 0 displaced, 1 silent, 2 surcharged, 3 leaking, 4 surging, 5 sensor_stuck.
pub(super) fn profile() -> Profile {
    let guarded = Detector {
        when: vec![Guard { point: 3, test: GuardTest::Equals(Value::Boolean(true)) }],
        ..detector(3, Severity::Critical, Some(4), above(30.0, 20.0))
    };
    let rate = Rule::Rate {
        side: Side::Above,
        raise: 60.0,
        clear: 20.0,
        per: Duration::from_secs(60),
        gap_max: Duration::from_secs(600),
        jump: None,
    };
    let flat = Rule::Flatline { tolerance: 0.5, duration: Duration::from_secs(6 * 3_600) };
    Profile {
        name: "test".to_owned(),
        version: 1,
        kind: Kind::ManholeCover,
        vendor: String::new(),
        model: String::new(),
        component_class: String::new(),
        payload: PayloadFormat::Json(DocumentFormat {
            time: Some(TimeField::new(JsonPath::parse("ts").unwrap(), TimeUnit::Milliseconds)),
            history: None,
        }),
        interval: Some(Duration::from_secs(600)),
        points: vec![
            point("cover_open", ValueType::Boolean, None),
            point("tilt_deg", ValueType::Number, Some((0.0, 180.0))),
            point("level_mm", ValueType::Number, Some((-100.0, 5_000.0))),
            point("water_present", ValueType::Boolean, None),
            point("leakage_ma", ValueType::Number, Some((0.0, 10_000.0))),
        ],
        conditions: ["displaced", "silent", "surcharged", "leaking", "surging", "sensor_stuck"].map(condition).to_vec(),
        detectors: vec![
            detector(0, Severity::Critical, Some(0), Rule::State { values: vec![Value::Boolean(true)] }),
            Detector { count: 2, ..detector(0, Severity::Major, Some(1), above(10.0, 5.0)) },
            detector(1, Severity::Minor, None, Rule::Silence { after: None, missed: 3.0, habit: None, rise: None }),
            Detector { hold: Duration::from_secs(30), ..detector(2, Severity::Major, Some(2), above(400.0, 350.0)) },
            guarded,
            detector(4, Severity::Major, Some(2), rate),
            detector(5, Severity::Minor, Some(2), flat),
        ],
        samples: Vec::new(),
        walk_test: Vec::new(),
        overrides: Vec::new(),
        tests: Vec::new(),
    }
}

pub(super) fn device(id: &str, service: ServiceState) -> Device {
    Device {
        id: id.to_owned(),
        profile: 0,
        source: None,
        address: id.to_owned(),
        name: String::new(),
        position: Some((116.3, 39.9)),
        datum: Datum::Wgs84,
        place: "黄山路与湘江路交叉口".to_owned(),
        grid: String::new(),
        component_code: String::new(),
        unit: "市政".to_owned(),
        mount_height_mm: None,
        level_offset_mm: 0.0,
        interval: None,
        registers_from: None,
        parent: String::new(),
        service,
        ..Device::default()
    }
}

pub(super) fn facts() -> SiteFacts {
    let devices = vec![
        device("MH-1", ServiceState::InService),
        device("MH-2", ServiceState::InService),
        device("MH-3", ServiceState::Commissioning),
    ];
    SiteFacts {
        sources: vec![SourceRule {
            source: Arc::from("city"),
            address: AddressRule::Topic(TopicRule::of_level(1)),
            claim: None,
            envelopes: Vec::new(),
        }],
        duty: vec![
            DutyStep { after: Duration::ZERO, channels: vec!["first".to_owned()] },
            DutyStep { after: Duration::from_secs(300), channels: vec!["second".to_owned()] },
        ],
        ..SiteFacts::new("test", vec![Arc::new(profile())], devices)
    }
}

pub(super) fn frame(device: &str, received_at: Timestamp, payload: &str) -> Input {
    Input::Frame(Frame {
        source: Arc::from("city"),
        address: ByteText::from(format!("t/{device}")),
        payload: Payload::Bytes(Bytes::copy_from_slice(payload.as_bytes())),
        received_at,
        retained: false,
    })
}

/// An engine that has just begun to listen.
pub(super) fn engine(facts: SiteFacts) -> Engine {
    let site = Arc::new(Site::new(facts));
    let mut engine = Engine::new(Arc::clone(&site));
    engine.step(START, &[Input::Site(site)]);
    engine
}

/// One frame of a device, `seconds` after the start.
pub(super) fn send(engine: &mut Engine, device: &str, seconds: i64, payload: &str) -> Effects {
    engine.step(at(seconds), &[frame(device, at(seconds), payload)])
}

pub(super) fn tick(engine: &mut Engine, seconds: i64) -> Effects {
    engine.step(at(seconds), &[])
}

pub(super) fn act(engine: &mut Engine, seconds: i64, action: OperatorAction) -> Effects {
    engine.step(at(seconds), &[Input::Operator(action)])
}

/// `condition:state` of the alarms that changed. The second cover is there to be silent in the background.
pub(super) fn alarms(effects: &Effects) -> Vec<String> {
    let of_interest = effects.alarms.iter().filter(|alarm| alarm.device == "MH-1" || alarm.condition != "silent");
    of_interest.map(|alarm| format!("{}:{}", alarm.condition, alarm.state.name())).collect()
}

/// Channels that were told, with the reason.
pub(super) fn notices(effects: &Effects) -> Vec<String> {
    let mut notices = Vec::new();
    for row in &effects.outbox {
        if let kerbside_model::OutboxTask::Notify(notice) = &row.task {
            notices.push(format!("{}:{:?}", row.target, notice.reason));
        }
    }
    notices
}
