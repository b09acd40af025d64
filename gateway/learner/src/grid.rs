//! Cells: turns a value into one of 67 fine cells, of which any three neighbours make a cell of one of three grids.
//!
//! One grid alone is a matter of luck: whether the usual values lie in the middle of a cell or on its edge changes
//! every score. Three grids, each shifted by a third of a cell, are counted apart and averaged.

use serde::{Deserialize, Serialize};

use crate::arithmetic::quantile;
use crate::tuning::{FINE_HALF, Tuning};

/// Fine cells: the middle one and both sides.
pub(crate) const FINE: usize = 2 * FINE_HALF + 1;
/// Cells of one grid.
pub(crate) const CELLS: usize = FINE.div_ceil(3);

/// A spread below this share of the middle is rounding noise of the sender (f64 has 1e-16, f32 6e-8).
const SPREAD_SHARE_MIN: f32 = 1e-9;
/// The spread of a series that never moved near zero.
const SPREAD_MIN: f32 = 1e-12;

/// Middle and spread of a series, from its warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Grid {
    pub(crate) middle: f32,
    pub(crate) spread: f32,
}

impl Grid {
    /// Median, and half the distance of the trimmed ends; of a series that mostly stands still the mean deviation.
    pub(crate) fn fit(sorted: &[f32], tuning: &Tuning) -> Grid {
        let middle = quantile(sorted, 0.5);
        let mut spread = (quantile(sorted, 1.0 - tuning.trim) - quantile(sorted, tuning.trim)) / 2.0;
        if spread <= 0.0 {
            let deviations: f32 = sorted.iter().map(|value| (value - middle).abs()).sum();
            spread = deviations / sorted.len().max(1) as f32;
        }
        Grid { middle, spread: spread.max(SPREAD_SHARE_MIN * middle.abs()).max(SPREAD_MIN) }
    }

    /// The fine cell of a value: 0..FINE.
    pub(crate) fn fine(&self, value: f32, tuning: &Tuning) -> usize {
        let distance = (value - self.middle) / self.spread;
        let outwards = tuning.edges.partition_point(|edge| *edge < distance.abs());
        if distance < 0.0 { FINE_HALF - outwards } else { FINE_HALF + outwards }
    }

    /// The middle of a cell of the second grid, whose cell 11 lies evenly around the middle.
    pub(crate) fn centre(&self, cell: usize, tuning: &Tuning) -> f32 {
        let steps = 3 * cell as i64 - FINE_HALF as i64;
        let outwards = (steps.unsigned_abs() as usize).min(FINE_HALF - 1);
        let distance = match outwards {
            0 => 0.0,
            _ => (tuning.edges[outwards - 1] + tuning.edges[outwards]) / 2.0,
        };
        self.middle + self.spread * if steps < 0 { -distance } else { distance }
    }
}

/// The cell of a grid (0..=2) that a fine cell belongs to: 0..CELLS.
pub(crate) fn cell(fine: usize, grid: usize) -> usize {
    (fine + grid) / 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::TUNING;

    #[test]
    fn every_value_has_a_cell_in_every_grid() {
        let grid = Grid { middle: 5.0, spread: 2.0 };
        for value in [-1e30, -100.0, 3.0, 5.0, 5.1, 7.0, 900.0, 1e30] {
            let fine = grid.fine(value, &TUNING);
            assert!(fine < FINE);
            assert!((0..3).all(|number| cell(fine, number) < CELLS));
        }
        assert_eq!(grid.fine(5.0, &TUNING), FINE_HALF);
        assert_eq!(grid.fine(-1e30, &TUNING), 0);
        assert_eq!(grid.fine(1e30, &TUNING), FINE - 1);
    }

    #[test]
    fn a_cells_centre_lies_in_the_cell() {
        let grid = Grid { middle: -3.0, spread: 0.5 };
        for number in 1..CELLS - 1 {
            let centre = grid.centre(number, &TUNING);
            assert_eq!(cell(grid.fine(centre, &TUNING), 1), number, "centre {centre}");
        }
    }

    #[test]
    fn a_series_that_stands_still_has_a_spread() {
        assert!(Grid::fit(&[4.0; 50], &TUNING).spread > 0.0);
        assert!(Grid::fit(&[0.0; 50], &TUNING).spread > 0.0);
        assert!(Grid::fit(&[], &TUNING).spread > 0.0);
        let mut once = vec![1.0; 99];
        once.push(3.0);
        assert!(Grid::fit(&once, &TUNING).spread > 0.01);
    }
}
