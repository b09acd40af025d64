//! What a sensor reads becomes messages that arrive: in a rhythm, at once when something happens, over a bad radio.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;
use kerbside_model::Timestamp;

use super::{Message, Messages, Said, Span};

/// How messages travel. The default loses nothing.
#[derive(Clone, Debug, Default)]
pub struct Radio {
    /// Share of the messages that never arrive, from 0 to 1.
    pub loss: f64,
    /// A message takes up to so long.
    pub delay_max: Duration,
    /// Share of the messages that arrive twice, the second time a few seconds later.
    pub twice: f64,
    /// Share of the messages that arrive late, behind others.
    pub late: f64,
    /// How late they are at most.
    pub late_max: Duration,
    /// Nothing arrives that is sent in these times, and nothing is sent again.
    pub outages: Vec<Span>,
}

/// A second copy comes within this time: another gateway of the network heard the same uplink.
const TWICE_WITHIN: Duration = Duration::from_secs(5);

/// When a device sends.
#[derive(Clone, Debug)]
pub struct Reports {
    /// From its first to its last message.
    pub span: Span,
    /// Its rhythm.
    pub every: Duration,
    /// Each report comes up to so much later than the rhythm says; less than `every`.
    pub jitter: Duration,
    /// It sends at these moments besides, because something happened; in any order.
    pub at_once: Vec<Timestamp>,
    /// What becomes of its messages.
    pub radio: Radio,
    /// Makes its jitter, its radio and the chance that the sensor is given.
    pub seed: u64,
}

impl Reports {
    /// A device that reports in this rhythm and loses nothing.
    pub fn every(span: Span, every: Duration, seed: u64) -> Reports {
        Reports { span, every, jitter: Duration::ZERO, at_once: Vec::new(), radio: Radio::default(), seed }
    }

    /// The messages, when `sense` says what is read at a moment. An empty reading is not sent.
    pub fn of(
        mut self,
        sense: impl FnMut(Timestamp, &mut Rng) -> Vec<(&'static str, Said)> + Send + 'static,
    ) -> Messages {
        let chance = Rng::with_seed(self.seed);
        self.at_once.sort_unstable_by_key(|at| Reverse(*at));
        let next = self.span.from;
        Messages(Box::new(Stream { reports: self, chance, next, sense, waiting: BinaryHeap::new(), number: 0 }))
    }
}

/// A message on its way: the earliest arrival comes first, then what was sent first.
struct OnItsWay {
    order: Reverse<(Timestamp, u64)>,
    message: Message,
}

impl PartialEq for OnItsWay {
    fn eq(&self, other: &OnItsWay) -> bool {
        self.order == other.order
    }
}

impl Eq for OnItsWay {}

impl PartialOrd for OnItsWay {
    fn partial_cmp(&self, other: &OnItsWay) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OnItsWay {
    fn cmp(&self, other: &OnItsWay) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

struct Stream<S> {
    reports: Reports,
    chance: Rng,
    /// The next moment of the rhythm.
    next: Timestamp,
    sense: S,
    waiting: BinaryHeap<OnItsWay>,
    number: u64,
}

impl<S> Stream<S> {
    /// The next moment at which the device sends.
    fn sends_next(&self) -> Option<Timestamp> {
        let in_rhythm = (self.next < self.reports.span.until).then_some(self.next);
        let at_once = self.reports.at_once.last().copied();
        match (in_rhythm, at_once) {
            (Some(rhythm), Some(once)) => Some(rhythm.min(once)),
            (rhythm, once) => rhythm.or(once),
        }
    }

    fn takes(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.chance.f64())
    }
}

impl<S: FnMut(Timestamp, &mut Rng) -> Vec<(&'static str, Said)>> Stream<S> {
    fn send(&mut self, at: Timestamp) {
        let mut observed_at = at;
        if self.reports.at_once.last() == Some(&at) {
            self.reports.at_once.pop();
        } else {
            self.next = self.next.plus(self.reports.every);
            observed_at = at.plus(self.takes(self.reports.jitter));
        }
        let values = (self.sense)(observed_at, &mut self.chance);
        let is_out = self.reports.radio.outages.iter().any(|outage| outage.has(observed_at));
        if values.is_empty() || is_out || self.chance.f64() < self.reports.radio.loss {
            return;
        }
        let is_late = self.chance.f64() < self.reports.radio.late;
        let most = if is_late { self.reports.radio.late_max } else { self.reports.radio.delay_max };
        let arrives_at = observed_at.plus(self.takes(most));
        let message = Message { observed_at, arrives_at, values };
        if self.chance.f64() < self.reports.radio.twice {
            let again = arrives_at.plus(self.takes(TWICE_WITHIN));
            self.put(Message { arrives_at: again, ..message.clone() });
        }
        self.put(message);
    }

    fn put(&mut self, message: Message) {
        self.number += 1;
        self.waiting.push(OnItsWay { order: Reverse((message.arrives_at, self.number)), message });
    }
}

impl<S: FnMut(Timestamp, &mut Rng) -> Vec<(&'static str, Said)>> Iterator for Stream<S> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        // Nothing that is sent later can arrive before its sending.
        while let Some(at) = self.sends_next() {
            if self.waiting.peek().is_some_and(|first| first.message.arrives_at < at) {
                break;
            }
            self.send(at);
        }
        self.waiting.pop().map(|first| first.message)
    }
}

impl Span {
    /// A time of this length.
    pub fn of(from: Timestamp, length: Duration) -> Span {
        Span { from, until: from.plus(length) }
    }

    /// Whether a moment lies in it.
    pub fn has(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn messages(radio: Radio) -> Vec<Message> {
        let span = Span::of(START, HOUR * 240);
        let at_once = vec![START.plus(HOUR / 2), START.plus(HOUR * 10)];
        let reports = Reports { at_once, radio, jitter: HOUR / 10, ..Reports::every(span, HOUR, 7) };
        reports.of(|at, _| vec![("level_mm", Said::Number((at.0 % 1_000) as f64))]).collect()
    }

    #[test]
    fn messages_come_in_the_order_of_their_arrival_and_from_the_same_seed_the_same() {
        let radio = Radio {
            loss: 0.2,
            delay_max: HOUR / 4,
            twice: 0.1,
            late: 0.1,
            late_max: HOUR * 5,
            outages: vec![Span::of(START.plus(HOUR * 100), HOUR * 20)],
        };
        let sent = messages(radio.clone());
        assert!(sent.is_sorted_by_key(|message| message.arrives_at));
        assert!(!sent.is_sorted_by_key(|message| message.observed_at), "some come late");
        assert!((140..240).contains(&sent.len()), "{}", sent.len());
        assert!(!sent.iter().any(|message| radio.outages[0].has(message.observed_at)));
        assert_eq!(sent, messages(radio));
    }

    #[test]
    fn a_good_radio_loses_nothing_and_what_happens_is_sent_at_once() {
        let sent = messages(Radio::default());
        assert_eq!(sent.len(), 242);
        assert!(sent.iter().any(|message| message.observed_at == START.plus(HOUR / 2)));
    }
}
