//! What a lamp draws for what it is told to do: learnt for each setting of its switches and its dimming, and compared
//! with what it draws now.

use kerbside_model::Value;
use kerbside_model::profile::{LOAD_SETTINGS_MAX, LOAD_SWITCHES_MAX, Load, LoadGoal, Side};
use serde::{Deserialize, Serialize};

use super::{Sight, Verdict, threshold};
use crate::last::LastReadings;

/// Dimming is told apart in steps of ten percent.
const STEPS: f64 = 10.0;
/// What is learnt follows by this share of the difference: half of it in some 700 readings, so that a lamp that is
/// swapped for another kind is learnt in weeks and one that fails over nights is not.
const FOLLOW_RATE: f32 = 1.0 / 1_024.0;
/// ... and only where the difference is no more than this share: a fault is not to become usual.
const FOLLOW_SHARE: f64 = 0.25;
/// Where what is rated is known, nothing is learnt that is further from it than this share: a lamp that was half dark
/// when it was put up.
const RATED_SHARE: f64 = 0.5;
/// A load below this share is that of a dark lamp, which is not worse or better but out.
const DARK_SHARE: f64 = 0.2;
/// A night with fewer readings than this says nothing.
const NIGHT_READINGS_MIN: u16 = 3;
const NOON_MINUTES: i64 = 720;
const DAY_MINUTES: i64 = 1_440;

/// What a lamp is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting(u16);

impl Setting {
    /// By the last good values of the points that say it; `None` when one of them is not known.
    pub(crate) fn of(rule: &Load, last: &LastReadings) -> Option<Setting> {
        let mut bits = 0;
        for (number, point) in rule.switches.iter().enumerate() {
            match last.good(*point)?.0 {
                Value::Boolean(true) => bits |= 1 << number,
                Value::Boolean(false) => {}
                _ => return None,
            }
        }
        let dimming = match rule.dimming {
            Some(point) => last.good(point)?.0.as_number()?,
            None => 100.0,
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 10")]
        let step = (dimming / STEPS).ceil().clamp(0.0, STEPS) as u16;
        let is_off = step == 0 || (bits == 0 && !rule.switches.is_empty());
        Some(Setting(if is_off { 0 } else { step << LOAD_SWITCHES_MAX | bits }))
    }

    fn is_off(self) -> bool {
        self.0 == 0
    }

    /// Which share of the whole load that is, if all switches switch the same.
    fn share(self, rule: &Load) -> f64 {
        let on = f64::from((self.0 & ((1 << LOAD_SWITCHES_MAX) - 1)).count_ones());
        let all = rule.switches.len() as f64;
        f64::from(self.0 >> LOAD_SWITCHES_MAX) / STEPS * if all > 0.0 { on / all } else { 1.0 }
    }
}

/// What is usual for one setting.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Usual {
    setting: Setting,
    readings: u16,
    mean: f32,
}

/// What is usual for each setting, and how the nights were. 40 bytes, and 8 for each setting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoadTable {
    settings: Vec<Usual>,
    /// The load that the last reading was compared with; 0 for none.
    expected: f32,
    /// The night of the last reading, by the day of its evening.
    night: i32,
    /// Readings of this night with something on, and those that were too low or too high.
    seen: u16,
    outside: u16,
    /// Nights running that were wrong, up to now.
    nights: u8,
}

impl LoadTable {
    /// Compares a reading with what is usual for the setting, and learns from it after that.
    pub(super) fn judge(&mut self, rule: &Load, number: f64, setting: Option<Setting>, sight: &Sight<'_>) -> Verdict {
        let on = setting.filter(|setting| !setting.is_off());
        let expected = match rule.goal {
            LoadGoal::Above { .. } => self.full(rule),
            LoadGoal::Below { .. } | LoadGoal::Outside { .. } => on.and_then(|on| self.expected(rule, on)),
        };
        if let Some(expected) = expected {
            self.expected = expected as f32;
        }
        let percent = expected.map(|expected| number / expected * 100.0);
        let verdict = match (rule.goal, percent) {
            (LoadGoal::Below { raise, clear }, Some(percent)) => threshold(Side::Below, raise, clear, percent),
            (LoadGoal::Above { raise, clear }, Some(percent)) => threshold(Side::Above, raise, clear, percent),
            (LoadGoal::Below { .. } | LoadGoal::Above { .. }, None) => Verdict::Unknown,
            (LoadGoal::Outside { min, max, nights }, percent) => {
                let is_dark = number < rule.least || percent.is_none_or(|percent| percent < DARK_SHARE * 100.0);
                let is_outside = percent.filter(|_| !is_dark).map(|percent| percent < min || percent > max);
                self.count_nights(nights, is_outside.filter(|_| sight.is_to_learn), sight)
            }
        };
        if let Some(on) = on.filter(|_| sight.is_to_learn && number >= rule.least) {
            self.learn(rule, on, number);
        }
        verdict
    }

    fn count_nights(&mut self, wanted: u8, is_outside: Option<bool>, sight: &Sight<'_>) -> Verdict {
        let Some(local) = sight.local else { return Verdict::Unknown };
        let minutes = i64::from(local.moment.day) * DAY_MINUTES + i64::from(local.moment.minute) - NOON_MINUTES;
        let night = i32::try_from(minutes.div_euclid(DAY_MINUTES)).unwrap_or(i32::MAX);
        if night != self.night {
            if self.seen >= NIGHT_READINGS_MIN {
                self.nights = if self.outside > self.seen / 2 { self.nights.saturating_add(1) } else { 0 };
            }
            (self.night, self.seen, self.outside) = (night, 0, 0);
        }
        if let Some(is_outside) = is_outside {
            self.seen = self.seen.saturating_add(1);
            self.outside = self.outside.saturating_add(u16::from(is_outside));
        }
        match self.nights {
            0 => Verdict::Fine,
            nights if nights >= wanted => Verdict::Wrong,
            _ => Verdict::Between,
        }
    }

    /// What is usual for a setting: what was learnt, else what is rated.
    fn expected(&self, rule: &Load, setting: Setting) -> Option<f64> {
        let learnt = self.settings.iter().find(|usual| usual.setting == setting && usual.readings >= rule.readings);
        learnt.map(|usual| f64::from(usual.mean)).or_else(|| rule.rated.map(|rated| rated * setting.share(rule)))
    }

    /// The load with all on, by the setting that is nearest to it.
    fn full(&self, rule: &Load) -> Option<f64> {
        let known = self.settings.iter().filter(|usual| usual.readings >= rule.readings);
        let fullest = known.max_by(|one, other| one.setting.share(rule).total_cmp(&other.setting.share(rule)));
        fullest.map(|usual| f64::from(usual.mean) / usual.setting.share(rule)).or(rule.rated)
    }

    fn learn(&mut self, rule: &Load, setting: Setting, number: f64) {
        let is_near = |expected: f64, share: f64| (number - expected).abs() <= share * expected;
        if let Some(rated) = rule.rated
            && !is_near(rated * setting.share(rule), RATED_SHARE)
        {
            return;
        }
        let place = self.settings.iter().position(|usual| usual.setting == setting);
        let Some(place) = place.or_else(|| self.place_for(rule, setting)) else { return };
        let usual = &mut self.settings[place];
        let step = number as f32 - usual.mean;
        if usual.readings < rule.readings {
            usual.readings += 1;
            usual.mean += step / f32::from(usual.readings);
        } else if is_near(f64::from(usual.mean), FOLLOW_SHARE) {
            usual.mean += step * FOLLOW_RATE;
        }
    }

    /// Room for a new setting; one that was only tried goes when there is none.
    fn place_for(&mut self, rule: &Load, setting: Setting) -> Option<usize> {
        let new = Usual { setting, readings: 0, mean: 0.0 };
        if self.settings.len() < LOAD_SETTINGS_MAX {
            self.settings.push(new);
            return Some(self.settings.len() - 1);
        }
        let (place, rarest) = self.settings.iter().enumerate().min_by_key(|(_, usual)| usual.readings)?;
        if rarest.readings >= rule.readings {
            return None;
        }
        self.settings[place] = new;
        Some(place)
    }

    /// The load that the last reading was compared with.
    pub(crate) fn compared_with(&self) -> Option<f64> {
        (self.expected > 0.0).then_some(f64::from(self.expected))
    }

    /// Nights running that were wrong.
    pub(crate) fn nights(&self) -> u8 {
        self.nights
    }

    /// A night that is not yet is none.
    pub(super) fn forget_future(&mut self, today: i32) {
        if self.night > today {
            (self.night, self.seen, self.outside) = (today, 0, 0);
        }
    }
}
