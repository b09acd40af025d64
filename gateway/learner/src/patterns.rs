//! What follows on what: counts which cell comes after which, in the short (the point before) and in the long (8 and
//! 16 points before), blended with what is usual at this hour of the day. The rarer, the more bits of surprise.

use serde::{Deserialize, Serialize};

use crate::arithmetic::log2;
use crate::counts::{Count, Counters, Room};
use crate::grid::{CELLS, FINE, cell};
use crate::learner::Mode;
use crate::tuning::{FINE_HALF, Tuning};

/// Points between the cells of a long context.
const LONG_STEP: usize = 8;
/// Points that the longest context looks back.
const HISTORY: usize = 2 * LONG_STEP;
/// The grid whose cells lie evenly around the middle; every mode has it.
const GRID_SYMMETRIC: usize = 1;

/// Counters of one grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tables {
    /// Context 0: every point; then one for each part of the day.
    hours: Counters,
    /// By the cell of the point before.
    short: Counters,
    /// By the cell of 8 points before.
    long: Counters,
    /// By the cells of 8 and of 16 points before; only in full mode.
    longest: Option<Counters>,
}

/// Which grids a mode has, and how finely it counts.
#[derive(Clone, Copy, Debug)]
struct Shape {
    grids: &'static [usize],
    parts_of_day: usize,
    hours: Room,
    single: Room,
    longest: Option<Room>,
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
    tables: Box<[Tables]>,
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
        let tables = |_: &usize| Tables {
            hours: Counters::new(shape.hours),
            short: Counters::new(shape.single),
            long: Counters::new(shape.single),
            longest: shape.longest.map(Counters::new),
        };
        Patterns { tables: shape.grids.iter().map(tables).collect(), history: [FINE_HALF as u8; HISTORY], newest: 0 }
    }

    /// Whether the tables are those of the mode: what was stored comes from outside.
    pub(crate) fn is_sound(&self, mode: Mode) -> bool {
        let shape = shape(mode);
        let fits = |tables: &Tables| {
            let is_longest_sound = match (&tables.longest, shape.longest) {
                (Some(counters), Some(room)) => counters.fits(room),
                (None, None) => true,
                _ => false,
            };
            tables.hours.fits(shape.hours)
                && tables.short.fits(shape.single)
                && tables.long.fits(shape.single)
                && is_longest_sound
        };
        self.tables.len() == shape.grids.len()
            && self.tables.iter().all(fits)
            && self.history.iter().all(|fine| usize::from(*fine) < FINE)
            && usize::from(self.newest) < HISTORY
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let each = |tables: &Tables| {
            let longest = tables.longest.as_ref().map_or(0, Counters::bytes);
            tables.hours.bytes() + tables.short.bytes() + tables.long.bytes() + longest
        };
        size_of_val(&*self.tables) + self.tables.iter().map(each).sum::<usize>()
    }

    /// Says how surprising a cell is, and counts it.
    pub(crate) fn observe(&mut self, mode: Mode, fine: usize, minute_of_day: u16, tuning: &Tuning) -> Surprise {
        let shape = shape(mode);
        let part_of_day = 1 + usize::from(minute_of_day) * shape.parts_of_day / 1440;
        let (before, long, longest) = (self.back(0), self.back(LONG_STEP - 1), self.back(HISTORY - 1));
        let mut surprise = Surprise::default();
        for (tables, grid) in self.tables.iter_mut().zip(shape.grids) {
            let contexts = Contexts {
                part_of_day,
                short: cell(before, *grid),
                long: cell(long, *grid),
                longest: cell(long, *grid) * CELLS + cell(longest, *grid),
            };
            let now = cell(fine, *grid);
            let found = tables.surprise(&contexts, now, tuning.prior);
            surprise.short += found.short;
            surprise.long += found.long;
            tables.add(&contexts, now);
        }
        self.newest = (self.newest + 1) % HISTORY as u8;
        self.history[usize::from(self.newest)] = fine as u8;
        let grids = shape.grids.len() as f32;
        Surprise { short: surprise.short / grids, long: surprise.long / grids }
    }

    /// What usually came where the newest point came: after the point before, or 8 points after such a one.
    pub(crate) fn usual(&self, mode: Mode, reach: Reach) -> Usual {
        let position = shape(mode).grids.iter().position(|grid| *grid == GRID_SYMMETRIC);
        let tables = &self.tables[position.unwrap_or(0)];
        let now = cell(self.back(0), GRID_SYMMETRIC);
        let (counters, steps) = match reach {
            Reach::Short => (&tables.short, 1),
            Reach::Long => (&tables.long, LONG_STEP),
        };
        let context = cell(self.back(steps), GRID_SYMMETRIC);
        let mut cells = [0; CELLS];
        for (number, count) in cells.iter_mut().enumerate() {
            *count = counters.get(context, number).seen;
        }
        // The newest point is counted already, and is not usual by having come.
        cells[now] = cells[now].saturating_sub(1);
        let Count { seen, of } = counters.get(context, now);
        Usual { count: Count { seen: seen.saturating_sub(1), of: of.saturating_sub(1) }, cells }
    }

    /// The fine cell so many points before the newest one (0..HISTORY).
    fn back(&self, points: usize) -> usize {
        usize::from(self.history[(usize::from(self.newest) + HISTORY - points) % HISTORY])
    }
}

impl Tables {
    fn surprise(&self, contexts: &Contexts, now: usize, prior: f32) -> Surprise {
        let ever = self.hours.get(0, now).blend(1.0 / CELLS as f32, prior);
        let hour = self.hours.get(contexts.part_of_day, now).blend(ever, prior);
        let short = self.short.get(contexts.short, now).blend(ever, prior);
        let long = self.long.get(contexts.long, now).blend(ever, prior);
        let longest = match &self.longest {
            Some(counters) => counters.get(contexts.longest, now).blend(long, prior),
            None => long,
        };
        Surprise { short: -log2(0.5 * (short + hour)), long: -log2(0.5 * (longest + hour)) }
    }

    fn add(&mut self, contexts: &Contexts, now: usize) {
        self.hours.add(0, now);
        self.hours.add(contexts.part_of_day, now);
        self.short.add(contexts.short, now);
        self.long.add(contexts.long, now);
        if let Some(counters) = &mut self.longest {
            counters.add(contexts.longest, now);
        }
    }
}
