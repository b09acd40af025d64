//! What a frame costs with a codec: `cargo bench -p kerbside-engine --bench codec`, or with `FRAMES` of one's own.
//!
//! The codecs are those of `tests/data/codecs`: a short one, a long one of channels, and one that changes prototypes.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time and prints")]
#![expect(clippy::print_stdout, reason = "a benchmark measures time and prints")]

use std::hint::black_box;
use std::time::Instant;

use kerbside_engine::decode::{codec_fuzzing::ask_codec, trace_codec};
use kerbside_model::Timestamp;
use kerbside_model::document::Problems;
use kerbside_model::profile::{Profile, parse_profile_text_with};

const FRAMES: usize = 20_000;
const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// What one compilation costs is measured with so many.
const COMPILATIONS: usize = 50;
const CODECS: [(&str, &str, &str); 4] = [
    ("chirpstack3", include_str!("../../../tests/data/codecs/chirpstack3.js"), "05dc0001"),
    (
        "channels",
        include_str!("../../../tests/data/codecs/channels.js"),
        "0175640382dc0504000105cf2c019cff2823031067fa00116850",
    ),
    ("polyfills", include_str!("../../../tests/data/codecs/polyfills.js"), "0a02"),
    ("buffer", include_str!("../../../tests/data/codecs/buffer.js"), "0102ff8005"),
];
const PROFILE: &str = "
profile: codec
version: 1
kind: drain
vendor: Test
model: test
payload: {format: codec, script: codec.js}
points:
  - {name: level_mm, path: level}
samples:
  - {name: one, hex: '01', readings: {level_mm: 1}}
  - {name: bad, hex: '', error: no}
";

fn main() {
    let frames =
        std::env::var("FRAMES").map_or(FRAMES, |text| text.parse().expect("a number stands in the variable FRAMES"));
    for (name, script, hex) in CODECS {
        let profile = profile(script);
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("the frames are hexadecimal");
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
        let began = Instant::now();
        for _ in 0..COMPILATIONS {
            black_box(trace_codec(&profile, &bytes, Some(85), NOW));
        }
        let compilation = began.elapsed().as_secs_f64() * 1e3 / COMPILATIONS as f64;
        let began = Instant::now();
        for _ in 0..frames {
            let trace = ask_codec(black_box(&profile), &bytes, 85, NOW).expect("the profile has a codec");
            assert!(trace.data.is_ok(), "every frame of the benchmark is read: {trace:?}");
        }
        let nanoseconds = began.elapsed().as_nanos() as f64 / frames as f64;
        println!(
            "{name:<12} {:>6} bytes of script {nanoseconds:>8.0} ns a frame {compilation:>6.2} ms anew",
            script.len()
        );
    }
}

fn profile(script: &str) -> Profile {
    let problems = Problems::default();
    let profile = parse_profile_text_with("codec.yaml", PROFILE, &|_| Ok(script.to_owned()), &problems);
    profile.expect("the benchmark's profile is sound")
}
