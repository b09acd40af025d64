//! A door to the packet codec and to the table of Sparkplug nodes for fuzz targets (`tests/fuzz`), and for nothing else.

use kerbside_model::{FrameFlags, Timestamp};
use kerbside_runtime::Metrics;
use tokio::time::Instant;

use super::codec::Decoder;
use super::sparkplug::Sparkplug;
use super::{MqttVersion, Rebirth};

/// The packets of a connection whose bytes come in these pieces, in words, and what ended it.
pub fn packets<'a>(
    version: MqttVersion,
    packet_bytes_max: usize,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<String>, Option<String>) {
    let mut decoder = Decoder::new(version, packet_bytes_max);
    let (mut buffer, mut seen) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut rest = buffer.as_slice();
        loop {
            match decoder.next(&mut rest) {
                Ok(Some(packet)) => seen.push(format!("{packet:?}")),
                Ok(None) => break,
                Err(error) => return (seen, Some(error.to_string())),
            }
        }
        buffer = rest.to_vec();
    }
    (seen, None)
}

/// Whether the constructor accepts a topic filter.
pub fn is_filter(filter: &str) -> bool {
    super::is_filter(filter)
}

/// What a source makes of messages of Sparkplug nodes: topic, payload and whether the broker sends it again. Gives each
/// payload as it is handed over, and whether the node was asked for its birth.
pub fn sparkplug<'a>(messages: impl Iterator<Item = (&'a str, &'a [u8], bool)>) -> Vec<(Vec<u8>, bool)> {
    let mut nodes = Sparkplug::in_memory("fuzz", Rebirth::Ask, &Metrics::default());
    let now = (Instant::now(), Timestamp(1_800_000_000_000));
    let taken = messages.map(|(topic, payload, redelivered)| {
        let taken = nodes.take(topic, payload, FrameFlags { retained: false, redelivered }, now);
        (taken.payload.into_owned(), taken.command.is_some())
    });
    taken.collect()
}
