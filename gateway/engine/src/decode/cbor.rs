//! CBOR (RFC 8949) to the places of a JSON document.
//!
//! Whole-number keys count as their decimal text, bytes as hexadecimal text. Of tags those of times, decimal fractions
//! and large numbers are understood; others are looked through.

use ciborium::value::Value as Item;
use serde_json::{Map, Value};

use super::binary::push_hex;

/// Longer messages are refused: what it is unpacked to takes up to 80 times as much memory.
const BYTES_MAX: usize = 64 * 1024;
/// Deeper nesting is refused.
const DEPTH_MAX: usize = 32;
/// Powers of ten beyond this are no measurement; also of the widest number that a `f64` holds.
const EXPONENT_MAX: i128 = 308;

/// The document in a message.
pub(super) fn document(bytes: &[u8]) -> Result<Value, String> {
    if bytes.len() > BYTES_MAX {
        return Err(format!("the message has {} bytes and this format reads {BYTES_MAX} at most", bytes.len()));
    }
    let mut rest = bytes;
    let read = ciborium::de::from_reader_with_recursion_limit::<Item, _>(&mut rest, DEPTH_MAX);
    let item = read.map_err(|error| format!("not valid CBOR: {}", explain(&error)))?;
    if !rest.is_empty() {
        return Err(format!("not valid CBOR: {} bytes stand behind its end", rest.len()));
    }
    Ok(json(item))
}

fn explain<T: std::fmt::Debug>(error: &ciborium::de::Error<T>) -> String {
    use ciborium::de::Error;
    match error {
        Error::Io(_) => "it is cut short".to_owned(),
        Error::Syntax(offset) => format!("byte {offset} is not what can stand there"),
        Error::Semantic(Some(offset), text) => format!("{text} at byte {offset}"),
        Error::Semantic(None, text) => text.clone(),
        Error::RecursionLimitExceeded => format!("it is nested deeper than {DEPTH_MAX} levels"),
    }
}

fn json(item: Item) -> Value {
    match item {
        Item::Integer(integer) => whole(i128::from(integer)),
        Item::Bytes(bytes) => Value::String(hex(&bytes)),
        Item::Float(float) => Value::from(float),
        Item::Text(text) => Value::String(text),
        Item::Bool(boolean) => Value::Bool(boolean),
        Item::Tag(tag, inner) => tagged(tag, *inner),
        Item::Array(items) => items.into_iter().map(json).collect(),
        Item::Map(entries) => {
            let entry = |(key, value)| Some((key_text(key)?, json(value)));
            Value::Object(entries.into_iter().filter_map(entry).collect::<Map<_, _>>())
        }
        // Null, and what a newer RFC may add.
        _ => Value::Null,
    }
}

/// Keys that are neither text nor a whole number cannot be named in a path.
fn key_text(key: Item) -> Option<String> {
    match key {
        Item::Text(text) => Some(text),
        Item::Integer(integer) => Some(i128::from(integer).to_string()),
        _ => None,
    }
}

/// What is not exact as a number of ours stays a text of digits.
fn whole(number: i128) -> Value {
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => Value::from(number),
        (_, Ok(number)) => Value::from(number),
        _ => Value::String(number.to_string()),
    }
}

/// RFC 8949, 3.4: 2 and 3 are large numbers, 4 is a decimal fraction.
fn tagged(tag: u64, inner: Item) -> Value {
    match (tag, &inner) {
        (2 | 3, Item::Bytes(bytes)) if bytes.len() <= 15 => {
            let number = bytes.iter().fold(0_i128, |number, byte| number << 8 | i128::from(*byte));
            whole(if tag == 2 { number } else { -1 - number })
        }
        (4, Item::Array(items)) => match items.as_slice() {
            [Item::Integer(exponent), Item::Integer(mantissa)] => {
                decimal(i128::from(*mantissa), i128::from(*exponent)).map_or(Value::Null, Value::from)
            }
            _ => json(inner),
        },
        _ => json(inner),
    }
}

/// By way of its text, so that 273 and -1 give 27.3 and not 27.300000000000004.
fn decimal(mantissa: i128, exponent: i128) -> Option<f64> {
    if exponent.abs() > EXPONENT_MAX {
        return None;
    }
    format!("{mantissa}e{exponent}").parse::<f64>().ok().filter(|number| number.is_finite())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    bytes.iter().for_each(|byte| push_hex(&mut text, *byte));
    text
}
