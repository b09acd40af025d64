//! Runs every target over its corpus, and over cheap variations of it.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs;
use std::path::Path;

use fastrand::Rng;
use kerbside_fuzz_targets::TARGETS;

/// Variations of each file; the long runs are those of `just nightly`.
const VARIATIONS: usize = 200;
/// ... and of each script, which runs to its limits as often as not, and of each long story.
const VARIATIONS_FEW: usize = 20;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn every_file_of_the_corpus_is_answered_well() {
    for (target, run) in TARGETS {
        let files = corpus(target);
        assert!(files.len() >= 4, "the corpus of {target} has only {} files", files.len());
        run(&[]);
        for (name, bytes) in files {
            eprintln!("{target}/{name}");
            run(&bytes);
        }
    }
}

#[test]
fn variations_of_the_corpus_are_answered_well() {
    for (target, run) in TARGETS {
        let files = corpus(target);
        let variations = if matches!(target, "codec" | "profiles" | "rules") { VARIATIONS_FEW } else { VARIATIONS };
        for (number, (name, bytes)) in files.iter().enumerate() {
            let mut random = Rng::with_seed(number as u64);
            for variation in 0..variations {
                eprintln!("{target}/{name}, variation {variation}");
                run(&varied(bytes, &files[random.usize(..files.len())].1, &mut random));
            }
        }
    }
}

/// One of: some bytes changed, cut short, a piece doubled, or the end of another file.
fn varied(bytes: &[u8], other: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut varied = bytes.to_vec();
    let at = random.usize(0..=bytes.len());
    match random.u8(0..4) {
        0 if !varied.is_empty() => {
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..varied.len());
                varied[at] = random.u8(..);
            }
        }
        1 => varied.truncate(at),
        2 => {
            let piece = varied[at..].to_vec();
            varied.extend(piece);
        }
        _ => {
            varied.truncate(at);
            varied.extend_from_slice(&other[random.usize(0..=other.len())..]);
        }
    }
    varied
}
