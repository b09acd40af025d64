//! Members of JSON envelopes that are taken as they come: a text where a number should stand, null, a list for nothing.
//!
//! What decorates a reading shall not cost the reading. Whether something must be there is said by who reads it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use kerbside_model::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::base64;
use crate::decode::Told;

/// What network platforms write for "nothing"; CTWing pushes the word of its script.
const NOTHING: [&str; 4] = ["", "undefined", "null", "None"];

/// A text, or a number as one.
#[derive(Debug, Default)]
pub(super) struct Text<'a>(Option<Cow<'a, str>>);

/// Bytes in base64. Something else in their place is no decoration.
#[derive(Debug, Default)]
pub(super) enum Encoded<'a> {
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    Wrong,
}

/// A number, or a text that reads as one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Number(pub(super) Option<f64>);

/// True or false; false for whatever else.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flag(pub(super) bool);

/// Whether a member is there at all, null aside.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen(pub(super) bool);

/// The gateways that heard an uplink: how many, and what the best of them says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gateways {
    pub(super) count: u32,
    pub(super) rssi_dbm: Option<f64>,
    pub(super) snr_db: Option<f64>,
    /// When the network server had it from the first of them.
    pub(super) server_time: Told,
}

impl<'a> Text<'a> {
    /// The text, unless it is a word for nothing.
    pub(super) fn known(self) -> Option<Cow<'a, str>> {
        self.0.filter(|text| !NOTHING.contains(&text.trim()))
    }

    /// A time as RFC 3339. Whatever else is none: it is the server's, and the arrival stands for it.
    pub(super) fn time(&self) -> Told {
        let time = self.0.as_deref().and_then(Timestamp::parse);
        time.map_or(Told::Nothing, Told::Time)
    }
}

impl Encoded<'_> {
    /// The bytes; none when nothing came.
    pub(super) fn bytes(&self, key: &str) -> Result<Vec<u8>, String> {
        match self {
            Encoded::Nothing => Ok(Vec::new()),
            Encoded::Text(text) => base64(key, text),
            Encoded::Wrong => Err(format!("{key} is not base64: it is no text")),
        }
    }
}

impl Number {
    /// A whole number up to `max`; 0 when there is none, because both protobuf-JSON and The Things Stack leave out what
    /// is zero.
    pub(super) fn whole(self, key: &str, max: u32) -> Result<u32, String> {
        let number = self.0.unwrap_or(0.0);
        if number.fract() == 0.0 && (0.0..=f64::from(max)).contains(&number) {
            // Checked against the limits just now.
            return Ok(number as u32);
        }
        Err(format!("{key} is {number}, which is no whole number from 0 to {max}"))
    }
}

/// What a member can be read from.
trait Lenient<'a>: Default {
    fn of_text(_: Cow<'a, str>) -> Self {
        Self::default()
    }
    fn of_number(_: f64) -> Self {
        Self::default()
    }
    fn of_integer(integer: i128) -> Self {
        Self::of_number(integer as f64)
    }
    fn of_boolean(_: bool) -> Self {
        Self::default()
    }
    /// Of a list or an object.
    fn of_other() -> Self {
        Self::default()
    }
}

impl<'a> Lenient<'a> for Text<'a> {
    fn of_text(text: Cow<'a, str>) -> Text<'a> {
        Text(Some(text))
    }
    fn of_number(number: f64) -> Text<'a> {
        Text(Some(Cow::Owned(number.to_string())))
    }
    fn of_integer(integer: i128) -> Text<'a> {
        Text(Some(Cow::Owned(integer.to_string())))
    }
}

impl<'a> Lenient<'a> for Encoded<'a> {
    fn of_text(text: Cow<'a, str>) -> Encoded<'a> {
        Encoded::Text(text)
    }
    fn of_number(_: f64) -> Encoded<'a> {
        Encoded::Wrong
    }
    fn of_boolean(_: bool) -> Encoded<'a> {
        Encoded::Wrong
    }
    fn of_other() -> Encoded<'a> {
        Encoded::Wrong
    }
}

impl Lenient<'_> for Number {
    fn of_text(text: Cow<'_, str>) -> Number {
        Number(text.trim().parse().ok().filter(|number: &f64| number.is_finite()))
    }
    fn of_number(number: f64) -> Number {
        Number(Some(number))
    }
}

impl Lenient<'_> for Flag {
    fn of_text(text: Cow<'_, str>) -> Flag {
        Flag(text == "true")
    }
    fn of_boolean(boolean: bool) -> Flag {
        Flag(boolean)
    }
}

struct LenientVisitor<T>(PhantomData<T>);

impl<'de, T: Lenient<'de>> Visitor<'de> for LenientVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<T, E> {
        Ok(T::of_text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok(T::of_text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E: Error>(self, integer: u64) -> Result<T, E> {
        Ok(T::of_integer(i128::from(integer)))
    }

    fn visit_i64<E: Error>(self, integer: i64) -> Result<T, E> {
        Ok(T::of_integer(i128::from(integer)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        Ok(T::of_number(number))
    }

    fn visit_bool<E: Error>(self, boolean: bool) -> Result<T, E> {
        Ok(T::of_boolean(boolean))
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(T::of_other())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<T, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(T::of_other())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        deserializer.deserialize_any(LenientVisitor::<Text<'de>>(PhantomData))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Encoded<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Encoded<'a>, D::Error> {
        deserializer.deserialize_any(LenientVisitor::<Encoded<'de>>(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        deserializer.deserialize_any(LenientVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Flag, D::Error> {
        deserializer.deserialize_any(LenientVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seen, D::Error> {
        Option::<IgnoredAny>::deserialize(deserializer).map(|member| Seen(member.is_some()))
    }
}

/// One gateway, in the words of every network server.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Reception<'a> {
    rssi: Number,
    /// The Things Stack: of the whole channel, when it has no other.
    channel_rssi: Number,
    snr: Number,
    /// ChirpStack 3.
    #[serde(rename = "loRaSNR")]
    lora_snr: Number,
    /// ChirpStack 4.
    #[serde(rename = "nsTime", borrow)]
    server_time: Text<'a>,
}

impl Gateways {
    fn add(&mut self, reception: &Reception<'_>) {
        self.count = self.count.saturating_add(1);
        if self.server_time == Told::Nothing {
            self.server_time = reception.server_time.time();
        }
        let Some(rssi) = reception.rssi.0.or(reception.channel_rssi.0) else { return };
        // A ratio of 0 dB is left out by servers that leave out zeros.
        let snr = reception.snr.0.or(reception.lora_snr.0).unwrap_or(0.0);
        if self.rssi_dbm.is_none_or(|best| rssi > best) {
            (self.rssi_dbm, self.snr_db) = (Some(rssi), Some(snr));
        }
    }
}

struct GatewaysVisitor;

impl<'de> Visitor<'de> for GatewaysVisitor {
    type Value = Gateways;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of gateways")
    }

    fn visit_unit<E: Error>(self) -> Result<Gateways, E> {
        Ok(Gateways::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Gateways, A::Error> {
        let mut gateways = Gateways::default();
        while let Some(reception) = elements.next_element::<Option<Reception<'de>>>()? {
            reception.iter().for_each(|reception| gateways.add(reception));
        }
        Ok(gateways)
    }
}

impl<'de> Deserialize<'de> for Gateways {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Gateways, D::Error> {
        deserializer.deserialize_any(GatewaysVisitor)
    }
}

/// An object; `None` where something else stands.
pub(super) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(ObjectVisitor(PhantomData))
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<T>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}
