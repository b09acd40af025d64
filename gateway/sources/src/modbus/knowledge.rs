//! What was learned about a unit beyond its profile: places that it does not have, requests that it does not take.
//!
//! Turns the outcome of polls into borders for the planner. A refused request is divided within the poll (see `poll`);
//! here the smallest refused request with sound halves is explained: by the gap between the halves, by its length, or
//! by a border in the unit's map that no request may cross. A single place that is refused is left alone and asked
//! again later. What a unit is silent about is found in `silence`, from poll to poll, because each try costs a timeout.
//! Plain functions over state in memory; after a crash it is learned again within a few polls.

use std::time::Duration;

use kerbside_model::Timestamp;

use crate::modbus::plan::{Borders, Request};
use crate::modbus::silence::{Learning, Refusal, Silence, Silences, Try};

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
    pub(super) kind: BadKind,
}

/// How a unit says that it does not have a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadKind {
    /// With an exception, which costs nothing.
    Refused,
    /// With silence, which costs a timeout.
    Silent,
}

#[derive(Debug)]
struct Border {
    refused: Request,
    until: Timestamp,
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
    /// Gaps that were tried by themselves and refused.
    pub(super) refused_gaps: Vec<Request>,
    /// Whether anything was asked whose answer was not expected.
    pub(super) has_tried: bool,
}

/// What is known about one unit.
#[derive(Debug, Default)]
pub(super) struct Knowledge {
    bad: Vec<Bad>,
    borders: Vec<Border>,
    longest: [Option<(u16, Timestamp)>; 4],
    silences: Silences,
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

    /// Whether the unit is silent about something and it is not known yet about what.
    pub(super) fn is_searching(&self) -> bool {
        self.silences.is_searching()
    }

    /// Gaps that are not read across, with the time when they are tried again.
    pub(super) fn holes(&self) -> impl Iterator<Item = (Request, Timestamp)> + '_ {
        self.silences.holes()
    }

    /// What to try at `now`, once the unit has answered something.
    pub(super) fn tries(&self, now: Timestamp) -> Vec<Try> {
        let is_due = |bad: &&Bad| bad.kind == BadKind::Silent && bad.until <= now;
        self.silences.tries(self.bad.iter().filter(is_due).map(|bad| bad.place), now)
    }

    /// Of which tables anything was ever read.
    pub(super) fn known_tables(&self) -> [bool; 4] {
        self.answered.map(|count| count > 0)
    }

    /// Whether nothing has to be explained: no findings but answers of lengths that are known.
    pub(super) fn is_untouched_by(&self, findings: &Findings) -> bool {
        let Findings { answered, refused, silent, bad, healed, refused_gaps, has_tried } = findings;
        let is_new = |request: &Request| request.count > self.answered[request.table as usize];
        refused.is_empty()
            && silent.is_empty()
            && bad.is_empty()
            && healed.is_empty()
            && refused_gaps.is_empty()
            && !has_tried
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
        self.silences.begin(now, quarantine);
        for border in &mut self.borders {
            border.until = border.until.min(now.plus(BORDER_MEMORY));
        }
    }

    /// What the planner must keep to.
    pub(super) fn borders(&self) -> Borders {
        let mut refused: Vec<Request> = self.bad.iter().map(|bad| bad.place).collect();
        refused.extend(self.borders.iter().map(|border| border.refused));
        refused.extend(self.silences.borders());
        Borders { refused, longest: self.longest.map(|longest| longest.map(|(count, _)| count)) }
    }

    /// Why a place is not planned.
    pub(super) fn reason_against(&self, place: &Request) -> Option<&str> {
        if let Some(bad) = self.bad.iter().find(|bad| bad.place == *place) {
            return Some(&bad.cause);
        }
        self.silences.suspects(place).then_some(NO_ANSWER)
    }

    /// Takes in what a poll of a unit that answers has shown. Whether a place was put aside or is read again.
    pub(super) fn learn(&mut self, findings: Findings, time: Learning<'_>) -> bool {
        let now = time.now;
        let before = self.bad.len();
        let Findings { answered, refused, silent, bad, healed, refused_gaps, .. } = findings;
        self.note_lengths(&answered);
        self.explain_refusals(&refused, &answered, now);
        let mut over: Vec<Request> = refused.iter().map(|refusal| refusal.request).collect();
        over.extend(bad.iter().map(|(place, _)| *place));
        over.extend(&refused_gaps);
        let verdict = self.silences.learn(&answered, &over, silent, &time);
        for refusal in &verdict.explained {
            self.explain(refusal, &answered, now);
        }
        for request in verdict.too_long {
            self.shorten(request, now);
        }
        for gap in refused_gaps {
            self.add_border(gap, now);
        }
        let mut has_healed = false;
        for place in &healed {
            has_healed |= self.heal(place);
        }
        let until = now.plus(time.quarantine);
        for (place, cause) in bad {
            self.put_aside(Bad { place, cause, until, kind: BadKind::Refused });
        }
        for place in verdict.bad {
            self.put_aside(Bad { place, cause: NO_ANSWER.to_owned(), until, kind: BadKind::Silent });
        }
        self.bad.sort_unstable_by_key(|bad| bad.place);
        self.generation += 1;
        has_healed || self.bad.len() != before
    }

    /// A place that was left alone is read again; whether it was.
    fn heal(&mut self, place: &Request) -> bool {
        let Some(bad) = self.bad.iter().find(|bad| bad.place == *place) else { return false };
        match bad.kind {
            // What was wrong is right again; the rest of the table is asked as planned, and learned anew.
            BadKind::Refused => {
                self.bad.retain(|bad| bad.place.table != place.table || bad.kind == BadKind::Silent);
            }
            // To learn anew what is met with silence would cost a timeout each.
            BadKind::Silent => self.bad.retain(|bad| bad.place != *place),
        }
        true
    }

    fn note_lengths(&mut self, answered: &[Request]) {
        for request in answered {
            let longest = &mut self.answered[request.table as usize];
            *longest = request.count.max(*longest);
        }
    }

    fn put_aside(&mut self, bad: Bad) {
        match self.bad.iter_mut().find(|known| known.place == bad.place) {
            Some(known) => *known = bad,
            None => self.bad.push(bad),
        }
    }

    /// The smallest refused requests whose halves were both read have a reason of their own.
    fn explain_refusals(&mut self, refused: &[Refusal], answered: &[Request], now: Timestamp) {
        for refusal in refused {
            if refusal.halves.iter().all(|half| answered.contains(half)) {
                self.explain(refusal, answered, now);
            }
        }
    }

    /// A request is not taken, and both of its halves are.
    fn explain(&mut self, refusal: &Refusal, answered: &[Request], now: Timestamp) {
        let Refusal { request, halves: [first, second] } = refusal;
        let table = request.table as usize;
        let start = u16::try_from(first.end() - 1).expect("a request ends within its table");
        if first.end() >= u32::from(second.address) && request.count > self.answered[table] {
            self.shorten(*request, now);
            return;
        }
        // Over the gap, or over the border where the two halves meet.
        let end = u32::from(second.address).max(first.end());
        let count = u16::try_from(end + 1 - u32::from(start)).unwrap_or(request.count);
        let narrow = Request { table: request.table, address: start, count };
        let is_refuted = answered.iter().any(|answered| answered.contains(&narrow));
        self.add_border(if is_refuted || !request.contains(&narrow) { *request } else { narrow }, now);
    }

    /// A request is not taken because it is longer than what was answered so far, or for no reason that can be seen.
    fn shorten(&mut self, request: Request, now: Timestamp) {
        let table = request.table as usize;
        match self.answered[table] {
            answered @ 1.. if answered < request.count => {
                self.longest[table] = Some((answered, now.plus(BORDER_MEMORY)));
            }
            _ => self.add_border(request, now),
        }
    }

    fn add_border(&mut self, refused: Request, now: Timestamp) {
        if self.borders.len() >= BORDERS_MAX {
            self.borders.remove(0);
        }
        self.borders.push(Border { refused, until: now.plus(BORDER_MEMORY) });
    }
}
