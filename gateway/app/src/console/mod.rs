//! wip: the console's assets
use axum::http::StatusCode;
/// wip
pub async fn page() -> StatusCode { StatusCode::NOT_FOUND }
/// wip
pub async fn file() -> StatusCode { StatusCode::NOT_FOUND }
