//! How often a robot may be used.
//!
//! Counts the messages that left within each span. A robot that is used too often is silenced for minutes, alarm or
//! no alarm, so a few places are kept for life at risk. Nothing survives a restart: the robot's own refusal does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A span is taken longer by this much: the robot counts when a message arrives, and the way there varies.
const MARGIN: Duration = Duration::from_secs(1);

/// How often a channel may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// So many messages within such a span; none when the channel has no limit.
    pub windows: Vec<Window>,
    /// Places of the first window that only critical notices may take.
    pub reserved: usize,
}

/// So many messages within such a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Messages.
    pub messages_max: usize,
    /// The span.
    pub span: Duration,
}

/// Who asks for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// May take every place.
    Critical,
    /// Leaves the reserved places alone.
    Normal,
}

impl RateLimit {
    /// 20 a minute, two of them for critical notices: DingTalk and WeCom.
    pub fn twenty_a_minute() -> RateLimit {
        let window = Window { messages_max: 20, span: Duration::from_secs(60) };
        RateLimit { windows: vec![window], reserved: 2 }
    }

    /// 100 a minute and 5 a second, two of the hundred for critical notices: Feishu.
    pub fn hundred_a_minute() -> RateLimit {
        let minute = Window { messages_max: 100, span: Duration::from_secs(60) };
        let second = Window { messages_max: 5, span: Duration::from_secs(1) };
        RateLimit { windows: vec![minute, second], reserved: 2 }
    }
}

/// Remembers when messages left.
#[derive(Debug)]
pub struct Limiter {
    limit: RateLimit,
    sent: VecDeque<Instant>,
}

impl Limiter {
    /// A limiter that has seen nothing yet.
    pub fn new(limit: RateLimit) -> Limiter {
        Limiter { limit, sent: VecDeque::new() }
    }

    /// `None` when a message may leave now, else how long to wait.
    pub fn wait(&self, now: Instant, urgency: Urgency) -> Option<Duration> {
        let waits = self.limit.windows.iter().enumerate().map(|(position, window)| {
            let kept = if position == 0 && urgency == Urgency::Normal { self.limit.reserved } else { 0 };
            self.window_wait(window, window.messages_max.saturating_sub(kept).max(1), now)
        });
        waits.max().filter(|wait| !wait.is_zero())
    }

    /// A message leaves.
    pub fn record(&mut self, now: Instant) {
        let longest = self.limit.windows.iter().map(|window| window.span).max();
        let Some(longest) = longest else { return };
        while self.sent.front().is_some_and(|sent| now.saturating_duration_since(*sent) >= longest + MARGIN) {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
    }

    /// The place of a message becomes free when the one `places` before it has left the window.
    fn window_wait(&self, window: &Window, places: usize, now: Instant) -> Duration {
        let Some(position) = self.sent.len().checked_sub(places) else { return Duration::ZERO };
        let free_at = self.sent[position] + window.span + MARGIN;
        free_at.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kerbside_runtime::Clock;

    #[test]
    fn two_places_of_twenty_are_kept_for_life_at_risk() {
        let start = Clock::stamp();
        let mut limiter = Limiter::new(RateLimit::twenty_a_minute());
        for second in 0..18 {
            let now = start + Duration::from_secs(second);
            assert_eq!(limiter.wait(now, Urgency::Normal), None);
            limiter.record(now);
        }
        let now = start + Duration::from_secs(20);
        assert_eq!(limiter.wait(now, Urgency::Normal), Some(Duration::from_secs(41)));
        for _ in 0..2 {
            assert_eq!(limiter.wait(now, Urgency::Critical), None);
            limiter.record(now);
        }
        assert_eq!(limiter.wait(now, Urgency::Critical), Some(Duration::from_secs(41)));
        // The critical ones took places too: a normal one waits until only seventeen are left.
        assert_eq!(limiter.wait(now, Urgency::Normal), Some(Duration::from_secs(43)));
    }

    #[test]
    fn no_minute_ever_holds_more_than_twenty() {
        let start = Clock::stamp();
        let mut limiter = Limiter::new(RateLimit::twenty_a_minute());
        let mut sent = Vec::new();
        for tick in 0..3_000_u64 {
            let now = start + Duration::from_millis(tick * 100);
            let urgency = if tick % 3 == 0 { Urgency::Critical } else { Urgency::Normal };
            if limiter.wait(now, urgency).is_none() {
                limiter.record(now);
                sent.push(now);
            }
        }
        assert!(sent.len() >= 80, "{} messages in five minutes", sent.len());
        for window in sent.windows(21) {
            assert!(window[20] - window[0] > Duration::from_secs(60));
        }
    }

    #[test]
    fn a_second_window_limits_bursts() {
        let now = Clock::stamp();
        let mut limiter = Limiter::new(RateLimit::hundred_a_minute());
        for _ in 0..5 {
            assert_eq!(limiter.wait(now, Urgency::Critical), None);
            limiter.record(now);
        }
        assert_eq!(limiter.wait(now, Urgency::Critical), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_channel_without_a_limit_never_waits() {
        let now = Clock::stamp();
        let mut limiter = Limiter::new(RateLimit::default());
        for _ in 0..1_000 {
            assert_eq!(limiter.wait(now, Urgency::Normal), None);
            limiter.record(now);
        }
    }
}
