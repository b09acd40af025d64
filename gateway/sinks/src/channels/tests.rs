use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use kerbside_model::{NoticeReason, Severity};
use kerbside_runtime::{Health, Metrics, Shutdown, tls};
use serde_json::json;

use super::*;
use crate::channels::text::DEFAULT_ZONE;
use crate::outbox::{OutboxConfig, OutboxWorker, Target};
use crate::sign::hmac_sha256;
use crate::test_data::{letter, notice_row, pipeline, wait_for};

/// A server that answers 200 with scripted bodies and writes down what it was sent.
#[derive(Clone, Debug, Default)]
struct Robot {
    answers: Arc<Mutex<VecDeque<&'static str>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Clone, Debug)]
struct Seen {
    uri: Uri,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn answer(State(robot): State<Robot>, uri: Uri, headers: HeaderMap, body: String) -> &'static str {
    robot.seen.lock().unwrap().push(Seen { uri, headers, body });
    robot.answers.lock().unwrap().pop_front().unwrap_or("not json")
}

impl Robot {
    async fn start(answers: &[&'static str]) -> (Robot, String) {
        tls::install_crypto_provider();
        let robot = Robot::default();
        robot.answers.lock().unwrap().extend(answers);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/robot", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(robot.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (robot, url)
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

fn channel(kind: ChannelKind) -> Box<dyn Channel> {
    tls::install_crypto_provider();
    let config = ChannelConfig {
        name: "duty".to_owned(),
        kind,
        timeout: Duration::from_secs(5),
        ca: None,
        zone: DEFAULT_ZONE.to_owned(),
    };
    build(config, Clock::System).unwrap()
}

fn dingtalk(url: String) -> Box<dyn Channel> {
    let mobiles = vec!["13800001111".to_owned()];
    channel(ChannelKind::DingTalk { url, token: Secret::new("T/+"), secret: Some(Secret::new("SEC1")), mobiles })
}

fn wecom(url: String) -> Box<dyn Channel> {
    channel(ChannelKind::WeCom { url, key: Secret::new("K"), users: vec!["zhangsan".to_owned()] })
}

fn feishu(url: String) -> Box<dyn Channel> {
    let users = vec!["ou_1".to_owned()];
    channel(ChannelKind::Feishu { url, token: Secret::new("T1"), secret: Some(Secret::new("S")), users })
}

type Make = fn(String) -> Box<dyn Channel>;

#[derive(Debug, PartialEq)]
enum Kind {
    Sent,
    Throttled(u64),
    Misconfigured,
    Failed,
}

fn kind(outcome: &SendOutcome) -> Kind {
    match outcome {
        SendOutcome::Sent { .. } => Kind::Sent,
        SendOutcome::Throttled { retry_after, .. } => Kind::Throttled(retry_after.as_secs()),
        SendOutcome::Misconfigured { .. } => Kind::Misconfigured,
        SendOutcome::Failed { .. } => Kind::Failed,
        SendOutcome::Unreachable { reason } => panic!("unreachable: {reason}"),
    }
}

async fn check(make: Make, answers: &[(&'static str, Kind)]) {
    let bodies: Vec<&'static str> = answers.iter().map(|(body, _)| *body).collect();
    let (_robot, url) = Robot::start(&bodies).await;
    let channel = make(url);
    for (body, expected) in answers {
        let outcome = channel.send(&[letter(NoticeReason::Opened)]).await;
        assert_eq!(kind(&outcome), *expected, "{body}: {outcome:?}");
    }
}

#[tokio::test]
async fn dingtalk_says_200_to_everything_and_only_code_zero_is_a_success() {
    let answers = [
        (r#"{"errcode":0,"errmsg":"ok"}"#, Kind::Sent),
        (r#"{"errcode":130101,"errmsg":"send too fast, exceed 20 times per minute"}"#, Kind::Throttled(600)),
        (r#"{"errcode":410100,"errmsg":"busy"}"#, Kind::Throttled(600)),
        (r#"{"errcode":310000,"errmsg":"keywords not in content"}"#, Kind::Misconfigured),
        (r#"{"errcode":300001,"errmsg":"token is not exist"}"#, Kind::Misconfigured),
        (r#"{"errcode":-1,"errmsg":"system busy"}"#, Kind::Throttled(5)),
        (r#"{"errcode":40035,"errmsg":"parameter"}"#, Kind::Failed),
        (r#"{"errcode":123456,"errmsg":""}"#, Kind::Failed),
        (r#"{"status":1111,"wait":10,"punish":"true"}"#, Kind::Throttled(600)),
        ("{}", Kind::Failed),
        ("", Kind::Failed),
        ("<html>", Kind::Failed),
    ];
    check(dingtalk, &answers).await;
}

#[tokio::test]
async fn wecom_says_200_to_everything_and_only_code_zero_is_a_success() {
    let answers = [
        (r#"{"errcode":0,"errmsg":"ok"}"#, Kind::Sent),
        (r#"{"errcode":45009,"errmsg":"api freq out of limit"}"#, Kind::Throttled(60)),
        (r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#, Kind::Misconfigured),
        (r#"{"errcode":40058,"errmsg":"exceed max length"}"#, Kind::Failed),
        ("[]", Kind::Failed),
    ];
    check(wecom, &answers).await;
}

#[tokio::test]
async fn feishu_says_200_to_everything_and_only_code_zero_is_a_success() {
    let answers = [
        (r#"{"code":0,"msg":"success","data":{}}"#, Kind::Sent),
        (r#"{"StatusCode":0,"StatusMessage":"success"}"#, Kind::Sent),
        (r#"{"code":11232,"msg":"frequency limited psm[lark.oapi]"}"#, Kind::Throttled(60)),
        (r#"{"code":19021,"msg":"sign match fail or timestamp is not within one hour"}"#, Kind::Misconfigured),
        (r#"{"code":19024,"msg":"Key Words Not Found"}"#, Kind::Misconfigured),
        (r#"{"code":9499,"msg":"Bad Request"}"#, Kind::Failed),
        ("{}", Kind::Failed),
    ];
    check(feishu, &answers).await;
}

#[tokio::test]
async fn an_error_in_a_200_is_no_delivery_and_the_notice_is_sent_again_until_it_is_one() {
    let makes: [(Make, &str, &str); 3] = [
        (dingtalk, r#"{"errcode":40035,"errmsg":"no"}"#, r#"{"errcode":0,"errmsg":"ok"}"#),
        (wecom, r#"{"errcode":40058,"errmsg":"no"}"#, r#"{"errcode":0,"errmsg":"ok"}"#),
        (feishu, r#"{"code":9499,"msg":"Bad Request"}"#, r#"{"code":0,"msg":"success"}"#),
    ];
    for (make, no, yes) in makes {
        let (robot, url) = Robot::start(&[no, "", no, yes]).await;
        let (intake, mut told) = pipeline();
        let (metrics, health) = (Metrics::default(), Health::default());
        let backoff_max = Duration::from_millis(20);
        let config = OutboxConfig { backoff_first: backoff_max, backoff_max, ..OutboxConfig::default() };
        let target = Target::Channel(Arc::from(make(url)));
        let (worker, handle) = OutboxWorker::new(config, target, intake, Clock::System, &metrics, &health);
        let shutdown = Shutdown::new();
        let running = tokio::spawn(worker.run(shutdown.clone()));
        handle.deliver(notice_row(1, "duty", Severity::Critical)).await.unwrap();
        let told = wait_for(&mut told, |told| told.delivered() == 1).await;
        assert_eq!(told.deliveries.len(), 1);
        assert_eq!(robot.seen.lock().unwrap().len(), 4);
        assert!(metrics.encode().contains("kerbside_outbox_deliveries_total{result=\"retry\",target=\"duty\"} 3"));
        shutdown.cancel();
        running.await.unwrap();
    }
}

#[tokio::test]
async fn a_dingtalk_message_is_signed_once_encoded_and_mentions_in_text_and_list() {
    let (robot, url) = Robot::start(&[r#"{"errcode":0}"#]).await;
    dingtalk(url).send(&[letter(NoticeReason::Opened)]).await;
    let seen = robot.last();
    let query = seen.uri.query().unwrap();
    assert!(query.starts_with("access_token=T%2F%2B&timestamp="), "{query}");
    assert!(query.ends_with("%3D") && !query.contains("%25"), "{query}");
    assert_eq!(seen.headers["content-type"], "application/json; charset=utf-8");
    let body = seen.json();
    assert_eq!(body["msgtype"], "markdown");
    assert_eq!(body["markdown"]["title"], "【紧急】井盖开启或移位");
    assert_eq!(body["at"], json!({ "atMobiles": ["13800001111"], "isAtAll": false }));
    assert!(body["markdown"]["text"].as_str().unwrap().ends_with("@13800001111"));
}

#[tokio::test]
async fn a_wecom_message_keeps_to_its_bytes_with_mentions_and_link() {
    let (robot, url) = Robot::start(&[]).await;
    let channel = wecom(url);
    let mut long = letter(NoticeReason::Refused);
    long.notice.detail = "平".repeat(4_000);
    long.notice.report.explanation_zh = "井".repeat(4_000);
    long.notice.report.place = "路".repeat(4_000);
    let letters = vec![long; 20];
    for count in [1, 20] {
        channel.send(&letters[..count]).await;
        let seen = robot.last();
        assert!(seen.uri.query().unwrap() == "key=K");
        let body = seen.json();
        let content = body["markdown"]["content"].as_str().unwrap();
        assert!(content.len() <= 4_096, "{} bytes", content.len());
        assert!(content.ends_with("\n\n<@zhangsan>"));
        assert!(content.contains("/token)"));
    }
}

#[tokio::test]
async fn the_longest_messages_keep_to_the_limit_of_the_body() {
    let (robot, url) = Robot::start(&[]).await;
    let mut long = letter(NoticeReason::Refused);
    for text in [&mut long.notice.detail, &mut long.notice.report.place, &mut long.notice.report.explanation_zh] {
        *text = "\\*\"".repeat(2_000);
    }
    long.notice.report.unit = "井".repeat(2_000);
    let letters = vec![long; 40];
    for channel in [dingtalk(url.clone()), feishu(url)] {
        for count in [1, 40] {
            channel.send(&letters[..count]).await;
            let bytes = robot.last().body.len();
            assert!((2_000..=20_000).contains(&bytes), "{bytes} bytes of {count} letters");
        }
    }
}

#[tokio::test]
async fn a_digest_says_how_many_letters_found_room() {
    let (_robot, url) = Robot::start(&[r#"{"errcode":0}"#]).await;
    let letters = vec![letter(NoticeReason::Opened); 20];
    let SendOutcome::Sent { letters: sent } = wecom(url).send(&letters).await else { panic!() };
    assert!((6..20).contains(&sent), "{sent}");
}

#[tokio::test]
async fn a_feishu_card_is_signed_in_its_body_and_has_a_button() {
    let (robot, url) = Robot::start(&[]).await;
    feishu(url).send(&[letter(NoticeReason::Opened)]).await;
    let seen = robot.last();
    assert_eq!(seen.uri.path(), "/robot/T1");
    let body = seen.json();
    assert_eq!(body["msg_type"], "interactive");
    let timestamp = body["timestamp"].as_str().unwrap();
    assert_eq!(timestamp.len(), 10);
    use base64::Engine as _;
    let expected = hmac_sha256(format!("{timestamp}\nS").as_bytes(), b"");
    assert_eq!(body["sign"], base64::engine::general_purpose::STANDARD.encode(expected));
    assert_eq!(body["card"]["header"]["template"], "red");
    let text = body["card"]["elements"][0]["text"]["content"].as_str().unwrap();
    assert!(text.contains("人民路") && text.ends_with("<at id=ou_1></at>"), "{text}");
    let button = &body["card"]["elements"][1]["actions"][0];
    assert_eq!(button["url"], "https://gateway.example.org/s/KB-0123456789AB/token");
}

#[tokio::test]
async fn a_webhook_gets_the_whole_notice_with_a_signature_over_time_and_body() {
    let (robot, url) = Robot::start(&[r#"{"code":0}"#, r#"{"success":false}"#]).await;
    let headers = vec![("X-Tenant".to_owned(), Secret::new("a"))];
    let channel = channel(ChannelKind::Webhook { url, headers, secret: Some(Secret::new("S")) });
    assert_eq!(channel.letters_max(), 1);
    let sent = letter(NoticeReason::Escalated);
    assert_eq!(channel.send(std::slice::from_ref(&sent)).await, SendOutcome::Sent { letters: 1 });
    let seen = robot.last();
    let body = seen.json();
    assert_eq!(body["id"], "R-1");
    assert_eq!(serde_json::from_value::<Notice>(body["notice"].clone()).unwrap(), sent.notice);
    assert!(body["text_zh"].as_str().unwrap().contains("升级"));
    assert!(body["text_en"].as_str().unwrap().contains("nobody signed"));
    assert_eq!(body["sign_url"], json!(sent.sign_url));
    assert_eq!(seen.headers["x-tenant"], "a");
    let timestamp = seen.headers["x-kerbside-timestamp"].to_str().unwrap();
    let code = hmac_sha256(b"S", format!("{timestamp}.{}", seen.body).as_bytes());
    let hexadecimal: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(seen.headers["x-kerbside-signature"], format!("sha256={hexadecimal}"));
    assert!(matches!(channel.send(&[sent]).await, SendOutcome::Failed { .. }));
}

#[tokio::test]
async fn an_unreachable_robot_is_no_answer_and_its_secrets_stay_out_of_the_reason() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/robot", listener.local_addr().unwrap());
    drop(listener);
    for channel in [dingtalk(url.clone()), wecom(url.clone()), feishu(url)] {
        let outcome = channel.send(&[letter(NoticeReason::Opened)]).await;
        let SendOutcome::Unreachable { reason } = outcome else { panic!("{outcome:?}") };
        assert!(!reason.contains("http") && !reason.contains("T1") && !reason.contains("key"), "{reason}");
    }
}

#[tokio::test]
async fn a_channel_that_shows_always_succeeds() {
    let letters = vec![letter(NoticeReason::Opened)];
    assert_eq!(channel(ChannelKind::Show).send(&letters).await, SendOutcome::Sent { letters: 1 });
}

#[test]
fn a_channel_that_cannot_work_is_not_built() {
    tls::install_crypto_provider();
    let config = |url: &str, zone: &str| ChannelConfig {
        name: "duty".to_owned(),
        kind: ChannelKind::WeCom { url: url.to_owned(), key: Secret::new("K"), users: Vec::new() },
        timeout: Duration::from_secs(5),
        ca: None,
        zone: zone.to_owned(),
    };
    assert!(build(config(WECOM_URL, DEFAULT_ZONE), Clock::System).is_ok());
    assert!(matches!(build(config("robot", DEFAULT_ZONE), Clock::System), Err(ChannelError::Invalid { .. })));
    assert!(matches!(build(config("mailto:a@b", DEFAULT_ZONE), Clock::System), Err(ChannelError::Invalid { .. })));
    assert!(matches!(build(config(WECOM_URL, "Mars"), Clock::System), Err(ChannelError::Zone { .. })));
}
