use kerbside_model::sparkplug::{Metric, MetricValue, datatype};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::mqtt::{MqttVersion, OversizePolicy, SessionKind, TopicFilter, Transport};

const LIVE: FrameFlags = FrameFlags { retained: false, redelivered: false };
const AGAIN: FrameFlags = FrameFlags { retained: false, redelivered: true };

fn config(folder: &TempDir) -> MqttConfig {
    MqttConfig {
        name: "drains".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 1883,
        transport: Transport::Tcp,
        version: MqttVersion::V311,
        client_id: "kerbside-1".to_owned(),
        username: None,
        password: None,
        tls: None,
        topics: vec![TopicFilter { filter: "spBv1.0/#".to_owned(), qos: 1 }],
        session: SessionKind::Kept,
        keep_alive: Duration::from_secs(60),
        session_expiry: Duration::from_secs(3600),
        receive_maximum: 500,
        packet_bytes_max: 64 * 1024,
        oversize: OversizePolicy::Skip,
        user_properties: Vec::new(),
        backoff_max: Duration::from_millis(1),
        sparkplug: Some(Rebirth::Ask),
        state_folder: Some(folder.path().to_owned()),
    }
}

/// A node with one level sensor behind it, and the gateway's side.
struct Street {
    sparkplug: Sparkplug,
    metrics: Metrics,
    folder: TempDir,
    start: Instant,
    /// Seconds since the start.
    second: u64,
}

impl Street {
    fn new() -> Street {
        let (folder, metrics) = (TempDir::new().unwrap(), Metrics::default());
        let sparkplug = Sparkplug::new(&config(&folder), Rebirth::Ask, &metrics);
        Street { sparkplug, metrics, folder, start: Instant::now(), second: 0 }
    }

    /// What becomes of a message, and whether the node is asked for its birth.
    fn hear_with(&mut self, topic: &str, message: &Message, flags: FrameFlags) -> (Message, bool) {
        let bytes = message.to_bytes();
        let now = (self.start + Duration::from_secs(self.second), Timestamp(1_800_000_000_000));
        let taken = self.sparkplug.take(&format!("spBv1.0/{topic}"), &bytes, flags, now);
        (Message::read(&taken.payload).unwrap(), taken.command.is_some())
    }

    fn hear(&mut self, topic: &str, message: &Message) -> (Message, bool) {
        self.hear_with(topic, message, LIVE)
    }

    fn is_asked(&mut self, topic: &str, message: &Message) -> bool {
        self.hear(topic, message).1
    }

    /// Node and device are born in a session.
    fn born(&mut self, bd_seq: u64) {
        assert!(!self.is_asked("g/NBIRTH/n", &node_birth(bd_seq)));
        assert!(!self.is_asked("g/DBIRTH/n/d", &device_birth(1)));
    }

    fn restart(&mut self) {
        self.sparkplug = Sparkplug::new(&config(&self.folder), Rebirth::Ask, &self.metrics);
    }

    fn lost(&self) -> u64 {
        self.sparkplug.counters.lost.get()
    }
}

fn metric(name: Option<&str>, alias: Option<u64>, datatype: Option<u32>, value: MetricValue) -> Metric {
    Metric { name: name.map(str::to_owned), alias, datatype, value: Some(value), ..Metric::default() }
}

fn message(seq: Option<u64>, metrics: Vec<Metric>) -> Message {
    Message { timestamp: Some(1_800_000_000_000), seq, metrics, ..Message::default() }
}

fn bd_seq(number: u64) -> Metric {
    metric(Some("bdSeq"), None, Some(datatype::INT64), MetricValue::Long(number))
}

fn node_birth(number: u64) -> Message {
    message(Some(0), vec![bd_seq(number)])
}

fn node_death(number: u64) -> Message {
    message(None, vec![bd_seq(number)])
}

fn device_birth(seq: u64) -> Message {
    let level = metric(Some("Level/mm"), Some(7), Some(datatype::INT16), MetricValue::Int(100));
    message(Some(seq), vec![level])
}

fn data(seq: u64) -> Message {
    message(Some(seq), vec![metric(None, Some(7), None, MetricValue::Int(0xFFFF_FFFE))])
}

fn name_of(message: &Message) -> Option<&str> {
    message.metrics[0].name.as_deref()
}

#[test]
fn data_get_the_names_and_datatypes_of_the_birth() {
    let mut street = Street::new();
    street.born(1);
    let (named, is_asked) = street.hear("g/DDATA/n/d", &data(2));
    let expected = metric(Some("Level/mm"), Some(7), Some(datatype::INT16), MetricValue::Int(0xFFFF_FFFE));
    assert_eq!(named.metrics, [expected]);
    assert!(!is_asked);
    let by_name = message(Some(3), vec![metric(Some("Level/mm"), None, None, MetricValue::Int(5))]);
    let (named, _) = street.hear("g/DDATA/n/d", &by_name);
    assert_eq!(named.metrics[0].datatype, Some(datatype::INT16));
}

#[test]
fn a_node_that_was_born_before_us_is_asked_once() {
    let mut street = Street::new();
    let (unnamed, is_asked) = street.hear("g/DDATA/n/d", &data(20));
    assert_eq!((name_of(&unnamed), is_asked), (None, true));
    assert!(!street.is_asked("g/DDATA/n/d", &data(21)), "not again at once");
    assert_eq!(street.sparkplug.counters.unnamed.get(), 2);
}

#[test]
fn a_gap_is_counted_and_the_node_asked_while_its_names_go_on() {
    let mut street = Street::new();
    street.born(1);
    let (named, is_asked) = street.hear("g/DDATA/n/d", &data(5));
    assert_eq!((name_of(&named), is_asked, street.lost()), (Some("Level/mm"), true, 3));
}

#[test]
fn the_count_goes_round_at_255_and_what_comes_again_is_no_gap() {
    let mut street = Street::new();
    street.born(1);
    for seq in (2..=255).chain(0..=3) {
        assert!(!street.is_asked("g/DDATA/n/d", &data(seq)), "{seq}");
    }
    for seq in [255, 0, 1, 2, 3] {
        assert!(!street.hear_with("g/DDATA/n/d", &data(seq), AGAIN).1, "{seq} again");
    }
    assert!(!street.is_asked("g/DDATA/n/d", &data(4)));
    assert_eq!(street.lost(), 0);
}

#[test]
fn a_birth_that_comes_again_does_not_make_devices_unborn() {
    let mut street = Street::new();
    street.born(1);
    street.hear_with("g/NBIRTH/n", &node_birth(1), AGAIN);
    assert_eq!(name_of(&street.hear("g/DDATA/n/d", &data(2)).0), Some("Level/mm"));
    street.hear("g/NBIRTH/n", &node_birth(2));
    let (unnamed, is_asked) = street.hear("g/DDATA/n/d", &data(1));
    assert_eq!((name_of(&unnamed), is_asked), (None, true), "a new session has its own devices");
}

#[test]
fn a_death_ends_the_session_that_it_belongs_to_and_no_other() {
    let mut street = Street::new();
    street.born(4);
    assert_eq!(street.hear("g/NDEATH/n", &node_death(3)).0.is_stale, Some(true));
    assert_eq!(name_of(&street.hear("g/DDATA/n/d", &data(2)).0), Some("Level/mm"));
    assert_eq!(street.hear("g/NDEATH/n", &node_death(4)).0.is_stale, None);
    let (unnamed, is_asked) = street.hear("g/DDATA/n/d", &data(3));
    assert_eq!((name_of(&unnamed), is_asked), (None, true));
    assert_eq!(street.hear("g/NDEATH/unknown", &node_death(9)).0.is_stale, None);
}

#[test]
fn a_node_whose_death_is_in_doubt_is_asked_whether_it_is_there() {
    let deaths = [(message(None, Vec::new()), LIVE, 1), (node_death(4), AGAIN, 1), (node_death(4), LIVE, 0)];
    for (death, flags, asks) in deaths {
        let mut street = Street::new();
        street.born(4);
        street.hear_with("g/NDEATH/n", &death, flags);
        assert_eq!(asked_by_itself(&mut street, 1).len(), asks, "{death:?}");
    }
}

#[test]
fn a_device_that_died_must_be_born_again() {
    let mut street = Street::new();
    street.born(1);
    assert!(!street.is_asked("g/DDEATH/n/d", &message(Some(2), Vec::new())));
    assert!(street.is_asked("g/DDATA/n/d", &data(3)));
}

#[test]
fn a_value_that_does_not_fit_its_alias_is_not_named() {
    let mut street = Street::new();
    street.born(1);
    let odd = message(Some(2), vec![metric(None, Some(7), None, MetricValue::Text("open".to_owned()))]);
    let (unnamed, is_asked) = street.hear("g/DDATA/n/d", &odd);
    assert_eq!((unnamed.metrics, is_asked), (odd.metrics, true));
}

#[test]
fn what_is_retained_or_a_command_teaches_nothing() {
    let mut street = Street::new();
    let retained = FrameFlags { retained: true, redelivered: false };
    street.hear_with("g/NBIRTH/n", &node_birth(1), retained);
    street.hear("g/NCMD/n", &Message::rebirth_command(1));
    assert_eq!(street.sparkplug.table.born(), 0);
    assert!(!street.sparkplug.is_unsaved);
}

#[test]
fn nobody_is_asked_when_that_is_not_wanted() {
    let mut street = Street::new();
    street.sparkplug.rebirth = Rebirth::Never;
    assert!(!street.is_asked("g/DDATA/n/d", &data(20)));
}

#[test]
fn the_command_asks_for_a_birth_in_the_words_of_the_specification() {
    let mut street = Street::new();
    let now = (street.start, Timestamp(1_800_000_000_000));
    let bytes = data(20).to_bytes();
    let (topic, payload) = street.sparkplug.take("spBv1.0/g/DDATA/n/d", &bytes, LIVE, now).command.unwrap();
    assert_eq!(topic, "spBv1.0/g/NCMD/n");
    let metric = &Message::read(&payload).unwrap().metrics[0];
    assert_eq!(
        (metric.name.as_deref(), &metric.value),
        (Some("Node Control/Rebirth"), &Some(MetricValue::Boolean(true)))
    );
}

/// Who is asked in this second without having sent anything.
fn asked_by_itself(street: &mut Street, second: u64) -> Vec<String> {
    let now = street.start + Duration::from_secs(second);
    let commands = street.sparkplug.asks_due(now, Timestamp(1_800_000_000_000));
    commands.into_iter().map(|(topic, _)| topic).collect()
}

#[test]
fn a_node_whose_birth_does_not_come_is_asked_again_though_it_sends_nothing() {
    let mut street = Street::new();
    street.born(1);
    assert!(street.is_asked("g/DDATA/n/d", &data(5)));
    assert!(asked_by_itself(&mut street, 5).is_empty());
    assert_eq!(asked_by_itself(&mut street, 11), ["spBv1.0/g/NCMD/n"]);
    street.hear("g/NBIRTH/n", &node_birth(1));
    assert!(asked_by_itself(&mut street, 400).is_empty(), "it came");
}

#[test]
fn a_gap_soon_after_a_birth_is_not_forgotten() {
    let mut street = Street::new();
    street.born(1);
    assert!(street.is_asked("g/DDATA/n/d", &data(5)));
    street.second = 2;
    street.born(1);
    assert!(!street.is_asked("g/DDATA/n/d", &data(9)), "it was asked a moment ago");
    assert!(asked_by_itself(&mut street, 59).is_empty());
    assert_eq!(asked_by_itself(&mut street, 60), ["spBv1.0/g/NCMD/n"]);
}

#[test]
fn nodes_that_are_too_many_to_be_asked_at_once_are_asked_in_their_turn() {
    let mut street = Street::new();
    let at_once = (0..35).filter(|node| street.is_asked(&format!("g/NDATA/n{node}"), &data(5))).count();
    let later: Vec<usize> = (1..5).map(|second| asked_by_itself(&mut street, second).len()).collect();
    assert_eq!((at_once, later), (10, vec![10, 10, 5, 0]));
}

#[test]
fn a_node_that_is_quiet_since_the_gateway_was_away_is_asked_and_one_that_goes_on_is_not() {
    let mut street = Street::new();
    street.born(1);
    street.hear("g/NBIRTH/quiet", &node_birth(1));
    street.sparkplug.connected(street.start);
    street.hear("g/DDATA/n/d", &data(2));
    assert!(asked_by_itself(&mut street, 29).is_empty(), "it may speak by itself");
    assert_eq!(asked_by_itself(&mut street, 31), ["spBv1.0/g/NCMD/quiet"]);
    assert_eq!(street.sparkplug.counters.asked.with_label_values(&["drains", "away"]).get(), 1);
}

#[test]
fn a_node_that_is_gone_is_not_asked_for_ever() {
    let mut street = Street::new();
    street.is_asked("g/DDATA/n/d", &data(5));
    let times = (1..100_000).filter(|second| !asked_by_itself(&mut street, *second).is_empty()).count();
    assert!((5..15).contains(&times), "{times}");
    assert_eq!(street.sparkplug.due_at(), None);
}

/// The birth that was lost gave the alias to another metric.
#[test]
fn a_count_that_went_back_names_nothing_until_the_birth_comes() {
    let mut street = Street::new();
    street.born(1);
    for seq in 2..40 {
        street.hear("g/DDATA/n/d", &data(seq));
    }
    let (unnamed, is_asked) = street.hear("g/DDATA/n/d", &data(3));
    assert_eq!((name_of(&unnamed), is_asked), (None, true));
    assert_eq!(name_of(&street.hear("g/DDATA/n/d", &data(4)).0), None);
    let by_name = message(Some(5), vec![metric(Some("Level/mm"), None, None, MetricValue::Int(5))]);
    assert_eq!(street.hear("g/DDATA/n/d", &by_name).0.metrics[0].datatype, Some(datatype::INT16));
    street.born(1);
    assert_eq!(name_of(&street.hear("g/DDATA/n/d", &data(2)).0), Some("Level/mm"));
}

#[test]
fn a_message_that_was_overtaken_keeps_its_names() {
    let mut street = Street::new();
    street.born(1);
    for seq in [2, 3, 5, 4, 6] {
        assert_eq!(name_of(&street.hear("g/DDATA/n/d", &data(seq)).0), Some("Level/mm"), "{seq}");
    }
}

#[test]
fn a_node_that_does_not_answer_is_named_again_after_a_minute() {
    let mut street = Street::new();
    street.born(1);
    street.hear("g/DDATA/n/d", &data(9));
    assert_eq!(name_of(&street.hear("g/DDATA/n/d", &data(3)).0), None);
    street.second = 60;
    assert_eq!(name_of(&street.hear("g/DDATA/n/d", &data(4)).0), Some("Level/mm"));
    (5..600).for_each(|second| drop(asked_by_itself(&mut street, second)));
    street.second = 600;
    assert_eq!(name_of(&street.hear("g/DDATA/n/d", &data(1)).0), Some("Level/mm"), "it is known to be mute");
    let mut street = Street::new();
    street.sparkplug.rebirth = Rebirth::Never;
    street.born(1);
    street.hear("g/DDATA/n/d", &data(9));
    assert_eq!(name_of(&street.hear("g/DDATA/n/d", &data(3)).0), Some("Level/mm"), "nobody is asked");
}

#[test]
fn an_alias_that_a_birth_gives_twice_names_nothing() {
    let mut street = Street::new();
    street.hear("g/NBIRTH/n", &node_birth(1));
    let of = |name| metric(Some(name), Some(7), Some(datatype::INT16), MetricValue::Int(1));
    street.hear("g/DBIRTH/n/d", &message(Some(1), vec![of("Level/mm"), of("Battery")]));
    assert_eq!(name_of(&street.hear("g/DDATA/n/d", &data(2)).0), None);
}

#[test]
fn a_long_name_does_not_make_a_short_message_huge() {
    let mut street = Street::new();
    street.hear("g/NBIRTH/n", &node_birth(1));
    let long = metric(Some(&"x".repeat(60_000)), Some(7), Some(datatype::INT16), MetricValue::Int(1));
    street.hear("g/DBIRTH/n/d", &message(Some(1), vec![long]));
    let many = vec![Metric { alias: Some(7), ..Metric::default() }; 10_000];
    let (named, _) = street.hear("g/DDATA/n/d", &message(Some(2), many));
    assert_eq!(named.metrics.iter().filter(|metric| metric.name.is_some()).count(), 17);
}

#[test]
fn topics_that_are_too_long_for_the_inventory_are_not_remembered() {
    let mut street = Street::new();
    street.hear(&format!("g/NBIRTH/{}", "n".repeat(60_000)), &node_birth(1));
    assert_eq!(street.sparkplug.table.born(), 0);
}

#[tokio::test]
async fn births_outlive_a_restart() {
    let mut street = Street::new();
    street.born(1);
    street.sparkplug.save_if_due().await;
    street.restart();
    let (named, is_asked) = street.hear("g/DDATA/n/d", &data(2));
    assert_eq!((name_of(&named), is_asked), (Some("Level/mm"), false));
    assert_eq!(street.hear("g/NDEATH/n", &node_death(0)).0.is_stale, Some(true));
}

#[tokio::test]
async fn a_damaged_file_is_forgotten_and_the_node_asked() {
    let mut street = Street::new();
    street.born(1);
    street.sparkplug.save().await;
    std::fs::write(street.folder.path().join("sparkplug-drains.json"), "{").unwrap();
    street.restart();
    assert!(street.is_asked("g/DDATA/n/d", &data(2)));
}

#[test]
fn more_nodes_than_there_is_room_for_make_the_oldest_forgotten() {
    let mut street = Street::new();
    street.sparkplug.rebirth = Rebirth::Never;
    for number in 0..table::NODES_MAX + 10 {
        street.hear(&format!("g/NBIRTH/n{number}"), &node_birth(1));
    }
    assert_eq!(street.sparkplug.table.born(), table::NODES_MAX);
}

proptest! {
    /// Whatever comes, in whatever order, a value is never changed, and a count that has no gap asks nobody.
    #[test]
    fn values_stay_as_they_came(steps in prop::collection::vec((0..8_usize, 0..6_u64, 0..4_u64, any::<bool>()), 1..60)) {
        let mut street = Street::new();
        for (step, seq, alias, again) in steps {
            let topics = ["g/NBIRTH/n", "g/DBIRTH/n/d", "g/DBIRTH/n/e", "g/DDATA/n/d", "g/DDATA/n/e", "g/NDATA/n", "g/DDEATH/n/d", "g/NDEATH/n"];
            let name = (step < 3).then_some("x");
            let sent = message(Some(seq), vec![bd_seq(seq % 2), metric(name, Some(alias), name.map(|_| datatype::INT32), MetricValue::Int(seq as u32))]);
            let (taken, _) = street.hear_with(topics[step], &sent, if again { AGAIN } else { LIVE });
            prop_assert_eq!(taken.metrics.len(), sent.metrics.len());
            for (one, other) in taken.metrics.iter().zip(&sent.metrics) {
                prop_assert_eq!(&one.value, &other.value);
                prop_assert_eq!(one.alias, other.alias);
            }
        }
    }

    #[test]
    fn bytes_that_are_no_message_stay_as_they_came(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut street = Street::new();
        let now = (street.start, Timestamp(1));
        let taken = street.sparkplug.take("spBv1.0/g/NDATA/n", &bytes, LIVE, now);
        if Message::read(&bytes).is_err() {
            prop_assert_eq!(&*taken.payload, &*bytes);
        }
    }
}
