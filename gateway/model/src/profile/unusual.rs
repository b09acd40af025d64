//! How a series is watched by the learner, which says what is unusual without being told what is usual. Plain data,
//! checked; the learner does the work.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Guard;

/// Readings that are learnt before the first is judged, unless the profile says otherwise: 2.6 days of one in 5 minutes.
pub const WARM_UP_READINGS_DEFAULT: u32 = 750;
/// Fewer have no quantiles.
pub const WARM_UP_READINGS_MIN: u32 = 20;
/// Two months of one a minute.
pub const WARM_UP_READINGS_MAX: u32 = 100_000;
/// The score from which on it is unusual, unless the profile says otherwise: docs/detection.md has what comes of it.
pub const UNUSUAL_SCORE_DEFAULT: f64 = 0.6;
/// A lower score is what the learner itself does not call unusual.
pub const UNUSUAL_SCORE_MIN: f64 = 0.5;
/// A higher one is hardly ever reached: eight orders of magnitude on all sides are 0.93.
pub const UNUSUAL_SCORE_MAX: f64 = 0.9;

/// A number that is as it never was before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unusual {
    /// How much the series may cost.
    pub mode: LearnerMode,
    /// So many readings are learnt before the first is judged.
    pub warm_up: u32,
    /// Raised from this score on, [`UNUSUAL_SCORE_MIN`] to [`UNUSUAL_SCORE_MAX`].
    pub score: f64,
    /// The false alarms a month from which the score was taken, where the profile says these instead.
    pub false_per_month: Option<f64>,
    /// It is over when so many readings running were usual.
    pub rest: u32,
    /// At most one reading in this time is looked at; `None` for all of them.
    pub every: Option<Duration>,
    /// A reading is learnt and judged only while all of these hold.
    pub learn_when: Vec<Guard>,
}

/// How much a learnt series may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LearnerMode {
    /// 2 kB a series.
    Light,
    /// Under 24 kB a series; finds more.
    Full,
}

/// A score, and how many readings of quiet series there are to one false alarm, in light and in full mode: the middle of
/// 200 made series of eight kinds in half a year of one reading in 5 minutes, with a warm-up of 750 readings.
/// docs/detection.md says what they are made of, and how to repeat it.
const QUIET: [(f64, f64, f64); 7] = [
    (0.50, 3_000.0, 2_500.0),
    (0.55, 7_000.0, 5_400.0),
    (0.60, 13_500.0, 11_400.0),
    (0.65, 20_000.0, 20_000.0),
    (0.70, 32_000.0, 39_000.0),
    (0.75, 53_000.0, 85_000.0),
    (0.80, 119_000.0, 225_000.0),
];

impl LearnerMode {
    /// Both of them, by their names in profiles.
    pub const ALL: [(&'static str, LearnerMode); 2] = [("light", LearnerMode::Light), ("full", LearnerMode::Full)];

    /// The name in profiles.
    pub fn name(self) -> &'static str {
        LearnerMode::ALL[self as usize].0
    }

    /// The score at which quiet series have a false alarm in so many readings; `None` where that is rarer than any
    /// score was measured for.
    pub fn score_for(self, readings: f64) -> Option<f64> {
        let readings_at = |(_, light, full): (f64, f64, f64)| match self {
            LearnerMode::Light => light,
            LearnerMode::Full => full,
        };
        let mut below = QUIET[0];
        if readings <= readings_at(below) {
            return Some(below.0);
        }
        for row in QUIET {
            if readings <= readings_at(row) {
                // Between two scores false alarms thin out by the same factor with every step.
                let share = (readings / readings_at(below)).ln() / (readings_at(row) / readings_at(below)).ln();
                return Some(below.0 + share * (row.0 - below.0));
            }
            below = row;
        }
        None
    }

    /// The rarest false alarms for which a score was measured: one in so many readings.
    pub fn readings_max(self) -> f64 {
        let (_, light, full) = QUIET[QUIET.len() - 1];
        match self {
            LearnerMode::Light => light,
            LearnerMode::Full => full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rarer_false_alarms_need_a_higher_score_up_to_what_was_measured() {
        for (_, mode) in LearnerMode::ALL {
            let mut before = 0.0;
            for readings in [1.0, 2_000.0, 4_000.0, 8_000.0, mode.readings_max()] {
                let score = mode.score_for(readings).unwrap();
                assert!(
                    score >= before && (UNUSUAL_SCORE_MIN..=UNUSUAL_SCORE_MAX).contains(&score),
                    "{mode:?} {score}"
                );
                before = score;
            }
            assert_eq!(mode.score_for(mode.readings_max() + 1.0), None);
        }
        assert_eq!(LearnerMode::Full.name(), "full");
    }

    #[test]
    fn a_score_that_was_measured_is_found_again() {
        for (score, light, full) in QUIET {
            assert!((LearnerMode::Light.score_for(light).unwrap() - score).abs() < 1e-9, "light {score}");
            assert!((LearnerMode::Full.score_for(full).unwrap() - score).abs() < 1e-9, "full {score}");
        }
    }
}
