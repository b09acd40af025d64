//! The few functions that the learner needs, out of operations that give the same bits on every machine.

/// Logarithm to base 2 of a positive number, within 0.00003 (the error of the fit); of the smallest numbers and of zero
/// -127.
pub(crate) fn log2(value: f32) -> f32 {
    let bits = value.to_bits();
    let exponent = ((bits >> 23) & 0xff) as i32 - 127;
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f80_0000);
    // A polynomial through log2(1 + t) on 0..1 which is exact at both ends, so that steps of the exponent join.
    let t = mantissa - 1.0;
    let curve = 1.0 + (1.0 - t) * (0.441_740 + t * (-0.266_030 + t * (0.146_314 - t * 0.044_005)));
    exponent as f32 + t * curve
}

/// Hyperbolic sine, by the series of the exponential function; |x| <= 8.
pub(crate) const fn sinh(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while n < 40.0 {
        term = term * x * x / ((2.0 * n) * (2.0 * n + 1.0));
        sum += term;
        n += 1.0;
    }
    sum
}

/// The value below which a share (0..=1) of the values lies, between neighbours in proportion; 0 of nothing.
pub(crate) fn quantile(sorted: &[f32], share: f32) -> f32 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f32;
    let below = (place as usize).min(last);
    let above = (below + 1).min(last);
    let part = place - below as f32;
    sorted[below] * (1.0 - part) + sorted[above] * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_near_that_of_the_library() {
        for step in 1..2_000 {
            let value = step as f32 * 0.000_7;
            assert!(
                (log2(value) - value.log2()).abs() < 0.000_03,
                "log2({value}) is {}, not {}",
                log2(value),
                value.log2()
            );
        }
        assert!(log2(0.0) <= -126.0);
    }

    #[test]
    fn the_hyperbolic_sine_is_that_of_the_library() {
        for step in -70..=70 {
            let x = f64::from(step) * 0.1;
            assert!((sinh(x) - x.sinh()).abs() <= 1e-11 * x.sinh().abs(), "sinh({x}) is {}", sinh(x));
        }
    }

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(quantile(&[7.0], 0.98), 7.0);
        assert_eq!(quantile(&[0.0, 10.0, 20.0], 0.25), 5.0);
        assert_eq!(quantile(&[0.0, 10.0, 20.0], 1.0), 20.0);
    }
}
