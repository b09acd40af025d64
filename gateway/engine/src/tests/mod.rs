//! The engine as a whole: frames in, alarms and cases out.

mod cases;
mod determinism;
mod edges;
mod invariants;
mod lifecycle;
mod support;
