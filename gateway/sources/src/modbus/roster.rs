//! The units of one bus in the order in which they are due, and what the silence of one does to the others.
//!
//! Plain functions over state in memory, in the clock's time; `bus` gives them a line.

use std::time::Duration;

use kerbside_model::Timestamp;

use crate::modbus::UnitPlan;
use crate::modbus::beats::Weather;
use crate::modbus::breaker::Pace;
use crate::modbus::unit::{Surroundings, Unit};

/// The units of one bus.
#[derive(Debug)]
pub(super) struct Roster {
    members: Vec<Member>,
    failing_share: f64,
}

#[derive(Debug)]
struct Member {
    unit: Unit,
    timeout: Duration,
}

/// What the roster is made of.
pub(super) struct NewMember<'a> {
    pub(super) plan: &'a UnitPlan,
    pub(super) first_due: Timestamp,
    /// Longest wait for an answer.
    pub(super) timeout: Duration,
    pub(super) surroundings: Surroundings,
}

impl Roster {
    /// `failing_share` is the share of the bus's time for silent units, above 0 and at most 1.
    pub(super) fn new<'a>(members: impl Iterator<Item = NewMember<'a>>, failing_share: f64) -> Roster {
        let member = |new: NewMember<'_>| Member {
            unit: Unit::new(new.plan, new.first_due, new.surroundings),
            timeout: new.timeout,
        };
        Roster { members: members.map(member).collect(), failing_share }
    }

    /// A unit.
    pub(super) fn unit(&self, index: usize) -> &Unit {
        &self.members[index].unit
    }

    /// A unit.
    pub(super) fn unit_mut(&mut self, index: usize) -> &mut Unit {
        &mut self.members[index].unit
    }

    /// All of them.
    pub(super) fn units(&self) -> impl Iterator<Item = &Unit> {
        self.members.iter().map(|member| &member.unit)
    }

    /// Which unit is due next, and when.
    pub(super) fn next_due(&mut self, now: Timestamp) -> (usize, Timestamp) {
        let is_all_silent = self.units().all(Unit::is_silent);
        for Member { unit, .. } in &mut self.members {
            unit.keep_due_near(now);
            if is_all_silent {
                // The line was cut, or its power. What the first of them waited for the sake of the others is void.
                unit.probe_freely(now);
            }
        }
        let dues = self.units().map(Unit::due).enumerate();
        dues.min_by_key(|(_, due)| *due).expect("a bus without units is refused")
    }

    /// The shortest time between two polls of any unit.
    pub(super) fn shortest_period(&self) -> Duration {
        self.units().map(Unit::period).min().expect("a bus without units is refused")
    }

    pub(super) fn set_weather(&mut self, weather: Weather, now: Timestamp) {
        for Member { unit, .. } in &mut self.members {
            unit.set_weather(weather, now);
        }
    }

    /// Asks this unit at once, if it is only probed.
    pub(super) fn probe_now(&mut self, id: u8, now: Timestamp) {
        for Member { unit, .. } in self.members.iter_mut().filter(|member| member.unit.id == id) {
            unit.probe_within(now, Duration::ZERO);
        }
    }

    /// What a timeout of this unit does to the others. Nothing where all silent units together are waited for in less
    /// than half of the shortest period: then the others are read late, and not skipped.
    pub(super) fn pace(&self, index: usize) -> Pace {
        let others = self.members.iter().enumerate().filter(|(other, _)| *other != index);
        let healthy = others.clone().filter(|(_, member)| !member.unit.is_silent());
        let shortest = healthy.map(|(_, member)| member.unit.period()).min();
        let Some(shortest) = shortest else { return Pace::FREE };
        let failing = others.filter(|(_, member)| member.unit.is_suspected());
        let timeouts =
            failing.clone().map(|(_, member)| member.timeout).sum::<Duration>() + self.members[index].timeout;
        if timeouts < shortest / 2 {
            return Pace::FREE;
        }
        let count = u32::try_from(failing.count() + 1).expect("a bus has 256 units at most");
        Pace { harm: timeouts, harmless_below: shortest / 2 / count, share: self.failing_share }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kerbside_model::profile::{RegisterField, RegisterType};
    use kerbside_model::{RegisterTable, Timestamp};
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

    /// What a simulated bus has done.
    #[derive(Default)]
    struct Tally {
        /// Registers that were read, by unit and address.
        read: BTreeMap<(u8, u16), u32>,
        requests: BTreeMap<u8, u32>,
        timeouts: u32,
        late: u64,
    }

    fn roster(units: u8, registers: u16) -> Roster {
        let timing = LinkTiming { character: Duration::ZERO, silence: Duration::ZERO, overhead_bytes: 7 };
        let surroundings = Surroundings {
            cost: Cost::of(&timing, Duration::from_millis(10)),
            probe_wait_max: Duration::from_secs(60),
            quarantine: Duration::from_secs(600),
            frame_spread_max: Duration::from_secs(1),
        };
        let fields = |count| {
            let field = |address| RegisterField::new(RegisterTable::Holding, address, RegisterType::U16);
            (0..count).map(field).collect()
        };
        let plans: Vec<UnitPlan> = (1..=units)
            .map(|unit| UnitPlan {
                unit,
                address: unit.to_string(),
                beats: vec![BeatPlan { period: PERIOD, storm_period: StormPeriod::Same, fields: fields(registers) }],
                limits: Limits::default(),
                registers_from: None,
            })
            .collect();
        fn member(plan: &UnitPlan, surroundings: Surroundings) -> NewMember<'_> {
            let first_due = START.plus(ROUND_TRIP * u32::from(plan.unit));
            NewMember { plan, first_due, timeout: TIMEOUT, surroundings }
        }
        Roster::new(plans.iter().map(|plan| member(plan, surroundings)), SHARE)
    }

    /// Lets the bus run for so long against a device: each answer takes a round trip, each silence a timeout.
    fn run(
        roster: &mut Roster,
        span: Duration,
        mut device: impl FnMut(u8, Request, Timestamp) -> Result<(), ReadError>,
    ) -> Tally {
        let (mut now, mut tally) = (START, Tally::default());
        loop {
            let (index, due) = roster.next_due(now);
            now = now.max(due);
            if now >= START.plus(span) {
                return tally;
            }
            let pace = roster.pace(index);
            let id = roster.unit(index).id;
            let mut poll = roster.unit_mut(index).begin(now, &pace);
            while let Some(request) = poll.next_request(now) {
                let answer = device(id, request, now);
                *tally.requests.entry(id).or_default() += 1;
                let is_in_vain = answer.as_ref().is_err_and(|error| !error.is_answer());
                tally.timeouts += u32::from(is_in_vain);
                now = now.plus(if is_in_vain { TIMEOUT } else { ROUND_TRIP });
                let words = (0..request.count).collect();
                poll.settle(answer.map(|()| words), now);
            }
            let polled = roster.unit_mut(index).end(poll, now, &pace);
            tally.late += polled.late;
            for block in polled.frames.iter().flat_map(|frame| &frame.read.blocks) {
                for (address, _) in (block.address..).zip(&block.words) {
                    *tally.read.entry((id, address)).or_default() += 1;
                }
            }
        }
    }

    fn timeout() -> ReadError {
        ReadError::Timeout(TIMEOUT)
    }

    #[test]
    fn nine_units_keep_99_percent_of_their_reads_beside_a_dead_one_finding_out_included() {
        let mut roster = roster(10, 30);
        let span = Duration::from_secs(600);
        let tally = run(&mut roster, span, |unit, _, _| if unit == 5 { Err(timeout()) } else { Ok(()) });
        for unit in (1..=10).filter(|unit| *unit != 5) {
            let reads = tally.read[&(unit, 0)];
            assert!(reads >= 594, "unit {unit} was read {reads} times in 600 s");
        }
        assert_eq!((tally.timeouts, tally.requests[&5]), (2, 2), "two timeouts find it out");
    }

    #[test]
    fn a_unit_that_dies_later_costs_no_more_and_is_back_when_it_is_back() {
        let mut roster = roster(10, 30);
        let dead = START.plus(Duration::from_secs(100))..START.plus(Duration::from_secs(500));
        let device = |unit, _, now| if unit == 5 && dead.contains(&now) { Err(timeout()) } else { Ok(()) };
        let tally = run(&mut roster, Duration::from_secs(1_800), device);
        assert!((1..=10).filter(|unit| *unit != 5).all(|unit| tally.read[&(unit, 0)] >= 1_782));
        let reads = tally.read[&(5, 0)];
        assert!(reads >= 1_150, "it is probed within ten minutes and read as before: {reads}");
        assert_eq!(tally.timeouts, 2);
    }

    #[test]
    fn a_line_that_was_cut_is_read_within_a_minute_of_its_mend() {
        let mut roster = roster(10, 30);
        let cut = START.plus(Duration::from_secs(100))..START.plus(Duration::from_secs(1_000));
        let device = |_, _, now| if cut.contains(&now) { Err(timeout()) } else { Ok(()) };
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
        let device = |unit, _, _| if unit <= 3 { Err(timeout()) } else { Ok(()) };
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
        let holds = |request: &Request| (request.address..request.address + request.count).contains(&37);
        let illegal = || ReadError::Exception(ExceptionCode::IllegalDataAddress);
        let device = |_, request: Request, _| if holds(&request) { Err(illegal()) } else { Ok(()) };
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
        let tally = run(&mut roster, Duration::from_secs(60), |_, _, _| Ok(()));
        let requests: u32 = tally.requests.values().sum();
        assert!(requests <= 600, "{requests} requests in 60 s");
        assert!(tally.read.values().all(|reads| *reads >= 59), "every register every second");
        assert_eq!(tally.late, 0);
    }

    #[test]
    fn a_register_that_is_met_with_silence_does_not_starve_the_bus() {
        let mut roster = roster(10, 60);
        let holds = |request: &Request| (request.address..request.address + request.count).contains(&37);
        let device = |unit, request: Request, _| if unit == 5 && holds(&request) { Err(timeout()) } else { Ok(()) };
        let tally = run(&mut roster, Duration::from_secs(7_200), device);
        for unit in (1..=10).filter(|unit| *unit != 5) {
            let reads = tally.read[&(unit, 0)];
            assert!(reads >= 7_128, "unit {unit} was read {reads} times in two hours");
        }
    }
}
