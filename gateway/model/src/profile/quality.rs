//! What is tested of a point's readings, after the QARTOD manuals (U.S. IOOS, "Manual for Real-Time Quality Control"):
//! limits and spans, checked. The engine runs the tests; see `docs/detection.md`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{GuardTest, Range};
use crate::reading::Flag;

/// A point with a sensor fault is told of when so many readings running are not good ...
pub const FAULT_COUNT_DEFAULT: u8 = 5;
/// ... for at least this long.
pub const FAULT_AFTER_DEFAULT: Duration = Duration::from_secs(3_600);
/// A window of an attenuated signal holds no more readings: a day of reports every five minutes. 24 bytes each.
pub const WINDOW_READINGS_MAX: usize = 288;
/// A flat line is counted over no more readings than this: a week of reports every ten seconds.
pub const FLAT_READINGS_MAX: u32 = 65_535;
/// A reading is compared with no more neighbours than this.
pub const NEIGHBOURS_MAX: usize = 16;

/// The tests of one point. Without any, the range of the point is all that is tested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointQuality {
    /// Gross range: a value outside is suspect. The range of the point itself says what is bad.
    pub range: Option<Range>,
    /// What is usual at a time of the year or day; later seasons win.
    pub climatology: Vec<Season>,
    /// IANA name of the zone that months, weeks and hours are of; `None` until the site's own is put in.
    pub zone: Option<String>,
    /// A single value that stands out between its neighbours in time.
    pub spike: Option<Spike>,
    /// A change that is too fast.
    pub rate: Option<ChangeRate>,
    /// A value that does not move.
    pub flat: Option<Flat>,
    /// A signal that moves less than it should.
    pub attenuated: Option<Attenuated>,
    /// A reading that comes too long after the one before.
    pub gap: Option<Spans>,
    /// Far from what the devices of the same parent say.
    pub neighbours: Option<Neighbours>,
    /// The lowest value of the day moves away week by week. It flags no reading: it is a sensor fault only.
    pub drift: Option<Drift>,
    /// What other points of the device say of this one.
    pub valid_when: Vec<Validity>,
    /// When failing tests are a fault of the sensor.
    pub fault: FaultRule,
}

impl Default for PointQuality {
    fn default() -> PointQuality {
        PointQuality {
            range: None,
            climatology: Vec::new(),
            zone: None,
            spike: None,
            rate: None,
            flat: None,
            attenuated: None,
            gap: None,
            neighbours: None,
            drift: None,
            valid_when: Vec::new(),
            fault: FaultRule { after: FAULT_AFTER_DEFAULT, count: FAULT_COUNT_DEFAULT },
        }
    }
}

impl PointQuality {
    /// The tests of a point whose profile names none, by its canonical name.
    ///
    /// Water: the network FloodNet (New York) takes a rise of more than 10 inches (254 mm) in a minute for no water.
    pub fn of_kind(point: &str) -> PointQuality {
        let rate = match point {
            "level_mm" | "water_depth_mm" => {
                Some(ChangeRate { limits: Limits { suspect: Some(254.0), fail: None }, per: Duration::from_secs(60) })
            }
            _ => None,
        };
        PointQuality { rate, ..PointQuality::default() }
    }
}

/// What no value of a canonical point can be beyond, where its profile gives no range. Gases and water have none: a
/// reading beyond every scale may be the worst of them.
pub fn range_of_kind(point: &str) -> Option<Range> {
    let (min, max) = match point {
        "battery_percent" | "dimming_percent" | "o2_percent" => (0.0, 100.0),
        // Capacitive sensors in fog show up to some percent more than there can be.
        "humidity_percent" => (0.0, 110.0),
        "power_factor" => (-1.0, 1.0),
        "wind_direction_deg" => (0.0, 360.0),
        _ => return None,
    };
    Some(Range { min, max })
}

/// Beyond the first a reading is suspect, beyond the second bad. One of them is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// In the point's unit, above 0.
    pub suspect: Option<f64>,
    /// In the point's unit, not less than `suspect`.
    pub fail: Option<f64>,
}

/// The same for times. One of them is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spans {
    /// Above 0.
    pub suspect: Option<Duration>,
    /// Not less than `suspect`.
    pub fail: Option<Duration>,
}

/// What is usual at some time. Spans of time are inclusive, and those that end before they begin go over the turn of
/// the year or day.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Season {
    /// From 1 to 12.
    pub months: Option<(u8, u8)>,
    /// Weeks of ISO 8601, from 1 to 53.
    pub weeks: Option<(u8, u8)>,
    /// From 0 to 23.
    pub hours: Option<(u8, u8)>,
    /// Outside is suspect; both ends are inside.
    pub suspect: Range,
    /// Outside is bad; both ends are inside.
    pub fail: Option<Range>,
}

/// See [`PointQuality::spike`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spike {
    /// How far it stands out.
    pub method: SpikeMethod,
    /// Beyond these.
    pub limits: Limits,
}

/// How far a value stands out between the one before and the one behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpikeMethod {
    /// From the middle of the two. Also flags what stands beside a step.
    Average,
    /// The lesser of the two differences when they go in opposite directions.
    Differential,
}

/// See [`PointQuality::rate`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeRate {
    /// Change in `per`, as a magnitude.
    pub limits: Limits,
    /// The unit of time of the limits.
    pub per: Duration,
}

/// See [`PointQuality::flat`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flat {
    /// All values of the span lie closer together than this; above 0.
    pub tolerance: f64,
    /// For so long, counted in reports of the device's interval.
    pub spans: Spans,
}

/// See [`PointQuality::attenuated`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attenuated {
    /// How movement is measured.
    pub measure: Movement,
    /// Over this time up to the reading.
    pub window: Duration,
    /// With fewer readings in it nothing is said.
    pub count_min: u16,
    /// A movement less than `suspect` is suspect, less than `fail` bad: here `fail` is not more than `suspect`.
    pub limits: Limits,
}

/// How the movement of a signal is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Movement {
    /// Standard deviation of all values.
    Deviation,
    /// Largest less smallest value.
    Range,
}

/// See [`PointQuality::neighbours`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbours {
    /// Further than this from the middle value of the neighbours is suspect; in the point's unit, above 0.
    pub suspect: f64,
    /// Good readings of neighbours that are not older count.
    pub within: Duration,
    /// With fewer of them nothing is said; at least 2.
    pub count_min: u8,
}

/// See [`PointQuality::drift`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// The slope of the daily minima of 14 days is steeper than this; in the point's unit.
    pub per_week: f64,
    /// ... and amounts to more than this over the days that are known.
    pub total: f64,
}

/// A requirement on another point of the same device, by its last value that is known. A value that is not known
/// forbids nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// Position of the point.
    pub point: u16,
    /// What must be true of it.
    pub test: GuardTest,
    /// What the reading is otherwise: suspect or bad.
    pub otherwise: Flag,
}

/// When failing tests are a fault of the sensor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultRule {
    /// Readings are not good for so long ...
    pub after: Duration,
    /// ... and so many running, from 1 to 64.
    pub count: u8,
}
