//! Registers: how a unit is asked, and where a value of it stands.

mod place;
#[cfg(test)]
mod tests;
mod types;

use std::time::Duration;

use place::read_place;
use types::read_type;

use crate::document::{NodeKind, Section};
use crate::frame::RegisterTable;
use crate::profile::{
    Bits, ByteOrder, DRIFT_MAX_DEFAULT, Power, PowerMeaning, RawValue, RegisterField, RegisterFormat, RegisterTime,
    RegisterType, Sign, ValueType,
};
use crate::time::Zone;

pub(super) use place::TABLES;

/// Registers that lie between two wanted ones are read too when there are at most so many, and only where the planner
/// finds that cheaper than a second request.
const GAP_MAX_DEFAULT: i64 = REGISTERS_MAX;
/// Cheap units refuse long requests well before the 125 registers of the Modbus specification.
const REGISTERS_MAX_DEFAULT: i64 = 60;
/// No request asks for more registers (Modbus Application Protocol V1.1b3, function 3).
const REGISTERS_MAX: i64 = 125;
/// No request asks for more coils or discrete inputs (Modbus Application Protocol V1.1b3, functions 1 and 2).
const BITS_MAX: i64 = 2_000;
/// A unit that needs a longer rest, or longer to answer, keeps the bus from all others.
const PATIENCE_MAX: Duration = Duration::from_secs(60);
/// An answer needs some milliseconds on any line.
const TIMEOUT_MIN: Duration = Duration::from_millis(10);

/// Reads the keys of `payload` that only registers have.
pub(super) fn read_format(payload: &Section<'_>) -> RegisterFormat {
    let limit = |key, min, max, default| {
        let limit = payload.integer(key, min, max).unwrap_or(default);
        u16::try_from(limit).expect("the greatest limit is 2,000")
    };
    let zone = payload.text("zone");
    if let Some(name) = zone.as_ref().filter(|name| Zone::named(name).is_none()) {
        payload.problem("zone", name, "there is no time zone of this name", "write one such as Asia/Shanghai");
    }
    let mut format = RegisterFormat {
        gap_max: limit("gap_max", 0, REGISTERS_MAX, GAP_MAX_DEFAULT),
        registers_max: limit("registers_max", 1, REGISTERS_MAX, REGISTERS_MAX_DEFAULT),
        bits_max: limit("bits_max", 1, BITS_MAX, BITS_MAX),
        one_point_per_request: payload.boolean("one_point_per_request").unwrap_or(false),
        pause: read_patience(payload, "pause", Duration::ZERO).unwrap_or_default(),
        timeout: read_patience(payload, "timeout", TIMEOUT_MIN),
        order: read_order(payload, 2, ByteOrder::default()),
        time: None,
        zone,
    };
    format.time = payload.section("time").map(|time| read_time(&time, &format));
    format
}

fn read_patience(payload: &Section<'_>, key: &'static str, min: Duration) -> Option<Duration> {
    let duration = payload.duration(key)?;
    if !(min..=PATIENCE_MAX).contains(&duration) {
        payload.problem(
            key,
            &format!("{duration:?}"),
            format!("not from {min:?} to {PATIENCE_MAX:?}"),
            "all units of the bus wait for this one: write a shorter time, or leave the key out",
        );
        return None;
    }
    Some(duration)
}

fn read_time(time: &Section<'_>, format: &RegisterFormat) -> RegisterTime {
    let empty = RegisterField::new(RegisterTable::Holding, 0, types::TIME_DEFAULT);
    let field = match time.section("register") {
        Some(register) => read_field(&register, format, types::TIME_DEFAULT),
        None => {
            time.missing("register", "write where the time stands: `register: {table: holding, address: 0x0010}`");
            empty
        }
    };
    if !matches!(field.value, RegisterType::Time(_)) {
        time.problem("register", "", "its type is no time", "leave `type` out and write its `form`");
    }
    let drift_max = time.duration("drift_max").unwrap_or(DRIFT_MAX_DEFAULT);
    time.known_only();
    RegisterTime { field, drift_max }
}

/// Reads `register` of a point.
pub(super) fn read_register(register: &Section<'_>, format: &RegisterFormat, value_type: ValueType) -> RegisterField {
    // Asked here, so that it is known.
    may_overlap(register);
    let field = read_field(register, format, RegisterType::U16);
    if matches!(field.value, RegisterType::Time(_)) && value_type != ValueType::Text {
        register.problem("type", "time", "a date and time is a text", "give the point `type: text`");
    }
    field
}

/// Whether the profile's author means it when the registers of a point overlap those of another.
pub(super) fn may_overlap(register: &Section<'_>) -> bool {
    register.choice("overlap", &[("allowed", true), ("refused", false)]).unwrap_or(false)
}

fn read_field(register: &Section<'_>, format: &RegisterFormat, type_default: RegisterType) -> RegisterField {
    let (table, address) = read_place(register, None);
    let value = read_type(register, type_default);
    let is_number = !matches!(value, RegisterType::Text { .. } | RegisterType::Time(_));
    // Units that send the last register of a number first do not so with texts.
    let order_default = if is_number && value.integer_bits() != Some(8) { format.order } else { ByteOrder::default() };
    let field = RegisterField {
        table,
        address,
        value,
        order: read_order(register, value.width(), order_default),
        bits: read_bits(register, value),
        sign: register.choice("sign", &[("twos", Sign::Twos), ("magnitude", Sign::Magnitude)]).unwrap_or_default(),
        power: read_power(register, table),
    };
    check_field(register, &field, format);
    register.known_only();
    field
}

/// `order: cdab`, or `bytes: little` and `words: little`.
fn read_order(section: &Section<'_>, width: u16, default: ByteOrder) -> ByteOrder {
    use ByteOrder::{Abcd, Badc, Cdab, Dcba};
    let ends = [("big", false), ("little", true)];
    let (bytes, words) = (section.choice("bytes", &ends), section.choice("words", &ends));
    let Some(text) = section.text("order") else {
        let swaps_bytes = bytes.unwrap_or_else(|| default.swaps_bytes());
        let swaps_words = words.unwrap_or_else(|| default.swaps_words());
        return match (swaps_bytes, swaps_words) {
            (false, false) => Abcd,
            (false, true) => Cdab,
            (true, false) => Badc,
            (true, true) => Dcba,
        };
    };
    if bytes.is_some() || words.is_some() {
        section.problem("order", &text, "`bytes` and `words` say it already", "keep `order`, or these two");
    }
    let orders = [Abcd, Cdab, Badc, Dcba];
    let is_named = |order: &ByteOrder| text == order_name(*order, width) || text == order_name(*order, 2);
    if let Some(order) = orders.into_iter().find(is_named) {
        return order;
    }
    let names = orders.map(|order| order_name(order, width)).join(", ");
    section.problem(
        "order",
        &text,
        format!("not an order of {} bytes", 2 * width),
        format!("write {names}; a is the most significant byte"),
    );
    default
}

/// The letters of a value's bytes, a the most significant, in the order of the wire; the names of longer values are
/// those of four registers.
fn order_name(order: ByteOrder, width: u16) -> String {
    let width = u8::try_from(width.clamp(1, 4)).expect("at most 4");
    let letter = |position: u8| char::from(b'a' + position);
    let mut name = String::new();
    for step in 0..width {
        let word = if order.swaps_words() { width - 1 - step } else { step };
        let (high, low) = (letter(2 * word), letter(2 * word + 1));
        name.extend(if order.swaps_bytes() { [low, high] } else { [high, low] });
    }
    name
}

fn read_bits(register: &Section<'_>, value: RegisterType) -> Option<Bits> {
    let bit_last = i64::from(value.integer_bits().unwrap_or(16)) - 1;
    let small = |number: i64| u8::try_from(number).expect("at most 64");
    let bit = register.integer("bit", 0, bit_last).map(|bit| Bits { from: small(bit), count: 1 });
    let Some(section) = register.section("bits") else { return bit };
    if register.has("bit") {
        register.problem("bits", "", "`bit` says already which", "keep one of the two");
    }
    let mend = "write the first bit, 0 = least significant, and how many: `bits: {from: 4, count: 3}`";
    for key in ["from", "count"] {
        if !section.has(key) {
            section.missing(key, mend);
        }
    }
    let from = section.integer("from", 0, bit_last).unwrap_or(0);
    let count = section.integer("count", 1, bit_last + 1 - from).unwrap_or(1);
    section.known_only();
    Some(Bits { from: small(from), count: small(count) })
}

/// `exponent: {address: 0x0005, type: i16}` or `decimals: {address: 0x0003}`.
fn read_power(register: &Section<'_>, table: RegisterTable) -> Option<Power> {
    let keys = [("exponent", PowerMeaning::Exponent), ("decimals", PowerMeaning::Decimals)];
    if register.has("exponent") && register.has("decimals") {
        register.problem("decimals", "", "`exponent` says it already", "keep one of the two");
    }
    let (key, meaning) = keys.into_iter().find(|(key, _)| register.has(key))?;
    let section = register.section(key)?;
    let (table, address) = read_place(&section, Some(table));
    let value = read_type(&section, RegisterType::I16);
    if value.width() != 1 || value.integer_bits().is_none() {
        section.problem("type", "", "a power of ten is a whole number of one register", "write u16, i16, u8 or i8");
    }
    section.known_only();
    Some(Power { table, address, value, meaning })
}

fn check_field(register: &Section<'_>, field: &RegisterField, format: &RegisterFormat) {
    let value = field.value;
    let is_bits = matches!(field.table, RegisterTable::Coil | RegisterTable::Discrete);
    let is_number = !matches!(value, RegisterType::Text { .. } | RegisterType::Time(_));
    let unfit = [
        ("type", is_bits, "a coil or discrete input is one bit"),
        ("bit", is_bits, "a coil or discrete input is one bit"),
        ("bits", is_bits, "a coil or discrete input is one bit"),
        ("order", is_bits || value.integer_bits() == Some(8), "a single bit or byte has no order"),
        ("bit", value.integer_bits().is_none(), "only a whole number has bits"),
        ("bits", value.integer_bits().is_none(), "only a whole number has bits"),
        ("sign", !(value.is_signed() || value.is_bcd()), "only i8 to i64 and bcd have a sign that may be written so"),
        ("exponent", is_bits || !is_number, "only a number has a power of ten"),
        ("decimals", is_bits || !is_number, "only a number has a power of ten"),
    ];
    for (key, is_unfit, what) in unfit {
        if is_unfit && register.has(key) {
            register.problem(key, "", what, format!("leave `{key}` out, or write another `type`"));
        }
    }
    if u32::from(field.address) + u32::from(value.width()) > 1 << 16 {
        register.problem(
            "address",
            &field.address.to_string(),
            "its last register lies behind the last address",
            "check the address (0-based) and the type",
        );
    }
    if value.width() > format.registers_max {
        register.problem(
            "type",
            "",
            format!("it takes {} registers, and payload.registers_max is {}", value.width(), format.registers_max),
            "raise registers_max when the unit answers as many, else write a narrower type",
        );
    }
}

/// Whether one of two fields is likely mistaken about its place: their registers overlap and they read them in ways that
/// do not go together. Some bits of a whole number go with other bits, and with the number when it takes the same
/// registers.
pub(super) fn clash(one: &RegisterField, other: &RegisterField) -> bool {
    one.needs().any(|one| other.needs().any(|other| places_clash(&one, &other)))
}

fn places_clash(one: &RegisterField, other: &RegisterField) -> bool {
    let span = |field: &RegisterField| u32::from(field.address)..u32::from(field.address) + u32::from(field.width());
    let (one_span, other_span) = (span(one), span(other));
    let overlap = one_span.start < other_span.end && other_span.start < one_span.end;
    let same = one_span == other_span && one.value == other.value && one.order == other.order && one.sign == other.sign;
    let is_part = |field: &RegisterField| field.bits.is_some() || field.value.integer_bits() == Some(8);
    let are_whole = one.value.integer_bits().is_some() && other.value.integer_bits().is_some();
    let go_together = are_whole
        && match (is_part(one), is_part(other)) {
            (true, true) => true,
            (false, false) => false,
            _ => one_span == other_span,
        };
    one.table == other.table && overlap && !same && !go_together
}

/// Marks are compared with what a field reads: 0xFFFF of an `i16` is -1.
pub(super) fn sign_mark(field: &RegisterField, mark: RawValue) -> RawValue {
    let Some(width) = field.bits.map(|bits| bits.count).or(field.value.integer_bits()) else { return mark };
    let bits = match &mark {
        RawValue::Number(number) if number.fract() == 0.0 && (0.0..2_f64.powi(64)).contains(number) => *number as u64,
        // Beyond 63 bits it was not taken for a number.
        RawValue::Text(text) => match text.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16)) {
            Some(Ok(bits)) => bits,
            _ => return mark,
        },
        _ => return mark,
    };
    let sign_bit = 1_u64 << (width - 1);
    let is_within = width == 64 || bits >> width == 0;
    if !field.value.is_signed() || bits & sign_bit == 0 || !is_within {
        return RawValue::Number(bits as f64);
    }
    let magnitude = match field.sign {
        Sign::Twos => bits.wrapping_neg() & (u64::MAX >> (64 - u32::from(width))),
        Sign::Magnitude => bits & !sign_bit,
    };
    RawValue::Number(-(magnitude as f64))
}

/// Whether the scalar of a key stands in quotes.
pub(super) fn is_quoted(section: &Section<'_>, key: &'static str) -> bool {
    section.node(key).is_some_and(|node| matches!(node.kind, NodeKind::Scalar { quoted: true, .. }))
}
