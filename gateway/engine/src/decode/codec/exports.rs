//! Codecs that are written as ES modules: turns their `export`s into what a script has.
//!
//! A codec runs inside a function, where `export` is an error. Declarations lose the word, lists of exports become
//! assignments to `exports`, and lines stay where they are, so that messages name the right ones. What is imported is not
//! there, so an `import` is left for the compiler to refuse.

use std::borrow::Cow;
use std::fmt::Write;

/// What may stand between `export` or `export default` and a name.
const DECLARATIONS: [&str; 6] = ["function", "async", "class", "const", "let", "var"];

/// The source as a script; the same when it exports nothing.
pub(super) fn script_of(source: &str) -> Cow<'_, str> {
    if !source.lines().any(|line| exported(line).is_some()) {
        return Cow::Borrowed(source);
    }
    let mut script = String::with_capacity(source.len());
    let mut lines = source.split_inclusive('\n');
    while let Some(line) = lines.next() {
        let Some(rest) = exported(line) else {
            script.push_str(line);
            continue;
        };
        match rest.strip_prefix('{') {
            Some(list) => push_list(&mut script, list, &mut lines),
            None => push_declaration(&mut script, rest),
        }
    }
    Cow::Owned(script)
}

/// What follows `export` at the beginning of a line.
fn exported(line: &str) -> Option<&str> {
    let rest = line.trim_start_matches(['\u{feff}', ' ', '\t']).strip_prefix("export")?;
    let is_word = rest.starts_with(char::is_whitespace) || rest.starts_with('{');
    let rest = rest.trim_start();
    let is_export = rest.starts_with('{') || word(rest).is_some_and(|word| is_declaration(word) || word == "default");
    (is_word && is_export).then_some(rest)
}

fn push_declaration(script: &mut String, rest: &str) {
    let Some(default) = rest.strip_prefix("default") else {
        script.push_str(rest);
        return;
    };
    let default = default.trim_start();
    let is_named = |kind: &str| {
        default.strip_prefix(kind).is_some_and(|name| name.starts_with(char::is_whitespace) && word(name).is_some())
    };
    if !(is_named("function") || is_named("class")) {
        script.push_str("exports.default = ");
    }
    script.push_str(default);
}

/// `export { a, b as c }`, which may go on over more lines.
fn push_list<'a>(script: &mut String, list: &'a str, lines: &mut impl Iterator<Item = &'a str>) {
    let mut names = list.to_owned();
    while !names.contains('}') {
        let Some(line) = lines.next() else { break };
        names.push_str(line);
    }
    let (inside, behind) = names.split_once('}').unwrap_or((&names, ""));
    for item in inside.split(',') {
        let mut words = item.split_whitespace();
        let Some(local) = words.next() else { continue };
        let name = words.nth(1).unwrap_or(local);
        write!(script, "exports.{name} = {local}; ").expect("writing to a text does not fail");
    }
    script.extend(inside.matches('\n'));
    script.push_str(behind);
}

/// The word of letters that the text begins with, after blanks.
fn word(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let end =
        text.find(|letter: char| !(letter.is_alphanumeric() || matches!(letter, '_' | '$'))).unwrap_or(text.len());
    (end > 0).then(|| &text[..end])
}

fn is_declaration(word: &str) -> bool {
    DECLARATIONS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_become_what_a_script_has_on_the_same_lines() {
        let cases = [
            ("export function decodeUplink(input) {\n}\n", "function decodeUplink(input) {\n}\n"),
            ("\u{feff}export const a = 1;", "const a = 1;"),
            ("export default function Decoder(bytes) {}", "function Decoder(bytes) {}"),
            ("export default { decodeUplink };", "exports.default = { decodeUplink };"),
            ("export default (input) => 1;", "exports.default = (input) => 1;"),
            ("export default function (input) {}", "exports.default = function (input) {}"),
            ("export { decode as decodeUplink, b };\nx", "exports.decodeUplink = decode; exports.b = b; ;\nx"),
            ("export {\n  a,\n  b,\n};\nlast", "exports.a = a; exports.b = b; \n\n\n;\nlast"),
            ("export {", ""),
        ];
        for (module, script) in cases {
            assert_eq!(script_of(module), script, "{module}");
            assert_eq!(script_of(module).lines().count().max(1), module.lines().count(), "{module}");
        }
    }

    #[test]
    fn a_script_stays_as_it_is() {
        for script in [
            "exports.decodeUplink = 1;",
            "export_ = 1;",
            "exported (1)",
            "var a = 'export { b }';",
            "// export const a",
            "export = decode",
            "",
        ] {
            assert!(matches!(script_of(script), Cow::Borrowed(_)), "{script}");
        }
    }
}
