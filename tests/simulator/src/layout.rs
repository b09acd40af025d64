//! Turns a number of covers, poles and drains into devices on streets, and those into the inventory's CSV.
//!
//! The district is invented: county code 410699 is not given to any county, and no city has all of these roads.
//! Pure; nothing is kept and there are no metrics.

use std::fmt::Write as _;
use std::time::Duration;

use crate::noise::{Noise, draw};

/// Roads from west to east.
const ROADS_ACROSS: [&str; 6] = ["清槐路", "柳岸街", "云溪路", "望澜街", "石渠路", "春涧街"];
/// Roads from south to north.
const ROADS_ALONG: [&str; 6] = ["鹤栖大道", "青禾路", "竹桥路", "晴岚大道", "古榆路", "星槎路"];
const CORNERS: [&str; 4] = ["东北角", "东南角", "西南角", "西北角"];
const SIDES: [&str; 4] = ["东侧", "南侧", "西侧", "北侧"];

const COUNTY: &str = "410699";
const SOUTH_WEST: (f64, f64) = (114.290_000, 35.740_000);
/// About 400 m on the ground.
const BLOCK_DEGREES: (f64, f64) = (0.004_5, 0.003_6);

/// Name of the source that MQTT devices are heard on.
pub const MQTT_SOURCE: &str = "broker";
/// Name of the source of the Modbus devices.
pub const MODBUS_SOURCE: &str = "pole-bus";

/// How often a cover reports when nothing happens.
pub(crate) const COVER_INTERVAL: Duration = Duration::from_secs(600);
/// How often a pole reports.
pub(crate) const POLE_INTERVAL: Duration = Duration::from_secs(120);
/// How often a drain reports in dry weather.
pub(crate) const DRAIN_INTERVAL: Duration = Duration::from_secs(60);
/// How often a drain reports in rain.
pub(crate) const DRAIN_INTERVAL_RAIN: Duration = Duration::from_secs(30);
const MODBUS_INTERVAL: Duration = Duration::from_secs(30);

/// A Modbus bus has addresses 1 to 247; more than these make no demonstration better.
const METERS_MAX: usize = 16;
const PROBES_MAX: usize = 8;

/// What a simulated device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// A manhole cover on MQTT.
    Cover,
    /// A smart pole on MQTT.
    Pole,
    /// A drain-level sensor on MQTT.
    Drain,
    /// An Eastron SDM120 meter on Modbus.
    Meter,
    /// A CWT weather station on Modbus.
    WeatherStation,
    /// A QDY30A level probe on Modbus.
    LevelProbe,
}

impl DeviceKind {
    /// Name of the shipped profile.
    pub fn profile(self) -> &'static str {
        match self {
            DeviceKind::Cover => "json-manhole-cover",
            DeviceKind::Pole => "json-pole",
            DeviceKind::Drain => "json-level",
            DeviceKind::Meter => "eastron-sdm120",
            DeviceKind::WeatherStation => "cwt-weather-500",
            DeviceKind::LevelProbe => "qdy30a-level",
        }
    }
}

/// One device of the district, as its inventory row has it.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedDevice {
    /// Device id.
    pub id: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Name of its source.
    pub source: &'static str,
    /// Device id on MQTT, unit number on Modbus.
    pub address: String,
    /// Topic that it publishes on; Modbus devices have none.
    pub topic: Option<String>,
    /// Name on the street.
    pub name: String,
    /// Longitude and latitude in degrees, WGS84.
    pub position: (f64, f64),
    /// Road text.
    pub place: String,
    /// 15-digit grid code.
    pub grid: String,
    /// 16-digit component code.
    pub component_code: String,
    /// Responsible unit.
    pub unit: &'static str,
    /// Height of the sensor above the invert in mm.
    pub mount_height_mm: Option<u32>,
    /// How often it reports or is polled.
    pub interval: Duration,
    /// Pole, feeder or catchment.
    pub parent: String,
}

impl SimulatedDevice {
    /// The Modbus unit number.
    pub fn modbus_unit(&self) -> Option<u8> {
        if self.source == MODBUS_SOURCE { self.address.parse().ok() } else { None }
    }
}

/// Lays out the devices, covers first, then poles, drains, meters, the weather station and probes.
pub(crate) fn lay_out(noise: Noise, covers: usize, poles: usize, drains: usize) -> Vec<SimulatedDevice> {
    let mut generator = noise.generator();
    let mut devices = Vec::with_capacity(covers + poles + drains + METERS_MAX + PROBES_MAX + 1);
    for number in 1..=covers {
        devices.push(cover(number, &mut generator));
    }
    for number in 1..=poles {
        devices.push(pole(number, &mut generator));
    }
    for number in 1..=drains {
        devices.push(drain(number, &mut generator));
    }
    devices.extend(modbus_devices(poles, drains, &mut generator));
    devices
}

fn modbus_devices(poles: usize, drains: usize, generator: &mut fastrand::Rng) -> Vec<SimulatedDevice> {
    let mut devices = Vec::new();
    for number in 1..=(poles / 5).clamp(1, METERS_MAX) {
        let spot = Spot::draw(number * 5, generator);
        let mut device = spot.device(DeviceKind::Meter, format!("EM-{number:03}"), "0116", "城管");
        device.name = format!("{}灯杆电表{number}号", spot.road());
        device.parent = if poles == 0 { String::new() } else { format!("SP-{:04}", (number * 5).min(poles)) };
        devices.push(device);
    }
    let spot = Spot::draw(14, generator);
    let mut station = spot.device(DeviceKind::WeatherStation, "WS-001".to_owned(), "0117", "城管");
    station.name = format!("{}灯杆气象站", spot.road());
    station.interval = Duration::from_secs(60);
    devices.push(station);
    for number in 1..=(drains / 5).clamp(1, PROBES_MAX) {
        let spot = Spot::draw(number * 7, generator);
        let mut device = spot.device(DeviceKind::LevelProbe, format!("LP-{number:03}"), "0104", "市政");
        device.name = format!("{}雨水井投入式液位计{number}号", spot.road());
        device.parent = spot.catchment();
        devices.push(device);
    }
    for (index, device) in devices.iter_mut().enumerate() {
        device.address = (index + 1).to_string();
    }
    devices
}

fn cover(number: usize, generator: &mut fastrand::Rng) -> SimulatedDevice {
    let (what, minor) = [("雨水井盖", "0103"), ("污水井盖", "0102"), ("上水井盖", "0101")][number % 3];
    let unit = ["市政", "市政", "环卫", "市政", "园林"][number % 5];
    let spot = Spot::draw(number, generator);
    let mut device = spot.device(DeviceKind::Cover, format!("MH-{number:04}"), minor, unit);
    device.name = format!("{}{what}{number}号", spot.road());
    device.topic = Some(crate::report::cover_topic(&spot.quarter(), &device.id));
    device.interval = COVER_INTERVAL;
    device.parent = spot.catchment();
    device
}

fn pole(number: usize, generator: &mut fastrand::Rng) -> SimulatedDevice {
    let unit = ["城管", "城管", "市政", "园林"][number % 4];
    let spot = Spot::draw(number, generator);
    let mut device = spot.device(DeviceKind::Pole, format!("SP-{number:04}"), "0118", unit);
    device.name = format!("{}智慧灯杆{number}号", spot.road());
    device.topic = Some(crate::report::pole_topic(&spot.quarter(), &device.id));
    device.interval = POLE_INTERVAL;
    device.parent = format!("F-{:02}", spot.across + 1);
    device
}

fn drain(number: usize, generator: &mut fastrand::Rng) -> SimulatedDevice {
    let spot = Spot::draw(number, generator);
    let mut device = spot.device(DeviceKind::Drain, format!("DL-{number:04}"), "0104", "市政");
    device.name = format!("{}雨水箅子液位计{number}号", spot.road());
    device.topic = Some(crate::report::drain_topic(&spot.quarter(), &device.id));
    device.interval = DRAIN_INTERVAL;
    device.mount_height_mm = Some(1_000 + 100 * generator.u32(0..10));
    device.parent = spot.catchment();
    device
}

/// A spot near a junction.
struct Spot {
    across: usize,
    along: usize,
    position: (f64, f64),
    place: String,
    serial: usize,
}

impl Spot {
    /// Numbers next to each other stand at different junctions.
    fn draw(number: usize, generator: &mut fastrand::Rng) -> Spot {
        let across = number % ROADS_ACROSS.len();
        let along = (number * 5 + number / ROADS_ACROSS.len()) % ROADS_ALONG.len();
        let near = (draw(generator, -0.3, 0.3), draw(generator, -0.3, 0.3));
        let position = (
            SOUTH_WEST.0 + (along as f64 + near.0) * BLOCK_DEGREES.0,
            SOUTH_WEST.1 + (across as f64 + near.1) * BLOCK_DEGREES.1,
        );
        let place = if number.is_multiple_of(3) {
            format!("{}{}号门前{}", ROADS_ACROSS[across], generator.u32(2..260), SIDES[number % 4])
        } else {
            format!("{}与{}交叉口{}", ROADS_ACROSS[across], ROADS_ALONG[along], CORNERS[number % 4])
        };
        Spot { across, along, position, place, serial: number }
    }

    fn road(&self) -> &'static str {
        ROADS_ACROSS[self.across]
    }

    /// Topic level of the quarter of the city.
    fn quarter(&self) -> String {
        format!("d{:02}", self.along / 2 + 1)
    }

    fn catchment(&self) -> String {
        format!("C-{:02}", self.across / 2 + 1)
    }

    fn device(&self, kind: DeviceKind, id: String, minor: &str, unit: &'static str) -> SimulatedDevice {
        let modbus = matches!(kind, DeviceKind::Meter | DeviceKind::WeatherStation | DeviceKind::LevelProbe);
        // Drains and probes share one component class, so the kind keeps their serial numbers apart.
        let serial = self.serial + kind as usize * 100_000;
        SimulatedDevice {
            address: id.clone(),
            id,
            kind,
            source: if modbus { MODBUS_SOURCE } else { MQTT_SOURCE },
            topic: None,
            name: String::new(),
            position: self.position,
            place: self.place.clone(),
            grid: format!(
                "{COUNTY}{:03}{:03}{:03}",
                self.across / 3 + 1,
                self.along / 2 + 1,
                1 + self.across % 3 * 2 + self.along % 2
            ),
            component_code: format!("{COUNTY}{minor}{serial:06}"),
            unit,
            mount_height_mm: None,
            interval: MODBUS_INTERVAL,
            parent: String::new(),
        }
    }
}

/// The inventory as CSV in UTF-8.
pub(crate) fn inventory_csv(devices: &[SimulatedDevice]) -> String {
    let mut text =
        "id,profile,source,address,name,lon,lat,datum,place,grid,component_code,unit,mount_height_mm,interval,parent\n"
            .to_owned();
    for device in devices {
        let mount = device.mount_height_mm.map(|height| height.to_string()).unwrap_or_default();
        writeln!(
            text,
            "{},{},{},{},{},{:.6},{:.6},wgs84,{},{},{},{},{mount},{}s,{}",
            device.id,
            device.kind.profile(),
            device.source,
            device.address,
            device.name,
            device.position.0,
            device.position.1,
            device.place,
            device.grid,
            device.component_code,
            device.unit,
            device.interval.as_secs(),
            device.parent,
        )
        .expect("writing to a string cannot fail");
    }
    text
}
