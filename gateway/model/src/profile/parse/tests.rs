use std::time::Duration;

use super::*;
use crate::Severity;
use crate::profile::{
    Bits, GuardTest, Origin, RawValue, RegisterType, Rule, SampleExpectation, SampleInput, Side, ValueType,
};
use crate::reading::Value;

mod shipped;

const FILE: &str = "acme.yaml";

/// A profile that has no problem; tests bend it.
const GOOD: &str = r#"profile: acme-cover
version: 2
kind: manhole_cover
vendor: Acme
model: Cover 2
component_class: "0103"
interval: 1h
payload:
  format: json
  time: {path: ts, unit: ms}
points:
  - name: cover_open
    path: [open, state]
    map: {0: false, 1: true, "lid off": true}
    invalid: ["undefined", null, 255]
    required: true
  - name: tilt_deg
    path: tilt
    range: {min: 0, max: 180}
  - name: distance_mm
    path: object.distance
    from_unit: cm
    scale: 2
    offset: 1
  - name: level_mm
    mount_height_minus: distance_mm
  - name: lock
    type: enumeration
    path: lock
    map: {0: closed, 1: ajar}
conditions:
  - name: unlocked
    title: {en: lock open, zh: 锁未关}
    opens_case: true
detectors:
  - condition: displaced
    severity: critical
    state: {point: cover_open, values: [true]}
  - condition: displaced
    severity: critical
    threshold: {point: tilt_deg, above: 10, clear: 5}
    count: 2
    hold: 30s
    clear_hold: 1m
    when: [{point: cover_open, equals: false}, {point: level_mm, below: 100}]
  - condition: surging
    severity: major
    rate: {point: level_mm, rising: 60, per: 10m, clear: 20}
  - condition: sensor_stuck
    severity: notice
    flatline: {point: level_mm, for: 12h}
  - condition: unlocked
    severity: notice
    state: {point: lock, values: [ajar]}
  - condition: silent
    severity: minor
    silence: {missed: 3}
  - condition: displaced
    severity: notice
    forecast: {point: level_mm, rises_to: 400, within: 10m, least: 40, window: 1d}
  - condition: displaced
    severity: notice
    deviation: {point: level_mm, above: 4, least: 50}
    during: {hours: 22:00-06:00, weekdays: [workdays, sat], months: [11, 2], light: night}
  - condition: displaced
    severity: notice
    trend: {point: level_mm, falls_to: 10, within: 60d, total: 40}
  - condition: displaced
    severity: notice
    baseline: {point: tilt_deg, above: 9, clear: 4}
  - condition: displaced
    severity: notice
    frequency: {point: tilt_deg, hits: {by: 5, back: 3}}
  - condition: displaced
    severity: notice
    battery: {point: level_mm, empty: 10, within: 60d}
  - condition: displaced
    severity: notice
    losses: {above_percent: 20, clear_percent: 10}
  - condition: displaced
    severity: notice
    amount: {point: level_mm, above: 50, clear: 30, within: 6h, counts: total}
  - condition: displaced
    severity: notice
    flapping: {point: cover_open, changes: 6, within: 10m}
  - condition: displaced
    severity: notice
    shift: {point: tilt_deg, direction: rising, least: 0.5}
  - condition: displaced
    severity: notice
    combination: {all: [{point: tilt_deg, above: 9}, {point: cover_open, equals: true}]}
  - condition: displaced
    severity: notice
    expression: {cel: tilt_deg > 9.0 && cover_open}
  - condition: displaced
    severity: notice
    spike: {point: tilt_deg, by: 5, times: 3, window: 6h}
  - condition: displaced
    severity: notice
    load: {point: level_mm, switches: [cover_open], below: 20, clear: 50, least: 5}
  - condition: displaced
    severity: notice
    unusual: {point: level_mm, warm_up: 2016}
samples:
  - name: closed
    json: {ts: 1586400800535, open: 0, tilt: 1.2}
    mount_height_mm: 3000
    readings: {cover_open: false, tilt_deg: 1.2, lock: null}
    observed_at: 2020-04-09T02:53:20.535Z
  - name: cut in half
    text: '{"open": tr'
    error: not valid JSON
"#;

/// A profile of registers that has no problem.
const REGISTERS: &str = r"profile: acme-meter
version: 1
kind: meter
vendor: Acme
model: Meter
payload: {format: registers}
points:
  - name: voltage_v
    register: {table: input, address: 0x0000, type: f32}
  - name: door_open
    register: {table: holding, address: 4, bit: 3}
  - name: lamp_on
    register: {table: holding, address: 4, bit: 4}
detectors:
  - condition: silent
    severity: minor
    silence: {after: 2h}
samples:
  - name: good
    registers: {input: {0x0000: [0x4366, 0x8000]}, holding: {4: [-8]}}
    readings: {voltage_v: 230.5, door_open: true}
  - name: no answer
    registers: {failures: [{table: input, address: 0, count: 2, cause: timeout}]}
    readings: {voltage_v: null}
";

fn read(text: &str) -> (Option<Profile>, Vec<Problem>) {
    let problems = Problems::default();
    let profile = parse_profile_text(FILE, text, &problems);
    (profile, problems.into_sorted())
}

fn read_good(text: &str) -> Profile {
    let (profile, problems) = read(text);
    assert!(problems.is_empty(), "{}", problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"));
    profile.unwrap()
}

/// Bends a profile and expects exactly one problem near that place, beginning with this key, value and text.
#[track_caller]
pub(super) fn check_in(base: &str, from: &str, to: &str, expected: &str, mend: &str) {
    assert_eq!(base.matches(from).count(), 1, "{from:?} must stand once in the profile");
    let (profile, problems) = read(&base.replace(from, to));
    let shown = problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(problems.len(), 1, "expected one problem, found:\n{shown}");
    assert_eq!(profile, None);
    let problem = &problems[0];
    assert!(shown.starts_with(&format!("{FILE}:{}: {expected}", problem.line)), "{shown}");
    assert!(!problem.mend.is_empty() && problem.mend.contains(mend), "{shown}");
    let place = base[..base.find(from).unwrap()].lines().count();
    let near = place.saturating_sub(4)..=place + to.lines().count() + 2;
    assert!(near.contains(&problem.line), "line {} is not near {place}", problem.line);
}

#[track_caller]
fn check(from: &str, to: &str, expected: &str, mend: &str) {
    check_in(GOOD, from, to, expected, mend);
}

#[test]
fn a_profile_is_read_with_its_points_detectors_and_samples() {
    let profile = read_good(GOOD);
    assert_eq!((profile.name.as_str(), profile.version, profile.kind), ("acme-cover", 2, Kind::ManholeCover));
    assert_eq!(profile.interval, Some(Duration::from_secs(3_600)));
    let PayloadFormat::Json(DocumentFormat { time: Some(time), .. }) = &profile.payload else {
        panic!("{:?}", profile.payload)
    };
    assert_eq!((time.path.to_string().as_str(), time.unit), ("ts", TimeUnit::Milliseconds));
    assert_eq!((time.zone.as_deref(), time.drift_max), (None, Duration::from_secs(600)));

    let cover = &profile.points[0];
    assert_eq!(cover.value_type, ValueType::Boolean);
    let paths = ["open", "state"].map(|path| JsonPath::parse(path).unwrap());
    assert_eq!(cover.origin, Origin::Json(paths.to_vec()));
    let map = [
        (RawValue::Number(0.0), Value::Boolean(false)),
        (RawValue::Number(1.0), Value::Boolean(true)),
        (RawValue::Text("lid off".to_owned()), Value::Boolean(true)),
    ];
    assert_eq!(cover.map, map);
    let invalid = [RawValue::Text("undefined".to_owned()), RawValue::Null, RawValue::Number(255.0)];
    assert_eq!(cover.invalid, invalid);
    assert!(cover.required);
    assert_eq!(profile.points[1].unit, "deg");
    // cm doubled plus 1 cm, in mm.
    assert_eq!((profile.points[2].scale, profile.points[2].offset), (20.0, 10.0));
    assert_eq!(profile.points[3].origin, Origin::MountHeightMinus(2));

    let conditions: Vec<(&str, bool)> = profile.conditions.iter().map(|it| (it.name.as_ref(), it.opens_case)).collect();
    let expected = [
        ("displaced", true),
        ("surging", true),
        ("sensor_stuck", false),
        ("unlocked", true),
        ("silent", true),
        ("babbling", false),
        ("clock_drift", false),
        ("sensor_fault", false),
    ];
    assert_eq!(conditions, expected);
    assert_eq!(profile.conditions[0].title_zh, "井盖开启或移位");
    assert_eq!(profile.conditions[3].title, "lock open");
}

#[test]
fn detectors_carry_their_rules_guards_and_defaults() {
    let profile = read_good(GOOD);
    let tilt = &profile.detectors[1];
    assert_eq!(tilt.rule, Rule::Threshold { side: Side::Above, raise: 10.0, clear: 5.0, approach: None });
    assert_eq!((tilt.condition, tilt.point, tilt.severity), (0, Some(1), Severity::Critical));
    let times = (tilt.hold, tilt.count, tilt.clear_hold);
    assert_eq!(times, (Duration::from_secs(30), 2, Duration::from_secs(60)));
    assert_eq!(tilt.when[0].test, GuardTest::Equals(Value::Boolean(false)));
    assert_eq!((tilt.when[1].point, &tilt.when[1].test), (3, &GuardTest::Below(100.0)));

    let surge = &profile.detectors[2];
    let Rule::Rate { gap_max, side: Side::Above, .. } = surge.rule else { panic!("{:?}", surge.rule) };
    assert_eq!(gap_max, Duration::from_secs(6_000), "ten times `per`");
    assert_eq!((surge.hold, surge.count, surge.clear_hold), (Duration::ZERO, 1, Duration::ZERO));
    let silent = &profile.detectors[5];
    let plain = Rule::Silence { after: None, missed: 3.0, habit: None, rise: None };
    assert_eq!((silent.point, &silent.rule), (None, &plain));

    let mut rules: Vec<&str> = profile.detectors.iter().map(|detector| detector.rule.name()).collect();
    rules.sort_unstable();
    rules.dedup();
    let mut names = detector_rule_names().to_vec();
    names.sort_unstable();
    assert_eq!(rules, names);
}

#[test]
fn samples_carry_the_frame_as_it_would_arrive() {
    let profile = read_good(GOOD);
    let SampleInput::Text(text) = &profile.samples[0].input else { panic!("{:?}", profile.samples[0]) };
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(json, serde_json::json!({"ts": 1_586_400_800_535_i64, "open": 0, "tilt": 1.2}));
    let SampleExpectation::Readings { values, observed_at, .. } = &profile.samples[0].expect else { panic!() };
    assert_eq!(observed_at.unwrap().as_millis(), 1_586_400_800_535);
    assert_eq!(values[2], ("lock".to_owned(), None));
    assert_eq!(profile.samples[1].expect, SampleExpectation::Error("not valid JSON".to_owned()));

    let meter = read_good(REGISTERS);
    let SampleInput::Registers(read) = &meter.samples[0].input else { panic!() };
    assert_eq!(read.blocks[0].words, [0xFFF8], "words may be written with a sign");
    assert_eq!((read.blocks[1].address, read.blocks[1].words.as_slice()), (0, [0x4366, 0x8000].as_slice()));
    let SampleInput::Registers(read) = &meter.samples[1].input else { panic!() };
    assert_eq!((read.failures[0].count, read.failures[0].cause.as_str()), (2, "timeout"));
    let PayloadFormat::Registers(format) = &meter.payload else { panic!("{:?}", meter.payload) };
    assert_eq!((format.gap_max, format.registers_max, format.bits_max), (125, 60, 2_000));
    let Origin::Register(field) = &meter.points[1].origin else { panic!() };
    assert_eq!((field.value, field.address), (RegisterType::U16, 4));
    assert_eq!(field.bits, Some(Bits { from: 3, count: 1 }));
}

#[test]
fn hexadecimal_frames_are_bytes() {
    let profile = read_good(&GOOD.replace("text: '{\"open\": tr'", "hex: 01 75 5c 03 FF"));
    assert_eq!(profile.samples[1].input, SampleInput::Bytes(vec![0x01, 0x75, 0x5C, 0x03, 0xFF]));
}

#[test]
fn the_words_true_and_null_as_keys_of_a_map_stand_for_the_value_and_for_the_word() {
    let profile =
        read_good(&GOOD.replace("{0: false, 1: true, \"lid off\": true}", "{false: false, true: true, null: false}"));
    let raws: Vec<&RawValue> = profile.points[0].map.iter().map(|(raw, _)| raw).collect();
    let text = |word: &str| RawValue::Text(word.to_owned());
    let expected = [
        &RawValue::Boolean(false),
        &text("false"),
        &RawValue::Boolean(true),
        &text("true"),
        &RawValue::Null,
        &text("null"),
    ];
    assert_eq!(raws, expected);
}

#[test]
fn all_problems_of_a_profile_are_reported_at_once_each_with_its_line() {
    let bad = GOOD
        .replace("kind: manhole_cover", "kind: manhole")
        .replace("interval: 1h", "interval: hourly")
        .replace("{min: 0, max: 180}", "{min: 180, max: 0}")
        .replace("mount_height_minus: distance_mm", "mount_height_minus: distance")
        .replace("{point: tilt_deg, above: 10, clear: 5}", "{point: tilt, above: 10, clear: 15}")
        .replace("    severity: notice\n    flatline", "    flatline")
        .replace("values: [ajar]", "values: [ayar]")
        .replace("vendor: Acme", "vendr: Acme");
    let (profile, problems) = read(&bad);
    assert_eq!(profile, None);
    let found: Vec<(usize, &str, &str)> =
        problems.iter().map(|problem| (problem.line, problem.key.as_str(), problem.value.as_str())).collect();
    let line_of = |part: &str| bad.lines().position(|line| line.contains(part)).unwrap() + 1;
    let expected = [
        (1, "vendor", ""),
        (line_of("kind: manhole"), "kind", "manhole"),
        (line_of("vendr"), "vendr", ""),
        (line_of("hourly"), "interval", "hourly"),
        (line_of("180"), "points[1].range", "180 to 0"),
        (line_of("mount_height_minus"), "points[3].mount_height_minus", "distance"),
        (line_of("above"), "detectors[1].threshold.clear", "15"),
        (line_of("above"), "detectors[1].threshold.point", "tilt"),
        (line_of("condition: sensor_stuck"), "detectors[3].severity", ""),
        (line_of("ayar"), "detectors[4].state.values[0]", "ayar"),
    ];
    let shown = problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(found, expected, "{shown}");
    assert!(problems.iter().all(|problem| problem.file == FILE && !problem.mend.is_empty()), "{shown}");
    for mend in
        ["did you mean manhole_cover?", "did you mean vendor?", "did you mean distance_mm?", "did you mean ajar?"]
    {
        assert!(shown.contains(mend), "{mend} is missing in\n{shown}");
    }
}

#[test]
fn the_head_of_a_profile_says_what_is_wrong_with_it() {
    check("profile: acme-cover\n", "profile: Acme_Cover\n", "profile = \"Acme_Cover\": not a name", "small letters");
    check("version: 2", "version: 0", "version = \"0\": not a whole number from 1", "");
    check("\"0103\"", "\"01-03\"", "component_class = \"01-03\": not a component class", "digits");
    check("interval: 1h", "interval: 0s", "interval = \"0\": a device cannot report all the time", "how often");
    check("unit: ms", "unit: min", "payload.time.unit = \"min\": not one of the known words", "rfc3339");
    check(
        "unit: ms",
        "unit: local, zone: Asia/Pekin",
        "payload.time.zone = \"Asia/Pekin\": there is no",
        "Asia/Shanghai",
    );
    check("format: json", "format: jsn", "payload.format = \"jsn\": not one of the known words", "did you mean json?");
    check("format: json", "format: json\n  gap_max: 3", "payload.gap_max: this key is not known", "");
    check("time: {path: ts, unit: ms}", "time: {path: ts}", "payload.time.unit: this key is missing", "auto");
}

#[test]
fn a_text_that_is_no_profile_is_one_problem() {
    for (text, expected) in [("- a\n- b\n", "a list stands where"), ("points: [1, 2\n", "not valid YAML")] {
        let (profile, problems) = read(text);
        assert_eq!(profile, None);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].what.contains(expected), "{}", problems[0]);
    }
    let (profile, problems) = read("");
    assert_eq!(profile, None);
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["kind", "model", "payload", "points", "profile", "samples", "vendor", "version"]);
}

#[test]
fn a_point_says_what_is_wrong_with_it() {
    check("path: tilt\n", "path: a..b\n", "points[1].path = \"a..b\": not a place", "with dots");
    check("path: tilt\n", "path: tilt\n    rnage: 3\n", "points[1].rnage: this key is not known", "range?");
    check("    path: tilt\n", "", "points[1].path: this key is missing", "path: tilt");
    check(
        "path: tilt\n",
        "path: tilt\n    unit: rad\n",
        "points[1].unit = \"rad\": tilt_deg is in deg",
        "leave `unit` out",
    );
    check("min: 0, max: 180", "min: 0", "points[1].range.max: this key is missing", "both ends");
    check(
        "from_unit: cm",
        "unit: cm",
        "points[2].unit = \"cm\": distance_mm is in mm in every profile",
        "from_unit: cm",
    );
    check("from_unit: cm", "from_unit: V", "points[2].from_unit = \"V\": it does not turn into \"mm\"", "cm");
    check("scale: 2", "scale: 0", "points[2].scale = \"0\": every value would be the same", "");
    check("{0: false, 1", "{0: no, 1", "points[0].map.0 = \"no\": neither true nor false", "");
    check("required: true", "range: {min: 0, max: 1}", "points[0].range: only a number has a range", "");
    check("required: true", "required: yes", "points[0].required = \"yes\": neither true nor false", "");
}

#[test]
fn a_canonical_point_keeps_its_type() {
    let text = GOOD.replace("from_unit: cm\n    scale: 2\n    offset: 1\n", "type: boolean\n");
    let shown = read(&text).1.iter().map(Problem::to_string).collect::<String>();
    assert!(shown.contains("points[2].type = \"boolean\": distance_mm is a number in every profile"), "{shown}");
    assert_eq!(read_good(GOOD).points[0].value_type, ValueType::Boolean, "without being told");
}

#[test]
fn an_enumeration_needs_its_labels_and_a_computed_point_has_no_raw_value() {
    check("path: lock\n", "path: lock\n    scale: 2\n", "points[4]: only a number has scale", "type: number");
    check("{0: closed, 1: ajar}", "[closed, ajar]", "points[4].map: not a map", "{0: false");
    let computed = "mount_height_minus: distance_mm\n";
    check(
        computed,
        "mount_height_minus: distance\n",
        "points[3].mount_height_minus = \"distance\": there is no",
        "distance_mm?",
    );
    check(
        computed,
        "mount_height_minus: tilt_deg\n",
        "points[3].mount_height_minus = \"tilt_deg\": a mount height in mm",
        "unit mm",
    );
    check(
        computed,
        "mount_height_minus: level_mm\n",
        "points[3].mount_height_minus = \"level_mm\": this point is computed",
        "",
    );
    check(
        computed,
        "mount_height_minus: distance_mm\n    scale: 2\n",
        "points[3].scale: a computed point has no raw value",
        "",
    );
    check(
        computed,
        "mount_height_minus: distance_mm\n    path: level\n",
        "points[3].mount_height_minus: `path` says already",
        "",
    );
}

#[test]
fn names_of_points_are_unique_plain_and_not_those_of_qualities() {
    let check =
        |to: &str, expected: &str, mend: &str| check("conditions:\n", &format!("{to}conditions:\n"), expected, mend);
    check("  - {name: tilt_deg, path: x}\n", "points[5].name = \"tilt_deg\": another point has this name", "");
    check(
        "  - {name: Tilt-2, path: x}\n",
        "points[5].name = \"Tilt-2\": not a name that every database takes",
        "level_mm",
    );
    check("  - {name: 2tilt, path: x}\n", "points[5].name = \"2tilt\": not a name", "a letter first");
    check("  - {name: lock_q, path: x}\n", "points[5].name = \"lock_q\": names with _q", "");
    check("  - {path: x}\n", "points[5].name: this key is missing", "cover_open");
    check(
        "  - {name: x, register: {table: coil, address: 1}}\n",
        "points[5].register: the payload's format is json",
        "path:",
    );
}

#[test]
fn a_register_point_says_what_is_wrong_with_it() {
    let check = |from: &str, to: &str, expected: &str, mend: &str| check_in(REGISTERS, from, to, expected, mend);
    let voltage = "{table: input, address: 0x0000, type: f32}";
    let at = |to: &str, expected: &str, mend: &str| {
        check(voltage, to, &format!("points[0].register{expected}"), mend);
    };
    at("{table: input, address: 0, type: f128}", ".type = \"f128\": not one of the known words", "f32");
    at("{table: input, address: 65536, type: f32}", ".address = \"65536\": not a whole number from 0 to 65535", "");
    at("{table: input, address: 0xFFFF, type: f32}", ".address = \"65535\": its last register lies behind", "0-based");
    at("{table: input, address: 0, type: f32, bit: 1}", ".bit: only a whole number has bits", "type");
    at("{table: input, address: 0, type: f32, order: acbd}", ".order = \"acbd\": not an order of 4 bytes", "cdab");
    at("{address: 0, type: f32}", ".table: this key is missing", "function 4");
    at("{table: input, type: f32}", ".address: this key is missing", "0-based");
    at("{table: coil, address: 1, bit: 1}", ".bit: a coil or discrete input is one bit", "");
    at("{table: coil, address: 1, type: i16}", ".type: a coil or discrete input is one bit", "");
    check("bit: 3", "bit: 16", "points[1].register.bit = \"16\": not a whole number from 0 to 15", "");
    check(
        "{table: holding, address: 4, bit: 4}",
        "{table: holding, address: 3, type: u32}",
        "points[2].register: its registers overlap those of door_open",
        "two registers",
    );
    check(
        "{table: holding, address: 4, bit: 4}",
        "{table: holding, address: 4, type: f16}",
        "points[2].register: its registers overlap",
        "overlap: allowed",
    );
    check(
        &format!("register: {voltage}"),
        "path: volt",
        "points[0].path: the payload's format is registers",
        "register:",
    );
    check("format: registers", "format: registers, registers_max: 126", "payload.registers_max = \"126\"", "125");
}

#[test]
fn a_detector_says_what_is_wrong_with_it() {
    let threshold = "{point: tilt_deg, above: 10, clear: 5}";
    let at = |to: &str, expected: &str, mend: &str| {
        check(threshold, to, &format!("detectors[1].threshold{expected}"), mend);
    };
    at("{point: tilt, above: 10, clear: 5}", ".point = \"tilt\": there is no point", "did you mean tilt_deg?");
    at(
        "{point: cover_open, above: 10, clear: 5}",
        ".point = \"cover_open\": `threshold` needs a number",
        "values: [true]",
    );
    at("{point: tilt_deg, above: 10, clear: 10}", ".clear = \"10\": this is not on the good side of above 10", "less");
    at("{point: tilt_deg, below: 10, clear: 5}", ".clear = \"5\": this is not on the good side of below 10", "more");
    at("{point: tilt_deg, above: 10}", ".clear: this key is missing", "");
    at("{point: tilt_deg, clear: 5}", ": one of above, below is needed", "above");
    at("{point: tilt_deg, above: 10, below: 2, clear: 5}", ": one of above, below is needed", "");
    at("{point: tilt_deg, above: 200, clear: 5}", ".above = \"200\": values outside the point's range", "");
    at("{above: 10, clear: 5}", ".point: this key is missing", "");
    let state = "{point: lock, values: [ajar]}";
    check(
        state,
        "{point: tilt_deg, values: [1]}",
        "detectors[4].state.point = \"tilt_deg\": a number has no states",
        "threshold",
    );
    check(
        state,
        "{point: lock, values: [opn]}",
        "detectors[4].state.values[0] = \"opn\": lock never has this",
        "closed, ajar",
    );
    check(state, "{point: lock, values: []}", "detectors[4].state.values: there is no value", "");
    let guard = "{point: cover_open, equals: false}";
    check(
        guard,
        "{point: cover_open, above: 1}",
        "detectors[1].when[0].point = \"cover_open\": `above` needs a number",
        "",
    );
    check(
        guard,
        "{point: cover_open}",
        "detectors[1].when[0]: one of equals, above, below, lost, unchanged, known is needed",
        "",
    );
    check(
        guard,
        "{point: cover_open, known: true}",
        "detectors[1].when[0].known = \"true\": there is no",
        "known: false",
    );
    check(
        guard,
        "{point: cover_open, unchanged: false}",
        "detectors[1].when[0].unchanged = \"false\": there is no",
        "",
    );
    check(guard, "{point: cover_open, equals: shut}", "detectors[1].when[0].equals = \"shut\": neither", "");
    check("count: 2", "count: 0", "detectors[1].count = \"0\": not a whole number", "");
    check(
        "severity: critical\n    threshold",
        "severity: fatal\n    threshold",
        "detectors[1].severity = \"fatal\"",
        "critical",
    );
}

#[test]
fn a_condition_does_not_excuse_itself() {
    let itself = ": this condition would excuse itself";
    let state = "state: {point: lock, values: [ajar]}";
    let own = format!("{state}\n    unless: [unlocked]");
    check(state, &own, &format!("detectors[4].unless = \"unlocked\"{itself}"), "for ever");
    let silent = GOOD.replace(state, &format!("{state}\n    unless: [silent]"));
    let other = "silence: {missed: 3}\n    unless: [unlocked]";
    check_in(&silent, "silence: {missed: 3}", other, &format!("detectors[5].unless = \"unlocked\"{itself}"), "");
}

#[test]
fn rates_flatlines_and_silences_say_what_is_wrong_with_them() {
    let rate = "rate: {point: level_mm, rising: 60, per: 10m, clear: 20}";
    let at = |to: &str, expected: &str, mend: &str| check(rate, to, &format!("detectors[2]{expected}"), mend);
    at("rate: {point: level_mm, rising: 60, clear: 20}", ".rate.per: this key is missing", "per: 1m");
    at(
        "rate: {point: level_mm, rising: 60, per: 10m, clear: 60}",
        ".rate.clear = \"60\": not from 0 to less than 60",
        "",
    );
    at("rate: {point: level_mm, falling: 60, rising: 60, per: 10m, clear: 6}", ".rate: one of rising, falling", "");
    at(
        "rate: {point: level_mm, rising: 60, per: 1m, clear: 20}",
        ".rate.gap_max = \"600s\": the device reports every 3600s",
        "",
    );
    at(
        "rate: {point: lock, rising: 60, per: 10m, clear: 20}",
        ".rate.point = \"lock\": `rate` needs a number",
        "state",
    );
    let flatline = "{point: level_mm, for: 12h}";
    check(flatline, "{point: level_mm}", "detectors[3].flatline.for: this key is missing", "12h");
    check(
        flatline,
        "{point: level_mm, for: 1h}",
        "detectors[3].flatline.for = \"3600s\": the device does not report",
        "",
    );
    check(flatline, "{point: level_mm, for: 12h, tolerance: -1}", "detectors[3].flatline.tolerance = \"-1\"", "");
    let forever = "detectors[0].silence.missed: the profile does not say how often";
    check_in(REGISTERS, "{after: 2h}", "{missed: 3}", forever, "after: 2h");
    check("{missed: 3}", "{}", "detectors[5].silence: one of `after` and `missed` is needed", "2h");
    check("{missed: 3}", "{missed: 3, after: 2h}", "detectors[5].silence: one of `after` and `missed`", "");
    check("{missed: 3}", "{missed: 0.5}", "detectors[5].silence.missed: a device is not silent before", "");
    check("{missed: 3}", "{missed: 3}\n    count: 2", "detectors[5].count = \"2\": silence has no readings", "");
    check(
        "silence: {missed: 3}",
        "hold: 1m",
        "detectors[5]: this detector has no rule",
        "threshold, state, rate, flatline, silence",
    );
    check(
        "silence: {missed: 3}",
        "silence: {missed: 3}\n    flatline: {point: tilt_deg, for: 1d}",
        "detectors[5]",
        "two detectors",
    );
}

#[test]
fn conditions_are_canonical_or_declared_with_titles() {
    check(
        "condition: surging",
        "condition: surgin",
        "detectors[2].condition = \"surgin\": this condition is not known",
        "did you mean surging?",
    );
    check(
        "  - condition: surging\n    severity",
        "  - severity",
        "detectors[2].condition: this key is missing",
        "displaced",
    );
    check("    title: {en: lock open, zh: 锁未关}\n", "", "conditions[0].title: this key is missing", "both languages");
    check("{en: lock open, zh: 锁未关}", "{en: lock open}", "conditions[0].title.zh: this key is missing", "zh:");
    check(
        "detectors:\n",
        "  - {name: settled}\ndetectors:\n",
        "conditions[1].name = \"settled\": no detector finds",
        "",
    );
    let quiet = read_good(&GOOD.replace("detectors:\n", "  - {name: displaced, opens_case: false}\ndetectors:\n"));
    assert!(!quiet.conditions[0].opens_case);
    assert_eq!(quiet.conditions[0].title, "manhole cover open or displaced", "the canonical title stays");
}

#[test]
fn a_sample_says_what_is_wrong_with_it() {
    let json = "json: {ts: 1586400800535, open: 0, tilt: 1.2}";
    check(json, "json: '{\"open\": tr'", "samples[0].json = \"{\\\"open\\\": tr\": not valid JSON", "text:");
    check(json, "", "samples[0].json: this key is missing", "hex:");
    check(json, "registers: {holding: {1: [2]}}", "samples[0].registers: the payload's format is json", "");
    check("text: '{\"open\": tr'", "hex: 01 75 5", "samples[1].hex = \"01 75 5\": not hexadecimal bytes", "two digits");
    check("text: '{\"open\": tr'", "text: a\n    hex: 01", "samples[1].hex: `text` holds the frame already", "");
    check("tilt_deg: 1.2", "tilt: 1.2", "samples[0].readings.tilt = \"tilt\": there is no point", "tilt_deg?");
    check(
        "tilt_deg: 1.2",
        "tilt_deg: 181",
        "samples[0].readings.tilt_deg = \"181\": outside the point's range",
        "null",
    );
    check("tilt_deg: 1.2", "tilt_deg: steep", "samples[0].readings.tilt_deg = \"steep\": not a number", "");
    check("lock: null", "lock: open", "samples[0].readings.lock = \"open\": lock never has this value", "closed, ajar");
    check(
        "20.535Z",
        "20.535",
        "samples[0].observed_at = \"2020-04-09T02:53:20.535\": not a time with its zone",
        "RFC 3339",
    );
    check(
        "error: not",
        "readings: {cover_open: null}\n    error: not",
        "samples[1]: one of `readings` and `error`",
        "",
    );
    let level = "    mount_height_mm: 3000\n    readings: {cover_open: false,";
    check(level, "    readings: {level_mm: 5,", "samples[0].mount_height_mm: this key is missing", "3000");
}

#[test]
fn a_register_sample_says_what_is_wrong_with_it() {
    let block = "{4: [-8]}";
    let check =
        |to: &str, expected: &str| check_in(REGISTERS, block, to, &format!("samples[0].registers.{expected}"), "");
    check("{4: [65536]}", "holding.4 = \"65536\": not a register");
    check("{4: [a]}", "holding.4 = \"a\": not a register");
    check("{four: [1]}", "holding.four = \"four\": not an address");
    check("{0xFFFF: [1, 2]}", "holding.0xFFFF = \"0xFFFF\": the words reach behind");
    check("[4]", "holding: not a map from addresses to words");
    let cause = ", cause: timeout";
    check_in(REGISTERS, cause, "", "samples[1].registers.failures[0].cause: this key is missing", "timeout");
}

#[test]
fn a_profile_without_a_good_or_a_bad_sample_is_refused() {
    let (head, samples) = GOOD.split_once("samples:\n").unwrap();
    let bad_at = samples.find("  - name: cut").unwrap();
    let shown = |text: &str| read(text).1.iter().map(Problem::to_string).collect::<Vec<_>>();
    assert!(shown(head)[0].contains("samples: this key is missing"));
    let only_good = format!("{head}samples:\n{}", samples[..bad_at].replace(", lock: null", ""));
    let found = shown(&only_good);
    assert!(found.len() == 1 && found[0].contains("samples: no sample shows a bad frame"), "{found:?}");
    let only_bad = format!("{head}samples:\n{}", &samples[bad_at..]);
    let found = shown(&only_bad);
    assert!(found.len() == 1 && found[0].contains("samples: no sample shows a good frame"), "{found:?}");
}

proptest::proptest! {
    #[test]
    fn a_profile_with_any_damage_is_read_or_refused_with_mends_and_never_panics(
        from_registers: bool,
        position in 0_usize..3_000,
        length in 0_usize..40,
        garbage in "[-:,{}\\[\\]'\"#a-z0-9.\n ]{0,12}",
    ) {
        let base = if from_registers { REGISTERS } else { GOOD };
        let letters: Vec<char> = base.chars().collect();
        let start = position % letters.len();
        let end = (start + length).min(letters.len());
        let text: String = letters[..start].iter().copied().chain(garbage.chars()).chain(letters[end..].iter().copied()).collect();
        let (profile, problems) = read(&text);
        proptest::prop_assert_eq!(profile.is_some(), problems.is_empty());
        for problem in problems {
            proptest::prop_assert!(!problem.mend.is_empty() && problem.file == FILE, "{}", problem);
        }
    }
}
