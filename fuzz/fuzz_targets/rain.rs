//! Runs the target `rain` of tests/fuzz with what libFuzzer thinks of.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kerbside_fuzz_targets::rain(data));
