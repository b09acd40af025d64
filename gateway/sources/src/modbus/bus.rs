//! The task of one bus: everything that touches the bus goes through it, one request at a time.
//!
//! Units are read in the order in which they are due; orders of installers (`lanes`) go before. When nothing good was
//! read for long, although the bus seems to be there, the link is made anew.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kerbside_model::{ByteText, Frame, Input, Payload, RegisterTable, Timestamp};
use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Clock, Health, Intake, IntakeClosed, Metrics, Receipt, Shutdown};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::modbus::beats::Weather;
use crate::modbus::lanes::{Answer, BusError, BusHandle, BusView, Lanes, Order, QuarantineView, UnitView};
use crate::modbus::link::{Identification, Identifying, Line, LineConfig, ModemDesk, ReadError};
use crate::modbus::metrics::{BusMetrics, LineMetrics, Use};
use crate::modbus::plan::{Cost, Request};
use crate::modbus::poll::{self, Gathered};
use crate::modbus::roster::{NewMember, Roster, SHORT_WAIT_MIN};
use crate::modbus::unit::{Surroundings, Unit};
use crate::modbus::usage::Usage;
use crate::modbus::watchdog::{PATIENCE_MIN, Watchdog};
use crate::modbus::{ModbusConfig, ModbusError, UnitPlan};

/// The first polls of all units are spread over this much of the clock's time, or over their period when that is
/// shorter: soon enough for an installer who waits, and no thousand requests at once.
pub(super) const FIRST_POLL_SPREAD: Duration = Duration::from_secs(5);

/// A connection that was idle for longer is not used again: radio links and gateways forget such connections, some of
/// them without a word, and then each slow poll would begin with a timeout. A new connection costs one round trip.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Registers that were read further apart than this, in real time, go into frames of their own: the time of a frame is
/// right for all of it to the second.
const FRAME_SPREAD_MAX: Duration = Duration::from_secs(1);

/// The task of one bus.
pub struct ModbusBus {
    name: String,
    place: String,
    source: Arc<str>,
    roster: Roster,
    /// In the order of the roster.
    units: Vec<BusUnit>,
    pub(super) line: Line,
    lanes: Lanes,
    storm: watch::Receiver<bool>,
    intake: Intake,
    clock: Clock,
    health: HealthReporter,
    metrics: BusMetrics,
    usage: Usage,
    pub(super) watchdog: Watchdog,
    /// What the health was last told.
    reported: Option<Report>,
}

struct BusUnit {
    address: ByteText,
    registers_from: Option<RegisterTable>,
    usage: Usage,
    in_vain: Usage,
    read_at: Option<Timestamp>,
}

/// What there is to say about a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Report {
    Ok,
    Degraded(String),
    Down(String),
}

/// What the bus does next.
enum Next {
    Order(Order),
    Poll,
    Weather,
    Modem,
}

/// Whether an order is over.
enum End {
    /// With this error, or none.
    Answered(Option<ReadError>),
    /// It has more to ask.
    Open,
}

impl fmt::Debug for ModbusBus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ModbusBus").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ModbusBus {
    /// Checks the configuration; nothing is connected yet.
    pub fn new(
        config: ModbusConfig,
        intake: Intake,
        clock: Clock,
        metrics: &Metrics,
        health: &Health,
    ) -> Result<ModbusBus, ModbusError> {
        config.check()?;
        let line_config = LineConfig {
            link: config.link.clone(),
            timeout: config.timeout,
            connect_timeout: config.connect_timeout,
            pause: config.pause,
            pause_after_connect: config.pause_after_connect,
            units: config.patience.clone(),
            backoff_max: config.backoff_max,
            idle_max: IDLE_MAX,
        };
        // A sender that is gone leaves fair weather.
        let (_, storm) = watch::channel(false);
        Ok(ModbusBus {
            roster: roster(&config, &clock),
            units: config.units.iter().map(BusUnit::new).collect(),
            line: Line::new(line_config, ModemDesk::new(metrics, health), LineMetrics::new(metrics, &config.source)),
            lanes: Lanes::new(),
            storm,
            metrics: BusMetrics::new(metrics, &config.source),
            health: health.component(format!("source/{}", config.name)),
            name: config.name,
            place: config.link.to_string(),
            source: Arc::from(config.source),
            intake,
            clock,
            usage: Usage::new(Clock::stamp()),
            watchdog: Watchdog::new(PATIENCE_MIN, Clock::stamp()),
            reported: None,
        })
    }

    /// Has the modem of this bus dial in where those of others do; without it a bus that waits for a modem listens for
    /// itself.
    pub fn with_modems(mut self, desk: &ModemDesk) -> ModbusBus {
        self.line.set_desk(desk.clone());
        self
    }

    /// Reads levels more often while this says that a storm stands.
    pub fn with_storm(mut self, storm: watch::Receiver<bool>) -> ModbusBus {
        self.storm = storm;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For requests of installers, and for a look at what the bus does.
    pub fn handle(&self) -> BusHandle {
        self.lanes.handle()
    }

    /// Reads the units until the shutdown or the end of the pipeline.
    pub async fn run(mut self, shutdown: Shutdown) {
        let name = self.name.clone();
        self.watchdog.begin(Clock::stamp());
        self.line.begin();
        let ended = shutdown.run_until_cancelled(self.read_units()).await;
        if ended.is_some() {
            warn!(bus = name, "modbus bus ends because the pipeline has ended");
        }
    }

    /// Ends only when nobody takes frames any more.
    async fn read_units(&mut self) -> IntakeClosed {
        self.follow_weather();
        loop {
            let (index, due) = self.next_due();
            match self.next(due).await {
                Next::Weather => self.follow_weather(),
                Next::Modem => self.roster.poll_soon(self.clock.now(), clock_span(&self.clock, FIRST_POLL_SPREAD)),
                Next::Order(order) => self.serve(order).await,
                Next::Poll => {
                    let frames = self.poll(index).await;
                    // Before the frames are taken: a pipeline that is slow says nothing about the link.
                    self.watch_over();
                    for gathered in frames {
                        let frame = self.frame(index, gathered);
                        if let Err(closed) = self.intake.submit(vec![Input::Frame(frame)], Receipt::None).await {
                            return closed;
                        }
                    }
                }
            }
        }
    }

    /// Waits for a poll, an order, a change of the weather, or the modem.
    async fn next(&mut self, due: Timestamp) -> Next {
        if due <= self.clock.now() {
            return self.lanes.try_next().map_or(Next::Poll, Next::Order);
        }
        self.lanes.forgive();
        let has_sky = self.storm.has_changed().is_ok();
        tokio::select! {
            biased;
            order = self.lanes.next() => Next::Order(order),
            changed = self.storm.changed(), if has_sky => {
                // An end of the sender leaves the weather as it is.
                drop(changed);
                Next::Weather
            }
            () = self.line.modem_arrived() => Next::Modem,
            () = self.clock.sleep_until(due) => Next::Poll,
        }
    }

    fn next_due(&mut self) -> (usize, Timestamp) {
        if self.storm.has_changed().unwrap_or(false) {
            self.follow_weather();
        }
        self.roster.next_due(self.clock.now())
    }

    fn follow_weather(&mut self) {
        let weather = if *self.storm.borrow_and_update() { Weather::Storm } else { Weather::Fair };
        self.roster.set_weather(weather, self.clock.now());
    }

    async fn poll(&mut self, index: usize) -> Vec<Gathered> {
        let pace = self.roster.pace(index);
        let mut poll = self.roster.unit_mut(index).begin(self.clock.now(), &pace);
        while let Some(request) = poll.next_request(self.clock.now()) {
            while let Some(order) = self.lanes.try_next() {
                self.serve(order).await;
                poll.put_off(self.clock.now());
            }
            let wire_request = request.in_table(self.units[index].registers_from);
            let (answer, took) = self.read(index, wire_request, poll.short_wait()).await;
            self.lanes.polled(took);
            let is_in_vain = answer.as_ref().is_err_and(|error| !error.is_answer());
            self.units[index].note(took, is_in_vain);
            if is_heard(answer.as_ref().err()) {
                self.watchdog.feed(Clock::stamp());
            }
            if answer.is_ok() {
                self.units[index].read_at = Some(self.clock.now());
            }
            poll.settle(answer, self.clock.now());
        }
        let polled = self.roster.end(index, poll, self.clock.now(), &pace);
        self.metrics.late.inc_by(polled.late);
        self.report(polled.is_news);
        polled.frames
    }

    /// One request of a poll, and how long it kept the bus.
    async fn read(
        &mut self,
        index: usize,
        request: Request,
        short_wait: Option<Duration>,
    ) -> (Result<Vec<u16>, ReadError>, Duration) {
        let began = Clock::stamp();
        let unit = self.roster.unit(index).id;
        let answer = match short_wait {
            Some(wait) => self.line.read_within(unit, request, self.clock.real(wait)).await,
            None => self.line.read(unit, request).await,
        };
        if let Some(thought) = self.line.take_thought() {
            self.roster.note_answer(index, clock_span(&self.clock, thought));
        }
        let took = self.spend(began, Use::Poll, answer.as_ref().err());
        (answer, took)
    }

    /// Notes what the bus was used for since `began`.
    fn spend(&mut self, began: Instant, purpose: Use, error: Option<&ReadError>) -> Duration {
        let now = Clock::stamp();
        let took = now.saturating_duration_since(began);
        let is_in_vain = error.is_some_and(|error| !error.is_answer());
        self.metrics.spend(if is_in_vain { Use::InVain } else { purpose }, took);
        self.usage.add(took, now);
        took
    }

    /// Asks one request of an order.
    async fn serve(&mut self, order: Order) {
        let began = Clock::stamp();
        let (unit, end) = match order {
            Order::Read { unit, request, answer } => {
                (unit, End::Answered(reply(answer, self.line.read(unit, request).await)))
            }
            Order::Identify { unit, so_far, answer } => (unit, self.identify(unit, so_far, answer).await),
            Order::View(answer) => {
                // Whoever asked may have gone.
                drop(answer.send(self.view()));
                return;
            }
        };
        let error = match &end {
            End::Answered(error) => error.as_ref(),
            End::Open => None,
        };
        let took = self.spend(began, Use::Order, error);
        self.lanes.served(took);
        if matches!(end, End::Answered(_)) && is_heard(error) {
            // It lives, whatever was thought of it.
            self.watchdog.feed(Clock::stamp());
            self.roster.probe_now(unit, self.clock.now());
        }
    }

    /// One request of an identification; the rest is put back.
    async fn identify(&mut self, unit: u8, mut so_far: Identifying, answer: Answer<Identification>) -> End {
        match self.line.identify_further(unit, &mut so_far).await {
            Ok(None) => {
                self.lanes.put_back(Order::Identify { unit, so_far, answer });
                End::Open
            }
            Ok(Some(found)) => End::Answered(reply(answer, Ok(found))),
            Err(error) => End::Answered(reply(answer, Err(error))),
        }
    }

    fn frame(&self, index: usize, gathered: Gathered) -> Frame {
        Frame {
            source: Arc::clone(&self.source),
            address: self.units[index].address.clone(),
            payload: Payload::Registers(gathered.read),
            received_at: gathered.at,
            retained: false,
        }
    }

    /// A link that seems to be there and gives nothing for long is made anew, whatever it thinks of itself.
    fn watch_over(&mut self) {
        if self.line.connect_failure().is_some() {
            return;
        }
        let period = self.clock.real(self.roster.shortest_period());
        let Some(patience) = self.watchdog.bite(period, Clock::stamp()) else { return };
        self.metrics.rebuilds.inc();
        warn!(bus = self.name, seconds = patience.as_secs(), "modbus bus gives nothing: its link is made anew");
        self.line.rebuild();
    }

    fn view(&mut self) -> BusView {
        let now = Clock::stamp();
        BusView {
            bus: self.name.clone(),
            source: self.source.to_string(),
            link: self.place.clone(),
            share: self.usage.share(now),
            down: self.line.connect_failure().map(str::to_owned),
            storm: *self.storm.borrow(),
            units: self.units.iter_mut().zip(self.roster.units()).map(|(of, unit)| of.view(unit, now)).collect(),
        }
    }

    /// Tells the health when there is something new.
    fn report(&mut self, is_unit_news: bool) {
        let is_line_news = match (&self.reported, self.line.connect_failure()) {
            (None, _) => true,
            (Some(Report::Down(detail)), Some(cause)) => !detail.ends_with(cause),
            (Some(Report::Down(_)), None) | (Some(_), Some(_)) => true,
            (Some(_), None) => false,
        };
        if !is_unit_news && !is_line_news {
            return;
        }
        let report = match self.line.connect_failure() {
            Some(cause) => Report::Down(format!("{}: {cause}", self.place)),
            None => self.complaints(),
        };
        if self.reported.as_ref() == Some(&report) {
            return;
        }
        match &report {
            Report::Ok => {
                info!(bus = self.name, "modbus bus works");
                self.health.ok();
            }
            Report::Degraded(detail) => {
                warn!(bus = self.name, detail, "modbus bus works in part");
                self.health.degraded(detail);
            }
            Report::Down(detail) => {
                warn!(bus = self.name, detail, "modbus bus is down");
                self.health.down(detail);
            }
        }
        self.reported = Some(report);
    }

    fn complaints(&self) -> Report {
        let mut complaints = self.roster.units().filter_map(Unit::complaint);
        let Some(first) = complaints.next() else { return Report::Ok };
        match complaints.count() {
            0 => Report::Degraded(first),
            others => Report::Degraded(format!("{first}, and {others} more units")),
        }
    }
}

impl BusUnit {
    fn new(plan: &UnitPlan) -> BusUnit {
        BusUnit {
            address: ByteText::from(plan.address.as_str()),
            registers_from: plan.registers_from,
            usage: Usage::new(Clock::stamp()),
            in_vain: Usage::new(Clock::stamp()),
            read_at: None,
        }
    }

    fn note(&mut self, took: Duration, is_in_vain: bool) {
        let now = Clock::stamp();
        self.usage.add(took, now);
        self.in_vain.add(if is_in_vain { took } else { Duration::ZERO }, now);
    }

    fn view(&mut self, unit: &Unit, now: Instant) -> UnitView {
        let quarantine = unit.quarantine().map(|(failure, until)| QuarantineView {
            table: failure.table,
            address: failure.address,
            count: failure.count,
            cause: failure.cause,
            until,
        });
        UnitView {
            unit: unit.id,
            address: self.address.to_string(),
            state: unit.state_name(),
            share: self.usage.share(now),
            share_in_vain: self.in_vain.share(now),
            due: unit.due(),
            read_at: self.read_at,
            quarantine: quarantine.collect(),
        }
    }
}

fn roster(config: &ModbusConfig, clock: &Clock) -> Roster {
    let now = clock.now();
    let member = |plan| NewMember {
        plan,
        first_due: now.plus(phase(&config.name, plan)),
        timeout: clock_span(clock, config.timeout_of(plan)),
        surroundings: Surroundings {
            cost: Cost::of(&config.timing_of(plan), config.turn_around),
            probe_wait_max: clock_span(clock, config.backoff_max),
            quarantine: config.quarantine,
            frame_spread_max: clock_span(clock, FRAME_SPREAD_MAX),
            owing: if config.link.is_rtu() { clock_span(clock, config.timeout_of(plan)) } else { Duration::ZERO },
        },
    };
    Roster::new(config.units.iter().map(member), config.failing_share, clock_span(clock, SHORT_WAIT_MIN))
}

/// Whether a request that ended so has shown that the link and the unit behind it work: there was a value, or the unit
/// has refused what it does not have. Other exceptions may come from a gateway that is stuck.
fn is_heard(error: Option<&ReadError>) -> bool {
    error.is_none_or(poll::is_illegal)
}

/// Answers an order; gives the error back, which is also counted.
fn reply<T>(answer: Answer<T>, result: Result<T, ReadError>) -> Option<ReadError> {
    let (result, error) = match result {
        Ok(value) => (Ok(value), None),
        Err(error) => (Err(BusError::of(&error)), Some(error)),
    };
    // Whoever asked may have gone.
    drop(answer.send(result));
    error
}

/// The clock's time that passes in a span of real time.
fn clock_span(clock: &Clock, real: Duration) -> Duration {
    let second = clock.real(Duration::from_secs(1)).as_secs_f64();
    Duration::try_from_secs_f64(real.as_secs_f64() / second).unwrap_or(real)
}

/// When a unit is first polled after the start: the same at each start, different from unit to unit and bus to bus.
pub(super) fn phase(bus: &str, plan: &UnitPlan) -> Duration {
    // FNV-1a, 64 bit.
    let bytes = bus.bytes().chain([0, plan.unit]).chain(plan.address.bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // FNV's high bits change least with the last bytes.
    let parts_per_million = (hash ^ (hash >> 32)) % 1_000_000;
    plan.period().min(FIRST_POLL_SPREAD).mul_f64(parts_per_million as f64 / 1_000_000.0)
}
