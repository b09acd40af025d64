//! What was learned about a unit beyond its profile: places that it does not have, requests that it does not take.
//!
//! Turns the outcome of polls into borders for the planner. A refused request is divided within the poll (see `poll`);
//! here the smallest refused request with sound halves is explained: by the gap between the halves, by its length, or
//! by a border in the unit's map that no request may cross. A single place that is refused is left alone and asked
//! again later. A request that only times out is divided from poll to poll, because each try costs a timeout.
//! Plain functions over state in memory; after a crash it is learned again within a few polls.

use std::time::Duration;

use kerbside_model::{RegisterTable, Timestamp};

use crate::modbus::breaker::Pace;
use crate::modbus::plan::{Borders, Request};

/// A request that the unit leaves without an answer in so many polls running, while it answers others, is divided or
/// left alone.
const SILENCES_MAX: u32 = 3;

/// The first lost answer to a request may be a lost packet; it counts for so much of the share of silent units.
const FIRST_LOSS: f64 = 1.0 / 64.0;

/// Borders and lengths are how a unit is made; once a day it may show that its firmware was changed.
const BORDER_MEMORY: Duration = Duration::from_secs(86_400);

/// So many borders of one unit are kept; the oldest makes room. More than a profile has points cannot matter.
const BORDERS_MAX: usize = 512;

/// Why a place that only times out is left alone.
const NO_ANSWER: &str = "no answer to this request";

/// A place that is left alone.
#[derive(Clone, Debug)]
pub(super) struct Bad {
    pub(super) place: Request,
    pub(super) cause: String,
    pub(super) until: Timestamp,
}

#[derive(Debug)]
struct Border {
    refused: Request,
    until: Timestamp,
}

/// A request that had no answer while others had one.
#[derive(Debug)]
struct Suspect {
    request: Request,
    silences: u32,
    /// It is left alone until then, and never for longer than `wait`.
    retry_at: Timestamp,
    wait: Duration,
    /// Nothing is read across its ends: it is a half of a longer one, and the search goes on inside it.
    is_half: bool,
}

/// A request that was refused and divided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) request: Request,
    pub(super) halves: [Request; 2],
}

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Silence {
    pub(super) request: Request,
    pub(super) places: Vec<Request>,
    /// What that did to other units.
    pub(super) pace: Pace,
}

/// What one poll has shown.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) answered: Vec<Request>,
    pub(super) refused: Vec<Refusal>,
    /// Requests without an answer.
    pub(super) silent: Vec<Silence>,
    /// Single places that were refused, with the cause.
    pub(super) bad: Vec<(Request, String)>,
    /// Places that were in quarantine and are read again.
    pub(super) healed: Vec<Request>,
}

/// What is known about one unit.
#[derive(Debug, Default)]
pub(super) struct Knowledge {
    bad: Vec<Bad>,
    borders: Vec<Border>,
    longest: [Option<(u16, Timestamp)>; 4],
    suspects: Vec<Suspect>,
    /// The longest request by table that was ever answered.
    answered: [u16; 4],
    generation: u64,
}

impl Knowledge {
    /// Changes whenever a plan may have to.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Places that are left alone, by table and address.
    pub(super) fn bad(&self) -> &[Bad] {
        &self.bad
    }

    /// Whether requests are under suspicion, so that plans hang on the time.
    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Of which tables anything was ever read.
    pub(super) fn known_tables(&self) -> [bool; 4] {
        self.answered.map(|count| count > 0)
    }

    /// Whether nothing has to be explained: no findings but answers of lengths that are known.
    pub(super) fn is_untouched_by(&self, findings: &Findings) -> bool {
        let Findings { answered, refused, silent, bad, healed } = findings;
        let is_new = |request: &Request| request.count > self.answered[request.table as usize];
        refused.is_empty()
            && silent.is_empty()
            && bad.is_empty()
            && healed.is_empty()
            && self.suspects.is_empty()
            && !answered.iter().any(is_new)
    }

    /// Drops what is too old, and keeps what is left from lasting longer because the clock was set back.
    pub(super) fn begin(&mut self, now: Timestamp, quarantine: Duration) {
        for bad in &mut self.bad {
            bad.until = bad.until.min(now.plus(quarantine));
        }
        let before = self.borders.len();
        self.borders.retain(|border| border.until > now);
        let mut has_changed = self.borders.len() != before;
        for longest in &mut self.longest {
            if longest.is_some_and(|(_, until)| until <= now) {
                *longest = None;
                has_changed = true;
            }
        }
        if has_changed {
            self.generation += 1;
        }
        for suspect in &mut self.suspects {
            suspect.retry_at = suspect.retry_at.min(now.plus(suspect.wait));
        }
        for border in &mut self.borders {
            border.until = border.until.min(now.plus(BORDER_MEMORY));
        }
    }

    /// What the planner must keep to.
    pub(super) fn borders(&self) -> Borders {
        let mut refused: Vec<Request> = self.bad.iter().map(|bad| bad.place).collect();
        refused.extend(self.borders.iter().map(|border| border.refused));
        for suspect in self.suspects.iter().filter(|suspect| suspect.is_half) {
            let table = suspect.request.table;
            refused.extend(fence(table, u32::from(suspect.request.address)));
            refused.extend(fence(table, suspect.request.end()));
        }
        Borders { refused, longest: self.longest.map(|longest| longest.map(|(count, _)| count)) }
    }

    /// Why a place is not asked at `now`.
    pub(super) fn reason_against(&self, place: &Request, now: Timestamp) -> Option<&str> {
        if let Some(bad) = self.bad.iter().find(|bad| bad.place == *place) {
            return Some(&bad.cause);
        }
        let waits = |suspect: &&Suspect| suspect.retry_at > now && suspect.request.contains(place);
        self.suspects.iter().find(waits).map(|_| NO_ANSWER)
    }

    /// Takes in what a poll of a unit that answers has shown. Whether a place was put aside or is read again.
    pub(super) fn learn(&mut self, findings: Findings, now: Timestamp, quarantine: Duration) -> bool {
        let before = self.bad.len();
        self.note_lengths(&findings.answered);
        self.explain(&findings, now);
        self.follow_suspects(&findings, now, quarantine);
        let has_healed = !findings.healed.is_empty();
        for healed in &findings.healed {
            // What was wrong is right again; the rest of the table is asked as planned, and learned anew.
            self.bad.retain(|bad| bad.place.table != healed.table);
        }
        for (place, cause) in findings.bad {
            self.put_aside(place, cause, now.plus(quarantine));
        }
        self.bad.sort_unstable_by_key(|bad| bad.place);
        self.generation += 1;
        has_healed || self.bad.len() != before
    }

    fn note_lengths(&mut self, answered: &[Request]) {
        for request in answered {
            let longest = &mut self.answered[request.table as usize];
            *longest = request.count.max(*longest);
        }
    }

    fn put_aside(&mut self, place: Request, cause: String, until: Timestamp) {
        match self.bad.iter_mut().find(|bad| bad.place == place) {
            Some(bad) => (bad.cause, bad.until) = (cause, until),
            None => self.bad.push(Bad { place, cause, until }),
        }
    }

    /// The smallest refused requests whose halves were both read have a reason of their own.
    fn explain(&mut self, findings: &Findings, now: Timestamp) {
        for Refusal { request, halves: [first, second] } in &findings.refused {
            let is_answered = |half: &Request| findings.answered.contains(half);
            if !is_answered(first) || !is_answered(second) {
                continue;
            }
            let table = request.table as usize;
            let start = u16::try_from(first.end() - 1).expect("a request ends within its table");
            let until = now.plus(BORDER_MEMORY);
            if first.end() >= u32::from(second.address) && request.count > self.answered[table] {
                self.longest[table] = Some((self.answered[table], until));
                continue;
            }
            // Over the gap, or over the border where the two halves meet.
            let end = u32::from(second.address).max(first.end());
            let count = u16::try_from(end + 1 - u32::from(start)).unwrap_or(request.count);
            let narrow = Request { table: request.table, address: start, count };
            let is_refuted = findings.answered.iter().any(|answered| answered.contains(&narrow));
            let refused = if is_refuted || !request.contains(&narrow) { *request } else { narrow };
            if self.borders.len() >= BORDERS_MAX {
                self.borders.remove(0);
            }
            self.borders.push(Border { refused, until });
        }
    }

    /// Requests that had no answer while others had one: perhaps the unit is silent about a register that it does not
    /// have. Where each try hurts other units, tries are as rare as their share demands.
    fn follow_suspects(&mut self, findings: &Findings, now: Timestamp, quarantine: Duration) {
        let is_heard = |suspect: &Suspect| findings.answered.iter().any(|answered| answered.overlaps(&suspect.request));
        let is_refused = |suspect: &Suspect| findings.refused.iter().any(|refusal| refusal.request == suspect.request);
        self.suspects.retain(|suspect| !is_heard(suspect) && !is_refused(suspect));
        for Silence { request, places, pace } in &findings.silent {
            let known = self.suspects.iter().position(|suspect| suspect.request.overlaps(request));
            let mut suspect = match known {
                Some(position) => self.suspects.swap_remove(position),
                None => Suspect { request: *request, silences: 0, retry_at: now, wait: Duration::ZERO, is_half: false },
            };
            suspect.request = *request;
            suspect.silences += 1;
            let loss = if suspect.silences == 1 { FIRST_LOSS } else { 1.0 };
            suspect.wait = pace.wait(loss);
            suspect.retry_at = now.plus(suspect.wait);
            if suspect.silences < SILENCES_MAX {
                self.suspects.push(suspect);
                continue;
            }
            match places.as_slice() {
                [place] => self.put_aside(*place, NO_ANSWER.to_owned(), now.plus(quarantine)),
                places => {
                    let (first, second) = places.split_at(places.len() / 2);
                    // One more timeout is enough to divide a half again.
                    let half = |places: &[Request]| Suspect {
                        request: around(places),
                        silences: SILENCES_MAX - 1,
                        retry_at: suspect.retry_at,
                        wait: suspect.wait,
                        is_half: true,
                    };
                    self.suspects.extend([half(first), half(second)]);
                }
            }
        }
    }
}

/// A range that every request across this address holds.
fn fence(table: RegisterTable, address: u32) -> Option<Request> {
    let first = u16::try_from(address.checked_sub(1)?).ok()?;
    (address <= u32::from(u16::MAX)).then_some(Request { table, address: first, count: 2 })
}

fn around(places: &[Request]) -> Request {
    let end = places.iter().map(Request::end).max().expect("a half has places");
    let first = places[0];
    Request { count: u16::try_from(end - u32::from(first.address)).expect("a request fits its table"), ..first }
}
