//! The fast way through a plain JSON payload: an object of scalars, and of such objects where the profile has places.
//!
//! It understands less than JSON and gives up at anything else: escapes, lists, long or exponential numbers, unwanted
//! objects, anything malformed. Then `serde_json` reads the payload from the start. What is read here is read to the
//! same values: a property test compares the two.

use super::convert::Raw;
use super::json::{Child, Pick};

/// Deeper nesting is left to `serde_json`.
const DEPTH_MAX: usize = 8;
/// Integers up to 2^53 and powers of ten up to 10^22 are exact as `f64`, so one division rounds correctly.
const MANTISSA_MAX: u64 = 1 << 53;
/// So many digits never overflow a `u64`.
const DIGITS_MAX: usize = 18;
const POWERS_OF_TEN: [f64; DIGITS_MAX + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];

/// Reads a payload; `None` when it is not plain, and then what was picked so far means nothing.
pub(super) fn scan(bytes: &[u8], pick: &mut Pick<'_>) -> Option<()> {
    let mut scanner = Scanner { rest: bytes };
    scanner.space();
    scanner.expect(b'{')?;
    scanner.object(pick, 0, DEPTH_MAX)?;
    scanner.space();
    scanner.rest.is_empty().then_some(())
}

struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// What follows the opening brace.
    fn object(&mut self, pick: &mut Pick<'_>, node: usize, depth: usize) -> Option<()> {
        pick.leaf(node, Raw::Other);
        self.space();
        if self.take(b'}') {
            return Some(());
        }
        let children = pick.children(node);
        let mut hint = 0;
        loop {
            let child = self.key(children, &mut hint)?;
            self.space();
            self.value(pick, child, depth)?;
            self.space();
            if self.take(b',') {
                self.space();
            } else {
                return self.expect(b'}');
            }
        }
    }

    /// A key with its colon: the child that it names, if any.
    fn key(&mut self, children: &[Child], hint: &mut usize) -> Option<Option<usize>> {
        if let Some(child) = children.get(*hint)
            && let Some(rest) = child.quoted.strip(self.rest)
        {
            self.rest = rest;
            *hint += 1;
            return Some(Some(child.node));
        }
        self.expect(b'"')?;
        let key = self.string()?;
        self.space();
        self.expect(b':')?;
        let is_key = |position: &usize| children[*position].key.as_bytes() == key;
        let from = (*hint).min(children.len());
        let found = (from..children.len()).chain(0..from).find(is_key);
        if let Some(position) = found {
            *hint = position + 1;
        }
        Some(found.map(|position| children[position].node))
    }

    fn value(&mut self, pick: &mut Pick<'_>, child: Option<usize>, depth: usize) -> Option<()> {
        let raw = match *self.rest.first()? {
            b'"' => {
                self.rest = &self.rest[1..];
                let text = self.string()?;
                match child {
                    // Nobody looks at an unwanted text, and `serde_json` does not either.
                    None => return Some(()),
                    Some(node) => {
                        let text = std::str::from_utf8(text).ok()?;
                        if pick.holds_places(node, text) {
                            return None;
                        }
                        Raw::Text(text)
                    }
                }
            }
            b'{' => {
                let node = child.filter(|node| !pick.children(*node).is_empty() && depth > 0)?;
                self.rest = &self.rest[1..];
                return self.object(pick, node, depth - 1);
            }
            b't' => self.word(b"true", Raw::Boolean(true))?,
            b'f' => self.word(b"false", Raw::Boolean(false))?,
            b'n' => self.word(b"null", Raw::Null)?,
            _ => Raw::Number(self.number()?),
        };
        if let Some(node) = child {
            pick.leaf(node, raw);
        }
        Some(())
    }

    /// What follows the opening quote, up to and without the closing one.
    fn string(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1F))?;
        if self.rest[end] != b'"' {
            return None;
        }
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(text)
    }

    fn word(&mut self, word: &[u8], raw: Raw<'static>) -> Option<Raw<'static>> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(raw)
    }

    fn number(&mut self) -> Option<f64> {
        let is_negative = self.take(b'-');
        let mut mantissa = 0_u64;
        let whole = self.digits(&mut mantissa)?;
        if whole.len() > 1 && whole[0] == b'0' {
            return None;
        }
        let mut decimals = 0;
        if self.take(b'.') {
            decimals = self.digits(&mut mantissa)?.len();
        }
        let is_plain = mantissa <= MANTISSA_MAX
            && whole.len() + decimals <= DIGITS_MAX
            && !matches!(self.rest.first(), Some(b'e' | b'E'));
        if !is_plain {
            return None;
        }
        let magnitude = mantissa as f64 / POWERS_OF_TEN[decimals];
        Some(if is_negative { -magnitude } else { magnitude })
    }

    /// At least one digit, appended to `mantissa`.
    fn digits(&mut self, mantissa: &mut u64) -> Option<&'a [u8]> {
        let mut count = 0;
        while let Some(byte @ b'0'..=b'9') = self.rest.get(count) {
            *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            count += 1;
        }
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        (1..=DIGITS_MAX).contains(&count).then_some(digits)
    }

    fn space(&mut self) {
        // Few devices write any.
        while let [0..=b' ', ..] = self.rest
            && let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest
        {
            self.rest = rest;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.take(byte).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use kerbside_model::document::Problems;
    use kerbside_model::profile::{PayloadFormat, Profile, parse_profile_text};
    use proptest::prelude::*;

    use super::super::convert::Converter;
    use super::super::json::JsonPlan;
    use super::super::{Decoder, Scratch};

    const PROFILE: &str = "
profile: plain
version: 1
kind: manhole_cover
vendor: Test
model: test
payload:
  format: json
  time: {path: ts, unit: ms}
points:
  - {name: tilt_deg, path: [tilt, tilt_deg, object.tilt], range: {min: -90, max: 90}}
  - {name: cover_open, path: open}
  - {name: level_mm, path: object.level, scale: 10}
  - {name: fw, type: text, path: fw}
samples:
  - {name: one, text: '{\"tilt\":1}', readings: {tilt_deg: 1}}
  - {name: bad, text: '{', error: not valid JSON}
";

    fn profile() -> Arc<Profile> {
        let problems = Problems::default();
        let profile = parse_profile_text("plain.yaml", PROFILE, &problems);
        Arc::new(profile.unwrap_or_else(|| panic!("{problems:?}")))
    }

    /// Whether the scanner took the payload; if so, it read what the parser reads.
    fn is_scanned_alike(profile: &Arc<Profile>, payload: &[u8]) -> bool {
        let PayloadFormat::Json(format) = &profile.payload else { unreachable!("the profile reads JSON") };
        let plan = JsonPlan::new(&profile.points, format);
        let converters: Vec<_> = profile.points.iter().map(Converter::new).collect();
        let mut scratch = Scratch::default();
        scratch.begin(converters.len());
        let scanned = plan.scan(payload, &converters, &mut scratch);
        let scanned = scanned.map(|time| (time, scratch.drain().collect::<Vec<_>>()));
        scratch.begin(converters.len());
        let parsed = plan.parse(payload, &converters, &mut scratch);
        let parsed = parsed.map(|time| (time, scratch.drain().collect::<Vec<_>>()));
        let Some(scanned) = scanned else { return false };
        assert_eq!(Ok(scanned), parsed, "{}", String::from_utf8_lossy(payload));
        true
    }

    #[test]
    fn plain_payloads_are_scanned_and_others_are_left_alone() {
        let profile = profile();
        let plain = [
            r#"{"ts":1767225600000,"tilt":1.25,"open":false,"fw":"1.4.2"}"#,
            " { \"fw\" : \"甲\" , \"other\" : null , \"object\" : { \"level\" : -0.5 } }\r\n",
            r#"{"tilt":-0,"tilt":3,"open":0,"more":"\u0000 is not here","tilt_deg":007}"#.split_at(23).0,
            "{}",
            r#"{"tilt":9007199254740992,"fw":12.50,"object":{}}"#,
        ];
        assert!(is_scanned_alike(&profile, plain[0].as_bytes()));
        assert!(is_scanned_alike(&profile, plain[1].as_bytes()));
        assert!(is_scanned_alike(&profile, plain[3].as_bytes()));
        assert!(is_scanned_alike(&profile, plain[4].as_bytes()));
        let others = [
            plain[2],
            "",
            "[]",
            "{\"tilt\":01}",
            "{\"tilt\":1.}",
            "{\"tilt\":1e3}",
            "{\"tilt\":1,}",
            "{\"tilt\":1}x",
            "{\"fw\":\"a\\nb\"}",
            "{\"fw\":\"a\nb\"}",
            "{\"more\":{}}",
            "{\"tilt\":{}}",
            "{\"tilt\":9007199254740993}",
            "{\"tilt\":1234567890123456789}",
        ];
        for other in others {
            assert!(!is_scanned_alike(&profile, other.as_bytes()), "{other:?}");
        }
    }

    /// Payloads as devices send them, and nearly so.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let scalar = prop_oneof![
            any::<f64>().prop_map(|number| number.to_string()),
            (any::<i64>(), 0_u32..20).prop_map(|(number, shift)| (number >> (3 * shift)).to_string()),
            (0_u32..1_000, 0_u32..1_000).prop_map(|(whole, decimals)| format!("{whole}.{decimals}")),
            "(true|false|null|tru|-|0[0-9]|[0-9]{17,20}|1e[0-9]|\\[1\\]|\\{\\})",
            "[ -~甲]{0,6}".prop_map(|text| format!("\"{text}\"")),
        ];
        let key = prop_oneof![
            4 => prop::sample::select(vec!["tilt", "tilt_deg", "open", "fw", "ts", "object", "level"]),
            1 => prop::sample::select(vec!["", "other", "tilt\\u0041"]),
        ];
        let member = (key, scalar, "[ \t\n]{0,1}")
            .prop_map(|(key, value, space)| format!("{space}\"{key}\"{space}:{space}{value}{space}"));
        let members = prop::collection::vec(member, 0..6);
        let object = (members.clone(), members).prop_map(|(inner, outer)| {
            let inner = format!("\"object\":{{{}}}", inner.join(","));
            let all: Vec<_> = outer.iter().map(String::as_str).chain([inner.as_str()]).collect();
            format!("{{{}}}", all.join(",")).into_bytes()
        });
        (object, prop::option::of((any::<prop::sample::Index>(), any::<u8>()))).prop_map(|(mut bytes, damage)| {
            if let Some((place, byte)) = damage {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn whatever_is_scanned_reads_the_same_when_parsed(payload in payload()) {
            is_scanned_alike(&profile(), &payload);
        }
    }

    #[test]
    fn the_decoder_takes_the_same_from_both() {
        let decoder = Decoder::new(&profile());
        let device = kerbside_model::inventory::Device::default();
        let mut scratch = Scratch::default();
        for text in [r#"{"tilt":1,"fw":"x"}"#, r#"{"tilt":1,"fw":"\u0078"}"#] {
            let payload = kerbside_model::Payload::Bytes(Bytes::copy_from_slice(text.as_bytes()));
            let message = crate::decode::Message::bare(payload.view(), kerbside_model::Timestamp(0));
            decoder.decode(&device, &message, &mut scratch).unwrap();
            let readings: Vec<_> = scratch.drain().map(|reading| reading.value.unwrap().to_string()).collect();
            assert_eq!(readings, ["1", "x"]);
        }
    }
}
