//! Codecs: whatever a script does, and whatever bytes it is given, it answers every frame as if it were the first one.

use std::sync::LazyLock;

use kerbside_engine::decode::{CodecTrace, codec_fuzzing::ask_codec, trace_codec};
use kerbside_model::Timestamp;
use kerbside_model::document::Problems;
use kerbside_model::profile::{Profile, parse_profile_text_with};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// Statements nest no deeper.
const DEPTH_MAX: u32 = 4;
/// A script has no more statements; more would only be more of the same.
const STATEMENTS_MAX: usize = 24;

const PROFILE: &str = "
profile: codec
version: 1
kind: drain
vendor: Test
model: test
payload: {format: codec, script: codec.js, budget: 2, heap: 1MiB}
points:
  - {name: level_mm, path: distance}
samples:
  - {name: one, hex: '03 82 DC 05', readings: {level_mm: 1500}}
  - {name: bad, hex: '', error: none of the points}
";

/// One that puts back nothing, and one that changes the language.
static CODECS: LazyLock<[Profile; 2]> = LazyLock::new(|| {
    [profile(include_str!("../../data/codecs/channels.js")), profile(include_str!("../../data/codecs/polyfills.js"))]
});

fn profile(script: &str) -> Profile {
    let problems = Problems::default();
    let scripts = |_: &str| Ok(script.to_owned());
    let profile = parse_profile_text_with("codec.yaml", PROFILE, &scripts, &problems);
    profile.unwrap_or_else(|| panic!("the profile is sound: {problems:?}"))
}

/// Takes an even first byte for bytes of a device, which the codec that its next bit names reads; an odd one for a script
/// that is made of the bytes.
///
/// # Panics
/// When a codec brings down its host, or a frame is answered in another way than by a codec that has seen no other.
pub fn codec(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let others: [&[u8]; 2] = [&[1, 2, 3], data];
    if first & 1 == 0 {
        check(&CODECS[usize::from(first >> 1 & 1)], data, first >> 2, &others);
    } else {
        check(&profile(&script(data)), &data[..data.len().min(8)], 1, &others);
    }
}

/// The same frame before and behind others is the same as alone.
fn check(profile: &Profile, bytes: &[u8], port: u8, others: &[&[u8]]) {
    let ask = |bytes: &[u8]| ask_codec(profile, bytes, port, NOW).map(without_count);
    let first = ask(bytes);
    for other in others {
        ask(other);
    }
    let again = ask(bytes);
    let alone = trace_codec(profile, bytes, Some(port), NOW).map(without_count);
    assert_eq!(first, alone, "the first answer is another one");
    assert_eq!(again, alone, "frames before it make a difference");
    let Some(CodecTrace { data: Ok(data), .. }) = alone else { return };
    serde_json::from_str::<serde_json::Value>(&data).unwrap_or_else(|error| panic!("{error}: {data}"));
}

/// The countdown between two interrupts goes on from frame to frame.
fn without_count(trace: CodecTrace) -> CodecTrace {
    CodecTrace { interrupts: 0, ..trace }
}

/// A script of small pieces, chosen by the bytes.
fn script(data: &[u8]) -> String {
    let mut writer = Writer { choices: data.iter().copied(), text: String::new(), statements: 0 };
    writer.text.push_str("function decodeUplink(input) { var out = {}; var bytes = input.bytes;\n");
    while writer.choices.len() > 0 && writer.statements < STATEMENTS_MAX {
        writer.statement(0);
    }
    writer.text.push_str("return {data: out}; }\n");
    while writer.choices.len() > 0 && writer.statements < 2 * STATEMENTS_MAX {
        writer.statement(DEPTH_MAX - 1);
    }
    writer.text
}

struct Writer<'a> {
    choices: std::iter::Copied<std::slice::Iter<'a, u8>>,
    text: String,
    statements: usize,
}

const GLOBALS: [&str; 14] = [
    "Object",
    "Array",
    "String",
    "Number",
    "Math",
    "Date",
    "Function",
    "Error",
    "Buffer",
    "Map",
    "JSON",
    "RegExp",
    "Uint8Array",
    "globalThis",
];
const NAMES: [&str; 10] =
    ["a", "b", "push", "toString", "length", "prototype", "constructor", "__proto__", "slice", "valueOf"];

impl Writer<'_> {
    fn choose(&mut self, count: u8) -> u8 {
        self.choices.next().unwrap_or(0) % count
    }

    fn one_of(&mut self, words: &[&'static str]) -> &'static str {
        let position = usize::from(self.choose(u8::MAX)) % words.len();
        words[position]
    }

    fn write(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn statement(&mut self, depth: u32) {
        self.statements += 1;
        if depth >= DEPTH_MAX {
            return self.assignment(depth);
        }
        match self.choose(14) {
            0..4 => self.assignment(depth),
            4 => self.block("for (var i = 0; i < 9; i++) {", depth),
            5 => self.block("while (out.n = (out.n || 0) + 1) {", depth),
            6 => {
                self.block("try {", depth);
                self.block("catch (error) { out.error = error.name;", depth);
            }
            7 => self.block("if (bytes[0] & 1) {", depth),
            8 => self.block("(function down() { if (bytes.length) down();", depth),
            9 => {
                let (global, name) = (self.one_of(&GLOBALS), self.one_of(&NAMES));
                let what = self.one_of(&[
                    "delete G.prototype.N;",
                    "Object.freeze(G.prototype);",
                    "Object.freeze(G);",
                    "delete G.N;",
                    "Object.defineProperty(G, 'N', {value: 1, configurable: true});",
                    "G = null;",
                    "Object.setPrototypeOf(G, null);",
                    "G.prototype.N = out;",
                    "for (var k in G) out[k] = 1;",
                    "Object.defineProperty(G.prototype, 'N', {get: function () { return 5; }});",
                ]);
                self.write(&what.replace('G', global).replace('N', name));
            }
            10 => {
                self.write("throw ");
                self.expression(depth);
                self.write(";");
            }
            11 => self.write("Promise.resolve(1).then(function () { late = 1; });"),
            12 => self.write("out.all = Object.keys(globalThis).concat(Object.keys(Array.prototype)).join();"),
            _ => {
                self.write("console.log(");
                self.expression(depth);
                self.write(");");
            }
        }
        self.write("\n");
    }

    fn block(&mut self, head: &str, depth: u32) {
        self.write(head);
        self.write(" ");
        self.statement(depth + 1);
        self.statement(depth + 1);
        // A function is called where it stands.
        self.write(if head.starts_with('(') { "})();" } else { "}" });
    }

    fn assignment(&mut self, depth: u32) {
        let (global, name) = (self.one_of(&GLOBALS), self.one_of(&NAMES));
        match self.choose(6) {
            0 => self.write("kept = typeof kept + "),
            1 => self.write(&format!("out.{name} = ")),
            2 => self.write(&format!("{global}.prototype.{name} = ")),
            3 => self.write(&format!("{global}.{name} = ")),
            4 => self.write(&format!("this.{name} = ")),
            _ => self.write(&format!("out[{name:?}][{name:?}] = ")),
        }
        self.expression(depth);
        self.write(";\n");
    }

    fn expression(&mut self, depth: u32) {
        let name = self.one_of(&NAMES);
        if depth >= DEPTH_MAX {
            return self.write(&format!("[].{name}"));
        }
        let simple = [
            "1",
            "-0.5",
            "'x'",
            "NaN",
            "null",
            "undefined",
            "bytes",
            "out",
            "10n",
            "/(a+)+$/.test('aaaaaaaaaaaaaaaaaaaaaaaaaa!')",
            "Math.random()",
            "Date.now()",
            "new Date().getHours()",
            "'x'.repeat(1 << 20)",
            "new Array(1e9)",
            "[1, [2]]",
            "{a: 1}",
            "Symbol('s')",
            "function () { return this; }",
            "new Map([[1, 2]])",
            "Buffer.from(bytes)",
            "'\\ud800'",
            "typeof kept",
            "new Error('e')",
            "(() => out)()",
            "new Float64Array(1000)",
            "'é'.normalize('NFD')",
        ];
        match self.choose(8) {
            0..4 => {
                let text = self.one_of(&simple);
                self.write("(");
                self.write(text);
                self.write(")");
            }
            4 => {
                self.write("(");
                self.expression(depth + 1);
                let operator = self.one_of(&[" + ", " * ", " === ", ", ", " || ", " in {}, "]);
                self.write(operator);
                self.expression(depth + 1);
                self.write(")");
            }
            5 => {
                self.write("JSON.stringify(");
                self.expression(depth + 1);
                self.write(")");
            }
            6 => {
                self.write("[");
                self.expression(depth + 1);
                self.write(&format!("].concat(bytes).{name}"));
            }
            _ => {
                self.write("String(");
                self.expression(depth + 1);
                self.write(&format!(").split('').map({})", self.text.len() % 3));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kerbside_engine::decode::check_codec;

    #[test]
    fn most_scripts_of_random_bytes_compile_and_some_give_data() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut compiled, mut answered) = (0, 0);
        for _ in 0..60 {
            let bytes: Vec<u8> = (0..random.usize(8..60)).map(|_| random.u8(..)).collect();
            let profile = profile(&script(&bytes));
            compiled += u32::from(check_codec(&profile).is_none());
            answered += u32::from(trace_codec(&profile, &[1], None, NOW).is_some_and(|trace| trace.data.is_ok()));
        }
        assert!(compiled > 45 && answered > 10, "{compiled} compiled, {answered} answered");
    }
}
