//! Covers: what is wrong with them, and everything that only looks so. One cover for each kind of story, several times.
//!
//! Every cover lies askew by up to twelve degrees, moves with the sun, is hit by wheels, and sends over a radio that
//! loses, delays and repeats. Rates and sizes are guesses where no source is named.

mod kinds;
mod life;

use std::time::Duration;

use kerbside_model::inventory::Device;
use kerbside_model::{MaskKind, Timestamp};

use self::kinds::{KINDS, Kind};
use self::life::Life;
use super::{Act, Event, Extent, Floors, Message, Messages, Radio, Reports, Scenario, Sender, Span, Trap, Wants};

/// 2026-11-02 00:00 in China, a Monday.
const START: Timestamp = Timestamp(1_793_548_800_000);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// A wheel is over a cover for less than two seconds ...
const HIT: Duration = Duration::from_secs(2);
/// ... and a board tells that it rests again so long behind the first message.
const AT_REST_AFTER: Duration = Duration::from_secs(4);
/// LoRaWAN without confirmation loses about so many messages; T/ZZB 1255-2019 allows 5 %.
const LOSS: f64 = 0.03;
/// NB-IoT confirms each message.
const LOSS_CONFIRMED: f64 = 0.002;

/// Batteries have a suite of their own.
const OURS: [&str; 8] =
    ["displaced", "settled", "gas", "tampered", "silent", "flooded", "flooded_and_silent", "sensor_fault"];

pub(super) const FLOORS: Floors = Floors {
    recall: 1.0,
    recall_of: &[],
    precision: 1.0,
    // A contact that is open for 25 seconds is a hole, because 30 are allowed: half of what is raised are wet contacts, and
    // loose covers whose message of rest is lost.
    precision_of: &[("displaced", 0.45), ("silent", 0.6), ("battery_low", 0.0)],
    false_cases: 3.5,
};

pub(super) fn scenarios(extent: Extent, seed: u64) -> Vec<Scenario> {
    let (copies, days) = match extent {
        Extent::Quick => (1, 45),
        Extent::Full => (6, 60),
    };
    let mut street = Street::new(DAY * days, seed);
    for _ in 0..copies {
        for kind in KINDS {
            street.cover(kind);
        }
    }
    vec![street.scenario]
}

/// A scenario that is being made.
struct Street {
    scenario: Scenario,
    chance: fastrand::Rng,
    span: Span,
}

impl Street {
    fn new(length: Duration, seed: u64) -> Street {
        let scenario = Scenario {
            name: "covers".to_owned(),
            start: START,
            length,
            senders: Vec::new(),
            acts: Vec::new(),
            events: Vec::new(),
            traps: Vec::new(),
        };
        Street { scenario, chance: fastrand::Rng::with_seed(seed), span: Span::of(START, length) }
    }

    fn cover(&mut self, kind: &Kind) {
        let id = format!("MH-{:04}", self.scenario.senders.len());
        let mut life = Life::ordinary(id.clone(), kind.board, self.span, &mut self.chance);
        (kind.tell)(self, &mut life);
        life.settle(&mut self.chance);
        let facts = Device { id, ..Device::default() };
        let (profile, points) = (life.board.profile(), life.points());
        let messages = self.messages(life);
        self.scenario.senders.push(Sender { facts, profile, points, messages });
    }

    fn messages(&mut self, life: Life) -> Messages {
        let mut at_once = life.told_at_once();
        at_once.retain(|at| self.span.has(*at) && life.dies_at.is_none_or(|dies_at| *at < dies_at));
        let mut outages = life.outages.clone();
        outages.extend(life.dies_at.map(|from| Span { from, until: self.span.until }));
        let radio = Radio {
            loss: life.board.loss(),
            delay_max: SECOND * 10,
            twice: life.twice,
            late: life.late,
            late_max: HOUR * 6,
            outages,
        };
        let reports = Reports {
            jitter: MINUTE * 2,
            at_once,
            radio,
            ..Reports::every(self.span, life.board.interval(), self.chance.u64(..))
        };
        let kept = life.keeps;
        let messages = reports.of(move |at, chance| life.sense(at, chance));
        match kept {
            None => messages,
            Some(kept) => handed_over_later(messages, kept),
        }
    }

    /// A moment of the story, far enough from its begin for everything to be learnt and from its end for everything to
    /// be found.
    fn moment(&mut self) -> Timestamp {
        let length = self.span.until.since(self.span.from);
        self.span.from.plus(length.mul_f64(between(&mut self.chance, 0.55, 0.75)))
    }

    /// Any moment from the third day on.
    fn any_moment(&mut self) -> Timestamp {
        let length = self.span.until.since(self.span.from) - DAY * 4;
        self.span.from.plus(DAY * 3 + length.mul_f64(self.chance.f64()))
    }

    fn mask(&mut self, life: &Life, kind: MaskKind, span: Span) {
        self.scenario.acts.push(Act::Mask { device: life.id.clone(), kind, span });
    }

    fn trap(&mut self, kind: &'static str, life: &Life, conditions: &[&'static str], span: Span) {
        let devices = vec![life.id.clone()];
        let conditions = if conditions.is_empty() { OURS.to_vec() } else { conditions.to_vec() };
        self.scenario.traps.push(Trap { kind, devices, conditions, span });
    }

    fn event(&mut self, life: &Life, truth: Truth<'_>) {
        let Truth { kind, any_of, also, span, within, wants } = truth;
        self.scenario.events.push(Event {
            kind,
            devices: vec![life.id.clone()],
            any_of: any_of.to_vec(),
            also: also.to_vec(),
            from: span.from,
            due_by: span.from.plus(within),
            until: span.until,
            wants,
        });
    }
}

/// Something that is really wrong with a cover.
struct Truth<'a> {
    kind: &'static str,
    any_of: &'a [&'static str],
    also: &'a [&'static str],
    span: Span,
    within: Duration,
    wants: Wants,
}

/// What is sent in this time arrives behind it, all together, the oldest first.
fn handed_over_later(messages: Messages, kept: Span) -> Messages {
    let mut messages: Vec<Message> = messages.collect();
    let mut after = Duration::ZERO;
    for message in messages.iter_mut().filter(|message| kept.has(message.observed_at)) {
        after += SECOND;
        message.arrives_at = kept.until.plus(after);
    }
    Messages::written(messages)
}

fn between(chance: &mut fastrand::Rng, least: f64, most: f64) -> f64 {
    least + (most - least) * chance.f64()
}
