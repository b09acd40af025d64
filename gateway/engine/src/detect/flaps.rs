//! How often a contact or a word has changed: one that changes again and again has a loose wire.

use kerbside_model::profile::Flapping;
use kerbside_model::{Timestamp, Value};
use serde::{Deserialize, Serialize};

use super::{Verdict, milliseconds};

/// The last changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flaps {
    last: Option<Value>,
    changes: Vec<Timestamp>,
}

impl Flaps {
    /// Takes the next reading and counts the changes.
    pub(super) fn judge(&mut self, rule: &Flapping, value: &Value, at: Timestamp) -> Verdict {
        let within_ms = milliseconds(rule.within);
        self.changes.retain(|changed| at.0.saturating_sub(changed.0) <= within_ms);
        if self.last.as_ref() != Some(value) {
            if self.last.replace(value.clone()).is_some() {
                self.changes.push(at);
            }
            if self.changes.len() > usize::from(rule.changes) {
                self.changes.remove(0);
            }
        }
        let changes = self.changes.len();
        if changes >= usize::from(rule.changes) {
            Verdict::Wrong
        } else if changes * 2 <= usize::from(rule.changes) {
            Verdict::Fine
        } else {
            Verdict::Between
        }
    }

    /// How often it changed.
    pub(crate) fn changes(&self) -> usize {
        self.changes.len()
    }

    pub(super) fn forget_future(&mut self, now: Timestamp) {
        self.changes.retain(|changed| *changed <= now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULE: Flapping = Flapping { changes: 6, within: Duration::from_secs(600) };

    /// The last verdict after a contact that changes every so many seconds.
    fn after(every: i64, times: i64) -> Verdict {
        let mut flaps = Flaps::default();
        let start = 1_800_000_000_000;
        let take = |flaps: &mut Flaps, number: i64| {
            flaps.judge(&RULE, &Value::Boolean(number % 2 == 1), Timestamp(start + number * every * 1_000))
        };
        (0..times).map(|number| take(&mut flaps, number)).last().unwrap()
    }

    #[test]
    fn six_changes_in_ten_minutes_are_a_loose_contact() {
        assert_eq!(after(90, 7), Verdict::Wrong);
        assert_eq!(after(90, 5), Verdict::Between);
        assert_eq!(after(300, 40), Verdict::Fine);
    }

    #[test]
    fn it_remembers_no_more_changes_than_it_needs() {
        let mut flaps = Flaps::default();
        for number in 0..1_000 {
            flaps.judge(&RULE, &Value::Boolean(number % 2 == 1), Timestamp(1_800_000_000_000 + number));
        }
        assert_eq!(flaps.changes(), 6);
        flaps.forget_future(Timestamp(0));
        assert_eq!(flaps.changes(), 0);
    }
}
