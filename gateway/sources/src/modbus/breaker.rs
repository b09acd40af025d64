//! The circuit breaker of one unit: whether it is asked at all, and when again.
//!
//! Closed: the unit is read when it is due. Open: it answers nothing and is left alone until a probe is due. Half-open:
//! one request is on its way; an answer closes the breaker and the poll goes on, silence opens it for longer.
//!
//! A unit that is silent costs the bus a timeout each time. Where such a wait makes other units miss a poll, silent
//! units have a small share of the bus's time together ([`Pace`]), their probes wait but a little longer than sound
//! answers take, and a unit that loses answers now and then is read more slowly instead of being cut off. Where nobody
//! is hurt, only the growing waits between probes are kept.
//! Plain functions over state in memory; after a crash it is learned again within a few polls. No metrics of its own.

use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_runtime::Backoff;

/// After so many polls running without any answer a unit is only probed, where its timeouts hurt nobody.
const SILENT_POLLS_MAX: u32 = 3;

/// Where they hurt others: the first may be a lost packet, the second is a unit that does not answer.
const SILENT_POLLS_MAX_HARMFUL: u32 = 2;

/// The share of lost answers is a mean over about so many polls: at one a second it follows the weather on a radio link
/// within minutes.
const LOSS_MEMORY_POLLS: f64 = 64.0;

/// Losses below this are not worth slowing down for: one in ten thousand.
const LOSS_MIN: f64 = 1e-4;

/// Of so many probes that hurt others one is given the whole timeout: the others wait no longer than the slowest sound
/// answers lately seen lead to expect, and a unit that has become slower than that is still found.
const PROBES_PER_FULL_ONE: u32 = 4;

/// Where nobody misses a poll, finding out which register is met with silence takes this much of the bus's time: the
/// unit itself loses less than one poll in ten by it, and one bad register among 60 is found within a minute.
const HARMLESS_SHARE: f64 = 0.1;

/// How long an answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// A little longer than sound answers take.
    Short,
    /// The timeout of the unit.
    Full,
}

/// What a request without an answer does to the others, and how much of the bus's time silent units may take together.
/// All times are the clock's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    /// The timeout of the unit.
    pub(super) full: Duration,
    /// Where an answer is not expected it is waited for no longer than this; at most `full`.
    pub(super) short: Duration,
    /// What the probes of the other silent units take, one of each.
    pub(super) others: Duration,
    /// A request that is over sooner, although it was not answered, hurts nobody; the longest time there is when a
    /// timeout does not either.
    pub(super) harmless_below: Duration,
    /// Share of the bus's time for silent units: above 0, at most 1.
    pub(super) share: f64,
}

impl Pace {
    /// Nobody is hurt.
    pub(super) const FREE: Pace = Pace {
        full: Duration::ZERO,
        short: Duration::ZERO,
        others: Duration::ZERO,
        harmless_below: Duration::MAX,
        share: 1.0,
    };

    /// Nobody is hurt by these waits.
    pub(super) fn free(full: Duration, short: Duration) -> Pace {
        Pace { full, short, ..Pace::FREE }
    }

    /// What a request without an answer does that was over after this: a connection that is refused or closed at once
    /// hurts nobody.
    pub(super) fn of_silence(&self, took: Duration, wait: Wait) -> Pace {
        let is_cut_short = took < self.harmless_below && took < self.time(wait) / 2;
        if is_cut_short { Pace::free(self.full, self.short) } else { *self }
    }

    pub(super) fn is_harmful(&self) -> bool {
        self.harmless_below != Duration::MAX
    }

    /// How long an answer is waited for.
    pub(super) fn time(&self, wait: Wait) -> Duration {
        match wait {
            Wait::Short => self.short,
            Wait::Full => self.full,
        }
    }

    /// Mean time that a probe takes which nobody answers.
    pub(super) fn probe_time(&self) -> Duration {
        if !self.is_harmful() {
            return self.full;
        }
        (self.short * (PROBES_PER_FULL_ONE - 1) + self.full) / PROBES_PER_FULL_ONE
    }

    /// Least time between two polls of which this part gets no answer, so that the share is kept.
    fn wait(&self, loss: f64) -> Duration {
        if loss < LOSS_MIN { Duration::ZERO } else { self.rest_after(self.full, loss) }
    }

    /// Least time between two probes, so that the share is kept.
    fn probe_wait(&self) -> Duration {
        self.rest_after(self.probe_time(), 1.0)
    }

    /// Least time between two probes of any silent units, so that the share is kept.
    pub(super) fn spacing(&self) -> Duration {
        self.probe_time().mul_f64(1.0 / self.share)
    }

    /// Least time until something is tried again that was waited for in vain for so long, and so seldom is: 1 is always.
    /// Nothing where nobody is hurt.
    fn rest_after(&self, took: Duration, loss: f64) -> Duration {
        if self.is_harmful() { (took + self.others).mul_f64(loss / self.share) } else { Duration::ZERO }
    }

    /// The same for requests that find out what an answering unit is silent about: these are never for nothing.
    pub(super) fn rest_after_try(&self, took: Duration, loss: f64) -> Duration {
        if took < self.harmless_below { took.mul_f64(loss / HARMLESS_SHARE) } else { self.rest_after(took, loss) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open,
    HalfOpen,
}

/// What is known about whether a unit answers.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    silent_polls: u32,
    /// Mean share of polls without an answer while it is closed, 0 to 1.
    loss: f64,
    /// Not to be asked before this.
    not_before: Timestamp,
    probes: Backoff,
    /// Never longer than this without a probe, whatever the clock is set to.
    wait_max: Duration,
    /// Why the last silent poll was silent.
    cause: String,
}

impl Breaker {
    /// `period` is the shortest time between two polls; `wait_max` the longest between probes that hurt nobody. Both in
    /// the clock's time.
    pub(super) fn new(period: Duration, wait_max: Duration) -> Breaker {
        // A unit is probed no more often than it was polled: a wait of the backoff is half of its step at least.
        let first = period.saturating_mul(2);
        let wait_max = wait_max.max(first);
        Breaker {
            state: State::Closed,
            silent_polls: 0,
            loss: 0.0,
            not_before: Timestamp::default(),
            probes: Backoff::new(first, wait_max),
            wait_max,
            cause: String::new(),
        }
    }

    /// Whether the unit is only probed.
    pub(super) fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// In one word, for people.
    pub(super) fn state_name(&self) -> &'static str {
        match self.state {
            State::Closed if self.silent_polls > 0 => "suspected",
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        }
    }

    /// Polls running without an answer.
    pub(super) fn silent_polls(&self) -> u32 {
        self.silent_polls
    }

    /// Why the last silent poll was silent.
    pub(super) fn cause(&self) -> &str {
        &self.cause
    }

    /// When the unit may be asked, for one whose points are due at `due`.
    pub(super) fn due(&self, due: Timestamp) -> Timestamp {
        match self.state {
            State::Closed => due.max(self.not_before),
            State::Open | State::HalfOpen => self.not_before,
        }
    }

    /// Brings a probe nearer that lies too far away because the clock was set back.
    pub(super) fn keep_near(&mut self, now: Timestamp) {
        self.not_before = self.not_before.min(now.plus(self.wait_max));
    }

    /// Probes no later than after `wait`.
    pub(super) fn probe_within(&mut self, now: Timestamp, wait: Duration) {
        self.not_before = self.not_before.min(now.plus(wait));
    }

    /// How long the next request is waited for when the unit is not known to be there.
    pub(super) fn patience(&self, pace: &Pace) -> Wait {
        let is_short = self.is_open() && pace.is_harmful() && self.silent_polls % PROBES_PER_FULL_ONE != 1;
        if is_short { Wait::Short } else { Wait::Full }
    }

    /// Not to be asked before this.
    pub(super) fn put_off(&mut self, until: Timestamp) {
        self.not_before = self.not_before.max(until);
    }

    /// A poll begins.
    pub(super) fn begin(&mut self) {
        if self.state == State::Open {
            self.state = State::HalfOpen;
        }
    }

    /// A poll is over that did not ask the unit, because the bus was not there. A probe is tried again after `wait`.
    pub(super) fn unasked(&mut self, now: Timestamp, wait: Duration) {
        if self.state == State::HalfOpen {
            self.state = State::Open;
            self.not_before = now.plus(wait);
        }
    }

    /// The silence before had a cause of its own: answers are not lost.
    pub(super) fn forget_losses(&mut self) {
        self.loss = 0.0;
    }

    /// The unit has answered a poll.
    pub(super) fn answered(&mut self, now: Timestamp, pace: &Pace) {
        if self.state != State::Closed {
            // What it did while it was away says nothing about the line now.
            self.loss = 0.0;
        }
        self.state = State::Closed;
        self.silent_polls = 0;
        self.loss -= self.loss / LOSS_MEMORY_POLLS;
        self.probes.reset();
        self.not_before = now.plus(pace.wait(self.loss));
    }

    /// The unit has left a poll without any answer.
    pub(super) fn silent(&mut self, now: Timestamp, pace: &Pace, cause: String) {
        self.cause = cause;
        self.silent_polls = self.silent_polls.saturating_add(1);
        self.loss += (1.0 - self.loss) / LOSS_MEMORY_POLLS;
        let polls_max = if pace.is_harmful() { SILENT_POLLS_MAX_HARMFUL } else { SILENT_POLLS_MAX };
        if self.state == State::Closed && self.silent_polls < polls_max {
            self.not_before = now.plus(pace.wait(self.loss));
            return;
        }
        self.state = State::Open;
        let wait = self.probes.next_wait().max(pace.probe_wait());
        self.wait_max = self.wait_max.max(wait);
        self.not_before = now.plus(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const START: Timestamp = Timestamp(1_000_000);
    /// One unit with a timeout of 3 s that hurts others.
    const HARMFUL: Pace = Pace {
        full: Duration::from_secs(3),
        short: Duration::from_millis(250),
        others: Duration::ZERO,
        harmless_below: Duration::from_millis(500),
        share: 0.005,
    };

    fn silent(breaker: &mut Breaker, now: Timestamp, pace: &Pace) -> Duration {
        breaker.begin();
        breaker.silent(now, pace, "timeout".to_owned());
        breaker.due(now).since(now)
    }

    #[test]
    fn three_silent_polls_open_it_and_an_answer_closes_it() {
        let mut breaker = Breaker::new(PERIOD, MINUTE);
        for expected in ["suspected", "suspected", "open"] {
            silent(&mut breaker, START, &Pace::FREE);
            assert_eq!(breaker.state_name(), expected);
        }
        assert!(breaker.is_open() && breaker.due(START) > START);
        breaker.begin();
        assert_eq!(breaker.state_name(), "half_open");
        breaker.answered(START, &Pace::FREE);
        assert_eq!((breaker.state_name(), breaker.due(START)), ("closed", START));
    }

    #[test]
    fn probes_come_at_growing_intervals_and_never_faster_than_polls() {
        let mut breaker = Breaker::new(PERIOD, MINUTE);
        let waits: Vec<Duration> = (0..14).map(|_| silent(&mut breaker, START, &Pace::FREE)).skip(2).collect();
        assert!(waits.iter().all(|wait| *wait >= PERIOD && *wait <= MINUTE), "{waits:?}");
        assert!(waits[11] >= MINUTE / 2);
    }

    #[test]
    fn a_dead_unit_that_hurts_others_costs_two_timeouts_and_then_its_share() {
        let mut breaker = Breaker::new(PERIOD, MINUTE);
        let first = silent(&mut breaker, START, &HARMFUL);
        assert!(first >= Duration::from_secs(9) && first <= Duration::from_secs(10), "{first:?}");
        assert!(!breaker.is_open(), "one lost answer is no dead unit");
        let (mut waited, mut took) = (Duration::ZERO, Duration::ZERO);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let wait = silent(&mut breaker, START, &HARMFUL);
            assert_eq!(wait, Duration::from_micros(187_500_000), "each waits as long");
            assert!(breaker.is_open());
            waited += wait;
            waits.push(breaker.patience(&HARMFUL));
            took += HARMFUL.time(breaker.patience(&HARMFUL));
        }
        use Wait::{Full, Short};
        assert_eq!(waits, [Short, Short, Short, Full, Short, Short, Short, Full, Short]);
        assert!(took.as_secs_f64() / waited.as_secs_f64() <= 0.005, "{took:?} of {waited:?}");
    }

    #[test]
    fn ten_dead_units_share_what_one_has() {
        let nine = HARMFUL.probe_time() * 9;
        let pace = Pace { others: nine, ..HARMFUL };
        assert_eq!(pace.probe_wait(), HARMFUL.probe_wait() * 10);
    }

    #[test]
    fn a_connection_that_is_refused_hurts_nobody_and_a_short_probe_is_not_that() {
        let quick = HARMFUL.of_silence(Duration::from_millis(5), Wait::Short);
        assert!(!quick.is_harmful());
        assert!(HARMFUL.of_silence(HARMFUL.short, Wait::Short).is_harmful());
    }

    #[test]
    fn a_unit_that_loses_answers_is_read_more_slowly_and_never_cut_off() {
        let mut breaker = Breaker::new(PERIOD, MINUTE);
        let (mut now, mut polls, mut lost) = (START, 0_u32, 0_u32);
        let end = START.plus(Duration::from_secs(100_000));
        while now < end {
            polls += 1;
            breaker.begin();
            // Every fiftieth answer is lost.
            if polls.is_multiple_of(50) {
                lost += 1;
                breaker.silent(now, &HARMFUL, "timeout".to_owned());
                assert!(!breaker.is_open());
            } else {
                breaker.answered(now, &HARMFUL);
            }
            now = breaker.due(now.plus(PERIOD));
        }
        let share = f64::from(lost) * 3.0 / 100_000.0;
        assert!(share <= 0.0075, "{share} of the time is waited in vain");
        assert!(polls >= 5_000, "{polls} polls in 100,000 s");
    }

    #[test]
    fn a_bus_that_is_not_there_says_nothing_about_the_unit() {
        let mut breaker = Breaker::new(PERIOD, MINUTE);
        for _ in 0..3 {
            silent(&mut breaker, START, &Pace::FREE);
        }
        breaker.begin();
        breaker.unasked(START, PERIOD);
        assert_eq!((breaker.state_name(), breaker.silent_polls()), ("open", 3));
        assert_eq!(breaker.due(START), START.plus(PERIOD));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_put_a_probe_off() {
        let mut breaker = Breaker::new(PERIOD, MINUTE);
        for _ in 0..3 {
            silent(&mut breaker, START, &Pace::FREE);
        }
        let earlier = START.minus(Duration::from_secs(1_000_000));
        breaker.keep_near(earlier);
        assert!(breaker.due(earlier) <= earlier.plus(MINUTE));
    }
}
