//! Raw values to readings: invalid marks, mapping, scale, offset, type and range.

use std::sync::Arc;

use kerbside_model::profile::{Point, Range, RawValue, ValueType};
use kerbside_model::{Cause, MAGNITUDE_MAX, PointReading, Quality, Value};

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
    /// Nothing is looked up in `map` or `invalid`.
    is_plain: bool,
    pub(super) required: bool,
}

/// The text that each point had last, so that the same firmware version is not allocated for every frame.
#[derive(Debug, Default)]
pub(super) struct Texts(Vec<Option<Arc<str>>>);

impl Texts {
    fn shared(&mut self, point: u16, text: &str) -> Arc<str> {
        let position = usize::from(point);
        if self.0.len() <= position {
            self.0.resize(position + 1, None);
        }
        match &self.0[position] {
            Some(known) if known.as_ref() == text => Arc::clone(known),
            _ => Arc::clone(self.0[position].insert(Arc::from(text))),
        }
    }
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
            is_plain: point.map.is_empty() && point.invalid.is_empty(),
            required: point.required,
        }
    }

    /// The reading of a raw value.
    #[inline]
    pub(super) fn reading(&self, point: u16, raw: Raw<'_>, texts: &mut Texts) -> PointReading {
        match raw {
            Raw::Number(number) if self.is_plain && self.value_type == ValueType::Number => {
                self.number(point, self.scale.apply(number) + self.offset)
            }
            _ => self.other_reading(point, raw, texts),
        }
    }

    fn other_reading(&self, point: u16, raw: Raw<'_>, texts: &mut Texts) -> PointReading {
        if !self.is_plain
            && let Some(reading) = self.marked(point, raw)
        {
            return reading;
        }
        self.unmarked_reading(point, raw, texts)
    }

    /// The reading of a number that the device scales by itself; the marks of the profile are about the raw number.
    pub(super) fn reading_scaled(&self, point: u16, raw: f64, scaled: f64, texts: &mut Texts) -> PointReading {
        let marked = if self.is_plain { None } else { self.marked(point, Raw::Number(raw)) };
        marked.unwrap_or_else(|| self.unmarked_reading(point, Raw::Number(scaled), texts))
    }

    fn unmarked_reading(&self, point: u16, raw: Raw<'_>, texts: &mut Texts) -> PointReading {
        if raw == Raw::Null {
            return PointReading { point, value: None, quality: Quality::missing(Cause::Invalid) };
        }
        let value = match self.value_type {
            ValueType::Number => {
                let Some(number) = as_number(raw) else { return wrong_type(point) };
                return self.number(point, self.scale.apply(number) + self.offset);
            }
            ValueType::Boolean => as_boolean(raw).map(Value::Boolean),
            ValueType::Enumeration => self.label(raw),
            ValueType::Text => as_text(point, raw, texts),
        };
        match value {
            Some(value) => PointReading { point, value: Some(value), quality: Quality::GOOD },
            None => wrong_type(point),
        }
    }

    /// What the profile says of this very value.
    fn marked(&self, point: u16, raw: Raw<'_>) -> Option<PointReading> {
        if self.invalid.iter().any(|invalid| matches(invalid, raw)) {
            return Some(PointReading { point, value: None, quality: Quality::missing(Cause::Invalid) });
        }
        if raw == Raw::Null {
            return None;
        }
        let (_, value) = self.map.iter().find(|(from, _)| matches(from, raw))?;
        Some(match value {
            Value::Number(number) => self.number(point, *number),
            _ => PointReading { point, value: Some(value.clone()), quality: Quality::GOOD },
        })
    }

    /// The reading of a number that is already in the point's unit.
    #[inline]
    pub(super) fn number(&self, point: u16, number: f64) -> PointReading {
        if !number.is_finite() {
            return PointReading { point, value: None, quality: Quality::bad(Cause::Type) };
        }
        let inside = self.range.is_none_or(|range| (range.min..=range.max).contains(&number));
        let quality = if inside && number.abs() <= MAGNITUDE_MAX { Quality::GOOD } else { Quality::bad(Cause::Range) };
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
        (RawValue::NotANumber, Raw::Number(number)) => number.is_nan(),
        (RawValue::NotANumber, Raw::Text(text)) => text.trim().eq_ignore_ascii_case("nan"),
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

fn as_text(point: u16, raw: Raw<'_>, texts: &mut Texts) -> Option<Value> {
    match raw {
        Raw::Text(text) => Some(Value::Text(texts.shared(point, text))),
        Raw::Number(number) => Some(Value::Text(Arc::from(number.to_string()))),
        Raw::Boolean(boolean) => Some(Value::Text(Arc::from(boolean.to_string()))),
        Raw::Null | Raw::Other => None,
    }
}
