//! The words of an expression in CEL.

/// What an expression is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Number(f64),
    Text(String),
    Name(String),
    /// An operator, a bracket, a comma or a dot.
    Sign(&'static str),
    End,
}

/// Longer ones first, where one begins with another.
const SIGNS: [&str; 22] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", "+", "-", "*", "/", "%", "(", ")", "[", "]", ",", ".",
];

/// Takes an expression apart: each part with the byte where it begins. What it cannot read comes back as that byte and
/// what is wrong there.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, (usize, String)> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        if first.is_whitespace() {
            at += first.len_utf8();
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.find(|other: char| !other.is_ascii_alphanumeric() && other != '_').unwrap_or(rest.len());
            tokens.push((at, Token::Name(rest[..length].to_owned())));
            at += length;
        } else if first.is_ascii_digit() || rest.len() > 1 && first == '.' && rest.as_bytes()[1].is_ascii_digit() {
            let (number, length) = number(rest).map_err(|what| (at, what))?;
            tokens.push((at, Token::Number(number)));
            at += length;
        } else if first == '"' || first == '\'' {
            let (string, length) = string(rest, first).map_err(|what| (at, what))?;
            tokens.push((at, Token::Text(string)));
            at += length;
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push((at, Token::Sign(sign)));
            at += sign.len();
        } else {
            return Err((at, format!("`{first}` stands for nothing here")));
        }
    }
    tokens.push((text.len(), Token::End));
    Ok(tokens)
}

/// A number and how many bytes it takes: `30`, `30.0`, `.5`, `3e2`, `0x1F`, `30u`.
fn number(text: &str) -> Result<(f64, usize), String> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let length = digits.find(|digit: char| !digit.is_ascii_hexdigit()).unwrap_or(digits.len());
        let whole = u32::from_str_radix(&digits[..length], 16);
        let number = whole.map_err(|_| format!("`{}` is not a number up to 0xFFFFFFFF", &text[..length + 2]))?;
        return Ok((f64::from(number), length + 2));
    }
    let bytes = text.as_bytes();
    let digits_from = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut length = digits_from(0);
    let is_fraction = bytes.get(length) == Some(&b'.') && digits_from(length + 1) > 0;
    if is_fraction {
        length += 1 + digits_from(length + 1);
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        let digits = bytes.get(length + 1 + sign..).map_or(0, |_| digits_from(length + 1 + sign));
        if digits > 0 {
            length += 1 + sign + digits;
        }
    }
    let number: f64 = text[..length].parse().map_err(|_| format!("`{}` is no number", &text[..length]))?;
    if !number.is_finite() {
        return Err(format!("`{}` is too large", &text[..length]));
    }
    let has_mark = matches!(bytes.get(length), Some(b'u' | b'U'));
    Ok((number, length + usize::from(has_mark)))
}

/// A text in quotes and how many bytes it takes.
fn string(text: &str, quote: char) -> Result<(String, usize), String> {
    let mut string = String::new();
    let mut signs = text.char_indices().skip(1);
    while let Some((at, sign)) = signs.next() {
        match sign {
            '\n' => break,
            '\\' => match signs.next() {
                Some((_, escaped @ ('\\' | '"' | '\''))) => string.push(escaped),
                _ => return Err("behind `\\` stands another one or a quote".to_owned()),
            },
            _ if sign == quote => return Ok((string, at + 1)),
            _ => string.push(sign),
        }
    }
    Err("this text has no end".to_owned())
}
