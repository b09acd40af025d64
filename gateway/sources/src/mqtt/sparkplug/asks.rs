//! When a node is asked for its birth: seldom, and longer after each time that it did not answer.

use std::time::Duration;

use tokio::time::Instant;

/// A node gathers its metrics and sends them within this time, or it is asked again.
const WAIT_FIRST: Duration = Duration::from_secs(10);
/// A node that answers is not asked sooner: over a link that loses messages there is always a reason to.
const WAIT_ANSWERED: Duration = Duration::from_secs(60);
/// One that is left alone for longer than this was asked in vain for more than two minutes.
const WAIT_MUTE: Duration = Duration::from_secs(80);
/// A node that never answers does not know the command.
const WAIT_MAX: Duration = Duration::from_secs(3_600);
/// Births are long, and after a start of the gateway every node has a reason: so many nodes are asked in one second.
const ASKS_PER_SECOND: u32 = 10;

/// When a node was asked, and how long it is left alone since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    at: Instant,
    wait: Duration,
    is_answered: bool,
}

impl Asked {
    /// The birth came.
    pub(super) fn answered(&mut self) {
        (self.wait, self.is_answered) = (WAIT_ANSWERED, true);
    }

    /// It did not answer for minutes: nobody should wait for it.
    pub(super) fn is_mute(&self) -> bool {
        !self.is_answered && self.wait > WAIT_MUTE
    }

    /// It was asked so often that it does not know the command, or is not there.
    pub(super) fn is_in_vain(&self) -> bool {
        self.wait >= WAIT_MAX
    }
}

/// How many nodes were asked in this second.
#[derive(Debug)]
pub(super) struct Pace {
    second: Instant,
    asks: u32,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Pace {
        Pace { second: now, asks: 0 }
    }

    /// Whether a node may be asked now; then it counts as asked.
    pub(super) fn ask(&mut self, asked: &mut Option<Asked>, now: Instant) -> bool {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            *self = Pace::new(now);
        }
        let is_left_alone = asked.is_some_and(|asked| now.duration_since(asked.at) < asked.wait);
        if is_left_alone || self.asks >= ASKS_PER_SECOND {
            return false;
        }
        self.asks += 1;
        let unanswered = asked.filter(|asked| !asked.is_answered);
        let wait = unanswered.map_or(WAIT_FIRST, |asked| (asked.wait * 2).min(WAIT_MAX));
        *asked = Some(Asked { at: now, wait, is_answered: false });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_does_not_answer_is_asked_ever_more_seldom() {
        let start = Instant::now();
        let (mut pace, mut asked, mut times) = (Pace::new(start), None, Vec::new());
        for second in 0..20_000 {
            if pace.ask(&mut asked, start + Duration::from_secs(second)) {
                times.push(second);
            }
        }
        assert_eq!(times[..5], [0, 10, 30, 70, 150]);
        assert_eq!(times.windows(2).map(|pair| pair[1] - pair[0]).max(), Some(3_600));
    }

    #[test]
    fn a_node_that_answers_is_left_alone_for_a_minute() {
        let start = Instant::now();
        let (mut pace, mut asked) = (Pace::new(start), None);
        assert!(pace.ask(&mut asked, start));
        asked.as_mut().unwrap().answered();
        assert!(!pace.ask(&mut asked, start + Duration::from_secs(59)));
        assert!(pace.ask(&mut asked, start + Duration::from_secs(60)));
        assert!(pace.ask(&mut asked, start + Duration::from_secs(70)), "this time it did not answer");
    }

    #[test]
    fn a_few_nodes_are_asked_at_once_and_the_others_later() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut nodes = vec![None; 25];
        let mut ask = |second| {
            let now = start + Duration::from_secs(second);
            nodes
                .iter_mut()
                .filter(|asked| asked.is_none())
                .filter_map(|asked| pace.ask(asked, now).then_some(()))
                .count()
        };
        assert_eq!([ask(0), ask(0), ask(1), ask(2)], [10, 0, 10, 5]);
    }
}
