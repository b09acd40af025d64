//! What a plan costs: `cargo bench -p kerbside-sources --bench planner`.
//!
//! The cheapest requests for 1,000 points are found anew: in one run, with gaps of one to forty registers, in pairs
//! that may not be divided, and as coils. In a gateway a plan is kept until something is learned about its unit.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time and prints")]
#![expect(clippy::print_stdout, reason = "a benchmark measures time and prints")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use kerbside_model::RegisterTable;
use kerbside_model::profile::{RegisterField, RegisterType};
use kerbside_sources::modbus::{Borders, Cost, Limits, LinkTiming, Request, Rules, plan};

const POINTS: u16 = 1_000;
const ROUNDS: u32 = 200;

fn main() {
    // 9600 baud 8N1, units that answer after 10 ms.
    let character = Duration::from_nanos(1_041_666);
    let timing = LinkTiming { character, silence: character.mul_f64(3.5), overhead_bytes: 3 };
    let cost = Cost::of(&timing, Duration::from_millis(10));
    let borders = Borders::default();
    let refused = (0..POINTS).step_by(50).map(|address| Request { table: RegisterTable::Holding, address, count: 1 });
    let known = Borders { refused: refused.collect(), ..Borders::default() };
    let words = |step: fn(u16) -> u16| fields(RegisterTable::Holding, RegisterType::U16, step);
    for (name, fields, borders) in [
        ("one run", words(|number| number), &borders),
        ("gaps of 1 to 40", words(|number| number * 20 + number * 7 % 20), &borders),
        ("pairs", fields(RegisterTable::Holding, RegisterType::F32, |number| number * 3), &borders),
        ("20 bad registers", words(|number| number), &known),
        ("coils", fields(RegisterTable::Coil, RegisterType::U16, |number| number * 2), &borders),
    ] {
        let rules = Rules { limits: Limits::default(), cost, borders };
        let requests = plan(&fields, &rules).len();
        let began = Instant::now();
        for _ in 0..ROUNDS {
            black_box(plan(black_box(&fields), &rules));
        }
        let micros = began.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
        println!("{POINTS} points, {name}: {requests} requests, {micros:.0} us a plan");
    }
}

fn fields(table: RegisterTable, value: RegisterType, address: fn(u16) -> u16) -> Vec<RegisterField> {
    (0..POINTS).map(|number| RegisterField::new(table, address(number), value)).collect()
}
