//! One frame as an event: where it came from, what it holds, what it gave or why not.

use std::sync::Arc;

use kerbside_engine::decode::{Certainty, DecodeError, Decoders, NotTaken, Scratch, Sender, address_of, resolve};
use kerbside_model::inventory::Device;
use kerbside_model::{FrameView, PayloadView, PointReading, Profile, RegisterRead, Site, Value};
use serde_json::{Map, Value as Json, json};

use super::viewer::{Filter, Needle, Offered, Viewer};

/// A payload that is longer is shown up to here: a screen of a phone, several times.
const SHOWN_BYTES_MAX: usize = 1_024;
/// ... and so many readings of one frame.
const SHOWN_READINGS_MAX: usize = 200;

/// A site with all that decoding needs.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) site: Arc<Site>,
    decoders: Decoders,
    scratch: Scratch,
}

/// A frame that arrived.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    pub(super) frame: &'a FrameView<'a>,
    pub(super) certainty: Certainty,
    /// The engine decoded it and did not keep it: it had come before, or its device sends too much.
    pub(super) is_left_out: bool,
}

/// How many viewers were shown a frame, or not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    pub(super) shown: u64,
    pub(super) sampled: u64,
    pub(super) slow: u64,
}

impl Said {
    fn count(&mut self, offered: Offered) {
        match offered {
            Offered::Shown => self.shown += 1,
            Offered::Sampled => self.sampled += 1,
            Offered::Slow => self.slow += 1,
        }
    }
}

impl Bench {
    pub(super) fn new(site: Arc<Site>) -> Bench {
        Bench { decoders: Decoders::new(&site), site, scratch: Scratch::default() }
    }

    /// Shows a frame to those who want it. It is decoded only when one of them does and may still see it.
    pub(super) fn show(&mut self, arrival: &Arrival<'_>, viewers: &mut [Viewer]) -> Said {
        let frame = arrival.frame;
        let mut said = Said::default();
        let is_of_source = |filter: &Filter| filter.source.as_deref().is_none_or(|name| name == &**frame.source);
        if !viewers.iter().any(|viewer| is_of_source(&viewer.filter)) {
            return said;
        }
        let site = Arc::clone(&self.site);
        let resolved = resolve(&site, frame);
        let named = Named::new(&site, frame, &resolved);
        let mut event: Option<Event> = None;
        for viewer in viewers {
            if !(is_of_source(&viewer.filter) && named.passes(&viewer.filter)) {
                continue;
            }
            // Whether a frame is undecoded is known only after it was tried.
            if event.is_none() && !viewer.filter.undecoded_only && !viewer.has_share() {
                said.count(viewer.skip());
                continue;
            }
            let event = event.get_or_insert_with(|| self.event(&named, &resolved, arrival));
            if event.is_undecoded || !viewer.filter.undecoded_only {
                said.count(viewer.offer(&event.text));
            }
        }
        said
    }

    fn event(&mut self, named: &Named<'_>, resolved: &Result<Sender<'_>, NotTaken>, arrival: &Arrival<'_>) -> Event {
        let mut told = named.told(arrival);
        let is_undecoded = match resolved {
            Ok(sender) => !self.read(sender, arrival, &mut told),
            Err(NotTaken::Ignored(event)) => {
                put(&mut told, [("outcome", json!("ignored")), ("event", json!(event.name()))]);
                false
            }
            Err(NotTaken::Refused(refused)) => {
                put_undecoded(&mut told, &refused.error);
                if named.device.is_none() {
                    put(&mut told, [("expected_address", json!(address_of(&self.site, arrival.frame)))]);
                }
                true
            }
        };
        Event { text: Arc::from(Json::Object(told).to_string()), is_undecoded }
    }

    /// Adds what a frame of a known device gave; whether it gave anything.
    fn read(&mut self, sender: &Sender<'_>, arrival: &Arrival<'_>, told: &mut Told) -> bool {
        let Bench { site, decoders, scratch } = self;
        let device = site.device(sender.device);
        let profile = site.profile_of(device);
        let decoded = match decoders.of(device).decode(device, &sender.message(arrival.frame), scratch) {
            Ok(decoded) => decoded,
            Err(error) => {
                put_undecoded(told, &error);
                return false;
            }
        };
        let received_at = arrival.frame.received_at;
        let readings: Vec<Json> =
            scratch.readings().iter().take(SHOWN_READINGS_MAX).map(|reading| reading_json(profile, reading)).collect();
        put(
            told,
            [
                ("outcome", json!("decoded")),
                ("observed_at", json!(decoded.time(received_at, arrival.certainty))),
                ("readings_cut", json!(scratch.readings().len() - readings.len())),
                ("readings", Json::Array(readings)),
                ("history", json!(scratch.history_len())),
                ("remarks", json!(scratch.remarks())),
                ("left_out", json!(arrival.is_left_out)),
            ],
        );
        if let Err(refusal) = decoded.told.judge(received_at, arrival.certainty) {
            put(told, [("time_refused", json!(refusal.name()))]);
        }
        true
    }
}

type Told = Map<String, Json>;

fn put<const COUNT: usize>(told: &mut Told, facts: [(&str, Json); COUNT]) {
    told.extend(facts.into_iter().map(|(name, value)| (name.to_owned(), value)));
}

fn put_undecoded(told: &mut Told, error: &DecodeError) {
    let DecodeError { reason, detail } = error;
    put(told, [("outcome", json!("undecoded")), ("reason", json!(reason.name())), ("detail", json!(detail))]);
}

/// An event, made once for all viewers.
struct Event {
    text: Arc<str>,
    is_undecoded: bool,
}

/// A frame and the device whose address it bears.
struct Named<'a> {
    site: &'a Site,
    frame: &'a FrameView<'a>,
    device: Option<&'a Device>,
}

impl<'a> Named<'a> {
    fn new(site: &'a Site, frame: &'a FrameView<'a>, resolved: &Result<Sender<'_>, NotTaken>) -> Named<'a> {
        let index = match resolved {
            Ok(sender) => Some(sender.device),
            Err(NotTaken::Refused(refused)) => refused.device,
            Err(NotTaken::Ignored(_)) => None,
        };
        Named { site, frame, device: index.map(|index| site.device(index)) }
    }

    fn passes(&self, filter: &Filter) -> bool {
        let is_of_device = match (&filter.device, self.device) {
            (None, _) => true,
            (Some(wanted), Some(device)) => device.id == *wanted,
            (Some(wanted), None) => address_of(self.site, self.frame) == *wanted,
        };
        is_of_device && filter.text.as_ref().is_none_or(|text| self.has(text))
    }

    fn has(&self, text: &Needle) -> bool {
        let is_in_device = |device: &Device| {
            let profile = &self.site.profile_of(device).name;
            [&device.id, &device.name, &device.place, profile].into_iter().any(|words| text.is_in(words.as_bytes()))
        };
        let is_in_payload = |payload: &PayloadView<'_>| match payload {
            PayloadView::Bytes(bytes) => text.is_in_payload(bytes),
            PayloadView::Registers(_) => false,
        };
        text.is_in(self.frame.address) || self.device.is_some_and(is_in_device) || is_in_payload(&self.frame.payload)
    }

    fn told(&self, arrival: &Arrival<'_>) -> Told {
        let frame = arrival.frame;
        let (payload, bytes, cut) = match frame.payload {
            PayloadView::Bytes(bytes) => payload_json(bytes),
            PayloadView::Registers(read) => registers_json(read),
        };
        let mut told = Told::new();
        put(
            &mut told,
            [
                ("received_at", json!(frame.received_at)),
                ("source", json!(frame.source)),
                ("address", json!(frame.address_text())),
                ("bytes", json!(bytes)),
                ("payload", payload),
                ("cut", json!(cut)),
                ("retained", json!(frame.flags.retained)),
                ("redelivered", json!(frame.flags.redelivered)),
            ],
        );
        if let Some(device) = self.device {
            let profile = self.site.profile_of(device);
            put(
                &mut told,
                [
                    ("device", json!(device.id)),
                    ("name", json!(device.name)),
                    ("place", json!(device.place)),
                    ("profile", json!(profile.name)),
                    ("profile_version", json!(profile.version)),
                ],
            );
        }
        told
    }
}

/// A payload as text when it is nothing but text, else in hexadecimal; its length, and how many bytes are not shown.
pub(super) fn payload_json(bytes: &[u8]) -> (Json, usize, usize) {
    let is_shown = |character: char| !character.is_control() || matches!(character, '\n' | '\r' | '\t');
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.chars().all(is_shown));
    let (payload, shown) = match text {
        Some(text) => {
            let end = text.floor_char_boundary(SHOWN_BYTES_MAX);
            (json!({ "text": &text[..end] }), end)
        }
        None => {
            let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
            let hex: Vec<String> = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            (json!({ "hex": hex.join(" ") }), shown.len())
        }
    };
    (payload, bytes.len(), bytes.len() - shown)
}

/// What a poll gave, each run of registers in hexadecimal, and what it did not give.
fn registers_json(read: &RegisterRead) -> (Json, usize, usize) {
    let (mut bytes, mut left) = (0, SHOWN_BYTES_MAX);
    let mut runs = Vec::new();
    for block in &read.blocks {
        bytes += block.words.len() * 2;
        let words: Vec<String> = block.words.iter().take(left / 2).map(|word| format!("{word:04x}")).collect();
        left -= words.len() * 2;
        runs.push(json!({ "table": block.table, "address": block.address, "words": words.join(" ") }));
    }
    let cut = bytes - (SHOWN_BYTES_MAX - left);
    (json!({ "registers": runs, "failures": read.failures }), bytes, cut)
}

fn reading_json(profile: &Profile, reading: &PointReading) -> Json {
    let point = &profile.points[usize::from(reading.point)];
    json!({
        "point": point.name,
        "value": reading.value.as_ref().map(Value::to_json),
        "unit": point.unit,
        "quality": reading.quality.flag.name(),
        "cause": reading.quality.cause.name(),
    })
}
