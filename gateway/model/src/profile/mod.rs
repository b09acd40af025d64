//! Device profiles (设备模型): what a model of device sends, and what is wrong with it when.

mod around;
mod binary;
mod codec;
mod combination;
mod counts;
mod csv;
mod frequency;
mod load;
mod moved;
mod parse;
mod payload;
mod quality;
mod registers;
mod rehearsal;
mod rule_test;
mod rules;
mod sparkplug;
mod unusual;
mod upkeep;
mod walk;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use around::{Around, Downstream, Weather};
pub use binary::{
    BinaryBlock, BinaryChannel, BinaryField, BinaryFormat, BinaryMessage, BinaryPart, BinaryPlace, BinaryType,
    BlockLength, ByteTest, Endian, MessageTest, PartRows, PartTest, Repeat,
};
pub use codec::{
    CODEC_BUDGET_DEFAULT, CODEC_HEAP_BYTES_DEFAULT, CODEC_PORT_DEFAULT, CODEC_SOURCE_BYTES_MAX, CodecFormat,
    CodecOutput, NamedValues,
};
pub use combination::{
    COMBINATION_PARTS_MAX, COMBINATION_POINTS_MAX, Combination, EXPRESSION_BYTES_MAX, Operand, Relation, Test, Word,
};
pub use counts::{AMOUNT_PARTS, Amount, CHANGES_MAX, Counts, Flapping, Shift};
pub use csv::{CsvColumn, CsvFormat, CsvLayout};
pub use frequency::{Frequency, Hits};
pub use load::{LOAD_SETTINGS_MAX, LOAD_SWITCHES_MAX, Load, LoadGoal, SPIKE_READINGS_MAX, SPIKE_TIMES_MAX, Spikes};
pub use parse::{
    Chosen, Document, Laid, Layer, OVERRIDES_MAX, Overridable, Override, Scripts, Shelf, detector_rule_names,
    no_scripts, parse_overrides, parse_profile, parse_profile_text, parse_profile_text_with, parse_profile_with,
};
pub use payload::{DocumentFormat, HistoryList, Newest};
pub use quality::{
    Attenuated, ChangeRate, Drift, FAULT_AFTER_DEFAULT, FAULT_COUNT_DEFAULT, FLAT_READINGS_MAX, FaultRule, Flat,
    Limits, Movement, NEIGHBOURS_MAX, Neighbours, PointQuality, Season, Spans, Spike, SpikeMethod, Validity,
    WINDOW_READINGS_MAX, range_of_kind,
};
pub use registers::{
    Bits, ByteOrder, Half, Power, PowerMeaning, RegisterField, RegisterFormat, RegisterTime, RegisterType, Sign,
    TIME_PARTS_MAX, TextEncoding, TimeForm, TimePart, TimeParts,
};
pub use rehearsal::REHEARSAL_TIME_KEY;
pub use rule_test::{Check, ExpectedAlarm, RuleTest, Slot, TestDevice, TestMask};
pub use rules::{
    Baseline, BehindPermit, DayValue, Deviation, During, FORECAST_READINGS_MAX, Forecast, Habit, Light, Measure,
    Rhythm, Rise, TREND_DAYS_MAX, TREND_DAYS_MIN, Trend, TrendGoal, Weekend,
};
pub use sparkplug::SparkplugFormat;
pub use unusual::{
    LearnerMode, UNUSUAL_SCORE_DEFAULT, UNUSUAL_SCORE_MAX, UNUSUAL_SCORE_MIN, Unusual, WARM_UP_READINGS_DEFAULT,
    WARM_UP_READINGS_MAX, WARM_UP_READINGS_MIN,
};
pub use upkeep::{Battery, Charge, Knee, Losses, Warmth};
pub use walk::WalkTrigger;

use crate::alarm::Severity;
use crate::envelope::{EnvelopeFormat, LinkField};
use crate::id::content_hash;
use crate::reading::Value;
use crate::vocabulary::Kind;

/// One model of device, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Unique name, such as `ctwing-manhole-cover`.
    pub name: String,
    /// Counts up with each change that people should notice.
    pub version: u32,
    /// What the device is.
    pub kind: Kind,
    /// Maker, for people.
    pub vendor: String,
    /// Model, for people.
    pub model: String,
    /// Component class (部件小类代码), or empty.
    pub component_class: String,
    /// How its frames are read.
    pub payload: PayloadFormat,
    /// How often the device reports when nothing happens.
    pub interval: Option<Duration>,
    /// What it measures.
    pub points: Vec<Point>,
    /// What can be wrong with it.
    pub conditions: Vec<Condition>,
    /// How that is found.
    pub detectors: Vec<Detector>,
    /// Captured frames with the readings that they must give.
    pub samples: Vec<Sample>,
    /// What shows in a walk test that it works; empty for what [`Profile::walk_triggers`] gives by itself.
    pub walk_test: Vec<WalkTrigger>,
    /// Names of the overrides that were laid over it, in their order; none for the profile as its file has it.
    pub overrides: Vec<String>,
    /// Series of readings with the alarms that must come of them; not stored, since they change nothing.
    #[serde(skip)]
    pub tests: Vec<RuleTest>,
}

/// Digits of a profile's content hash: enough to tell editions apart.
const HASH_DIGITS: usize = 12;

impl Profile {
    /// Tells editions of the profile apart, whatever they call themselves: a hash of everything but version and samples,
    /// as this release reads it.
    pub fn content_hash(&self) -> String {
        let content = Profile { version: 0, samples: Vec::new(), ..self.clone() };
        let bytes = postcard::to_stdvec(&content).expect("profiles are plain data");
        let mut hash = content_hash(&bytes);
        hash.truncate(HASH_DIGITS);
        hash
    }

    /// Its name, with the overrides that were laid over it: `json-level + low-road`.
    pub fn title(&self) -> String {
        let mut title = self.name.clone();
        for name in &self.overrides {
            title.push_str(" + ");
            title.push_str(name);
        }
        title
    }

    /// Gives what is told or judged by local time the zone of the site, where the profile names none.
    pub fn put_zone(&mut self, zone: &str) {
        self.payload.put_zone(zone);
        for point in self.points.iter_mut().filter(|point| !point.quality.climatology.is_empty()) {
            point.quality.zone.get_or_insert_with(|| zone.to_owned());
        }
        for detector in self.detectors.iter_mut().filter(|detector| detector.goes_by_the_clock()) {
            detector.zone.get_or_insert_with(|| zone.to_owned());
        }
    }

    /// How often a point of a device comes that reports with this interval.
    pub fn point_interval(&self, point: usize, interval: Option<Duration>) -> Option<Duration> {
        let point = self.points.get(point)?;
        let source = match point.origin {
            Origin::MountHeightMinus(source) => self.points.get(usize::from(source)).unwrap_or(point),
            _ => point,
        };
        source.interval.or(interval)
    }

    /// Position of a point by its name.
    pub fn point_index(&self, name: &str) -> Option<usize> {
        self.points.iter().position(|point| point.name.as_ref() == name)
    }
}

/// How frames are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PayloadFormat {
    /// One JSON object a message.
    Json(DocumentFormat),
    /// Modbus registers.
    Registers(RegisterFormat),
    /// The bytes of a message, such as a LoRaWAN uplink.
    Binary(BinaryFormat),
    /// Text with separators.
    Csv(CsvFormat),
    /// One CBOR item a message, with places as in JSON.
    Cbor(DocumentFormat),
    /// Bytes that a script in JavaScript turns into an object, with places as in JSON.
    Codec(Arc<CodecFormat>),
    /// Messages of Sparkplug B.
    Sparkplug(SparkplugFormat),
}

/// Where the device's own time stands in a payload: at a place in JSON, or wherever its format has places.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeField<Path = JsonPath> {
    /// The place.
    pub path: Path,
    /// How it is written.
    pub unit: TimeUnit,
    /// The zone of a local time, by its IANA name; `None` until the site's own is put in.
    pub zone: Option<String>,
    /// The device's clock is wrong when it is off by more than this.
    pub drift_max: Duration,
}

impl<Path> TimeField<Path> {
    /// A time without a zone of its own, and with the usual limit of drift.
    pub fn new(path: Path, unit: TimeUnit) -> TimeField<Path> {
        TimeField { path, unit, zone: None, drift_max: DRIFT_MAX_DEFAULT }
    }
}

/// A device's clock is wrong when it is off by more than this, unless the profile says otherwise.
pub const DRIFT_MAX_DEFAULT: Duration = Duration::from_secs(600);
/// Zone of local times when neither profile nor site names one.
pub const ZONE_DEFAULT: &str = "Asia/Shanghai";

/// How a device writes its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// Microseconds since 1970.
    Microseconds,
    /// Nanoseconds since 1970.
    Nanoseconds,
    /// Any of these and of the texts below, told apart by size and form (some firmware sends one, some the other).
    Auto,
    /// RFC 3339 text with an offset.
    Rfc3339,
    /// Date and time of a zone, as `2026-11-22 08:00:00` or `20261122080000`.
    Local,
}

/// A place in a JSON document: the keys on the way; a number also finds an element of an array.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JsonPath(pub Vec<String>);

impl JsonPath {
    /// Reads `a.b.0`, or a JSON pointer (RFC 6901) when it starts with a slash.
    pub fn parse(text: &str) -> Option<JsonPath> {
        let keys: Vec<String> = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(|key| key.replace("~1", "/").replace("~0", "~")).collect(),
            None => text.split('.').map(str::to_owned).collect(),
        };
        if keys.iter().any(String::is_empty) { None } else { Some(JsonPath(keys)) }
    }

    /// Finds the place in a document.
    pub fn find<'value>(&self, document: &'value serde_json::Value) -> Option<&'value serde_json::Value> {
        self.0.iter().try_fold(document, |place, key| match place {
            serde_json::Value::Object(object) => object.get(key),
            serde_json::Value::Array(array) => array.get(key.parse::<usize>().ok()?),
            _ => None,
        })
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.iter().any(|key| key.contains('.')) {
            let escaped: Vec<String> = self.0.iter().map(|key| key.replace('~', "~0").replace('/', "~1")).collect();
            write!(formatter, "/{}", escaped.join("/"))
        } else {
            formatter.write_str(&self.0.join("."))
        }
    }
}

/// One value of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Canonical name, the field in the database.
    pub name: Arc<str>,
    /// What its values are.
    pub value_type: ValueType,
    /// Unit, or empty.
    pub unit: String,
    /// Where it comes from.
    pub origin: Origin,
    /// The raw number times this ...
    pub scale: f64,
    /// ... plus this gives the value in the point's unit.
    pub offset: f64,
    /// A value outside is bad.
    pub range: Option<Range>,
    /// Raw values that mean something else: labels of an enumeration, or true and false.
    pub map: Vec<(RawValue, Value)>,
    /// Raw values by which the device says "no value".
    pub invalid: Vec<RawValue>,
    /// Its absence from a frame is a missing reading, not silence of that point.
    pub required: bool,
    /// How often it is read from registers, where that is not as often as the rest of the device.
    pub interval: Option<Duration>,
    /// The same while a storm stands.
    pub storm_interval: Option<Duration>,
    /// What is tested of its readings.
    pub quality: PointQuality,
}

/// What the values of a point are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// One of the labels in the point's map.
    Enumeration,
    /// Free text.
    Text,
}

/// The valid range of a point, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Least valid value.
    pub min: f64,
    /// Greatest valid value.
    pub max: f64,
}

/// Where a point comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Origin {
    /// The first of these places in the JSON payload that is there.
    Json(Vec<JsonPath>),
    /// Registers.
    Register(RegisterField),
    /// The device's mount height minus the point at this position: level from distance.
    MountHeightMinus(u16),
    /// The first of these places in the bytes that is there.
    Binary(Vec<BinaryPlace>),
    /// The first of these columns that is there.
    Csv(Vec<CsvColumn>),
    /// What the envelope says of the radio link.
    Link(LinkField),
    /// The first of these metrics of Sparkplug B that is there, by name.
    Metric(Vec<String>),
}

/// A raw value in a profile, compared with what the device sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RawValue {
    /// A number; also matches text that reads as this number.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// Text.
    Text(String),
    /// JSON null.
    Null,
    /// A float that is no number (NaN), or the word.
    NotANumber,
}

/// Something that can be wrong with a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Name, such as `displaced`.
    pub name: Arc<str>,
    /// English title.
    pub title: String,
    /// Chinese title.
    pub title_zh: String,
    /// Whether it opens a case.
    pub opens_case: bool,
    /// Whether life is at risk, so that suspect readings alone raise it; by default when the detector is critical.
    pub life: Option<bool>,
    /// A permit explains it for so long at most; `None` for as long as the permit lasts.
    pub permit_at_most: Option<Duration>,
}

/// One rule that finds a condition. A condition stands while any of its detectors does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    /// Position of the condition in the profile.
    pub condition: u16,
    /// How bad it is when this rule finds it.
    pub severity: Severity,
    /// Position of the point that it watches; silence watches the whole device and has none.
    pub point: Option<u16>,
    /// The rule.
    pub rule: Rule,
    /// The rule must hold so long before the condition is raised.
    pub hold: Duration,
    /// ... and in so many readings running.
    pub count: u16,
    /// It must be over so long before the condition is cleared.
    pub clear_hold: Duration,
    /// All of these must hold too.
    pub when: Vec<Guard>,
    /// When it watches; `None` for always. What is wrong at another time is fine.
    pub during: Option<During>,
    /// IANA name of the zone that its hours and days are of; `None` until the site's own is put in.
    pub zone: Option<String>,
    /// What it is called, so that another profile or an override can change it; or empty.
    pub name: String,
    /// What must be so around the device for it to find something.
    pub around: Option<Around>,
    /// Positions of conditions; while one of them stands, it finds nothing.
    pub unless: Vec<u16>,
}

impl Detector {
    /// Whether it asks for the hour or day at its place.
    pub fn goes_by_the_clock(&self) -> bool {
        let counts_nights = matches!(&self.rule, Rule::Load(Load { goal: LoadGoal::Outside { .. }, .. }));
        self.during.is_some()
            || counts_nights
            || matches!(
                self.rule,
                Rule::Deviation(_)
                    | Rule::Trend(_)
                    | Rule::Battery(_)
                    | Rule::Shift(_)
                    | Rule::Unusual(_)
                    | Rule::Frequency(_)
            )
    }
}

/// What a detector looks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rule {
    /// A number beyond a limit.
    Threshold {
        /// Which side is wrong.
        side: Side,
        /// At or beyond this it is raised.
        raise: f64,
        /// At or inside this it is cleared; between the two nothing changes.
        clear: f64,
        /// How a real change comes to the limit; `None` when any reading beyond the limit counts.
        approach: Option<Approach>,
    },
    /// One of these values.
    State {
        /// The values that are wrong.
        values: Vec<Value>,
    },
    /// A number that changes too fast.
    Rate {
        /// Which direction is wrong.
        side: Side,
        /// Change per `per`, in the point's unit, as a magnitude; raised at or above.
        raise: f64,
        /// Cleared at or below.
        clear: f64,
        /// The unit of time of the two limits.
        per: Duration,
        /// Readings further apart than this say nothing about the rate.
        gap_max: Duration,
        /// A change between two readings that is no change of what is measured: it does not count.
        jump: Option<Jump>,
    },
    /// A number that does not move.
    Flatline {
        /// Movement up to this, in the point's unit, counts as none.
        tolerance: f64,
        /// For so long.
        duration: Duration,
    },
    /// No frame at all.
    Silence {
        /// For so long, when given ...
        after: Option<Duration>,
        /// ... else for so many reporting intervals.
        missed: f64,
        /// Once its own habit is known, that counts instead.
        habit: Option<Habit>,
        /// It counts only behind a rise.
        rise: Option<Rise>,
    },
    /// A number that reaches a limit soon.
    Forecast(Forecast),
    /// A number that is far from what is usual at this hour.
    Deviation(Deviation),
    /// A number whose days go up or down for weeks.
    Trend(Trend),
    /// A number that is far from where it rests.
    Baseline(Baseline),
    /// A number that is as it never was before.
    Unusual(Unusual),
    /// A battery that comes to its end.
    Battery(Battery),
    /// Uplinks that never came.
    Losses(Losses),
    /// How much has come in a time.
    Amount(Amount),
    /// A contact or word that changes to and fro.
    Flapping(Flapping),
    /// A number that has left what it was, little by little.
    Shift(Shift),
    /// Events that are counted: far more than are usual at this hour of the week.
    Frequency(Frequency),
    /// Points that are wrong together, each test written on its own.
    Combination(Combination),
    /// The same, as an expression.
    Expression(Combination),
    /// A number that jumps and comes back.
    Spike(Spikes),
    /// A lamp that draws what it should not.
    Load(Load),
}

impl Rule {
    /// The rule's name in profiles.
    pub fn name(&self) -> &'static str {
        match self {
            Rule::Threshold { .. } => "threshold",
            Rule::State { .. } => "state",
            Rule::Rate { .. } => "rate",
            Rule::Flatline { .. } => "flatline",
            Rule::Silence { .. } => "silence",
            Rule::Forecast(_) => "forecast",
            Rule::Deviation(_) => "deviation",
            Rule::Trend(_) => "trend",
            Rule::Baseline(_) => "baseline",
            Rule::Frequency(_) => "frequency",
            Rule::Unusual(_) => "unusual",
            Rule::Battery(_) => "battery",
            Rule::Losses(_) => "losses",
            Rule::Amount(_) => "amount",
            Rule::Flapping(_) => "flapping",
            Rule::Shift(_) => "shift",
            Rule::Combination(_) => "combination",
            Rule::Expression(_) => "expression",
            Rule::Spike(_) => "spike",
            Rule::Load(_) => "load",
        }
    }

    /// What several points say together, of rules that ask for that.
    pub fn combination(&self) -> Option<&Combination> {
        match self {
            Rule::Combination(combination) | Rule::Expression(combination) => Some(combination),
            _ => None,
        }
    }
}

/// Water rises through the levels in between; a car that parks under a sensor does not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approach {
    /// Readings beyond this already count towards [`Detector::count`].
    pub from: f64,
    /// A reading behind a jump towards the limit is not believed until the value has moved from there.
    pub jump: Jump,
}

/// A change between two readings that is too large to be real. In a longer time more is real, by the root of the time:
/// what rises fast does not rise for long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jump {
    /// More than this is a jump, in the point's unit.
    pub over: f64,
    /// In this time; readings closer together are compared as if they were so far apart.
    pub per: Duration,
}

/// Which side of a limit is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Too high, or rising.
    Above,
    /// Too low, or falling.
    Below,
    /// Either direction (rate only).
    Either,
}

/// A further requirement on another point: its last reading must be good and pass the test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// Position of the point.
    pub point: u16,
    /// What must be true of it.
    pub test: GuardTest,
}

/// What a guard asks of a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GuardTest {
    /// Equal to this.
    Equals(Value),
    /// A number at or above this.
    Above(f64),
    /// A number at or below this.
    Below(f64),
    /// It had a value once and has none now: an echo that is lost.
    Lost,
    /// Its last reading is the value that the one before was, or it had only one: nothing was just switched.
    Unchanged,
    /// It has no good value: never had one, or none any more. For poles that do not measure their mains.
    Unknown,
}

/// A captured frame with what it must give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What it shows.
    pub name: String,
    /// The frame.
    pub input: SampleInput,
    /// The LoRaWAN port (FPort) that it came on.
    pub port: Option<u8>,
    /// The envelope that the frame stands in; `None` when it is what the device sent.
    pub envelope: Option<EnvelopeFormat>,
    /// Mount height to decode with, in mm, where a level is computed from a distance.
    pub mount_height_mm: Option<f64>,
    /// What it must give.
    pub expect: SampleExpectation,
}

/// The frame of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SampleInput {
    /// The payload as text (JSON, or something that should be and is not).
    Text(String),
    /// The payload as bytes.
    Bytes(Vec<u8>),
    /// Registers by table and address.
    Registers(crate::frame::RegisterRead),
}

/// A row of another time that a sample must give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRow {
    /// When it was taken.
    pub at: SampleTime,
    /// Point and value; `None` as value means missing or not good.
    pub values: Vec<(String, Option<Value>)>,
}

/// When a row of a sample was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SampleTime {
    /// Then.
    At(crate::Timestamp),
    /// So long before the frame's own readings.
    Before(Duration),
}

/// What a sample must give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SampleExpectation {
    /// These readings, by point name; `None` as value means missing or not good.
    Readings {
        /// Point and value.
        values: Vec<(String, Option<Value>)>,
        /// The device's own time, when the sample states it.
        observed_at: Option<crate::Timestamp>,
        /// Rows of other times, in the order of the frame; none are compared when the sample names none.
        history: Vec<SampleRow>,
        /// A part of what is remarked about the frame, when something is odd about it.
        remark: Option<String>,
    },
    /// It must be refused, with a message that contains this text.
    Error(String),
}
