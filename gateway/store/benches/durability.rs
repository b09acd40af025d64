//! What durability costs: `cargo bench -p kerbside-store --bench durability`, on the disk of `KERBSIDE_BENCH_DIR`
//! (default: the folder for temporary files; a memory file system has no syncs worth the name), for about
//! `KERBSIDE_BENCH_MESSAGES` messages a line (default 20,000).
//!
//! For batches of 1 to 5,000 messages of 200 bytes, one after another, it prints what each message costs: CPU of the
//! process in microseconds, bytes written and syncs as the store's own metrics count them (the copies of the log are in
//! them, the last one at the end too), and how long a commit takes from hand-over to acknowledgement.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use kerbside_model::{Effects, FrameFlags, Frames, StoredInput, Timestamp};
use kerbside_runtime::{Clock, Health, Metrics};
use kerbside_store::{Commit, Store, StoreConfig};
use rustix::time::{ClockId, clock_gettime};

/// Messages of one commit.
const BATCHES: [usize; 5] = [1, 10, 100, 1_000, 5_000];
const PAYLOAD_BYTES: usize = 200;
const DEVICES: usize = 10_000;
const START: Timestamp = Timestamp(1_800_000_000_000);
/// Fewer commits would say little of a disk, more would take long with a message each.
const COMMITS: std::ops::RangeInclusive<usize> = 50..=2_000;

/// What one line of the table stands on.
struct Cost {
    messages: usize,
    cpu: Duration,
    written_bytes: u64,
    stored_bytes: u64,
    syncs: u64,
    /// Sorted.
    commits: Vec<Duration>,
}

fn main() {
    let folder = std::env::var_os("KERBSIDE_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let messages = std::env::var("KERBSIDE_BENCH_MESSAGES")
        .map_or(20_000, |text| text.parse().expect("KERBSIDE_BENCH_MESSAGES is a number"));
    println!("messages of {PAYLOAD_BYTES} bytes on {}", folder.display());
    println!(
        "{:>6} {:>8} {:>12} {:>12} {:>12} {:>12} {:>10} {:>10}",
        "batch", "commits", "CPU us/msg", "written/msg", "stored/msg", "syncs/msg", "ms/commit", "p99 ms"
    );
    for batch in BATCHES {
        let commits = (messages / batch).clamp(*COMMITS.start(), *COMMITS.end());
        let cost = measure(&folder, batch, commits);
        let per_message = |value: f64| value / cost.messages as f64;
        println!(
            "{batch:>6} {commits:>8} {:>12.2} {:>12.0} {:>12.0} {:>12.5} {:>10.2} {:>10.2}",
            per_message(cost.cpu.as_secs_f64() * 1e6),
            per_message(cost.written_bytes as f64),
            per_message(cost.stored_bytes as f64),
            per_message(cost.syncs as f64),
            mean(&cost.commits).as_secs_f64() * 1e3,
            cost.commits[cost.commits.len() * 99 / 100].as_secs_f64() * 1e3,
        );
    }
}

fn measure(folder: &Path, batch: usize, commits: usize) -> Cost {
    let data = tempfile::tempdir_in(folder).expect("the folder for the benchmark can be written");
    let (metrics, health) = (Metrics::default(), Health::default());
    let config = StoreConfig::new(data.path().to_owned());
    let store = Store::open(config, Clock::System, &metrics, &health).expect("an empty folder can be opened");
    let mut times = Vec::with_capacity(commits);
    let mut cpu = Duration::ZERO;
    for number in 0..commits {
        let inputs = vec![StoredInput::Frames(frames(number * batch, batch))];
        let before = cpu_time();
        let began = Clock::stamp();
        let (sender, receiver) = sync_channel(1);
        let done = Box::new(move |_| sender.send(()).expect("the benchmark waits for it"));
        let now = Timestamp(START.0 + number as i64);
        let commit = Commit { now, inputs, effects: Effects::default(), snapshot: None, done };
        store.commit(commit).expect("the writer runs");
        receiver.recv().expect("the commit is done");
        times.push(began.elapsed());
        cpu += cpu_time().saturating_sub(before);
    }
    let before = cpu_time();
    store.close().expect("the store closes");
    cpu += cpu_time().saturating_sub(before);
    times.sort_unstable();
    Cost {
        messages: batch * commits,
        cpu,
        written_bytes: metric(&metrics, "kerbside_store_bytes_written_total"),
        stored_bytes: metric(&metrics, "kerbside_store_batch_bytes_total{kind=\"stored\"}"),
        syncs: metric(&metrics, "kerbside_store_syncs_total"),
        commits: times,
    }
}

/// Messages as a district sends them: every value moves, every device is another one.
fn frames(first: usize, count: usize) -> Frames {
    let mut frames = Frames::new("bench".into(), START);
    for number in first..first + count {
        let device = number % DEVICES;
        let address = format!("city/d{:02}/manhole/MH-{device:07}/up", device % 50);
        frames.push(&address, payload(number, device).as_bytes(), FrameFlags::default(), None);
    }
    frames
}

fn payload(number: usize, device: usize) -> String {
    // A linear congruential generator: the same digits at every run, and no two alike.
    let random = (number as u64).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 20;
    let digits = |shift: u32, modulus: u64| (random >> shift) % modulus;
    let mut text = format!(
        "{{\"id\":\"MH-{device:07}\",\"ts\":{},\"seq\":{number},\"tilt\":{}.{:02},\"level\":{},\"battery\":{},\
         \"rssi\":-{},\"temp\":{}.{},\"cover_open\":false,\"water\":{},\"ch4\":{}.{},\"pad\":\"",
        START.0 + number as i64,
        digits(0, 5),
        digits(3, 100),
        digits(7, 3_000),
        60 + digits(11, 40),
        60 + digits(15, 50),
        10 + digits(19, 20),
        digits(23, 10),
        digits(2, 200),
        digits(5, 3),
        digits(9, 10),
    );
    while text.len() + 2 < PAYLOAD_BYTES {
        text.push('x');
    }
    text.push_str("\"}");
    text
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("there are 10^9 in a second"))
}

fn mean(times: &[Duration]) -> Duration {
    times.iter().sum::<Duration>() / u32::try_from(times.len()).expect("there are few commits")
}

fn metric(metrics: &Metrics, name: &str) -> u64 {
    let text = metrics.encode();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).expect("the store has this metric")
}
