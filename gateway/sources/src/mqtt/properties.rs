//! Properties of MQTT 5 packets, walked where they lie. Nothing is copied.

use super::codec::{CodecError, read_u16, variable_integer};

/// Identifiers that somebody here asks for (MQTT 5, section 2.2.2.2).
pub(super) mod id {
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const USER_PROPERTY: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const WILDCARDS_AVAILABLE: u8 = 0x28;
    pub(crate) const SHARED_AVAILABLE: u8 = 0x2A;
}

/// The value of one property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u32),
    /// Text or bytes.
    Bytes(&'a [u8]),
    /// Name and value of a user property.
    Pair(&'a [u8], &'a [u8]),
}

/// Walks properties: what stands behind their length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Properties<'a> {
    rest: &'a [u8],
    packet: &'static str,
}

impl<'a> Properties<'a> {
    pub(super) fn new(bytes: &'a [u8], packet: &'static str) -> Properties<'a> {
        Properties { rest: bytes, packet }
    }

    /// Identifier and value of the next one.
    pub(super) fn next(&mut self) -> Result<Option<(u8, Value<'a>)>, CodecError> {
        let Some((id, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let value = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Value::Number(u32::from(self.take(1)?[0])),
            0x13 | 0x21 | 0x22 | 0x23 => Value::Number(self.take(2)?.iter().fold(0, big_endian)),
            0x02 | 0x11 | 0x18 | 0x27 => Value::Number(self.take(4)?.iter().fold(0, big_endian)),
            0x0B => {
                let (value, bytes) = variable_integer(self.rest)?.ok_or(CodecError::Short(self.packet))?;
                self.take(bytes)?;
                Value::Number(u32::try_from(value).expect("four bytes of seven bits fit"))
            }
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => Value::Bytes(self.text()?),
            0x26 => Value::Pair(self.text()?, self.text()?),
            other => return Err(CodecError::Property { packet: self.packet, id: *other }),
        };
        Ok(Some((*id, value)))
    }

    fn text(&mut self) -> Result<&'a [u8], CodecError> {
        let bytes = read_u16(self.rest, 0).ok_or(CodecError::Short(self.packet))?;
        self.take(2)?;
        self.take(usize::from(bytes))
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(CodecError::Short(self.packet))?;
        self.rest = rest;
        Ok(taken)
    }
}

fn big_endian(value: u32, byte: &u8) -> u32 {
    value << 8 | u32::from(*byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_property_is_walked() {
        let bytes = b"\x01\x01\x13\x00\x3c\x11\x00\x00\x0e\x10\x0b\x80\x01\x1f\x00\x02hi\x26\x00\x01k\x00\x01v";
        let mut properties = Properties::new(bytes, "PUBLISH");
        for expected in [
            (0x01, Value::Number(1)),
            (id::SERVER_KEEP_ALIVE, Value::Number(60)),
            (id::SESSION_EXPIRY, Value::Number(3600)),
            (0x0B, Value::Number(128)),
            (id::REASON_STRING, Value::Bytes(b"hi")),
            (id::USER_PROPERTY, Value::Pair(b"k", b"v")),
        ] {
            assert_eq!(properties.next(), Ok(Some(expected)));
        }
        assert_eq!(properties.next(), Ok(None));
    }

    #[test]
    fn a_property_that_is_cut_or_unknown_is_an_error() {
        for (bytes, expected) in [
            (&b"\x23\x00"[..], "a PUBLISH ends too early"),
            (b"\x26\x00\x01k\x00\x05v", "a PUBLISH ends too early"),
            (b"\x7f\x00", "a PUBLISH has a property 0x7f, which MQTT 5 does not know"),
        ] {
            assert_eq!(Properties::new(bytes, "PUBLISH").next().unwrap_err().to_string(), expected);
        }
    }
}
