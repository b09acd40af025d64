//! The way of installers to a bus: single requests that go before polls and never stop them.
//!
//! A bus is asked by one task only. Whoever wants something else from it than the polls leaves an order here; the task
//! serves it between two requests, one request at a time. While no poll is due orders may have the whole bus; a poll
//! that becomes due waits for one request of theirs at most, and as long as any is due polls then have as much time as
//! that took before the next. The queue is bounded, and an order that finds it full is refused at once. There is no
//! order that writes. Nothing survives a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kerbside_model::{RegisterTable, Timestamp};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::modbus::link::{Identification, Identifying, ReadError, exception_words};
use crate::modbus::plan::{BITS_MAX, REGISTERS_MAX, Request};

/// Orders that may wait at one bus. A scan asks one after the other; more than this are many people at one bus.
const ORDERS_MAX: usize = 16;

/// Why an order gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Too many orders wait already.
    #[error("{ORDERS_MAX} requests wait for this bus already: try again in a moment")]
    Busy,
    /// The bus is not polled any more.
    #[error("the bus has been stopped")]
    Stopped,
    /// No unit could answer this.
    #[error("{count} values from address {address}: a request asks for 1 to {count_max} and ends at address 65535")]
    Impossible {
        /// First address.
        address: u16,
        /// How many.
        count: u16,
        /// How many there may be.
        count_max: u16,
    },
    /// The unit has answered, and refused.
    #[error("{}", exception_words(*exception))]
    Refused {
        /// Number of the exception (Modbus Application Protocol V1.1b3, section 7).
        exception: u8,
    },
    /// There was no answer.
    #[error("{0}")]
    NoAnswer(String),
    /// There is no connection, or no port.
    #[error("{0}")]
    Down(String),
}

impl BusError {
    pub(super) fn of(error: &ReadError) -> BusError {
        match error {
            ReadError::Connect(cause) => BusError::Down(cause.clone()),
            ReadError::Exception(code) if error.is_answer() => BusError::Refused { exception: u8::from(*code) },
            error => BusError::NoAnswer(error.to_string()),
        }
    }
}

/// Refuses what no unit could answer.
pub(super) fn check_request(request: &Request) -> Result<(), BusError> {
    let count_max = match request.table {
        RegisterTable::Coil | RegisterTable::Discrete => BITS_MAX,
        RegisterTable::Holding | RegisterTable::Input => REGISTERS_MAX,
    };
    let Request { address, count, .. } = *request;
    if !(1..=count_max).contains(&count) || request.end() > 65_536 {
        return Err(BusError::Impossible { address, count, count_max });
    }
    Ok(())
}

/// What a bus does, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BusView {
    /// Name of the bus.
    pub bus: String,
    /// Source of its frames.
    pub source: String,
    /// Where it leads.
    pub link: String,
    /// Share of its time in use in the last minute, 0 to 1.
    pub share: f64,
    /// Why there is no connection, or null.
    pub down: Option<String>,
    /// Whether levels are read more often because a storm stands.
    pub storm: bool,
    /// Its units.
    pub units: Vec<UnitView>,
}

/// What a unit does, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UnitView {
    /// Unit id on the wire.
    pub unit: u8,
    /// Address of its frames.
    pub address: String,
    /// Circuit breaker: `closed` (read as planned), `suspected` (its last poll had no answer), `open` (left alone) or
    /// `half_open` (being probed).
    pub state: &'static str,
    /// Share of the bus's time that it took in the last minute, 0 to 1.
    pub share: f64,
    /// Share of it that was waited in vain, 0 to 1.
    pub share_in_vain: f64,
    /// When it is asked next.
    pub due: Timestamp,
    /// When it last gave a value.
    pub read_at: Option<Timestamp>,
    /// Registers that it refuses.
    pub quarantine: Vec<QuarantineView>,
}

/// A place that is left alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuarantineView {
    /// Which table.
    pub table: RegisterTable,
    /// First address (0-based).
    pub address: u16,
    /// How many registers.
    pub count: u16,
    /// Why.
    pub cause: String,
    /// When it is asked again.
    pub until: Timestamp,
}

/// Where the answer to an order goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, BusError>>;

/// What somebody wants of a bus.
#[derive(Debug)]
pub(super) enum Order {
    Read { unit: u8, request: Request, answer: Answer<Vec<u16>> },
    Identify { unit: u8, so_far: Identifying, answer: Answer<Identification> },
    View(oneshot::Sender<BusView>),
}

impl Order {
    /// Whether nobody waits for the answer any more.
    pub(super) fn is_given_up(&self) -> bool {
        match self {
            Order::Read { answer, .. } => answer.is_closed(),
            Order::Identify { answer, .. } => answer.is_closed(),
            Order::View(answer) => answer.is_closed(),
        }
    }
}

/// Asks a bus. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BusHandle {
    orders: mpsc::Sender<Order>,
}

impl BusHandle {
    /// Reads registers, or coils and discrete inputs as 0 and 1, of any unit. The answer is as long as asked for.
    pub async fn read(&self, unit: u8, request: Request) -> Result<Vec<u16>, BusError> {
        check_request(&request)?;
        let (answer, answered) = oneshot::channel();
        self.order(Order::Read { unit, request, answer })?;
        answered.await.map_err(|_| BusError::Stopped)?
    }

    /// What a unit says of itself.
    pub async fn identify(&self, unit: u8) -> Result<Identification, BusError> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Identify { unit, so_far: Identifying::default(), answer })?;
        answered.await.map_err(|_| BusError::Stopped)?
    }

    /// What the bus does now. It comes when the request that is under way is over.
    pub async fn view(&self) -> Result<BusView, BusError> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::View(answer))?;
        answered.await.map_err(|_| BusError::Stopped)
    }

    fn order(&self, order: Order) -> Result<(), BusError> {
        self.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => BusError::Busy,
            mpsc::error::TrySendError::Closed(_) => BusError::Stopped,
        })
    }
}

/// The buses that run, by name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Buses(Arc<Mutex<BTreeMap<String, BusHandle>>>);

impl Buses {
    /// Takes a bus in; one of the same name has ended.
    pub fn add(&self, name: &str, handle: BusHandle) {
        self.running().insert(name.to_owned(), handle);
    }

    /// A bus that runs.
    pub fn get(&self, name: &str) -> Option<BusHandle> {
        self.running().get(name).cloned()
    }

    /// What each bus does; none of those that do not say so within this time, because they wait for an answer.
    pub async fn views(&self, within: Duration) -> Vec<(String, Option<BusView>)> {
        let running: Vec<(String, BusHandle)> =
            self.running().iter().map(|(name, handle)| (name.clone(), handle.clone())).collect();
        let view = |(name, handle): (String, BusHandle)| async move {
            let view = tokio::time::timeout(within, handle.view()).await;
            (name, view.ok().and_then(Result::ok))
        };
        futures_util::future::join_all(running.into_iter().map(view)).await
    }

    /// Those that have ended are dropped.
    fn running(&self) -> MutexGuard<'_, BTreeMap<String, BusHandle>> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, handle| !handle.orders.is_closed());
        running
    }
}

/// The orders of a bus, on the side of its task.
#[derive(Debug)]
pub(super) struct Lanes {
    orders: mpsc::Receiver<Order>,
    /// Kept so that the queue never ends by itself.
    handle: BusHandle,
    /// An order that has more to ask.
    unfinished: Option<Order>,
    /// Bus time that polls get before the next order, while they are due.
    owed: Duration,
}

impl Lanes {
    pub(super) fn new() -> Lanes {
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        Lanes { orders, handle: BusHandle { orders: sender }, unfinished: None, owed: Duration::ZERO }
    }

    pub(super) fn handle(&self) -> BusHandle {
        self.handle.clone()
    }

    /// Whether an order may go before a poll that is due.
    pub(super) fn may_go_first(&self) -> bool {
        self.owed.is_zero()
    }

    /// The next order; waits for one. Losing the future loses no order.
    pub(super) async fn next(&mut self) -> Order {
        loop {
            let order = match self.unfinished.take() {
                Some(order) => order,
                None => self.orders.recv().await.expect("the queue has a sender of its own"),
            };
            if !order.is_given_up() {
                return order;
            }
        }
    }

    /// The next order that is there and may go before a poll.
    pub(super) fn try_next(&mut self) -> Option<Order> {
        while self.may_go_first() {
            let order = self.unfinished.take().or_else(|| self.orders.try_recv().ok())?;
            if !order.is_given_up() {
                return Some(order);
            }
        }
        None
    }

    /// This order has more to ask, and goes before all others.
    pub(super) fn put_back(&mut self, order: Order) {
        self.unfinished = Some(order);
    }

    /// An order has kept the bus for so long.
    pub(super) fn served(&mut self, took: Duration) {
        self.owed += took;
    }

    /// A poll has kept the bus for so long.
    pub(super) fn polled(&mut self, took: Duration) {
        self.owed = self.owed.saturating_sub(took);
    }

    /// No poll is due: all had their turn, so nothing is owed to them. Otherwise an installer who has used an idle bus for
    /// an hour would have to wait for as long once it is busy.
    pub(super) fn forgive(&mut self) {
        self.owed = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn polls_have_as_much_time_as_an_order_took_and_what_was_idle_is_not_owed() {
        let mut lanes = Lanes::new();
        let handle = lanes.handle();
        let (answer, _answered) = oneshot::channel();
        handle.order(Order::View(answer)).unwrap();
        lanes.served(Duration::from_secs(2));
        lanes.polled(Duration::from_secs(1));
        assert!(lanes.try_next().is_none(), "polls have had one second of two");
        lanes.polled(Duration::from_secs(1));
        assert!(lanes.try_next().is_some());
        lanes.served(Duration::from_secs(3_600));
        assert!(!lanes.may_go_first());
        lanes.forgive();
        assert!(lanes.may_go_first(), "no poll was due, so none has waited");
    }

    #[tokio::test]
    async fn an_unfinished_order_goes_before_the_others_unless_nobody_waits_for_it() {
        let mut lanes = Lanes::new();
        let handle = lanes.handle();
        let read = |unit| {
            let (answer, answered) = oneshot::channel();
            let request = Request { table: RegisterTable::Holding, address: 0, count: 1 };
            (Order::Read { unit, request, answer }, answered)
        };
        let unit_of = |order: Order| match order {
            Order::Read { unit, .. } | Order::Identify { unit, .. } => unit,
            Order::View(_) => panic!("nobody wants a view"),
        };
        let (second, _second_answered) = read(2);
        handle.order(second).unwrap();
        let (unfinished, _answered) = read(1);
        lanes.put_back(unfinished);
        assert_eq!(lanes.try_next().map(unit_of), Some(1));
        let (given_up, answered) = read(1);
        drop(answered);
        lanes.put_back(given_up);
        assert_eq!(unit_of(lanes.next().await), 2);
    }
}
