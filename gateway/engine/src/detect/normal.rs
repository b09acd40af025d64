//! What is usual for a point at each hour of the day, on workdays and at weekends: a streaming middle and spread,
//! learnt by stochastic approximation, so that they take no more room than the hours.

use kerbside_model::profile::{Deviation, Measure, Rhythm, Side, Weekend};
use serde::{Deserialize, Serialize};

use super::{Phase, Verdict};
use crate::local::Local;

const HOURS: usize = 24;
/// How fast the usual follows in the long run: about the last twenty days of an hour count.
const LEARNING_RATE_MIN: f32 = 0.05;
/// The first days of an hour are averaged as they are; behind them one day moves it no further than it may ...
const DAYS_FREE: u16 = 5;
/// ... by so many spreads (the usual bound of Huber's estimator is 1.5 to 3).
const STEP_SPREADS: f32 = 3.0;
/// A standard deviation for each mean distance from the middle, of a normal distribution: the root of half of pi.
const DEVIATION_OF_DISTANCE: f64 = 1.2533;

/// What is usual, by hour; behind the hours of workdays those of weekends, where they are apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Normal {
    hours: Vec<Hour>,
    /// The day and hour of which a reading was learnt last.
    learnt: Option<(i32, u8)>,
}

/// What is usual in one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Hour {
    middle: f32,
    /// Mean distance from the middle.
    distance: f32,
    days: u16,
}

/// What is usual now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usual {
    pub(crate) middle: f64,
    pub(crate) spread: f64,
    pub(crate) days: u16,
}

impl Normal {
    /// Compares a reading with what is usual at its hour, and learns from it after that: one reading of each hour of
    /// each day, so that the way of sampling changes nothing.
    pub(super) fn judge(&mut self, rule: &Deviation, number: f64, local: &Local, learns: bool) -> Verdict {
        let verdict = self.verdict(rule, number, local);
        let (day, hour) = (local.moment.day, hour_of(local));
        if learns && verdict != Verdict::Wrong && self.learnt.is_none_or(|learnt| learnt < (day, hour)) {
            self.learnt = Some((day, hour));
            let place = place_of(rule, local);
            if self.hours.len() <= place {
                self.hours.resize(places_of(rule), Hour::default());
            }
            self.hours[place].learn(number as f32);
        }
        verdict
    }

    /// Compares a reading with what is usual at its hour.
    pub(super) fn verdict(&self, rule: &Deviation, number: f64, local: &Local) -> Verdict {
        let Some(usual) = self.usual(rule, local) else { return Verdict::Unknown };
        let distance = match rule.side {
            Side::Above => number - usual.middle,
            Side::Below => usual.middle - number,
            Side::Either => (number - usual.middle).abs(),
        };
        let (raise, clear_share) = match rule.measure {
            Measure::Spreads => (rule.raise * usual.spread, rule.clear / rule.raise),
            Measure::Times => ((rule.raise - 1.0) * usual.middle.abs(), (rule.clear - 1.0) / (rule.raise - 1.0)),
        };
        let raise = raise.max(rule.least);
        if distance >= raise {
            Verdict::Wrong
        } else if distance <= raise * clear_share {
            Verdict::Fine
        } else {
            Verdict::Between
        }
    }

    /// What is usual at an hour that was learnt for long enough.
    pub(crate) fn usual(&self, rule: &Deviation, local: &Local) -> Option<Usual> {
        let hour = self.hours.get(place_of(rule, local)).filter(|hour| hour.days >= u16::from(rule.warm_up))?;
        let spread = f64::from(hour.distance) * DEVIATION_OF_DISTANCE;
        Some(Usual { middle: f64::from(hour.middle), spread, days: hour.days })
    }

    /// Days are forgotten that are not yet: what was learnt of them stays.
    pub(super) fn forget_future(&mut self, today: i32) {
        self.learnt = self.learnt.filter(|(day, _)| *day <= today);
    }

    /// Whether what stands may be learnt: a fault is not to become usual.
    pub(crate) fn learns_in(phase: Phase) -> bool {
        matches!(phase, Phase::Unknown | Phase::Clear)
    }
}

impl Hour {
    fn learn(&mut self, number: f32) {
        self.days = self.days.saturating_add(1);
        if self.days == 1 {
            *self = Hour { middle: number, distance: 0.0, days: 1 };
            return;
        }
        let rate = (1.0 / f32::from(self.days)).max(LEARNING_RATE_MIN);
        let step = number - self.middle;
        let bound = if self.days <= DAYS_FREE { f32::INFINITY } else { STEP_SPREADS * self.distance.max(f32::EPSILON) };
        self.middle += rate * step.clamp(-bound, bound);
        // The floor lets an hour that never moved begin to.
        let distance = step.abs().min(bound.max(rate * step.abs()));
        self.distance += rate * (distance - self.distance);
    }
}

fn hour_of(local: &Local) -> u8 {
    u8::try_from(local.moment.minute / 60).unwrap_or(0)
}

/// How many usual values there are in a day.
fn hours_of(rule: &Deviation) -> usize {
    if rule.rhythm == Rhythm::Hours { HOURS } else { 1 }
}

fn places_of(rule: &Deviation) -> usize {
    hours_of(rule) * if rule.weekend == Weekend::Apart { 2 } else { 1 }
}

fn place_of(rule: &Deviation, local: &Local) -> usize {
    let is_apart = rule.weekend == Weekend::Apart && local.is_weekend();
    let place = if rule.rhythm == Rhythm::Hours { usize::from(hour_of(local)) } else { 0 };
    place + if is_apart { hours_of(rule) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_spread_of_noise_are_found_and_a_single_flood_moves_them_little() {
        let mut hour = Hour::default();
        for day in 0..200_u32 {
            // Even steps from -10 to 10 around 100, in an order that is not even.
            hour.learn(100.0 + ((day * 8) % 21) as f32 - 10.0);
        }
        assert!((hour.middle - 100.0).abs() < 2.0, "{hour:?}");
        assert!((hour.distance - 5.24).abs() < 1.5, "{hour:?}");
        let before = hour.middle;
        hour.learn(5_000.0);
        assert!(hour.middle - before < 1.5, "{hour:?}");
    }

    #[test]
    fn an_hour_that_never_moved_begins_to() {
        let mut hour = Hour::default();
        (0..30).for_each(|_| hour.learn(50.0));
        (0..400).for_each(|day| hour.learn(if day % 2 == 0 { 60.0 } else { 64.0 }));
        assert!((hour.middle - 62.0).abs() < 3.0, "{hour:?}");
    }
}
