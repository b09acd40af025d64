//! Envelopes (信封): what a network server wraps around the bytes of a device, and what it says of the way they came.
//!
//! A source names the envelope of its topics; the engine opens it before the profile sees anything. Names of formats,
//! of what a link says and of events that are no readings are fixed here, because configuration, profiles, metrics and
//! documents share them. Nothing is kept; the metric of [`IgnoredEvent`] is `kerbside_frames_ignored_total`.

use serde::{Deserialize, Serialize};

/// How a network server wraps what a device sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvelopeFormat {
    /// Events of ChirpStack 4 as JSON.
    #[serde(rename = "chirpstack_v4")]
    ChirpStackV4,
    /// Events of ChirpStack Application Server 3 as JSON, in both of its spellings.
    #[serde(rename = "chirpstack_v3")]
    ChirpStackV3,
    /// Messages of The Things Stack 3 as JSON.
    TtnV3,
    /// Pushes of China Telecom's platform CTWing (AEP) as JSON.
    #[serde(rename = "ctwing")]
    CtWing,
    /// The binary frame in which NB-IoT sensors of Milesight send their channels.
    #[serde(rename = "nbiot_tlv")]
    NbIotTlv,
    /// Whichever of these a message has, by what the message is; none when it has none of them.
    Auto,
    /// Sparkplug B: the topic names node and device, the message is made of named metrics.
    #[serde(rename = "sparkplug_b")]
    SparkplugB,
}

impl EnvelopeFormat {
    /// Every format.
    pub const ALL: [EnvelopeFormat; 7] = [
        EnvelopeFormat::ChirpStackV4,
        EnvelopeFormat::ChirpStackV3,
        EnvelopeFormat::TtnV3,
        EnvelopeFormat::CtWing,
        EnvelopeFormat::NbIotTlv,
        EnvelopeFormat::Auto,
        EnvelopeFormat::SparkplugB,
    ];

    /// The format's name in gateway.yaml, in samples and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            EnvelopeFormat::ChirpStackV4 => "chirpstack_v4",
            EnvelopeFormat::ChirpStackV3 => "chirpstack_v3",
            EnvelopeFormat::TtnV3 => "ttn_v3",
            EnvelopeFormat::CtWing => "ctwing",
            EnvelopeFormat::NbIotTlv => "nbiot_tlv",
            EnvelopeFormat::Auto => "auto",
            EnvelopeFormat::SparkplugB => "sparkplug_b",
        }
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<EnvelopeFormat> {
        EnvelopeFormat::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// Which topics of a source come in which envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeRule {
    /// An MQTT topic filter; `None` for every topic of the source.
    pub topics: Option<String>,
    /// The envelope of these topics.
    pub format: EnvelopeFormat,
}

impl EnvelopeRule {
    /// Whether a message on this topic comes in this envelope.
    pub fn covers(&self, topic: &[u8]) -> bool {
        self.topics.as_ref().is_none_or(|filter| is_covered(filter.as_bytes(), topic))
    }
}

/// Whether a filter takes a topic (MQTT 5, section 4.7): `+` is one level, `#` the rest and the level above it.
pub fn is_covered(filter: &[u8], topic: &[u8]) -> bool {
    let mut filter_levels = filter.split(|byte| *byte == b'/');
    let mut topic_levels = topic.split(|byte| *byte == b'/');
    loop {
        match (filter_levels.next(), topic_levels.next()) {
            (Some(b"#"), _) => return true,
            (Some(b"+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// What an envelope says of the radio link, as the origin of a point: `link: rssi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkField {
    /// Signal strength at the gateway that heard the device best, in dBm; in NB-IoT the strength at the device.
    Rssi,
    /// Signal-to-noise ratio at this gateway, in dB.
    Snr,
    /// How many gateways heard the uplink.
    Gateways,
    /// LoRa spreading factor, 5 to 12.
    SpreadingFactor,
    /// Number of the uplink within its session.
    FrameCounter,
}

impl LinkField {
    /// Every field.
    pub const ALL: [LinkField; 5] =
        [LinkField::Rssi, LinkField::Snr, LinkField::Gateways, LinkField::SpreadingFactor, LinkField::FrameCounter];

    /// The field's name in profiles.
    pub fn name(self) -> &'static str {
        match self {
            LinkField::Rssi => "rssi",
            LinkField::Snr => "snr",
            LinkField::Gateways => "gateways",
            LinkField::SpreadingFactor => "spreading_factor",
            LinkField::FrameCounter => "frame_counter",
        }
    }
}

/// What an envelope says of the way a message came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkQuality {
    /// See [`LinkField::Rssi`].
    pub rssi_dbm: Option<f64>,
    /// See [`LinkField::Snr`].
    pub snr_db: Option<f64>,
    /// See [`LinkField::Gateways`].
    pub gateways: Option<u32>,
    /// See [`LinkField::SpreadingFactor`].
    pub spreading_factor: Option<u8>,
    /// See [`LinkField::FrameCounter`].
    pub frame_counter: Option<u32>,
}

impl LinkQuality {
    /// One of the numbers, when the envelope has it.
    pub fn get(&self, field: LinkField) -> Option<f64> {
        match field {
            LinkField::Rssi => self.rssi_dbm,
            LinkField::Snr => self.snr_db,
            LinkField::Gateways => self.gateways.map(f64::from),
            LinkField::SpreadingFactor => self.spreading_factor.map(f64::from),
            LinkField::FrameCounter => self.frame_counter.map(f64::from),
        }
    }
}

/// What comes in an envelope and is no reading of a device: acknowledged, counted and left at that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IgnoredEvent {
    /// A device joined the network.
    Join,
    /// The network asked for battery and margin.
    Status,
    /// A message to the device: queued, sent, acknowledged or failed.
    Downlink,
    /// The network server tells of a fault of its own.
    Log,
    /// The network server worked out where the device is.
    Location,
    /// Answer of a service behind the network server, or a copy of an uplink in another form.
    Integration,
    /// Something of a radio gateway, not of a device.
    Gateway,
    /// An uplink without anything from the application in it.
    Empty,
    /// Somebody tried out the network server's forms: it happened in no street.
    Simulated,
    /// A kind of event that is not known here.
    Other,
    /// A host application of Sparkplug says whether it is there.
    Host,
    /// A node or device of Sparkplug is gone: its devices are silent from now on.
    Death,
    /// A rainstorm signal (暴雨预警信号).
    RainSignal,
}

impl IgnoredEvent {
    /// Every kind.
    pub const ALL: [IgnoredEvent; 13] = [
        IgnoredEvent::Join,
        IgnoredEvent::Status,
        IgnoredEvent::Downlink,
        IgnoredEvent::Log,
        IgnoredEvent::Location,
        IgnoredEvent::Integration,
        IgnoredEvent::Gateway,
        IgnoredEvent::Empty,
        IgnoredEvent::Simulated,
        IgnoredEvent::Other,
        IgnoredEvent::Host,
        IgnoredEvent::Death,
        IgnoredEvent::RainSignal,
    ];

    /// The kind's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            IgnoredEvent::Join => "join",
            IgnoredEvent::Status => "status",
            IgnoredEvent::Downlink => "downlink",
            IgnoredEvent::Log => "log",
            IgnoredEvent::Location => "location",
            IgnoredEvent::Integration => "integration",
            IgnoredEvent::Gateway => "gateway",
            IgnoredEvent::Empty => "empty",
            IgnoredEvent::Simulated => "simulated",
            IgnoredEvent::Other => "other",
            IgnoredEvent::Host => "host",
            IgnoredEvent::Death => "death",
            IgnoredEvent::RainSignal => "rain_signal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_covers_the_topics_that_its_filter_takes() {
        let rule = |topics: &str| EnvelopeRule { topics: Some(topics.to_owned()), format: EnvelopeFormat::TtnV3 };
        for (filter, topic) in [
            ("v3/+/devices/+/up", "v3/app@tenant/devices/dev1/up"),
            ("v3/#", "v3/app@tenant/devices/dev1/up"),
            ("v3/#", "v3"),
            ("#", "anything/at/all"),
            ("+/b", "/b"),
        ] {
            assert!(rule(filter).covers(topic.as_bytes()), "{filter} {topic}");
        }
        for (filter, topic) in [("v3/+", "v3"), ("v3/+", "v3/a/b"), ("v3/a", "v3/b"), ("v3", "v3/a")] {
            assert!(!rule(filter).covers(topic.as_bytes()), "{filter} {topic}");
        }
        assert!(EnvelopeRule { topics: None, format: EnvelopeFormat::CtWing }.covers(b"any"));
    }

    #[test]
    fn formats_are_found_by_their_names() {
        for format in EnvelopeFormat::ALL {
            assert_eq!(EnvelopeFormat::named(format.name()), Some(format));
            assert_eq!(serde_json::to_value(format).unwrap(), format.name());
        }
        assert_eq!(EnvelopeFormat::named("sigfox"), None);
    }
}
