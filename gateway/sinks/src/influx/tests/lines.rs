//! What the encoder writes, read back.

use std::collections::BTreeSet;

use kerbside_model::{Cause, Flag, Tag, Tags};
use proptest::prelude::*;

use super::super::encode::{Encoder, Lines, device_of};
use super::*;

/// A value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::influx) enum Field {
    Float(f64),
    Integer(i64),
    Boolean(bool),
    Text(String),
}

/// One line, read by the rules of the line protocol reference and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::influx) struct Line {
    pub(in crate::influx) measurement: String,
    pub(in crate::influx) tags: BTreeMap<String, String>,
    pub(in crate::influx) fields: BTreeMap<String, Field>,
    pub(in crate::influx) timestamp: i64,
}

struct Reader<'text> {
    rest: std::iter::Peekable<std::str::Chars<'text>>,
}

impl Reader<'_> {
    /// Reads up to one of the ends, which must be there; a backslash takes what follows as it is.
    fn name(&mut self, ends: &[char]) -> Result<(String, char), String> {
        let mut text = String::new();
        loop {
            match self.rest.next().ok_or("the line ends in a name")? {
                '\\' => text.push(self.rest.next().ok_or("a backslash at the end")?),
                end if ends.contains(&end) => {
                    return if text.is_empty() { Err("an empty name".to_owned()) } else { Ok((text, end)) };
                }
                other => text.push(other),
            }
        }
    }

    fn value(&mut self) -> Result<Field, String> {
        if self.rest.next_if_eq(&'"').is_some() {
            let mut text = String::new();
            loop {
                match self.rest.next().ok_or("the line ends in a text")? {
                    '"' => return Ok(Field::Text(text)),
                    '\\' => match self.rest.next() {
                        Some(escaped @ ('"' | '\\')) => text.push(escaped),
                        other => return Err(format!("an unknown escape {other:?}")),
                    },
                    other => text.push(other),
                }
            }
        }
        let mut word = String::new();
        while let Some(character) = self.rest.next_if(|character| !matches!(character, ',' | ' ')) {
            word.push(character);
        }
        match word.as_str() {
            "true" => return Ok(Field::Boolean(true)),
            "false" => return Ok(Field::Boolean(false)),
            _ => {}
        }
        if let Some(digits) = word.strip_suffix('i') {
            return digits.parse().map(Field::Integer).map_err(|error| error.to_string());
        }
        if !word.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) {
            return Err(format!("not a number: {word}"));
        }
        word.parse().map(Field::Float).map_err(|_| format!("not a number: {word}"))
    }
}

pub(in crate::influx) fn parse(line: &str) -> Result<Line, String> {
    let mut reader = Reader { rest: line.chars().peekable() };
    let (measurement, mut end) = reader.name(&[',', ' '])?;
    let mut tags = BTreeMap::new();
    while end == ',' {
        let (key, _) = reader.name(&['='])?;
        if tags.keys().next_back().is_some_and(|last| *last >= key) {
            return Err("tags are not sorted".to_owned());
        }
        let (value, next) = reader.name(&[',', ' '])?;
        tags.insert(key, value);
        end = next;
    }
    let mut fields = BTreeMap::new();
    loop {
        let (key, _) = reader.name(&['='])?;
        fields.insert(key, reader.value()?);
        match reader.rest.next() {
            Some(',') => {}
            Some(' ') => break,
            other => return Err(format!("{other:?} after a field")),
        }
    }
    let timestamp = reader.rest.collect::<String>().parse::<i64>().map_err(|error| error.to_string())?;
    Ok(Line { measurement, tags, fields, timestamp })
}

fn encoded(batches: &[TelemetryBatch]) -> String {
    let (mut encoder, mut lines) = (Encoder::default(), Lines::default());
    for batch in batches {
        encoder.encode(batch, &mut lines);
    }
    let (body, ends) = lines.into_parts();
    assert_eq!(ends.len(), body.iter().filter(|byte| **byte == b'\n').count(), "one line break a line");
    String::from_utf8(body).unwrap()
}

fn observed(site: &Arc<Site>, readings: Vec<PointReading>) -> TelemetryBatch {
    let mut observations = Observations::default();
    observations.push(DeviceIndex(0), Timestamp(1_700_000_000_123), Timestamp(1_700_000_000_456), false, readings);
    TelemetryBatch { sequence: 1, site: Arc::clone(site), observations: Arc::new(observations) }
}

#[test]
fn a_line_has_series_values_flags_and_both_times() {
    let mut cover = device("MH 1");
    cover.grid = "340104001001001".to_owned();
    cover.unit = "市政,一队".to_owned();
    let points = vec![
        point("level_mm", ValueType::Number),
        point("water_present", ValueType::Boolean),
        point("state", ValueType::Text),
        point("battery_v", ValueType::Number),
    ];
    let site = site_of("level-meter", points, vec![cover]);
    let suspect = Quality { flag: Flag::Suspect, cause: Cause::Stale };
    let text = encoded(&[observed(
        &site,
        vec![
            PointReading { point: 0, value: Some(Value::Number(-12.25)), quality: Quality::bad(Cause::Range) },
            good(1, Value::Boolean(true)),
            PointReading { point: 2, value: Some(Value::Text("a \"b\" \\".into())), quality: suspect },
            PointReading { point: 3, value: None, quality: Quality::missing(Cause::ReadFailed) },
        ],
    )]);
    assert_eq!(
        text,
        "drain,device=MH\\ 1,grid=340104001001001,profile=level-meter,unit=市政\\,一队 \
         level_mm=-12.25,level_mm_q=\"bad:range\",water_present=true,state=\"a \\\"b\\\" \\\\\",state_q=\"suspect:stale\",\
         battery_v_q=\"missing:read_failed\",received_at=1700000000456i 1700000000123\n"
    );
    assert_eq!(device_of(text.as_bytes()), "MH 1");
}

#[test]
fn what_is_not_a_number_is_flagged_and_never_written() {
    let site = site(&["A"]);
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let line = parse(encoded(&[observed(&site, vec![good(0, Value::Number(number))])]).trim_end()).unwrap();
        assert_eq!(line.fields.keys().collect::<Vec<_>>(), ["level_mm_q", "received_at"]);
        assert_eq!(line.fields["level_mm_q"], Field::Text("bad:invalid".to_owned()));
    }
}

#[test]
fn an_observation_without_a_known_point_gives_no_line() {
    let site = site(&["A"]);
    assert_eq!(encoded(&[observed(&site, Vec::new())]), "");
    assert_eq!(encoded(&[observed(&site, vec![good(99, Value::Number(1.0))])]), "");
}

#[test]
fn points_with_reserved_names_step_aside() {
    let points = vec![point("time", ValueType::Number), point("received_at", ValueType::Number)];
    let site = site_of("odd", points, vec![device("A")]);
    let text = encoded(&[observed(&site, vec![good(0, Value::Number(1.0)), good(1, Value::Number(2.0))])]);
    assert_eq!(text, "drain,device=A,profile=odd time_=1,received_at_=2,received_at=1700000000456i 1700000000123\n");
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|(name, value)| Tag { name: (*name).into(), value: (*value).into() }).collect()
}

/// A level of the first device for each set of properties.
fn tagged(site: &Arc<Site>, sets: &[Option<Tags>]) -> TelemetryBatch {
    let mut observations = Observations::default();
    for (number, set) in sets.iter().enumerate() {
        let at = Timestamp(i64::try_from(number).unwrap());
        observations.push(DeviceIndex(0), at, at, false, [good(0, Value::Number(1.0))]);
        if let Some(tags) = set {
            observations.tag_last(tags);
        }
    }
    TelemetryBatch { sequence: 1, site: Arc::clone(site), observations: Arc::new(observations) }
}

#[test]
fn user_properties_are_tags_among_the_others() {
    let mut cover = device("A");
    (cover.grid, cover.unit) = ("3401".to_owned(), "市政".to_owned());
    let site = site_of("level-meter", vec![point("level_mm", ValueType::Number)], vec![cover]);
    let north = tags(&[("operator", "北区, 1=a"), ("zone", "z"), ("area", "a"), ("empty", "")]);
    let text = encoded(&[tagged(&site, &[None, Some(Tags::clone(&north)), Some(north), Some(tags(&[])), None])]);
    let (plain, own) = (",grid=3401,profile=level-meter,unit=市政", "operator=北区\\,\\ 1\\=a");
    let tagged = format!("area=a,device=A,grid=3401,{own},profile=level-meter,unit=市政,zone=z");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("drain,device=A{plain} level_mm=1,received_at=0i 0"));
    assert_eq!(lines[1], format!("drain,{tagged} level_mm=1,received_at=1i 1"));
    assert_eq!(lines[2], format!("drain,{tagged} level_mm=1,received_at=2i 2"));
    assert_eq!(lines[3], format!("drain,device=A{plain} level_mm=1,received_at=3i 3"));
    assert_eq!(lines[4], format!("drain,device=A{plain} level_mm=1,received_at=4i 4"));
    assert!(lines.iter().all(|line| device_of(line.as_bytes()) == "A"));
}

#[test]
fn user_properties_with_names_of_ours_step_aside() {
    let site = site(&["A"]);
    let names = ["device", "grid", "profile", "unit", "time", "received_at", "level_mm", "state_q", "device_"];
    let all: Vec<(&str, &str)> = names.iter().map(|name| (*name, "x")).collect();
    let line = parse(encoded(&[tagged(&site, &[Some(tags(&all))])]).trim_end()).unwrap();
    let keys: Vec<&str> = line.tags.keys().map(String::as_str).collect();
    let expected = ["device", "device_", "device__", "grid_", "level_mm_", "profile", "profile_", "received_at_"];
    assert_eq!(keys, [&expected[..], &["state_q_", "time_", "unit_"]].concat());
    assert_eq!((line.tags["device"].as_str(), line.tags["device_"].as_str()), ("A", "x"));
}

#[test]
fn properties_of_one_profile_do_not_serve_another() {
    // The second profile has a point of the property's name.
    let first = site_of("first", vec![point("level_mm", ValueType::Number)], vec![device("A")]);
    let second = site_of("second", vec![point("operator", ValueType::Number)], vec![device("A")]);
    let set = [Some(tags(&[("operator", "north")]))];
    let text = encoded(&[tagged(&first, &set), tagged(&second, &set), tagged(&first, &set)]);
    let starts: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let (one, other) = ("drain,device=A,operator=north,profile=first", "drain,device=A,operator_=north,profile=second");
    assert_eq!(starts, [one, other, one]);
}

#[test]
fn each_batch_is_written_with_its_own_site() {
    let sites = [site(&["A"]), site(&["B"]), site(&["C"])];
    let order = [0, 1, 0, 2, 1, 0];
    let batches: Vec<TelemetryBatch> = order.iter().map(|index| batch(&sites[*index], 1)).collect();
    let devices: Vec<String> = encoded(&batches).lines().map(|line| device_of(line.as_bytes())).collect();
    assert_eq!(devices, ["A", "B", "A", "C", "B", "A"]);
}

#[test]
fn long_text_is_cut_at_a_character() {
    let site = site(&["A"]);
    let text = encoded(&[observed(&site, vec![good(2, Value::Text("井".repeat(40_000).into()))])]);
    let Field::Text(kept) = parse(text.trim_end()).unwrap().fields["state"].clone() else { panic!("not a text") };
    assert_eq!(kept.len(), 65_535);
}

/// What a tag carries of a text: see `write_name`.
fn as_tag(text: &str) -> String {
    let plain = |character: char| match character {
        '\\' => '/',
        '\0'..='\x1f' | '\x7f' => ' ',
        other => other,
    };
    text.chars().map(plain).collect()
}

fn as_field(value: &Value) -> Field {
    match value {
        Value::Number(number) => Field::Float(*number),
        Value::Boolean(boolean) => Field::Boolean(*boolean),
        Value::Text(text) => Field::Text(text.replace(['\n', '\r', '\0'], " ")),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::num::f64::NORMAL.prop_map(Value::Number),
        prop::num::f64::ANY.prop_filter("finite", |number| number.is_finite()).prop_map(Value::Number),
        any::<bool>().prop_map(Value::Boolean),
        ".*".prop_map(|text| Value::Text(text.into())),
        "[\\\\\"\n\r, =]*".prop_map(|text| Value::Text(text.into())),
    ]
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![".+", "[\\\\\"\n\r\t, =#]+", "(?s).+"]
}

proptest! {
    #[test]
    fn every_line_reads_back_as_what_was_meant(
        id in any_name(),
        grid in prop_oneof![Just(String::new()), any_name()],
        unit in prop_oneof![Just(String::new()), any_name()],
        profile in any_name(),
        name in any_name(),
        values in prop::collection::vec(any_value(), 1..4),
        observed_at in any::<i64>(),
        properties in prop::collection::btree_map(any_name(), any_name(), 0..4),
    ) {
        let mut street_device = device(&id);
        street_device.grid = grid.clone();
        street_device.unit = unit.clone();
        // A number keeps the names apart, whatever they are.
        let names: Vec<String> = (0..values.len()).map(|number| format!("p{number}{name}")).collect();
        let points = names.iter().map(|name| point(name, ValueType::Number)).collect();
        let site = site_of(&profile, points, vec![street_device]);
        let readings: Vec<PointReading> =
            values.iter().enumerate().map(|(number, value)| good(number as u16, value.clone())).collect();
        let mut observations = Observations::default();
        observations.push(DeviceIndex(0), Timestamp(observed_at), Timestamp(5), false, readings);
        if !properties.is_empty() {
            let tags = properties.iter().map(|(name, value)| Tag { name: name.as_str().into(), value: value.as_str().into() });
            observations.tag_last(&tags.collect());
        }
        let text = encoded(&[TelemetryBatch { sequence: 1, site, observations: Arc::new(observations) }]);

        prop_assert_eq!(text.matches('\n').count(), 1);
        let line = parse(text.strip_suffix('\n').unwrap()).map_err(TestCaseError::fail)?;
        prop_assert_eq!(device_of(text.as_bytes()), as_tag(&id));
        let mut tags = BTreeMap::from([("device".to_owned(), as_tag(&id)), ("profile".to_owned(), as_tag(&profile))]);
        for (key, value) in [("grid", grid), ("unit", unit)] {
            if !value.is_empty() {
                tags.insert(key.to_owned(), as_tag(&value));
            }
        }
        let values_of_properties = properties.values().map(|value| as_tag(value)).collect::<BTreeSet<_>>();
        let others: BTreeMap<_, _> = line.tags.iter().filter(|(key, _)| !tags.contains_key(*key)).collect();
        prop_assert_eq!(others.len(), properties.len(), "each property is a tag of its own");
        prop_assert_eq!(others.values().map(|value| (*value).clone()).collect::<BTreeSet<_>>(), values_of_properties);
        for (name, value) in &properties {
            // Names that fall together as tags are told apart by what stands behind them.
            let is_it = |(key, found): (&&String, &&String)| key.starts_with(&as_tag(name)) && **found == as_tag(value);
            prop_assert!(others.iter().any(is_it), "{} in {:?}", name, others);
        }
        tags.extend(others.into_iter().map(|(key, value)| (key.clone(), value.clone())));
        let mut fields = BTreeMap::from([("received_at".to_owned(), Field::Integer(5))]);
        for (name, value) in names.iter().zip(&values) {
            fields.insert(as_tag(name), as_field(value));
        }
        prop_assert_eq!(line, Line { measurement: "drain".to_owned(), tags, fields, timestamp: observed_at });
    }
}
