//! What the learners of rules cost, counted apart from all other state: they are asked for point by point.

use kerbside_model::profile::Rule;
use serde::Serialize;

use crate::Engine;
use crate::explain::unusual::watcher;

/// Series that are watched by a learner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LearnerTally {
    /// Series of which a reading came.
    pub series: usize,
    /// Of these, how many have learnt enough to judge.
    pub judging: usize,
    /// What all of them take in memory, in bytes.
    pub bytes: usize,
}

impl Engine {
    /// How many series are watched by a learner, and what that takes. Looks at every device whose profile has such a
    /// rule.
    pub fn learner_tally(&self) -> LearnerTally {
        let mut tally = LearnerTally::default();
        for (device, state) in self.site.devices().iter().zip(&self.devices) {
            let profile = self.site.profile_of(device);
            for (detector, slot) in profile.detectors.iter().zip(&state.detectors) {
                if !matches!(detector.rule, Rule::Unusual(_)) {
                    continue;
                }
                let Some(watcher) = watcher(slot) else { continue };
                tally.series += 1;
                tally.judging += usize::from(watcher.is_warm());
                tally.bytes += watcher.bytes();
            }
        }
        tally
    }
}
