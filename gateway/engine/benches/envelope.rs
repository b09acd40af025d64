//! What it costs to open one envelope: `cargo bench -p kerbside-engine --bench envelope`, or with `FRAMES` of one's own.
//!
//! The envelopes are as large as network servers make them, with three gateways in those of LoRaWAN.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time and prints")]
#![expect(clippy::print_stdout, reason = "a benchmark measures time and prints")]

use std::hint::black_box;
use std::time::Instant;

use kerbside_engine::decode::envelope::{Opened, open};
use kerbside_model::EnvelopeFormat;
use serde_json::{Value, json};

const FRAMES: usize = 200_000;
const TOPIC: &[u8] = b"application/17c82e96-be03-4f38-aef3-f83d48582d97/device/24e124713b000001/event/up";

fn main() {
    let frames =
        std::env::var("FRAMES").map_or(FRAMES, |text| text.parse().expect("a number stands in the variable FRAMES"));
    let payloads = [
        (EnvelopeFormat::ChirpStackV4, chirpstack_v4().to_string().into_bytes()),
        (EnvelopeFormat::ChirpStackV3, chirpstack_v3().to_string().into_bytes()),
        (EnvelopeFormat::TtnV3, ttn_v3().to_string().into_bytes()),
        (EnvelopeFormat::CtWing, ctwing().to_string().into_bytes()),
        (EnvelopeFormat::NbIotTlv, nbiot_tlv()),
    ];
    for (format, payload) in payloads {
        let began = Instant::now();
        let mut uplinks = 0;
        for _ in 0..frames {
            let opened = open(format, TOPIC, black_box(&payload));
            uplinks += usize::from(matches!(black_box(opened), Ok(Opened::Uplink(_))));
        }
        assert_eq!(uplinks, frames, "every envelope of the benchmark holds an uplink");
        let nanoseconds = began.elapsed().as_nanos() as f64 / frames as f64;
        println!("{:<14} {:>5} bytes {nanoseconds:>7.0} ns a frame", format.name(), payload.len());
    }
}

fn gateways(member: &str) -> Value {
    let gateway = |number: i32| {
        json!({
            "gatewayId": format!("0016c001f153a14{number}"), "uplinkId": 4_217_106_255_u32,
            "nsTime": "2026-11-22T00:00:05.200123+00:00", "rssi": -101 - number, member: 4.5, "channel": number,
            "location": {"latitude": 35.7493, "longitude": 114.2951, "altitude": 71}, "context": "E3OWOQ==",
            "metadata": {"region_name": "cn470", "region_common_name": "CN470"}, "crcStatus": "CRC_OK",
        })
    };
    (0..3).map(gateway).collect()
}

fn chirpstack_v4() -> Value {
    json!({
        "deduplicationId": "3ac7e3c4-4401-4b8d-9386-a5c902f9202d", "time": "2026-11-22T00:00:05.123456789+00:00",
        "deviceInfo": {
            "tenantId": "52f14cd4-c6f1-4fbd-8f87-4025e1d49242", "tenantName": "city",
            "applicationId": "17c82e96-be03-4f38-aef3-f83d48582d97", "applicationName": "drains",
            "deviceProfileId": "14855bf7-d10d-4aee-b618-ebfcb64dc7ad", "deviceProfileName": "EM500-UDL",
            "deviceName": "well 7", "devEui": "24e124713b000001", "tags": {"street": "north"},
        },
        "devAddr": "00189440", "adr": true, "dr": 1, "fCnt": 12, "fPort": 85, "data": "AXVkA4IeAA==",
        "object": {"battery": 100.0, "distance": 30.0}, "rxInfo": gateways("snr"),
        "txInfo": {"frequency": 486_300_000, "modulation": {"lora": {"bandwidth": 125_000, "spreadingFactor": 11}}},
    })
}

fn chirpstack_v3() -> Value {
    json!({
        "applicationID": "123", "applicationName": "drains", "deviceName": "well 7", "devEUI": "JOEkcTsAAAE=",
        "rxInfo": gateways("loRaSNR"), "adr": true, "dr": 1, "fCnt": 10, "fPort": 5, "data": "AXVkA4IeAA==",
        "txInfo": {"frequency": 486_300_000, "modulation": "LORA", "loRaModulationInfo": {"spreadingFactor": 11}},
        "objectJSON": "{\"battery\":100,\"distance\":30}", "tags": {}, "publishedAt": "2026-11-22T00:00:05.123Z",
    })
}

fn ttn_v3() -> Value {
    json!({
        "end_device_ids": {
            "device_id": "well-7", "application_ids": {"application_id": "drains"}, "dev_eui": "24E124713B000001",
            "join_eui": "800000000000000C", "dev_addr": "00BCB929",
        },
        "correlation_ids": ["as:up:01E0WZGT6Y7657CPFPE5WEYDSQ", "gs:uplink:01E0WZGSZWT07NE5TS2APTV1Z9"],
        "received_at": "2026-11-22T00:00:05.814773143Z",
        "uplink_message": {
            "session_key_id": "AXA50tHUGUucuzS/bCGMNw==", "f_port": 85, "f_cnt": 12, "frm_payload": "AXVkA4IeAA==",
            "decoded_payload": {"battery": 100, "distance": 30}, "rx_metadata": gateways("snr"),
            "settings": {"data_rate": {"lora": {"bandwidth": 125_000, "spreading_factor": 7}}},
            "received_at": "2026-11-22T00:00:05.789585559Z",
        },
    })
}

fn ctwing() -> Value {
    json!({
        "IMEI": "861050000000000", "IMSI": "undefined", "deviceType": "", "messageType": "dataReport",
        "topic": "v1/up/ad19", "payload": {
            "manhole_cover_position_state": 0, "lean_angle": 0, "battery_voltage": 59, "water_level_state": 1,
            "Water_depth": 70, "sig": 13, "IMEI": "861050000000000", "ecl": 1, "rsrp": -97, "sinr": 3,
            "cell_id": 165_115_986, "AccX": -544, "AccY": -173, "AccZ": -587,
        },
        "serviceId": 7, "tenantId": "10431117", "productId": "10045636",
        "deviceId": "59e0462b286a45e4bc5642109fd6ea90", "timestamp": 1_795_305_605_535_i64, "protocol": "lwm2m",
    })
}

/// Head and four channels, 100 bytes in all.
fn nbiot_tlv() -> Vec<u8> {
    let channels = [0x01, 0x75, 0x64, 0x03, 0x67, 0x0B, 0x01, 0x04, 0x82, 0x3B, 0x01, 0x05, 0x00, 0x01];
    let mut frame = vec![0x02, 0, 1, 0, 95, 0, 0, 0, 1];
    frame.extend_from_slice(b"01010110");
    frame.extend_from_slice(b"6749D19054690031");
    frame.extend_from_slice(b"868508064807350");
    frame.extend_from_slice(b"460043224213110");
    frame.extend_from_slice(b"89860412102270062857");
    frame.extend_from_slice(&[9, 0, 14]);
    frame.extend_from_slice(&channels);
    frame
}
