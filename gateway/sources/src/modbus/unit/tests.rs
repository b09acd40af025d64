//! A unit against devices that refuse, lose and keep silent.

use std::collections::BTreeSet;

use kerbside_model::profile::{RegisterField, RegisterType};
use kerbside_model::{RegisterFailure, RegisterRead, RegisterTable};
use proptest::prelude::*;
use tokio_modbus::ExceptionCode;

use super::*;
use crate::modbus::link::{LinkTiming, ReadError};
use crate::modbus::{BeatPlan, StormPeriod};

const PERIOD: Duration = Duration::from_secs(1);
const QUARANTINE: Duration = Duration::from_secs(600);
const START: Timestamp = Timestamp(1_000_000);
/// One division for each halving of the longest request, and those of several bad registers.
const DIVISIONS_MAX: usize = 16;

fn field(address: u16, value: RegisterType) -> RegisterField {
    RegisterField::new(RegisterTable::Holding, address, value)
}

fn plan(fields: Vec<RegisterField>) -> UnitPlan {
    let beats = vec![BeatPlan { period: PERIOD, storm_period: StormPeriod::Same, fields }];
    let limits = Limits { gap_max: 4, ..Limits::default() };
    UnitPlan { unit: 7, address: "7".to_owned(), beats, limits, registers_from: None }
}

fn unit(fields: Vec<RegisterField>) -> Unit {
    unit_of(&plan(fields))
}

fn unit_of(plan: &UnitPlan) -> Unit {
    let timing = LinkTiming { character: Duration::ZERO, silence: Duration::ZERO, overhead_bytes: 7 };
    let surroundings = Surroundings {
        cost: Cost::of(&timing, Duration::from_millis(10)),
        probe_wait_max: Duration::from_secs(60),
        quarantine: QUARANTINE,
        frame_spread_max: Duration::from_secs(1),
        owing: Duration::ZERO,
    };
    Unit::new(plan, START, surroundings)
}

fn singles(count: u16) -> Vec<RegisterField> {
    (0..count).map(|address| field(address, RegisterType::U16)).collect()
}

/// One poll against a device; gives what was read in all frames together, and which requests were asked.
fn poll(
    unit: &mut Unit,
    now: Timestamp,
    device: impl Fn(Request) -> Result<(), ReadError>,
) -> (RegisterRead, Vec<Request>) {
    let mut poll = unit.begin(now, &Pace::FREE);
    let mut asked = Vec::new();
    while let Some(request) = poll.next_request(START) {
        asked.push(request);
        let words = (request.address..).take(usize::from(request.count)).collect();
        poll.settle(device(request).map(|()| words), now);
    }
    let mut read = RegisterRead::default();
    for frame in unit.end(poll, now, &Pace::FREE).frames {
        read.blocks.extend(frame.read.blocks);
        read.failures.extend(frame.read.failures);
    }
    (read, asked)
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
    assert_eq!(asked.len(), 2, "neighbours are read together again: {asked:?}");
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
fn a_unit_that_takes_short_requests_only_gets_short_ones() {
    let mut unit = unit(singles(60));
    let device = |request: Request| if request.count > 20 { Err(illegal()) } else { Ok(()) };
    poll(&mut unit, START, device);
    let (read, asked) = poll(&mut unit, START, device);
    assert_eq!(registers_of(&read).len(), 60);
    assert!(asked.len() <= 4 && asked.iter().all(|request| device(*request).is_ok()), "{asked:?}");
    assert_eq!(unit.complaint(), None, "nothing is wrong with its registers");
}

#[test]
fn a_border_in_the_map_of_a_unit_is_found_exactly() {
    let mut unit = unit(singles(60));
    let device = |request| if covers(request, 40) && covers(request, 39) { Err(illegal()) } else { Ok(()) };
    poll(&mut unit, START, device);
    let (read, asked) = poll(&mut unit, START, device);
    assert_eq!(registers_of(&read).len(), 60);
    assert_eq!(asked.iter().map(|request| (request.address, request.count)).collect::<Vec<_>>(), [(0, 40), (40, 20)]);
}

#[test]
fn a_table_that_a_unit_does_not_have_is_found_with_a_few_requests() {
    let mut fields = singles(60);
    fields.extend((0..60).map(|address| RegisterField::new(RegisterTable::Input, address, RegisterType::U16)));
    let mut unit = unit(fields);
    let device = |request: Request| match request.table {
        RegisterTable::Input => Err(ReadError::Exception(ExceptionCode::IllegalFunction)),
        _ => Ok(()),
    };
    let (read, asked) = poll(&mut unit, START, device);
    assert_eq!(registers_of(&read).len(), 60);
    assert!(asked.len() <= 9, "{} requests", asked.len());
    assert!(read.failures.iter().all(|one| one.cause == "exception 1 (illegal function)"), "{:?}", read.failures);
    let (read, asked) = poll(&mut unit, START, device);
    assert_eq!((asked.len(), read.failures.len()), (1, 60));
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
fn a_unit_that_dies_during_a_poll_ends_it() {
    let fields: Vec<RegisterField> = (0..20).map(|step| field(step * 100, RegisterType::U16)).collect();
    let mut unit = unit(fields);
    let device = |request: Request| if request.address == 0 { Ok(()) } else { Err(timeout()) };
    assert_eq!(poll(&mut unit, START, device).1.len(), 4);
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
    for _ in 0..3 {
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
fn holes_in_the_map_of_a_unit_cost_no_good_register_a_single_poll() {
    // Forty pairs of registers with two illegal ones between them, as a profile that says nothing about gaps reads them.
    let fields = (0..40).map(|step| field(step * 4, RegisterType::U32)).collect();
    let mut unit = unit_of(&UnitPlan { limits: Limits::default(), ..plan(fields) });
    let good = |address: u16| address % 4 < 2;
    let device = |request: Request| {
        let is_sound = (request.address..).take(usize::from(request.count)).all(good);
        if is_sound { Ok(()) } else { Err(illegal()) }
    };
    let all: BTreeSet<u16> = (0..160).filter(|address| good(*address)).collect();
    let mut refused = Vec::new();
    for cycle in 0..12 {
        let (read, asked) = poll(&mut unit, START.plus(PERIOD * cycle), device);
        assert_eq!((registers_of(&read), read.failures), (all.clone(), vec![]), "cycle {cycle}");
        assert!(asked.len() <= 40 + DIVISIONS_MAX + 1, "{} requests", asked.len());
        refused.push(asked.into_iter().filter(|request| device(*request).is_err()).count());
    }
    assert!(refused[0] > 0, "the first plan reads through the holes: {refused:?}");
    assert_eq!(refused[10..], [0, 0], "the holes are known: {refused:?}");
}

/// A pace with which a request that is met with silence is left alone for ten minutes.
const HARMFUL: Pace = Pace {
    full: Duration::from_secs(3),
    short: Duration::from_millis(250),
    others: Duration::ZERO,
    harmless_below: Duration::from_millis(500),
    share: 0.005,
};

/// A unit of which one place is left alone for want of an answer, and another one may be asked.
fn half_suspected() -> Unit {
    let beat = |period: Duration, address| BeatPlan {
        period,
        storm_period: StormPeriod::Same,
        fields: vec![field(address, RegisterType::U16)],
    };
    let beats = vec![beat(PERIOD, 100), beat(2 * PERIOD, 0)];
    let mut unit = unit_of(&UnitPlan { beats, ..plan(Vec::new()) });
    for cycle in [0, 2] {
        let now = START.plus(PERIOD * cycle);
        let mut poll = unit.begin(now, &HARMFUL);
        while let Some(request) = poll.next_request(now) {
            poll.settle(if covers(request, 0) { Ok(vec![0]) } else { Err(timeout()) }, now);
        }
        unit.end(poll, now, &HARMFUL);
    }
    unit
}

#[test]
fn a_probe_that_may_ask_nothing_is_put_off_and_not_repeated_at_once() {
    let mut unit = half_suspected();
    let mut now = START.plus(PERIOD * 3);
    for _ in 0..200 {
        let mut poll = unit.begin(now, &Pace::FREE);
        while poll.next_request(now).is_some() {
            poll.settle(Err(timeout()), now);
        }
        unit.end(poll, now, &Pace::FREE);
        assert!(unit.due() > now, "{unit:?}");
        now = unit.due();
    }
    assert!(unit.is_silent());
}

#[test]
fn a_clock_that_is_set_back_does_not_keep_a_suspected_place_from_being_asked() {
    let mut unit = half_suspected();
    let earlier = START.minus(Duration::from_secs(1_000_000));
    unit.keep_due_near(earlier);
    poll(&mut unit, earlier, |_| Ok(()));
    let later = earlier.plus(Duration::from_secs(601));
    let (read, _) = poll(&mut unit, later, |_| Ok(()));
    assert_eq!(registers_of(&read), BTreeSet::from([0, 100]));
}

#[test]
fn a_unit_that_owes_an_answer_like_the_next_one_is_not_asked_before_that_may_have_come() {
    let owing = Duration::from_secs(3);
    for (count, expected) in [(1, owing), (2, PERIOD)] {
        // The place at 100 is silent; the one at 0 looks like it, or does not.
        let value = if count == 1 { RegisterType::U16 } else { RegisterType::U32 };
        let mut unit = unit(vec![field(0, value), field(100, RegisterType::U16)]);
        unit.surroundings.owing = owing;
        poll(&mut unit, START, |request| if request.address == 100 { Err(timeout()) } else { Ok(()) });
        assert_eq!(unit.due(), START.plus(expected));
    }
}

#[test]
fn scouts_come_to_every_place_and_begin_with_the_one_that_was_answered() {
    for count in 1..100 {
        let places: Vec<Request> =
            (0..count).map(|address| Request { table: RegisterTable::Holding, address, count: 1 }).collect();
        let mut scouts = Scouts::default();
        let mut asked = BTreeSet::new();
        for _ in 0..count {
            let scout = scouts.next(&places);
            asked.insert(scout);
            scouts.note(scout, false);
        }
        assert_eq!(asked.len(), places.len(), "{count} places");
        let good = places[places.len() / 3];
        scouts.note(good, true);
        assert_eq!(scouts.next(&places), good);
    }
}

#[test]
fn a_place_that_is_busy_when_it_is_asked_first_is_read_as_planned_or_told_as_missing() {
    let mut unit = unit(vec![field(0, RegisterType::U16), field(1_000, RegisterType::U16)]);
    let mut at = START;
    for _ in 0..2 {
        poll(&mut unit, at, |_| Err(timeout()));
        at = unit.due();
    }
    let is_first = std::cell::Cell::new(true);
    let busy = |_| {
        let busy = ReadError::Exception(ExceptionCode::ServerDeviceBusy);
        if is_first.replace(false) { Err(busy) } else { Ok(()) }
    };
    let (read, asked) = poll(&mut unit, at, busy);
    assert_eq!((asked[0].address, asked[0].count), (0, 1), "it is asked for one place first: {asked:?}");
    assert_eq!(registers_of(&read), BTreeSet::from([0, 1_000]), "{asked:?}");
}

#[test]
fn an_order_that_goes_before_a_request_is_not_counted_as_its_wait() {
    let pace = Pace { harmless_below: Duration::from_millis(500), ..HARMFUL };
    let mut unit = unit(singles(1));
    let mut poll = unit.begin(START, &pace);
    poll.next_request(START).unwrap();
    let sent = START.plus(Duration::from_secs(3));
    poll.put_off(sent);
    poll.settle(Err(ReadError::Mismatch), sent.plus(Duration::from_millis(20)));
    unit.end(poll, sent, &pace);
    assert!(unit.due() <= START.plus(PERIOD * 4), "the next poll comes with its beat: {unit:?}");
}

#[test]
fn exceptions_are_recognised_in_the_causes_of_failures() {
    use kerbside_model::Cause;
    let place = Request { table: RegisterTable::Holding, address: 0, count: 1 };
    for code in 1..=255 {
        let cause = ReadError::Exception(ExceptionCode::new(code)).to_string();
        let failure = poll::failure(place, cause);
        assert_eq!(failure.exception(), Some(code), "{failure:?}");
        let expected = if code <= 3 { Cause::IllegalAddress } else { Cause::ReadFailed };
        assert_eq!(failure.reading_cause(), expected, "{failure:?}");
    }
    for other in [timeout(), ReadError::Mismatch, ReadError::Connect("exceptional".to_owned())] {
        assert_eq!(poll::failure(place, other.to_string()).exception(), None);
    }
}

#[test]
fn what_is_read_at_different_times_goes_into_different_frames() {
    let fields = [0, 100, 200].map(|address| field(address, RegisterType::U16)).to_vec();
    let mut unit = unit(fields);
    let mut poll = unit.begin(START, &Pace::FREE);
    for (request, at_ms) in [(0, 100), (100, 900), (200, 4_000)] {
        assert_eq!(poll.next_request(START).unwrap().address, request);
        poll.settle(Ok(vec![7]), START.plus(Duration::from_millis(at_ms)));
    }
    assert!(poll.next_request(START).is_none());
    let frames = unit.end(poll, START.plus(Duration::from_secs(5)), &Pace::FREE).frames;
    let told: Vec<(Vec<u16>, u128)> = frames
        .iter()
        .map(|frame| (frame.read.blocks.iter().map(|block| block.address).collect(), frame.at.since(START).as_millis()))
        .collect();
    assert_eq!(told, [(vec![0, 100], 900), (vec![200], 4_000)]);
}

#[test]
fn a_value_and_its_power_stay_in_one_frame() {
    use kerbside_model::profile::{Power, PowerMeaning};
    let power = Power {
        table: RegisterTable::Holding,
        address: 200,
        value: RegisterType::I16,
        meaning: PowerMeaning::Exponent,
    };
    let scaled = RegisterField { power: Some(power), ..field(0, RegisterType::U32) };
    let fields = [scaled, power.field(), field(100, RegisterType::U16)].to_vec();
    let mut unit = unit(fields);
    let mut poll = unit.begin(START, &Pace::FREE);
    for at_s in [0, 0, 4] {
        let request = poll.next_request(START).unwrap();
        poll.settle(Ok((request.address..).take(usize::from(request.count)).collect()), START.plus(PERIOD * at_s));
    }
    let frames = unit.end(poll, START, &Pace::FREE).frames;
    assert_eq!(frames.len(), 2);
    let last: Vec<(u16, &[u16])> =
        frames[1].read.blocks.iter().map(|block| (block.address, block.words.as_slice())).collect();
    assert_eq!(last, [(0, &[0, 1][..]), (200, &[200][..])]);
}

proptest! {
    #[test]
    fn good_registers_are_delivered_whatever_the_device_refuses(
        places in proptest::collection::btree_map(0_u16..150, any::<bool>(), 1..60),
        bad in proptest::collection::btree_set(0_u16..150, 0..8),
        borders in proptest::collection::btree_set(1_u16..150, 0..3),
        count_max in 2_u16..130,
    ) {
        let value = |is_wide| if is_wide { RegisterType::U32 } else { RegisterType::U16 };
        let fields: Vec<RegisterField> =
            places.iter().map(|(address, is_wide)| field(*address, value(*is_wide))).collect();
        let crosses = |request: Request, border: u16| covers(request, border - 1) && covers(request, border);
        let mut unit = unit(fields.clone());
        let device = |request: Request| {
            let is_bad = request.count > count_max
                || bad.iter().any(|address| covers(request, *address))
                || borders.iter().any(|border| crosses(request, *border));
            if is_bad { Err(illegal()) } else { Ok(()) }
        };
        for _ in 0..40 {
            let (_, asked) = poll(&mut unit, START, device);
            prop_assert!(asked.len() <= fields.len() + 2 * DIVISIONS_MAX);
        }
        let (read, asked) = poll(&mut unit, START, device);
        for field in &fields {
            let place = Request { table: field.table, address: field.address, count: field.width() };
            let is_bad = device(place).is_err();
            let span = place.address..place.address + place.count;
            let is_read = read.blocks.iter().any(|block| {
                block.address <= span.start && span.end <= block.address + block.words.len() as u16
            });
            prop_assert!(is_bad || is_read, "{field:?} is good and not read");
            let is_it = |one: &RegisterFailure| (one.address, one.count) == (field.address, field.width());
            let has_failed = read.failures.iter().any(is_it);
            prop_assert!(is_read || has_failed, "{field:?} is neither read nor reported");
        }
        let is_last_hope = asked.len() == 1;
        prop_assert!(is_last_hope || asked.iter().all(|request| device(*request).is_ok()), "asked in vain: {asked:?}");
    }
}
