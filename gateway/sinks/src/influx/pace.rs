//! Learns from answers how many requests may be under way at once and how much one of them may carry.
//!
//! Requests: one more while lines wait for a free one and answers come as quickly as they can, a quarter fewer when
//! answers become slow, half of them when the database asks for a pause or does not answer. Bytes: halved when a
//! request takes longer than [`GOOD_TIME`], so that a thin link still delivers within its time limit and live lines
//! never wait long for one another; grown again when full requests are quick. When a third of the bytes takes as long
//! as all of them did, it is the database that is slow, and small requests would only make it slower. Nothing survives
//! a restart: it is learned again within seconds.

use std::time::Duration;

use super::answer::{Answer, ProblemKind};

/// A request should be answered within this: half of the two seconds that a dashboard may be behind.
pub(super) const GOOD_TIME: Duration = Duration::from_secs(1);
/// Full requests that are answered within this may carry a quarter more, which is still answered in good time.
const QUICK_TIME: Duration = Duration::from_millis(750);
/// A request carries at least so much: below it, what every request costs is more than its lines.
const REQUEST_BYTES_MIN: usize = 16 << 10;
/// How many may be under way before anything is known: one for live lines, one for the backlog.
const REQUESTS_AT_FIRST: usize = 2;
/// Answers are slow when they take so many times the quickest one of late.
const SLOW_FACTOR: f64 = 2.0;
/// And by so much longer at least: the scheduler of a small machine alone makes a few milliseconds twenty.
const SLOW_MIN_SECONDS: f64 = 0.05;
/// The quickest answer is forgotten by this much with every request, so that a link that became slower is learned.
const QUICKEST_GROWS: f64 = 1.01;

/// What was learned.
#[derive(Debug)]
pub(super) struct Pace {
    requests_max: usize,
    bytes_max: usize,
    /// Requests that may be under way; fractions are kept for growth.
    requests: f64,
    /// Bytes that one request may carry.
    bytes: usize,
    /// What the database said is too large (413), halved; the configured limit before it said so.
    ceiling: usize,
    /// Seconds of the quickest request of late that was at least half full.
    quickest: Option<f64>,
    /// Bytes and time of the request that made them fewer first.
    too_slow: Option<(usize, Duration)>,
    /// Requests are slow whatever they carry.
    is_size_innocent: bool,
}

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered<'a> {
    pub(super) answer: &'a Answer,
    /// Its lines in bytes, before compression.
    pub(super) bytes: usize,
    pub(super) took: Duration,
    /// Whether lines waited for a request while all that were allowed were under way.
    pub(super) is_crowded: bool,
}

impl Pace {
    /// Begins within these limits.
    pub(super) fn new(requests_max: usize, bytes_max: usize) -> Pace {
        let requests = REQUESTS_AT_FIRST.min(requests_max) as f64;
        Pace {
            requests_max,
            bytes_max,
            requests,
            bytes: bytes_max,
            ceiling: bytes_max,
            quickest: None,
            too_slow: None,
            is_size_innocent: false,
        }
    }

    /// How many requests may be under way.
    pub(super) fn requests(&self) -> usize {
        self.requests as usize
    }

    /// How many bytes of lines one request may carry.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.min(self.ceiling)
    }

    /// Learns from an answer.
    pub(super) fn answered(&mut self, answered: Answered<'_>) {
        match answered.answer {
            Answer::Accepted => self.accepted(answered),
            Answer::Refused { .. } => {}
            Answer::TooLarge => self.ceiling = (answered.bytes / 2).max(1),
            Answer::Later(problem) => {
                self.requests = (self.requests / 2.0).max(1.0);
                if problem.kind == ProblemKind::Timeout {
                    self.shrink(answered.bytes);
                }
            }
        }
    }

    /// A single line was too large: what was learned on the way down to it says nothing about other lines.
    pub(super) fn forget_ceiling(&mut self) {
        self.ceiling = self.bytes_max;
    }

    fn accepted(&mut self, answered: Answered<'_>) {
        let Answered { bytes, took, is_crowded, .. } = answered;
        let is_half_full = bytes >= self.bytes() / 2;
        if took > GOOD_TIME && !self.is_size_innocent {
            self.slow(bytes, took);
            return;
        }
        if is_half_full {
            let seconds = took.as_secs_f64();
            let quickest = self.quickest.map_or(seconds, |known| seconds.min(known * QUICKEST_GROWS));
            self.quickest = Some(quickest);
            if seconds > quickest * SLOW_FACTOR + SLOW_MIN_SECONDS {
                self.fewer();
                return;
            }
            if took < QUICK_TIME {
                (self.too_slow, self.is_size_innocent) = (None, false);
            }
            if took < QUICK_TIME && self.bytes < self.bytes_max {
                self.bytes = (self.bytes + self.bytes / 4).min(self.bytes_max);
                // More bytes take longer without anything being slow.
                self.quickest = None;
            }
        }
        if is_crowded || self.requests() < REQUESTS_AT_FIRST.min(self.requests_max) {
            self.requests = (self.requests + 1.0 / self.requests).min(self.requests_max as f64);
        }
    }

    /// Several slow requests at once hold one another up; when they are few, it is their size, or else the database.
    fn slow(&mut self, bytes: usize, took: Duration) {
        if self.requests() > REQUESTS_AT_FIRST {
            self.fewer();
            return;
        }
        let (bytes_first, took_first) = *self.too_slow.get_or_insert((bytes, took));
        // Two requests that share a link would make a third of the bytes take two thirds of the time.
        if bytes <= bytes_first / 3 && took >= took_first / 4 * 3 {
            self.is_size_innocent = true;
            (self.bytes, self.quickest) = (bytes_first.min(self.bytes_max), None);
            return;
        }
        self.shrink(bytes);
    }

    fn fewer(&mut self) {
        let least = REQUESTS_AT_FIRST.min(self.requests_max) as f64;
        self.requests = (self.requests * 0.75).max(least);
    }

    /// What was sent was too much, even if more is allowed. Of a small request it was not the size.
    fn shrink(&mut self, bytes: usize) {
        if bytes < REQUEST_BYTES_MIN {
            return;
        }
        let half = bytes.min(self.bytes) / 2;
        self.bytes = half.max(REQUEST_BYTES_MIN.min(self.bytes_max));
        self.quickest = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::answer::Problem;
    use super::*;

    const MIB: usize = 1 << 20;

    fn accepted(pace: &mut Pace, bytes: usize, milliseconds: u64, is_crowded: bool) {
        let took = Duration::from_millis(milliseconds);
        pace.answered(Answered { answer: &Answer::Accepted, bytes, took, is_crowded });
    }

    fn problem(kind: ProblemKind) -> Answer {
        Answer::Later(Problem { kind, words: String::new(), words_zh: String::new(), retry_after: None })
    }

    fn met(pace: &mut Pace, kind: ProblemKind) {
        let bytes = pace.bytes();
        met_with(pace, kind, bytes);
    }

    fn met_with(pace: &mut Pace, kind: ProblemKind, bytes: usize) {
        pace.answered(Answered { answer: &problem(kind), bytes, took: Duration::from_secs(5), is_crowded: false });
    }

    #[test]
    fn more_requests_are_made_only_while_lines_wait_and_answers_stay_quick() {
        let mut pace = Pace::new(8, MIB);
        assert_eq!(pace.requests(), 2);
        for _ in 0..100 {
            accepted(&mut pace, MIB, 80, false);
        }
        assert_eq!(pace.requests(), 2, "nothing waited");
        for _ in 0..100 {
            accepted(&mut pace, MIB, 80, true);
        }
        assert_eq!(pace.requests(), 8);
        for _ in 0..20 {
            accepted(&mut pace, MIB, 600, true);
        }
        assert_eq!(pace.requests(), 2, "the database became slow");
    }

    #[test]
    fn a_database_that_asks_for_a_pause_gets_half_of_the_requests_and_more_again_later() {
        let mut pace = Pace::new(8, MIB);
        for _ in 0..100 {
            accepted(&mut pace, MIB, 20, true);
        }
        met(&mut pace, ProblemKind::Busy);
        assert_eq!(pace.requests(), 4);
        for _ in 0..5 {
            met(&mut pace, ProblemKind::Busy);
        }
        assert_eq!((pace.requests(), pace.bytes()), (1, MIB));
        for _ in 0..3 {
            accepted(&mut pace, 1_000, 20, false);
        }
        assert_eq!(pace.requests(), 2, "live lines and the backlog have one each again");
    }

    #[test]
    fn a_thin_link_gets_requests_that_it_carries_within_a_second() {
        // 64 kB/s, as a poor mobile link gives.
        let mut pace = Pace::new(4, MIB);
        met(&mut pace, ProblemKind::Timeout);
        assert_eq!(pace.bytes(), MIB / 2, "what timed out is not tried again in the same size");
        for _ in 0..30 {
            let bytes = pace.bytes();
            accepted(&mut pace, bytes, (bytes / 64) as u64, false);
        }
        let seconds = pace.bytes() as f64 / 64_000.0;
        assert!((0.2..=1.1).contains(&seconds), "{seconds} s a request");
        // The link is good again.
        for _ in 0..40 {
            let bytes = pace.bytes();
            accepted(&mut pace, bytes, 5, false);
        }
        assert_eq!(pace.bytes(), MIB);
    }

    #[test]
    fn a_slow_database_is_not_made_slower_by_small_requests() {
        let mut pace = Pace::new(4, MIB);
        // 1.5 s each, whatever it carries.
        for _ in 0..40 {
            let bytes = pace.bytes();
            accepted(&mut pace, bytes, 1_500, true);
        }
        assert_eq!((pace.bytes(), pace.requests()), (MIB, 4));
        // A stall that only small requests met says nothing about size.
        let mut pace = Pace::new(4, MIB);
        accepted(&mut pace, 500, 4_000, false);
        met_with(&mut pace, ProblemKind::Timeout, 500);
        assert_eq!(pace.bytes(), MIB);
    }

    #[test]
    fn what_the_database_calls_too_large_is_not_tried_again_until_it_was_a_single_line() {
        let mut pace = Pace::new(4, MIB);
        let took = Duration::from_millis(1);
        pace.answered(Answered { answer: &Answer::TooLarge, bytes: MIB, took, is_crowded: false });
        for _ in 0..40 {
            let bytes = pace.bytes();
            accepted(&mut pace, bytes, 1, false);
        }
        assert_eq!(pace.bytes(), MIB / 2);
        pace.forget_ceiling();
        assert_eq!(pace.bytes(), MIB);
    }

    proptest! {
        #[test]
        fn whatever_is_answered_the_limits_hold(
            requests_max in 1_usize..16,
            bytes_max in 4_096_usize..(4 << 20),
            steps in prop::collection::vec((0_u8..6, 1_usize..(8 << 20), 0_u64..20_000, any::<bool>()), 0..200),
        ) {
            let mut pace = Pace::new(requests_max, bytes_max);
            for (kind, bytes, milliseconds, is_crowded) in steps {
                let answer = match kind {
                    0 | 1 => Answer::Accepted,
                    2 => Answer::TooLarge,
                    3 => problem(ProblemKind::Busy),
                    4 => problem(ProblemKind::Timeout),
                    _ => Answer::Refused { reason: String::new(), dropped: None },
                };
                let took = Duration::from_millis(milliseconds);
                pace.answered(Answered { answer: &answer, bytes, took, is_crowded });
                prop_assert!((1..=requests_max).contains(&pace.requests()));
                prop_assert!((1..=bytes_max).contains(&pace.bytes()));
            }
        }
    }
}
