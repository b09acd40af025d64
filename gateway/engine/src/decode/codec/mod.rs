//! Vendor codecs in JavaScript: bytes in, an object out, which is then read like a JSON payload.
//!
//! A codec has the interface of The Things Stack and ChirpStack and runs unchanged, in QuickJS without modules, files,
//! network, timers or a clock. Its heap, its stack, the length of its answer and the time that it takes are limited;
//! time is counted in interrupts, so that the limit strikes at the same place on every machine. A frame that hits one is
//! undecoded, with the reason. `docs/decisions/0012-codecs-answer-as-if-asked-first.md` says how every
//! frame comes to find the codec as the first one did.
//!
//! QuickJS stays on its thread, so every thread that decodes has machines of its own.

mod exports;
mod machine;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use kerbside_model::profile::{CodecFormat, PayloadFormat, Point, Profile};
use kerbside_model::{Timestamp, UndecodedReason};

use super::convert::Converter;
use super::json::JsonPlan;
use super::{DecodeError, Message, Scratch, Told};
use machine::{Answer, BuildError, Call, Machine, Ran};

/// Machines that a thread keeps ready; each takes about 0.6 MiB. A codec beyond that is compiled anew for each frame.
const MACHINES_MAX: usize = 32;

/// How the frames of a profile with a codec are read.
#[derive(Debug)]
pub(super) struct CodecPlan {
    format: Arc<CodecFormat>,
    json: JsonPlan,
}

impl CodecPlan {
    pub(super) fn new(points: &[Point], format: &Arc<CodecFormat>) -> CodecPlan {
        CodecPlan { format: Arc::clone(format), json: JsonPlan::new(points, &format.document) }
    }

    /// Asks the codec, and reads its data into `scratch`, which has just begun. What it warns of is remarked.
    pub(super) fn read(
        &self,
        bytes: &[u8],
        message: &Message<'_>,
        converters: &[Converter],
        scratch: &mut Scratch,
    ) -> Result<Told, DecodeError> {
        if bytes.is_empty() && message.object.is_some() {
            let detail =
                "the envelope holds only what the network server decoded, and the codec reads bytes".to_owned();
            return Err(DecodeError { reason: UndecodedReason::Malformed, detail });
        }
        let port = message.port.unwrap_or(self.format.port);
        let call = Call { bytes, port, time_ms: message.received_at.0 };
        let answer = MACHINES.with_borrow_mut(|machines| machines.ask(&self.format, &call));
        let data = answer.data.map_err(|detail| DecodeError { reason: UndecodedReason::Codec, detail })?;
        let told = self.json.read(data.as_bytes(), converters, scratch);
        if !answer.warnings.is_empty() {
            scratch.remark(|| format!("the codec warns: {}", answer.warnings));
        }
        told.map_err(|detail| DecodeError { reason: UndecodedReason::Malformed, detail })
    }
}

/// What a codec made of a frame, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecTrace {
    /// Its data as JSON, or why there are none.
    pub data: Result<String, String>,
    /// What it warns of, on one line; mostly empty.
    pub warnings: String,
    /// What it wrote to the console.
    pub console: String,
    /// Interrupts that it took, of about 10,000 branches and calls each.
    pub interrupts: u32,
}

/// Asks the codec of a profile about one frame; `None` when the profile has none.
pub fn trace_codec(profile: &Profile, bytes: &[u8], port: Option<u8>, received_at: Timestamp) -> Option<CodecTrace> {
    let PayloadFormat::Codec(format) = &profile.payload else { return None };
    let call = Call { bytes, port: port.unwrap_or(format.port), time_ms: received_at.0 };
    let Answer { data, warnings, console, interrupts, .. } = ask_new(format, &call).0;
    Some(CodecTrace { data, warnings, console, interrupts })
}

/// For tests from outside.
pub mod fuzzing {
    use super::{Answer, Call, CodecTrace, MACHINES, PayloadFormat, Profile, Timestamp};

    /// Asks the codec of a profile as a running gateway does: with the machine that answered the frames before.
    pub fn ask_codec(profile: &Profile, bytes: &[u8], port: u8, received_at: Timestamp) -> Option<CodecTrace> {
        let PayloadFormat::Codec(format) = &profile.payload else { return None };
        let call = Call { bytes, port, time_ms: received_at.0 };
        let Answer { data, warnings, console, interrupts, .. } =
            MACHINES.with_borrow_mut(|machines| machines.ask(format, &call));
        Some(CodecTrace { data, warnings, console, interrupts })
    }
}

/// What is wrong with the script of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecProblem {
    /// The line of the script, where one is known.
    pub line: Option<u32>,
    /// In words.
    pub what: String,
}

/// Compiles the script of a profile and says what is wrong with it; `None` when it compiles, and for other profiles.
pub fn check_codec(profile: &Profile) -> Option<CodecProblem> {
    let PayloadFormat::Codec(format) = &profile.payload else { return None };
    let BuildError { what, line } = Machine::build(format).err()?;
    Some(CodecProblem { line, what })
}

thread_local! {
    static MACHINES: RefCell<Machines> = RefCell::default();
}

/// The machines of a thread, the one that was used last in front.
#[derive(Default)]
struct Machines(VecDeque<(Arc<CodecFormat>, Machine)>);

impl Machines {
    /// Asks a codec about a frame. The answer is that of a new machine, whatever the ones at hand have been through.
    fn ask(&mut self, format: &Arc<CodecFormat>, call: &Call<'_>) -> Answer {
        if let Some(machine) = self.take(format)
            && let Ran::Answered(answer, is_fit) = machine.run(call)
        {
            if is_fit {
                self.keep(format, machine);
            }
            return answer;
        }
        let (answer, machine) = ask_new(format, call);
        if let Some(machine) = machine {
            self.keep(format, machine);
        }
        answer
    }

    fn take(&mut self, format: &Arc<CodecFormat>) -> Option<Machine> {
        // After a change of the site the same codec may lie elsewhere.
        let is_same = |known: &Arc<CodecFormat>| Arc::ptr_eq(known, format) || known.runs_like(format);
        let position = self.0.iter().position(|(known, _)| is_same(known))?;
        self.0.remove(position).map(|(_, machine)| machine)
    }

    fn keep(&mut self, format: &Arc<CodecFormat>, machine: Machine) {
        self.0.truncate(MACHINES_MAX - 1);
        self.0.push_front((Arc::clone(format), machine));
    }
}

/// The answer of a new machine, and the machine if it is fit for another frame.
fn ask_new(format: &CodecFormat, call: &Call<'_>) -> (Answer, Option<Machine>) {
    let machine = match Machine::build(format) {
        Ok(machine) => machine,
        Err(BuildError { what, line }) => {
            let line = line.map_or_else(String::new, |line| format!(" (line {line})"));
            return (machine::refusal(format!("the codec does not compile: {what}{line}"), 0), None);
        }
    };
    match machine.run(call) {
        Ran::Answered(answer, true) => (answer, Some(machine)),
        Ran::Answered(answer, false) | Ran::Doubtful(answer) => (answer, None),
    }
}
