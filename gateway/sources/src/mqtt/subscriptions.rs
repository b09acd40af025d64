//! Which filters the session at the broker holds, and how it comes to hold ours and no others.
//!
//! A client cannot ask what its session holds, so we remember what we asked for, in `mqtt-NAME.json` in the gateway's
//! folder. Before anything new is subscribed it is written there, and what was unsubscribed is taken out only when the
//! broker has confirmed it: the file always names at least what the session may hold. The file belongs to one client id
//! at one broker. Without it nothing is unsubscribed, and everything is subscribed.
//!
//! **What survives a crash**: the file, which is replaced as a whole. Nothing here is counted.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use kerbside_model::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::codec::{CodecError, Grant, Terms};
use super::outgoing::{put_subscribe, put_unsubscribe};
use super::{MqttConfig, MqttVersion, TOPICS_MAX, TopicFilter};

/// AWS IoT Core takes 8 filters in one packet; nobody takes fewer.
const FILTERS_PER_PACKET: usize = 8;
/// What stands around filters in a packet: header, packet id, properties.
const PACKET_EXTRA_BYTES: usize = 12;
/// What stands around one filter: its length and its options.
const FILTER_EXTRA_BYTES: usize = 3;
/// With MQTT 3.1.1, where subscribing again brings every retained message again, a session that holds our filters is
/// left alone, but not until it had time to reach the broker's disk: Mosquitto saves every 30 minutes
/// (autosave_interval), and comes back after a crash with what it saved last.
const SETTLES_AFTER: Duration = Duration::from_secs(3600);

/// A file that names more filters than this is not ours: a configuration has at most half as many.
const HELD_MAX: usize = 2 * TOPICS_MAX;

/// A filter that the session may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    filter: String,
    qos: u8,
}

/// The contents of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    broker: String,
    client_id: String,
    filters: Vec<Held>,
    /// Since when the broker holds exactly these, milliseconds since 1970; none while it may hold others.
    confirmed_at: Option<i64>,
}

/// What we remember of the session at the broker.
#[derive(Debug)]
pub(super) struct Memory {
    source: String,
    file: Option<PathBuf>,
    session: Session,
}

/// What is asked of the broker on one connection, and what it has answered so far.
#[derive(Debug)]
pub(super) struct Reconciliation {
    /// By position in the configuration.
    grants: Vec<Option<Grant>>,
    requests: Vec<Request>,
    subscribed: usize,
    unsubscribed: usize,
    /// Filters that the broker would not give up.
    kept: Vec<String>,
}

/// One packet without its answer; its packet id is its position, counted from 1.
#[derive(Debug)]
enum Request {
    Answered,
    Subscribe(Vec<usize>),
    Unsubscribe(Vec<String>),
}

impl Memory {
    /// Reads what is remembered; a file that cannot be read is told and forgotten.
    pub(super) fn load(config: &MqttConfig, endpoint: &str) -> Memory {
        let file = config.state_folder.as_ref().map(|folder| folder.join(format!("mqtt-{}.json", config.name)));
        let empty = Session {
            broker: endpoint.to_owned(),
            client_id: config.client_id.clone(),
            filters: Vec::new(),
            confirmed_at: None,
        };
        let mut memory = Memory { source: config.name.clone(), file, session: empty };
        let Some(path) = &memory.file else { return memory };
        match read(path) {
            Ok(Some(session)) if session.is_same(&memory.session) && session.filters.len() <= HELD_MAX => {
                memory.session = session;
            }
            Ok(_) => {}
            Err(error) => {
                let file = path.display();
                warn!(source = %memory.source, %file, %error, "what the broker holds for us is forgotten");
            }
        }
        memory
    }

    /// Writes what is to be asked of the broker, and notes down first what its session may then hold.
    pub(super) async fn reconcile(
        &mut self,
        config: &MqttConfig,
        session_present: bool,
        terms: &Terms,
        now: Timestamp,
        out: &mut BytesMut,
    ) -> Reconciliation {
        let topics = &config.topics;
        let is_trusted = session_present && config.version == MqttVersion::V311 && self.is_settled(now);
        if !session_present {
            self.session.confirmed_at = None;
        }
        let surplus = |held: &&Held| session_present && !topics.iter().any(|topic| topic.filter == held.filter);
        let surplus: Vec<String> =
            self.session.filters.iter().filter(surplus).map(|held| held.filter.clone()).collect();
        let mut reconciliation = Reconciliation::new(topics.len());
        if is_trusted {
            reconciliation.trust(topics, &self.session.filters);
        }
        self.expect(topics).await;
        let limit = terms.packet_bytes_max.map_or(usize::MAX, |bytes| bytes as usize);
        reconciliation.unsubscribe(config.version, &surplus, limit, out);
        reconciliation.subscribe(config.version, topics, terms, limit, out);
        reconciliation
    }

    /// Whether the session is known for long enough to be safe at the broker.
    fn is_settled(&self, now: Timestamp) -> bool {
        let Some(confirmed_at) = self.session.confirmed_at else { return false };
        let age = u64::try_from(now.0.saturating_sub(confirmed_at)).map(Duration::from_millis);
        // A clock that was set back makes the age unknown.
        age.is_ok_and(|age| age >= SETTLES_AFTER)
    }

    /// From now on the session may hold these filters too.
    async fn expect(&mut self, topics: &[TopicFilter]) {
        if topics.iter().all(|topic| self.session.filters.contains(&Held::of(topic))) {
            return;
        }
        self.session.confirmed_at = None;
        for topic in topics {
            match self.session.filters.iter_mut().find(|held| held.filter == topic.filter) {
                Some(held) => held.qos = topic.qos,
                None => self.session.filters.push(Held::of(topic)),
            }
        }
        self.save().await;
    }

    /// The broker has answered everything.
    pub(super) async fn confirmed(&mut self, topics: &[TopicFilter], reconciled: &Reconciliation, now: Timestamp) {
        let mut filters: Vec<Held> = topics.iter().map(Held::of).collect();
        filters.extend(reconciled.kept.iter().map(|filter| Held { filter: filter.clone(), qos: 0 }));
        let is_exact = reconciled.kept.is_empty() && reconciled.is_granted(topics);
        // The time of the first confirmation counts.
        let confirmed_at = is_exact.then(|| self.session.confirmed_at.filter(|at| *at <= now.0).unwrap_or(now.0));
        if filters == self.session.filters && confirmed_at == self.session.confirmed_at {
            return;
        }
        self.session.filters = filters;
        self.session.confirmed_at = confirmed_at;
        self.save().await;
    }

    /// A disk that takes nothing does not keep us from receiving; what is then forgotten is told.
    async fn save(&self) {
        let Some(path) = self.file.clone() else { return };
        let session = self.session.clone();
        let file = path.clone();
        let saved = tokio::task::spawn_blocking(move || write(&file, &session)).await;
        let error = match saved {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(failure) => failure.to_string(),
        };
        warn!(source = %self.source, file = %path.display(), error, "the filters at the broker are not remembered");
    }
}

impl Session {
    fn is_same(&self, other: &Session) -> bool {
        self.broker == other.broker && self.client_id == other.client_id
    }
}

impl Held {
    fn of(topic: &TopicFilter) -> Held {
        Held { filter: topic.filter.clone(), qos: topic.qos }
    }
}

impl Reconciliation {
    /// Nothing is answered, and nothing asked.
    pub(super) fn new(topics: usize) -> Reconciliation {
        Reconciliation {
            grants: vec![None; topics],
            requests: Vec::new(),
            subscribed: 0,
            unsubscribed: 0,
            kept: Vec::new(),
        }
    }

    /// Filters that the session holds are not asked for again.
    fn trust(&mut self, topics: &[TopicFilter], held: &[Held]) {
        for (grant, topic) in self.grants.iter_mut().zip(topics) {
            if held.contains(&Held::of(topic)) {
                *grant = Some(Grant::Granted(topic.qos));
            }
        }
    }

    fn unsubscribe(&mut self, version: MqttVersion, filters: &[String], limit: usize, out: &mut BytesMut) {
        self.unsubscribed = filters.len();
        let sizes: Vec<usize> = filters.iter().map(String::len).collect();
        for range in packets(&sizes, limit) {
            let filters = &filters[range];
            let texts: Vec<&str> = filters.iter().map(String::as_str).collect();
            self.requests.push(Request::Unsubscribe(filters.to_vec()));
            put_unsubscribe(version, self.last_id(), &texts, out);
        }
    }

    fn subscribe(
        &mut self,
        version: MqttVersion,
        topics: &[TopicFilter],
        terms: &Terms,
        limit: usize,
        out: &mut BytesMut,
    ) {
        let mut asked = Vec::with_capacity(topics.len());
        for (position, (topic, grant)) in topics.iter().zip(&mut self.grants).enumerate() {
            if grant.is_some() {
                continue;
            }
            match impossible(topic, terms, limit) {
                Some(reason) => *grant = Some(Grant::Refused(reason.to_owned())),
                None => asked.push(position),
            }
        }
        self.subscribed = asked.len();
        let sizes: Vec<usize> = asked.iter().map(|position| topics[*position].filter.len()).collect();
        for range in packets(&sizes, limit) {
            let positions = &asked[range];
            let filters: Vec<&TopicFilter> = positions.iter().map(|position| &topics[*position]).collect();
            self.requests.push(Request::Subscribe(positions.to_vec()));
            put_subscribe(version, self.last_id(), &filters, out);
        }
    }

    fn last_id(&self) -> u16 {
        u16::try_from(self.requests.len()).expect("the constructor allows 10,000 filters, and the file as many")
    }

    /// The broker answers a SUBSCRIBE.
    pub(super) fn sub_ack(&mut self, packet_id: u16, grants: Vec<Grant>) -> Result<(), CodecError> {
        let problem = match self.take(packet_id) {
            Some(Request::Subscribe(positions)) if positions.len() == grants.len() => {
                for (position, grant) in positions.into_iter().zip(grants) {
                    self.grants[position] = Some(grant);
                }
                return Ok(());
            }
            Some(Request::Subscribe(positions)) => format!("{} answers to {} filters", grants.len(), positions.len()),
            _ => format!("nobody asked with the packet id {packet_id}"),
        };
        Err(CodecError::Control { packet: "SUBACK", problem })
    }

    /// The broker answers an UNSUBSCRIBE.
    pub(super) fn unsub_ack(&mut self, packet_id: u16, refused: &[(usize, String)]) -> Result<(), CodecError> {
        let Some(Request::Unsubscribe(filters)) = self.take(packet_id) else {
            let problem = format!("nobody asked with the packet id {packet_id}");
            return Err(CodecError::Control { packet: "UNSUBACK", problem });
        };
        for (position, reason) in refused {
            let Some(filter) = filters.get(*position) else { continue };
            warn!(filter, reason, "the broker does not give up a subscription; it is asked again next time");
            self.kept.push(filter.clone());
        }
        Ok(())
    }

    fn take(&mut self, packet_id: u16) -> Option<Request> {
        let request = self.requests.get_mut(usize::from(packet_id).checked_sub(1)?)?;
        Some(std::mem::replace(request, Request::Answered))
    }

    /// Whether the broker has answered everything.
    pub(super) fn is_done(&self) -> bool {
        self.requests.iter().all(|request| matches!(request, Request::Answered))
    }

    /// What the broker grants, by position in the configuration; once everything was answered.
    pub(super) fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.iter().flatten()
    }

    fn is_granted(&self, topics: &[TopicFilter]) -> bool {
        let is_granted = |(topic, grant): (&TopicFilter, &Option<Grant>)| matches!(grant, Some(Grant::Granted(qos)) if *qos >= topic.qos);
        topics.iter().zip(&self.grants).all(is_granted)
    }

    /// Says what was asked for.
    pub(super) fn log(&self, source: &str, session_present: bool) {
        let (subscribed, unsubscribed) = (self.subscribed, self.unsubscribed);
        info!(source, session_present, subscribed, unsubscribed, "subscriptions reconciled");
    }
}

/// Why the broker need not be asked for a filter: some end the connection at such a question.
fn impossible(topic: &TopicFilter, terms: &Terms, limit: usize) -> Option<&'static str> {
    let shared = topic.filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    let filter = shared.map_or(topic.filter.as_str(), |(_, filter)| filter);
    if shared.is_some() && !terms.has_shared_subscriptions {
        return Some("shared subscriptions not supported");
    }
    if filter.contains(['+', '#']) && !terms.has_wildcards {
        return Some("wildcard subscriptions not supported");
    }
    (topic.filter.len() + FILTER_EXTRA_BYTES + PACKET_EXTRA_BYTES > limit).then_some("packet too large")
}

/// How filters of such sizes go into packets of at most `limit` bytes; one that is too long goes alone.
fn packets(sizes: &[usize], limit: usize) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut bytes) = (0, PACKET_EXTRA_BYTES);
    for (position, size) in sizes.iter().enumerate() {
        let size = size + FILTER_EXTRA_BYTES;
        if position > start && (position - start == FILTERS_PER_PACKET || bytes + size > limit) {
            ranges.push(start..position);
            (start, bytes) = (position, PACKET_EXTRA_BYTES);
        }
        bytes += size;
    }
    if start < sizes.len() {
        ranges.push(start..sizes.len());
    }
    ranges
}

fn read(path: &Path) -> io::Result<Option<Session>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, session: &Session) -> io::Result<()> {
    replace(path, &serde_json::to_vec_pretty(session)?)
}

/// Writes a file as a whole or not at all, also when the power goes.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("json.new");
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_spread_over_packets_by_number_and_by_bytes() {
        assert!(packets(&[], 1_000).is_empty());
        assert_eq!(packets(&[5; 9], 1_000), [0..8, 8..9]);
        assert_eq!(packets(&[5; 3], PACKET_EXTRA_BYTES + 16), [0..2, 2..3]);
        assert_eq!(packets(&[5, 500, 5], 100), [0..1, 1..2, 2..3]);
    }

    #[test]
    fn what_the_broker_cannot_do_is_not_asked_for() {
        let topic = |filter: &str| TopicFilter { filter: filter.to_owned(), qos: 1 };
        let terms = Terms { has_shared_subscriptions: false, has_wildcards: false, ..Terms::default() };
        assert_eq!(impossible(&topic("a/b"), &terms, 1_000), None);
        assert_eq!(impossible(&topic("a/+"), &terms, 1_000), Some("wildcard subscriptions not supported"));
        assert_eq!(impossible(&topic("$share/g/a"), &terms, 1_000), Some("shared subscriptions not supported"));
        assert_eq!(impossible(&topic("a/b"), &Terms::default(), 10), Some("packet too large"));
        assert_eq!(impossible(&topic("$share/g/+"), &Terms::default(), 1_000), None);
    }
}
