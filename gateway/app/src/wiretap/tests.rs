use kerbside_model::site::SiteFacts;
use kerbside_model::{FrameFlags, Timestamp};
use serde_json::{Value, json};

use super::*;

const PROFILE: &str = "
profile: test
version: 3
kind: manhole_cover
vendor: Acme
model: One
payload: {format: json}
interval: 1h
points:
  - {name: cover_open, path: open}
  - {name: tilt_deg, path: tilt, range: {min: 0, max: 90}}
samples:
  - {name: one, json: {open: true}, readings: {cover_open: true}}
  - {name: bad, text: '{', error: malformed}
";

fn site() -> Arc<Site> {
    let problems = kerbside_model::document::Problems::default();
    let profile = kerbside_model::profile::parse_profile_text("test.yaml", PROFILE, &problems);
    let profile = profile.unwrap_or_else(|| panic!("{:?}", problems.into_sorted()));
    let device = kerbside_model::inventory::Device {
        id: "MH-1".to_owned(),
        address: "a/MH-1".to_owned(),
        name: "雨水井盖".to_owned(),
        ..Default::default()
    };
    Arc::new(Site::new(SiteFacts::new("test", vec![Arc::new(profile)], vec![device])))
}

/// An engine with the pipeline's end of the tap.
struct Bench {
    views: FrameViews,
    tap: Tap,
    engine: Engine,
    metrics: Metrics,
    now: i64,
}

impl Bench {
    fn new() -> Bench {
        let metrics = Metrics::default();
        let (views, tap) = FrameViews::new(&metrics).unwrap();
        let site = site();
        let mut engine = Engine::new(Arc::clone(&site));
        engine.step(Timestamp(NOON), &[Input::Site(site)]);
        Bench { views, tap, engine, metrics, now: NOON }
    }

    /// What the pipeline does with these messages; whether they were copied for anybody.
    fn step(&mut self, messages: &[(&str, &[u8])]) -> bool {
        self.now += 60_000;
        let mut frames = Frames::new("city".into(), Timestamp(self.now));
        for (address, payload) in messages {
            frames.push(address, payload, FrameFlags::default(), None);
        }
        let inputs = [Input::Frames(frames)];
        let mut effects = Effects::default();
        let mark = self.tap.mark(&effects);
        self.engine.step_on(Timestamp(self.now), &inputs, &mut effects);
        let is_watched = mark.is_some();
        if let Some(mark) = mark {
            self.tap.copy(mark, &self.engine, &inputs, &effects);
        }
        is_watched
    }

    fn watch(&self, filter: Filter) -> FrameWatch {
        self.views.watch(filter).unwrap()
    }
}

/// 2026-06-01T04:00:00Z.
const NOON: i64 = 1_780_286_400_000;
const OPEN: (&str, &[u8]) = ("a/MH-1", br#"{"open":true,"tilt":95}"#);
const STRANGER: (&str, &[u8]) = ("a/MH-9", br#"{"open":true}"#);
const BROKEN: (&str, &[u8]) = ("a/MH-1", &[0x7b, 0xff, 0x01]);

async fn next(view: &mut FrameWatch) -> Value {
    serde_json::from_str(&view.next().await.expect("the gateway runs")).unwrap()
}

#[tokio::test]
async fn a_frame_is_shown_with_its_device_its_bytes_and_its_readings_or_why_it_gave_none() {
    let mut bench = Bench::new();
    let mut view = bench.watch(Filter::default());
    bench.step(&[OPEN, STRANGER, BROKEN]);
    let open = next(&mut view).await;
    assert_eq!(
        (&open["outcome"], &open["device"], &open["name"]),
        (&json!("decoded"), &json!("MH-1"), &json!("雨水井盖"))
    );
    assert_eq!(
        (&open["profile"], &open["profile_version"], &open["source"]),
        (&json!("test"), &json!(3), &json!("city"))
    );
    assert_eq!(open["payload"], json!({ "text": r#"{"open":true,"tilt":95}"# }));
    assert_eq!(
        open["readings"][0],
        json!({"point": "cover_open", "value": true, "unit": "", "quality": "good", "cause": ""})
    );
    assert_eq!(
        (&open["readings"][1]["quality"], &open["readings"][1]["cause"]),
        (&json!("bad"), &json!("range")),
        "{open}"
    );
    assert_eq!((&open["left_out"], &open["bytes"], &open["cut"]), (&json!(false), &json!(23), &json!(0)));

    let stranger = next(&mut view).await;
    assert_eq!((&stranger["reason"], &stranger["device"]), (&json!("unknown_device"), &Value::Null), "{stranger}");
    assert_eq!(stranger["expected_address"], "a/MH-9");
    let broken = next(&mut view).await;
    assert_eq!((&broken["outcome"], &broken["reason"]), (&json!("undecoded"), &json!("malformed")), "{broken}");
    assert_eq!(broken["payload"], json!({ "hex": "7b ff 01" }));
    assert_eq!(view.missed(), None);
}

#[tokio::test]
async fn a_viewer_sees_what_passes_its_filter_and_nothing_else() {
    let mut bench = Bench::new();
    let text = |text: &str| Filter { text: Needle::new(text), ..Filter::default() };
    let device = |id: &str| Filter { device: Some(id.to_owned()), ..Filter::default() };
    let undecoded = Filter { undecoded_only: true, ..Filter::default() };
    let elsewhere = Filter { source: Some("other".to_owned()), ..Filter::default() };
    let mut views: Vec<FrameWatch> =
        [device("MH-1"), device("a/MH-9"), text("mh-9"), text("7bff"), text("井盖"), undecoded, elsewhere]
            .into_iter()
            .map(|filter| bench.watch(filter))
            .collect();
    bench.step(&[OPEN, STRANGER, BROKEN]);
    drop(bench);
    let mut seen = Vec::new();
    for view in &mut views {
        let mut addresses = Vec::new();
        while let Some(event) = view.next().await {
            let event: Value = serde_json::from_str(&event).unwrap();
            addresses.push(event["reason"].as_str().unwrap_or("read").to_owned());
        }
        seen.push(addresses.join(" "));
    }
    let (malformed, unknown) = ("malformed", "unknown_device");
    assert_eq!(seen, ["read malformed", unknown, unknown, malformed, "read malformed", "unknown_device malformed", ""]);
}

#[tokio::test]
async fn a_repeat_is_shown_as_one() {
    let mut bench = Bench::new();
    let mut view = bench.watch(Filter::default());
    let mut effects = Effects::default();
    for redelivered in [false, true] {
        let mut frames = Frames::new("city".into(), Timestamp(bench.now));
        frames.push(OPEN.0, OPEN.1, FrameFlags { redelivered, ..FrameFlags::default() }, None);
        let inputs = [Input::Frames(frames)];
        let mark = bench.tap.mark(&effects).unwrap();
        bench.engine.step_on(Timestamp(bench.now), &inputs, &mut effects);
        bench.tap.copy(mark, &bench.engine, &inputs, &effects);
    }
    assert_eq!(next(&mut view).await["left_out"], false);
    let repeat = next(&mut view).await;
    assert_eq!((&repeat["left_out"], &repeat["redelivered"]), (&json!(true), &json!(true)), "{repeat}");
}

#[tokio::test]
async fn nothing_is_copied_while_nobody_looks() {
    let mut bench = Bench::new();
    assert!(!bench.step(&[OPEN]));
    let view = bench.watch(Filter::default());
    assert!(bench.step(&[OPEN]));
    drop(view);
    assert!(!bench.step(&[OPEN]));
    assert!(bench.metrics.encode().contains("kerbside_frames_viewers 0"));
}

#[tokio::test]
async fn more_than_fifty_in_a_second_are_told_as_a_number() {
    let mut bench = Bench::new();
    let mut view = bench.watch(Filter::default());
    let count = 2_000;
    bench.step(&vec![OPEN; count]);
    drop(bench.tap);
    let mut shown = 0;
    while view.next().await.is_some() {
        shown += 1;
    }
    let missed = view.missed().unwrap();
    assert_eq!((missed.slow, missed.unseen), (0, 0));
    assert_eq!(shown + missed.sampled, count as u64);
    assert!((50..1_000).contains(&shown), "50 at once and then 50 in a second: {shown}");
    assert_eq!(view.missed(), None, "it is told once");
}

#[tokio::test]
async fn beyond_what_is_looked_at_in_a_second_frames_are_counted_and_not_copied() {
    let mut bench = Bench::new();
    let mut view = bench.watch(Filter { device: Some("nobody".to_owned()), ..Filter::default() });
    bench.tap.second = Second { began: Clock::stamp() + Duration::from_secs(3_600), left: 2 };
    bench.step(&[OPEN, OPEN, OPEN]);
    assert_eq!(view.missed(), None, "a batch that was begun is looked at whole");
    bench.step(&[OPEN, OPEN]);
    assert_eq!(view.missed(), Some(Missed { unseen: 2, ..Missed::default() }));
    assert!(bench.metrics.encode().contains(r#"kerbside_frames_not_shown_total{reason="unseen"} 2"#));
}

#[test]
fn a_reader_that_takes_nothing_loses_frames_and_is_told_how_many() {
    let (sender, mut events) = mpsc::channel(2);
    let missed = Arc::<MissedCounts>::default();
    let mut viewer = Viewer::new(1, Filter::default(), sender, Arc::clone(&missed));
    for _ in 0..5 {
        viewer.offer(&Arc::from("{}"));
    }
    assert_eq!(missed.slow.load(Ordering::Relaxed), 3);
    assert!(events.try_recv().is_ok() && events.try_recv().is_ok() && events.try_recv().is_err());
}

#[tokio::test]
async fn only_so_many_may_look_and_all_views_end_with_the_pipeline() {
    let bench = Bench::new();
    let mut views: Vec<FrameWatch> = (0..VIEWERS_MAX).map(|_| bench.watch(Filter::default())).collect();
    assert_eq!(bench.views.watch(Filter::default()).unwrap_err(), ViewError::TooMany);
    views.pop();
    views.push(bench.watch(Filter::default()));
    let Bench { views: door, tap, .. } = bench;
    drop(tap);
    for view in &mut views {
        assert_eq!(view.next().await, None);
    }
    assert_eq!(door.watch(Filter::default()).unwrap_err(), ViewError::Ended);
}

#[test]
fn long_payloads_are_cut_with_a_note() {
    let long = "井".repeat(1_000);
    let (payload, bytes, cut) = show::payload_json(long.as_bytes());
    assert_eq!((bytes, cut, payload["text"].as_str().unwrap().len()), (3_000, 1_977, 1_023), "between characters");
    let (payload, bytes, cut) = show::payload_json(&[0; 1_025]);
    assert_eq!((bytes, cut, payload["hex"].as_str().unwrap().len()), (1_025, 1, 1_024 * 3 - 1));
    assert_eq!(show::payload_json(b"a\x1bb").0, json!({ "hex": "61 1b 62" }), "what steers a terminal is no text");
}
