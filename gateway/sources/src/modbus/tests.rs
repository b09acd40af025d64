//! Buses against servers that behave and servers that do not.

mod orders;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kerbside_model::profile::RegisterType;
use kerbside_model::{Input, Payload, RegisterRead, Timestamp};
use kerbside_runtime::{Clock, ComponentHealth, Health, HealthState, Intake, IntakeReceiver, Metrics, Shutdown};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::bus::{FIRST_POLL_SPREAD, phase};
use super::link::{Line, LineConfig};
use super::metrics::LineMetrics;
use super::test_server::{Asked, IDENTIFICATION, REPORT_SERVER_ID, Reply, TestServer, converse, function_of, value};
use super::watchdog::Watchdog;
use super::*;

/// No test waits longer than this for anything.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running bus with what comes out of it.
struct Running {
    frames: IntakeReceiver,
    metrics: Metrics,
    health: Health,
    shutdown: Shutdown,
    task: JoinHandle<()>,
    handle: BusHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn field(table: RegisterTable, address: u16) -> RegisterField {
    RegisterField::new(table, address, RegisterType::U16)
}

fn holding(addresses: impl IntoIterator<Item = u16>) -> Vec<RegisterField> {
    addresses.into_iter().map(|address| field(RegisterTable::Holding, address)).collect()
}

fn unit(unit: u8, period_ms: u64, fields: Vec<RegisterField>) -> UnitPlan {
    let beats = vec![beat(period_ms, fields)];
    let limits = Limits { gap_max: 0, ..Limits::default() };
    UnitPlan { unit, address: unit.to_string(), beats, limits, registers_from: None }
}

fn beat(period_ms: u64, fields: Vec<RegisterField>) -> BeatPlan {
    BeatPlan { period: Duration::from_millis(period_ms), storm_period: StormPeriod::Same, fields }
}

fn config(address: SocketAddr, units: Vec<UnitPlan>) -> ModbusConfig {
    ModbusConfig {
        name: "cabinet".to_owned(),
        source: "poles".to_owned(),
        link: Link::Tcp(Endpoint { host: address.ip().to_string(), port: address.port() }),
        timeout: Duration::from_millis(100),
        connect_timeout: Duration::from_secs(5),
        pause: Duration::ZERO,
        pause_after_connect: Duration::ZERO,
        patience: BTreeMap::new(),
        backoff_max: Duration::from_millis(200),
        turn_around: Duration::from_millis(10),
        quarantine: Duration::from_secs(600),
        failing_share: 0.005,
        units,
    }
}

fn run(config: ModbusConfig) -> Running {
    run_on(config, Clock::System, fair())
}

fn run_on(config: ModbusConfig, clock: Clock, storm: watch::Receiver<bool>) -> Running {
    let (metrics, health, shutdown) = (Metrics::default(), Health::default(), Shutdown::new());
    let (intake, frames) = Intake::new(1_000, 10_000_000);
    let bus = ModbusBus::new(config, intake, clock, &metrics, &health).unwrap().with_storm(storm);
    let handle = bus.handle();
    let task = tokio::spawn(bus.run(shutdown.clone()));
    Running { frames, metrics, health, shutdown, task, handle }
}

/// No storm, ever.
fn fair() -> watch::Receiver<bool> {
    watch::channel(false).1
}

impl Running {
    /// The next frame. Every word of it is compared with what the unit holds: a wrong one is never accepted.
    async fn frame(&mut self) -> (u8, RegisterRead, Timestamp) {
        let submission = tokio::time::timeout(DEADLINE, self.frames.next()).await.expect("a frame in time").unwrap();
        let [Input::Frame(frame)] = submission.inputs.as_slice() else { panic!("one frame: {submission:?}") };
        assert_eq!((&*frame.source, frame.retained), ("poles", false));
        let unit = frame.address.parse().unwrap();
        let Payload::Registers(read) = &frame.payload else { panic!("registers: {frame:?}") };
        for block in &read.blocks {
            let held = (block.address..=u16::MAX).take(block.words.len());
            let held: Vec<u16> = held.map(|address| value(unit, function_of(block.table), address)).collect();
            assert_eq!(block.words, held, "unit {unit}, {:?} from {}", block.table, block.address);
        }
        (unit, read.clone(), frame.received_at)
    }

    async fn frame_until(&mut self, wanted: impl Fn(u8, &RegisterRead) -> bool) -> RegisterRead {
        for _ in 0..1_000 {
            let (unit, read, _) = self.frame().await;
            if wanted(unit, &read) {
                return read;
            }
        }
        panic!("1000 frames and not the one that was waited for");
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
    }

    fn health(&self) -> ComponentHealth {
        let snapshot = self.health.snapshot();
        snapshot.into_iter().find(|component| component.component == "source/cabinet").unwrap()
    }

    async fn health_until(&mut self, state: HealthState) -> String {
        for _ in 0..1_000 {
            let health = self.health();
            if health.state == state {
                return health.detail;
            }
            self.frame().await;
        }
        panic!("never {state:?}, at last {:?}", self.health());
    }
}

#[tokio::test]
async fn four_tables_come_in_one_frame_and_neighbours_in_one_request() {
    use RegisterTable::{Coil, Discrete, Holding, Input};
    let server = TestServer::start(|_| Reply::Values).await;
    let mut fields: Vec<RegisterField> = (0..11).map(|address| field(Coil, address)).collect();
    fields.extend([field(Discrete, 5), field(Discrete, 13), field(Input, 65_535)]);
    fields.extend((100..160).map(|address| field(Holding, address)));
    let mut running = run(config(server.address, vec![unit(3, 50, fields)]));
    let (address, read, _) = running.frame().await;
    assert_eq!(address, 3);
    assert_eq!(read.failures, []);
    let blocks: Vec<_> = read.blocks.iter().map(|block| (block.table, block.address, block.words.len())).collect();
    assert_eq!(blocks, [(Coil, 0, 11), (Discrete, 5, 1), (Discrete, 13, 1), (Holding, 100, 60), (Input, 65_535, 1)]);
    assert_eq!(running.health_until(HealthState::Ok).await, "");
    assert!(running.metric("kerbside_modbus_requests_total{result=\"ok\",source=\"poles\"}") >= 5.0);
    assert!(running.metric("kerbside_modbus_registers_total{source=\"poles\"}") >= 74.0);
    assert!(running.metric("kerbside_modbus_request_seconds_count") >= 5.0);
    assert_eq!(running.metric("kerbside_modbus_connected{source=\"poles\"}"), 1.0);

    running.shutdown.cancel();
    tokio::time::timeout(DEADLINE, &mut running.task).await.expect("an end in time").unwrap();
    assert_eq!(running.metric("kerbside_modbus_connected{source=\"poles\"}"), 0.0);
}

/// The server of tokio-modbus itself, as a second opinion on the protocol.
struct Shelf;

impl tokio_modbus::server::Service for Shelf {
    type Request = tokio_modbus::SlaveRequest<'static>;
    type Response = tokio_modbus::Response;
    type Exception = tokio_modbus::ExceptionCode;
    type Future = Ready<Result<tokio_modbus::Response, tokio_modbus::ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        use tokio_modbus::{Request, Response};
        let unit = request.slave;
        let words = |function, address: u16, count| {
            (address..=u16::MAX).take(usize::from(count)).map(move |address| value(unit, function, address))
        };
        let bits = |function, address, count| words(function, address, count).map(|word| word == 1).collect();
        std::future::ready(match request.request {
            Request::ReadHoldingRegisters(40..=49, _) => Err(tokio_modbus::ExceptionCode::IllegalDataAddress),
            Request::ReadCoils(address, count) => Ok(Response::ReadCoils(bits(1, address, count))),
            Request::ReadDiscreteInputs(address, count) => Ok(Response::ReadDiscreteInputs(bits(2, address, count))),
            Request::ReadHoldingRegisters(address, count) => {
                Ok(Response::ReadHoldingRegisters(words(3, address, count).collect()))
            }
            Request::ReadInputRegisters(address, count) => {
                Ok(Response::ReadInputRegisters(words(4, address, count).collect()))
            }
            _ => Err(tokio_modbus::ExceptionCode::IllegalFunction),
        })
    }
}

#[tokio::test]
async fn the_server_of_tokio_modbus_is_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let on_connected = |stream, _| async move { Ok(Some((Shelf, stream))) };
        tokio_modbus::server::tcp::Server::new(listener).serve(&on_connected, |_| {}).await
    });
    let mut fields = holding([1, 2, 3, 40]);
    fields.extend([RegisterTable::Coil, RegisterTable::Discrete, RegisterTable::Input].map(|table| field(table, 9)));
    let mut running = run(config(address, vec![unit(1, 50, fields)]));
    let (_, read, _) = running.frame().await;
    assert_eq!(read.blocks.len(), 4);
    let [failure] = read.failures.as_slice() else { panic!("one failure: {:?}", read.failures) };
    assert_eq!((failure.address, failure.cause.as_str()), (40, "exception 2 (illegal data address)"));
    server.abort();
}

#[tokio::test]
async fn a_dead_unit_does_not_cost_the_others_their_polls() {
    const DEAD: u8 = 5;
    const PERIOD_MS: u64 = 250;
    let server = TestServer::start(|asked| if asked.unit == DEAD { Reply::Nothing } else { Reply::Values }).await;
    let units = (1..=10).map(|id| unit(id, PERIOD_MS, holding(0..30))).collect();
    let mut running = run(config(server.address, units));
    let mut times: BTreeMap<u8, Vec<Timestamp>> = BTreeMap::new();
    while times.get(&1).is_none_or(|of_one| of_one.len() <= 24) {
        let (unit, read, at) = running.frame().await;
        assert_eq!(read.blocks.is_empty(), unit == DEAD);
        times.entry(unit).or_default().push(at);
    }
    let (mut kept, mut due) = (0, 0);
    for (_, of_unit) in times.iter().filter(|(unit, _)| **unit != DEAD) {
        kept += of_unit.len() - 1;
        let span = of_unit.last().unwrap().since(of_unit[0]).as_millis();
        due += usize::try_from((span + u128::from(PERIOD_MS) / 2) / u128::from(PERIOD_MS)).unwrap();
    }
    assert!(due >= 200 && kept * 100 >= due * 99, "{kept} of {due} polls");
    let detail = running.health_until(HealthState::Degraded).await;
    assert_eq!(detail, "unit 5 does not answer: timeout after 100 ms");
    assert!(running.metric("kerbside_modbus_requests_total{result=\"timeout\",source=\"poles\"}") >= 4.0);
}

#[tokio::test]
async fn timeouts_longer_than_a_period_are_rationed() {
    let server = TestServer::start(|asked| if asked.unit == 1 { Reply::Nothing } else { Reply::Values }).await;
    let units = (1..=10).map(|id| unit(id, 1_000, holding([0]))).collect();
    // Twenty times as fast: a period is 50 ms, and a timeout three of them.
    let config = ModbusConfig { timeout: Duration::from_millis(150), ..config(server.address, units) };
    let mut running = run_on(config, Clock::scaled(Timestamp(1_800_000_000_000), 20.0), fair());
    let mut reads: BTreeMap<u8, u32> = BTreeMap::new();
    while reads.get(&2).is_none_or(|reads| *reads < 60) {
        let (unit, read, _) = running.frame().await;
        *reads.entry(unit).or_default() += u32::from(!read.blocks.is_empty());
    }
    let asked = server.asked().iter().filter(|asked| asked.unit == 1).count();
    assert!((1..=2).contains(&asked), "a dead unit is asked twice and then rarely, not {asked} times");
    assert!((2..=10).all(|unit| reads[&unit] >= 55), "{reads:?}");
}

#[tokio::test]
async fn a_unit_that_comes_back_is_read_again() {
    let is_dead = Arc::new(AtomicBool::new(true));
    let script_is_dead = Arc::clone(&is_dead);
    let script = move |_| if script_is_dead.load(Ordering::Relaxed) { Reply::Nothing } else { Reply::Values };
    let server = TestServer::start(script).await;
    let mut running = run(config(server.address, vec![unit(1, 20, holding(0..3))]));
    running.health_until(HealthState::Degraded).await;
    is_dead.store(false, Ordering::Relaxed);
    let read = running.frame_until(|_, read| !read.blocks.is_empty()).await;
    assert_eq!(read.failures, []);
    running.health_until(HealthState::Ok).await;
}

/// One address is answered in a bad way; what the others hold must always be right (`Running::frame` looks), and the
/// bad one must fail with this cause.
async fn check_bad_answers(reply: Reply, cause: &str) {
    let script = move |asked: Asked| if asked.address == 50 { reply } else { Reply::Values };
    let server = TestServer::start(script).await;
    // The bad address is neither the first nor the last, and is read between two good ones.
    let mut running =
        run(config(server.address, vec![unit(1, 20, holding([10, 50, 90])), unit(2, 400, holding([20]))]));
    let mut causes = BTreeSet::new();
    for _ in 0..40 {
        let (unit, read, _) = running.frame().await;
        let addresses: Vec<u16> = read.blocks.iter().map(|block| block.address).collect();
        assert_eq!(addresses, if unit == 1 { vec![10, 90] } else { vec![20] }, "{reply:?}");
        causes.extend(read.failures.into_iter().map(|failure| failure.cause));
    }
    assert!(causes.contains(cause), "{reply:?}: {causes:?}");
}

#[tokio::test]
async fn answers_of_a_wrong_length_are_refused() {
    check_bad_answers(Reply::Registers(2), "answer of 2 values where 1 were asked for").await;
    check_bad_answers(Reply::Registers(0), "answer of 0 values where 1 were asked for").await;
}

#[tokio::test]
async fn answers_to_other_requests_are_refused() {
    for reply in
        [Reply::OtherTransaction(1), Reply::OtherTransaction(u16::MAX), Reply::OtherUnit(9), Reply::OtherFunction]
    {
        check_bad_answers(reply, "answer to another request").await;
    }
}

#[tokio::test]
async fn a_late_answer_is_never_taken_for_the_next() {
    check_bad_answers(Reply::Late(Duration::from_millis(130)), "timeout after 100 ms").await;
    check_bad_answers(Reply::Late(Duration::from_millis(101)), "timeout after 100 ms").await;
}

#[tokio::test]
async fn connections_that_break_are_made_anew() {
    check_bad_answers(Reply::Close, "connection lost").await;
    check_bad_answers(Reply::HalfThenClose, "connection lost").await;
    check_bad_answers(Reply::Garbage, "answer is not modbus").await;
    check_bad_answers(Reply::Noise, "answer is not modbus").await;
}

#[tokio::test]
async fn a_server_that_hangs_up_between_polls_costs_nothing() {
    let server = TestServer::start(|_| Reply::ValuesThenClose).await;
    let mut running = run(config(server.address, vec![unit(1, 20, holding([10, 50]))]));
    for _ in 0..20 {
        let (_, read, _) = running.frame().await;
        assert_eq!((read.blocks.len(), read.failures.len()), (2, 0), "{:?}", read.failures);
    }
    assert_eq!(running.health_until(HealthState::Ok).await, "");
}

#[tokio::test]
async fn a_connection_is_used_again_unless_it_was_idle_for_too_long() {
    let request = Request { table: RegisterTable::Holding, address: 7, count: 2 };
    for (idle_max, transactions) in [(DEADLINE, [0, 1, 2]), (Duration::ZERO, [0, 0, 0])] {
        let server = TestServer::start(|_| Reply::Values).await;
        let line_config = LineConfig {
            link: Link::Tcp(Endpoint { host: "localhost".to_owned(), port: server.address.port() }),
            timeout: DEADLINE,
            connect_timeout: DEADLINE,
            pause: Duration::ZERO,
            pause_after_connect: Duration::ZERO,
            units: BTreeMap::new(),
            backoff_max: Duration::ZERO,
            idle_max,
        };
        let mut line = Line::new(
            line_config,
            ModemDesk::new(&Metrics::default(), &Health::default()),
            LineMetrics::new(&Metrics::default(), "poles"),
        );
        for _ in transactions {
            assert_eq!(line.read(1, request).await.unwrap(), [value(1, 3, 7), value(1, 3, 8)]);
        }
        // A new connection counts its transactions from 0 again.
        assert_eq!(server.asked().iter().map(|asked| asked.transaction).collect::<Vec<_>>(), transactions);
    }
}

#[tokio::test]
async fn an_exception_keeps_the_connection_and_fails_its_request_only() {
    check_bad_answers(Reply::Exception(4), "exception 4 (device failure)").await;
    let script = |asked: Asked| if asked.address == 50 { Reply::Exception(6) } else { Reply::Values };
    let server = TestServer::start(script).await;
    let mut running = run(config(server.address, vec![unit(1, 20, holding([10, 50]))]));
    for _ in 0..5 {
        let (_, read, _) = running.frame().await;
        assert_eq!((read.blocks.len(), read.failures.len()), (1, 1));
    }
    let asked = server.asked();
    assert!(asked.iter().enumerate().all(|(position, asked)| usize::from(asked.transaction) == position), "{asked:?}");
}

#[tokio::test]
async fn one_illegal_register_of_sixty_leaves_the_others_in_every_poll() {
    let illegal = |asked: Asked| (asked.address..asked.address + asked.count).contains(&37);
    let server = TestServer::start(move |asked| if illegal(asked) { Reply::Exception(2) } else { Reply::Values }).await;
    let mut running = run(config(server.address, vec![unit(1, 20, holding(0..60))]));
    for _ in 0..10 {
        let (_, read, _) = running.frame().await;
        assert_eq!(read.blocks.iter().map(|block| block.words.len()).sum::<usize>(), 59);
        let [failure] = read.failures.as_slice() else { panic!("one failure: {:?}", read.failures) };
        assert_eq!((failure.address, failure.count), (37, 1));
        assert_eq!(failure.cause, "exception 2 (illegal data address)");
    }
    let refused = server.asked().into_iter().filter(|asked| illegal(*asked)).count();
    assert!(refused <= 8, "the register is left alone once it is known; refused {refused} times");
    let detail = running.health_until(HealthState::Degraded).await;
    assert_eq!(detail, "unit 1 holding 37: exception 2 (illegal data address)");
}

#[tokio::test]
async fn a_bus_that_cannot_be_reached_gives_failures_and_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut running = run(config(address, vec![unit(1, 20, holding([1, 9])), unit(2, 20, holding([2]))]));
    for _ in 0..10 {
        let (unit, read, _) = running.frame().await;
        assert!(read.blocks.is_empty() && read.failures.len() == if unit == 1 { 2 } else { 1 });
        assert!(read.failures.iter().all(|failure| failure.cause == "connection refused"), "{:?}", read.failures);
    }
    let detail = running.health_until(HealthState::Down).await;
    assert_eq!(detail, format!("connect {address}: connection refused"));
    assert_eq!(running.metric("kerbside_modbus_connected{source=\"poles\"}"), 0.0);

    let server = TestServer::start_at(address, |_| Reply::Values).await;
    running.frame_until(|unit, read| unit == 2 && !read.blocks.is_empty()).await;
    running.health_until(HealthState::Ok).await;

    drop(server);
    running.frame_until(|_, read| read.blocks.is_empty()).await;
    running.health_until(HealthState::Down).await;
}

#[tokio::test]
async fn a_server_that_hangs_up_at_once_is_not_hammered() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let script = move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Reply::Close
    };
    let server = TestServer::start(script).await;
    let mut config = config(server.address, (1..=8).map(|id| unit(id, 10, holding([0]))).collect());
    config.backoff_max = Duration::from_secs(60);
    let mut running = run(config);
    for _ in 0..100 {
        running.frame().await;
    }
    let connections = connections.load(Ordering::Relaxed);
    assert!(connections <= 12, "{connections} connections for 100 polls");
    let detail = running.health_until(HealthState::Down).await;
    assert!(detail.ends_with("connection closed before an answer"), "{detail}");
}

#[tokio::test]
async fn a_bus_that_is_too_slow_skips_polls_and_counts_them() {
    let server = TestServer::start(|_| Reply::Late(Duration::from_millis(30))).await;
    let mut running = run(config(server.address, (1..=4).map(|id| unit(id, 50, holding([0]))).collect()));
    let mut polls = BTreeMap::from([(1, 0), (2, 0), (3, 0), (4, 0)]);
    for _ in 0..40 {
        let (unit, _, _) = running.frame().await;
        *polls.entry(unit).or_insert(0) += 1;
    }
    assert!(polls.values().all(|count| *count >= 8), "every unit has its turn: {polls:?}");
    assert!(running.metric("kerbside_modbus_polls_late_total{source=\"poles\"}") >= 10.0);
}

#[tokio::test]
async fn there_is_a_pause_between_requests() {
    let server = TestServer::start(|_| Reply::Values).await;
    let mut config = config(server.address, vec![unit(1, 10, holding([0, 10, 20, 30]))]);
    config.pause = Duration::from_millis(30);
    let mut running = run(config);
    let (_, _, first) = running.frame().await;
    let (_, read, second) = running.frame().await;
    assert_eq!(read.blocks.len(), 4);
    assert!(second.since(first) >= Duration::from_millis(4 * 30 - 5), "{:?}", second.since(first));
}

#[tokio::test]
async fn a_fast_clock_polls_faster() {
    let server = TestServer::start(|_| Reply::Values).await;
    let (metrics, health) = (Metrics::default(), Health::default());
    let (intake, mut frames) = Intake::new(1_000, 1_000_000);
    let clock = Clock::scaled(Timestamp(1_800_000_000_000), 600.0);
    let config = config(server.address, vec![unit(1, 60_000, holding([0]))]);
    let task = tokio::spawn(ModbusBus::new(config, intake, clock, &metrics, &health).unwrap().run(Shutdown::new()));
    let mut times = Vec::new();
    for _ in 0..5 {
        let submission =
            tokio::time::timeout(DEADLINE, frames.next()).await.expect("a poll a tenth of a second").unwrap();
        let Input::Frame(frame) = &submission.inputs[0] else { panic!("a frame") };
        times.push(frame.received_at);
    }
    assert!(times[4].since(times[0]) >= Duration::from_secs(180), "{times:?}");
    task.abort();
}

#[test]
fn first_polls_are_spread_and_the_same_after_a_restart() {
    let plan = unit(1, 60_000, holding([0]));
    let phases: Vec<Duration> = (0..200).map(|bus| phase(&format!("cabinet-{bus}"), &plan)).collect();
    let again: Vec<Duration> = (0..200).map(|bus| phase(&format!("cabinet-{bus}"), &plan)).collect();
    assert_eq!(phases, again);
    assert!(phases.iter().all(|phase| *phase < FIRST_POLL_SPREAD));
    for tenth in 0..10_u32 {
        let of_tenth = |phase: &&Duration| phase.as_millis() * 10 / FIRST_POLL_SPREAD.as_millis() == u128::from(tenth);
        let count = phases.iter().filter(of_tenth).count();
        assert!((5..=45).contains(&count), "{count} of 200 buses in one tenth");
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let address = "127.0.0.1:502".parse().unwrap();
    let good = config(address, vec![unit(1, 1_000, holding([0]))]);
    let check = |change: fn(&mut ModbusConfig), expected: &str| {
        let mut config = good.clone();
        change(&mut config);
        let (intake, _frames) = Intake::new(1, 1);
        let made = ModbusBus::new(config, intake, Clock::System, &Metrics::default(), &Health::default());
        assert_eq!(made.unwrap_err().to_string(), expected);
    };
    check(|config| config.units.clear(), "read bus cabinet: it has no units");
    check(|config| config.units[0].beats[0].fields.clear(), "read bus cabinet: unit 1 has no fields");
    check(|config| config.timeout = Duration::ZERO, "read bus cabinet: timeout must be at least one millisecond");
    check(|config| config.failing_share = 0.0, "read bus cabinet: failing_share 0 is not above 0 and at most 1");
    check(
        |config| config.units[0].beats[0].period = Duration::ZERO,
        "read bus cabinet: period must be at least one millisecond",
    );
    check(
        |config| {
            config.units[0].beats[0].fields[0].address = 65_535;
            config.units[0].beats[0].fields[0].value = RegisterType::U32;
        },
        "read bus cabinet: the field at 65535 of unit 1 ends behind the last Holding register",
    );
}

#[tokio::test]
async fn points_with_periods_of_their_own_are_read_on_one_connection() {
    let server = TestServer::start(|_| Reply::Values).await;
    let beats = vec![beat(20, holding([0])), beat(200, holding([1, 2]))];
    let plan = UnitPlan { beats, ..unit(1, 20, Vec::new()) };
    let mut running = run(config(server.address, vec![plan]));
    let (mut fast, mut slow) = (0_u32, 0_u32);
    for _ in 0..40 {
        let (_, read, _) = running.frame().await;
        let addresses: Vec<u16> = read.blocks.iter().map(|block| block.address).collect();
        assert_eq!(addresses, [0], "what is due together is read together");
        fast += 1;
        slow += u32::from(read.blocks[0].words.len() == 3);
    }
    assert!(slow >= 3 && fast >= 8 * (slow - 1), "{slow} of {fast} polls read the slow points");
    assert!(server.asked().iter().all(|asked| asked.count == 1 || asked.count == 3), "{:?}", server.asked());
}

#[tokio::test]
async fn a_storm_shortens_the_period_while_it_stands() {
    let server = TestServer::start(|_| Reply::Values).await;
    let level = BeatPlan { storm_period: StormPeriod::Chosen(Duration::from_millis(20)), ..beat(60_000, holding([4])) };
    let plan = UnitPlan { beats: vec![level], ..unit(1, 60_000, Vec::new()) };
    let (weather, storm) = watch::channel(true);
    let mut running = run_on(config(server.address, vec![plan]), Clock::System, storm);
    for _ in 0..10 {
        running.frame().await;
    }
    let view = running.handle.view().await.unwrap();
    assert!(view.storm);
    weather.send(false).unwrap();
    while running.handle.view().await.unwrap().storm {
        tokio::task::yield_now().await;
    }
    running.frame().await;
    let due = running.handle.view().await.unwrap().units[0].due;
    assert!(due.since(Clock::System.now()) > Duration::from_secs(30), "fair weather again");
}

#[tokio::test]
async fn orders_are_answered_refused_and_checked_between_polls() {
    let script = |asked: Asked| if asked.unit == 9 { Reply::Exception(2) } else { Reply::Values };
    let server = TestServer::start(script).await;
    let mut running = run(config(server.address, vec![unit(1, 20, holding([0]))]));
    running.frame().await;
    let request = |count| Request { table: RegisterTable::Input, address: 7, count };
    let held: Vec<u16> = (7..17).map(|address| value(3, 4, address)).collect();
    assert_eq!(running.handle.read(3, request(10)).await.unwrap(), held);
    let refused = running.handle.read(9, request(1)).await.unwrap_err();
    assert_eq!(refused, BusError::Refused { exception: 2 });
    let impossible = running.handle.read(3, request(126)).await.unwrap_err();
    assert_eq!(impossible, BusError::Impossible { address: 7, count: 126, count_max: 125 });
}

#[tokio::test]
async fn units_behind_a_modem_are_polled_when_it_dials_in_and_not_at_their_next_beat() {
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let desk = DeskConfig {
        name: "poles".to_owned(),
        listen,
        framing: DialInFraming::Tcp,
        notation: Notation::Text,
        heartbeat: Vec::new(),
        registration_bytes_max: 16,
        registration_timeout: DEADLINE,
        waiting_max: 2,
        line: None,
    };
    let link = Link::DialIn(DialInConfig { desk, registration: b"DTU-1".to_vec() });
    let units = (1..=3).map(|id| unit(id, 7_200_000, holding([0]))).collect();
    let config = ModbusConfig { link, timeout: DEADLINE, ..config(listen, units) };
    // A hundred times as fast: a beat is longer than any deadline here.
    let mut running = run_on(config, Clock::scaled(Timestamp(1_800_000_000_000), 100.0), fair());
    for _ in 0..3 {
        let (_, read, _) = running.frame().await;
        assert_eq!(read.failures.first().map(|failure| failure.cause.as_str()), Some("it has not dialled in"));
    }
    let mut modem = loop {
        match tokio::net::TcpStream::connect(listen).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    tokio::io::AsyncWriteExt::write_all(&mut modem, b"DTU-1").await.unwrap();
    let server = tokio::spawn(converse(modem, Arc::new(|_| Reply::Values), Arc::default()));
    let mut read_units = BTreeSet::new();
    while read_units.len() < 3 {
        let (unit, read, _) = running.frame().await;
        assert_eq!(read.blocks.len(), 1, "{read:?}");
        read_units.insert(unit);
    }
    server.abort();
}

#[tokio::test]
async fn a_bus_takes_only_so_many_orders_and_says_when_it_has_ended() {
    let server = TestServer::start(|_| Reply::Nothing).await;
    let config = ModbusConfig { timeout: DEADLINE, ..config(server.address, vec![unit(1, 20, holding([0]))]) };
    let mut running = run(config);
    let request = Request { table: RegisterTable::Holding, address: 0, count: 1 };
    let orders: Vec<_> = (0..40)
        .map(|_| {
            let handle = running.handle.clone();
            tokio::spawn(async move { handle.read(1, request).await })
        })
        .collect();
    let mut refused = 0;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        refused = orders.iter().filter(|order| order.is_finished()).count();
    }
    assert!((20..40).contains(&refused), "{refused} of 40 orders find the queue full");
    running.shutdown.cancel();
    tokio::time::timeout(DEADLINE, &mut running.task).await.expect("an end in time").unwrap();
    for order in orders {
        let error = order.await.unwrap().unwrap_err();
        assert!(matches!(error, BusError::Busy | BusError::Stopped), "{error}");
    }
}

#[tokio::test]
async fn a_unit_tells_who_it_is_between_polls() {
    // Unit 2 knows function 17 only, and unit 3 neither.
    let script = |asked: Asked| match (asked.unit, asked.function) {
        (2 | 3, IDENTIFICATION) | (3, REPORT_SERVER_ID) => Reply::Exception(1),
        _ => Reply::Values,
    };
    let server = TestServer::start(script).await;
    let mut running = run(config(server.address, vec![unit(1, 20, holding([0]))]));
    running.frame().await;
    let named = Identification { objects: vec![(0, "unit 1".to_owned())], server_id: None };
    assert_eq!(running.handle.identify(1).await.unwrap(), named);
    running.frame().await;
    let numbered = Identification { objects: Vec::new(), server_id: Some(b"unit 2".to_vec()) };
    assert_eq!(running.handle.identify(2).await.unwrap(), numbered);
    let refused = running.handle.identify(3).await.unwrap_err();
    assert_eq!(refused, BusError::Refused { exception: 1 });
    let (_, read, _) = running.frame().await;
    assert_eq!((read.blocks.len(), read.failures.len()), (1, 0), "the polls go on");
}

#[tokio::test]
async fn a_bus_tells_how_its_units_are() {
    let script = |asked: Asked| if asked.address == 9 { Reply::Exception(2) } else { Reply::Values };
    let server = TestServer::start(script).await;
    let mut running = run(config(server.address, vec![unit(1, 20, holding([0, 9]))]));
    running.frame().await;
    let view = running.handle.view().await.unwrap();
    assert_eq!((view.bus.as_str(), view.source.as_str(), view.down), ("cabinet", "poles", None));
    assert!(view.share > 0.0 && view.share < 1.0, "{}", view.share);
    let [unit] = view.units.as_slice() else { panic!("one unit: {:?}", view.units) };
    assert_eq!((unit.unit, unit.address.as_str(), unit.state), (1, "1", "closed"));
    assert!(unit.read_at.is_some());
    let [place] = unit.quarantine.as_slice() else { panic!("one place: {unit:?}") };
    assert_eq!((place.address, place.count, place.cause.as_str()), (9, 1, "exception 2 (illegal data address)"));
    assert!(place.until > unit.due);
}

/// A bus whose patience with its link is that of ten periods of 5 ms; every request has this answer.
async fn watched(code: u8) -> (TestServer, Running) {
    let server = TestServer::start(move |_| Reply::Exception(code)).await;
    let (metrics, health, shutdown) = (Metrics::default(), Health::default(), Shutdown::new());
    let (intake, frames) = Intake::new(1_000, 10_000_000);
    let config = config(server.address, vec![unit(1, 5, holding([0]))]);
    let mut bus = ModbusBus::new(config, intake, Clock::System, &metrics, &health).unwrap();
    bus.watchdog = Watchdog::new(Duration::ZERO, Clock::stamp());
    let handle = bus.handle();
    let task = tokio::spawn(bus.run(shutdown.clone()));
    (server, Running { frames, metrics, health, shutdown, task, handle })
}

#[tokio::test]
async fn a_link_over_which_nothing_good_comes_is_made_anew() {
    let (server, mut running) = watched(4).await;
    for _ in 0..1_000 {
        running.frame().await;
        let connections = server.asked().iter().filter(|asked| asked.transaction == 0).count();
        if connections == 3 {
            assert_eq!(running.metric("kerbside_modbus_rebuilds_total{source=\"poles\"}"), 2.0);
            return;
        }
    }
    panic!("1000 polls without a value, and the same link");
}

#[tokio::test]
async fn a_unit_that_refuses_what_it_does_not_have_shows_that_its_link_works() {
    let (server, mut running) = watched(2).await;
    for _ in 0..60 {
        let (_, read, _) = running.frame().await;
        assert_eq!(read.failures.len(), 1);
    }
    assert_eq!(running.metric("kerbside_modbus_rebuilds_total{source=\"poles\"}"), 0.0);
    assert_eq!(server.asked().iter().filter(|asked| asked.transaction == 0).count(), 1);
}
