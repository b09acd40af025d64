//! The bar that strength must reach to be an alarm. After an alarm there is rest, which only something much stronger
//! breaks, and the bar is higher in proportion to the alarm; that sinks slowly. A series that is unusual all the time so
//! gets few alarms, a quiet one is heard at once.

use serde::{Deserialize, Serialize};

use crate::tuning::Tuning;

/// Share of the whole scale that belongs to alarms: a score from here on is one.
pub const SCORE_ALARM: f32 = 0.5;
/// The greatest score of what is no alarm.
const SCORE_QUIET_MAX: f32 = 0.499;

/// What a strength means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Judged {
    /// 0..1; from 0.5 on it is an alarm.
    pub(crate) score: f32,
    /// The same without regard to rest: from 0.5 on it reaches the bar.
    pub(crate) restless: f32,
    pub(crate) is_alarm: bool,
}

/// The bar of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bar {
    /// What alarms added to the bar and is left of it.
    added: f32,
    /// The strength of the last alarm.
    last: f32,
    rest_left: u32,
    rest_points: u32,
    /// What is left of `added` after a point.
    keep: f32,
}

impl Bar {
    /// For a warm-up of so many points.
    pub(crate) fn new(warmup_points: u32, tuning: &Tuning) -> Bar {
        let warmup = warmup_points as f32;
        Bar {
            added: 0.0,
            last: 0.0,
            rest_left: 0,
            rest_points: (tuning.rest * warmup) as u32,
            keep: 1.0 - 1.0 / (tuning.sink * warmup).max(1.0),
        }
    }

    pub(crate) fn judge(&mut self, strength: f32, tuning: &Tuning) -> Judged {
        self.added *= self.keep;
        let ratio = strength / (tuning.bar + self.added);
        let is_resting = self.rest_left > 0;
        self.rest_left = self.rest_left.saturating_sub(1);
        let restless = if ratio <= 1.0 { SCORE_ALARM * ratio } else { 1.0 - SCORE_ALARM / ratio };
        if ratio <= 1.0 || (is_resting && strength <= tuning.escalate * self.last) {
            return Judged { score: (SCORE_ALARM * ratio).min(SCORE_QUIET_MAX), restless, is_alarm: false };
        }
        if is_resting {
            // The same event, only worse: it adds what it is worse by, and its rest goes on.
            self.added += tuning.rise * (strength - self.last);
        } else {
            self.added += tuning.rise * strength;
            self.rest_left = self.rest_points;
        }
        self.last = strength;
        Judged { score: restless, restless, is_alarm: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::TUNING;

    #[test]
    fn one_event_is_one_alarm() {
        let mut bar = Bar::new(100, &TUNING);
        let alarms = (0..20).filter(|_| bar.judge(5.0, &TUNING).is_alarm).count();
        assert_eq!(alarms, 1);
    }

    #[test]
    fn what_is_much_worse_breaks_the_rest() {
        let mut bar = Bar::new(100, &TUNING);
        let alarms = [3.0, 3.5, 4.0, 6.0, 6.0, 3.0].map(|strength| bar.judge(strength, &TUNING).is_alarm);
        assert_eq!(alarms, [true, false, false, true, false, false]);
    }

    #[test]
    fn what_comes_again_and_again_alarms_less_and_less() {
        let mut bar = Bar::new(100, &TUNING);
        let mut alarms = Vec::new();
        for point in 0..3_000 {
            if bar.judge(if point % 30 == 0 { 2.0 } else { 0.3 }, &TUNING).is_alarm {
                alarms.push(point);
            }
        }
        assert!(alarms.starts_with(&[0, 30]), "{alarms:?}");
        assert!((5..60).contains(&alarms.len()), "{} alarms of 100", alarms.len());
    }

    #[test]
    fn a_score_says_whether_it_is_an_alarm() {
        for strength in [0.0, 0.5, 1.1, 1.2, 4.0, 8.0] {
            let judged = Bar::new(100, &TUNING).judge(strength, &TUNING);
            assert_eq!(judged.is_alarm, judged.score >= SCORE_ALARM, "{strength}: {judged:?}");
            assert!((0.0..1.0).contains(&judged.score));
        }
    }
}
