//! Every profile of the repository gives what its samples and rule tests say.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use kerbside_engine::rule_test::run_rule_test;
use kerbside_engine::sample::run_sample;
use kerbside_model::document::Problems;
use kerbside_model::profile::{Layer, Shelf, parse_profile, parse_profile_text};

#[test]
fn every_sample_and_rule_test_of_every_profile_in_the_repository_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut wrong = Vec::new();
    let (mut samples, mut tests) = (0, 0);
    for folder in ["device-profiles", "bench/profiles"] {
        let (mut shelf, problems) = (Shelf::default(), Problems::default());
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let file = path.file_name().unwrap().to_string_lossy().into_owned();
                shelf.add(Layer::Shipped, &file, &fs::read_to_string(&path).unwrap(), &problems);
            }
        }
        for document in shelf.documents() {
            let file = &document.file;
            let node = shelf.resolved(document, &problems);
            let profile = node.and_then(|node| parse_profile(file, &node, &problems)).map(Arc::new);
            let profile = profile.unwrap_or_else(|| panic!("{file} does not parse"));
            for test in &profile.tests {
                tests += 1;
                let failures = run_rule_test(&profile, test);
                wrong.extend(failures.iter().map(|failure| format!("{file}:{}: {}", failure.line, failure.what)));
            }
            for sample in &profile.samples {
                samples += 1;
                wrong
                    .extend(run_sample(&profile, sample).iter().map(|what| format!("{file}: {}: {what}", sample.name)));
            }
        }
    }
    assert!(samples > 30, "only {samples} samples were found");
    assert!(tests > 20, "only {tests} tests of rules were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_samples_of_the_example_in_the_guide_hold() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device-profiles/README.md");
    let guide = fs::read_to_string(guide).unwrap();
    let example = guide.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let profile = parse_profile_text("README.md", example, &Problems::default()).map(Arc::new).unwrap();
    for sample in &profile.samples {
        assert_eq!(run_sample(&profile, sample), Vec::<String>::new(), "{}", sample.name);
    }
    assert!(!profile.tests.is_empty(), "the guide shows how rules are tested");
    for test in &profile.tests {
        assert_eq!(run_rule_test(&profile, test), [], "{}", test.name);
    }
}
