//! The engine as a whole: frames in, alarms and cases out.

mod again;
mod cases;
mod change;
mod claims;
mod clock;
mod codecs;
mod covers;
mod determinism;
mod edges;
mod envelopes;
mod incidents;
mod invariants;
mod lifecycle;
mod losses;
mod quality;
mod reread;
mod rules;
mod senders;
mod sparkplug;
mod support;
mod surroundings;
mod tags;
mod together;
mod unusual;
mod upkeep;
mod walk;
