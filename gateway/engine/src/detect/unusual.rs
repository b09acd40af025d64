//! What a series never did before, found by a learner that is told nothing about it. What is found stands for as long as
//! the learner would rest: one event is one note, however often it comes back meanwhile.

use kerbside_learner::{Learner, Mode, Moment, Reason, SCORE_ALARM};
use kerbside_model::Timestamp;
use kerbside_model::profile::{LearnerMode, Unusual};
use serde::{Deserialize, Serialize};

use super::{Sight, Verdict, milliseconds};
use crate::local::Local;

const DAY_SECONDS: i64 = 86_400;

/// A learner, and what it found last. 17 kB in full mode, 2 kB in light mode; counted apart from other rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watcher {
    learner: Learner,
    /// The period of `every` of which a reading was taken last.
    period: Option<i64>,
    /// Usual readings that are still to come until what was found is over.
    left: u32,
    /// The strongest that was found since something stands.
    found: Option<Box<Found>>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) score: f32,
    pub(crate) reason: Reason,
}

impl Watcher {
    pub(super) fn new(rule: &Unusual) -> Watcher {
        let mode = match rule.mode {
            LearnerMode::Light => Mode::Light,
            LearnerMode::Full => Mode::Full,
        };
        // What was found before this learner began is left alone until it could be over.
        Watcher { learner: Learner::new(mode, rule.warm_up), period: None, left: rule.rest, found: None }
    }

    /// The same learner under another rule: what it found stands if that is enough for the rule too.
    pub(super) fn judging_by(&self, rule: &Unusual) -> Watcher {
        let mut watcher = self.clone();
        watcher.left = watcher.left.min(rule.rest);
        watcher.found.take_if(|found| f64::from(found.score) < rule.score);
        watcher
    }

    /// Takes a reading, when it is one to learn from, and says whether it is unusual. Others say nothing: what is not
    /// good, what came late, and what comes sooner than it is asked for.
    pub(super) fn judge(&mut self, rule: &Unusual, number: f64, sight: &Sight<'_>, local: &Local) -> Verdict {
        if !sight.is_to_learn || !self.is_due(rule, sight.observed_at) {
            return Verdict::Unknown;
        }
        self.take(rule, number, moment_of(local))
    }

    fn take(&mut self, rule: &Unusual, number: f64, moment: Moment) -> Verdict {
        let judged = self.learner.watch(number, moment, rule.score as f32);
        self.left = self.left.saturating_sub(1);
        if !self.learner.is_warm() {
            return if self.left > 0 { Verdict::Unknown } else { Verdict::Fine };
        }
        if let Some(reason) = judged.alarm
            && self.found.as_ref().is_none_or(|found| found.score < judged.score)
        {
            self.found = Some(Box::new(Found { score: judged.score, reason }));
        }
        match (&self.found, self.left) {
            (None, _) => Verdict::Fine,
            (Some(_), _) if judged.score >= SCORE_ALARM => {
                self.left = rule.rest;
                Verdict::Wrong
            }
            (Some(_), 0) => {
                self.found = None;
                Verdict::Fine
            }
            (Some(_), _) => Verdict::Between,
        }
    }

    /// Of each period the first reading is taken.
    fn is_due(&mut self, rule: &Unusual, observed_at: Timestamp) -> bool {
        let Some(every) = rule.every else { return true };
        let period = observed_at.0.div_euclid(milliseconds(every).max(1));
        let is_new = self.period != Some(period);
        self.period = Some(period);
        is_new
    }

    /// What stands, or stood last.
    pub(crate) fn found(&self) -> Option<&Found> {
        self.found.as_deref()
    }

    /// Whether it judges already.
    pub(crate) fn is_warm(&self) -> bool {
        self.learner.is_warm()
    }

    /// Bytes that it takes, with all that it points to.
    pub(crate) fn bytes(&self) -> usize {
        let found = self.found.as_ref().map_or(0, |_| size_of::<Found>());
        size_of::<Watcher>() - size_of::<Learner>() + self.learner.bytes() + found
    }
}

/// The hour that has its rhythm: that of the place.
fn moment_of(local: &Local) -> Moment {
    Moment::from_local_seconds(i64::from(local.moment.day) * DAY_SECONDS + i64::from(local.moment.minute) * 60)
}

#[cfg(test)]
mod tests;
