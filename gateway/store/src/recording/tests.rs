//! Recordings are read as they were written, also where they were torn.

use std::sync::Arc;

use kerbside_model::site::{Site, SiteFacts};
use kerbside_model::{
    ByteText, Frame, FrameAgain, FrameFlags, Frames, OperatorAction, Payload, RegisterBlock, RegisterFailure,
    RegisterRead, RegisterTable, SourceStatus, Tag, Tags,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const AT: Timestamp = Timestamp(1_800_000_000_000);

fn header(site_hash: &str) -> RecordingHeader {
    RecordingHeader {
        version: RECORDING_VERSION,
        kerbside: "0.1.0".to_owned(),
        site: "test".to_owned(),
        site_hash: site_hash.to_owned(),
        begun_at: AT,
        since: AT,
        source: None,
        device: None,
    }
}

fn frame(payload: Payload) -> Frame {
    Frame { source: "bus".into(), address: ByteText::from("3"), payload, received_at: AT, retained: false }
}

fn steps() -> Vec<RecordedStep> {
    let registers = RegisterRead {
        blocks: vec![RegisterBlock { table: RegisterTable::Holding, address: 7, words: vec![1, 65_535] }],
        failures: vec![RegisterFailure {
            table: RegisterTable::Input,
            address: 1,
            count: 2,
            cause: "timeout".to_owned(),
        }],
    };
    let tags: Tags = Arc::from([Tag { name: "operator".into(), value: "北区".into() }]);
    let mut frames = Frames::new("city".into(), AT);
    frames.push("a/1", br#"{"tilt":1}"#, FrameFlags::default(), None);
    frames.push("a/2", &[0xff, 0, 1], FrameFlags { retained: true, redelivered: false }, Some(&tags));
    frames.push("a/3", b"", FrameFlags { retained: false, redelivered: true }, None);
    let again = |row, tags| FrameAgain { row, frame: frame(Payload::Bytes(b"old".to_vec().into())), tags };
    vec![
        RecordedStep { at: AT, inputs: vec![StoredInput::Site("S1".to_owned())] },
        RecordedStep::idle(AT),
        RecordedStep {
            at: Timestamp(AT.0 + 1),
            inputs: vec![
                StoredInput::Frame(frame(Payload::Registers(registers))),
                StoredInput::Frames(frames.clone()),
                StoredInput::Frames(frames),
                StoredInput::Operator(OperatorAction::Unmask { device: "MH-1".to_owned(), by: "王".to_owned() }),
                StoredInput::Source(SourceStatus { source: "city".into(), connected: false }),
                StoredInput::ReadAgain(vec![again(7, None), again(9, Some(tags))]),
                StoredInput::Change { hash: "S2".to_owned(), by: "ops".to_owned() },
            ],
        },
    ]
}

fn write(path: &std::path::Path, steps: &[RecordedStep]) {
    let mut writer = RecordingWriter::create(path, &header("S1")).unwrap();
    for step in steps {
        writer.step(step, &|_| true).unwrap();
        writer.flush().unwrap();
    }
}

/// Every step that can be read, and why there are no more.
fn read(bytes: &[u8]) -> Result<(Vec<RecordedStep>, Option<String>), RecordingError> {
    let mut reader = RecordingReader::of(std::path::Path::new("r"), bytes)?;
    let mut steps = Vec::new();
    while let Some(step) = reader.next_step()? {
        steps.push(step);
    }
    Ok((steps, reader.torn().map(str::to_owned)))
}

#[test]
fn what_was_written_is_read_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("day.kbr");
    write(&path, &steps());
    let (again, torn) = read(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(format!("{again:?}"), format!("{:?}", steps()));
    assert_eq!(torn, None);
    let error = RecordingWriter::create(&path, &header("S1")).unwrap_err();
    assert!(matches!(error, RecordingError::Exists { .. }), "{error}");
}

#[test]
fn a_recording_that_was_torn_is_read_up_to_its_last_whole_step() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("day.kbr");
    write(&path, &steps());
    let bytes = std::fs::read(&path).unwrap();
    let whole = format!("{:?}", steps());
    let mut most = 0;
    for length in 0..bytes.len() {
        let Ok((found, torn)) = read(&bytes[..length]) else { continue };
        assert!(whole.starts_with(format!("{found:?}").trim_end_matches(']')), "{length}: {found:?}");
        assert!(found.len() >= most, "{length}");
        most = found.len();
        // Between two zstd frames nothing tells that there were more.
        assert!(torn.is_some() || most <= 2, "{length}");
    }
    assert_eq!(most, 3, "only the checksum of the last frame is missing");
    // The power went while the file grew: what follows is nothing.
    let zeros = [bytes.as_slice(), &[0; 100]].concat();
    let (found, torn) = read(&zeros).unwrap();
    assert_eq!((found.len(), torn.is_some()), (3, true));
}

#[test]
fn a_site_comes_back_with_its_hash_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("day.kbr");
    let site = Site::new(SiteFacts::new("test", Vec::new(), Vec::new()));
    let mut writer = RecordingWriter::create(&path, &header(site.hash())).unwrap();
    writer.site(site.hash(), site.facts());
    writer.site(site.hash(), site.facts());
    writer.site("another", site.facts());
    writer.step(&RecordedStep::idle(AT), &|_| true).unwrap();
    writer.flush().unwrap();
    let mut reader = RecordingReader::open(&path).unwrap();
    assert!(reader.next_step().unwrap().is_some());
    assert_eq!(reader.site(site.hash()).unwrap().open().unwrap().hash(), site.hash());
    let error = reader.site("another").unwrap().open().unwrap_err();
    assert!(error.to_string().contains("replay it with the profiles and inventory of today"), "{error}");
}

#[test]
fn only_wanted_frames_are_written_and_the_others_leave_no_gap() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("day.kbr");
    let mut writer = RecordingWriter::create(&path, &header("S1")).unwrap();
    for step in steps() {
        writer.step(&step, &|frame| frame.address != b"a/1" && frame.source.as_ref() == "city").unwrap();
    }
    writer.flush().unwrap();
    assert_eq!(writer.frames(), 4);
    let (again, _) = read(&std::fs::read(&path).unwrap()).unwrap();
    let StoredInput::Frames(frames) = &again[2].inputs[0] else { panic!("{again:?}") };
    assert_eq!(frames.iter().map(|frame| frame.address_text().into_owned()).collect::<Vec<_>>(), ["a/2", "a/3"]);
}

#[test]
fn other_files_and_newer_recordings_are_refused() {
    let pack = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
    let refused = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert!(refused(b"id,profile\n").contains("no recording of kerbside"));
    assert!(refused(b"").contains("no recording of kerbside"));
    assert!(refused(&pack("{\"frames\":1}\n")).contains("no recording of kerbside"));
    let newer = serde_json::to_string(&RecordingHeader { version: 9, ..header("S1") }).unwrap();
    assert!(refused(&pack(&format!("{{\"recording\":{newer}}}\n"))).contains("version 9"));
    let mine = serde_json::to_string(&header("S1")).unwrap();
    let odd = pack(&format!("{{\"recording\":{mine}}}\n{{\"frame\":{{\"source\":\"a\"}}}}\n"));
    assert!(refused(&odd).contains("read line 2 of the recording"), "{}", refused(&odd));
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,200}") {
        drop(read(&bytes));
        let mine = serde_json::to_string(&header("S1")).unwrap();
        let text = format!("{{\"recording\":{mine}}}\n{text}\n");
        drop(read(&zstd::encode_all(text.as_bytes(), 1).unwrap()));
    }
}
