//! A series of any length in bounded memory, for a picture: least, greatest and last value of equal spans of time.

use kerbside_model::Timestamp;

/// More are joined in pairs: a picture is not wider.
const SPANS_MAX: usize = 2_048;
const SPAN_MS_FIRST: i64 = 1_000;

/// What was read of a point.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trace {
    /// Begin of the first span.
    start: Timestamp,
    span_ms: i64,
    spans: Vec<Option<Span>>,
}

/// The readings of a span of time. Those that are not good would press the others flat, and are only marked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    /// Whether there is a good one; else the values say nothing.
    pub(super) has_good: bool,
    pub(super) least: f64,
    pub(super) greatest: f64,
    pub(super) last: f64,
    /// Whether some of them are not good.
    pub(super) has_bad: bool,
}

impl Trace {
    pub(super) fn new() -> Trace {
        Trace { start: Timestamp::default(), span_ms: SPAN_MS_FIRST, spans: Vec::new() }
    }

    pub(super) fn push(&mut self, at: Timestamp, number: f64, is_good: bool) {
        if self.spans.is_empty() {
            self.start = at;
        }
        if at < self.start {
            return;
        }
        let mut place = self.place(at);
        while place >= SPANS_MAX {
            self.halve();
            place = self.place(at);
        }
        if self.spans.len() <= place {
            self.spans.resize(place + 1, None);
        }
        let read = Span { has_good: is_good, least: number, greatest: number, last: number, has_bad: !is_good };
        self.spans[place] = Some(self.spans[place].map_or(read, |span| join(span, read)));
    }

    fn place(&self, at: Timestamp) -> usize {
        usize::try_from((at.0 - self.start.0) / self.span_ms).unwrap_or(usize::MAX)
    }

    fn halve(&mut self) {
        self.span_ms *= 2;
        self.spans = self
            .spans
            .chunks(2)
            .map(|pair| match pair {
                [Some(first), Some(second)] => Some(join(*first, *second)),
                [first, second] => first.or(*second),
                single => single[0],
            })
            .collect();
    }

    /// Middle of a span and its readings, where there are any.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Timestamp, Span)> {
        let middle = |place: usize| {
            let before = i64::try_from(place).unwrap_or(i64::MAX).saturating_mul(self.span_ms);
            Timestamp(self.start.0.saturating_add(before).saturating_add(self.span_ms / 2))
        };
        self.spans.iter().enumerate().filter_map(move |(place, span)| Some((middle(place), (*span)?)))
    }
}

fn join(one: Span, next: Span) -> Span {
    let has_bad = one.has_bad || next.has_bad;
    if !one.has_good || !next.has_good {
        return Span { has_bad, ..if one.has_good { one } else { next } };
    }
    Span {
        has_good: true,
        least: one.least.min(next.least),
        greatest: one.greatest.max(next.greatest),
        last: next.last,
        has_bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_keeps_its_extremes_in_bounded_memory() {
        let mut trace = Trace::new();
        for number in 0..1_000_000_i64 {
            let value = if number == 777_777 { 5_000.0 } else { (number % 100) as f64 };
            trace.push(Timestamp(number * 60_000), value, number != 123_456);
        }
        let spans: Vec<_> = trace.iter().collect();
        assert!(spans.len() <= SPANS_MAX && spans.len() > SPANS_MAX / 2, "{}", spans.len());
        assert_eq!(spans.iter().map(|(_, span)| span.greatest).fold(0.0, f64::max), 5_000.0);
        assert_eq!(spans.iter().filter(|(_, span)| span.has_bad).count(), 1);
    }
}
