//! Expressions in CEL (Common Expression Language, github.com/google/cel-spec) over the points of a profile.
//!
//! Read here are the parts of the language that a rule has use for: its operators with their order, its literals, and a
//! few functions. They become tests and amounts whose types fit, or a problem with its column. What loops, reads a clock
//! or makes values of unbounded size is not there, so an expression costs no more than it has parts. All numbers are of
//! one kind (double): 7 / 2 is 3.5. Why there is no interpreter: docs/decisions/0016-expressions-as-trees.md.

mod token;

use std::sync::Arc;

use self::token::{Token, tokens};
use super::points::unknown_point_mend;
use crate::document::{Section, closest};
use crate::profile::{COMBINATION_PARTS_MAX, EXPRESSION_BYTES_MAX, Operand, Point, Relation, Test, ValueType, Word};

/// Brackets and choices inside one another.
const DEPTH_MAX: usize = 24;
/// Functions that an expression may call.
const FUNCTIONS: [&str; 5] = ["age", "known", "math.abs", "math.greatest", "math.least"];
const MEND: &str = "write an expression in CEL, such as `leakage_ma > 30.0 && water_present`";

/// Reads the expression at a key of a rule. What is wrong was noted when nothing comes back.
pub(super) fn read_expression(rule: &Section<'_>, key: &'static str, points: &[Point]) -> Option<Test> {
    let text = rule.text(key)?;
    if text.len() > EXPRESSION_BYTES_MAX {
        let mend = "write several detectors of the same condition";
        rule.problem(key, "", format!("longer than {EXPRESSION_BYTES_MAX} bytes"), mend);
        return None;
    }
    match parse(&text, points) {
        Ok(test) => Some(test),
        Err(Fault { offset, what, mend }) => {
            rule.problem(key, &text, format!("{what}, at {}", place(&text, offset)), mend);
            None
        }
    }
}

fn parse(text: &str, points: &[Point]) -> Result<Test, Fault> {
    let tokens = tokens(text).map_err(|(offset, what)| Fault { offset, what, mend: MEND.to_owned() })?;
    let mut reader = Reader { points, tokens, next: 0, depth: 0 };
    let (offset, whole) = reader.choice()?;
    match reader.peek() {
        Token::End => test(offset, whole),
        _ => reader.unexpected("an operator or the end"),
    }
}

/// What is wrong with a part of an expression.
struct Fault {
    /// Where it begins, in bytes.
    offset: usize,
    what: String,
    mend: String,
}

/// A part of an expression by its type.
#[derive(Clone)]
enum Part {
    Test(Test),
    Operand(Operand),
    Word(Word),
}

impl Part {
    fn kind(&self) -> &'static str {
        match self {
            Part::Test(_) => "true or false",
            Part::Operand(_) => "a number",
            Part::Word(_) => "a text",
        }
    }

    /// As many as count towards the limit of a combination.
    fn parts(&self) -> usize {
        match self {
            Part::Test(test) => test.parts(),
            Part::Operand(operand) => operand.parts(),
            Part::Word(_) => 1,
        }
    }
}

/// A part and the byte where it begins.
type Placed = (usize, Part);

fn fault<T>(offset: usize, what: impl Into<String>, mend: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { offset, what: what.into(), mend: mend.into() })
}

/// Line and column of an offset, both from 1.
fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    if line > 1 { format!("line {line}, column {column} of the expression") } else { format!("column {column}") }
}

fn test(offset: usize, part: Part) -> Result<Test, Fault> {
    match part {
        Part::Test(test) => Ok(test),
        other => fault(
            offset,
            format!("this is {} and should be true or false", other.kind()),
            "compare it with something: `leakage_ma > 30.0`",
        ),
    }
}

fn operand((offset, part): Placed) -> Result<Operand, Fault> {
    match part {
        Part::Operand(operand) => Ok(operand),
        other => fault(
            offset,
            format!("this is {} and should be a number", other.kind()),
            "use a point that is a number, or a number",
        ),
    }
}

/// Reads an expression from the left to the right; each function reads what binds more closely than the one before.
struct Reader<'a> {
    points: &'a [Point],
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn offset(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |(offset, _)| *offset)
    }

    /// Takes the next sign when it is one of these.
    fn take(&mut self, signs: &[&'static str]) -> Option<&'static str> {
        let Token::Sign(sign) = self.peek() else { return None };
        let sign = signs.iter().find(|wanted| *wanted == sign).copied()?;
        self.next += 1;
        Some(sign)
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Fault> {
        match self.take(&[sign]) {
            Some(_) => Ok(()),
            None => self.unexpected(&format!("`{sign}`")),
        }
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T, Fault> {
        let found = match self.peek() {
            Token::Number(number) => format!("`{number}`"),
            Token::Text(text) => format!("{text:?}"),
            Token::Name(name) => format!("`{name}`"),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".to_owned(),
        };
        fault(self.offset(), format!("{wanted} is missing before {found}"), MEND)
    }

    /// `a ? b : c`
    fn choice(&mut self) -> Result<Placed, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let mend = "write several detectors of the same condition";
            return fault(self.offset(), format!("more than {DEPTH_MAX} inside one another"), mend);
        }
        let (offset, mut part) = self.any()?;
        if self.take(&["?"]).is_some() {
            let condition = test(offset, part)?;
            let (_, yes) = self.any()?;
            self.expect(":")?;
            let (no_offset, no) = self.choice()?;
            part = match (yes, no) {
                (Part::Test(yes), Part::Test(no)) => Part::Test(Test::Choice(Box::new((condition, yes, no)))),
                (Part::Operand(yes), Part::Operand(no)) => {
                    Part::Operand(Operand::Choice(Box::new((condition, yes, no))))
                }
                (one, other) => {
                    let what = format!("the two sides of `:` are {} and {}", one.kind(), other.kind());
                    return fault(no_offset, what, "write two numbers, or two tests");
                }
            };
        }
        self.depth -= 1;
        Ok((offset, part))
    }

    fn any(&mut self) -> Result<Placed, Fault> {
        let first = self.all()?;
        self.joined(first, "||", Reader::all, Test::Any)
    }

    fn all(&mut self) -> Result<Placed, Fault> {
        let first = self.relation()?;
        self.joined(first, "&&", Reader::relation, Test::All)
    }

    fn joined(
        &mut self,
        (offset, first): Placed,
        sign: &'static str,
        read: fn(&mut Self) -> Result<Placed, Fault>,
        join: fn(Vec<Test>) -> Test,
    ) -> Result<Placed, Fault> {
        if self.take(&[sign]).is_none() {
            return Ok((offset, first));
        }
        let mut tests = vec![test(offset, first)?];
        loop {
            let (offset, part) = read(self)?;
            tests.push(test(offset, part)?);
            if self.take(&[sign]).is_none() {
                return Ok((offset, Part::Test(join(tests))));
            }
        }
    }

    fn relation(&mut self) -> Result<Placed, Fault> {
        let mut left = self.sum()?;
        loop {
            let offset = left.0;
            let found = if *self.peek() == Token::Name("in".to_owned()) {
                self.next += 1;
                self.one_of(&left)?
            } else {
                let Some(sign) = self.take(&["<=", ">=", "<", ">", "==", "!="]) else { return Ok(left) };
                let right = self.sum()?;
                let relation = match sign {
                    "==" => None,
                    "!=" => Some(Relation::NotEqual),
                    "<" => Some(Relation::Less),
                    "<=" => Some(Relation::LessOrEqual),
                    ">" => Some(Relation::Greater),
                    _ => Some(Relation::GreaterOrEqual),
                };
                match relation {
                    None => self.equal(left, right)?,
                    Some(Relation::NotEqual) => match self.equal(left, right)? {
                        Test::Number(left, _, right) => Test::Number(left, Relation::NotEqual, right),
                        equal => Test::Not(Box::new(equal)),
                    },
                    Some(relation) => Test::Number(operand(left)?, relation, operand(right)?),
                }
            };
            left = (offset, Part::Test(found));
        }
    }

    fn equal(&self, (left_offset, left): Placed, (offset, right): Placed) -> Result<Test, Fault> {
        match (left, right) {
            (Part::Operand(one), Part::Operand(other)) => Ok(Test::Number(one, Relation::Equal, other)),
            (Part::Test(test), Part::Test(Test::Always(true))) | (Part::Test(Test::Always(true)), Part::Test(test)) => {
                Ok(test)
            }
            (Part::Test(test), Part::Test(Test::Always(false)))
            | (Part::Test(Test::Always(false)), Part::Test(test)) => Ok(Test::Not(Box::new(test))),
            (Part::Test(one), Part::Test(other)) => Ok(Test::Same(Box::new((one, other)))),
            (Part::Word(one), Part::Word(other)) => {
                self.check_label(offset, &one, &other)?;
                self.check_label(left_offset, &other, &one)?;
                Ok(Test::Text(one, other))
            }
            (one, other) => fault(
                offset,
                format!("{} is never equal to {}", other.kind(), one.kind()),
                "compare numbers with numbers and texts with texts",
            ),
        }
    }

    /// A label that the point of an enumeration never has would make a rule that never finds anything.
    fn check_label(&self, offset: usize, point: &Word, label: &Word) -> Result<(), Fault> {
        let (Word::Point(position), Word::Constant(text)) = (point, label) else { return Ok(()) };
        let point = &self.points[usize::from(*position)];
        let labels: Vec<String> = point.map.iter().map(|(_, label)| label.to_string()).collect();
        let is_known = labels.iter().any(|label| **label == **text);
        if point.value_type != ValueType::Enumeration || labels.is_empty() || is_known {
            return Ok(());
        }
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let mend = match closest(text, &labels) {
            Some(label) => format!("did you mean {label}?"),
            None => format!("use one of the labels in its map: {}", labels.join(", ")),
        };
        fault(offset, format!("{} never is {text:?}", point.name), mend)
    }

    fn one_of(&mut self, left: &Placed) -> Result<Test, Fault> {
        if self.take(&["["]).is_none() {
            return fault(self.offset(), "`in` needs a list", "write `state in [\"a\", \"b\"]`");
        }
        let mut tests = Vec::new();
        while self.take(&["]"]).is_none() {
            if !tests.is_empty() {
                self.expect(",")?;
            }
            let (offset, item) = self.choice()?;
            // What stands before `in` is compared with each item: lists behind lists would double it without end.
            if left.1.parts() * (tests.len() + 1) > COMBINATION_PARTS_MAX {
                let what =
                    format!("what stands before `in`, for each item, has more than {COMBINATION_PARTS_MAX} parts");
                return fault(offset, what, "write fewer items, or less before `in`");
            }
            tests.push(self.equal(left.clone(), (offset, item))?);
        }
        Ok(Test::Any(tests))
    }

    fn sum(&mut self) -> Result<Placed, Fault> {
        let mut left = self.product()?;
        while let Some(sign) = self.take(&["+", "-"]) {
            let offset = left.0;
            let both = Box::new((operand(left)?, operand(self.product()?)?));
            left = (offset, Part::Operand(if sign == "+" { Operand::Sum(both) } else { Operand::Difference(both) }));
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Placed, Fault> {
        let mut left = self.unary()?;
        loop {
            let sign_offset = self.offset();
            let Some(sign) = self.take(&["*", "/", "%"]) else { return Ok(left) };
            if sign == "%" {
                return fault(sign_offset, "`%` is for whole numbers, and points are not", "leave it out");
            }
            let offset = left.0;
            let both = Box::new((operand(left)?, operand(self.unary()?)?));
            left = (offset, Part::Operand(if sign == "*" { Operand::Product(both) } else { Operand::Quotient(both) }));
        }
    }

    fn unary(&mut self) -> Result<Placed, Fault> {
        let offset = self.offset();
        let Some(sign) = self.take(&["!", "-"]) else { return self.primary() };
        let mut count = 1;
        while self.take(&[sign]).is_some() {
            count += 1;
        }
        let part = self.primary()?;
        let is_odd = count % 2 == 1;
        let part = match sign {
            "!" => match test(part.0, part.1)? {
                test if is_odd => Part::Test(Test::Not(Box::new(test))),
                test => Part::Test(test),
            },
            _ => Part::Operand(match operand(part)? {
                Operand::Constant(number) => Operand::Constant(if is_odd { -number } else { number }),
                operand if is_odd => Operand::Negative(Box::new(operand)),
                operand => operand,
            }),
        };
        Ok((offset, part))
    }

    fn primary(&mut self) -> Result<Placed, Fault> {
        let offset = self.offset();
        let token = self.peek().clone();
        let part = match token {
            Token::Number(number) => Part::Operand(Operand::Constant(number)),
            Token::Text(text) => Part::Word(Word::Constant(Arc::from(text.as_str()))),
            Token::Name(name) => {
                self.next += 1;
                return self.name(offset, name).map(|part| (offset, part));
            }
            Token::Sign("(") => {
                self.next += 1;
                let (_, part) = self.choice()?;
                self.expect(")")?;
                return self.end_of_member((offset, part));
            }
            Token::Sign("[") => return fault(offset, "a list stands only behind `in`", "write `state in [\"a\"]`"),
            Token::Sign(_) | Token::End => return self.unexpected("a point, a number or a text"),
        };
        self.next += 1;
        self.end_of_member((offset, part))
    }

    /// A value has no fields, no elements and no functions of its own.
    fn end_of_member(&self, placed: Placed) -> Result<Placed, Fault> {
        match self.peek() {
            Token::Sign("." | "[") => {
                fault(self.offset(), "values have no parts", "write the name of a point alone, or compare it")
            }
            _ => Ok(placed),
        }
    }

    fn name(&mut self, offset: usize, name: String) -> Result<Part, Fault> {
        match name.as_str() {
            "true" => return Ok(Part::Test(Test::Always(true))),
            "false" => return Ok(Part::Test(Test::Always(false))),
            "null" => return fault(offset, "no value is null", "ask whether there is one: `known(level_mm)`"),
            _ => {}
        }
        let mut full = name.clone();
        if self.take(&["."]).is_some() {
            let Token::Name(field) = self.peek().clone() else { return self.unexpected("a name") };
            self.next += 1;
            full = format!("{name}.{field}");
            if *self.peek() != Token::Sign("(") {
                return fault(offset, format!("`{full}` is nothing: points have no fields"), "write a point alone");
            }
        }
        if self.take(&["("]).is_some() {
            let part = self.function(offset, &full)?;
            return self.end_of_member((offset, part)).map(|(_, part)| part);
        }
        let (position, point) = self.point(offset, &name)?;
        let part = match point.value_type {
            ValueType::Number => Part::Operand(Operand::Point(position)),
            ValueType::Boolean => Part::Test(Test::Point(position)),
            ValueType::Enumeration | ValueType::Text => Part::Word(Word::Point(position)),
        };
        self.end_of_member((offset, part)).map(|(_, part)| part)
    }

    fn point(&self, offset: usize, name: &str) -> Result<(u16, &Point), Fault> {
        let position = self.points.iter().position(|point| *point.name == *name);
        let found = position.and_then(|position| Some((u16::try_from(position).ok()?, &self.points[position])));
        match found {
            Some(found) => Ok(found),
            None => {
                let names: Vec<&str> = self.points.iter().map(|point| point.name.as_ref()).collect();
                fault(offset, format!("there is no point `{name}`"), unknown_point_mend(name, &names))
            }
        }
    }

    /// A call, behind its bracket.
    fn function(&mut self, offset: usize, name: &str) -> Result<Part, Fault> {
        if !FUNCTIONS.contains(&name) {
            let mend = format!("there are {}", FUNCTIONS.join(", "));
            return fault(offset, format!("there is no function `{name}`"), mend);
        }
        if !name.starts_with("math.") {
            let argument_offset = self.offset();
            let Token::Name(point) = self.peek().clone() else { return self.unexpected("the name of a point") };
            self.next += 1;
            let (position, _) = self.point(argument_offset, &point)?;
            self.expect(")")?;
            return Ok(match name {
                "age" => Part::Operand(Operand::Age(position)),
                _ => Part::Test(Test::Known(position)),
            });
        }
        let mut operands = Vec::new();
        while self.take(&[")"]).is_none() {
            if !operands.is_empty() {
                self.expect(",")?;
            }
            operands.push(operand(self.choice()?)?);
        }
        Ok(Part::Operand(match (name, operands.len()) {
            ("math.abs", 1) => Operand::Size(Box::new(operands.swap_remove(0))),
            ("math.greatest", 1..) => Operand::Greatest(operands),
            ("math.least", 1..) => Operand::Least(operands),
            (_, count) => {
                let what = format!("`{name}` takes no {count} numbers");
                return fault(offset, what, "write `math.abs(x)`, `math.least(x, y)` or `math.greatest(x, y)`");
            }
        }))
    }
}
