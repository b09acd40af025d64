//! What a unit that answers is silent about: a register that it does not have, or a gap that it does not read across.
//!
//! Many units say nothing when a request holds an address that they do not have. A planned request without an answer
//! is under suspicion, and its places are not planned any more until it is cleared: they are tried at the end of polls
//! in which the unit has answered something else, so that a unit that is away is never mistaken for one that is silent
//! about something. A request that stays silent is divided: first into runs without a gap, so that nothing sound waits
//! for the rest, then by halves. A gap is tried by itself; whether a request is too long, or crosses a border, is
//! believed when it is silent once more after all of its parts were read. A place by itself is given the whole timeout
//! before it is left alone.
//!
//! A try that is silent keeps the bus; [`Pace`] says how long nothing more is tried. A poll ends its tries with the
//! first silent one. Plain functions over state in memory; after a crash it is learned again within a few polls.

use std::time::Duration;

use kerbside_model::Timestamp;

use crate::modbus::breaker::{Pace, Wait};
use crate::modbus::plan::{Piece, Request};

/// A request without an answer in so many polls running, in which the unit has answered something else, is divided.
/// One may be a lost packet, and two are on a bad radio link.
const SILENCES_MAX: u32 = 3;

/// The first lost answer to a request may be a lost packet; it counts for so much of the share of silent units.
const FIRST_LOSS: f64 = 1.0 / 64.0;

/// Tries in one poll at most: what is sound costs a request each, and the poll shall end within its period.
const TRIES_MAX: usize = 8;

/// So many gaps of one unit are kept; the oldest makes room. More than a profile has points cannot matter.
const HOLES_MAX: usize = 512;

/// What a try is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// To read what was silent.
    Suspect,
    /// To see whether a gap can be read across; what is read is not wanted.
    Gap,
    /// To see whether what was left alone can be read again.
    Again,
}

/// A request whose answer is not expected.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Try {
    pub(super) piece: Piece,
    pub(super) aim: Aim,
    pub(super) wait: Wait,
}

/// A request that was divided, within a poll or from poll to poll.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) request: Request,
    pub(super) halves: [Request; 2],
}

/// A request without an answer.
#[derive(Clone, Debug)]
pub(super) struct Silence {
    pub(super) piece: Piece,
    pub(super) aim: Aim,
    pub(super) wait: Wait,
    /// How long it kept the bus, in the clock's time.
    pub(super) took: Duration,
}

/// What the silences of a poll have shown.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Single places without an answer.
    pub(super) bad: Vec<Request>,
    /// Requests that are silent although both halves are read.
    pub(super) explained: Vec<Refusal>,
    /// Requests that are silent although all in them, and across each of their gaps, is read.
    pub(super) too_long: Vec<Request>,
}

#[derive(Debug)]
struct Suspect {
    piece: Piece,
    silences: u32,
    /// What it was divided into, when all of that was read: it is tried once more.
    divided_into: Option<Parts>,
}

/// What a silent request was divided into.
#[derive(Clone, Debug)]
enum Parts {
    Halves([Request; 2]),
    /// Runs without a gap.
    Runs(Vec<Request>),
}

impl Parts {
    fn requests(&self) -> &[Request] {
        match self {
            Parts::Halves(halves) => halves,
            Parts::Runs(runs) => runs,
        }
    }
}

/// A silent request whose parts are under suspicion.
#[derive(Debug)]
struct Division {
    piece: Piece,
    parts: Parts,
    /// In the order of the parts.
    is_read: Vec<bool>,
}

impl Division {
    fn new(piece: Piece, parts: Parts) -> Division {
        let is_read = vec![false; parts.requests().len()];
        Division { piece, parts, is_read }
    }
}

/// A gap that no request may cross.
#[derive(Debug)]
struct Hole {
    /// The place before the gap, the gap, and the place behind it.
    around: Request,
    /// The same with one register on either side.
    across: Request,
    /// When it is tried again; nothing while it was not tried by itself.
    until: Option<Timestamp>,
}

/// Closed for a while.
#[derive(Debug, Default)]
struct Gate {
    opens_at: Timestamp,
    wait: Duration,
}

impl Gate {
    fn is_open(&self, now: Timestamp) -> bool {
        self.opens_at <= now
    }

    fn close(&mut self, now: Timestamp, wait: Duration) {
        let opens_at = now.plus(wait);
        if opens_at > self.opens_at {
            (self.opens_at, self.wait) = (opens_at, wait);
        }
    }

    /// A clock that is set back does not keep it closed for longer.
    fn keep_near(&mut self, now: Timestamp) {
        self.opens_at = self.opens_at.min(now.plus(self.wait));
    }
}

/// What is known about the silences of one unit.
#[derive(Debug, Default)]
pub(super) struct Silences {
    suspects: Vec<Suspect>,
    divisions: Vec<Division>,
    holes: Vec<Hole>,
    /// No try before this, and none that is given the whole timeout.
    tries: Gate,
    full_tries: Gate,
}

impl Silences {
    /// Whether something is to be found out.
    pub(super) fn is_searching(&self) -> bool {
        !self.suspects.is_empty() || self.holes.iter().any(|hole| hole.until.is_none())
    }

    /// Whether this place is under suspicion, so that it is tried and not planned.
    pub(super) fn suspects(&self, place: &Request) -> bool {
        self.suspects.iter().any(|suspect| suspect.divided_into.is_none() && suspect.piece.places.contains(place))
    }

    /// What no planned request may hold.
    pub(super) fn borders(&self) -> impl Iterator<Item = Request> + '_ {
        let suspects = self.suspects.iter().map(|suspect| suspect.piece.request);
        suspects.chain(self.holes.iter().map(|hole| hole.across))
    }

    /// Gaps that are known to be silent, with the time when they are tried again.
    pub(super) fn holes(&self) -> impl Iterator<Item = (Request, Timestamp)> + '_ {
        self.holes.iter().filter_map(|hole| Some((inside(&hole.across), hole.until?)))
    }

    /// Keeps what waits from waiting longer because the clock was set back.
    pub(super) fn begin(&mut self, now: Timestamp, quarantine: Duration) {
        self.tries.keep_near(now);
        self.full_tries.keep_near(now);
        for hole in &mut self.holes {
            hole.until = hole.until.map(|until| until.min(now.plus(quarantine)));
        }
    }

    /// What to try at `now`, once the unit has answered something; `again` are places left alone whose time has come.
    pub(super) fn tries(&self, again: impl Iterator<Item = Request>, now: Timestamp) -> Vec<Try> {
        if !self.tries.is_open(now) {
            return Vec::new();
        }
        let may_be_full = self.full_tries.is_open(now);
        let suspects = self.suspects.iter().map(|suspect| Try {
            piece: suspect.piece.clone(),
            aim: Aim::Suspect,
            // A short wait must never put a slow register aside.
            wait: if suspect.is_last_try() { Wait::Full } else { Wait::Short },
        });
        let short = |request: Request, aim: Aim| Try { piece: Piece::alone(request), aim, wait: Wait::Short };
        let gap = |hole: &Hole| short(hole.around, Aim::Gap);
        let untried = self.holes.iter().filter(|hole| hole.until.is_none()).map(gap);
        let tried = self.holes.iter().filter(|hole| hole.until.is_some_and(|until| until <= now)).map(gap);
        let again = again.map(|place| short(place, Aim::Again));
        let tries = suspects.filter(|one| one.wait == Wait::Short || may_be_full).chain(untried).chain(again);
        tries.chain(tried).take(TRIES_MAX).collect()
    }

    /// Takes in what a poll of a unit that answers has shown: requests that were answered, refused, and silent.
    pub(super) fn learn(
        &mut self,
        answered: &[Request],
        refused: &[Request],
        silent: Vec<Silence>,
        time: &Learning<'_>,
    ) -> Verdict {
        let is_read = |request: &Request| answered.iter().any(|answered| answered.contains(request));
        self.suspects.retain(|suspect| {
            let request = &suspect.piece.request;
            !is_read(request) && !refused.contains(request)
        });
        self.holes.retain(|hole| !is_read(&hole.across) && !refused.contains(&hole.around));
        self.divisions.retain(|division| {
            let is_refused = division.parts.requests().iter().any(|half| refused.contains(half));
            !is_refused && !is_read(&division.piece.request)
        });
        for division in &mut self.divisions {
            for (part, is_part_read) in division.parts.requests().iter().zip(&mut division.is_read) {
                *is_part_read |= is_read(part);
            }
        }
        let mut verdict = Verdict::default();
        for silence in silent {
            self.hear_nothing(silence, time, &mut verdict);
        }
        self.end_divisions();
        verdict
    }

    fn hear_nothing(&mut self, silence: Silence, time: &Learning<'_>, verdict: &mut Verdict) {
        let request = silence.piece.request;
        let known = self.suspects.iter().position(|suspect| suspect.piece == silence.piece);
        let loss = if silence.aim == Aim::Suspect && known.is_none() { FIRST_LOSS } else { 1.0 };
        self.tries.close(time.now, time.pace.rest_after_try(silence.took, loss).max(time.owing));
        if silence.wait == Wait::Full {
            self.full_tries.close(time.now, time.pace.rest_after_try(silence.took, 1.0));
        }
        match silence.aim {
            // Knowledge leaves it alone for another while.
            Aim::Again => verdict.bad.push(request),
            Aim::Gap => {
                let gap = self.holes.iter_mut().find(|hole| hole.around == request);
                gap.into_iter().for_each(|hole| hole.until = Some(time.now.plus(time.quarantine)));
            }
            Aim::Suspect => {
                let mut suspect = match known {
                    Some(position) => self.suspects.remove(position),
                    None => Suspect { piece: silence.piece, silences: 0, divided_into: None },
                };
                suspect.silences += 1;
                match suspect.silences {
                    SILENCES_MAX.. => self.judge(suspect, verdict),
                    _ => self.suspects.push(suspect),
                }
            }
        }
    }

    fn judge(&mut self, suspect: Suspect, verdict: &mut Verdict) {
        let Suspect { piece, divided_into, .. } = suspect;
        match divided_into {
            Some(Parts::Halves(halves)) => {
                verdict.explained.push(Refusal { request: piece.request, halves });
                return;
            }
            Some(Parts::Runs(_)) => {
                verdict.too_long.push(piece.request);
                return;
            }
            None => {}
        }
        // What it was a part of is as silent as it is.
        self.divisions.retain(|division| !division.parts.requests().contains(&piece.request));
        if let Some(runs) = piece.runs() {
            for pair in runs.windows(2) {
                self.add_hole(&pair[0], &pair[1]);
            }
            let requests = runs.iter().map(|run| run.request).collect();
            self.divisions.push(Division::new(piece, Parts::Runs(requests)));
            self.suspects.extend(runs.into_iter().map(Suspect::part));
            return;
        }
        match piece.halves() {
            None => verdict.bad.push(piece.request),
            Some([first, second]) => {
                let halves = [first.request, second.request];
                self.divisions.push(Division::new(piece, Parts::Halves(halves)));
                self.suspects.extend([Suspect::part(first), Suspect::part(second)]);
            }
        }
    }

    fn add_hole(&mut self, before: &Piece, behind: &Piece) {
        let (Some(last), Some(first)) = (before.last_place(), behind.places.first()) else { return };
        let around = Piece::around(&[last, *first]).request;
        let Ok(start) = u16::try_from(before.request.end() - 1) else { return };
        let Ok(count) = u16::try_from(u32::from(first.address) + 1 - u32::from(start)) else { return };
        let across = Request { address: start, count, ..around };
        if self.holes.iter().any(|hole| hole.across == across) {
            return;
        }
        if self.holes.len() >= HOLES_MAX {
            self.holes.remove(0);
        }
        self.holes.push(Hole { around, across, until: None });
    }

    /// Those of which all parts were read, and no gap is to blame, are tried once more as a whole.
    fn end_divisions(&mut self) {
        for division in std::mem::take(&mut self.divisions) {
            let request = division.piece.request;
            let mut gaps = self.holes.iter().filter(|hole| request.contains(&hole.across)).peekable();
            let has_gaps = gaps.peek().is_some();
            if gaps.any(|hole| hole.until.is_some()) {
                continue;
            }
            if has_gaps || division.is_read.contains(&false) {
                self.divisions.push(division);
                continue;
            }
            let Division { piece, parts, .. } = division;
            self.suspects.push(Suspect { piece, silences: SILENCES_MAX - 1, divided_into: Some(parts) });
        }
    }
}

/// When and how something is learned.
pub(super) struct Learning<'a> {
    pub(super) now: Timestamp,
    pub(super) pace: &'a Pace,
    /// For how long something is left alone, in the clock's time.
    pub(super) quarantine: Duration,
    /// After a wait in vain the answer may still come for so long, in the clock's time, and look like that to the next
    /// try; zero where it cannot.
    pub(super) owing: Duration,
}

impl Suspect {
    /// Of a silent request. One more silence is enough to divide it again, and a single place has two.
    fn part(piece: Piece) -> Suspect {
        let rest = if piece.places.len() == 1 { 2 } else { 1 };
        Suspect { piece, silences: SILENCES_MAX - rest, divided_into: None }
    }

    fn is_single(&self) -> bool {
        self.piece.places.len() == 1
    }

    /// Whether one more silence has it left alone.
    fn is_last_try(&self) -> bool {
        self.is_single() && self.silences >= SILENCES_MAX - 1
    }
}

/// Without the registers on either side of a gap.
fn inside(across: &Request) -> Request {
    Request { address: across.address + 1, count: across.count.saturating_sub(2), ..*across }
}
