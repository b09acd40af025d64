//! Turns registers and guesses at their meaning into text, JSON, and the point of a profile. Pure.

use kerbside_engine::probe::{Guess, Reason};
use kerbside_model::RegisterTable;
use kerbside_model::profile::{ByteOrder, RegisterType};
use serde_json::{Value, json};

use super::table_name;
use crate::cli::counted;

/// Guesses that are listed; all of them stand in the table and in the JSON.
const LISTED: usize = 5;
/// Registers in a row of a dump.
const ROW: usize = 8;
const ORDERS: [ByteOrder; 4] = [ByteOrder::Abcd, ByteOrder::Cdab, ByteOrder::Badc, ByteOrder::Dcba];
/// Numbers that are longer are shown with fewer digits.
const SHOWN_MAX: usize = 12;

/// What was probed.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) unit: u8,
    pub(super) table: RegisterTable,
    pub(super) address: u16,
    /// Unit of the value, as in profiles.
    pub(super) measured_in: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Findings {
    /// The registers, one time after another; not empty.
    pub(super) reads: Vec<Vec<u16>>,
    /// The most plausible first.
    pub(super) guesses: Vec<Guess>,
    /// An address beside it that makes more sense, by how far it lies.
    pub(super) better: Option<(i32, Guess)>,
}

impl Target {
    fn shifted(&self, shift: i32) -> Target {
        let address = u16::try_from(i32::from(self.address) + shift).unwrap_or(self.address);
        Target { address, ..self.clone() }
    }
}

/// All that an installer wants to see.
pub(super) fn report(target: &Target, findings: &Findings) -> String {
    let last = findings.reads.last().map_or(&[][..], Vec::as_slice);
    let (unit, table, address) = (target.unit, table_name(target.table), target.address);
    let (registers_text, times) = (counted(last.len(), "register"), counted(findings.reads.len(), "time"));
    let mut text = format!("unit {unit}, {table} {address:#06x} ({address}): {registers_text}, read {times}\n\n");
    text.push_str(&registers(address, last));
    text.push('\n');
    text.push_str(&side_by_side(&findings.guesses));
    text.push('\n');
    text.push_str(&ranking(&findings.guesses));
    if let Some(best) = findings.guesses.first() {
        text.push_str(&format!("\n{}\n{}\n", verdict(best, Language::English), verdict(best, Language::Chinese)));
        if is_plausible(best) {
            text.push_str(&format!("for the points of a profile / 写入设备模型的 points：\n{}", point(target, best)));
        }
    }
    if let Some((shift, guess)) = &findings.better {
        text.push_str(&elsewhere(&target.shifted(*shift), *shift, guess));
    }
    text.trim_end().to_owned()
}

/// The same for programs.
pub(super) fn report_json(target: &Target, findings: &Findings) -> Value {
    let better = findings.better.as_ref().map(|(shift, guess)| {
        let there = target.shifted(*shift);
        json!({ "address": there.address, "guess": guess_json(guess), "point": point(&there, guess) })
    });
    json!({
        "unit": target.unit,
        "table": target.table,
        "address": target.address,
        "reads": findings.reads,
        "guesses": findings.guesses.iter().map(guess_json).collect::<Vec<_>>(),
        "point": findings.guesses.first().filter(|best| is_plausible(best)).map(|best| point(target, best)),
        "better": better,
    })
}

fn guess_json(guess: &Guess) -> Value {
    json!({
        "type": type_name(guess.value),
        "order": order_name(guess.order),
        "value": guess.shown,
        "scale": guess.scale,
        "offset": guess.offset,
        "score": guess.score,
        "reasons": guess.reasons.iter().map(|reason| reason.words()).collect::<Vec<_>>(),
    })
}

/// Each register by itself.
fn registers(address: u16, words: &[u16]) -> String {
    let mut text = String::from("address           hex     u16     i16  bits              text\n");
    for (place, word) in (u32::from(address)..).zip(words) {
        let signed = word.cast_signed();
        let letters = printable(*word);
        text.push_str(&format!(
            "{place:#06x}  {place:>5}   {word:04x}  {word:>6}  {signed:>6}  {word:016b}  {letters}\n"
        ));
    }
    text
}

/// Every type in a row, every order in a column.
fn side_by_side(guesses: &[Guess]) -> String {
    let mut text = format!("{:<6}{}\n", "type", ORDERS.map(|order| format!("{:>15}", order_name(order))).concat());
    let mut names: Vec<&str> = Vec::new();
    for name in TYPES_SHOWN.into_iter().filter(|name| guesses.iter().any(|guess| type_name(guess.value) == *name)) {
        names.push(name);
    }
    for name in names {
        let of = |order: ByteOrder| guesses.iter().find(|it| type_name(it.value) == name && it.order == order);
        let cells = ORDERS.map(|order| format!("{:>15}", of(order).map_or(String::new(), |guess| short(&guess.shown))));
        text.push_str(format!("{name:<6}{}", cells.concat()).trim_end());
        text.push('\n');
    }
    text
}

const TYPES_SHOWN: [&str; 12] = ["u16", "i16", "u32", "i32", "f32", "f64", "u64", "i64", "f16", "bcd4", "bcd8", "text"];

fn ranking(guesses: &[Guess]) -> String {
    let mut text = String::from("rank  type  order         value  scale  score  why\n");
    for (rank, guess) in (1..).zip(guesses.iter().take(LISTED)) {
        let (name, order, value) = (type_name(guess.value), order_name(guess.order), short(&guess.shown));
        let (scale, score, why) = (guess.scale, guess.score, reasons(guess, Language::English));
        text.push_str(&format!("{rank:>4}  {name:<4}  {order}  {value:>12}  {scale:>5}  {score:>5}  {why}\n"));
    }
    text
}

#[derive(Clone, Copy)]
enum Language {
    English,
    Chinese,
}

fn reasons(guess: &Guess, language: Language) -> String {
    let words = |reason: &Reason| match language {
        Language::English => reason.words(),
        Language::Chinese => reason.words_zh(),
    };
    let joint = match language {
        Language::English => "; ",
        Language::Chinese => "；",
    };
    guess.reasons.iter().map(words).collect::<Vec<_>>().join(joint)
}

/// Whether there is anything that speaks for a guess.
fn is_plausible(guess: &Guess) -> bool {
    let says_something = |reason: &Reason| !matches!(reason, Reason::Zero | Reason::Steady);
    guess.score > 0 && guess.reasons.iter().any(says_something)
}

fn verdict(best: &Guess, language: Language) -> String {
    let reading = reading(best);
    let why = reasons(best, language);
    match (language, is_plausible(best)) {
        (Language::English, true) => format!("first: {reading}, because: {why}"),
        (Language::Chinese, true) => format!("首选：{reading}，原因：{why}"),
        (Language::English, false) => {
            "nothing speaks for one of them: say what the device shows with --expect, or its \
                                       unit with --measured-in"
                .to_owned()
        }
        (Language::Chinese, false) => "无法判断：请用 --expect 给出设备显示值，或用 --measured-in 给出单位".to_owned(),
    }
}

/// Such as `u16 abcd 2302 x 0.1`.
fn reading(guess: &Guess) -> String {
    let mut text = format!("{} {} {}", type_name(guess.value), order_name(guess.order), short(&guess.shown));
    if guess.scale != 1.0 {
        text.push_str(&format!(" x {}", guess.scale));
    }
    if guess.offset != 0.0 {
        text.push_str(&format!(" {:+}", rounded(guess.offset)));
    }
    text
}

fn elsewhere(there: &Target, shift: i32, guess: &Guess) -> String {
    let address = there.address;
    let (side, lesson, side_zh, lesson_zh) = if shift < 0 {
        ("before", "sheets that count from 1 are off by one", "前", "说明书从 1 起编号时会差 1")
    } else {
        ("behind", "perhaps 1 was taken off once too often", "后", "可能多减了一次 1")
    };
    let (reading, why, why_zh) = (reading(guess), reasons(guess, Language::English), reasons(guess, Language::Chinese));
    format!(
        "\none register {side} it, {address:#06x} ({address}), makes more sense: {reading} ({why}); {lesson}\n\
         地址{side_zh}移一个寄存器 {address:#06x}（{address}）更合理：{reading}（{why_zh}）；{lesson_zh}\n{}",
        point(there, guess)
    )
}

/// The point for a profile, as YAML.
pub(super) fn point(target: &Target, guess: &Guess) -> String {
    let unit = target.measured_in.as_deref();
    let known = unit.and_then(|unit| NAMES.iter().find(|(known, _, _)| *known == unit));
    let is_text = matches!(guess.value, RegisterType::Text { .. });
    let mut text = match (known, unit) {
        _ if is_text => "  - name: label\n    type: text\n".to_owned(),
        (Some((_, name, None)), _) => format!("  - name: {name}\n"),
        (Some((_, name, Some(from))), _) => format!("  - name: {name}\n    from_unit: {from}\n"),
        (None, Some(unit)) => format!("  - name: value\n    unit: {}\n", json!(unit)),
        (None, None) => "  - name: value\n".to_owned(),
    };
    let (table, address, name) = (table_name(target.table), target.address, type_name(guess.value));
    text.push_str(&format!("    register: {{table: {table}, address: {address:#06x}, type: {name}"));
    if let RegisterType::Text { registers, .. } = guess.value {
        text.push_str(&format!(", length: {registers}"));
    }
    if guess.order != ByteOrder::Abcd {
        text.push_str(&format!(", order: {}", order_name(guess.order)));
    }
    text.push_str("}\n");
    if guess.scale != 1.0 {
        text.push_str(&format!("    scale: {}\n", guess.scale));
    }
    if guess.offset != 0.0 {
        let column = if known.is_some_and(|(_, name, _)| *name == "level_mm") {
            "  # or level_offset_mm of this device in the inventory / 或写入台账的 level_offset_mm"
        } else {
            ""
        };
        text.push_str(&format!("    offset: {}{column}\n", rounded(guess.offset)));
    }
    text
}

/// Canonical points by the unit in which installers know them, and the unit to convert from.
const NAMES: [(&str, &str, Option<&str>); 13] = [
    ("V", "voltage_v", None),
    ("A", "current_a", None),
    ("mA", "leakage_ma", None),
    ("W", "active_power_w", None),
    ("kW", "active_power_w", Some("kW")),
    ("kWh", "energy_import_kwh", None),
    ("Hz", "frequency_hz", None),
    ("degC", "temperature_c", None),
    ("mm", "level_mm", None),
    ("cm", "level_mm", Some("cm")),
    ("m", "level_mm", Some("m")),
    ("m/s", "wind_speed_m_s", None),
    ("dB", "noise_db", None),
];

/// Words in rows, hexadecimal and decimal; `changed` says of each whether it is another than before.
pub(super) fn dump(address: u16, words: &[u16], before: Option<&[u16]>) -> String {
    let mut text = String::new();
    for (row, place) in words.chunks(ROW).zip((u32::from(address)..).step_by(ROW)) {
        let start = usize::try_from(place - u32::from(address)).unwrap_or(0);
        let old = before.and_then(|before| before.get(start..start + row.len()));
        let mark = if old.is_some_and(|old| old != row) { '*' } else { ' ' };
        let hexadecimal: Vec<String> = row.iter().map(|word| format!("{word:04x}")).collect();
        let decimal: Vec<String> = row.iter().map(|word| format!("{word:>5}")).collect();
        let letters: String = row.iter().map(|word| printable(*word)).collect();
        text.push_str(&format!(
            "{mark}{place:#06x} {place:>5}  {:<39}  {:<47}  {letters}\n",
            hexadecimal.join(" "),
            decimal.join(" ")
        ));
    }
    text.trim_end_matches('\n').to_owned()
}

fn printable(word: u16) -> String {
    let letter = |byte: u8| if byte.is_ascii_graphic() { char::from(byte) } else { '.' };
    word.to_be_bytes().map(letter).iter().collect()
}

/// A number with so many digits as fit a column.
fn short(shown: &str) -> String {
    match shown.parse::<f64>() {
        Ok(number) if shown.len() > SHOWN_MAX => format!("{number:.4e}"),
        _ => shown.to_owned(),
    }
}

/// Six digits behind the point are more than anybody can measure.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

fn order_name(order: ByteOrder) -> &'static str {
    match order {
        ByteOrder::Abcd => "abcd",
        ByteOrder::Cdab => "cdab",
        ByteOrder::Badc => "badc",
        ByteOrder::Dcba => "dcba",
    }
}

/// What a type is called in profiles.
fn type_name(value: RegisterType) -> &'static str {
    match value {
        RegisterType::U8(_) => "u8",
        RegisterType::I8(_) => "i8",
        RegisterType::U16 => "u16",
        RegisterType::I16 => "i16",
        RegisterType::U32 => "u32",
        RegisterType::I32 => "i32",
        RegisterType::U48 => "u48",
        RegisterType::I48 => "i48",
        RegisterType::U64 => "u64",
        RegisterType::I64 => "i64",
        RegisterType::F16 => "f16",
        RegisterType::F32 => "f32",
        RegisterType::F64 => "f64",
        RegisterType::Bcd4 => "bcd4",
        RegisterType::Bcd8 => "bcd8",
        RegisterType::Bcd12 => "bcd12",
        RegisterType::Bcd16 => "bcd16",
        RegisterType::Text { .. } => "text",
        RegisterType::Time(_) => "time",
    }
}
