//! The end of a battery: by the charge that messages and sleep have taken, by the lowest voltage of its days that two
//! readings say, and by the knee of a cell that is flat until then. The first of them counts.

use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_model::profile::{Battery, Charge, TrendGoal};
use serde::{Deserialize, Serialize};

use super::days::{Arrival, Days};
use super::{DAY_MS, Sight, Verdict};

/// Nothing is said of the charge before so many whole days were counted.
const DAYS_COUNTED_MIN: usize = 7;
/// ... and by the last so many.
const DAYS_COUNTED_MAX: usize = 28;
/// More messages missing at once than this were not sent: the device was off, or joined anew.
const LOST_MAX: u64 = 1_000;
/// Over when the end is so many times as far away as it may be.
const CLEAR_FACTOR: i64 = 2;
/// No forecast goes further than a hundred years.
const DAYS_MAX: f64 = 36_500.0;
const HOUR_MS: f64 = 3_600_000.0;
const HOURS_OF_DAY: f64 = 24.0;
/// The temperature at which the voltage of a battery is compared, in degC.
const ROOM_C: f64 = 20.0;
/// A fall is seen by the days of a week.
const WEEK_DAYS: f64 = 7.0;
/// A reading so soon after another is of a cell that has not rested since: a radio that sends again and again pulls it
/// down. By judgement; a lithium thionyl chloride cell is back within seconds to minutes.
const REST: Duration = Duration::from_secs(600);
/// A new battery is compared with the middle of so many days before.
const DAYS_BEFORE: usize = 3;

/// What is known of the battery of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cells {
    /// The lowest values of its days.
    days: Days,
    /// Days running whose lowest value was below the knee.
    low_days: u8,
    /// The last day that was looked at for the knee and for a new battery.
    seen: Option<i32>,
    /// Since when its messages are counted; 0 before the first one.
    since: Timestamp,
    messages: u32,
    /// The day of the last message, and how many there were on it.
    day: (i32, u16),
    /// How many there were on the whole days before.
    daily: Vec<u16>,
    /// When the battery was put in, by the inventory.
    put_in: Option<Timestamp>,
    /// The temperature at the last message, in degC.
    temperature: Option<f32>,
    /// It was replaced, so it is fine until something else is known.
    is_new: bool,
    /// The last reading after rest, at room temperature, with when it was observed.
    rested: Option<(Timestamp, f32)>,
}

/// A message of a device, as far as its battery is concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Timestamp,
    /// The day by the calendar of the place, since 1970.
    pub(crate) day: i32,
    /// How many before it never came.
    pub(crate) lost: u64,
    /// When the battery was put in, by the inventory.
    pub(crate) battery_since: Option<Timestamp>,
    /// In degC, where the rule asks for it.
    pub(crate) temperature: Option<f64>,
}

/// When a battery ends.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Outlook {
    pub(crate) voltage: Option<Arrival>,
    pub(crate) charge: Option<Arrival>,
    /// How much of its charge was taken, from 0 to 1.
    pub(crate) used: f64,
    pub(crate) is_at_knee: bool,
}

impl Cells {
    /// Takes a message that was sent, with those that never came.
    pub(super) fn take_message(&mut self, sent: Sent) {
        (self.put_in, self.temperature) = (sent.battery_since, sent.temperature.map(|degrees| degrees as f32));
        let begins = sent.battery_since.filter(|since| *since > self.since && *since <= sent.at);
        if self.since == Timestamp::default() {
            (self.since, self.day) = (sent.at, (sent.day, 0));
        } else if let Some(since) = begins {
            self.begin_anew(since, sent.day);
        }
        let lost = u32::try_from(sent.lost.min(LOST_MAX)).unwrap_or_default();
        if sent.day > self.day.0 {
            let (day, messages) = std::mem::replace(&mut self.day, (sent.day, 0));
            // The first day was not seen from its beginning.
            if i64::from(day) * DAY_MS >= self.since.0 && messages > 0 {
                self.daily.push(messages);
            }
            if self.daily.len() > DAYS_COUNTED_MAX {
                self.daily.remove(0);
            }
        }
        self.messages = self.messages.saturating_add(1 + lost);
        self.day.1 = self.day.1.saturating_add(u16::try_from(1 + lost).unwrap_or(u16::MAX));
    }

    /// A new battery: what was counted and seen was of the old one.
    fn begin_anew(&mut self, since: Timestamp, day: i32) {
        let daily = std::mem::take(&mut self.daily);
        let Cells { put_in, temperature, rested, .. } = *self;
        *self = Cells { since, day: (day, 0), daily, put_in, temperature, is_new: true, rested, ..Cells::default() };
    }

    /// Takes a voltage, or how much is left, and says whether the end is near.
    pub(super) fn judge(&mut self, rule: &Battery, number: f64, sight: &Sight<'_>) -> Verdict {
        let Some(local) = sight.local else { return Verdict::Unknown };
        if sight.is_to_learn
            && let Some(firm) = self.confirmed(rule, number, sight.observed_at)
        {
            self.days.take(&rule.course, firm, local);
            self.look_at_yesterday(rule, sight.observed_at, local.moment.day);
        }
        let today = local.moment.day;
        let outlook = self.outlook(rule, sight.observed_at, today);
        if outlook.is_at_knee {
            return Verdict::Wrong;
        }
        let Some(end) = outlook.first() else {
            return if self.is_new { Verdict::Fine } else { Verdict::Unknown };
        };
        let within = rule.within().as_millis() / u128::from(DAY_MS.unsigned_abs());
        let (within, left) = (i64::try_from(within).unwrap_or(i64::MAX), i64::from(end.day) - i64::from(today));
        if left <= within {
            Verdict::Wrong
        } else if left > within.saturating_mul(CLEAR_FACTOR) {
            Verdict::Fine
        } else {
            Verdict::Between
        }
    }

    /// What two readings after rest say of the cell at room temperature: the higher of them. A cell sags when the radio
    /// sends with all its power, once in fifty messages and by up to half a volt; one that ends is low again in the next.
    /// `None` for a reading too soon after the one before.
    fn confirmed(&mut self, rule: &Battery, number: f64, at: Timestamp) -> Option<f32> {
        let corrected = match (&rule.temperature, self.temperature) {
            (Some(warmth), Some(temperature)) => number + warmth.per_degree * (ROOM_C - f64::from(temperature)),
            _ => number,
        } as f32;
        match self.rested {
            Some((before, _)) if before <= at && at.since(before) < REST => None,
            known => {
                self.rested = Some((at, corrected));
                Some(known.map_or(corrected, |(_, before)| before.max(corrected)))
            }
        }
    }

    /// Counts low days, and notices a new battery, when a day is over.
    fn look_at_yesterday(&mut self, rule: &Battery, at: Timestamp, today: i32) {
        let Some((day, low)) = self.days.last() else { return };
        if self.seen == Some(day) {
            return;
        }
        if let (Some(before), Some(fresh)) = (self.days.middle_before_last(DAYS_BEFORE), rule.fresh)
            && f64::from(low - before) >= fresh
        {
            self.begin_anew(at, today);
        }
        self.seen = Some(day);
        let is_low = rule.knee.is_some_and(|knee| f64::from(low) < knee.below);
        self.low_days = if is_low { self.low_days.saturating_add(1) } else { 0 };
    }

    /// When it ends, as far as anything is known.
    pub(crate) fn outlook(&self, rule: &Battery, at: Timestamp, today: i32) -> Outlook {
        let TrendGoal::Reaches { limit, .. } = rule.course.goal else { return Outlook::default() };
        let slope = self.days.slope().filter(|slope| {
            // Noise has a slope as well.
            -f64::from(slope.middle) * f64::from(slope.days) >= rule.course.total
        });
        let falls = self.days.slope().map_or(0.0, |slope| -f64::from(slope.middle) * WEEK_DAYS);
        let is_at_knee = rule.knee.is_some_and(|knee| {
            // A day that is low counts before it is over.
            let is_low = self.days.lowest_on(today).is_some_and(|low| f64::from(low) < knee.below);
            self.low_days.saturating_add(u8::from(is_low)) >= knee.days || falls >= knee.falls_per_week
        });
        let charge = rule.charge.and_then(|charge| self.charge_ends(&charge, at, today));
        Outlook {
            voltage: slope.and_then(|slope| slope.arrival(limit)),
            charge: charge.map(|(arrival, _)| arrival),
            used: charge.map_or(0.0, |(_, used)| used),
            is_at_knee,
        }
    }

    /// When the charge is used up, and how much of it is.
    fn charge_ends(&self, charge: &Charge, at: Timestamp, today: i32) -> Option<(Arrival, f64)> {
        if self.daily.len() < DAYS_COUNTED_MIN {
            return None;
        }
        let mut daily = self.daily.clone();
        daily.sort_unstable();
        let sleep_mah = charge.sleep_ua / 1e3 * HOURS_OF_DAY;
        let a_day = |place: usize| sleep_mah + f64::from(daily[place]) * charge.message_mah;
        let last = daily.len() - 1;
        let (slow, middle, fast) = (a_day(last / 10), a_day(last / 2), a_day(last - last / 10));
        let counted_hours = at.since(self.since).as_millis() as f64 / HOUR_MS;
        let counted = counted_hours * charge.sleep_ua / 1e3 + f64::from(self.messages) * charge.message_mah;
        // Before they were counted its messages were as many as now.
        let put_in = self.put_in.filter(|put_in| *put_in < self.since);
        let before = put_in.map_or(Duration::ZERO, |put_in| self.since.since(put_in));
        let used = counted + before.as_millis() as f64 / DAY_MS as f64 * middle;
        let left = (charge.capacity_mah - used).max(0.0);
        let on_day = |a_day: f64| today.saturating_add((left / a_day).min(DAYS_MAX) as i32);
        let arrival = Arrival { day: on_day(middle), earliest: on_day(fast), latest: Some(on_day(slow)) };
        Some((arrival, used / charge.capacity_mah))
    }

    pub(super) fn forget_future(&mut self, now: Timestamp, today: i32) {
        self.days.forget_future(today);
        self.since = self.since.min(now);
        self.seen = self.seen.filter(|day| *day <= today);
        self.rested = self.rested.filter(|(at, _)| *at <= now);
        self.day.0 = self.day.0.min(today);
    }
}

impl Outlook {
    /// The earlier of the ends that are known.
    pub(crate) fn first(&self) -> Option<Arrival> {
        match (self.voltage, self.charge) {
            (Some(voltage), Some(charge)) => Some(if charge.day < voltage.day { charge } else { voltage }),
            (voltage, charge) => voltage.or(charge),
        }
    }
}
