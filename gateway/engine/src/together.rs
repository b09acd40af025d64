//! What several points say together: whether a test holds by the last values, and until when that is known.

use std::cell::Cell;
use std::time::Duration;

use kerbside_model::profile::{Combination, Operand, Profile, Relation, Test, Word};
use kerbside_model::{Timestamp, Value};

use crate::detect::Verdict;
use crate::last::LastReadings;

/// Without a known interval a point's value counts as known for so long.
const FRESH_DEFAULT: Duration = Duration::from_secs(3_600);
/// A value is known for so many reports of its point.
const FRESH_INTERVALS: f64 = 3.0;

/// The last values of a device, as a combination sees them.
pub(crate) struct Together<'a> {
    last: &'a LastReadings,
    profile: &'a Profile,
    interval: Option<Duration>,
    fresh: Option<Duration>,
    at: Timestamp,
    /// Suspect values count as good ones.
    takes_suspect: bool,
    /// A suspect value was left aside.
    has_left_suspect: Cell<bool>,
}

impl<'a> Together<'a> {
    pub(crate) fn new(
        (profile, interval): (&'a Profile, Option<Duration>),
        last: &'a LastReadings,
        combination: &Combination,
        at: Timestamp,
    ) -> Together<'a> {
        let has_left_suspect = Cell::new(false);
        Together { last, profile, interval, fresh: combination.fresh, at, takes_suspect: false, has_left_suspect }
    }

    /// What the combination says, and whether that stands on good values only. Suspect ones may say that something is
    /// wrong, and never that all is well.
    pub(crate) fn judge(mut self, combination: &Combination) -> (Verdict, bool) {
        let by_good = self.test(&combination.raise);
        if by_good == Some(true) {
            return (Verdict::Wrong, true);
        }
        if self.has_left_suspect.get() {
            self.takes_suspect = true;
            if self.test(&combination.raise) == Some(true) {
                return (Verdict::Wrong, false);
            }
            self.takes_suspect = false;
        }
        let verdict = match (by_good, &combination.clear) {
            (None, _) => Verdict::Unknown,
            (Some(_), None) => Verdict::Fine,
            (Some(_), Some(clear)) if self.test(clear) == Some(true) => Verdict::Fine,
            (Some(_), Some(_)) => Verdict::Between,
        };
        (verdict, true)
    }

    /// From when on nobody knows any more whether the combination stands, if no value comes until then. What a value
    /// leaves unknown is so from this value on.
    pub(crate) fn unknown_from(mut self, combination: &Combination) -> Timestamp {
        let ends = combination.points.iter().filter_map(|point| self.known_until(*point));
        let mut ends: Vec<Timestamp> = ends.collect();
        ends.sort_unstable();
        let came = combination.points.iter().filter_map(|point| self.last.get(usize::from(*point)));
        let latest = came.map(|last| last.received_at).max().unwrap_or_default();
        for end in &ends {
            self.at = Timestamp(end.0.saturating_add(1));
            if self.test(&combination.raise).is_none() {
                return latest.max(*end);
            }
        }
        ends.last().copied().unwrap_or_default()
    }

    fn known_until(&self, point: u16) -> Option<Timestamp> {
        Some(self.good_at(point)?.plus(self.patience(point)))
    }

    /// When the last good value of a point came.
    fn good_at(&self, point: u16) -> Option<Timestamp> {
        let good_at = self.last.get(usize::from(point))?.good_at;
        (good_at != Timestamp::default()).then_some(good_at)
    }

    fn patience(&self, point: u16) -> Duration {
        self.fresh.unwrap_or_else(|| {
            let interval = self.profile.point_interval(usize::from(point), self.interval);
            interval.map_or(FRESH_DEFAULT, |interval| interval.mul_f64(FRESH_INTERVALS))
        })
    }

    /// The last value of a point, when it can be used and is not too old.
    fn value(&self, point: u16) -> Option<&'a Value> {
        let (value, received_at, is_good) = self.last.usable_since(point)?;
        if self.at.since(received_at) > self.patience(point) {
            return None;
        }
        if !is_good && !self.takes_suspect {
            self.has_left_suspect.set(true);
            return None;
        }
        Some(value)
    }

    /// Whether a test holds; `None` when that is not known.
    pub(crate) fn test(&self, test: &Test) -> Option<bool> {
        match test {
            Test::Always(always) => Some(*always),
            Test::Point(point) => match self.value(*point)? {
                Value::Boolean(boolean) => Some(*boolean),
                _ => None,
            },
            Test::Known(point) => Some(self.value(*point).is_some()),
            Test::Not(test) => self.test(test).map(|holds| !holds),
            Test::All(tests) => self.all(tests, true),
            Test::Any(tests) => self.all(tests, false),
            Test::Same(both) => Some(self.test(&both.0)? == self.test(&both.1)?),
            Test::Number(left, relation, right) => {
                let (left, right) = (self.operand(left)?, self.operand(right)?);
                Some(match relation {
                    #[expect(clippy::float_cmp, reason = "whoever writes == means it")]
                    Relation::Equal => left == right,
                    #[expect(clippy::float_cmp, reason = "whoever writes != means it")]
                    Relation::NotEqual => left != right,
                    Relation::Less => left < right,
                    Relation::LessOrEqual => left <= right,
                    Relation::Greater => left > right,
                    Relation::GreaterOrEqual => left >= right,
                })
            }
            Test::Text(left, right) => Some(self.word(left)? == self.word(right)?),
            Test::Choice(choice) => self.test(if self.test(&choice.0)? { &choice.1 } else { &choice.2 }),
        }
    }

    /// Whether all tests come out as `wanted` (which is "and"), or else, for `wanted` false, whether one of them does
    /// not (which is "or"): one that does not decides, whatever is not known of the others.
    fn all(&self, tests: &[Test], wanted: bool) -> Option<bool> {
        let mut result = Some(wanted);
        for test in tests {
            match self.test(test) {
                Some(holds) if holds != wanted => return Some(holds),
                Some(_) => {}
                None => result = None,
            }
        }
        result
    }

    pub(crate) fn operand(&self, operand: &Operand) -> Option<f64> {
        let pair = |both: &(Operand, Operand)| Some((self.operand(&both.0)?, self.operand(&both.1)?));
        let number = match operand {
            Operand::Constant(number) => *number,
            Operand::Point(point) => self.value(*point)?.as_number()?,
            Operand::Age(point) => self.at.since(self.good_at(*point)?).as_secs_f64(),
            Operand::Negative(operand) => -self.operand(operand)?,
            Operand::Size(operand) => self.operand(operand)?.abs(),
            Operand::Sum(both) => pair(both).map(|(left, right)| left + right)?,
            Operand::Difference(both) => pair(both).map(|(left, right)| left - right)?,
            Operand::Product(both) => pair(both).map(|(left, right)| left * right)?,
            Operand::Quotient(both) => pair(both).map(|(left, right)| left / right)?,
            Operand::Least(operands) => self.fold(operands, f64::min)?,
            Operand::Greatest(operands) => self.fold(operands, f64::max)?,
            Operand::Choice(choice) => self.operand(if self.test(&choice.0)? { &choice.1 } else { &choice.2 })?,
        };
        number.is_finite().then_some(number)
    }

    fn fold(&self, operands: &[Operand], choose: fn(f64, f64) -> f64) -> Option<f64> {
        let mut chosen: Option<f64> = None;
        for operand in operands {
            let number = self.operand(operand)?;
            chosen = Some(chosen.map_or(number, |other| choose(other, number)));
        }
        chosen
    }

    fn word<'b>(&'b self, word: &'b Word) -> Option<&'b str> {
        match word {
            Word::Constant(text) => Some(text),
            Word::Point(point) => match self.value(*point)? {
                Value::Text(text) => Some(text),
                _ => None,
            },
        }
    }
}
