//! The key `walk_test` of a profile: what an installer must bring about to show that the device works.

use super::check_element_count;
use super::points::unknown_point_mend;
use crate::document::Section;
use crate::profile::{Condition, Point, ValueType, WalkTrigger};

/// Reads `walk_test`: names of conditions, or of points that are true or not 0 when somebody makes them so. A name that
/// is both is the condition, since that has its limits and holds.
pub(super) fn read_walk_test(section: &Section<'_>, points: &[Point], conditions: &[Condition]) -> Vec<WalkTrigger> {
    let names = section.texts("walk_test");
    check_element_count(section, "walk_test", names.len());
    let mut triggers = Vec::with_capacity(names.len());
    for name in names {
        let Some(trigger) = trigger(&name, points, conditions) else {
            let known = conditions.iter().map(|condition| condition.name.as_ref());
            let known: Vec<&str> = known.chain(points.iter().map(|point| point.name.as_ref())).collect();
            let mend = unknown_point_mend(&name, &known);
            section.problem("walk_test", &name, "neither a condition nor a point of this profile", mend);
            continue;
        };
        let is_text = |point: &Point| matches!(point.value_type, ValueType::Enumeration | ValueType::Text);
        if let WalkTrigger::Point(position) = trigger
            && is_text(&points[usize::from(position)])
        {
            let mend = "name a condition that a detector finds from it, or a point that is a number or true and false";
            section.problem("walk_test", &name, "nobody can say of a text whether it is the test or normal", mend);
            continue;
        }
        triggers.push(trigger);
    }
    triggers
}

fn trigger(name: &str, points: &[Point], conditions: &[Condition]) -> Option<WalkTrigger> {
    let position = |found: Option<usize>| found.and_then(|position| u16::try_from(position).ok());
    let condition = position(conditions.iter().position(|condition| condition.name.as_ref() == name));
    let point = || position(points.iter().position(|point| point.name.as_ref() == name));
    condition.map(WalkTrigger::Condition).or_else(|| point().map(WalkTrigger::Point))
}

#[cfg(test)]
mod tests {
    use crate::document::Problems;
    use crate::profile::{WalkTrigger, parse_profile_text};

    fn text(walk_test: &str) -> String {
        format!(
            "profile: x\nversion: 1\nkind: manhole_cover\nvendor: V\nmodel: M\npayload: {{format: json}}\n{walk_test}\
             points:\n  - {{name: cover_open, path: open, map: {{0: false, 1: true}}}}\n  \
             - {{name: button, path: button}}\n  - {{name: firmware, path: fw, type: text}}\n\
             detectors:\n  - {{condition: battery_low, severity: minor, threshold: {{point: button, above: 9, clear: 8}}}}\n  \
             - {{condition: displaced, severity: critical, state: {{point: cover_open, values: [true]}}}}\n\
             samples:\n  - {{name: s, json: '{{\"open\":0}}', readings: {{cover_open: false}}}}\n  \
             - {{name: bad, text: '{{', error: JSON}}\n"
        )
    }

    fn triggers(walk_test: &str) -> Vec<WalkTrigger> {
        let problems = Problems::default();
        let profile = parse_profile_text("x.yaml", &text(walk_test), &problems);
        let problems: Vec<String> = problems.into_sorted().iter().map(ToString::to_string).collect();
        profile.unwrap_or_else(|| panic!("{problems:?}")).walk_triggers()
    }

    #[test]
    fn without_the_key_a_device_is_tested_by_what_a_person_can_bring_about() {
        assert_eq!(triggers(""), [WalkTrigger::Condition(1)]);
    }

    #[test]
    fn a_profile_names_the_points_and_conditions_that_count() {
        assert_eq!(triggers("walk_test: [button]\n"), [WalkTrigger::Point(1)]);
        let both = [WalkTrigger::Condition(0), WalkTrigger::Point(0)];
        assert_eq!(triggers("walk_test: [battery_low, cover_open]\n"), both);
    }

    #[test]
    fn a_trigger_that_is_not_there_or_is_a_text_is_refused_with_its_mend() {
        let check = |walk_test: &str, expected: &str| {
            let problems = Problems::default();
            assert_eq!(parse_profile_text("x.yaml", &text(walk_test), &problems), None);
            let problems: Vec<String> = problems.into_sorted().iter().map(ToString::to_string).collect();
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{problems:?}");
        };
        check("walk_test: [cover_opn]\n", "did you mean cover_open?");
        check("walk_test: [firmware]\n", "nobody can say of a text");
    }
}
