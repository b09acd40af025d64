//! Notes when the program was built: a clock that shows an earlier time is wrong, whatever it says.

use std::time::{SystemTime, UNIX_EPOCH};

#[expect(clippy::disallowed_methods, reason = "the time of the build is what is asked for")]
fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    // A build that must come out the same twice names its time (reproducible-builds.org).
    let named = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse::<u64>().ok());
    let seconds = named.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    println!("cargo::rustc-env=KERBSIDE_BUILT_AT_SECONDS={seconds}");
}
