//! When the points of a unit are due: groups of points with the same period, each with its own beat.
//!
//! Points that are due soon join a poll that is under way. A beat that was missed is skipped and counted, never made up
//! for. Plain functions; after a crash every beat begins anew.

use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_model::profile::RegisterField;

use crate::modbus::plan::{self, Request};

/// Points that are due within this part of the unit's shortest period are read with those that are due now: a second
/// poll a moment later would cost requests and give nothing.
const JOIN_PART: u32 = 10;

/// More polls than this are not late but a clock that was set.
const LATE_POLLS_MAX: u64 = 1_000;

/// Points of a unit that are read with the same period.
#[derive(Clone, Debug, PartialEq)]
pub struct BeatPlan {
    /// Time between polls, in the clock's time; at least a millisecond.
    pub period: Duration,
    /// The same while a storm stands.
    pub storm_period: StormPeriod,
    /// What is read.
    pub fields: Vec<RegisterField>,
}

impl BeatPlan {
    /// The period in fair weather or in a storm.
    pub fn period_in(&self, weather: Weather) -> Duration {
        match weather {
            Weather::Fair => self.period,
            Weather::Storm => match self.storm_period {
                StormPeriod::Same => self.period,
                StormPeriod::Chosen(period) | StormPeriod::AtBest(period) => period,
            },
        }
    }
}

/// Time between polls while a storm stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StormPeriod {
    /// As in fair weather.
    Same,
    /// Somebody has chosen this.
    Chosen(Duration),
    /// Nobody has chosen: this, or a longer one that the bus can carry.
    AtBest(Duration),
}

/// Whether a storm stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weather {
    /// It does not.
    #[default]
    Fair,
    /// It does: levels are read more often.
    Storm,
}

#[derive(Debug)]
struct Beat {
    period: Duration,
    storm_period: Duration,
    due: Timestamp,
    /// Distinct, by table and address.
    places: Vec<Request>,
}

impl Beat {
    fn period(&self, weather: Weather) -> Duration {
        match weather {
            Weather::Fair => self.period,
            Weather::Storm => self.storm_period,
        }
    }
}

/// The beats of one unit.
#[derive(Debug)]
pub(super) struct Beats {
    beats: Vec<Beat>,
    weather: Weather,
}

impl Beats {
    /// All begin at `first_due`, so that those that can fall together do.
    pub(super) fn new(plans: &[BeatPlan], first_due: Timestamp) -> Beats {
        let beat = |plan: &BeatPlan| Beat {
            period: plan.period,
            storm_period: plan.period_in(Weather::Storm),
            due: first_due,
            places: plan::places(&plan.fields),
        };
        Beats { beats: plans.iter().map(beat).collect(), weather: Weather::Fair }
    }

    /// When the next of them is due.
    pub(super) fn due(&self) -> Timestamp {
        self.beats.iter().map(|beat| beat.due).min().expect("a unit without points is refused")
    }

    /// The shortest period as the weather is.
    pub(super) fn shortest(&self) -> Duration {
        let periods = self.beats.iter().map(|beat| beat.period(self.weather));
        periods.min().expect("a unit without points is refused")
    }

    /// Those that are due at `now`, or so soon after that they join.
    pub(super) fn due_at(&self, now: Timestamp) -> Vec<u16> {
        let until = now.plus(self.shortest() / JOIN_PART);
        let due = self.beats.iter().enumerate().filter(|(_, beat)| beat.due <= until);
        due.map(|(index, _)| u16::try_from(index).expect("a profile has fewer than 65,536 points")).collect()
    }

    /// The places of all beats, distinct, by table and address; not empty.
    pub(super) fn all_places(&self) -> Vec<Request> {
        let mut places: Vec<Request> = self.beats.iter().flat_map(|beat| beat.places.iter().copied()).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// The places of these beats, distinct, by table and address.
    pub(super) fn places(&self, beats: &[u16]) -> Vec<Request> {
        let of_beat = |beat: &u16| self.beats[usize::from(*beat)].places.iter().copied();
        let mut places: Vec<Request> = beats.iter().flat_map(of_beat).collect();
        if beats.len() > 1 {
            places.sort_unstable();
            places.dedup();
        }
        places
    }

    /// Puts these beats, which were polled until `now`, to their next due time after it; how many polls were skipped.
    pub(super) fn advance(&mut self, beats: &[u16], now: Timestamp) -> u64 {
        let until = now.plus(self.shortest() / JOIN_PART);
        let mut late = 0;
        for beat in beats {
            let beat = &mut self.beats[usize::from(*beat)];
            let period = beat.period(self.weather);
            let skipped =
                u64::try_from(now.since(beat.due).as_millis() / period.as_millis().max(1)).unwrap_or(u64::MAX);
            let from = if beat.due > until { now } else { beat.due };
            beat.due = match u32::try_from(skipped) {
                Ok(periods) if skipped <= LATE_POLLS_MAX => {
                    late += skipped;
                    from.plus(period.saturating_mul(periods + 1))
                }
                _ => now.plus(period),
            };
        }
        late
    }

    /// Follows the weather: what is read more often from now on is due sooner.
    pub(super) fn set_weather(&mut self, weather: Weather, now: Timestamp) {
        if self.weather == weather {
            return;
        }
        self.weather = weather;
        for beat in &mut self.beats {
            beat.due = beat.due.min(now.plus(beat.period(weather)));
        }
    }

    /// Has everything polled no later than after `wait`.
    pub(super) fn poll_within(&mut self, now: Timestamp, wait: Duration) {
        for beat in &mut self.beats {
            beat.due = beat.due.min(now.plus(wait));
        }
    }

    /// Brings due times nearer that lie too far away because the clock was set back.
    pub(super) fn keep_near(&mut self, now: Timestamp) {
        for beat in &mut self.beats {
            beat.due = beat.due.min(now.plus(beat.period(self.weather)));
        }
    }
}

#[cfg(test)]
mod tests {
    use kerbside_model::RegisterTable;
    use kerbside_model::profile::RegisterType;

    use super::*;

    const START: Timestamp = Timestamp(1_000_000);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn plan(address: u16, period_ms: u64, storm_ms: Option<u64>) -> BeatPlan {
        let fields = vec![RegisterField::new(RegisterTable::Holding, address, RegisterType::U16)];
        BeatPlan {
            period: ms(period_ms),
            storm_period: storm_ms.map_or(StormPeriod::Same, |storm| StormPeriod::Chosen(ms(storm))),
            fields,
        }
    }

    #[test]
    fn points_with_periods_of_their_own_fall_together_when_they_can() {
        let mut beats = Beats::new(&[plan(0, 1_000, None), plan(1, 3_000, None)], START);
        let mut polled = Vec::new();
        for _ in 0..7 {
            let now = beats.due();
            let due = beats.due_at(now);
            polled.push((now.since(START).as_millis(), due.len()));
            assert_eq!(beats.advance(&due, now.plus(ms(20))), 0);
        }
        assert_eq!(polled, [(0, 2), (1_000, 1), (2_000, 1), (3_000, 2), (4_000, 1), (5_000, 1), (6_000, 2)]);
    }

    #[test]
    fn what_is_due_in_a_moment_joins_and_keeps_its_own_beat() {
        let mut beats = Beats::new(&[plan(0, 1_000, None), plan(1, 1_050, None)], START);
        let first = beats.due_at(START);
        beats.advance(&first, START);
        let now = START.plus(ms(1_000));
        assert_eq!(beats.due_at(now), [0, 1], "50 ms are less than a tenth of a second");
        beats.advance(&[0, 1], now);
        assert_eq!(beats.due(), START.plus(ms(2_000)));
        beats.advance(&[0], START.plus(ms(2_000)));
        assert_eq!(beats.due(), START.plus(ms(2_100)), "two of its periods after the start");
    }

    #[test]
    fn a_late_unit_skips_polls_and_keeps_its_beat() {
        let mut beats = Beats::new(&[plan(0, 1_000, None)], START);
        assert_eq!(beats.advance(&[0], START.plus(ms(20))), 0);
        assert_eq!(beats.due(), START.plus(ms(1_000)));
        assert_eq!(beats.advance(&[0], START.plus(ms(4_300))), 3);
        assert_eq!(beats.due(), START.plus(ms(5_000)));
    }

    #[test]
    fn a_clock_that_is_set_does_not_stop_the_polls() {
        let mut beats = Beats::new(&[plan(0, 1_000, None)], START);
        let years_later = START.plus(Duration::from_secs(1_700_000_000));
        assert_eq!(beats.advance(&[0], years_later), 0, "that is not late");
        assert_eq!(beats.due(), years_later.plus(ms(1_000)));
        beats.keep_near(START);
        assert_eq!(beats.due(), START.plus(ms(1_000)));
    }

    #[test]
    fn a_storm_in_which_a_point_is_read_less_often_is_not_cut_short() {
        let mut beats = Beats::new(&[plan(0, 1_000, Some(60_000))], START);
        beats.set_weather(Weather::Storm, START);
        beats.advance(&[0], START);
        beats.keep_near(START.plus(ms(20)));
        assert_eq!(beats.due(), START.plus(ms(60_000)));
    }

    #[test]
    fn a_storm_makes_levels_due_sooner_and_fair_weather_lets_them_rest() {
        let mut beats = Beats::new(&[plan(0, 60_000, Some(15_000)), plan(1, 60_000, None)], START);
        beats.advance(&[0, 1], START);
        let now = START.plus(ms(1_000));
        beats.set_weather(Weather::Storm, now);
        assert_eq!((beats.due(), beats.due_at(beats.due())), (now.plus(ms(15_000)), vec![0]));
        assert_eq!(beats.shortest(), ms(15_000));
        beats.advance(&[0], now.plus(ms(15_000)));
        beats.set_weather(Weather::Fair, now.plus(ms(15_000)));
        beats.advance(&[0], now.plus(ms(30_000)));
        assert_eq!(beats.due(), START.plus(ms(60_000)), "the other point has kept its beat");
    }
}
