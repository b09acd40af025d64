//! One codec in one JavaScript context: built, asked frame by frame, and thrown away when it is not as it was.
//!
//! Everything that a frame's answer could depend on is the same for every frame: the clock, the random numbers, the
//! codec's variables and what it may change of the language (host.js), the bytes that the heap holds at the start, and
//! the room on the stack. What cannot be made the same to the last is QuickJS's own countdown between two interrupts and
//! the size of its tables; so an answer that came close to a limit does not count, and a new machine is asked.

use std::cell::Cell;
use std::rc::Rc;

use kerbside_model::profile::{CodecFormat, CodecOutput};
use rquickjs::allocator::RustAllocator;
use rquickjs::context::EvalOptions;
use rquickjs::{Array, Context, Ctx, Exception, Function, Object, Persistent, Runtime, Value};

use super::exports::script_of;

/// What a codec may declare; host.js calls them.
const FUNCTIONS: [&str; 6] = ["decodeUplink", "normalizeUplink", "Decode", "Decoder", "Converter", "Validator"];
const WORLD: &str = include_str!("world.js");
const HOST: &str = include_str!("host.js");
/// What the codec calls itself in its stack traces.
const FILE: &str = "codec.js";
/// Room on the stack for the codec, in bytes. Threads of the gateway have 2 MiB; QuickJS's own default is 256 KiB, which
/// is too little for long chains of `else if` where C is compiled without optimisation.
const STACK_BYTES_MAX: usize = 512 * 1024;
/// A script of the greatest size takes 40 MiB at most while it is compiled.
const SETUP_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The data of one frame as JSON. Real ones are below 4 KiB; a day of history is 20 KiB.
const OUTPUT_CHARS_MAX: u32 = 65_536;
/// What a codec says in warnings, errors and exceptions.
const MESSAGE_CHARS_MAX: u32 = 300;
/// Cycles are collected when a frame has left so many bytes.
const GARBAGE_BYTES_MAX: usize = 1024 * 1024;
/// By so much the heap may differ before a frame: tables of QuickJS grow and shrink.
const SLACK_BYTES: i64 = 4 * 1024;
/// A machine that was used before gets so much less, so that a frame that fits into it fits into a new one too.
const RESERVE_BYTES: usize = 64 * 1024;

/// What goes into a codec.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) port: u8,
    /// In ms since 1970: what the codec's clock shows.
    pub(super) time_ms: i64,
}

/// What comes out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The data as JSON, or why there are none.
    pub(super) data: Result<String, String>,
    /// What it remarks, on one line; mostly empty.
    pub(super) warnings: String,
    /// What it wrote to the console.
    pub(super) console: String,
    /// How often QuickJS asked whether to go on: about every 10,000 branches and calls.
    pub(super) interrupts: u32,
    /// Its heap was full.
    is_full: bool,
}

/// A script that does not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(super) struct BuildError {
    pub(super) what: String,
    pub(super) line: Option<u32>,
}

/// Counts interrupts, and ends what goes on for too long.
#[derive(Debug, Default)]
struct Meter {
    count: Cell<u32>,
    budget: Cell<u32>,
}

impl Meter {
    fn start(&self, budget: u32) {
        self.count.set(0);
        self.budget.set(budget);
    }

    /// Whether to stop now.
    fn tick(&self) -> bool {
        self.count.set(self.count.get().saturating_add(1));
        self.is_over()
    }

    fn is_over(&self) -> bool {
        self.count.get() > self.budget.get()
    }

    /// Whether another start of the countdown could have made the difference.
    fn is_close(&self) -> bool {
        self.count.get() >= self.budget.get()
    }
}

/// A context with the codec in it.
pub(super) struct Machine {
    // What belongs to a context goes before it, or QuickJS aborts.
    run: Persistent<Function<'static>>,
    clean: Persistent<Function<'static>>,
    context: Context,
    runtime: Runtime,
    meter: Rc<Meter>,
    format: Format,
    /// Bytes on the heap before a frame.
    heap_bytes: i64,
    /// Where the stack was when the machine was built.
    stack: usize,
    /// It has answered for no frame yet.
    is_new: Cell<bool>,
}

/// What a machine needs of the codec from frame to frame.
#[derive(Debug)]
struct Format {
    variables: Vec<(String, String)>,
    heap_bytes_max: usize,
    budget: u32,
}

/// How a frame went.
pub(super) enum Ran {
    /// An answer, and whether the machine is fit for the next frame.
    Answered(Answer, bool),
    /// A limit was hit, or nearly so: only what a new machine says counts, and this one is of no use any more.
    Doubtful(Answer),
}

impl Machine {
    /// Compiles a codec and shows it an empty frame: the first frame of all makes tables grow that stay so. What it
    /// gives is of no interest, unless the codec is spoilt by it; then it begins without.
    pub(super) fn build(format: &CodecFormat) -> Result<Machine, BuildError> {
        let mut machine = Machine::build_cold(format)?;
        let is_answered = matches!(machine.run(&Call { bytes: &[], port: 1, time_ms: 0 }), Ran::Answered(..));
        if !(is_answered && machine.is_clean()) {
            return Machine::build_cold(format);
        }
        machine.settle();
        machine.is_new.set(true);
        Ok(machine)
    }

    fn build_cold(format: &CodecFormat) -> Result<Machine, BuildError> {
        let stack = stack_now();
        let meter = Rc::new(Meter::default());
        meter.start(u32::MAX);
        let broken = |error: rquickjs::Error| BuildError { what: format!("no room for a codec: {error}"), line: None };
        let runtime = Runtime::new_with_alloc(RustAllocator).map_err(broken)?;
        runtime.set_memory_limit(SETUP_BYTES_MAX);
        runtime.set_max_stack_size(STACK_BYTES_MAX);
        let ticking = Rc::clone(&meter);
        runtime.set_interrupt_handler(Some(Box::new(move || ticking.tick())));
        let context = Context::full(&runtime).map_err(broken)?;
        let (run, clean) =
            context.with(|ctx| set_up(&ctx, format).map_err(|error| build_error(&ctx, &error, &format.source)))?;
        let heap_bytes_max = usize::try_from(format.heap_bytes_max).unwrap_or(usize::MAX);
        let own = Format { variables: format.variables.clone(), heap_bytes_max, budget: format.budget };
        let mut machine =
            Machine { run, clean, context, runtime, meter, format: own, heap_bytes: 0, stack, is_new: Cell::new(true) };
        machine.settle();
        Ok(machine)
    }

    /// Takes what lies on the heap now for what belongs there.
    fn settle(&mut self) {
        self.runtime.run_gc();
        self.heap_bytes = self.runtime.memory_usage().malloc_size;
    }

    /// Asks the codec about one frame.
    pub(super) fn run(&self, call: &Call<'_>) -> Ran {
        let is_new = self.is_new.replace(false);
        let base = usize::try_from(self.heap_bytes).unwrap_or(0);
        let reserve = if is_new { 0 } else { RESERVE_BYTES };
        self.runtime.set_memory_limit((base + self.format.heap_bytes_max).saturating_sub(reserve));
        self.runtime.set_gc_threshold(base + GARBAGE_BYTES_MAX);
        let Some(stack_bytes) = (STACK_BYTES_MAX + self.stack).checked_sub(stack_now()) else {
            return Ran::Doubtful(refusal("the stack is elsewhere".to_owned(), 0));
        };
        self.runtime.set_max_stack_size(stack_bytes);
        self.meter.start(self.format.budget);
        let answer = self.context.with(|ctx| self.ask(&ctx, call));
        let interrupts = self.meter.count.get();
        let Some(mut answer) = answer else {
            let limit = if self.meter.is_over() { self.never_ends() } else { self.no_room() };
            return Ran::Doubtful(refusal(limit, interrupts));
        };
        answer.interrupts = interrupts;
        if self.meter.is_close() || answer.is_full {
            return Ran::Doubtful(answer);
        }
        let is_fit = self.is_clean() && self.is_as_small();
        Ran::Answered(answer, is_fit)
    }

    fn never_ends(&self) -> String {
        let budget = self.format.budget;
        format!("the codec does not end: stopped after {budget} interrupts of about 10,000 branches and calls each")
    }

    fn no_room(&self) -> String {
        format!("the codec takes more memory than {} KiB", self.format.heap_bytes_max / 1024)
    }

    /// `None` when something came out that no codec can catch.
    fn ask(&self, ctx: &Ctx<'_>, call: &Call<'_>) -> Option<Answer> {
        let answer = self.ask_js(ctx, call);
        if answer.is_err() {
            drop(ctx.catch());
        }
        answer.ok()
    }

    fn ask_js(&self, ctx: &Ctx<'_>, call: &Call<'_>) -> rquickjs::Result<Answer> {
        let run = self.run.clone().restore(ctx)?;
        let bytes = Array::new(ctx.clone())?;
        for (position, byte) in call.bytes.iter().enumerate() {
            bytes.set(position, *byte)?;
        }
        let variables = Object::new(ctx.clone())?;
        for (name, value) in &self.format.variables {
            variables.set(name.as_str(), value.as_str())?;
        }
        let answer: Array<'_> = run.call((bytes, call.port, call.time_ms as f64, seed(call), variables))?;
        let (kind, text): (u32, String) = (answer.get(0)?, answer.get(1)?);
        // host.js has the same numbers.
        let data = match kind {
            0 => Ok(text),
            1 => Err(format!("the codec refuses it: {text}")),
            2 => Err(format!("the codec failed: {text}")),
            4 => Err(self.no_room()),
            _ => Err(format!("the codec is of no use: {text}")),
        };
        let warnings: String = answer.get(2)?;
        let data = match data {
            Err(error) if !warnings.is_empty() => Err(format!("{error}; it warns: {warnings}")),
            data => data,
        };
        Ok(Answer { data, warnings, console: answer.get(3)?, interrupts: 0, is_full: kind == 4 })
    }

    /// Whether the next frame finds all that a codec can see as this one did; mends what can be mended.
    fn is_clean(&self) -> bool {
        self.meter.start(u32::MAX);
        self.runtime.set_memory_limit(SETUP_BYTES_MAX);
        if self.runtime.is_job_pending() {
            return false;
        }
        self.context.with(|ctx| {
            let clean = self.clean.clone().restore(&ctx).and_then(|clean| clean.call::<_, bool>(()));
            if clean.is_err() {
                drop(ctx.catch());
            }
            clean.unwrap_or(false)
        })
    }

    /// Whether the heap is as it was before the frame.
    fn is_as_small(&self) -> bool {
        let is_same = || (self.runtime.memory_usage().malloc_size - self.heap_bytes).abs() <= SLACK_BYTES;
        if is_same() {
            return true;
        }
        self.runtime.run_gc();
        is_same()
    }
}

pub(super) fn refusal(what: String, interrupts: u32) -> Answer {
    Answer { data: Err(what), warnings: String::new(), console: String::new(), interrupts, is_full: false }
}

/// Random numbers follow from the frame: FNV-1a over everything that the codec is told.
fn seed(call: &Call<'_>) -> i32 {
    let told = call.bytes.iter().copied().chain([call.port]).chain(call.time_ms.to_le_bytes());
    let hash = told.fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.cast_signed()
}

/// About where the stack ends. QuickJS knows only where it was when the machine was built.
#[inline(never)]
fn stack_now() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

type Functions = (Persistent<Function<'static>>, Persistent<Function<'static>>);

fn set_up(ctx: &Ctx<'_>, format: &CodecFormat) -> rquickjs::Result<Functions> {
    // First of all, so that what is wrong with it is said of it.
    let factory: Function<'_> = eval(ctx, FILE, wrapped(&format.source))?;
    let world: Object<'_> = eval(ctx, "world.js", WORLD.to_owned())?;
    let host: Function<'_> = eval(ctx, "host.js", HOST.to_owned())?;
    let limits = Object::new(ctx.clone())?;
    limits.set("outputChars", OUTPUT_CHARS_MAX)?;
    limits.set("messageChars", MESSAGE_CHARS_MAX)?;
    limits.set("file", FILE)?;
    limits.set("isNormalized", format.output == CodecOutput::Normalized)?;
    if let Some(named) = &format.named_values {
        limits.set("nameKey", named.name.as_str())?;
        limits.set("valueKey", named.value.as_str())?;
    }
    let machine: Object<'_> = host.call((world, factory, limits))?;
    let function = |name| -> rquickjs::Result<_> { Ok(Persistent::save(ctx, machine.get::<_, Function<'_>>(name)?)) };
    Ok((function("run")?, function("clean")?))
}

/// A function that makes the codec's functions anew. The first line stays the first: lines in messages are right.
fn wrapped(source: &str) -> String {
    let found = |name: &str| format!("{name}: typeof {name} === \"function\" ? {name} : undefined");
    let names = FUNCTIONS.map(found).join(", ");
    let source = script_of(source);
    format!(
        "(function () {{{source}\n;return {{{names}, driver: typeof driver === \"object\" ? driver : undefined}};}})"
    )
}

fn eval<'js, V: rquickjs::FromJs<'js>>(ctx: &Ctx<'js>, file: &str, source: String) -> rquickjs::Result<V> {
    let mut options = EvalOptions::default();
    // Codecs assign to variables that they never declared.
    options.strict = false;
    options.filename = Some(file.to_owned());
    ctx.eval_with_options(source, options)
}

fn build_error(ctx: &Ctx<'_>, error: &rquickjs::Error, source: &str) -> BuildError {
    let lines = u32::try_from(source.lines().count()).unwrap_or(u32::MAX);
    let thrown: Value<'_> = ctx.catch();
    let Some(exception) = thrown.as_object().and_then(|object| Exception::from_object(object.clone())) else {
        return BuildError { what: error.to_string(), line: None };
    };
    // What is missing at the end is missed behind it.
    let line = exception.stack().and_then(|stack| line_in(&stack)).map(|line| line.min(lines));
    BuildError { what: exception.message().unwrap_or_else(|| error.to_string()), line }
}

/// The line of the codec that a stack trace names first.
fn line_in(stack: &str) -> Option<u32> {
    let (_, rest) = stack.split_once(FILE)?;
    let digits: String = rest.strip_prefix(':')?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_codec_is_found_in_a_stack_trace() {
        assert_eq!(line_in("    at read (codec.js:12:5)\n    at decodeUplink (codec.js:3:1)\n"), Some(12));
        assert_eq!(line_in("    at run (host.js:12:5)\n"), None);
    }

    #[test]
    fn the_seed_follows_from_all_that_the_codec_is_told() {
        let call = Call { bytes: &[1, 2], port: 3, time_ms: 4 };
        let others = [
            Call { bytes: &[2, 1], ..call },
            Call { port: 4, ..call },
            Call { time_ms: 5, ..call },
            Call { bytes: &[1], ..call },
        ];
        for other in others {
            assert_ne!(seed(&call), seed(&other), "{other:?}");
        }
        assert_eq!(seed(&call), seed(&Call { ..call }));
    }
}
