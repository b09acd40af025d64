//! The units of one bus in the order in which they are due, and what the silence of one does to the others.
//!
//! Plain functions over state in memory, in the clock's time; `bus` gives them a line.

use std::time::Duration;

use kerbside_model::Timestamp;

use crate::modbus::UnitPlan;
use crate::modbus::beats::Weather;
use crate::modbus::breaker::Pace;
use crate::modbus::poll::Poll;
use crate::modbus::unit::{Polled, Surroundings, Unit};

/// An answer that is not expected is waited for so many times as long as the slowest sound one took: a unit that has
/// just started, or a radio link in the rain, is about so much slower than usual.
const SHORT_WAIT_ANSWERS: u32 = 4;

/// ... and no shorter than this, in real time: the jitter of a converter or a mobile network.
pub(super) const SHORT_WAIT_MIN: Duration = Duration::from_millis(250);

/// The slowest answer is one of about so many: a single odd one is forgotten within a minute or two of polls.
const ANSWERS_REMEMBERED: u32 = 64;

/// When one silent unit is back the others may be too, because they had one fuse: they are probed one after the other,
/// so far apart that nobody else misses a poll ...
const RETURN_SPACING: Duration = Duration::from_secs(1);

/// ... and no more often than this: a unit that comes and goes must not spend what the others have.
const RETURN_INTERVAL: Duration = Duration::from_secs(600);

/// The units of one bus.
#[derive(Debug)]
pub(super) struct Roster {
    members: Vec<Member>,
    /// When silent units were last probed because one of them was back.
    returned_at: Option<Timestamp>,
    failing_share: f64,
    /// No answer is waited for less than this.
    short_wait_min: Duration,
}

#[derive(Debug)]
struct Member {
    unit: Unit,
    timeout: Duration,
    /// The slowest of its answers lately.
    slowest: Option<Duration>,
}

/// What the roster is made of.
pub(super) struct NewMember<'a> {
    pub(super) plan: &'a UnitPlan,
    pub(super) first_due: Timestamp,
    /// Longest wait for an answer.
    pub(super) timeout: Duration,
    pub(super) surroundings: Surroundings,
}

impl Roster {
    /// `failing_share` is the share of the bus's time for silent units, above 0 and at most 1; `short_wait_min` is
    /// [`SHORT_WAIT_MIN`] in the clock's time.
    pub(super) fn new<'a>(
        members: impl Iterator<Item = NewMember<'a>>,
        failing_share: f64,
        short_wait_min: Duration,
    ) -> Roster {
        let member = |new: NewMember<'_>| Member {
            unit: Unit::new(new.plan, new.first_due, new.surroundings),
            timeout: new.timeout,
            slowest: None,
        };
        Roster { members: members.map(member).collect(), returned_at: None, failing_share, short_wait_min }
    }

    /// A unit.
    pub(super) fn unit(&self, index: usize) -> &Unit {
        &self.members[index].unit
    }

    /// A unit.
    pub(super) fn unit_mut(&mut self, index: usize) -> &mut Unit {
        &mut self.members[index].unit
    }

    /// All of them.
    pub(super) fn units(&self) -> impl Iterator<Item = &Unit> {
        self.members.iter().map(|member| &member.unit)
    }

    /// Which unit is due next, and when.
    pub(super) fn next_due(&mut self, now: Timestamp) -> (usize, Timestamp) {
        let is_all_silent = self.units().all(Unit::is_silent);
        for Member { unit, .. } in &mut self.members {
            unit.keep_due_near(now);
            if is_all_silent {
                // The line was cut, or its power. What the first of them waited for the sake of the others is void.
                unit.probe_freely(now);
            }
        }
        let dues = self.units().map(Unit::due).enumerate();
        dues.min_by_key(|(_, due)| *due).expect("a bus without units is refused")
    }

    /// The shortest time between two polls of any unit.
    pub(super) fn shortest_period(&self) -> Duration {
        self.units().map(Unit::period).min().expect("a bus without units is refused")
    }

    pub(super) fn set_weather(&mut self, weather: Weather, now: Timestamp) {
        for Member { unit, .. } in &mut self.members {
            unit.set_weather(weather, now);
        }
    }

    /// Ends a poll of this unit, which was over at `now`.
    pub(super) fn end(&mut self, index: usize, poll: Poll, now: Timestamp, pace: &Pace) -> Polled {
        let was_silent = self.members[index].unit.is_silent();
        let polled = self.members[index].unit.end(poll, now, pace);
        let is_silent = self.members[index].unit.is_silent();
        if is_silent && pace.is_harmful() {
            self.spread_probes(now, pace.spacing());
        }
        let is_back = was_silent && !is_silent;
        if is_back && self.returned_at.is_none_or(|at| at > now || now.since(at) >= RETURN_INTERVAL) {
            self.returned_at = Some(now);
            let silent = self.members.iter_mut().filter(|member| member.unit.is_silent());
            for (Member { unit, .. }, place) in silent.zip(1..) {
                unit.probe_within(now, RETURN_SPACING * place);
            }
        }
        polled
    }

    /// Silent units are probed in turns and evenly, so that the first that is back is noticed soon.
    fn spread_probes(&mut self, now: Timestamp, spacing: Duration) {
        let silent = self.members.iter_mut().map(|member| &mut member.unit).filter(|unit| unit.is_silent());
        let mut silent: Vec<&mut Unit> = silent.collect();
        silent.sort_by_key(|unit| unit.due());
        for (unit, turn) in silent.into_iter().zip(1..) {
            unit.probe_within(now, spacing * turn);
        }
    }

    /// Polls all units soon, because their link has come back: the first at once, the others spread over `spread_max`, or
    /// over their period when that is shorter.
    pub(super) fn poll_soon(&mut self, now: Timestamp, spread_max: Duration) {
        let count = self.members.len() as f64;
        for (index, Member { unit, .. }) in self.members.iter_mut().enumerate() {
            let spread = unit.period().min(spread_max);
            unit.poll_within(now, spread.mul_f64(index as f64 / count));
        }
    }

    /// Asks this unit at once, if it is only probed.
    pub(super) fn probe_now(&mut self, id: u8, now: Timestamp) {
        for Member { unit, .. } in self.members.iter_mut().filter(|member| member.unit.id == id) {
            unit.probe_within(now, Duration::ZERO);
        }
    }

    /// Takes in how long a sound answer of this unit took, without its way over a serial line.
    pub(super) fn note_answer(&mut self, index: usize, took: Duration) {
        let slowest = &mut self.members[index].slowest;
        let faded = slowest.unwrap_or_default();
        *slowest = Some(took.max(faded.saturating_sub(faded / ANSWERS_REMEMBERED)));
    }

    /// How long an answer is waited for that is not expected: a few times as long as the slowest sound answer of the
    /// unit lately, or of the bus while there was none. The timeout while nothing was answered at all.
    fn short_wait(&self, index: usize) -> Duration {
        let Member { timeout, slowest, .. } = &self.members[index];
        let slowest = slowest.or_else(|| self.members.iter().filter_map(|member| member.slowest).max());
        slowest.map_or(*timeout, |slowest| {
            slowest.saturating_mul(SHORT_WAIT_ANSWERS).max(self.short_wait_min).min(*timeout)
        })
    }

    /// What a timeout of this unit does to the others. Nothing where all silent units together are waited for in less
    /// than half of the shortest period: then the others are read late, and not skipped.
    pub(super) fn pace(&self, index: usize) -> Pace {
        let full = self.members[index].timeout;
        let free = Pace::free(full, self.short_wait(index));
        let others = || self.members.iter().enumerate().filter(move |(other, _)| *other != index);
        let healthy = others().filter(|(_, member)| !member.unit.is_silent());
        let shortest = healthy.map(|(_, member)| member.unit.period()).min();
        let Some(shortest) = shortest else { return free };
        let failing = others().filter(|(_, member)| member.unit.is_failing());
        let timeouts = failing.clone().map(|(_, member)| member.timeout).sum::<Duration>() + full;
        if timeouts < shortest / 2 {
            return free;
        }
        let count = u32::try_from(failing.clone().count() + 1).expect("a bus has 256 units at most");
        let pace = Pace { harmless_below: shortest / 2 / count, share: self.failing_share, ..free };
        let probe_time = |(other, member): (usize, &Member)| {
            Pace { full: member.timeout, short: self.short_wait(other), ..pace }.probe_time()
        };
        Pace { others: failing.map(probe_time).sum(), ..pace }
    }
}

#[cfg(test)]
mod tests;
