//! `kerbside profile schema`: the JSON Schema of profiles, with which editors complete and check them.

/// Draft 2020-12. Tests compare it with what the parser knows.
pub(super) const SCHEMA: &str = include_str!("../../../../../device-profiles/profile.schema.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jsonschema::Validator;
    use kerbside_model::Severity;
    use kerbside_model::document::{self, Node, NodeKind, Problems};
    use kerbside_model::profile::{detector_rule_names, parse_profile};
    use kerbside_model::vocabulary::{CONDITIONS, Kind, POINTS};
    use serde_json::Value;

    use super::*;
    use crate::shipped;

    /// A key that no parser knows and that is like none.
    const STRANGER: &str = "zzqqxx";
    /// Formats that no shipped profile has.
    const OTHERS: [(&str, &str); 4] = [
        (
            "csv",
            "payload: {format: csv, separator: ';', time: {column: 1, unit: s}}\npoints:\n  - {name: b, column: 1, \
             type: boolean}\n  - name: a\n    column: 2\n    range: {min: 0, max: 9}\n    quality:\n      \
             range: {min: 1, max: 8}\n      climatology: [{months: [6, 9], suspect: {min: 1, max: 2}, fail: {min: 0, max: 3}}]\n      \
             spike: {suspect: 1}\n      rate: {suspect: 1, per: 1m}\n      flat: {tolerance: 1, suspect: 1h}\n      \
             attenuated: {window: 1h, suspect: 1}\n      gap: {suspect: 1h}\n      neighbours: {suspect: 1, within: 1h}\n      \
             drift: {per_week: 1, total: 2}\n      valid_when: [{point: b, equals: true}]\n      fault: {after: 1h}\n      \
             without: [rate]\n",
        ),
        (
            "cbor",
            "payload: {format: cbor, time: {path: t, unit: s}, history: {path: h, time: {path: t, unit: s}}}\n\
                  points: [{name: a, path: x}]\n",
        ),
        (
            "codec",
            "payload: {format: codec, source: 'x', variables: {a: '1'}, history: {path: h, time: {path: t, unit: s}}}\n\
                   points: [{name: a, path: x}]\n",
        ),
        (
            "registers",
            "payload: {format: registers, time: {register: {table: holding, address: 9, type: time, form: s}}}\n\
                       points: [{name: a, register: {table: input, address: 1, bits: {from: 1, count: 2}, \
                       exponent: {table: input, address: 7}}}, {name: b, interval: 5s, register: {table: input, address: 0x20, \
                       type: i32, decimals: {address: 0x30}}}]\n",
        ),
    ];

    fn schema() -> Value {
        serde_json::from_str(SCHEMA).unwrap()
    }

    fn validator() -> Validator {
        jsonschema::validator_for(&schema()).unwrap()
    }

    fn complaints(validator: &Validator, instance: &Value) -> Vec<String> {
        validator.iter_errors(instance).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    fn node(file: &str, text: &str) -> Node {
        document::parse(file, text, &|_| None, &Problems::default()).unwrap()
    }

    /// Every shipped profile, and one of each format that none of them has.
    fn nodes() -> Vec<(String, Node)> {
        let mut nodes: Vec<(String, Node)> =
            shipped::PROFILES.iter().map(|(file, text)| ((*file).to_owned(), node(file, text))).collect();
        for (name, body) in OTHERS {
            let text = format!(
                "profile: x\nversion: 1\nkind: drain\nvendor: V\nmodel: M\ncomponent_class: '0103'\ninterval: 5m\n{body}\
                 conditions: [{{name: c, title: {{en: c, zh: 状}}}}]\n\
                 detectors:\n  - {{condition: c, severity: minor, threshold: {{point: a, above: 2, clear: 1}}, \
                 when: [{{point: a, above: 1}}]}}\n  - {{condition: c, severity: minor, rate: {{point: a, rising: 2, \
                 per: 1m, clear: 1}}}}\n  - {{condition: c, severity: minor, flatline: {{point: a, for: 1h}}}}\n  \
                 - {{condition: c, severity: minor, state: {{point: a, values: [true]}}}}\n  \
                 - {{condition: silent, severity: minor, silence: {{missed: 3, habit: {{at_most: 1d}}, after_rise: \
                 {{point: a, by: 5, within: 1h}}}}}}\n  \
                 - {{condition: c, severity: minor, forecast: {{point: a, rises_to: 2, within: 1m, least: 1, window: 1h, \
                 jump: {{over: 1, per: 1m}}}}}}\n  \
                 - {{condition: c, severity: minor, deviation: {{point: a, above: 2, least: 1, learn_when: [{{point: a, \
                 above: 1}}]}}, during: {{hours: '22:00-06:00', weekdays: [mon], months: [6, 9], light: night}}, around: {{weather: dry, downstream: high}}}}\n  \
                 - {{condition: c, severity: minor, trend: {{point: a, rising: 2, per: 7d, total: 1}}}}\n  \
                 - {{condition: c, severity: minor, baseline: {{point: a, above: 10, clear: 5}}}}\n  \
                 - {{condition: c, severity: minor, combination: {{all: [{{point: a, above: 1}}, {{any: [{{point: a, \
                 below: 9}}]}}], clear: {{any: [{{point: a, below: 0}}]}}}}}}\n  \
                 - {{condition: c, severity: minor, expression: {{cel: a > 1.0, fresh: 1h}}}}\n  \
                 - {{condition: c, severity: minor, spike: {{point: a, by: 5, times: 3, window: 1h}}}}\n  \
                 - {{condition: c, severity: minor, load: {{point: a, dimming: a, least: 1, outside: {{min: 75, max: 125}}}}}}\n  \
                 - {{condition: c, severity: minor, battery: {{point: a, empty: 3, within: 60d, temperature: {{point: \
                 a, per_degree: 1}}, knee: {{below: 4, falls_per_week: 1}}, charge: {{capacity_mah: 9, message_mah: 1, \
                 sleep_ua: 1}}}}}}\n  - {{condition: c, severity: minor, losses: {{above_percent: 20, clear_percent: \
                 10}}}}\n  - {{condition: c, severity: minor, amount: {{point: a, above: 9, clear: 5, within: 1h, \
                 counts: each, jump: {{over: 1, per: 1m}}}}}}\n  - {{condition: c, severity: minor, flapping: \
                 {{point: a, changes: 6, within: 10m}}}}\n  - {{condition: c, severity: minor, shift: {{point: a, \
                 direction: rising, least: 1, learn_when: [{{point: a, above: 1}}]}}}}\n  \
                 - {{condition: unusual, unusual: {{point: a, learn_when: [{{point: a, above: 1}}]}}}}\n\
                 samples:\n  - {{name: s, text: '', error: x}}\n  - {{name: t, text: '', readings: {{a: 1}}, \
                 history: [{{before: 1m, readings: {{a: 1}}}}]}}\n"
            );
            nodes.push((name.to_owned(), node(name, &text)));
        }
        nodes
    }

    #[test]
    fn every_shipped_profile_is_valid() {
        let validator = validator();
        for (file, node) in nodes() {
            assert_eq!(complaints(&validator, &node.to_json()), Vec::<String>::new(), "{file}");
        }
    }

    #[test]
    fn a_profile_that_extends_another_says_only_what_is_different() {
        let validator = validator();
        let child = node(
            "c",
            "profile: c\nextends: json-level\nversion: 1\npayload: {time: {path: t, unit: s}}\n\
                               without: {points: [battery_v], samples: [x]}\npoints: [{name: level_mm, path: lvl}]\n\
                               detectors:\n  - {name: flooded_deep, threshold: {above: 200}}\n  \
                               - {condition: silent, silence: {missed: 4}}\n",
        );
        assert_eq!(complaints(&validator, &child.to_json()), Vec::<String>::new());
        let alone = node("a", "profile: a\nversion: 1\npoints: [{name: level_mm, path: lvl}]\n");
        assert!(!validator.is_valid(&alone.to_json()));
    }

    /// Places of maps in a node: keys and positions on the way.
    fn places_of_maps(node: &Node, way: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        match &node.kind {
            NodeKind::Scalar { .. } => {}
            NodeKind::List(items) => {
                for (position, item) in items.iter().enumerate() {
                    way.push(position.to_string());
                    places_of_maps(item, way, found);
                    way.pop();
                }
            }
            NodeKind::Map(entries) => {
                found.push(way.clone());
                for (key, _, value) in entries {
                    way.push(key.clone());
                    places_of_maps(value, way, found);
                    way.pop();
                }
            }
        }
    }

    fn with_stranger(node: &Node, way: &[String]) -> Node {
        let mut changed = node.clone();
        let mut place = &mut changed;
        for step in way {
            place = match &mut place.kind {
                NodeKind::List(items) => &mut items[step.parse::<usize>().unwrap()],
                NodeKind::Map(entries) => &mut entries.iter_mut().find(|(key, _, _)| key == step).unwrap().2,
                NodeKind::Scalar { .. } => unreachable!("the way leads through maps and lists"),
            };
        }
        if let NodeKind::Map(entries) = &mut place.kind {
            let nothing = Node { line: 1, kind: NodeKind::Scalar { text: "1".to_owned(), quoted: false } };
            entries.push((STRANGER.to_owned(), 1, nothing));
        }
        changed
    }

    /// The keys that the parser knows where the stranger stands; `None` where names are free.
    fn known_to_parser(file: &str, node: &Node) -> Option<Vec<String>> {
        let problems = Problems::default();
        drop(parse_profile(file, node, &problems));
        let found = problems.into_sorted();
        let problem =
            found.iter().find(|problem| problem.key.ends_with(STRANGER) && problem.what.contains("not known"))?;
        let list = problem.mend.strip_prefix("known keys here: ")?;
        Some(list.split(", ").map(str::to_owned).collect())
    }

    /// The schemas that describe what lies at the end of a way, over all branches.
    fn schemas_at<'a>(root: &'a Value, schema: &'a Value, way: &[String], found: &mut Vec<&'a Value>) {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let target = root.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name} leads nowhere"));
            schemas_at(root, target, way, found);
        }
        for branches in ["anyOf", "oneOf", "allOf"] {
            for branch in schema.get(branches).and_then(Value::as_array).into_iter().flatten() {
                schemas_at(root, branch, way, found);
            }
        }
        let Some((step, rest)) = way.split_first() else {
            return found.push(schema);
        };
        let next = schema.get("properties").and_then(|properties| properties.get(step));
        let item = schema.get("items").filter(|_| step.parse::<usize>().is_ok());
        for next in next.into_iter().chain(item) {
            schemas_at(root, next, rest, found);
        }
    }

    #[test]
    fn keys_of_parser_and_schema_are_the_same() {
        let (schema, validator) = (schema(), validator());
        let mut missing = BTreeSet::new();
        let mut checked = 0;
        for (file, node) in nodes() {
            let mut ways = Vec::new();
            places_of_maps(&node, &mut Vec::new(), &mut ways);
            for way in ways {
                let strange = with_stranger(&node, &way);
                let Some(known) = known_to_parser(&file, &strange) else { continue };
                checked += 1;
                assert!(!validator.is_valid(&strange.to_json()), "{file}: a strange key in {way:?} is taken");
                let mut schemas = Vec::new();
                schemas_at(&schema, &schema, &way, &mut schemas);
                let described = |key: &String| schemas.iter().any(|schema| schema["properties"].get(key).is_some());
                let place: Vec<&str> =
                    way.iter().map(String::as_str).filter(|step| step.parse::<usize>().is_err()).collect();
                missing.extend(
                    known.iter().filter(|key| !described(key)).map(|key| format!("{}: {key}", place.join("."))),
                );
            }
        }
        assert_eq!(missing, BTreeSet::new(), "write them into device-profiles/profile.schema.json");
        assert!(checked > 500, "only {checked} places were found");
    }

    #[test]
    fn words_of_parser_and_schema_are_the_same() {
        let schema = schema();
        let words = |pointer: &str| -> BTreeSet<String> {
            let list = schema.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("no {pointer}"));
            list.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        let of = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<BTreeSet<String>>();
        assert_eq!(words("/properties/kind/enum"), of(Kind::ALL.map(Kind::name).to_vec()));
        assert_eq!(words("/$defs/point_name/anyOf/0/enum"), of(POINTS.iter().map(|term| term.name).collect()));
        assert_eq!(words("/$defs/condition_name/anyOf/0/enum"), of(CONDITIONS.iter().map(|term| term.name).collect()));
        let severities = Severity::ALL.map(|severity| severity.name()).to_vec();
        assert_eq!(words("/$defs/detector/properties/severity/enum"), of(severities));
        for rule in detector_rule_names() {
            assert!(schema.pointer(&format!("/$defs/detector/properties/{rule}")).is_some(), "{rule}");
        }
    }
}
