//! Reads the rules `combination` and `expression` of a detector: what several points say together.

use std::time::Duration;

use super::detectors::DetectorReader;
use super::expression::read_expression;
use crate::document::Section;
use crate::profile::{
    COMBINATION_PARTS_MAX, COMBINATION_POINTS_MAX, Combination, Guard, GuardTest, Operand, Relation, Rule, Test, Word,
};
use crate::reading::Value;

/// How tests are joined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Join {
    All,
    Any,
}

const JOINS: [(&str, Join); 2] = [("all", Join::All), ("any", Join::Any)];

impl DetectorReader<'_> {
    /// Reads `combination` or `expression`, with the position of the first point that it names.
    pub(super) fn read_together(&self, name: &str, rule: &Section<'_>) -> Option<(Option<u16>, Rule)> {
        let is_expression = name == "expression";
        let read = if is_expression { self.read_expression(rule) } else { self.read_combination(rule) };
        let combination = read?;
        let first = combination.points.first().copied();
        Some((first, if is_expression { Rule::Expression(combination) } else { Rule::Combination(combination) }))
    }

    /// Reads `combination`: `all` or `any` of tests, each of which may be an `any` or `all` of tests itself.
    fn read_combination(&self, rule: &Section<'_>) -> Option<Combination> {
        let fresh = read_fresh(rule);
        let raise = self.read_join(rule, Depth::Outer);
        let clear = rule.section("clear").map(|clear| {
            let test = self.read_join(&clear, Depth::Outer);
            clear.finish();
            test
        });
        let clear = match clear {
            Some(None) => return None,
            Some(clear) => clear,
            None => None,
        };
        checked(rule, Combination::new(raise?, clear, fresh))
    }

    /// Reads `expression`.
    fn read_expression(&self, rule: &Section<'_>) -> Option<Combination> {
        let fresh = read_fresh(rule);
        if !rule.has("cel") {
            rule.missing("cel", "write what is wrong, such as `cel: leakage_ma > 30.0 && water_present`");
        }
        let raise = read_expression(rule, "cel", self.points);
        let clear = read_expression(rule, "clear", self.points);
        if rule.has("clear") && clear.is_none() {
            return None;
        }
        checked(rule, Combination::new(raise?, clear, fresh))
    }

    fn read_join(&self, section: &Section<'_>, depth: Depth) -> Option<Test> {
        let given: Vec<(&'static str, Join)> = JOINS.into_iter().filter(|(key, _)| section.has(key)).collect();
        let [(key, join)] = given.as_slice() else {
            let mend = "write `all: [{point: leakage_ma, above: 30}, {point: water_present, equals: true}]`";
            section.problem("", "", "one of `all` and `any` is needed", mend);
            return None;
        };
        let sections = section.sections(key);
        if sections.is_empty() {
            section.problem(key, "", "there is no test", "write `[{point: water_present, equals: true}]`");
            return None;
        }
        let tests: Vec<Option<Test>> = sections.into_iter().map(|test| self.read_test(test, depth)).collect();
        let tests = tests.into_iter().collect::<Option<Vec<Test>>>()?;
        Some(if *join == Join::All { Test::All(tests) } else { Test::Any(tests) })
    }

    fn read_test(&self, section: Section<'_>, depth: Depth) -> Option<Test> {
        // What is nested deeper is an unknown key; it is better written as an expression.
        if depth == Depth::Inner || !JOINS.iter().any(|(key, _)| section.has(key)) {
            return self.read_test_of_point(section);
        }
        let test = self.read_join(&section, Depth::Inner);
        section.finish();
        test
    }

    fn read_test_of_point(&self, section: Section<'_>) -> Option<Test> {
        if section.has("unchanged") {
            let mend = "put it under the detector's `when`, beside the combination";
            section.problem("unchanged", "", "a combination looks at last values only", mend);
        }
        self.read_guard(section).and_then(test_of)
    }
}

/// How deep a test stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Outer,
    Inner,
}

/// `None` for what only a `when` can ask.
fn test_of(guard: Guard) -> Option<Test> {
    let point = guard.point;
    let number =
        |relation: Relation, limit: f64| Test::Number(Operand::Point(point), relation, Operand::Constant(limit));
    Some(match guard.test {
        GuardTest::Above(limit) => number(Relation::GreaterOrEqual, limit),
        GuardTest::Below(limit) => number(Relation::LessOrEqual, limit),
        GuardTest::Equals(Value::Number(wanted)) => number(Relation::Equal, wanted),
        GuardTest::Equals(Value::Boolean(true)) => Test::Point(point),
        GuardTest::Equals(Value::Boolean(false)) => Test::Not(Box::new(Test::Point(point))),
        // It was there once, and is not any more.
        GuardTest::Lost => Test::All(vec![
            Test::Number(Operand::Age(point), Relation::GreaterOrEqual, Operand::Constant(0.0)),
            Test::Not(Box::new(Test::Known(point))),
        ]),
        GuardTest::Unknown => Test::Not(Box::new(Test::Known(point))),
        GuardTest::Equals(Value::Text(text)) => Test::Text(Word::Point(point), Word::Constant(text)),
        GuardTest::Unchanged => return None,
    })
}

fn read_fresh(rule: &Section<'_>) -> Option<Duration> {
    let fresh = rule.duration("fresh")?;
    if fresh.is_zero() {
        rule.problem("fresh", "0", "no value is so new", "write such as `fresh: 30m`, or leave it out");
    }
    Some(fresh)
}

fn checked(rule: &Section<'_>, combination: Combination) -> Option<Combination> {
    if combination.points.is_empty() {
        let mend = "name a point in it, such as `leakage_ma > 30.0`";
        rule.problem("", "", "this says the same whatever comes", mend);
        return None;
    }
    let (parts, points) = (combination.parts(), combination.points.len());
    if parts > COMBINATION_PARTS_MAX || points > COMBINATION_POINTS_MAX {
        let what = format!(
            "{parts} parts and {points} points are more than {COMBINATION_PARTS_MAX} and {COMBINATION_POINTS_MAX}"
        );
        rule.problem("", "", what, "write several detectors of the same condition");
        return None;
    }
    Some(combination)
}

#[cfg(test)]
mod tests;
