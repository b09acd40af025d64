//! The profiles that are shipped, and the guide beside them.

use std::path::{Path, PathBuf};

use super::*;
use crate::vocabulary;

/// Every profile that is shipped, with its file name.
fn profile_files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in ["device-profiles", "bench/profiles"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                files.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

#[test]
fn shipped_profiles_parse_without_a_problem() {
    let (mut names, mut shelf) = (Vec::new(), Shelf::default());
    let files = profile_files();
    files.iter().for_each(|(file, text)| shelf.add(Layer::Shipped, file, text, &Problems::default()));
    for ((file, text), document) in files.iter().zip(shelf.documents()) {
        let problems = Problems::default();
        let node = shelf.resolved(document, &problems);
        let profile = node.and_then(|node| parse_profile(file, &node, &problems));
        let problems = problems.into_sorted();
        let shown = problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n");
        assert!(problems.is_empty(), "{shown}");
        let profile = profile.unwrap();
        assert_eq!(*file, format!("{}.yaml", profile.name), "a profile's file bears its name");
        assert!(!text.contains('\t') && text.ends_with('\n'), "{file}");
        names.push(profile.name);
    }
    for wanted in [
        "bench-city-sensor",
        "bench-modbus",
        "chirpstack-em500-udl",
        "ctwing-manhole-cover",
        "cwt-weather-500",
        "eastron-sdm120",
        "json-level",
        "json-manhole-cover",
        "json-pole",
        "qdy30a-level",
    ] {
        assert!(names.iter().any(|name| name == wanted), "{wanted} is not among {names:?}");
    }
}

#[test]
fn the_guide_for_people_lists_every_canonical_name_and_rule() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device-profiles/README.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    for term in vocabulary::POINTS {
        let row = format!("| `{}` | {} | {} |", term.name, term.unit, term.zh);
        assert!(guide.contains(&row), "{row} is missing in device-profiles/README.md");
    }
    for term in vocabulary::CONDITIONS {
        let row = format!("| `{}` | {} | {} |", term.name, term.en, term.zh);
        assert!(guide.contains(&row), "{row} is missing in device-profiles/README.md");
    }
    for word in detector_rule_names().iter().copied().chain(Kind::ALL.map(Kind::name)) {
        assert!(guide.contains(&format!("`{word}`")), "`{word}` is missing in device-profiles/README.md");
    }
}

#[test]
fn the_example_in_the_guide_is_a_profile() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device-profiles/README.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let example = guide.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let profile = read_good(example);
    assert!(profile.samples.len() >= 2 && !profile.detectors.is_empty());
}
