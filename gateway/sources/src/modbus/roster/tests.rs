//! Buses in the clock's time: what silent units, and units that are silent about something, do to the others.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use kerbside_model::profile::{RegisterField, RegisterType};
use kerbside_model::{RegisterBlock, RegisterRead, RegisterTable, Timestamp};
use proptest::prelude::*;
use tokio_modbus::ExceptionCode;

use super::*;
use crate::modbus::link::{LinkTiming, ReadError};
use crate::modbus::plan::{Cost, Limits, Request};
use crate::modbus::{BeatPlan, StormPeriod};

const START: Timestamp = Timestamp(1_800_000_000_000);
const PERIOD: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(3);
const ROUND_TRIP: Duration = Duration::from_millis(5);
const SHARE: f64 = 0.005;
const QUARANTINE: Duration = Duration::from_secs(600);

/// What a simulated bus has done.
#[derive(Default)]
struct Tally {
    /// Registers that were read, by unit and address, and when last.
    read: BTreeMap<(u8, u16), u32>,
    read_at: BTreeMap<(u8, u16), Timestamp>,
    /// Why registers were not read, by unit and address: the last cause.
    causes: BTreeMap<(u8, u16), String>,
    polls: BTreeMap<u8, u32>,
    requests: BTreeMap<u8, u32>,
    timeouts: u32,
    /// How long was waited in vain.
    in_vain: Duration,
    late: u64,
}

/// What a simulated unit does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Values,
    /// The values, after so long.
    Slowly(Duration),
    Refusal,
    Nothing,
}

/// What is read from each of so many units.
struct Plan {
    units: u8,
    period: Duration,
    registers: Vec<u16>,
}

fn roster(units: u8, registers: u16) -> Roster {
    roster_of(&Plan { units, period: PERIOD, registers: (0..registers).collect() })
}

fn roster_of(plan: &Plan) -> Roster {
    let timing = LinkTiming { character: Duration::ZERO, silence: Duration::ZERO, overhead_bytes: 7 };
    let surroundings = Surroundings {
        cost: Cost::of(&timing, Duration::from_millis(10)),
        probe_wait_max: Duration::from_secs(60),
        quarantine: QUARANTINE,
        frame_spread_max: Duration::from_secs(1),
        owing: Duration::ZERO,
    };
    let field = |address: &u16| RegisterField::new(RegisterTable::Holding, *address, RegisterType::U16);
    let fields: Vec<RegisterField> = plan.registers.iter().map(field).collect();
    let beat = BeatPlan { period: plan.period, storm_period: StormPeriod::Same, fields };
    let plans: Vec<UnitPlan> = (1..=plan.units)
        .map(|unit| UnitPlan {
            unit,
            address: unit.to_string(),
            beats: vec![beat.clone()],
            limits: Limits::default(),
            registers_from: None,
        })
        .collect();
    fn member(plan: &UnitPlan, surroundings: Surroundings) -> NewMember<'_> {
        let first_due = START.plus(ROUND_TRIP * u32::from(plan.unit));
        NewMember { plan, first_due, timeout: TIMEOUT, surroundings }
    }
    Roster::new(plans.iter().map(|plan| member(plan, surroundings)), SHARE, SHORT_WAIT_MIN)
}

/// Lets the bus run for so long from the start.
fn run(roster: &mut Roster, span: Duration, device: impl FnMut(u8, Request, Timestamp) -> Said) -> Tally {
    run_between(roster, START..START.plus(span), device)
}

/// Lets the bus run against devices: each answer takes a round trip, each silence as long as it is waited for.
fn run_between(
    roster: &mut Roster,
    span: Range<Timestamp>,
    mut device: impl FnMut(u8, Request, Timestamp) -> Said,
) -> Tally {
    let (mut now, mut tally) = (span.start, Tally::default());
    loop {
        let (index, due) = roster.next_due(now);
        now = now.max(due);
        if now >= span.end {
            return tally;
        }
        let pace = roster.pace(index);
        let id = roster.unit(index).id;
        let mut poll = roster.unit_mut(index).begin(now, &pace);
        *tally.polls.entry(id).or_default() += 1;
        while let Some(request) = poll.next_request(now) {
            *tally.requests.entry(id).or_default() += 1;
            let wait = poll.short_wait().unwrap_or(TIMEOUT);
            let (took, answer) = match device(id, request, now) {
                Said::Values => (ROUND_TRIP, Ok((0..request.count).collect())),
                Said::Slowly(took) if took <= wait => (took, Ok((0..request.count).collect())),
                Said::Refusal => (ROUND_TRIP, Err(ReadError::Exception(ExceptionCode::IllegalDataAddress))),
                Said::Slowly(_) | Said::Nothing => (wait, Err(ReadError::Timeout(wait))),
            };
            now = now.plus(took);
            match &answer {
                Err(error) if !error.is_answer() => {
                    tally.timeouts += 1;
                    tally.in_vain += took;
                }
                _ => roster.note_answer(index, took),
            }
            poll.settle(answer, now);
        }
        let polled = roster.end(index, poll, now, &pace);
        tally.late += polled.late;
        for frame in &polled.frames {
            tally.note(id, &frame.read, now);
        }
    }
}

impl Tally {
    fn note(&mut self, unit: u8, read: &RegisterRead, now: Timestamp) {
        for failure in &read.failures {
            for address in (failure.address..).take(usize::from(failure.count)) {
                self.causes.insert((unit, address), failure.cause.clone());
            }
        }
        // A register that is read twice in a poll is read once.
        let addresses = |block: &RegisterBlock| (block.address..).take(block.words.len());
        let addresses: BTreeSet<u16> = read.blocks.iter().flat_map(addresses).collect();
        for address in addresses {
            *self.read.entry((unit, address)).or_default() += 1;
            self.read_at.insert((unit, address), now);
        }
    }
}

fn holds(request: &Request, address: u16) -> bool {
    request.address <= address && u32::from(address) < request.end()
}

#[test]
fn nine_units_keep_99_percent_of_their_reads_beside_a_dead_one_finding_out_included() {
    let mut roster = roster(10, 30);
    let span = Duration::from_secs(600);
    let tally = run(&mut roster, span, |unit, _, _| if unit == 5 { Said::Nothing } else { Said::Values });
    for unit in (1..=10).filter(|unit| *unit != 5) {
        let reads = tally.read[&(unit, 0)];
        assert!(reads >= 594, "unit {unit} was read {reads} times in 600 s");
    }
    assert_eq!((tally.timeouts, tally.in_vain), (5, TIMEOUT * 2 + SHORT_WAIT_MIN * 3), "two timeouts find it out");
}

#[test]
fn a_unit_that_dies_later_costs_no_more_and_is_back_when_it_is_back() {
    let mut roster = roster(10, 30);
    let dead = START.plus(Duration::from_secs(100))..START.plus(Duration::from_secs(500));
    let device = |unit, _, now| if unit == 5 && dead.contains(&now) { Said::Nothing } else { Said::Values };
    let tally = run(&mut roster, Duration::from_secs(1_800), device);
    assert!((1..=10).filter(|unit| *unit != 5).all(|unit| tally.read[&(unit, 0)] >= 1_782));
    let reads = tally.read[&(5, 0)];
    assert!(reads >= 1_210, "it is probed within 188 s and read as before: {reads}");
    assert!(tally.in_vain <= TIMEOUT * 2 + SHORT_WAIT_MIN * 3, "{:?}", tally.in_vain);
}

#[test]
fn a_line_that_was_cut_is_read_within_a_minute_of_its_mend() {
    let mut roster = roster(10, 30);
    let cut = START.plus(Duration::from_secs(100))..START.plus(Duration::from_secs(1_000));
    let device = |_, _, now| if cut.contains(&now) { Said::Nothing } else { Said::Values };
    let tally = run(&mut roster, Duration::from_secs(1_200), device);
    for unit in 1..=10 {
        // 100 before the cut, and 200 after it but for one minute.
        let reads = tally.read[&(unit, 0)];
        assert!(reads >= 220, "unit {unit} was read {reads} times");
    }
}

#[test]
fn several_dead_units_share_what_one_has() {
    let mut roster = roster(10, 30);
    let device = |unit, _, _| if unit <= 3 { Said::Nothing } else { Said::Values };
    let tally = run(&mut roster, Duration::from_secs(36_000), device);
    for unit in 4..=10 {
        let reads = tally.read[&(unit, 0)];
        assert!(reads >= 35_640, "unit {unit} was read {reads} times in ten hours");
    }
    assert!((1..=3).all(|unit| tally.requests[&unit] >= 10), "each is probed: {:?}", tally.requests);
}

#[test]
fn one_illegal_register_of_sixty_leaves_the_others_in_every_cycle() {
    let mut roster = roster(1, 60);
    let device = |_, request: Request, _| if holds(&request, 37) { Said::Refusal } else { Said::Values };
    let tally = run(&mut roster, Duration::from_secs(1_800), device);
    let counts: Vec<u32> = (0..60).map(|address| tally.read.get(&(1, address)).copied().unwrap_or(0)).collect();
    for (address, count) in counts.iter().enumerate() {
        assert_eq!(*count, if address == 37 { 0 } else { 1_800 }, "register {address}");
    }
    // Two for each cycle, those of the search, and one each ten minutes.
    assert!(tally.requests[&1] <= 2 * 1_800 + 13 + 3, "{} requests", tally.requests[&1]);
}

#[test]
fn three_hundred_registers_a_second_take_ten_requests() {
    let mut roster = roster(10, 30);
    let tally = run(&mut roster, Duration::from_secs(60), |_, _, _| Said::Values);
    let requests: u32 = tally.requests.values().sum();
    assert!(requests <= 600, "{requests} requests in 60 s");
    assert!(tally.read.values().all(|reads| *reads >= 59), "every register every second");
    assert_eq!(tally.late, 0);
}

#[test]
fn a_register_that_is_met_with_silence_does_not_starve_the_bus() {
    let mut roster = roster(10, 60);
    let device =
        |unit, request: Request, _| if unit == 5 && holds(&request, 37) { Said::Nothing } else { Said::Values };
    let tally = run(&mut roster, Duration::from_secs(7_200), device);
    for unit in (1..=10).filter(|unit| *unit != 5) {
        let reads = tally.read[&(unit, 0)];
        assert!(reads >= 7_128, "unit {unit} was read {reads} times in two hours");
    }
}

/// A map with silent holes: what is not there is never answered.
fn is_sound(request: &Request, holes: &BTreeSet<u16>) -> bool {
    (request.address..).take(usize::from(request.count)).all(|address| !holes.contains(&address))
}

#[test]
fn a_unit_that_is_silent_about_a_gap_is_read_within_a_minute_and_hurts_nobody() {
    // One planned request of 1 to 71 with a hole that nobody wants in the middle.
    let wanted: Vec<u16> = (1..30).chain(41..71).collect();
    let mut roster = roster_of(&Plan { units: 10, period: PERIOD, registers: wanted.clone() });
    let holes = BTreeSet::from([35]);
    let device = |unit, request: Request, _| match unit {
        5 if !is_sound(&request, &holes) => Said::Nothing,
        _ => Said::Values,
    };
    let tally = run(&mut roster, Duration::from_secs(600), device);
    for unit in (1..=10).filter(|unit| *unit != 5) {
        let reads = tally.read[&(unit, 1)];
        assert!(reads >= 594, "unit {unit} was read {reads} times in 600 s");
    }
    assert!(
        tally.in_vain <= TIMEOUT * 2 + SHORT_WAIT_MIN * 3,
        "two timeouts, and three short waits: {:?}",
        tally.in_vain
    );
    for address in &wanted {
        let reads = tally.read[&(5, *address)];
        assert!(reads >= 540, "register {address} was read {reads} times in 600 s");
    }
}

/// How long a mended unit waits until it is read, at worst, beside so many that are dead and of which so many are
/// mended with it.
fn wait_after_mend(dead: u8, mended: u8) -> Duration {
    let mut longest = Duration::ZERO;
    // All died at once, a while ago.
    let died = START.plus(PERIOD * 20);
    for moment in 0..5 {
        let mut roster = roster(dead + 2, 1);
        let mend = died.plus(Duration::from_secs(2_400 + 370 * moment));
        let is_dead = |unit, now| unit <= dead && now >= died && (unit > mended || now < mend);
        let device = |unit, _, now| if is_dead(unit, now) { Said::Nothing } else { Said::Values };
        run_between(&mut roster, START..mend, device);
        let mut now = mend;
        let mut waiting: BTreeSet<u8> = (1..=mended).collect();
        while !waiting.is_empty() {
            let tally = run_between(&mut roster, now..now.plus(PERIOD), device);
            now = now.plus(PERIOD);
            waiting.retain(|unit| !tally.read.contains_key(&(*unit, 0)));
        }
        longest = longest.max(now.since(mend));
    }
    longest
}

#[test]
fn a_mended_unit_is_read_within_minutes_also_beside_nine_dead_ones() {
    let one = wait_after_mend(1, 1);
    let one_of_ten = wait_after_mend(10, 1);
    let all_ten = wait_after_mend(10, 10);
    // A probe takes 0.94 s in the mean, which is half a percent of 188 s; ten units share that.
    assert!(one <= Duration::from_secs(190), "{one:?}");
    assert!(one_of_ten <= Duration::from_secs(1_880), "{one_of_ten:?}");
    // Where one is back the others are probed at once.
    assert!(all_ten <= Duration::from_secs(200), "{all_ten:?}");
}

#[test]
fn a_unit_that_has_become_slower_than_short_probes_wait_is_found_by_a_long_one() {
    let mut roster = roster(10, 30);
    let dead = START.plus(Duration::from_secs(100))..START.plus(Duration::from_secs(500));
    let device = |unit, _, now| match unit {
        5 if dead.contains(&now) => Said::Nothing,
        5 if now >= dead.end => Said::Slowly(Duration::from_millis(300)),
        _ => Said::Values,
    };
    let tally = run(&mut roster, Duration::from_secs(3_600), device);
    assert!(tally.read[&(5, 0)] >= 3_600 - 400 - 4 * 188, "{}", tally.read[&(5, 0)]);
}

/// What a device of the property has: its holes, whether it refuses some of them, and how much it takes at once.
#[derive(Clone, Debug)]
struct Map {
    wanted: BTreeSet<u16>,
    silent: BTreeSet<u16>,
    refused: BTreeSet<u16>,
    count_max: u16,
}

impl Map {
    fn say(&self, request: &Request) -> Said {
        if !is_sound(request, &self.silent) || request.count > self.count_max {
            Said::Nothing
        } else if !is_sound(request, &self.refused) {
            Said::Refusal
        } else {
            Said::Values
        }
    }

    fn is_readable(&self, address: u16) -> bool {
        !self.silent.contains(&address) && !self.refused.contains(&address)
    }
}

fn any_map() -> impl Strategy<Value = Map> {
    let addresses = |count| proptest::collection::btree_set(0_u16..120, count);
    let count_max = prop_oneof![3 => Just(125_u16), 1 => 5_u16..60];
    (addresses(1..40), addresses(0..25), addresses(0..6), count_max)
        .prop_map(|(wanted, silent, refused, count_max)| Map { wanted, silent, refused, count_max })
}

/// After so long everything that can be read is read in every cycle, everything else is left alone with its cause, and
/// what is spent stays within the budget.
fn check_map(map: &Map, period: Duration, learning: Duration) -> Result<(), TestCaseError> {
    let registers = map.wanted.iter().copied().collect();
    let mut roster = roster_of(&Plan { units: 2, period, registers });
    let device = |unit, request: Request, _| if unit == 1 { map.say(&request) } else { Said::Values };
    let learned = START.plus(learning);
    let tally = run_between(&mut roster, START..learned, device);
    let is_any_readable = map.wanted.iter().any(|address| map.is_readable(*address));
    let other = tally.read.iter().find(|((unit, _), _)| *unit == 2).map_or(0, |(_, reads)| *reads);
    prop_assert!(
        f64::from(other) * period.as_secs_f64() >= 0.99 * learning.as_secs_f64(),
        "{other} reads of the other"
    );
    let span = period.mul_f64(20.0).max(QUARANTINE * 2);
    let tally = run_between(&mut roster, learned..learned.plus(span), device);
    let polls = tally.polls.get(&1).copied().unwrap_or(0);
    for address in &map.wanted {
        let reads = tally.read.get(&(1, *address)).copied().unwrap_or(0);
        if map.is_readable(*address) {
            prop_assert_eq!((*address, reads), (*address, polls), "read in every cycle");
            continue;
        }
        prop_assert_eq!(reads, 0);
        let cause = tally.causes.get(&(1, *address)).map_or("", String::as_str);
        prop_assert!(!cause.is_empty(), "register {} has no cause", address);
        let quarantine: Vec<u16> = roster.unit(0).quarantine().map(|(failure, _)| failure.address).collect();
        prop_assert!(!is_any_readable || quarantine.contains(address), "{} is not in {:?}", address, quarantine);
    }
    if is_any_readable {
        prop_assert!(f64::from(polls) * period.as_secs_f64() >= 0.99 * span.as_secs_f64(), "{polls} polls in {span:?}");
        prop_assert!(!roster.unit(0).is_failing(), "nothing is left to find out: {:?}", roster.unit(0));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_unit_is_silent_about_the_rest_is_read_in_every_cycle(map in any_map()) {
        check_map(&map, Duration::from_secs(60), Duration::from_secs(60 * 400))?;
    }
}

#[test]
fn silent_registers_and_gaps_are_found_within_the_budget_of_silent_units() {
    // Gaps with and without a hole, registers that are silent, and one that is refused.
    let map = Map {
        wanted: (0..10).chain(14..20).chain(25..40).chain(44..60).collect(),
        silent: BTreeSet::from([12, 22, 30, 31, 50]),
        refused: BTreeSet::from([5]),
        count_max: 125,
    };
    let hour = Duration::from_secs(3_600);
    let registers = map.wanted.iter().copied().collect();
    let mut roster = roster_of(&Plan { units: 10, period: PERIOD, registers });
    let device = |unit, request: Request, _| if unit == 5 { map.say(&request) } else { Said::Values };
    let first = run_between(&mut roster, START..START.plus(hour), device);
    for unit in (1..=10).filter(|unit| *unit != 5) {
        let reads = first.read[&(unit, 0)];
        assert!(reads >= 3_564, "unit {unit} was read {reads} times in an hour");
    }
    // Two timeouts find out that there is something, and each silent register has one before it is left alone.
    assert!(first.in_vain <= TIMEOUT * 5 + SHORT_WAIT_MIN * 60, "{:?}", first.in_vain);
    let reads_of = |tally: &Tally, address| tally.read.get(&(5, address)).copied().unwrap_or(0);
    for address in map.wanted.iter().filter(|address| map.is_readable(**address)) {
        assert!(reads_of(&first, *address) >= 3_400, "{address}: {} reads", reads_of(&first, *address));
    }
    let second = run_between(&mut roster, START.plus(hour)..START.plus(hour * 2), device);
    for address in &map.wanted {
        let expected = if map.is_readable(*address) { second.polls[&5] } else { 0 };
        assert_eq!(reads_of(&second, *address), expected, "register {address}");
    }
    assert!(second.polls[&5] >= 3_590, "{}", second.polls[&5]);
    // Six times an hour each of two gaps and three registers.
    assert!(second.in_vain <= SHORT_WAIT_MIN * 30, "{:?}", second.in_vain);
    let left_alone: Vec<(u16, String)> =
        roster.unit(4).quarantine().map(|(failure, _)| (failure.address, failure.cause)).collect();
    let silent = "no answer to this request";
    let gap = "no answer to requests across this gap";
    let expected =
        [(5, "exception 2 (illegal data address)"), (30, silent), (31, silent), (50, silent), (10, gap), (20, gap)];
    assert_eq!(left_alone, expected.map(|(address, cause)| (address, cause.to_owned())));
}

#[test]
fn a_gap_that_can_be_read_again_is_read_through_again() {
    let registers: Vec<u16> = (0..10).chain(14..20).collect();
    let mut roster = roster_of(&Plan { units: 2, period: PERIOD, registers });
    let mended = START.plus(Duration::from_secs(1_000));
    let holes = BTreeSet::from([12]);
    let device = |unit, request: Request, now| match unit {
        1 if now < mended && !is_sound(&request, &holes) => Said::Nothing,
        _ => Said::Values,
    };
    let before = run_between(&mut roster, START..mended, device);
    assert!(before.requests[&1] >= 2 * 900, "two requests each second: {}", before.requests[&1]);
    run_between(&mut roster, mended..mended.plus(QUARANTINE), device);
    let after = run_between(&mut roster, mended.plus(QUARANTINE)..mended.plus(QUARANTINE * 2), device);
    assert_eq!(after.requests[&1], after.polls[&1], "one request each second");
}

#[test]
fn lost_answers_have_nothing_left_alone() {
    let registers: Vec<u16> = (0..10).chain(14..20).chain(200..210).collect();
    let mut roster = roster_of(&Plan { units: 4, period: PERIOD * 10, registers });
    let mut random = fastrand::Rng::with_seed(7);
    // Three in a hundred, on a radio link in the rain.
    let device = |_, _, _| if random.f64() < 0.03 { Said::Nothing } else { Said::Values };
    let span = Duration::from_secs(200_000);
    let tally = run(&mut roster, span, device);
    for ((unit, address), reads) in &tally.read {
        assert!(*reads >= 18_000, "unit {unit} register {address}: {reads} of 20,000");
    }
    assert!((0..4).all(|index| roster.unit(index).quarantine().next().is_none()));
}

#[test]
fn units_behind_a_link_that_is_back_are_polled_at_once_and_spread() {
    let mut roster = roster_of(&Plan { units: 4, period: PERIOD * 60, registers: vec![0] });
    run(&mut roster, PERIOD * 10, |_, _, _| Said::Values);
    let now = START.plus(PERIOD * 10);
    roster.poll_soon(now, Duration::from_secs(4));
    let dues: Vec<Timestamp> = roster.units().map(Unit::due).collect();
    assert_eq!(dues, [0, 1, 2, 3].map(|seconds| now.plus(PERIOD * seconds)));
}
