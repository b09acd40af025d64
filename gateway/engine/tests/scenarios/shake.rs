//! The same stories from worse sensors and worse radios than those that they were written with: what a rule is worth
//! shows when its suite is shaken.
//!
//! `KERBSIDE_SHAKE=noise:1,loss:0.2,each:3`; any of the three may be left out.
//!
//! * `noise`: normal noise on top of what a sensor has, so many times the figures of [`SPREADS`].
//! * `loss`: this share of the messages is lost besides, from 0 to 1.
//! * `each`: only each third message arrives, and the inventory says so: a sensor that reports so much less often.

use fastrand::Rng;
use kerbside_simulator::scenarios::{Messages, Said, Scenario, Sender};

use crate::shelf::profile;
use crate::variable;

/// What one unit of noise adds to a point: standard deviations in the point's unit. A poor mount of a level or an angle,
/// cheap gas cells; assumptions, about as much as the suites have themselves.
const SPREADS: [(&str, f64); 13] = [
    ("level_mm", 5.0),
    ("distance_mm", 5.0),
    ("water_depth_mm", 5.0),
    ("tilt_deg", 0.3),
    ("leakage_ma", 0.5),
    ("battery_v", 0.02),
    ("temperature_c", 0.5),
    ("signal_dbm", 3.0),
    ("active_power_w", 1.5),
    ("voltage_v", 2.0),
    ("ch4_lel_percent", 0.5),
    ("h2s_mg_m3", 0.5),
    ("o2_percent", 0.1),
];

/// How much worse.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shake {
    noise: f64,
    loss: f64,
    each: u32,
}

impl Shake {
    /// What the environment asks for; nothing when it does not.
    pub(crate) fn asked_for() -> Shake {
        let mut shake = Shake { noise: 0.0, loss: 0.0, each: 1 };
        let text = variable("KERBSIDE_SHAKE").unwrap_or_default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once(':').unwrap_or_else(|| panic!("KERBSIDE_SHAKE: {part} is no key:value"));
            match key {
                "noise" => shake.noise = value.parse().unwrap(),
                "loss" => shake.loss = value.parse().unwrap(),
                "each" => shake.each = value.parse().unwrap(),
                _ => panic!("KERBSIDE_SHAKE: {key} is none of noise, loss, each"),
            }
        }
        assert!(shake.each > 0, "KERBSIDE_SHAKE: each begins at 1");
        shake
    }

    /// The scenario with its truth as it was, and everything that is sent made worse.
    pub(crate) fn shaken(self, mut scenario: Scenario, seed: u64) -> Scenario {
        if self.noise == 0.0 && self.loss == 0.0 && self.each == 1 {
            return scenario;
        }
        let mut chance = Rng::with_seed(seed);
        for sender in &mut scenario.senders {
            self.worsen(sender, chance.fork());
        }
        scenario
    }

    fn worsen(self, sender: &mut Sender, mut chance: Rng) {
        let interval = sender.facts.interval.or_else(|| profile(sender.profile).interval);
        sender.facts.interval = interval.map(|interval| interval * self.each);
        let messages = std::mem::replace(&mut sender.messages, Messages::written(Vec::new()));
        let mut number = 0_u32;
        sender.messages = Messages(Box::new(messages.filter_map(move |mut message| {
            number = number.wrapping_add(1);
            if !number.is_multiple_of(self.each) || chance.f64() < self.loss {
                return None;
            }
            for (name, said) in &mut message.values {
                let spread = SPREADS.iter().find(|(point, _)| point == name).map_or(0.0, |(_, spread)| *spread);
                if let Said::Number(number) = said {
                    *number = self.noisy(*number, spread, &mut chance);
                }
            }
            Some(message)
        })));
    }

    fn noisy(self, number: f64, spread: f64, chance: &mut Rng) -> f64 {
        if self.noise * spread == 0.0 {
            return number;
        }
        // Sensors tell whole millimetres, tenths of degrees and hundredths of volts.
        let parts = if spread >= 2.0 {
            1.0
        } else if spread >= 0.1 {
            10.0
        } else {
            100.0
        };
        // The sum of twelve equal chances is close to a normal deviate.
        let deviate = (0..12).map(|_| chance.f64()).sum::<f64>() - 6.0;
        let noisy = ((number + self.noise * spread * deviate) * parts).round() / parts;
        // What cannot be below zero stays above it.
        if number >= 0.0 { noisy.max(0.0) } else { noisy }
    }
}
