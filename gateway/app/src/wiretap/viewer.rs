//! Who looks, at what, and how fast.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use kerbside_runtime::Clock;
use tokio::sync::mpsc;

use super::{MissedCounts, SHOWN_PER_SECOND_MAX};

/// What a viewer wants to see; what is not named does not matter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Id of a device, or an address that no device has.
    pub device: Option<String>,
    /// Name of a source.
    pub source: Option<String>,
    /// Stands somewhere in the frame, or in what is known of its device.
    pub text: Option<Needle>,
    /// Only frames that gave no readings.
    pub undecoded_only: bool,
}

/// A text that is looked for without regard to capitals A to Z, and also as bytes when it is written in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needle {
    text: Vec<u8>,
    bytes: Option<Vec<u8>>,
}

impl Needle {
    /// `None` for an empty text.
    pub fn new(text: &str) -> Option<Needle> {
        let text = text.trim();
        (!text.is_empty()).then(|| Needle { text: text.to_ascii_lowercase().into_bytes(), bytes: of_hex(text) })
    }

    /// Whether it stands in these bytes.
    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        let has = |window: &[u8]| window.eq_ignore_ascii_case(&self.text);
        bytes.windows(self.text.len()).any(has)
    }

    /// Whether it stands in a payload, as text or as the bytes that it writes in hexadecimal.
    pub(super) fn is_in_payload(&self, payload: &[u8]) -> bool {
        let wanted = |bytes: &Vec<u8>| payload.windows(bytes.len()).any(|window| window == bytes);
        self.is_in(payload) || self.bytes.as_ref().is_some_and(wanted)
    }
}

/// At least two bytes in hexadecimal, with or without blanks.
fn of_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if digits.len() < 4 || digits.len() % 2 == 1 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// One viewer, as the thread that shows frames sees it.
#[derive(Debug)]
pub(super) struct Viewer {
    pub(super) id: u64,
    pub(super) filter: Filter,
    sender: mpsc::Sender<Arc<str>>,
    missed: Arc<MissedCounts>,
    pace: Pace,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Shown,
    /// The viewer has had its share of this second.
    Sampled,
    /// The viewer has not taken those before it.
    Slow,
}

impl Viewer {
    pub(super) fn new(id: u64, filter: Filter, sender: mpsc::Sender<Arc<str>>, missed: Arc<MissedCounts>) -> Viewer {
        Viewer { id, filter, sender, missed, pace: Pace::new(Clock::stamp()) }
    }

    /// Whether it would be shown something now.
    pub(super) fn has_share(&mut self) -> bool {
        self.pace.has_share(Clock::stamp())
    }

    /// Gives it an event, when it still may have one now and takes it.
    pub(super) fn offer(&mut self, event: &Arc<str>) -> Offered {
        if !self.pace.take(Clock::stamp()) {
            return self.skip();
        }
        if self.sender.try_send(Arc::clone(event)).is_err() {
            self.missed.slow.fetch_add(1, Ordering::Relaxed);
            return Offered::Slow;
        }
        Offered::Shown
    }

    /// Leaves a frame out that it wanted.
    pub(super) fn skip(&mut self) -> Offered {
        self.missed.sampled.fetch_add(1, Ordering::Relaxed);
        Offered::Sampled
    }
}

/// At most [`SHOWN_PER_SECOND_MAX`] in a second, and as many at once.
#[derive(Debug)]
struct Pace {
    share: f64,
    since: Instant,
}

impl Pace {
    fn new(now: Instant) -> Pace {
        Pace { share: f64::from(SHOWN_PER_SECOND_MAX), since: now }
    }

    fn has_share(&mut self, now: Instant) -> bool {
        let most = f64::from(SHOWN_PER_SECOND_MAX);
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.share = (self.share + passed * most).min(most);
        self.since = now;
        self.share >= 1.0
    }

    fn take(&mut self, now: Instant) -> bool {
        let has_share = self.has_share(now);
        if has_share {
            self.share -= 1.0;
        }
        has_share
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_text_is_found_in_any_case_and_hexadecimal_digits_also_as_bytes() {
        let needle = |text: &str| Needle::new(text).unwrap();
        assert!(needle("mh-1").is_in(b"city/a/MH-17/up") && !needle("mh-2").is_in(b"city/a/MH-17/up"));
        assert!(needle("井盖").is_in("雨水井盖".as_bytes()));
        assert!(needle("01 67").is_in_payload(&[0, 1, 0x67]) && needle("0167").is_in_payload(b"a 0167"));
        assert!(!needle("0167").is_in_payload(&[0x16, 0x70]) && !needle("01").is_in_payload(&[1]));
        assert_eq!((Needle::new("  "), needle("abc").bytes), (None, None));
    }

    #[test]
    fn a_viewer_gets_its_share_of_a_second_and_no_more() {
        let start = Clock::stamp();
        let mut pace = Pace::new(start);
        let shown = |pace: &mut Pace, at: Duration| (0..200).filter(|_| pace.take(start + at)).count();
        assert_eq!(shown(&mut pace, Duration::ZERO), 50);
        assert_eq!(shown(&mut pace, Duration::from_millis(500)), 25);
        assert_eq!(shown(&mut pace, Duration::from_secs(60)), 50, "a quiet minute saves nothing up");
    }
}
