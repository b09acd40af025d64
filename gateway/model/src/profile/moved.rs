//! Rules whose points have moved: a profile names points, and a rule knows them by their positions. After an edit the
//! same rule is found again under its new positions, and a rule with other limits that learns the same goes on with what
//! was learnt.

use super::{Combination, Guard, LoadGoal, Operand, Rule, Test, Trend, Word};

impl Rule {
    /// The same rule where its points stand elsewhere; `None` when one of them is gone. `there` gives the new position
    /// of an old one.
    pub fn moved(&self, there: &dyn Fn(u16) -> Option<u16>) -> Option<Rule> {
        let mut moved = self.clone();
        let mut is_whole = true;
        moved.each_point(&mut |point| match there(*point) {
            Some(position) => *point = position,
            None => is_whole = false,
        });
        is_whole.then_some(moved)
    }

    /// Whether another rule learns, or counts, the same in the same way, whatever follows from it: their limits may
    /// differ. Rules that remember no more than minutes begin anew.
    pub fn learns_as(&self, other: &Rule) -> bool {
        let days = |trend: &Trend| (trend.of, trend.days, trend.learn_when.clone(), trend.behind_permit);
        match (self, other) {
            (Rule::Deviation(one), Rule::Deviation(two)) => {
                (one.weekend, one.rhythm, &one.learn_when) == (two.weekend, two.rhythm, &two.learn_when)
            }
            (Rule::Trend(one), Rule::Trend(two)) => days(one) == days(two),
            (Rule::Baseline(one), Rule::Baseline(two)) => {
                (one.readings, one.steady, one.circle) == (two.readings, two.steady, two.circle)
            }
            (Rule::Frequency(one), Rule::Frequency(two)) => one.hits == two.hits,
            (Rule::Shift(one), Rule::Shift(two)) => {
                (one.of, one.warm_up, &one.learn_when) == (two.of, two.warm_up, &two.learn_when)
            }
            (Rule::Battery(one), Rule::Battery(two)) => {
                days(&one.course) == days(&two.course) && (one.fresh, one.temperature) == (two.fresh, two.temperature)
            }
            (Rule::Load(one), Rule::Load(two)) => {
                let is_of_nights = |goal: &LoadGoal| matches!(goal, LoadGoal::Outside { .. });
                (&one.switches, one.dimming, is_of_nights(&one.goal))
                    == (&two.switches, two.dimming, is_of_nights(&two.goal))
            }
            (Rule::Unusual(one), Rule::Unusual(two)) => {
                (one.mode, one.warm_up, one.every, &one.learn_when)
                    == (two.mode, two.warm_up, two.every, &two.learn_when)
            }
            (Rule::Silence { habit: Some(_), rise: one, .. }, Rule::Silence { habit: Some(_), rise: two, .. }) => {
                one == two
            }
            (Rule::Losses(_), Rule::Losses(_)) => true,
            (Rule::Amount(one), Rule::Amount(two)) => (one.within, one.counts) == (two.within, two.counts),
            _ => false,
        }
    }

    fn each_point(&mut self, visit: &mut dyn FnMut(&mut u16)) {
        match self {
            Rule::Silence { rise: Some(rise), .. } => visit(&mut rise.point),
            Rule::Deviation(rule) => of_guards(&mut rule.learn_when, visit),
            Rule::Trend(rule) => of_guards(&mut rule.learn_when, visit),
            Rule::Shift(rule) => of_guards(&mut rule.learn_when, visit),
            Rule::Unusual(rule) => of_guards(&mut rule.learn_when, visit),
            Rule::Battery(rule) => {
                of_guards(&mut rule.course.learn_when, visit);
                rule.temperature.iter_mut().for_each(|warmth| visit(&mut warmth.point));
            }
            Rule::Load(rule) => rule.switches.iter_mut().chain(&mut rule.dimming).for_each(visit),
            Rule::Combination(rule) | Rule::Expression(rule) => of_combination(rule, visit),
            Rule::Threshold { .. }
            | Rule::State { .. }
            | Rule::Rate { .. }
            | Rule::Flatline { .. }
            | Rule::Silence { rise: None, .. }
            | Rule::Forecast(_)
            | Rule::Baseline(_)
            | Rule::Losses(_)
            | Rule::Amount(_)
            | Rule::Flapping(_)
            | Rule::Frequency(_)
            | Rule::Spike(_) => {}
        }
    }
}

fn of_guards(guards: &mut [Guard], visit: &mut dyn FnMut(&mut u16)) {
    guards.iter_mut().for_each(|guard| visit(&mut guard.point));
}

fn of_combination(rule: &mut Combination, visit: &mut dyn FnMut(&mut u16)) {
    of_test(&mut rule.raise, visit);
    rule.clear.iter_mut().for_each(|test| of_test(test, visit));
    rule.points.iter_mut().for_each(visit);
}

fn of_test(test: &mut Test, visit: &mut dyn FnMut(&mut u16)) {
    match test {
        Test::Always(_) => {}
        Test::Point(point) | Test::Known(point) => visit(point),
        Test::Not(test) => of_test(test, visit),
        Test::All(tests) | Test::Any(tests) => tests.iter_mut().for_each(|test| of_test(test, visit)),
        Test::Same(both) => [&mut both.0, &mut both.1].into_iter().for_each(|test| of_test(test, visit)),
        Test::Number(left, _, right) => [left, right].into_iter().for_each(|operand| of_operand(operand, visit)),
        Test::Text(left, right) => {
            for word in [left, right] {
                if let Word::Point(point) = word {
                    visit(point);
                }
            }
        }
        Test::Choice(choice) => {
            [&mut choice.0, &mut choice.1, &mut choice.2].into_iter().for_each(|test| of_test(test, visit));
        }
    }
}

fn of_operand(operand: &mut Operand, visit: &mut dyn FnMut(&mut u16)) {
    match operand {
        Operand::Constant(_) => {}
        Operand::Point(point) | Operand::Age(point) => visit(point),
        Operand::Negative(operand) | Operand::Size(operand) => of_operand(operand, visit),
        Operand::Sum(both) | Operand::Difference(both) | Operand::Product(both) | Operand::Quotient(both) => {
            [&mut both.0, &mut both.1].into_iter().for_each(|operand| of_operand(operand, visit));
        }
        Operand::Least(operands) | Operand::Greatest(operands) => {
            operands.iter_mut().for_each(|operand| of_operand(operand, visit));
        }
        Operand::Choice(choice) => {
            of_test(&mut choice.0, visit);
            [&mut choice.1, &mut choice.2].into_iter().for_each(|operand| of_operand(operand, visit));
        }
    }
}
