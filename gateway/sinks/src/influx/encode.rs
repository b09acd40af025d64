//! Turns observations into line protocol: one line per device and observation time.
//!
//! `manhole_cover,device=MH-1,grid=3401,profile=x,unit=市政 tilt_deg=41.5,tilt_deg_q="suspect:stale",received_at=1i 0`
//!
//! Measurement: the kind of device. Tags, sorted: device, grid, profile and responsible unit, each only when it has
//! a text. Fields: the points by name, `<point>_q` with flag and cause when a reading is not good, and the time of
//! arrival in ms. Timestamp: the time of observation in ms. The part before the fields is made once per device.
//! Nothing here survives a crash, and nothing needs to: the same batch gives the same bytes.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use kerbside_model::port::TelemetryBatch;
use kerbside_model::{Flag, PointReading, Profile, Quality, Site, Value};

/// Three decimals.
const DECIMALS_FACTOR: f64 = 1000.0;
/// Below this a number times a thousand is an exact integer: 2^53 is larger.
const DECIMALS_EXACT_BELOW: f64 = 1e15;
/// A change of site while an older backlog is sent needs two: the one of the live batches and the older one.
const SITES_CACHED_MAX: usize = 2;
/// InfluxDB refuses string fields above 64 KiB (line protocol reference of 2.7); longer text is cut.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// The field with the time of arrival, in ms.
const RECEIVED_AT: &str = "received_at";

/// Lines ready to be sent, with where each one ends.
#[derive(Debug, Default)]
pub(super) struct Lines {
    body: Vec<u8>,
    ends: Vec<usize>,
}

impl Lines {
    /// How many lines.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Size of all lines in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.body.len()
    }

    /// The text of all lines, and where in it each one ends.
    pub(super) fn into_parts(self) -> (Vec<u8>, Vec<usize>) {
        (self.body, self.ends)
    }
}

/// Writes batches as lines; remembers what is the same for every line of a device.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// The site that was used last stands first.
    sites: VecDeque<SiteCache>,
}

impl Encoder {
    /// Appends the lines of a batch. An observation without any field gives no line.
    pub(super) fn encode(&mut self, batch: &TelemetryBatch, lines: &mut Lines) {
        let cache = self.cache(&batch.site);
        for (observation, readings) in batch.observations.iter() {
            let Some(series) = cache.series(observation.device.0 as usize) else { continue };
            let line_start = lines.body.len();
            lines.body.extend_from_slice(&cache.text[series.text]);
            let fields_start = lines.body.len();
            for reading in readings {
                if let Some(keys) = cache.points[series.profile].get(usize::from(reading.point)) {
                    write_reading(&mut lines.body, keys, reading);
                }
            }
            if lines.body.len() == fields_start {
                lines.body.truncate(line_start);
                continue;
            }
            let mut integer = itoa::Buffer::new();
            lines.body.extend_from_slice(RECEIVED_AT.as_bytes());
            lines.body.push(b'=');
            lines.body.extend_from_slice(integer.format(observation.received_at.as_millis()).as_bytes());
            lines.body.extend_from_slice(b"i ");
            lines.body.extend_from_slice(integer.format(observation.observed_at.as_millis()).as_bytes());
            lines.body.push(b'\n');
            lines.ends.push(lines.body.len());
        }
    }

    fn cache(&mut self, site: &Arc<Site>) -> &mut SiteCache {
        let is_this = |cache: &SiteCache| Arc::ptr_eq(&cache.site, site) || cache.site.hash() == site.hash();
        match self.sites.iter().position(is_this) {
            Some(0) => {}
            Some(position) => self.sites.swap(0, position),
            None => {
                self.sites.truncate(SITES_CACHED_MAX - 1);
                self.sites.push_front(SiteCache::new(Arc::clone(site)));
            }
        }
        &mut self.sites[0]
    }
}

/// What is the same for every line of a device, made when the device is first seen. Bounded by the inventory.
#[derive(Debug)]
struct SiteCache {
    site: Arc<Site>,
    /// The series texts (`measurement,tags `), one behind the other.
    text: Vec<u8>,
    /// Where each device's series text stands; empty until it is needed.
    series: Vec<Range<u32>>,
    /// The field keys of every profile's points.
    points: Vec<Vec<PointKeys>>,
}

/// Field keys of a point, with what always follows them.
#[derive(Debug)]
struct PointKeys {
    /// `level_mm=`
    value: Vec<u8>,
    /// `level_mm_q="`
    quality: Vec<u8>,
}

struct Series {
    text: Range<usize>,
    profile: usize,
}

impl SiteCache {
    fn new(site: Arc<Site>) -> SiteCache {
        let keys = |profile: &Arc<Profile>| profile.points.iter().map(|point| PointKeys::new(&point.name)).collect();
        SiteCache {
            text: Vec::new(),
            series: vec![0..0; site.devices().len()],
            points: site.facts().profiles.iter().map(keys).collect(),
            site,
        }
    }

    fn series(&mut self, index: usize) -> Option<Series> {
        let device = self.site.devices().get(index)?;
        let profile = usize::from(device.profile);
        if self.series[index].is_empty() {
            let start = self.text.len();
            let kind = self.site.profile_of(device).kind.name();
            write_name(&mut self.text, kind, b", ");
            write_tag(&mut self.text, "device", &device.id);
            write_tag(&mut self.text, "grid", &device.grid);
            write_tag(&mut self.text, "profile", &self.site.profile_of(device).name);
            write_tag(&mut self.text, "unit", &device.unit);
            self.text.push(b' ');
            let to_u32 = |size: usize| u32::try_from(size).expect("the names of an inventory take less than 4 GiB");
            self.series[index] = to_u32(start)..to_u32(self.text.len());
        }
        let text = &self.series[index];
        Some(Series { text: text.start as usize..text.end as usize, profile })
    }
}

impl PointKeys {
    fn new(name: &str) -> PointKeys {
        // InfluxDB drops a field of the name `time`, and `received_at` is ours: a profile's own points step aside.
        let name = if name == "time" || name == RECEIVED_AT { format!("{name}_") } else { name.to_owned() };
        let mut key = Vec::new();
        write_name(&mut key, &name, b",= ");
        PointKeys { value: [key.as_slice(), b"="].concat(), quality: [key.as_slice(), b"_q=\""].concat() }
    }
}

fn write_reading(body: &mut Vec<u8>, keys: &PointKeys, reading: &PointReading) {
    let mut quality = reading.quality;
    match &reading.value {
        Some(Value::Number(number)) if !number.is_finite() => {
            // Line protocol has no word for it, and the database would refuse the whole request.
            if quality.is_good() {
                quality = Quality::bad(kerbside_model::Cause::Invalid);
            }
        }
        Some(Value::Number(number)) => {
            body.extend_from_slice(&keys.value);
            write_number(body, *number);
            body.push(b',');
        }
        Some(Value::Boolean(boolean)) => {
            body.extend_from_slice(&keys.value);
            body.extend_from_slice(if *boolean { b"true," } else { b"false," });
        }
        Some(Value::Text(text)) => {
            body.extend_from_slice(&keys.value);
            write_text(body, text);
            body.push(b',');
        }
        None => {
            if quality.is_good() {
                quality = Quality { flag: Flag::Missing, cause: quality.cause };
            }
        }
    }
    if quality.is_good() {
        return;
    }
    body.extend_from_slice(&keys.quality);
    body.extend_from_slice(quality.flag.name().as_bytes());
    let cause = quality.cause.name();
    if !cause.is_empty() {
        body.push(b':');
        body.extend_from_slice(cause.as_bytes());
    }
    body.extend_from_slice(b"\",");
}

/// A tag; none when the text is empty, which line protocol does not allow.
fn write_tag(body: &mut Vec<u8>, key: &str, text: &str) {
    if text.is_empty() {
        return;
    }
    body.push(b',');
    body.extend_from_slice(key.as_bytes());
    body.push(b'=');
    write_name(body, text, b",= ");
}

/// A measurement, a tag's value or a field's key.
///
/// Databases disagree about a backslash in front of a comma or at the end (InfluxDB keeps it and escapes, others take
/// two for one), so it becomes a slash; a line break would end the line, so control characters become spaces.
fn write_name(body: &mut Vec<u8>, text: &str, escaped: &[u8]) {
    for byte in text.bytes() {
        let byte = match byte {
            b'\\' => b'/',
            0..=0x1f | 0x7f => b' ',
            other => other,
        };
        if escaped.contains(&byte) {
            body.push(b'\\');
        }
        body.push(byte);
    }
}

/// Sensors send few decimals: such numbers are written as an integer and its fraction, several times as fast as the
/// shortest decimal of any number is found. Both read back as the same number.
fn write_number(body: &mut Vec<u8>, number: f64) {
    let magnitude = number.abs();
    let scaled = (magnitude * DECIMALS_FACTOR).round();
    if scaled > DECIMALS_EXACT_BELOW || scaled / DECIMALS_FACTOR != magnitude {
        body.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes());
        return;
    }
    if number.is_sign_negative() {
        body.push(b'-');
    }
    let thousandths = scaled as u64;
    body.extend_from_slice(itoa::Buffer::new().format(thousandths / 1000).as_bytes());
    let mut fraction = thousandths % 1000;
    if fraction > 0 {
        body.push(b'.');
        let mut place = 100;
        while fraction > 0 {
            body.push(b'0' + u8::try_from(fraction / place).expect("a digit is below ten"));
            fraction %= place;
            place /= 10;
        }
    }
}

/// A string field. Line breaks become spaces: the reference of line protocol does not allow them.
fn write_text(body: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    body.push(b'"');
    for byte in text[..end].bytes() {
        match byte {
            b'"' | b'\\' => body.extend_from_slice(&[b'\\', byte]),
            b'\n' | b'\r' | 0 => body.push(b' '),
            other => body.push(other),
        }
    }
    body.push(b'"');
}

/// The device of a line that [`Encoder::encode`] wrote, for the log.
pub(super) fn device_of(line: &[u8]) -> String {
    let mut device = Vec::new();
    let key = b",device=";
    let Some(start) = line.windows(key.len()).position(|window| window == key) else { return String::new() };
    let mut bytes = line[start + key.len()..].iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b',' | b' ' => break,
            b'\\' => device.extend(bytes.next()),
            other => device.push(*other),
        }
    }
    String::from_utf8_lossy(&device).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(number: f64) -> String {
        let mut body = Vec::new();
        write_number(&mut body, number);
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn numbers_are_written_as_people_would() {
        let cases = [
            (0.0, "0"),
            (-0.5, "-0.5"),
            (3.58, "3.58"),
            (0.001, "0.001"),
            (10.05, "10.05"),
            (-97.0, "-97"),
            (1e21, "1e21"),
            (0.1 + 0.2, "0.30000000000000004"),
            (100_000_007.0, "100000007"),
            (1_767_225_600_000_123.0, "1767225600000123.0"),
        ];
        for (number, text) in cases {
            assert_eq!(written(number), text);
        }
    }

    proptest! {
        #[test]
        fn every_number_reads_back_as_itself(number in any::<f64>().prop_filter("finite", |number| number.is_finite())) {
            prop_assert_eq!(written(number).parse::<f64>().unwrap(), number);
        }

        #[test]
        fn numbers_of_few_decimals_read_back_as_themselves(thousandths in -10_000_000_000_i64..10_000_000_000) {
            let number = thousandths as f64 / 1000.0;
            prop_assert_eq!(written(number).parse::<f64>().unwrap(), number);
        }
    }
}
