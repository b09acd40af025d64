//! Orders of installers beside polls, in a time of the test's own.

use super::*;
use crate::modbus::test_server;

/// A bus in the time of the test, which has a paused runtime: its server is in memory.
fn run_in_memory(config: ModbusConfig, script: impl Fn(Asked) -> Reply + Send + Sync + 'static) -> Running {
    let (metrics, health, shutdown) = (Metrics::default(), Health::default(), Shutdown::new());
    let (intake, frames) = Intake::new(1_000, 10_000_000);
    let clock = Clock::scaled(Timestamp(1_800_000_000_000), 1.0);
    let mut bus = ModbusBus::new(config, intake, clock, &metrics, &health).unwrap();
    let script: test_server::Script = Arc::new(script);
    bus.line.dial = Some(Box::new(move || {
        let (near, far) = tokio::io::duplex(65_536);
        tokio::spawn(converse(far, Arc::clone(&script), Arc::default()));
        near
    }));
    let handle = bus.handle();
    let task = tokio::spawn(bus.run(shutdown.clone()));
    Running { frames, metrics, health, shutdown, task, handle }
}

/// How late the latest of so many polls was, that are due each 100 ms.
async fn latest_of(running: &mut Running, polls: u32) -> Duration {
    let (_, _, first) = running.frame().await;
    let mut latest = Duration::ZERO;
    for poll in 1..=polls {
        let (_, read, at) = running.frame().await;
        assert_eq!((read.blocks.len(), read.failures.len()), (1, 0));
        latest = latest.max(at.since(first).saturating_sub(Duration::from_millis(100) * poll));
    }
    latest
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_becomes_due_waits_for_one_order_at_most_and_orders_have_all_that_is_left() {
    let script = |asked: Asked| Reply::Late(Duration::from_millis(if asked.unit == 3 { 30 } else { 10 }));
    let address = "192.0.2.1:502".parse().unwrap();
    let mut running = run_in_memory(config(address, vec![unit(1, 100, holding([0]))]), script);
    running.frame().await;
    let request = Request { table: RegisterTable::Input, address: 7, count: 1 };
    let handle = running.handle.clone();
    let served = Arc::new(AtomicUsize::new(0));
    let scan_served = Arc::clone(&served);
    let scan = tokio::spawn(async move {
        // Somebody who asks without end.
        loop {
            handle.read(3, request).await.unwrap();
            scan_served.fetch_add(1, Ordering::Relaxed);
        }
    });
    let latest = latest_of(&mut running, 50).await;
    scan.abort();
    // An order of 30 ms, and the milliseconds of a few timers.
    assert!(latest <= Duration::from_millis(36), "{latest:?}");
    let served = served.load(Ordering::Relaxed);
    assert!((145..=160).contains(&served), "{served} orders beside 50 polls");
    assert_eq!(running.metric("kerbside_modbus_polls_late_total{source=\"poles\"}"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn an_order_of_several_requests_lets_a_poll_between_them() {
    let script = |asked: Asked| if asked.unit == 3 { Reply::Nothing } else { Reply::Values };
    let timeout = Duration::from_millis(80);
    let address = "192.0.2.1:502".parse().unwrap();
    let config = ModbusConfig { timeout, ..config(address, vec![unit(1, 100, holding([0]))]) };
    let mut running = run_in_memory(config, script);
    running.frame().await;
    let handle = running.handle.clone();
    let scan = tokio::spawn(async move {
        loop {
            // It is asked by function 43, and then by 17.
            assert!(handle.identify(3).await.is_err());
        }
    });
    let latest = latest_of(&mut running, 50).await;
    scan.abort();
    assert!(latest < timeout + Duration::from_millis(10), "{latest:?}");
}
