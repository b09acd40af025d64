//! What payloads claim about their sender.

use kerbside_model::profile::JsonPath;
use kerbside_model::site::SiteFacts;
use kerbside_model::{Device, DeviceIndex, ServiceState, Site};
use proptest::prelude::*;

use super::support::{device, facts};
use crate::claim::{Claim, check};
use crate::decode::find_text;

fn site() -> Site {
    let named = Device { address: "d01/24E124713B000001".to_owned(), ..device("MH-7", ServiceState::InService) };
    Site::new(SiteFacts { devices: vec![named, device("860000000000007", ServiceState::InService)], ..facts() })
}

fn check_first(payload: &str, path: &str) -> Claim {
    check(&site(), DeviceIndex(0), payload.as_bytes(), &JsonPath::parse(path).unwrap())
}

#[test]
fn a_payload_names_its_device_by_id_or_address() {
    for payload in [
        r#"{"id":"MH-7","level":1}"#,
        r#"{"id":"d01/24E124713B000001"}"#,
        r#"{"id":"24e124713b000001"}"#,
        r#"{"id":"MH-7"}"#,
        r#"{"level":1}"#,
        r#"{"id":null}"#,
        r#"[]"#,
    ] {
        assert_eq!(check_first(payload, "id"), Claim::Fits, "{payload}");
    }
}

#[test]
fn a_payload_that_names_another_device_is_told() {
    for payload in [r#"{"id":"MH-8"}"#, r#"{"level":1,"id":"MH-8","id":"MH-7"}"#, r#"{"id":"MH-7","id":"MH-8"}"#] {
        assert_eq!(check_first(payload, "id"), Claim::Other("MH-8".to_owned()), "{payload}");
    }
    assert_eq!(check_first(r#"{"a":[{"id":"mh-7"}]}"#, "a.0.id"), Claim::Other("mh-7".to_owned()));
}

#[test]
fn an_id_of_digits_may_come_as_a_number() {
    let path = JsonPath::parse("imei").unwrap();
    assert_eq!(check(&site(), DeviceIndex(1), br#"{"imei":860000000000007}"#, &path), Claim::Fits);
}

#[test]
fn what_is_not_json_claims_nothing_and_is_told() {
    assert!(matches!(check_first(r#"{"id":"MH-7""#, "id"), Claim::Unreadable(_)));
    assert!(matches!(check_first("", "id"), Claim::Unreadable(_)));
}

#[test]
fn other_keys_and_texts_need_not_be_utf_8() {
    let path = JsonPath::parse("id").unwrap();
    assert_eq!(check(&site(), DeviceIndex(0), b"{\"\xb8\xc7\":\"\xb8\xc7\",\"id\":\"MH-7\"}", &path), Claim::Fits);
    assert_eq!(check(&site(), DeviceIndex(0), b"{\"\xb8\":1,\"id\":\"x\"}", &path), Claim::Other("x".to_owned()));
}

proptest! {
    /// Where no key comes twice, the pass over the bytes sees what a whole document would show.
    #[test]
    fn it_agrees_with_a_look_at_the_whole_document(
        payload in r#"\{("a":("MH-7"|"MH-8"|7|true|null|\[1\]|\{"b":("MH-7"|"x")\}),)?("c":[0-9],)?"d":1\}"#,
        path in "(a|a\\.b|c)",
    ) {
        let path = JsonPath::parse(&path).unwrap();
        let expected = match find_text(payload.as_bytes(), &path).unwrap() {
            Some(claimed) if claimed != "MH-7" => Claim::Other(claimed),
            _ => Claim::Fits,
        };
        prop_assert_eq!(check(&site(), DeviceIndex(0), payload.as_bytes(), &path), expected);
    }
}
