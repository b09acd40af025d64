use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use kerbside_model::{CaseReport, DeliveryOutcome};
use kerbside_runtime::{ComponentHealth, HealthState};
use tokio::sync::watch;

use super::*;
use crate::channels::limiter::{RateLimit, Window};
use crate::channels::{Letter, SendOutcome};
use crate::platforms::open311::city::{City, Fault, Manners};
use crate::platforms::{Open311Format, OpenCase, OpenOutcome, PlatformError, ToldState};
use crate::test_data::{Told, case_row, notice_row, pipeline, wait_for};

struct Rig {
    intake: Intake,
    told: watch::Receiver<Told>,
    metrics: Metrics,
    health: Health,
    config: OutboxConfig,
}

impl Rig {
    fn new() -> Rig {
        let (intake, told) = pipeline();
        let config = OutboxConfig {
            backoff_first: Duration::from_millis(4),
            backoff_max: Duration::from_millis(40),
            ..OutboxConfig::default()
        };
        Rig { intake, told, metrics: Metrics::default(), health: Health::default(), config }
    }

    fn start(&self, target: Target) -> (OutboxHandle, Shutdown) {
        let (worker, handle) = OutboxWorker::new(
            self.config.clone(),
            target,
            self.intake.clone(),
            Clock::System,
            &self.metrics,
            &self.health,
        );
        let shutdown = Shutdown::new();
        tokio::spawn(worker.run(shutdown.clone()));
        (handle, shutdown)
    }

    fn health(&self, component: &str) -> ComponentHealth {
        self.health.snapshot().into_iter().find(|other| other.component == component).unwrap()
    }

    async fn healthy(&self, component: &str, state: HealthState) -> ComponentHealth {
        for _ in 0..500 {
            if self.health(component).state == state {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let health = self.health(component);
        assert_eq!(health.state, state, "{}", health.detail);
        health
    }
}

fn platform(city: &City, format: Open311Format) -> Target {
    Target::Platform(Arc::new(city.client(format)))
}

/// Delivers one case through the faults and asserts that the city has it exactly once in the end.
async fn check_once(manners: Manners, format: Open311Format, faults: &[Fault]) -> Told {
    let city = City::start(manners.clone(), faults).await;
    city.fill(3);
    let mut rig = Rig::new();
    let (handle, shutdown) = rig.start(platform(&city, format));
    handle.deliver(case_row(1, "city")).await.unwrap();
    let told = wait_for(&mut rig.told, |told| told.delivered() > 0).await;
    assert_eq!(city.stored().len(), 4, "{manners:?} {format:?} {faults:?}");
    assert_eq!(told.outcomes("O-1").first(), Some(&DeliveryOutcome::Attempting));
    assert_eq!(told.deliveries.len(), 2, "{told:?}");
    rig.healthy("sink/city", HealthState::Ok).await;
    city.assert_content();
    shutdown.cancel();
    told
}

#[tokio::test]
async fn one_case_stays_one_case_whatever_the_platform_does() {
    let faults: [&[Fault]; 8] = [
        &[],
        &[Fault::StoreThen(500)],
        &[Fault::StoreThen(502)],
        &[Fault::StoreThenHang],
        &[Fault::StoreThenBabble],
        &[Fault::Login, Fault::Refuse(500), Fault::StoreThen(503)],
        &[Fault::Refuse(429), Fault::Refuse(401), Fault::Refuse(403)],
        // The request that we gave up on is stored while the settle time runs.
        &[Fault::HangThenStore(Duration::from_millis(1_200))],
    ];
    let mut checks = Vec::new();
    for manners in [Manners::specified(), Manners::first(), Manners::second()] {
        for format in [Open311Format::Json, Open311Format::Xml] {
            checks.extend(faults.iter().map(|faults| check_once(manners.clone(), format, faults)));
        }
    }
    for told in futures_util::future::join_all(checks).await {
        assert!(matches!(&told.outcomes("O-1")[1], DeliveryOutcome::Delivered { platform_id: Some(_) }));
    }
}

#[tokio::test]
async fn a_restart_after_the_request_left_opens_nothing_twice() {
    for manners in [Manners::specified(), Manners::first(), Manners::second()] {
        for fault in [Fault::StoreThenHang, Fault::HangThenStore(Duration::from_millis(100))] {
            let city = City::start(manners.clone(), &[fault]).await;
            let mut first = Rig::new();
            let (handle, shutdown) = first.start(platform(&city, Open311Format::Xml));
            handle.deliver(case_row(1, "city")).await.unwrap();
            wait_for(&mut city.state.subscribe(), |state| state.posts == 1).await;
            let told = wait_for(&mut first.told, |told| !told.deliveries.is_empty()).await;
            assert_eq!(told.outcomes("O-1"), [DeliveryOutcome::Attempting]);
            shutdown.cancel();

            let mut second = Rig::new();
            let (handle, _shutdown) = second.start(platform(&city, Open311Format::Xml));
            let row = OutboxRow { state: OutboxState::Attempted, ..case_row(1, "city") };
            handle.deliver(row).await.unwrap();
            let told = wait_for(&mut second.told, |told| told.delivered() == 1).await;
            assert_eq!(told.deliveries.len(), 1, "an attempted row is not announced again");
            let state = city.state.borrow().clone();
            assert_eq!((state.stored.len(), state.posts), (1, 1), "{manners:?} {fault:?}");
        }
    }
}

#[tokio::test]
async fn an_attempted_row_that_never_arrived_is_sent_after_the_restart() {
    let city = City::start(Manners::specified(), &[]).await;
    let mut rig = Rig::new();
    let (handle, _shutdown) = rig.start(platform(&city, Open311Format::Json));
    let row = OutboxRow { state: OutboxState::Attempted, ..case_row(1, "city") };
    handle.deliver(row).await.unwrap();
    wait_for(&mut rig.told, |told| told.delivered() == 1).await;
    let state = city.state.borrow().clone();
    assert_eq!((state.stored.len(), state.posts), (1, 1));
    assert!(state.lists >= 1);
}

#[tokio::test]
async fn nothing_is_sent_twice_while_the_lookup_fails_and_the_health_says_why() {
    let city = City::start(Manners::specified(), &[Fault::StoreThen(500)]).await;
    city.state.send_modify(|state| state.lists_fail = Some(503));
    let mut rig = Rig::new();
    let (handle, _shutdown) = rig.start(platform(&city, Open311Format::Json));
    handle.deliver(case_row(1, "city")).await.unwrap();
    wait_for(&mut city.state.subscribe(), |state| state.lists >= 8).await;
    assert_eq!(city.state.borrow().posts, 1);
    let health = rig.healthy("sink/city", HealthState::Degraded).await;
    assert!(health.detail.contains("lookup fails"), "{}", health.detail);
    city.state.send_modify(|state| state.lists_fail = None);
    wait_for(&mut rig.told, |told| told.delivered() == 1).await;
    assert_eq!(city.state.borrow().posts, 1);
    let metrics = rig.metrics.encode();
    assert!(metrics.contains("kerbside_outbox_deliveries_total{result=\"delivered\",target=\"city\"} 1"));
    assert!(metrics.contains("kerbside_outbox_deliveries_total{result=\"uncertain\",target=\"city\"} 1"));
    assert!(metrics.contains("kerbside_outbox_open{target=\"city\"} 0"));
}

#[tokio::test]
async fn a_token_opens_the_case_at_once_and_its_number_follows() {
    let city = City::start(Manners::first(), &[Fault::Token(3)]).await;
    let mut rig = Rig::new();
    let (handle, _shutdown) = rig.start(platform(&city, Open311Format::Xml));
    handle.deliver(case_row(1, "city")).await.unwrap();
    let told = wait_for(&mut rig.told, |told| told.delivered() == 2).await;
    let expected = [
        DeliveryOutcome::Attempting,
        DeliveryOutcome::Delivered { platform_id: None },
        DeliveryOutcome::Delivered { platform_id: Some("C0".to_owned()) },
    ];
    assert_eq!(told.outcomes("O-1"), expected);
    assert_eq!(city.state.borrow().posts, 1);
    assert!(rig.metrics.encode().contains("kerbside_outbox_deliveries_total{result=\"delivered\",target=\"city\"} 1"));
}

#[tokio::test]
async fn a_refused_case_is_given_up_with_the_platforms_words() {
    let city = City::start(Manners::specified(), &[Fault::Refuse(400)]).await;
    let mut rig = Rig::new();
    let (handle, _shutdown) = rig.start(platform(&city, Open311Format::Json));
    handle.deliver(case_row(1, "city")).await.unwrap();
    let told = wait_for(&mut rig.told, |told| told.deliveries.len() == 2).await;
    let DeliveryOutcome::Refused { reason } = &told.outcomes("O-1")[1] else { panic!("{told:?}") };
    assert!(reason.contains("lat is in the sea"), "{reason}");
    assert_eq!(city.state.borrow().posts, 1);
}

#[tokio::test]
async fn a_row_that_waits_for_a_person_holds_up_no_other() {
    let city = City::start(Manners::second(), &[]).await;
    let mut rig = Rig::new();
    let (handle, _shutdown) = rig.start(platform(&city, Open311Format::Json));
    let mut stuck = case_row(1, "city");
    let OutboxTask::OpenCase(report) = &mut stuck.task else { panic!() };
    report.condition = "flooded".to_owned();
    handle.deliver(stuck).await.unwrap();
    let health = rig.healthy("sink/city", HealthState::Down).await;
    assert!(health.detail.contains("mend the configuration"), "{}", health.detail);
    for number in 2..40 {
        handle.deliver(case_row(number, "city")).await.unwrap();
    }
    wait_for(&mut rig.told, |told| told.delivered() == 38).await;
    assert_eq!(city.stored().len(), 38);
    rig.healthy("sink/city", HealthState::Down).await;
}

#[tokio::test]
async fn a_row_that_is_handed_over_twice_is_delivered_once() {
    let city = City::start(Manners::specified(), &[Fault::Refuse(500)]).await;
    let mut rig = Rig::new();
    let (handle, _shutdown) = rig.start(platform(&city, Open311Format::Json));
    for _ in 0..3 {
        handle.deliver(case_row(1, "city")).await.unwrap();
    }
    handle.deliver(case_row(2, "city")).await.unwrap();
    wait_for(&mut rig.told, |told| told.delivered() == 2).await;
    assert_eq!(city.stored().len(), 2);
}

#[tokio::test]
async fn the_worker_stops_when_the_pipeline_has_ended() {
    let city = City::start(Manners::specified(), &[]).await;
    let (intake, receiver) = Intake::new(4, 4_096);
    drop(receiver);
    let target = platform(&city, Open311Format::Json);
    let (worker, handle) = OutboxWorker::new(
        OutboxConfig::default(),
        target,
        intake,
        Clock::System,
        &Metrics::default(),
        &Health::default(),
    );
    let running = tokio::spawn(worker.run(Shutdown::new()));
    handle.deliver(case_row(1, "city")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    assert_eq!(city.state.borrow().posts, 0, "nothing leaves that is not durably marked");
    assert_eq!(handle.deliver(case_row(2, "city")).await, Err(OutboxClosed));
}

/// Panics at first, and then finds what the panicking attempt may have left.
#[derive(Debug, Default)]
struct Panicking {
    lookups: Mutex<Vec<Lookup>>,
}

#[async_trait]
impl Platform for Panicking {
    fn name(&self) -> &str {
        "city"
    }

    fn settle(&self) -> Duration {
        Duration::ZERO
    }

    async fn reach(&self) -> Result<(), PlatformError> {
        Ok(())
    }

    async fn open(&self, _: &CaseReport, lookup: Lookup) -> OpenOutcome {
        self.lookups.lock().unwrap().push(lookup);
        assert!(lookup == Lookup::First, "the first attempt panics");
        OpenOutcome::AlreadyThere { platform_id: "7".to_owned() }
    }

    async fn claim(&self, _: &str) -> Result<Option<String>, PlatformError> {
        Ok(None)
    }

    async fn find(&self, _: &OpenCase) -> Result<Option<String>, PlatformError> {
        Ok(None)
    }

    async fn status(&self, _: &str) -> Result<Option<ToldState>, PlatformError> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_panic_in_an_attempt_loses_no_row_and_looks_it_up() {
    let platform = Arc::new(Panicking::default());
    let mut rig = Rig::new();
    let (handle, _shutdown) = rig.start(Target::Platform(Arc::clone(&platform) as _));
    handle.deliver(case_row(1, "city")).await.unwrap();
    let told = wait_for(&mut rig.told, |told| told.delivered() == 1).await;
    assert_eq!(*platform.lookups.lock().unwrap(), [Lookup::NotNeeded, Lookup::First]);
    assert_eq!(told.outcomes("O-1").last(), Some(&DeliveryOutcome::Delivered { platform_id: Some("7".to_owned()) }));
}

#[derive(Debug)]
struct Robot {
    answers: Mutex<VecDeque<SendOutcome>>,
    sent: watch::Sender<Vec<Vec<Letter>>>,
    limit: RateLimit,
    letters_max: usize,
}

impl Robot {
    fn new(answers: Vec<SendOutcome>, limit: RateLimit) -> Arc<Robot> {
        let sent = watch::Sender::new(Vec::new());
        Arc::new(Robot { answers: Mutex::new(answers.into()), sent, limit, letters_max: 10 })
    }
}

#[async_trait]
impl Channel for Robot {
    fn name(&self) -> &str {
        "duty"
    }

    fn rate_limit(&self) -> RateLimit {
        self.limit.clone()
    }

    fn letters_max(&self) -> usize {
        self.letters_max
    }

    async fn send(&self, letters: &[Letter]) -> SendOutcome {
        self.sent.send_modify(|sent| sent.push(letters.to_vec()));
        let scripted = self.answers.lock().unwrap().pop_front();
        scripted.unwrap_or(SendOutcome::Sent { letters: letters.len() })
    }
}

fn rows_of(sent: &[Vec<Letter>]) -> Vec<Vec<&str>> {
    sent.iter().map(|letters| letters.iter().map(|letter| letter.row_id.as_str()).collect()).collect()
}

#[tokio::test]
async fn a_notice_is_sent_again_until_the_robot_says_that_it_has_it() {
    let words = || "no".to_owned();
    let wait = Duration::from_millis(5);
    let answers = vec![
        SendOutcome::Failed { reason: words() },
        SendOutcome::Unreachable { reason: words() },
        SendOutcome::Throttled { retry_after: wait, reason: words() },
        SendOutcome::Misconfigured { reason: words() },
    ];
    let robot = Robot::new(answers, RateLimit::default());
    let mut rig = Rig::new();
    rig.config.sign_links = Some(SignLinks::new("https://gateway.example.org", kerbside_runtime::Secret::new("k")));
    let (handle, _shutdown) = rig.start(Target::Channel(Arc::clone(&robot) as _));
    handle.deliver(notice_row(1, "duty", Severity::Major)).await.unwrap();
    let told = wait_for(&mut rig.told, |told| told.delivered() == 1).await;
    assert_eq!(told.outcomes("N-1"), [DeliveryOutcome::Delivered { platform_id: None }]);
    let sent = robot.sent.borrow().clone();
    assert_eq!(rows_of(&sent), vec![vec!["N-1"]; 5]);
    let link = rig.config.sign_links.as_ref().unwrap().url("KB-000000000001");
    assert_eq!(sent[4][0].sign_url, Some(link));
    rig.healthy("sink/duty", HealthState::Ok).await;
    let metrics = rig.metrics.encode();
    assert!(metrics.contains("kerbside_outbox_deliveries_total{result=\"retry\",target=\"duty\"} 4"));
    assert!(metrics.contains("kerbside_push_throttled_total{target=\"duty\"} 1"));
}

#[tokio::test]
async fn many_waiting_notices_become_one_message_and_each_row_is_delivered() {
    let answers = vec![
        SendOutcome::Throttled { retry_after: Duration::from_millis(100), reason: String::new() },
        // The digest had room for seven only.
        SendOutcome::Sent { letters: 7 },
    ];
    let robot = Robot::new(answers, RateLimit::default());
    let mut rig = Rig::new();
    let (handle, _shutdown) = rig.start(Target::Channel(Arc::clone(&robot) as _));
    handle.deliver(notice_row(0, "duty", Severity::Minor)).await.unwrap();
    wait_for(&mut robot.sent.subscribe(), |sent| sent.len() == 1).await;
    for number in 1..12 {
        let severity = if number == 9 { Severity::Critical } else { Severity::Minor };
        handle.deliver(notice_row(number, "duty", severity)).await.unwrap();
    }
    let told = wait_for(&mut rig.told, |told| told.delivered() == 12).await;
    for number in 0..12 {
        assert_eq!(told.outcomes(&format!("N-{number}")).len(), 1);
    }
    let sent = robot.sent.borrow().clone();
    let sizes: Vec<usize> = sent.iter().map(Vec::len).collect();
    // One that was throttled, the digest of the ten at most, and the five that are left are few enough to go alone.
    assert_eq!(sizes, [1, 10, 1, 1, 1, 1, 1]);
    assert_eq!(sent[1][0].row_id, "N-9", "the worst comes first");
}

#[tokio::test]
async fn a_limit_holds_normal_notices_back_and_lets_a_critical_one_through() {
    let window = Window { messages_max: 3, span: Duration::from_secs(3_600) };
    let robot = Robot::new(Vec::new(), RateLimit { windows: vec![window], reserved: 1 });
    let mut rig = Rig::new();
    let (handle, _shutdown) = rig.start(Target::Channel(Arc::clone(&robot) as _));
    for number in 0..4 {
        handle.deliver(notice_row(number, "duty", Severity::Major)).await.unwrap();
    }
    wait_for(&mut rig.told, |told| told.delivered() == 2).await;
    handle.deliver(notice_row(9, "duty", Severity::Critical)).await.unwrap();
    wait_for(&mut rig.told, |told| told.delivered() == 3).await;
    assert_eq!(rows_of(&robot.sent.borrow()), [["N-0"], ["N-1"], ["N-9"]]);
    assert!(rig.metrics.encode().contains("kerbside_push_throttled_total{target=\"duty\"} 1"));
}

#[tokio::test]
async fn a_message_that_the_robot_dislikes_holds_up_no_other() {
    let dislikes = || SendOutcome::Failed { reason: "40035 bad".to_owned() };
    let robot = Robot::new(vec![dislikes()], RateLimit::default());
    let mut rig = Rig::new();
    rig.config.backoff_first = Duration::from_secs(60);
    rig.config.backoff_max = Duration::from_secs(60);
    let (handle, _shutdown) = rig.start(Target::Channel(Arc::clone(&robot) as _));
    handle.deliver(notice_row(1, "duty", Severity::Major)).await.unwrap();
    wait_for(&mut robot.sent.subscribe(), |sent| sent.len() == 1).await;
    handle.deliver(notice_row(2, "duty", Severity::Major)).await.unwrap();
    let told = wait_for(&mut rig.told, |told| told.delivered() == 1).await;
    assert_eq!(told.outcomes("N-1"), []);
    let health = rig.healthy("sink/duty", HealthState::Degraded).await;
    assert!(health.detail.contains("40035 bad"), "{}", health.detail);
}

#[tokio::test]
async fn a_row_in_the_wrong_place_is_refused() {
    let robot = Robot::new(Vec::new(), RateLimit::default());
    let mut rig = Rig::new();
    let (handle, _shutdown) = rig.start(Target::Channel(Arc::clone(&robot) as _));
    handle.deliver(case_row(1, "duty")).await.unwrap();
    let told = wait_for(&mut rig.told, |told| told.deliveries.len() == 1).await;
    assert!(matches!(&told.outcomes("O-1")[0], DeliveryOutcome::Refused { .. }));
    assert!(robot.sent.borrow().is_empty());
}
