//! Turns a sequence number into the PUBLISH packet of the bench: 12 values and two stamps of about 200 bytes.
//!
//! Packets are built once for each device; sending one copies it and overwrites its digits. Pure.

use std::fmt::Write as _;

/// Sequence numbers are sent with this added, so that all have nine digits.
pub(crate) const SEQUENCE_BASE: u64 = 100_000_000;
/// Sequence numbers go from 0 to one less than this.
pub const SEQUENCES_MAX: u64 = 900_000_000;

const KINDS: [(&str, &str); 3] = [("manhole", "MH"), ("pole", "SP"), ("drain", "DL")];
const DISTRICTS: usize = 20;

/// Topic and id of a device of the bench.
pub fn bench_device(number: usize) -> (String, String) {
    let (kind, prefix) = KINDS[number % KINDS.len()];
    let id = format!("{prefix}-{number:06}");
    (format!("city/d{:02}/{kind}/{id}/up", number % DISTRICTS), id)
}

/// The bench's inventory: every device with the profile `bench-city-sensor` and its id as its address.
pub fn bench_inventory_csv(devices: usize) -> String {
    let mut text = "id,profile,address\n".to_owned();
    for number in 0..devices {
        let (_, id) = bench_device(number);
        writeln!(text, "{id},bench-city-sensor,{id}").expect("writing to a string cannot fail");
    }
    text
}

/// Packets of all devices, ready but for their digits.
#[derive(Debug)]
pub(crate) struct Messages {
    templates: Vec<Template>,
    generator: fastrand::Rng,
}

#[derive(Debug)]
struct Template {
    packet: Vec<u8>,
    packet_id_at: Option<usize>,
    milliseconds_at: usize,
    tilt_at: usize,
    sequence_at: usize,
    microseconds_at: usize,
}

/// One sending of one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    pub(crate) sequence: u64,
    /// Only QoS 1 has one.
    pub(crate) packet_id: u16,
    pub(crate) now_micros: u64,
    pub(crate) again: bool,
}

impl Messages {
    pub(crate) fn new(devices: usize, with_packet_id: bool) -> Messages {
        let templates = (0..devices.max(1)).map(|number| Template::new(number, with_packet_id)).collect();
        Messages { templates, generator: fastrand::Rng::with_seed(1) }
    }

    /// Appends the packet; devices take turns.
    pub(crate) fn append(&mut self, sending: Sending, out: &mut Vec<u8>) {
        let turn = (sending.sequence % self.templates.len() as u64) as usize;
        let template = &self.templates[turn];
        let start = out.len();
        out.extend_from_slice(&template.packet);
        let packet = &mut out[start..];
        if let Some(at) = template.packet_id_at {
            packet[at..at + 2].copy_from_slice(&sending.packet_id.to_be_bytes());
        }
        if sending.again {
            packet[0] |= 0x08;
        }
        let tilt = self.generator.u8(0..100);
        packet[template.tilt_at] = b'0' + tilt / 10;
        packet[template.tilt_at + 2] = b'0' + tilt % 10;
        write_digits(&mut packet[template.milliseconds_at..][..13], sending.now_micros / 1_000);
        write_digits(&mut packet[template.sequence_at..][..9], SEQUENCE_BASE + sending.sequence);
        write_digits(&mut packet[template.microseconds_at..][..16], sending.now_micros);
    }
}

impl Template {
    fn new(number: usize, with_packet_id: bool) -> Template {
        let (topic, id) = bench_device(number);
        let payload = format!(
            concat!(
                r#"{{"deviceId":"{}","ts":1000000000000,"tilt":1.2,"level":0.{:02},"batt":3.{:02},"rssi":-{},"open":false,"#,
                r#""temp":{}.4,"seq":100000000,"tx":1000000000000000,"fw":"1.4.2","ch4":0.02,"h2s":0.1,"water":false}}"#
            ),
            id,
            number % 100,
            30 + number % 60,
            60 + number % 50,
            10 + number % 25
        );
        let packet_id_bytes = if with_packet_id { 2 } else { 0 };
        let mut packet = vec![if with_packet_id { 0x32 } else { 0x30 }];
        append_length(2 + topic.len() + packet_id_bytes + payload.len(), &mut packet);
        append_text(&topic, &mut packet);
        let packet_id_at = with_packet_id.then_some(packet.len());
        packet.resize(packet.len() + packet_id_bytes, 0);
        let body = packet.len();
        packet.extend_from_slice(payload.as_bytes());
        let after = |key: &str| body + payload.find(key).expect("the key stands in the text above") + key.len();
        Template {
            packet_id_at,
            milliseconds_at: after("\"ts\":"),
            tilt_at: after("\"tilt\":"),
            sequence_at: after("\"seq\":"),
            microseconds_at: after("\"tx\":"),
            packet,
        }
    }
}

/// MQTT's remaining length: seven bits a byte, lowest first.
pub(crate) fn append_length(length: usize, out: &mut Vec<u8>) {
    let mut left = length;
    loop {
        let low = (left % 128) as u8;
        left /= 128;
        out.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            return;
        }
    }
}

/// MQTT's text: its length in two bytes, then the text.
pub(crate) fn append_text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("topics, ids and passwords here are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn write_digits(place: &mut [u8], number: u64) {
    let mut left = number;
    for byte in place.iter_mut().rev() {
        *byte = b'0' + (left % 10) as u8;
        left /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_carries_its_sequence_and_stamps() {
        let mut messages = Messages::new(30, true);
        let mut packet = Vec::new();
        let sending = Sending { sequence: 64, packet_id: 513, now_micros: 1_586_400_800_535_123, again: true };
        messages.append(sending, &mut packet);
        assert_eq!(packet[0], 0x3A, "QoS 1, sent again");
        let length = usize::from(packet[1] & 0x7F) + 128 * usize::from(packet[2]);
        assert_eq!(packet.len(), 3 + length);
        let text = String::from_utf8_lossy(&packet[5..]);
        assert!(text.starts_with("city/d04/pole/SP-000004/up\u{2}\u{1}{"), "{text}");
        let payload: serde_json::Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
        assert_eq!(payload["deviceId"], "SP-000004");
        assert_eq!(payload["seq"], 100_000_064);
        assert_eq!(payload["ts"], 1_586_400_800_535_u64);
        assert_eq!(payload["tx"], 1_586_400_800_535_123_u64);
        assert_eq!(payload.as_object().unwrap().len(), 14);
        assert!((200..=210).contains(&payload.to_string().len()), "{}", payload.to_string().len());
    }

    #[test]
    fn the_bench_inventory_names_the_devices_that_send() {
        let text = bench_inventory_csv(10_000);
        assert_eq!(text.lines().count(), 10_001);
        assert_eq!(text.lines().nth(3), Some("DL-000002,bench-city-sensor,DL-000002"));
        assert_eq!(bench_device(2).0, "city/d02/drain/DL-000002/up");
    }
}
