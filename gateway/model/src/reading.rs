//! Readings: point, value, quality, both times.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::frames::Tags;
use crate::site::DeviceIndex;

/// One value of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// A number in the point's unit.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// A label of an enumeration, or free text.
    Text(Arc<str>),
}

impl Value {
    /// The number, when it is one.
    pub fn as_number(&self) -> Option<f64> {
        if let Value::Number(number) = self { Some(*number) } else { None }
    }

    /// The value as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Number(number) => serde_json::Value::from(*number),
            Value::Boolean(boolean) => serde_json::Value::from(*boolean),
            Value::Text(text) => serde_json::Value::from(text.as_ref()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => write!(formatter, "{number}"),
            Value::Boolean(boolean) => write!(formatter, "{boolean}"),
            Value::Text(text) => formatter.write_str(text),
        }
    }
}

/// Nothing on a street is measured beyond this, whatever its unit, and no number of 64 bits is. The largest number of
/// single precision (3.4e38) is what devices send for "no value": learnt once it would stay in a mean for ever, and
/// beyond it a mean, which is kept in single precision, would be no number any more.
pub const MAGNITUDE_MAX: f64 = 1e30;

/// How far a reading can be trusted: the QARTOD flags (U.S. IOOS, "Manual for Real-Time Quality Control").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// 1: passed every test.
    Good,
    /// 2: no test was made.
    NotEvaluated,
    /// 3: questionable or of high interest.
    Suspect,
    /// 4: not to be used.
    Bad,
    /// 9: there is no value.
    Missing,
}

impl Flag {
    /// The number that QARTOD gives the flag.
    pub fn code(self) -> u8 {
        match self {
            Flag::Good => 1,
            Flag::NotEvaluated => 2,
            Flag::Suspect => 3,
            Flag::Bad => 4,
            Flag::Missing => 9,
        }
    }

    /// Which of several flags of one reading counts: the heaviest.
    pub fn weight(self) -> u8 {
        match self {
            Flag::Missing => 0,
            Flag::NotEvaluated => 1,
            Flag::Good => 2,
            Flag::Suspect => 3,
            Flag::Bad => 4,
        }
    }

    /// The flag's name as it stands in JSON and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Flag::Good => "good",
            Flag::NotEvaluated => "not_evaluated",
            Flag::Suspect => "suspect",
            Flag::Bad => "bad",
            Flag::Missing => "missing",
        }
    }
}

/// Why a reading is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing is wrong.
    None,
    /// Outside the point's valid range.
    Range,
    /// Too old: the device has not reported for longer than it should.
    Stale,
    /// The device itself marked the value as invalid.
    Invalid,
    /// Of another type than the profile says.
    Type,
    /// The profile expects it in this frame and it is not there.
    Absent,
    /// The bus did not give it.
    ReadFailed,
    /// The value it is computed from is not good, or the mount height is not known.
    Derived,
    /// It has more digits than a number of the database holds: the last ones are not right.
    Rounded,
    /// The device refuses these registers: it does not have them.
    IllegalAddress,
    /// Unusual for the time of the year or day.
    Climatology,
    /// It stands out between its neighbours in time, or may do so until the next reading has come.
    Spike,
    /// It looked like a spike until the next reading came.
    Confirmed,
    /// It changed too fast.
    RateOfChange,
    /// It does not move.
    FlatLine,
    /// It moves less than it should.
    Attenuated,
    /// It came too long after the one before.
    Gap,
    /// Far from what the devices around it say.
    Neighbours,
    /// Another point of the device says that it is not to be trusted.
    DeviceFlag,
}

impl Cause {
    /// The cause's name as it stands in JSON and in the log.
    pub fn name(self) -> &'static str {
        match self {
            Cause::None => "",
            Cause::Range => "range",
            Cause::Stale => "stale",
            Cause::Invalid => "invalid",
            Cause::Type => "type",
            Cause::Absent => "absent",
            Cause::ReadFailed => "read_failed",
            Cause::Derived => "derived",
            Cause::Rounded => "rounded",
            Cause::IllegalAddress => "illegal_address",
            Cause::Climatology => "climatology",
            Cause::Spike => "spike",
            Cause::Confirmed => "confirmed",
            Cause::RateOfChange => "rate_of_change",
            Cause::FlatLine => "flat_line",
            Cause::Attenuated => "attenuated",
            Cause::Gap => "gap",
            Cause::Neighbours => "neighbours",
            Cause::DeviceFlag => "device_flag",
        }
    }
}

/// Flag and cause of one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Quality {
    /// How far to trust it.
    pub flag: Flag,
    /// Why.
    pub cause: Cause,
}

impl Quality {
    /// A good reading.
    pub const GOOD: Quality = Quality { flag: Flag::Good, cause: Cause::None };

    /// A bad reading and why.
    pub fn bad(cause: Cause) -> Quality {
        Quality { flag: Flag::Bad, cause }
    }

    /// A questionable reading and why.
    pub fn suspect(cause: Cause) -> Quality {
        Quality { flag: Flag::Suspect, cause }
    }

    /// A missing reading and why.
    pub fn missing(cause: Cause) -> Quality {
        Quality { flag: Flag::Missing, cause }
    }

    /// A good reading that was suspect until the next one came.
    pub const CONFIRMED: Quality = Quality { flag: Flag::Good, cause: Cause::Confirmed };

    /// Whether detectors may use the reading as it is.
    pub fn is_good(self) -> bool {
        self.flag == Flag::Good
    }

    /// The worse of two judgements of one reading, the first one when both are as bad: bad, suspect, good, not
    /// evaluated, missing, as QARTOD sums flags up.
    pub fn or_worse(self, other: Quality) -> Quality {
        if other.flag.weight() > self.flag.weight() { other } else { self }
    }
}

/// One value of one point, inside an observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointReading {
    /// Position of the point in the device's profile.
    pub point: u16,
    /// The value, or none when it is missing.
    pub value: Option<Value>,
    /// How far to trust it.
    pub quality: Quality,
}

/// What one frame said about one device at one moment: a row of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Which device.
    pub device: DeviceIndex,
    /// The device's own time when it is plausible, else the time of arrival.
    pub observed_at: Timestamp,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// Older than what is already known of the device: stored, never alarmed on.
    pub late: bool,
    /// A profile has fewer than 65,536 points.
    count: u16,
    first: u32,
    /// Position among the tag sets, counted from 1; 0 for none.
    tags: u32,
}

/// The observations of one batch. All readings lie in one vector, so that a frame costs no allocation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observations {
    rows: Vec<Observation>,
    readings: Vec<PointReading>,
    /// Equal sets of rows that follow one another are one.
    tag_sets: Vec<Tags>,
}

impl Observations {
    /// Adds an observation with its readings.
    pub fn push(
        &mut self,
        device: DeviceIndex,
        observed_at: Timestamp,
        received_at: Timestamp,
        late: bool,
        readings: impl IntoIterator<Item = PointReading>,
    ) {
        let first = self.readings.len();
        self.readings.extend(readings);
        self.add_row(device, (observed_at, received_at), late, first, self.readings.len() - first);
    }

    /// Adds an observation whose `count` readings come all at once in the end, by [`Observations::with_readings`].
    pub fn push_row(
        &mut self,
        device: DeviceIndex,
        observed_at: Timestamp,
        received_at: Timestamp,
        late: bool,
        count: usize,
    ) {
        let first = self.rows.last().map_or(0, |row| row.first as usize + row.count as usize);
        self.add_row(device, (observed_at, received_at), late, first, count);
    }

    /// The observations with the readings of all their rows.
    ///
    /// # Panics
    /// When there are not as many readings as the rows say.
    pub fn with_readings(self, readings: Vec<PointReading>) -> Observations {
        let expected = self.rows.last().map_or(0, |row| row.first as usize + row.count as usize);
        assert_eq!(readings.len(), expected, "every row has its readings");
        Observations { readings, ..self }
    }

    /// Takes all readings out, to add to them and give them back by [`Observations::with_readings`].
    pub fn take_readings(&mut self) -> Vec<PointReading> {
        std::mem::take(&mut self.readings)
    }

    fn add_row(
        &mut self,
        device: DeviceIndex,
        (observed_at, received_at): (Timestamp, Timestamp),
        late: bool,
        first: usize,
        count: usize,
    ) {
        self.rows.push(Observation {
            device,
            observed_at,
            received_at,
            late,
            count: u16::try_from(count).expect("a profile has fewer than 65,536 points"),
            first: u32::try_from(first).expect("a batch holds fewer than 2^32 readings"),
            tags: 0,
        });
    }

    /// Gives the row that was added last the tags of its frame.
    pub fn tag_last(&mut self, tags: &Tags) {
        let Some(row) = self.rows.last_mut() else { return };
        if self.tag_sets.last() != Some(tags) {
            self.tag_sets.push(Arc::clone(tags));
        }
        row.tags = u32::try_from(self.tag_sets.len()).expect("a batch holds fewer than 2^32 readings");
    }

    /// The tags of a row of these observations.
    #[inline]
    pub fn tags(&self, row: &Observation) -> Option<&Tags> {
        let position = row.tags.checked_sub(1)?;
        self.tag_sets.get(position as usize)
    }

    /// How many observations.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many readings in all.
    pub fn reading_count(&self) -> usize {
        self.readings.len()
    }

    /// Each observation with its readings.
    pub fn iter(&self) -> impl Iterator<Item = (&Observation, &[PointReading])> {
        self.rows.iter().map(|row| {
            let first = row.first as usize;
            (row, &self.readings[first..first + row.count as usize])
        })
    }
}
