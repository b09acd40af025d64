//! Codecs of our own with every habit of public ones: `tests/data/codecs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kerbside_model::profile::{
    CODEC_BUDGET_DEFAULT, CODEC_HEAP_BYTES_DEFAULT, CodecFormat, CodecOutput, DocumentFormat, NamedValues,
};
use proptest::prelude::*;
use serde_json::Value;

use super::machine::{Answer, Call, Machine, Ran};
use super::{Machines, ask_new};

/// 2027-01-15T08:00:00Z.
const NOW_MS: i64 = 1_800_000_000_000;
/// No frame holds up the others for so long, even on a machine that does much else besides. Alone it is a second at most.
const FRAME_TIME_MAX: Duration = Duration::from_secs(20);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/codecs")
}

fn format(source: String) -> Arc<CodecFormat> {
    Arc::new(CodecFormat {
        script: String::new(),
        source,
        port: 1,
        variables: vec![("site".to_owned(), "north".to_owned())],
        heap_bytes_max: CODEC_HEAP_BYTES_DEFAULT,
        budget: CODEC_BUDGET_DEFAULT,
        document: DocumentFormat::default(),
        output: CodecOutput::Data,
        named_values: None,
    })
}

fn codec(name: &str) -> Arc<CodecFormat> {
    format(std::fs::read_to_string(folder().join(format!("{name}.js"))).unwrap())
}

fn call(bytes: &[u8], port: u8) -> Call<'_> {
    Call { bytes, port, time_ms: NOW_MS }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|start| u8::from_str_radix(&hex[start..start + 2], 16).unwrap()).collect()
}

/// What differs between an answer and what a case expects.
fn differences(case: &Value, answer: &Answer) -> Option<String> {
    let text = |key: &str| case[key].as_str();
    match (&answer.data, text("error")) {
        (Err(error), Some(part)) if !error.contains(part) => return Some(format!("refused with {error:?}")),
        (Ok(data), Some(_)) => return Some(format!("gave {data}")),
        (Err(error), None) => return Some(format!("refused with {error:?}")),
        (Err(_), Some(_)) => {}
        (Ok(data), None) => {
            let data: Value = serde_json::from_str(data).unwrap();
            // A codec of channels gives more than anybody wants to write down.
            let is_part = case["codec"] == "channels";
            let expected = &case["data"];
            let agrees = match expected.as_object().filter(|_| is_part) {
                Some(wanted) => wanted.iter().all(|(key, value)| data.get(key) == Some(value)),
                None => data == *expected,
            };
            if !agrees {
                return Some(format!("gave {data}"));
            }
        }
    }
    if answer.warnings != text("warnings").unwrap_or_default() {
        return Some(format!("warned of {:?}", answer.warnings));
    }
    text("console").filter(|console| answer.console != *console).map(|_| format!("wrote {:?}", answer.console))
}

#[test]
fn every_habit_of_public_codecs_gives_what_its_author_meant() {
    let cases: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(folder().join("cases.json")).unwrap()).unwrap();
    let mut machines = Machines::default();
    let mut wrong = Vec::new();
    let mut codecs = BTreeMap::new();
    for case in &cases {
        let name = case["codec"].as_str().unwrap();
        let codec = codecs.entry(name).or_insert_with(|| codec(name));
        let bytes = bytes_of(case["hex"].as_str().unwrap());
        let port = u8::try_from(case["port"].as_u64().unwrap()).unwrap();
        // The first call builds the machine, the second one mostly uses it again.
        for _ in 0..2 {
            let answer = machines.ask(codec, &call(&bytes, port));
            wrong.extend(differences(case, &answer).map(|what| format!("{name}, port {port}: {what}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_profile_may_ask_for_the_normalized_data() {
    let normalized = |name: &str| Arc::new(CodecFormat { output: CodecOutput::Normalized, ..(*codec(name)).clone() });
    let cases = [
        ("normalized", "64", Ok("{\"air\":{\"temperature\":10},\"time\":\"2027-01-15T08:00:00.000Z\"}"), "rounded"),
        (
            "normalized",
            "05",
            Ok("{\"air\":{\"temperature\":0.5},\"time\":\"2027-01-15T08:00:00.000Z\"}"),
            "it's cold; rounded",
        ),
        ("normalized", "0102030405", Err("refuses it: too long"), ""),
        ("normalized", "ff", Err("refuses it: the probe is away"), ""),
        ("normalized", "00", Err("its normalizeUplink gave undefined and no object"), ""),
        ("chirpstack3", "0102030405060708", Err("it has no normalizeUplink(input)"), ""),
    ];
    let mut machines = Machines::default();
    for (name, hex, expected, warnings) in cases {
        let answer = machines.ask(&normalized(name), &call(&bytes_of(hex), 1));
        match (&answer.data, expected) {
            (Ok(data), Ok(expected)) => assert_eq!(data, expected),
            (Err(error), Err(part)) => assert!(error.contains(part), "{name} {hex}: {error}"),
            (data, _) => panic!("{name} {hex}: {data:?}"),
        }
        assert_eq!(answer.warnings, warnings, "{name} {hex}");
    }
}

#[test]
fn values_in_a_list_are_found_by_their_names_when_the_profile_says_where_these_are() {
    let named_values = NamedValues { name: "field".to_owned(), value: "value".to_owned() };
    let codec = Arc::new(CodecFormat { named_values: Some(named_values), ..(*codec("named")).clone() });
    let mut machines = Machines::default();
    let cases = [
        (1, "{\"4\":\"four\",\"LEVEL\":8,\"BATTERY\":3,\"__proto__\":{\"bad\":true}}"),
        (2, "{\"LEVEL\":5}"),
        (3, "{}"),
    ];
    for (port, expected) in cases {
        for _ in 0..2 {
            let answer = machines.ask(&codec, &call(&[7, 30], port));
            assert_eq!(answer.data, Ok(expected.to_owned()), "port {port}");
        }
    }
}

#[test]
fn state_between_calls_is_gone_wherever_a_codec_keeps_it() {
    for name in ["state", "spoiler", "polyfills", "prototypes", "time", "ttn2", "console"] {
        let codec = codec(name);
        let frames: Vec<Vec<u8>> = (0..12_u8).map(|number| vec![number, 3]).collect();
        let first: Vec<Answer> = frames.iter().map(|bytes| ask_new(&codec, &call(bytes, 1)).0).collect();
        let mut machines = Machines::default();
        for round in 0..2 {
            for (bytes, first) in frames.iter().zip(&first).rev() {
                let answer = machines.ask(&codec, &call(bytes, 1));
                assert_eq!((&answer.data, &answer.warnings), (&first.data, &first.warnings), "{name}, round {round}");
                assert!(answer.data.is_ok(), "{name}: {answer:?}");
            }
        }
    }
}

#[test]
fn a_codec_that_spoils_itself_on_an_empty_frame_is_not_spoilt_for_the_next_one() {
    let codec = format(
        "function Decoder(bytes) {
           var day = new Date(0).getUTCDate();
           while (bytes.length === 0) { Date = null; Array.prototype.slice = null; }
           return { day: day, bytes: bytes.slice(0) };
         }"
        .to_owned(),
    );
    let mut machines = Machines::default();
    for bytes in [[7].as_slice(), &[], &[7]] {
        let data = machines.ask(&codec, &call(bytes, 1)).data;
        let expected = if bytes.is_empty() { None } else { Some("{\"day\":1,\"bytes\":[7]}") };
        assert_eq!(data.as_deref().ok(), expected, "{data:?}");
    }
}

#[test]
fn common_habits_cost_no_new_machine() {
    for name in [
        "ttn",
        "chirpstack3",
        "ttn2",
        "state",
        "modern",
        "buffer",
        "commonjs",
        "exports",
        "channels",
        "time",
        "prototypes",
        "bundle",
        "translated",
        "esmodule",
        "chain",
        "helium",
        "normalized",
    ] {
        let machine = Machine::build(&codec(name)).unwrap();
        for number in 0..20 {
            let bytes = [number, 0x75, 100];
            let ran = machine.run(&call(&bytes, 1));
            let Ran::Answered(answer, is_fit) = ran else { panic!("{name}: doubtful") };
            assert!(is_fit, "{name}, frame {number}: {answer:?}");
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what hangs is found by the time that it takes")]
fn whatever_does_not_end_or_takes_too_much_is_stopped_and_says_why() {
    let codec = codec("limits");
    let mut machines = Machines::default();
    let mut seen = Vec::new();
    for port in 1..=40 {
        let mut machine_answers = Vec::new();
        for _ in 0..2 {
            let started = Instant::now();
            let answer = machines.ask(&codec, &call(&[1, 2], port));
            let took = started.elapsed();
            assert!(took < FRAME_TIME_MAX, "port {port} took {took:?}: {answer:?}");
            machine_answers.push(answer.data);
        }
        assert_eq!(machine_answers[0], machine_answers[1], "port {port}");
        seen.push((port, machine_answers.remove(0)));
        // A healthy frame behind it is read.
        assert_eq!(machines.ask(&codec, &call(&[7], 100)).data, Ok("{\"level\":1}".to_owned()), "after port {port}");
    }
    let of = |port: u8| &seen[usize::from(port) - 1].1;
    for port in [1, 2, 10, 23, 25] {
        assert!(of(port).as_ref().is_err_and(|error| error.contains("does not end")), "port {port}: {:?}", of(port));
    }
    for port in [3, 17, 18, 21, 22] {
        assert!(of(port).as_ref().is_err_and(|error| error.contains("failed")), "port {port}: {:?}", of(port));
    }
    for port in [5, 15] {
        assert!(of(port).as_ref().is_err_and(|error| error.contains("memory")), "port {port}: {:?}", of(port));
    }
    assert_eq!(of(4), &Ok("{\"name\":\"RangeError\"}".to_owned()));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what hangs is found by the time that it takes")]
fn a_length_that_is_no_length_is_read_as_the_language_reads_it_and_paid_for() {
    for (body, expected) in [
        ("data: {text: 'ab'.padStart(-1, '0') + 'c'.padEnd(NaN)}", Ok("{\"text\":\"abc\"}")),
        ("data: {text: 'ab'.padStart('4', '0')}", Ok("{\"text\":\"00ab\"}")),
        ("data: {text: Array.prototype.join.call({length: -1}, '-')}", Ok("{\"text\":\"\"}")),
        ("data: Array.prototype.reverse.call({length: 2 ** 32})", Err("too long")),
        ("data: Array.prototype.reverse.call({length: 2 ** 53 - 1})", Err("too long")),
        // Nothing times without end is no number, and must not be the end of counting.
        ("data: [() => ''.repeat(Infinity), () => [].fill.call({length: 2 ** 40}, 1)].map(attempt)", Err("too long")),
    ] {
        let attempt = "const attempt = (work) => { try { return work(); } catch (error) { return 0; } };";
        let codec = format(format!("{attempt} function decodeUplink(input) {{ return {{ {body} }}; }}"));
        let started = Instant::now();
        let data = Machines::default().ask(&codec, &call(&[1], 1)).data;
        assert!(started.elapsed() < FRAME_TIME_MAX, "{body}: {data:?}");
        match expected {
            Ok(text) => assert_eq!(data.as_deref(), Ok(text), "{body}"),
            Err(why) => assert!(data.as_ref().is_err_and(|error| error.contains(why)), "{body}: {data:?}"),
        }
    }
}

#[test]
fn a_script_that_does_not_compile_names_the_line() {
    let cases = [
        ("function decodeUplink(input) {\n  return {data: {}\n}", Some(3)),
        ("var a = 1;\nvar b = ;\n", Some(2)),
        ("}) + (function () {", None),
    ];
    for (source, line) in cases {
        let error = Machine::build(&format(source.to_owned())).err();
        assert!(error.is_some() || line.is_none(), "{source}");
        if let Some(error) = error.filter(|_| line.is_some()) {
            assert_eq!(error.line, line, "{source}: {error}");
        }
    }
    let empty = ask_new(&format("var a = 1;".to_owned()), &call(&[], 1)).0;
    let detail = empty.data.unwrap_err();
    assert!(detail.contains("none of decodeUplink(input)"), "{detail}");
    let broken = ask_new(&format("var a = ;".to_owned()), &call(&[], 1)).0;
    assert!(broken.data.as_ref().is_err_and(|error| error.contains("does not compile") && error.contains("line 1")));
}

#[test]
fn a_thread_keeps_only_so_many_machines() {
    let mut machines = Machines::default();
    for number in 0..super::MACHINES_MAX + 5 {
        let codec = format(format!("function Decoder(bytes) {{ return {{ number: {number} }}; }}"));
        let answer = machines.ask(&codec, &call(&[], 1));
        assert_eq!(answer.data, Ok(format!("{{\"number\":{number}}}")));
        assert!(machines.0.len() <= super::MACHINES_MAX);
    }
}

#[test]
fn the_depth_of_the_stack_makes_no_difference() {
    let codec = format(
        "var depth = 0; function down() { depth++; down(); }
         function Decoder() { try { down(); } catch (error) {} return { depth: depth }; }"
            .to_owned(),
    );
    fn deeper(machines: &mut Machines, codec: &Arc<CodecFormat>, levels: u32) -> Answer {
        let room = std::hint::black_box([levels; 2_048]);
        match levels {
            0 => machines.ask(codec, &call(&[], 1)),
            _ => deeper(machines, codec, levels - 1 + std::hint::black_box(room[7] - levels)),
        }
    }
    let mut machines = Machines::default();
    let deep_first = deeper(&mut machines, &codec, 20);
    let flat = machines.ask(&codec, &call(&[], 1));
    let deep = deeper(&mut machines, &codec, 12);
    assert_eq!((&flat.data, &deep.data), (&deep_first.data, &deep_first.data));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn frames_in_any_order_give_what_each_gives_alone(
        frames in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..12), 0_u8..22), 1..12),
        name in prop::sample::select(vec!["ttn", "state", "polyfills", "results", "throws", "channels", "buffer"]),
    ) {
        let codec = codec(name);
        let mut machines = Machines::default();
        for (bytes, port) in &frames {
            machines.ask(&codec, &call(bytes, *port));
        }
        for (bytes, port) in frames.iter().rev().take(3) {
            let again = machines.ask(&codec, &call(bytes, *port));
            let alone = ask_new(&codec, &call(bytes, *port)).0;
            prop_assert_eq!((again.data, again.warnings, again.console), (alone.data, alone.warnings, alone.console));
        }
    }
}
