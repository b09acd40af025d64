//! Positions between datums: the offset grid of Chinese internet maps (GCJ-02) and WGS84.
//!
//! The grid is a published approximation; its inverse is found by repeating the forward shift, which agrees with it
//! to centimetres. Outside of China the two are the same.

use std::f64::consts::PI;

use kerbside_model::Datum;

/// Semi-major axis of the Krasovsky 1940 ellipsoid in metres.
const AXIS_M: f64 = 6_378_245.0;
/// Square of its first eccentricity.
const ECCENTRICITY_SQUARED: f64 = 0.006_693_421_622_965_943;
/// Each round divides the error by about a thousand.
const ROUNDS: usize = 4;

/// Longitude and latitude in WGS84.
pub fn to_wgs84(position: (f64, f64), datum: Datum) -> (f64, f64) {
    match datum {
        Datum::Wgs84 => position,
        Datum::Gcj02 => gcj02_to_wgs84(position),
    }
}

fn gcj02_to_wgs84(shifted: (f64, f64)) -> (f64, f64) {
    if !is_in_china(shifted) {
        return shifted;
    }
    let mut guess = shifted;
    for _ in 0..ROUNDS {
        let (east, north) = shift(guess);
        guess = (shifted.0 - east, shifted.1 - north);
    }
    guess
}

/// The box within which the grid is applied.
fn is_in_china((longitude, latitude): (f64, f64)) -> bool {
    (72.004..=137.8347).contains(&longitude) && (0.8293..=55.8271).contains(&latitude)
}

/// How far the grid moves a WGS84 position, in degrees.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wgs84_to_gcj02(position: (f64, f64)) -> (f64, f64) {
        let (east, north) = shift(position);
        (position.0 + east, position.1 + north)
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same_place(longitude in 73.5..135.0, latitude in 18.0..53.5) {
            let (back_longitude, back_latitude) = gcj02_to_wgs84(wgs84_to_gcj02((longitude, latitude)));
            // 1e-6 degrees are 11 centimetres, the last digit that is sent.
            prop_assert!((back_longitude - longitude).abs() < 1e-6);
            prop_assert!((back_latitude - latitude).abs() < 1e-6);
        }
    }

    #[test]
    fn the_shift_in_beijing_is_what_maps_show() {
        // Tian'anmen: a few hundred metres to the north-east, as every map overlay shows.
        let (longitude, latitude) = gcj02_to_wgs84((116.397_428, 39.909_23));
        assert!((116.390..116.392).contains(&longitude), "{longitude}");
        assert!((39.907..39.909).contains(&latitude), "{latitude}");
    }

    #[test]
    fn nothing_is_moved_outside_of_china_or_in_wgs84() {
        assert_eq!(to_wgs84((2.35, 48.85), Datum::Gcj02), (2.35, 48.85));
        assert_eq!(to_wgs84((116.39, 39.9), Datum::Wgs84), (116.39, 39.9));
    }
}
