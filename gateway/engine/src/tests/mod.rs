//! The engine as a whole: frames in, alarms and cases out.

mod again;
mod cases;
mod claims;
mod clock;
mod determinism;
mod edges;
mod invariants;
mod lifecycle;
mod senders;
mod support;
