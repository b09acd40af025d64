//! What one point costs and what one series takes: `cargo bench -p kerbside-learner`, or with `POINTS` of one's own.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time and prints")]
#![expect(clippy::print_stdout, reason = "a benchmark measures time and prints")]

use std::time::Instant;

use kerbside_learner::{Learner, Mode, Moment, WARMUP_POINTS_DEFAULT};

/// Series that are judged in turn, as in a gateway: their tables do not fit into the nearest cache.
const SERIES: usize = 200;

fn main() {
    let points = std::env::var("POINTS").map_or(10_000, |text| text.parse().expect("a number stands in POINTS"));
    for mode in [Mode::Full, Mode::Light] {
        measure(mode, 1, points * 20);
        measure(mode, SERIES, points);
    }
}

fn measure(mode: Mode, series: usize, points: usize) {
    let mut learners = vec![Learner::new(mode, WARMUP_POINTS_DEFAULT); series];
    let mut random = 88_172_645_463_325_252_u64;
    let mut value = |point: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let noise = (random >> 11) as f64 / (1_u64 << 53) as f64;
        (point % 288) as f64 * 0.1 + noise * 5.0
    };
    let warmup = WARMUP_POINTS_DEFAULT as usize;
    let (mut alarms, mut began, mut most) = (0, Instant::now(), 0);
    for point in 0..warmup + points {
        if point == warmup {
            began = Instant::now();
        }
        let moment = Moment::from_local_seconds(1_800_000_000 + 300 * point as i64);
        for learner in &mut learners {
            alarms += usize::from(learner.observe(value(point), moment).alarm.is_some());
        }
        most = most.max(learners[0].bytes());
    }
    let nanoseconds = began.elapsed().as_nanos() as f64 / (points * series) as f64;
    println!("{mode:?}, {series} series: {nanoseconds:.0} ns a point, at most {most} bytes a series, {alarms} alarms");
}
