//! A simulated district runs through the real pipeline; its recording is replayed, again and again.

use kerbside_engine::Engine;
use kerbside_model::{Frame, FrameFlags, Frames, Input, MaskKind, OperatorAction, Payload, RegisterRead, SourceStatus};
use kerbside_runtime::{Health, Intake, Metrics, Receipt, Shutdown};
use kerbside_simulator::{District, DistrictConfig, MODBUS_SOURCE, MQTT_SOURCE, ScriptedWhat};
use kerbside_store::{Store, StoreConfig};
use tempfile::TempDir;
use tokio::sync::{Notify, oneshot};

use super::report::listing;
use super::*;
use crate::cli::record::{Progress, Recorder, Span, Wanted};
use crate::config::MemoryEnvironment;
use crate::live::Live;
use crate::pipeline::publish::Publisher;
use crate::pipeline::{DEAF_MIN, Pipeline, PipelineSettings};

/// Long enough for the district's storm with its alarms and cases.
const LENGTH: Duration = Duration::from_secs(100 * 60);
/// Simulated seconds in one real second.
const SPEED: f64 = 3_600.0;
const MINUTE: Duration = Duration::from_secs(60);

/// What a live run left behind.
struct LiveRun {
    folder: TempDir,
    site: Arc<Site>,
}

fn site(inventory: &str) -> Arc<Site> {
    let text = format!(
        "inventory: i.csv\nsources:\n  {MQTT_SOURCE}: {{type: broker, address: {{topic: \"city/+/+/{{device}}/up\"}}}}\n  \
         {MODBUS_SOURCE}: {{type: modbus, host: h}}\nchannels: {{duty: {{type: show}}}}\n"
    );
    let environment = MemoryEnvironment::default().with_file("gateway.yaml", text).with_file("i.csv", inventory);
    let config = config::load(Path::new("gateway.yaml"), &environment);
    config.unwrap_or_else(|problems| panic!("{problems:#?}")).site
}

/// Lets a district live through the pipeline, with people, a broken link and meters that do not answer.
async fn live() -> LiveRun {
    let folder = TempDir::new().unwrap();
    let start = Timestamp(1_776_643_200_000);
    let clock = Clock::scaled(start, SPEED);
    let mut district = District::new(DistrictConfig::demo(7, clock.clone()));
    let site = site(&district.inventory_csv());
    let (metrics, health) = (Metrics::default(), Health::default());
    let config = StoreConfig::new(folder.path().to_owned());
    let store = Store::open(config, clock.clone(), &metrics, &health).unwrap();
    store.save_site(&site).unwrap();
    let (intake, receiver) = Intake::new(64, 1 << 24);
    let publisher = Arc::new(Publisher::new(Live::new(Arc::default()), Arc::new(Notify::new()), &metrics));
    let settings = PipelineSettings {
        commit_interval: Duration::from_millis(5),
        commit_bytes_max: 1 << 20,
        snapshot_interval: Duration::from_secs(1_800),
        deaf_min: DEAF_MIN,
    };
    let engine = Engine::new(Arc::clone(&site));
    let (pipeline, _handle) = Pipeline::new(engine, store.clone(), receiver, publisher, clock.clone(), settings);
    intake.try_submit(vec![Input::Site(Arc::clone(&site))], Receipt::None).unwrap();
    let stop = Shutdown::new();
    let thread = pipeline.spawn(stop.clone(), oneshot::channel().0).unwrap();
    for event in district.script().iter().filter(|event| event.what == ScriptedWhat::CoverOpensWithPermit) {
        let mask = OperatorAction::Mask {
            device: event.device.clone(),
            kind: MaskKind::Permit,
            from: event.at.minus(MINUTE),
            until: event.until.plus(MINUTE),
            by: "市政".to_owned(),
            reason: "清淤".to_owned(),
        };
        intake.submit(vec![Input::Operator(mask)], Receipt::None).await.unwrap();
    }
    let mut signed = false;
    while clock.now() < start.plus(LENGTH) {
        let now = clock.now();
        let mut frames = Frames::new(MQTT_SOURCE.into(), now);
        for uplink in district.step(now) {
            frames.push(&uplink.topic, uplink.payload.as_bytes(), FrameFlags::default(), None);
        }
        let meter = Frame {
            source: MODBUS_SOURCE.into(),
            address: "1".into(),
            payload: Payload::Registers(RegisterRead::default()),
            received_at: now,
            retained: false,
        };
        intake.submit(vec![Input::Frames(frames), Input::Frame(meter)], Receipt::None).await.unwrap();
        if let (false, Some(case)) = (signed, store.cases_open().unwrap().first()) {
            signed = true;
            let sign = OperatorAction::Sign { case_id: case.id.clone(), by: "王".to_owned() };
            let lost = SourceStatus { source: MQTT_SOURCE.into(), connected: false };
            let back = SourceStatus { connected: true, ..lost.clone() };
            let inputs = vec![Input::Operator(sign), Input::Source(lost), Input::Source(back)];
            intake.submit(inputs, Receipt::None).await.unwrap();
        }
        clock.sleep_until(district.next_due().max(now.plus(Duration::from_secs(5)))).await;
    }
    stop.cancel();
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    LiveRun { folder, site }
}

impl LiveRun {
    fn outcome(&self) -> Outcome {
        let config = StoreConfig::new(self.folder.path().to_owned());
        let store = Store::open(config, Clock::System, &Metrics::default(), &Health::default()).unwrap();
        let found = outcome(&store).unwrap();
        store.close().unwrap();
        found
    }

    fn record(&self, out: &Path, source: Option<&str>, device: Option<&str>) {
        let wanted = Wanted::new(&self.site, source.map(str::to_owned), device.map(str::to_owned)).unwrap();
        let span = Span { since: Timestamp::default(), until: None };
        let mut recorder = Recorder::open(self.folder.path(), &self.site, wanted, span).unwrap();
        recorder.begin(out, Timestamp(5)).unwrap();
        while recorder.read_on().unwrap() == Progress::More {}
        assert_eq!(recorder.finish().unwrap(), 0);
    }
}

async fn replay(file: &Path, today: Option<&Arc<Site>>, speed: Option<f64>, commit_bytes_max: usize) -> Report {
    let folder = TempDir::new().unwrap();
    let settings = Settings { today: today.cloned(), run_on: Duration::ZERO, commit_bytes_max, speed: Speed(speed) };
    let reader = RecordingReader::open(file).unwrap();
    Replay::begin(reader, folder.path(), settings).unwrap().run(None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_gives_what_the_live_run_gave_at_any_speed_and_however_it_is_committed() {
    let live = live().await;
    let wanted = live.outcome();
    assert!(wanted.alarms.len() > 10 && wanted.cases.len() > 5, "{} alarms", wanted.alarms.len());
    let out = TempDir::new().unwrap();
    let file = out.path().join("day.kbr");
    live.record(&file, None, None);
    let wanted = listing(&wanted).to_string();
    let first = replay(&file, None, None, COMMIT_BYTES_MAX).await;
    assert_eq!(listing(&first.outcome).to_string(), wanted, "with the recorded site");
    assert!(first.tally.frames > 1_000 && first.tally.readings > 1_000 && first.tally.notices > 0, "{:?}", first.tally);
    assert_eq!(first.torn, None);
    let variants = [
        (Some(&live.site), None, COMMIT_BYTES_MAX),
        (None, Some(LENGTH.as_secs_f64() / 0.2), 1),
        (Some(&live.site), Some(SPEED_MAX), 10_000),
    ];
    for (today, speed, commit_bytes_max) in variants {
        let again = replay(&file, today, speed, commit_bytes_max).await;
        assert_eq!(again.json().to_string(), first.json().to_string(), "{speed:?} {commit_bytes_max}");
        assert_eq!(again.text(), first.text());
    }
    // Torn in the middle: the same up to there.
    let bytes = std::fs::read(&file).unwrap();
    let torn_file = out.path().join("torn.kbr");
    std::fs::write(&torn_file, &bytes[..bytes.len() / 2]).unwrap();
    let torn = replay(&torn_file, None, None, COMMIT_BYTES_MAX).await;
    assert!(torn.torn.is_some() && torn.tally.frames < first.tally.frames, "{:?}", torn.tally);
    assert!(torn.text().contains("the recording is torn"));
    // Of one device alone.
    let device = live.site.devices()[0].id.clone();
    let narrow = out.path().join("narrow.kbr");
    live.record(&narrow, Some(MQTT_SOURCE), Some(&device));
    let narrow = replay(&narrow, None, None, COMMIT_BYTES_MAX).await;
    assert!(narrow.tally.frames > 0 && narrow.tally.frames < 200, "{:?}", narrow.tally);
    assert_eq!(narrow.header.device.as_deref(), Some(device.as_str()));
}

/// A recording of one open cover and then silence, in the middle of a run.
fn short(file: &Path, site: &Site) -> Timestamp {
    use kerbside_store::recording::{RECORDING_VERSION, RecordingHeader, RecordingWriter};
    let at = Timestamp(1_776_643_200_000);
    let header = RecordingHeader {
        version: RECORDING_VERSION,
        kerbside: "0.1.0".to_owned(),
        site: "test".to_owned(),
        site_hash: site.hash().to_owned(),
        begun_at: at,
        since: at,
        source: None,
        device: None,
    };
    let mut writer = RecordingWriter::create(file, &header).unwrap();
    writer.site(site.hash(), site.facts());
    let mut frames = Frames::new(MQTT_SOURCE.into(), at);
    frames.push("city/d01/manhole/MH-1/up", br#"{"tilt":45.0,"open":true}"#, FrameFlags::default(), None);
    writer.step(&RecordedStep { at, inputs: vec![StoredInput::Frames(frames)] }, &|_| true).unwrap();
    writer.flush().unwrap();
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_runs_on_when_it_is_told_to_and_nothing_is_left_to_send() {
    let site = site("id,profile,address\nMH-1,json-manhole-cover,MH-1\n");
    let out = TempDir::new().unwrap();
    let file = out.path().join("short.kbr");
    let at = short(&file, &site);
    let folder = out.path().join("scratch");
    std::fs::create_dir(&folder).unwrap();
    let run_on = Duration::from_secs(3 * 86_400);
    let settings = || Settings { today: None, run_on, commit_bytes_max: COMMIT_BYTES_MAX, speed: Speed(None) };
    let reader = RecordingReader::open(&file).unwrap();
    let report = Replay::begin(reader, &folder, settings()).unwrap().run(None).await.unwrap();
    let silent = report.outcome.alarms.iter().find(|alarm| alarm.condition == "silent");
    assert!(silent.is_some_and(|alarm| alarm.opened_at > at), "{:#?}", report.outcome.alarms);
    assert_eq!(report.tally.last_at, Some(at.plus(run_on)));
    assert!(report.tally.notices > 0);
    let store = StoreConfig::new(folder.clone());
    let store = Store::open(store, Clock::System, &Metrics::default(), &Health::default()).unwrap();
    assert_eq!(store.outbox_open().unwrap(), []);
    store.close().unwrap();
    let error = Replay::begin(RecordingReader::open(&file).unwrap(), &folder, settings()).map(drop).unwrap_err();
    assert!(error.to_string().contains("there is a database already"), "{error}");
}

#[test]
fn speeds_are_a_factor_or_the_most() {
    assert_eq!(speed("max"), Ok(Speed(None)));
    assert_eq!(speed("60x"), Ok(Speed(Some(60.0))));
    assert_eq!(speed("0.5x"), Ok(Speed(Some(0.5))));
    for wrong in ["60", "0x", "-1x", "fast", "infx", "NaNx"] {
        assert!(speed(wrong).is_err(), "{wrong}");
    }
}
