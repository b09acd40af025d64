//! The share of a device's uplinks that never came, by the gaps in its frame counter: whether its radio link is worse
//! than it may be.

use kerbside_model::profile::{Losses, Side};
use serde::{Deserialize, Serialize};

use super::{Verdict, threshold};

/// More missing in a row than this is silence, and no sign of a bad link; it counts as so many.
const RUN_MAX: u64 = 10;

/// How many of the last uplinks were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gaps {
    /// From 0 to 1.
    share: f32,
    /// Uplinks that were sent, as far as they count: no more than the rule looks at.
    sent: u16,
}

impl Gaps {
    /// Takes an uplink that came, and how many before it did not.
    pub(super) fn take(&mut self, rule: &Losses, lost: u64) -> Verdict {
        let lost = lost.min(RUN_MAX) as f32;
        let known = f32::from(self.sent);
        let sent = known + lost + 1.0;
        self.share = (self.share * known + lost) / sent;
        self.sent = (sent as u16).min(rule.uplinks);
        if self.sent < rule.uplinks {
            return Verdict::Unknown;
        }
        threshold(Side::Above, rule.above_percent, rule.clear_percent, self.percent())
    }

    /// How many of a hundred were lost.
    pub(crate) fn percent(&self) -> f64 {
        f64::from(self.share) * 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Losses = Losses { above_percent: 20.0, clear_percent: 10.0, uplinks: 100 };

    #[test]
    fn nothing_is_said_of_the_first_uplinks() {
        let mut gaps = Gaps::default();
        let verdicts: Vec<Verdict> = (0..100).map(|_| gaps.take(&RULE, 0)).collect();
        assert!(verdicts[..99].iter().all(|verdict| *verdict == Verdict::Unknown));
        assert_eq!(verdicts[99], Verdict::Fine);
    }

    #[test]
    fn the_share_follows_what_is_lost() {
        let mut gaps = Gaps::default();
        let last = (0..400).map(|number| gaps.take(&RULE, u64::from(number % 3 == 0))).last();
        assert_eq!(last, Some(Verdict::Wrong));
        assert!((gaps.percent() - 25.0).abs() < 1.5, "{gaps:?}");
        let last = (0..400).map(|_| gaps.take(&RULE, 0)).last();
        assert_eq!(last, Some(Verdict::Fine));
    }

    #[test]
    fn a_long_outage_is_no_bad_link() {
        let mut gaps = Gaps::default();
        for _ in 0..200 {
            gaps.take(&RULE, 0);
        }
        assert_eq!(gaps.take(&RULE, 16_000), Verdict::Fine);
    }
}
