//! Finds the lines of a type conflict by the database's own words, without asking again line by line.
//!
//! InfluxDB stores the other lines of a request, names field and measurement of the conflict, and says how many lines
//! it dropped. When as many lines carry that field, they are the ones.

/// The lines, of those given with their numbers, that the database speaks of; `None` when its words do not settle it.
pub(super) fn dropped_lines<'a>(
    reason: &str,
    dropped: usize,
    lines: impl Iterator<Item = (usize, &'a [u8])>,
) -> Option<Vec<usize>> {
    let (field, measurement) = named(reason)?;
    let found: Vec<usize> =
        lines.filter(|(_, line)| has_field(line, measurement, field)).map(|(number, _)| number).collect();
    (found.len() == dropped).then_some(found)
}

/// `... input field "state" on measurement "drain" is type string, already exists as type float ...`
fn named(reason: &str) -> Option<(&str, &str)> {
    let (_, rest) = reason.split_once("field type conflict: input field \"")?;
    let (field, rest) = rest.split_once("\" on measurement \"")?;
    let (measurement, _) = rest.split_once("\" is type")?;
    Some((field, measurement))
}

/// Whether a line of our own encoder has the field. A text that looks like one only makes the number not fit.
fn has_field(line: &[u8], measurement: &str, field: &str) -> bool {
    let Some(rest) = line.strip_prefix(measurement.as_bytes()) else { return false };
    if !matches!(rest.first(), Some(b',' | b' ')) {
        return false;
    }
    let key = [field.as_bytes(), b"="].concat();
    let follows = |position: usize| position > 0 && matches!(rest[position - 1], b',' | b' ');
    rest.windows(key.len()).enumerate().any(|(position, window)| window == key && follows(position))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 4] = [
        "drain,device=A,profile=p level_mm=1,state=\"on\",received_at=1i 1\n",
        "drain,device=B,profile=p level_mm=1,received_at=1i 1\n",
        "drainage,device=C,profile=p state=\"on\",received_at=1i 1\n",
        "drain,device=D,profile=p state=\"off\",level_mm=2,received_at=1i 1\n",
    ];

    fn check(reason: &str, dropped: usize) -> Option<Vec<usize>> {
        dropped_lines(reason, dropped, LINES.iter().map(|line| line.as_bytes()).enumerate())
    }

    #[test]
    fn the_lines_with_the_field_are_the_dropped_ones_when_their_number_fits() {
        let reason = "partial write: field type conflict: input field \"state\" on measurement \"drain\" is type \
                      string, already exists as type float dropped=2";
        assert_eq!(check(reason, 2), Some(vec![0, 3]));
        assert_eq!(check(reason, 3), None, "there is another reason for one of them");
        assert_eq!(check("partial write: points beyond retention policy dropped=2", 2), None);
    }
}
