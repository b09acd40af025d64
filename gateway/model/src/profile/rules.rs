//! What detectors look for that takes more than one reading and a limit: when they watch, where a value is going, what
//! is usual for it, and how its days change. Plain data, checked; the engine does the work.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Guard, Jump, Side};

/// A forecast looks at no more readings than this, spread over its window. 16 bytes each.
pub const FORECAST_READINGS_MAX: usize = 16;
/// A trend looks at no more days than this. 8 bytes each.
pub const TREND_DAYS_MAX: u8 = 30;
/// ... and at no fewer: a wet week is no trend.
pub const TREND_DAYS_MIN: u8 = 7;

/// When a detector watches, by the clock of its place. All that is given must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct During {
    /// From and until, in minutes of the day from 0 to 1440; one that ends before it begins goes over midnight.
    pub hours: Option<(u16, u16)>,
    /// A bit for each day of the week, Monday the lowest; `None` for all.
    pub weekdays: Option<u8>,
    /// First and last month, both included; one that ends before it begins goes over the turn of the year.
    pub months: Option<(u8, u8)>,
    /// Whether the sun is up.
    pub light: Option<Light>,
}

/// Whether the sun is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Light {
    /// From sunrise to sunset.
    Day,
    /// From sunset to sunrise.
    Night,
}

/// A number that reaches a limit soon, if it goes on as in the last readings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Whether it comes from below (above) or from above (below); never either.
    pub side: Side,
    /// The limit, in the point's unit.
    pub reaches: f64,
    /// Raised when it is reached within this time; over when it takes twice as long.
    pub within: Duration,
    /// The change of the last readings is taken from so far back.
    pub window: Duration,
    /// Fewer readings than this say nothing; 3 to [`FORECAST_READINGS_MAX`].
    pub readings: u8,
    /// Less movement than this within the window, in the point's unit, is noise.
    pub least: f64,
    /// A change between two readings that is none of what is measured: the window begins anew behind it.
    pub jump: Option<Jump>,
}

/// A number that is far from what it is at this hour otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deviation {
    /// Which side is wrong.
    pub side: Side,
    /// Whether the limits are spreads or multiples.
    pub measure: Measure,
    /// Raised at so many spreads from the usual value, or at so many times it, ...
    pub raise: f64,
    /// ... and over at so many.
    pub clear: f64,
    /// Less than this from the usual value, in the point's unit, is never wrong.
    pub least: f64,
    /// Whether Saturdays and Sundays have a rhythm of their own.
    pub weekend: Weekend,
    /// Whether each hour has a usual value of its own.
    pub rhythm: Rhythm,
    /// An hour is judged after it was learnt on so many days; without a rhythm, after so many hours.
    pub warm_up: u8,
    /// What is usual is learnt only while all of these hold.
    pub learn_when: Vec<Guard>,
}

/// What the limits of a deviation are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Spreads from the usual value.
    Spreads,
    /// Multiples of the usual value.
    Times,
}

/// Whether each hour has a usual value of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rhythm {
    /// Each hour of the day has.
    Hours,
    /// All hours have one, as in the rain, which keeps none.
    None,
}

/// Whether Saturdays and Sundays have a rhythm of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weekend {
    /// They are days as all others.
    Same,
    /// They have their own usual values.
    Apart,
}

/// A number whose days go up or down for weeks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Which direction is wrong.
    pub side: Side,
    /// What is too much.
    pub goal: TrendGoal,
    /// Less movement than this over the days that are known, in the point's unit, is none.
    pub total: f64,
    /// How many days are looked at, from [`TREND_DAYS_MIN`] to [`TREND_DAYS_MAX`].
    pub days: u8,
    /// What stands for a day.
    pub of: DayValue,
    /// A reading counts only while all of these hold.
    pub learn_when: Vec<Guard>,
    /// What a permit does to the days that are known.
    pub behind_permit: BehindPermit,
}

/// What becomes of days when somebody was authorised to work at the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BehindPermit {
    /// They go on.
    #[default]
    GoesOn,
    /// They begin anew: what was lifted does not lie as before.
    Anew,
}

/// What is too much of a trend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum TrendGoal {
    /// It changes by so much, as a magnitude, ...
    Change {
        /// in the point's unit,
        by: f64,
        /// in this time. Over at half of it.
        per: Duration,
    },
    /// It comes to a limit.
    Reaches {
        /// The limit, in the point's unit.
        limit: f64,
        /// Raised when it is reached within this time; over when it takes twice as long.
        within: Duration,
    },
}

/// What stands for a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DayValue {
    /// The least value.
    Minimum,
    /// The middle one of the first readings of its hours.
    Median,
    /// The greatest value.
    Maximum,
}

/// A number that is far from where it rests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Raised so far from its place, in the point's unit, to either side ...
    pub above: f64,
    /// ... up to so far; what is further away is for another rule to find.
    pub below: Option<f64>,
    /// ... and over so far from it.
    pub clear: f64,
    /// The place is the middle of so many quiet readings.
    pub readings: u8,
    /// Readings are quiet that lie within this of the first of them, in the point's unit.
    pub steady: f64,
    /// The place follows by so much a day at most, in the point's unit.
    pub creep_per_day: f64,
    /// Where the point goes round, such as at 360 degrees.
    pub circle: Option<f64>,
    /// A reading is wrong only when it lies so near to the one before; `None` when any is. What shakes is not still.
    pub still: Option<f64>,
}

/// How long a device is quiet by its own habit: its period and how many reports it loses are learnt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Habit {
    /// So many false alarms of a device in a thousand days are accepted, above 0.
    pub false_per_1000_days: f64,
    /// It is silent after this at the latest, whatever it does otherwise.
    pub at_most: Option<Duration>,
    /// It is never silent sooner: what also sends when something happens is quiet otherwise.
    pub at_least: Option<Duration>,
}

/// Silence counts only behind a rise: what is flooded falls silent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rise {
    /// Position of the point.
    pub point: u16,
    /// By so much at least, in the point's unit, ...
    pub by: f64,
    /// ... in so long before the last report.
    pub within: Duration,
}
