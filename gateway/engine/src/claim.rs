//! What a payload claims about its sender: `claim: deviceId` names a place in it where the device's id stands again.
//!
//! A topic says who may publish on it, so a payload that names somebody else is a mix-up or a forgery: a broker's access
//! list lets a device speak on its own topic and does not read what it says. Turns bytes into a verdict in one pass and
//! without an allocation; nothing is kept. A payload without the place claims nothing.

use std::fmt;

use kerbside_model::profile::JsonPath;
use kerbside_model::{DeviceIndex, Site};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Longer claims are cut in the text for people.
const SHOWN_CHARACTERS_MAX: usize = 64;

/// Whether a payload may be from a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It names the device, or nobody.
    Fits,
    /// It names somebody else.
    Other(String),
    /// It is not JSON; the text says why.
    Unreadable(String),
}

/// Checks what stands at `path` against the id and the address of a device.
pub(crate) fn check(site: &Site, device: DeviceIndex, payload: &[u8], path: &JsonPath) -> Claim {
    let mut other = None;
    let mut compare = |claimed: &str| {
        if other.is_none() && !site.is_called(device, claimed) {
            other = Some(claimed.chars().take(SHOWN_CHARACTERS_MAX).collect());
        }
    };
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    let seek = Seek { path: &path.0, compare: &mut compare };
    match seek.deserialize(&mut deserializer).and_then(|()| deserializer.end()) {
        Err(error) => Claim::Unreadable(format!("not valid JSON: {error}")),
        Ok(()) => other.map_or(Claim::Fits, Claim::Other),
    }
}

/// Reads a value down to the end of a path.
struct Seek<'a> {
    path: &'a [String],
    compare: &'a mut dyn FnMut(&str),
}

impl Seek<'_> {
    fn found(self, claimed: &str) {
        if self.path.is_empty() {
            (self.compare)(claimed);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.found(text);
        Ok(())
    }

    fn visit_u64<E: Error>(self, integer: u64) -> Result<(), E> {
        self.found(&integer.to_string());
        Ok(())
    }

    fn visit_i64<E: Error>(self, integer: i64) -> Result<(), E> {
        self.found(&integer.to_string());
        Ok(())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.found(&number.to_string());
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let wanted = self.path.first().map(String::as_str);
        while let Some(is_wanted) = map.next_key_seed(IsKey(wanted))? {
            if is_wanted {
                map.next_value_seed(Seek { path: &self.path[1..], compare: &mut *self.compare })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let wanted: Option<usize> = self.path.first().and_then(|key| key.parse().ok());
        let mut position = 0;
        loop {
            let more = if wanted == Some(position) {
                elements.next_element_seed(Seek { path: &self.path[1..], compare: &mut *self.compare })?.is_some()
            } else {
                elements.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                return Ok(());
            }
            position += 1;
        }
    }
}

/// Compares a key without a copy of it.
struct IsKey<'a>(Option<&'a str>);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        // As bytes, as decoders do: what is in other keys is nobody's concern.
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<bool, E> {
        Ok(self.0.map(str::as_bytes) == Some(key))
    }
}
