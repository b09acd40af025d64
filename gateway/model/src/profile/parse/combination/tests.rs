//! Rules over several points as they are written, and what is said of mistakes.

use proptest::prelude::*;

use super::super::parse_profile_text;
use crate::document::{Problem, Problems};
use crate::profile::{Combination, LoadGoal, Operand, Profile, Relation, Rule, Test, Word};

/// The keys of a detector of a pole, in flow style.
fn read(detector: &str) -> Result<Profile, String> {
    let text = format!(
        "profile: acme-pole\nversion: 1\nkind: pole\nvendor: Acme\nmodel: P\ninterval: 5m\n\
         payload: {{format: json}}\npoints:\n  - {{name: leakage_ma, path: a}}\n  \
         - {{name: water_present, path: w}}\n  - {{name: water_depth_mm, path: d}}\n  \
         - {{name: state, type: enumeration, path: s, map: {{0: idle, 1: fault}}}}\n  \
         - {{name: active_power_w, path: p}}\n  - {{name: lamp_on, path: l}}\n  - {{name: dimming_percent, path: m}}\n\
         conditions: [{{name: c, title: {{en: c, zh: 状}}}}]\n\
         detectors:\n  - {{condition: c, severity: minor, {detector}}}\n\
         samples:\n  - {{name: good, json: {{a: 5}}, readings: {{leakage_ma: 5}}}}\n  \
         - {{name: bad, text: '', error: x}}\n"
    );
    let problems = Problems::default();
    let profile = parse_profile_text("acme.yaml", &text, &problems);
    let found: Vec<String> = problems.into_sorted().iter().map(Problem::to_string).collect();
    profile.ok_or_else(|| found.join("\n"))
}

fn combination(detector: &str) -> (Option<u16>, Combination) {
    let detector = read(detector).unwrap().detectors.swap_remove(0);
    (detector.point, detector.rule.combination().unwrap().clone())
}

fn number(point: u16, relation: Relation, limit: f64) -> Test {
    Test::Number(Operand::Point(point), relation, Operand::Constant(limit))
}

#[test]
fn an_expression_is_what_its_tests_say() {
    let (point, expression) = combination(
        "expression: {cel: \"leakage_ma >= 30 && (water_present || water_depth_mm >= 20.0)\", \
         clear: leakage_ma <= 20, fresh: 20m}",
    );
    let (other_point, written) = combination(
        "combination: {all: [{point: leakage_ma, above: 30}, {any: [{point: water_present, equals: true}, \
         {point: water_depth_mm, above: 20}]}], clear: {all: [{point: leakage_ma, below: 20}]}, fresh: 20m}",
    );
    let wet = Test::Any(vec![Test::Point(1), number(2, Relation::GreaterOrEqual, 20.0)]);
    assert_eq!(expression.raise, Test::All(vec![number(0, Relation::GreaterOrEqual, 30.0), wet]));
    assert_eq!(expression.clear, Some(number(0, Relation::LessOrEqual, 20.0)));
    assert_eq!(written.raise, expression.raise);
    assert_eq!(written.clear, Some(Test::All(vec![number(0, Relation::LessOrEqual, 20.0)])));
    assert_eq!((point, other_point, expression.points), (Some(0), Some(0), vec![0, 1, 2]));
}

#[test]
fn operators_bind_as_in_cel() {
    let raise = |text: &str| combination(&format!("expression: {{cel: '{text}'}}")).1.raise;
    assert_eq!(raise("!water_present && lamp_on || state == \"fault\""), {
        let dry_and_lit = Test::All(vec![Test::Not(Box::new(Test::Point(1))), Test::Point(5)]);
        Test::Any(vec![dry_and_lit, Test::Text(Word::Point(3), Word::Constant("fault".into()))])
    });
    let sum = |left, right| Operand::Sum(Box::new((left, right)));
    let product = Operand::Product(Box::new((Operand::Constant(2.0), Operand::Point(4))));
    assert_eq!(
        raise("leakage_ma + 2.0 * active_power_w > -1"),
        Test::Number(sum(Operand::Point(0), product), Relation::Greater, Operand::Constant(-1.0))
    );
    assert_eq!(
        raise("state in [\"idle\", \"fault\"] || age(state) > 600"),
        Test::Any(vec![
            Test::Any(vec![
                Test::Text(Word::Point(3), Word::Constant("idle".into())),
                Test::Text(Word::Point(3), Word::Constant("fault".into())),
            ]),
            Test::Number(Operand::Age(3), Relation::Greater, Operand::Constant(600.0)),
        ])
    );
    assert_eq!(
        raise("math.greatest(leakage_ma, math.abs(water_depth_mm)) >= (lamp_on ? 30.0 : 10.0) && known(state)"),
        Test::All(vec![
            Test::Number(
                Operand::Greatest(vec![Operand::Point(0), Operand::Size(Box::new(Operand::Point(2)))]),
                Relation::GreaterOrEqual,
                Operand::Choice(Box::new((Test::Point(5), Operand::Constant(30.0), Operand::Constant(10.0)))),
            ),
            Test::Known(3),
        ])
    );
}

#[test]
fn a_mistake_in_an_expression_is_told_with_its_column() {
    for (cel, expected) in [
        ("leakage_ma > && lamp_on", "a point, a number or a text is missing before `&&`, at column 14"),
        ("leakage_ma > 30 lamp_on", "an operator or the end is missing before `lamp_on`, at column 17"),
        ("(leakage_ma > 30", "`)` is missing before the end, at column 17"),
        ("leakge_ma > 30", "there is no point `leakge_ma`, at column 1\n    mend: did you mean leakage_ma?"),
        ("lamp_on && leakage_ma", "this is a number and should be true or false, at column 12"),
        ("leakage_ma > water_present", "this is true or false and should be a number, at column 14"),
        ("1 < leakage_ma < 3", "this is true or false and should be a number, at column 1"),
        ("state == 'falt'", "state never is \"falt\", at column 10\n    mend: did you mean fault?"),
        ("state == 1", "a number is never equal to a text"),
        ("lamp_on ? 1 : state", "the two sides of `:` are a number and a text"),
        ("state == null", "no value is null"),
        ("leakage_ma.size() > 1", "there is no function `leakage_ma.size`"),
        ("leakage_ma.size > 1", "points have no fields"),
        ("now() > 5", "there is no function `now`, at column 1\n    mend: there are age, known"),
        ("timestamp('2026-01-01T00:00:00Z') > 5", "there is no function `timestamp`"),
        ("[1, 2].all(x, x > leakage_ma)", "a list stands only behind `in`"),
        ("(leakage_ma)[0] > 1", "values have no parts, at column 13"),
        ("{'a': 1}.a > 1", "`{` stands for nothing here"),
        ("age(leakage_ma + 1) > 5", "`)` is missing before `+`"),
        ("leakage_ma % 2 == 0", "`%` is for whole numbers, and points are not, at column 12"),
        ("1 > 2", "this says the same whatever comes"),
        ("math.least() > leakage_ma", "`math.least` takes no 0 numbers"),
        ("state == 'fault", "this text has no end"),
        ("leakage_ma > 1e999", "too large"),
        ("状态 > 1", "`状` stands for nothing here, at column 1"),
        ("''", "this is a text and should be true or false"),
    ] {
        let found = read(&format!("expression: {{cel: \"{}\"}}", cel.replace('"', "\\\""))).unwrap_err();
        let is_placed = found.contains("acme.yaml:18") && found.contains("detectors[0].expression");
        assert!(found.contains(expected) && is_placed, "{cel}: {found}");
    }
}

#[test]
fn an_expression_is_bounded_in_bytes_parts_depth_and_points() {
    for (cel, expected) in [
        ("lamp_on".to_owned() + &" && lamp_on".repeat(99), "longer than 1000 bytes"),
        ("lamp_on".to_owned() + &" || lamp_on".repeat(70), "72 parts and 1 points are more than 64 and 16"),
        ("(".repeat(200) + "lamp_on" + &")".repeat(200), "more than 24 inside one another"),
        ("lamp_on ? lamp_on : ".repeat(40) + "lamp_on", "more than 24 inside one another"),
        // Each list would be twice as long as the one before.
        ("lamp_on".to_owned() + &" in [true, false]".repeat(58), "what stands before `in`, for each item"),
    ] {
        let found = read(&format!("expression: {{cel: \"{cel}\"}}")).unwrap_err();
        assert!(found.contains(expected), "{cel}: {found}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_makes_the_reader_panic(text in "([a-z(]|lamp_on|leakage_ma|age|math\\.|[\\[\\](){}!?:<>=&|+*/%.,\"'\\\\ 0-9eux-]|\\PC){0,40}") {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        drop(read(&format!("expression: {{cel: \"{quoted}\"}}")));
    }
}

#[test]
fn a_mistake_in_a_combination_is_told_with_its_place_and_mend() {
    let test = "{point: leakage_ma, above: 30}";
    for (detector, expected) in [
        ("combination: {}".to_owned(), "one of `all` and `any` is needed"),
        (format!("combination: {{all: [{test}], any: [{test}]}}"), "one of `all` and `any` is needed"),
        ("combination: {all: []}".to_owned(), "there is no test"),
        ("combination: {all: [{point: nowhere, above: 30}]}".to_owned(), "there is no point of this name"),
        ("combination: {all: [{point: state, above: 30}]}".to_owned(), "needs a number"),
        ("combination: {all: [{point: state, equals: falt}]}".to_owned(), "did you mean fault?"),
        (format!("combination: {{all: [{{any: [{{all: [{test}]}}]}}]}}"), "combination.all[0].any[0].all: "),
        (format!("combination: {{all: [{test}], fresh: 0s}}"), "no value is so new"),
        (format!("combination: {{all: [{test}], clear: {{}}}}"), "one of `all` and `any` is needed"),
        (format!("combination: {{all: [{test}], hold: 5m}}"), "hold"),
        (format!("combination: {{all: [{test}]}}, expression: {{cel: lamp_on}}"), "has the rule"),
        ("expression: {}".to_owned(), "write what is wrong"),
    ] {
        let found = read(&detector).unwrap_err();
        assert!(found.contains(expected) && found.contains("acme.yaml:18"), "{detector}: {found}");
    }
}

#[test]
fn spikes_and_loads_have_their_defaults() {
    let rule = |text: &str| read(text).unwrap().detectors.swap_remove(0).rule;
    let Rule::Spike(spikes) = rule("spike: {point: leakage_ma, by: 20, times: 5, window: 1d}") else {
        panic!("it counts spikes")
    };
    assert_eq!((spikes.readings, spikes.within, spikes.times, spikes.clear), (1, None, 5, 2));
    let Rule::Load(load) =
        rule("load: {point: active_power_w, switches: lamp_on, dimming: dimming_percent, least: 5, below: 20}")
    else {
        panic!("it is a load")
    };
    assert_eq!((load.switches, load.dimming, load.readings, load.rated), (vec![5], Some(6), 20, None));
    assert_eq!(load.goal, LoadGoal::Below { raise: 20.0, clear: 40.0 });
    let Rule::Load(load) =
        rule("load: {point: active_power_w, switches: [lamp_on], least: 5, outside: {min: 75, max: 125}}")
    else {
        panic!("it is a load")
    };
    assert_eq!(load.goal, LoadGoal::Outside { min: 75.0, max: 125.0, nights: 3 });
}

#[test]
fn a_mistake_in_a_spike_or_load_is_told_with_its_place_and_mend() {
    let spike = "point: leakage_ma, by: 20, times: 5";
    let load = "point: active_power_w, switches: [lamp_on], least: 5";
    for (detector, expected) in [
        (format!("spike: {{{spike}}}"), "write in which time"),
        ("spike: {point: leakage_ma, by: 20, window: 1d}".to_owned(), "write how many spikes are too many"),
        ("spike: {point: leakage_ma, by: 0, times: 5, window: 1d}".to_owned(), "above 0"),
        (format!("spike: {{{spike}, window: 1d, clear: 5}}"), "not less than 5"),
        (format!("spike: {{{spike}, window: 1d, within: 0s}}"), "nothing comes back in no time"),
        ("spike: {point: lamp_on, by: 20, times: 5, window: 1d}".to_owned(), "needs a number"),
        (format!("load: {{{load}}}"), "one of below, above, outside is needed"),
        (format!("load: {{{load}, below: 20, above: 3}}"), "one of below, above, outside is needed"),
        (format!("load: {{{load}, below: 20, clear: 10}}"), "not on the good side of 20"),
        (format!("load: {{{load}, above: 20, clear: 30}}"), "not on the good side of 20"),
        (format!("load: {{{load}, outside: {{min: 110, max: 125}}}}"), "does not hold the usual load"),
        (format!("load: {{{load}, below: 20, dimming: lamp_on}}"), "this point is no number"),
        (format!("load: {{{load}, below: 20, rated: 5}}"), "not less than 5"),
        ("load: {point: active_power_w, below: 20, least: 5}".to_owned(), "nothing says when the lamp is to burn"),
        ("load: {point: active_power_w, switches: [state], below: 20, least: 5}".to_owned(), "not true or false"),
        ("load: {point: active_power_w, switches: [lamp_on], below: 20}".to_owned(), "such as `least: 5`"),
    ] {
        let found = read(&detector).unwrap_err();
        assert!(found.contains(expected) && found.contains("acme.yaml:18"), "{detector}: {found}");
    }
}
