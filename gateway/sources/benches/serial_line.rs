//! How much of a serial line's time a saturated bus uses: `cargo bench -p kerbside-sources --bench serial_line`, or with
//! `BAUD`, `SPAN_SECONDS` and `TURN_AROUND_US` of one's own.
//!
//! A pseudo-terminal takes bytes at once, so the simulated unit takes the time of the line: it has understood a request
//! after as long as its bytes take, thinks for its turn-around, and sends its answer byte by byte. A request that
//! begins before the line was silent for three and a half characters is not understood, as by a real unit. Theory is
//! request, turn-around, answer and that silence, one after the other without a gap.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures time and prints; its line lasts as long as a real one"
)]
#![expect(clippy::print_stdout, reason = "a benchmark measures time and prints")]

#[path = "../src/modbus/link/tests/terminal.rs"]
mod terminal;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kerbside_model::RegisterTable;
use kerbside_model::profile::{RegisterField, RegisterType};
use kerbside_runtime::{Clock, Health, Intake, Metrics, Shutdown};
use kerbside_sources::modbus::{
    BeatPlan, Limits, Link, ModbusBus, ModbusConfig, Parity, PortName, SerialConfig, SerialLine, StormPeriod, UnitPlan,
};

/// Enough that one is always due.
const UNITS: u8 = 8;
const REQUEST_BYTES: usize = 8;
/// Unit, function, byte count, checksum.
const ANSWER_BYTES_AROUND: usize = 5;
/// A wait of the machine is no shorter silence on the line.
const CLOCK_ERROR: Duration = Duration::from_micros(100);

/// What the simulated unit has seen.
#[derive(Debug, Default)]
struct Seen {
    exchanges: AtomicU64,
    too_early: AtomicU64,
    is_over: AtomicBool,
}

fn main() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number stands in the variable"))
    };
    let baud = u32::try_from(number("BAUD", 9_600)).expect("a speed");
    let span = Duration::from_secs(number("SPAN_SECONDS", 10));
    let turn_around = Duration::from_micros(number("TURN_AROUND_US", 5_000));
    let line = SerialLine { baud, parity: Parity::None, stop_bits: 1 };
    for registers in [1, 10, 60, 125] {
        let (exchanges, too_early, elapsed) = run(line, turn_around, registers, span);
        let bytes = REQUEST_BYTES + ANSWER_BYTES_AROUND + 2 * usize::from(registers);
        let theory = line.character() * bytes as u32 + turn_around + line.silence();
        let share = theory.as_secs_f64() * exchanges as f64 / elapsed.as_secs_f64();
        println!(
            "{line}, {registers} registers: {exchanges} exchanges in {:.1} s, {:.1} % of theory, {too_early} too early",
            elapsed.as_secs_f64(),
            share * 100.0
        );
    }
}

fn run(line: SerialLine, turn_around: Duration, registers: u16, span: Duration) -> (u64, u64, Duration) {
    let (far, path) = terminal::open().expect("the machine has pseudo-terminals");
    let seen = Arc::new(Seen::default());
    let far_seen = Arc::clone(&seen);
    let unit = std::thread::spawn(move || answer(far, line, turn_around, &far_seen));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("the machine can run it");
    let (intake, mut frames) = Intake::new(100, 10_000_000);
    let (metrics, health, shutdown) = (Metrics::default(), Health::default(), Shutdown::new());
    let bus = ModbusBus::new(config(path, line, registers), intake, Clock::System, &metrics, &health);
    let bus = runtime.spawn(bus.expect("the configuration is sound").run(shutdown.clone()));
    let drained = runtime.spawn(async move { while frames.next().await.is_some() {} });
    // The first polls are spread; the line is full afterwards.
    while seen.exchanges.load(Ordering::Relaxed) < u64::from(UNITS) * 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (began, before) = (Instant::now(), seen.exchanges.load(Ordering::Relaxed));
    std::thread::sleep(span);
    let (elapsed, after) = (began.elapsed(), seen.exchanges.load(Ordering::Relaxed));
    seen.is_over.store(true, Ordering::Relaxed);
    unit.join().expect("the unit does not fail");
    shutdown.cancel();
    runtime.block_on(bus).expect("the bus ends");
    runtime.block_on(drained).expect("its frames end");
    (after - before, seen.too_early.load(Ordering::Relaxed), elapsed)
}

fn config(path: PathBuf, line: SerialLine, registers: u16) -> ModbusConfig {
    let field = |address| RegisterField::new(RegisterTable::Holding, address, RegisterType::U16);
    let unit = |unit: u8| UnitPlan {
        unit,
        address: unit.to_string(),
        beats: vec![BeatPlan {
            period: Duration::from_millis(1),
            storm_period: StormPeriod::Same,
            fields: (0..registers).map(field).collect(),
        }],
        limits: Limits::default(),
        registers_from: None,
    };
    ModbusConfig {
        name: "line".to_owned(),
        source: "line".to_owned(),
        link: Link::Serial(SerialConfig { port: PortName::Path(path), line }),
        timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(5),
        pause: Duration::ZERO,
        pause_after_connect: Duration::ZERO,
        patience: BTreeMap::new(),
        backoff_max: Duration::from_secs(1),
        turn_around: Duration::from_millis(5),
        quarantine: Duration::from_secs(600),
        failing_share: 0.01,
        units: (1..=UNITS).map(unit).collect(),
    }
}

/// The unit: takes requests and answers them, as fast as the line carries bytes.
fn answer(mut far: File, line: SerialLine, turn_around: Duration, seen: &Seen) {
    let mut silent_since = Instant::now() - line.silence();
    while !seen.is_over.load(Ordering::Relaxed) {
        let mut request = [0; REQUEST_BYTES];
        // An error: nobody has the port open yet.
        if far.read_exact(&mut request).is_err() {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let began = Instant::now();
        if began + CLOCK_ERROR < silent_since + line.silence() {
            seen.too_early.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let answer = answer_to(&request);
        let mut due = began + line.character() * REQUEST_BYTES as u32 + turn_around;
        for byte in answer {
            // A byte has arrived when its last bit has.
            due += line.character();
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            far.write_all(&[byte]).expect("the bus has its port open");
        }
        silent_since = due;
        seen.exchanges.fetch_add(1, Ordering::Relaxed);
    }
}

/// Registers that hold their own addresses.
fn answer_to(request: &[u8; REQUEST_BYTES]) -> Vec<u8> {
    let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
    let (address, count) = (word(2), word(4));
    let mut answer = vec![request[0], request[1], (2 * count) as u8];
    answer.extend((address..address + count).flat_map(u16::to_be_bytes));
    let checksum = answer.iter().fold(0xFFFF_u16, |checksum, byte| {
        (0..8).fold(checksum ^ u16::from(*byte), |rest, _| if rest & 1 == 1 { rest >> 1 ^ 0xA001 } else { rest >> 1 })
    });
    answer.extend(checksum.to_le_bytes());
    answer
}
