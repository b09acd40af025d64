//! Same input, same output: any configuration of rules, tests of quality and incidents tells the same story and comes
//! to the same state, however its frames are cut into batches, and with a restart from a snapshot after any of them.

mod street;

use std::collections::BTreeSet;
use std::sync::Arc;

use kerbside_engine::{ENGINE_VERSION, Engine};
use kerbside_model::{Effects, Input, Site, Timestamp};
use proptest::prelude::*;

use crate::street::{Choice, Event, RULES, START, choices, histories, inputs, profile, site};

/// Everything that leaves the engine, in order, and the state that is left.
#[derive(Debug, Default, PartialEq)]
struct Story {
    lines: Vec<String>,
    incidents: Vec<String>,
    state: Vec<u8>,
}

impl Story {
    fn hear(&mut self, effects: &Effects) {
        self.lines.extend(effects.alarms.iter().map(|alarm| format!("{alarm:?}")));
        self.lines.extend(effects.cases.iter().map(|case| format!("{case:?}")));
        self.lines.extend(effects.case_events.iter().map(|event| format!("{event:?}")));
        self.lines.extend(effects.outbox.iter().map(|row| format!("{row:?}")));
        self.lines.extend(effects.audit.iter().map(|audit| format!("{audit:?}")));
        self.lines.extend(effects.undecoded.iter().map(|undecoded| format!("{undecoded:?}")));
        for (row, readings) in effects.observations.iter() {
            let (device, times) = (row.device, (row.observed_at, row.received_at));
            self.lines.push(format!("{device:?} {times:?} {} {readings:?}", row.late));
        }
    }
}

/// How the inputs are cut: after how many, and where the engine is restarted.
#[derive(Clone, Copy)]
enum Cut<'a> {
    /// Each input by itself.
    Single,
    /// Frames together until something else happens.
    Largest,
    /// After these, with a restart from a snapshot each time.
    Restarts(&'a [usize]),
}

impl Cut<'_> {
    fn is_here(self, position: usize) -> bool {
        match self {
            Cut::Single => true,
            Cut::Largest => false,
            Cut::Restarts(places) => places.iter().any(|place| position % (place + 1) == *place),
        }
    }
}

/// Frames bear the time of their arrival; all else happens when it is told, and so ends the batch before it.
fn run(site: &Arc<Site>, inputs: &[(Timestamp, Option<Input>)], cut: Cut<'_>) -> Story {
    let mut engine = Engine::new(Arc::clone(site));
    let mut story = Story::default();
    story.hear(&engine.step(START, &[Input::Site(Arc::clone(site))]));
    let mut batch: Vec<Input> = Vec::new();
    for (position, (now, input)) in inputs.iter().enumerate() {
        let is_frame = |input: Option<&Input>| matches!(input, Some(Input::Frame(_)));
        batch.extend(input.clone());
        let next = inputs.get(position + 1).and_then(|(_, next)| next.as_ref());
        if is_frame(input.as_ref()) && is_frame(next) && !cut.is_here(position) {
            continue;
        }
        story.hear(&engine.step(*now, &batch));
        batch.clear();
        if let Cut::Restarts(_) = cut {
            engine = Engine::restore(Arc::clone(site), ENGINE_VERSION, &engine.snapshot()).expect("our own snapshot");
        }
    }
    let last = inputs.last().map_or(START, |(now, _)| *now);
    story.hear(&engine.step(Timestamp(last.0 + 8 * 3_600_000), &[]));
    story.lines.sort();
    story.incidents = engine.incidents().iter().map(|incident| format!("{incident:?}")).collect();
    story.state = engine.snapshot();
    story
}

/// The first line in which two stories differ, so that a failure can be read.
fn difference(left: &Story, right: &Story) -> Option<String> {
    let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) = (left.lines.iter().collect(), right.lines.iter().collect());
    if let Some(line) = ours.symmetric_difference(&theirs).next() {
        return Some((*line).clone());
    }
    if left.incidents != right.incidents {
        return Some(format!("{:#?} {:#?}", left.incidents, right.incidents));
    }
    (left != right).then(|| "the same story, and another state".to_owned())
}

fn check(choices: &[Choice], history: &[(i64, Event)], places: &[usize]) -> Result<(), TestCaseError> {
    let (site, inputs) = (site(choices), inputs(history));
    let whole = run(&site, &inputs, Cut::Largest);
    for cut in [Cut::Single, Cut::Restarts(places)] {
        prop_assert_eq!(difference(&whole, &run(&site, &inputs, cut)), None);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_configuration_tells_the_same_story_however_it_is_cut_and_restarted(
        choices in choices(), history in histories(), places in prop::collection::vec(0..12_usize, 1..3),
    ) {
        check(&choices, &history, &places)?;
    }
}

#[test]
fn every_rule_can_be_chosen() {
    for (position, text) in RULES.iter().enumerate() {
        let read = profile(0, &Choice::of_rule(position));
        let name = read.map(|profile| profile.detectors[0].rule.name());
        assert_eq!(name, Ok(text.split(':').next().expect("a text has a first part")));
    }
}
