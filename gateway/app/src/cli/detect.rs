//! `kerbside detect`: how unusual each point of a recorded series is.
//!
//! Reads a CSV of `timestamp,value` line by line, and writes it again with the learner's score of each point; memory
//! does not grow with the file. A score follows from the lines up to it, as in a gateway that runs.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use csv::{ReaderBuilder, StringRecord, WriterBuilder};
use jiff::civil::DateTime;
use kerbside_learner::{
    Learner, Mode, Moment, Reason, Stream, WARMUP_POINTS_DEFAULT, WARMUP_POINTS_MAX, WARMUP_POINTS_MIN,
};

use super::{counted, say_error};

/// Names of a column with times, in the order in which they are looked for.
const TIME_COLUMNS: &[&str] = &["timestamp", "time", "datetime", "date", "_time", "时间"];
/// Names of a column with values.
const VALUE_COLUMNS: &[&str] = &["value", "_value", "reading", "值", "数值"];
/// Seconds since 1970 above this are milliseconds: the year 5138 in seconds, 1973 in milliseconds.
const EPOCH_SECONDS_MAX: i64 = 100_000_000_000;

/// Arguments of `kerbside detect`.
#[derive(Debug, clap::Args)]
pub(super) struct DetectArguments {
    /// The series: timestamp and value in each line, with or without a header. Times as 2014-04-10 16:15:00 (the local
    /// time of the place; an offset is left aside) or as seconds or milliseconds since 1970. An empty value or NaN is
    /// passed over.
    #[arg(long, value_name = "FILE")]
    csv: PathBuf,
    /// Points from which everything is learnt before the first is judged; their score is 0.
    #[arg(long, value_name = "POINTS", default_value_t = WARMUP_POINTS_DEFAULT,
        value_parser = clap::value_parser!(u32).range(i64::from(WARMUP_POINTS_MIN)..=i64::from(WARMUP_POINTS_MAX)))]
    warmup: u32,
    /// Where timestamp, value and anomaly_score go; without it to the terminal. A score from 0.5 on is an alarm.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// What a series may cost.
    #[arg(long, value_enum, default_value_t = ModeArgument::Full)]
    mode: ModeArgument,
    /// Says of each alarm why.
    #[arg(long)]
    explain: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ModeArgument {
    /// Under 24 kB a series.
    Full,
    /// Under 2 kB a series; finds less.
    Light,
}

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    points: usize,
    passed_over: usize,
    alarms: usize,
}

/// Where times and values stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Columns {
    time: usize,
    value: usize,
}

pub(super) fn run(arguments: &DetectArguments) -> anyhow::Result<u8> {
    let name = arguments.csv.display();
    let input = File::open(&arguments.csv).with_context(|| format!("open {name}"))?;
    let mut learner = Learner::new(arguments.mode.into(), arguments.warmup);
    let mut explain = |text: &str| {
        if arguments.explain {
            say_error(text);
        }
    };
    let input = BufReader::new(input);
    let result = match &arguments.out {
        None => detect(input, io::stdout().lock(), &mut learner, &mut explain),
        Some(path) => {
            if is_same_file(&arguments.csv, path) {
                bail!("write {}: it is the file that is read; name another one", path.display());
            }
            let out = File::create(path).with_context(|| format!("create {}", path.display()))?;
            detect(input, out, &mut learner, &mut explain)
        }
    };
    let counts = match result {
        // Whoever reads our output has seen enough.
        Err(error) if is_broken_pipe(&error) => return Ok(0),
        result => result.with_context(|| format!("read {name}"))?,
    };
    say_error(&summary(&counts, arguments.warmup));
    Ok(0)
}

/// Reads, judges, writes. Errors name the line.
fn detect(
    input: impl Read,
    out: impl Write,
    learner: &mut Learner,
    explain: &mut dyn FnMut(&str),
) -> anyhow::Result<Counts> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(input);
    let mut writer = WriterBuilder::new().from_writer(BufWriter::new(out));
    writer.write_record(["timestamp", "value", "anomaly_score"])?;
    let (mut record, mut columns, mut counts) = (StringRecord::new(), None, Counts::default());
    while reader.read_record(&mut record)? {
        let line = record.position().map_or(0, csv::Position::line);
        let columns = match columns {
            Some(columns) => columns,
            None => {
                let (found, is_header) = columns_of(&record).with_context(|| format!("line {line}"))?;
                columns = Some(found);
                if is_header {
                    continue;
                }
                found
            }
        };
        let (time, value) = point(&record, columns).with_context(|| format!("line {line}"))?;
        let (time_text, value_text) = (&record[columns.time], &record[columns.value]);
        let verdict = learner.observe(value, Moment::from_local_seconds(time));
        writer.write_record([time_text, value_text, &format!("{:.6}", verdict.score)])?;
        counts.points += 1;
        counts.passed_over += usize::from(!value.is_finite());
        if let Some(reason) = verdict.alarm {
            counts.alarms += 1;
            explain(&format!("line {line}, {time_text}: {} (score {:.3})", sentence(&reason), verdict.score));
        }
    }
    if columns.is_none() {
        bail!("the file is empty; it needs lines of timestamp,value");
    }
    writer.flush()?;
    Ok(counts)
}

/// Where times and values stand by the first line, and whether that is a header.
fn columns_of(first: &StringRecord) -> anyhow::Result<(Columns, bool)> {
    let first_two = Columns { time: 0, value: 1 };
    if point(first, first_two).is_ok() {
        return Ok((first_two, false));
    }
    let named = |names: &[&str]| {
        let is_named =
            |name: &&str| first.iter().position(|cell| cell.trim_start_matches('\u{feff}').eq_ignore_ascii_case(name));
        names.iter().find_map(is_named)
    };
    match (named(TIME_COLUMNS), named(VALUE_COLUMNS)) {
        (Some(time), Some(value)) => Ok((Columns { time, value }, true)),
        _ => {
            let error = point(first, first_two).err().unwrap_or_else(|| anyhow!("no timestamp and value"));
            Err(error.context(format!(
                "neither a point nor a header with `timestamp` and `value`: `{}`",
                first.iter().collect::<Vec<_>>().join(",")
            )))
        }
    }
}

/// Local seconds and value of a line; no number where the value is missing.
fn point(record: &StringRecord, columns: Columns) -> anyhow::Result<(i64, f64)> {
    let cell = |column: usize, what: &str| {
        record
            .get(column)
            .ok_or_else(|| anyhow!("{what} is missing: {} of at least {}", counted(record.len(), "column"), column + 1))
    };
    let time = cell(columns.time, "the timestamp")?;
    let value = cell(columns.value, "the value")?;
    let seconds = local_seconds(time)
        .ok_or_else(|| anyhow!("`{time}` is no timestamp; write 2014-04-10 16:15:00, or seconds since 1970"))?;
    if value.is_empty() || value.eq_ignore_ascii_case("null") {
        return Ok((seconds, f64::NAN));
    }
    let value =
        value.parse().map_err(|_| anyhow!("`{value}` is no number; leave the value empty where there is none"))?;
    Ok((seconds, value))
}

/// Seconds since 1970 as a clock on the wall would count them.
fn local_seconds(text: &str) -> Option<i64> {
    let text = text.trim_start_matches('\u{feff}');
    if let Ok(number) = text.parse::<i64>() {
        return Some(if number.abs() > EPOCH_SECONDS_MAX { number.div_euclid(1000) } else { number });
    }
    let local: DateTime = without_offset(text).replace('/', "-").parse().ok()?;
    Some(local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// Without `Z`, `+08:00` or `+0800` behind the time of day: what the clock on the wall showed is what counts.
fn without_offset(text: &str) -> &str {
    let text = text.trim_end_matches(['Z', 'z']);
    // A sign behind the first colon cannot belong to the date.
    let Some(colon) = text.find(':') else { return text };
    match text[colon..].find(['+', '-']) {
        Some(sign) => text[..colon + sign].trim_end(),
        None => text,
    }
}

/// A reason in words, such as `20.1 where 9.8 ± 0.4 is usual at this hour`.
fn sentence(reason: &Reason) -> String {
    let Reason { looked_at, usual, spread, .. } = reason;
    let usual_here = format!("{looked_at:.4} where {usual:.4} ± {spread:.4} is usual");
    let often = reason.seen.map_or(String::new(), |seen| format!(", seen {} times of {}", seen.times, seen.of));
    match reason.stream {
        Stream::Sequence => format!("{usual_here} after the point before{often}"),
        Stream::LongSequence => format!("{usual_here} after such a course{often}"),
        Stream::Hour => format!("{usual_here} at {:02}:00", reason.hour),
        Stream::Level => format!("level {usual_here}"),
        Stream::Range => format!("{looked_at:.4}, beyond {usual:.4}, where it never was"),
    }
}

fn summary(counts: &Counts, warmup: u32) -> String {
    let mut text = format!("{}, {}", counted(counts.points, "point"), counted(counts.alarms, "alarm"));
    if counts.passed_over > 0 {
        text += &format!(", {} without a value", counts.passed_over);
    }
    if counts.points - counts.passed_over <= warmup as usize {
        text += &format!("; all of them went into the warm-up of {warmup}, give a shorter one with --warmup");
    }
    text
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io_error = error.chain().find_map(|cause| match cause.downcast_ref::<csv::Error>().map(csv::Error::kind) {
        Some(csv::ErrorKind::Io(error)) => Some(error),
        _ => cause.downcast_ref::<io::Error>(),
    });
    io_error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

impl From<ModeArgument> for Mode {
    fn from(mode: ModeArgument) -> Mode {
        match mode {
            ModeArgument::Full => Mode::Full,
            ModeArgument::Light => Mode::Light,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(text: &str, warmup: u32) -> (Result<Counts, String>, String, Vec<String>) {
        let (mut out, mut said) = (Vec::new(), Vec::new());
        let mut learner = Learner::new(Mode::Full, warmup);
        let result = detect(text.as_bytes(), &mut out, &mut learner, &mut |text| said.push(text.to_owned()));
        (result.map_err(|error| format!("{error:#}")), String::from_utf8(out).unwrap(), said)
    }

    fn error_of(text: &str) -> String {
        detected(text, 20).0.expect_err(text)
    }

    #[test]
    fn a_line_comes_back_with_its_score() {
        let mut text = String::from("timestamp,value\n");
        for minute in 0..50 {
            text += &format!("2014-04-10 16:{minute:02}:00,{}.50\n", minute % 2);
        }
        text += "2014-04-10 16:50:00,900\n";
        let (counts, out, said) = detected(&text, 30);
        assert_eq!(counts.unwrap(), Counts { points: 51, passed_over: 0, alarms: 1 });
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], "timestamp,value,anomaly_score");
        assert_eq!(lines[1], "2014-04-10 16:00:00,0.50,0.000000");
        let score: f64 = lines[51].strip_prefix("2014-04-10 16:50:00,900,").unwrap().parse().unwrap();
        assert!(score > 0.5, "{score}");
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("line 52, 2014-04-10 16:50:00: "), "{said:?}");
    }

    #[test]
    fn columns_are_found_by_their_names() {
        let (counts, out, _) = detected("\u{feff}device,Time,Value\nX,2014/04/10 16:15,1\nX,2014/04/10 16:16,\n", 20);
        assert_eq!(counts.unwrap(), Counts { points: 2, passed_over: 1, alarms: 0 });
        assert_eq!(out.lines().nth(2), Some("2014/04/10 16:16,,0.000000"));
        assert_eq!(detected("1397146500,1\n1397146560,2\n", 20).0.unwrap().points, 2);
    }

    #[test]
    fn times_are_read_as_the_clock_on_the_wall_shows_them() {
        let expected = local_seconds("2014-04-10 16:15:00");
        assert_eq!(expected, Some(1_397_146_500));
        for text in [
            "2014-04-10T16:15:00",
            "2014-04-10T16:15:00Z",
            "2014-04-10T16:15:00+08:00",
            "2014-04-10 16:15:00 -0500",
            "2014-04-10 16:15:00.000000",
            "2014/04/10 16:15",
            "1397146500",
            "1397146500000",
        ] {
            assert_eq!(local_seconds(text), expected, "{text}");
        }
        for text in ["", "yesterday", "2014-13-01 00:00:00", "16:15"] {
            assert_eq!(local_seconds(text), None, "{text}");
        }
    }

    #[test]
    fn an_error_names_the_line_and_how_to_mend_it() {
        let head = "timestamp,value\n2014-04-10 16:15:00,1\n";
        insta::assert_snapshot!(
            [
                error_of(""),
                error_of("a,b\n1,2\n"),
                error_of(&format!("{head}2014-04-10 16:20:00,high\n")),
                error_of(&format!("{head}soon,1\n")),
                error_of(&format!("{head}2014-04-10 16:20:00\n")),
            ]
            .join("\n"),
            @r"
        the file is empty; it needs lines of timestamp,value
        line 1: neither a point nor a header with `timestamp` and `value`: `a,b`: `a` is no timestamp; write 2014-04-10 16:15:00, or seconds since 1970
        line 3: `high` is no number; leave the value empty where there is none
        line 3: `soon` is no timestamp; write 2014-04-10 16:15:00, or seconds since 1970
        line 3: the value is missing: 1 column of at least 2
        "
        );
    }

    #[test]
    fn a_file_shorter_than_the_warm_up_is_told() {
        let counts = Counts { points: 10, passed_over: 1, alarms: 0 };
        assert_eq!(
            summary(&counts, 750),
            "10 points, 0 alarms, 1 without a value; all of them went into the warm-up of 750, give a shorter one with --warmup"
        );
    }
}
