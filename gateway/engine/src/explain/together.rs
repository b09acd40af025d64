//! What rules over several points say in words: combinations and expressions, spikes, and the load of lamps. English and
//! Chinese.

use kerbside_model::profile::{
    Combination, Detector, Load, LoadGoal, Operand, Point, Profile, Relation, Rule, Spikes, Test, Word,
};
use kerbside_model::{Ground, Value};

use super::unusual::about;
use super::{chinese_value, english_value, names, rounded, span, span_zh, unit_of};
use crate::detect::{DetectorState, Memory};
use crate::device::DeviceState;

/// Why a combination holds: the values of its points, and what they fulfil.
pub(crate) fn of_combination(profile: &Profile, state: &DeviceState, combination: &Combination) -> (String, String) {
    let (mut english, mut chinese) = (Vec::new(), Vec::new());
    for position in &combination.points {
        let point = &profile.points[usize::from(*position)];
        let Some((value, _, _)) = state.last.usable(*position) else { continue };
        let ((name, name_zh), unit) = (names(point), unit_of(point));
        let is_text = !matches!(value, Value::Number(_));
        let (colon, colon_zh) = if is_text { (":", "：") } else { ("", " ") };
        english.push(format!("{name}{colon} {}{unit}", english_value(value)));
        chinese.push(format!("{name_zh}{colon_zh}{}{unit}", chinese_value(value)));
    }
    let (test, test_zh) = test_words(profile, &combination.raise);
    (format!("{}; wrong while {test}", english.join(", ")), format!("{}；判据：{test_zh}", chinese.join("，")))
}

/// The values of the points of a combination, but for the first, which stands by itself in the evidence.
pub(crate) fn other_points(profile: &Profile, state: &DeviceState, detector: &Detector) -> Vec<Ground> {
    let mut grounds = Vec::new();
    let combination = detector.rule.combination();
    for position in combination.iter().flat_map(|combination| combination.points.iter().skip(1)) {
        let point = &profile.points[usize::from(*position)];
        let Some(last) = state.last.get(usize::from(*position)) else { continue };
        let Some(value) = last.value else { continue };
        let ((name, name_zh), unit) = (names(point), unit_of(point));
        let (flag, observed_at) = (last.quality.flag.name(), last.observed_at);
        let (said, said_zh) = (english_value(value), chinese_value(value));
        grounds.push(Ground {
            en: format!("{name} {said}{unit}, observed at {observed_at}, quality {flag}"),
            zh: format!("{name_zh} {said_zh}{unit}，观测于 {observed_at}，质量 {flag}"),
        });
    }
    grounds
}

/// What a rule over several points, or one that counts spikes, or one of a lamp looks for.
pub(crate) fn rule_words(profile: &Profile, point: &Point, rule: &Rule) -> (String, String) {
    match rule {
        Rule::Combination(combination) | Rule::Expression(combination) => {
            let (mut english, mut chinese) = test_words(profile, &combination.raise);
            (english, chinese) = (format!("rule: {english}"), format!("规则：{chinese}"));
            if let Some((clear, clear_zh)) = combination.clear.as_ref().map(|clear| test_words(profile, clear)) {
                english.push_str(&format!(", over while {clear}"));
                chinese.push_str(&format!("，{clear_zh}时解除"));
            }
            (english, chinese)
        }
        Rule::Spike(spikes) => {
            let Spikes { by, times, window, clear, .. } = spikes;
            let ((name, name_zh), unit) = (names(point), unit_of(point));
            (
                format!(
                    "rule: {name} jumps by {by}{unit} and comes back, {times} times in {}, over at {clear}",
                    span(*window)
                ),
                format!(
                    "规则：{name_zh}在{}内跳变 {by}{unit} 又恢复 {times} 次，降到 {clear} 次解除",
                    span_zh(*window)
                ),
            )
        }
        Rule::Load(load) => load_words(point, load),
        _ => (String::new(), String::new()),
    }
}

fn load_words(point: &Point, load: &Load) -> (String, String) {
    let (name, name_zh) = names(point);
    match load.goal {
        LoadGoal::Below { raise, clear } => (
            format!("rule: {name} {raise} % or less of what is usual for what is switched on, over at {clear} %"),
            format!("规则：{name_zh}不高于当前开灯状态常值的 {raise}%，回到 {clear}% 解除"),
        ),
        LoadGoal::Above { raise, clear } => (
            format!("rule: {name} {raise} % or more of what is usual with all on, over at {clear} %"),
            format!("规则：{name_zh}不低于全亮常值的 {raise}%，降到 {clear}% 解除"),
        ),
        LoadGoal::Outside { min, max, nights } => (
            format!("rule: {name} outside {min} to {max} % of what is usual, in {nights} nights running"),
            format!("规则：{name_zh}连续 {nights} 夜超出常值的 {min}%～{max}%"),
        ),
    }
}

/// Why a rule that counts spikes, or one of a lamp, found something; `number` is the last reading.
pub(crate) fn of_lamp_or_spikes(point: &Point, rule: &Rule, state: &DetectorState, number: f64) -> (String, String) {
    let ((name, name_zh), unit, shown) = (names(point), unit_of(point), rounded(number));
    match (rule, state.memory()) {
        (Rule::Spike(spikes), Some(Memory::Spikes(times))) => {
            let Spikes { by, window, .. } = spikes;
            let count = times.count();
            (
                format!(
                    "{name} jumped by {by}{unit} or more and came back {count} times in {}, now {shown}{unit}",
                    span(*window)
                ),
                format!("{name_zh}在{}内 {count} 次跳变 {by}{unit} 以上又恢复，现为 {shown}{unit}", span_zh(*window)),
            )
        }
        (Rule::Load(load), Some(Memory::Load(table))) => {
            if let LoadGoal::Outside { min, max, .. } = load.goal {
                let nights = table.nights();
                return (
                    format!("{name} was outside {min} to {max} % of what is usual on most readings of {nights} nights"),
                    format!("{name_zh}连续 {nights} 夜多数读数超出常值的 {min}%～{max}%"),
                );
            }
            let expected = table.compared_with().unwrap_or(f64::NAN);
            let (percent, expected) = (rounded((number / expected * 100.0).round()), about(expected));
            let (of_what, of_what_zh) = match load.goal {
                LoadGoal::Above { .. } => ("with all on", "全亮"),
                _ => ("for what is switched on", "当前开灯状态"),
            };
            (
                format!("{name} {shown}{unit}, {percent} % of the {expected}{unit} that are usual {of_what}"),
                format!("{name_zh} {shown}{unit}，为{of_what_zh}常值 {expected}{unit} 的 {percent}%"),
            )
        }
        _ => (format!("{name} {shown}{unit}"), format!("{name_zh} {shown}{unit}")),
    }
}

/// A test in words of both languages. What is joined stands in brackets where it is a part of something else.
fn test_words(profile: &Profile, test: &Test) -> (String, String) {
    let part = |test: &Test| {
        let (english, chinese) = test_words(profile, test);
        match test {
            Test::All(tests) | Test::Any(tests) if tests.len() > 1 => {
                (format!("({english})"), format!("（{chinese}）"))
            }
            _ => (english, chinese),
        }
    };
    let joined = |tests: &[Test], (word, word_zh): (&str, &str)| {
        let (english, chinese): (Vec<String>, Vec<String>) = tests.iter().map(part).unzip();
        (english.join(word), chinese.join(word_zh))
    };
    match test {
        Test::Always(true) => ("always".to_owned(), "恒成立".to_owned()),
        Test::Always(false) => ("never".to_owned(), "恒不成立".to_owned()),
        Test::Point(point) => both(profile, *point),
        Test::Known(point) => {
            let (name, name_zh) = both(profile, *point);
            (format!("{name} is known"), format!("{name_zh}有有效值"))
        }
        Test::Not(test) => {
            let (english, chinese) = part(test);
            (format!("not {english}"), format!("非{chinese}"))
        }
        Test::All(tests) => joined(tests, (" and ", " 且 ")),
        Test::Any(tests) => joined(tests, (" or ", " 或 ")),
        Test::Same(pair) => {
            let ((one, one_zh), (other, other_zh)) = (part(&pair.0), part(&pair.1));
            (format!("{one} as {other}"), format!("{one_zh}与{other_zh}一致"))
        }
        Test::Number(left, relation, right) => {
            let unit = unit_beside(profile, left, right);
            let ((one, one_zh), (other, other_zh)) = (operand_words(profile, left), operand_words(profile, right));
            let sign = sign(*relation);
            (format!("{one} {sign} {other}{unit}"), format!("{one_zh} {sign} {other_zh}{unit}"))
        }
        Test::Text(left, right) => {
            let ((one, one_zh), (other, other_zh)) = (word_words(profile, left), word_words(profile, right));
            (format!("{one} is {other}"), format!("{one_zh}为{other_zh}"))
        }
        Test::Choice(choice) => {
            let (when, when_zh) = part(&choice.0);
            let ((yes, yes_zh), (no, no_zh)) = (part(&choice.1), part(&choice.2));
            (format!("{yes} if {when}, else {no}"), format!("若{when_zh}则{yes_zh}，否则{no_zh}"))
        }
    }
}

fn both(profile: &Profile, point: u16) -> (String, String) {
    let (name, name_zh) = names(&profile.points[usize::from(point)]);
    (name.to_owned(), name_zh.to_owned())
}

/// The unit of a number that stands behind a point.
fn unit_beside(profile: &Profile, left: &Operand, right: &Operand) -> String {
    match (left, right) {
        (Operand::Point(point), Operand::Constant(_)) => unit_of(&profile.points[usize::from(*point)]),
        (Operand::Age(_), Operand::Constant(_)) => " s".to_owned(),
        _ => String::new(),
    }
}

fn sign(relation: Relation) -> &'static str {
    match relation {
        Relation::Equal => "=",
        Relation::NotEqual => "≠",
        Relation::Less => "<",
        Relation::LessOrEqual => "≤",
        Relation::Greater => ">",
        Relation::GreaterOrEqual => "≥",
    }
}

fn word_words(profile: &Profile, word: &Word) -> (String, String) {
    match word {
        Word::Constant(text) => (text.to_string(), text.to_string()),
        Word::Point(point) => both(profile, *point),
    }
}

fn operand_words(profile: &Profile, operand: &Operand) -> (String, String) {
    let pair = |pair: &(Operand, Operand), sign: &str| {
        let ((one, one_zh), (other, other_zh)) = (operand_words(profile, &pair.0), operand_words(profile, &pair.1));
        (format!("({one} {sign} {other})"), format!("（{one_zh} {sign} {other_zh}）"))
    };
    let listed = |operands: &[Operand], (word, word_zh): (&str, &str)| {
        let (english, chinese): (Vec<String>, Vec<String>) =
            operands.iter().map(|operand| operand_words(profile, operand)).unzip();
        (format!("the {word} of {}", english.join(", ")), format!("{}中的{word_zh}", chinese.join("、")))
    };
    match operand {
        Operand::Constant(number) => (rounded(*number), rounded(*number)),
        Operand::Point(point) => both(profile, *point),
        Operand::Age(point) => {
            let (name, name_zh) = both(profile, *point);
            (format!("the age of {name}"), format!("{name_zh}距今时间"))
        }
        Operand::Negative(operand) => {
            let (english, chinese) = operand_words(profile, operand);
            (format!("-{english}"), format!("-{chinese}"))
        }
        Operand::Size(operand) => {
            let (english, chinese) = operand_words(profile, operand);
            (format!("|{english}|"), format!("|{chinese}|"))
        }
        Operand::Sum(both) => pair(both, "+"),
        Operand::Difference(both) => pair(both, "-"),
        Operand::Product(both) => pair(both, "×"),
        Operand::Quotient(both) => pair(both, "÷"),
        Operand::Least(operands) => listed(operands, ("least", "最小值")),
        Operand::Greatest(operands) => listed(operands, ("greatest", "最大值")),
        Operand::Choice(choice) => {
            let (when, when_zh) = test_words(profile, &choice.0);
            let ((yes, yes_zh), (no, no_zh)) = (operand_words(profile, &choice.1), operand_words(profile, &choice.2));
            (format!("({yes} if {when}, else {no})"), format!("（若{when_zh}则{yes_zh}，否则{no_zh}）"))
        }
    }
}
