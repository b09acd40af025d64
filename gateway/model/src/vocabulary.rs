//! The field's standard names: kinds of device, points and conditions, with their Chinese terms.
//!
//! Profiles may declare more points and conditions; these carry titles and units so that detectors, dashboards and
//! texts work across vendors. `device-profiles/README.md` and `docs/glossary.md` list them for people.

use serde::{Deserialize, Serialize};

/// What a device is: the measurement in the database, and what people call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// 智能井盖
    ManholeCover,
    /// 智慧灯杆
    Pole,
    /// 排水液位计
    Drain,
    /// 气象站
    WeatherStation,
    /// 电表
    Meter,
    /// The gateway itself (网关).
    Gateway,
}

impl Kind {
    /// Every kind that a profile may have.
    pub const ALL: [Kind; 6] =
        [Kind::ManholeCover, Kind::Pole, Kind::Drain, Kind::WeatherStation, Kind::Meter, Kind::Gateway];

    /// The kind's name in profiles, JSON and the database.
    pub fn name(self) -> &'static str {
        match self {
            Kind::ManholeCover => "manhole_cover",
            Kind::Pole => "pole",
            Kind::Drain => "drain",
            Kind::WeatherStation => "weather_station",
            Kind::Meter => "meter",
            Kind::Gateway => "gateway",
        }
    }

    /// The kind in Chinese.
    pub fn name_zh(self) -> &'static str {
        match self {
            Kind::ManholeCover => "智能井盖",
            Kind::Pole => "智慧灯杆",
            Kind::Drain => "排水液位计",
            Kind::WeatherStation => "气象站",
            Kind::Meter => "电表",
            Kind::Gateway => "网关",
        }
    }
}

/// A text in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// The name in profiles.
    pub name: &'static str,
    /// Unit of a point, or empty.
    pub unit: &'static str,
    /// English.
    pub en: &'static str,
    /// Chinese.
    pub zh: &'static str,
}

const fn term(name: &'static str, unit: &'static str, en: &'static str, zh: &'static str) -> Term {
    Term { name, unit, en, zh }
}

/// Canonical points. The unit stands last in the name where there is one.
pub const POINTS: &[Term] = &[
    term("cover_open", "", "cover open", "井盖开启"),
    term("tilt_deg", "deg", "tilt", "倾斜角"),
    term("level_mm", "mm", "water level", "液位"),
    term("distance_mm", "mm", "distance to the water", "空高"),
    term("water_present", "", "water present", "水浸"),
    term("water_depth_mm", "mm", "depth of water", "积水深度"),
    term("flow_velocity_m_s", "m/s", "flow velocity", "流速"),
    term("leakage_ma", "mA", "leakage current", "漏电电流"),
    term("door_open", "", "door open", "柜门开启"),
    term("cabinet_water", "", "water in the cabinet", "机箱进水信号"),
    term("lamp_on", "", "lamp on", "灯亮"),
    term("dimming_percent", "%", "dimming", "调光"),
    term("battery_v", "V", "battery voltage", "电池电压"),
    term("battery_percent", "%", "battery charge", "电池电量"),
    term("signal_dbm", "dBm", "signal strength", "信号强度"),
    term("snr_db", "dB", "signal-to-noise ratio", "信噪比"),
    term("temperature_c", "degC", "temperature", "温度"),
    term("humidity_percent", "%RH", "relative humidity", "相对湿度"),
    term("pressure_kpa", "kPa", "air pressure", "气压"),
    term("wind_speed_m_s", "m/s", "wind speed", "风速"),
    term("wind_direction_deg", "deg", "wind direction", "风向"),
    term("rainfall_mm", "mm", "rainfall", "雨量"),
    term("rainfall_total_mm", "mm", "rainfall counted in all", "累计雨量"),
    term("rain_mm_h", "mm/h", "intensity of rain", "雨强"),
    term("pump_on", "", "pump running", "水泵运行"),
    term("illuminance_lx", "lx", "illuminance", "照度"),
    term("noise_db", "dB", "noise", "噪声"),
    term("pm2_5_ug_m3", "ug/m3", "PM2.5", "PM2.5"),
    term("pm10_ug_m3", "ug/m3", "PM10", "PM10"),
    term("ch4_lel_percent", "%LEL", "methane", "甲烷"),
    term("h2s_mg_m3", "mg/m3", "hydrogen sulphide", "硫化氢"),
    term("co_mg_m3", "mg/m3", "carbon monoxide", "一氧化碳"),
    term("o2_percent", "%VOL", "oxygen", "氧气"),
    term("voltage_v", "V", "voltage", "电压"),
    term("voltage_l1_v", "V", "voltage of phase L1", "L1 相电压"),
    term("voltage_l2_v", "V", "voltage of phase L2", "L2 相电压"),
    term("voltage_l3_v", "V", "voltage of phase L3", "L3 相电压"),
    term("current_l1_a", "A", "current of phase L1", "L1 相电流"),
    term("current_l2_a", "A", "current of phase L2", "L2 相电流"),
    term("current_l3_a", "A", "current of phase L3", "L3 相电流"),
    term("active_power_l1_w", "W", "active power of phase L1", "L1 相有功功率"),
    term("active_power_l2_w", "W", "active power of phase L2", "L2 相有功功率"),
    term("active_power_l3_w", "W", "active power of phase L3", "L3 相有功功率"),
    term("current_a", "A", "current", "电流"),
    term("active_power_w", "W", "active power", "有功功率"),
    term("apparent_power_va", "VA", "apparent power", "视在功率"),
    term("reactive_power_var", "var", "reactive power", "无功功率"),
    term("power_factor", "", "power factor", "功率因数"),
    term("frequency_hz", "Hz", "frequency", "频率"),
    term("energy_import_kwh", "kWh", "energy drawn", "正向电能"),
    term("energy_export_kwh", "kWh", "energy fed in", "反向电能"),
    term("energy_total_kwh", "kWh", "energy in all", "总电能"),
    term("vibration_count", "", "vibrations counted", "震动计数"),
    term("settlement_count", "", "settlements counted", "沉降计数"),
    term("wind_gust_m_s", "m/s", "wind gust", "阵风风速"),
    term("solar_radiation_w_m2", "W/m2", "solar radiation", "太阳辐射"),
    term("lightning_count", "", "lightning strikes counted", "雷击次数"),
    term("conductivity_us_cm", "uS/cm", "conductivity", "电导率"),
    term("co2_ppm", "ppm", "carbon dioxide", "二氧化碳"),
    term("tvoc_ug_m3", "ug/m3", "volatile organic compounds", "总挥发性有机物"),
    term("hcho_mg_m3", "mg/m3", "formaldehyde", "甲醛"),
    term("pulse_count", "", "pulses counted", "脉冲计数"),
    term("tamper", "", "tampered with", "防拆报警"),
];

/// A device's clock is off by more than its profile allows.
pub const CLOCK_DRIFT: &str = "clock_drift";
/// A device sends far more than it should.
pub const BABBLING: &str = "babbling";
/// The readings of a sensor are not good for long.
pub const SENSOR_FAULT: &str = "sensor_fault";
/// The gateway's own clock cannot be believed.
pub const CLOCK_UNSURE: &str = "clock_unsure";
/// A walk test runs: the devices in it open no cases.
pub const WALK_TEST: &str = "walk_test";

/// The mains are gone: whatever hangs on the device without a battery falls silent.
pub const MAINS_LOST: &str = "mains_lost";
/// A rain station is over its limit.
pub const HEAVY_RAIN: &str = "heavy_rain";
/// Water at several places that are near one another.
pub const STORM: &str = "storm";
/// The devices on one parent fell silent together.
pub const OUTAGE: &str = "outage";
/// Several covers near one another were opened.
pub const COVERS_OPENED: &str = "covers_opened";
/// The link of a source is down, and nobody hears its devices.
pub const SOURCE_DOWN: &str = "source_down";

/// Canonical conditions.
pub const CONDITIONS: &[Term] = &[
    term("displaced", "", "manhole cover open or displaced", "井盖开启或移位"),
    term("settled", "", "manhole cover settled or loose", "井盖沉降或松动"),
    term("surcharged", "", "drain surcharged", "排水管满溢"),
    term("surging", "", "water level rising fast", "水位急涨"),
    term("flooded", "", "standing water", "积水"),
    term("overflow_soon", "", "water about to reach the crown of the pipe", "水位即将到达管顶"),
    term("blocked", "", "drain blocked or draining slowly", "管道堵塞或排水不畅"),
    term("backwater", "", "water held back from downstream", "下游顶托"),
    term("level_creeping", "", "dry-weather level creeping up, silt or ground water", "旱天水位缓慢抬升（淤积或入渗）"),
    term("out_of_water", "", "level sensor out of the water", "液位探头离水或断流"),
    term("pump_stopped", "", "pump does not run although the water is high", "水位已到启泵水位而水泵未运行"),
    term("gas", "", "dangerous gas, do not enter", "有害气体超限，禁止下井"),
    term("leaking", "", "leakage current", "漏电"),
    term("tampered", "", "device tampered with or taken off", "设备被拆动"),
    term("flooded_and_silent", "", "silent since under water", "进水后失联"),
    term("tilted", "", "pole tilted", "灯杆倾斜"),
    term("insulation_weak", "", "insulation getting weak", "绝缘性能下降"),
    term("leaning", "", "pole leaning more and more", "灯杆逐渐倾斜"),
    term("cabinet_flooded", "", "water in the cabinet", "机箱进水"),
    term("cabinet_damp", "", "cabinet damp", "机箱受潮"),
    term("fire", "", "fire suspected", "疑似起火"),
    term("phase_lost", "", "one phase lost", "电源缺相"),
    term("contact_flapping", "", "contact flapping", "触点频繁抖动"),
    term("door_open", "", "cabinet door open", "柜门未关"),
    term("lamp_out", "", "lamp out", "灯具不亮"),
    term("overvoltage", "", "voltage too high", "电压过高"),
    term("undervoltage", "", "voltage too low", "电压过低"),
    term("overheated", "", "temperature too high", "温度过高"),
    term("strong_wind", "", "strong wind", "大风"),
    term(MAINS_LOST, "", "mains power lost", "市电中断"),
    term("noisy", "", "noise beyond the limit", "噪声超标"),
    term(HEAVY_RAIN, "", "heavy rain", "暴雨"),
    term("battery_low", "", "battery low", "电池电量低"),
    term("battery_ending", "", "battery near its end", "电池即将耗尽"),
    term("link_poor", "", "radio link getting worse", "无线链路变差"),
    term("sensor_stuck", "", "sensor reading does not move", "传感器读数不变"),
    term("unusual", "", "unusual readings", "读数异常"),
    term("silent", "", "device silent", "设备失联"),
    term(SENSOR_FAULT, "", "sensor faulty", "传感器故障"),
    term(BABBLING, "", "device sends too often", "上报过频"),
    term(CLOCK_DRIFT, "", "device clock wrong", "设备时钟不准"),
    term(CLOCK_UNSURE, "", "time of the gateway unsure", "网关时间不确定"),
    term("quota_exceeded", "", "store quota exceeded, telemetry dropped", "存储配额已满，遥测数据被丢弃"),
    term("telemetry_refused", "", "telemetry database refuses the gateway", "时序库拒绝网关写入"),
    term("undecoded_dropped", "", "undecoded frames dropped", "未解码报文被丢弃"),
    term("disk_low", "", "disk short of room", "磁盘空间不足"),
    term("disk_full", "", "disk was full, nothing acknowledged", "磁盘曾写满，期间未确认报文"),
    term("disk_failing", "", "disk refused writes, nothing acknowledged", "磁盘曾拒绝写入，期间未确认报文"),
    term("write_budget_exceeded", "", "day's write budget used up", "当日写入预算用完"),
    term(WALK_TEST, "", "walk test running, no cases from its devices", "现场核验进行中，所涉设备不产生案件"),
    term(STORM, "", "street flooding by a storm", "暴雨内涝"),
    term(OUTAGE, "", "devices on one parent silent together", "成片失联"),
    term(COVERS_OPENED, "", "covers near one another opened", "连片开盖"),
    term(SOURCE_DOWN, "", "link of a source down, its devices are not heard", "数据源中断，所属设备失去监测"),
    term("circuit_out", "", "lamps out on one circuit", "同一回路多灯不亮"),
    term("component_failed", "", "part of the gateway failed and is started again", "网关组件异常，正在自动重启"),
    term("store_damaged", "", "database was damaged and salvaged", "数据库曾损坏，已抢救"),
];

/// The canonical point of this name.
pub fn point(name: &str) -> Option<&'static Term> {
    POINTS.iter().find(|term| term.name == name)
}

/// The canonical condition of this name.
pub fn condition(name: &str) -> Option<&'static Term> {
    CONDITIONS.iter().find(|term| term.name == name)
}

/// Whether an authorised opening explains the condition. Gas, water and leakage are dangers under a permit too.
pub fn is_explained_by_permit(condition: &str) -> bool {
    matches!(condition, "displaced" | "settled" | "door_open" | "tampered")
}

/// What people on the spot must know of a condition that stands, in English and Chinese: it is put behind what its alarm
/// says, and behind what the case of any other condition of the device says.
pub fn warning(condition: &str) -> Option<(&'static str, &'static str)> {
    (condition == "gas").then_some(("do not enter", "禁止下井"))
}

/// Whether a person on the spot can bring the condition about: open the cover, shake the pole, wet the probe.
pub fn is_made_by_hand(condition: &str) -> bool {
    matches!(condition, "displaced" | "tilted" | "door_open" | "flooded" | "surcharged")
}
