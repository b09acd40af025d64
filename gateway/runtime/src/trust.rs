//! Whether the machine's clock can be believed. Turns what the machine shows, and how much time passed for certain,
//! into the time to work with.
//!
//! A box without a battery for its clock starts in 1970, or on the day its firmware was made, and is put right minutes
//! or days later. Until then the time is what was certainly reached (the newest time on the disk, the build of this
//! program) and what has passed since by a clock that nobody sets. Nothing here survives a crash: the newest time on
//! the disk is found again at the next start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kerbside_model::Timestamp;

/// The machine's clock may lie this far behind the newest time on the disk: somebody put it back by a little.
const BEHIND_MAX: Duration = Duration::from_secs(120);
/// Between two looks the clock was set when it moved by this much more or less than time passed.
const STEP_MIN: Duration = Duration::from_secs(120);
/// A clock that was never set and lies far behind the disk is believed after running so long: then the disk was
/// wrong, because the clock once stood in the future. NTP would have set it by now.
const PATIENCE: Duration = Duration::from_secs(86_400);
/// That far at least: clocks that are restored from a file at the start lie behind by less.
const FAR_BEHIND: Duration = Duration::from_secs(86_400);

/// When this program was built.
pub fn built_at() -> Timestamp {
    let seconds = env!("KERBSIDE_BUILT_AT_SECONDS").parse::<i64>().expect("the build script writes a number");
    Timestamp(seconds.saturating_mul(1_000))
}

/// What the clock was moved by when it could be believed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebase {
    /// What we took for the time at that moment.
    pub assumed: Timestamp,
    /// What it was.
    pub actual: Timestamp,
}

impl Rebase {
    /// What must be added to a time that was assumed before, in ms.
    pub fn offset_ms(self) -> i64 {
        self.actual.0.saturating_sub(self.assumed.0)
    }
}

/// How far the clock is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is believed; the last time when that began anew, if it did.
    Sure(Option<Rebase>),
    /// It is not.
    Unsure {
        /// What the machine's clock shows.
        machine: Timestamp,
        /// What is taken for the time.
        assumed: Timestamp,
    },
}

impl Trust {
    /// Whether the clock is believed.
    pub fn is_sure(self) -> bool {
        matches!(self, Trust::Sure(_))
    }
}

/// The machine's clock behind the rule of the module.
#[derive(Debug)]
pub struct Guard {
    machine: Machine,
    /// For looks without the lock.
    is_sure: AtomicBool,
    judge: Mutex<Judge>,
    /// Where monotonic time counts from.
    began: Instant,
    built_at: Timestamp,
}

/// Where the machine's time of day comes from.
#[derive(Debug)]
enum Machine {
    System,
    /// Set by a test: what it showed at which moment.
    Steered(Arc<Mutex<(Timestamp, Instant)>>),
}

/// Sets the clock of [`crate::Clock::steered`].
#[derive(Clone, Debug)]
pub struct Steering(Arc<Mutex<(Timestamp, Instant)>>);

impl Steering {
    #[expect(clippy::disallowed_methods, reason = "this is part of the clock")]
    pub(crate) fn new(at: Timestamp) -> Steering {
        Steering(Arc::new(Mutex::new((at, Instant::now()))))
    }

    /// Sets the machine's clock; it runs on from there.
    #[expect(clippy::disallowed_methods, reason = "this is part of the clock")]
    pub fn set(&self, to: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (to, Instant::now());
    }
}

impl Guard {
    pub(crate) fn of_system() -> Guard {
        Guard::new(Machine::System)
    }

    pub(crate) fn steered(steering: &Steering) -> Guard {
        Guard::new(Machine::Steered(Arc::clone(&steering.0)))
    }

    #[expect(clippy::disallowed_methods, reason = "this is part of the clock")]
    fn new(machine: Machine) -> Guard {
        let shown = machine.shows();
        let judge = Judge::new(built_at(), shown);
        Guard {
            is_sure: AtomicBool::new(judge.unsure_since.is_none()),
            machine,
            judge: Mutex::new(judge),
            began: Instant::now(),
            built_at: built_at(),
        }
    }

    /// The time to work with.
    pub(crate) fn now(&self) -> Timestamp {
        if self.is_sure.load(Ordering::Acquire) {
            let shown = self.machine.shows();
            if shown >= self.built_at {
                return shown;
            }
        }
        let mut judge = self.lock();
        self.look(&mut judge)
    }

    /// Time had certainly come so far when the process started.
    pub(crate) fn not_before(&self, newest: Timestamp) {
        let mut judge = self.lock();
        judge.not_before(newest, self.began.elapsed(), self.machine.shows());
        self.is_sure.store(judge.unsure_since.is_none(), Ordering::Release);
    }

    /// Looks again; to be called every second or so, so that a clock that falls back is caught where it was.
    pub(crate) fn check(&self) -> Trust {
        let mut judge = self.lock();
        let now = self.look(&mut judge);
        match judge.unsure_since {
            None => Trust::Sure(judge.rebase),
            Some(_) => Trust::Unsure { machine: judge.seen.0, assumed: now },
        }
    }

    fn look(&self, judge: &mut Judge) -> Timestamp {
        let now = judge.look(self.machine.shows(), self.began.elapsed());
        self.is_sure.store(judge.unsure_since.is_none(), Ordering::Release);
        now
    }

    fn lock(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    #[expect(clippy::disallowed_methods, reason = "this is part of the clock")]
    fn shows(&self) -> Timestamp {
        match self {
            Machine::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Machine::Steered(shown) => {
                let (at, when) = *shown.lock().unwrap_or_else(PoisonError::into_inner);
                at.plus(when.elapsed())
            }
        }
    }
}

/// The rule itself, on numbers: what the machine shows, and monotonic time since the start.
#[derive(Debug)]
struct Judge {
    built_at: Timestamp,
    /// A time that was certainly reached, and when it was.
    known: (Timestamp, Duration),
    /// What the machine showed at the last look, and when that was.
    seen: (Timestamp, Duration),
    /// Since when it is not believed.
    unsure_since: Option<Duration>,
    /// Since when nobody set it.
    steady_since: Duration,
    rebase: Option<Rebase>,
}

impl Judge {
    fn new(built_at: Timestamp, machine: Timestamp) -> Judge {
        let mut judge = Judge {
            built_at,
            known: (built_at, Duration::ZERO),
            seen: (machine, Duration::ZERO),
            unsure_since: None,
            steady_since: Duration::ZERO,
            rebase: None,
        };
        judge.not_before(built_at, Duration::ZERO, machine);
        judge
    }

    fn not_before(&mut self, newest: Timestamp, elapsed: Duration, machine: Timestamp) {
        let newest = newest.max(self.built_at);
        let is_right = machine >= self.built_at && machine.plus(BEHIND_MAX) >= newest.plus(elapsed);
        (self.known, self.seen) = if is_right {
            ((machine, elapsed), (machine, elapsed))
        } else {
            ((newest, Duration::ZERO), (machine, elapsed))
        };
        self.unsure_since = (!is_right).then_some(elapsed);
    }

    fn look(&mut self, machine: Timestamp, elapsed: Duration) -> Timestamp {
        let assumed = self.known.0.plus(elapsed.saturating_sub(self.known.1));
        let expected = self.seen.0.plus(elapsed.saturating_sub(self.seen.1));
        let is_set = machine.0.abs_diff(expected.0) > u64::try_from(STEP_MIN.as_millis()).unwrap_or(u64::MAX);
        self.seen = (machine, elapsed);
        if is_set {
            self.steady_since = elapsed;
        }
        if machine < self.built_at {
            self.unsure_since.get_or_insert(elapsed);
            return assumed;
        }
        if self.unsure_since.is_some() {
            let has_lasted = elapsed.saturating_sub(self.steady_since) >= PATIENCE;
            let is_right =
                machine.plus(BEHIND_MAX) >= assumed || is_set || (has_lasted && assumed.since(machine) >= FAR_BEHIND);
            if !is_right {
                return assumed;
            }
            self.rebase = Some(Rebase { assumed, actual: machine });
            self.unsure_since = None;
        }
        self.known = (machine, elapsed);
        machine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: Timestamp = Timestamp(1_790_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(86_400);
    /// A little after the epoch, as a box shows that has just started.
    const BOOT: Timestamp = Timestamp(40_000);

    fn newest() -> Timestamp {
        BUILT.plus(30 * DAY)
    }

    /// A clock that shows this at the start, on a disk whose newest time is `newest`.
    fn started(machine: Timestamp) -> Judge {
        let mut judge = Judge::new(BUILT, machine);
        judge.not_before(newest(), Duration::ZERO, machine);
        judge
    }

    #[test]
    fn a_box_that_starts_in_1970_goes_on_from_the_newest_time_on_its_disk() {
        let mut judge = started(BOOT);
        assert_eq!(judge.look(BOOT.plus(5 * SECOND), 5 * SECOND), newest().plus(5 * SECOND));
        assert!(judge.unsure_since.is_some());
        let actual = newest().plus(7 * HOUR);
        assert_eq!(judge.look(actual, 60 * SECOND), actual);
        assert_eq!(judge.rebase, Some(Rebase { assumed: newest().plus(60 * SECOND), actual }));
        assert_eq!(judge.rebase.map(Rebase::offset_ms), Some(7 * 3_600_000 - 60_000));
        assert_eq!(judge.unsure_since, None);
    }

    #[test]
    fn a_clock_restored_from_before_the_last_commit_is_not_believed() {
        let restored = newest().minus(HOUR);
        let mut judge = started(restored);
        assert_eq!(judge.look(restored.plus(SECOND), SECOND), newest().plus(SECOND));
        // It only runs on: for a day and more, nobody knows better.
        assert_eq!(judge.look(restored.plus(2 * DAY), 2 * DAY), newest().plus(2 * DAY));
        assert!(judge.unsure_since.is_some());
    }

    #[test]
    fn a_new_box_counts_from_when_the_program_was_built() {
        let mut judge = Judge::new(BUILT, BOOT);
        assert_eq!(judge.look(BOOT.plus(SECOND), SECOND), BUILT.plus(SECOND));
        assert!(judge.unsure_since.is_some());
    }

    #[test]
    fn a_right_clock_is_believed_from_the_start_and_so_is_one_a_little_behind() {
        for machine in [newest().plus(SECOND), newest().plus(400 * DAY), newest().minus(SECOND)] {
            let mut judge = started(machine);
            assert_eq!(judge.unsure_since, None);
            assert_eq!(judge.look(machine.plus(SECOND), SECOND), machine.plus(SECOND));
            assert_eq!(judge.rebase, None, "nothing was assumed");
        }
    }

    #[test]
    fn a_trusted_clock_may_be_set_by_a_day_either_way_and_stays_trusted() {
        let mut judge = started(newest().plus(HOUR));
        for to in [newest().plus(2 * DAY), newest().minus(DAY)] {
            assert_eq!(judge.look(to, SECOND), to);
            assert_eq!(judge.unsure_since, None);
        }
    }

    #[test]
    fn a_clock_that_falls_back_to_1970_is_caught_where_it_was() {
        let mut judge = started(newest().plus(HOUR));
        judge.look(newest().plus(HOUR + SECOND), SECOND);
        assert_eq!(judge.look(BOOT, 3 * SECOND), newest().plus(HOUR + 3 * SECOND));
        assert!(judge.unsure_since.is_some());
        let actual = newest().plus(HOUR + 10 * SECOND);
        assert_eq!(judge.look(actual, 10 * SECOND), actual);
        assert_eq!(judge.rebase.map(Rebase::offset_ms), Some(0));
    }

    #[test]
    fn a_clock_that_is_set_while_we_watch_is_believed_even_when_the_disk_is_of_the_future() {
        let mut judge = started(BOOT);
        let actual = newest().minus(400 * DAY).max(BUILT);
        assert_eq!(judge.look(actual, 60 * SECOND), actual);
        assert!(judge.rebase.is_some_and(|rebase| rebase.offset_ms() < 0));
    }

    #[test]
    fn a_steady_clock_far_behind_the_disk_is_believed_after_a_day() {
        let machine = newest().minus(20 * DAY);
        let mut judge = started(machine);
        assert_eq!(judge.look(machine.plus(DAY - SECOND), DAY - SECOND), newest().plus(DAY - SECOND));
        assert_eq!(judge.look(machine.plus(DAY), DAY), machine.plus(DAY));
        assert_eq!(judge.unsure_since, None);
    }

    #[test]
    fn slewing_is_no_step() {
        let mut judge = started(newest().minus(HOUR));
        let mut machine = newest().minus(HOUR);
        for second in 1..600_u32 {
            // Eight percent, more than any NTP client slews by.
            machine = machine.plus(Duration::from_millis(1_080));
            judge.look(machine, second * SECOND);
        }
        assert!(judge.unsure_since.is_some(), "it was never set");
    }

    #[test]
    fn the_steered_clock_runs_on_from_where_it_was_set() {
        let (clock, steering) = crate::Clock::steered(Timestamp(0));
        clock.not_before(built_at().plus(HOUR));
        assert!(!clock.check().is_sure());
        let assumed = clock.now();
        assert!(assumed >= built_at().plus(HOUR) && assumed < built_at().plus(2 * HOUR), "{assumed}");
        steering.set(built_at().plus(3 * HOUR));
        let Trust::Sure(Some(rebase)) = clock.check() else { panic!("{:?}", clock.check()) };
        assert!(rebase.offset_ms() > 3_600_000, "{rebase:?}");
        assert!(clock.now() >= built_at().plus(3 * HOUR));
    }
}
