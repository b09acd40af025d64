//! A door to the packet codec for fuzz targets (`tests/fuzz`), and for nothing else.

use super::MqttVersion;
use super::codec::Decoder;

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
