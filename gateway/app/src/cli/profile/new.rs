//! `kerbside profile new`: a commented beginning of a profile, that passes `kerbside profile test` as it is.
//!
//! From a captured JSON message it proposes points with their places, types and canonical names; what it proposes is
//! marked as such, since only a person knows what the device means.

mod propose;
mod templates;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use kerbside_model::document::Problems;
use kerbside_model::profile::parse_profile_text;

use crate::cli::say;

/// Captured frames are messages of a device.
const FRAME_BYTES_MAX: usize = 256 << 10;

#[derive(Debug, clap::Args)]
pub(super) struct NewArguments {
    /// Name of the profile: small letters, digits and hyphens, such as acme-cover-2.
    name: String,
    /// What the device sends.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    from: Format,
    /// A captured frame: a JSON message, or for `binary` and `codec` the bytes in hexadecimal.
    #[arg(long)]
    frame: Option<PathBuf>,
}

/// What a device sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// JSON messages.
    Json,
    /// Bytes, such as those of a LoRaWAN uplink.
    Binary,
    /// Modbus registers.
    Registers,
    /// Bytes with the maker's decoder in JavaScript.
    Codec,
}

pub(super) fn new(arguments: &NewArguments) -> anyhow::Result<u8> {
    let NewArguments { name, from, frame } = arguments;
    let frame = match frame {
        Some(path) => {
            let bytes = std::fs::read(path).with_context(|| format!("read the frame {}", path.display()))?;
            if bytes.len() > FRAME_BYTES_MAX {
                bail!("read the frame {}: {} bytes are no message of a device", path.display(), bytes.len());
            }
            Some(String::from_utf8(bytes).with_context(|| format!("read the frame {} as text", path.display()))?)
        }
        None => None,
    };
    let text = match (from, frame) {
        (Format::Json, Some(frame)) => propose::from_message(name, &frame)?,
        (Format::Json, None) => templates::json(name),
        (Format::Binary, frame) => templates::binary(name, &hexadecimal(frame)?),
        (Format::Codec, frame) => templates::codec(name, &hexadecimal(frame)?),
        (Format::Registers, None) => templates::registers(name),
        (Format::Registers, Some(_)) => bail!("begin a profile of registers: it takes no --frame; write the addresses"),
    };
    let problems = Problems::default();
    if parse_profile_text(&format!("{name}.yaml"), &text, &problems).is_none() {
        let found: Vec<String> = problems.into_sorted().iter().map(ToString::to_string).collect();
        bail!("begin the profile {name}: {}", found.join("\n"));
    }
    say(text.trim_end());
    Ok(0)
}

/// The bytes of a frame, or some that the templates are made for.
fn hexadecimal(frame: Option<String>) -> anyhow::Result<Vec<u8>> {
    match frame {
        Some(text) => super::bytes_of_hex(&text),
        None => Ok(templates::BYTES.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use kerbside_engine::sample::run_sample;

    use super::*;

    /// A profile that is sound and whose samples pass.
    #[track_caller]
    fn check(text: &str) -> kerbside_model::Profile {
        let problems = Problems::default();
        let profile = parse_profile_text("new.yaml", text, &problems);
        let found: Vec<String> = problems.into_sorted().iter().map(ToString::to_string).collect();
        let profile = std::sync::Arc::new(profile.unwrap_or_else(|| panic!("{}\n{text}", found.join("\n"))));
        for sample in &profile.samples {
            assert_eq!(run_sample(&profile, sample), Vec::<String>::new(), "{}\n{text}", sample.name);
        }
        profile.as_ref().clone()
    }

    #[test]
    fn every_beginning_passes_its_own_test() {
        check(&templates::json("acme-1"));
        check(&templates::registers("acme-1"));
        for bytes in [templates::BYTES.to_vec(), vec![0xFF; 40], vec![1]] {
            check(&templates::binary("acme-1", &bytes));
            check(&templates::codec("acme-1", &bytes));
        }
    }

    #[test]
    fn a_captured_message_becomes_points_with_places_and_names() {
        let frame = r#"{"deviceId":"DL-1","ts":1767225600000,"data":{"waterLevel":85.5,"batt":3.6,"rssi":-101,
            "coverOpen":false,"Temp":16.5,"a.b":7,"mode":"auto","weird key!":3},"list":[1,{"tilt":2}],"none":null}"#;
        let profile = check(&propose::from_message("acme-1", frame).unwrap());
        let names: Vec<&str> = profile.points.iter().map(|point| point.name.as_ref()).collect();
        let expected = [
            "temperature_c",
            "a_b",
            "battery_v",
            "cover_open",
            "signal_dbm",
            "level_mm",
            "weird_key",
            "list_0",
            "tilt_deg",
        ];
        assert_eq!(names, expected);
        assert!(profile.payload.drift_max().is_some(), "the time was found");
    }

    #[test]
    fn messages_of_every_kind_become_sound_profiles_or_a_clear_refusal() {
        for frame in ["{}", "[]", "7", "{\"a\":{}}", "{\"x\":\"y\"}", "no json"] {
            let error = propose::from_message("acme-1", frame).unwrap_err().to_string();
            assert!(error.contains("frame"), "{error}");
        }
        for frame in [
            r#"{"level":1e300,"LEVEL":2,"level_mm":3,"层":4}"#,
            r#"{"time":"2026-01-01T00:00:00Z","open":true,"id":5}"#,
            r#"{"t":{"t":{"t":1}},"true":false,"points":-0.5,"batt":87}"#,
            r#"{"":1,"a":{"":2},"q":{"0":1},"x_q":3}"#,
        ] {
            check(&propose::from_message("acme-1", frame).unwrap());
        }
    }
}
