//! How registers are read: the keys `type`, `byte`, `length`, `encoding`, `form` and `parts`.

use crate::document::Section;
use crate::profile::{Half, RegisterType, TIME_PARTS_MAX, TextEncoding, TimeForm, TimePart, TimeParts};

/// No answer holds more registers (Modbus Application Protocol V1.1b3, function 3).
const LENGTH_MAX: i64 = 125;
/// A time whose form nobody has written yet.
pub(super) const TIME_DEFAULT: RegisterType = RegisterType::Time(TimeForm::Seconds);

#[derive(Clone, Copy, PartialEq, Eq)]
enum TypeName {
    Plain(RegisterType),
    U8,
    I8,
    Text,
    Time,
}

const TYPES: [(&str, TypeName); 19] = [
    ("u16", TypeName::Plain(RegisterType::U16)),
    ("i16", TypeName::Plain(RegisterType::I16)),
    ("u32", TypeName::Plain(RegisterType::U32)),
    ("i32", TypeName::Plain(RegisterType::I32)),
    ("u48", TypeName::Plain(RegisterType::U48)),
    ("i48", TypeName::Plain(RegisterType::I48)),
    ("u64", TypeName::Plain(RegisterType::U64)),
    ("i64", TypeName::Plain(RegisterType::I64)),
    ("f16", TypeName::Plain(RegisterType::F16)),
    ("f32", TypeName::Plain(RegisterType::F32)),
    ("f64", TypeName::Plain(RegisterType::F64)),
    ("bcd4", TypeName::Plain(RegisterType::Bcd4)),
    ("bcd8", TypeName::Plain(RegisterType::Bcd8)),
    ("bcd12", TypeName::Plain(RegisterType::Bcd12)),
    ("bcd16", TypeName::Plain(RegisterType::Bcd16)),
    ("u8", TypeName::U8),
    ("i8", TypeName::I8),
    ("text", TypeName::Text),
    ("time", TypeName::Time),
];

const PARTS: [(&str, TimePart); 8] = [
    ("century", TimePart::Century),
    ("year", TimePart::Year),
    ("month", TimePart::Month),
    ("day", TimePart::Day),
    ("hour", TimePart::Hour),
    ("minute", TimePart::Minute),
    ("second", TimePart::Second),
    ("skip", TimePart::Skip),
];

/// Reads `type` and the keys that only some types have.
pub(super) fn read_type(register: &Section<'_>, default: RegisterType) -> RegisterType {
    let usual = if matches!(default, RegisterType::Time(_)) { TypeName::Time } else { TypeName::Plain(default) };
    let name = register.choice("type", &TYPES).unwrap_or(usual);
    let is_byte = matches!(name, TypeName::U8 | TypeName::I8);
    let owned = [
        ("byte", is_byte, "u8 or i8"),
        ("length", name == TypeName::Text, "text"),
        ("encoding", name == TypeName::Text, "text"),
        ("form", name == TypeName::Time, "time"),
        ("parts", name == TypeName::Time, "time"),
    ];
    for (key, is_owned, types) in owned {
        if register.has(key) && !is_owned {
            register.problem(key, "", format!("only type {types} has it"), format!("leave `{key}` out"));
        }
    }
    match name {
        TypeName::Plain(plain) => plain,
        TypeName::U8 => RegisterType::U8(read_half(register)),
        TypeName::I8 => RegisterType::I8(read_half(register)),
        TypeName::Text => read_text(register),
        TypeName::Time => RegisterType::Time(read_form(register)),
    }
}

fn read_half(register: &Section<'_>) -> Half {
    if !register.has("byte") {
        register.missing("byte", "write high for the byte that comes first on the wire, or low");
    }
    register.choice("byte", &[("high", Half::High), ("low", Half::Low)]).unwrap_or(Half::Low)
}

fn read_text(register: &Section<'_>) -> RegisterType {
    if !register.has("length") {
        register.missing("length", "write how many registers the text takes; each holds two letters");
    }
    let length = register.integer("length", 1, LENGTH_MAX).unwrap_or(1);
    let encodings = [("ascii", TextEncoding::Ascii), ("utf-8", TextEncoding::Utf8), ("gbk", TextEncoding::Gbk)];
    RegisterType::Text {
        registers: u16::try_from(length).expect("at most 125"),
        encoding: register.choice("encoding", &encodings).unwrap_or(TextEncoding::Ascii),
    }
}

fn read_form(register: &Section<'_>) -> TimeForm {
    if !register.has("form") {
        register.missing("form", "write s or ms (since 1970), or words, bytes or bcd (year, month, day and so on)");
    }
    let parts = read_parts(register);
    let forms = [
        ("s", TimeForm::Seconds),
        ("ms", TimeForm::Milliseconds),
        ("words", TimeForm::Words(parts)),
        ("bytes", TimeForm::Bytes(parts)),
        ("bcd", TimeForm::Bcd(parts)),
    ];
    let form = register.choice("form", &forms).unwrap_or(TimeForm::Seconds);
    if register.has("parts") && matches!(form, TimeForm::Seconds | TimeForm::Milliseconds) {
        register.problem("parts", "", "a time in s or ms has no parts", "leave `parts` out");
    }
    form
}

fn read_parts(register: &Section<'_>) -> TimeParts {
    let names = register.texts("parts");
    if names.is_empty() {
        return TimeParts::default();
    }
    let known = PARTS.map(|(name, _)| name).join(", ");
    let mut parts = Vec::with_capacity(names.len());
    for name in &names {
        match PARTS.iter().find(|(known, _)| known == name) {
            Some((_, part)) => parts.push(*part),
            None => register.problem("parts", name, "not a part of a date and time", format!("write {known}")),
        }
    }
    // The time of day may be left out, the day may not.
    for (name, part) in &PARTS[1..] {
        let count = parts.iter().filter(|other| *other == part).count();
        let is_needed = matches!(part, TimePart::Year | TimePart::Month | TimePart::Day);
        if *part != TimePart::Skip && (count > 1 || count == 0 && is_needed) {
            register.problem("parts", name, format!("it stands there {count} times"), "write it once");
        }
    }
    TimeParts::new(&parts).unwrap_or_else(|| {
        register.problem("parts", "", format!("not 1 to {TIME_PARTS_MAX} parts"), "write the parts in their order");
        TimeParts::default()
    })
}
