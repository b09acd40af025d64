//! Readings of other times that one frame carries beside its current ones, or instead of them: history that a device
//! kept while it had no link, or several measurements that it sends at once.
//!
//! They are read with the same converters into rows of their own, and become observations at their own time that
//! never raise an alarm.

use std::time::Duration;

use kerbside_model::{PointReading, TimeRefusal, Timestamp};

use super::time::{Certainty, EARLIEST, Told};
use super::{Row, Scratch};

/// One frame holds no more rows of other times: 24 hours of minutes are 1,440, and a LoRaWAN frame of 242 bytes holds
/// 242 at most.
pub(super) const ROWS_MAX: usize = 2_048;
/// ... and no more readings in all of them (40 bytes each).
const READINGS_MAX: usize = 16_384;

/// When a row was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowTime {
    /// It says so itself.
    Told(Told),
    /// So long before the frame's own readings.
    Before(Duration),
}

impl RowTime {
    /// The row's time, when it can be believed. `frame_time` is that of the frame's own readings: what its device told,
    /// else its arrival.
    pub fn judge(
        self,
        frame_time: Timestamp,
        received_at: Timestamp,
        certainty: Certainty,
    ) -> Result<Timestamp, TimeRefusal> {
        match self {
            RowTime::Told(told) => told.judge(received_at, certainty)?.ok_or(TimeRefusal::Unreadable),
            RowTime::Before(earlier) => {
                let time = frame_time.minus(earlier);
                if time < EARLIEST { Err(TimeRefusal::Past) } else { Ok(time) }
            }
        }
    }
}

/// The rows of other times of one frame. Everything is reused from frame to frame.
#[derive(Debug, Default)]
pub(super) struct History {
    rows: Vec<HistoryRow>,
    readings: Vec<PointReading>,
    /// The frame's own row, and where its readings begin, while one of these is read.
    aside: Option<(Row, usize)>,
    /// For the next row that is read.
    spare: Row,
}

#[derive(Clone, Copy, Debug)]
struct HistoryRow {
    time: RowTime,
    first: usize,
    count: usize,
}

impl History {
    fn add(&mut self, time: RowTime, readings: impl Iterator<Item = PointReading>) {
        let first = self.readings.len();
        self.readings.extend(readings);
        let count = self.readings.len() - first;
        if count > 0 {
            self.rows.push(HistoryRow { time, first, count });
        }
    }

    fn readings(&self, row: usize) -> &[PointReading] {
        let HistoryRow { first, count, .. } = self.rows[row];
        &self.readings[first..first + count]
    }

    fn readings_mut(&mut self, row: usize) -> &mut [PointReading] {
        let HistoryRow { first, count, .. } = self.rows[row];
        &mut self.readings[first..first + count]
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.readings.clear();
    }
}

impl Scratch {
    /// How many rows of other times the frame has.
    pub fn history_len(&self) -> usize {
        self.history.rows.len()
    }

    /// When a row of another time was taken.
    pub fn history_time(&self, row: usize) -> RowTime {
        self.history.rows[row].time
    }

    /// The readings of a row of another time, in the order of the profile's points.
    pub fn history(&self, row: usize) -> &[PointReading] {
        self.history.readings(row)
    }

    /// The same, to flag them.
    pub fn history_mut(&mut self, row: usize) -> &mut [PointReading] {
        self.history.readings_mut(row)
    }

    /// Keeps the readings of a row of another time for [`Scratch::take_kept`], as [`Scratch::keep_frame`] does with
    /// those of the frame itself; how many they are.
    pub fn keep_history(&mut self, row: usize) -> usize {
        self.readings.truncate(self.first);
        let count = self.history.rows[row].count;
        self.readings.extend_from_slice(self.history.readings(row));
        self.first = self.readings.len();
        count
    }

    /// Counts the rows from `first` on, which were counted from their first, from their last: that is `whole` away.
    pub(super) fn count_rows_from(&mut self, first: usize, whole: Duration) {
        for row in &mut self.history.rows[first..] {
            if let RowTime::Before(before) = &mut row.time {
                *before = whole.saturating_sub(*before);
            }
        }
    }

    /// What is kept from here on belongs to a row of another time, until [`Scratch::end_row`].
    pub(super) fn begin_row(&mut self) {
        let mut row = std::mem::take(&mut self.history.spare);
        row.begin(self.row.points);
        self.history.aside = Some((std::mem::replace(&mut self.row, row), self.first));
        self.first = self.readings.len();
    }

    /// Ends a row of another time; what is kept from here on is the frame's own again. A row without readings is none.
    pub(super) fn end_row(&mut self, time: RowTime) -> Result<(), String> {
        self.put_in_order();
        let history = &mut self.history;
        history.add(time, self.readings.drain(self.first..));
        if let Some((row, first)) = history.aside.take() {
            history.spare = std::mem::replace(&mut self.row, row);
            self.first = first;
        }
        if history.rows.len() > ROWS_MAX || history.readings.len() > READINGS_MAX {
            return Err(format!(
                "the message holds more than {ROWS_MAX} rows of other times, or more than {READINGS_MAX} readings in them"
            ));
        }
        Ok(())
    }

    /// Leaves a row of another time that was not ended, because the frame is not what it should be.
    pub(super) fn leave_row(&mut self) {
        if let Some((row, first)) = self.history.aside.take() {
            self.readings.truncate(self.first);
            self.history.spare = std::mem::replace(&mut self.row, row);
            self.first = first;
        }
    }

    /// Makes a row of another time the frame's own readings, where it has none of its own; gives the row's time.
    pub(super) fn promote(&mut self, position: usize) -> RowTime {
        let HistoryRow { time, first, count } = self.history.rows.remove(position);
        for place in first..first + count {
            let reading = self.history.readings[place].clone();
            if !self.came(reading.point) {
                self.add(reading);
            }
        }
        time
    }

    /// Lets every row of another time be worked on as if it were the frame's own.
    pub(super) fn rework_history(&mut self, mut rework: impl FnMut(&mut Scratch)) -> Result<(), String> {
        let rows = std::mem::take(&mut self.history.rows);
        let readings = std::mem::take(&mut self.history.readings);
        for HistoryRow { time, first, count } in rows {
            self.begin_row();
            readings[first..first + count].iter().for_each(|reading| self.add(reading.clone()));
            rework(self);
            self.end_row(time)?;
        }
        Ok(())
    }
}
