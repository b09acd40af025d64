//! Wells at which the water does what it does elsewhere, and the sensor does not: things under it, a clock that is wrong,
//! a zero that falls, a radio that drowns.

use std::time::Duration;

use kerbside_model::Timestamp;

use super::super::{Messages, Radio};
use super::{Basin, DAY, HOUR, MINUTE, STEP, Says, Span, Trap, Wants, between};

/// Below this a level is no noise (the profile's own test of quality begins at -50 mm).
const FAR_BELOW_MM: f64 = 60.0;
/// A radio at the cover drowns beyond this depth, mm.
const DROWNS_MM: f64 = 220.0;

impl Basin {
    /// Parked cars, bins and rubbish for minutes to hours, and condensation: two or three readings of a near distance.
    /// As often as the suite of floods has them.
    pub(super) fn junk(&mut self, downstream: &str) {
        let mut well = self.well("junk", downstream);
        let mut things = Vec::new();
        let mut from = super::START.plus(DAY * 11);
        while from.plus(DAY * 2) < super::START.plus(self.scenario.length) {
            let is_box = self.chance.bool();
            let (kind, length, height) = if is_box {
                let length = MINUTE.mul_f64(between(&mut self.chance, 10.0, 480.0));
                ("a parked car or rubbish", length, between(&mut self.chance, 150.0, 1_500.0))
            } else {
                let length = STEP.mul_f64(between(&mut self.chance, 1.9, 2.9));
                ("condensation", length, between(&mut self.chance, 400.0, 3_000.0))
            };
            let span = Span::of(from, length);
            things.push((span, height));
            let until = span.until.plus(HOUR);
            // What stands still under a sensor is a fault of it, and what lies there for hours is work for a crew.
            self.note(&well.id, "", &["sensor_fault", "blocked"], (Span { until, ..span }, until), Wants::Nothing);
            let conditions = vec!["surcharged", "surging", "overflow_soon", "backwater"];
            self.scenario.traps.push(Trap { kind, devices: vec![well.id.clone()], conditions, span });
            from = from.plus(DAY.mul_f64(between(&mut self.chance, 1.0, 3.0)));
        }
        well.says = Says::Things(things);
        self.add(well);
    }

    /// Messages that come hours late, twice and out of order, and some with the time of 1970 or of the day after tomorrow.
    pub(super) fn wild_clock(&mut self, downstream: &str) {
        let mut well = self.well("clock", downstream);
        well.radio = Radio { twice: 0.05, late: 0.05, late_max: HOUR * 6, ..well.radio };
        let span = Span::of(super::START, self.scenario.length);
        self.scenario.traps.push(Trap {
            kind: "messages late, twice and with a wrong clock",
            devices: vec![well.id.clone()],
            conditions: ["blocked", "backwater", "out_of_water", "sensor_stuck", "silent"].to_vec(),
            span,
        });
        self.add(well);
        let Some(sender) = self.scenario.senders.last_mut() else { return };
        let mut chance = fastrand::Rng::with_seed(self.chance.u64(..));
        let messages = std::mem::replace(&mut sender.messages, Messages::written(Vec::new()));
        sender.messages = Messages(Box::new(messages.map(move |mut message| {
            match chance.u32(..200) {
                0 => message.observed_at = Timestamp(chance.i64(0..86_400_000)),
                1 => message.observed_at = message.observed_at.plus(DAY * 2),
                _ => {}
            }
            message
        })));
    }

    /// A hydrostatic probe whose zero falls until what it says can be no level any more.
    pub(super) fn falling_zero(&mut self, downstream: &str) {
        let mut well = self.well("zero", downstream);
        let a_day = between(&mut self.chance, 12.0, 30.0);
        // The highest water of a dry day, and the noise.
        let days = (1.4 * well.dry_mm + FAR_BELOW_MM) / a_day;
        let from = self.moment(DAY.mul_f64(days + 3.0));
        well.says = Says::Falls(from, a_day);
        let due = from.plus(DAY.mul_f64(days + 1.0));
        let span = Span { from, until: super::START.plus(self.scenario.length) };
        self.note(&well.id, "zero falls", &["sensor_fault"], (span, due), Wants::Alarm);
        self.note(&well.id, "", &["out_of_water"], (span, span.until), Wants::Nothing);
        self.add(well);
    }

    /// A well that fills fast in a storm, and whose radio drowns with it.
    pub(super) fn drowned(&mut self, downstream: &str) {
        let mut well = self.well("drowned", downstream);
        well.gain = between(&mut self.chance, 25.0, 40.0);
        let learnt = super::START.plus(DAY * 6);
        for wet in self.sky.wet_spans() {
            let steps = u32::try_from(wet.until.since(wet.from).as_secs() / STEP.as_secs()).unwrap_or(u32::MAX);
            let mut moments = (0..steps).map(|step| wet.from.plus(STEP * step));
            let Some(from) = moments.find(|at| well.depth_mm(*at, &self.sky) >= DROWNS_MM).filter(|at| *at > learnt)
            else {
                continue;
            };
            let length = HOUR.mul_f64(between(&mut self.chance, 2.0, 6.0));
            let span = Span::of(from, length);
            well.outages.push(span);
            let half_an_hour = Duration::from_secs(1_800);
            let rose_mm = DROWNS_MM - well.depth_mm(from.minus(half_an_hour), &self.sky);
            // Slower water is a river's, and its silence a silence.
            let wants = if rose_mm >= 150.0 { Wants::Case } else { Wants::Nothing };
            let span = Span { until: span.until.plus(HOUR), ..span };
            let within = from.plus(HOUR);
            self.note(&well.id, "flooded, then silent", &["flooded_and_silent"], (span, within), wants);
            self.note(&well.id, "", &["silent", "outage"], (span, span.until), Wants::Nothing);
        }
        self.add(well);
    }
}
