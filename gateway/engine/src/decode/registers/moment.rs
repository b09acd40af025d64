//! Registers to points in time.

use kerbside_model::Timestamp;
use kerbside_model::profile::{ByteOrder, TimeForm, TimePart, TimeParts};
use kerbside_model::time::Zone;

use super::text::WireBytes;

/// Years below this are counted from the year 2000: devices write 26 for 2026.
const YEARS_SHORT_BELOW: u16 = 100;
const CENTURY: u16 = 20;

/// The time in the registers of a field, which are as many as the form is wide. `None` when it is no time: a clock that
/// was never set has a month 0.
pub(super) fn read(form: TimeForm, order: ByteOrder, zone: Option<&Zone>, words: &[u16]) -> Option<Timestamp> {
    let wire = WireBytes::of(words, order);
    let bytes = wire.as_slice();
    match form {
        TimeForm::Seconds => {
            let seconds = u32::from_be_bytes(bytes.try_into().ok()?);
            Some(Timestamp(i64::from(seconds) * 1_000))
        }
        TimeForm::Milliseconds => {
            let milliseconds = u64::from_be_bytes(bytes.try_into().ok()?);
            i64::try_from(milliseconds).ok().map(Timestamp)
        }
        TimeForm::Words(parts) => {
            let words = bytes.chunks_exact(2).map(|pair| Some(u16::from_be_bytes([pair[0], pair[1]])));
            of_parts(parts, words, zone?)
        }
        TimeForm::Bytes(parts) => of_parts(parts, bytes.iter().map(|byte| Some(u16::from(*byte))), zone?),
        TimeForm::Bcd(parts) => of_parts(parts, bytes.iter().map(|byte| two_digits(*byte)), zone?),
    }
}

fn two_digits(byte: u8) -> Option<u16> {
    let (high, low) = (byte >> 4, byte & 0xF);
    (high <= 9 && low <= 9).then(|| u16::from(high) * 10 + u16::from(low))
}

/// A part that is skipped may hold anything.
fn of_parts(parts: TimeParts, numbers: impl Iterator<Item = Option<u16>>, zone: &Zone) -> Option<Timestamp> {
    let (mut year, mut century, mut date, mut time) = (0, None, (0, 0), (0, 0, 0));
    for (part, number) in parts.iter().zip(numbers) {
        if part == TimePart::Skip {
            continue;
        }
        let number = number?;
        let small = i8::try_from(number);
        match part {
            TimePart::Skip => {}
            TimePart::Century => century = Some(number),
            TimePart::Year => year = number,
            TimePart::Month => date.0 = small.ok()?,
            TimePart::Day => date.1 = small.ok()?,
            TimePart::Hour => time.0 = small.ok()?,
            TimePart::Minute => time.1 = small.ok()?,
            TimePart::Second => time.2 = small.ok()?,
        }
    }
    if year < YEARS_SHORT_BELOW {
        year += century.unwrap_or(CENTURY).checked_mul(100)?;
    }
    zone.at((i16::try_from(year).ok()?, date.0, date.1), time, 0)
}
