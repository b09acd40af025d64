//! Where a thing rests: the middle of its first quiet readings, from which it is judged how far it has moved. A cover
//! is never quite level, and a sensor never quite straight.

use kerbside_model::Timestamp;
use kerbside_model::profile::{Baseline, Side};
use serde::{Deserialize, Serialize};

use super::{Sight, Verdict, threshold};

const DAY_MS: f64 = 86_400_000.0;

/// Where it rests, and the readings from which that is learnt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rest {
    place: Option<f32>,
    /// Until when the place has followed.
    followed: Timestamp,
    /// Quiet readings, while the place is learnt.
    quiet: Vec<f32>,
    /// It was touched with a permit: its place is learnt anew.
    is_touched: bool,
    /// The last reading, where what shakes is not believed, and whether it was like the one before.
    last: Option<(Timestamp, f32)>,
    is_still: bool,
}

impl Rest {
    /// Says how far from its place it is. The place is learnt from quiet readings, anew behind a permit, and only where
    /// it is not moved: what is left open behind the permit does not become its place.
    pub(super) fn judge(&mut self, rule: &Baseline, number: f64, sight: &Sight<'_>) -> Verdict {
        if sight.is_permitted {
            self.is_touched = true;
            self.quiet.clear();
        }
        if self.is_touched && rule.below.is_some() {
            // A crew that leaves it askew has seen it; what is left open is for another rule to find.
            self.place = None;
        }
        let moved = self.moved(rule, number);
        if rule.below.zip(moved).is_some_and(|(below, moved)| moved.abs() >= below) {
            return Verdict::Between;
        }
        let verdict =
            moved.map_or(Verdict::Unknown, |moved| threshold(Side::Above, rule.above, rule.clear, moved.abs()));
        if let Some(still) = rule.still {
            // One that is looked at again, because of another point, is not a second one that is like it.
            if self.last.is_none_or(|(at, _)| at != sight.observed_at) {
                let before = self.last.replace((sight.observed_at, number as f32));
                self.is_still = before.is_some_and(|(_, before)| way(rule, f64::from(before), number).abs() <= still);
            }
            if verdict == Verdict::Wrong && !self.is_still {
                return Verdict::Between;
            }
        }
        // Nobody puts a cover back as it lay: within the limit all is well until its new place is known.
        let verdict = if self.is_touched && verdict == Verdict::Between { Verdict::Fine } else { verdict };
        if sight.is_permitted || !sight.is_to_learn || verdict == Verdict::Wrong {
            return verdict;
        }
        match moved {
            Some(moved) if !self.is_touched => self.follow(rule, moved, sight.observed_at),
            _ => self.learn(rule, number, sight.observed_at),
        }
        verdict
    }

    /// Whether its place was never learnt, and nobody touched it with a permit since.
    pub(super) fn has_no_place(&self) -> bool {
        self.place.is_none() && !self.is_touched
    }

    /// How far from its place a reading is, with its sign.
    pub(crate) fn moved(&self, rule: &Baseline, number: f64) -> Option<f64> {
        self.place.map(|place| way(rule, f64::from(place), number))
    }

    fn learn(&mut self, rule: &Baseline, number: f64, at: Timestamp) {
        let first = f64::from(*self.quiet.first().unwrap_or(&(number as f32)));
        if way(rule, first, number).abs() > rule.steady {
            self.quiet.clear();
        }
        self.quiet.push(number as f32);
        if self.quiet.len() < usize::from(rule.readings) {
            return;
        }
        let first = f64::from(self.quiet[0]);
        let mut ways: Vec<f64> = self.quiet.iter().map(|other| way(rule, first, f64::from(*other))).collect();
        ways.sort_unstable_by(f64::total_cmp);
        self.place = Some((first + ways[ways.len() / 2]) as f32);
        self.quiet = Vec::new();
        (self.followed, self.is_touched) = (at, false);
    }

    /// Heat, frost and settling move it slowly.
    fn follow(&mut self, rule: &Baseline, moved: f64, at: Timestamp) {
        let days = at.0.saturating_sub(self.followed.0).max(0) as f64 / DAY_MS;
        // Once a day is enough, and spares the rounding of small steps.
        if days < 1.0 {
            return;
        }
        let step = moved.clamp(-rule.creep_per_day * days, rule.creep_per_day * days);
        self.place = self.place.map(|place| (f64::from(place) + step) as f32);
        self.followed = at;
    }

    pub(super) fn forget_future(&mut self, now: Timestamp) {
        self.followed = self.followed.min(now);
    }
}

/// From one value to another, the shorter way round where the point goes round.
fn way(rule: &Baseline, from: f64, to: f64) -> f64 {
    match rule.circle {
        Some(circle) => (to - from + circle / 2.0).rem_euclid(circle) - circle / 2.0,
        None => to - from,
    }
}
