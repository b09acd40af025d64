//! Frames as they arrive, as Server-Sent Events: `frame` for each one, `missed` for how many were left out and why.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use serde::Deserialize;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::ApiState;
use super::error::ApiError;
use super::extract::Asked;
use crate::config::Account;
use crate::live::Live;
use crate::wiretap::{Filter, FrameWatch, Needle};

/// How often a viewer is told what it was not shown.
const MISSED_INTERVAL: Duration = Duration::from_secs(1);
/// Something is said so often, so that proxies and people know that the connection stands.
const ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// A filter is a word or two.
const FILTER_CHARACTERS_MAX: usize = 200;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Device id, or an address that no device has.
    device: Option<String>,
    /// Name of a source.
    source: Option<String>,
    /// Somewhere in topic, device, place, profile or payload.
    text: Option<String>,
    #[serde(default)]
    undecoded: bool,
}

pub(super) async fn watch(
    State(state): State<ApiState>,
    Asked(wanted): Asked<Wanted>,
) -> Result<impl IntoResponse, ApiError> {
    for (name, value) in [("device", &wanted.device), ("source", &wanted.source), ("text", &wanted.text)] {
        if value.as_ref().is_some_and(|value| value.chars().count() > FILTER_CHARACTERS_MAX) {
            let most = format!("`{name}` has more than {FILTER_CHARACTERS_MAX} characters: a part of it will do");
            return Err(ApiError::bad_request(most));
        }
    }
    let view = state.frames.watch(wanted.filter()).map_err(|error| ApiError::unavailable(&error))?;
    // A proxy in front of us must hand each event on at once.
    let unbuffered = [("x-accel-buffering", "no")];
    Ok((unbuffered, Sse::new(events(view, state.accounts)).keep_alive(KeepAlive::new().interval(ALIVE_INTERVAL))))
}

impl Wanted {
    fn filter(self) -> Filter {
        let named = |value: Option<String>| value.filter(|value| !value.is_empty());
        Filter {
            device: named(self.device),
            source: named(self.source),
            text: self.text.as_deref().and_then(Needle::new),
            undecoded_only: self.undecoded,
        }
    }
}

/// Events until the viewer goes, the gateway stops, or other accounts may come in than when it began: then the viewer has
/// to show again who it is.
fn events(view: FrameWatch, accounts: Live<Vec<Account>>) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut pulse = interval(MISSED_INTERVAL);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let let_in_by = accounts.get();
    let may_stay = move || *accounts.get() == *let_in_by;
    unfold((view, pulse, may_stay), |(mut view, mut pulse, may_stay)| async move {
        let event = next(&mut view, &mut pulse, &may_stay).await?;
        Some((Ok(event), (view, pulse, may_stay)))
    })
}

async fn next(view: &mut FrameWatch, pulse: &mut Interval, may_stay: &impl Fn() -> bool) -> Option<Event> {
    loop {
        tokio::select! {
            biased;
            _ = pulse.tick() => {
                if !may_stay() {
                    return None;
                }
                if let Some(missed) = view.missed() {
                    let text = serde_json::to_string(&missed).expect("three numbers are JSON");
                    return Some(Event::default().event("missed").data(text));
                }
            }
            event = view.next() => return Some(Event::default().event("frame").data(event?)),
        }
    }
}
