//! The numbers of the learner: one set for every series. They are in one place so that a trial can shake all of them
//! (examples/nab.rs); a gateway uses [`TUNING`].
//!
//! Each number lies on a plateau: docs/benchmarks.md has what happens when all are shaken by 20 %.

use crate::arithmetic::sinh;

/// Fine cells on each side of the middle; three neighbours are a cell of one of the grids.
pub(crate) const FINE_HALF: usize = 33;

/// How a learner weighs what it sees.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Where fine cells end, in units of the series' spread, outwards from the middle.
    pub(crate) edges: [f32; FINE_HALF],
    /// Share of the warm-up that lies below, and above, one spread from the middle. 0.02.
    pub trim: f32,
    /// How much an unseen context believes the shorter one, in points. 1.5.
    pub prior: f32,
    /// Points of exponential mean of what is compared with its hour. 10.
    pub hour_points: f32,
    /// Rate at which an hour forgets, a point. 0.02.
    pub hour_rate: f32,
    /// The smallest spread of an hour, as a share of that of the whole series. 0.3.
    pub hour_floor: f32,
    /// Points of the exponential mean that is called level. 100.
    pub level_points: f32,
    /// Points of the exponential moments that the level is compared with. 3000.
    pub level_memory: f32,
    /// The quantile beyond which a stream's tail begins. 0.97.
    pub tail_quantile: f32,
    /// Rate at which a tail follows its stream, a point. 0.0003.
    pub tail_rate: f32,
    /// The greatest strength of one stream, in decimal orders of magnitude. 8.
    pub strength_max: f32,
    /// Mean strength that opens an alarm where there was none lately. 1.1.
    pub bar: f32,
    /// Rest after an alarm, as a share of the warm-up. 0.2.
    pub rest: f32,
    /// How many times as strong something must be to be an alarm within the rest. 1.4.
    pub escalate: f32,
    /// How much of an alarm's strength is added to the bar. 0.1.
    pub rise: f32,
    /// Time in which the added bar sinks to a third, in warm-ups. 8.
    pub sink: f32,
    /// From which share of the warm-up on the bar rises with what would have been an alarm. 0.3.
    pub bar_start: f32,
}

/// The numbers in use.
pub const TUNING: Tuning = Tuning {
    edges: edges(2.4),
    trim: 0.02,
    prior: 1.5,
    hour_points: 10.0,
    hour_rate: 0.02,
    hour_floor: 0.3,
    level_points: 100.0,
    level_memory: 3000.0,
    tail_quantile: 0.97,
    tail_rate: 0.0003,
    strength_max: 8.0,
    bar: 1.1,
    rest: 0.2,
    escalate: 1.4,
    rise: 0.1,
    sink: 8.0,
    bar_start: 0.3,
};

impl Tuning {
    /// The same with another number of cells a spread; in use are 2.4, about five between the trimmed ends.
    pub fn with_cells(mut self, cells_a_spread: f64) -> Tuning {
        self.edges = edges(cells_a_spread);
        self
    }
}

/// Cells are equally wide near the middle and grow in proportion further out: edges lie where asinh is regular.
const fn edges(cells_a_spread: f64) -> [f32; FINE_HALF] {
    let mut edges = [0.0; FINE_HALF];
    let mut index = 0;
    while index < FINE_HALF {
        edges[index] = sinh((index as f64 + 0.5) / (3.0 * cells_a_spread)) as f32;
        index += 1;
    }
    edges
}
