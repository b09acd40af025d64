//! Cases: one for one thing, suppressed with a reason, signed, escalated, never opened twice.

use kerbside_model::site::SiteFacts;
use kerbside_model::{
    AlarmState, CaseState, Delivery, DeliveryOutcome, Input, MaskKind, OperatorAction, OutboxState, OutboxTask,
    PlatformStatus, ServiceState, Site, Suppression,
};

use super::support::*;

fn open(engine: &mut crate::Engine, seconds: i64) -> kerbside_model::Case {
    let effects = send(engine, "MH-1", seconds, r#"{"cover_open":true}"#);
    effects.cases.last().expect("a case was opened").clone()
}

fn on_platform() -> SiteFacts {
    let mut facts = facts();
    facts.cases.platform = "city".to_owned();
    facts
}

#[test]
fn the_first_step_is_told_at_once_and_the_second_when_nobody_signs() {
    let mut engine = engine(facts());
    let opened = send(&mut engine, "MH-1", 0, r#"{"cover_open":true}"#);
    assert_eq!(notices(&opened), ["first:Opened"]);
    assert_eq!(engine.next_timer(), Some(at(300)));
    assert_eq!(notices(&tick(&mut engine, 299)), Vec::<String>::new());
    assert_eq!(notices(&tick(&mut engine, 300)), ["second:Escalated"]);
    assert_eq!(notices(&tick(&mut engine, 1_000)), Vec::<String>::new());
}

#[test]
fn a_signature_stops_the_escalation_and_a_second_one_changes_nothing() {
    let mut engine = engine(facts());
    let case = open(&mut engine, 0);
    let sign = |by: &str| OperatorAction::Sign { case_id: case.id.clone(), by: by.to_owned() };
    let signed = act(&mut engine, 100, sign("王"));
    assert_eq!(signed.cases[0].state, CaseState::Signed);
    assert_eq!(notices(&tick(&mut engine, 1_000)), Vec::<String>::new());
    let second = act(&mut engine, 1_001, sign("李"));
    assert!(second.cases.is_empty());
    assert_eq!(second.audit[0].detail, "already signed by 王");
}

#[test]
fn a_cover_that_closes_and_opens_again_joins_the_open_case() {
    let mut engine = engine(facts());
    let case = open(&mut engine, 0);
    let closed = send(&mut engine, "MH-1", 10, r#"{"cover_open":false}"#);
    assert_eq!(closed.cases[0].state, CaseState::Done);
    let back = send(&mut engine, "MH-1", 20, r#"{"cover_open":true}"#);
    assert_eq!((back.counts.cases_opened, back.counts.cases_joined), (0, 1));
    let joined = back.cases.last().unwrap();
    assert_eq!((joined.id.as_str(), joined.state, joined.episodes.len()), (case.id.as_str(), CaseState::Returned, 2));
    assert_eq!(notices(&back), ["first:Returned"]);
}

#[test]
fn the_ledger_closes_a_case_after_a_day_of_good_data_and_the_next_opening_is_a_new_case() {
    let mut engine = engine(facts());
    let case = open(&mut engine, 0);
    send(&mut engine, "MH-1", 10, r#"{"cover_open":false}"#);
    let later = tick(&mut engine, 10 + 86_400);
    let closed = later.cases.iter().find(|changed| changed.id == case.id).unwrap();
    assert_eq!(closed.state, CaseState::Closed);
    let new = open(&mut engine, 90_000);
    assert_ne!(new.id, case.id);
}

#[test]
fn a_void_case_is_not_opened_again_for_the_same_standing_condition() {
    let mut engine = engine(facts());
    let case = open(&mut engine, 0);
    let void = act(
        &mut engine,
        10,
        OperatorAction::MoveCase {
            case_id: case.id.clone(),
            to: CaseState::Void,
            by: "值班长".to_owned(),
            note: "施工".to_owned(),
        },
    );
    assert_eq!(void.alarms[0].suppressed, Some(Suppression::Void));
    let still = send(&mut engine, "MH-1", 20, r#"{"cover_open":true}"#);
    assert_eq!((still.counts.cases_opened, still.alarms.len()), (0, 0));
    send(&mut engine, "MH-1", 30, r#"{"cover_open":false}"#);
    assert_ne!(open(&mut engine, 40).id, case.id, "a new episode is a new matter");
}

#[test]
fn a_device_in_commissioning_opens_no_case_until_it_is_in_service() {
    let mut engine = engine(facts());
    let opened = send(&mut engine, "MH-3", 0, r#"{"cover_open":true}"#);
    assert_eq!(opened.alarms[0].suppressed, Some(Suppression::NotCommissioned));
    assert_eq!(opened.counts.suppressed[Suppression::NotCommissioned as usize], 1);
    assert_eq!(opened.counts.cases_opened, 0);
    let mut in_service = facts();
    in_service.devices[2].service = ServiceState::InService;
    let site = std::sync::Arc::new(Site::new(in_service));
    let effects = engine.step(at(60), &[Input::Site(site)]);
    assert_eq!(effects.counts.cases_opened, 1);
}

#[test]
fn a_permit_window_hides_an_authorised_opening_and_brings_it_to_a_case_when_it_ends() {
    let mut engine = engine(facts());
    let mask = |kind| OperatorAction::Mask {
        device: "MH-1".to_owned(),
        kind,
        from: at(0),
        until: at(3_600),
        by: "市政".to_owned(),
        reason: "清淤".to_owned(),
    };
    act(&mut engine, 0, mask(MaskKind::Permit));
    let opened = send(&mut engine, "MH-1", 600, r#"{"cover_open":true}"#);
    assert_eq!(opened.alarms[0].suppressed, Some(Suppression::Permit));
    let danger = send(&mut engine, "MH-1", 1_000, r#"{"leakage_ma":80,"water_present":true,"cover_open":true}"#);
    assert_eq!(danger.counts.cases_opened, 1, "a permit does not explain leakage");
    for minute in 2..6 {
        send(&mut engine, "MH-1", minute * 600 + 1, r#"{"cover_open":true}"#);
    }
    let ended = tick(&mut engine, 3_600);
    assert_eq!(ended.counts.cases_opened, 1);
    assert_eq!(ended.cases[0].condition, "displaced");
}

#[test]
fn maintenance_hides_everything_and_lifting_it_early_brings_what_stands_to_a_case() {
    let mut engine = engine(facts());
    let mask = OperatorAction::Mask {
        device: "MH-1".to_owned(),
        kind: MaskKind::Maintenance,
        from: at(0),
        until: at(3_600),
        by: "市政".to_owned(),
        reason: "换电池".to_owned(),
    };
    act(&mut engine, 0, mask);
    let opened = send(&mut engine, "MH-1", 10, r#"{"cover_open":true}"#);
    assert_eq!(opened.alarms[0].suppressed, Some(Suppression::Maintenance));
    let unmask = OperatorAction::Unmask { device: "MH-1".to_owned(), by: "市政".to_owned() };
    assert_eq!(act(&mut engine, 20, unmask).counts.cases_opened, 1);
}

#[test]
fn a_case_for_a_platform_is_pending_until_it_is_delivered_and_follows_the_platforms_state() {
    let mut engine = engine(on_platform());
    let opened = send(&mut engine, "MH-1", 0, r#"{"cover_open":true}"#);
    let row = opened.outbox.iter().find(|row| matches!(row.task, OutboxTask::OpenCase(_))).unwrap().clone();
    let case_id = row.case_id.clone();
    assert_eq!(opened.cases[0].state, CaseState::Pending);
    let report = |outcome| {
        Input::Delivery(Delivery {
            row_id: row.id.clone(),
            case_id: case_id.clone(),
            target: "city".to_owned(),
            outcome,
        })
    };
    let attempting = engine.step(at(1), &[report(DeliveryOutcome::Attempting)]);
    assert_eq!(attempting.outbox_changes[0].state, OutboxState::Attempted);
    let delivered = engine.step(at(2), &[report(DeliveryOutcome::Delivered { platform_id: Some("0".to_owned()) })]);
    assert_eq!(delivered.cases[0].state, CaseState::Reported);
    assert_eq!(delivered.cases[0].platform_id.as_deref(), Some("0"));
    let says = |state| {
        Input::Platform(PlatformStatus {
            case_id: case_id.clone(),
            platform: "city".to_owned(),
            platform_id: "0".to_owned(),
            state,
            note: String::new(),
        })
    };
    let dispatched = engine.step(at(3), &[says(CaseState::Dispatched)]);
    assert_eq!(dispatched.cases[0].state, CaseState::Dispatched);
    assert!(engine.step(at(4), &[says(CaseState::Accepted)]).cases.is_empty(), "it never goes back");
    let closed = engine.step(at(5), &[says(CaseState::Closed)]);
    assert_eq!(closed.cases[0].state, CaseState::Closed);
    assert_eq!(closed.alarms[0].suppressed, Some(Suppression::Void), "the alarm still stands and says so");
}

#[test]
fn a_refusal_for_good_is_told_to_the_duty_officer() {
    let mut engine = engine(on_platform());
    let opened = send(&mut engine, "MH-1", 0, r#"{"cover_open":true}"#);
    let row = opened.outbox.iter().find(|row| matches!(row.task, OutboxTask::OpenCase(_))).unwrap();
    let refused = engine.step(
        at(1),
        &[Input::Delivery(Delivery {
            row_id: row.id.clone(),
            case_id: row.case_id.clone(),
            target: "city".to_owned(),
            outcome: DeliveryOutcome::Refused { reason: "no such service".to_owned() },
        })],
    );
    assert_eq!(notices(&refused), ["first:Refused"]);
    assert_eq!(refused.outbox_changes[0].state, OutboxState::Dead);
}

#[test]
fn a_device_taken_out_of_the_inventory_leaves_no_standing_alarm() {
    let mut engine = engine(facts());
    open(&mut engine, 0);
    let mut fewer = facts();
    fewer.devices.remove(0);
    let effects = engine.step(at(10), &[Input::Site(std::sync::Arc::new(Site::new(fewer)))]);
    assert_eq!(effects.alarms[0].state, AlarmState::Cleared);
}

#[test]
fn a_contact_that_flutters_keeps_one_case_of_bounded_size() {
    let mut engine = engine(facts());
    let first = open(&mut engine, 0);
    let mut last = first.clone();
    for round in 1..150 {
        send(&mut engine, "MH-1", 20 * round, r#"{"cover_open":false}"#);
        last = open(&mut engine, 20 * round + 10);
    }
    assert_eq!((last.id.as_str(), last.episodes.len()), (first.id.as_str(), 100));
    assert_eq!(last.episodes[0], first.episodes[0]);
}

#[test]
fn masks_of_one_device_are_bounded_and_the_refusal_is_on_record() {
    let mut engine = engine(facts());
    let mask = |number: i64| OperatorAction::Mask {
        device: "MH-1".to_owned(),
        kind: MaskKind::Permit,
        from: at(0),
        until: at(3_600 + number),
        by: "市政".to_owned(),
        reason: "清淤".to_owned(),
    };
    for number in 0..crate::MASKS_MAX as i64 {
        assert_eq!(act(&mut engine, number, mask(number)).audit[0].action, "device_masked");
    }
    assert_eq!(act(&mut engine, 100, mask(100)).audit[0].action, "mask_refused");
}
