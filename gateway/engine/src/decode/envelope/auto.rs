//! Finds the envelope of a message by what the message is, for sources on which several servers and bare devices speak.
//!
//! Only structure counts, never a guess: the members, or the frame, that every message of one format has and no message
//! of another. What has none of them is not wrapped; what has those of two is refused, because either could be wrong.

use kerbside_model::EnvelopeFormat;
use serde::Deserialize;

use super::lenient::{Seen, Text, object};
use super::{ctwing, nbiot};

/// The members by which envelopes in JSON are known.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Marks<'a> {
    /// Of every event of ChirpStack 4.
    #[serde(rename = "deviceInfo", borrow, deserialize_with = "object")]
    device_info: Option<DeviceInfo<'a>>,
    /// Of every event of ChirpStack 3, with `applicationID`: a device may well name its own DevEUI.
    #[serde(rename = "devEUI", borrow)]
    dev_eui: Text<'a>,
    #[serde(rename = "applicationID")]
    application_id: Seen,
    /// Of every message of The Things Stack.
    #[serde(deserialize_with = "object")]
    end_device_ids: Option<Members>,
    /// Of every push of CTWing, with the two below.
    #[serde(rename = "messageType", borrow)]
    message_type: Text<'a>,
    #[serde(rename = "tenantId")]
    tenant_id: Seen,
    #[serde(rename = "deviceId")]
    device_id: Seen,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DeviceInfo<'a> {
    #[serde(rename = "devEui", borrow)]
    dev_eui: Text<'a>,
}

/// Some object.
#[derive(Deserialize)]
struct Members {}

/// The format that a message has; `None` for one that is not wrapped. The error says which two it could have.
pub(super) fn format_of(payload: &[u8]) -> Result<Option<EnvelopeFormat>, String> {
    if nbiot::is_frame(payload) {
        return Ok(Some(EnvelopeFormat::NbIotTlv));
    }
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return Ok(None);
    }
    // What is not JSON is no envelope either: whoever reads it says what is wrong with it.
    let Ok(marks) = serde_json::from_slice::<Marks<'_>>(payload) else { return Ok(None) };
    let is_v4 = marks.device_info.is_some_and(|info| info.dev_eui.known().is_some());
    let is_v3 = marks.application_id.0 && marks.dev_eui.known().is_some();
    let is_push = marks.message_type.known().is_some_and(|kind| ctwing::KINDS.contains(&&*kind));
    let is_ctwing = marks.tenant_id.0 && marks.device_id.0 && is_push;
    let known = [
        (is_v4, EnvelopeFormat::ChirpStackV4),
        (is_v3, EnvelopeFormat::ChirpStackV3),
        (marks.end_device_ids.is_some(), EnvelopeFormat::TtnV3),
        (is_ctwing, EnvelopeFormat::CtWing),
    ];
    let mut formats = known.into_iter().filter(|(is_this, _)| *is_this).map(|(_, format)| format);
    match (formats.next(), formats.next()) {
        (Some(one), Some(other)) => {
            let (one, other) = (one.name(), other.name());
            Err(format!(
                "the message has the members of both {one} and {other}: name its envelope instead of auto, for its topics"
            ))
        }
        (format, _) => Ok(format),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::tests::{NBIOT_FRAME, bytes_of_hex, ctwing, thinned, ttn, v3, v4};
    use super::super::{Opened, open};
    use super::*;

    const TOPIC: &[u8] = b"application/b1/device/24e124713b000001/event/up";

    /// An uplink of every format.
    fn uplinks() -> Vec<(EnvelopeFormat, Vec<u8>)> {
        let bytes = |document: Value| document.to_string().into_bytes();
        vec![
            (EnvelopeFormat::ChirpStackV4, bytes(v4())),
            (EnvelopeFormat::ChirpStackV3, bytes(v3())),
            (EnvelopeFormat::TtnV3, bytes(ttn())),
            (EnvelopeFormat::CtWing, bytes(ctwing())),
            (EnvelopeFormat::NbIotTlv, bytes_of_hex(NBIOT_FRAME)),
        ]
    }

    #[track_caller]
    fn check_bare(payload: &[u8]) {
        assert_eq!(format_of(payload), Ok(None), "{}", String::from_utf8_lossy(payload));
        assert!(matches!(open(EnvelopeFormat::Auto, TOPIC, payload), Ok(Opened::Bare)));
    }

    #[test]
    fn every_envelope_is_found_and_opened_as_if_it_had_been_named() {
        for (format, payload) in uplinks() {
            assert_eq!(format_of(&payload), Ok(Some(format)));
            let found = open(EnvelopeFormat::Auto, TOPIC, &payload);
            assert_eq!(format!("{found:?}"), format!("{:?}", open(format, TOPIC, &payload)));
            assert!(matches!(found, Ok(Opened::Uplink(_))));
        }
    }

    #[test]
    fn events_that_are_no_uplinks_are_found_too() {
        let ids = json!({"deviceName": "井 7", "devEui": "24e124713b000001"});
        let event = |payload: Value| format_of(payload.to_string().as_bytes());
        assert_eq!(event(json!({"deviceInfo": ids, "margin": 10})), Ok(Some(EnvelopeFormat::ChirpStackV4)));
        let join = json!({"applicationID": "1", "devEUI": "AgICAgICAgI=", "devAddr": "AFE5Qg=="});
        assert_eq!(event(join), Ok(Some(EnvelopeFormat::ChirpStackV3)));
        let accept = json!({"end_device_ids": {"device_id": "well-7"}, "join_accept": {}});
        assert_eq!(event(accept), Ok(Some(EnvelopeFormat::TtnV3)));
        let online =
            json!({"messageType": "deviceOnlineOfflineReport", "eventType": 1, "tenantId": "1", "deviceId": "d"});
        assert_eq!(event(online), Ok(Some(EnvelopeFormat::CtWing)));
    }

    #[test]
    fn what_has_no_envelope_is_what_the_device_sent() {
        for payload in [
            json!({"level_mm": 5}),
            json!({"devEUI": "24e124713b000001", "level_mm": 5}),
            json!({"deviceInfo": "inside a cover", "tilt": 3}),
            json!({"deviceInfo": {"firmware": "1.2"}, "tilt": 3}),
            json!({"end_device_ids": "none", "tilt": 3}),
            json!({"messageType": "alarm", "deviceId": "MH-1", "tilt": 3}),
            json!({"messageType": "tiltAlarm", "tenantId": "1", "deviceId": "MH-1", "tilt": 3}),
            json!({"payload": v4(), "received": ttn()}),
            json!([v4()]),
        ] {
            check_bare(payload.to_string().as_bytes());
        }
        for payload in [&b""[..], b"{", b"12.5,ok", b"\x01\x75\x64", b"\x02", &[0x02; 120], &[0xFF; 7]] {
            check_bare(payload);
        }
    }

    #[test]
    fn a_device_that_copies_members_of_its_server_is_not_left_as_an_event() {
        let v3 = json!({"applicationID": "1", "devEUI": "24e124713b000001", "level": 900});
        let v4 = json!({"deviceInfo": {"devEui": "24e124713b000001"}, "level": 900});
        for payload in [v3.to_string(), v4.to_string()] {
            let opened = |topic: &[u8]| open(EnvelopeFormat::Auto, topic, payload.as_bytes());
            assert!(matches!(opened(b"drains/MH-1"), Ok(Opened::Bare)));
            assert!(matches!(opened(b"application/1/device/24e124713b000001/event/log"), Ok(Opened::Ignored(_))));
        }
    }

    #[test]
    fn a_message_with_the_members_of_two_envelopes_is_refused_with_both() {
        let mut both = v4();
        both["end_device_ids"] = json!({"device_id": "well-7"});
        let error = open(EnvelopeFormat::Auto, TOPIC, both.to_string().as_bytes()).unwrap_err();
        assert!(error.contains("both chirpstack_v4 and ttn_v3"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_an_envelope_that_was_found_is_said_with_its_format() {
        let mut event = v4();
        event["data"] = json!("not base64!");
        let error = open(EnvelopeFormat::Auto, TOPIC, event.to_string().as_bytes()).unwrap_err();
        assert!(error.contains("taken for chirpstack_v4") && error.contains("data is not base64"), "{error}");
        let frame = bytes_of_hex(NBIOT_FRAME);
        let error = open(EnvelopeFormat::Auto, TOPIC, &[frame.as_slice(), b"more"].concat()).unwrap_err();
        assert!(error.contains("taken for nbiot_tlv") && error.contains("frame 2 of the message"), "{error}");
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z]{0,6}".prop_map(Value::from)
        ];
        leaf.prop_recursive(2, 16, 4, |inner| {
            prop::collection::btree_map(members(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect()))
        })
    }

    /// Members of all the envelopes, and a device's own.
    fn members() -> impl Strategy<Value = String> {
        let names = [
            "deviceInfo",
            "devEui",
            "devEUI",
            "applicationID",
            "end_device_ids",
            "uplink_message",
            "messageType",
            "tenantId",
            "deviceId",
            "payload",
            "data",
            "level_mm",
        ];
        prop::sample::select(names.to_vec()).prop_map(str::to_owned)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// Whatever a server leaves out, its message is never taken for another server's.
        #[test]
        fn no_envelope_is_taken_for_another(dropped in prop::collection::vec(any::<bool>(), 0..48)) {
            let formats = [EnvelopeFormat::ChirpStackV4, EnvelopeFormat::ChirpStackV3, EnvelopeFormat::TtnV3,
                           EnvelopeFormat::CtWing];
            for (format, document) in formats.into_iter().zip([v4(), v3(), ttn(), ctwing()]) {
                let payload = thinned(document, &dropped, &mut 0).to_string();
                let found = format_of(payload.as_bytes());
                prop_assert!(found == Ok(Some(format)) || found == Ok(None), "{:?}: {}", found, payload);
            }
        }

        /// Any JSON is passed as it is, opened as the one format that it has, or refused because it has two.
        #[test]
        fn any_object_has_one_envelope_or_none_or_is_refused(
            object in prop::collection::btree_map(members(), json_value(), 0..6),
        ) {
            let payload = serde_json::to_vec(&object).unwrap();
            let has = |name: &str| object.get(name).is_some_and(|value| !value.is_null());
            let text = |name: &str| has(name) && !object[name].is_object() && !object[name].is_boolean();
            match format_of(&payload) {
                Ok(Some(EnvelopeFormat::ChirpStackV4)) => prop_assert!(object["deviceInfo"].get("devEui").is_some()),
                Ok(Some(EnvelopeFormat::ChirpStackV3)) => prop_assert!(text("devEUI") && has("applicationID")),
                Ok(Some(EnvelopeFormat::TtnV3)) => prop_assert!(object["end_device_ids"].is_object()),
                Ok(Some(EnvelopeFormat::CtWing)) => prop_assert!(text("messageType") && has("tenantId") && has("deviceId")),
                Ok(found) => {
                    prop_assert_eq!(found, None);
                    prop_assert!(!object.get("end_device_ids").is_some_and(Value::is_object));
                }
                Err(error) => prop_assert!(error.contains("both ")),
            }
        }

        /// Bytes that are no frame are never taken for one, and cut frames are passed as they are.
        #[test]
        fn any_bytes_are_a_whole_frame_or_none(payload in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..100) {
            prop_assert_eq!(format_of(&payload), Ok(None));
            let frame = bytes_of_hex(NBIOT_FRAME);
            prop_assert_eq!(format_of(&frame[..cut.min(frame.len() - 1)]), Ok(None));
        }
    }
}
