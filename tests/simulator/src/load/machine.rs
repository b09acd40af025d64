//! Turns the machine's clock and counters into microseconds and CPU seconds. Linux only; elsewhere CPU is zero.

use std::time::{SystemTime, UNIX_EPOCH};

/// Linux counts CPU time for user space in hundredths of a second on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Microseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "a load tool measures in microseconds of the machine's own clock")]
pub(crate) fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// User and system CPU seconds of this process so far.
pub(crate) fn cpu_seconds() -> f64 {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return 0.0 };
    // The name of the process may hold spaces; the numbers begin after its closing parenthesis.
    let Some((_, numbers)) = stat.rsplit_once(')') else { return 0.0 };
    let ticks: f64 = numbers.split_whitespace().skip(11).take(2).filter_map(|number| number.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}
