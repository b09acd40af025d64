//! From a captured JSON message to proposed points.

use anyhow::{Context as _, bail};
use kerbside_model::document::{Problems, likeness};
use kerbside_model::profile::{JsonPath, parse_profile_text};
use kerbside_model::{MAGNITUDE_MAX, vocabulary};
use serde_json::Value;

use super::templates::{SILENCE, head};

/// A message with more values is a log, not a report; the others are left to the person.
const POINTS_MAX: usize = 100;
/// Names that alike belong together.
const LIKENESS_MIN: f64 = 0.92;

/// Words of makers for canonical points, without separators and in small letters. What is not unambiguous is not here:
/// a battery of 87 is a percentage, of 3.6 a voltage.
const WORDS: &[(&str, &str)] = &[
    ("level", "level_mm"),
    ("waterlevel", "level_mm"),
    ("liquidlevel", "level_mm"),
    ("lvl", "level_mm"),
    ("distance", "distance_mm"),
    ("dist", "distance_mm"),
    ("airheight", "distance_mm"),
    ("depth", "water_depth_mm"),
    ("tilt", "tilt_deg"),
    ("angle", "tilt_deg"),
    ("inclination", "tilt_deg"),
    ("open", "cover_open"),
    ("coveropen", "cover_open"),
    ("lidopen", "cover_open"),
    ("dooropen", "door_open"),
    ("water", "water_present"),
    ("waterleak", "water_present"),
    ("immersion", "water_present"),
    ("rssi", "signal_dbm"),
    ("signal", "signal_dbm"),
    ("rsrp", "signal_dbm"),
    ("snr", "snr_db"),
    ("temp", "temperature_c"),
    ("temperature", "temperature_c"),
    ("hum", "humidity_percent"),
    ("humidity", "humidity_percent"),
    ("leakage", "leakage_ma"),
    ("leakcurrent", "leakage_ma"),
    ("voltage", "voltage_v"),
    ("current", "current_a"),
    ("power", "active_power_w"),
    ("frequency", "frequency_hz"),
    ("energy", "energy_import_kwh"),
    ("windspeed", "wind_speed_m_s"),
    ("winddirection", "wind_direction_deg"),
    ("rain", "rainfall_mm"),
    ("rainfall", "rainfall_mm"),
    ("lux", "illuminance_lx"),
    ("illuminance", "illuminance_lx"),
    ("noise", "noise_db"),
    ("pm25", "pm2_5_ug_m3"),
    ("pm10", "pm10_ug_m3"),
    ("ch4", "ch4_lel_percent"),
    ("h2s", "h2s_mg_m3"),
    ("o2", "o2_percent"),
    ("co", "co_mg_m3"),
    ("co2", "co2_ppm"),
    ("dimming", "dimming_percent"),
];
const BATTERY: &[&str] = &["batt", "battery", "bat", "vbat", "batteryvoltage", "batterylevel", "power_level"];
const TIMES: &[&str] = &["ts", "time", "timestamp", "datetime", "eventtime", "reporttime", "t"];
/// Above this, a number under a name of time is one: 2001 in seconds.
const TIME_MIN: f64 = 1e9;

/// A value in the message.
struct Leaf {
    keys: Vec<String>,
    value: Value,
}

struct Proposal {
    name: String,
    path: String,
    value: Value,
    is_guess: bool,
}

/// A profile that reads this message.
pub(super) fn from_message(name: &str, frame: &str) -> anyhow::Result<String> {
    let message: Value = serde_json::from_str(frame).context("read the frame as JSON")?;
    let mut leaves = Vec::new();
    collect(&message, &mut Vec::new(), &mut leaves);
    let time = leaves.iter().position(is_time);
    let time = time.map(|position| leaves.remove(position));
    let mut proposals: Vec<Proposal> = Vec::new();
    for leaf in leaves {
        if proposals.len() == POINTS_MAX {
            break;
        }
        proposals.extend(proposal(&leaf, &proposals));
    }
    if proposals.is_empty() {
        bail!("propose points: the frame holds no numbers and no true or false in an object");
    }
    let text = write(name, &message, time.as_ref(), &proposals);
    // A device time of long ago, or a number beyond reason, makes no sample that must hold.
    let problems = Problems::default();
    if parse_profile_text(name, &text, &problems).is_none() {
        let found: Vec<String> = problems.into_sorted().iter().map(ToString::to_string).collect();
        bail!("propose points of the frame: {}", found.join("\n"));
    }
    Ok(text)
}

/// Every value with the keys on the way to it, in the order of the message.
fn collect(value: &Value, keys: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
        // What stands in a list has no name of its own: only inside an object.
        Value::Array(items) if !keys.is_empty() => {
            items.iter().enumerate().map(|(position, value)| (position.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (key, child) in children {
        keys.push(key);
        if child.is_object() || child.is_array() {
            collect(child, keys, leaves);
        } else if keys.iter().all(|key| !key.is_empty()) {
            leaves.push(Leaf { keys: keys.clone(), value: child.clone() });
        }
        keys.pop();
    }
}

/// Small letters and digits alone.
fn word(key: &str) -> String {
    key.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

fn is_time(leaf: &Leaf) -> bool {
    let is_named = leaf.keys.last().is_some_and(|key| TIMES.contains(&word(key).as_str()));
    let is_text = leaf.value.as_str().is_some_and(|text| kerbside_model::Timestamp::parse(text).is_some());
    is_named && (is_text || leaf.value.as_f64().is_some_and(|number| number > TIME_MIN))
}

fn proposal(leaf: &Leaf, known: &[Proposal]) -> Option<Proposal> {
    let is_value = leaf.value.is_number() || leaf.value.is_boolean();
    let key = leaf.keys.last().filter(|_| is_value)?;
    let canonical = canonical(key, &leaf.value).filter(|name| known.iter().all(|other| other.name != *name));
    let is_guess = canonical.is_some();
    let mut name = canonical.map_or_else(|| own_name(&leaf.keys), str::to_owned);
    while known.iter().any(|other| other.name == name) {
        name.push('x');
    }
    let path = JsonPath(leaf.keys.clone()).to_string();
    // An address that a profile cannot write, such as an empty key.
    JsonPath::parse(&path).filter(|parsed| parsed.0 == leaf.keys)?;
    Some(Proposal { name, path, value: leaf.value.clone(), is_guess })
}

/// The canonical point that a key most likely means, when its values can be such.
fn canonical(key: &str, value: &Value) -> Option<&'static str> {
    let key = word(key);
    if BATTERY.contains(&key.as_str()) {
        let number = value.as_f64()?;
        return Some(if number <= 30.0 { "battery_v" } else { "battery_percent" });
    }
    let own = vocabulary::POINTS.iter().map(|term| (word(term.name), term.name));
    let words = WORDS.iter().map(|(maker, name)| ((*maker).to_owned(), *name)).chain(own);
    let mut best: Option<(f64, &'static str)> = None;
    for (maker, name) in words {
        // Short words are alike by chance.
        let likeness = if maker == key { 1.0 } else { likeness(&maker, &key) };
        let is_alike = likeness == 1.0 || (likeness >= LIKENESS_MIN && key.len() > 4);
        if is_alike && is_of_type(name, value) && best.is_none_or(|(known, _)| likeness > known) {
            best = Some((likeness, name));
        }
    }
    best.map(|(_, name)| name)
}

fn is_of_type(name: &str, value: &Value) -> bool {
    let is_boolean =
        matches!(name, "cover_open" | "door_open" | "water_present" | "lamp_on" | "cabinet_water" | "tamper");
    is_boolean == value.is_boolean()
}

/// A name of the key's own words, in the spelling of points.
fn own_name(keys: &[String]) -> String {
    let plain = |key: &str| {
        let mut name = String::new();
        for letter in key.chars() {
            match letter {
                letter if letter.is_ascii_uppercase() && !name.is_empty() && !name.ends_with('_') => {
                    name.push('_');
                    name.push(letter.to_ascii_lowercase());
                }
                letter if letter.is_ascii_alphanumeric() => name.push(letter.to_ascii_lowercase()),
                _ if !name.ends_with('_') && !name.is_empty() => name.push('_'),
                _ => {}
            }
        }
        name.trim_end_matches('_').to_owned()
    };
    let last = keys.last().map(|key| plain(key)).unwrap_or_default();
    // The element of a list is named after the list.
    let before = keys.len().checked_sub(2).map(|position| plain(&keys[position])).unwrap_or_default();
    let starts_well = last.starts_with(|first: char| first.is_ascii_lowercase());
    let name = match (starts_well, before.starts_with(|first: char| first.is_ascii_lowercase())) {
        (true, _) => last,
        (false, true) => format!("{before}_{last}").trim_end_matches('_').to_owned(),
        (false, false) => format!("value_{last}").trim_end_matches('_').to_owned(),
    };
    // `_q` at the end is kept for qualities.
    let name = if name.ends_with("_q") { format!("{name}x") } else { name };
    name.chars().take(60).collect()
}

fn write(name: &str, message: &Value, time: Option<&Leaf>, proposals: &[Proposal]) -> String {
    let has = |wanted: &str| proposals.iter().any(|proposal| proposal.name == wanted);
    let kind = match () {
        () if has("cover_open") => "manhole_cover",
        () if has("level_mm") || has("distance_mm") => "drain",
        () if has("wind_speed_m_s") => "weather_station",
        () if has("energy_import_kwh") => "meter",
        () => "pole",
    };
    let mut text =
        head(name, kind, "Proposed from a captured message: read every line, only you know what the device means.");
    text.push_str("payload:\n  format: json\n");
    if let Some(time) = time {
        let path = quoted(&JsonPath(time.keys.clone()).to_string());
        let unit = time_unit(&time.value);
        text.push_str(&format!("  time: {{path: {path}, unit: {unit}}}       # is this the device's own clock?\n"));
    }
    text.push_str("\npoints:\n");
    for Proposal { name, path, value, is_guess } in proposals {
        let unit = vocabulary::point(name).map(|term| term.unit).unwrap_or_default();
        let remark = match (is_guess, unit.is_empty()) {
            (true, false) => format!(" # guessed from the name; in {unit}? else write from_unit"),
            (true, true) => " # guessed from the name".to_owned(),
            (false, _) => " # a name of its own: is there a canonical one?".to_owned(),
        };
        text.push_str(&format!("  - name: {name}{remark}\n    path: {}\n", quoted(path)));
        if value.is_boolean() && vocabulary::point(name).is_none() {
            text.push_str("    type: boolean\n");
        }
        if value.is_number() {
            text.push_str("    # range: {min: 0, max: 100}    # outside is bad and raises nothing\n");
        }
    }
    text.push_str("\ndetectors:\n");
    if has("cover_open") {
        text.push_str(
            "  - condition: displaced\n    severity: critical\n    state: {point: cover_open, values: [true]}\n",
        );
    }
    if has("level_mm") {
        let limits = "threshold: {point: level_mm, above: 400, clear: 350}";
        text.push_str(&format!("  # Write beside each limit where it comes from.\n  - condition: surcharged\n    severity: major\n    {limits}\n    count: 2\n"));
    }
    text.push_str(SILENCE);
    let frame = message.to_string().replace('\'', "''");
    text.push_str(&format!("\nsamples:\n  - name: the captured message\n    json: '{frame}'\n    readings:\n"));
    for Proposal { name, value, .. } in proposals {
        let is_measure = value.as_f64().is_none_or(|number| number.abs() <= MAGNITUDE_MAX);
        let reading = if is_measure { value } else { &Value::Null };
        text.push_str(&format!("      {name}: {reading}\n"));
    }
    text.push_str("  - name: a message that was cut in half\n    text: '{\"'\n    error: not valid JSON\n");
    text
}

fn time_unit(value: &Value) -> &'static str {
    match value.as_f64() {
        None => "rfc3339",
        Some(number) if number > 1e17 => "ns",
        Some(number) if number > 1e14 => "us",
        Some(number) if number > 1e11 => "ms",
        Some(_) => "s",
    }
}

/// In quotes where YAML would read something else.
fn quoted(path: &str) -> String {
    let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
    let is_word = is_plain && path.starts_with(|first: char| first.is_ascii_alphabetic());
    let is_kept = !["true", "false", "null", "yes", "no", "on", "off"].contains(&path.to_ascii_lowercase().as_str());
    if is_word && is_kept { path.to_owned() } else { format!("'{}'", path.replace('\'', "''")) }
}
