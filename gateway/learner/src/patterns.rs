//! What follows on what: counts which cell comes after which, in the short (the point before) and in the long (8 and
//! 16 points before), blended with what is usual at this hour of the day. The rarer, the more bits of surprise.

use serde::{Deserialize, Serialize};

use crate::arithmetic::log2;
use crate::counts::{Count, Room};
use crate::grid::{CELLS, FINE, cell};
use crate::learner::Mode;
use crate::tuning::{FINE_HALF, Tuning};

/// Points between the cells of a long context.
const LONG_STEP: usize = 8;
/// Points that the longest context looks back.
const HISTORY: usize = 2 * LONG_STEP;
/// Grids of the mode that has most.
const GRIDS_MAX: usize = 3;
/// The grid whose cells lie evenly around the middle; every mode has it.
const GRID_SYMMETRIC: usize = 1;

/// Which grids a mode has, and how finely it counts. For each grid there are four tables, one behind the other.
#[derive(Clone, Copy, Debug)]
struct Shape {
    grids: &'static [usize],
    parts_of_day: usize,
    /// Context 0: every point; then one for each part of the day.
    hours: Room,
    /// By the cell of the point before, and by the cell of 8 points before.
    single: Room,
    /// By the cells of 8 and of 16 points before; only in full mode.
    longest: Option<Room>,
}

impl Shape {
    /// Counters of one grid.
    const fn slots_of_grid(&self) -> usize {
        let longest = match self.longest {
            Some(room) => room.slots(),
            None => 0,
        };
        self.hours.slots() + 2 * self.single.slots() + longest
    }

    /// The tables of a grid: by hour, by the point before, by 8 points before, by 8 and 16 points before.
    fn tables<'a>(&self, slots: &'a [u16]) -> [&'a [u16]; 4] {
        let (hours, rest) = slots.split_at(self.hours.slots());
        let (short, rest) = rest.split_at(self.single.slots());
        let (long, longest) = rest.split_at(self.single.slots());
        [hours, short, long, longest]
    }

    /// The same, to count in.
    fn tables_mut<'a>(&self, slots: &'a mut [u16]) -> [&'a mut [u16]; 4] {
        let (hours, rest) = slots.split_at_mut(self.hours.slots());
        let (short, rest) = rest.split_at_mut(self.single.slots());
        let (long, longest) = rest.split_at_mut(self.single.slots());
        [hours, short, long, longest]
    }

    /// How often a cell came: ever, at this hour, and in the contexts from short to longest.
    fn counts(&self, tables: [&[u16]; 4], contexts: &Contexts, now: usize) -> [Count; 5] {
        let [hours, short, long, longest] = tables;
        [
            self.hours.get(hours, 0, now),
            self.hours.get(hours, contexts.part_of_day, now),
            self.single.get(short, contexts.short, now),
            self.single.get(long, contexts.long, now),
            self.longest.map_or(Count::default(), |room| room.get(longest, contexts.longest, now)),
        ]
    }

    fn surprise(&self, counts: [Count; 5], prior: f32) -> Surprise {
        let [ever, hour, short, long, longest] = counts;
        let ever = ever.blend(1.0 / CELLS as f32, prior);
        let hour = hour.blend(ever, prior);
        let short = short.blend(ever, prior);
        let long = long.blend(ever, prior);
        let longest = if self.longest.is_some() { longest.blend(long, prior) } else { long };
        Surprise { short: -log2(0.5 * (short + hour)), long: -log2(0.5 * (longest + hour)) }
    }

    fn add(&self, tables: [&mut [u16]; 4], contexts: &Contexts, now: usize) {
        let [hours, short, long, longest] = tables;
        self.hours.add(hours, 0, now);
        self.hours.add(hours, contexts.part_of_day, now);
        self.single.add(short, contexts.short, now);
        self.single.add(long, contexts.long, now);
        if let Some(room) = self.longest {
            room.add(longest, contexts.longest, now);
        }
    }
}

const FULL: Shape = Shape {
    grids: &[0, GRID_SYMMETRIC, 2],
    parts_of_day: 24,
    hours: Room { contexts: 1 + 24, slots_max: 1024 },
    single: Room { contexts: CELLS, slots_max: 1024 },
    longest: Some(Room { contexts: CELLS * CELLS, slots_max: 1024 }),
};

const LIGHT: Shape = Shape {
    grids: &[GRID_SYMMETRIC],
    parts_of_day: 6,
    hours: Room { contexts: 1 + 6, slots_max: 256 },
    single: Room { contexts: CELLS, slots_max: 256 },
    longest: None,
};

fn shape(mode: Mode) -> &'static Shape {
    match mode {
        Mode::Full => &FULL,
        Mode::Light => &LIGHT,
    }
}

/// Surprise in bits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Surprise {
    pub(crate) short: f32,
    pub(crate) long: f32,
}

/// Which context a reason is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach {
    Short,
    Long,
}

/// What usually comes in a context, for a reason.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usual {
    /// How often the newest cell came in its context before, and the context at all.
    pub(crate) count: Count,
    /// What came, each cell as often as it came: the counts of the cells of the symmetric grid.
    pub(crate) cells: [u16; CELLS],
}

/// What follows on what, in all grids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Patterns {
    /// All counters of all grids in one piece, so that a point reaches them in one step.
    slots: Box<[u16]>,
    /// Fine cells of the last points; the newest at `newest`.
    history: [u8; HISTORY],
    newest: u8,
}

/// The numbers of the contexts of a moment, in one grid.
struct Contexts {
    part_of_day: usize,
    short: usize,
    long: usize,
    longest: usize,
}

impl Patterns {
    pub(crate) fn new(mode: Mode) -> Patterns {
        let shape = shape(mode);
        let slots = vec![0; shape.grids.len() * shape.slots_of_grid()].into();
        Patterns { slots, history: [FINE_HALF as u8; HISTORY], newest: 0 }
    }

    /// Whether the tables are those of the mode: what was stored comes from outside.
    pub(crate) fn is_sound(&self, mode: Mode) -> bool {
        let shape = shape(mode);
        self.slots.len() == shape.grids.len() * shape.slots_of_grid()
            && self.history.iter().all(|fine| usize::from(*fine) < FINE)
            && usize::from(self.newest) < HISTORY
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// Says how surprising a cell is, and counts it.
    pub(crate) fn observe(&mut self, mode: Mode, fine: usize, minute_of_day: u16, tuning: &Tuning) -> Surprise {
        let shape = shape(mode);
        let part_of_day = 1 + usize::from(minute_of_day) * shape.parts_of_day / 1440;
        let (before, long, longest) = (self.back(0), self.back(LONG_STEP - 1), self.back(HISTORY - 1));
        let contexts = |grid: usize| Contexts {
            part_of_day,
            short: cell(before, grid),
            long: cell(long, grid),
            longest: cell(long, grid) * CELLS + cell(longest, grid),
        };
        // All that is read is read first: of thousands of series none lies in a cache, and what does not wait for one
        // another is fetched together.
        let mut counts = [[Count::default(); 5]; GRIDS_MAX];
        let grids = || shape.grids.iter().copied();
        for ((slots, grid), counts) in self.slots.chunks_exact(shape.slots_of_grid()).zip(grids()).zip(&mut counts) {
            *counts = shape.counts(shape.tables(slots), &contexts(grid), cell(fine, grid));
        }
        let mut surprise = Surprise::default();
        for ((slots, grid), counts) in self.slots.chunks_exact_mut(shape.slots_of_grid()).zip(grids()).zip(counts) {
            let found = shape.surprise(counts, tuning.prior);
            surprise.short += found.short;
            surprise.long += found.long;
            shape.add(shape.tables_mut(slots), &contexts(grid), cell(fine, grid));
        }
        self.newest = (self.newest + 1) % HISTORY as u8;
        self.history[usize::from(self.newest)] = fine as u8;
        let grids = shape.grids.len() as f32;
        Surprise { short: surprise.short / grids, long: surprise.long / grids }
    }

    /// What usually came where the newest point came: after the point before, or 8 points after such a one.
    pub(crate) fn usual(&self, mode: Mode, reach: Reach) -> Usual {
        let shape = shape(mode);
        let position = shape.grids.iter().position(|grid| *grid == GRID_SYMMETRIC).unwrap_or(0);
        let slots = &self.slots[position * shape.slots_of_grid()..][..shape.slots_of_grid()];
        let [_, short, long, _] = shape.tables(slots);
        let now = cell(self.back(0), GRID_SYMMETRIC);
        let (counters, steps) = match reach {
            Reach::Short => (short, 1),
            Reach::Long => (long, LONG_STEP),
        };
        let context = cell(self.back(steps), GRID_SYMMETRIC);
        let mut cells = [0; CELLS];
        for (number, count) in cells.iter_mut().enumerate() {
            *count = shape.single.get(counters, context, number).seen;
        }
        // The newest point is counted already, and is not usual by having come.
        cells[now] = cells[now].saturating_sub(1);
        let Count { seen, of } = shape.single.get(counters, context, now);
        Usual { count: Count { seen: seen.saturating_sub(1), of: of.saturating_sub(1) }, cells }
    }

    /// The fine cell so many points before the newest one (0..HISTORY).
    fn back(&self, points: usize) -> usize {
        usize::from(self.history[(usize::from(self.newest) + HISTORY - points) % HISTORY])
    }
}
