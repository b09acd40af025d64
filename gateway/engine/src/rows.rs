//! What of a frame goes to the database: its own readings, those of other times that it carries, and what it settles
//! about earlier ones.

use kerbside_model::{DeviceIndex, FrameView, PointReading, Timestamp, Value};

use crate::Engine;
use crate::decode::placed_after;
use crate::engine::Work;

/// Where the readings of a frame stand.
pub(crate) struct Placed {
    pub(crate) index: DeviceIndex,
    /// What the device told, when it is to be believed.
    pub(crate) device_time: Option<Timestamp>,
    /// `None` when the frame has no readings of its own, or no time for them.
    pub(crate) observed_at: Option<Timestamp>,
    pub(crate) late: bool,
}

impl Engine {
    /// Keeps the readings of a frame, and behind them those of other times that it carries: at their own time, and never
    /// as news.
    pub(crate) fn keep_rows(&mut self, placed: &Placed, frame: &FrameView<'_>, work: &mut Work<'_>) {
        let Placed { index, device_time, observed_at, late } = *placed;
        if let Some(observed_at) = observed_at {
            work.observations.push_row(index, observed_at, frame.received_at, late, self.scratch.keep_frame());
            frame.tags.iter().for_each(|tags| work.observations.tag_last(tags));
            if device_time.is_none() && observed_at != frame.received_at {
                work.effects.note(placed_after(frame.received_at, observed_at));
            }
        }
        let frame_time = device_time.unwrap_or(frame.received_at);
        for row in 0..self.scratch.history_len() {
            let counts = &mut work.effects.counts;
            match self.scratch.history_time(row).judge(frame_time, frame.received_at, work.certainty) {
                Ok(observed_at) => {
                    let quality = self.decoders.at(self.site.profile_index(index)).quality();
                    quality.judge_alone(self.scratch.history_mut(row), observed_at);
                    let readings = self.scratch.history(row).iter();
                    counts.readings_not_good += readings.filter(|reading| !reading.quality.is_good()).count() as u64;
                    counts.observations_late += 1;
                    let count = self.scratch.keep_history(row);
                    work.observations.push_row(index, observed_at, frame.received_at, true, count);
                    frame.tags.iter().for_each(|tags| work.observations.tag_last(tags));
                }
                Err(refusal) => counts.times_refused[refusal as usize] += 1,
            }
        }
    }

    /// Keeps what the frame settled about earlier readings: rows that take the place of a part of those of then. They
    /// have the user properties of this frame, as those of one device mostly have.
    pub(crate) fn keep_revised(&mut self, index: DeviceIndex, frame: &FrameView<'_>, work: &mut Work<'_>) {
        for revised in self.findings.revised.drain(..) {
            let value = Some(Value::Number(revised.value));
            self.scratch.keep_other(PointReading { point: revised.point, value, quality: revised.quality });
            work.observations.push_row(index, revised.observed_at, revised.received_at, true, 1);
            frame.tags.iter().for_each(|tags| work.observations.tag_last(tags));
        }
    }
}
