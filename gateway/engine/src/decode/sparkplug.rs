//! Messages of Sparkplug B to raw values: metrics by their names, times by their timestamps.
//!
//! Turns a message whose metrics bear their names (the source gives data the names of the birth) into the device's
//! readings of now, and rows of other times. The newest value of a point that is not historical is its value now, also
//! when it was measured long before the others: nodes report by exception, so it has not changed since. It stands at its
//! own time as well. Pure: nothing is kept.

use std::collections::{HashMap, HashSet};

use kerbside_model::profile::{Origin, Point};
use kerbside_model::sparkplug::{Content, Message, Metric};
use kerbside_model::{Cause, PointReading, Quality, Timestamp, UndecodedReason};

use super::convert::{Converter, Raw};
use super::time::Told;
use super::{DecodeError, RowTime, Scratch, point_index};

/// Values of one message that were measured within this time are one row: a node asks its devices one after the other.
const SAME_TIME_MS: u64 = 1_000;

/// Where the metrics of one profile go.
#[derive(Debug)]
pub(super) struct SparkplugPlan {
    wanted: HashMap<String, Vec<Target>>,
}

#[derive(Clone, Copy, Debug)]
struct Target {
    index: u16,
    rank: u8,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All metrics: a birth. Its values are those of now, whenever they were measured.
    Whole,
    /// Those that changed.
    Changes,
}

/// A metric that the profile wants.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    metric: &'a Metric,
    targets: &'a [Target],
    content: Content<'a>,
}

/// Metrics of a message that say nothing, and the first of them.
#[derive(Default)]
struct Unknown {
    unnamed: usize,
    alias: Option<u64>,
    untyped: usize,
}

impl SparkplugPlan {
    pub(super) fn new(points: &[Point]) -> SparkplugPlan {
        let mut wanted: HashMap<String, Vec<Target>> = HashMap::new();
        for (position, point) in points.iter().enumerate() {
            let Origin::Metric(names) = &point.origin else { continue };
            for (rank, name) in names.iter().enumerate() {
                let rank = u8::try_from(rank).unwrap_or(u8::MAX - 1);
                wanted.entry(name.clone()).or_default().push(Target { index: point_index(position), rank });
            }
        }
        SparkplugPlan { wanted }
    }

    /// Reads a message into `scratch`, which has just begun; gives the time of its readings of now. `None` when it holds
    /// nothing that the profile wants, as data that report by exception often do.
    pub(super) fn read(
        &self,
        bytes: &[u8],
        extent: Extent,
        converters: &[Converter],
        scratch: &mut Scratch,
    ) -> Result<Option<Told>, DecodeError> {
        let malformed = |detail| DecodeError { reason: UndecodedReason::Malformed, detail };
        let message = Message::read(bytes).map_err(malformed)?;
        let (mut wanted, unknown) = self.wanted_of(&message);
        if let Some(said) = unknown.say() {
            if wanted.is_empty() {
                return Err(DecodeError { reason: UndecodedReason::UnknownAlias, detail: said });
            }
            scratch.remark(|| said);
        }
        if wanted.is_empty() && extent == Extent::Changes {
            return Ok(None);
        }
        // The newest first; of the same time the one that stands last.
        wanted.reverse();
        wanted.sort_by_key(|wanted| std::cmp::Reverse(wanted.metric.timestamp.unwrap_or(u64::MAX)));
        let newest = wanted.iter().filter(|wanted| wanted.is_current()).find_map(|wanted| wanted.metric.timestamp);
        let frame_time = match extent {
            Extent::Whole => message.timestamp.or(newest),
            Extent::Changes => newest.or(message.timestamp),
        };
        let rows = take_current(&wanted, frame_time, extent, converters, scratch);
        take_rows(&rows, message.timestamp, converters, scratch).map_err(malformed)?;
        Ok(Some(frame_time.map_or(Told::Nothing, told)))
    }

    fn wanted_of<'a>(&'a self, message: &'a Message) -> (Vec<Wanted<'a>>, Unknown) {
        let mut wanted = Vec::new();
        let mut unknown = Unknown::default();
        for metric in &message.metrics {
            let Some(name) = &metric.name else {
                unknown.unnamed += 1;
                unknown.alias = unknown.alias.or(metric.alias);
                continue;
            };
            let Some(targets) = self.wanted.get(name) else { continue };
            match metric.content() {
                Content::Untyped => unknown.untyped += 1,
                content => wanted.push(Wanted { metric, targets, content }),
            }
        }
        (wanted, unknown)
    }
}

impl Wanted<'_> {
    fn is_current(&self) -> bool {
        self.metric.is_historical != Some(true)
    }

    fn keep(&self, converters: &[Converter], scratch: &mut Scratch) {
        for Target { index, rank } in self.targets.iter().copied() {
            let converter = &converters[usize::from(index)];
            scratch.keep(rank, index, |texts| {
                let raw = match self.content {
                    Content::Number(number) => Raw::Number(number),
                    Content::Boolean(boolean) => Raw::Boolean(boolean),
                    Content::Text(text) => Raw::Text(text),
                    Content::Null => Raw::Null,
                    Content::Other | Content::Untyped => Raw::Other,
                };
                let reading = converter.reading(index, raw, texts);
                if self.metric.is_good() || !reading.quality.is_good() {
                    return reading;
                }
                PointReading { quality: Quality::bad(Cause::Invalid), ..reading }
            });
        }
    }
}

impl Unknown {
    /// What is wrong, in a sentence.
    fn say(&self) -> Option<String> {
        let mend = "the birth that says it was not heard; with `rebirth: ask` the node is asked for another";
        match (self.unnamed, self.untyped) {
            (0, 0) => None,
            (0, count) => Some(format!("{count} metrics are integers without a datatype: {mend}")),
            (count, _) => {
                let first = self.alias.map_or("none at all".to_owned(), |alias| format!("alias {alias}"));
                Some(format!("{count} metrics have no name (the first has {first}): {mend}"))
            }
        }
    }
}

/// Keeps the values of now. Gives what stands at a time of its own: history, values that a newer one followed, and values
/// of now that are older than the rest.
fn take_current<'a>(
    wanted: &'a [Wanted<'a>],
    frame_time: Option<u64>,
    extent: Extent,
    converters: &[Converter],
    scratch: &mut Scratch,
) -> Vec<&'a Wanted<'a>> {
    let mut rows = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    for one in wanted {
        let name = one.metric.name.as_deref().unwrap_or_default();
        if !one.is_current() {
            rows.push(one);
            continue;
        }
        let is_newest = seen.insert(name);
        if is_newest {
            one.keep(converters, scratch);
        }
        let age_ms = frame_time.zip(one.metric.timestamp).map_or(0, |(frame, own)| frame.abs_diff(own));
        if !is_newest && one.metric.timestamp.is_some()
            || is_newest && extent == Extent::Changes && age_ms > SAME_TIME_MS
        {
            rows.push(one);
        }
    }
    rows
}

/// Keeps rows of other times, the oldest first; values of the same time are one.
fn take_rows(
    rows: &[&Wanted<'_>],
    sent_at: Option<u64>,
    converters: &[Converter],
    scratch: &mut Scratch,
) -> Result<(), String> {
    let time_of = |one: &Wanted<'_>| one.metric.timestamp.or(sent_at);
    let mut rest = rows.iter().rev().peekable();
    while let Some(first) = rest.next() {
        let time = time_of(first);
        scratch.begin_row();
        first.keep(converters, scratch);
        while let Some(next) = rest.next_if(|next| time.is_some() && time_of(next) == time) {
            next.keep(converters, scratch);
        }
        scratch.end_row(RowTime::Told(time.map_or(Told::Unreadable, told)))?;
    }
    Ok(())
}

fn told(milliseconds: u64) -> Told {
    Told::Time(Timestamp(i64::try_from(milliseconds).unwrap_or(i64::MAX)))
}
