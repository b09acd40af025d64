//! Labelled scenarios of the simulator through the engine with the shipped profiles: what is found, how late, and what
//! is raised for nothing.
//!
//! The suites and how to add one: `tests/simulator/src/scenarios/mod.rs`. The quick extent runs by default and must
//! reach the floors of its suite; for the figures of docs/benchmarks.md:
//!
//!     KERBSIDE_SUITE=covers KERBSIDE_SEED=1 cargo test -p kerbside-engine --test scenarios -- --ignored --nocapture
//!
//! `KERBSIDE_SHAKE=noise:1,loss:0.2,each:3` makes the same street worse than it was made to be: `shake.rs` says how.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod run;
mod score;
mod shake;
#[path = "../shelf/mod.rs"]
mod shelf;

use kerbside_simulator::scenarios::{Extent, SUITES, Suite};

use score::{Score, Truth};
use shake::Shake;

/// The seed of the floors.
const SEED: u64 = 1;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// The suites that are asked for; all of them when none is.
fn chosen() -> Vec<&'static Suite> {
    let name = variable("KERBSIDE_SUITE");
    let chosen: Vec<&Suite> =
        SUITES.iter().filter(|suite| name.as_ref().is_none_or(|name| name == suite.name)).collect();
    assert!(!chosen.is_empty(), "there is no suite {name:?}");
    chosen
}

fn seed() -> u64 {
    variable("KERBSIDE_SEED").map_or(SEED, |text| text.parse().unwrap())
}

fn score(suite: &Suite, extent: Extent, seed: u64) -> Score {
    let mut score = Score::default();
    let shake = Shake::asked_for();
    for scenario in (suite.make)(extent, seed) {
        let scenario = shake.shaken(scenario, seed);
        let (name, truth) = (scenario.name.clone(), Truth::of(&scenario));
        score.add(&name, &truth, &run::run(scenario));
    }
    score
}

#[test]
fn every_suite_reaches_its_floors() {
    let seed = seed();
    let mut below = Vec::new();
    for suite in chosen() {
        let score = score(suite, Extent::Quick, seed);
        println!("## {}, seed {seed}\n\n{}\n{}\n", suite.name, score.markdown(), score.details());
        below.extend(score.below(&suite.floors).into_iter().map(|what| format!("{}: {what}", suite.name)));
    }
    assert!(below.is_empty(), "seed {seed}:\n{}", below.join("\n"));
}

#[test]
fn a_suite_gives_the_same_again() {
    for suite in chosen().into_iter().take(1) {
        let [one, other] = [(), ()].map(|()| score(suite, Extent::Quick, 7).markdown());
        assert_eq!(one, other);
    }
}

#[test]
#[ignore = "the full extent, for the figures of docs/benchmarks.md; minutes in a release build"]
fn full_extent() {
    let seed = seed();
    for suite in chosen() {
        let score = score(suite, Extent::Full, seed);
        println!("## {}, seed {seed}\n\n{}\n{}\n", suite.name, score.markdown(), score.details());
        let below = score.below(&suite.floors);
        if !below.is_empty() {
            println!("below the floors of the quick extent:\n{}", below.join("\n"));
        }
    }
}
