//! The words of Kerbside as types.
//!
//! Turns text that people write (profiles, inventory) into checked values, and gives every other crate the
//! vocabulary it shares: frames, readings, alarms, cases, inputs and effects of the engine, and the ports at
//! which siblings meet. There is no I/O, no clock and no randomness here.

pub mod alarm;
pub mod case;
pub mod document;
pub mod effects;
pub mod envelope;
pub mod evidence;
pub mod frame;
pub mod frames;
pub mod geo;
pub mod id;
pub mod incident;
pub mod input;
pub mod inventory;
mod names;
pub mod port;
pub mod profile;
pub mod reading;
pub mod site;
pub mod sparkplug;
pub mod time;
pub mod topic;
pub mod vocabulary;

pub use alarm::{Alarm, AlarmState, Severity, Suppression};
pub use case::{Case, CaseEvent, CaseReport, CaseState, Notice, NoticeReason, OutboxRow, OutboxState, OutboxTask};
pub use effects::{
    Audit, Counts, DuplicateReason, Effects, FrameNote, Noted, OutboxChange, ReadAgain, TimeRefusal, Undecoded,
    UndecodedReason,
};
pub use envelope::{EnvelopeFormat, EnvelopeRule, IgnoredEvent, LinkField, LinkQuality, is_covered};
pub use evidence::{Evidence, Ground};
pub use frame::{ByteText, Frame, Payload, RegisterBlock, RegisterFailure, RegisterRead, RegisterTable};
pub use frames::{FrameFlags, FrameView, Frames, PayloadView, Tag, Tags};
pub use input::{
    Delivery, DeliveryOutcome, FrameAgain, GatewayCondition, Input, MaskKind, OperatorAction, PlatformStatus,
    SourceStatus, StoredInput, UntaggedAgain,
};
pub use inventory::{Datum, Device, ServiceState};
pub use profile::Profile;
pub use reading::{Cause, Flag, MAGNITUDE_MAX, Observations, PointReading, Quality, Value};
pub use site::{DeviceIndex, Site};
pub use time::Timestamp;
