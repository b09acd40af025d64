//! Turns latencies in microseconds into quantiles, with an error of at most one part in 32. Pure.

/// Buckets per power of two.
const STEPS: usize = 32;
/// Values under 32 have a bucket each; every one of the 59 powers of two above has 32.
const BUCKETS: usize = STEPS * 60;

/// Counts by size.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    greatest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: vec![0; BUCKETS], count: 0, greatest: 0 }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, value: u64) {
        self.buckets[bucket(value)] += 1;
        self.count += 1;
        self.greatest = self.greatest.max(value);
    }

    pub(crate) fn greatest(&self) -> u64 {
        self.greatest
    }

    /// The upper end of the bucket that this share of the values lies in, or zero when there are none.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, number) in self.buckets.iter().enumerate() {
            seen += number;
            if seen >= wanted {
                return upper_end(index).min(self.greatest);
            }
        }
        self.greatest
    }
}

fn bucket(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let power = value.ilog2() as usize;
    // The five bits under the highest choose the step.
    let step = (value >> (power - 5)) as usize - STEPS;
    (power - 4) * STEPS + step
}

fn upper_end(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let power = index / STEPS + 4;
    let step = (index % STEPS + STEPS) as u64;
    let width = 1_u64 << (power - 5);
    (step << (power - 5)) + (width - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_one_part_in_32() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        for value in 1..=100_000_u64 {
            histogram.add(value);
        }
        for (share, exact) in [(0.5, 50_000.0), (0.99, 99_000.0), (1.0, 100_000.0)] {
            let found = histogram.quantile(share) as f64;
            assert!((found - exact).abs() <= exact / 32.0, "{share}: {found}");
        }
        assert_eq!(histogram.greatest(), 100_000);
    }

    #[test]
    fn every_value_has_a_bucket_that_holds_it() {
        for value in [0, 1, 31, 32, 33, 63, 64, 1_000, u64::from(u32::MAX), u64::MAX / 2, u64::MAX] {
            assert!(upper_end(bucket(value)) >= value, "{value}");
            assert!(bucket(value) < BUCKETS, "{value}");
        }
    }
}
