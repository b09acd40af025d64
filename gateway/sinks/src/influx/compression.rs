//! Decides whether a request body is compressed: by configuration, or by where the database is and how fast the link
//! to it was measured to be.
//!
//! The processor is dearer than a fast link, and a slow or metered link is dearer than the processor. With `auto`:
//! a database on this machine gets plain bodies for ever. One at a private address gets plain bodies until the link
//! carries less than [`SLOW_BYTES_PER_SECOND`]; then compression is tried, and kept if lines arrive at least
//! [`WORTH_IT`] times as fast (a slow database is not a slow link). One at a public address gets compressed bodies
//! unless the link carries more than [`FAST_BYTES_PER_SECOND`] of them. Between two turns lie a minute at least and
//! [`SAMPLES_MIN`] large requests; a trial that did not help doubles the minute, up to an hour.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use reqwest::Url;

use super::Gzip;

/// Below this, compressing costs less than what it saves: a link of 32 Mbit/s.
const SLOW_BYTES_PER_SECOND: f64 = 4e6;
/// Above this, the link is not what holds lines up: 128 Mbit/s.
const FAST_BYTES_PER_SECOND: f64 = 16e6;
/// Lines must arrive so many times as fast for compression to stay on; line protocol shrinks to a seventh.
const WORTH_IT: f64 = 1.25;
/// Smaller bodies measure the round trip, not the link.
const MEASURED_BYTES_MIN: usize = 64 << 10;
/// Large requests between two turns.
const SAMPLES_MIN: u32 = 8;
/// Share of a new sample in the smoothed speed.
const SMOOTHING: f64 = 0.25;
/// Between two turns at least, at first.
const HOLD_FIRST: Duration = Duration::from_secs(60);
/// Between two turns at least, after trials that did not help.
const HOLD_MAX: Duration = Duration::from_secs(3600);
/// `auto` leaves smaller bodies as they are: they fit one packet or two either way.
const COMPRESSED_BYTES_MIN: usize = 1 << 10;

/// Where the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On this machine.
    Loopback,
    /// In a private network, by its address.
    Private,
    /// Anywhere else.
    Public,
}

/// Knows whether to compress.
#[derive(Debug)]
pub(super) struct Compression {
    mode: Gzip,
    auto: Mutex<Auto>,
}

/// What `auto` knows.
#[derive(Debug)]
struct Auto {
    place: Place,
    is_on: bool,
    /// When it was turned last.
    turned_at: Instant,
    samples: u32,
    /// Bytes of lines a second since the last turn, smoothed.
    lines_speed: f64,
    /// Bytes on the wire a second since the last turn, smoothed.
    wire_speed: f64,
    /// Bytes of lines a second before compression was tried.
    speed_before: Option<f64>,
    hold: Duration,
}

/// A request that was accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Bytes of lines.
    pub(super) lines: usize,
    /// Bytes of the body that carried them.
    pub(super) wire: usize,
    pub(super) took: Duration,
    /// Whom it was sent to, if known.
    pub(super) peer: Option<SocketAddr>,
}

impl Compression {
    /// Begins with what the address in the configuration tells.
    pub(super) fn new(mode: Gzip, url: &Url, now: Instant) -> Compression {
        let place = place_of_host(url.host_str().unwrap_or_default());
        Compression { mode, auto: Mutex::new(Auto::new(place, now)) }
    }

    /// Whether lines of so many bytes are to be compressed.
    pub(super) fn is_on(&self, bytes: usize) -> bool {
        match self.mode {
            Gzip::On => true,
            Gzip::Off => false,
            Gzip::Auto => bytes >= COMPRESSED_BYTES_MIN && self.lock().is_on,
        }
    }

    /// Learns from a request that was accepted.
    pub(super) fn measured(&self, sample: Sample, now: Instant) {
        if self.mode == Gzip::Auto {
            self.lock().measured(sample, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Auto> {
        self.auto.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Auto {
    fn new(place: Place, now: Instant) -> Auto {
        let is_on = place == Place::Public;
        Auto {
            place,
            is_on,
            turned_at: now,
            samples: 0,
            lines_speed: 0.0,
            wire_speed: 0.0,
            speed_before: None,
            hold: HOLD_FIRST,
        }
    }

    fn measured(&mut self, sample: Sample, now: Instant) {
        if let Some(place) = sample.peer.map(|peer| place_of(peer.ip()))
            && place != self.place
        {
            *self = Auto::new(place, now);
            return;
        }
        if sample.lines < MEASURED_BYTES_MIN {
            return;
        }
        let seconds = sample.took.as_secs_f64().max(1e-6);
        let (lines, wire) = (sample.lines as f64 / seconds, sample.wire as f64 / seconds);
        if self.samples == 0 {
            (self.lines_speed, self.wire_speed) = (lines, wire);
        } else {
            self.lines_speed += (lines - self.lines_speed) * SMOOTHING;
            self.wire_speed += (wire - self.wire_speed) * SMOOTHING;
        }
        self.samples += 1;
        if self.samples >= SAMPLES_MIN {
            self.decide(now);
        }
    }

    fn decide(&mut self, now: Instant) {
        if self.place == Place::Loopback {
            return;
        }
        if let Some(before) = self.speed_before.take()
            && self.is_on
            && self.lines_speed < before * WORTH_IT
        {
            self.hold = (self.hold * 2).min(HOLD_MAX);
            self.turn(false, now);
            return;
        }
        if now.duration_since(self.turned_at) < self.hold {
            return;
        }
        if self.is_on && self.wire_speed > FAST_BYTES_PER_SECOND {
            self.turn(false, now);
        } else if !self.is_on && self.wire_speed < SLOW_BYTES_PER_SECOND {
            self.speed_before = Some(self.lines_speed);
            self.turn(true, now);
        }
    }

    fn turn(&mut self, is_on: bool, now: Instant) {
        self.is_on = is_on;
        self.turned_at = now;
        self.samples = 0;
    }
}

fn place_of_host(host: &str) -> Place {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => place_of(address),
        Err(_) if bare == "localhost" || bare.ends_with(".localhost") => Place::Loopback,
        // The first answer tells where a name leads.
        Err(_) => Place::Private,
    }
}

fn place_of(address: IpAddr) -> Place {
    let address = address.to_canonical();
    let is_private = match address {
        IpAddr::V4(address) => address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    };
    if address.is_loopback() {
        Place::Loopback
    } else if is_private {
        Place::Private
    } else {
        Place::Public
    }
}

/// Level 1 makes line protocol seven times smaller at 1.5 times the speed of level 3 (measured with 5,000 lines).
pub(super) fn compressed(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Level::fast());
    encoder.write_all(text).expect("writing to memory does not fail");
    Bytes::from(encoder.finish().expect("writing to memory does not fail"))
}

#[cfg(test)]
mod tests {
    use kerbside_runtime::Clock;

    use super::*;

    const LINES: usize = 1 << 20;

    /// A link and a database behind it.
    struct Street {
        compression: Compression,
        peer: SocketAddr,
        link_bytes_per_second: f64,
        database_seconds: f64,
        now: Instant,
    }

    impl Street {
        fn new(url: &str, peer: &str, link_bytes_per_second: f64, database_seconds: f64) -> Street {
            let now = Clock::stamp();
            let compression = Compression::new(Gzip::Auto, &Url::parse(url).unwrap(), now);
            Street { compression, peer: peer.parse().unwrap(), link_bytes_per_second, database_seconds, now }
        }

        /// Sends full requests for a while; gives how many of them were compressed and how often that changed.
        fn send(&mut self, minutes: u64) -> (usize, usize, usize) {
            let (end, mut sent, mut packed, mut turns) = (self.now + Duration::from_secs(minutes * 60), 0, 0, 0);
            let mut was_on = None;
            while self.now < end {
                let is_on = self.compression.is_on(LINES);
                turns += usize::from(was_on.is_some_and(|was_on| was_on != is_on));
                was_on = Some(is_on);
                let wire = if is_on { LINES / 7 } else { LINES };
                let seconds = wire as f64 / self.link_bytes_per_second + self.database_seconds;
                let took = Duration::from_secs_f64(seconds);
                self.now += took.max(Duration::from_millis(200));
                self.compression.measured(Sample { lines: LINES, wire, took, peer: Some(self.peer) }, self.now);
                sent += 1;
                packed += usize::from(is_on);
            }
            (sent, packed, turns)
        }
    }

    #[test]
    fn a_database_on_this_machine_gets_plain_bodies_however_slow_it_is() {
        let mut street = Street::new("http://localhost:8086", "127.0.0.1:8086", 1e6, 0.5);
        let (_, packed, _) = street.send(60);
        assert_eq!(packed, 0);
    }

    #[test]
    fn a_fast_local_network_is_left_alone_and_a_slow_one_gets_compressed_bodies() {
        let mut fast = Street::new("http://10.0.0.5:8086", "10.0.0.5:8086", 110e6, 0.01);
        assert_eq!(fast.send(60).1, 0);
        let mut slow = Street::new("http://10.0.0.5:8086", "10.0.0.5:8086", 1e6, 0.01);
        let (sent, packed, turns) = slow.send(60);
        assert!(packed * 10 > sent * 9 && turns == 1, "{packed} of {sent}, {turns} turns");
    }

    #[test]
    fn a_slow_database_is_not_taken_for_a_slow_link() {
        let mut street = Street::new("http://10.0.0.5:8086", "10.0.0.5:8086", 110e6, 0.5);
        let (sent, packed, turns) = street.send(8 * 60);
        assert!(packed * 50 < sent, "{packed} of {sent}");
        assert!(turns <= 2 * 13, "every trial waits twice as long as the one before, up to an hour: {turns}");
    }

    #[test]
    fn a_far_database_gets_compressed_bodies_from_the_first_answer_on() {
        let mut street = Street::new("http://influx.city.example:8086", "203.0.113.5:8086", 3e6, 0.05);
        let (sent, packed, turns) = street.send(60);
        assert_eq!((packed, turns), (sent - 1, 1), "only the first request did not know where the name leads");
    }

    #[test]
    fn a_link_between_slow_and_fast_never_makes_it_turn_back_and_forth() {
        let mut street = Street::new("http://10.0.0.5:8086", "10.0.0.5:8086", 3.9e6, 0.0);
        let (_, _, turns) = street.send(60);
        assert_eq!(turns, 1);
        street.link_bytes_per_second = 8e6;
        let (_, _, turns) = street.send(60);
        assert_eq!(turns, 0, "8 MB/s of compressed bodies is neither");
    }

    #[test]
    fn addresses_tell_where_they_are() {
        for (address, place) in [
            ("127.0.0.9", Place::Loopback),
            ("::1", Place::Loopback),
            ("::ffff:127.0.0.1", Place::Loopback),
            ("192.168.3.4", Place::Private),
            ("172.17.0.3", Place::Private),
            ("169.254.1.1", Place::Private),
            ("fd00::5", Place::Private),
            ("fe80::5", Place::Private),
            ("8.8.8.8", Place::Public),
            ("2001:db8::1", Place::Public),
        ] {
            assert_eq!(place_of(address.parse().unwrap()), place, "{address}");
        }
        assert_eq!(place_of_host("[::1]"), Place::Loopback);
    }

    #[test]
    fn small_bodies_are_left_as_they_are() {
        let url = Url::parse("http://203.0.113.5:8086").unwrap();
        let compression = Compression::new(Gzip::Auto, &url, Clock::stamp());
        assert!(!compression.is_on(200) && compression.is_on(20_000));
        assert!(Compression::new(Gzip::On, &url, Clock::stamp()).is_on(200));
        assert!(!Compression::new(Gzip::Off, &url, Clock::stamp()).is_on(20_000));
    }
}
