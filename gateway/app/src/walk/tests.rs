//! The report of a made-up walk: what stands in it, and that nothing from the street becomes markup or a formula.

use kerbside_engine::{Seen, TriggerView, WalkDeviceView, WalkOutcome, WalkView};
use kerbside_model::Timestamp;

use super::*;

const START: Timestamp = Timestamp(1_780_000_000_000);

/// Somebody at a gateway without accounts.
const LOCAL: Standing = Standing::Acts { account: None };

fn at(seconds: i64) -> Timestamp {
    Timestamp(START.0 + seconds * 1_000)
}

fn device(id: &str, outcome: WalkOutcome) -> WalkDeviceView {
    WalkDeviceView {
        id: id.to_owned(),
        outcome,
        triggers: vec![TriggerView {
            name: "displaced".to_owned(),
            title: "manhole cover open or displaced".to_owned(),
            title_zh: "井盖开启或移位".to_owned(),
        }],
        seen: Vec::new(),
        frames: 0,
        first_frame_at: None,
        last_frame_at: None,
        photo: String::new(),
        profile_version: 3,
        profile_hash: "abc".to_owned(),
        surveyed: Some((114.29, 35.74, "wgs84")),
        device: None,
        readings: vec![ReadingView {
            device: id.to_owned(),
            point: "signal_dbm".to_owned(),
            value: serde_json::json!(-97),
            unit: "dBm".to_owned(),
            observed_at: START,
            received_at: START,
            age_seconds: 0.0,
            quality: "good",
            cause: "",
        }],
    }
}

fn walk() -> WalkView {
    let seen = Seen { trigger: "displaced".to_owned(), at: at(60), cleared_at: Some(at(90)) };
    let passed = WalkDeviceView {
        seen: vec![seen],
        frames: 2,
        first_frame_at: Some(at(60)),
        last_frame_at: Some(at(90)),
        photo: "=cmd|' /C calc'!A0".to_owned(),
        ..device("MH-1", WalkOutcome::Passed)
    };
    let outcomes = [WalkOutcome::Heard, WalkOutcome::NotHeard, WalkOutcome::Gone];
    let others = outcomes.into_iter().zip(["MH-2", "MH-3", "<b>MH-4"]).map(|(outcome, id)| device(id, outcome));
    WalkView {
        by: "陈".to_owned(),
        started_at: START,
        until: at(3_600),
        ended_at: Some(at(120)),
        ended_by: Some("陈".to_owned()),
        devices: [passed].into_iter().chain(others).collect(),
    }
}

fn occasion() -> Occasion {
    Occasion {
        site: "鹤栖".to_owned(),
        version: "0.0.0",
        now: at(130),
        zone: TimeZone::get("Asia/Shanghai").expect("it is in the database"),
    }
}

#[test]
fn the_table_opens_in_a_spreadsheet_with_local_times_and_no_formula() {
    let text = csv(&walk(), &occasion());
    assert!(text.starts_with('\u{feff}'));
    let mut reader = ::csv::Reader::from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let headings = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4);
    let cell = |row: usize, word: &str| {
        let column = headings.iter().position(|heading| heading.contains(word)).unwrap();
        rows[row].get(column).unwrap().to_owned()
    };
    assert_eq!(cell(0, "outcome"), "合格 passed");
    assert_eq!(cell(0, "triggered"), "2026-05-29 04:27:40");
    assert_eq!(cell(0, "cleared"), "2026-05-29 04:28:10");
    assert_eq!(cell(0, "signal"), "-97 dBm");
    assert_eq!(cell(0, "photo"), "'=cmd|' /C calc'!A0");
    assert_eq!(cell(0, "datum"), "wgs84");
    assert!(cell(1, "why (zh)").contains("井盖开启或移位"), "{}", cell(1, "why (zh)"));
    assert_eq!(cell(2, "first frame"), "");
}

#[test]
fn the_report_counts_what_came_out_and_puts_what_is_left_first() {
    let page = report(&walk(), &occasion());
    assert!(page.contains("<td>4</td><td>1</td><td>0</td><td>1</td><td>1</td>"), "{page}");
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is not in the page"));
    assert!(place("MH-2") < place("<h3>MH-1"));
    assert!(page.contains("&lt;b&gt;MH-4") && !page.contains("<b>MH-4"));
    for word in ["鹤栖", "Asia/Shanghai", "监理", "2026-05-29 04:28:10", "114.290000, 35.740000 (wgs84)"] {
        place(word);
    }
}

#[test]
fn the_phone_shows_how_far_the_walk_is_and_what_to_do_next() {
    let page = phone(Some(&walk()), &occasion(), &LOCAL);
    assert!(page.contains("1 / 4 合格") && page.contains("检查电源") && page.contains("http-equiv=refresh"), "{page}");
    let running = phone(Some(&WalkView { ended_at: None, ..walk() }), &occasion(), &LOCAL);
    assert!(running.contains("data-path=/api/v1/walk/finish") && running.contains("3 台设备尚未合格"), "{running}");
    assert!(page.contains("data-path=/api/v1/walk "), "the next one may begin: {page}");
    let none = phone(None, &occasion(), &LOCAL);
    assert!(none.contains("data-path=/api/v1/walk ") && none.contains("name=by"), "{none}");
    let account = phone(None, &occasion(), &Standing::Acts { account: Some("chen".to_owned()) });
    assert!(account.contains("data-path=/api/v1/walk ") && !account.contains("name=by"), "{account}");
    for view in [None, Some(&walk())] {
        let looks = phone(view, &occasion(), &Standing::Looks);
        assert!(looks.contains("该账号只能查看") && !looks.contains("<form"), "{looks}");
    }
}

#[test]
fn what_a_device_sends_is_text_on_the_phone_and_no_markup_and_in_the_table_no_formula() {
    let mut view = walk();
    let said = ReadingView {
        value: serde_json::json!("<img src=x>"),
        unit: "<i>".to_owned(),
        ..view.devices[0].readings[0].clone()
    };
    view.devices[0].readings = vec![said.clone()];
    for page in [phone(Some(&view), &occasion(), &LOCAL), report(&view, &occasion())] {
        assert!(
            page.contains("&lt;img src=x&gt; &lt;i&gt;") && !page.contains("<img") && !page.contains("<i>"),
            "{page}"
        );
    }
    view.devices[0].readings = vec![ReadingView { value: serde_json::json!("=1+1"), ..said }];
    let text = csv(&view, &occasion());
    assert!(text.contains(",'=1+1 <i>,") && !text.contains(",=1+1"), "{text}");
}

#[test]
fn every_outcome_says_why_in_both_languages() {
    let all = [WalkOutcome::Passed, WalkOutcome::Half, WalkOutcome::Heard, WalkOutcome::NotHeard, WalkOutcome::Gone];
    for outcome in all {
        let (chinese, english) = words::why(&device("MH-1", outcome));
        assert!(!chinese.is_ascii() && english.is_ascii() && !english.is_empty(), "{outcome:?}");
    }
}
