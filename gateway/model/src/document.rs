//! YAML text with positions, read so that every problem is found in one pass.
//!
//! `serde` stops at the first error; an installer in the rain wants all of them. So a document is parsed into nodes
//! that know their line, and [`Section`] reads typed values from it while it notes each problem with its file, line,
//! key, value and mend. A scalar may be `${NAME}` or `${NAME:-default}`; it is replaced before types are read.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, SpannedEventReceiver};

/// One thing wrong in a file that a person wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// File as the person named it.
    pub file: String,
    /// Line, from 1; 0 when the problem is with the file as a whole.
    pub line: usize,
    /// Path of the key, such as `sources[0].host`; for a table the column.
    pub key: String,
    /// The value that is wrong, or empty. A secret is never put here.
    pub value: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub mend: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file)?;
        if self.line > 0 {
            write!(formatter, ":{}", self.line)?;
        }
        formatter.write_str(": ")?;
        if !self.key.is_empty() {
            write!(formatter, "{}", self.key)?;
            if !self.value.is_empty() {
                write!(formatter, " = {:?}", self.value)?;
            }
            formatter.write_str(": ")?;
        }
        formatter.write_str(&self.what)?;
        if !self.mend.is_empty() {
            write!(formatter, "\n    mend: {}", self.mend)?;
        }
        Ok(())
    }
}

/// Collects problems. Shared by everything that reads one set of files.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// Notes a problem.
    pub fn push(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    /// How many there are so far.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, by file and line.
    pub fn into_sorted(self) -> Vec<Problem> {
        let mut problems = self.0.into_inner();
        problems.sort();
        problems.dedup();
        problems
    }
}

/// A value of a YAML document with the line where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Line, from 1.
    pub line: usize,
    /// The value.
    pub kind: NodeKind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeKind {
    /// A scalar; `quoted` scalars are text whatever they look like.
    Scalar {
        /// The text without quotes.
        text: String,
        /// Whether it stood in quotes or in a block.
        quoted: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// Keys with values, in order.
    Map(Vec<(String, usize, Node)>),
}

impl Node {
    /// Whether the node says "nothing": empty, `~` or `null`, not in quotes.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, NodeKind::Scalar { text, quoted: false } if matches!(text.as_str(), "" | "~" | "null"))
    }

    fn describe(&self) -> &'static str {
        match &self.kind {
            NodeKind::Scalar { .. } => "a single value",
            NodeKind::List(_) => "a list",
            NodeKind::Map(_) => "a section of keys",
        }
    }

    /// The node as JSON: plain scalars by YAML 1.2's core schema.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            NodeKind::Scalar { text, quoted: true } => serde_json::Value::from(text.as_str()),
            NodeKind::Scalar { text, .. } if self.is_null() => {
                let _ = text;
                serde_json::Value::Null
            }
            NodeKind::Scalar { text, .. } => plain_to_json(text),
            NodeKind::List(items) => items.iter().map(Node::to_json).collect(),
            NodeKind::Map(entries) => entries
                .iter()
                .map(|(key, _, node)| (key.clone(), node.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

fn plain_to_json(text: &str) -> serde_json::Value {
    match text {
        "true" | "True" | "TRUE" => serde_json::Value::from(true),
        "false" | "False" | "FALSE" => serde_json::Value::from(false),
        _ => match parse_integer(text) {
            Some(integer) => serde_json::Value::from(integer),
            None => match parse_float(text) {
                Some(float) => serde_json::Value::from(float),
                None => serde_json::Value::from(text),
            },
        },
    }
}

fn parse_integer(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn parse_float(text: &str) -> Option<f64> {
    let is_numeric = text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.'));
    text.parse::<f64>().ok().filter(|float| is_numeric && float.is_finite())
}

/// Replaces `${NAME}` and `${NAME:-default}` in a scalar.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Parses a document. Duplicate keys, anchors, broken syntax and unset variables are problems.
/// Returns `None` when the syntax is so broken that nothing can be read.
pub fn parse(file: &str, text: &str, variables: Variables<'_>, problems: &Problems) -> Option<Node> {
    let mut builder = Builder { file, variables, problems, stack: Vec::new(), root: None };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Err(error) = Parser::new_from_str(text).load(&mut builder, false) {
        problems.push(Problem {
            file: file.to_owned(),
            line: error.marker().line(),
            key: String::new(),
            value: String::new(),
            what: format!("this is not valid YAML: {}", error.info()),
            mend: "look at the indentation, the colons and the quotes on this line and the one above".to_owned(),
        });
        return None;
    }
    Some(builder.root.unwrap_or(Node { line: 1, kind: NodeKind::Map(Vec::new()) }))
}

struct Builder<'a> {
    file: &'a str,
    variables: Variables<'a>,
    problems: &'a Problems,
    stack: Vec<Open>,
    root: Option<Node>,
}

enum Open {
    List(usize, Vec<Node>),
    Map(usize, Vec<(String, usize, Node)>, Option<(String, usize)>),
}

impl Builder<'_> {
    fn problem(&self, line: usize, key: &str, what: String, mend: &str) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line,
            key: key.to_owned(),
            value: String::new(),
            what,
            mend: mend.to_owned(),
        });
    }

    fn add(&mut self, node: Node) {
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, pending)) => match pending.take() {
                Some((key, line)) => {
                    if entries.iter().any(|(other, _, _)| *other == key) {
                        self.problem(
                            line,
                            &key.clone(),
                            "this key stands here twice".to_owned(),
                            "keep one of the two",
                        );
                    } else {
                        entries.push((key, line, node));
                    }
                }
                None => match node.kind {
                    NodeKind::Scalar { text, .. } => *pending = Some((text, node.line)),
                    _ => self.problem(node.line, "", "a key must be a single word".to_owned(), "put the key in quotes"),
                },
            },
        }
    }

    fn substitute(&self, text: &str, line: usize) -> String {
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let Some(length) = rest[start..].find('}') else { break };
            result.push_str(&rest[..start]);
            let inner = &rest[start + 2..start + length];
            let (name, default) = match inner.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inner, None),
            };
            match ((self.variables)(name), default) {
                (Some(value), _) => result.push_str(&value),
                (None, Some(default)) => result.push_str(default),
                (None, None) => self.problem(
                    line,
                    &format!("${{{name}}}"),
                    format!("the environment variable {name} is not set"),
                    &format!("set {name}, or give a default: ${{{name}:-value}}"),
                ),
            }
            rest = &rest[start + length + 1..];
        }
        result.push_str(rest);
        result
    }
}

impl<'input> SpannedEventReceiver<'input> for Builder<'_> {
    fn on_event(&mut self, event: Event<'input>, span: Span) {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, _, _) => {
                let quoted = style != ScalarStyle::Plain;
                // A block is something of another language, such as a script, and taken as it is.
                let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                let text = if is_block { text.into_owned() } else { self.substitute(&text, line) };
                self.add(Node { line, kind: NodeKind::Scalar { text, quoted } });
            }
            Event::SequenceStart(..) => self.stack.push(Open::List(line, Vec::new())),
            Event::MappingStart(..) => self.stack.push(Open::Map(line, Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.stack.pop() {
                    Some(Open::List(line, items)) => Node { line, kind: NodeKind::List(items) },
                    Some(Open::Map(line, entries, _)) => Node { line, kind: NodeKind::Map(entries) },
                    None => return,
                };
                self.add(node);
            }
            Event::Alias(_) => {
                self.problem(line, "", "YAML aliases (*name) are not read".to_owned(), "write the value out");
                self.add(Node { line, kind: NodeKind::Scalar { text: String::new(), quoted: false } });
            }
            _ => {}
        }
    }
}

/// Reads typed values from a section of keys and notes what is wrong. [`Section::finish`] reports unknown keys.
#[derive(Debug)]
pub struct Section<'a> {
    file: &'a str,
    path: String,
    line: usize,
    entries: &'a [(String, usize, Node)],
    asked: RefCell<Vec<&'static str>>,
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    /// The top of a document.
    pub fn top(file: &'a str, node: &'a Node, problems: &'a Problems) -> Section<'a> {
        Section::of(file, String::new(), node, problems)
    }

    fn of(file: &'a str, path: String, node: &'a Node, problems: &'a Problems) -> Section<'a> {
        let entries: &[(String, usize, Node)] = match &node.kind {
            NodeKind::Map(entries) => entries,
            _ if node.is_null() => &[],
            _ => {
                problems.push(Problem {
                    file: file.to_owned(),
                    line: node.line,
                    key: path.clone(),
                    value: String::new(),
                    what: format!("{} stands where a section of keys is needed", node.describe()),
                    mend: "write `key: value` lines, indented".to_owned(),
                });
                &[]
            }
        };
        Section { file, path, line: node.line, entries, asked: RefCell::default(), problems }
    }

    /// The line where the section begins.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The file.
    pub fn file(&self) -> &'a str {
        self.file
    }

    /// Full path of a key of this section.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The node of a key, when it is there and not null.
    pub fn node(&self, key: &'static str) -> Option<&'a Node> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.entries.iter().find(|(name, _, _)| name == key).map(|(_, _, node)| node).filter(|node| !node.is_null())
    }

    /// Whether the key stands there.
    pub fn has(&self, key: &'static str) -> bool {
        self.node(key).is_some()
    }

    /// Notes a problem with a key of this section; with the section itself when `key` is empty or absent.
    pub fn problem(&self, key: &str, value: &str, what: impl Into<String>, mend: impl Into<String>) {
        let line = self.entries.iter().find(|(name, _, _)| name == key).map_or(self.line, |(_, line, _)| *line);
        self.problem_at(line, key, value, what, mend);
    }

    /// Notes a problem with a key at a line that the caller knows better, such as that of an element of a list.
    pub fn problem_at(&self, line: usize, key: &str, value: &str, what: impl Into<String>, mend: impl Into<String>) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line,
            key: if key.is_empty() { self.path.clone() } else { self.path_of(key) },
            value: value.to_owned(),
            what: what.into(),
            mend: mend.into(),
        });
    }

    /// Notes that a required key is not there.
    pub fn missing(&self, key: &str, mend: &str) {
        self.problem_at(self.line, key, "", "this key is missing", mend);
    }

    fn scalar(&self, key: &'static str, wanted: &str) -> Option<(&'a str, bool)> {
        let node = self.node(key)?;
        match &node.kind {
            NodeKind::Scalar { text, quoted } => Some((text, *quoted)),
            _ => {
                self.problem(
                    key,
                    "",
                    format!("{} stands where {wanted} is needed", node.describe()),
                    format!("write {wanted}"),
                );
                None
            }
        }
    }

    /// Text, when the key is there.
    pub fn text(&self, key: &'static str) -> Option<String> {
        self.scalar(key, "a text").map(|(text, _)| text.to_owned())
    }

    /// Text that must be there; `mend` says what to write. Gives an empty text after a problem.
    pub fn required_text(&self, key: &'static str, mend: &str) -> String {
        if self.node(key).is_none() {
            self.missing(key, mend);
            return String::new();
        }
        self.text(key).unwrap_or_default()
    }

    /// A whole number within limits, both included.
    pub fn integer(&self, key: &'static str, min: i64, max: i64) -> Option<i64> {
        let (text, _) = self.scalar(key, "a whole number")?;
        match parse_integer(text) {
            Some(integer) if (min..=max).contains(&integer) => Some(integer),
            _ => {
                self.problem(
                    key,
                    text,
                    format!("not a whole number from {min} to {max}"),
                    format!("write a whole number from {min} to {max}"),
                );
                None
            }
        }
    }

    /// A number.
    pub fn number(&self, key: &'static str) -> Option<f64> {
        let (text, _) = self.scalar(key, "a number")?;
        let number = parse_integer(text).map(|integer| integer as f64).or_else(|| parse_float(text));
        if number.is_none() {
            self.problem(key, text, "not a number", "write a number such as 12.5");
        }
        number
    }

    /// True or false.
    pub fn boolean(&self, key: &'static str) -> Option<bool> {
        let (text, _) = self.scalar(key, "true or false")?;
        match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.problem(key, text, "neither true nor false", "write true or false");
                None
            }
        }
    }

    /// A duration such as `250ms`, `30s`, `5m`, `2h`, `1d`, or several in a row (`1h30m`).
    pub fn duration(&self, key: &'static str) -> Option<Duration> {
        let (text, _) = self.scalar(key, "a duration")?;
        let duration = parse_duration(text);
        if duration.is_none() {
            self.problem(key, text, "not a duration", "write a number with its unit: 250ms, 30s, 5m, 2h or 1d");
        }
        duration
    }

    /// A number of bytes such as `256MiB`, `64KiB` or `1GB`.
    pub fn bytes(&self, key: &'static str) -> Option<u64> {
        let (text, _) = self.scalar(key, "a number of bytes")?;
        let bytes = parse_bytes(text);
        if bytes.is_none() {
            self.problem(key, text, "not a number of bytes", "write a number with its unit: 64KiB, 256MiB or 1GiB");
        }
        bytes
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let wanted = format!("one of {}", names.join(", "));
        let (text, _) = self.scalar(key, &wanted)?;
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, choice)) => Some(*choice),
            None => {
                let mend = match closest(text, &names) {
                    Some(name) => format!("did you mean {name}? {wanted} is needed"),
                    None => format!("write {wanted}"),
                };
                self.problem(key, text, "not one of the known words", mend);
                None
            }
        }
    }

    /// A section from a node inside this one: an element of a list or map of which some are single values.
    pub fn nested(&self, path: String, node: &'a Node) -> Section<'a> {
        Section::of(self.file, path, node, self.problems)
    }

    /// A section of keys, when it is there.
    pub fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let node = self.node(key)?;
        Some(Section::of(self.file, self.path_of(key), node, self.problems))
    }

    /// A list of sections; empty when the key is not there.
    pub fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let items = self.items(key, "a list of sections");
        items.map_or_else(Vec::new, |items| {
            let of = |(position, node)| {
                Section::of(self.file, format!("{}[{position}]", self.path_of(key)), node, self.problems)
            };
            items.iter().enumerate().map(of).collect()
        })
    }

    /// A map from free names to sections, in order.
    pub fn named_sections(&self, key: &'static str) -> Vec<(String, Section<'a>)> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let NodeKind::Map(entries) = &node.kind else {
            self.problem(
                key,
                "",
                format!("{} stands where names with sections are needed", node.describe()),
                "write `name:` and its keys, indented",
            );
            return Vec::new();
        };
        let of = |(name, _, node): &'a (String, usize, Node)| {
            (name.clone(), Section::of(self.file, format!("{}.{name}", self.path_of(key)), node, self.problems))
        };
        entries.iter().map(of).collect()
    }

    /// A list of texts; a single text counts as a list of one.
    pub fn texts(&self, key: &'static str) -> Vec<String> {
        let Some(node) = self.node(key) else { return Vec::new() };
        match &node.kind {
            NodeKind::Scalar { text, .. } => vec![text.clone()],
            NodeKind::List(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items {
                    match &item.kind {
                        NodeKind::Scalar { text, .. } => texts.push(text.clone()),
                        _ => self.problem(key, "", "an element of this list is not a text", "write `- text` lines"),
                    }
                }
                texts
            }
            NodeKind::Map(_) => {
                self.problem(key, "", "a section stands where a list of texts is needed", "write `- text` lines");
                Vec::new()
            }
        }
    }

    fn items(&self, key: &'static str, wanted: &str) -> Option<&'a [Node]> {
        let node = self.node(key)?;
        match &node.kind {
            NodeKind::List(items) => Some(items),
            _ => {
                self.problem(
                    key,
                    "",
                    format!("{} stands where {wanted} is needed", node.describe()),
                    "begin each element with `- `",
                );
                None
            }
        }
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        self.known_only();
    }

    /// Reports every key that nobody has asked for so far, where the section is still needed for later problems.
    pub fn known_only(&self) {
        let asked = self.asked.borrow();
        for (key, line, _) in self.entries {
            if asked.iter().any(|name| name == key) {
                continue;
            }
            let mend = match closest(key, &asked) {
                Some(name) => format!("did you mean {name}?"),
                None => format!("known keys here: {}", asked.join(", ")),
            };
            self.problem_at(*line, key, "", "this key is not known", mend);
        }
    }
}

/// The known word that a misspelt one most likely meant.
pub fn closest<'words>(word: &str, words: &[&'words str]) -> Option<&'words str> {
    words
        .iter()
        .map(|known| (likeness(word, known), *known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, known)| known)
}

/// How alike two words are: 1 for the same, 0 for nothing in common (Jaro-Winkler).
pub fn likeness(word: &str, other: &str) -> f64 {
    strsim::jaro_winkler(word, other)
}

/// Reads `250ms`, `30s`, `5m`, `2h`, `1d` and runs of these.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        seconds += amount
            * match rest[..letters].trim() {
                "ms" => 0.001,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// Reads `64KiB`, `256MiB`, `1GiB`, `1GB`, or plain bytes.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let amount: u64 = text[..digits].parse().ok()?;
    let factor: u64 = match text[digits..].trim() {
        // Only nothing is the same in every unit.
        "" if amount == 0 => 1,
        "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" | "K" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" | "M" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" | "G" => 1 << 30,
        _ => return None,
    };
    amount.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_variables(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn every_problem_of_a_document_is_reported_with_its_line_and_mend() {
        let problems = Problems::default();
        let text = "host: box\nport: seventy\nprot: 3\nport: 5\nwhen: 5 parsecs\n";
        let node = parse("gateway.yaml", text, &no_variables, &problems).unwrap();
        let section = Section::top("gateway.yaml", &node, &problems);
        assert_eq!(section.required_text("host", ""), "box");
        assert_eq!(section.integer("port", 1, 65_535), None);
        assert_eq!(section.duration("when"), None);
        section.required_text("user", "write the user's name");
        section.finish();
        let lines: Vec<(usize, String)> =
            problems.into_sorted().into_iter().map(|problem| (problem.line, problem.key)).collect();
        let expected = [(1, "user"), (2, "port"), (3, "prot"), (4, "port"), (5, "when")];
        assert_eq!(lines, expected.map(|(line, key)| (line, key.to_owned())));
    }

    #[test]
    fn variables_are_replaced_before_types_are_read() {
        let problems = Problems::default();
        let lookup = |name: &str| (name == "PORT").then(|| "1883".to_owned());
        let node = parse("g", "port: ${PORT}\nhost: ${HOST:-localhost}\nuser: ${USER}", &lookup, &problems).unwrap();
        let section = Section::top("g", &node, &problems);
        assert_eq!(section.integer("port", 1, 65_535), Some(1883));
        assert_eq!(section.text("host").as_deref(), Some("localhost"));
        let found = problems.into_sorted();
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().contains("USER is not set"), "{}", found[0]);
    }

    #[test]
    fn broken_syntax_names_its_line() {
        let problems = Problems::default();
        assert!(parse("g", "a: [1, 2\nb: 3\n", &no_variables, &problems).is_none());
        assert!(problems.into_sorted()[0].line > 0);
    }

    #[test]
    fn durations_and_bytes_carry_their_unit() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("5"), None);
        assert_eq!(parse_bytes("2KiB"), Some(2_048));
        assert_eq!(parse_bytes("2 parsecs"), None);
        assert_eq!(parse_bytes("8"), None);
        assert_eq!(parse_bytes("0"), Some(0));
    }
}
