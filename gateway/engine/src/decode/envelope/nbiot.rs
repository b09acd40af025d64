//! The frame in which NB-IoT sensors of Milesight (EM400 series) send the channels that their LoRaWAN sisters send bare.
//!
//! Layout: the NB-IoT section of the EM400-UDL page in github.com/Milesight-IoT/SensorDecoders. Several frames may stand
//! one behind the other in one message; their channels are read as one.

use std::borrow::Cow;

use super::{Opened, Uplink, finish};

/// The first byte of every frame.
const START: u8 = 0x02;
/// Start, id and the length of what follows.
const PREFIX_BYTES: usize = 5;
/// Where the serial number stands: behind flag, frame count, protocol version, firmware and hardware version.
const SERIAL_AT: usize = PREFIX_BYTES + 1 + 2 + 1 + 4 + 4;
const SERIAL_BYTES: usize = 16;
const IMEI_AT: usize = SERIAL_AT + SERIAL_BYTES;
const IMEI_BYTES: usize = 15;
/// Behind IMEI, IMSI and the number of the card.
const SIGNAL_AT: usize = IMEI_AT + IMEI_BYTES + 15 + 20;
const LENGTH_AT: usize = SIGNAL_AT + 1;
const CHANNELS_AT: usize = LENGTH_AT + 2;
/// Greatest signal quality that is known (3GPP TS 27.007, +CSQ); 99 stands for none.
const SIGNAL_MAX: u8 = 31;
/// More frames in one message are none of a device that sends them in an hour.
const FRAMES_MAX: usize = 64;

struct Frame<'a> {
    serial: &'a [u8],
    imei: &'a [u8],
    signal: u8,
    channels: &'a [u8],
}

/// Whether a payload begins as a frame does.
pub(super) fn begins(payload: &[u8]) -> bool {
    split(payload).is_ok()
}

/// Whether a payload is such a frame, and cannot be anything else: every length in it fits, and where the IMEI should
/// stand there are 15 digits (3GPP TS 23.003, section 6.2.1).
pub(super) fn is_frame(payload: &[u8]) -> bool {
    split(payload).is_ok_and(|(frame, _)| frame.imei.iter().all(u8::is_ascii_digit))
}

/// Opens a message.
pub(super) fn open(payload: &[u8]) -> Result<Opened<'_>, String> {
    let (first, mut rest) = split(payload)?;
    let mut uplink = Uplink { bytes: Cow::Borrowed(first.channels), ..Uplink::default() };
    let mut count = 1;
    while !rest.is_empty() {
        let (next, behind) = split(rest).map_err(|what| format!("frame {} of the message: {what}", count + 1))?;
        if next.imei != first.imei {
            return Err(format!("frame {} of the message is of another device than the first", count + 1));
        }
        count += 1;
        if count > FRAMES_MAX {
            return Err(format!("the message holds more than {FRAMES_MAX} frames"));
        }
        uplink.bytes.to_mut().extend_from_slice(next.channels);
        rest = behind;
    }
    uplink.link.rssi_dbm = (first.signal <= SIGNAL_MAX).then(|| f64::from(first.signal) * 2.0 - 113.0);
    uplink.name(text(first.imei));
    uplink.name(text(first.serial));
    if uplink.names().next().is_none() {
        return Err("the frame names neither an IMEI nor a serial number".to_owned());
    }
    finish(uplink)
}

/// The first frame, and what stands behind it.
fn split(bytes: &[u8]) -> Result<(Frame<'_>, &[u8]), String> {
    let short = |need: usize| format!("no NB-IoT frame: {} bytes, and {need} are needed", bytes.len());
    if bytes.first() != Some(&START) {
        return Err(format!("no NB-IoT frame: it does not begin with the byte {START:#04x}"));
    }
    let word = |at: usize| Some(usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])));
    let length = PREFIX_BYTES + word(3).ok_or_else(|| short(PREFIX_BYTES))?;
    let frame = bytes.get(..length).ok_or_else(|| short(length))?;
    let channels = match word(LENGTH_AT) {
        Some(count) if length >= CHANNELS_AT => frame.get(CHANNELS_AT..CHANNELS_AT + count),
        _ => {
            return Err(format!("no NB-IoT frame: its length is {length}, and its head alone has {CHANNELS_AT} bytes"));
        }
    };
    let Some(channels) = channels else {
        return Err("no NB-IoT frame: its channels reach behind its end".to_owned());
    };
    let field = |at: usize, count: usize| &frame[at..at + count];
    let (serial, imei) = (field(SERIAL_AT, SERIAL_BYTES), field(IMEI_AT, IMEI_BYTES));
    Ok((Frame { serial, imei, signal: frame[SIGNAL_AT], channels }, &bytes[length..]))
}

/// A field of letters and digits; zeros and blanks fill what is left.
fn text(field: &[u8]) -> Option<Cow<'_, str>> {
    let end = field.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
    let field = &field[..end];
    let is_plain = !field.is_empty() && field.iter().all(u8::is_ascii_alphanumeric);
    std::str::from_utf8(field).ok().filter(|_| is_plain).map(Cow::Borrowed)
}
