//! The one HTTP client: timeouts, our crypto provider, authorities from a file, no cookies, no redirects to elsewhere.

use std::path::Path;
use std::time::Duration;

use kerbside_runtime::tls::{TlsError, TlsFiles, client_config};

/// Answers larger than this are cut: no platform needs more to say yes or no.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Certificates cannot be used.
    #[error("prepare TLS")]
    Tls(#[source] TlsError),
    /// The client library refuses its settings.
    #[error("prepare the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// A client with a limit on how long one request may take in all.
pub fn client(timeout: Duration, ca: Option<&Path>) -> Result<reqwest::Client, HttpError> {
    let files = TlsFiles { ca: ca.map(Path::to_owned), ..TlsFiles::default() };
    let tls = client_config(&files).map_err(HttpError::Tls)?;
    reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("kerbside/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(HttpError::Client)
}

/// The body of an answer as text, cut at [`ANSWER_BYTES_MAX`].
pub async fn text(mut response: reqwest::Response) -> Result<String, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = ANSWER_BYTES_MAX.saturating_sub(body.len());
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if room == 0 {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}
