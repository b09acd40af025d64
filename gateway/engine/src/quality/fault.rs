//! Sensor faults: readings that are not good, one after another or again and again, and what such a fault is called.

use kerbside_model::profile::FaultRule;
use kerbside_model::{Cause, Flag, PointReading, Timestamp, Value};
use serde::{Deserialize, Serialize};

/// A point whose readings come and go between good and not good has a fault when so many of its last 64 were not ...
const RECURRING: u32 = 16;
/// ... in so many turns.
const TURNS: u32 = 4;

/// What one reading says of its sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Good,
    /// Why not, and whether the value is below zero.
    Wrong(Cause, bool),
    /// Nothing: the bus, not the sensor, failed.
    Nothing,
}

impl Seen {
    pub(super) fn of(reading: &PointReading) -> Seen {
        let quality = reading.quality;
        let is_negative = reading.value.as_ref().and_then(Value::as_number).is_some_and(|number| number < 0.0);
        match (quality.flag, quality.cause) {
            (Flag::Good | Flag::NotEvaluated, _) | (_, Cause::Rounded) => Seen::Good,
            (Flag::Missing, Cause::Invalid) | (Flag::Suspect | Flag::Bad, _) => Seen::Wrong(quality.cause, is_negative),
            (Flag::Missing, _) => Seen::Nothing,
        }
    }
}

/// The last readings of a point of which some were not good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FaultTrack {
    pub(super) point: u16,
    /// A bit for each of the last 64 readings, the last one lowest: set when it was not good.
    wrong: u64,
    /// When those that were not good began to follow one another.
    since: Timestamp,
    cause: Cause,
    is_negative: bool,
    /// Since when it drifts.
    drifts_since: Option<Timestamp>,
}

/// A fault that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) point: u16,
    pub(crate) what: FaultKind,
    pub(crate) since: Timestamp,
    /// How many of the last 64 readings were not good.
    pub(crate) wrong: u32,
}

/// What a fault looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// It drifts.
    Drift,
    /// What most readings say that are not good; and whether they are below zero.
    Readings(Cause, bool),
}

impl FaultTrack {
    /// Begins with a reading that is not good.
    pub(super) fn begin(point: u16, seen: Seen, at: Timestamp) -> Option<FaultTrack> {
        let Seen::Wrong(cause, is_negative) = seen else { return None };
        Some(FaultTrack { point, wrong: 1, since: at, cause, is_negative, drifts_since: None })
    }

    pub(super) fn drifting(point: u16, at: Timestamp) -> FaultTrack {
        FaultTrack { point, wrong: 0, since: at, cause: Cause::None, is_negative: false, drifts_since: Some(at) }
    }

    pub(super) fn take(&mut self, seen: Seen, at: Timestamp) {
        match seen {
            Seen::Nothing => {}
            Seen::Good => self.wrong <<= 1,
            Seen::Wrong(cause, is_negative) => {
                if self.wrong & 1 == 0 {
                    self.since = at;
                }
                self.wrong = self.wrong << 1 | 1;
                (self.cause, self.is_negative) = (cause, is_negative);
            }
        }
    }

    /// The last reading was good after all.
    pub(super) fn forgive_last(&mut self) {
        self.wrong &= !1;
    }

    pub(super) fn set_drift(&mut self, drifts: bool, at: Timestamp) {
        self.drifts_since = drifts.then(|| self.drifts_since.unwrap_or(at));
    }

    pub(super) fn is_over(&self) -> bool {
        self.wrong == 0 && self.drifts_since.is_none()
    }

    /// The last eight readings are good; of what comes and goes fewer than half as many were not as are a fault.
    pub(super) fn is_mended(&self) -> bool {
        let has_stayed_away = self.turns() < TURNS || self.wrong.count_ones() < RECURRING / 2;
        self.wrong & 0xFF == 0 && has_stayed_away && self.drifts_since.is_none()
    }

    /// How often readings became wrong.
    fn turns(&self) -> u32 {
        (self.wrong & !(self.wrong << 1)).count_ones()
    }

    pub(super) fn standing(&self, rule: FaultRule, now: Timestamp) -> Option<Fault> {
        let (point, wrong) = (self.point, self.wrong.count_ones());
        if let Some(since) = self.drifts_since {
            return Some(Fault { point, what: FaultKind::Drift, since, wrong });
        }
        let lasts = self.wrong.trailing_ones() >= u32::from(rule.count) && now.since(self.since) >= rule.after;
        let comes_and_goes = wrong >= RECURRING && self.turns() >= TURNS;
        (lasts || comes_and_goes).then_some(Fault {
            point,
            what: FaultKind::Readings(self.cause, self.is_negative),
            since: self.since,
            wrong,
        })
    }

    pub(super) fn forget_future(&mut self, now: Timestamp) {
        self.since = self.since.min(now);
        self.drifts_since = self.drifts_since.map(|since| since.min(now));
    }
}

/// What is wrong with the sensor, in English and Chinese.
pub(crate) fn fault_words(what: FaultKind) -> (&'static str, &'static str) {
    let FaultKind::Readings(cause, is_negative) = what else {
        return ("drifts: its daily lows move away week by week", "零点漂移：日最低值逐周偏移");
    };
    match cause {
        Cause::FlatLine => ("stuck: it does not move", "卡死：读数不变"),
        Cause::Attenuated => ("damped: it moves too little, as under silt or condensation", "信号衰减：疑似淤堵或结露"),
        Cause::Spike => ("blips: single values stand out", "跳变：个别读数突出"),
        Cause::RateOfChange => (
            "jumps: it changes too fast, as with condensation or something parked below",
            "突变：疑似结露或有物体停放遮挡",
        ),
        Cause::Range if is_negative => ("below its range: a dry offset, or a sign", "低于量程：零点偏移或符号有误"),
        Cause::Range => ("beyond its range: saturated, or another unit or field", "超出量程：饱和，或单位、字段有误"),
        Cause::Type => ("of another type: fields are swapped", "类型不符：字段错位"),
        Cause::Climatology => ("unusual for the season or hour", "不符合该时节规律"),
        Cause::Gap => ("comes with long gaps", "读数间隔过长"),
        Cause::Neighbours => ("unlike its neighbours", "与邻近设备不符"),
        Cause::Invalid | Cause::DeviceFlag => ("distrusted by the device itself", "设备自报不可信"),
        _ => ("not good", "读数异常"),
    }
}
