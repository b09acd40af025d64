//! Device profiles from files and from the program, read together so that one can extend another.
//!
//! Turns YAML files, with the codecs that lie beside them, into checked profiles or into problems. Nothing is kept.

mod facts;

use std::io;
use std::path::Path;

use kerbside_engine::decode::{CodecProblem, check_codec};
use kerbside_model::Profile;
use kerbside_model::document::{Problem, Problems};
use kerbside_model::inventory::decode_text;
use kerbside_model::profile::{Document, Layer, Shelf, ZONE_DEFAULT, no_scripts, parse_profile_with};

pub use facts::{Difference, Facts, differences, facts};

use crate::shipped;

/// Reads a file.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// The shipped profiles.
pub fn shipped_shelf(problems: &Problems) -> Shelf {
    let mut shelf = Shelf::default();
    for (name, text) in shipped::PROFILES {
        let file = Path::new(shipped::FOLDER).join(name);
        shelf.add(Layer::Shipped, &file.display().to_string(), text, problems);
    }
    shelf
}

/// One of them with everything that it takes from its parents. `zone` is put in where a device sends local times and
/// the profile names no zone of its own.
pub fn read_profile(
    shelf: &Shelf,
    document: &Document,
    zone: &str,
    read: ReadFile<'_>,
    problems: &Problems,
) -> Option<Profile> {
    let before = problems.len();
    let node = shelf.resolved(document, problems)?;
    let mut profile = parse_profile_with(&document.file, &node, &scripts_beside(document, read), problems);
    if problems.len() > before {
        return None;
    }
    if let Some(profile) = &mut profile {
        profile.put_zone(zone);
        if let Some(problem) = check_codec(profile) {
            problems.push(broken_codec(document, profile, problem));
            return None;
        }
    }
    profile
}

/// The scripts that lie beside a profile; beside a shipped one lie none.
pub fn scripts_beside<'a>(document: &'a Document, read: ReadFile<'a>) -> impl Fn(&str) -> Result<String, String> + 'a {
    move |script| {
        if document.layer == Layer::Shipped {
            return no_scripts(script);
        }
        let path = Path::new(&document.file).parent().unwrap_or(Path::new("")).join(script);
        let bytes = read(&path).map_err(|error| error.to_string())?;
        // Makers here save them in GBK, with comments in Chinese.
        Ok(decode_text(&bytes))
    }
}

/// A script that does not compile, at its line in its own file where it has one.
fn broken_codec(document: &Document, profile: &Profile, problem: CodecProblem) -> Problem {
    let script = profile.payload.script().unwrap_or_default();
    let is_beside = !script.is_empty();
    let file = Path::new(&document.file).with_file_name(script).display().to_string();
    let line = problem.line.map_or_else(String::new, |line| format!(" (line {line} of the codec)"));
    Problem {
        file: if is_beside { file } else { document.file.clone() },
        line: problem.line.filter(|_| is_beside).map_or(0, |line| line as usize),
        key: if is_beside { String::new() } else { "payload.source".to_owned() },
        value: String::new(),
        what: format!("the codec does not run: {}{}", problem.what, if is_beside { "" } else { &line }),
        mend: "take the maker's file as it is; it must be a script with decodeUplink, Decode or Decoder".to_owned(),
    }
}

/// The shipped profiles, checked.
pub fn shipped_profiles(problems: &Problems) -> Vec<Profile> {
    let shelf = shipped_shelf(problems);
    let no_files = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    let read = |document| read_profile(&shelf, document, ZONE_DEFAULT, &no_files, problems);
    shelf.documents().iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kerbside_model::profile::PayloadFormat;

    use super::*;

    const PROFILE: &str = "
profile: acme
version: 1
kind: drain
vendor: Acme
model: One
payload: {format: codec, script: codecs/acme.js}
points:
  - {name: level_mm, path: level}
samples:
  - {name: one, hex: '01', readings: {level_mm: 1}}
  - {name: bad, hex: '', error: failed}
";

    fn read(script: &[u8]) -> Result<Profile, Vec<Problem>> {
        let problems = Problems::default();
        let mut shelf = Shelf::default();
        shelf.add(Layer::Own, "profiles/acme.yaml", PROFILE, &problems);
        let file = |path: &Path| match path.to_str() {
            Some("profiles/codecs/acme.js") => Ok(script.to_vec()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let profile = read_profile(&shelf, &shelf.documents()[0], ZONE_DEFAULT, &file, &problems);
        profile.ok_or_else(|| problems.into_sorted())
    }

    #[test]
    fn shipped_profiles_have_no_problems_and_names_of_their_own() {
        let problems = Problems::default();
        let profiles = shipped_profiles(&problems);
        assert_eq!(problems.into_sorted(), []);
        let names: BTreeSet<&str> = profiles.iter().map(|profile| profile.name.as_ref()).collect();
        assert_eq!(names.len(), shipped::PROFILES.len(), "two have the same name");
    }

    #[test]
    fn a_codec_is_read_from_beside_its_profile() {
        let profile = read(b"function Decoder(bytes) { return {level: bytes[0]}; }").unwrap();
        assert_eq!(profile.payload.script(), Some("codecs/acme.js"));
    }

    #[test]
    fn a_codec_may_be_saved_in_gbk_or_as_notepad_does() {
        let text = "// 液位传感器\r\nfunction Decoder(bytes) { return {level: bytes[0]}; }\r\n";
        let (gbk, ..) = encoding_rs::GBK.encode(text);
        let marked = format!("\u{feff}{text}");
        let wide: Vec<u8> = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [&*gbk, marked.as_bytes(), &wide] {
            let profile = read(bytes).unwrap();
            let PayloadFormat::Codec(format) = &profile.payload else { panic!("{:?}", profile.payload) };
            assert!(format.source.contains("液位传感器"), "{}", format.source);
        }
    }

    #[test]
    fn a_codec_that_does_not_compile_is_named_with_its_file_and_line() {
        let problems = read(b"var level;\nfunction Decoder(bytes) { return {level: }; }\n").unwrap_err();
        assert_eq!((problems[0].file.as_str(), problems[0].line), ("profiles/codecs/acme.js", 2), "{problems:?}");
        assert!(problems[0].what.starts_with("the codec does not run: "), "{problems:?}");
    }
}
