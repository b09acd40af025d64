//! One unit of a bus: when it is due, how its requests are divided when it refuses some, and what is left alone for a
//! while because it does not answer.
//!
//! Plain functions over state in memory; after a crash it is learned again within a few polls.

use std::collections::VecDeque;
use std::time::Duration;

use kerbside_model::{RegisterBlock, RegisterFailure, RegisterRead, Timestamp};
use kerbside_runtime::Backoff;

use crate::modbus::UnitPlan;
use crate::modbus::client::ReadError;
use crate::modbus::plan::{self, Piece, Request};

/// After so many polls running without any answer a unit is only probed.
const SILENT_POLLS_MAX: u32 = 3;

/// A request that the unit leaves without an answer in so many polls running, while it answers others, is divided or
/// left alone.
const TIMEOUTS_MAX: u32 = 3;

/// How long registers that the unit does not have are left alone, in the clock's time.
const QUARANTINE: Duration = Duration::from_secs(600);

/// Requests are divided at most so often in one poll, so that a unit with a wrong profile does not keep the bus. One
/// bad register among 2000 bits is found with 11.
const DIVISIONS_MAX: u32 = 16;

/// More polls than this are not late but a clock that was set.
const LATE_POLLS_MAX: u64 = 1_000;

/// A request and what was learned about it.
#[derive(Clone, Debug)]
struct Part {
    piece: Piece,
    /// Polls running in which it had no answer while another part had one.
    timeouts: u32,
    /// Why and until when it is left alone.
    quarantine: Option<(String, Timestamp)>,
    /// What became of it in this poll.
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    NotAsked,
    Read,
    Refused,
    Silent,
}

impl Part {
    fn new(piece: Piece, timeouts: u32) -> Part {
        Part { piece, timeouts, quarantine: None, outcome: Outcome::NotAsked }
    }

    fn failure(&self, cause: String) -> RegisterFailure {
        let Request { table, address, count } = self.piece.request;
        RegisterFailure { table, address, count, cause }
    }
}

/// A unit and all that is known about it.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) plan: UnitPlan,
    /// When it is read next.
    pub(super) due: Timestamp,
    /// By table and address.
    parts: Vec<Part>,
    /// Which part is asked first.
    first: usize,
    /// Whether divided requests that were read may be joined again. Once: a unit that refuses what was joined has
    /// borders of its own.
    may_join: bool,
    silent_polls: u32,
    /// Why the last silent poll was silent.
    silence: String,
    probes: Backoff,
    /// `due` is never further away than this, whatever the clock is set to.
    wait_max: Duration,
}

/// One poll of a unit, while it runs.
#[derive(Debug)]
pub(super) struct Poll {
    queue: VecDeque<Part>,
    done: Vec<Part>,
    read: RegisterRead,
    now: Timestamp,
    quarantined_before: usize,
    /// The part that is being asked.
    asked: Option<Part>,
    has_answer: bool,
    silences: u32,
    /// So many requests without an answer end the poll, while there was none.
    silences_max: u32,
    divisions: u32,
    has_rechecked: bool,
    /// Why the rest is not asked.
    stopped: Option<String>,
    has_lost_bus: bool,
    has_healed: bool,
}

/// What a poll came to.
#[derive(Debug)]
pub(super) struct Polled {
    pub(super) read: RegisterRead,
    /// Whether what [`Unit::complaint`] says may have changed.
    pub(super) is_news: bool,
}

impl Unit {
    /// `first_due` is the first poll; `probe_wait_max` the longest time between probes of a unit that does not answer.
    /// Both in the clock's time.
    pub(super) fn new(plan: UnitPlan, first_due: Timestamp, probe_wait_max: Duration) -> Unit {
        // A unit is probed no more often than it was polled: a wait of the backoff is half of its step at least.
        let probe_wait_first = plan.period.saturating_mul(2);
        let wait_max = probe_wait_max.max(probe_wait_first);
        let mut unit = Unit {
            due: first_due,
            parts: Vec::new(),
            first: 0,
            may_join: true,
            silent_polls: 0,
            silence: String::new(),
            probes: Backoff::new(probe_wait_first, wait_max),
            wait_max,
            plan,
        };
        unit.forget();
        unit
    }

    /// Goes back to the requests as planned.
    fn forget(&mut self) {
        let pieces = plan::pieces(&self.plan.fields, self.plan.gap_max, self.plan.registers_max);
        self.parts = pieces.into_iter().map(|piece| Part::new(piece, 0)).collect();
        self.first = 0;
        self.may_join = true;
    }

    /// Whether it answered none of the last polls and is only probed.
    pub(super) fn is_silent(&self) -> bool {
        self.silent_polls >= SILENT_POLLS_MAX
    }

    /// What an operator should know about it.
    pub(super) fn complaint(&self) -> Option<String> {
        let unit = self.plan.unit;
        if self.is_silent() {
            return Some(format!("unit {unit} does not answer: {}", self.silence));
        }
        let mut bad = self.parts.iter().filter_map(|part| Some((part.piece.request, part.quarantine.as_ref()?)));
        let (Request { table, address, .. }, (cause, _)) = bad.next()?;
        let others = bad.count();
        let more = if others > 0 { format!(", and {others} more") } else { String::new() };
        Some(format!("unit {unit} {table:?} {address}: {cause}{more}").to_lowercase())
    }

    /// Brings a due time nearer that lies too far away because the clock was set back.
    pub(super) fn keep_due_near(&mut self, now: Timestamp) {
        self.due = self.due.min(now.plus(self.wait_max));
    }

    /// Begins a poll.
    pub(super) fn begin(&mut self, now: Timestamp) -> Poll {
        let quarantined_before = self.quarantined();
        let mut parts = std::mem::take(&mut self.parts);
        let first = self.first.checked_rem(parts.len()).unwrap_or(0);
        parts.rotate_left(first);
        // What is in quarantine comes last, so that a unit is never probed with it while there is something better.
        parts.sort_by_key(|part| part.quarantine.is_some());
        for part in &mut parts {
            part.outcome = Outcome::NotAsked;
        }
        // One lost answer must not cost a healthy unit its whole poll; one that is silent already costs one timeout.
        let silences_max = if self.silent_polls == 0 { 2 } else { 1 };
        Poll {
            read: RegisterRead { blocks: Vec::with_capacity(parts.len()), failures: Vec::new() },
            done: Vec::with_capacity(parts.len()),
            queue: parts.into(),
            now,
            quarantined_before,
            asked: None,
            has_answer: false,
            silences: 0,
            silences_max,
            divisions: 0,
            has_rechecked: false,
            stopped: None,
            has_lost_bus: false,
            has_healed: false,
        }
    }

    /// Ends a poll: takes its parts back with what was learned.
    pub(super) fn end(&mut self, poll: Poll) -> Polled {
        let before = (self.is_silent(), poll.quarantined_before);
        let Poll { done, read, has_answer, silences, divisions, has_healed, has_lost_bus, now, .. } = poll;
        self.parts = done;
        self.parts.sort_unstable_by_key(|part| part.piece.request);
        if has_answer {
            self.silent_polls = 0;
            self.probes.reset();
            let is_found = self.divide_silent_parts(now);
            // With all its divisions used the search goes on in the next poll.
            if is_found || (1..DIVISIONS_MAX).contains(&divisions) {
                self.join_read_parts();
            }
            self.first = self.parts.iter().position(|part| part.outcome == Outcome::Read).unwrap_or(0);
        } else if silences > 0 {
            // The next poll asks for something else first: perhaps the unit is only silent about this.
            self.first += self.parts.iter().filter(|part| part.outcome == Outcome::Silent).count();
            if !has_lost_bus {
                self.silent_polls = self.silent_polls.saturating_add(1);
                self.silence = read.failures.first().map(|failure| failure.cause.clone()).unwrap_or_default();
            }
        }
        if has_healed && self.quarantined() == 0 {
            self.forget();
        }
        let is_news = before != (self.is_silent(), self.quarantined());
        Polled { read, is_news }
    }

    /// Parts that had no answer again and again while others had one: perhaps the unit is silent about a register
    /// that it does not have. Returns whether such a one was found.
    fn divide_silent_parts(&mut self, now: Timestamp) -> bool {
        let mut is_found = false;
        let mut parts = Vec::with_capacity(self.parts.len());
        for mut part in std::mem::take(&mut self.parts) {
            match part.outcome {
                Outcome::Read | Outcome::Refused => part.timeouts = 0,
                Outcome::Silent => part.timeouts += 1,
                Outcome::NotAsked => {}
            }
            if part.timeouts < TIMEOUTS_MAX || part.quarantine.is_some() {
                parts.push(part);
                continue;
            }
            match part.piece.halves() {
                // One more timeout is enough to divide a half again.
                Some(halves) => parts.extend(halves.map(|half| Part::new(half, TIMEOUTS_MAX - 1))),
                None => {
                    is_found = true;
                    part.quarantine = Some(("no answer to this request".to_owned(), now.plus(QUARANTINE)));
                    parts.push(part);
                }
            }
        }
        self.parts = parts;
        is_found
    }

    /// Joins neighbours that were read one by one, up to the longest request that was answered in their table.
    fn join_read_parts(&mut self) {
        if !std::mem::take(&mut self.may_join) {
            return;
        }
        let read = |part: &&Part| part.outcome == Outcome::Read;
        let requests: Vec<Request> = self.parts.iter().filter(read).map(|part| part.piece.request).collect();
        let mut parts: Vec<Part> = Vec::with_capacity(self.parts.len());
        for mut part in std::mem::take(&mut self.parts) {
            let table = part.piece.request.table;
            let counts = requests.iter().filter(|request| request.table == table).map(|request| request.count);
            let longest = counts.max().unwrap_or(0);
            if let Some(last) = parts.last_mut()
                && last.outcome == Outcome::Read
                && part.outcome == Outcome::Read
            {
                match last.piece.join(part.piece, longest) {
                    Ok(()) => continue,
                    Err(piece) => part.piece = piece,
                }
            }
            parts.push(part);
        }
        self.parts = parts;
    }

    fn quarantined(&self) -> usize {
        self.parts.iter().filter(|part| part.quarantine.is_some()).count()
    }

    /// Sets the next due time to the first multiple of the period after `now` and says how many polls were skipped.
    pub(super) fn schedule_poll(&mut self, now: Timestamp) -> u64 {
        let period_ms = self.plan.period.as_millis().max(1);
        let behind_ms = now.since(self.due).as_millis();
        let periods = u64::try_from(behind_ms / period_ms).unwrap_or(u64::MAX);
        if periods > LATE_POLLS_MAX {
            self.due = now.plus(self.plan.period);
            return 0;
        }
        let periods = u32::try_from(periods).expect("compared with LATE_POLLS_MAX");
        self.due = self.due.min(now).plus(self.plan.period.saturating_mul(periods + 1));
        u64::from(periods)
    }

    /// Sets the next probe of a silent unit, no sooner than `wait_min` from `now`.
    pub(super) fn schedule_probe(&mut self, now: Timestamp, wait_min: Duration) {
        let wait = self.probes.next_wait().max(wait_min);
        self.wait_max = self.wait_max.max(wait);
        self.due = now.plus(wait);
    }
}

impl Poll {
    /// The next request to ask, or nothing when the poll is over.
    pub(super) fn next_request(&mut self) -> Option<Request> {
        while let Some(mut part) = self.queue.pop_front() {
            if let Some(cause) = &self.stopped {
                self.read.failures.push(part.failure(cause.clone()));
                self.done.push(part);
                continue;
            }
            let Some((cause, until)) = &mut part.quarantine else {
                let request = part.piece.request;
                self.asked = Some(part);
                return Some(request);
            };
            // A clock that was set back must not prolong it.
            *until = (*until).min(self.now.plus(QUARANTINE));
            if self.has_rechecked || *until > self.now {
                let cause = cause.clone();
                self.read.failures.push(part.failure(cause));
                self.done.push(part);
                continue;
            }
            self.has_rechecked = true;
            let request = part.piece.request;
            self.asked = Some(part);
            return Some(request);
        }
        None
    }

    /// Takes the answer to the last request.
    pub(super) fn settle(&mut self, result: Result<Vec<u16>, ReadError>) {
        let mut part = self.asked.take().expect("an answer follows a request");
        let error = match result {
            Ok(words) => {
                self.has_answer = true;
                self.has_healed |= part.quarantine.take().is_some();
                part.outcome = Outcome::Read;
                let Request { table, address, .. } = part.piece.request;
                self.read.blocks.push(RegisterBlock { table, address, words });
                self.done.push(part);
                return;
            }
            Err(error) => error,
        };
        if error.is_answer() {
            self.has_answer = true;
            part.outcome = Outcome::Refused;
        } else {
            part.outcome = Outcome::Silent;
            self.silences += 1;
        }
        if error.is_illegal_data() {
            self.divide(part, &error);
            return;
        }
        if let ReadError::Connect(cause) = &error {
            self.has_lost_bus = true;
            self.stopped = Some(cause.clone());
        } else if !self.has_answer && self.silences >= self.silences_max {
            self.stopped = Some(format!("unit does not answer: {error}"));
        }
        self.fail(part, &error);
    }

    /// Asks again for the halves of what was refused; a single place is left alone for a while.
    fn divide(&mut self, mut part: Part, error: &ReadError) {
        match part.piece.halves() {
            Some([first, second]) if self.divisions < DIVISIONS_MAX => {
                self.divisions += 1;
                self.queue.push_front(Part::new(second, 0));
                self.queue.push_front(Part::new(first, 0));
            }
            Some(_) => self.fail(part, error),
            None => {
                part.quarantine = Some((error.to_string(), self.now.plus(QUARANTINE)));
                self.fail(part, error);
            }
        }
    }

    /// Reports the part as failed; one in quarantine stays there.
    fn fail(&mut self, mut part: Part, error: &ReadError) {
        let is_asked = !matches!(error, ReadError::Connect(_));
        if let Some((_, until)) = &mut part.quarantine
            && is_asked
        {
            *until = self.now.plus(QUARANTINE);
        }
        self.read.failures.push(part.failure(error.to_string()));
        self.done.push(part);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kerbside_model::RegisterTable;
    use kerbside_model::profile::{ByteOrder, RegisterField, RegisterType};
    use proptest::prelude::*;
    use tokio_modbus::ExceptionCode;

    use super::*;

    const PERIOD: Duration = Duration::from_secs(1);
    const START: Timestamp = Timestamp(1_000_000);

    fn field(address: u16, value: RegisterType) -> RegisterField {
        RegisterField { table: RegisterTable::Holding, address, value, order: ByteOrder::Abcd, bit: None }
    }

    fn unit(fields: Vec<RegisterField>) -> Unit {
        let plan =
            UnitPlan { unit: 7, address: "7".to_owned(), period: PERIOD, fields, gap_max: 4, registers_max: 125 };
        Unit::new(plan, START, Duration::from_secs(60))
    }

    fn singles(count: u16) -> Vec<RegisterField> {
        (0..count).map(|address| field(address, RegisterType::U16)).collect()
    }

    /// One poll against a device; gives what was read and which requests were asked.
    fn poll(
        unit: &mut Unit,
        now: Timestamp,
        device: impl Fn(Request) -> Result<(), ReadError>,
    ) -> (RegisterRead, Vec<Request>) {
        let mut poll = unit.begin(now);
        let mut asked = Vec::new();
        while let Some(request) = poll.next_request() {
            asked.push(request);
            let words = (request.address..).take(usize::from(request.count)).collect();
            poll.settle(device(request).map(|()| words));
        }
        (unit.end(poll).read, asked)
    }

    fn illegal() -> ReadError {
        ReadError::Exception(ExceptionCode::IllegalDataAddress)
    }

    fn timeout() -> ReadError {
        ReadError::Timeout(Duration::from_millis(500))
    }

    fn covers(request: Request, address: u16) -> bool {
        request.address <= address && u32::from(address) < request.end()
    }

    fn registers_of(read: &RegisterRead) -> BTreeSet<u16> {
        read.blocks.iter().flat_map(|block| block.address..block.address + block.words.len() as u16).collect()
    }

    #[test]
    fn one_illegal_register_of_sixty_costs_itself_only_from_the_first_poll_on() {
        let mut unit = unit(singles(60));
        let device = |request| if covers(request, 40) { Err(illegal()) } else { Ok(()) };
        let others: BTreeSet<u16> = (0..60).filter(|address| *address != 40).collect();
        let (read, asked) = poll(&mut unit, START, device);
        assert_eq!(registers_of(&read), others);
        assert!(asked.len() <= 13, "{} requests to find one register", asked.len());
        assert_eq!(unit.complaint().unwrap(), "unit 7 holding 40: exception 2 (illegal data address)");

        let (read, asked) = poll(&mut unit, START.plus(PERIOD), device);
        assert_eq!(registers_of(&read), others);
        assert_eq!(asked.len(), 3, "neighbours are joined again: {asked:?}");
        let [failure] = read.failures.as_slice() else { panic!("one failure: {:?}", read.failures) };
        assert_eq!((failure.address, failure.count), (40, 1));
        assert_eq!(failure.cause, "exception 2 (illegal data address)");
    }

    #[test]
    fn an_illegal_register_is_asked_again_after_ten_minutes_and_the_plan_is_restored() {
        let mut unit = unit(singles(60));
        poll(&mut unit, START, |request| if covers(request, 40) { Err(illegal()) } else { Ok(()) });
        let (_, asked) = poll(&mut unit, START.plus(QUARANTINE / 2), |_| Ok(()));
        assert!(!asked.iter().any(|request| covers(*request, 40)));
        let (read, _) = poll(&mut unit, START.plus(QUARANTINE), |_| Ok(()));
        assert_eq!(registers_of(&read).len(), 60);
        assert_eq!(unit.complaint(), None);
        let (_, asked) = poll(&mut unit, START.plus(QUARANTINE).plus(PERIOD), |_| Ok(()));
        assert_eq!(asked.len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_prolong_a_quarantine() {
        let mut unit = unit(singles(2));
        poll(&mut unit, START, |request| if covers(request, 1) { Err(illegal()) } else { Ok(()) });
        let earlier = START.minus(Duration::from_secs(1_000_000));
        poll(&mut unit, earlier, |_| Ok(()));
        let (read, _) = poll(&mut unit, earlier.plus(QUARANTINE), |_| Ok(()));
        assert_eq!(registers_of(&read).len(), 2);
    }

    #[test]
    fn a_gap_that_must_not_be_read_is_left_out() {
        let mut unit = unit(vec![field(0, RegisterType::U16), field(3, RegisterType::F32)]);
        let device = |request| if covers(request, 1) { Err(illegal()) } else { Ok(()) };
        poll(&mut unit, START, device);
        let (read, asked) = poll(&mut unit, START, device);
        assert_eq!(registers_of(&read), BTreeSet::from([0, 3, 4]));
        assert_eq!((asked.len(), read.failures.len()), (2, 0));
    }

    #[test]
    fn a_register_that_is_met_with_silence_is_found_too() {
        let mut fields = singles(60);
        fields.push(field(1_000, RegisterType::U16));
        let mut unit = unit(fields);
        let device = |request| if covers(request, 40) { Err(timeout()) } else { Ok(()) };
        let timeouts: usize = (0..40)
            .map(|_| poll(&mut unit, START, device).1.into_iter().filter(|request| covers(*request, 40)).count())
            .sum();
        assert!(timeouts <= 10, "{timeouts} timeouts to find one register");
        let (read, asked) = poll(&mut unit, START, device);
        assert_eq!(registers_of(&read).len(), 60);
        assert!(asked.len() <= 4 && !asked.iter().any(|request| covers(*request, 40)), "{asked:?}");
    }

    #[test]
    fn a_dead_unit_costs_four_timeouts_and_then_one_for_each_probe() {
        let fields = [0, 100, 200].map(|address| field(address, RegisterType::U16)).to_vec();
        let mut unit = unit(fields);
        let asked: Vec<usize> = (0..5).map(|_| poll(&mut unit, START, |_| Err(timeout())).1.len()).collect();
        assert_eq!(asked, [2, 1, 1, 1, 1]);
        assert_eq!(unit.complaint().unwrap(), "unit 7 does not answer: timeout after 500 ms");
        let (read, _) = poll(&mut unit, START, |_| Err(timeout()));
        assert_eq!((read.blocks.len(), read.failures.len()), (0, 3));
        assert!(read.failures.iter().any(|failure| failure.cause == "unit does not answer: timeout after 500 ms"));

        let (read, _) = poll(&mut unit, START, |_| Ok(()));
        assert_eq!(read.blocks.len(), 3, "a probe that is answered goes on as a poll");
        assert_eq!(unit.complaint(), None);
    }

    #[test]
    fn a_unit_that_is_silent_about_its_first_request_is_asked_the_others() {
        let fields = [0, 100, 200].map(|address| field(address, RegisterType::U16)).to_vec();
        let mut unit = unit(fields);
        let device = |request| if covers(request, 200) { Ok(()) } else { Err(timeout()) };
        let blocks: Vec<usize> = (0..4).map(|_| poll(&mut unit, START, device).0.blocks.len()).collect();
        assert_eq!(blocks, [0, 1, 1, 1]);
        assert!(!unit.is_silent());
    }

    #[test]
    fn a_gateway_that_cannot_reach_a_unit_makes_it_silent() {
        let mut unit = unit(singles(1));
        for _ in 0..SILENT_POLLS_MAX {
            poll(&mut unit, START, |_| Err(ReadError::Exception(ExceptionCode::GatewayTargetDevice)));
        }
        assert!(unit.is_silent());
    }

    #[test]
    fn a_lost_bus_is_no_fault_of_the_unit_and_fails_all_its_registers() {
        let fields = [0, 100].map(|address| field(address, RegisterType::U16)).to_vec();
        let mut unit = unit(fields);
        for _ in 0..9 {
            let refused = |_| Err(ReadError::Connect("connection refused".to_owned()));
            let (read, asked) = poll(&mut unit, START, refused);
            assert_eq!((asked.len(), read.blocks.len()), (1, 0));
            assert!(read.failures.len() == 2 && read.failures.iter().all(|one| one.cause == "connection refused"));
        }
        assert!(!unit.is_silent());
    }

    #[test]
    fn a_late_unit_skips_polls_and_keeps_its_beat() {
        let mut unit = unit(singles(1));
        assert_eq!(unit.schedule_poll(START.plus(Duration::from_millis(20))), 0);
        assert_eq!(unit.due, START.plus(PERIOD));
        assert_eq!(unit.schedule_poll(START.plus(Duration::from_millis(4_300))), 3);
        assert_eq!(unit.due, START.plus(PERIOD * 5));
    }

    #[test]
    fn a_clock_that_is_set_does_not_stop_the_polls() {
        let mut unit = unit(singles(1));
        let years_later = START.plus(Duration::from_secs(1_700_000_000));
        assert_eq!(unit.schedule_poll(years_later), 0, "that is not late");
        assert_eq!(unit.due, years_later.plus(PERIOD));
        unit.keep_due_near(START);
        assert!(unit.due <= START.plus(Duration::from_secs(60)));
        assert_eq!(unit.schedule_poll(START), 0);
        assert_eq!(unit.due, START.plus(PERIOD));
    }

    #[test]
    fn probes_come_at_growing_intervals_and_never_faster_than_polls() {
        let mut unit = unit(singles(1));
        let mut waits = Vec::new();
        for _ in 0..12 {
            unit.schedule_probe(START, Duration::ZERO);
            waits.push(unit.due.since(START));
        }
        assert!(waits.iter().all(|wait| *wait >= PERIOD && *wait <= Duration::from_secs(60)), "{waits:?}");
        assert!(waits[11] >= Duration::from_secs(30));
        unit.schedule_probe(START, Duration::from_secs(450));
        assert_eq!(unit.due, START.plus(Duration::from_secs(450)));
    }

    proptest! {
        #[test]
        fn good_registers_are_delivered_whatever_the_device_refuses(
            places in proptest::collection::btree_map(0_u16..150, any::<bool>(), 1..60),
            bad in proptest::collection::btree_set(0_u16..150, 0..8),
            count_max in 2_u16..130,
        ) {
            let value = |is_wide| if is_wide { RegisterType::U32 } else { RegisterType::U16 };
            let fields: Vec<RegisterField> =
                places.iter().map(|(address, is_wide)| field(*address, value(*is_wide))).collect();
            let mut unit = unit(fields.clone());
            let device = |request: Request| {
                let is_bad = request.count > count_max || bad.iter().any(|address| covers(request, *address));
                if is_bad { Err(illegal()) } else { Ok(()) }
            };
            for _ in 0..20 {
                let (_, asked) = poll(&mut unit, START, device);
                prop_assert!(asked.len() <= fields.len() + 2 * DIVISIONS_MAX as usize);
            }
            let (read, asked) = poll(&mut unit, START, device);
            for field in &fields {
                let place = field.address..field.address + field.width();
                let is_bad = place.clone().any(|address| bad.contains(&address));
                let is_read = read.blocks.iter().any(|block| {
                    block.address <= place.start && place.end <= block.address + block.words.len() as u16
                });
                prop_assert!(is_bad || is_read, "{field:?} is good and not read");
                let is_it = |one: &RegisterFailure| (one.address, one.count) == (field.address, field.width());
                let has_failed = read.failures.iter().any(is_it);
                prop_assert!(is_read || has_failed, "{field:?} is neither read nor reported");
            }
            prop_assert!(asked.iter().all(|request| device(*request).is_ok()), "nothing is asked in vain");
        }
    }
}
