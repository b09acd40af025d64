//! Detectors: each watches one point of one device and says whether what it looks for stands.
//!
//! A verdict on each reading moves the phase of the detector; what a rule has to remember of the readings before lies
//! in its [`Memory`], a file for each kind. All of it is in the snapshot.

mod amount;
mod cells;
mod days;
mod flaps;
mod heartbeat;
mod load;
mod losses;
mod normal;
mod reference;
mod rest;
mod shift;
mod spikes;
mod tally;
mod track;
mod unusual;
mod upkeep;

use std::time::Duration;

use kerbside_model::profile::{BehindPermit, Detector, Jump, Load, Rise, Rule, Side};
use kerbside_model::{Timestamp, Value};
use serde::{Deserialize, Serialize};

pub(crate) use self::amount::Amassed;
pub(crate) use self::cells::{Cells, Sent};
pub(crate) use self::days::{Arrival, Days, Slope};
pub(crate) use self::flaps::Flaps;
pub(crate) use self::heartbeat::Heartbeat;
pub(crate) use self::load::{LoadTable, Setting};
pub(crate) use self::losses::Gaps;
pub(crate) use self::normal::Normal;
pub(crate) use self::reference::Reference;
pub(crate) use self::rest::Rest;
pub(crate) use self::shift::Creep;
pub(crate) use self::spikes::SpikeTimes;
pub(crate) use self::tally::Tally;
pub(crate) use self::track::Track;
pub(crate) use self::unusual::Watcher;
use crate::local::Local;

const DAY_MS: i64 = 86_400_000;

/// What one reading says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The rule's limit is passed.
    Wrong,
    /// All is well.
    Fine,
    /// Between the limits of raising and clearing.
    Between,
    /// The same, and on the way to the limit.
    Near,
    /// Beyond the limit, but it jumped there as nothing real does.
    Doubtful,
    /// Nothing can be said.
    Unknown,
}

/// Where a detector stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    #[default]
    Unknown,
    Clear,
    /// Wrong, but not for long enough or not often enough.
    Rising,
    Active,
    /// Fine again, but not for long enough.
    Falling,
    /// Wrong by a jump: not believed until it moves.
    Doubted,
}

/// What a rule remembers that looks at more than one reading. Each kind takes as much as it needs, and 16 bytes here: most
/// devices have several of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Memory {
    Reference(Box<Reference>),
    Track(Box<Track>),
    Silence(Box<(Heartbeat, Track)>),
    Normal(Box<Normal>),
    Days(Box<Days>),
    Rest(Box<Rest>),
    Cells(Box<Cells>),
    Gaps(Gaps),
    Amount(Box<Amassed>),
    Flaps(Box<Flaps>),
    Creep(Box<Creep>),
    Unusual(Box<Watcher>),
    Tally(Box<Tally>),
    Spikes(Box<SpikeTimes>),
    Load(Box<LoadTable>),
}

/// When a reading was taken, and whether it is one to learn from.
pub(crate) struct Sight<'a> {
    pub(crate) observed_at: Timestamp,
    /// The hour at its place; `None` where no detector asks for it.
    pub(crate) local: Option<&'a Local>,
    /// It came with this frame, is good, and what else must hold for learning does.
    pub(crate) is_to_learn: bool,
    /// Somebody may work at the device now.
    pub(crate) is_permitted: bool,
}

/// The memory of one detector of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DetectorState {
    pub(crate) phase: Phase,
    /// Only suspect readings have found it wrong so far.
    pub(crate) unsupported: bool,
    /// Wrong readings running, while rising; readings on the way to the limit, while clear.
    pub(crate) count: u16,
    /// When the phase began.
    pub(crate) since: Timestamp,
    /// More, where the rule needs it; `None` until its first reading.
    memory: Option<Memory>,
    /// Whether the last reading was beyond the rule's limit, whatever else must hold; `None` when nobody knows.
    beyond: Option<bool>,
}

impl DetectorState {
    /// Whether silence would be news to it.
    pub(crate) fn waits_for_wrong(&self) -> bool {
        matches!(self.phase, Phase::Unknown | Phase::Clear)
    }

    /// Takes over from a detector of an earlier profile that had found the same condition at the same point.
    pub(crate) fn taken_over(since: Timestamp) -> DetectorState {
        DetectorState { phase: Phase::Active, since, ..DetectorState::default() }
    }

    /// Whether the condition stands as far as this detector can tell.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Active | Phase::Falling)
    }

    /// What a good reading of the point says.
    pub(crate) fn judge(&mut self, rule: &Rule, value: &Value, sight: &Sight<'_>) -> Verdict {
        let observed_at = sight.observed_at;
        match rule {
            Rule::State { values } if values.contains(value) => Verdict::Wrong,
            Rule::State { .. } => Verdict::Fine,
            Rule::Silence { .. } | Rule::Losses(_) => Verdict::Unknown,
            // These are judged by more than one point.
            Rule::Combination(_) | Rule::Expression(_) | Rule::Load(_) => Verdict::Unknown,
            Rule::Spike(spikes) => match (value.as_number(), self.memory_for(rule)) {
                (Some(number), Memory::Spikes(times)) => times.judge(spikes, number, observed_at),
                _ => Verdict::Unknown,
            },
            Rule::Battery(_) | Rule::Amount(_) | Rule::Flapping(_) | Rule::Shift(_) => {
                self.judge_count(rule, value, sight)
            }
            Rule::Threshold { side, raise, clear, approach: None } => {
                value.as_number().map_or(Verdict::Unknown, |number| threshold(*side, *raise, *clear, number))
            }
            Rule::Threshold { approach: Some(_), .. } | Rule::Rate { .. } | Rule::Flatline { .. } => {
                value.as_number().map_or(Verdict::Unknown, |number| self.judge_step(rule, number, observed_at))
            }
            Rule::Forecast(_)
            | Rule::Deviation(_)
            | Rule::Trend(_)
            | Rule::Baseline(_)
            | Rule::Frequency(_)
            | Rule::Unusual(_) => match value.as_number() {
                Some(number) => self.judge_course(rule, number, sight),
                None => Verdict::Unknown,
            },
        }
    }

    /// The same, of rules that compare with an earlier reading.
    fn judge_step(&mut self, rule: &Rule, number: f64, at: Timestamp) -> Verdict {
        let DetectorState { phase, count, memory, .. } = self;
        let Memory::Reference(reference) = memory_for(memory, rule) else { return Verdict::Unknown };
        match rule {
            Rule::Threshold { side, raise, clear, approach: Some(approach) } => {
                let (verdict, is_seen_twice) =
                    reference.approached((*side, *raise, *clear), approach, (number, at), *phase);
                if is_seen_twice {
                    *count = (*count).max(1);
                }
                verdict
            }
            Rule::Rate { side, raise, clear, per, gap_max, jump } => {
                reference.leave_out_jump(jump.as_ref(), number, at);
                reference.rate((*side, *raise, *clear), (*per, *gap_max), (number, at), *phase)
            }
            Rule::Flatline { tolerance, duration } => reference.flatline(*tolerance, *duration, number, at),
            _ => Verdict::Unknown,
        }
    }

    /// The same, of rules that remember the readings before.
    fn judge_course(&mut self, rule: &Rule, number: f64, sight: &Sight<'_>) -> Verdict {
        let phase = self.phase;
        match (rule, self.memory_for(rule), sight.local) {
            (Rule::Forecast(forecast), Memory::Track(track), _) => track.judge(forecast, number, sight.observed_at),
            (Rule::Deviation(deviation), Memory::Normal(normal), Some(local)) => {
                let learns = sight.is_to_learn && Normal::learns_in(phase);
                match normal.judge(deviation, number, local, learns) {
                    // What began in an hour that is known does not go on by itself through one that is not.
                    Verdict::Unknown if phase == Phase::Rising => Verdict::Between,
                    verdict => verdict,
                }
            }
            (Rule::Trend(trend), Memory::Days(days), _)
                if sight.is_permitted && trend.behind_permit == BehindPermit::Anew =>
            {
                **days = Days::default();
                Verdict::Unknown
            }
            (Rule::Trend(trend), Memory::Days(days), Some(local)) => {
                days.judge(trend, number, local, sight.is_to_learn)
            }
            (Rule::Baseline(baseline), Memory::Rest(rest), _) => rest.judge(baseline, number, sight),
            (Rule::Frequency(frequency), Memory::Tally(tally), Some(local)) => {
                tally.judge(frequency, number, local, sight)
            }
            (Rule::Unusual(unusual), Memory::Unusual(watcher), Some(local)) => {
                watcher.judge(unusual, number, sight, local)
            }
            _ => Verdict::Unknown,
        }
    }

    /// What a good reading says of a lamp that is set in this way.
    pub(crate) fn judge_load(
        &mut self,
        (rule, load): (&Rule, &Load),
        value: &Value,
        setting: Option<Setting>,
        sight: &Sight<'_>,
    ) -> Verdict {
        match (value.as_number(), self.memory_for(rule)) {
            (Some(number), Memory::Load(table)) => table.judge(load, number, setting, sight),
            _ => Verdict::Unknown,
        }
    }

    /// The memory that a rule needs; a new one where it has none.
    fn memory_for(&mut self, rule: &Rule) -> &mut Memory {
        memory_for(&mut self.memory, rule)
    }

    /// Compares with what another detector has learnt of the same point.
    pub(crate) fn compare(&self, rule: &Rule, value: &Value, local: Option<&Local>) -> Verdict {
        match (rule, self.memory(), value.as_number(), local) {
            (Rule::Deviation(deviation), Some(Memory::Normal(normal)), Some(number), Some(local)) => {
                normal.verdict(deviation, number, local)
            }
            _ => Verdict::Unknown,
        }
    }

    /// Notes on which side of the rule's limit a reading is, for those upstream.
    pub(crate) fn note_beyond(&mut self, verdict: Verdict) {
        self.beyond = match verdict {
            Verdict::Wrong => Some(true),
            Verdict::Fine | Verdict::Near => Some(false),
            Verdict::Between | Verdict::Doubtful => self.beyond,
            Verdict::Unknown => None,
        };
    }

    /// Whether the last reading was beyond the rule's limit, whatever else must hold.
    pub(crate) fn is_beyond(&self) -> Option<bool> {
        self.beyond
    }

    /// Takes over what was learnt by a detector of an earlier profile that learnt the same point in the same way.
    pub(crate) fn go_on_learning(&mut self, rule: &Rule, known: &DetectorState) {
        self.memory = match (rule, known.memory()) {
            (Rule::Unusual(unusual), Some(Memory::Unusual(watcher))) => {
                Some(Memory::Unusual(Box::new(watcher.judging_by(unusual))))
            }
            (_, memory) => memory.cloned(),
        };
    }

    /// Whether it has no place yet from which a movement counts, and no permit says that it may learn one.
    pub(crate) fn has_no_place(&self) -> bool {
        match self.memory() {
            Some(Memory::Rest(rest)) => rest.has_no_place(),
            _ => true,
        }
    }

    pub(crate) fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// Notes a report of the device, for the silence that follows it.
    pub(crate) fn hear(&mut self, rule: &Rule, at: Timestamp, listening_since: Timestamp) {
        let Rule::Silence { habit: Some(_), .. } = rule else { return };
        if let Memory::Silence(known) = self.memory_for(rule) {
            known.0.take(at, listening_since);
        }
    }

    /// Notes a reading of the point whose rise makes silence count.
    pub(crate) fn follow(&mut self, rule: &Rule, rise: &Rise, number: f64, observed_at: Timestamp) {
        if let Memory::Silence(known) = self.memory_for(rule) {
            known.1.follow(rise, number, observed_at);
        }
    }

    /// For how long the device may be quiet; `None` for ever.
    pub(crate) fn patience(&self, rule: &Rule, interval: Option<Duration>) -> Option<Duration> {
        let Rule::Silence { after, missed, habit, rise } = rule else { return None };
        let known = match self.memory() {
            Some(Memory::Silence(known)) => Some(known),
            _ => None,
        };
        if let Some(rise) = rise
            && known.is_none_or(|known| known.1.risen() < rise.by)
        {
            return None;
        }
        let learnt = habit.as_ref().zip(known).and_then(|(habit, known)| known.0.patience(habit));
        learnt.or(*after).or_else(|| interval.map(|interval| interval.mul_f64(*missed)))
    }

    /// No memory may lie in the future after the clock was set back.
    pub(crate) fn forget_future(&mut self, now: Timestamp) {
        self.since = self.since.min(now);
        // A day later than by any zone on earth.
        let today = i32::try_from(now.0.div_euclid(DAY_MS)).unwrap_or(i32::MAX).saturating_add(1);
        match &mut self.memory {
            None => {}
            Some(Memory::Track(track)) => track.forget_future(now),
            Some(Memory::Silence(known)) => {
                known.0.forget_future(now);
                known.1.forget_future(now);
            }
            Some(Memory::Normal(normal)) => normal.forget_future(today),
            Some(Memory::Days(days)) => days.forget_future(today),
            Some(Memory::Rest(rest)) => rest.forget_future(now),
            Some(Memory::Cells(cells)) => cells.forget_future(now, today),
            Some(Memory::Gaps(_) | Memory::Reference(_)) => {}
            Some(Memory::Amount(sum)) => sum.forget_future(now),
            Some(Memory::Flaps(flaps)) => flaps.forget_future(now),
            Some(Memory::Creep(creep)) => creep.forget_future(today),
            Some(Memory::Tally(tally)) => tally.forget_future(now),
            Some(Memory::Spikes(times)) => times.forget_future(now),
            Some(Memory::Load(table)) => table.forget_future(today),
            // It counts readings and not time.
            Some(Memory::Unusual(_)) => {}
        }
    }

    /// How long the value has not moved, for explanations of a flat line.
    pub(crate) fn reference_at(&self) -> Timestamp {
        match &self.memory {
            Some(Memory::Reference(reference)) => reference.at(),
            _ => Timestamp::default(),
        }
    }

    /// Moves on with a verdict that was reached at `at`.
    pub(crate) fn advance(&mut self, detector: &Detector, verdict: Verdict, at: Timestamp) {
        let enter = |state: &mut DetectorState, phase: Phase| {
            state.phase = phase;
            state.since = at;
        };
        match (verdict, self.phase) {
            (Verdict::Unknown, _) => {}
            (Verdict::Wrong | Verdict::Near | Verdict::Doubtful | Verdict::Between, Phase::Active) => {}
            (Verdict::Near, Phase::Unknown | Phase::Clear) => self.count = self.count.saturating_add(1),
            (Verdict::Between, Phase::Unknown | Phase::Clear) | (Verdict::Fine, Phase::Clear) => self.count = 0,
            (Verdict::Wrong, Phase::Unknown | Phase::Clear | Phase::Doubted) => {
                // Readings on the way have counted already.
                self.count = self.count.saturating_add(1);
                enter(self, Phase::Rising);
                self.ripen(detector, at);
            }
            (Verdict::Doubtful, Phase::Unknown | Phase::Clear | Phase::Rising) => {
                self.count = 0;
                enter(self, Phase::Doubted);
            }
            (Verdict::Doubtful, Phase::Doubted) => {}
            (Verdict::Near, Phase::Rising | Phase::Doubted) => enter(self, Phase::Clear),
            (Verdict::Between | Verdict::Fine, Phase::Doubted) => {
                self.count = 0;
                enter(self, Phase::Clear);
            }
            (Verdict::Wrong, Phase::Rising) => {
                self.count = self.count.saturating_add(1);
                self.ripen(detector, at);
            }
            (Verdict::Wrong | Verdict::Between | Verdict::Near | Verdict::Doubtful, Phase::Falling) => {
                enter(self, Phase::Active);
            }
            (Verdict::Between, Phase::Rising) | (Verdict::Fine, Phase::Unknown | Phase::Rising) => {
                self.count = 0;
                enter(self, Phase::Clear);
            }
            (Verdict::Fine, Phase::Active) if detector.clear_hold.is_zero() => {
                self.count = 0;
                enter(self, Phase::Clear);
            }
            (Verdict::Fine, Phase::Active) => enter(self, Phase::Falling),
            (Verdict::Fine, Phase::Falling) => {
                // Only data clears: no timer runs for it.
                if at.since(self.since) >= detector.clear_hold {
                    self.count = 0;
                    enter(self, Phase::Clear);
                }
            }
        }
    }

    /// Moves on with what a good reading says, or any that counts as one.
    pub(crate) fn advance_surely(&mut self, detector: &Detector, verdict: Verdict, at: Timestamp) {
        self.unsupported &= verdict != Verdict::Wrong;
        self.advance(detector, verdict, at);
    }

    /// Moves on with what a suspect reading says. By itself it raises nothing, and it never ends what stands.
    pub(crate) fn advance_on_suspicion(&mut self, detector: &Detector, verdict: Verdict, at: Timestamp) {
        if verdict == Verdict::Fine && self.is_active() {
            return;
        }
        self.unsupported |= verdict == Verdict::Wrong && !(self.is_active() || self.phase == Phase::Rising);
        self.advance(detector, verdict, at);
    }

    /// From rising to active when it was wrong often enough and long enough, and one reading of it was good.
    pub(crate) fn ripen(&mut self, detector: &Detector, at: Timestamp) {
        let often_enough = self.count >= detector.count.max(1) && !self.unsupported;
        if self.phase == Phase::Rising && often_enough && at.since(self.since) >= detector.hold {
            self.phase = Phase::Active;
        }
    }

    /// When a hold ends without any new data.
    pub(crate) fn ripe_at(&self, detector: &Detector) -> Option<Timestamp> {
        let often_enough = self.count >= detector.count.max(1) && !self.unsupported;
        (self.phase == Phase::Rising && often_enough).then(|| self.since.plus(detector.hold))
    }
}

/// The memory that a rule needs; a new one where it has none.
fn memory_for<'a>(memory: &'a mut Option<Memory>, rule: &Rule) -> &'a mut Memory {
    memory.get_or_insert_with(|| match rule {
        Rule::Deviation(_) => Memory::Normal(Box::default()),
        Rule::Trend(_) => Memory::Days(Box::default()),
        Rule::Baseline(_) => Memory::Rest(Box::default()),
        Rule::Frequency(_) => Memory::Tally(Box::default()),
        Rule::Unusual(unusual) => Memory::Unusual(Box::new(Watcher::new(unusual))),
        Rule::Spike(_) => Memory::Spikes(Box::default()),
        Rule::Load(_) => Memory::Load(Box::default()),
        Rule::Silence { .. } => Memory::Silence(Box::default()),
        Rule::Threshold { .. } | Rule::Rate { .. } | Rule::Flatline { .. } => Memory::Reference(Box::default()),
        _ => upkeep::memory_of(rule).unwrap_or_else(|| Memory::Track(Box::default())),
    })
}

/// More than this is a jump between readings that are so far apart.
fn jump_limit(jump: &Jump, elapsed_ms: i64) -> f64 {
    let per_ms = milliseconds(jump.per);
    jump.over * (elapsed_ms.max(per_ms) as f64 / per_ms as f64).sqrt()
}

/// A span as differences of times are measured.
fn milliseconds(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn threshold(side: Side, raise: f64, clear: f64, number: f64) -> Verdict {
    let (wrong, fine) = match side {
        Side::Below => (number <= raise, number >= clear),
        Side::Above | Side::Either => (number >= raise, number <= clear),
    };
    match (wrong, fine) {
        (true, _) => Verdict::Wrong,
        (false, true) => Verdict::Fine,
        (false, false) => Verdict::Between,
    }
}
