//! Turns observations into line protocol: one line per device and observation time.
//!
//! `manhole_cover,device=MH-1,grid=3401,profile=x,unit=市政 tilt_deg=41.5,tilt_deg_q="suspect:stale",received_at=1i 0`
//!
//! Measurement: the kind of device. Tags, sorted: device, grid, profile and responsible unit, each only when it has
//! a text, and the user properties of the message. Fields: the points by name, `<point>_q` with flag and cause when a
//! reading is not good or was not until the next one came, and the time of arrival in ms. Timestamp: the time of observation in ms. The part before the
//! fields is made once per device, unless there are user properties.
//! Nothing here survives a crash, and nothing needs to: the same batch gives the same bytes.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use kerbside_model::port::TelemetryBatch;
use kerbside_model::{Device, Flag, PointReading, Profile, Quality, Site, Tags, Value};

use super::schema;

/// Three decimals.
const DECIMALS_FACTOR: f64 = 1000.0;
/// Below this a number times a thousand is an exact integer: 2^53 is larger than a thousand times as much.
const DECIMALS_EXACT_BELOW: f64 = 1e12;
/// Below 2^53 every whole number is exact.
const WHOLE_EXACT_BELOW: f64 = 9_007_199_254_740_992.0;
/// Most field keys are shorter.
const WORD_BYTES_SHORT: usize = 24;
/// Sign, 16 digits before the point or 12 with a point and three digits behind it, and the comma.
const NUMBER_BYTES_MAX: usize = 24;
/// A change of site while an older backlog is sent needs two: the one of the live batches and the older one.
const SITES_CACHED_MAX: usize = 2;
/// InfluxDB refuses string fields above 64 KiB (line protocol reference of 2.7); longer text is cut.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// The field with the time of arrival, in ms.
const RECEIVED_AT: &str = "received_at";
/// No field and no tag may have this name: InfluxDB drops them.
const TIME: &str = "time";

/// Lines ready to be sent, with where each one ends.
#[derive(Debug, Default)]
pub(super) struct Lines {
    body: Vec<u8>,
    ends: Vec<usize>,
}

impl Lines {
    /// No lines yet, in the memory of others.
    pub(super) fn reusing(body: Vec<u8>, ends: Vec<usize>) -> Lines {
        let mut lines = Lines { body, ends };
        lines.clear();
        lines
    }

    /// Forgets all lines.
    pub(super) fn clear(&mut self) {
        self.body.clear();
        self.ends.clear();
    }

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
            match batch.observations.tags(observation) {
                None => lines.body.extend_from_slice(&cache.text[series.text]),
                Some(tags) => cache.write_series_with(tags, observation.device.0 as usize, &mut lines.body),
            }
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
    /// Messages that follow one another mostly carry the same properties.
    properties: Properties,
}

/// The user properties of a message as tags of a profile's lines, sorted by key.
#[derive(Debug, Default)]
struct Properties {
    of: Option<(Tags, usize)>,
    /// Keys, each with `,key=value` as it is written.
    written: Vec<(String, Vec<u8>)>,
}

/// Field keys of a point, with what always follows them.
#[derive(Debug)]
struct PointKeys {
    /// `level_mm=`
    value: Word,
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
            properties: Properties::default(),
            site,
        }
    }

    fn series(&mut self, index: usize) -> Option<Series> {
        let device = self.site.devices().get(index)?;
        let profile = usize::from(device.profile);
        if self.series[index].is_empty() {
            let start = self.text.len();
            let profile_facts = self.site.profile_of(device);
            write_name(&mut self.text, profile_facts.kind.name(), b", ");
            for (key, text) in own_tags(device, profile_facts) {
                write_tag(&mut self.text, key, text);
            }
            self.text.push(b' ');
            let to_u32 = |size: usize| u32::try_from(size).expect("the names of an inventory take less than 4 GiB");
            self.series[index] = to_u32(start)..to_u32(self.text.len());
        }
        let text = &self.series[index];
        Some(Series { text: text.start as usize..text.end as usize, profile })
    }

    /// Writes a series text that has user properties as well.
    fn write_series_with(&mut self, tags: &Tags, index: usize, body: &mut Vec<u8>) {
        let device = &self.site.devices()[index];
        let profile = usize::from(device.profile);
        self.properties.prepare(tags, profile, &self.points[profile]);
        let profile = self.site.profile_of(device);
        write_name(body, profile.kind.name(), b", ");
        let mut properties = self.properties.written.iter().peekable();
        for (key, text) in own_tags(device, profile) {
            while let Some((_, written)) = properties.next_if(|(name, _)| name.as_str() < key) {
                body.extend_from_slice(written);
            }
            write_tag(body, key, text);
        }
        properties.for_each(|(_, written)| body.extend_from_slice(written));
        body.push(b' ');
    }
}

/// The tags that every line has, sorted by key.
fn own_tags<'a>(device: &'a Device, profile: &'a Profile) -> [(&'static str, &'a str); 4] {
    let texts: [&str; 4] = [&device.id, &device.grid, &profile.name, &device.unit];
    std::array::from_fn(|position| (schema::TAGS[position], texts[position]))
}

impl Properties {
    fn prepare(&mut self, tags: &Tags, profile: usize, points: &[PointKeys]) {
        if self.of.as_ref().is_some_and(|(known, of)| *of == profile && known == tags) {
            return;
        }
        self.of = Some((Arc::clone(tags), profile));
        self.written.clear();
        for tag in tags.iter().filter(|tag| !tag.name.is_empty() && !tag.value.is_empty()) {
            let mut key: String = tag.name.chars().map(plain).collect();
            while self.is_taken(&key, points) {
                key.push('_');
            }
            let mut written = Vec::new();
            write_tag(&mut written, &key, &tag.value);
            self.written.push((key, written));
        }
        self.written.sort_unstable();
    }

    /// A tag and a field of one name cannot be told apart in a query, and InfluxDB 3 refuses them.
    fn is_taken(&self, key: &str, points: &[PointKeys]) -> bool {
        let mut escaped = Vec::new();
        write_name(&mut escaped, key, b",= ");
        schema::TAGS.contains(&key)
            || key == TIME
            || key == RECEIVED_AT
            || self.written.iter().any(|(known, _)| known == key)
            || points.iter().any(|keys| keys.are_called(&escaped))
    }
}

impl PointKeys {
    fn new(name: &str) -> PointKeys {
        // These two are not free: a profile's own points step aside.
        let name = if name == TIME || name == RECEIVED_AT { format!("{name}_") } else { name.to_owned() };
        let mut key = Vec::new();
        write_name(&mut key, &name, b",= ");
        PointKeys { value: Word::new(&[key.as_slice(), b"="].concat()), quality: [key.as_slice(), b"_q=\""].concat() }
    }

    /// Whether one of the two fields has this key, in its escaped form.
    fn are_called(&self, key: &[u8]) -> bool {
        self.value.text().strip_suffix(b"=") == Some(key) || self.quality.strip_suffix(b"=\"") == Some(key)
    }
}

/// A text that is written very often. A copy of known length is a few instructions, one of any length is a call.
#[derive(Debug)]
struct Word {
    short: [u8; WORD_BYTES_SHORT],
    len: usize,
    /// The text when it is longer.
    long: Vec<u8>,
}

impl Word {
    fn new(text: &[u8]) -> Word {
        let mut word = Word { short: [0; WORD_BYTES_SHORT], len: text.len(), long: Vec::new() };
        match word.short.get_mut(..text.len()) {
            Some(short) => short.copy_from_slice(text),
            None => word.long = text.to_vec(),
        }
        word
    }

    fn text(&self) -> &[u8] {
        if self.long.is_empty() { &self.short[..self.len] } else { &self.long }
    }

    fn write(&self, body: &mut Vec<u8>) {
        if self.long.is_empty() { write_short(body, &self.short, self.len) } else { body.extend_from_slice(&self.long) }
    }
}

/// Appends the first `len` bytes.
fn write_short<const N: usize>(body: &mut Vec<u8>, text: &[u8; N], len: usize) {
    let end = body.len() + len.min(N);
    body.extend_from_slice(text);
    body.truncate(end);
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
            keys.value.write(body);
            write_number(body, *number);
        }
        Some(Value::Boolean(boolean)) => {
            keys.value.write(body);
            body.extend_from_slice(if *boolean { b"true," } else { b"false," });
        }
        Some(Value::Text(text)) => {
            keys.value.write(body);
            write_text(body, text);
            body.push(b',');
        }
        None => {
            if quality.is_good() {
                quality = Quality { flag: Flag::Missing, cause: quality.cause };
            }
        }
    }
    if quality == Quality::GOOD {
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
    write_name(body, key, b",= ");
    body.push(b'=');
    write_name(body, text, b",= ");
}

/// A character of a name as the database gets it: see [`write_name`].
fn plain(character: char) -> char {
    match character {
        '\\' => '/',
        '\0'..='\x1f' | '\x7f' => ' ',
        other => other,
    }
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

/// Sensors send whole numbers and few decimals: these are written as integers, several times as fast as the shortest
/// decimal of any number is found. All read back as the same number. A comma follows.
fn write_number(body: &mut Vec<u8>, number: f64) {
    let magnitude = number.abs();
    let whole = magnitude as u64;
    let thousandths = (magnitude * DECIMALS_FACTOR + 0.5) as u64;
    let is_whole = magnitude < WHOLE_EXACT_BELOW && whole as f64 == magnitude;
    if !is_whole && (magnitude >= DECIMALS_EXACT_BELOW || thousandths as f64 / DECIMALS_FACTOR != magnitude) {
        body.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes());
        body.push(b',');
        return;
    }
    let mut integer = itoa::Buffer::new();
    let digits = integer.format(if is_whole { whole } else { thousandths / 1000 }).as_bytes();
    let mut text = [b'-'; NUMBER_BYTES_MAX];
    let mut end = usize::from(number.is_sign_negative());
    text[end..end + digits.len()].copy_from_slice(digits);
    end += digits.len();
    if !is_whole {
        let fraction = thousandths % 1000;
        let digit = |place: u64| b'0' + (fraction / place % 10) as u8;
        text[end..end + 4].copy_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
        end += 4;
        while text[end - 1] == b'0' {
            end -= 1;
        }
    }
    text[end] = b',';
    write_short(body, &text, end + 1);
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
        assert_eq!(body.pop(), Some(b','));
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
            (1_767_225_600_000_123.0, "1767225600000123"),
            (-0.0, "-0"),
            (123_456_789_012.125, "123456789012.125"),
            (999.999, "999.999"),
            (9_007_199_254_740_991.0, "9007199254740991"),
        ];
        for (number, text) in cases {
            assert_eq!(written(number), text);
        }
    }

    #[test]
    fn what_is_not_good_has_its_cause_beside_it_and_what_was_confirmed_says_so() {
        let check = |quality: Quality, expected: &str| {
            let mut body = Vec::new();
            let reading = PointReading { point: 0, value: Some(Value::Number(5.0)), quality };
            write_reading(&mut body, &PointKeys::new("level_mm"), &reading);
            assert_eq!(String::from_utf8(body).unwrap(), expected);
        };
        check(Quality::GOOD, "level_mm=5,");
        check(Quality::suspect(kerbside_model::Cause::Spike), "level_mm=5,level_mm_q=\"suspect:spike\",");
        // It takes the place of the suspicion.
        check(Quality::CONFIRMED, "level_mm=5,level_mm_q=\"good:confirmed\",");
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
