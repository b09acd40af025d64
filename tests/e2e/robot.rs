//! A group robot that answers 200 to everything and says in the body whether it took the message, as DingTalk's does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Query, State};
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::gateway::loopback;
use crate::wait::{SOON, wait_for};

/// A running robot. Dropping it closes its port.
pub(crate) struct Robot {
    port: u16,
    state: Arc<Mutex<RobotState>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct RobotState {
    /// Error codes for the next messages.
    errors: VecDeque<i64>,
    /// Messages that were taken.
    taken: Vec<String>,
    /// Messages that were not.
    refused: Vec<String>,
    complaints: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Signature {
    access_token: Option<String>,
    timestamp: Option<String>,
    sign: Option<String>,
}

impl Robot {
    pub(crate) async fn start() -> Robot {
        let listener = tokio::net::TcpListener::bind(loopback(0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(RobotState::default()));
        let routes = Router::new().route("/robot/send", post(send)).with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Robot { port, state, task }
    }

    /// The channel `ops` for this robot.
    pub(crate) fn channel(&self) -> String {
        format!(
            "ops: {{type: dingtalk, url: \"http://127.0.0.1:{}/robot/send\", token: robot-token, \
             secret: robot-secret, mobiles: [\"13800000000\"]}}",
            self.port
        )
    }

    /// The next messages are answered with 200 and these error codes.
    pub(crate) fn refuse_next(&self, codes: &[i64]) {
        self.state.lock().unwrap().errors.extend(codes);
    }

    pub(crate) fn taken(&self) -> Vec<String> {
        self.state.lock().unwrap().taken.clone()
    }

    pub(crate) fn refused(&self) -> Vec<String> {
        self.state.lock().unwrap().refused.clone()
    }

    pub(crate) async fn wait_for_taken(&self, count: usize) -> Vec<String> {
        wait_for(&format!("the robot has {count} messages"), SOON, || {
            let taken = self.taken();
            if taken.len() >= count { Ok(taken) } else { Err(format!("{taken:?}, refused {:?}", self.refused())) }
        })
        .await
    }

    /// Panics when a message was not as the robot's maker wants it.
    pub(crate) fn assert_content(&self) {
        assert_eq!(self.state.lock().unwrap().complaints, Vec::<String>::new());
    }
}

impl Drop for Robot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn send(
    State(state): State<Arc<Mutex<RobotState>>>,
    Query(signature): Query<Signature>,
    axum::Json(body): axum::Json<Value>,
) -> axum::Json<Value> {
    let mut state = state.lock().unwrap();
    let is_signed =
        signature.timestamp.is_some_and(|time| time.len() == 13) && signature.sign.is_some_and(|sign| sign.len() == 44);
    if signature.access_token.as_deref() != Some("robot-token") || !is_signed {
        state.complaints.push("a message without token or signature".to_owned());
        return axum::Json(json!({ "errcode": 310_000, "errmsg": "sign not match" }));
    }
    let Some(text) = body["markdown"]["text"].as_str().filter(|_| body["msgtype"] == "markdown") else {
        state.complaints.push(format!("not a markdown message: {body}"));
        return axum::Json(json!({ "errcode": 40_035, "errmsg": "missing parameter" }));
    };
    match state.errors.pop_front() {
        Some(code) => {
            state.refused.push(text.to_owned());
            axum::Json(json!({ "errcode": code, "errmsg": "system error" }))
        }
        None => {
            state.taken.push(text.to_owned());
            axum::Json(json!({ "errcode": 0, "errmsg": "ok" }))
        }
    }
}

/// The signature link in a message.
pub(crate) fn sign_link(message: &str) -> String {
    let start = message.find("http://").unwrap_or_else(|| panic!("no link in {message}"));
    let end = message[start..].find([')', ' ', '\n']).map_or(message.len(), |length| start + length);
    message[start..end].to_owned()
}
