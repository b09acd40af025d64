//! How a value stands in bytes: offset, type, order, bits.

use super::MESSAGE_BYTES_MAX;
use crate::document::{Section, closest};
use crate::profile::{BinaryField, BinaryType, Bits, Endian, Sign};

pub(super) const ENDIANS: [(&str, Endian); 2] = [("big", Endian::Big), ("little", Endian::Little)];

/// Types whose name says how many bytes they take.
const FIXED_TYPES: [(&str, BinaryType); 21] = [
    ("u8", BinaryType::Unsigned(1)),
    ("u16", BinaryType::Unsigned(2)),
    ("u24", BinaryType::Unsigned(3)),
    ("u32", BinaryType::Unsigned(4)),
    ("u40", BinaryType::Unsigned(5)),
    ("u48", BinaryType::Unsigned(6)),
    ("u56", BinaryType::Unsigned(7)),
    ("u64", BinaryType::Unsigned(8)),
    ("i8", BinaryType::Signed(1)),
    ("i16", BinaryType::Signed(2)),
    ("i24", BinaryType::Signed(3)),
    ("i32", BinaryType::Signed(4)),
    ("i40", BinaryType::Signed(5)),
    ("i48", BinaryType::Signed(6)),
    ("i56", BinaryType::Signed(7)),
    ("i64", BinaryType::Signed(8)),
    ("f16", BinaryType::Float(2)),
    ("f32", BinaryType::Float(4)),
    ("f64", BinaryType::Float(8)),
    ("datetime", BinaryType::DateTime),
    ("bcd_datetime", BinaryType::BcdDateTime),
];
/// Types that need `length`.
const LONG_TYPES: [&str; 4] = ["bcd", "text", "hex", "dotted"];
/// A BCD number has no more digits than an exact number: sixteen.
const BCD_BYTES_MAX: u16 = 8;

/// A number that was read within limits which the type holds.
pub(super) fn small<T: TryFrom<i64> + Default>(number: i64) -> T {
    T::try_from(number).unwrap_or_default()
}

pub(super) struct FieldReader<'a> {
    pub(super) section: &'a Section<'a>,
    /// The order of the payload, where the field has none of its own.
    pub(super) endian: Endian,
}

impl FieldReader<'_> {
    pub(super) fn read(&self) -> BinaryField {
        let section = self.section;
        let offset = section.integer("offset", -MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX).unwrap_or(0);
        let value = self.read_type();
        let field = BinaryField {
            offset: small(offset),
            value,
            endian: section.choice("endian", &ENDIANS).unwrap_or(self.endian),
            bits: self.read_bits(value),
            sign: section.choice("sign", &[("twos", Sign::Twos), ("magnitude", Sign::Magnitude)]).unwrap_or_default(),
            zero: section.integer("zero", i64::from(i32::MIN), i64::from(u32::MAX)).unwrap_or(0),
        };
        self.check(&field);
        field
    }

    fn read_type(&self) -> BinaryType {
        let Some(name) = self.section.text("type") else { return BinaryType::Unsigned(1) };
        if let Some((_, value)) = FIXED_TYPES.iter().find(|(known, _)| *known == name) {
            if self.section.has("length") {
                let mend = "leave `length` out, or write `type: bcd`, `text`, `hex` or `dotted`";
                self.section.problem("length", "", format!("{name} has a length of its own"), mend);
            }
            return *value;
        }
        match name.as_str() {
            "bcd" => BinaryType::Bcd(u8::try_from(self.read_length(BCD_BYTES_MAX)).unwrap_or(1)),
            "text" => BinaryType::Text(self.read_length_or_rest()),
            "hex" => BinaryType::Hex(self.read_length_or_rest()),
            "dotted" => BinaryType::Dotted(self.read_length(16)),
            _ => {
                let names: Vec<&str> = FIXED_TYPES.iter().map(|(known, _)| *known).chain(LONG_TYPES).collect();
                let mend = match closest(&name, &names) {
                    Some(known) => format!("did you mean {known}?"),
                    None => format!("write one of {}", names.join(", ")),
                };
                self.section.problem("type", &name, "not one of the known types", mend);
                BinaryType::Unsigned(1)
            }
        }
    }

    fn read_length_or_rest(&self) -> u16 {
        let is_rest = self.section.node("length").is_some_and(|node| super::written(node) == "rest");
        if is_rest { 0 } else { self.read_length(u16::try_from(MESSAGE_BYTES_MAX).unwrap_or(u16::MAX)) }
    }

    fn read_length(&self, max: u16) -> u16 {
        if !self.section.has("length") {
            self.section.missing("length", "write how many bytes it has: `length: 8`");
        }
        self.section.integer("length", 1, i64::from(max)).map_or(1, small)
    }

    fn read_bits(&self, value: BinaryType) -> Option<Bits> {
        let section = self.section;
        let width = match value {
            BinaryType::Unsigned(bytes) | BinaryType::Signed(bytes) => i64::from(bytes) * 8,
            _ => 64,
        };
        let bit = section.integer("bit", 0, width - 1).map(|from| Bits { from: small(from), count: 1 });
        let bits = section.section("bits").map(|bits| {
            for key in ["from", "count"] {
                if !bits.has(key) {
                    bits.missing(key, "write the lowest bit and how many: `bits: {from: 4, count: 2}`");
                }
            }
            let from = bits.integer("from", 0, width - 1).unwrap_or(0);
            let count = bits.integer("count", 1, width - from).unwrap_or(1);
            bits.finish();
            Bits { from: small(from), count: small(count) }
        });
        if bit.is_some() && bits.is_some() {
            section.problem("bits", "", "`bit` says already which one", "keep one of the two");
        }
        if (bit.is_some() || bits.is_some()) && !value.is_integer() {
            section.problem("type", "", "bits are taken from a whole number", "write `type: u8`, `u16` or longer");
        }
        bits.or(bit)
    }

    fn check(&self, field: &BinaryField) {
        let number = |key: &'static str| {
            if self.section.has(key) && !field.value.is_integer() {
                self.section.problem(key, "", "only a whole number has it", format!("leave `{key}` out"));
            }
        };
        number("zero");
        number("sign");
        if field.bits.is_some() && field.sign == Sign::Magnitude {
            let mend = "take the sign as a point of its own, or leave `bits` out";
            self.section.problem("sign", "magnitude", "the sign is one of the bits that are left out", mend);
        }
        if let (true, Some(width)) = (field.offset < 0, field.width())
            && i32::from(field.offset) + i32::from(width) > 0
        {
            let mend = format!("the last {width} bytes begin at -{width}");
            self.section.problem("offset", &field.offset.to_string(), "it reaches behind the end", mend);
        }
    }
}
