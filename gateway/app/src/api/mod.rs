//! HTTP: health, metrics, REST, the page on which officers sign, the console.
//!
//! | path | what |
//! |---|---|
//! | `GET /` | console |
//! | `GET /health/live`, `/health/ready` | the process runs; it can accept and commit, with what is degraded |
//! | `GET /metrics` | Prometheus |
//! | `GET /api/v1/status` | counts and components, for the console |
//! | `GET /api/v1/devices`, `/devices/{id}` | devices as they are now |
//! | `POST`, `DELETE /api/v1/devices/{id}/mask` | mask a device, lift its masks |
//! | `GET /api/v1/readings` | last readings |
//! | `GET /api/v1/frames` | frames as they arrive, with what they gave, as Server-Sent Events |
//! | `GET /api/v1/alarms`, `/alarms/{id}`; `POST /alarms/{id}/acknowledge` | alarms |
//! | `GET /api/v1/incidents`, `/incidents/{id}` | alarms with one cause |
//! | `GET, POST /api/v1/rain-signal` | the official rainstorm signal |
//! | `GET /api/v1/buses` | Modbus buses: share of time by unit, what is left alone and why |
//! | `POST /api/v1/modbus/read`, `/modbus/identify` | one question to a unit of a bus that is polled |
//! | `GET /walk` | what a walk test (现场核验) has seen, for the installer's phone |
//! | `GET`, `POST /api/v1/walk`; `POST /walk/finish`, `/walk/photo`; `GET /walk/report.html`, `/walk/report.csv` | walk test |
//! | `GET /api/v1/cases`, `/cases/{id}`; `POST /cases/{id}/move`, `/cases/{id}/sign` | cases |
//! | `GET /api/v1/profiles`, `/profiles/{name}` | profiles in use: version, hash, all that they say |
//! | `POST /api/v1/reload` | apply the configuration as it is on the disk now |
//! | `GET /api/v1/undecoded/{number}`; `POST /undecoded/replay` | undecoded frames, read again with today's profiles |
//! | `GET /api/v1/undecoded`, `/unknown-devices`, `/refused-points`, `/notices`, `/audit` | what was kept and done |
//! | `GET /api/openapi.json` | this list for machines |
//! | `GET`, `POST /s/{case}/{token}` | where an officer signs (签收) |

mod actions;
mod again;
mod auth;
mod buses;
mod error;
mod extract;
mod frames;
mod lists;
mod modbus;
mod openapi;
mod profiles;
mod reload;
mod sign_page;
mod system;
pub(crate) mod view;
mod walk;

pub(crate) use actions::wanted_state;
pub(crate) use again::{reason_named as undecoded_reason, try_page as try_undecoded};
pub(crate) use modbus::identification_view;
pub(crate) use view::{alarm as alarm_view, case as case_view, undecoded as undecoded_view};

use std::net::SocketAddr;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use kerbside_model::Site;
use kerbside_runtime::{Clock, Health, Intake, Metrics, Shutdown};
use kerbside_sinks::sign::SignLinks;
use kerbside_sources::modbus::Buses;
use kerbside_store::Store;
use tokio::net::TcpListener;

use crate::config::{Account, Lineages};
use crate::console;
use crate::live::Live;
use crate::pipeline::EngineHandle;
use crate::reload::ReloadHandle;
use crate::wiretap::FrameViews;

/// Bodies of requests are small forms.
const BODY_BYTES_MAX: usize = 64 << 10;

/// What the handlers use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiState {
    /// For what is stored.
    pub store: Store,
    /// For what is now.
    pub engine: EngineHandle,
    /// For what people do.
    pub intake: Intake,
    /// The gateway's time.
    pub clock: Clock,
    /// For `/metrics`.
    pub metrics: Metrics,
    /// For `/health`.
    pub health: Health,
    /// Name and devices of the site.
    pub site: Live<Site>,
    /// Who may come in; empty only on loopback.
    pub accounts: Live<Vec<Account>>,
    /// What profiles extend.
    pub lineages: Live<Lineages>,
    /// Applies a changed configuration.
    pub reload: ReloadHandle,
    /// Modbus buses that run.
    pub buses: Buses,
    /// For frames as they arrive.
    pub frames: FrameViews,
    /// Checks the links in messages.
    pub sign_links: SignLinks,
    /// The officers' time zone.
    pub zone: jiff::tz::TimeZone,
    /// How many times faster than real the time runs; 1 but in a demonstration.
    pub speed: f64,
}

/// The listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}: choose another address with the key `listen`, or stop what uses it")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Opens the listener, so that a taken port is known at start.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, source })
}

/// Serves until `shutdown`.
pub async fn serve(listener: TcpListener, state: ApiState, shutdown: Shutdown) {
    let served = axum::serve(listener, router(state)).with_graceful_shutdown(shutdown.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the API has ended");
    }
}

/// Every route.
pub fn router(state: ApiState) -> Router {
    let rest = Router::new()
        .route("/status", get(system::status))
        .route("/devices", get(lists::devices))
        .route("/devices/{id}", get(lists::device))
        .route("/devices/{id}/mask", post(actions::mask).delete(actions::unmask))
        .route("/readings", get(lists::readings))
        .route("/frames", get(frames::watch))
        .route("/walk", get(walk::show).post(walk::start))
        .route("/walk/finish", post(walk::finish))
        .route("/walk/photo", post(walk::photo))
        .route("/walk/report.html", get(walk::report_html))
        .route("/walk/report.csv", get(walk::report_csv))
        .route("/alarms", get(lists::alarms))
        .route("/alarms/{id}", get(lists::alarm))
        .route("/alarms/{id}/acknowledge", post(actions::acknowledge))
        .route("/incidents", get(lists::incidents))
        .route("/incidents/{id}", get(lists::incident))
        .route("/rain-signal", get(actions::rain_signal).post(actions::tell_rain_signal))
        .route("/buses", get(buses::list))
        .route("/modbus/read", post(modbus::read))
        .route("/modbus/identify", post(modbus::identify))
        .route("/cases", get(lists::cases))
        .route("/cases/{id}", get(lists::case))
        .route("/cases/{id}/move", post(actions::move_case))
        .route("/cases/{id}/sign", post(actions::sign))
        .route("/undecoded", get(lists::undecoded))
        .route("/undecoded/replay", post(again::replay))
        .route("/undecoded/{number}", get(lists::undecoded_frame))
        .route("/reload", post(reload::reload))
        .route("/profiles", get(profiles::profiles))
        .route("/profiles/{name}", get(profiles::profile))
        .route("/unknown-devices", get(lists::unknown_devices))
        .route("/refused-points", get(lists::refused_points))
        .route("/notices", get(lists::notices))
        .route("/audit", get(lists::audit))
        .fallback(error::no_such_path);
    let guarded = Router::new()
        .route("/", get(console::page))
        .route("/console/{file}", get(console::file))
        .route("/walk", get(walk::phone))
        .route("/metrics", get(system::metrics))
        .route("/api/openapi.json", get(openapi::document))
        .nest("/api/v1", rest)
        .fallback(error::no_such_path)
        .layer(middleware::from_fn_with_state(state.clone(), auth::guard));
    // Probes and officers' phones have no account.
    Router::new()
        .route("/health/live", get(system::live))
        .route("/health/ready", get(system::ready))
        .route("/s/{case}/{token}", get(sign_page::show).post(sign_page::sign))
        .merge(guarded)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(auth::harden))
        .with_state(state)
}
