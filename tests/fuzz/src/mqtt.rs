//! Packets: the bytes of a broker give the same packets however the network cuts them, and never a panic.

use kerbside_sources::mqtt::MqttVersion;
use kerbside_sources::mqtt::fuzzing::packets;

/// Small, so that messages which are too long are common.
const PACKET_BYTES_MAX: usize = 1_024;

/// Takes the first byte for the size of the pieces and its parity for the version of MQTT, and the rest for what a
/// broker sends.
///
/// # Panics
/// When the pieces give other packets than the whole.
pub fn mqtt(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let version = if first & 1 == 0 { MqttVersion::V311 } else { MqttVersion::V5 };
    let size = usize::from(first >> 1) + 1;
    let whole = packets(version, PACKET_BYTES_MAX, std::iter::once(data));
    let pieces = packets(version, PACKET_BYTES_MAX, data.chunks(size));
    assert_eq!(pieces, whole, "pieces of {size} bytes");
}
