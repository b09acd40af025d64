//! The rows that wait: one lane for each case, so that the order within a case is kept and one stuck case holds up
//! no other. Plain data; time comes in as an argument.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use kerbside_model::{OutboxRow, OutboxState};
use kerbside_runtime::Backoff;

use crate::platforms::Lookup;

/// A row with what is known of its attempts.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) row: OutboxRow,
    pub(super) not_before: Instant,
    pub(super) lookup: Lookup,
    /// Whether the pipeline knows that a request may have left.
    pub(super) is_announced: bool,
    /// The token that the platform gave instead of a number, and when that was.
    pub(super) token: Option<(String, Instant)>,
    pub(super) backoff: Backoff,
    /// How many digests with this row the target answered with an error: it may be this row's fault.
    pub(super) digests_failed: u32,
}

impl Job {
    pub(super) fn new(row: OutboxRow, not_before: Instant, backoff: Backoff) -> Job {
        let was_attempted = row.state == OutboxState::Attempted;
        let lookup = if was_attempted { Lookup::First } else { Lookup::NotNeeded };
        Job { row, not_before, lookup, is_announced: was_attempted, token: None, backoff, digests_failed: 0 }
    }
}

#[derive(Debug)]
struct Lane {
    jobs: VecDeque<Job>,
    due: Instant,
    is_busy: bool,
}

/// All lanes of one target.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<String, Lane>,
    waiting: BTreeSet<(Instant, String)>,
    row_ids: HashSet<String>,
}

impl Lanes {
    /// Adds a row at the end of its lane; a row that is already there is left out.
    pub(super) fn add(&mut self, job: Job) {
        if !self.row_ids.insert(job.row.id.clone()) {
            return;
        }
        let case = job.row.case_id.clone();
        if let Some(lane) = self.lanes.get_mut(&case) {
            lane.jobs.push_back(job);
            return;
        }
        let due = job.not_before;
        self.lanes.insert(case.clone(), Lane { jobs: VecDeque::from([job]), due, is_busy: false });
        self.waiting.insert((due, case));
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.row_ids.len()
    }

    /// Every row.
    pub(super) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.lanes.values().flat_map(|lane| &lane.jobs)
    }

    /// When the next lane that is not busy is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// The lanes that are due, the longest due first.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = (&str, &VecDeque<Job>)> {
        let is_due = move |(due, _): &&(Instant, String)| *due <= now;
        let lane = |(_, case): &(Instant, String)| self.lanes.get(case).map(|lane| &lane.jobs);
        self.waiting.iter().take_while(is_due).filter_map(move |entry| Some((entry.1.as_str(), lane(entry)?)))
    }

    /// The first row of a lane.
    pub(super) fn first(&self, case: &str) -> Option<&Job> {
        self.lanes.get(case)?.jobs.front()
    }

    /// Makes a lane busy and gives its first rows.
    pub(super) fn take(&mut self, case: &str, count: usize) -> Vec<Job> {
        let Some(lane) = self.lanes.get_mut(case) else { return Vec::new() };
        self.waiting.remove(&(lane.due, case.to_owned()));
        lane.is_busy = true;
        lane.jobs.iter().take(count).cloned().collect()
    }

    /// The first rows of a busy lane are done; the rest go on.
    pub(super) fn finish(&mut self, case: &str, count: usize, now: Instant) {
        let Some(lane) = self.lanes.get_mut(case) else { return };
        for job in lane.jobs.drain(..count.min(lane.jobs.len())) {
            self.row_ids.remove(&job.row.id);
        }
        lane.is_busy = false;
        match lane.jobs.front() {
            Some(next) => {
                lane.due = next.not_before.max(now);
                self.waiting.insert((lane.due, case.to_owned()));
            }
            None => drop(self.lanes.remove(case)),
        }
    }

    /// A busy lane waits for another attempt. `change` is told each of its first `count` rows.
    pub(super) fn retry(&mut self, case: &str, count: usize, now: Instant, change: impl Fn(&mut Job) -> Duration) {
        let Some(lane) = self.lanes.get_mut(case) else { return };
        let waits = lane.jobs.iter_mut().take(count).map(change);
        lane.due = now + waits.max().unwrap_or_default();
        lane.is_busy = false;
        self.waiting.insert((lane.due, case.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::case_row;
    use kerbside_runtime::Clock;

    fn job(number: u32, id: &str, not_before: Instant) -> Job {
        let mut row = case_row(number, "city");
        id.clone_into(&mut row.id);
        Job::new(row, not_before, Backoff::new(Duration::from_secs(2), Duration::from_secs(300)))
    }

    fn due(lanes: &Lanes, now: Instant) -> Vec<(String, String)> {
        lanes.due(now).map(|(case, jobs)| (case.to_owned(), jobs[0].row.id.clone())).collect()
    }

    #[test]
    fn a_case_keeps_its_order_and_holds_up_no_other() {
        let now = Clock::stamp();
        let mut lanes = Lanes::default();
        lanes.add(job(1, "a", now));
        lanes.add(job(1, "b", now));
        lanes.add(job(2, "c", now + Duration::from_secs(20)));
        lanes.add(job(1, "a", now));
        assert_eq!(lanes.len(), 3);
        assert_eq!(due(&lanes, now), [("KB-000000000001".to_owned(), "a".to_owned())]);

        let taken = lanes.take("KB-000000000001", 1);
        assert_eq!(taken[0].row.id, "a");
        assert!(due(&lanes, now).is_empty());
        lanes.retry("KB-000000000001", 1, now, |_| Duration::from_secs(30));
        let later = now + Duration::from_secs(25);
        assert_eq!(due(&lanes, later), [("KB-000000000002".to_owned(), "c".to_owned())]);
        assert_eq!(lanes.next_due(), Some(now + Duration::from_secs(20)));

        lanes.take("KB-000000000001", 1);
        lanes.finish("KB-000000000001", 1, later);
        assert_eq!(due(&lanes, later)[1], ("KB-000000000001".to_owned(), "b".to_owned()));
        lanes.take("KB-000000000001", 5);
        lanes.finish("KB-000000000001", 1, later);
        assert_eq!(lanes.len(), 1);
        lanes.add(job(1, "a", later));
        assert_eq!(lanes.len(), 2);
    }

    #[test]
    fn a_row_that_was_attempted_is_looked_up_and_not_announced_again() {
        let now = Clock::stamp();
        let mut row = case_row(1, "city");
        row.state = OutboxState::Attempted;
        let job = Job::new(row, now, Backoff::new(Duration::ZERO, Duration::ZERO));
        assert!(job.is_announced && job.lookup == Lookup::First);
    }
}
