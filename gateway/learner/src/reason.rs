//! Why an alarm: data from which a sentence can be written in any language, such as "level 3.2 times the usual for a
//! Tuesday 04:00".

use serde::{Deserialize, Serialize};

/// How many streams there are.
pub const STREAMS: usize = 5;

/// A side from which a point is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// What came after the point before.
    Sequence,
    /// What came 8 and 16 points after such points.
    LongSequence,
    /// The last points against this hour of other days.
    Hour,
    /// The last hundred points against the last thousands.
    Level,
    /// The value against everything that the series ever showed.
    Range,
}

impl Stream {
    /// All of them, in the order of [`Reason::strengths`].
    pub const ALL: [Stream; STREAMS] =
        [Stream::Sequence, Stream::LongSequence, Stream::Hour, Stream::Level, Stream::Range];
}

/// How often something like this value came in its context, and the context at all. Old points count less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Times that a value of this size came.
    pub times: u16,
    /// Times that the context came.
    pub of: u16,
}

/// Why a point is unusual. Values have the unit of the series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// The stream that found it most unusual.
    pub stream: Stream,
    /// The value of the point.
    pub value: f64,
    /// What the stream looked at: the value itself, or for [`Stream::Hour`] and [`Stream::Level`] a recent mean.
    pub looked_at: f64,
    /// What is usual there: a mean, or for [`Stream::Range`] the bound that was passed.
    pub usual: f64,
    /// How far from that is usual: a standard or mean deviation, or for [`Stream::Range`] the width of the range.
    pub spread: f64,
    /// For the sequences: how often such a value came there before.
    pub seen: Option<Seen>,
    /// Hour of the day, 0..=23, in the time that the learner was given.
    pub hour: u8,
    /// Day of the week, 1 (Monday) to 7.
    pub weekday: u8,
    /// How improbable each stream finds the point, in decimal orders of magnitude, in the order of [`Stream::ALL`].
    pub strengths: [f32; STREAMS],
}

impl Reason {
    /// How many times the usual: 3.2 for "3.2 times the usual"; none where the usual is nothing or has another sign.
    pub fn times_usual(&self) -> Option<f64> {
        let times = self.looked_at / self.usual;
        (times.is_finite() && times > 0.0).then_some(times)
    }
}
