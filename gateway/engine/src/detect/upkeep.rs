//! How detectors come to the memories of batteries, radio links, amounts, loose contacts and slow shifts.

use kerbside_model::Value;
use kerbside_model::profile::{Battery, Losses, Rule};

use super::cells::Sent;
use super::{DetectorState, Gaps, Memory, Sight, Verdict};

impl DetectorState {
    /// What a good reading of the point says to a rule that counts.
    pub(super) fn judge_count(&mut self, rule: &Rule, value: &Value, sight: &Sight<'_>) -> Verdict {
        let at = sight.observed_at;
        match (rule, self.memory_for(rule), value.as_number(), sight.local) {
            (Rule::Flapping(flapping), Memory::Flaps(flaps), _, _) => flaps.judge(flapping, value, at),
            (Rule::Amount(amount), Memory::Amount(sum), Some(number), _) => sum.judge(amount, number, at),
            (Rule::Battery(battery), Memory::Cells(cells), Some(number), Some(_)) => {
                cells.judge(battery, number, sight)
            }
            (Rule::Shift(shift), Memory::Creep(creep), Some(number), Some(local)) => {
                creep.judge(shift, number, local, sight.is_to_learn)
            }
            _ => Verdict::Unknown,
        }
    }

    /// Notes a message of the device, which takes some of its battery.
    pub(crate) fn note_message(&mut self, battery: &Battery, rule: &Rule, sent: Sent) {
        let is_counted = battery.charge.is_some() || battery.temperature.is_some();
        if is_counted && let Memory::Cells(cells) = self.memory_for(rule) {
            cells.take_message(sent);
        }
    }

    /// Notes an uplink that came, and how many before it did not; what that says of the link.
    pub(crate) fn count_uplink(&mut self, losses: &Losses, rule: &Rule, lost: u64) -> Verdict {
        match self.memory_for(rule) {
            Memory::Gaps(gaps) => gaps.take(losses, lost),
            _ => Verdict::Unknown,
        }
    }
}

/// The memory of a rule that counts; `None` for other rules.
pub(super) fn memory_of(rule: &Rule) -> Option<Memory> {
    Some(match rule {
        Rule::Battery(_) => Memory::Cells(Box::default()),
        Rule::Losses(_) => Memory::Gaps(Gaps::default()),
        Rule::Amount(_) => Memory::Amount(Box::default()),
        Rule::Flapping(_) => Memory::Flaps(Box::default()),
        Rule::Shift(_) => Memory::Creep(Box::default()),
        _ => return None,
    })
}
