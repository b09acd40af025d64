//! A commit that is decoded again gives the observations that it gave when it was live.

use std::sync::Arc;

use kerbside_model::profile::{HistoryList, JsonPath, Newest, Origin, PayloadFormat, TimeField, TimeUnit};
use kerbside_model::site::{FrameLimits, SiteFacts};
use kerbside_model::{
    ByteText, DeviceIndex, Effects, Frame, FrameFlags, FrameNote, Frames, Input, Noted, Observations, Payload,
    PointReading, Site, StoredInput, Tag, Tags, Timestamp,
};
use proptest::prelude::*;

use super::senders::two_ways;
use super::support::*;
use crate::Engine;
use crate::decode::{Certainty, Decoders, decode_again};

/// What the database gets of an observation. Lateness is not in it.
type Row = (DeviceIndex, Timestamp, Timestamp, Option<Tags>, Vec<PointReading>);

fn rows(observations: &Observations) -> Vec<Row> {
    let row = |(row, readings): (&kerbside_model::reading::Observation, &[PointReading])| {
        (row.device, row.observed_at, row.received_at, observations.tags(row).cloned(), readings.to_vec())
    };
    observations.iter().map(row).collect()
}

/// Inputs of several steps with the effects of all of them, as the pipeline gathers them.
#[derive(Default)]
pub(super) struct Commit {
    inputs: Vec<StoredInput>,
    effects: Effects,
}

impl Commit {
    pub(super) fn step(&mut self, engine: &mut Engine, now: Timestamp, inputs: Vec<Input>) {
        engine.step_on(now, &inputs, &mut self.effects);
        self.inputs.extend(inputs.into_iter().map(StoredInput::from));
        self.inputs.push(StoredInput::Step(now));
    }

    /// Goes through the store's form and is decoded again.
    fn again(&self, site: &Site) -> Vec<Row> {
        let mut inputs = self.inputs.clone();
        if !self.effects.notes.is_empty() {
            inputs.push(StoredInput::Notes(self.effects.notes.clone()));
        }
        let stored = postcard::to_stdvec(&inputs).unwrap();
        let inputs: Vec<StoredInput> = postcard::from_bytes(&stored).unwrap();
        let frames = inputs.iter().flat_map(StoredInput::frames);
        rows(&decode_again(site, &Decoders::new(site), frames, Certainty::Sure, StoredInput::notes(&inputs)))
    }

    #[track_caller]
    pub(super) fn check(&self, site: &Site) {
        assert_eq!(self.again(site), rows(&self.effects.observations));
    }
}

fn tight() -> SiteFacts {
    let limits = FrameLimits { device_frames_per_second: 2, device_burst: 4, ..FrameLimits::default() };
    let mut profile = profile();
    if let PayloadFormat::Json(format) = &mut profile.payload {
        let time = TimeField::new(JsonPath::parse("ts").unwrap(), TimeUnit::Milliseconds);
        format.history = Some(HistoryList { path: JsonPath::parse("history"), time, newest: Newest::None });
    }
    SiteFacts { limits, profiles: vec![Arc::new(profile)], ..two_ways() }
}

fn tags(value: &str) -> Tags {
    Arc::from([Tag { name: Arc::from("operator"), value: Arc::from(value) }])
}

const TOPIC: &str = "d01/manhole/MH-1";

/// Messages of one source that came together.
fn messages(source: &str, received_at: Timestamp, payloads: &[&str]) -> Input {
    let mut frames = Frames::new(Arc::from(source), received_at);
    payloads.iter().for_each(|payload| frames.push(TOPIC, payload.as_bytes(), FrameFlags::default(), None));
    Input::Frames(frames)
}

#[test]
fn what_the_engine_did_to_a_frame_is_noted_by_its_number_in_the_commit() {
    let mut engine = engine(tight());
    let mut commit = Commit::default();
    let (one, two) = (r#"{"tilt_deg":1}"#, r#"{"tilt_deg":2}"#);
    commit.step(&mut engine, at(10), vec![messages("city", at(10), &[one, "{", two])]);
    commit.step(&mut engine, at(10), vec![messages("bridge", at(10), &[two])]);
    let ahead: Vec<String> = (3..7).map(|tilt| format!(r#"{{"tilt_deg":{tilt}}}"#)).collect();
    let ahead: Vec<&str> = ahead.iter().map(String::as_str).collect();
    commit.step(&mut engine, at(10), vec![messages("city", at(10), &ahead)]);
    let note = |frame, what| FrameNote { frame, what };
    assert_eq!(
        commit.effects.notes,
        [
            note(2, Noted::PlacedAfter(1)),
            note(3, Noted::Left),
            note(4, Noted::PlacedAfter(2)),
            note(5, Noted::PlacedAfter(3)),
            note(6, Noted::Left),
            note(7, Noted::Left),
        ]
    );
    assert_eq!((commit.effects.frames, commit.effects.observations.len()), (8, 4));
    commit.check(engine.site());
    // The next commit begins anew, and remembers the one before: what comes at once is placed behind it.
    let mut next = Commit::default();
    next.step(&mut engine, at(10), vec![messages("city", at(10), &[r#"{"cover_open":true}"#])]);
    assert_eq!(next.effects.notes, [note(0, Noted::PlacedAfter(6))]);
    next.check(engine.site());
}

#[test]
fn a_quiet_commit_costs_no_note() {
    let mut engine = engine(tight());
    let mut commit = Commit::default();
    let told = format!(r#"{{"level_mm":5,"ts":{}}}"#, at(9).0);
    for second in 10..14 {
        let tilt = format!(r#"{{"tilt_deg":{second}}}"#);
        commit.step(&mut engine, at(second), vec![messages("city", at(second), &[&tilt])]);
    }
    commit.step(&mut engine, at(20), vec![messages("city", at(20), &[&told])]);
    assert_eq!((commit.effects.notes.len(), commit.effects.observations.len()), (0, 5));
    commit.check(engine.site());
}

#[test]
fn history_stands_at_its_own_time_and_never_alarms() {
    let mut engine = engine(tight());
    let mut commit = Commit::default();
    let row = |second: i64, level: i64| format!(r#"{{"level_mm":{level},"cover_open":true,"ts":{}}}"#, at(second).0);
    let only = format!(r#"{{"history":[{},{},{{"level_mm":7}}]}}"#, row(-7_200, 9), row(-3_600, 8));
    let both = format!(r#"{{"history":[{}],"cover_open":false}}"#, row(-1_800, 6));
    commit.step(&mut engine, at(10), vec![messages("city", at(10), &[&only, &both])]);
    // The same message once more, by another way: its rows are known.
    commit.step(&mut engine, at(11), vec![messages("bridge", at(11), &[&only])]);
    let seen = rows(&commit.effects.observations);
    let times: Vec<Timestamp> = seen.iter().map(|row| row.1).collect();
    assert_eq!(times, [at(-7_200), at(-3_600), at(10), at(-1_800)]);
    let lates: Vec<bool> = commit.effects.observations.iter().map(|(row, _)| row.late).collect();
    assert_eq!(lates, [true, true, false, true]);
    assert!(commit.effects.alarms.is_empty(), "{:?}", commit.effects.alarms);
    let counts = &commit.effects.counts;
    assert_eq!((counts.observations_late, counts.times_refused.iter().sum::<u64>()), (3, 1));
    assert_eq!((counts.frames_decoded, counts.frames_duplicate.iter().sum::<u64>()), (3, 1));
    commit.check(engine.site());
    // What was never news cannot be old news either: the device may say now what its history said.
    let effects = engine.step(at(20), &[messages("city", at(20), &[r#"{"cover_open":true}"#])]);
    assert_eq!(alarms(&effects), ["displaced:active"]);
}

#[test]
fn a_device_that_only_sends_history_is_not_silent() {
    let mut engine = engine(tight());
    engine.step(at(10), &[messages("city", at(10), &[r#"{"tilt_deg":1}"#])]);
    assert_eq!(alarms(&tick(&mut engine, 10 + 1_800)), ["silent:active"]);
    let history = format!(r#"{{"history":[{{"tilt_deg":80,"ts":{}}}]}}"#, at(600).0);
    let effects = engine.step(at(2_000), &[messages("city", at(2_000), &[&history])]);
    assert_eq!(alarms(&effects), ["silent:cleared"]);
}

#[test]
fn a_mended_profile_reads_what_could_not_be_read_and_the_others_stay_where_they_are() {
    let mut old = tight();
    let mut blind = (*old.profiles[0]).clone();
    blind.points[1].origin = Origin::Json(vec![JsonPath::parse("misspelt").unwrap()]);
    old.profiles = vec![Arc::new(blind)];
    let mut engine = engine(old);
    let mut commit = Commit::default();
    let (tilt, level) = (r#"{"tilt_deg":7}"#, r#"{"level_mm":5}"#);
    commit.step(&mut engine, at(10), vec![messages("city", at(10), &[level, tilt, r#"{"level_mm":6}"#])]);
    commit.step(&mut engine, at(20), vec![messages("city", at(20), &[tilt])]);
    assert_eq!(commit.effects.observations.len(), 2);
    let times = |rows: Vec<Row>| rows.into_iter().map(|row| row.1).collect::<Vec<_>>();
    let placed = Timestamp(at(10).0 + 1);
    assert_eq!(times(commit.again(engine.site())), [at(10), placed]);
    assert_eq!(times(commit.again(&Site::new(tight()))), [at(10), at(10), placed, at(20)]);
}

#[test]
fn the_tags_of_a_message_go_with_its_readings() {
    let mut engine = engine(tight());
    let mut frames = Frames::new(Arc::from("city"), at(10));
    let payloads = [("north", 1), ("north", 2), ("", 3), ("south", 4)];
    for (operator, device) in payloads {
        let tags = tags(operator);
        let tags = Some(&tags).filter(|_| !operator.is_empty());
        frames.push(&format!("d01/manhole/MH-{}", device % 3 + 1), br#"{"tilt_deg":1}"#, FrameFlags::default(), tags);
    }
    let mut commit = Commit::default();
    commit.step(&mut engine, at(10), vec![Input::Frames(frames)]);
    let seen: Vec<Option<Tags>> = rows(&commit.effects.observations).into_iter().map(|row| row.3).collect();
    assert_eq!(seen, [Some(tags("north")), Some(tags("north")), None, Some(tags("south"))]);
    commit.check(engine.site());
}

// === whatever comes, however it is cut

#[derive(Clone, Debug)]
struct Sent {
    way: usize,
    device: u8,
    payloads: Vec<String>,
    flags: FrameFlags,
    operator: Option<bool>,
    pause_ms: i64,
    /// As one frame that stands alone, if it is only one.
    alone: bool,
    ends_step: bool,
    ends_commit: bool,
}

fn payload() -> impl Strategy<Value = String> {
    let times = prop_oneof![6 => 0..4_i64, 1 => Just(-9_000), 1 => Just(-1_800_000_000), 1 => Just(9_000)];
    let row = prop_oneof![
        6 => (0..3, times.clone()).prop_map(|(level, ts)| format!(r#"{{"level_mm":{level},"ts":{}}}"#, at(ts).0)),
        1 => Just(r#"{"level_mm":1}"#.to_owned()),
        1 => Just("{}".to_owned()),
    ];
    let own = prop::sample::select(vec!["", r#""level_mm":2,"#, r#""cover_open":true,"ts":1800000001000,"#]);
    let history = (own, prop::collection::vec(row, 0..4))
        .prop_map(|(own, rows)| format!(r#"{{{own}"history":[{}]}}"#, rows.join(",")));
    prop_oneof![
        3 => history,
        2 => any::<bool>().prop_map(|open| format!(r#"{{"cover_open":{open}}}"#)),
        4 => (0..3).prop_map(|level| format!(r#"{{"level_mm":{level}}}"#)),
        4 => (0..3, times).prop_map(|(level, ts)| format!(r#"{{"level_mm":{level},"ts":{}}}"#, at(ts).0)),
        1 => Just("{".to_owned()),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let pauses = prop_oneof![5 => Just(0_i64), 3 => 0..500_i64, 1 => 0..70_000_i64];
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.2))
        .prop_map(|(retained, redelivered)| FrameFlags { retained, redelivered });
    let frame = (0..2_usize, 1..5_u8, prop::collection::vec(payload(), 0..6), flags, any::<Option<bool>>());
    let cuts = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.3));
    (frame, pauses, cuts).prop_map(|(frame, pause_ms, (alone, ends_step, ends_commit))| {
        let (way, device, payloads, flags, operator) = frame;
        Sent { way, device, payloads, flags, operator, pause_ms, alone, ends_step, ends_commit }
    })
}

fn input(sent: &Sent, received_at: Timestamp) -> Input {
    let source: Arc<str> = Arc::from(["city", "bridge"][sent.way]);
    // The fourth device is unknown.
    let topic = format!("d01/manhole/MH-{}", sent.device);
    if let ([payload], true) = (sent.payloads.as_slice(), sent.alone) {
        return Input::Frame(Frame {
            source,
            address: ByteText::from(topic),
            payload: Payload::Bytes(payload.clone().into()),
            received_at,
            retained: sent.flags.retained,
        });
    }
    let tags = sent.operator.map(|north| tags(if north { "north" } else { "south" }));
    let mut frames = Frames::new(source, received_at);
    sent.payloads.iter().for_each(|payload| frames.push(&topic, payload.as_bytes(), sent.flags, tags.as_ref()));
    Input::Frames(frames)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_commit_that_is_decoded_again_gives_what_it_gave_live(all in prop::collection::vec(sent(), 1..60)) {
        let mut engine = engine(tight());
        let (mut now, mut batch, mut commit) = (at(0), Vec::new(), Commit::default());
        for (position, sent) in all.iter().enumerate() {
            now = Timestamp(now.0 + sent.pause_ms);
            batch.push(input(sent, now));
            let is_last = position + 1 == all.len();
            if sent.ends_step || sent.ends_commit || is_last {
                commit.step(&mut engine, now, std::mem::take(&mut batch));
            }
            if sent.ends_commit || is_last {
                let commit = std::mem::take(&mut commit);
                prop_assert_eq!(commit.again(engine.site()), rows(&commit.effects.observations));
            }
        }
    }
}
