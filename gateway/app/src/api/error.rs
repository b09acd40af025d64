//! Errors of the API: a status, a word for programs, a sentence for people.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kerbside_runtime::Chain;

/// What went wrong with a request.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(super) fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError { status: StatusCode::BAD_REQUEST, code: "bad_request", message: message.into() }
    }

    /// The request's body or parameters are not what this path takes.
    pub(super) fn unreadable(status: StatusCode, message: String) -> ApiError {
        ApiError { status, code: "bad_request", message }
    }

    pub(super) fn not_found(what: &str, id: &str) -> ApiError {
        ApiError { status: StatusCode::NOT_FOUND, code: "not_found", message: format!("there is no {what} {id:?}") }
    }

    /// An account that may only look wants to do something.
    pub(super) fn forbidden(account: &str) -> ApiError {
        let message = format!(
            "the account {account} may look and not act: give it `role: operator` in gateway.yaml, or use another one \
             (该账号只能查看，不能操作)"
        );
        ApiError { status: StatusCode::FORBIDDEN, code: "forbidden", message }
    }

    pub(super) fn conflict(message: impl Into<String>) -> ApiError {
        ApiError { status: StatusCode::CONFLICT, code: "conflict", message: message.into() }
    }

    /// The gateway is stopping or its store does not answer.
    pub(super) fn unavailable(error: &dyn std::error::Error) -> ApiError {
        tracing::warn!(error = %Chain(error), "a request could not be served");
        let message = format!("{}", Chain(error));
        ApiError { status: StatusCode::SERVICE_UNAVAILABLE, code: "unavailable", message }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": { "code": self.code, "message": self.message } });
        (self.status, Json(body)).into_response()
    }
}

/// The answer to a path that is not served.
pub(super) async fn no_such_path(uri: axum::http::Uri) -> ApiError {
    ApiError::not_found("path", uri.path())
}
