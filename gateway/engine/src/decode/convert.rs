//! Raw values to readings: invalid marks, mapping, scale, offset, type and range.

use std::sync::Arc;

use kerbside_model::profile::{Point, Range, RawValue, ValueType};
use kerbside_model::{Cause, PointReading, Quality, Value};

/// A value as the device sent it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Raw<'a> {
    Number(f64),
    Boolean(bool),
    Text(&'a str),
    Null,
    /// A list or an object where a single value was expected.
    Other,
}

/// How the values of one point are read.
#[derive(Debug)]
pub(super) struct Converter {
    value_type: ValueType,
    scale: Scale,
    offset: f64,
    range: Option<Range>,
    map: Vec<(RawValue, Value)>,
    invalid: Vec<RawValue>,
    pub(super) required: bool,
}

/// Dividing by 10 gives 0.3 where multiplying by 0.1 gives 0.30000000000000004.
#[derive(Debug)]
enum Scale {
    One,
    Times(f64),
    Over(f64),
}

impl Scale {
    fn new(factor: f64) -> Scale {
        let divisor = 1.0 / factor;
        if factor == 1.0 {
            Scale::One
        } else if factor.abs() < 1.0 && (divisor - divisor.round()).abs() < 1e-9 * divisor.abs() {
            Scale::Over(divisor.round())
        } else {
            Scale::Times(factor)
        }
    }

    fn apply(&self, number: f64) -> f64 {
        match self {
            Scale::One => number,
            Scale::Times(factor) => number * factor,
            Scale::Over(divisor) => number / divisor,
        }
    }
}

impl Converter {
    pub(super) fn new(point: &Point) -> Converter {
        Converter {
            value_type: point.value_type,
            scale: Scale::new(point.scale),
            offset: point.offset,
            range: point.range,
            map: point.map.clone(),
            invalid: point.invalid.clone(),
            required: point.required,
        }
    }

    /// The reading of a raw value.
    pub(super) fn reading(&self, point: u16, raw: Raw<'_>) -> PointReading {
        let missing = |cause| PointReading { point, value: None, quality: Quality::missing(cause) };
        if raw == Raw::Null || self.invalid.iter().any(|invalid| matches(invalid, raw)) {
            return missing(Cause::Invalid);
        }
        if let Some((_, value)) = self.map.iter().find(|(from, _)| matches(from, raw)) {
            return match value {
                Value::Number(number) => self.number(point, *number),
                _ => PointReading { point, value: Some(value.clone()), quality: Quality::GOOD },
            };
        }
        let value = match self.value_type {
            ValueType::Number => {
                let Some(number) = as_number(raw) else { return wrong_type(point) };
                return self.number(point, self.scale.apply(number) + self.offset);
            }
            ValueType::Boolean => as_boolean(raw).map(Value::Boolean),
            ValueType::Enumeration => self.label(raw),
            ValueType::Text => as_text(raw),
        };
        match value {
            Some(value) => PointReading { point, value: Some(value), quality: Quality::GOOD },
            None => wrong_type(point),
        }
    }

    /// The reading of a number that is already in the point's unit.
    pub(super) fn number(&self, point: u16, number: f64) -> PointReading {
        if !number.is_finite() {
            return PointReading { point, value: None, quality: Quality::bad(Cause::Type) };
        }
        let inside = self.range.is_none_or(|range| (range.min..=range.max).contains(&number));
        let quality = if inside { Quality::GOOD } else { Quality::bad(Cause::Range) };
        PointReading { point, value: Some(Value::Number(number)), quality }
    }

    fn label(&self, raw: Raw<'_>) -> Option<Value> {
        let Raw::Text(text) = raw else { return None };
        let is_label = |value: &&Value| matches!(value, Value::Text(label) if label.as_ref() == text);
        self.map.iter().map(|(_, value)| value).find(is_label).cloned()
    }
}

/// Stored without a value: a field of the database keeps one type for ever.
fn wrong_type(point: u16) -> PointReading {
    PointReading { point, value: None, quality: Quality::bad(Cause::Type) }
}

fn matches(wanted: &RawValue, raw: Raw<'_>) -> bool {
    match (wanted, raw) {
        (RawValue::Null, Raw::Null) => true,
        (RawValue::Boolean(wanted), Raw::Boolean(boolean)) => *wanted == boolean,
        (RawValue::Text(wanted), Raw::Text(text)) => wanted == text,
        (RawValue::Number(wanted), Raw::Number(number)) => *wanted == number,
        (RawValue::Number(wanted), Raw::Text(text)) => text.trim().parse::<f64>().is_ok_and(|number| number == *wanted),
        _ => false,
    }
}

/// Some firmware puts its numbers in quotes.
fn as_number(raw: Raw<'_>) -> Option<f64> {
    match raw {
        Raw::Number(number) => Some(number),
        Raw::Text(text) => text.trim().parse::<f64>().ok().filter(|number| number.is_finite()),
        _ => None,
    }
}

fn as_boolean(raw: Raw<'_>) -> Option<bool> {
    match raw {
        Raw::Boolean(boolean) => Some(boolean),
        Raw::Number(0.0) => Some(false),
        Raw::Number(1.0) => Some(true),
        Raw::Text("true" | "1") => Some(true),
        Raw::Text("false" | "0") => Some(false),
        _ => None,
    }
}

fn as_text(raw: Raw<'_>) -> Option<Value> {
    match raw {
        Raw::Text(text) => Some(Value::Text(Arc::from(text))),
        Raw::Number(number) => Some(Value::Text(Arc::from(number.to_string()))),
        Raw::Boolean(boolean) => Some(Value::Text(Arc::from(boolean.to_string()))),
        Raw::Null | Raw::Other => None,
    }
}
