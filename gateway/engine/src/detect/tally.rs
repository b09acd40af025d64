//! How often something happens, such as a cover that is shaken: the events of an hour or more against what is usual at
//! these hours of the week, by the tail of Poisson's distribution.
//!
//! The usual is known for 24 hours of workdays and 24 of weekends rather than for 168 hours of a week: each is known
//! after days, not after months. About 450 bytes, of a device that has the rule.

use kerbside_model::Timestamp;
use kerbside_model::profile::{Frequency, Hits};
use serde::{Deserialize, Serialize};

use super::{Sight, Verdict, milliseconds};
use crate::local::Local;

const HOURS: usize = 24;
const WORKDAYS: f64 = 5.0;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: f64 = 86_400_000.0;
/// What was counted over a longer time than a week and a day says nothing of its hours.
const WINDOW_MS_MAX: i64 = 192 * HOUR_MS;
/// How fast the usual follows in the long run: about the last twenty days of an hour count.
const LEARNING_RATE_MIN: f32 = 0.05;
/// So many standard errors are added to what is usual, because it was learnt from few hours.
const STANDARD_ERRORS: f64 = 3.0;
/// It is over when it is as likely as the root of what is too rare, or less than half way above the usual.
const CALM_POWER: f64 = 0.5;

/// What is counted, and what is usual.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Workdays, then weekends.
    hours: Vec<Usual>,
    /// The reading before.
    last: Option<(Timestamp, f64)>,
    /// Where the number stands, and since when it is away from there.
    place: Option<f64>,
    away: Option<(Timestamp, f64)>,
    /// Of the window that is being counted.
    events: f64,
    elapsed_ms: i64,
    /// For how long it has been too rare, up to the last window, and in how many windows.
    rare_ms: i64,
    rare_windows: u16,
    /// How long was counted in all, for the warm-up.
    counted_ms: i64,
    judged: Option<Judged>,
}

/// Events in an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Usual {
    rate: f32,
    /// From how many hours it is known.
    known: f32,
}

/// The last window that was judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Judged {
    pub(crate) events: f64,
    /// As many as are usual in this time.
    pub(crate) usual: f64,
    pub(crate) elapsed_ms: i64,
}

/// A part of a window that lies in one hour of the week.
struct Piece {
    place: usize,
    hours: f64,
}

impl Tally {
    /// Takes a reading that counts, and says what the hours that are over say. Behind a permit it begins anew: who works
    /// at a cover shakes it.
    pub(super) fn judge(&mut self, rule: &Frequency, number: f64, local: &Local, sight: &Sight<'_>) -> Verdict {
        if sight.is_permitted {
            self.begin();
            return Verdict::Unknown;
        }
        if !sight.is_to_learn {
            return Verdict::Unknown;
        }
        let at = sight.observed_at;
        let Some((before_at, before)) = self.last else {
            self.last = Some((at, number));
            self.place = Some(number);
            return Verdict::Unknown;
        };
        if at <= before_at {
            return Verdict::Unknown;
        }
        let events = match &rule.hits {
            Some(hits) => self.hit(hits, number, at),
            // It counts anew behind a restart of the device; how far it had come is not known.
            None if number < before => {
                self.begin();
                self.last = Some((at, number));
                return Verdict::Unknown;
            }
            None => number - before,
        };
        self.last = Some((at, number));
        self.events += events;
        self.elapsed_ms = self.elapsed_ms.saturating_add(at.0.saturating_sub(before_at.0));
        if self.elapsed_ms < milliseconds(rule.window) {
            return Verdict::Unknown;
        }
        self.close(rule, local)
    }

    /// A window begins with the next reading.
    fn begin(&mut self) {
        (self.last, self.place, self.away) = (None, None, None);
        (self.events, self.elapsed_ms) = (0.0, 0);
        (self.rare_ms, self.rare_windows) = (0, 0);
    }

    /// One when the number has come back from a hit.
    fn hit(&mut self, hits: &Hits, number: f64, at: Timestamp) -> f64 {
        let place = *self.place.get_or_insert(number);
        let distance = (number - place).abs();
        match self.away {
            None if distance >= hits.by => self.away = Some((at, number)),
            // It stands where it is, and goes with heat and frost.
            None => self.place = Some(number),
            Some((since, _)) if distance <= hits.back => {
                self.away = None;
                return if at.since(since) <= hits.within { 1.0 } else { 0.0 };
            }
            Some((since, _)) if at.since(since) <= hits.within => {}
            // It stays there; or its way back was lost on the radio, and this is the next hit.
            Some((_, there)) if (number - there).abs() <= hits.back => (self.place, self.away) = (Some(number), None),
            Some(_) => self.away = Some((at, number)),
        }
        0.0
    }

    fn close(&mut self, rule: &Frequency, local: &Local) -> Verdict {
        let (events, elapsed_ms) = (self.events, self.elapsed_ms);
        (self.events, self.elapsed_ms) = (0.0, 0);
        if elapsed_ms > WINDOW_MS_MAX {
            (self.rare_ms, self.rare_windows) = (0, 0);
            return Verdict::Unknown;
        }
        if self.hours.is_empty() && events <= 0.0 {
            // Most covers are never shaken at all, and take no room for it.
            self.counted_ms = self.counted_ms.saturating_add(elapsed_ms);
            return if self.is_warm(rule) { Verdict::Fine } else { Verdict::Unknown };
        }
        if self.hours.is_empty() {
            self.hours = self.calm_hours();
        }
        let pieces = pieces(local, elapsed_ms);
        let usual: f64 = pieces.iter().map(|piece| f64::from(self.hours[piece.place].rate) * piece.hours).sum();
        let is_known = pieces.iter().all(|piece| self.hours[piece.place].known >= 1.0) && self.is_warm(rule);
        self.counted_ms = self.counted_ms.saturating_add(elapsed_ms);
        let verdict = if is_known {
            self.judged = Some(Judged { events, usual, elapsed_ms });
            let most: f64 = pieces.iter().map(|piece| self.hours[piece.place].most() * piece.hours).sum();
            self.verdict(rule, (events, most), elapsed_ms)
        } else {
            Verdict::Unknown
        };
        // What is too much is not to become usual.
        if self.rare_ms == 0 {
            self.learn(&pieces, events);
        }
        verdict
    }

    fn is_warm(&self, rule: &Frequency) -> bool {
        self.counted_ms as f64 >= f64::from(rule.warm_up) * DAY_MS
    }

    /// What is usual where nothing was counted up to now.
    fn calm_hours(&self) -> Vec<Usual> {
        let weeks = self.counted_ms as f64 / DAY_MS / 7.0;
        let usual = |days: f64| Usual { rate: 0.0, known: (weeks * days) as f32 };
        let mut hours = vec![usual(WORKDAYS); HOURS];
        hours.resize(2 * HOURS, usual(7.0 - WORKDAYS));
        hours
    }

    fn verdict(&mut self, rule: &Frequency, (events, most): (f64, f64), elapsed_ms: i64) -> Verdict {
        let hours = elapsed_ms as f64 / HOUR_MS as f64;
        let rarity = rarity(events, most);
        let enough = rule.one_in.ln();
        if rarity >= enough && events >= rule.times * most && events >= rule.least * hours {
            self.rare_ms = self.rare_ms.saturating_add(elapsed_ms);
            self.rare_windows = self.rare_windows.saturating_add(1);
            // A report that was lost makes one wild hour a window of two.
            let is_enough = self.rare_windows > 1 || rule.window >= rule.lasts;
            let lasts = is_enough && self.rare_ms >= milliseconds(rule.lasts);
            return if lasts { Verdict::Wrong } else { Verdict::Between };
        }
        (self.rare_ms, self.rare_windows) = (0, 0);
        let is_calm = rarity <= enough * CALM_POWER || events < most * f64::midpoint(1.0, rule.times);
        if is_calm { Verdict::Fine } else { Verdict::Between }
    }

    /// Events of a window go to its hours as they are usual there, or evenly while little is known.
    fn learn(&mut self, pieces: &[Piece], events: f64) {
        let mean = events / pieces.iter().map(|piece| piece.hours).sum::<f64>().max(f64::MIN_POSITIVE);
        let weights: Vec<f64> = pieces.iter().map(|piece| self.hours[piece.place].weight(mean)).collect();
        let all: f64 = pieces.iter().zip(&weights).map(|(piece, weight)| piece.hours * weight).sum();
        for (Piece { place, hours }, weight) in pieces.iter().zip(weights) {
            let hour = &mut self.hours[*place];
            let rate = if all > 0.0 { (events * weight / all) as f32 } else { 0.0 };
            let hours = *hours as f32;
            hour.known += hours;
            let step = (hours / hour.known).max(LEARNING_RATE_MIN * hours).min(1.0);
            hour.rate += step * (rate - hour.rate);
        }
    }

    pub(crate) fn judged(&self) -> Option<Judged> {
        self.judged
    }

    pub(super) fn forget_future(&mut self, now: Timestamp) {
        self.last = self.last.map(|(at, number)| (at.min(now), number));
        self.away = self.away.map(|(since, number)| (since.min(now), number));
    }
}

impl Usual {
    /// The share of events that an hour has among others, when `mean` is what each of them had evenly.
    fn weight(&self, mean: f64) -> f64 {
        let known = f64::from(self.known);
        (f64::from(self.rate) * known + mean) / (known + 1.0)
    }

    /// As many events as it may be in an hour, when what is known of it is taken with a grain of salt.
    fn most(&self) -> f64 {
        let known = self.known.min(1.0 / LEARNING_RATE_MIN);
        let rate = f64::from(self.rate);
        rate + STANDARD_ERRORS * (rate.max(1.0) / f64::from(known)).sqrt()
    }
}

/// How rare it is that so many events come where `most` are expected, as a natural logarithm: Chernoff's bound of the
/// tail of Poisson's distribution, which is never below the tail itself.
fn rarity(events: f64, most: f64) -> f64 {
    if events <= most || most <= 0.0 {
        return 0.0;
    }
    events * (events / most).ln() - events + most
}

/// The hours of the week that a window lies in which ends now, the last one first.
fn pieces(local: &Local, elapsed_ms: i64) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(usize::try_from(elapsed_ms / HOUR_MS).unwrap_or_default() + 2);
    let (mut weekday, mut hour) = (local.moment.weekday, local.moment.minute / 60);
    let mut length_ms = i64::from(local.moment.minute % 60) * 60_000;
    let mut left_ms = elapsed_ms;
    while left_ms > 0 {
        let piece_ms = length_ms.min(left_ms);
        if piece_ms > 0 {
            let place = usize::from(hour) + if weekday >= 5 { HOURS } else { 0 };
            pieces.push(Piece { place, hours: piece_ms as f64 / HOUR_MS as f64 });
        }
        left_ms -= piece_ms;
        length_ms = HOUR_MS;
        if hour == 0 {
            (hour, weekday) = (23, if weekday == 0 { 6 } else { weekday - 1 });
        } else {
            hour -= 1;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use kerbside_model::inventory::Device;
    use kerbside_model::profile::{Detector, Profile};

    use super::*;

    #[test]
    fn the_bound_is_never_below_the_tail_itself() {
        // Tails of Poisson's distribution: P(X >= 12 | 2) = 1.36e-6, P(X >= 25 | 8) = 1.24e-6, P(X >= 80 | 40) = 2.6e-8.
        for (events, most, tail) in [(12.0, 2.0, 1.36e-6_f64), (25.0, 8.0, 1.24e-6), (80.0, 40.0, 2.6e-8)] {
            let rarity = rarity(events, most);
            assert!(rarity <= -tail.ln() && rarity > -tail.ln() - 4.0, "{events} of {most}: {rarity}");
        }
        assert_eq!(rarity(5.0, 8.0), 0.0);
    }

    fn clock() -> crate::local::Clock {
        let text = "profile: x\nversion: 1\nkind: manhole_cover\nvendor: x\nmodel: x\ninterval: 1h\n\
                    payload: {format: json}\npoints: [{name: vibration_count, path: v}]\n\
                    detectors: [{condition: settled, severity: minor, frequency: {point: vibration_count}}]\n\
                    samples: [{name: a, json: {v: 1}, readings: {vibration_count: 1}}, {name: b, text: '', error: x}]\n";
        let problems = kerbside_model::document::Problems::default();
        let mut profile: Profile = kerbside_model::profile::parse_profile_text("x.yaml", text, &problems).unwrap();
        profile.put_zone("Asia/Shanghai");
        assert!(profile.detectors.iter().all(Detector::goes_by_the_clock));
        crate::local::Clock::of(&profile)
    }

    const RULE: Frequency = Frequency {
        hits: None,
        one_in: 1e6,
        window: std::time::Duration::from_secs(3_600),
        lasts: std::time::Duration::from_secs(7_200),
        times: 2.0,
        least: 10.0,
        warm_up: 14,
    };
    /// 2026-11-02 00:00 in China, a Monday.
    const MONDAY: i64 = 1_793_548_800_000;

    /// Twenty vibrations an hour by day, two by night, and `extra` from hour `from` on; reported every so many hours.
    fn run(every: i64, days: i64, extra: impl Fn(i64) -> f64) -> Vec<(i64, Verdict)> {
        let clock = clock();
        let place = clock.place(&Device::default());
        let (mut tally, mut count, mut told) = (Tally::default(), 0.0, Vec::new());
        for hour in 0..days * 24 {
            let day = (6..22).contains(&(hour % 24));
            count += if day { 20.0 } else { 2.0 } + extra(hour);
            if (hour + 1) % every != 0 {
                continue;
            }
            let at = Timestamp(MONDAY + (hour + 1) * HOUR_MS);
            let local = clock.local(at, place);
            let sight = Sight { observed_at: at, local: local.as_ref(), is_to_learn: true, is_permitted: false };
            let window = std::time::Duration::from_secs(every.unsigned_abs() * 3_600);
            let rule = Frequency { window, ..RULE };
            let verdict = tally.judge(&rule, count, local.as_ref().unwrap(), &sight);
            if verdict != Verdict::Unknown {
                told.push((hour, verdict));
            }
        }
        told
    }

    #[test]
    fn a_cover_that_rattles_is_told_after_two_hours_and_the_rush_hour_is_not() {
        let told = run(1, 21, |hour| if hour >= 18 * 24 + 8 { 50.0 } else { 0.0 });
        let first = told.iter().find(|(_, verdict)| *verdict == Verdict::Wrong).map(|(hour, _)| *hour);
        assert_eq!(first, Some(18 * 24 + 9));
        assert!(told.iter().take_while(|(hour, _)| *hour < 18 * 24 + 8).all(|(_, verdict)| *verdict == Verdict::Fine));
        assert!(told.len() > 100);
    }

    #[test]
    fn one_wild_hour_is_nothing() {
        let told = run(1, 21, |hour| if hour == 18 * 24 + 8 { 500.0 } else { 0.0 });
        assert!(told.iter().all(|(_, verdict)| *verdict != Verdict::Wrong));
    }

    #[test]
    fn a_device_that_reports_once_a_day_is_judged_by_its_day() {
        let told = run(24, 24, |hour| if hour >= 20 * 24 { 40.0 } else { 0.0 });
        let first = told.iter().find(|(_, verdict)| *verdict == Verdict::Wrong).map(|(hour, _)| hour / 24);
        assert_eq!(first, Some(20));
        assert!(told.iter().filter(|(hour, _)| *hour < 20 * 24).all(|(_, verdict)| *verdict == Verdict::Fine));
    }

    #[test]
    fn a_counter_that_begins_anew_is_no_event() {
        let told = run(1, 21, |hour| if hour == 18 * 24 + 3 { -5_000.0 } else { 0.0 });
        assert!(told.iter().all(|(_, verdict)| *verdict == Verdict::Fine), "{told:?}");
    }

    #[test]
    fn a_hit_comes_back_and_a_slide_stays() {
        let hits = Hits { by: 5.0, back: 3.0, within: std::time::Duration::from_secs(60) };
        let mut tally = Tally::default();
        let mut seen = Vec::new();
        // There and back; there and not back, and there again; a slide that stays, and a hit from there.
        let story = [
            [(0, 1.0), (100, 30.0), (103, 1.4), (200, 41.0), (600, 22.0)],
            [(603, 1.0), (800, 13.0), (1_400, 13.1), (1_405, 20.0), (1_410, 13.0)],
        ];
        for (second, number) in story.concat() {
            seen.push(tally.hit(&hits, number, Timestamp(MONDAY + second * 1_000)));
        }
        assert_eq!(seen, [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    }
}
