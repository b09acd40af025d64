//! Turns values into the JSON that the simulated devices send; useful for tests that drive one device.
//!
//! The formats are those of the shipped profiles `json-manhole-cover`, `json-pole` and `json-level`.
//! Pure; nothing is kept and there are no metrics.

use kerbside_model::Timestamp;
use serde::{Serialize, Serializer};

/// What a manhole cover sends.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CoverReport {
    /// Device id.
    #[serde(rename = "deviceId")]
    pub device_id: String,
    /// When it was measured; milliseconds since the epoch on the wire.
    #[serde(serialize_with = "millis")]
    pub ts: Timestamp,
    /// Whether the contact under the cover is open.
    pub open: bool,
    /// Tilt in degrees.
    pub tilt: f64,
    /// Whether water reaches the terminal.
    pub water: bool,
    /// Depth of water in the well in mm, where there is a probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<f64>,
    /// Battery in V.
    pub batt: f64,
    /// Signal in dBm.
    pub rssi: i32,
    /// Temperature in degrees C.
    pub temp: f64,
    /// Methane in % of the lower explosive limit.
    pub ch4: f64,
    /// Hydrogen sulphide in mg/m3.
    pub h2s: f64,
}

impl CoverReport {
    /// A closed cover in good health.
    pub fn quiet(device_id: &str, ts: Timestamp) -> CoverReport {
        CoverReport {
            device_id: device_id.to_owned(),
            ts,
            open: false,
            tilt: 0.4,
            water: false,
            level: None,
            batt: 3.61,
            rssi: -87,
            temp: 21.5,
            ch4: 0.2,
            h2s: 0.1,
        }
    }
}

/// What a smart pole sends.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PoleReport {
    /// Device id.
    #[serde(rename = "deviceId")]
    pub device_id: String,
    /// When it was measured; milliseconds since the epoch on the wire.
    #[serde(serialize_with = "millis")]
    pub ts: Timestamp,
    /// Leakage current in mA.
    pub leakage: f64,
    /// Tilt in degrees.
    pub tilt: f64,
    /// Whether the service door is open.
    pub door: bool,
    /// Whether the lamp burns.
    pub lamp: bool,
    /// Whether water stands at the foot.
    pub water: bool,
    /// Its depth in mm.
    pub depth: f64,
    /// Mains voltage in V.
    pub volt: f64,
    /// Power drawn in W.
    pub power: f64,
    /// Temperature in degrees C.
    pub temp: f64,
    /// Signal in dBm.
    pub rssi: i32,
}

impl PoleReport {
    /// An upright, dry pole by day.
    pub fn quiet(device_id: &str, ts: Timestamp) -> PoleReport {
        PoleReport {
            device_id: device_id.to_owned(),
            ts,
            leakage: 1.2,
            tilt: 0.3,
            door: false,
            lamp: false,
            water: false,
            depth: 0.0,
            volt: 229.8,
            power: 9.5,
            temp: 24.0,
            rssi: -71,
        }
    }
}

/// What a drain-level sensor sends.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LevelReport {
    /// Device id.
    #[serde(rename = "deviceId")]
    pub device_id: String,
    /// When it was measured; milliseconds since the epoch on the wire.
    #[serde(serialize_with = "millis")]
    pub ts: Timestamp,
    /// Water level in mm.
    pub level: f64,
    /// Battery in V.
    pub batt: f64,
    /// Signal in dBm.
    pub rssi: i32,
    /// Temperature in degrees C.
    pub temp: f64,
}

impl LevelReport {
    /// A drain in dry weather.
    pub fn quiet(device_id: &str, ts: Timestamp) -> LevelReport {
        LevelReport { device_id: device_id.to_owned(), ts, level: 118.0, batt: 3.59, rssi: -93, temp: 19.5 }
    }
}

/// The JSON text of a report.
pub fn payload(report: &impl Serialize) -> String {
    serde_json::to_string(report).expect("reports have text keys and finite numbers")
}

/// The topic of a manhole cover.
pub fn cover_topic(district: &str, device_id: &str) -> String {
    format!("city/{district}/manhole/{device_id}/up")
}

/// The topic of a smart pole.
pub fn pole_topic(district: &str, device_id: &str) -> String {
    format!("city/{district}/pole/{device_id}/up")
}

/// The topic of a drain-level sensor.
pub fn drain_topic(district: &str, device_id: &str) -> String {
    format!("city/{district}/drain/{device_id}/up")
}

fn millis<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(time.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_the_json_of_the_shipped_profiles() {
        let time = Timestamp(1_586_400_800_535);
        let cover = CoverReport { open: true, tilt: 47.5, ..CoverReport::quiet("MH-0001", time) };
        assert_eq!(
            payload(&cover),
            r#"{"deviceId":"MH-0001","ts":1586400800535,"open":true,"tilt":47.5,"water":false,"batt":3.61,"rssi":-87,"temp":21.5,"ch4":0.2,"h2s":0.1}"#
        );
        assert_eq!(
            payload(&PoleReport::quiet("SP-0001", time)),
            r#"{"deviceId":"SP-0001","ts":1586400800535,"leakage":1.2,"tilt":0.3,"door":false,"lamp":false,"water":false,"depth":0.0,"volt":229.8,"power":9.5,"temp":24.0,"rssi":-71}"#
        );
        assert_eq!(
            payload(&LevelReport::quiet("DL-0001", time)),
            r#"{"deviceId":"DL-0001","ts":1586400800535,"level":118.0,"batt":3.59,"rssi":-93,"temp":19.5}"#
        );
        assert_eq!(cover_topic("d01", "MH-0001"), "city/d01/manhole/MH-0001/up");
    }
}
