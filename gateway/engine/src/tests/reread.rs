//! What is left of a frame that is read again: its user properties, and one point of an uplink that came twice.

use std::sync::Arc;

use kerbside_model::site::SiteFacts;
use kerbside_model::{
    Device, DuplicateReason, FrameFlags, Frames, Input, Observations, ServiceState, Site, StoredInput, Tag, Tags,
    Undecoded, UntaggedAgain,
};

use super::change::again;
use super::envelopes::{Up, servers};
use super::support::*;
use crate::Engine;
use crate::decode::{Certainty, Decoders, decode_again};

const TOPIC: &str = "application/b1/device/24e124713b000009/event/up";

/// The servers with the device that nobody had heard of.
fn with_stranger() -> SiteFacts {
    let mut facts = servers();
    facts.devices.push(Device { address: "24e124713b000009".to_owned(), ..device("MH-9", ServiceState::InService) });
    facts
}

fn tags(operator: &str) -> Tags {
    Arc::from([Tag { name: "operator".into(), value: operator.into() }])
}

/// An uplink of the stranger that tells no time, so many seconds after the start, with the name of its operator.
fn stranger(source: &str, counter: u32, seconds: i64) -> Input {
    let up = Up { device: 9, seconds: None, ..Up::of(counter, r#"{"tilt_deg":3}"#, 0) };
    let mut frames = Frames::new(Arc::from(source), at(seconds));
    frames.push(TOPIC, up.payload().as_bytes(), FrameFlags::default(), Some(&tags(source)));
    Input::Frames(frames)
}

fn unread(inputs: &[Input]) -> (Engine, Vec<Undecoded>) {
    let mut engine = engine(servers());
    let undecoded = engine.step(at(60), inputs).undecoded;
    assert_eq!(undecoded.len(), inputs.len());
    engine.step(at(100), &[Input::Change { site: Arc::new(Site::new(with_stranger())), by: "wu".to_owned() }]);
    (engine, undecoded)
}

fn rows(observations: &Observations) -> Vec<(i64, Option<Tags>)> {
    let row = |(row, _): (&kerbside_model::reading::Observation, &[kerbside_model::PointReading])| {
        (row.observed_at.0 - at(0).0, observations.tags(row).cloned())
    };
    observations.iter().map(row).collect()
}

#[test]
fn the_user_properties_of_a_message_are_kept_until_it_is_read() {
    let (mut engine, undecoded) = unread(&[stranger("north", 1, 10), stranger("south", 2, 20)]);
    let effects = engine.step(at(120), &[Input::Again(again(&undecoded))]);
    assert_eq!(rows(&effects.observations), [(10_000, Some(tags("north"))), (20_000, Some(tags("south")))]);
}

#[test]
fn an_uplink_that_came_twice_is_one_point_when_it_is_read() {
    let uplinks =
        [stranger("north", 1, 10), stranger("south", 1, 10), stranger("north", 2, 11), stranger("south", 2, 12)];
    let (mut engine, mut undecoded) = unread(&uplinks);
    undecoded.push(undecoded[2].clone());
    undecoded[4].frame.received_at = at(3_600);
    let inputs = vec![Input::Again(again(&undecoded))];
    let effects = engine.step(at(4_000), &inputs);
    let times: Vec<i64> = rows(&effects.observations).into_iter().map(|row| row.0).collect();
    assert_eq!(times, [10_000, 11_000, 3_600_000], "at another time it is another one");
    let copies = effects.counts.frames_duplicate[DuplicateReason::SameUplink as usize];
    assert_eq!((effects.counts.frames_read_again, copies), (3, 2));
    assert!(effects.read_again.iter().all(|again| again.refused.is_none()), "the copies leave the list, too");
    let mut stored: Vec<StoredInput> = inputs.into_iter().map(StoredInput::from).collect();
    stored.push(StoredInput::Notes(effects.notes.clone()));
    let stored: Vec<StoredInput> = postcard::from_bytes(&postcard::to_stdvec(&stored).unwrap()).unwrap();
    let frames = stored.iter().flat_map(StoredInput::frames);
    let notes = StoredInput::notes(&stored);
    let back = decode_again(engine.site(), &Decoders::new(engine.site()), frames, Certainty::Sure, notes);
    assert_eq!(rows(&back), rows(&effects.observations), "also when it is read back from the store");
}

#[test]
fn batches_from_before_tags_were_kept_are_still_read() {
    let (engine, undecoded) = unread(&[stranger("north", 1, 10)]);
    let old = StoredInput::Again(vec![UntaggedAgain { row: 1, frame: undecoded[0].frame.clone() }]);
    let back = decode_again(engine.site(), &Decoders::new(engine.site()), old.frames(), Certainty::Sure, &[]);
    assert_eq!(rows(&back), [(10_000, None)]);
}
