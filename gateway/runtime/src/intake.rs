//! The way into the gateway: sources, people and delivery workers hand their inputs to the pipeline here.
//!
//! Bounded by submissions and by bytes. A receipt is honoured when the batch that holds the inputs is committed, in
//! the order of submission; if the process ends before, it never is.

use std::sync::Arc;

use kerbside_model::Input;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// Bytes are counted in units of this size, so that a permit count fits 32 bits.
const UNIT_BYTES: usize = 64;

/// How a submitter learns that its inputs are durable.
#[derive(Debug)]
pub enum Receipt {
    /// It does not care.
    None,
    /// One submission waits for one answer.
    Once(oneshot::Sender<()>),
    /// Submissions of one sender are numbered upwards; the highest durable number is told.
    Mark(Arc<watch::Sender<u64>>, u64),
}

impl Receipt {
    /// Says that the inputs are durable.
    pub fn honour(self) {
        match self {
            Receipt::None => {}
            Receipt::Once(sender) => drop(sender.send(())),
            Receipt::Mark(sender, mark) => drop(sender.send_replace(mark)),
        }
    }
}

/// Inputs on their way to the engine.
#[derive(Debug)]
pub struct Submission {
    /// What came in, in order.
    pub inputs: Vec<Input>,
    /// Honoured after the commit.
    pub receipt: Receipt,
    /// Size in memory.
    pub bytes: usize,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Submission {
    /// Inputs of the pipeline's own, which nobody waits for.
    pub fn unmetered(inputs: Vec<Input>) -> Submission {
        let bytes = inputs.iter().map(input_bytes).sum();
        Submission { inputs, receipt: Receipt::None, bytes, _permit: None }
    }
}

/// The pipeline has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hand over inputs: the pipeline has ended")]
pub struct IntakeClosed;

/// The sending side. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake {
    sender: mpsc::Sender<Submission>,
    bytes: Arc<Semaphore>,
    units_max: usize,
}

/// The receiving side, owned by the pipeline.
#[derive(Debug)]
pub struct IntakeReceiver {
    receiver: mpsc::Receiver<Submission>,
}

impl Intake {
    /// An intake that holds at most so many submissions and about so many bytes, counted until they are committed.
    pub fn new(submissions_max: usize, bytes_max: usize) -> (Intake, IntakeReceiver) {
        let (sender, receiver) = mpsc::channel(submissions_max.max(1));
        let units_max = (bytes_max / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let intake = Intake { sender, bytes: Arc::new(Semaphore::new(units_max)), units_max };
        (intake, IntakeReceiver { receiver })
    }

    /// Hands inputs over; waits while the pipeline is full.
    pub async fn submit(&self, inputs: Vec<Input>, receipt: Receipt) -> Result<(), IntakeClosed> {
        let bytes = inputs.iter().map(input_bytes).sum::<usize>();
        let units = (bytes / UNIT_BYTES).clamp(1, self.units_max);
        let units = u32::try_from(units).expect("units_max fits 32 bits");
        let permit = Arc::clone(&self.bytes).acquire_many_owned(units).await.map_err(|_| IntakeClosed)?;
        let submission = Submission { inputs, receipt, bytes, _permit: Some(permit) };
        self.sender.send(submission).await.map_err(|_| IntakeClosed)
    }

    /// Hands inputs over if there is room at once; for the first input of a pipeline.
    pub fn try_submit(&self, inputs: Vec<Input>, receipt: Receipt) -> Result<(), IntakeClosed> {
        let submission = Submission { receipt, ..Submission::unmetered(inputs) };
        self.sender.try_send(submission).map_err(|_| IntakeClosed)
    }

    /// Hands inputs over and waits until they are durable.
    pub async fn submit_durably(&self, inputs: Vec<Input>) -> Result<(), IntakeClosed> {
        let (sender, receiver) = oneshot::channel();
        self.submit(inputs, Receipt::Once(sender)).await?;
        receiver.await.map_err(|_| IntakeClosed)
    }
}

impl IntakeReceiver {
    /// The next submission, or `None` when every sender is gone.
    pub async fn next(&mut self) -> Option<Submission> {
        self.receiver.recv().await
    }

    /// The next submission if one is already there.
    pub fn try_next(&mut self) -> Option<Submission> {
        self.receiver.try_recv().ok()
    }
}

fn input_bytes(input: &Input) -> usize {
    match input {
        Input::Frame(frame) => 96 + frame.address.as_bytes().len() + frame.payload.len(),
        Input::Frames(frames) => frames.memory_bytes(),
        Input::Again(again) => again.iter().map(|again| 96 + again.frame.payload.len()).sum(),
        _ => 512,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kerbside_model::{GatewayCondition, Severity};

    fn input() -> Input {
        Input::Gateway(GatewayCondition {
            condition: "test".to_owned(),
            active: true,
            severity: Severity::Notice,
            detail: String::new(),
            detail_zh: String::new(),
        })
    }

    #[tokio::test]
    async fn bytes_are_held_until_the_submission_is_dropped() {
        let (intake, mut receiver) = Intake::new(16, 512);
        intake.submit(vec![input()], Receipt::None).await.unwrap();
        let second = intake.submit(vec![input()], Receipt::None);
        tokio::pin!(second);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(20), &mut second).await;
        assert!(waited.is_err(), "the second submission must wait for the bytes of the first");
        drop(receiver.next().await);
        second.await.unwrap();
    }

    #[tokio::test]
    async fn a_mark_tells_the_highest_durable_number() {
        let sender = Arc::new(watch::Sender::new(0));
        let watcher = sender.subscribe();
        Receipt::Mark(Arc::clone(&sender), 3).honour();
        assert_eq!(*watcher.borrow(), 3);
    }
}
