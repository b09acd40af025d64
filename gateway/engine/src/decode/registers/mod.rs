//! Modbus registers to raw values. A poll gives blocks of registers; each field is looked up in them.

mod moment;
mod number;
#[cfg(test)]
mod tests;
mod text;

use kerbside_model::profile::{
    Origin, Point, RegisterField, RegisterFormat, RegisterTime, RegisterType, ValueType, ZONE_DEFAULT,
};
use kerbside_model::time::Zone;
use kerbside_model::{Cause, PointReading, Quality, RegisterFailure, RegisterRead, Value};

use super::convert::{Converter, Raw, Texts};
use super::time::Told;
use super::{Scratch, point_index};
use number::Number;

/// What is read from the registers of one profile.
#[derive(Debug)]
pub(super) struct RegisterPlan {
    fields: Vec<FieldPlan>,
    time: Option<RegisterTime>,
    zone: Option<Zone>,
}

#[derive(Debug)]
struct FieldPlan {
    point: u16,
    field: RegisterField,
    /// Text keeps every digit of a number.
    wants_text: bool,
}

impl RegisterPlan {
    pub(super) fn new(points: &[Point], format: &RegisterFormat) -> RegisterPlan {
        let mut fields = Vec::new();
        for (position, point) in points.iter().enumerate() {
            if let Origin::Register(field) = &point.origin {
                let wants_text = point.value_type == ValueType::Text;
                fields.push(FieldPlan { point: point_index(position), field: *field, wants_text });
            }
        }
        let zone = Zone::named(format.zone.as_deref().unwrap_or(ZONE_DEFAULT));
        RegisterPlan { fields, time: format.time, zone }
    }

    /// Reads every point whose registers are in the answers; a point whose request failed is missing. Gives what the
    /// device says of its time.
    pub(super) fn read(&self, converters: &[Converter], read: &RegisterRead, scratch: &mut Scratch) -> Told {
        let mut answers = Answers { read, last: 0 };
        for plan in &self.fields {
            let converter = &converters[usize::from(plan.point)];
            match answers.find(&plan.field) {
                Found::Words(words, power) => {
                    scratch.keep(0, plan.point, |texts| self.reading(plan, (words, power), converter, texts));
                }
                Found::Failed(cause) => {
                    let quality = Quality::missing(cause);
                    scratch.keep(0, plan.point, |_| PointReading { point: plan.point, value: None, quality });
                }
                Found::NotAsked => {}
            }
        }
        self.told(&mut answers)
    }

    fn told(&self, answers: &mut Answers<'_>) -> Told {
        let Some(RegisterTime { field, .. }) = &self.time else { return Told::Nothing };
        let RegisterType::Time(form) = field.value else { return Told::Nothing };
        let Some(words) = answers.words_of(field) else { return Told::Nothing };
        moment::read(form, field.order, self.zone.as_ref(), words).map_or(Told::Unreadable, Told::Time)
    }

    fn reading(
        &self,
        plan: &FieldPlan,
        (words, power): (&[u16], &[u16]),
        converter: &Converter,
        texts: &mut Texts,
    ) -> PointReading {
        let field = &plan.field;
        match field.value {
            RegisterType::Text { encoding, .. } => {
                let wire = text::WireBytes::of(words, field.order);
                match text::read(wire.as_slice(), encoding) {
                    Some(text) if text.is_empty() => converter.reading(plan.point, Raw::Null, texts),
                    Some(text) => converter.reading(plan.point, Raw::Text(&text), texts),
                    None => converter.reading(plan.point, Raw::Other, texts),
                }
            }
            RegisterType::Time(form) => match moment::read(form, field.order, self.zone.as_ref(), words) {
                Some(time) => converter.reading(plan.point, Raw::Text(&time.to_string()), texts),
                None => converter.reading(plan.point, Raw::Other, texts),
            },
            _ => match number::read(field, words) {
                Some(number) => of_number(plan, number, power, converter, texts),
                None => converter.reading(plan.point, Raw::Other, texts),
            },
        }
    }
}

/// The number in the registers of a field, and how it is written; `None` when they hold no number of this kind.
pub(crate) fn number_in_registers(field: &RegisterField, words: &[u16]) -> Option<(f64, String)> {
    let number = number::read(field, words)?;
    let shown = match number {
        Number::Whole(whole) => whole.to_string(),
        Number::Real(real) => real.to_string(),
    };
    Some((number.to_f64(), shown))
}

/// The text in the registers of a field, without what fills it up.
pub(crate) fn text_in_registers(field: &RegisterField, words: &[u16]) -> Option<String> {
    let RegisterType::Text { encoding, .. } = field.value else { return None };
    text::read(text::WireBytes::of(words, field.order).as_slice(), encoding).map(|text| text.into_owned())
}

/// A number that double precision does not hold in full is suspect; as text it is whole.
fn of_number(
    plan: &FieldPlan,
    number: Number,
    power: &[u16],
    converter: &Converter,
    texts: &mut Texts,
) -> PointReading {
    let raw = number.to_f64();
    let reading = match (plan.field.power, number) {
        (Some(wanted), _) => {
            let power = number::read(&wanted.field(), power);
            match power.and_then(|power| number::to_power(number, power, wanted.meaning)) {
                Some(scaled) => converter.reading_scaled(plan.point, raw, scaled, texts),
                None => converter.reading(plan.point, Raw::Other, texts),
            }
        }
        (None, Number::Whole(whole)) if plan.wants_text => {
            return converter.reading(plan.point, Raw::Text(&whole.to_string()), texts);
        }
        (None, _) => converter.reading(plan.point, Raw::Number(raw), texts),
    };
    match number {
        Number::Whole(whole) if !whole.is_exact() => rounded(reading),
        _ => reading,
    }
}

fn rounded(reading: PointReading) -> PointReading {
    let is_number = matches!(reading.value, Some(Value::Number(_)));
    let quality =
        if is_number && reading.quality.is_good() { Quality::suspect(Cause::Rounded) } else { reading.quality };
    PointReading { quality, ..reading }
}

/// What the answers hold of a field.
#[derive(Debug)]
enum Found<'a> {
    /// Its registers, and that of its power, where it has one.
    Words(&'a [u16], &'a [u16]),
    /// The unit did not give them all, and why.
    Failed(Cause),
    /// They were not asked for in this poll.
    NotAsked,
}

/// The answers of one poll.
#[derive(Debug)]
struct Answers<'a> {
    read: &'a RegisterRead,
    /// Where the last field was found: the next one mostly lies in the same block or the one behind it.
    last: usize,
}

impl<'a> Answers<'a> {
    fn find(&mut self, field: &RegisterField) -> Found<'a> {
        let power = field.power.map(|power| power.field());
        let words = self.words_of(field);
        let power_words = power.as_ref().map_or(Some([].as_slice()), |power| self.words_of(power));
        match (words, power_words) {
            (Some(words), Some(power_words)) => Found::Words(words, power_words),
            _ => {
                let failure = self.failure(field).or_else(|| self.failure(&power?));
                failure.map_or(Found::NotAsked, |failure| Found::Failed(failure.reading_cause()))
            }
        }
    }

    fn words_of(&mut self, field: &RegisterField) -> Option<&'a [u16]> {
        let blocks = &self.read.blocks;
        for step in 0..blocks.len() {
            let position = self.last + step;
            let position = if position < blocks.len() { position } else { position - blocks.len() };
            let block = &blocks[position];
            if block.table != field.table || block.address > field.address {
                continue;
            }
            let start = usize::from(field.address - block.address);
            if let Some(words) = block.words.get(start..start + usize::from(field.width())) {
                self.last = position;
                return Some(words);
            }
        }
        None
    }

    fn failure(&self, field: &RegisterField) -> Option<&'a RegisterFailure> {
        let start = u32::from(field.address);
        let end = start + u32::from(field.width());
        self.read.failures.iter().find(|failure| {
            let first = u32::from(failure.address);
            let is_any = failure.count > 0;
            is_any && failure.table == field.table && first < end && start < first + u32::from(failure.count)
        })
    }
}
