//! Modbus registers in a profile: how a unit is asked, and how what it answers is read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Origin, PayloadFormat, Profile};
use crate::frame::RegisterTable;

/// How a unit is asked, and where its own time stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterFormat {
    /// Registers that lie between two wanted ones are read too when there are at most so many of them.
    pub gap_max: u16,
    /// The unit answers no more registers at once than this (Modbus: 125).
    pub registers_max: u16,
    /// The unit answers no more coils or discrete inputs at once than this (Modbus: 2000).
    pub bits_max: u16,
    /// Each point is asked for by itself: the unit answers wrongly, or not at all, when it is asked for more.
    pub one_point_per_request: bool,
    /// The line is silent for at least so long before each request to this unit.
    pub pause: Duration,
    /// Longest wait for an answer of this unit, when it is another than the bus has.
    pub timeout: Option<Duration>,
    /// Order of the bytes of numbers that name none of their own.
    pub order: ByteOrder,
    /// Where the device's own time stands.
    pub time: Option<RegisterTime>,
    /// The zone of times without one, by its IANA name; `None` until the site's own is put in.
    pub zone: Option<String>,
}

/// Where the device's own time stands in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterTime {
    /// The place; its type is [`RegisterType::Time`].
    pub field: RegisterField,
    /// The device's clock is wrong when it is off by more than this.
    pub drift_max: Duration,
}

/// A value in Modbus registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterField {
    /// Which table.
    pub table: RegisterTable,
    /// Address of the first register on the wire (0-based).
    pub address: u16,
    /// How the registers are read.
    pub value: RegisterType,
    /// Order of the bytes and of the registers.
    pub order: ByteOrder,
    /// Some bits of the number instead of the whole.
    pub bits: Option<Bits>,
    /// How a number below zero is written.
    pub sign: Sign,
    /// Another register that holds a power of ten.
    pub power: Option<Power>,
}

impl RegisterField {
    /// A field as the Modbus specification has it: big-endian, the whole number, no power.
    pub fn new(table: RegisterTable, address: u16, value: RegisterType) -> RegisterField {
        let (order, sign) = (ByteOrder::default(), Sign::default());
        RegisterField { table, address, value, order, bits: None, sign, power: None }
    }

    /// How many registers it takes: 1 to 125.
    pub fn width(&self) -> u16 {
        self.value.width()
    }

    /// Everything that must be read for it: itself, and the register of its power.
    pub fn needs(&self) -> impl Iterator<Item = RegisterField> + use<> {
        [Some(*self), self.power.map(|power| power.field())].into_iter().flatten()
    }
}

/// How registers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterType {
    /// One register, unsigned. Also for coils and discrete inputs.
    U16,
    /// One register, signed.
    I16,
    /// Two registers, unsigned.
    U32,
    /// Two registers, signed.
    I32,
    /// Two registers, IEEE 754 single precision.
    F32,
    /// One byte of a register, unsigned.
    U8(Half),
    /// One byte of a register, signed.
    I8(Half),
    /// Three registers, unsigned.
    U48,
    /// Three registers, signed.
    I48,
    /// Four registers, unsigned.
    U64,
    /// Four registers, signed.
    I64,
    /// One register, IEEE 754 half precision.
    F16,
    /// Four registers, IEEE 754 double precision.
    F64,
    /// One register, four decimal digits of four bits each.
    Bcd4,
    /// Two registers, eight decimal digits.
    Bcd8,
    /// Three registers, twelve decimal digits.
    Bcd12,
    /// Four registers, sixteen decimal digits.
    Bcd16,
    /// Text.
    Text {
        /// How many registers: 1 to 125.
        registers: u16,
        /// How its bytes are to be understood.
        encoding: TextEncoding,
    },
    /// Date and time.
    Time(TimeForm),
}

impl RegisterType {
    /// How many registers it takes: 1 to 125.
    pub fn width(self) -> u16 {
        match self {
            RegisterType::U8(_) | RegisterType::I8(_) | RegisterType::U16 | RegisterType::I16 => 1,
            RegisterType::F16 | RegisterType::Bcd4 => 1,
            RegisterType::U32 | RegisterType::I32 | RegisterType::F32 | RegisterType::Bcd8 => 2,
            RegisterType::U48 | RegisterType::I48 | RegisterType::Bcd12 => 3,
            RegisterType::U64 | RegisterType::I64 | RegisterType::F64 | RegisterType::Bcd16 => 4,
            RegisterType::Text { registers, .. } => registers,
            RegisterType::Time(form) => form.width(),
        }
    }

    /// How many bits its number has; `None` for what is no whole number of bits.
    pub fn integer_bits(self) -> Option<u8> {
        match self {
            RegisterType::U8(_) | RegisterType::I8(_) => Some(8),
            RegisterType::U16 | RegisterType::I16 => Some(16),
            RegisterType::U32 | RegisterType::I32 => Some(32),
            RegisterType::U48 | RegisterType::I48 => Some(48),
            RegisterType::U64 | RegisterType::I64 => Some(64),
            _ => None,
        }
    }

    /// Whether it is a whole number that may lie below zero.
    pub fn is_signed(self) -> bool {
        use RegisterType::{I8, I16, I32, I48, I64};
        matches!(self, I8(_) | I16 | I32 | I48 | I64)
    }

    /// Whether it is decimal digits.
    pub fn is_bcd(self) -> bool {
        matches!(self, RegisterType::Bcd4 | RegisterType::Bcd8 | RegisterType::Bcd12 | RegisterType::Bcd16)
    }
}

/// Which byte of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Half {
    /// The one that comes first on the wire.
    High,
    /// The one that comes second.
    Low,
}

/// Adjacent bits of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bits {
    /// The first, 0 = least significant.
    pub from: u8,
    /// How many, 1 to 64.
    pub count: u8,
}

/// How a number below zero is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// As the type says: in two's complement, or never.
    #[default]
    Twos,
    /// The most significant bit is the sign and the others are the magnitude.
    Magnitude,
}

/// A register that holds a power of ten for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Power {
    /// Which table.
    pub table: RegisterTable,
    /// Its address on the wire (0-based).
    pub address: u16,
    /// How it is read: a whole number of one register.
    pub value: RegisterType,
    /// What it means.
    pub meaning: PowerMeaning,
}

impl Power {
    /// The register as a field of its own.
    pub fn field(&self) -> RegisterField {
        RegisterField::new(self.table, self.address, self.value)
    }
}

/// What a power of ten means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerMeaning {
    /// value = raw times 10 to this power.
    Exponent,
    /// value = raw with so many digits behind the point.
    Decimals,
}

/// How the bytes of a text are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextEncoding {
    /// ASCII.
    Ascii,
    /// UTF-8.
    Utf8,
    /// GBK, as GB 18030 has it.
    Gbk,
}

/// How date and time stand in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeForm {
    /// Seconds since 1970 UTC in two registers.
    Seconds,
    /// Milliseconds since 1970 UTC in four registers.
    Milliseconds,
    /// Year, month and so on, each in a register of its own.
    Words(TimeParts),
    /// Year, month and so on, each in a byte.
    Bytes(TimeParts),
    /// Year, month and so on, each in a byte as two decimal digits.
    Bcd(TimeParts),
}

impl TimeForm {
    fn width(self) -> u16 {
        match self {
            TimeForm::Seconds => 2,
            TimeForm::Milliseconds => 4,
            TimeForm::Words(parts) => parts.len(),
            TimeForm::Bytes(parts) | TimeForm::Bcd(parts) => parts.len().div_ceil(2),
        }
    }
}

/// A date and time has no more parts than this: six, a century, a day of the week and two bytes of filling.
pub const TIME_PARTS_MAX: usize = 10;

/// The parts of a date and time in the order of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeParts {
    parts: [TimePart; TIME_PARTS_MAX],
    count: u8,
}

impl TimeParts {
    /// The parts; `None` when there are none or too many of them.
    pub fn new(parts: &[TimePart]) -> Option<TimeParts> {
        let mut all = [TimePart::Skip; TIME_PARTS_MAX];
        all.get_mut(..parts.len())?.copy_from_slice(parts);
        let count = u8::try_from(parts.len()).ok().filter(|count| *count > 0)?;
        Some(TimeParts { parts: all, count })
    }

    /// The parts in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = TimePart> + '_ {
        self.parts.iter().copied().take(usize::from(self.count))
    }

    fn len(self) -> u16 {
        u16::from(self.count)
    }
}

impl Default for TimeParts {
    /// Year, month, day, hour, minute, second.
    fn default() -> TimeParts {
        use TimePart::{Day, Hour, Minute, Month, Second, Year};
        TimeParts::new(&[Year, Month, Day, Hour, Minute, Second]).expect("six parts are not too many")
    }
}

/// One part of a date and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimePart {
    /// Nothing that is used, such as the day of the week.
    Skip,
    /// The first two digits of the year.
    Century,
    /// The year; below 100 it is one of this century, unless the century has a part of its own.
    Year,
    /// 1 to 12.
    Month,
    /// 1 to 31.
    Day,
    /// 0 to 23.
    Hour,
    /// 0 to 59.
    Minute,
    /// 0 to 59.
    Second,
}

/// Order of the bytes on the wire. The names are those of four bytes, A the most significant; values of other widths
/// are turned round in the same way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ByteOrder {
    /// Big-endian: as the Modbus specification has it.
    #[default]
    Abcd,
    /// Last register first.
    Cdab,
    /// Bytes swapped in each register.
    Badc,
    /// Little-endian: last register first, bytes swapped in each.
    Dcba,
}

impl ByteOrder {
    /// Whether the bytes of each register are swapped.
    pub fn swaps_bytes(self) -> bool {
        matches!(self, ByteOrder::Badc | ByteOrder::Dcba)
    }

    /// Whether the last register comes first.
    pub fn swaps_words(self) -> bool {
        matches!(self, ByteOrder::Cdab | ByteOrder::Dcba)
    }
}

impl Profile {
    /// Every place that must be read for the points of a profile of registers, and for the device's time.
    pub fn register_fields(&self) -> Vec<RegisterField> {
        let mut fields: Vec<RegisterField> = Vec::new();
        for point in &self.points {
            if let Origin::Register(field) = &point.origin {
                fields.extend(field.needs());
            }
        }
        if let PayloadFormat::Registers(RegisterFormat { time: Some(time), .. }) = &self.payload {
            fields.push(time.field);
        }
        fields
    }
}
