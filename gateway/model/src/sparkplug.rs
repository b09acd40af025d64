//! Sparkplug B: topics and messages of edge nodes (边缘节点), as sources and decoders share them.
//!
//! Turns bytes of Protocol Buffers into [`Message`] and back, and a metric (指标) into what it says. Field numbers, types
//! and topics: Eclipse Sparkplug specification 3.0.0, chapters 4 and 6 and its `sparkplug_b.proto`. What is not read here
//! (data sets, templates, metadata) is kept as it came. Nothing is kept between messages and there are no metrics.

use prost::Message as _;

/// First level of every topic.
pub const NAMESPACE: &str = "spBv1.0";
/// Node metric whose number ties a death to its birth.
pub const BD_SEQ: &str = "bdSeq";
/// Node metric by which a host asks a node for its birth.
pub const REBIRTH: &str = "Node Control/Rebirth";
/// Metrics that every node has and no device: the specification's own and those of its reference implementation.
const NODE_METRICS: [&str; 3] = ["Node Control/", "Node Info/", "Properties/"];
/// The property by which a node says how good a value is (specification 6.4.17) ...
const QUALITY: &str = "Quality";
/// ... and its number for good.
const QUALITY_GOOD: u64 = 192;

/// More metrics than a message with names can hold within 1 MiB; without names, two bytes each would make a hundred times
/// as many in memory.
const METRICS_MAX: usize = 65_536;

/// What a topic says that its message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Every metric of a node or device: NBIRTH, DBIRTH.
    Birth,
    /// The metrics that changed: NDATA, DDATA.
    Data,
    /// It is gone: NDEATH, which is the will of the node, or DDEATH.
    Death,
    /// To a node or device: NCMD, DCMD.
    Command,
    /// Whether a host application is there.
    State,
}

/// A topic of the namespace, in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic<'a> {
    /// What the message is.
    pub kind: MessageKind,
    /// Group; empty for a host's state.
    pub group: &'a str,
    /// Edge node; the host's name for its state.
    pub node: &'a str,
    /// Device behind the node; `None` for the node itself.
    pub device: Option<&'a str>,
}

impl<'a> Topic<'a> {
    /// The parts of a topic; `None` when it is no topic of Sparkplug B.
    pub fn parse(topic: &'a str) -> Option<Topic<'a>> {
        let mut levels = topic.strip_prefix(NAMESPACE)?.strip_prefix('/')?.split('/');
        let (group, word) = (levels.next()?, levels.next()?);
        if group == "STATE" {
            return Some(Topic { kind: MessageKind::State, group: "", node: word, device: None });
        }
        let (node, device) = (levels.next()?, levels.next());
        let kind = match (word, device.is_some()) {
            ("NBIRTH", false) | ("DBIRTH", true) => MessageKind::Birth,
            ("NDATA", false) | ("DDATA", true) => MessageKind::Data,
            ("NDEATH", false) | ("DDEATH", true) => MessageKind::Death,
            ("NCMD", false) | ("DCMD", true) => MessageKind::Command,
            _ => return None,
        };
        let is_named = is_name(group) && is_name(node) && device.is_none_or(is_name);
        (is_named && levels.next().is_none()).then_some(Topic { kind, group, node, device })
    }

    /// What the inventory's column `address` says for it: `group/node`, or `group/node/device`.
    pub fn address(&self) -> String {
        match self.device {
            Some(device) => format!("{}/{}/{device}", self.group, self.node),
            None => format!("{}/{}", self.group, self.node),
        }
    }
}

/// Names hold no wildcards (specification 4.1); a command to such a node would make the broker hang up.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['+', '#', '\0'])
}

/// Whether a device in the inventory can be meant by a topic: `group/node`, or `group/node/device`.
pub fn is_address(address: &str) -> bool {
    address.split('/').all(is_name) && (1..=2).contains(&address.matches('/').count())
}

/// The topic on which a node takes commands.
pub fn command_topic(group: &str, node: &str) -> String {
    format!("{NAMESPACE}/{group}/NCMD/{node}")
}

/// One message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    /// When it was sent, in ms since 1970.
    #[prost(uint64, optional, tag = "1")]
    pub timestamp: Option<u64>,
    /// What it holds.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
    /// Counts the messages of a node from its birth on: 0 to 255, and 0 again.
    #[prost(uint64, optional, tag = "3")]
    pub seq: Option<u64>,
    /// What `body` is.
    #[prost(string, optional, tag = "4")]
    pub uuid: Option<String>,
    /// Anything.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub body: Option<Vec<u8>>,
    /// Ours, in the range that the schema leaves to extensions: a death of a session that is over, as the source knows.
    #[prost(bool, optional, tag = "1000")]
    pub is_stale: Option<bool>,
}

/// One value with its name, or with the alias (别名) that stands for it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metric {
    /// Name; data may leave it away where the birth gave an alias.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Number that stands for the name until the next birth.
    #[prost(uint64, optional, tag = "2")]
    pub alias: Option<u64>,
    /// When it was measured, in ms since 1970.
    #[prost(uint64, optional, tag = "3")]
    pub timestamp: Option<u64>,
    /// Type of the value; only a birth must say it.
    #[prost(uint32, optional, tag = "4")]
    pub datatype: Option<u32>,
    /// It is of the past and must not become the current value.
    #[prost(bool, optional, tag = "5")]
    pub is_historical: Option<bool>,
    /// It need not be stored.
    #[prost(bool, optional, tag = "6")]
    pub is_transient: Option<bool>,
    /// There is no value.
    #[prost(bool, optional, tag = "7")]
    pub is_null: Option<bool>,
    /// About the value; kept as it came.
    #[prost(bytes = "vec", optional, tag = "8")]
    pub metadata: Option<Vec<u8>>,
    /// Properties; see [`Metric::is_good`].
    #[prost(bytes = "vec", optional, tag = "9")]
    pub properties: Option<Vec<u8>>,
    /// The value.
    #[prost(oneof = "MetricValue", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19")]
    pub value: Option<MetricValue>,
}

/// A value as it travels: what it means, only the datatype says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum MetricValue {
    /// Up to 32 bits; signed ones in two's complement.
    #[prost(uint32, tag = "10")]
    Int(u32),
    /// Up to 64 bits; signed ones in two's complement, and times.
    #[prost(uint64, tag = "11")]
    Long(u64),
    /// A float of 32 bits.
    #[prost(float, tag = "12")]
    Float(f32),
    /// A float of 64 bits.
    #[prost(double, tag = "13")]
    Double(f64),
    /// True or false.
    #[prost(bool, tag = "14")]
    Boolean(bool),
    /// Text.
    #[prost(string, tag = "15")]
    Text(String),
    /// Bytes, a file, or an array.
    #[prost(bytes = "vec", tag = "16")]
    Bytes(Vec<u8>),
    /// A table; kept as it came.
    #[prost(bytes = "vec", tag = "17")]
    DataSet(Vec<u8>),
    /// A structure; kept as it came.
    #[prost(bytes = "vec", tag = "18")]
    Template(Vec<u8>),
    /// An extension; kept as it came.
    #[prost(bytes = "vec", tag = "19")]
    Extension(Vec<u8>),
}

/// Names and values side by side.
#[derive(Clone, PartialEq, prost::Message)]
struct PropertySet {
    #[prost(string, repeated, tag = "1")]
    keys: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    values: Vec<PropertyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PropertyValue {
    #[prost(uint32, optional, tag = "3")]
    int: Option<u32>,
    #[prost(uint64, optional, tag = "4")]
    long: Option<u64>,
}

/// Types of values, by their numbers in the schema.
pub mod datatype {
    /// Signed, 8 bits.
    pub const INT8: u32 = 1;
    /// Signed, 16 bits.
    pub const INT16: u32 = 2;
    /// Signed, 32 bits.
    pub const INT32: u32 = 3;
    /// Signed, 64 bits.
    pub const INT64: u32 = 4;
    /// Unsigned, 8 bits.
    pub const UINT8: u32 = 5;
    /// Unsigned, 64 bits.
    pub const UINT64: u32 = 8;
    /// A float of 32 bits.
    pub const FLOAT: u32 = 9;
    /// A float of 64 bits.
    pub const DOUBLE: u32 = 10;
    /// True or false.
    pub const BOOLEAN: u32 = 11;
    /// Text.
    pub const STRING: u32 = 12;
    /// Milliseconds since 1970.
    pub const DATE_TIME: u32 = 13;
    /// Longer text.
    pub const TEXT: u32 = 14;
    /// Text that is unique.
    pub const UUID: u32 = 15;
}

/// What a metric says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content<'a> {
    /// A number.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// Text.
    Text(&'a str),
    /// Nothing: the node has no value.
    Null,
    /// Something else than a single value.
    Other,
    /// An integer of which nobody knows whether it is signed, because its birth was not heard.
    Untyped,
}

impl Message {
    /// Reads a message. The error says in a sentence what is wrong.
    pub fn read(bytes: &[u8]) -> Result<Message, String> {
        // No metric is shorter than its field's number and its own length.
        if bytes.len() > 2 * METRICS_MAX && metrics_in(bytes) > METRICS_MAX {
            return Err(format!("a message of Sparkplug B with more than {METRICS_MAX} metrics"));
        }
        Message::decode(bytes).map_err(|error| format!("no message of Sparkplug B: {error}"))
    }

    /// The message as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// The number that ties a death to its birth.
    pub fn bd_seq(&self) -> Option<u64> {
        let metric = self.metrics.iter().find(|metric| metric.name.as_deref() == Some(BD_SEQ))?;
        match metric.value {
            Some(MetricValue::Int(number)) => Some(u64::from(number)),
            Some(MetricValue::Long(number)) => Some(number),
            _ => None,
        }
    }

    /// Whether it holds nothing but what a node says of itself.
    pub fn is_of_node_only(&self) -> bool {
        let is_nodes = |name: &str| name == BD_SEQ || NODE_METRICS.iter().any(|prefix| name.starts_with(prefix));
        self.metrics.iter().all(|metric| metric.name.as_deref().is_some_and(is_nodes))
    }

    /// The command that asks a node for its birth.
    pub fn rebirth_command(timestamp_ms: u64) -> Message {
        let metric = Metric {
            name: Some(REBIRTH.to_owned()),
            timestamp: Some(timestamp_ms),
            datatype: Some(datatype::BOOLEAN),
            value: Some(MetricValue::Boolean(true)),
            ..Metric::default()
        };
        Message { timestamp: Some(timestamp_ms), metrics: vec![metric], ..Message::default() }
    }
}

impl Metric {
    /// What it says, by its datatype. One that does not fit its value makes it [`Content::Other`].
    pub fn content(&self) -> Content<'_> {
        let Some(value) = self.value.as_ref().filter(|_| self.is_null != Some(true)) else { return Content::Null };
        let datatype = self.datatype.filter(|datatype| *datatype != 0);
        match (value, datatype) {
            (MetricValue::Int(_) | MetricValue::Long(_), None) => Content::Untyped,
            (MetricValue::Int(bits), Some(datatype)) => integer(u64::from(*bits), datatype),
            (MetricValue::Long(bits), Some(datatype)) => integer(*bits, datatype),
            // A float of 32 bits means the shortest number that gives it: 0.1, and not 0.10000000149.
            (MetricValue::Float(single), None | Some(datatype::FLOAT | datatype::DOUBLE)) => {
                Content::Number(single.to_string().parse().unwrap_or(f64::NAN))
            }
            (MetricValue::Double(number), None | Some(datatype::FLOAT | datatype::DOUBLE)) => Content::Number(*number),
            (MetricValue::Boolean(boolean), None | Some(datatype::BOOLEAN)) => Content::Boolean(*boolean),
            (MetricValue::Text(text), None | Some(datatype::STRING | datatype::TEXT | datatype::UUID)) => {
                Content::Text(text)
            }
            _ => Content::Other,
        }
    }

    /// Whether the node itself calls the value good. It does when it says nothing.
    pub fn is_good(&self) -> bool {
        let Some(bytes) = &self.properties else { return true };
        let Ok(set) = PropertySet::decode(bytes.as_slice()) else { return true };
        let position = set.keys.iter().position(|key| key == QUALITY);
        let value = position.and_then(|position| set.values.get(position));
        let number = value.and_then(|value| value.int.map(u64::from).or(value.long));
        number.is_none_or(|number| number == QUALITY_GOOD)
    }
}

/// How many metrics a message has, up to the first field that cannot be skipped.
fn metrics_in(bytes: &[u8]) -> usize {
    const METRICS_TAG: u32 = 2;
    let (mut rest, mut count) = (bytes, 0);
    let mut skip = || {
        let (tag, wire_type) = prost::encoding::decode_key(&mut rest).ok()?;
        prost::encoding::skip_field(wire_type, tag, &mut rest, prost::encoding::DecodeContext::default()).ok()?;
        Some(tag)
    };
    while let Some(tag) = skip() {
        count += usize::from(tag == METRICS_TAG);
    }
    count
}

/// Nodes sign-extend a short integer to 32 bits or to 64, or do not: its own bits count, and more than those are no such
/// integer.
fn integer(bits: u64, datatype: u32) -> Content<'static> {
    let width = match datatype {
        datatype::INT8 => 8,
        datatype::INT16 => 16,
        datatype::INT32 => 32,
        _ => 64,
    };
    let above = bits.checked_shr(width).unwrap_or_default();
    let ones = [u32::MAX.into(), u64::MAX].map(|all: u64| all.checked_shr(width).unwrap_or_default());
    if above != 0 && !ones.contains(&above) {
        return Content::Other;
    }
    Content::Number(match datatype {
        datatype::INT8 => f64::from(bits as u8 as i8),
        datatype::INT16 => f64::from(bits as u16 as i16),
        datatype::INT32 => f64::from(bits as u32 as i32),
        datatype::INT64 => bits as i64 as f64,
        datatype::UINT8..=datatype::UINT64 | datatype::DATE_TIME => bits as f64,
        datatype::BOOLEAN if bits <= 1 => return Content::Boolean(bits == 1),
        _ => return Content::Other,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(text: &str) -> Option<(MessageKind, String)> {
        Topic::parse(text).map(|topic| (topic.kind, topic.address()))
    }

    #[test]
    fn a_topic_names_node_and_device() {
        use MessageKind::{Birth, Command, Data, Death};
        for (text, kind, address) in [
            ("spBv1.0/drains/NBIRTH/box-1", Birth, "drains/box-1"),
            ("spBv1.0/drains/DBIRTH/box-1/LV-1", Birth, "drains/box-1/LV-1"),
            ("spBv1.0/drains/NDATA/box-1", Data, "drains/box-1"),
            ("spBv1.0/drains/DDATA/box-1/LV-1", Data, "drains/box-1/LV-1"),
            ("spBv1.0/drains/NDEATH/box-1", Death, "drains/box-1"),
            ("spBv1.0/drains/DDEATH/box-1/LV-1", Death, "drains/box-1/LV-1"),
            ("spBv1.0/drains/NCMD/box-1", Command, "drains/box-1"),
        ] {
            assert_eq!(topic(text), Some((kind, address.to_owned())), "{text}");
        }
        assert_eq!(Topic::parse("spBv1.0/STATE/scada").map(|topic| topic.kind), Some(MessageKind::State));
        for text in [
            "spAv1.0/g/NBIRTH/n",
            "spBv1.0",
            "spBv1.0/g/NBIRTH",
            "spBv1.0/g/NBIRTH/n/d",
            "spBv1.0/g/DBIRTH/n",
            "spBv1.0/g/DDATA/n/d/e",
            "spBv1.0//NDATA/n",
            "spBv1.0/g/NDATA/n+",
            "spBv1.0/g/DDATA/n/#",
            "spBv1.0/g/XDATA/n",
        ] {
            assert_eq!(topic(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_is_a_node_or_a_device_behind_it() {
        for (address, expected) in [
            ("drains/box-1", true),
            ("排水/一号箱/LV-1", true),
            ("LV-1", false),
            ("drains/box-1/", false),
            ("drains/box+1/LV-1", false),
            ("spBv1.0/drains/DDATA/box-1/LV-1", false),
        ] {
            assert_eq!(is_address(address), expected, "{address}");
        }
    }

    #[test]
    fn a_message_has_the_bytes_of_the_schema() {
        // timestamp 1, one metric {name "a", alias 2, timestamp 3, datatype 3 (Int32), int_value 4294967295}, seq 5.
        let bytes = b"\x08\x01\x12\x0f\x0a\x01a\x10\x02\x18\x03\x20\x03\x50\xff\xff\xff\xff\x0f\x18\x05";
        let message = Message::read(bytes).unwrap();
        assert_eq!((message.timestamp, message.seq), (Some(1), Some(5)));
        let metric = &message.metrics[0];
        assert_eq!((metric.name.as_deref(), metric.alias, metric.timestamp), (Some("a"), Some(2), Some(3)));
        assert_eq!(metric.content(), Content::Number(-1.0));
        assert_eq!(message.to_bytes(), bytes);
    }

    #[test]
    fn a_value_is_what_its_datatype_says() {
        let content = |datatype: u32, value: MetricValue| {
            let metric = Metric { datatype: Some(datatype), value: Some(value), ..Metric::default() };
            format!("{:?}", metric.content())
        };
        for (datatype, value, expected) in [
            (datatype::INT8, MetricValue::Int(0xFFFF_FFFF), "Number(-1.0)"),
            (datatype::INT8, MetricValue::Int(0xFF), "Number(-1.0)"),
            (datatype::INT16, MetricValue::Int(0xFFFE), "Number(-2.0)"),
            (datatype::INT64, MetricValue::Long(u64::MAX), "Number(-1.0)"),
            (datatype::INT32, MetricValue::Long(u64::MAX), "Number(-1.0)"),
            (datatype::INT16, MetricValue::Int(70_000), "Other"),
            (datatype::INT32, MetricValue::Long(5_000_000_000), "Other"),
            (datatype::UINT8, MetricValue::Int(200), "Number(200.0)"),
            (datatype::DATE_TIME, MetricValue::Long(5), "Number(5.0)"),
            (datatype::FLOAT, MetricValue::Float(0.1), "Number(0.1)"),
            (datatype::DOUBLE, MetricValue::Double(0.1), "Number(0.1)"),
            (datatype::BOOLEAN, MetricValue::Boolean(true), "Boolean(true)"),
            (datatype::BOOLEAN, MetricValue::Int(1), "Boolean(true)"),
            (datatype::STRING, MetricValue::Text("x".to_owned()), "Text(\"x\")"),
            (datatype::STRING, MetricValue::Double(1.0), "Other"),
            (0, MetricValue::Int(7), "Untyped"),
            (0, MetricValue::Double(7.0), "Number(7.0)"),
            (17, MetricValue::Bytes(vec![1]), "Other"),
        ] {
            assert_eq!(content(datatype, value.clone()), expected, "{datatype} {value:?}");
        }
        let null = Metric { is_null: Some(true), value: Some(MetricValue::Int(7)), ..Metric::default() };
        assert_eq!(null.content(), Content::Null);
    }

    #[test]
    fn a_message_of_nothing_but_metrics_is_refused_before_it_takes_memory() {
        assert!(Message::read(&[0x12, 0].repeat(METRICS_MAX)).is_ok());
        let error = Message::read(&[0x12, 0].repeat(METRICS_MAX + 1)).unwrap_err();
        assert!(error.contains("more than 65536 metrics"), "{error}");
    }

    #[test]
    fn a_value_that_its_node_does_not_call_good_is_known() {
        let with = |number| {
            let value = PropertyValue { int: Some(number), long: None };
            let set = PropertySet { keys: vec![QUALITY.to_owned()], values: vec![value] };
            Metric { properties: Some(set.encode_to_vec()), ..Metric::default() }.is_good()
        };
        assert_eq!((with(192), with(0), with(500)), (true, false, false));
        assert!(Metric::default().is_good());
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_message_or_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = Message::read(&bytes) {
                let again = Message::read(&message.to_bytes()).unwrap();
                prop_assert_eq!(again.to_bytes(), message.to_bytes());
                for metric in &message.metrics {
                    let _ = (metric.content(), metric.is_good());
                }
            }
        }
    }
}
