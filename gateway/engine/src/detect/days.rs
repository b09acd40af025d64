//! The days of a point: one value for each, and the middle slope between them (Theil and Sen), so that a few wet days
//! or a cold week change little.

use kerbside_model::profile::{DayValue, Side, TREND_DAYS_MAX, TREND_DAYS_MIN, Trend, TrendGoal};
use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::local::Local;

/// Over when it changes by no more than this share of what is too much ...
const CLEAR_SHARE: f64 = 0.5;
/// ... or takes so many times as long to the limit.
const CLEAR_FACTOR: f64 = 2.0;
/// The forecast is made from where it stands now: the middle one of so many last days.
const DAYS_OF_NOW: usize = 3;
const DAY_SECONDS: f64 = 86_400.0;

/// One value for each of the last days.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Days {
    today: Option<Today>,
    values: Vec<(i32, f32)>,
    slope: Option<Slope>,
}

/// The readings of a day that is not over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Today {
    day: i32,
    low: f32,
    high: f32,
    /// The first readings of its hours, for the middle of the day.
    hours: Vec<f32>,
    hour: u8,
}

/// Change in a day.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slope {
    pub(crate) middle: f32,
    /// One slope in ten between pairs of days is less ...
    pub(crate) low: f32,
    /// ... and one in ten is more.
    pub(crate) high: f32,
    /// From the first to the last day.
    pub(crate) days: i32,
    last_day: i32,
    now: f32,
}

/// When a limit is reached, in days since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) day: i32,
    /// When it goes as in the fastest tenth of the pairs of days.
    pub(crate) earliest: i32,
    /// When it goes as in the slowest tenth; `None` when it stands still then.
    pub(crate) latest: Option<i32>,
}

impl Days {
    /// Takes a reading that counts, and says what the days that are over say.
    pub(super) fn judge(&mut self, rule: &Trend, number: f64, local: &Local, learns: bool) -> Verdict {
        if learns {
            self.take(rule, number as f32, local);
        }
        let Some(slope) = self.slope else { return Verdict::Unknown };
        let direction = |change: f64| match rule.side {
            Side::Above => change,
            Side::Below => -change,
            Side::Either => change.abs(),
        };
        let total = direction(f64::from(slope.middle) * f64::from(slope.days));
        if total < rule.total * CLEAR_SHARE {
            return Verdict::Fine;
        }
        let (is_wrong, is_fine) = match &rule.goal {
            TrendGoal::Change { by, per } => {
                let change = direction(f64::from(slope.middle) * per.as_secs_f64() / DAY_SECONDS);
                (change >= *by, change <= by * CLEAR_SHARE)
            }
            TrendGoal::Reaches { limit, within } => {
                let left = slope.days_left(*limit, slope.middle).unwrap_or(f64::INFINITY) * DAY_SECONDS;
                (left <= within.as_secs_f64(), left > within.as_secs_f64() * CLEAR_FACTOR)
            }
        };
        match (is_wrong && total >= rule.total, is_fine) {
            (true, _) => Verdict::Wrong,
            (false, true) => Verdict::Fine,
            (false, false) => Verdict::Between,
        }
    }

    /// Takes a reading of a day; those that are over are kept.
    pub(super) fn take(&mut self, rule: &Trend, number: f32, local: &Local) {
        let Some(over) = Today::take(&mut self.today, rule.of, number, local) else { return };
        let day = local.moment.day;
        self.values.push(over);
        self.values.retain(|(past, _)| day.saturating_sub(*past) <= i32::from(rule.days));
        self.slope = self.slope_now(rule);
    }

    /// The last day that is over, with its value.
    pub(super) fn last(&self) -> Option<(i32, f32)> {
        self.values.last().copied()
    }

    /// The lowest reading of a day that is not over yet.
    pub(super) fn lowest_on(&self, day: i32) -> Option<f32> {
        self.today.as_ref().filter(|today| today.day == day).map(|today| today.low)
    }

    /// The middle one of up to so many days before the last one; the higher one of two.
    pub(super) fn middle_before_last(&self, days: usize) -> Option<f32> {
        let (_, before) = self.values.split_last()?;
        let mut before: Vec<f32> = before.iter().rev().take(days).map(|(_, value)| *value).collect();
        before.sort_unstable_by(f32::total_cmp);
        before.get(before.len() / 2).copied()
    }

    fn slope_now(&self, rule: &Trend) -> Option<Slope> {
        let enough = usize::from((rule.days / 2).max(TREND_DAYS_MIN));
        if self.values.len() < enough {
            return None;
        }
        let mut slopes: Vec<f32> = Vec::with_capacity(usize::from(TREND_DAYS_MAX) * usize::from(TREND_DAYS_MAX) / 2);
        for (position, (day, value)) in self.values.iter().enumerate() {
            for (later, other) in &self.values[position + 1..] {
                slopes.push((other - value) / later.saturating_sub(*day).max(1) as f32);
            }
        }
        slopes.sort_unstable_by(f32::total_cmp);
        let mut last: Vec<f32> = self.values.iter().rev().take(DAYS_OF_NOW).map(|(_, value)| *value).collect();
        last.sort_unstable_by(f32::total_cmp);
        let (first_day, last_day) = (self.values.first()?.0, self.values.last()?.0);
        Some(Slope {
            middle: slopes[slopes.len() / 2],
            low: slopes[slopes.len() / 10],
            high: slopes[slopes.len() - 1 - slopes.len() / 10],
            days: last_day - first_day,
            last_day,
            now: last[last.len() / 2],
        })
    }

    pub(crate) fn slope(&self) -> Option<Slope> {
        self.slope
    }

    pub(super) fn forget_future(&mut self, today: i32) {
        self.today.take_if(|known| known.day > today);
        self.values.retain(|(day, _)| *day <= today);
    }
}

impl Slope {
    /// Days from the last one until a limit is reached by this slope; 0 when it is behind it already.
    fn days_left(&self, limit: f64, slope: f32) -> Option<f64> {
        let (rest, slope, middle) = (limit - f64::from(self.now), f64::from(slope), f64::from(self.middle));
        if rest * middle <= 0.0 && middle != 0.0 {
            return Some(0.0);
        }
        let days = rest / slope;
        (days.is_finite() && days >= 0.0).then_some(days)
    }

    /// When a limit is reached.
    pub(crate) fn arrival(&self, limit: f64) -> Option<Arrival> {
        let (slow, fast) = if self.middle >= 0.0 { (self.low, self.high) } else { (self.high, self.low) };
        let on_day = |days: f64| self.last_day.saturating_add(days.min(36_500.0).ceil() as i32);
        Some(Arrival {
            day: on_day(self.days_left(limit, self.middle)?),
            earliest: on_day(self.days_left(limit, fast)?),
            latest: self.days_left(limit, slow).map(on_day),
        })
    }
}

impl Today {
    /// Takes a reading that counts. When it is the first one of a day, it gives the day before with its value.
    pub(super) fn take(slot: &mut Option<Today>, of: DayValue, number: f32, local: &Local) -> Option<(i32, f32)> {
        let (day, hour) = (local.moment.day, u8::try_from(local.moment.minute / 60).unwrap_or(0));
        match slot {
            Some(today) if today.day == day => {
                (today.low, today.high) = (today.low.min(number), today.high.max(number));
                if hour > today.hour {
                    if of == DayValue::Median {
                        today.hours.push(number);
                    }
                    today.hour = hour;
                }
                None
            }
            Some(today) if today.day > day => None,
            known => {
                let hours = if of == DayValue::Median { vec![number] } else { Vec::new() };
                let over = known.replace(Today { day, low: number, high: number, hours, hour })?;
                Some((over.day, over.value(of)))
            }
        }
    }

    pub(super) fn day(&self) -> i32 {
        self.day
    }

    fn value(&self, of: DayValue) -> f32 {
        let mut hours = self.hours.clone();
        hours.sort_unstable_by(f32::total_cmp);
        match of {
            DayValue::Minimum => self.low,
            DayValue::Maximum => self.high,
            DayValue::Median => hours.get(hours.len() / 2).copied().unwrap_or(self.low),
        }
    }
}
