//! Runs the learner over a folder of the Numenta Anomaly Benchmark and scores it by the benchmark's own rules.
//!
//! `nab FOLDER [--light] [--shake N] [--out FOLDER]`: FOLDER holds `data/<category>/<file>.csv` and
//! `combined_windows.json`. Prints the score of each profile, what is left of it when the threshold is chosen on four
//! fifths of the files and counted on the rest, and with `--shake N` the score of N learners all of whose numbers were
//! changed by up to 20 %. With `--out` the scores are written for another scorer.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::thread;

use kerbside_learner::{Learner, Mode, Moment, TUNING, Tuning};

/// Folds of the cross-validation, and how often the files are dealt anew.
const FOLDS: usize = 5;
const DEALS: u64 = 20;
/// The score from which the learner calls it an alarm.
const ALARM: f64 = 0.5;
/// How far a number is shaken, either way.
const SHAKE: f64 = 0.2;

/// Weights of a hit, of a miss and of a false alarm: numenta/NAB, config/profiles.json.
const PROFILES: [Profile; 3] = [
    Profile { name: "standard", hit: 1.0, miss: 1.0, false_alarm: 0.11 },
    Profile { name: "low FP", hit: 1.0, miss: 1.0, false_alarm: 0.22 },
    Profile { name: "low FN", hit: 1.0, miss: 2.0, false_alarm: 0.11 },
];

struct Profile {
    name: &'static str,
    hit: f64,
    miss: f64,
    false_alarm: f64,
}

/// A file of the benchmark; for each point what an alarm there is worth, and in which window it lies.
struct Series {
    name: String,
    category: String,
    stamps: Vec<String>,
    values: Vec<f64>,
    moments: Vec<Moment>,
    worth: Vec<f64>,
    window: Vec<Option<usize>>,
    windows: usize,
    warmup: usize,
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, month) = (year.div_euclid(400), (month + 9) % 12);
    let of_era = year.rem_euclid(400);
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Seconds since 1970 of `2014-04-10 16:15:00`.
fn seconds(stamp: &str) -> Result<i64, Box<dyn Error>> {
    let mut parts = [0; 6];
    for (part, digits) in parts.iter_mut().zip(stamp.split(|letter: char| !letter.is_ascii_digit())) {
        *part = digits.parse()?;
    }
    Ok(days(parts[0], parts[1], parts[2]) * 86_400 + parts[3] * 3_600 + parts[4] * 60 + parts[5])
}

fn sigmoid(x: f64) -> f64 {
    if x > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * x).exp()) - 1.0 }
}

/// The windows of every file. The labels are an object of lists of pairs, so that quoted strings in their order say all.
fn windows(text: &str) -> Result<BTreeMap<String, Vec<i64>>, Box<dyn Error>> {
    let mut all: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut file = String::new();
    for quoted in text.split('"').skip(1).step_by(2) {
        if quoted.ends_with(".csv") {
            quoted.clone_into(&mut file);
            all.insert(file.clone(), Vec::new());
        } else {
            all.entry(file.clone()).or_default().push(seconds(quoted)?);
        }
    }
    Ok(all)
}

fn load(folder: &Path) -> Result<Vec<Series>, Box<dyn Error>> {
    let mut all = Vec::new();
    for (name, bounds) in windows(&fs::read_to_string(folder.join("combined_windows.json"))?)? {
        let text = fs::read_to_string(folder.join("data").join(&name))?;
        let (mut stamps, mut values, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for line in text.lines().skip(1) {
            let (stamp, value) = line.split_once(',').ok_or_else(|| format!("{name}: no comma in {line}"))?;
            stamps.push(stamp.to_owned());
            times.push(seconds(stamp)?);
            values.push(value.trim().parse()?);
        }
        let at = |time: i64| times.iter().position(|other| *other == time).ok_or(format!("{name}: no point at {time}"));
        let mut spans = Vec::new();
        for pair in bounds.chunks(2) {
            spans.push((at(pair[0])?, at(pair[1])?));
        }
        let (worth, window) = worth(times.len(), &spans);
        let warmup = (0.15 * times.len() as f64).floor().min(750.0) as usize;
        let category = name.split('/').next().unwrap_or_default().to_owned();
        let moments = times.iter().map(|time| Moment::from_local_seconds(*time)).collect();
        all.push(Series { name, category, stamps, values, moments, worth, window, windows: spans.len(), warmup });
    }
    Ok(all)
}

/// Inside a window an alarm is worth the more the earlier; after one it costs the more the later; before any it costs
/// all: numenta/NAB, nab/scorer.py.
fn worth(points: usize, spans: &[(usize, usize)]) -> (Vec<f64>, Vec<Option<usize>>) {
    let (mut worth, mut window, mut last) = (vec![-1.0; points], vec![None; points], None);
    for point in 0..points {
        let inside = spans.iter().position(|(from, to)| (*from..=*to).contains(&point));
        window[point] = inside;
        if let Some(number) = inside {
            let (from, to) = spans[number];
            let place = -((to - point + 1) as f64) / ((to - from) as f64 + 1.0);
            worth[point] = sigmoid(place) / sigmoid(-1.0);
            last = Some((from, to));
        } else if let Some((from, to)) = last {
            worth[point] = sigmoid((point - to) as f64 / (to - from) as f64);
        }
    }
    (worth, window)
}

/// The scores of every point of every file.
fn detect(all: &[Series], mode: Mode, tuning: &Tuning) -> Vec<Vec<f64>> {
    let one = |series: &Series| {
        let mut learner = Learner::new(mode, series.warmup as u32);
        let points = series.values.iter().zip(&series.moments);
        points.map(|(value, moment)| f64::from(learner.observe_with(*value, *moment, tuning).score)).collect()
    };
    let (left, right) = all.split_at(all.len() / 2);
    thread::scope(|scope| {
        let other = scope.spawn(|| right.iter().map(one).collect::<Vec<Vec<f64>>>());
        let mut scores: Vec<Vec<f64>> = left.iter().map(one).collect();
        scores.extend(other.join().expect("a learner does not panic"));
        scores
    })
}

/// What is gained over no alarm at all, at the best threshold for these files, and that threshold.
fn best(all: &[Series], scores: &[Vec<f64>], files: &[usize], profile: &Profile) -> (f64, f64) {
    let mut points = Vec::new();
    let mut windows = 0;
    for file in files {
        let series = &all[*file];
        let judged = scores[*file].iter().zip(&series.worth).zip(&series.window).skip(series.warmup);
        points.extend(judged.map(|((score, worth), window)| (*score, *worth, window.map(|number| windows + number))));
        windows += series.windows;
    }
    points.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut found = vec![-profile.miss; windows];
    let (mut total, mut top, mut threshold) = (0.0, 0.0, f64::INFINITY);
    for (number, (score, worth, window)) in points.iter().enumerate() {
        total += gain(*worth, window.map(|window| &mut found[window]), profile);
        let is_last_of_score = points.get(number + 1).is_none_or(|next| next.0 != *score);
        if is_last_of_score && total > top {
            (top, threshold) = (total, *score);
        }
    }
    (top, threshold)
}

/// What one more alarm gains: in a window only what it is better than the best so far.
fn gain(worth: f64, found: Option<&mut f64>, profile: &Profile) -> f64 {
    let Some(found) = found else { return worth * profile.false_alarm };
    let gain = (worth * profile.hit - *found).max(0.0);
    *found += gain;
    gain
}

/// What a file gains at a threshold.
fn at_threshold(series: &Series, scores: &[f64], threshold: f64, profile: &Profile) -> f64 {
    let mut found = vec![-profile.miss; series.windows];
    let alarms = (series.warmup..series.values.len()).filter(|point| scores[*point] >= threshold);
    alarms.map(|point| gain(series.worth[point], series.window[point].map(|window| &mut found[window]), profile)).sum()
}

/// Points of a hundred for what was gained.
fn points(gained: f64, all: &[Series], profile: &Profile) -> f64 {
    let windows: usize = all.iter().map(|series| series.windows).sum();
    100.0 * gained / (windows as f64 * (profile.hit + profile.miss))
}

/// xorshift64: the same numbers everywhere.
fn next(random: &mut u64) -> f64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    (*random >> 11) as f64 / (1_u64 << 53) as f64
}

/// Deals the files of each category over the folds.
fn deal(all: &[Series], seed: u64) -> Vec<usize> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut categories: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, series) in all.iter().enumerate() {
        categories.entry(&series.category).or_default().push(number);
    }
    let (mut folds, mut fold) = (vec![0; all.len()], 0);
    for files in categories.values_mut() {
        for last in (1..files.len()).rev() {
            files.swap(last, (next(&mut random) * (last + 1) as f64) as usize);
        }
        for file in files {
            folds[*file] = fold % FOLDS;
            fold += 1;
        }
    }
    folds
}

/// Mean and standard deviation over deals of the score whose thresholds come from the other folds.
fn cross_validate(all: &[Series], scores: &[Vec<f64>], profile: &Profile) -> (f64, f64) {
    let mut results = Vec::new();
    for seed in 1..=DEALS {
        let folds = deal(all, seed);
        let mut gained = 0.0;
        for fold in 0..FOLDS {
            let (inside, outside): (Vec<usize>, Vec<usize>) = (0..all.len()).partition(|file| folds[*file] == fold);
            let (_, threshold) = best(all, scores, &outside, profile);
            let of_file = |file: &usize| at_threshold(&all[*file], &scores[*file], threshold, profile);
            gained += inside.iter().map(of_file).sum::<f64>();
        }
        results.push(points(gained, all, profile));
    }
    let mean = results.iter().sum::<f64>() / results.len() as f64;
    let variance = results.iter().map(|result| (result - mean) * (result - mean)).sum::<f64>() / results.len() as f64;
    (mean, variance.sqrt())
}

/// Every number changed by up to a fifth.
fn shaken(random: &mut u64) -> Tuning {
    let mut factor = || 1.0 + SHAKE * (2.0 * next(random) - 1.0);
    let mut tuning = TUNING.clone().with_cells(2.4 * factor());
    // Beyond the quantile lies 1 - quantile: that is the number that is meant.
    tuning.tail_quantile = (1.0 - (1.0 - f64::from(TUNING.tail_quantile)) * factor()) as f32;
    for number in [
        &mut tuning.trim,
        &mut tuning.prior,
        &mut tuning.hour_points,
        &mut tuning.hour_rate,
        &mut tuning.hour_floor,
        &mut tuning.level_points,
        &mut tuning.level_memory,
        &mut tuning.tail_rate,
        &mut tuning.strength_max,
        &mut tuning.bar,
        &mut tuning.rest,
        &mut tuning.escalate,
        &mut tuning.rise,
        &mut tuning.sink,
        &mut tuning.bar_start,
    ] {
        *number *= factor() as f32;
    }
    tuning
}

fn write(all: &[Series], scores: &[Vec<f64>], folder: &Path) -> Result<(), Box<dyn Error>> {
    for (series, scores) in all.iter().zip(scores) {
        let mut text = String::from("timestamp,value,anomaly_score\n");
        for ((stamp, value), score) in series.stamps.iter().zip(&series.values).zip(scores) {
            text += &format!("{stamp},{value},{score}\n");
        }
        fs::create_dir_all(folder.join(&series.category))?;
        fs::write(folder.join(&series.name), text)?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a trial tells the one who started it")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: nab FOLDER [--light] [--shake N] [--out FOLDER]")?;
    let (mut mode, mut shakes, mut out) = (Mode::Full, 0, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--light" => mode = Mode::Light,
            "--shake" => shakes = arguments.next().ok_or("--shake needs a number")?.parse()?,
            "--out" => out = Some(arguments.next().ok_or("--out needs a folder")?),
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let all = load(Path::new(&folder))?;
    let files: Vec<usize> = (0..all.len()).collect();
    let scores = detect(&all, mode, &TUNING);
    if let Some(out) = out {
        write(&all, &scores, Path::new(&out))?;
    }
    for profile in &PROFILES {
        let (gained, threshold) = best(&all, &scores, &files, profile);
        let (mean, deviation) = cross_validate(&all, &scores, profile);
        let own: f64 = files.iter().map(|file| at_threshold(&all[*file], &scores[*file], ALARM, profile)).sum();
        println!(
            "{:9} {:6.2}  threshold {threshold:.4}  at the learner's own bar {:.2}  cross-validated {mean:.2} +- {deviation:.2}",
            profile.name,
            points(gained, &all, profile),
            points(own, &all, profile),
        );
    }
    let mut random = 7;
    let mut shaken_scores: Vec<Vec<f64>> = vec![Vec::new(); PROFILES.len()];
    for _ in 0..shakes {
        let scores = detect(&all, mode, &shaken(&mut random));
        for (profile, list) in PROFILES.iter().zip(&mut shaken_scores) {
            list.push(points(best(&all, &scores, &files, profile).0, &all, profile));
        }
    }
    for (profile, list) in PROFILES.iter().zip(&mut shaken_scores).filter(|(_, list)| !list.is_empty()) {
        list.sort_by(f64::total_cmp);
        let at = |share: usize| list[(list.len() - 1) * share / 100];
        println!("{:9} shaken: p10 {:.2}  median {:.2}  p90 {:.2}", profile.name, at(10), at(50), at(90));
    }
    Ok(())
}
