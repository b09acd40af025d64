//! The tests that look at a series, against the flags that `ioos_qc` gives (`tests/qartod/vectors.py`): row by row, as
//! the values would come. `KERBSIDE_QARTOD_VECTORS` names a file with more series, such as real ones.

use std::time::Duration;

use kerbside_model::profile::{Attenuated, Limits, Movement, Range, Season, Spans, SpikeMethod};
use kerbside_model::time::Zone;
use kerbside_model::{Flag, Timestamp};
use serde_json::Value as Json;

use super::flat::{FlatLine, RunLengths};
use super::series;
use super::window::Window;

const VECTORS: &str = include_str!("../../../../tests/data/qartod/series.jsonl");

struct Series {
    times: Vec<Timestamp>,
    values: Vec<Option<f64>>,
}

impl Series {
    fn read(line: &Json) -> Series {
        let scale = line["s"].as_f64().unwrap();
        let number = |text: &str| text.parse::<f64>().ok().map(|number| number / scale);
        let values: Vec<Option<f64>> = unpacked(line["v"].as_str().unwrap()).map(number).collect();
        let (start, step) = (line["t"][0].as_i64().unwrap(), line["t"][1].as_i64().unwrap());
        let mut seconds = start - step;
        let times = (0..values.len()).map(|row| {
            seconds += step + line["t"][2][row.to_string()].as_i64().unwrap_or(0);
            Timestamp(seconds * 1_000)
        });
        Series { times: times.collect(), values }
    }

    /// The interval in the middle, as `ioos_qc` takes it; a gateway has the device's own.
    fn median_step_ms(&self) -> f64 {
        let mut steps: Vec<i64> = self.times.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        steps.sort_unstable();
        let middle = steps.len() / 2;
        if steps.len() % 2 == 1 { steps[middle] as f64 } else { (steps[middle - 1] + steps[middle]) as f64 / 2.0 }
    }

    fn rows(&self) -> impl Iterator<Item = (Option<f64>, Timestamp)> {
        self.values.iter().copied().zip(self.times.iter().copied())
    }

    fn flags(&self, test: &str, parameters: &Json) -> Vec<Flag> {
        let number = |at: usize| parameters[at].as_f64();
        let seconds = |at: usize| number(at).map(Duration::from_secs_f64);
        match test {
            "gross" => {
                let (fail, suspect) = (span(&parameters[0]), span(&parameters[1]));
                self.values.iter().map(|value| series::gross_range(*value, fail, suspect)).collect()
            }
            "climatology" => {
                let seasons: Vec<Season> = parameters.as_array().unwrap().iter().map(season).collect();
                let zone = Zone::named("UTC").unwrap();
                let judge = |(value, at)| series::climatology(value, zone.local(at).unwrap(), &seasons);
                self.rows().map(judge).collect()
            }
            "spike" => self.spikes(parameters),
            "rate" => {
                let limits = Limits { suspect: number(0), fail: number(1) };
                let mut before = None;
                let rows = self.rows().map(|(value, at)| {
                    let flag = series::rate(limits, 0, before, value, at);
                    before = value.map(|value| (value, at));
                    flag
                });
                rows.collect()
            }
            "flat" => {
                let step_ms = self.median_step_ms();
                let length =
                    |at: usize| number(at).map(|seconds| (seconds * 1e3 / (step_ms / 1e3).trunc() / 1e3) as u32);
                let lengths = RunLengths { suspect: length(1), fail: length(2) };
                let mut line = FlatLine::default();
                let tolerance = number(0).unwrap();
                let flags = self
                    .rows()
                    .map(|(value, at)| line.take(value, at, tolerance, step_ms as i64 / 2, lengths))
                    .collect();
                assert!(line.steps() <= 64);
                flags
            }
            "attenuated" => {
                let measure = if parameters[0] == "std" { Movement::Deviation } else { Movement::Range };
                let limits = Limits { suspect: number(3), fail: number(4) };
                let count_min = u16::try_from(parameters[2].as_u64().unwrap()).unwrap();
                let test = Attenuated { measure, window: seconds(1).unwrap(), count_min, limits };
                let mut window = Window::default();
                self.rows().map(|(value, at)| window.take(value, at, &test)).collect()
            }
            "gap" => {
                let spans = Spans { suspect: None, fail: seconds(0) };
                let mut before = None;
                self.times.iter().map(|at| series::gap(spans, before.replace(*at), *at)).collect()
            }
            other => panic!("{other} is a test that nobody knows"),
        }
    }

    /// The first and the last value have one neighbour only.
    fn spikes(&self, parameters: &Json) -> Vec<Flag> {
        let method = if parameters[0] == "average" { SpikeMethod::Average } else { SpikeMethod::Differential };
        let limits = Limits { suspect: parameters[1].as_f64(), fail: parameters[2].as_f64() };
        let value = |row: Option<usize>| row.and_then(|row| self.values.get(row)).copied().flatten();
        let row = |row: usize| [value(row.checked_sub(1)), value(Some(row)), value(Some(row + 1))];
        (0..self.values.len()).map(|at| series::spike(method, limits, row(at))).collect()
    }
}

fn unpacked(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').flat_map(|run| {
        let (item, count) = run.split_once('*').unwrap_or((run, "1"));
        std::iter::repeat_n(item, count.parse().unwrap())
    })
}

fn span(ends: &Json) -> Option<Range> {
    let (one, other) = (ends[0].as_f64()?, ends[1].as_f64()?);
    Some(Range { min: one.min(other), max: one.max(other) })
}

fn season(member: &Json) -> Season {
    let end = |at: usize| u8::try_from(member[1][at].as_u64().unwrap()).unwrap();
    let turn = |period: &str| (member[0] == period).then(|| (end(0), end(1)));
    Season {
        months: turn("month"),
        weeks: turn("week"),
        hours: turn("hour"),
        suspect: span(&member[2]).unwrap(),
        fail: span(&member[3]),
    }
}

/// Fails with the first rows that have another flag.
fn check(vectors: &str) -> (usize, usize) {
    let (mut rows, mut wrong) = (0, Vec::new());
    for (number, line) in vectors.lines().enumerate() {
        let line: Json = serde_json::from_str(line).unwrap();
        let series = Series::read(&line);
        let mut all = vec![Flag::Missing; series.values.len()];
        let worse = |one: Flag, other: Flag| if other.weight() > one.weight() { other } else { one };
        let tests = line["q"].as_object().unwrap();
        for (test, expected) in tests.iter().filter(|(test, _)| *test != "all") {
            let found = series.flags(test, &expected[0]);
            all = all.iter().zip(&found).map(|(one, other)| worse(*one, *other)).collect();
            rows += compare(number, test, &found, &expected[1], &mut wrong);
        }
        rows += compare(number, "all", &all, &tests["all"][1], &mut wrong);
    }
    wrong.truncate(20);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    (vectors.lines().count(), rows)
}

fn compare(number: usize, test: &str, found: &[Flag], expected: &Json, wrong: &mut Vec<String>) -> usize {
    let expected: Vec<u8> = unpacked(expected.as_str().unwrap()).map(|flag| flag.parse().unwrap()).collect();
    assert_eq!(found.len(), expected.len(), "line {}", number + 1);
    for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
        if found.code() != *expected {
            wrong.push(format!("line {}, row {row}, {test}: {} instead of {expected}", number + 1, found.code()));
        }
    }
    found.len()
}

#[test]
fn every_row_of_every_series_has_the_flags_that_ioos_qc_gives() {
    let (series, rows) = check(VECTORS);
    assert!(series > 1_100 && rows > 110_000, "{series} series, {rows} flags");
    if let Ok(path) = std::env::var("KERBSIDE_QARTOD_VECTORS") {
        let (_, flags) = check(&std::fs::read_to_string(path).unwrap());
        assert!(flags > 0);
    }
}
