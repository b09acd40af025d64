//! The keys of `payload: {format: codec}`.

use super::payload::read_document;
use super::scalar::written;
use super::{ELEMENTS_MAX, NAME_BYTES_MAX, Report};
use crate::document::{NodeKind, Section};
use crate::profile::{
    CODEC_BUDGET_DEFAULT, CODEC_HEAP_BYTES_DEFAULT, CODEC_PORT_DEFAULT, CODEC_SOURCE_BYTES_MAX, CodecFormat,
    CodecOutput, NamedValues,
};

/// Gives the text of a script by its path beside the profile, or says why it cannot be read.
pub type Scripts<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// Less would not hold the bytes of a long frame as JavaScript keeps them.
const HEAP_BYTES_MIN: u64 = 1024 * 1024;
/// More would be felt on a box with little memory.
const HEAP_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Ten million branches and calls, half a second on a small box: no frame may hold up the others for longer.
const BUDGET_MAX: i64 = 1_000;

/// Everything below `payload`.
pub(super) fn read_format(payload: &Section<'_>, scripts: Scripts<'_>, report: Report<'_>) -> CodecFormat {
    let script = payload.text("script").unwrap_or_default();
    let port = payload.integer("port", 0, i64::from(u8::MAX)).and_then(|port| u8::try_from(port).ok());
    let budget = payload.integer("budget", 1, BUDGET_MAX).and_then(|budget| u32::try_from(budget).ok());
    CodecFormat {
        source: read_source(payload, &script, scripts),
        script,
        port: port.unwrap_or(CODEC_PORT_DEFAULT),
        variables: read_variables(payload),
        heap_bytes_max: read_heap(payload),
        budget: budget.unwrap_or(CODEC_BUDGET_DEFAULT),
        document: read_document(payload, report),
        output: read_output(payload),
        named_values: read_named_values(payload),
    }
}

fn read_output(payload: &Section<'_>) -> CodecOutput {
    let Some(text) = payload.text("output") else { return CodecOutput::Data };
    match text.as_str() {
        "data" => CodecOutput::Data,
        "normalized" => CodecOutput::Normalized,
        _ => {
            let mend =
                "write `data` for what the decoder gives, or `normalized` for what its normalizeUplink makes of it";
            payload.problem("output", &text, "no such output of a codec", mend);
            CodecOutput::Data
        }
    }
}

fn read_named_values(payload: &Section<'_>) -> Option<NamedValues> {
    let section = payload.section("named_values")?;
    let key = |key: &'static str, example: &str| {
        let text = section.text(key);
        if text.as_ref().is_none_or(|text| text.is_empty() || text.len() > NAME_BYTES_MAX || text.contains('\0')) {
            section.missing(key, &format!("write the key in each element of the list, such as `{key}: {example}`"));
        }
        text.unwrap_or_default()
    };
    let named = NamedValues { name: key("name", "field"), value: key("value", "value") };
    section.finish();
    Some(named)
}

fn read_source(payload: &Section<'_>, script: &str, scripts: Scripts<'_>) -> String {
    let inline = payload.text("source");
    let (key, source) = match (payload.has("script"), inline) {
        (true, Some(_)) => {
            payload.problem("source", "", "`script` says already where the codec is", "keep one of the two");
            return String::new();
        }
        (false, None) => {
            payload.missing("script", "write the codec's file beside the profile, such as `script: acme-1.js`");
            return String::new();
        }
        (false, Some(source)) => ("source", source),
        (true, None) => {
            let is_beside =
                !script.is_empty() && !script.starts_with('/') && !script.split('/').any(|part| part == "..");
            if !is_beside {
                let what = "not a file beside the profile";
                payload.problem("script", script, what, "put it into the profile's folder and write its name");
                return String::new();
            }
            match scripts(script) {
                Ok(source) => ("script", source),
                Err(error) => {
                    let what = format!("the codec cannot be read: {error}");
                    payload.problem("script", script, what, "correct the name or the permissions of the file");
                    return String::new();
                }
            }
        }
    };
    if source.trim().is_empty() {
        payload.problem(key, script, "the codec is empty", "put the maker's decoder there as it is");
    } else if source.len() > CODEC_SOURCE_BYTES_MAX {
        let what = format!("the codec has {} bytes, more than {CODEC_SOURCE_BYTES_MAX}", source.len());
        payload.problem(key, script, what, "leave out what is not needed for decoding, such as tables of tests");
    } else if source.contains('\0') {
        payload.problem(key, script, "the codec holds a zero byte", "save the file as UTF-8 text");
    }
    source
}

fn read_heap(payload: &Section<'_>) -> u32 {
    let Some(bytes) = payload.bytes("heap") else { return CODEC_HEAP_BYTES_DEFAULT };
    if !(HEAP_BYTES_MIN..=HEAP_BYTES_MAX).contains(&bytes) {
        payload.problem("heap", &bytes.to_string(), "out of range", "write 1MiB to 64MiB");
    }
    u32::try_from(bytes).unwrap_or(CODEC_HEAP_BYTES_DEFAULT)
}

fn read_variables(payload: &Section<'_>) -> Vec<(String, String)> {
    let Some(node) = payload.node("variables") else { return Vec::new() };
    let NodeKind::Map(entries) = &node.kind else {
        payload.problem("variables", &written(node), "not a map", "write `variables: {calibration: \"1.02\"}`");
        return Vec::new();
    };
    let mut variables = Vec::with_capacity(entries.len());
    for (name, line, node) in entries {
        match &node.kind {
            NodeKind::Scalar { text, .. } if name.len() <= NAME_BYTES_MAX && !name.contains('\0') => {
                variables.push((name.clone(), text.clone()));
            }
            _ => {
                let what = "not a short name with a text";
                payload.problem_at(*line, "variables", name, what, "write `variables: {calibration: \"1.02\"}`");
            }
        }
    }
    if variables.len() > ELEMENTS_MAX {
        payload.problem("variables", &variables.len().to_string(), format!("more than {ELEMENTS_MAX}"), "write fewer");
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Problems;
    use crate::profile::{PayloadFormat, parse_profile_text_with};

    const REST: &str = "
profile: codec
version: 1
kind: drain
vendor: Test
model: test
points:
  - {name: level_mm, path: level}
samples:
  - {name: one, hex: '01', readings: {level_mm: 1}}
  - {name: bad, hex: '', error: of no use}
";

    /// What is wrong with a profile with this payload, or its codec.
    fn read(payload: &str) -> Result<CodecFormat, String> {
        let problems = Problems::default();
        let scripts = |script: &str| match script {
            "acme.js" | "folder/acme.js" => Ok("function Decoder(bytes) { return {level: `${bytes[0]}`}; }".to_owned()),
            "long.js" => Ok(" ".repeat(CODEC_SOURCE_BYTES_MAX) + "x"),
            "empty.js" => Ok("\n".to_owned()),
            _ => Err("no such file".to_owned()),
        };
        let profile = parse_profile_text_with("codec.yaml", &format!("{REST}{payload}"), &scripts, &problems);
        match profile.map(|profile| profile.payload) {
            Some(PayloadFormat::Codec(format)) => Ok(CodecFormat::clone(&format)),
            other => {
                let problems = problems.into_sorted();
                assert!(other.is_none() && !problems.is_empty(), "{other:?}");
                Err(problems.iter().map(|it| format!("{}:{} {}: {}", it.line, it.key, it.what, it.mend)).collect())
            }
        }
    }

    #[test]
    fn a_codec_lies_beside_the_profile_or_stands_in_it_as_it_is() {
        let format = read("payload: {format: codec, script: folder/acme.js}").unwrap();
        assert!(format.source.contains("${bytes[0]}"));
        assert_eq!((format.port, format.budget, format.heap_bytes_max), (1, 50, 8 * 1024 * 1024));
        let inline = "payload:\n  format: codec\n  port: 85\n  heap: 2MiB\n  budget: 9\n  variables: {unit: cm}\n  \
                      source: |\n    // ${NAME} is no variable of the environment\n    function Decoder(b) { return {level: b[0]}; }\n";
        let format = read(inline).unwrap();
        assert!(format.source.starts_with("// ${NAME} is no variable"), "{}", format.source);
        assert_eq!((format.port, format.budget, format.heap_bytes_max), (85, 9, 2 * 1024 * 1024));
        assert_eq!(format.variables, [("unit".to_owned(), "cm".to_owned())]);
    }

    #[test]
    fn the_data_of_a_codec_may_be_its_normalized_ones_or_a_list_of_named_values() {
        let plain = read("payload: {format: codec, script: acme.js}").unwrap();
        assert_eq!((plain.output, plain.named_values.clone()), (CodecOutput::Data, None));
        let other =
            "payload: {format: codec, script: acme.js, output: normalized, named_values: {name: field, value: v}}";
        let format = read(other).unwrap();
        let named = NamedValues { name: "field".to_owned(), value: "v".to_owned() };
        assert_eq!((format.output, &format.named_values), (CodecOutput::Normalized, &Some(named)));
        assert!(!plain.runs_like(&format));
    }

    #[test]
    fn what_is_wrong_with_a_codec_is_named_with_its_mend() {
        let cases = [
            ("payload: {format: codec}", "script"),
            ("payload: {format: codec, script: other.js}", "cannot be read: no such file"),
            ("payload: {format: codec, script: ../acme.js}", "not a file beside the profile"),
            ("payload: {format: codec, script: /etc/acme.js}", "not a file beside the profile"),
            ("payload: {format: codec, script: acme.js, source: x}", "keep one of the two"),
            ("payload: {format: codec, script: empty.js}", "the codec is empty"),
            ("payload: {format: codec, script: long.js}", "more than 524288"),
            ("payload: {format: codec, script: acme.js, heap: 64KiB}", "1MiB to 64MiB"),
            ("payload: {format: codec, script: acme.js, budget: 0}", "budget"),
            ("payload: {format: codec, script: acme.js, variables: [a]}", "not a map"),
            ("payload: {format: codec, script: acme.js, scrpt: x}", "scrpt"),
            ("payload: {format: codec, script: acme.js, output: both}", "no such output of a codec"),
            ("payload: {format: codec, script: acme.js, named_values: {name: field}}", "`value: value`"),
            ("payload: {format: codec, script: acme.js, named_values: {name: f, value: v, x: y}}", "x"),
        ];
        for (payload, part) in cases {
            let problems = read(payload).unwrap_err();
            assert!(problems.contains(part), "{payload}: {problems}");
        }
    }

    #[test]
    fn the_text_of_the_codec_is_in_the_content_of_the_profile() {
        let hash = |text: &str| {
            let scripts = |_: &str| Ok(text.to_owned());
            let yaml = format!("{REST}payload: {{format: codec, script: acme.js}}");
            parse_profile_text_with("codec.yaml", &yaml, &scripts, &Problems::default()).unwrap().content_hash()
        };
        assert_ne!(hash("a"), hash("b"));
        assert_eq!(hash("a"), hash("a"));
    }
}
