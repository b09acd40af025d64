//! One message in words: when, where, how long, what it holds, what it would be to a gateway.

use std::sync::Arc;

use kerbside_engine::decode::{Decoders, NotTaken, Scratch, address_of, resolve};
use kerbside_engine::sample::{SingleFrame, decode_single};
use kerbside_model::site::{AddressRule, SiteFacts, SourceRule};
use kerbside_model::{
    EnvelopeFormat, EnvelopeRule, FrameView, Payload, PayloadView, PointReading, Profile, Site, Value,
};

use crate::cli::plain;

/// A payload that is longer is shown up to here.
const SHOWN_BYTES_MAX: usize = 16 << 10;

/// How messages are read.
pub(super) enum Reader {
    /// Without a configuration.
    Alone(AloneReader),
    /// As the gateway of a configuration would.
    Site(Box<SiteReader>),
}

/// What was named on the command line.
pub(super) struct AloneReader {
    pub(super) profile: Option<Arc<Profile>>,
    pub(super) envelope: Option<EnvelopeFormat>,
    /// LoRaWAN port of every message, where the topic carries bare payloads of one.
    pub(super) port: Option<u8>,
    pub(super) filters: Vec<String>,
}

/// A site with all that decoding needs.
pub(super) struct SiteReader {
    site: Arc<Site>,
    decoders: Decoders,
    scratch: Scratch,
}

/// A message in words.
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) payload_bytes: usize,
    /// Whether it gave readings; nothing when nobody tried.
    pub(super) is_readable: Option<bool>,
}

impl Reader {
    pub(super) fn site(site: Arc<Site>) -> Reader {
        Reader::Site(Box::new(SiteReader { decoders: Decoders::new(&site), site, scratch: Scratch::default() }))
    }

    pub(super) fn show(&mut self, frame: &FrameView<'_>) -> Shown {
        let PayloadView::Bytes(bytes) = frame.payload else {
            return Shown { text: String::new(), payload_bytes: 0, is_readable: None };
        };
        let kept = if frame.flags.retained { ", retained: the broker kept it, it is no news" } else { "" };
        let topic = plain(&frame.address_text());
        let mut text = format!("{} {topic} ({} bytes{kept})\n{}", frame.received_at, bytes.len(), payload(bytes));
        let (lines, is_readable) = match self {
            Reader::Alone(reader) => alone(reader, frame, bytes),
            Reader::Site(reader) => of_site(reader, frame),
        };
        for line in lines {
            text.push_str("\n  ");
            text.push_str(&plain(&line));
        }
        Shown { text, payload_bytes: bytes.len(), is_readable }
    }
}

type Lines = (Vec<String>, Option<bool>);

fn alone(reader: &AloneReader, frame: &FrameView<'_>, bytes: &[u8]) -> Lines {
    let AloneReader { profile, envelope, port, filters } = reader;
    let (envelope, port) = (*envelope, *port);
    let mut lines = vec![format!("address in the inventory: {}", address(envelope, filters, frame))];
    let Some(profile) = profile else { return (lines, None) };
    let payload = Payload::Bytes(bytes::Bytes::copy_from_slice(bytes));
    let single = SingleFrame { payload: &payload, port, envelope, mount_height_mm: None };
    match decode_single(profile, &single) {
        Ok(decoded) => {
            lines.extend(decoded.readings.iter().map(|reading| reading_line(profile, reading)));
            lines.extend(decoded.remarks.iter().map(|remark| format!("remark: {remark}")));
            (lines, Some(true))
        }
        Err(error) => {
            lines.push(format!("not readable with {}: {}", profile.name, error.detail));
            (lines, Some(false))
        }
    }
}

/// What the column `address` would say: the name in the envelope, else the topic's level at the last `+` of the filter.
fn address(envelope: Option<EnvelopeFormat>, filters: &[String], frame: &FrameView<'_>) -> String {
    if let Some(format) = envelope {
        let rule = SourceRule {
            source: Arc::clone(frame.source),
            address: AddressRule::Whole,
            claim: None,
            envelopes: vec![EnvelopeRule { topics: None, format }],
        };
        let site = Site::new(SiteFacts { sources: vec![rule], ..SiteFacts::new("listen", Vec::new(), Vec::new()) });
        return address_of(&site, frame);
    }
    let topic = frame.address_text();
    let found = filters.iter().find_map(|filter| level_at_last_plus(filter, &topic));
    match found {
        Some((level, template)) => format!("{level}, with address: {{topic: \"{template}\"}}"),
        None => format!("{topic} (the whole topic; put a + into the filter where the device stands)"),
    }
}

fn level_at_last_plus(filter: &str, topic: &str) -> Option<(String, String)> {
    let mut levels: Vec<&str> = filter.split('/').collect();
    let topic_levels: Vec<&str> = topic.split('/').collect();
    let has_tail = levels.last() == Some(&"#");
    let fixed = if has_tail { levels.len() - 1 } else { levels.len() };
    let fits_length = if has_tail { topic_levels.len() >= fixed } else { topic_levels.len() == fixed };
    let fits = levels.iter().take(fixed).zip(&topic_levels).all(|(wanted, level)| *wanted == "+" || wanted == level);
    let place = levels.iter().rposition(|level| *level == "+").filter(|_| fits && fits_length)?;
    levels[place] = "{device}";
    Some((topic_levels[place].to_owned(), levels.join("/")))
}

fn of_site(reader: &mut SiteReader, frame: &FrameView<'_>) -> Lines {
    let SiteReader { site, decoders, scratch } = reader;
    let sender = match resolve(site, frame) {
        Ok(sender) => sender,
        Err(NotTaken::Ignored(event)) => {
            return (vec![format!("no message of a device: {}, the gateway counts it", event.name())], None);
        }
        Err(NotTaken::Refused(refused)) => {
            let address = address_of(site, frame);
            let why = format!("of no device: {}", refused.error.detail);
            return (vec![why, format!("its address in the inventory would be {address}")], Some(false));
        }
    };
    let device = site.device(sender.device);
    let profile = site.profile_of(device);
    let mut lines = vec![format!("device {} {} ({})", device.id, device.name, profile.name)];
    match decoders.of(device).decode(device, &sender.message(frame), scratch) {
        Ok(_) => {
            lines.extend(scratch.readings().iter().map(|reading| reading_line(profile, reading)));
            lines.extend(scratch.remarks().iter().map(|remark| format!("remark: {remark}")));
            (lines, Some(true))
        }
        Err(error) => {
            lines.push(format!("not readable: {}", error.detail));
            (lines, Some(false))
        }
    }
}

fn reading_line(profile: &Profile, reading: &PointReading) -> String {
    let point = &profile.points[usize::from(reading.point)];
    let value = reading.value.as_ref().map_or("-".to_owned(), |value| match value {
        Value::Text(text) => text.to_string(),
        other => other.to_json().to_string(),
    });
    let doubt = match reading.quality.is_good() {
        true => String::new(),
        false => format!("  {}: {}", reading.quality.flag.name(), reading.quality.cause.name()),
    };
    format!("{:<24} {value} {}{doubt}", point.name, point.unit)
}

/// JSON in lines, other text as it is, other bytes in hexadecimal.
fn payload(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let cut = if shown.len() < bytes.len() {
        format!("\n… {} bytes more", bytes.len() - shown.len())
    } else {
        String::new()
    };
    let json = serde_json::from_slice::<serde_json::Value>(bytes).ok().filter(|_| cut.is_empty());
    let text = match (json, std::str::from_utf8(shown)) {
        (Some(json), _) => format!("{json:#}"),
        (None, Ok(text)) => text.to_owned(),
        (None, Err(_)) => shown.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
    };
    plain(&text) + &cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_plus_of_the_filter_is_where_the_device_stands() {
        let found = level_at_last_plus("application/+/device/+/event/up", "application/7/device/24e1/event/up");
        assert_eq!(found, Some(("24e1".to_owned(), "application/+/device/{device}/event/up".to_owned())));
        assert_eq!(level_at_last_plus("city/+/#", "city/MH-1/up/x").map(|(level, _)| level), Some("MH-1".to_owned()));
        assert_eq!(level_at_last_plus("city/+/up", "city/MH-1/down"), None);
        assert_eq!(level_at_last_plus("city/#", "city/MH-1"), None);
    }

    #[test]
    fn bare_bytes_are_read_as_those_of_the_port_that_was_named() {
        let profile = crate::cli::profile::files::find("dragino-ldds75").unwrap().ok();
        let mut frames = kerbside_model::Frames::new("listen".into(), kerbside_model::Timestamp(0));
        frames.push("up/1", &[0x0b, 0x45, 0x0b, 0x05, 0, 0, 0, 1], kerbside_model::FrameFlags::default(), None);
        let show = |port| {
            let reader = AloneReader { profile: profile.clone(), envelope: None, port, filters: Vec::new() };
            Reader::Alone(reader).show(&frames.iter().next().unwrap())
        };
        let read = show(Some(2));
        assert!(read.is_readable == Some(true) && read.text.contains("2821.0 mm"), "{}", read.text);
        let other = show(Some(7));
        assert!(!other.text.contains("2821"), "{}", other.text);
    }

    #[test]
    fn payloads_are_shown_so_that_nothing_steers_the_terminal() {
        assert_eq!(payload(br#"{"a":1}"#), "{\n  \"a\": 1\n}");
        assert_eq!(payload(b"a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(payload(&[0xff, 0x01]), "ff 01");
        let long = payload(&vec![b'x'; SHOWN_BYTES_MAX + 5]);
        assert!(long.ends_with("… 5 bytes more"), "{}", &long[long.len() - 30..]);
    }
}
