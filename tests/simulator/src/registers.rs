//! Turns the state of the district into the registers of its Modbus devices.
//!
//! Addresses, types and scales are those of the published maps of Eastron SDM120, CWT weather stations (block at
//! 0x01F4) and QDY30A probes. Pure; nothing is kept and there are no metrics.

use kerbside_model::Timestamp;

use crate::district::District;
use crate::layout::DeviceKind;
use crate::noise::Noise;
use crate::weather::{air_temperature_c, illuminance_lx, lamps_burn, wind_m_s};

/// Which of the two tables of words is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordTable {
    /// Function 3.
    Holding,
    /// Function 4.
    Input,
}

/// Why a unit does not give registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterRefusal {
    /// Nobody has this unit number.
    #[error("no unit {0} on this bus")]
    NoSuchUnit(u8),
    /// The device has no such table.
    #[error("unit {0} does not know this function")]
    NoSuchTable(u8),
    /// The device has no such registers.
    #[error("unit {unit} has no {count} registers from {address}")]
    NoSuchRegisters {
        /// Unit number.
        unit: u8,
        /// First address.
        address: u16,
        /// How many words.
        count: u16,
    },
}

const METER_REGISTERS: u16 = 0x015A;
const WEATHER_FIRST: u16 = 0x01F4;
const WEATHER_REGISTERS: u16 = 15;
const PROBE_REGISTERS: u16 = 0x0010;

impl District {
    /// Words of a unit as they are at `now`.
    pub fn registers(
        &self,
        unit: u8,
        table: WordTable,
        (address, count): (u16, u16),
        now: Timestamp,
    ) -> Result<Vec<u16>, RegisterRefusal> {
        let (position, kind, noise) = self.modbus_device(unit).ok_or(RegisterRefusal::NoSuchUnit(unit))?;
        let (needed, first, words) = match kind {
            DeviceKind::Meter => (WordTable::Input, 0, self.meter_words(position, noise, now)),
            DeviceKind::WeatherStation => (WordTable::Holding, WEATHER_FIRST, self.weather_words(noise, now)),
            _ => (WordTable::Holding, 0, self.probe_words(unit, position, now)),
        };
        if table != needed {
            return Err(RegisterRefusal::NoSuchTable(unit));
        }
        let refusal = RegisterRefusal::NoSuchRegisters { unit, address, count };
        let from = usize::from(address.checked_sub(first).ok_or(refusal)?);
        words.get(from..from + usize::from(count)).map(<[u16]>::to_vec).ok_or(refusal)
    }

    fn meter_words(&self, position: usize, noise: Noise, now: Timestamp) -> Vec<u16> {
        let active = self.meter_power_w(position, now);
        let voltage = noise.part(60).between(now, 226.5, 233.5);
        let power_factor = if lamps_burn(now) { 0.96 } else { 0.71 };
        let apparent = active / power_factor;
        let reactive = (apparent * apparent - active * active).sqrt();
        // A mean of 60 W since the meter was fitted; half a year before the start it stood at zero.
        let hours = 4_380.0 + now.since(self.started_at()).as_secs_f64() / 3_600.0;
        let energy = 0.06 * hours;
        let mut words = vec![0; usize::from(METER_REGISTERS)];
        for (address, value) in [
            (0x0000, voltage),
            (0x0006, apparent / voltage),
            (0x000C, active),
            (0x0012, apparent),
            (0x0018, reactive),
            (0x001E, power_factor),
            (0x0046, noise.part(61).between(now, 49.96, 50.04)),
            (0x0048, energy),
            (0x004C, energy * 0.3),
            (0x0156, energy),
            (0x0158, energy * 0.3),
        ] {
            let bits = (value as f32).to_bits();
            words[address] = (bits >> 16) as u16;
            words[address + 1] = bits as u16;
        }
        words
    }

    fn weather_words(&self, noise: Noise, now: Timestamp) -> Vec<u16> {
        let storm = &self.cycle().storm;
        let wind = wind_m_s(storm, noise, now);
        let direction = noise.part(62).between(now, 95.0, 140.0);
        let dark = storm.darkness(now);
        let light = illuminance_lx(storm, now) as u32;
        let mut words = vec![0; usize::from(WEATHER_REGISTERS)];
        words[0] = scaled(wind, 10.0);
        words[1] = scaled((wind / 0.836).powf(2.0 / 3.0), 1.0);
        words[2] = (direction / 45.0).round() as u16 % 8;
        words[3] = direction as u16;
        words[4] = scaled(58.0 + 38.0 * dark + noise.part(63).between(now, -1.5, 1.5), 10.0);
        words[5] = scaled(air_temperature_c(storm, now), 10.0);
        words[6] = scaled(54.0 + 14.0 * dark + noise.part(64).between(now, -4.0, 4.0), 10.0);
        words[7] = scaled(31.0 * (1.0 - 0.6 * dark) + noise.part(65).between(now, -3.0, 3.0), 1.0);
        words[8] = scaled(52.0 * (1.0 - 0.6 * dark) + noise.part(66).between(now, -4.0, 4.0), 1.0);
        words[9] = scaled(100.6 - 0.5 * dark, 10.0);
        words[10] = (light >> 16) as u16;
        words[11] = light as u16;
        words[12] = (light / 100) as u16;
        words[13] = scaled(storm.fallen_mm(now), 10.0);
        words[14] = (f64::from(light) / 110.0) as u16;
        words
    }

    /// The probe's unit code is 17 (mm in two of three sources) without decimals; a dry probe reads below zero.
    fn probe_words(&self, unit: u8, position: usize, now: Timestamp) -> Vec<u16> {
        let mut words = vec![0; usize::from(PROBE_REGISTERS)];
        words[0] = u16::from(unit);
        words[1] = 3;
        words[2] = 17;
        words[4] = scaled(self.level_mm(position, now), 1.0);
        words
    }
}

/// A signed word; casts from `f64` stop at the ends of the range.
fn scaled(value: f64, factor: f64) -> u16 {
    ((value * factor).round() as i16).cast_unsigned()
}
