//! Turns the onset of a storm into rain, wind, air and water at any time.
//!
//! Pure functions; nothing is kept and there are no metrics.

use std::time::Duration;

use kerbside_model::Timestamp;

use crate::noise::{Noise, draw};

/// Rain of one heavy summer storm in mm per 5 minutes: 33 mm in the heaviest hour and 8.2 mm in the heaviest
/// 5 minutes, the largest that the Astlingen series has for either (60 min: 13 to 34 mm, 5 min: up to 8.24 mm).
const STORM_MM_PER_5_MIN: [f64; 11] = [1.4, 5.7, 8.2, 6.3, 4.5, 2.9, 1.7, 1.1, 0.7, 0.4, 0.2];
const BIN: Duration = Duration::from_secs(300);

/// Hours from UTC to the time that the district lives by.
const LOCAL_HOURS: f64 = 8.0;

/// One storm over the whole district.
#[derive(Clone, Debug)]
pub(crate) struct Storm {
    pub(crate) onset: Timestamp,
    strength: f64,
}

impl Storm {
    /// A storm that begins at `onset`, between three quarters and all of the heaviest.
    pub(crate) fn new(onset: Timestamp, generator: &mut fastrand::Rng) -> Storm {
        Storm { onset, strength: draw(generator, 0.75, 1.0) }
    }

    /// When the last rain falls.
    pub(crate) fn end(&self) -> Timestamp {
        self.onset.plus(BIN * STORM_MM_PER_5_MIN.len() as u32)
    }

    /// Whether rain falls.
    pub(crate) fn raining(&self, time: Timestamp) -> bool {
        time >= self.onset && time < self.end()
    }

    /// Rain in mm per hour, running straight from the middle of one five-minute bin to the next.
    pub(crate) fn rain_mm_h(&self, time: Timestamp) -> f64 {
        if !self.raining(time) {
            return 0.0;
        }
        let place = time.since(self.onset).as_secs_f64() / BIN.as_secs_f64() - 0.5;
        let bin = |index: f64| {
            if index < 0.0 { 0.0 } else { STORM_MM_PER_5_MIN.get(index as usize).copied().unwrap_or(0.0) }
        };
        let share = place - place.floor();
        12.0 * self.strength * (bin(place.floor()) * (1.0 - share) + bin(place.floor() + 1.0) * share)
    }

    /// Rain since the onset in mm.
    pub(crate) fn fallen_mm(&self, time: Timestamp) -> f64 {
        let mut left = time.since(self.onset).as_secs_f64() / BIN.as_secs_f64();
        let mut fallen = 0.0;
        for bin in STORM_MM_PER_5_MIN {
            fallen += bin * left.clamp(0.0, 1.0);
            left -= 1.0;
        }
        fallen * self.strength
    }

    /// From 0, dry, to 1, the heaviest rain of a storm.
    pub(crate) fn darkness(&self, time: Timestamp) -> f64 {
        (self.rain_mm_h(time) / 100.0).min(1.0)
    }
}

/// The hour of the day in local time, from 0 up to 24.
pub(crate) fn local_hour(time: Timestamp) -> f64 {
    (time.0 as f64 / 3_600_000.0 + LOCAL_HOURS).rem_euclid(24.0)
}

/// Whether street lamps burn.
pub(crate) fn lamps_burn(time: Timestamp) -> bool {
    let hour = local_hour(time);
    !(5.5..18.75).contains(&hour)
}

/// Air temperature in degrees C of a summer day: warmest at three in the afternoon, cooler in rain.
pub(crate) fn air_temperature_c(storm: &Storm, time: Timestamp) -> f64 {
    let daily = ((local_hour(time) - 15.0) / 24.0 * std::f64::consts::TAU).cos();
    26.0 + 4.5 * daily - 5.0 * storm.darkness(time)
}

/// Daylight in lux.
pub(crate) fn illuminance_lx(storm: &Storm, time: Timestamp) -> f64 {
    let height = ((local_hour(time) - 6.0) / 12.0 * std::f64::consts::PI).sin().max(0.0);
    15.0 + 70_000.0 * height * (1.0 - 0.85 * storm.darkness(time))
}

/// Wind in m/s: a breeze, gusts in the storm.
pub(crate) fn wind_m_s(storm: &Storm, noise: Noise, time: Timestamp) -> f64 {
    let calm = noise.between(time, 0.6, 2.8);
    calm + storm.darkness(time) * noise.part(1).between(time, 3.0, 7.0)
}

/// Dry-weather flow against its daily mean: 0.62 about eight in the morning to 1.22 at midnight, as a combined
/// sewer in the Detroit area has it.
pub(crate) fn diurnal_factor(time: Timestamp) -> f64 {
    0.92 + 0.3 * ((local_hour(time) - 20.0 - 1.0) / 24.0 * std::f64::consts::TAU).cos()
}

/// How water answers a storm at one place, in mm above its dry level.
#[derive(Clone, Debug)]
pub(crate) enum Rise {
    /// An ordinary rise to `peak_mm` in `rise` after `onset`.
    Gentle { onset: Timestamp, rise: Duration, peak_mm: f64, recession: Duration },
    /// A street flood as FloodNet measured them: 150 mm after 7.4 minutes and 270 mm 5.2 minutes later (medians of
    /// 87 and 41 rain-driven events), then on to the peak.
    Surge { onset: Timestamp, peak_mm: f64, recession: Duration },
}

const TO_150_MM_MIN: f64 = 7.4;
const FROM_150_TO_270_MM_MIN: f64 = 5.2;

impl Rise {
    /// Height above the dry level in mm.
    pub(crate) fn height_mm(&self, time: Timestamp) -> f64 {
        let (onset, peak_mm, recession) = match self {
            Rise::Gentle { onset, peak_mm, recession, .. } | Rise::Surge { onset, peak_mm, recession } => {
                (*onset, *peak_mm, *recession)
            }
        };
        if time <= onset {
            return 0.0;
        }
        let peak_min = self.minutes_to_peak();
        let minutes = time.since(onset).as_secs_f64() / 60.0;
        if minutes < peak_min {
            return self.climb_mm(minutes, peak_min);
        }
        // Drain time is the time to a twentieth of the peak, so three time constants.
        peak_mm * (-3.0 * (minutes - peak_min) * 60.0 / recession.as_secs_f64()).exp()
    }

    fn minutes_to_peak(&self) -> f64 {
        match self {
            Rise::Gentle { rise, .. } => rise.as_secs_f64() / 60.0,
            Rise::Surge { peak_mm, .. } => {
                let speed = 120.0 / FROM_150_TO_270_MM_MIN;
                if *peak_mm <= 150.0 {
                    return TO_150_MM_MIN * peak_mm / 150.0;
                }
                TO_150_MM_MIN + (peak_mm - 150.0) / speed
            }
        }
    }

    fn climb_mm(&self, minutes: f64, peak_min: f64) -> f64 {
        match self {
            Rise::Gentle { peak_mm, .. } => peak_mm * (minutes / peak_min * std::f64::consts::FRAC_PI_2).sin().powi(2),
            Rise::Surge { .. } if minutes <= TO_150_MM_MIN => 150.0 * minutes / TO_150_MM_MIN,
            Rise::Surge { .. } => 150.0 + (minutes - TO_150_MM_MIN) * 120.0 / FROM_150_TO_270_MM_MIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(number: f64) -> Timestamp {
        Timestamp((number * 60_000.0) as i64)
    }

    #[test]
    fn a_storm_brings_what_the_heaviest_hours_on_record_brought() {
        let storm = Storm { onset: minutes(10.0), strength: 1.0 };
        assert_eq!(storm.rain_mm_h(minutes(9.9)), 0.0);
        let peak = (0..60).map(|minute| storm.rain_mm_h(minutes(10.0 + f64::from(minute)))).fold(0.0, f64::max);
        assert!((90.0..=99.0).contains(&peak), "{peak} mm/h");
        let hour = storm.fallen_mm(minutes(70.0));
        assert!((32.0..34.5).contains(&hour), "{hour} mm");
        assert!(!storm.raining(minutes(66.0)));
    }

    #[test]
    fn a_surge_passes_150_and_270_mm_when_the_median_flood_did() {
        let surge = Rise::Surge { onset: minutes(0.0), peak_mm: 350.0, recession: Duration::from_secs(1_800) };
        assert!((surge.height_mm(minutes(7.4)) - 150.0).abs() < 1.0);
        assert!((surge.height_mm(minutes(12.6)) - 270.0).abs() < 1.0);
        let peak = (0..90).map(|minute| surge.height_mm(minutes(f64::from(minute) / 2.0))).fold(0.0, f64::max);
        assert!((340.0..=350.5).contains(&peak), "{peak} mm");
        assert!(surge.height_mm(minutes(60.0)) < 20.0);
    }

    #[test]
    fn flow_is_lowest_in_the_morning() {
        let eight = Timestamp(0);
        let evening = minutes(13.0 * 60.0);
        assert!((local_hour(eight) - 8.0).abs() < 1e-9);
        assert!(diurnal_factor(eight) < 0.7 && diurnal_factor(evening) > 1.2);
    }
}
