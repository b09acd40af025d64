//! Rain that is known of: official signals, told by people or on a topic, and rain stations. While it rains hard, the
//! first place under water is a storm. Survives in the snapshot.

use kerbside_model::incident::{IncidentKind, RAIN_SIGNAL_MAX, RainSignal};
use kerbside_model::vocabulary::HEAVY_RAIN;
use kerbside_model::{AlarmState, Effects, FrameView, Timestamp};

use crate::Engine;
use crate::decode::rain::{Told, read};

impl Engine {
    /// The rainstorm signal that was told last; it is over when its end has passed.
    pub fn rain_signal(&self) -> Option<RainSignal> {
        self.incidents.rain
    }

    /// Whether it is known to rain hard: then the first place under water is a storm. A station that is not heard any
    /// more knows nothing of the weather of today.
    pub(crate) fn is_rain_known(&self, at: Timestamp) -> bool {
        let is_raining = |station: &String| {
            let alarm = self.site.find(station).and_then(|index| self.standing(index, HEAVY_RAIN));
            alarm.is_some_and(|alarm| alarm.state == AlarmState::Active)
        };
        self.incidents.rain.is_some_and(|signal| signal.until > at)
            || self.incidents.rain_stations.iter().any(is_raining)
    }

    /// A rainstorm signal is told, prolonged or lifted.
    pub(crate) fn take_rain_signal(&mut self, signal: RainSignal, by: &str, at: Timestamp, effects: &mut Effects) {
        self.incidents.rain = Some(signal);
        let (mut ctx, _) = self.case_context(at, effects);
        ctx.audit(by, "rain_signal", signal.level.name(), &format!("until {}", signal.until));
        self.open_waiting_storms(at, effects);
    }

    /// A message on a topic of rainstorm signals. One that only repeats what is known leaves no line in the audit log.
    /// What the broker kept may have been said years ago: it counts only when it says itself how long.
    pub(crate) fn take_rain_frame(&mut self, frame: &FrameView<'_>, at: Timestamp, effects: &mut Effects) {
        let Some(topic) = self.site.rain_topic(frame.source, frame.address).cloned() else { return };
        let Ok(told) = read(&topic, frame.payload) else { return };
        let known = self.incidents.rain.filter(|signal| signal.until > at);
        let signal = match told {
            Told::OtherWeather => return,
            Told::Lifted => match known {
                Some(signal) => RainSignal { until: at, ..signal },
                None => return,
            },
            Told::InForce { until: None, .. } if frame.flags.retained => return,
            Told::InForce { level, until } => {
                let until = until.unwrap_or_else(|| at.plus(topic.lasts)).min(at.plus(RAIN_SIGNAL_MAX));
                RainSignal { level, until }
            }
        };
        let was_in_force = known.is_some_and(|known| known.level == signal.level);
        if was_in_force && signal.until > at {
            self.incidents.rain = Some(signal);
        } else if known.is_some() || signal.until > at {
            self.take_rain_signal(signal, frame.source, at, effects);
        }
    }

    /// Water that was too little for a storm is one now.
    pub(crate) fn open_waiting_storms(&mut self, at: Timestamp, effects: &mut Effects) {
        if !self.is_rain_known(at) {
            return;
        }
        let records = self.incidents.records.values();
        let waiting: Vec<String> = records
            .filter(|record| record.kind == IncidentKind::Storm && record.opened_at.is_none() && record.standing > 0)
            .map(|record| record.id.clone())
            .collect();
        for id in waiting {
            self.forget_timer(&id);
            self.open_or_grow(&id, at, effects);
        }
    }
}
