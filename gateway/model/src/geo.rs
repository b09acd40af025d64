//! Positions between datums: WGS84, CGCS2000, and the two shifted grids of Chinese internet maps, GCJ-02 and BD-09.
//!
//! Turns a longitude and latitude of one datum into those of another. Positions are kept as they were given and only
//! converted where they leave the system: towards a platform, the API, the console, GeoJSON and an exported table.
//! Nothing is kept; there are no metrics.
//!
//! CGCS2000 counts as WGS84: its ellipsoid differs only in the flattening (1/298.257222101 against 1/298.257223563,
//! which is 0.1 mm at the surface), and its frame ITRF97 at epoch 2000.0 is a few decimetres from today's WGS84,
//! because the plates have moved; a component is surveyed to 0.5 m or 1 m.
//! GCJ-02 is a published approximation without an official text; its inverse is found by repeating the forward shift.
//! BD-09 turns and moves GCJ-02 once more. Outside of China none of them is shifted.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// Semi-major axis of the Krasovsky 1940 ellipsoid in metres.
const AXIS_M: f64 = 6_378_245.0;
/// Square of its first eccentricity.
const ECCENTRICITY_SQUARED: f64 = 0.006_693_421_622_965_943;
/// Each round divides the error by about a thousand; the first one is a few hundred metres.
const ROUNDS: usize = 5;
/// BD-09 moves GCJ-02 by so much, in degrees of longitude and latitude.
const BD09_OFFSET: (f64, f64) = (0.0065, 0.006);
/// The waves in BD-09 have this many periods in 180 degrees, times half a turn.
const BD09_WAVES: f64 = PI * 3_000.0 / 180.0;

/// The datum of a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Datum {
    /// GPS, Open311, GeoJSON.
    #[default]
    Wgs84,
    /// The shifted grid of Chinese internet maps (火星坐标).
    Gcj02,
    /// China Geodetic Coordinate System 2000, which the data schemas of city management ask for. Behind the others,
    /// because stored sites name variants by their position.
    Cgcs2000,
    /// The grid of Baidu's maps (百度坐标).
    Bd09,
}

impl Datum {
    /// Every datum, with the names that spreadsheets and people use; the first one is ours.
    pub const NAMES: [(Datum, &[&str]); 4] = [
        (Datum::Wgs84, &["wgs84", "wgs-84", "wgs1984", "epsg:4326", "gps"]),
        (Datum::Gcj02, &["gcj02", "gcj-02", "火星坐标", "火星坐标系", "国测局坐标", "高德", "腾讯"]),
        (
            Datum::Cgcs2000,
            &["cgcs2000", "cgcs-2000", "epsg:4490", "国家2000", "2000国家大地坐标系", "大地2000", "国家大地2000"],
        ),
        (Datum::Bd09, &["bd09", "bd-09", "bd09ll", "百度", "百度坐标", "百度坐标系"]),
    ];

    /// Its name in configuration, files and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Datum::Wgs84 => "wgs84",
            Datum::Gcj02 => "gcj02",
            Datum::Cgcs2000 => "cgcs2000",
            Datum::Bd09 => "bd09",
        }
    }

    /// The datum of a word in a table, whatever its case.
    pub fn of_word(word: &str) -> Option<Datum> {
        let word = word.to_lowercase();
        Datum::NAMES.iter().find(|(_, names)| names.contains(&word.as_str())).map(|(datum, _)| *datum)
    }
}

/// A longitude and latitude in degrees, moved from one datum to another. A position of the same frame comes back bit by
/// bit.
pub fn convert(position: (f64, f64), from: Datum, to: Datum) -> (f64, f64) {
    let frame = |datum| if datum == Datum::Cgcs2000 { Datum::Wgs84 } else { datum };
    if frame(from) == frame(to) || !is_in_china(position) {
        return position;
    }
    let gcj02 = match from {
        Datum::Wgs84 | Datum::Cgcs2000 => forward(position),
        Datum::Gcj02 => position,
        Datum::Bd09 => inverse(position, bd09_shift),
    };
    match to {
        Datum::Wgs84 | Datum::Cgcs2000 => inverse(gcj02, shift),
        Datum::Gcj02 => gcj02,
        Datum::Bd09 => {
            let (east, north) = bd09_shift(gcj02);
            (gcj02.0 + east, gcj02.1 + north)
        }
    }
}

fn forward(position: (f64, f64)) -> (f64, f64) {
    let (east, north) = shift(position);
    (position.0 + east, position.1 + north)
}

/// The position that a shift moves to the given one.
fn inverse(shifted: (f64, f64), shift: fn((f64, f64)) -> (f64, f64)) -> (f64, f64) {
    let mut guess = shifted;
    for _ in 0..ROUNDS {
        let (east, north) = shift(guess);
        guess = (shifted.0 - east, shifted.1 - north);
    }
    guess
}

/// The box within which the grids are applied.
fn is_in_china((longitude, latitude): (f64, f64)) -> bool {
    (72.004..=137.8347).contains(&longitude) && (0.8293..=55.8271).contains(&latitude)
}

/// How far GCJ-02 moves a WGS84 position, in degrees.
fn shift((longitude, latitude): (f64, f64)) -> (f64, f64) {
    let (x, y) = (longitude - 105.0, latitude - 35.0);
    let radians = latitude / 180.0 * PI;
    let magic = 1.0 - ECCENTRICITY_SQUARED * radians.sin().powi(2);
    let meridian = AXIS_M * (1.0 - ECCENTRICITY_SQUARED) / (magic * magic.sqrt());
    let parallel = AXIS_M / magic.sqrt() * radians.cos();
    (east_m(x, y) * 180.0 / (parallel * PI), north_m(x, y) * 180.0 / (meridian * PI))
}

fn east_m(x: f64, y: f64) -> f64 {
    let base = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * x.abs().sqrt();
    let short = 20.0 * (6.0 * x * PI).sin() + 20.0 * (2.0 * x * PI).sin();
    let middle = 20.0 * (x * PI).sin() + 40.0 * (x / 3.0 * PI).sin();
    let long = 150.0 * (x / 12.0 * PI).sin() + 300.0 * (x / 30.0 * PI).sin();
    base + (short + middle + long) * 2.0 / 3.0
}

fn north_m(x: f64, y: f64) -> f64 {
    let base = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * x.abs().sqrt();
    let short = 20.0 * (6.0 * x * PI).sin() + 20.0 * (2.0 * x * PI).sin();
    let middle = 20.0 * (y * PI).sin() + 40.0 * (y / 3.0 * PI).sin();
    let long = 160.0 * (y / 12.0 * PI).sin() + 320.0 * (y * PI / 30.0).sin();
    base + (short + middle + long) * 2.0 / 3.0
}

/// How far BD-09 moves a GCJ-02 position, in degrees.
fn bd09_shift((longitude, latitude): (f64, f64)) -> (f64, f64) {
    let far = longitude.hypot(latitude) + 0.000_02 * (latitude * BD09_WAVES).sin();
    let angle = latitude.atan2(longitude) + 0.000_003 * (longitude * BD09_WAVES).cos();
    (far * angle.cos() + BD09_OFFSET.0 - longitude, far * angle.sin() + BD09_OFFSET.1 - latitude)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Datum; 4] = [Datum::Wgs84, Datum::Gcj02, Datum::Cgcs2000, Datum::Bd09];

    /// Metres between two positions that are near each other.
    fn metres(one: (f64, f64), other: (f64, f64)) -> f64 {
        let east = (one.0 - other.0) * 111_320.0 * one.1.to_radians().cos();
        east.hypot((one.1 - other.1) * 110_574.0)
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same_place(longitude in 73.5..135.0, latitude in 18.0..53.5) {
            let place = (longitude, latitude);
            for (from, to) in ALL.into_iter().flat_map(|from| ALL.map(|to| (from, to))) {
                let back = convert(convert(place, from, to), to, from);
                prop_assert!(metres(back, place) < 0.1, "{from:?} to {to:?}: {back:?}");
            }
        }
    }

    #[test]
    fn published_pairs_of_positions_agree() {
        // Pairs as the test data of public converters have them, whose constants differ in the last metre.
        let pairs = [
            ((121.527_210_6, 31.177_427_6), (121.531_541_859_215, 31.175_303_983_645_97)),
            ((113.912_316, 22.543_847), (113.917_176_480_836_3, 22.540_796_131_694_766)),
            ((116.377_817, 39.911_954), (116.384_047_224_556_57, 39.913_345_455_360_69)),
            ((116.404, 39.915), (116.410_244_499_169_38, 39.916_404_281_501_64)),
        ];
        for (wgs84, gcj02) in pairs {
            let away = metres(convert(wgs84, Datum::Wgs84, Datum::Gcj02), gcj02);
            assert!(away < 1.0, "{wgs84:?} is {away} m away");
            let away = metres(convert(gcj02, Datum::Gcj02, Datum::Cgcs2000), wgs84);
            assert!(away < 1.0, "{gcj02:?} is {away} m away");
        }
        let bd09 = convert((116.404, 39.915), Datum::Gcj02, Datum::Bd09);
        assert!(metres(bd09, (116.410_369_493_710_29, 39.921_336_993_510_21)) < 0.01, "{bd09:?}");
        let gcj02 = convert((116.404, 39.915), Datum::Bd09, Datum::Gcj02);
        assert!(metres(gcj02, (116.397_627_291_193_15, 39.908_656_739_576_31)) < 1.0, "{gcj02:?}");
    }

    #[test]
    fn nothing_is_moved_outside_of_china_or_within_one_frame() {
        for (from, to) in ALL.into_iter().flat_map(|from| ALL.map(|to| (from, to))) {
            assert_eq!(convert((2.35, 48.85), from, to), (2.35, 48.85));
        }
        assert_eq!(convert((116.39, 39.9), Datum::Wgs84, Datum::Cgcs2000), (116.39, 39.9));
        assert_eq!(convert((116.39, 39.9), Datum::Bd09, Datum::Bd09), (116.39, 39.9));
    }

    #[test]
    fn a_datum_is_known_by_the_words_of_spreadsheets() {
        for (datum, names) in Datum::NAMES {
            assert_eq!(names[0], datum.name());
            assert!(names.iter().all(|name| Datum::of_word(name) == Some(datum)), "{names:?}");
            assert_eq!(serde_json::to_value(datum).unwrap(), datum.name());
        }
        assert_eq!(Datum::of_word("WGS-84"), Some(Datum::Wgs84));
        assert_eq!(Datum::of_word("CGCS2000"), Some(Datum::Cgcs2000));
        assert_eq!(Datum::of_word("beijing54"), None);
    }
}
