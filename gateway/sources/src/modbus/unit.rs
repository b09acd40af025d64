//! One unit of a bus: its beats, what is known about it, whether it answers, and what it costs.
//!
//! Joins `beats`, `knowledge`, `breaker` and `plan`: at its due time it gives a poll, and takes in what that has shown.
//! Plain functions over state in memory; after a crash it is learned again within a few polls.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::profile::RegisterField;
use kerbside_model::{RegisterFailure, Timestamp};

use crate::modbus::UnitPlan;
use crate::modbus::beats::{Beats, Weather};
use crate::modbus::breaker::{Breaker, Pace};
use crate::modbus::knowledge::{Bad, BadKind, Findings, Knowledge};
use crate::modbus::plan::{self, Cost, Limits, Piece, Request, Rules};
use crate::modbus::poll::{self, Gathered, Outcome, Patience, Poll, Task};
use crate::modbus::silence::Learning;

/// A unit without an answer is asked for so many planned requests before it is asked for a single place.
const PLANNED_TURNS_MAX: usize = 3;

/// Why a gap is not read through.
const HOLE: &str = "no answer to requests across this gap";

/// Plans of one unit that are kept: one for each set of beats that falls together.
const PLANS_MAX: usize = 16;

/// What a unit has in common with its bus.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings {
    /// What a request to it costs.
    pub(super) cost: Cost,
    /// Longest time between probes that hurt nobody, in the clock's time.
    pub(super) probe_wait_max: Duration,
    /// How long registers that it does not have are left alone, in the clock's time.
    pub(super) quarantine: Duration,
    /// Registers that were read further apart than this, in the clock's time, go into frames of their own.
    pub(super) frame_spread_max: Duration,
    /// After a wait in vain the unit may still answer for so long, in the clock's time, and that cannot be told from the
    /// answer to another request of the same length; zero where it can.
    pub(super) owing: Duration,
}

/// A plan for some beats.
#[derive(Debug)]
struct Prepared {
    beats: Vec<u16>,
    generation: u64,
    pieces: Arc<[Piece]>,
    /// Places that are left alone.
    left_out: Vec<Request>,
}

/// A unit and all that is known about it.
#[derive(Debug)]
pub(super) struct Unit {
    /// Unit id on the wire.
    pub(super) id: u8,
    limits: Limits,
    surroundings: Surroundings,
    beats: Beats,
    breaker: Breaker,
    knowledge: Knowledge,
    plans: Vec<Prepared>,
    /// Which piece is asked first.
    first: usize,
    scouts: Scouts,
    couples: Arc<[[Request; 2]]>,
}

/// Single places that are asked to see whether the unit is there: a planned request may be silent for a reason of its
/// own.
#[derive(Debug, Default)]
struct Scouts {
    /// The last one that was answered.
    good: Option<Request>,
    /// How many were silent since then.
    silent: usize,
}

impl Scouts {
    /// The next one of all places of the unit, which are not empty: the one that was answered, then all of them in
    /// leaps, because neighbours have the same fate.
    fn next(&self, places: &[Request]) -> Request {
        if let Some(good) = self.good.filter(|good| places.contains(good))
            && self.silent == 0
        {
            return good;
        }
        places[self.silent.wrapping_mul(leap(places.len())) % places.len()]
    }

    fn note(&mut self, scout: Request, has_answer: bool) {
        if has_answer {
            (self.good, self.silent) = (Some(scout), 0);
        } else {
            self.silent = self.silent.wrapping_add(1);
        }
    }
}

/// About the golden section of a circle with so many places, and without a divisor in common, so that leaps spread
/// evenly and miss none.
fn leap(places: usize) -> usize {
    let mut leap = (places * 618 / 1_000).max(1);
    while greatest_common_divisor(leap, places) != 1 {
        leap += 1;
    }
    leap
}

fn greatest_common_divisor(one: usize, other: usize) -> usize {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

/// What a poll came to.
#[derive(Debug)]
pub(super) struct Polled {
    pub(super) frames: Vec<Gathered>,
    /// Whether what [`Unit::complaint`] says may have changed.
    pub(super) is_news: bool,
    /// Polls that were skipped because the bus was busy when they were due.
    pub(super) late: u64,
}

impl Unit {
    /// `first_due` is the first poll.
    pub(super) fn new(plan: &UnitPlan, first_due: Timestamp, surroundings: Surroundings) -> Unit {
        let beats = Beats::new(&plan.beats, first_due);
        Unit {
            id: plan.unit,
            limits: plan.limits,
            breaker: Breaker::new(beats.shortest(), surroundings.probe_wait_max),
            surroundings,
            beats,
            knowledge: Knowledge::default(),
            plans: Vec::new(),
            first: 0,
            scouts: Scouts::default(),
            couples: plan.beats.iter().flat_map(|beat| couples(&beat.fields)).collect(),
        }
    }

    /// When it is to be asked next.
    pub(super) fn due(&self) -> Timestamp {
        self.breaker.due(self.beats.due())
    }

    /// The shortest time between its polls as the weather is.
    pub(super) fn period(&self) -> Duration {
        self.beats.shortest()
    }

    /// Whether it answers nothing and is only probed.
    pub(super) fn is_silent(&self) -> bool {
        self.breaker.is_open()
    }

    /// Whether its last poll had no answer.
    pub(super) fn is_suspected(&self) -> bool {
        self.breaker.silent_polls() > 0
    }

    /// Whether it takes time that others could have: it is silent, or silent about something that is not found yet.
    pub(super) fn is_failing(&self) -> bool {
        self.is_suspected() || self.knowledge.is_searching()
    }

    /// The state of its circuit breaker, for people.
    pub(super) fn state_name(&self) -> &'static str {
        self.breaker.state_name()
    }

    /// What is left alone and why.
    pub(super) fn quarantine(&self) -> impl Iterator<Item = (RegisterFailure, Timestamp)> + '_ {
        let bad = self.knowledge.bad().iter().map(|bad| (poll::failure(bad.place, bad.cause.clone()), bad.until));
        let holes = self.knowledge.holes().map(|(gap, until)| (poll::failure(gap, HOLE.to_owned()), until));
        bad.chain(holes)
    }

    /// What an operator should know about it.
    pub(super) fn complaint(&self) -> Option<String> {
        let unit = self.id;
        if self.is_silent() {
            return Some(format!("unit {unit} does not answer: {}", self.breaker.cause()));
        }
        let mut bad = self.knowledge.bad().iter();
        let first = bad.next()?;
        let Request { table, address, .. } = first.place;
        let more = if bad.len() > 0 { format!(", and {} more", bad.len()) } else { String::new() };
        Some(format!("unit {unit} {table:?} {address}: {}{more}", first.cause).to_lowercase())
    }

    /// Follows the weather.
    pub(super) fn set_weather(&mut self, weather: Weather, now: Timestamp) {
        self.beats.set_weather(weather, now);
    }

    /// Brings due times nearer that lie too far away because the clock was set back.
    pub(super) fn keep_due_near(&mut self, now: Timestamp) {
        self.beats.keep_near(now);
        self.breaker.keep_near(now);
    }

    /// Probes a silent unit no later than after `wait`.
    pub(super) fn probe_within(&mut self, now: Timestamp, wait: Duration) {
        self.breaker.probe_within(now, wait);
    }

    /// Polls what is there soon: its link has come back.
    pub(super) fn poll_within(&mut self, now: Timestamp, wait: Duration) {
        self.beats.poll_within(now, wait);
        self.breaker.probe_within(now, wait);
    }

    /// ... and no later than it would be if nobody else were on the bus.
    pub(super) fn probe_freely(&mut self, now: Timestamp) {
        self.breaker.probe_within(now, self.surroundings.probe_wait_max.max(self.period()));
    }

    /// Begins a poll of what is due.
    pub(super) fn begin(&mut self, now: Timestamp, pace: &Pace) -> Poll {
        self.knowledge.begin(now, self.surroundings.quarantine);
        self.breaker.begin();
        let mut beats = self.beats.due_at(now);
        if beats.is_empty() {
            // A probe of a unit whose points are not due: it is asked for what comes next.
            beats = self.beats.due_at(self.beats.due());
        }
        let (pieces, left_out) = self.prepare(&beats);
        let mut recheck = self.recheck(&left_out, now);
        let scout = self.scout(&pieces);
        if pieces.is_empty() && scout.is_none() && recheck.is_none() {
            // Something must be asked, or the unit would never be heard of again.
            recheck = self.oldest_bad(&left_out);
        }
        let reason = |place: &&Request| Some((**place, self.knowledge.reason_against(place)?));
        let left_out = left_out
            .iter()
            .filter(|place| recheck != Some(**place))
            .filter_map(|place| reason(&place))
            .map(|(place, cause)| poll::failure(place, cause.to_owned()));
        let left_out = left_out.collect();
        let is_first_silence = !self.is_suspected();
        let patience = Patience {
            // One lost answer must not cost a healthy unit its whole poll; one that is silent already costs one timeout.
            first_silences_max: if is_first_silence { 2 } else { 1 },
            pace: *pace,
            first_wait: self.breaker.patience(pace),
            frame_spread_max: self.surroundings.frame_spread_max,
        };
        let (first, couples) = (self.first, Arc::clone(&self.couples));
        let known_tables = self.knowledge.known_tables();
        let tries = self.knowledge.tries(now);
        let task = Task { beats, pieces, first, left_out, scout, recheck, tries, couples, patience, known_tables };
        Poll::new(task, now)
    }

    /// A place that is asked before everything else. A unit without an answer is asked in turns as planned and for one
    /// place, because what is planned may be silent for a reason of its own. Where nothing is planned, because all of it
    /// is under suspicion, the place shows that the unit is there.
    fn scout(&self, pieces: &[Piece]) -> Option<Request> {
        let turns = pieces.len().min(PLANNED_TURNS_MAX) + 1;
        let is_turn = self.breaker.silent_polls() as usize % turns == turns - 1;
        let is_wanted = if pieces.is_empty() { self.knowledge.is_searching() } else { is_turn };
        is_wanted.then(|| self.scouts.next(&self.beats.all_places()))
    }

    /// What the unit has refused longest ago, when it is time to ask again.
    fn recheck(&self, places: &[Request], now: Timestamp) -> Option<Request> {
        let is_due = |bad: &&Bad| bad.kind == BadKind::Refused && bad.until <= now && places.contains(&bad.place);
        let due = self.knowledge.bad().iter().filter(is_due);
        due.min_by_key(|bad| bad.until).map(|bad| bad.place)
    }

    fn oldest_bad(&self, places: &[Request]) -> Option<Request> {
        let bad = self.knowledge.bad().iter().filter(|bad| places.contains(&bad.place));
        bad.min_by_key(|bad| (bad.kind == BadKind::Silent, bad.until)).map(|bad| bad.place)
    }

    /// The plan for these beats: the requests, and the places that are left out.
    fn prepare(&mut self, beats: &[u16]) -> (Arc<[Piece]>, Vec<Request>) {
        let generation = self.knowledge.generation();
        let known = |plan: &&Prepared| plan.generation == generation && plan.beats == beats;
        if let Some(plan) = self.plans.iter().find(known) {
            return (Arc::clone(&plan.pieces), plan.left_out.clone());
        }
        let places = self.beats.places(beats);
        let is_planned = |place: &Request| self.knowledge.reason_against(place).is_none();
        let (planned, left_out): (Vec<Request>, Vec<Request>) = places.into_iter().partition(is_planned);
        let borders = self.knowledge.borders();
        let rules = Rules { limits: self.limits, cost: self.surroundings.cost, borders: &borders };
        let pieces: Arc<[Piece]> = plan::pieces(&planned, &rules).into();
        self.plans.retain(|plan| plan.generation == generation);
        if self.plans.len() >= PLANS_MAX {
            self.plans.remove(0);
        }
        let prepared =
            Prepared { beats: beats.to_vec(), generation, pieces: Arc::clone(&pieces), left_out: left_out.clone() };
        self.plans.push(prepared);
        (pieces, left_out)
    }

    /// Ends a poll, which was over at `now`.
    pub(super) fn end(&mut self, poll: Poll, now: Timestamp, pace: &Pace) -> Polled {
        let Outcome { beats, frames, findings, has_answer, has_lost_bus, silence, first, scouted, pieces } = poll.end();
        let was_silent = self.is_silent();
        self.first = first;
        if let Some((scout, is_answered)) = scouted.filter(|_| !has_lost_bus) {
            self.scouts.note(scout, is_answered);
        }
        let mut has_learned = false;
        if has_answer {
            if self.is_suspected() && !findings.silent.is_empty() {
                self.breaker.forget_losses();
            }
            self.breaker.answered(now, pace);
            let next = pieces.iter().map(|piece| piece.request).chain(scouted.map(|(scout, _)| scout));
            if owes_one_of(&findings, next) {
                // The next poll would wait for what is owed, and the whole bus with it.
                self.breaker.put_off(now.plus(self.surroundings.owing));
            }
            if !self.knowledge.is_untouched_by(&findings) {
                let Surroundings { quarantine, owing, .. } = self.surroundings;
                has_learned = self.knowledge.learn(findings, Learning { now, pace, quarantine, owing });
            }
        } else if has_lost_bus {
            self.breaker.unasked(now, self.beats.shortest());
        } else if let Some((cause, pace)) = silence {
            self.breaker.silent(now, &pace, cause);
        } else {
            // Nothing could be asked: all places of these beats are left alone for now.
            self.breaker.unasked(now, self.beats.shortest());
        }
        let late = self.beats.advance(&beats, now);
        let is_news = has_learned || was_silent != self.is_silent();
        // Polls that fell out while the unit was only probed, or the bus was away, are not for want of time.
        let late = if was_silent || has_lost_bus { 0 } else { late };
        Polled { frames, is_news, late }
    }
}

/// Whether an answer that may still come could be taken for one of the next poll: what was silent is not planned again.
fn owes_one_of(findings: &Findings, mut next: impl Iterator<Item = Request>) -> bool {
    let owed: Vec<Request> = findings.silent.iter().map(|silence| silence.piece.request).collect();
    next.any(|next| owed.iter().any(|owed| *owed != next && owed.looks_like(&next)))
}

/// Places that mean nothing without each other: a value and its power of ten.
fn couples(fields: &[RegisterField]) -> Vec<[Request; 2]> {
    let mut couples = Vec::new();
    for field in fields {
        if let Some(power) = field.power {
            couples.push([plan::place(field), plan::place(&power.field())]);
        }
    }
    couples
}

#[cfg(test)]
mod tests;
