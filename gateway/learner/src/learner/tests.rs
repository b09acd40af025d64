use proptest::prelude::*;

use super::*;

/// xorshift64: the same numbers everywhere.
struct Random(u64);

impl Random {
    /// 0..1.
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal, of deviation 1: the sum of twelve.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

fn at(point: usize) -> Moment {
    Moment::from_local_seconds(1_400_000_000 + 300 * point as i64)
}

/// A day of 288 points: 0 at midnight, 1 at noon, without sine, so that every machine has the same.
fn day(point: usize) -> f64 {
    let share = (point % 288) as f64 / 288.0;
    16.0 * (share * (1.0 - share)) * (share * (1.0 - share))
}

fn verdicts(learner: &mut Learner, values: &[f64]) -> Vec<Verdict> {
    values.iter().enumerate().map(|(point, value)| learner.observe(*value, at(point))).collect()
}

fn bits(verdicts: &[Verdict]) -> Vec<u32> {
    verdicts.iter().map(|verdict| verdict.score.to_bits()).collect()
}

/// Series of five kinds with an event in each; where the event is.
fn corpus(seed: u64) -> Vec<(&'static str, Vec<f64>, std::ops::Range<usize>)> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let event = 3_000..3_100;
    let mut series = Vec::new();
    let mut make = |name, value: &mut dyn FnMut(usize, &mut Random) -> f64| {
        let values: Vec<f64> = (0..4_000).map(|point| value(point, &mut random)).collect();
        series.push((name, values, event.clone()));
    };
    let is_event = |point| (3_000..3_100).contains(&point);
    make("a day without its peak", &mut |point, random| {
        let noon = if is_event(point) { 0.0 } else { 50.0 * day(point) };
        20.0 + noon + random.normal()
    });
    make("a level that jumps", &mut |point, random| 100.0 + random.normal() + if is_event(point) { 12.0 } else { 0.0 });
    make("counts with a burst", &mut |point, random| {
        let burst = if is_event(point) { 60.0 } else { 0.0 };
        (8.0 * random.uniform() * random.uniform() + burst).floor()
    });
    make("a pump that stops switching", &mut |point, random| {
        let is_on = point % 24 < 8 && !is_event(point);
        if is_on { 11.0 + 0.1 * random.normal() } else { 0.5 + 0.1 * random.normal() }
    });
    make("a spike in a calm series", &mut |point, random| {
        5.0 + 0.2 * random.normal() + if point == 3_050 { 8.0 } else { 0.0 }
    });
    series
}

#[test]
fn events_are_found_and_calm_series_stay_calm() {
    let (mut found, mut events, mut false_alarms) = (0, 0, 0);
    let mut missed = Vec::new();
    for seed in 1..=8 {
        for (name, values, event) in corpus(seed) {
            let mut learner = Learner::new(Mode::Full, 600);
            let verdicts = verdicts(&mut learner, &values);
            let alarms: Vec<usize> = (0..values.len()).filter(|point| verdicts[*point].alarm.is_some()).collect();
            let hits = alarms.iter().filter(|point| event.contains(point)).count();
            events += 1;
            found += usize::from(hits > 0);
            if hits == 0 {
                missed.push((name, seed));
            }
            // The way back to normal is part of the event.
            false_alarms += alarms.iter().filter(|point| !(event.start..event.end + 300).contains(point)).count();
        }
    }
    assert!(found * 100 >= events * 95, "{found} of {events}; missed {missed:?}");
    // Of 120,000 calm points: one in 1,200 at most.
    assert!(false_alarms <= 100, "{false_alarms} false alarms");
}

#[test]
fn the_light_mode_finds_what_is_plain() {
    let (mut found, mut events, mut false_alarms) = (0, 0, 0);
    for seed in 1..=8 {
        for (_, values, event) in corpus(seed) {
            let verdicts = verdicts(&mut Learner::new(Mode::Light, 600), &values);
            let alarms: Vec<usize> = (0..values.len()).filter(|point| verdicts[*point].alarm.is_some()).collect();
            events += 1;
            found += usize::from(alarms.iter().any(|point| event.contains(point)));
            false_alarms += alarms.iter().filter(|point| !(event.start..event.end + 300).contains(point)).count();
        }
    }
    assert!(found * 100 >= events * 90, "{found} of {events}");
    assert!(false_alarms <= 60, "{false_alarms} false alarms");
}

#[test]
fn a_series_stays_below_its_limit_of_bytes() {
    for (mode, limit) in [(Mode::Full, 24_000), (Mode::Light, 2_000)] {
        for warmup in [20, 224, 750, 5_000] {
            let mut learner = Learner::new(mode, warmup);
            let mut most = learner.bytes();
            for point in 0..6_000 {
                learner.observe(day(point) * point as f64, at(point));
                most = most.max(learner.bytes());
            }
            assert!(most < limit, "{mode:?} with a warm-up of {warmup} takes {most} bytes");
        }
    }
}

#[test]
fn the_scores_are_the_same_bits_on_every_machine() {
    let (_, values, _) = corpus(3).swap_remove(0);
    let mut learner = Learner::new(Mode::Full, 600);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for score in bits(&verdicts(&mut learner, &values)) {
        hash = (hash ^ u64::from(score)).wrapping_mul(0x0100_0000_01b3);
    }
    assert_eq!(hash, 2_867_075_872_323_947_055, "FNV-1a of the scores");
}

#[test]
fn what_is_no_number_changes_nothing() {
    let (_, values, _) = corpus(1).swap_remove(1);
    let (mut with, mut without) = (Learner::new(Mode::Full, 300), Learner::new(Mode::Full, 300));
    for (point, value) in values.iter().enumerate() {
        for foreign in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(with.observe(foreign, at(point)), Verdict { score: 0.0, alarm: None });
        }
        assert_eq!(with.observe(*value, at(point)), without.observe(*value, at(point)));
    }
    assert_eq!(with, without);
}

#[test]
fn a_series_that_stands_still_never_alarms_until_it_moves() {
    for value in [0.0, 4.2, -1e8, 1e30] {
        let mut learner = Learner::new(Mode::Full, 300);
        assert!(verdicts(&mut learner, &[value; 2_000]).iter().all(|verdict| verdict.alarm.is_none()), "{value}");
        let moved = learner.observe(if value == 0.0 { 1.0 } else { value * 1.01 }, at(2_000));
        assert!(moved.alarm.is_some(), "{value}: {moved:?}");
    }
}

#[test]
fn large_values_are_told_apart_as_well_as_small_ones() {
    let (_, values, _) = corpus(2).swap_remove(1);
    let far: Vec<f64> = values.iter().map(|value| value.round() + 1e8).collect();
    let near: Vec<f64> = values.iter().map(|value| value.round()).collect();
    let (mut one, mut other) = (Learner::new(Mode::Full, 600), Learner::new(Mode::Full, 600));
    assert_eq!(bits(&verdicts(&mut one, &far)), bits(&verdicts(&mut other, &near)));
}

#[test]
fn a_long_warm_up_is_learnt_as_it_comes() {
    let (_, values, event) = corpus(4).swap_remove(1);
    for mode in [Mode::Full, Mode::Light] {
        let mut learner = Learner::new(mode, 2_000);
        let verdicts = verdicts(&mut learner, &values);
        assert!(verdicts[..2_000].iter().all(|verdict| verdict.score == 0.0));
        assert!(verdicts[event.clone()].iter().any(|verdict| verdict.alarm.is_some()), "{mode:?}");
        assert!(learner.is_warm());
    }
}

#[test]
fn a_reason_says_what_was_usual() {
    let values: Vec<f64> = (0..3_000).map(|point| 10.0 + (point * 7_919 % 13) as f64 * 0.1).collect();
    let mut learner = Learner::new(Mode::Full, 600);
    verdicts(&mut learner, &values);
    let reason = learner.observe(35.0, at(3_000)).alarm.expect("thrice the usual is unusual");
    assert_eq!(reason.value, 35.0);
    assert!((reason.usual - 10.6).abs() < 1.0, "{reason:?}");
    assert!(reason.spread < 2.0, "{reason:?}");
    // 1_400_900_000 is Saturday, 2014-05-24 02:53:20 UTC.
    assert_eq!((reason.weekday, reason.hour), (6, 2));
    assert!(reason.times_usual().is_some_and(|times| (3.0..3.7).contains(&times)), "{reason:?}");
}

#[test]
fn a_moment_is_a_day_of_the_week_and_an_hour_also_before_1970() {
    for (seconds, weekday, minute) in [(0, 4, 0), (-1, 3, 1439), (i64::MIN, 7, 510), (i64::MAX, 7, 930)] {
        let moment = Moment::from_local_seconds(seconds);
        assert!((1..=7).contains(&moment.weekday) && moment.minute_of_day < 1440);
        if (-1..=0).contains(&seconds) {
            assert_eq!((moment.weekday, moment.minute_of_day), (weekday, minute));
        }
    }
}

#[test]
fn stored_bytes_that_were_damaged_never_make_it_panic() {
    let (_, values, _) = corpus(5).swap_remove(2);
    for (mode, points) in [(Mode::Light, 100), (Mode::Light, 900), (Mode::Full, 900)] {
        let mut learner = Learner::new(mode, 300);
        verdicts(&mut learner, &values[..points]);
        let stored = postcard::to_stdvec(&learner).unwrap();
        for place in (0..stored.len()).step_by(stored.len() / 200 + 1) {
            let mut damaged = stored.clone();
            damaged[place] ^= 0x55;
            if let Ok(mut restored) = postcard::from_bytes::<Learner>(&damaged) {
                verdicts(&mut restored, &values[points..points + 50]);
            }
        }
    }
}

/// Values as a street gives them: calm, jumps, repeats, giants, no numbers.
fn any_values() -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        8 => (-50..50_i32).prop_map(f64::from),
        3 => Just(0.0),
        2 => -1e6..1e6_f64,
        1 => prop::num::f64::ANY,
    ];
    prop::collection::vec(value, 1..400)
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Full), Just(Mode::Light)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_score_depends_on_later_points(
        values in any_values(), other in any_values(), cut in 0..400_usize, mode in any_mode(), warmup in 20..200_u32,
    ) {
        let cut = cut.min(values.len());
        let mut replaced = values[..cut].to_vec();
        replaced.extend(other);
        let whole = bits(&verdicts(&mut Learner::new(mode, warmup), &values));
        let cut_off = bits(&verdicts(&mut Learner::new(mode, warmup), &values[..cut]));
        let replaced = bits(&verdicts(&mut Learner::new(mode, warmup), &replaced));
        prop_assert_eq!(&whole[..cut], &cut_off[..]);
        prop_assert_eq!(&whole[..cut], &replaced[..cut]);
    }

    #[test]
    fn a_restart_at_any_point_changes_no_score(
        values in any_values(), at_point in 0..400_usize, mode in any_mode(), warmup in 20..200_u32,
    ) {
        let at_point = at_point.min(values.len());
        let mut learner = Learner::new(mode, warmup);
        let mut restarted = Learner::new(mode, warmup);
        for (point, value) in values.iter().enumerate() {
            if point == at_point {
                let stored = postcard::to_stdvec(&restarted).unwrap();
                restarted = postcard::from_bytes(&stored).unwrap();
            }
            prop_assert_eq!(learner.observe(*value, at(point)), restarted.observe(*value, at(point)));
        }
    }

    #[test]
    fn scores_are_within_nought_and_one_whatever_the_clock_says(
        values in any_values(), times in prop::collection::vec(any::<i64>(), 400), mode in any_mode(),
    ) {
        let mut learner = Learner::new(mode, 40);
        for (value, seconds) in values.iter().zip(times) {
            let verdict = learner.observe(*value, Moment::from_local_seconds(seconds));
            prop_assert!((0.0..=1.0).contains(&verdict.score));
            prop_assert_eq!(verdict.alarm.is_some(), verdict.score >= 0.5);
        }
    }
}

#[test]
fn who_keeps_a_rest_of_his_own_hears_the_same_points() {
    for (_, values, _) in corpus(2) {
        let (mut observed, mut watched) = (Learner::new(Mode::Light, 600), Learner::new(Mode::Light, 600));
        for (point, value) in values.iter().enumerate() {
            let verdict = observed.observe(*value, at(point));
            let restless = watched.watch(*value, at(point), crate::SCORE_ALARM);
            assert!(restless.score >= verdict.score, "point {point}: {restless:?}, not {verdict:?}");
            assert_eq!(restless.alarm.is_some(), restless.score >= crate::SCORE_ALARM, "point {point}");
            if verdict.alarm.is_some() {
                assert_eq!(restless, verdict, "point {point}");
            }
        }
        assert_eq!(observed, watched);
    }
}
