//! What will be one commit: the inputs of several steps with the effects of all of them.
//!
//! The engine steps as soon as inputs come, so that an alarm is known at once and need not wait with the bulk. Where one
//! step ended is stored too ([`StoredInput::Step`]): a replay steps just as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kerbside_model::{Effects, Input, StoredInput, Timestamp};
use kerbside_runtime::{Clock, Receipt, Submission};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Inputs and effects on their way to the store.
#[derive(Default)]
pub(super) struct Gathered {
    inputs: Vec<StoredInput>,
    pub(super) effects: Effects,
    receipts: Vec<Receipt>,
    /// Kept until the commit, because they hold the intake's byte permits.
    submissions: Vec<Submission>,
    bytes: usize,
    /// When the last step was; `None` as long as there was none.
    stepped_at: Option<Timestamp>,
    /// When the last step without inputs was, if there was one before the first inputs.
    idled_at: Option<Timestamp>,
    /// Since when something waits.
    since: Option<Instant>,
    is_urgent: bool,
}

/// A gathered commit, taken apart.
pub(super) struct Taken {
    pub(super) inputs: Vec<StoredInput>,
    pub(super) effects: Effects,
    pub(super) receipts: Vec<Receipt>,
    pub(super) submissions: Vec<Submission>,
}

impl Gathered {
    /// Notes where the last step ended, since another one follows.
    pub(super) fn begin_step(&mut self, now: Timestamp) {
        let Some(stepped_at) = self.stepped_at.replace(now) else { return };
        match self.inputs.as_mut_slice() {
            [] => self.idled_at = Some(stepped_at),
            // Steps without inputs serve timers in their order, so one of them does what several did.
            [.., StoredInput::Step(_), StoredInput::Step(idled_at)] => *idled_at = stepped_at,
            _ => self.inputs.push(StoredInput::Step(stepped_at)),
        }
    }

    /// A step is over.
    pub(super) fn end_step(&mut self) {
        if !self.is_empty() {
            self.since.get_or_insert_with(|| Instant::from_std(Clock::stamp()));
        }
    }

    /// Takes over what was stepped. People and workers wait for their own inputs: only frames may wait for others.
    pub(super) fn add(&mut self, mut submission: Submission) {
        let inputs = std::mem::take(&mut submission.inputs);
        self.is_urgent |= inputs.iter().any(|input| !matches!(input, Input::Frame(_) | Input::Frames(_)));
        self.bytes += submission.bytes;
        self.inputs.extend(self.idled_at.take().map(StoredInput::Step));
        self.inputs.extend(inputs.into_iter().map(StoredInput::from));
        self.receipts.push(std::mem::replace(&mut submission.receipt, Receipt::None));
        self.submissions.push(submission);
    }

    /// Whether nothing was stepped that is worth a commit.
    pub(super) fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.receipts.is_empty() && is_nothing(&self.effects)
    }

    /// Whether it must not wait for more.
    pub(super) fn is_urgent(&self) -> bool {
        self.is_urgent || self.effects.is_urgent()
    }

    /// Size in memory of the inputs.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Since when something waits.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Everything, and begins anew. What the engine noted about frames is stored behind them.
    pub(super) fn take(&mut self) -> Taken {
        let Gathered { mut inputs, mut effects, receipts, submissions, .. } = std::mem::take(self);
        let notes = std::mem::take(&mut effects.notes);
        if !notes.is_empty() {
            inputs.push(StoredInput::Notes(notes));
        }
        Taken { inputs, effects, receipts, submissions }
    }
}

/// Whether a step changed nothing worth a commit.
fn is_nothing(effects: &Effects) -> bool {
    !effects.is_urgent() && effects.case_events.is_empty() && effects.audit.is_empty() && effects.undecoded.is_empty()
}

/// Commits that the store has and that are not on the disk yet.
#[derive(Debug, Default)]
pub(super) struct Underway {
    count: AtomicUsize,
    /// Rung when one is on the disk.
    pub(super) done: Notify,
}

impl Underway {
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// One more; it is over when the guard is dropped.
    pub(super) fn begin(self: &Arc<Underway>) -> UnderwayGuard {
        self.count.fetch_add(1, Ordering::AcqRel);
        UnderwayGuard(Arc::clone(self))
    }
}

pub(super) struct UnderwayGuard(Arc<Underway>);

impl Drop for UnderwayGuard {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.done.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use kerbside_model::Frames;

    use super::*;

    /// A step at this moment, with a message or without.
    fn step(gathered: &mut Gathered, at: i64, has_frames: bool) {
        gathered.begin_step(Timestamp(at));
        if has_frames {
            let frames = Frames::new("city".into(), Timestamp(at));
            gathered.add(Submission::unmetered(vec![Input::Frames(frames)]));
        }
        gathered.end_step();
    }

    fn steps(gathered: &mut Gathered) -> Vec<Option<i64>> {
        let moment = |input: &StoredInput| match input {
            StoredInput::Step(at) => Some(at.0),
            _ => None,
        };
        gathered.take().inputs.iter().map(moment).collect()
    }

    #[test]
    fn every_step_with_inputs_ends_where_it_did_and_idle_ones_are_one() {
        let mut gathered = Gathered::default();
        for at in [1, 2, 3] {
            step(&mut gathered, at, false);
        }
        step(&mut gathered, 4, true);
        step(&mut gathered, 5, true);
        for at in [6, 7, 8] {
            step(&mut gathered, at, false);
        }
        step(&mut gathered, 9, true);
        assert_eq!(steps(&mut gathered), [Some(3), None, Some(4), None, Some(5), Some(8), None]);
    }

    #[test]
    fn many_idle_steps_do_not_fill_the_commit() {
        let mut gathered = Gathered::default();
        step(&mut gathered, 1, true);
        for at in 2..100_000 {
            step(&mut gathered, at, false);
        }
        assert_eq!(steps(&mut gathered), [None, Some(1), Some(99_998)]);
    }
}
