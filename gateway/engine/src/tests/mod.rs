//! The engine as a whole: frames in, alarms and cases out.

mod again;
mod cases;
mod change;
mod claims;
mod clock;
mod codecs;
mod determinism;
mod edges;
mod envelopes;
mod incidents;
mod invariants;
mod lifecycle;
mod quality;
mod reread;
mod rules;
mod senders;
mod sparkplug;
mod support;
mod walk;
