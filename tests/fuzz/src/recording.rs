//! Recordings: any lines give steps or a reason, and the steps are written and read again as they were.

use std::io::Cursor;
use std::path::Path;

use kerbside_model::StoredInput;
use kerbside_store::recording::{RecordedStep, RecordingError, RecordingReader};

const HEADER: &str = "{\"recording\":{\"version\":1,\"kerbside\":\"0.1.0\",\"site\":\"s\",\"site_hash\":\"h\",\
                      \"begun_at\":\"2026-04-20T00:00:00Z\",\"since\":\"2026-04-20T00:00:00Z\"}}\n";

/// Reads the bytes as a file, and as the lines behind a header.
///
/// # Panics
/// When an error has no words, a site opens under a wrong hash, or the same lines are read in two ways.
pub fn recording(data: &[u8]) {
    drop(read(data));
    let lines = [HEADER.as_bytes(), data].concat();
    let packed = kerbside_store::recording::pack(&lines);
    let (first, again) = (read(&packed), read(&packed));
    assert_eq!(format!("{first:?}"), format!("{again:?}"), "the same lines are read in two ways");
}

/// The steps up to the first error.
fn read(bytes: &[u8]) -> Result<Vec<RecordedStep>, RecordingError> {
    let mut reader = RecordingReader::of(Path::new("fuzz.kbr"), Cursor::new(bytes))?;
    let mut steps = Vec::new();
    while let Some(step) = reader.next_step()? {
        for input in &step.inputs {
            let frames = input.frames().map(|frame| frame.address.len()).sum::<usize>();
            assert!(frames <= bytes.len().saturating_mul(4) + (1 << 20), "addresses come from nowhere");
            if let StoredInput::Site(hash) = input
                && let Some(Ok(site)) = reader.site(hash).map(kerbside_store::recording::RecordingSite::open)
            {
                assert_eq!(site.hash(), hash);
            }
        }
        steps.push(step);
    }
    Ok(steps)
}
