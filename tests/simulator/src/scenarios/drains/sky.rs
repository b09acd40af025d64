//! Rain over one catchment, and what of it stands in its pipes: a linear reservoir, in steps of five minutes.

use std::time::Duration;

use kerbside_model::Timestamp;

use super::super::Span;
use super::between;

/// One step of the rain.
pub(super) const STEP: Duration = Duration::from_secs(300);
const STEPS_A_DAY: usize = 288;
/// In this time a pipe loses two thirds of what the rain brought.
const EMPTIES_IN: Duration = Duration::from_secs(45 * 60);
/// Less rain than this in a step is none, mm.
const NONE_MM: f32 = 0.01;

/// The rain of a catchment.
#[derive(Debug)]
pub(super) struct Sky {
    start: Timestamp,
    /// mm in each step.
    rain: Vec<f32>,
    /// mm that stand in the pipes at each step.
    stored: Vec<f32>,
}

impl Sky {
    /// A storm every four days of 3 to 40 mm in one to six hours, and a drizzle of less than a millimetre every other
    /// day; the last three days of a week are more often dry than not, so both are found in any month.
    pub(super) fn made(start: Timestamp, days: usize, chance: &mut fastrand::Rng) -> Sky {
        let mut rain = vec![0.0_f32; days * STEPS_A_DAY];
        for day in 0..days {
            let begin = day * STEPS_A_DAY + chance.usize(..STEPS_A_DAY);
            let kind = chance.f64();
            let (amount, steps) = if kind < 0.25 {
                (3.0 * (40.0_f64 / 3.0).powf(chance.f64()), chance.usize(12..72))
            } else if kind < 0.75 {
                (between(chance, 0.1, 0.9), chance.usize(6..36))
            } else {
                continue;
            };
            let weights: Vec<f64> = (0..steps).map(|_| chance.f64() * chance.f64()).collect();
            let sum: f64 = weights.iter().sum::<f64>().max(0.01);
            for (offset, weight) in weights.iter().enumerate() {
                if let Some(slot) = rain.get_mut(begin + offset) {
                    *slot += (amount * weight / sum) as f32;
                }
            }
        }
        let keeps = (-STEP.as_secs_f64() / EMPTIES_IN.as_secs_f64()).exp() as f32;
        let mut stored = Vec::with_capacity(rain.len());
        let mut now = 0.0_f32;
        for fell in &rain {
            now = now * keeps + fell;
            stored.push(now);
        }
        Sky { start, rain, stored }
    }

    fn step_of(&self, at: Timestamp) -> usize {
        (at.since(self.start).as_secs() / STEP.as_secs()) as usize
    }

    /// mm that stand in the pipes.
    pub(super) fn stored_mm(&self, at: Timestamp) -> f64 {
        let step = self.step_of(at);
        let share = (at.since(self.start).as_secs_f64() / STEP.as_secs_f64()).fract() as f32;
        let value = |step: usize| self.stored.get(step).copied().unwrap_or_default();
        f64::from(value(step) * (1.0 - share) + value(step + 1) * share)
    }

    /// mm that fell in a time.
    pub(super) fn fallen_mm(&self, span: Span) -> f64 {
        let (from, until) = (self.step_of(span.from), self.step_of(span.until).min(self.rain.len()));
        self.rain.get(from..until).unwrap_or_default().iter().map(|fell| f64::from(*fell)).sum()
    }

    /// Times with water of rain in the pipes.
    pub(super) fn wet_spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for (step, stored) in self.stored.iter().enumerate() {
            if *stored < NONE_MM * 10.0 {
                continue;
            }
            let from = self.start.plus(STEP * u32::try_from(step).unwrap_or(u32::MAX));
            match spans.last_mut() {
                Some(last) if last.until >= from => last.until = from.plus(STEP),
                _ => spans.push(Span::of(from, STEP)),
            }
        }
        spans
    }
}
