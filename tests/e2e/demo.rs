//! The demonstration, as somebody sees it who has just cloned the project.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::gateway::KERBSIDE;
use crate::wait::{SOON, wait_until};

struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The number in front of a word: `12 cases` in the summary.
fn number_before(text: &str, word: &str) -> Option<u64> {
    let words: Vec<&str> = text.split(|letter: char| letter.is_whitespace() || ",;:".contains(letter)).collect();
    let position = words.iter().position(|found| *found == word)?;
    [position.checked_sub(1), Some(position + 1)].into_iter().flatten().find_map(|near| words.get(near)?.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demonstration_shows_cases_and_ends_by_itself_with_a_summary() {
    let arguments = ["demo", "--listen", "127.0.0.1:0", "--duration", "40s", "--speed", "120", "--seed", "3"];
    let child = Command::new(KERBSIDE)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut demo = Demo(child);
    let mut output = BufReader::new(demo.0.stdout.take().unwrap());
    let (first, mut output) = tokio::task::spawn_blocking(move || {
        let mut first = String::new();
        output.read_line(&mut first).unwrap();
        (first, output)
    })
    .await
    .unwrap();
    let start = first.find("http://").unwrap_or_else(|| panic!("no address in {first:?}"));
    let address = first[start..].split_whitespace().next().unwrap().trim_end_matches('/').to_owned();

    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
    let page = client.get(format!("{address}/")).send().await.unwrap();
    assert_eq!(page.status().as_u16(), 200);
    assert!(page.text().await.unwrap().contains("<html"), "the console is a page");
    wait_until("a case is shown", SOON, || async {
        let answer = client.get(format!("{address}/api/v1/cases")).send().await.map_err(|error| error.to_string())?;
        let body: Value = answer.json().await.map_err(|error| error.to_string())?;
        if body["items"].as_array().is_some_and(|items| !items.is_empty()) { Ok(()) } else { Err(body.to_string()) }
    })
    .await;

    let rest = tokio::task::spawn_blocking(move || {
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        rest
    });
    let rest = tokio::time::timeout(Duration::from_secs(90), rest).await.expect("it ends by itself").unwrap();
    let status = demo.0.wait().unwrap();
    assert!(status.success(), "{status}: {rest}");
    // Cases of incidents speak of devices as well.
    let summary = rest.lines().find(|line| line.starts_with("summary: ")).unwrap_or_default();
    for word in ["devices", "readings", "alarms", "cases", "pushes"] {
        let number = number_before(summary, word);
        assert!(number.is_some_and(|number| number > 0), "{word} {number:?} in {rest}");
    }
    // Nine in a quiet run: a gateway that falls behind its district takes devices for silent by the dozen.
    let alarms = number_before(&rest, "alarms");
    assert!(alarms.is_some_and(|alarms| alarms < 60), "alarms {alarms:?} in {rest}");
}
