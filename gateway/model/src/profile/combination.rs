//! What several points say together: tests and operands as trees without loops, so that looking at one costs no more
//! than it has parts. Plain data, checked: every part has its type, so that nothing can fail when it is looked at but
//! a value that nobody knows. The engine does the work.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A combination has no more parts than this, raising and clearing together: each costs 3 to 10 ns at every reading.
pub const COMBINATION_PARTS_MAX: usize = 64;
/// ... and looks at no more points.
pub const COMBINATION_POINTS_MAX: usize = 16;
/// Text of an expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 1_000;

/// Several points that are wrong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Combination {
    /// Wrong while this holds.
    pub raise: Test,
    /// Over while this holds; `None` for as soon as `raise` does not.
    pub clear: Option<Test>,
    /// Nobody knows a value that came longer ago; `None` for three reports of its point.
    pub fresh: Option<Duration>,
    /// Positions of the points that it looks at, in the order in which they are named; at least one.
    pub points: Vec<u16>,
}

/// What is true, false or not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Test {
    /// Always the same.
    Always(bool),
    /// The value of a point that is true or false.
    Point(u16),
    /// Whether there is a usable value of a point, not too old; always known.
    Known(u16),
    /// Not this.
    Not(Box<Test>),
    /// All of these: false when one is false, whatever the others are.
    All(Vec<Test>),
    /// One of these at least: true when one is true, whatever the others are.
    Any(Vec<Test>),
    /// Both are true or both are false.
    Same(Box<(Test, Test)>),
    /// Two numbers compared.
    Number(Operand, Relation, Operand),
    /// Two texts that are the same.
    Text(Word, Word),
    /// The second where the first is true, else the third.
    Choice(Box<(Test, Test, Test)>),
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// Both are the same number.
    Equal,
    /// They are not.
    NotEqual,
    /// The first is the lesser one.
    Less,
    /// The first is not the greater one.
    LessOrEqual,
    /// The first is the greater one.
    Greater,
    /// The first is not the lesser one.
    GreaterOrEqual,
}

/// A number, or not known. What is no finite number, such as a division by zero, is not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Operand {
    /// Always the same.
    Constant(f64),
    /// The value of a point, in its unit.
    Point(u16),
    /// Seconds since the last good value of a point came, however long that is ago.
    Age(u16),
    /// Below zero what is above, and the other way round.
    Negative(Box<Operand>),
    /// Without its sign.
    Size(Box<Operand>),
    /// Both together.
    Sum(Box<(Operand, Operand)>),
    /// The first without the second.
    Difference(Box<(Operand, Operand)>),
    /// The first so many times.
    Product(Box<(Operand, Operand)>),
    /// The first by the second.
    Quotient(Box<(Operand, Operand)>),
    /// The least of these.
    Least(Vec<Operand>),
    /// The greatest of these.
    Greatest(Vec<Operand>),
    /// The first number where the test is true, else the second.
    Choice(Box<(Test, Operand, Operand)>),
}

/// A text, or not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Word {
    /// Always the same.
    Constant(Arc<str>),
    /// The value of a point.
    Point(u16),
}

impl Combination {
    /// A combination with its points found.
    pub fn new(raise: Test, clear: Option<Test>, fresh: Option<Duration>) -> Combination {
        let mut parts = Parts::default();
        [Some(&raise), clear.as_ref()].into_iter().flatten().for_each(|test| parts.test(test));
        Combination { raise, clear, fresh, points: parts.points }
    }

    /// How many parts it has.
    pub fn parts(&self) -> usize {
        let mut parts = Parts::default();
        [Some(&self.raise), self.clear.as_ref()].into_iter().flatten().for_each(|test| parts.test(test));
        parts.count
    }
}

impl Test {
    /// How many parts it has, itself among them.
    pub(crate) fn parts(&self) -> usize {
        let mut parts = Parts::default();
        parts.test(self);
        parts.count
    }
}

impl Operand {
    /// How many parts it has, itself among them.
    pub(crate) fn parts(&self) -> usize {
        let mut parts = Parts::default();
        parts.operand(self);
        parts.count
    }
}

/// What a combination is made of.
#[derive(Default)]
struct Parts {
    count: usize,
    points: Vec<u16>,
}

impl Parts {
    fn point(&mut self, point: u16) {
        if !self.points.contains(&point) {
            self.points.push(point);
        }
    }

    fn test(&mut self, test: &Test) {
        self.count += 1;
        match test {
            Test::Always(_) => {}
            Test::Point(point) | Test::Known(point) => self.point(*point),
            Test::Not(test) => self.test(test),
            Test::All(tests) | Test::Any(tests) => tests.iter().for_each(|test| self.test(test)),
            Test::Same(both) => [&both.0, &both.1].into_iter().for_each(|test| self.test(test)),
            Test::Number(left, _, right) => [left, right].into_iter().for_each(|operand| self.operand(operand)),
            Test::Text(left, right) => {
                for word in [left, right] {
                    self.count += 1;
                    if let Word::Point(point) = word {
                        self.point(*point);
                    }
                }
            }
            Test::Choice(choice) => [&choice.0, &choice.1, &choice.2].into_iter().for_each(|test| self.test(test)),
        }
    }

    fn operand(&mut self, operand: &Operand) {
        self.count += 1;
        match operand {
            Operand::Constant(_) => {}
            Operand::Point(point) | Operand::Age(point) => self.point(*point),
            Operand::Negative(operand) | Operand::Size(operand) => self.operand(operand),
            Operand::Sum(both) | Operand::Difference(both) | Operand::Product(both) | Operand::Quotient(both) => {
                [&both.0, &both.1].into_iter().for_each(|operand| self.operand(operand));
            }
            Operand::Least(operands) | Operand::Greatest(operands) => {
                operands.iter().for_each(|operand| self.operand(operand));
            }
            Operand::Choice(choice) => {
                self.test(&choice.0);
                [&choice.1, &choice.2].into_iter().for_each(|operand| self.operand(operand));
            }
        }
    }
}
