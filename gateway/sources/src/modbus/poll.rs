//! One poll of one unit, while it runs: which request is next, and what an answer or its absence means.
//!
//! Turns pieces of a plan into frames of registers and into findings for the unit's knowledge. A request that the unit
//! refuses is divided at once, so that its good registers arrive in the same poll. What the unit was silent about is
//! tried at the end, once it has answered something else. What was read at clearly different times goes into different
//! frames, so that the time of each frame is right for all that is in it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::{RegisterBlock, RegisterFailure, RegisterRead, RegisterTable, Timestamp};
use tokio_modbus::ExceptionCode;

use crate::modbus::breaker::{Pace, Wait};
use crate::modbus::knowledge::Findings;
use crate::modbus::link::ReadError;
use crate::modbus::plan::{Piece, Request};
use crate::modbus::silence::{Aim, Refusal, Silence, Try};

/// Requests are divided at most so often in one poll, so that a unit with a wrong profile does not keep the bus. One
/// bad register among 2000 bits is found with 11. After that gaps are not read through for the rest of the poll, so
/// that a unit whose gaps are all illegal misses no good register while its gaps are learned.
const DIVISIONS_MAX: u32 = 16;

/// So many requests running without an answer end a poll: the unit went away meanwhile.
const SILENCES_RUNNING_MAX: u32 = 3;

/// The patience of a poll.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// So many requests without an answer end the poll while there was none and nobody is hurt; at least 1.
    pub(super) first_silences_max: u32,
    /// What a request without an answer does to other units.
    pub(super) pace: Pace,
    /// How long an answer is waited for until there was one.
    pub(super) first_wait: Wait,
    /// What lies further apart is not of one time.
    pub(super) frame_spread_max: Duration,
}

/// Registers of one time.
#[derive(Debug, PartialEq)]
pub(super) struct Gathered {
    pub(super) read: RegisterRead,
    /// When the last of them came.
    pub(super) at: Timestamp,
}

/// What a request is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To see whether the unit is there: one place of those that it may have.
    Scout,
    /// As planned, or a part of that.
    Plan,
    /// A place that the unit has refused, after a while.
    Recheck,
    /// An answer is not expected.
    Try(Aim),
}

/// A request that is under way.
#[derive(Debug)]
struct Asked {
    piece: Piece,
    purpose: Purpose,
    wait: Wait,
}

/// One poll of a unit, while it runs.
#[derive(Debug)]
pub(super) struct Poll {
    pub(super) beats: Vec<u16>,
    /// A place that is asked before everything else.
    scout: Option<Request>,
    has_scouted: bool,
    /// It was read or refused, so that it need not be asked as planned.
    is_scout_settled: bool,
    pieces: Arc<[Piece]>,
    /// How many pieces were taken, and which one was the first.
    taken: usize,
    first: usize,
    /// Halves that come before the next piece.
    halves: VecDeque<Piece>,
    /// A place in quarantine that is asked again at the end.
    recheck: Option<Request>,
    /// Places that must stand in one frame to mean anything.
    couples: Arc<[[Request; 2]]>,
    /// What is asked last, and only when there was an answer before.
    tries: VecDeque<Try>,
    asked: Option<Asked>,
    asked_at: Timestamp,
    patience: Patience,
    known_tables: [bool; 4],
    has_answer: bool,
    silences_running: u32,
    divisions: u32,
    /// Tables that the unit does not have at all.
    lacks: Vec<(RegisterTable, String)>,
    /// Why the rest is not asked.
    stopped: Option<String>,
    has_lost_bus: bool,
    findings: Findings,
    read: RegisterRead,
    /// When the first of `read` came, and the last.
    first_at: Option<Timestamp>,
    last_at: Timestamp,
    frames: Vec<Gathered>,
    first_silence: Option<(String, Pace)>,
}

/// What a poll is begun with.
pub(super) struct Task {
    pub(super) beats: Vec<u16>,
    pub(super) pieces: Arc<[Piece]>,
    pub(super) first: usize,
    pub(super) left_out: Vec<RegisterFailure>,
    pub(super) scout: Option<Request>,
    pub(super) recheck: Option<Request>,
    pub(super) tries: Vec<Try>,
    pub(super) couples: Arc<[[Request; 2]]>,
    pub(super) patience: Patience,
    /// Of which tables anything was ever read.
    pub(super) known_tables: [bool; 4],
}

/// What a poll came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) beats: Vec<u16>,
    pub(super) frames: Vec<Gathered>,
    pub(super) findings: Findings,
    pub(super) has_answer: bool,
    pub(super) has_lost_bus: bool,
    /// Why the first request without an answer had none, and what that did to others.
    pub(super) silence: Option<(String, Pace)>,
    /// The piece that was answered first, or the one after those without an answer.
    pub(super) first: usize,
    /// The place that was asked before everything else, and whether there was an answer.
    pub(super) scouted: Option<(Request, bool)>,
    pub(super) pieces: Arc<[Piece]>,
}

impl Poll {
    pub(super) fn new(task: Task, now: Timestamp) -> Poll {
        let Task { beats, pieces, first, left_out, scout, recheck, tries, couples, patience, known_tables } = task;
        let blocks = Vec::with_capacity(pieces.len());
        Poll {
            beats,
            scout,
            has_scouted: false,
            is_scout_settled: false,
            first: first.checked_rem(pieces.len()).unwrap_or(0),
            pieces,
            taken: 0,
            halves: VecDeque::new(),
            recheck,
            couples,
            tries: tries.into(),
            asked: None,
            asked_at: now,
            patience,
            known_tables,
            has_answer: false,
            silences_running: 0,
            divisions: 0,
            lacks: Vec::new(),
            stopped: None,
            has_lost_bus: false,
            findings: Findings::default(),
            read: RegisterRead { blocks, failures: left_out },
            first_at: None,
            last_at: now,
            frames: Vec::new(),
            first_silence: None,
        }
    }

    /// The next request to ask, or nothing when the poll is over.
    pub(super) fn next_request(&mut self, now: Timestamp) -> Option<Request> {
        self.asked_at = now;
        if let Some(scout) = self.scout.filter(|_| !self.has_scouted) {
            self.has_scouted = true;
            return Some(self.ask(Piece::alone(scout), Purpose::Scout, self.patience.first_wait));
        }
        while let Some((piece, purpose)) = self.next_piece() {
            let lack = self.lacks.iter().find(|(table, _)| *table == piece.request.table).map(|(_, cause)| cause);
            if let Some(cause) = self.stopped.as_ref().or(lack) {
                let cause = cause.clone();
                if self.stopped.is_none() {
                    self.findings.bad.extend(piece.places.iter().map(|place| (*place, cause.clone())));
                }
                self.read.failures.push(failure(piece.request, cause));
                continue;
            }
            if self.divisions >= DIVISIONS_MAX
                && let Some(runs) = piece.runs()
            {
                runs.into_iter().rev().for_each(|run| self.halves.push_front(run));
                continue;
            }
            let wait = if self.has_answer { Wait::Full } else { self.patience.first_wait };
            return Some(self.ask(piece, purpose, wait));
        }
        if !self.has_answer || self.stopped.is_some() {
            return None;
        }
        let Try { piece, aim, wait } = self.tries.pop_front()?;
        Some(self.ask(piece, Purpose::Try(aim), wait))
    }

    fn ask(&mut self, piece: Piece, purpose: Purpose, wait: Wait) -> Request {
        let request = piece.request;
        self.asked = Some(Asked { piece, purpose, wait });
        request
    }

    /// How long the answer to the last request is waited for, in the clock's time, when that is not the whole timeout.
    pub(super) fn short_wait(&self) -> Option<Duration> {
        let is_short = self.asked.as_ref().is_some_and(|asked| asked.wait == Wait::Short);
        is_short.then_some(self.patience.pace.short)
    }

    fn next_piece(&mut self) -> Option<(Piece, Purpose)> {
        if let Some(half) = self.halves.pop_front() {
            return Some((half, Purpose::Plan));
        }
        while self.taken < self.pieces.len() {
            let position = (self.first + self.taken) % self.pieces.len();
            self.taken += 1;
            let piece = &self.pieces[position];
            let is_settled = self.is_scout_settled && self.scout == Some(piece.request);
            if !is_settled {
                return Some((piece.clone(), Purpose::Plan));
            }
        }
        let place = self.recheck.take()?;
        Some((Piece::alone(place), Purpose::Recheck))
    }

    /// The last request is only sent now, because somebody else was served before it.
    pub(super) fn put_off(&mut self, now: Timestamp) {
        self.asked_at = now;
    }

    /// Takes the answer to the last request, or its failure, which came at `now`.
    pub(super) fn settle(&mut self, result: Result<Vec<u16>, ReadError>, now: Timestamp) {
        let asked = self.asked.take().expect("an answer follows a request");
        self.cut_before(now);
        self.findings.has_tried |= matches!(asked.purpose, Purpose::Try(_));
        match result {
            Ok(words) => self.take(&asked, words),
            Err(error) => self.miss(asked, &error, now),
        }
    }

    fn take(&mut self, asked: &Asked, words: Vec<u16>) {
        let request = asked.piece.request;
        let Request { table, address, .. } = request;
        (self.has_answer, self.silences_running) = (true, 0);
        self.is_scout_settled |= asked.purpose == Purpose::Scout;
        self.findings.answered.push(request);
        self.known_tables[table as usize] = true;
        match asked.purpose {
            Purpose::Try(Aim::Gap) => return,
            Purpose::Recheck | Purpose::Try(Aim::Again) => self.findings.healed.push(request),
            Purpose::Scout | Purpose::Plan | Purpose::Try(Aim::Suspect) => {}
        }
        if asked.purpose != Purpose::Plan {
            self.withdraw(request);
        }
        self.read.blocks.push(RegisterBlock { table, address, words });
    }

    /// What was thought to fail from the start was read after all, or has failed for another reason.
    fn withdraw(&mut self, request: Request) {
        self.read.failures.retain(|failure| {
            let RegisterFailure { table, address, count, .. } = *failure;
            !request.contains(&Request { table, address, count })
        });
    }

    fn miss(&mut self, asked: Asked, error: &ReadError, now: Timestamp) {
        let Asked { piece, purpose, wait } = asked;
        let took = now.since(self.asked_at);
        let pace = self.patience.pace.of_silence(took, wait);
        if error.is_answer() {
            (self.has_answer, self.silences_running) = (true, 0);
        } else {
            self.silences_running += 1;
            self.first_silence.get_or_insert_with(|| (error.to_string(), pace));
        }
        if is_illegal(error) {
            if purpose == Purpose::Try(Aim::Gap) {
                self.findings.refused_gaps.push(piece.request);
                return;
            }
            if purpose != Purpose::Plan {
                self.withdraw(piece.request);
            }
            self.is_scout_settled |= purpose == Purpose::Scout;
            self.divide(piece, error);
            return;
        }
        self.stop_if_hopeless(error, &pace);
        if matches!(purpose, Purpose::Plan | Purpose::Recheck) {
            self.read.failures.push(failure(piece.request, error.to_string()));
        }
        if error.is_answer() || self.has_lost_bus {
            return;
        }
        // One wait in vain is enough for one poll.
        self.tries.clear();
        let aim = match purpose {
            Purpose::Scout => return,
            Purpose::Plan => Aim::Suspect,
            Purpose::Recheck => Aim::Again,
            Purpose::Try(aim) => aim,
        };
        self.findings.silent.push(Silence { piece, aim, wait, took });
    }

    fn stop_if_hopeless(&mut self, error: &ReadError, pace: &Pace) {
        if let ReadError::Connect(cause) = error {
            self.has_lost_bus = true;
            self.stopped = Some(cause.clone());
            return;
        }
        let silences_max = match (pace.is_harmful(), self.has_answer) {
            (true, _) => 1,
            (false, false) => self.patience.first_silences_max,
            (false, true) => SILENCES_RUNNING_MAX,
        };
        if self.silences_running >= silences_max {
            self.stopped = Some(format!("unit does not answer: {error}"));
        }
    }

    /// Asks again for the halves of what was refused; a single place is put aside.
    fn divide(&mut self, piece: Piece, error: &ReadError) {
        let cause = error.to_string();
        match piece.halves() {
            Some(halves) if self.divisions < DIVISIONS_MAX => {
                self.divisions += 1;
                let requests = halves.each_ref().map(|half| half.request);
                self.findings.refused.push(Refusal { request: piece.request, halves: requests });
                let [first, second] = halves;
                self.halves.push_front(second);
                self.halves.push_front(first);
            }
            Some(_) => self.read.failures.push(failure(piece.request, cause)),
            None => {
                let table = piece.request.table;
                let is_function = matches!(error, ReadError::Exception(ExceptionCode::IllegalFunction));
                if is_function && !self.known_tables[table as usize] {
                    self.lacks.push((table, cause.clone()));
                }
                self.findings.bad.push((piece.request, cause.clone()));
                self.read.failures.push(failure(piece.request, cause));
            }
        }
    }

    /// Begins a new frame when what comes now is clearly younger than the first of this one.
    fn cut_before(&mut self, now: Timestamp) {
        let first_at = *self.first_at.get_or_insert(now);
        if now.since(first_at) > self.patience.frame_spread_max && !self.read.blocks.is_empty() {
            let carried = carried(&self.couples, &self.read);
            let read = std::mem::replace(&mut self.read, RegisterRead { blocks: carried, failures: Vec::new() });
            self.frames.push(Gathered { read, at: self.last_at });
            self.first_at = Some(now);
        }
        self.last_at = now;
    }

    pub(super) fn end(mut self) -> Outcome {
        let position_of = |answered: &Request| self.pieces.iter().position(|piece| piece.request == *answered);
        let position = self.findings.answered.iter().find_map(position_of);
        let first = match position {
            Some(position) => position,
            None if self.has_answer => 0,
            // The next poll asks for something else first: perhaps the unit is only silent about this.
            None => self.first + self.findings.silent.len(),
        };
        if self.read != RegisterRead::default() {
            self.frames.push(Gathered { read: self.read, at: self.last_at });
        }
        Outcome {
            beats: self.beats,
            frames: self.frames,
            findings: self.findings,
            has_answer: self.has_answer,
            has_lost_bus: self.has_lost_bus,
            silence: self.first_silence,
            first,
            scouted: self.scout.map(|scout| (scout, self.has_answer)),
            pieces: self.pieces,
        }
    }
}

/// Whether the unit says that it does not have this, or not so much at once: exceptions 1, 2 and 3. Some units say 1
/// when they are asked for more than they can give.
pub(super) fn is_illegal(error: &ReadError) -> bool {
    matches!(error, ReadError::Exception(ExceptionCode::IllegalFunction)) || error.is_illegal_data()
}

pub(super) fn failure(request: Request, cause: String) -> RegisterFailure {
    let Request { table, address, count } = request;
    RegisterFailure { table, address, count, cause }
}

/// What the next frame needs of the last one: places that mean nothing without one that is still to come.
fn carried(couples: &[[Request; 2]], read: &RegisterRead) -> Vec<RegisterBlock> {
    let mut carried: Vec<RegisterBlock> = Vec::new();
    for [one, other] in couples {
        let (place, block) = match (block_of(read, one), block_of(read, other)) {
            (Some(block), None) => (one, block),
            (None, Some(block)) => (other, block),
            _ => continue,
        };
        let from = usize::from(place.address - block.address);
        let words = block.words[from..from + usize::from(place.count)].to_vec();
        let block = RegisterBlock { table: place.table, address: place.address, words };
        if !carried.contains(&block) {
            carried.push(block);
        }
    }
    carried
}

fn block_of<'a>(read: &'a RegisterRead, place: &Request) -> Option<&'a RegisterBlock> {
    let holds = |block: &&RegisterBlock| {
        let end = usize::from(block.address) + block.words.len();
        block.table == place.table && block.address <= place.address && place.end() as usize <= end
    };
    read.blocks.iter().find(holds)
}
