//! The bodies of the fuzz targets: each takes bytes from outside and panics when the gateway's answer is wrong.
//!
//! `fuzz/` runs them for long with new bytes; `cargo test` runs them over `corpus/`, where every find gets a file.
//! Nothing here is part of the gateway; no metrics.

mod batch;
mod codec;
mod envelope;
mod formats;
mod inventory;
mod json;
mod link;
mod mqtt;
mod profiles;
mod rain;
mod recording;
mod registers;
mod rules;
mod sparkplug;
mod street;
mod topics;

pub use batch::batch;
pub use codec::codec;
pub use envelope::envelope;
pub use formats::{binary, cbor, csv};
pub use inventory::inventory;
pub use json::json;
pub use link::link;
pub use mqtt::mqtt;
pub use profiles::profiles;
pub use rain::rain;
pub use recording::recording;
pub use registers::registers;
pub use rules::rules;
pub use sparkplug::sparkplug;
pub use topics::topics;

/// A target, which panics when an answer is wrong.
pub type Target = fn(&[u8]);

/// Every target under the name of its corpus and of its program in `fuzz/`.
pub const TARGETS: [(&str, Target); 17] = [
    ("batch", batch),
    ("codec", codec),
    ("binary", binary),
    ("cbor", cbor),
    ("csv", csv),
    ("envelope", envelope),
    ("inventory", inventory),
    ("json", json),
    ("link", link),
    ("mqtt", mqtt),
    ("profiles", profiles),
    ("rain", rain),
    ("recording", recording),
    ("registers", registers),
    ("rules", rules),
    ("sparkplug", sparkplug),
    ("topics", topics),
];
