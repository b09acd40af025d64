//! Who may come in. Without accounts the gateway listens on loopback only, and everybody on the machine may.

use std::net::IpAddr;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::ApiState;
use super::error::ApiError;
use crate::config::Role;

/// Who a request comes from.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Name of the account; none where there are no accounts.
    pub(super) name: Option<String>,
    /// What it may do.
    pub(super) role: Role,
}

impl Caller {
    /// Somebody on this machine, when there are no accounts.
    const LOCAL: Caller = Caller { name: None, role: Role::Operator };
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Caller, Self::Rejection> {
        Ok(parts.extensions.get::<Caller>().cloned().unwrap_or(Caller::LOCAL))
    }
}

/// Lets a request pass when its account and password are right, or when there are no accounts.
pub(super) async fn guard(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    if !is_from_here(&request) {
        return (StatusCode::FORBIDDEN, "a page of another site may not change anything here").into_response();
    }
    if state.accounts.get().is_empty() {
        if !is_addressed_here(&request) {
            let text =
                "without accounts only this machine may change anything: open it as localhost, or set `accounts`";
            return (StatusCode::FORBIDDEN, text).into_response();
        }
        return next.run(request).await;
    }
    match caller(&state, request.headers()) {
        Some(Caller { name, role: Role::Viewer }) if !is_looking(request.method()) => {
            ApiError::forbidden(&name.unwrap_or_default()).into_response()
        }
        Some(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        None => {
            let challenge = [(header::WWW_AUTHENTICATE, r#"Basic realm="kerbside", charset="UTF-8""#)];
            (StatusCode::UNAUTHORIZED, challenge, "name and password of an account are needed").into_response()
        }
    }
}

/// Requests that change nothing and ask no device.
fn is_looking(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// A page of another site can make a browser send simple forms, but no JSON and no other methods.
fn is_from_here(request: &Request) -> bool {
    if request.method() != Method::POST {
        return true;
    }
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.starts_with("application/json"))
}

/// Whether a request that changes something was sent to this machine by its address or as localhost. A page of another
/// site can have its own name lead here, and then counts as a page of ours.
fn is_addressed_here(request: &Request) -> bool {
    if is_looking(request.method()) {
        return true;
    }
    let Some(host) = request.headers().get(header::HOST) else { return true };
    let host = host.to_str().unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

fn caller(state: &ApiState, headers: &HeaderMap) -> Option<Caller> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let decoded = STANDARD.decode(value.strip_prefix("Basic ")?.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (name, password) = text.split_once(':')?;
    let accounts = state.accounts.get();
    let account = accounts.iter().find(|account| account.name == name)?;
    is_same(account.password.expose(), password).then(|| Caller { name: Some(name.to_owned()), role: account.role })
}

/// Compares digests under a fixed key, so that the time taken tells nothing about the password.
fn is_same(expected: &str, given: &str) -> bool {
    let digest = |text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"kerbside password").expect("any key length will do");
        mac.update(text.as_bytes());
        mac
    };
    digest(expected).verify_slice(&digest(given).finalize().into_bytes()).is_ok()
}

/// Headers that keep pages from being framed, sniffed or cached.
pub(super) async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let policy = "default-src 'self'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_accounts_a_page_whose_name_leads_to_this_machine_changes_nothing() {
        let sent = |method: Method, host: Option<&str>| {
            let mut request = Request::builder().method(method);
            if let Some(host) = host {
                request = request.header(header::HOST, host);
            }
            request.body(axum::body::Body::empty()).unwrap()
        };
        for host in
            ["127.0.0.1:8080", "127.0.0.1", "[::1]:8080", "[::1]", "localhost", "LocalHost:80", "gate.localhost:80"]
        {
            assert!(is_addressed_here(&sent(Method::POST, Some(host))), "{host}");
        }
        for host in
            ["evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "notlocalhost", "[::1", ""]
        {
            assert!(!is_addressed_here(&sent(Method::POST, Some(host))), "{host}");
            assert!(!is_addressed_here(&sent(Method::DELETE, Some(host))), "{host}");
            assert!(is_addressed_here(&sent(Method::GET, Some(host))), "{host}: who looks changes nothing");
        }
        assert!(is_addressed_here(&sent(Method::POST, None)), "no browser leaves it out");
    }

    #[test]
    fn passwords_are_compared_whole() {
        assert!(is_same("geheim", "geheim"));
        assert!(!is_same("geheim", "geheimnis"));
        assert!(!is_same("geheim", ""));
    }
}
