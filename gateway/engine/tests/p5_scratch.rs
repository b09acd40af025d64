//! Scratch.
#![allow(dead_code, missing_docs, clippy::all)]
#[path = "scenarios/run.rs"]
mod run;
use kerbside_simulator::scenarios::{Extent, SUITES};
#[test]
fn scratch() {
    let suite = SUITES.iter().find(|suite| suite.name == "drains").unwrap();
    let seed: u64 = std::env::var("KERBSIDE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let who = std::env::var("WHO").unwrap_or_default();
    for scenario in (suite.make)(Extent::Quick, seed) {
        for event in scenario.events.iter().filter(|e| e.devices[0].contains(&who) && e.kind != "water beyond 15 cm") {
            println!(
                "EVENT {} {:?} from {} due {} until {} {:?}",
                event.kind, event.devices, event.from, event.due_by, event.until, event.wants
            );
        }
        let outcome = run::run(scenario);
        for alarm in outcome.raised.values().filter(|a| a.device.contains(&who) && a.condition != "surging") {
            println!("{} {} {} {}", alarm.at, alarm.device, alarm.condition, alarm.why);
        }
    }
}
