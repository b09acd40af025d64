//! The weather over a neighbourhood: the same storms for all, stronger here and weaker there.

use std::time::Duration;

use fastrand::Rng;
use kerbside_model::Timestamp;

use super::super::Span;
use crate::noise::draw;
use crate::weather::{Storm, air_temperature_c, illuminance_lx};

/// A storm reaches its neighbourhoods within this time of one another.
const PASSES_WITHIN: Duration = Duration::from_secs(1_800);

/// Rain, wind and air from the first day to the last.
#[derive(Debug)]
pub(super) struct Sky {
    /// In the order of time; never empty, the last one may lie behind the end.
    storms: Vec<Storm>,
}

impl Sky {
    /// Storms that begin about these moments.
    pub(super) fn new(begins: &[Timestamp], span: Span, chance: &mut Rng) -> Sky {
        let mut storms: Vec<Storm> = Vec::new();
        for begin in begins {
            let onset = begin.plus(PASSES_WITHIN.mul_f64(draw(chance, 0.0, 1.0)));
            storms.push(Storm::new(onset, chance));
        }
        storms.push(Storm::new(span.until.plus(PASSES_WITHIN), chance));
        storms.sort_by_key(|storm| storm.onset);
        Sky { storms }
    }

    /// The storm that is over the place, or the next one.
    fn storm(&self, at: Timestamp) -> &Storm {
        let next = self.storms.iter().find(|storm| storm.end() > at);
        next.unwrap_or_else(|| self.storms.last().expect("there is a storm behind the end"))
    }

    /// When storms begin.
    pub(super) fn onsets(&self) -> impl Iterator<Item = Timestamp> {
        self.storms.iter().map(|storm| storm.onset)
    }

    /// The storms, and so much behind each.
    pub(super) fn spans(&self, behind: Duration) -> Vec<Span> {
        self.storms.iter().map(|storm| Span { from: storm.onset, until: storm.end().plus(behind) }).collect()
    }

    pub(super) fn rain_mm_h(&self, at: Timestamp) -> f64 {
        self.storm(at).rain_mm_h(at)
    }

    /// From 0 for dry ground to 1 in the heaviest rain; dries within some hours.
    pub(super) fn wetness(&self, at: Timestamp) -> f64 {
        let wet = |storm: &Storm| {
            if storm.raining(at) {
                return storm.darkness(at).max(0.5);
            }
            if at < storm.onset { 0.0 } else { 0.8 * (-at.since(storm.end()).as_secs_f64() / 7_200.0).exp() }
        };
        self.storms.iter().map(wet).fold(0.0, f64::max)
    }

    pub(super) fn temperature_c(&self, at: Timestamp) -> f64 {
        air_temperature_c(self.storm(at), at)
    }

    pub(super) fn illuminance_lx(&self, at: Timestamp) -> f64 {
        illuminance_lx(self.storm(at), at)
    }

    /// A breeze, gusts in a storm.
    pub(super) fn wind_m_s(&self, at: Timestamp, chance: &mut Rng) -> f64 {
        let storm = self.storm(at);
        draw(chance, 0.6, 4.0) + storm.darkness(at) * draw(chance, 3.0, 8.0)
    }
}
