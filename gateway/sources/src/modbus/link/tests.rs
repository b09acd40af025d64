//! Lines against units that behave and units that do not, over every kind of link.

mod dial_in;
mod far_side;
mod terminal;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use kerbside_model::RegisterTable;
use kerbside_runtime::{Clock, Health, Metrics};
use tokio_modbus::ExceptionCode;

use super::*;
use crate::modbus::metrics::LineMetrics;
use crate::modbus::plan::Request;
use crate::modbus::test_server::{self, Asked, function_of, value};
use far_side::{FarSide, Reply, Script};

const LINE: SerialLine = SerialLine { baud: 115_200, parity: Parity::None, stop_bits: 1 };
/// In the time of the test, where links are in memory.
const TIMEOUT: Duration = Duration::from_millis(200);
/// Timers count in milliseconds, and frames are silent for a few around them.
const MOMENT: Duration = Duration::from_millis(8);
/// Over real links, where everything is answered: no test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than is ever under way.
const MEMORY_BYTES: usize = 65_536;
/// An address that is never connected to.
const NOWHERE: &str = "192.0.2.1:502";
/// Reads of a run with random faults, and how many of them go wrong.
const RANDOM_READS: u32 = 2_000;
const FAULTS: f64 = 0.4;

fn config(link: Link) -> LineConfig {
    LineConfig {
        link,
        timeout: TIMEOUT,
        connect_timeout: Duration::from_secs(5),
        pause: Duration::ZERO,
        pause_after_connect: Duration::ZERO,
        units: BTreeMap::new(),
        backoff_max: Duration::ZERO,
        idle_max: Duration::from_secs(60),
    }
}

fn line_of(config: LineConfig) -> (Line, Metrics) {
    let metrics = Metrics::default();
    let desk = ModemDesk::new(&metrics, &Health::default());
    let line = Line::new(config, desk, LineMetrics::new(&metrics, "poles"));
    (line, metrics)
}

fn converter_at(address: SocketAddr) -> Link {
    Link::RtuOverTcp { endpoint: endpoint(address), line: None }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { host: address.ip().to_string(), port: address.port() }
}

fn serial_at(path: PathBuf) -> Link {
    Link::Serial(SerialConfig { port: PortName::Path(path), line: LINE })
}

fn holding(address: u16, count: u16) -> Request {
    Request { table: RegisterTable::Holding, address, count }
}

fn held(unit: u8, request: Request) -> Vec<u16> {
    let addresses = (request.address..).take(usize::from(request.count));
    addresses.map(|address| value(unit, function_of(request.table), address)).collect()
}

fn metric(metrics: &Metrics, name: &str) -> f64 {
    let text = metrics.encode();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
}

/// A line whose far side is in memory: with a paused runtime its time is that of the test.
fn line_in_memory(link: Link, script: impl Fn(Asked) -> Reply + Send + Sync + 'static) -> Memory {
    let script: Script = Arc::new(script);
    let (mut line, metrics) = line_of(config(link));
    let (asked, connections) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<Mutex<u32>>::default());
    let (far_asked, far_connections) = (Arc::clone(&asked), Arc::clone(&connections));
    line.dial = Some(Box::new(move || {
        *far_connections.lock().unwrap() += 1;
        let (near, far) = tokio::io::duplex(MEMORY_BYTES);
        tokio::spawn(far_side::serve(far, Arc::clone(&script), Arc::clone(&far_asked)));
        near
    }));
    Memory { line, metrics, asked, connections }
}

/// The same behind Modbus TCP.
fn tcp_in_memory(script: impl Fn(Asked) -> test_server::Reply + Send + Sync + 'static) -> Memory {
    let script: test_server::Script = Arc::new(script);
    let (mut line, metrics) = line_of(config(Link::Tcp(endpoint(NOWHERE.parse().unwrap()))));
    let (asked, connections) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<Mutex<u32>>::default());
    let (far_asked, far_connections) = (Arc::clone(&asked), Arc::clone(&connections));
    line.dial = Some(Box::new(move || {
        *far_connections.lock().unwrap() += 1;
        let (near, far) = tokio::io::duplex(MEMORY_BYTES);
        tokio::spawn(test_server::converse(far, Arc::clone(&script), Arc::clone(&far_asked)));
        near
    }));
    Memory { line, metrics, asked, connections }
}

struct Memory {
    line: Line,
    metrics: Metrics,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<Mutex<u32>>,
}

/// The links of RTU frames whose calm differs.
fn rtu_in_memory() -> [Link; 2] {
    [converter_at(NOWHERE.parse().unwrap()), serial_at(PathBuf::from("/dev/null"))]
}

/// Units behind a converter and behind a port, with the same script.
async fn rtu_links(script: impl Fn(Asked) -> Reply + Send + Sync + 'static) -> [(Link, FarSide); 2] {
    let script: Script = Arc::new(script);
    let (address, converter) = far_side::converter(Arc::clone(&script)).await;
    let (path, port) = far_side::port(script);
    [(converter_at(address), converter), (serial_at(path), port)]
}

#[tokio::test]
async fn four_tables_are_read_over_a_port_and_over_a_converter() {
    use RegisterTable::{Coil, Discrete, Holding, Input};
    for (link, _far) in rtu_links(|_| Reply::Values).await {
        let (mut line, metrics) = line_of(LineConfig { timeout: PATIENCE, ..config(link) });
        for (table, count) in [(Coil, 13), (Discrete, 1), (Holding, 125), (Input, 2), (Coil, 2_000)] {
            let request = Request { table, address: 7, count };
            assert_eq!(line.read(3, request).await.unwrap(), held(3, request), "{table:?}");
        }
        assert_eq!(metric(&metrics, "kerbside_modbus_connected{source=\"poles\"}"), 1.0);
        drop(line);
        assert_eq!(metric(&metrics, "kerbside_modbus_connected{source=\"poles\"}"), 0.0);
    }
}

/// One address is answered in a bad way; reading it gives this error, or the right values where `cause` is empty, and
/// the next request is answered rightly.
async fn check_reply(reply: Reply, cause: &str) {
    for link in rtu_in_memory() {
        let bad = reply.clone();
        let script = move |asked: Asked| if asked.address == 50 { bad.clone() } else { Reply::Values };
        let mut line = line_in_memory(link.clone(), script).line;
        for round in 0..3 {
            let request = holding(50, 2);
            match line.read(1, request).await {
                Ok(words) => assert_eq!((words, cause), (held(1, request), ""), "{reply:?} over {link}"),
                Err(error) => assert_eq!(error.to_string(), cause, "{reply:?} over {link}"),
            }
            // The same shape, so that only care keeps the answers apart.
            let next = holding(90 + round, 2);
            assert_eq!(line.read(1, next).await.unwrap(), held(1, next), "after {reply:?} over {link}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn noise_echoes_and_pieces_do_no_harm() {
    check_reply(Reply::Noise(vec![0x00]), "").await;
    check_reply(Reply::Noise(vec![0xFF, 1, 3, 0xFF]), "").await;
    check_reply(Reply::Echo, "").await;
    check_reply(Reply::Pieces, "").await;
    check_reply(Reply::Extra(vec![0x00, 0xFF]), "").await;
    check_reply(Reply::Twice, "").await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_do_not_fit_are_refused() {
    check_reply(Reply::BadChecksum, "answer is not modbus").await;
    check_reply(Reply::Half, "answer is not modbus").await;
    check_reply(Reply::Words(3), "answer of 3 values where 2 were asked for").await;
    check_reply(Reply::OtherUnit, "answer is not modbus").await;
    check_reply(Reply::OtherFunction, "answer is not modbus").await;
    check_reply(Reply::Exception(2), "exception 2 (illegal data address)").await;
    check_reply(Reply::Nothing, "timeout after 200 ms").await;
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_waited_out_and_counted() {
    let script = |asked: Asked| match asked.address {
        50 => Reply::Late(TIMEOUT + TIMEOUT / 4),
        _ => Reply::Values,
    };
    for link in rtu_in_memory() {
        let Memory { mut line, metrics, .. } = line_in_memory(link, script);
        assert!(matches!(line.read(1, holding(50, 1)).await, Err(ReadError::Timeout(_))));
        assert_eq!(line.read(1, holding(90, 1)).await.unwrap(), held(1, holding(90, 1)));
        assert_eq!(metric(&metrics, "kerbside_modbus_answers_late_total{source=\"poles\"}"), 1.0);
    }
}

/// How long something takes in the time of the test.
async fn time_of<T>(what: impl Future<Output = T>) -> (Duration, T) {
    let began = Clock::stamp();
    let done = what.await;
    (Clock::stamp() - began, done)
}

#[tokio::test(start_paused = true)]
async fn other_units_are_asked_while_one_owes_an_answer() {
    let script = |asked: Asked| if asked.unit == 1 { Reply::Nothing } else { Reply::Values };
    for link in rtu_in_memory() {
        let wire = line_of(config(link.clone())).0.wire_time(&Question::Read(holding(5, 1)));
        let mut line = line_in_memory(link, script).line;
        let (first, _) = time_of(line.read(1, holding(5, 1))).await;
        let (other, words) = time_of(line.read(2, holding(5, 1))).await;
        assert_eq!(words.unwrap(), held(2, holding(5, 1)));
        let (second, _) = time_of(line.read(1, holding(5, 1))).await;
        assert!(first >= TIMEOUT + wire && first < TIMEOUT + wire + MOMENT, "{first:?}");
        assert!(other < MOMENT, "{other:?}: nobody else waits for what one owes");
        let owed = TIMEOUT * 2 + wire;
        assert!(second + other > owed - MOMENT && second < owed + MOMENT, "{second:?}: it waits for that, and again");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_short_wait_a_unit_is_asked_at_once_for_what_cannot_be_mistaken() {
    let short = TIMEOUT / 10;
    // The answer comes when nobody expects it any more, in the middle of other questions.
    let script = move |asked: Asked| if asked.address == 50 { Reply::Late(short * 3) } else { Reply::Values };
    for link in rtu_in_memory() {
        let Memory { mut line, metrics, asked, .. } = line_in_memory(link, script);
        let (took, late) = time_of(line.read_within(1, holding(50, 2), short)).await;
        assert!(matches!(late, Err(ReadError::Timeout(wait)) if wait == short), "{late:?}");
        assert!(took < short + MOMENT, "{took:?}");
        for address in 60..64 {
            let (took, words) = time_of(line.read(1, holding(address, 3))).await;
            assert_eq!(words.unwrap(), held(1, holding(address, 3)), "another length");
            assert!(took < MOMENT, "{took:?}");
        }
        assert_eq!(asked.lock().unwrap().len(), 5);
        let (took, words) = time_of(line.read(1, holding(70, 2))).await;
        assert_eq!(words.unwrap(), held(1, holding(70, 2)), "the same length: what is owed comes first");
        assert!(took > short, "{took:?}");
        assert_eq!(metric(&metrics, "kerbside_modbus_answers_late_total{source=\"poles\"}"), 1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_exception_is_not_taken_for_the_answer_to_a_question_of_another_length() {
    let short = TIMEOUT / 10;
    // A unit that does one thing after the other: the refusal is late, and what was asked behind it comes behind it.
    for behind in [Duration::ZERO, short] {
        let script = move |asked: Asked| match asked.address {
            50 => Reply::LateException(short * 3, 2),
            60 => Reply::Late(short * 2 + behind),
            80 => Reply::Exception(2),
            _ => Reply::Values,
        };
        for link in rtu_in_memory() {
            let Memory { mut line, metrics, .. } = line_in_memory(link, script);
            assert!(matches!(line.read_within(1, holding(50, 2), short).await, Err(ReadError::Timeout(_))));
            assert_eq!(line.read(1, holding(60, 3)).await.unwrap(), held(1, holding(60, 3)), "{behind:?}");
            assert_eq!(metric(&metrics, "kerbside_modbus_answers_late_total{source=\"poles\"}"), 1.0);
            for address in [70, 71] {
                let (took, words) = time_of(line.read(1, holding(address, 3))).await;
                assert_eq!(words.unwrap(), held(1, holding(address, 3)));
                assert!(took < MOMENT, "{took:?}: nothing is owed any more");
            }
            let (took, refused) = time_of(line.read(1, holding(80, 3))).await;
            assert!(matches!(refused, Err(ReadError::Exception(_))) && took < MOMENT, "{took:?} {refused:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_exception_that_nothing_else_follows_is_the_answer_although_another_one_is_owed() {
    let script = |asked: Asked| match asked.address {
        50 => Reply::Nothing,
        60 => Reply::Exception(2),
        _ => Reply::Values,
    };
    for link in rtu_in_memory() {
        let mut line = line_in_memory(link, script).line;
        assert!(matches!(line.read(1, holding(50, 2)).await, Err(ReadError::Timeout(_))));
        let refused = line.read(1, holding(60, 3)).await;
        assert!(matches!(refused, Err(ReadError::Exception(_))), "{refused:?}");
        assert_eq!(line.read(1, holding(70, 3)).await.unwrap(), held(1, holding(70, 3)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_tells_how_long_a_unit_has_thought() {
    let thinks = Duration::from_millis(70);
    let script = move |asked: Asked| if asked.unit == 1 { Reply::Late(thinks) } else { Reply::Nothing };
    let Memory { mut line, .. } = line_in_memory(converter_at(NOWHERE.parse().unwrap()), script);
    line.read(1, holding(3, 1)).await.unwrap();
    let thought = line.take_thought().unwrap();
    assert!(thought >= thinks && thought < thinks + MOMENT, "{thought:?}");
    line.read(1, holding(3, 1)).await.unwrap();
    line.read(2, holding(3, 1)).await.unwrap_err();
    assert_eq!(line.take_thought(), None, "nobody asked how long the first one had thought, and the second is not it");
}

#[tokio::test]
async fn a_converter_that_hangs_up_is_connected_again() {
    let closes = Arc::new(AtomicBool::new(false));
    let script_closes = Arc::clone(&closes);
    let script = move |_| if script_closes.swap(false, Ordering::Relaxed) { Reply::Close } else { Reply::Values };
    let (address, far) = far_side::converter(Arc::new(script)).await;
    let (mut line, _) = line_of(config(converter_at(address)));
    let request = holding(9, 2);
    for closing in [false, true, true, true] {
        closes.store(closing, Ordering::Relaxed);
        assert_eq!(line.read(1, request).await.unwrap(), held(1, request));
    }
    assert_eq!(*far.connections.lock().unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_tcp_connection_outlives_timeouts_until_nothing_comes_any_more() {
    let script = |asked: Asked| match asked.address {
        50 => test_server::Reply::Late(TIMEOUT + TIMEOUT / 4),
        60 => test_server::Reply::Nothing,
        _ => test_server::Reply::Values,
    };
    let Memory { mut line, metrics, asked, connections } = tcp_in_memory(script);
    for address in [50, 10, 60, 20] {
        let request = holding(address, 2);
        match line.read(1, request).await {
            Ok(words) => assert_eq!((words, address < 50), (held(1, request), true)),
            Err(error) => assert!(matches!(error, ReadError::Timeout(_)) && address >= 50, "{address}: {error}"),
        }
    }
    let transactions = || asked.lock().unwrap().iter().map(|asked| asked.transaction).collect::<Vec<_>>();
    assert_eq!(transactions(), [0, 1, 2, 3], "one connection");
    for _ in 0..4 {
        assert!(line.read(1, holding(60, 1)).await.is_err());
    }
    assert_eq!(transactions(), [0, 1, 2, 3, 4, 5, 6, 0], "after three timeouts running there is another one");
    assert_eq!(*connections.lock().unwrap(), 2);
    assert_eq!(metric(&metrics, "kerbside_modbus_answers_late_total{source=\"poles\"}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_promises_too_much_swallows_no_other_answers() {
    let script = |asked: Asked| match asked.address {
        50 => test_server::Reply::Promise,
        _ => test_server::Reply::Values,
    };
    let mut line = tcp_in_memory(script).line;
    assert!(matches!(line.read(1, holding(50, 2)).await, Err(ReadError::Timeout(_))));
    for address in 60..64 {
        assert_eq!(line.read(1, holding(address, 2)).await.unwrap(), held(1, holding(address, 2)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_has_a_patience_of_its_own() {
    let link = converter_at(NOWHERE.parse().unwrap());
    let mut line = line_in_memory(link, |_| Reply::Late(TIMEOUT + TIMEOUT / 2)).line;
    let patience = UnitPatience { timeout: Some(TIMEOUT * 2), pause: Some(TIMEOUT) };
    line.config.units = BTreeMap::from([(1, patience)]);
    let read = async {
        for _ in 0..2 {
            assert_eq!(line.read(1, holding(3, 1)).await.unwrap(), held(1, holding(3, 1)));
        }
    };
    let (took, ()) = time_of(read).await;
    assert!(took >= TIMEOUT * 4 && took < TIMEOUT * 4 + MOMENT * 3, "two answers and the pause: {took:?}");
    assert!(matches!(line.read(2, holding(3, 1)).await, Err(ReadError::Timeout(TIMEOUT))));
}

#[tokio::test]
async fn a_port_that_is_not_there_is_opened_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("usb-adapter");
    let (mut line, _) = line_of(config(serial_at(path.clone())));
    let error = line.read(1, holding(3, 1)).await.unwrap_err();
    assert!(matches!(error, ReadError::Connect(_)) && error.to_string().starts_with("no such port; "), "{error}");
    assert_eq!(line.connect_failure(), Some(error.to_string().as_str()));
    let (port, _far) = far_side::port(Arc::new(|_| Reply::Values));
    std::os::unix::fs::symlink(port, &path).unwrap();
    assert_eq!(line.read(1, holding(3, 1)).await.unwrap(), held(1, holding(3, 1)));
    assert_eq!(line.connect_failure(), None);
}

#[tokio::test]
async fn a_port_that_another_line_has_is_refused() {
    let (port, _far) = far_side::port(Arc::new(|_| Reply::Values));
    let (mut first, _) = line_of(config(serial_at(port.clone())));
    first.read(1, holding(3, 1)).await.unwrap();
    let (mut second, _) = line_of(config(serial_at(port)));
    assert_eq!(second.read(1, holding(3, 1)).await.unwrap_err().to_string(), "another program uses it");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_babbles_is_given_up_and_tried_again() {
    let mut line = line_in_memory(converter_at(NOWHERE.parse().unwrap()), |_| Reply::Extra(vec![0; 10])).line;
    assert_eq!(line.read(1, holding(3, 1)).await.unwrap(), held(1, holding(3, 1)));
    line.rebuild();
    assert_eq!(line.read(1, holding(4, 1)).await.unwrap(), held(1, holding(4, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_unit_is_asked_for_its_name_by_function_43_or_else_17() {
    let script = |asked: Asked| match (asked.unit, asked.function, asked.address & 0xFF) {
        (1, 43, 0) => Reply::Body([&[43, 14, 1, 1, 0xFF, 1, 1, 0, 4][..], b"ACME"].concat()),
        (1, 43, 1) => Reply::Body([&[43, 14, 1, 1, 0, 0, 2, 1, 3][..], b"P-1", &[2, 1, b'4']].concat()),
        (2, 17, _) => Reply::Body(vec![17, 3, b'X', 0xFF, 7]),
        (3, ..) => Reply::Exception(1),
        _ => Reply::Nothing,
    };
    for link in rtu_in_memory() {
        let mut line = line_in_memory(link, script).line;
        let objects = vec![(0, "ACME".to_owned()), (1, "P-1".to_owned()), (2, "4".to_owned())];
        assert_eq!(line.identify(1).await.unwrap(), Identification { objects, server_id: None });
        let server_id = Some(vec![b'X', 0xFF, 7]);
        assert_eq!(line.identify(2).await.unwrap(), Identification { objects: Vec::new(), server_id });
        assert!(matches!(line.identify(3).await, Err(ReadError::Exception(ExceptionCode::IllegalFunction))));
    }
}

#[test]
fn nothing_that_is_asked_can_write() {
    use RegisterTable::{Coil, Discrete, Holding, Input};
    let reads = [Coil, Discrete, Holding, Input].map(|table| Question::Read(Request { table, address: 0, count: 1 }));
    let mut functions: Vec<u8> = reads.iter().map(Question::function).collect();
    functions.extend([Question::ServerId.function(), Question::Identification { from: 0 }.function()]);
    assert_eq!(functions, [1, 2, 3, 4, 17, 43]);
    // Only `question.rs` knows functions, and `stream.rs` is the only one that sends.
    let frames = [include_str!("question.rs"), include_str!("mbap.rs"), include_str!("rtu.rs")];
    let senders = [include_str!("line.rs"), include_str!("desk.rs")];
    for text in frames.iter().chain(&senders) {
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in ["WriteSingle", "WriteMultiple", "MaskWrite", "ReadWrite", "write_single", "write_multiple"] {
            assert!(!code.contains(word), "{word}");
        }
    }
    let sent: usize = senders.iter().map(|text| text.matches(".write_all(").count()).sum();
    assert_eq!(sent, 1, "requests leave at one place");
}

/// The seed of a run, printed so that it can be repeated.
fn seed() -> u64 {
    let seed = std::env::var("KERBSIDE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("KERBSIDE_SEED={seed}");
    seed
}

fn random_request(random: &mut Rng) -> (u8, Request) {
    use RegisterTable::{Coil, Discrete, Holding, Input};
    let table = [Coil, Discrete, Holding, Input][random.usize(..4)];
    // Few shapes, so that answers are often mistaken where that is possible.
    (random.u8(1..3), Request { table, address: random.u16(..2_000), count: random.u16(1..3) })
}

/// Reads at random while units misbehave: a value is the register's own, or there is none. Afterwards all are there.
async fn read_at_random(mut line: Line, is_well: &AtomicBool, seed: u64) {
    let mut random = Rng::with_seed(seed);
    let mut answered = 0;
    for _ in 0..RANDOM_READS {
        let (unit, request) = random_request(&mut random);
        if let Ok(words) = line.read(unit, request).await {
            assert_eq!(words, held(unit, request), "unit {unit}, {request:?}, seed {seed}");
            answered += 1;
        }
    }
    assert!(answered >= RANDOM_READS / 4, "{answered} of {RANDOM_READS}");
    is_well.store(true, Ordering::Relaxed);
    for unit in [1, 2] {
        // What the last fault left behind may cost some more: a mute connection is given up after three timeouts.
        for _ in 0..3 {
            drop(line.read(unit, holding(1, 1)).await);
        }
        for address in 0..5 {
            let request = holding(address, 2);
            assert_eq!(line.read(unit, request).await.unwrap(), held(unit, request), "afterwards, seed {seed}");
        }
    }
}

fn random_rtu_fault(random: &mut Rng) -> Reply {
    let noise: Vec<u8> = (0..random.usize(1..20)).map(|_| random.u8(..)).collect();
    match random.u8(..14) {
        0 => Reply::Nothing,
        1 | 2 => Reply::Late(TIMEOUT.mul_f64(1.1 + 0.4 * random.f64())),
        3 => Reply::Noise(noise),
        4 => Reply::Pieces,
        5 => Reply::BadChecksum,
        6 => Reply::Half,
        7 => Reply::Words(random.u16(0..5)),
        8 => Reply::OtherUnit,
        9 => Reply::OtherFunction,
        10 => Reply::Extra(noise),
        11 => Reply::Twice,
        12 => Reply::LateException(TIMEOUT.mul_f64(1.1 + 0.4 * random.f64()), random.u8(1..12)),
        _ => Reply::Exception(random.u8(1..12)),
    }
}

#[tokio::test(start_paused = true)]
async fn random_faults_on_a_serial_line_never_give_a_wrong_value() {
    let seed = seed();
    let is_well = Arc::new(AtomicBool::new(false));
    for link in rtu_in_memory() {
        let random = Mutex::new(Rng::with_seed(seed));
        let script_is_well = Arc::clone(&is_well);
        let script = move |_| {
            let mut random = random.lock().unwrap();
            if script_is_well.load(Ordering::Relaxed) || random.f64() > FAULTS {
                return Reply::Values;
            }
            random_rtu_fault(&mut random)
        };
        is_well.store(false, Ordering::Relaxed);
        read_at_random(line_in_memory(link, script).line, &is_well, seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn random_faults_on_tcp_never_give_a_wrong_value() {
    use test_server::Reply;
    let seed = seed();
    let is_well = Arc::new(AtomicBool::new(false));
    let random = Mutex::new(Rng::with_seed(seed));
    let script_is_well = Arc::clone(&is_well);
    let script = move |asked: Asked| {
        let mut random = random.lock().unwrap();
        if script_is_well.load(Ordering::Relaxed) || random.f64() > FAULTS {
            return Reply::Values;
        }
        match random.u8(..14) {
            0 => Reply::Nothing,
            1 | 2 => Reply::Late(TIMEOUT.mul_f64(1.1 + 3.0 * random.f64())),
            3 => Reply::Registers(asked.count + 1),
            4 => Reply::OtherTransaction(random.u16(1..)),
            5 => Reply::OtherUnit(asked.unit + 1),
            6 => Reply::OtherFunction,
            7 => Reply::HalfThenClose,
            8 => Reply::Close,
            9 => Reply::ValuesThenClose,
            10 => Reply::Garbage,
            11 => Reply::Noise,
            12 => Reply::Pieces,
            _ => Reply::Twice,
        }
    };
    read_at_random(tcp_in_memory(script).line, &is_well, seed).await;
}
