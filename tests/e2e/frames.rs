//! What somebody in the street sees of the frames while they arrive.

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};

use crate::gateway::{KERBSIDE, Site};
use crate::main_job::{TOPIC, cover_message};
use crate::publisher::Publisher;
use crate::wait::{SOON, wait_until};

const COVER: &str = "id,profile,address,name\nMH-1,json-manhole-cover,MH-1,雨水井盖1号\n";

/// `kerbside frames` beside a gateway.
struct Watching {
    child: Child,
    told: Lines<BufReader<ChildStderr>>,
}

impl Watching {
    fn start(site: &Site, arguments: &[&str]) -> Watching {
        let mut program = Command::new(KERBSIDE);
        program.arg("frames").args(arguments).arg("--config").arg(site.path("gateway.yaml"));
        let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let told = BufReader::new(child.stderr.take().unwrap()).lines();
        Watching { child, told }
    }

    /// Reads what it tells people until a line has these words.
    fn wait_for_words(&mut self, words: &str) {
        let found = self.told.by_ref().map(Result::unwrap).find(|line| line.contains(words));
        assert!(found.is_some(), "it ended without {words:?}");
    }

    fn end(mut self) -> String {
        assert!(self.child.wait().unwrap().success());
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        out
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_are_shown_as_they_arrive_with_what_they_gave() {
    let mut site = Site::new(COVER);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let nobody = site.command(&["frames"]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.errors.contains("none answers"), "{nobody:?}");
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "cover");

    let mut all = Watching::start(&site, &["--count", "2"]);
    let mut strangers = Watching::start(&site, &["--undecoded", "--count", "1", "--json", "--for", "60s"]);
    let mut by_text = Watching::start(&site, &["--text", "雨水", "--source", "broker", "--count", "1", "--json"]);
    for watching in [&mut all, &mut strangers, &mut by_text] {
        watching.wait_for_words("looking at frames");
    }
    assert_eq!(gateway.metric("kerbside_frames_viewers", &[]).await, 3.0);
    publisher.publish_acknowledged(&TOPIC.replace("MH-1", "MH-9"), cover_message(true)).await;
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;

    let out = tokio::task::spawn_blocking(move || all.end()).await.unwrap();
    for words in [
        "not decoded 未解码: unknown_device 设备未登记",
        "台账中的地址应为 MH-9",
        "device MH-1 雨水井盖1号 (json-manhole-cover v",
        "cover_open               true",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let read = |watching: Watching| serde_json::from_str::<Value>(watching.end().lines().next().unwrap()).unwrap();
    let (stranger, named) = tokio::task::spawn_blocking(move || (read(strangers), read(by_text))).await.unwrap();
    assert_eq!((&stranger["reason"], &stranger["source"]), (&json!("unknown_device"), &json!("broker")), "{stranger}");
    assert_eq!((&named["device"], &named["outcome"]), (&json!("MH-1"), &json!("decoded")), "{named}");
    wait_until("nobody looks any more", SOON, || async {
        let viewers = gateway.metric("kerbside_frames_viewers", &[]).await;
        if viewers == 0.0 { Ok(()) } else { Err(viewers.to_string()) }
    })
    .await;
    assert_eq!(gateway.get("/api/v1/frames?colour=red").await.status, 400);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_who_looks_neither_holds_the_stop_up_nor_misses_the_next_start() {
    let mut site = Site::new(COVER);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    let mut watching = Watching::start(&site, &["--count", "1", "--json"]);
    watching.wait_for_words("looking at frames");
    let began = kerbside_runtime::Clock::stamp();
    gateway.stop().await;
    assert!(began.elapsed().as_secs() < 8, "sinks would get so long before they are cut off");
    watching.wait_for_words("lost the gateway");
    let gateway = site.start().await;
    watching.wait_for_words("connected again");
    let publisher = Publisher::start(site.broker(), "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    let out = tokio::task::spawn_blocking(move || watching.end()).await.unwrap();
    assert!(out.contains("\"device\":\"MH-1\""), "{out}");
    gateway.stop().await;
}
