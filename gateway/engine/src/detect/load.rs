//! What a lamp draws for what it is told to do: learnt for each setting of its switches and its dimming, and compared
//! with what it draws now.

use kerbside_model::Value;
use kerbside_model::profile::{LOAD_SETTINGS_MAX, LOAD_SWITCHES_MAX, Load, LoadGoal, Side};
use serde::{Deserialize, Serialize};

use super::{Sight, Verdict, threshold};

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
    pub(crate) fn of<'a>(rule: &Load, value: impl Fn(u16) -> Option<&'a Value>) -> Option<Setting> {
        let mut bits = 0;
        for (number, point) in rule.switches.iter().enumerate() {
            match value(*point)? {
                Value::Boolean(true) => bits |= 1 << number,
                Value::Boolean(false) => {}
                _ => return None,
            }
        }
        let dimming = match rule.dimming {
            Some(point) => value(point)?.as_number()?,
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

#[cfg(test)]
mod tests {
    use kerbside_model::Timestamp;
    use kerbside_model::inventory::Device;
    use kerbside_model::profile::{Rule, parse_profile_text};

    use super::*;
    use crate::local::Clock;

    /// 2026-11-02 00:00 in China, a Monday.
    const MONDAY: i64 = 1_793_548_800_000;
    const HOUR_MS: i64 = 3_600_000;

    /// A lamp with its own memory, whose points are power, switch and dimming.
    struct Lamp {
        rule: Load,
        clock: Clock,
        table: LoadTable,
    }

    impl Lamp {
        fn new(goal: &str) -> Lamp {
            let text = format!(
                "profile: x\nversion: 1\nkind: pole\nvendor: x\nmodel: x\ninterval: 30m\npayload: {{format: json}}\n\
                 points: [{{name: active_power_w, path: p}}, {{name: lamp_on, path: l}}, {{name: dimming_percent, path: d}}]\n\
                 detectors: [{{condition: lamp_out, severity: minor, load: {{point: active_power_w, switches: lamp_on, \
                 dimming: dimming_percent, least: 3, {goal}}}}}]\n\
                 samples: [{{name: a, json: {{p: 1}}, readings: {{active_power_w: 1}}}}, {{name: b, text: '', error: x}}]\n"
            );
            let problems = kerbside_model::document::Problems::default();
            let mut profile = parse_profile_text("x.yaml", &text, &problems).unwrap();
            profile.put_zone("Asia/Shanghai");
            let Rule::Load(rule) = profile.detectors[0].rule.clone() else { panic!("it is a load") };
            Lamp { rule, clock: Clock::of(&profile), table: LoadTable::default() }
        }

        /// Power, whether it is switched on, and its dimming at a half hour since Monday.
        fn send(&mut self, half_hour: i64, power: f64, on: bool, dimming: f64) -> Verdict {
            let at = Timestamp(MONDAY + half_hour * HOUR_MS / 2);
            let values = [Value::Number(power), Value::Boolean(on), Value::Number(dimming)];
            let local = self.clock.local(at, self.clock.place(&Device::default()));
            let sight = Sight { observed_at: at, local: local.as_ref(), is_to_learn: true, is_permitted: false };
            let setting = Setting::of(&self.rule, |point| values.get(usize::from(point)));
            self.table.judge(&self.rule, power, setting, &sight)
        }

        /// So many nights from 18:00 to 06:00, full until midnight and at 40 % behind it; by day it is off. Gives the
        /// half hours in which it was wrong.
        fn nights(&mut self, from: i64, count: i64, power: impl Fn(f64) -> f64) -> Vec<i64> {
            let mut wrong = Vec::new();
            for half_hour in from * 48..(from + count) * 48 {
                let (on, dimming) = match half_hour % 48 {
                    0..12 => (true, 40.0),
                    36..48 => (true, 100.0),
                    _ => (false, 0.0),
                };
                let drawn = if on { power(dimming) } else { 0.4 };
                if self.send(half_hour, drawn, on, dimming) == Verdict::Wrong {
                    wrong.push(half_hour - from * 48);
                }
            }
            wrong
        }
    }

    #[test]
    fn a_lamp_that_is_on_and_draws_nothing_is_dark_at_each_dimming_and_an_unlit_one_is_not() {
        let mut lamp = Lamp::new("below: 20");
        assert_eq!(lamp.nights(0, 4, |dimming| 60.0 * dimming / 100.0 + 1.0), Vec::<i64>::new());
        assert_eq!(lamp.table.settings.len(), 2);
        assert_eq!(lamp.send(4 * 48, 2.0, true, 40.0), Verdict::Wrong);
        assert_eq!(lamp.send(4 * 48 + 1, 25.0, true, 40.0), Verdict::Fine);
        assert_eq!(lamp.send(4 * 48 + 2, 8.0, true, 40.0), Verdict::Between);
        // Off by day it says nothing, so that what was dark at night is not over.
        assert_eq!(lamp.send(4 * 48 + 24, 0.4, false, 0.0), Verdict::Unknown);
        assert_eq!(lamp.send(4 * 48 + 40, 2.0, true, 100.0), Verdict::Wrong);
    }

    #[test]
    fn a_lamp_that_was_dark_from_the_beginning_is_told_only_where_its_load_is_rated() {
        let dark = |lamp: &mut Lamp| lamp.nights(0, 4, |_| 1.0).len();
        assert_eq!(dark(&mut Lamp::new("below: 20")), 0);
        assert_eq!(dark(&mut Lamp::new("below: 20, rated: 60")), 4 * 24);
        let mut half = Lamp::new("below: 20, rated: 60");
        half.nights(0, 4, |dimming| 60.0 * dimming / 100.0 * 0.3);
        assert_eq!(half.table.settings.len(), 0, "a lamp that is half dark is not learnt");
    }

    #[test]
    fn a_lamp_is_degraded_after_three_nights_and_well_again_after_one() {
        let goal = "outside: {min: 75, max: 125}";
        let usual = |dimming: f64| 60.0 * dimming / 100.0 + 1.0;
        let mut lamp = Lamp::new(goal);
        assert_eq!(lamp.nights(0, 5, usual), Vec::<i64>::new());
        // From noon of the fifth day on: three nights are over at noon of the eighth.
        let wrong = lamp.nights(5, 5, |dimming| usual(dimming) * 0.6);
        assert_eq!(wrong.first(), Some(&(3 * 48 + 24)));
        assert!(lamp.nights(10, 3, usual).iter().all(|half_hour| *half_hour < 24));
        let mut bursts = Lamp::new(goal);
        bursts.nights(0, 5, usual);
        for night in 0..4 {
            let factor = if night % 2 == 0 { 0.6 } else { 1.0 };
            assert_eq!(bursts.nights(5 + night, 1, |dimming| usual(dimming) * factor), Vec::<i64>::new());
        }
    }

    #[test]
    fn what_is_out_is_not_degraded_and_what_fails_slowly_is_not_learnt() {
        let mut lamp = Lamp::new("outside: {min: 75, max: 125}");
        lamp.nights(0, 5, |dimming| 0.6 * dimming);
        assert_eq!(lamp.nights(5, 6, |_| 1.0), Vec::<i64>::new());
        let mut failing = Lamp::new("outside: {min: 75, max: 125}");
        failing.nights(0, 5, |dimming| 0.6 * dimming);
        let wrong = (0..40).map(|night| {
            let left = 1.0 - 0.02 * night as f64;
            failing.nights(5 + night, 1, |dimming| 0.6 * dimming * left).len()
        });
        assert!(wrong.sum::<usize>() > 0, "2 % a night are told");
    }

    #[test]
    fn a_lamp_that_burns_although_it_is_switched_off_is_lit() {
        let mut lamp = Lamp::new("above: 20");
        lamp.nights(0, 4, |dimming| 0.6 * dimming);
        assert_eq!(lamp.send(4 * 48 + 24, 58.0, false, 0.0), Verdict::Wrong);
        assert_eq!(lamp.send(4 * 48 + 25, 0.4, false, 0.0), Verdict::Fine);
    }

    #[test]
    fn more_settings_than_there_is_room_for_are_not_learnt_and_memory_stays_small() {
        let mut lamp = Lamp::new("below: 20");
        lamp.rule.dimming = None;
        lamp.rule.switches = vec![1];
        for number in 0..100_u16 {
            lamp.table.learn(&lamp.rule.clone(), Setting(number % 50 + 1), 60.0);
        }
        assert_eq!(lamp.table.settings.len(), LOAD_SETTINGS_MAX);
        let bytes = size_of::<LoadTable>() + LOAD_SETTINGS_MAX * size_of::<Usual>();
        assert!(bytes <= 120, "{bytes}");
    }
}
