//! Turns the first bytes of a modem into the modem that it is.
//!
//! A serial modem (DTU) that dials in sends a packet that its installer chose: an IMEI, an ICCID, a name, some bytes.
//! Nothing tells where it ends but that nothing follows, so it is taken when the connection is quiet. Heartbeats may
//! come before and after. Plain functions; no metrics.

/// A connection that says so much, be it heartbeats only, is nobody's.
const HEARD_BYTES_MAX: usize = 4_096;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Registration {
    /// More must come, or it must be quiet, before it can be told.
    Open,
    /// The registration of a modem that is known.
    Known(Vec<u8>),
    /// Nobody that we know; what it said.
    Stranger(Vec<u8>),
}

/// What is known about the modems of a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    /// Registrations, none of them empty.
    pub(super) known: &'a [Vec<u8>],
    /// May be empty.
    pub(super) heartbeat: &'a [u8],
    /// Longest registration.
    pub(super) bytes_max: usize,
    /// Whether white space and line ends around a registration do not count: so it is with text.
    pub(super) is_text: bool,
}

/// Reads the bytes that a connection began with; `is_quiet` says that nothing has followed for a while.
pub(super) fn read(bytes: &[u8], is_quiet: bool, expected: Expected<'_>) -> Registration {
    let said = expected.trim_start(bytes, &[]);
    // Untrimmed as well: there are modems whose heartbeat is their registration, or begins like it.
    let fits = |known: &&Vec<u8>| {
        let is_it =
            |said: &[u8]| said.starts_with(known) && expected.trim_start(&said[known.len()..], known).is_empty();
        is_it(said) || is_it(bytes)
    };
    // The longest that fits: one modem may be called "12" and another "123".
    let found = expected.known.iter().filter(fits).max_by_key(|known| known.len());
    if let Some(found) = found {
        return if is_quiet { Registration::Known(found.clone()) } else { Registration::Open };
    }
    let is_short = bytes.len() <= HEARD_BYTES_MAX && said.len() <= expected.bytes_max;
    if is_short && (said.is_empty() || !is_quiet) {
        return Registration::Open;
    }
    let shown = &said[..said.len().min(expected.bytes_max)];
    Registration::Stranger(shown.to_vec())
}

impl Expected<'_> {
    /// Takes heartbeats, repetitions of a registration and, from text, white space from the beginning.
    fn trim_start<'bytes>(&self, bytes: &'bytes [u8], registration: &[u8]) -> &'bytes [u8] {
        let mut rest = bytes;
        loop {
            let behind = |filler: &[u8]| rest.strip_prefix(filler).filter(|_| !filler.is_empty());
            let is_space = self.is_text && rest.first().is_some_and(|byte| byte.is_ascii_whitespace() || *byte == 0);
            rest = match behind(self.heartbeat).or_else(|| behind(registration)) {
                Some(behind) => behind,
                None if is_space => &rest[1..],
                None => return rest,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known() -> Vec<Vec<u8>> {
        [&b"12"[..], b"123", b"DTU-1", &[0x20, 0x01]].map(<[u8]>::to_vec).to_vec()
    }

    fn expected(known: &[Vec<u8>], is_text: bool) -> Expected<'_> {
        Expected { known, heartbeat: b"ping", bytes_max: 8, is_text }
    }

    fn check(said: &[u8], quiet: Registration) {
        let known = known();
        assert_eq!(read(said, true, expected(&known, true)), quiet, "{said:?}");
    }

    #[test]
    fn a_registration_is_taken_whole_with_heartbeats_around_it() {
        check(b"12", Registration::Known(b"12".to_vec()));
        check(b"123", Registration::Known(b"123".to_vec()));
        check(b"1234", Registration::Stranger(b"1234".to_vec()));
        check(b"pingDTU-1\r\npingping", Registration::Known(b"DTU-1".to_vec()));
        check(b"\0 DTU-1\0", Registration::Known(b"DTU-1".to_vec()));
        check(b"DTU-1DTU-1\r\nDTU-1", Registration::Known(b"DTU-1".to_vec()));
        check(b"ping", Registration::Open);
        check(b"", Registration::Open);
        check(b"GET / HTTP/1.1", Registration::Stranger(b"GET / HT".to_vec()));
    }

    #[test]
    fn nothing_is_decided_before_it_is_quiet_unless_it_is_too_long() {
        let known = known();
        let loud = |said: &[u8]| read(said, false, expected(&known, true));
        assert_eq!(loud(b"12"), Registration::Open);
        assert_eq!(loud(b"GET / HT"), Registration::Open);
        assert_eq!(loud(b"GET / HTT"), Registration::Stranger(b"GET / HT".to_vec()));
    }

    #[test]
    fn white_space_counts_where_registrations_are_bytes() {
        let known = known();
        assert_eq!(read(&[0x20, 1], true, expected(&known, false)), Registration::Known(vec![0x20, 1]));
        assert_eq!(read(b" 12", true, expected(&known, false)), Registration::Stranger(b" 12".to_vec()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_stranger_known(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let known = known();
            if let Registration::Known(found) = read(&bytes, true, expected(&known, false)) {
                let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
                let rest = text(&bytes).replace("ping", "").replace(&text(&found), "");
                prop_assert_eq!(rest, "");
            }
        }
    }
}
