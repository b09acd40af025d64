//! The console: the page that an installer or a duty officer opens on the gateway itself.
//!
//! Turns files that are part of the binary into answers; the page itself asks the API and so needs no state here.
//! Nothing of it lives past a restart. It has no metrics. Plain modules without a build step: the files are what the
//! browser gets.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// One file of the page.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    body: &'static str,
}

const PAGE: usize = 0;

const ASSETS: [Asset; 8] = [
    Asset { name: "index.html", content_type: "text/html; charset=utf-8", body: include_str!("index.html") },
    Asset { name: "console.css", content_type: "text/css; charset=utf-8", body: include_str!("console.css") },
    Asset { name: "console.js", content_type: "text/javascript; charset=utf-8", body: include_str!("console.js") },
    Asset { name: "frames.js", content_type: "text/javascript; charset=utf-8", body: include_str!("frames.js") },
    Asset { name: "walk.js", content_type: "text/javascript; charset=utf-8", body: include_str!("walk.js") },
    Asset { name: "map.js", content_type: "text/javascript; charset=utf-8", body: include_str!("map.js") },
    Asset { name: "words.js", content_type: "text/javascript; charset=utf-8", body: include_str!("words.js") },
    Asset { name: "icon.svg", content_type: "image/svg+xml", body: include_str!("icon.svg") },
];

/// A hash of each file, so that a browser asks again after an upgrade and fetches nothing otherwise.
static ETAGS: LazyLock<[HeaderValue; ASSETS.len()]> = LazyLock::new(|| ASSETS.each_ref().map(etag));

/// The page.
pub async fn page(headers: HeaderMap) -> Response {
    answer(PAGE, &headers)
}

/// A file that the page refers to.
pub async fn file(Path(file): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS.iter().position(|asset| asset.name == file) {
        Some(position) => answer(position, &headers),
        None => (StatusCode::NOT_FOUND, "the console has no such file").into_response(),
    }
}

fn answer(position: usize, request: &HeaderMap) -> Response {
    let etag = ETAGS[position].clone();
    let caching = [(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")), (header::ETAG, etag.clone())];
    if knows(request, &etag) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let asset = &ASSETS[position];
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type))];
    (caching, content_type, asset.body).into_response()
}

/// Whether `If-None-Match` names the tag. Proxies that compress make tags weak, which changes nothing for us.
fn knows(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let values = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    tags.any(|tag| tag == "*" || tag.as_bytes() == etag.as_bytes())
}

fn etag(asset: &Asset) -> HeaderValue {
    let digest = Sha256::digest(asset.body);
    let text: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("\"{text}\"")).expect("hexadecimal digits in quotes are a header value")
}

#[cfg(test)]
mod tests;
