//! The middle of the gateway: decode, quality, detect, alarms, cases, duty.
//!
//! Turns batches of inputs into effects, synchronously and deterministically: [`Engine::step`] reads no clock, does no
//! I/O, draws no random number and logs nothing. Its state survives a crash as a snapshot plus the batches after it.
//! This crate's Cargo.toml has no tokio, no SQLite and no HTTP: that is the proof.

mod adopt;
mod again;
mod alarms;
mod babble;
mod budget;
mod carry;
mod cases;
mod change;
mod claim;
mod clocks;
mod conditions;
pub mod decode;
mod detect;
mod device;
mod drift;
mod due;
mod duplicates;
mod engine;
mod evidence;
mod explain;
mod gone;
mod grading;
mod grouping;
mod incident_text;
mod incident_view;
mod incidents;
mod kin;
mod last;
mod learners;
mod linkage;
mod local;
mod losses;
mod masks;
pub mod probe;
pub mod quality;
mod rain;
pub mod rehearsal;
mod rows;
pub mod rule_test;
pub mod sample;
mod snapshot;
mod surroundings;
#[cfg(test)]
mod tests;
mod timers;
mod together;
mod uplinks;
mod view;
mod walk;
mod walk_test;
mod weather;

pub use engine::Engine;
pub use incident_view::{Incident, IncidentDetail, IncidentMember};
pub use learners::LearnerTally;
pub use masks::MASKS_MAX;
pub use snapshot::{ENGINE_VERSION, RestoreError};
pub use view::{DeviceView, ReadingView};
pub use walk::Seen;
pub use walk_test::{
    TriggerView, WALK_DEVICES_MAX, WALK_MAX, WALK_PHOTO_CHARACTERS_MAX, WalkDeviceView, WalkOutcome, WalkView,
};
