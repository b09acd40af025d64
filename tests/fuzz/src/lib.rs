//! The bodies of the fuzz targets: each takes bytes from outside and panics when the gateway's answer is wrong.
//!
//! `fuzz/` runs them for long with new bytes; `cargo test` runs them over `corpus/`, where every find gets a file.
//! Nothing here is part of the gateway; no metrics.

mod batch;
mod json;
mod mqtt;
mod street;
mod topics;

pub use batch::batch;
pub use json::json;
pub use mqtt::mqtt;
pub use topics::topics;

/// A target, which panics when an answer is wrong.
pub type Target = fn(&[u8]);

/// Every target under the name of its corpus and of its program in `fuzz/`.
pub const TARGETS: [(&str, Target); 4] = [("batch", batch), ("json", json), ("mqtt", mqtt), ("topics", topics)];
