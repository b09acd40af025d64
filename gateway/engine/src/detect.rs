//! Detectors: each watches one point of one device and says whether what it looks for stands.

use std::time::Duration;

use kerbside_model::profile::{Detector, Rule, Side};
use kerbside_model::{Timestamp, Value};
use serde::{Deserialize, Serialize};

/// What one reading says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The rule's limit is passed.
    Wrong,
    /// All is well.
    Fine,
    /// Between the limits of raising and clearing.
    Between,
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
}

/// The memory of one detector of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DetectorState {
    pub(crate) phase: Phase,
    /// Wrong readings running, while rising.
    pub(crate) count: u16,
    /// When the phase began.
    pub(crate) since: Timestamp,
    /// The value that rate and flat line compare with.
    reference: f64,
    /// When the reference was observed; 0 for none.
    reference_at: Timestamp,
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
    pub(crate) fn judge(&mut self, rule: &Rule, value: &Value, observed_at: Timestamp) -> Verdict {
        match rule {
            Rule::State { values } if values.contains(value) => Verdict::Wrong,
            Rule::State { .. } => Verdict::Fine,
            Rule::Silence { .. } => Verdict::Unknown,
            Rule::Threshold { side, raise, clear } => match value.as_number() {
                Some(number) => threshold(*side, *raise, *clear, number),
                None => Verdict::Unknown,
            },
            Rule::Rate { side, raise, clear, per, gap_max } => match value.as_number() {
                Some(number) => self.rate((*side, *raise, *clear), *per, *gap_max, number, observed_at),
                None => Verdict::Unknown,
            },
            Rule::Flatline { tolerance, duration } => match value.as_number() {
                Some(number) => self.flatline(*tolerance, *duration, number, observed_at),
                None => Verdict::Unknown,
            },
        }
    }

    /// Compares with a reference that is at least `per` old, so that two readings a second apart do not make a
    /// millimetre of noise a flood; a change that is already too large within `per` counts at once.
    fn rate(
        &mut self,
        (side, raise, clear): (Side, f64, f64),
        per: Duration,
        gap_max: Duration,
        number: f64,
        observed_at: Timestamp,
    ) -> Verdict {
        let elapsed_ms = observed_at.0.saturating_sub(self.reference_at.0);
        let is_first = self.reference_at == Timestamp::default() || observed_at < self.reference_at;
        if is_first || elapsed_ms > milliseconds(gap_max) {
            self.remember(number, observed_at);
            return Verdict::Unknown;
        }
        let change = match side {
            Side::Above => number - self.reference,
            Side::Below => self.reference - number,
            Side::Either => (number - self.reference).abs(),
        };
        let per_ms = milliseconds(per);
        if elapsed_ms < per_ms {
            return if change >= raise { Verdict::Wrong } else { Verdict::Unknown };
        }
        let rate = change * per_ms as f64 / elapsed_ms as f64;
        self.remember(number, observed_at);
        threshold(Side::Above, raise, clear, rate)
    }

    fn flatline(&mut self, tolerance: f64, duration: Duration, number: f64, observed_at: Timestamp) -> Verdict {
        if self.reference_at == Timestamp::default() || observed_at < self.reference_at {
            self.remember(number, observed_at);
            return Verdict::Unknown;
        }
        if (number - self.reference).abs() > tolerance {
            self.remember(number, observed_at);
            return Verdict::Fine;
        }
        if observed_at.0.saturating_sub(self.reference_at.0) >= milliseconds(duration) {
            Verdict::Wrong
        } else {
            Verdict::Between
        }
    }

    fn remember(&mut self, number: f64, observed_at: Timestamp) {
        self.reference = number;
        self.reference_at = observed_at;
    }

    /// How long the value has not moved, for explanations of a flat line.
    pub(crate) fn reference_at(&self) -> Timestamp {
        self.reference_at
    }

    /// Moves on with a verdict that was reached at `at`.
    pub(crate) fn advance(&mut self, detector: &Detector, verdict: Verdict, at: Timestamp) {
        let enter = |state: &mut DetectorState, phase: Phase| {
            state.phase = phase;
            state.since = at;
        };
        match (verdict, self.phase) {
            (Verdict::Unknown, _) | (Verdict::Between, Phase::Unknown | Phase::Clear | Phase::Active) => {}
            (Verdict::Wrong, Phase::Active) | (Verdict::Fine, Phase::Clear) => {}
            (Verdict::Wrong, Phase::Unknown | Phase::Clear) => {
                self.count = 1;
                enter(self, Phase::Rising);
                self.ripen(detector, at);
            }
            (Verdict::Wrong, Phase::Rising) => {
                self.count = self.count.saturating_add(1);
                self.ripen(detector, at);
            }
            (Verdict::Wrong | Verdict::Between, Phase::Falling) => enter(self, Phase::Active),
            (Verdict::Between, Phase::Rising) => enter(self, Phase::Clear),
            (Verdict::Fine, Phase::Unknown | Phase::Rising) => enter(self, Phase::Clear),
            (Verdict::Fine, Phase::Active) if detector.clear_hold.is_zero() => enter(self, Phase::Clear),
            (Verdict::Fine, Phase::Active) => enter(self, Phase::Falling),
            (Verdict::Fine, Phase::Falling) => {
                // Only data clears: no timer runs for it.
                if at.since(self.since) >= detector.clear_hold {
                    enter(self, Phase::Clear);
                }
            }
        }
    }

    /// From rising to active when it was wrong often enough and long enough.
    pub(crate) fn ripen(&mut self, detector: &Detector, at: Timestamp) {
        let often_enough = self.count >= detector.count.max(1);
        if self.phase == Phase::Rising && often_enough && at.since(self.since) >= detector.hold {
            self.phase = Phase::Active;
        }
    }

    /// When a hold ends without any new data.
    pub(crate) fn ripe_at(&self, detector: &Detector) -> Option<Timestamp> {
        let often_enough = self.count >= detector.count.max(1);
        (self.phase == Phase::Rising && often_enough).then(|| self.since.plus(detector.hold))
    }
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
