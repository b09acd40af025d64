//! What comes out of each envelope, and that nothing of what a server may leave out is missed.

use kerbside_model::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const V4: EnvelopeFormat = EnvelopeFormat::ChirpStackV4;
const V3: EnvelopeFormat = EnvelopeFormat::ChirpStackV3;
const TTN: EnvelopeFormat = EnvelopeFormat::TtnV3;
const CTWING: EnvelopeFormat = EnvelopeFormat::CtWing;
const NBIOT: EnvelopeFormat = EnvelopeFormat::NbIotTlv;
const TOPIC_V4: &str = "application/b1/device/24e124713b000001/event/up";
/// Battery 100 %, 26.7 °C, 315 mm, askew: github.com/Milesight-IoT/SensorDecoders, EM400-UDL, NB-IoT section.
pub(super) const NBIOT_FRAME: &str = "020001005f00000001303130313031313036373439443139303534363930303331383638353038303634\
                           383037333530343630303433323234323133313130383938363034313231303232373030363238353709000e\
                           01756403670b0104823b01050001";

pub(super) fn v4() -> Value {
    json!({
        "deduplicationId": "5a8d2f1e-0f0d-4b3a-9c55-0a86b1f3b4d1",
        "time": "2026-11-22T00:00:05.123456789+00:00",
        "deviceInfo": {"tenantId": "t", "applicationId": "b1", "deviceName": "井 7", "devEui": "24e124713b000001",
                       "tags": {"street": "north"}},
        "devAddr": "00189440", "adr": true, "dr": 1, "fCnt": 12, "fPort": 85, "confirmed": true, "data": "AXVkA4IeAA==",
        "object": {"battery": 100.0, "distance": 30.0},
        "rxInfo": [
            {"gatewayId": "0016c001f153a14c", "uplinkId": 4217106255_u32, "nsTime": "2026-11-22T00:00:05.200+00:00",
             "rssi": -113, "snr": -9.25, "location": {}, "metadata": {"region": "cn470"}},
            {"gatewayId": "0016c001f153a14d", "rssi": -101, "snr": 4.5},
        ],
        "txInfo": {"frequency": 486300000, "modulation": {"lora": {"bandwidth": 125000, "spreadingFactor": 11}}},
    })
}

/// The spelling of the Protobuf marshaler.
pub(super) fn v3() -> Value {
    json!({
        "applicationID": "1", "deviceName": "well", "devEUI": "JOEkcTsAAAE=",
        "rxInfo": [{"gatewayID": "AwMDAwMDAwM=", "time": "1970-01-01T00:00:00Z", "rssi": -48, "loRaSNR": 9}],
        "txInfo": {"frequency": 486300000, "modulation": "LORA", "loRaModulationInfo": {"spreadingFactor": 9}},
        "adr": true, "fCnt": 10, "fPort": 5, "data": "qg==", "objectJSON": "{\"temperature\":25,\"name\":\"a\\\"b\"}",
        "publishedAt": "2026-11-22T00:00:05Z", "devAddr": "AQIDBA==", "confirmedUplink": true,
    })
}

pub(super) fn ttn() -> Value {
    json!({
        "end_device_ids": {"device_id": "well-7", "application_ids": {"application_id": "drains"},
                           "dev_eui": "24E124713B000001", "join_eui": "800000000000000C", "dev_addr": "00BCB929"},
        "correlation_ids": ["as:up:01E0WZGT6Y"], "received_at": "2026-11-22T00:00:07Z",
        "uplink_message": {
            "session_key_id": "AXA50tHUGUucuzS", "f_port": 2, "f_cnt": 1, "frm_payload": "gkHe",
            "decoded_payload": {"temperature": 1.5},
            "rx_metadata": [{"gateway_ids": {"gateway_id": "g"}, "rssi": -35, "channel_rssi": -35, "snr": 5.2}],
            "settings": {"data_rate": {"lora": {"bandwidth": 125000, "spreading_factor": 7}}, "frequency": "486300000"},
            "received_at": "2026-11-22T00:00:05.789Z", "confirmed": true,
        },
    })
}

pub(super) fn ctwing() -> Value {
    json!({
        "IMEI": "861050000000000", "IMSI": "undefined", "deviceType": "", "messageType": "dataReport",
        "topic": "v1/up/ad19", "payload": {"manhole_cover_position_state": 0, "lean_angle": 3, "rsrp": 100, "ecl": -97,
        "sinr": 0, "IMEI": "861050000000000"}, "upPacketSN": "", "serviceId": 7, "tenantId": "1",
        "deviceId": "59e0462b286a45e4", "timestamp": 1_795_305_605_535_i64, "protocol": "lwm2m",
    })
}

pub(super) fn bytes_of_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[track_caller]
fn uplink<'a>(format: EnvelopeFormat, topic: &str, payload: &'a [u8]) -> Box<Uplink<'a>> {
    match open(format, topic.as_bytes(), payload) {
        Ok(Opened::Uplink(uplink)) => uplink,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(payload)),
    }
}

#[track_caller]
fn check_ignored(format: EnvelopeFormat, topic: &str, payload: &Value, expected: IgnoredEvent) {
    match open(format, topic.as_bytes(), payload.to_string().as_bytes()) {
        Ok(Opened::Ignored(event)) => assert_eq!(event, expected, "{payload}"),
        other => panic!("{payload}: {other:?}"),
    }
}

#[track_caller]
fn check_error(format: EnvelopeFormat, payload: &[u8], words: &str) {
    match open(format, b"a/b", payload) {
        Err(error) => assert!(error.contains(words), "{error}"),
        Ok(opened) => panic!("{opened:?}"),
    }
}

fn names(uplink: &Uplink<'_>) -> Vec<String> {
    uplink.names().map(str::to_owned).collect()
}

fn at(text: &str) -> Told {
    Told::Time(Timestamp::parse(text).unwrap())
}

#[test]
fn chirpstack_4_is_opened() {
    let payload = v4().to_string();
    let uplink = uplink(V4, TOPIC_V4, payload.as_bytes());
    assert_eq!(names(&uplink), ["24e124713b000001"]);
    assert_eq!((uplink.port, uplink.confirmed), (Some(85), true));
    assert_eq!(uplink.bytes.as_ref(), [0x01, 0x75, 0x64, 0x03, 0x82, 0x1E, 0x00]);
    assert_eq!(uplink.object.as_deref(), Some(r#"{"battery":100.0,"distance":30.0}"#));
    assert!(matches!(uplink.object, Some(Cow::Borrowed(_))), "the object is not copied");
    assert_eq!(uplink.network_time, at("2026-11-22T00:00:05.200Z"), "the server's own time goes before the gateway's");
    let best = LinkQuality {
        rssi_dbm: Some(-101.0),
        snr_db: Some(4.5),
        gateways: Some(2),
        spreading_factor: Some(11),
        frame_counter: Some(12),
    };
    assert_eq!(uplink.link, best);
}

#[test]
fn chirpstack_3_is_opened_in_both_spellings() {
    let mut plain = v3();
    let members = plain.as_object_mut().unwrap();
    members.insert("devEUI".to_owned(), json!("24e124713b000001"));
    members.insert("object".to_owned(), json!({"temperature": 25, "name": "a\"b"}));
    members.remove("objectJSON");
    for payload in [v3().to_string(), plain.to_string()] {
        let uplink = uplink(V3, "application/1/device/24e124713b000001/event/up", payload.as_bytes());
        assert_eq!(names(&uplink), ["24e124713b000001"]);
        assert_eq!((uplink.port, uplink.bytes.as_ref(), uplink.confirmed), (Some(5), &[0xAA][..], true));
        let object: Value = serde_json::from_str(uplink.object.as_ref().unwrap()).unwrap();
        assert_eq!(object, json!({"temperature": 25, "name": "a\"b"}));
        assert_eq!(uplink.network_time, at("2026-11-22T00:00:05Z"), "a gateway's clock is nobody's");
        assert_eq!((uplink.link.rssi_dbm, uplink.link.snr_db), (Some(-48.0), Some(9.0)));
        assert_eq!((uplink.link.spreading_factor, uplink.link.frame_counter), (Some(9), Some(10)));
    }
}

#[test]
fn the_things_stack_is_opened() {
    let payload = ttn().to_string();
    let uplink = uplink(TTN, "v3/drains@city/devices/well-7/up", payload.as_bytes());
    assert_eq!(names(&uplink), ["24E124713B000001", "well-7"]);
    assert_eq!((uplink.port, uplink.bytes.as_ref(), uplink.confirmed), (Some(2), &[0x82, 0x41, 0xDE][..], true));
    assert_eq!(uplink.object.as_deref(), Some(r#"{"temperature":1.5}"#));
    assert_eq!(uplink.network_time, at("2026-11-22T00:00:05.789Z"));
    assert_eq!((uplink.link.rssi_dbm, uplink.link.snr_db), (Some(-35.0), Some(5.2)));
    assert_eq!((uplink.link.spreading_factor, uplink.link.frame_counter), (Some(7), Some(1)));
}

#[test]
fn ctwing_is_opened_with_its_words_for_nothing_and_its_swapped_members() {
    let payload = ctwing().to_string();
    let opened = uplink(CTWING, "any", payload.as_bytes());
    assert_eq!(names(&opened), ["861050000000000", "59e0462b286a45e4"]);
    let object: Value = serde_json::from_str(opened.object.as_ref().unwrap()).unwrap();
    assert_eq!(object["lean_angle"], 3);
    assert_eq!(opened.network_time, at("2026-11-22T00:00:05.535Z"));
    assert_eq!((opened.link.rssi_dbm, opened.link.snr_db), (Some(-97.0), Some(0.0)), "RSRP stands in the place of ECL");
    assert_eq!((opened.port, opened.counted()), (None, None));

    let mut old = ctwing();
    old["timestamp"] = json!(1_795_305_605);
    old["IMEI"] = json!("undefined");
    old["payload"] = json!({"outlid_state": 1, "rsrp": 40, "sinr": 90});
    let payload = old.to_string();
    let opened = uplink(CTWING, "any", payload.as_bytes());
    assert_eq!(
        (names(&opened), opened.network_time),
        (vec!["59e0462b286a45e4".to_owned()], at("2026-11-22T00:00:05Z"))
    );
    assert_eq!(opened.link, LinkQuality::default(), "what no radio measures is not believed");
}

#[test]
fn ctwing_hands_over_bytes_objects_and_texts_of_objects() {
    let mut push = ctwing();
    push["payload"] = json!({"APPdata": "AXVk"});
    assert_eq!(uplink(CTWING, "any", push.to_string().as_bytes()).bytes.as_ref(), [0x01, 0x75, 0x64]);
    push["payload"] = json!("{\"lean_angle\":3}");
    assert_eq!(uplink(CTWING, "any", push.to_string().as_bytes()).object.as_deref(), Some("{\"lean_angle\":3}"));
    push["payload"] = json!("AXVk");
    assert_eq!(uplink(CTWING, "any", push.to_string().as_bytes()).bytes.as_ref(), [0x01, 0x75, 0x64]);
    push["payload"] = json!(1e99);
    check_error(CTWING, push.to_string().as_bytes(), "payload is neither an object nor a text");
    push["payload"] = Value::Null;
    push["messageType"] = json!("eventReport");
    push["eventContent"] = json!({"cover_open": 1});
    let payload = push.to_string();
    assert_eq!(uplink(CTWING, "any", payload.as_bytes()).object.as_deref(), Some("{\"cover_open\":1}"), "an alarm");
}

#[test]
fn every_kind_of_push_of_ctwing_is_a_message_of_the_device_or_counted_by_what_it_is() {
    let push = |kind: &str, members: Value| {
        let mut push = json!({"timestamp": 1_589_444_231_825_i64, "tenantId": "10461180", "protocol": "lwm2m",
                              "productId": "10053421", "messageType": kind, "deviceId": "44d0b9e48d404094bbbc"});
        push.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        push
    };
    for (kind, members, expected) in [
        ("deviceOnlineOfflineReport", json!({"iccid": "undefined", "eventType": 1}), IgnoredEvent::Status),
        ("commandResponse", json!({"taskId": 1, "result": {"resultCode": "DELIVERED"}}), IgnoredEvent::Downlink),
        ("commandResponse", json!({"payload": {"resultCode": "SUCCESSFUL"}}), IgnoredEvent::Downlink),
        ("dataReportTupUnion", json!({"payload": {"dataset": []}}), IgnoredEvent::Integration),
        ("somethingNew", json!({}), IgnoredEvent::Other),
    ] {
        check_ignored(CTWING, "ctwing/push", &push(kind, members), expected);
    }
    let event = push("eventReport", json!({"serviceId": 2, "eventType": 2, "eventContent": {"tilt": 1}})).to_string();
    let opened = uplink(CTWING, "ctwing/push", event.as_bytes());
    assert_eq!(opened.object.as_deref(), Some(r#"{"tilt":1}"#), "an alarm that the device raised by itself");
    check_error(CTWING, push("dataReport", json!({})).to_string().as_bytes(), "there is no payload");
    check_error(CTWING, push("eventReport", json!({})).to_string().as_bytes(), "there is no payload");
}

#[test]
fn a_frame_of_nb_iot_is_opened() {
    let frame = bytes_of_hex(NBIOT_FRAME);
    let opened = uplink(NBIOT, "any", &frame);
    assert_eq!(names(&opened), ["868508064807350", "6749D19054690031"]);
    let channels = bytes_of_hex("01756403670b0104823b01050001");
    assert_eq!((opened.bytes.as_ref(), opened.link.rssi_dbm), (&channels[..], Some(-95.0)));
    let twice = [frame.as_slice(), frame.as_slice()].concat();
    assert_eq!(uplink(NBIOT, "any", &twice).bytes.as_ref(), channels.repeat(2), "frames behind one another are one");
    let mut deaf = frame.clone();
    deaf[83] = 99;
    assert_eq!(uplink(NBIOT, "any", &deaf).link.rssi_dbm, None);
}

#[test]
fn a_damaged_frame_of_nb_iot_is_refused() {
    let frame = bytes_of_hex(NBIOT_FRAME);
    for length in 0..frame.len() {
        assert!(open(NBIOT, b"", &frame[..length]).is_err(), "{length} bytes");
    }
    let changed = |at: usize, byte: u8| {
        let mut frame = frame.clone();
        frame[at] = byte;
        frame
    };
    check_error(NBIOT, &changed(0, 1), "does not begin with the byte 0x02");
    check_error(NBIOT, &changed(4, 10), "its head alone has 86 bytes");
    check_error(NBIOT, &changed(85, 15), "its channels reach behind its end");
    check_error(NBIOT, &[frame.as_slice(), &changed(40, b'9')].concat(), "frame 2 of the message is of another device");
    check_error(NBIOT, &[frame.as_slice(), b"more"].concat(), "frame 2 of the message: no NB-IoT frame");
    check_error(NBIOT, &frame.repeat(65), "more than 64 frames");
}

#[test]
fn what_a_server_leaves_out_because_it_is_zero_is_zero() {
    let bare = json!({"deviceInfo": {"devEui": "24e124713b000001"}, "data": "qg==", "rxInfo": [{"rssi": -36}]});
    let payload = bare.to_string();
    let opened = uplink(V4, TOPIC_V4, payload.as_bytes());
    assert_eq!((opened.port, opened.link.frame_counter, opened.link.snr_db), (Some(0), Some(0), Some(0.0)));
    assert_eq!((opened.network_time, opened.confirmed), (Told::Nothing, false));
    let ids = json!({"dev_eui": "24E124713B000001"});
    let bare = json!({"end_device_ids": ids, "uplink_message": {"frm_payload": "qg=="}});
    let payload = bare.to_string();
    let opened = uplink(TTN, "", payload.as_bytes());
    assert_eq!((opened.port, opened.link.frame_counter, opened.link.gateways), (Some(0), Some(0), Some(0)));
    check_ignored(TTN, "", &json!({"end_device_ids": ids, "uplink_message": {"f_port": 2}}), IgnoredEvent::Empty);
    check_ignored(V4, TOPIC_V4, &json!({"deviceInfo": {"devEui": "01"}, "object": {}}), IgnoredEvent::Empty);
}

#[test]
fn events_that_are_no_readings_are_told_apart_by_the_topic() {
    let event = json!({"deviceInfo": {"devEui": "24e124713b000001"}, "devAddr": "00189440"});
    for (level, expected) in [
        ("join", IgnoredEvent::Join),
        ("status", IgnoredEvent::Status),
        ("ack", IgnoredEvent::Downlink),
        ("txack", IgnoredEvent::Downlink),
        ("log", IgnoredEvent::Log),
        ("location", IgnoredEvent::Location),
        ("integration", IgnoredEvent::Integration),
    ] {
        check_ignored(V4, &format!("city/application/b1/device/24e124713b000001/event/{level}"), &event, expected);
    }
    check_ignored(V4, "application/b1/device/24e124713b000001/command/down", &json!({}), IgnoredEvent::Downlink);
    check_ignored(V3, "application/1/device/24e124713b000001/error", &json!({}), IgnoredEvent::Log);
    check_ignored(V4, "cn470/gateway/0016c001f153a14c/event/up", &json!({}), IgnoredEvent::Gateway);
    check_ignored(V4, "cn470/gateway/0016c001f153a14c/state/conn", &json!({}), IgnoredEvent::Gateway);
    assert!(open(V4, b"cn470/gateway/0016c001f153a14c/event/stats", &[0x0A, 0xFF]).is_ok(), "Protobuf of a gateway");
}

#[test]
fn events_on_topics_of_one_s_own_are_told_apart_by_their_members() {
    let with = |member: &str, value: Value| {
        let mut event = json!({"deviceInfo": {"devEui": "24e124713b000001"}});
        event[member] = value;
        event
    };
    for (member, expected) in [
        ("margin", IgnoredEvent::Status),
        ("batteryLevel", IgnoredEvent::Status),
        ("queueItemId", IgnoredEvent::Downlink),
        ("level", IgnoredEvent::Log),
        ("location", IgnoredEvent::Location),
        ("integrationName", IgnoredEvent::Integration),
        ("devAddr", IgnoredEvent::Join),
    ] {
        check_ignored(V4, "lora/24e124713b000001", &with(member, json!("x")), expected);
    }
    uplink(V4, "lora/24e124713b000001", v4().to_string().as_bytes());
}

#[test]
fn messages_of_the_things_stack_say_themselves_what_they_are() {
    let ids = json!({"device_id": "well-7"});
    for (member, expected) in [
        ("join_accept", IgnoredEvent::Join),
        ("downlink_failed", IgnoredEvent::Downlink),
        ("downlink_queued", IgnoredEvent::Downlink),
        ("location_solved", IgnoredEvent::Location),
        ("service_data", IgnoredEvent::Integration),
        ("uplink_normalized", IgnoredEvent::Integration),
        ("something_new", IgnoredEvent::Other),
    ] {
        let mut message = json!({"end_device_ids": ids});
        message[member] = json!({});
        check_ignored(TTN, "", &message, expected);
    }
    check_ignored(TTN, "v3/a/devices/b/down/push", &json!({"downlinks": [{}]}), IgnoredEvent::Downlink);
}

#[test]
fn what_is_simulated_happened_in_no_street() {
    let mut message = ttn();
    message["simulated"] = json!(true);
    check_ignored(TTN, "", &message, IgnoredEvent::Simulated);
    message["simulated"] = json!(false);
    uplink(TTN, "", message.to_string().as_bytes());
}

#[test]
fn what_is_no_envelope_is_refused_with_its_mend() {
    check_error(V4, &[0x0A, 0x24], "begins with the byte 0x0a");
    check_error(V4, &[0x0A, 0x24], "`json=true` under [integration.mqtt]");
    check_error(TTN, b"\x12\x04", "choose JSON and not Protobuf");
    check_error(V4, b"", "the message is empty");
    check_error(V4, b"{\"deviceInfo\":", "not valid JSON");
    check_error(V4, b"{}", "there is no deviceInfo.devEui");
    check_error(V4, ttn().to_string().as_bytes(), "this looks like ttn_v3: write envelope: ttn_v3");
    check_error(V3, v4().to_string().as_bytes(), "write envelope: chirpstack_v4");
    check_error(V4, v3().to_string().as_bytes(), "write envelope: chirpstack_v3");
    check_error(TTN, ctwing().to_string().as_bytes(), "write envelope: ctwing");
    check_error(CTWING, b"{\"payload\":{\"a\":1}}", "there is no IMEI or deviceId");
    let mut event = v4();
    event["data"] = json!("not base64!");
    check_error(V4, event.to_string().as_bytes(), "data is not base64");
    event["data"] = json!(1e99);
    check_error(V4, event.to_string().as_bytes(), "data is not base64: it is no text");
    event["deviceInfo"]["devEui"] = json!("0".repeat(129));
    event["data"] = json!("qg");
    check_error(V4, event.to_string().as_bytes(), "names its device with more than 128 bytes");
    event["deviceInfo"]["devEui"] = json!("24e124713b000001");
    uplink(V4, TOPIC_V4, event.to_string().as_bytes());
    event["fPort"] = json!(300);
    check_error(V4, event.to_string().as_bytes(), "fPort is 300");
}

#[test]
fn addresses_are_hexadecimal_however_they_are_written() {
    for text in
        ["24e124713b000001", "24-E1-24-71-3B-00-00-01", "24:e1:24:71:3b:00:00:01", "JOEkcTsAAAE=", "JOEkcTsAAAE"]
    {
        assert_eq!(dev_eui(Cow::Borrowed(text)).to_ascii_lowercase(), "24e124713b000001", "{text}");
    }
    assert_eq!(dev_eui(Cow::Borrowed("well-7")), "well-7");
}

#[test]
fn the_same_uplink_has_one_identity_whoever_hands_it_over() {
    let identity = |event: &Value| uplink(V4, TOPIC_V4, event.to_string().as_bytes()).identity();
    let first = identity(&v4());
    let changed = |member: &str, value: Value| {
        let mut event = v4();
        event[member] = value;
        identity(&event)
    };
    assert_eq!(changed("deduplicationId", json!("another")), first);
    assert_eq!(changed("rxInfo", json!([{"rssi": -80}])), first);
    assert_eq!(changed("time", json!("2026-11-22T00:00:06Z")), first);
    assert_ne!(changed("fCnt", json!(13)), first, "the next uplink");
    assert_ne!(changed("data", json!("AXVk")), first, "other bytes");
    assert_ne!(changed("devAddr", json!("00189441")), first, "the device has joined anew");
    assert_ne!(changed("fPort", json!(84)), first);
}

/// One of the documents without some of its members, at any depth.
pub(super) fn thinned(mut document: Value, dropped: &[bool], position: &mut usize) -> Value {
    if let Value::Object(members) = &mut document {
        let keys: Vec<String> = members.keys().cloned().collect();
        for key in keys {
            let is_dropped = dropped.get(*position).copied().unwrap_or(false);
            *position += 1;
            if is_dropped {
                members.remove(&key);
            } else if let Some(member) = members.get_mut(&key) {
                *member = thinned(member.take(), dropped, position);
            }
        }
    }
    document
}

/// A document in which some member was replaced by something else.
fn spoilt(mut document: Value, place: usize, with: &Value) -> Value {
    fn walk(value: &mut Value, left: &mut usize, with: &Value) {
        if *left == 0 {
            *value = with.clone();
        }
        *left = left.wrapping_sub(1);
        match value {
            Value::Object(members) => members.values_mut().for_each(|member| walk(member, left, with)),
            Value::Array(items) => items.iter_mut().for_each(|item| walk(item, left, with)),
            _ => {}
        }
    }
    let mut left = place;
    walk(&mut document, &mut left, with);
    document
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Any members that are not the device's name may be missing: the rest is read, and what is missing is zero or none.
    #[test]
    fn whatever_a_server_leaves_out_the_rest_is_read(dropped in prop::collection::vec(any::<bool>(), 0..48)) {
        for (format, document) in [(V4, v4()), (V3, v3()), (TTN, ttn()), (CTWING, ctwing())] {
            let payload = thinned(document.clone(), &dropped, &mut 0).to_string();
            let opened = open(format, TOPIC_V4.as_bytes(), payload.as_bytes());
            let uplink = match opened {
                Ok(Opened::Uplink(uplink)) => uplink,
                Ok(Opened::Ignored(event)) => {
                    let expected = matches!(event, IgnoredEvent::Empty | IgnoredEvent::Other);
                    prop_assert!(expected, "{event:?} {payload}");
                    continue;
                }
                Ok(Opened::Bare) => unreachable!("a format that is named is the format"),
                Err(error) => {
                    prop_assert!(error.contains("there is no "), "{error}: {payload}");
                    continue;
                }
            };
            prop_assert!(uplink.names().next().is_some());
            let whole_payload = document.to_string();
            let whole = open(format, TOPIC_V4.as_bytes(), whole_payload.as_bytes()).unwrap();
            let Opened::Uplink(whole) = whole else { unreachable!() };
            let port = uplink.port.unwrap_or(0);
            prop_assert!(port == 0 || Some(port) == whole.port);
            prop_assert!(uplink.bytes.is_empty() || uplink.bytes == whole.bytes);
            let counter = uplink.link.frame_counter.unwrap_or(0);
            prop_assert!(counter == 0 || Some(counter) == whole.link.frame_counter);
        }
    }

    /// Something else in any place is read around or refused with words, and never a panic.
    #[test]
    fn a_member_of_another_type_breaks_nothing(place in 0_usize..60, kind in 0_usize..8) {
        let with = [json!(null), json!(7), json!(-1.5e300), json!("undefined"), json!(true), json!([1]), json!({"a": 1}),
                    json!("")][kind].clone();
        for (format, document) in [(V4, v4()), (V3, v3()), (TTN, ttn()), (CTWING, ctwing())] {
            let payload = spoilt(document, place, &with).to_string();
            if let Err(error) = open(format, TOPIC_V4.as_bytes(), payload.as_bytes()) {
                prop_assert!(!error.is_empty());
            }
        }
    }

    #[test]
    fn any_bytes_are_opened_or_refused(
        payload in prop::collection::vec(any::<u8>(), 0..200),
        topic in "[a-z/]{0,20}",
        head in any::<bool>(),
    ) {
        let mut payload = payload;
        if head {
            let frame = bytes_of_hex(NBIOT_FRAME);
            let length = payload.len().min(frame.len());
            payload[..length].copy_from_slice(&frame[..length]);
        }
        for format in EnvelopeFormat::ALL {
            if let Ok(Opened::Uplink(uplink)) = open(format, topic.as_bytes(), &payload) {
                prop_assert!(uplink.names().all(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX));
            }
        }
    }
}
