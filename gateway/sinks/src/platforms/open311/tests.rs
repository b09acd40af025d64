use super::city::{City, Dates, Fault, Manners};
use super::*;
use crate::test_data::report;

const FORMATS: [Open311Format; 2] = [Open311Format::Json, Open311Format::Xml];

fn servers() -> [Manners; 3] {
    [Manners::specified(), Manners::first(), Manners::second()]
}

fn open_case(platform_id: Option<&str>) -> OpenCase {
    let report = report();
    OpenCase { case_id: report.case_id, platform_id: platform_id.map(str::to_owned), occurred_at: report.occurred_at }
}

#[tokio::test]
async fn a_case_is_opened_once_and_found_again_on_every_server() {
    for manners in servers() {
        for format in FORMATS {
            let city = City::start(manners.clone(), &[]).await;
            city.fill(30);
            let client = city.client(format);
            let OpenOutcome::Opened(Opened::Id(id)) = client.open(&report(), Lookup::NotNeeded).await else {
                panic!("{manners:?} {format:?} did not open")
            };
            let again = client.open(&report(), Lookup::First).await;
            assert_eq!(again, OpenOutcome::AlreadyThere { platform_id: id.clone() }, "{manners:?} {format:?}");
            assert_eq!(client.find(&open_case(None)).await.unwrap(), Some(id.clone()));
            let told = client.status(&id).await.unwrap().unwrap();
            assert_eq!((told.state, told.note.as_str()), (CaseState::Reported, "open"));
            city.state.send_modify(|state| state.stored[30].status = "Closed".to_owned());
            assert_eq!(client.status(&id).await.unwrap().unwrap().state, CaseState::Closed);
            assert_eq!(city.stored().len(), 31);
            city.assert_content();
        }
    }
}

#[tokio::test]
async fn the_number_zero_is_a_number() {
    for format in FORMATS {
        let city = City::start(Manners::specified(), &[]).await;
        let client = city.client(format);
        let outcome = client.open(&report(), Lookup::First).await;
        assert_eq!(outcome, OpenOutcome::Opened(Opened::Id("0".to_owned())));
        assert!(client.status("0").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn the_form_has_what_the_platform_needs_and_nothing_else() {
    let city = City::start(Manners::first(), &[]).await;
    let mut report = report();
    report.datum = Datum::Gcj02;
    report.position = Some((116.397_428, 39.909_23));
    city.client(Open311Format::Json).open(&report, Lookup::NotNeeded).await;
    let fields = city.stored()[0].fields.clone();
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["address_string", "api_key", "description", "device_id", "jurisdiction_id", "lat", "long", "service_code"]
    );
    assert!(fields["lat"].starts_with("39.907") && fields["long"].starts_with("116.391"), "{fields:?}");
    assert_eq!(fields["address_string"], "人民路与解放路口[东北角]");
    assert!(fields["description"].ends_with("[ref:KB-0123456789AB]"));
    city.assert_content();
}

#[tokio::test]
async fn a_missing_key_and_an_unknown_code_are_for_a_person_to_mend() {
    for manners in servers() {
        for format in FORMATS {
            let city = City::start(manners.clone(), &[]).await;
            let mut config = city.config(format);
            config.api_key = None;
            let client = Open311::new(config, Clock::System, &Metrics::default()).unwrap();
            let outcome = client.open(&report(), Lookup::NotNeeded).await;
            assert!(matches!(outcome, OpenOutcome::Misconfigured { .. }), "{manners:?}: {outcome:?}");

            let mut other = report();
            other.condition = "flooded".to_owned();
            let outcome = city.client(format).open(&other, Lookup::NotNeeded).await;
            let OpenOutcome::Misconfigured { reason } = outcome else { panic!("{manners:?}: {outcome:?}") };
            assert!(reason.contains("Bad request"), "{reason}");
            assert_eq!(city.stored().len(), 0);
        }
    }
}

#[tokio::test]
async fn every_kind_of_answer_has_its_own_consequence() {
    let uncertain = |outcome: &OpenOutcome, expected: Progress| matches!(outcome, OpenOutcome::Uncertain { progress, .. } if *progress == expected);
    for manners in servers() {
        let faults = [
            Fault::Refuse(400),
            Fault::Refuse(422),
            Fault::Refuse(429),
            Fault::Refuse(401),
            Fault::Refuse(500),
            Fault::Refuse(504),
            Fault::StoreThenHang,
            Fault::StoreThenBabble,
            Fault::Login,
            Fault::Blackbox,
        ];
        let city = City::start(manners, &faults).await;
        let client = city.client(Open311Format::Xml);
        let mut outcomes = Vec::new();
        for _ in 0..faults.len() {
            outcomes.push(client.open(&report(), Lookup::NotNeeded).await);
        }
        let OpenOutcome::Refused { reason } = &outcomes[0] else { panic!("{outcomes:?}") };
        assert!(reason.contains("HTTP 400") && reason.contains("lat is in the sea"), "{reason}");
        assert!(matches!(outcomes[1], OpenOutcome::Refused { .. }));
        assert!(matches!(outcomes[2], OpenOutcome::NotSent { .. }));
        assert!(matches!(outcomes[3], OpenOutcome::Misconfigured { .. }));
        assert!(uncertain(&outcomes[4], Progress::Ended), "{outcomes:?}");
        assert!(uncertain(&outcomes[5], Progress::MayStillRun), "{outcomes:?}");
        assert!(uncertain(&outcomes[6], Progress::MayStillRun), "{outcomes:?}");
        assert!(uncertain(&outcomes[7], Progress::Ended), "{outcomes:?}");
        assert!(uncertain(&outcomes[8], Progress::Ended), "{outcomes:?}");
        assert_eq!(outcomes[9], OpenOutcome::Opened(Opened::Blackbox));
    }
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_that_is_not_there_and_that_is_certain() {
    let city = City::start(Manners::specified(), &[]).await;
    let mut config = city.config(Open311Format::Json);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    config.url = format!("http://{}/open311/v2", listener.local_addr().unwrap());
    drop(listener);
    let client = Open311::new(config, Clock::System, &Metrics::default()).unwrap();
    let outcome = client.open(&report(), Lookup::NotNeeded).await;
    assert!(matches!(outcome, OpenOutcome::NotSent { .. }), "{outcome:?}");
}

#[tokio::test]
async fn nothing_is_sent_while_the_lookup_fails() {
    for format in FORMATS {
        let city = City::start(Manners::specified(), &[]).await;
        city.state.send_modify(|state| state.lists_fail = Some(500));
        let outcome = city.client(format).open(&report(), Lookup::First).await;
        let OpenOutcome::NotSent { reason, .. } = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("lookup fails") && reason.contains("lists are down"), "{reason}");
        assert_eq!(city.state.borrow().posts, 0);
    }
}

#[tokio::test]
async fn a_refused_window_is_no_failed_lookup() {
    let manners = Manners { dates: Dates::Refused, ..Manners::specified() };
    let city = City::start(manners, &[]).await;
    let client = city.client(Open311Format::Json);
    assert!(matches!(client.open(&report(), Lookup::First).await, OpenOutcome::Opened(_)));
    assert!(matches!(client.open(&report(), Lookup::First).await, OpenOutcome::AlreadyThere { .. }));
    assert_eq!(city.stored().len(), 1);
}

#[tokio::test]
async fn pages_are_followed_to_the_last_one() {
    for format in FORMATS {
        let manners = Manners { page_size: Some(20), ..Manners::specified() };
        let city = City::start(manners, &[]).await;
        city.fill(205);
        let client = city.client(format);
        assert_eq!(client.find(&open_case(None)).await.unwrap(), None);
        client.open(&report(), Lookup::NotNeeded).await;
        assert_eq!(client.find(&open_case(None)).await.unwrap(), Some("205".to_owned()));
    }
}

#[tokio::test]
async fn a_token_becomes_a_number_in_its_time() {
    for manners in servers() {
        for format in FORMATS {
            let city = City::start(manners.clone(), &[Fault::Token(2)]).await;
            let client = city.client(format);
            let outcome = client.open(&report(), Lookup::NotNeeded).await;
            assert_eq!(outcome, OpenOutcome::Opened(Opened::Token("T0".to_owned())), "{manners:?} {format:?}");
            assert_eq!(client.claim("T0").await.unwrap(), None);
            assert_eq!(client.claim("T0").await.unwrap(), None);
            let id = client.claim("T0").await.unwrap().unwrap();
            assert!(client.status(&id).await.unwrap().is_some());
        }
    }
}

#[tokio::test]
async fn an_unknown_request_has_no_state() {
    for manners in servers() {
        for format in FORMATS {
            let city = City::start(manners.clone(), &[]).await;
            let answer = city.client(format).status("a/b c?").await;
            assert!(!matches!(answer, Ok(Some(_))), "{answer:?}");
        }
    }
}

#[test]
fn words_of_platforms_become_ours() {
    let cases = [
        ("open", CaseState::Reported),
        ("OPEN", CaseState::Reported),
        ("closed", CaseState::Closed),
        ("IN_PROGRESS", CaseState::InProgress),
        ("in progress", CaseState::InProgress),
        ("fixed", CaseState::Done),
        ("duplicate", CaseState::Duplicate),
        ("investigating", CaseState::Accepted),
        ("planned", CaseState::Dispatched),
        ("action_scheduled", CaseState::Dispatched),
        ("internal_referral", CaseState::Dispatched),
        ("not_councils_responsibility", CaseState::Rejected),
        ("no_further_action", CaseState::Closed),
        ("cancelled", CaseState::Void),
        ("reopen", CaseState::Returned),
    ];
    for (word, state) in cases {
        assert_eq!(state_of(word), Some(state), "{word}");
    }
    for word in ["", "unchanged", "foo"] {
        assert_eq!(state_of(word), None);
    }
}

#[test]
fn an_address_that_is_none_is_refused() {
    kerbside_runtime::tls::install_crypto_provider();
    for url in ["", "city.example.org", "ftp://city.example.org", "http://city.example.org/?a=b"] {
        let config = Open311Config {
            name: "city".to_owned(),
            url: url.to_owned(),
            jurisdiction_id: None,
            api_key: None,
            format: Open311Format::Xml,
            service_codes: Vec::new(),
            service_code_default: "1".to_owned(),
            timeout: Duration::from_secs(1),
            ca: None,
            poll_interval: Duration::from_secs(60),
            settle: Duration::from_secs(20),
            zone: "UTC".to_owned(),
            datum: Datum::Wgs84,
        };
        assert!(matches!(Open311::new(config, Clock::System, &Metrics::default()), Err(Open311Error::Url { .. })));
    }
}
