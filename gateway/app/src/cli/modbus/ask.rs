//! Asks units for the commands: over a link of our own, or through the gateway that polls the bus.
//!
//! Only one can talk on a serial line. A port that the running gateway has in use is not opened; the error names the
//! bus that it belongs to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use kerbside_sources::modbus::{
    BusError, DirectBus, DirectConfig, Identification, Link, PortName, Request, SerialConfig,
};
use serde_json::{Value, json};

use super::place::Place;
use crate::cli::access::{self, Api};
use crate::cli::say_problems;
use crate::config::{self, Config, ProcessEnvironment};

/// A device in the same cabinet answers within some ten milliseconds; a slow one within this.
const SERIAL_TIMEOUT: Duration = Duration::from_millis(300);
/// A gateway in between has a patience of its own with its serial line, mostly of half a second.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How units are asked.
#[derive(Debug)]
pub(super) struct Manner {
    /// Longest wait for an answer, where it is not the usual one.
    pub(super) timeout: Option<Duration>,
    /// Silence between two requests.
    pub(super) pause: Duration,
    /// The configuration of the gateway.
    pub(super) config: PathBuf,
}

/// Whoever is asked.
#[derive(Debug)]
pub(super) enum Asker {
    Direct(Box<DirectBus>),
    Gateway { api: Api, bus: String },
}

impl Asker {
    /// Finds the way; nothing is asked yet.
    pub(super) async fn open(place: &Place, manner: &Manner) -> anyhow::Result<Asker> {
        match place {
            Place::Link(link) => {
                refuse_owned(link, &manner.config).await?;
                Ok(Asker::direct(link, manner))
            }
            Place::Bus(_) if manner.timeout.is_some() => {
                bail!("ask with --timeout: a bus of the gateway has the timeout of its configuration; leave it out")
            }
            Place::Bus(bus) => {
                let config = load(&manner.config)?;
                let Some(api) = access::running(&config).await? else {
                    let listen = config.listen;
                    bail!(
                        "ask bus {bus}: no gateway answers at {listen}; start it, or write the link, such as tcp://..."
                    )
                };
                let buses: Vec<&str> = config.modbus.iter().map(|bus| bus.name.as_str()).collect();
                if !buses.contains(&bus.as_str()) {
                    let there_are = if buses.is_empty() { "none".to_owned() } else { buses.join(", ") };
                    bail!(
                        "ask bus {bus}: {} has no such bus with devices; there are: {there_are}",
                        manner.config.display()
                    )
                }
                Ok(Asker::Gateway { api, bus: bus.clone() })
            }
        }
    }

    /// A link of our own, whoever else has it.
    pub(super) fn direct(link: &Link, manner: &Manner) -> Asker {
        let timeout = manner.timeout.unwrap_or(usual_timeout(link));
        let config =
            DirectConfig { link: link.clone(), timeout, connect_timeout: CONNECT_TIMEOUT, pause: manner.pause };
        Asker::Direct(Box::new(DirectBus::new(config)))
    }

    /// Registers, or bits as 0 and 1.
    pub(super) async fn read(&mut self, unit: u8, request: Request) -> Result<Vec<u16>, BusError> {
        match self {
            Asker::Direct(bus) => bus.read(unit, request).await,
            Asker::Gateway { api, bus } => {
                let Request { table, address, count } = request;
                let body = json!({ "bus": bus, "unit": unit, "table": table, "address": address, "count": count });
                let answer = told(api.post_slowly("/api/v1/modbus/read", &body).await)?;
                serde_json::from_value(answer["words"].clone()).map_err(|error| BusError::Down(error.to_string()))
            }
        }
    }

    /// What a unit says of itself.
    pub(super) async fn identify(&mut self, unit: u8) -> Result<Identification, BusError> {
        match self {
            Asker::Direct(bus) => bus.identify(unit).await,
            Asker::Gateway { api, bus } => {
                let body = json!({ "bus": bus, "unit": unit });
                let answer = told(api.post_slowly("/api/v1/modbus/identify", &body).await)?;
                Ok(identification(&answer))
            }
        }
    }
}

/// Longest wait for an answer where none is written.
pub(super) fn usual_timeout(link: &Link) -> Duration {
    if matches!(link, Link::Serial(_)) { SERIAL_TIMEOUT } else { NETWORK_TIMEOUT }
}

/// What the gateway says came of a question.
fn told(answer: anyhow::Result<(u16, Value)>) -> Result<Value, BusError> {
    let (status, answer) = answer.map_err(|error| BusError::Down(format!("{error:#}")))?;
    let text = |key: &str| answer[key].as_str().map(str::to_owned);
    if let Some(exception) = answer["exception"].as_u64().and_then(|number| u8::try_from(number).ok()) {
        return Err(BusError::Refused { exception });
    }
    if let Some(why) = text("no_answer") {
        return Err(BusError::NoAnswer(why));
    }
    if let Some(why) = text("down") {
        return Err(BusError::Down(why));
    }
    if status == 200 {
        return Ok(answer);
    }
    let message = answer.pointer("/error/message").and_then(Value::as_str).unwrap_or("no reason came");
    Err(BusError::Down(format!("the gateway answered {status}: {message}")))
}

fn identification(answer: &Value) -> Identification {
    let object = |object: &Value| {
        let number = u8::try_from(object["number"].as_u64()?).ok()?;
        Some((number, object["text"].as_str()?.to_owned()))
    };
    let objects = answer["objects"].as_array().map_or(&[][..], Vec::as_slice);
    Identification {
        objects: objects.iter().filter_map(object).collect(),
        server_id: serde_json::from_value(answer["server_id"].clone()).ok().flatten(),
    }
}

fn load(path: &Path) -> anyhow::Result<Config> {
    config::load(path, &ProcessEnvironment).or_else(|problems| {
        say_problems(&problems);
        bail!("read the configuration {}: it says where the gateway answers; name it with --config", path.display())
    })
}

/// Does not open a port that the running gateway has in use.
async fn refuse_owned(link: &Link, path: &Path) -> anyhow::Result<()> {
    // Without a sound configuration here there is no gateway here that we could know of; the lock of the port is left.
    let Ok(config) = config::load(path, &ProcessEnvironment) else { return Ok(()) };
    let Some(bus) = config.modbus.iter().find(|bus| is_same_port(&bus.link, link)) else { return Ok(()) };
    if access::running(&config).await?.is_some() {
        let name = &bus.name;
        bail!(
            "{link}: the running gateway polls it as bus {name}; write {name} instead of the link, and ask through it"
        )
    }
    Ok(())
}

fn is_same_port(one: &Link, other: &Link) -> bool {
    let file = |link: &Link| match link {
        Link::Serial(SerialConfig { port: PortName::Path(path), .. }) => path.canonicalize().ok(),
        _ => None,
    };
    file(one).is_some_and(|path| file(other) == Some(path))
}

/// What to look at when nothing answers, in English and Chinese.
pub(super) fn what_to_check(place: &Place) -> &'static str {
    match place {
        Place::Link(Link::Serial(_) | Link::RtuOverTcp { .. }) => {
            "check: power of the unit; A and B swapped (no harm in trying); 120 ohm at both ends of the line and nowhere \
             else; speed, parity and stop bits as on the unit (--baud 2400,4800,9600,19200 --parity none,even); unit \
             number; two units with one number; a longer --timeout\n\
             检查：设备供电；A、B 线是否接反（可对调试）；仅线路两端各接 120 欧终端电阻；波特率、校验位、停止位与设备一致\
             （--baud 2400,4800,9600,19200 --parity none,even）；从站地址；两台设备地址重复；加长 --timeout"
        }
        Place::Link(Link::Tcp(_) | Link::DialIn(_)) => {
            "check: unit number (devices of their own often have 1, 0 or 255); behind a gateway its serial side: speed, \
             parity, A and B, 120 ohm at both ends; --timeout longer than the gateway's own; how many connections the \
             device takes\n\
             检查：从站地址（独立设备多为 1、0 或 255）；若经网关，查其串口侧：波特率、校验位、A/B 线、两端 120 欧终端电阻；\
             --timeout 须长于网关自身超时；设备允许的连接数"
        }
        Place::Bus(_) => {
            "check: kerbside's own view of the bus (GET /api/v1/buses); unit number; power; A and B; 120 ohm at both \
             ends; speed and parity of the source in gateway.yaml\n\
             检查：网关所见总线状态（GET /api/v1/buses）；从站地址；供电；A/B 线；两端 120 欧终端电阻；gateway.yaml 中该数据源的\
             波特率与校验位"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::place;
    use super::*;

    #[test]
    fn the_gateways_answers_mean_what_a_bus_of_our_own_would_say() {
        let check = |status, answer, expected| assert_eq!(told(Ok((status, answer))), expected);
        check(200, json!({ "words": [7] }), Ok(json!({ "words": [7] })));
        let refused = json!({ "refused": "exception 2 (illegal data address)", "exception": 2 });
        check(200, refused, Err(BusError::Refused { exception: 2 }));
        check(200, json!({ "no_answer": "timeout" }), Err(BusError::NoAnswer("timeout".to_owned())));
        check(200, json!({ "down": "open /dev/x" }), Err(BusError::Down("open /dev/x".to_owned())));
        let gone = json!({ "error": { "message": "there is no bus \"x\"" } });
        check(404, gone, Err(BusError::Down("the gateway answered 404: there is no bus \"x\"".to_owned())));
        let said = Identification { objects: vec![(1, "QDY30A".to_owned())], server_id: Some(vec![1, 255]) };
        assert_eq!(identification(&crate::api::identification_view(&said)), said);
    }

    #[test]
    fn a_port_is_the_same_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("ttyUSB0"), folder.path().join("by-id"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let serial = |path: &Path| match place::parse(&format!("rtu://{}", path.display())) {
            Ok(Place::Link(link)) => link,
            other => panic!("{other:?}"),
        };
        assert!(is_same_port(&serial(&file), &serial(&link)));
        assert!(!is_same_port(&serial(&file), &serial(&folder.path().join("other"))));
    }

    #[test]
    fn what_to_check_is_said_in_both_languages() {
        for text in ["rtu:///dev/ttyS1", "rtu+tcp://kiosk:8899", "tcp://kiosk", "drain-bus"] {
            let hint = what_to_check(&place::parse(text).unwrap());
            assert!(hint.starts_with("check: ") && hint.contains("\n检查："), "{hint}");
        }
    }
}
