//! `quality` of a point: what is tested of its readings.

use std::time::Duration;

use super::points::unknown_point_mend;
use super::scalar::value_of_point;
use super::{Place, Report};
use crate::document::{NodeKind, Section};
use crate::profile::{
    Attenuated, ChangeRate, Drift, FLAT_READINGS_MAX, FaultRule, Flat, GuardTest, Limits, Movement, NEIGHBOURS_MAX,
    Neighbours, Origin, Point, PointQuality, Range, Season, Spans, Spike, SpikeMethod, Validity, ValueType,
    WINDOW_READINGS_MAX,
};
use crate::reading::Flag;

/// Tests that a kind of point has by itself, and that `without` takes away.
const DEFAULTS: [(&str, TakenAway); 1] = [("rate", TakenAway::Rate)];
/// A standard deviation over fewer readings says little, and a range over one is 0.
const COUNT_LEAST: u16 = 3;

#[derive(Clone, Copy)]
enum TakenAway {
    Rate,
}

/// Reads `quality` of every point. Points name one another, so all of them are known before.
pub(super) fn read_quality(top: &Section<'_>, points: &mut [Point], interval: Option<Duration>, report: Report<'_>) {
    for (position, section) in top.sections("points").into_iter().enumerate() {
        let Some(quality) = section.section("quality") else { continue };
        let reader = QualityReader { section: &quality, points, position, interval, report };
        let read = reader.read();
        quality.finish();
        points[position].quality = read;
    }
}

struct QualityReader<'a> {
    section: &'a Section<'a>,
    points: &'a [Point],
    position: usize,
    interval: Option<Duration>,
    report: Report<'a>,
}

impl QualityReader<'_> {
    fn read(&self) -> PointQuality {
        let section = self.section;
        self.check_number();
        let mut quality = self.point().quality.clone();
        for name in section.texts("without") {
            match DEFAULTS.iter().find(|(known, _)| *known == name) {
                Some((_, TakenAway::Rate)) => quality.rate = None,
                None => section.problem(
                    "without",
                    &name,
                    "no kind of point has this test by itself",
                    format!("write one of {}, or leave it out", DEFAULTS.map(|(name, _)| name).join(", ")),
                ),
            }
        }
        quality.range = self.read_range();
        quality.climatology = section.sections("climatology").iter().filter_map(read_season).collect();
        quality.spike = section.section("spike").and_then(|spike| self.read_spike(&spike));
        quality.rate = section.section("rate").and_then(|rate| read_rate(&rate)).or(quality.rate);
        quality.flat = section.section("flat").and_then(|flat| self.read_flat(&flat));
        quality.attenuated = section.section("attenuated").and_then(|part| self.read_attenuated(&part));
        quality.gap = section.section("gap").and_then(|gap| self.read_gap(&gap));
        quality.neighbours = section.section("neighbours").and_then(|part| read_neighbours(&part));
        quality.drift = section.section("drift").and_then(|drift| read_drift(&drift));
        quality.valid_when =
            section.sections("valid_when").iter().filter_map(|part| self.read_validity(part)).collect();
        quality.fault = section.section("fault").map_or(quality.fault, |fault| read_fault(&fault, quality.fault));
        quality
    }

    fn point(&self) -> &Point {
        &self.points[self.position]
    }

    fn point_interval(&self) -> Option<Duration> {
        self.point().interval.or(self.interval)
    }

    /// Only `valid_when`, `gap` and `fault` are about values that are no numbers.
    fn check_number(&self) {
        if self.point().value_type == ValueType::Number {
            return;
        }
        for key in ["range", "climatology", "spike", "rate", "flat", "attenuated", "neighbours", "drift"] {
            if self.section.has(key) {
                let mend = "leave it out: `gap` and `valid_when` are for every type";
                self.section.problem(key, "", "only a number is tested in this way", mend);
            }
        }
    }

    fn read_range(&self) -> Option<Range> {
        let suspect = read_span(&self.section.section("range")?)?;
        let fail = self.point().range;
        if let Some(fail) = fail.filter(|fail| suspect.min < fail.min || suspect.max > fail.max) {
            self.section.problem(
                "range",
                &format!("{} to {}", suspect.min, suspect.max),
                format!(
                    "this reaches beyond the point's own range of {} to {}, outside of which all is bad",
                    fail.min, fail.max
                ),
                "write a narrower range: what is outside of it is suspect",
            );
        }
        Some(suspect)
    }

    fn read_spike(&self, spike: &Section<'_>) -> Option<Spike> {
        let methods = [("differential", SpikeMethod::Differential), ("average", SpikeMethod::Average)];
        let method = spike.choice("method", &methods).unwrap_or(SpikeMethod::Differential);
        let limits = read_limits(spike, Order::SuspectFirst);
        spike.known_only();
        let own = u16::try_from(self.position).unwrap_or(u16::MAX);
        let derived = self.points.iter().find(|point| point.origin == Origin::MountHeightMinus(own));
        if let Some(derived) = derived {
            let what = format!("{} is computed from this point and would never be confirmed", derived.name);
            spike.problem("", "", what, format!("write `spike` at {} instead", derived.name));
        }
        Some(Spike { method, limits: limits? })
    }

    fn read_flat(&self, flat: &Section<'_>) -> Option<Flat> {
        let tolerance = positive(flat, "tolerance", "all values closer together than this, such as `tolerance: 0.5`");
        let spans = read_spans(flat);
        flat.known_only();
        let (tolerance, spans) = (tolerance?, spans?);
        let Some(interval) = self.point_interval() else {
            flat.problem(
                "",
                "",
                "a flat line is counted in reports, and the profile does not say how often the device reports",
                "write `interval:` at the top of the profile",
            );
            return None;
        };
        for (key, span) in [("suspect", spans.suspect), ("fail", spans.fail)] {
            let Some(span) = span else { continue };
            let count = span.as_millis() / interval.as_millis().max(1);
            if count < 2 || count > u128::from(FLAT_READINGS_MAX) {
                flat.problem(
                    key,
                    &format!("{}s", span.as_secs_f64()),
                    format!("these are {count} reports of every {}s", interval.as_secs_f64()),
                    format!("write a time of 2 to {FLAT_READINGS_MAX} reports"),
                );
            }
        }
        Some(Flat { tolerance, spans })
    }

    fn read_attenuated(&self, part: &Section<'_>) -> Option<Attenuated> {
        let measures = [("deviation", Movement::Deviation), ("range", Movement::Range)];
        let measure = part.choice("measure", &measures).unwrap_or(Movement::Deviation);
        let window = required_span(part, "window", "write the time that is looked at, such as `window: 6h`");
        let limits = read_limits(part, Order::FailFirst);
        let count_max = WINDOW_READINGS_MAX as i64;
        let written = part.integer("count_min", i64::from(COUNT_LEAST), count_max);
        part.known_only();
        let (window, limits) = (window?, limits?);
        let readings = self.point_interval().map(|interval| window.as_millis() / interval.as_millis().max(1));
        if readings.is_none_or(|readings| readings > WINDOW_READINGS_MAX as u128) {
            let found = readings.map_or("an unknown number of".to_owned(), |readings| readings.to_string());
            part.problem(
                "window",
                &format!("{}s", window.as_secs_f64()),
                format!("this holds {found} reports, and {WINDOW_READINGS_MAX} are kept"),
                "write a shorter window, and `interval:` at the top of the profile",
            );
        }
        let half = readings.map_or(count_max, |readings| i64::try_from(readings / 2).unwrap_or(count_max));
        let count_min = written.unwrap_or_else(|| half.clamp(i64::from(COUNT_LEAST), count_max));
        Some(Attenuated { measure, window, count_min: u16::try_from(count_min).unwrap_or(u16::MAX), limits })
    }

    fn read_gap(&self, gap: &Section<'_>) -> Option<Spans> {
        let spans = read_spans(gap);
        gap.known_only();
        let spans = spans?;
        let least = spans.suspect.or(spans.fail);
        if let (Some(interval), Some(least)) = (self.point_interval(), least)
            && least <= interval
        {
            gap.problem(
                "",
                &format!("{}s", least.as_secs_f64()),
                format!("every reading comes {}s after the one before", interval.as_secs_f64()),
                "write a longer time",
            );
        }
        Some(spans)
    }

    fn read_validity(&self, part: &Section<'_>) -> Option<Validity> {
        let name = part.required_text("point", "write the point that tells whether this one is valid");
        let found = self.points.iter().position(|point| *point.name == *name);
        if found.is_none() && !name.is_empty() {
            let names: Vec<&str> = self.points.iter().map(|point| point.name.as_ref()).collect();
            part.problem("point", &name, "there is no point of this name", unknown_point_mend(&name, &names));
        }
        if found == Some(self.position) {
            let mend = "use `range`, or `invalid` at the point";
            part.problem("point", &name, "a point does not say of itself whether it is valid", mend);
        }
        let flags = [("bad", Flag::Bad), ("suspect", Flag::Suspect)];
        let otherwise = part.choice("otherwise", &flags).unwrap_or(Flag::Bad);
        let tests: Vec<&'static str> = ["equals", "above", "below"].into_iter().filter(|key| part.has(key)).collect();
        let key = match tests.as_slice() {
            [key] => Some(*key),
            _ => {
                let mend = "write `- {point: valid_samples, above: 1}`";
                part.problem("", "", "one of equals, above, below is needed", mend);
                None
            }
        };
        part.known_only();
        let (point, key) = (&self.points[found?], key?);
        let test = if key == "equals" {
            let node = part.node("equals")?;
            let place = Place { line: node.line, key: part.path_of("equals") };
            GuardTest::Equals(value_of_point(node, point, &place, self.report)?)
        } else {
            if point.value_type != ValueType::Number {
                part.problem(
                    "point",
                    &point.name,
                    format!("`{key}` needs a number, and this point is none"),
                    "use equals",
                );
            }
            let limit = part.number(key)?;
            if key == "above" { GuardTest::Above(limit) } else { GuardTest::Below(limit) }
        };
        Some(Validity { point: u16::try_from(found?).ok()?, test, otherwise })
    }
}

fn read_span(section: &Section<'_>) -> Option<Range> {
    let mut ends = [None, None];
    for (end, key) in ends.iter_mut().zip(["min", "max"]) {
        if !section.has(key) {
            section.missing(key, "write both ends: `{min: 0, max: 4000}`");
        }
        *end = section.number(key);
    }
    section.known_only();
    let (min, max) = (ends[0]?, ends[1]?);
    if min >= max {
        section.problem("", &format!("{min} to {max}"), "min is not below max", "exchange the two");
        return None;
    }
    Some(Range { min, max })
}

fn read_season(season: &Section<'_>) -> Option<Season> {
    let months = read_turn(season, "months", 1, 12);
    let weeks = read_turn(season, "weeks", 1, 53);
    let hours = read_turn(season, "hours", 0, 23);
    if !["months", "weeks", "hours"].iter().any(|key| season.has(key)) {
        let mend = "write `months: [6, 9]`, `weeks: [1, 8]` or `hours: [0, 5]`; what holds always belongs into `range`";
        season.problem("", "", "this season has no time", mend);
    }
    if !season.has("suspect") {
        season.missing("suspect", "write what is usual then: `suspect: {min: 10, max: 30}`; outside is suspect");
    }
    let suspect = season.section("suspect").and_then(|span| read_span(&span));
    let fail = season.section("fail").and_then(|span| read_span(&span));
    season.known_only();
    Some(Season { months, weeks, hours, suspect: suspect?, fail })
}

/// The two ends of a span of months, weeks or hours.
pub(super) fn read_turn(season: &Section<'_>, key: &'static str, min: u8, max: u8) -> Option<(u8, u8)> {
    let node = season.node(key)?;
    let number = |text: &str| text.parse::<u8>().ok().filter(|number| (min..=max).contains(number));
    let ends = match &node.kind {
        NodeKind::List(_) => season.texts(key),
        _ => season.texts(key).into_iter().cycle().take(2).collect(),
    };
    let numbers: Vec<u8> = ends.iter().filter_map(|text| number(text)).collect();
    match numbers.as_slice() {
        [from, to] if ends.len() == 2 => Some((*from, *to)),
        _ => {
            let what = format!("not the first and last of a span, each from {min} to {max}");
            season.problem(key, &ends.join(", "), what, format!("write `{key}: [{min}, {max}]`"));
            None
        }
    }
}

fn read_rate(rate: &Section<'_>) -> Option<ChangeRate> {
    let limits = read_limits(rate, Order::SuspectFirst);
    let per = required_span(rate, "per", "write the time in which it changes so much, such as `per: 1m`");
    rate.known_only();
    Some(ChangeRate { limits: limits?, per: per? })
}

fn read_neighbours(part: &Section<'_>) -> Option<Neighbours> {
    let suspect = positive(part, "suspect", "how far from the middle of its neighbours is suspect");
    let within = required_span(part, "within", "write how old their readings may be, such as `within: 30m`");
    let count_min = part.integer("count_min", 2, NEIGHBOURS_MAX as i64).unwrap_or(3);
    part.known_only();
    Some(Neighbours { suspect: suspect?, within: within?, count_min: u8::try_from(count_min).unwrap_or(u8::MAX) })
}

fn read_drift(drift: &Section<'_>) -> Option<Drift> {
    let per_week = positive(drift, "per_week", "a change of the daily minima in a week");
    let total = positive(drift, "total", "what it must come to over the days that are known");
    drift.known_only();
    Some(Drift { per_week: per_week?, total: total? })
}

fn read_fault(fault: &Section<'_>, default: FaultRule) -> FaultRule {
    let after = fault.duration("after").unwrap_or(default.after);
    let count = fault.integer("count", 1, 64).unwrap_or(i64::from(default.count));
    fault.known_only();
    FaultRule { after, count: u8::try_from(count).unwrap_or(default.count) }
}

/// Which of the two limits is reached first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    SuspectFirst,
    FailFirst,
}

fn read_limits(section: &Section<'_>, order: Order) -> Option<Limits> {
    let mut ends = [None, None];
    for (end, key) in ends.iter_mut().zip(["suspect", "fail"]) {
        if section.has(key) {
            *end = positive(section, key, "a limit above 0");
            (*end)?;
        }
    }
    let [suspect, fail] = ends;
    match (suspect, fail) {
        (None, None) => {
            section.problem("", "", "one of `suspect` and `fail` is needed", "write `suspect: 150`");
            return None;
        }
        (Some(first), Some(second)) if (order == Order::SuspectFirst) == (second < first) && first != second => {
            let (what, mend) = match order {
                Order::SuspectFirst => ("less than `suspect`", "write more than `suspect`"),
                Order::FailFirst => ("more than `suspect`", "write less than `suspect`: a dead signal moves least"),
            };
            section.problem("fail", &second.to_string(), what, mend);
        }
        _ => {}
    }
    Some(Limits { suspect, fail })
}

fn read_spans(section: &Section<'_>) -> Option<Spans> {
    let (suspect, fail) = (section.duration("suspect"), section.duration("fail"));
    if suspect.or(fail).is_none() {
        if !section.has("suspect") && !section.has("fail") {
            section.problem("", "", "one of `suspect` and `fail` is needed", "write `suspect: 6h`");
        }
        return None;
    }
    if let (Some(first), Some(second)) = (suspect, fail)
        && second < first
    {
        section.problem("fail", &format!("{}s", second.as_secs_f64()), "less than `suspect`", "write a longer time");
    }
    Some(Spans { suspect, fail })
}

fn positive(section: &Section<'_>, key: &'static str, meaning: &str) -> Option<f64> {
    if !section.has(key) {
        section.missing(key, &format!("write {meaning}"));
        return None;
    }
    let number = section.number(key)?;
    if number <= 0.0 {
        section.problem(key, &number.to_string(), "not above 0", format!("write {meaning}"));
        return None;
    }
    Some(number)
}

fn required_span(section: &Section<'_>, key: &'static str, mend: &str) -> Option<Duration> {
    if !section.has(key) {
        section.missing(key, mend);
        return None;
    }
    let span = section.duration(key)?;
    if span.is_zero() {
        section.problem(key, "0", "not above 0", mend.to_owned());
        return None;
    }
    Some(span)
}

#[cfg(test)]
mod tests {
    use super::super::parse_profile_text;
    use super::*;
    use crate::document::{Problem, Problems};
    use crate::profile::Profile;
    use crate::reading::Value;

    /// The keys of `quality` of a level, in flow style.
    fn read(quality: &str) -> Result<Profile, String> {
        let text = format!(
            "profile: acme-level\nversion: 1\nkind: drain\nvendor: Acme\nmodel: L\ninterval: 5m\n\
             payload: {{format: json}}\npoints:\n  - {{name: echoes, path: n}}\n  - {{name: hung, type: boolean, path: t}}\n  \
             - name: level_mm\n    path: l\n    range: {{min: 0, max: 5000}}\n    quality: {{{quality}}}\n\
             detectors:\n  - {{condition: silent, severity: minor, silence: {{missed: 3}}}}\n\
             samples:\n  - {{name: good, json: {{l: 5}}, readings: {{level_mm: 5}}}}\n  - {{name: bad, text: '', error: x}}\n"
        );
        let problems = Problems::default();
        let profile = parse_profile_text("acme.yaml", &text, &problems);
        let found: Vec<String> = problems.into_sorted().iter().map(Problem::to_string).collect();
        profile.ok_or_else(|| found.join("\n"))
    }

    fn level(quality: &str) -> PointQuality {
        read(quality).unwrap().points[2].quality.clone()
    }

    #[test]
    fn every_test_is_read_with_its_limits() {
        let quality = level(
            "range: {min: 1, max: 4000}, spike: {method: average, suspect: 150, fail: 400}, rate: {fail: 500, per: 2m}, \
             flat: {tolerance: 0.5, suspect: 6h, fail: 1d}, gap: {suspect: 30m}, \
             attenuated: {measure: range, window: 6h, suspect: 3, fail: 1}, drift: {per_week: 25, total: 40}, \
             neighbours: {suspect: 50, within: 10m}, fault: {after: 2h}, \
             climatology: [{months: [11, 2], hours: 3, suspect: {min: 5, max: 50}}, {weeks: [1, 8], suspect: {min: 1, max: 2}, \
             fail: {min: 0, max: 9}}], \
             valid_when: [{point: echoes, above: 1}, {point: hung, equals: false, otherwise: suspect}]",
        );
        assert_eq!(quality.range, Some(Range { min: 1.0, max: 4000.0 }));
        let limits = Limits { suspect: Some(150.0), fail: Some(400.0) };
        assert_eq!(quality.spike, Some(Spike { method: SpikeMethod::Average, limits }));
        assert_eq!(
            quality.rate.unwrap().limits,
            Limits { suspect: None, fail: Some(500.0) },
            "in place of the default"
        );
        let spans = Spans { suspect: Some(Duration::from_secs(21_600)), fail: Some(Duration::from_secs(86_400)) };
        assert_eq!(quality.flat, Some(Flat { tolerance: 0.5, spans }));
        assert_eq!(quality.attenuated.unwrap().count_min, 36, "half of the reports of six hours");
        assert_eq!(quality.neighbours.unwrap().count_min, 3);
        assert_eq!((quality.fault.after.as_secs(), quality.fault.count), (7_200, 5));
        let [winter, weeks] = quality.climatology.as_slice() else { panic!("two seasons") };
        assert_eq!((winter.months, winter.hours, winter.fail), (Some((11, 2)), Some((3, 3)), None));
        assert_eq!((weeks.weeks, weeks.fail), (Some((1, 8)), Some(Range { min: 0.0, max: 9.0 })));
        assert_eq!(quality.valid_when[0], Validity { point: 0, test: GuardTest::Above(1.0), otherwise: Flag::Bad });
        let hung = GuardTest::Equals(Value::Boolean(false));
        assert_eq!(quality.valid_when[1], Validity { point: 1, test: hung, otherwise: Flag::Suspect });
    }

    #[test]
    fn a_kind_of_point_has_tests_by_itself_that_can_be_taken_away() {
        let by_itself = level("gap: {suspect: 1h}").rate.unwrap();
        assert_eq!((by_itself.limits.suspect, by_itself.per.as_secs()), (Some(254.0), 60));
        assert_eq!(level("without: [rate]").rate, None);
        let humidity = crate::profile::range_of_kind("humidity_percent").unwrap();
        assert!(
            (humidity.min, humidity.max) == (0.0, 110.0) && crate::profile::range_of_kind("ch4_lel_percent").is_none()
        );
    }

    #[test]
    fn what_no_test_can_use_is_named_with_its_line_key_and_mend() {
        let check = |quality: &str, key: &str, words: &str| {
            let problems = read(quality).unwrap_err();
            let place = format!("acme.yaml:14: points[2].quality.{key}");
            assert!(problems.contains(&place) && problems.contains(words), "{quality}: {problems}");
        };
        check("range: {min: -1, max: 9}", "range", "reaches beyond the point's own range of 0 to 5000");
        check("range: {min: 9, max: 1}", "range", "min is not below max");
        check("range: {min: 9}", "range.max", "this key is missing");
        check("spike: {}", "spike", "one of `suspect` and `fail` is needed");
        check("spike: {suspect: 5, fail: 4}", "spike.fail", "less than `suspect`");
        check("spike: {suspect: 0}", "spike.suspect", "not above 0");
        check("spike: {suspect: 1, method: mean}", "spike.method", "not one of the known words");
        check("rate: {suspect: 5}", "rate.per", "this key is missing");
        check("flat: {suspect: 6h}", "flat.tolerance", "this key is missing");
        check("flat: {suspect: 6m, tolerance: 1}", "flat.suspect", "these are 1 reports of every 300s");
        check("flat: {suspect: 6h, fail: 1h, tolerance: 1}", "flat.fail", "less than `suspect`");
        check("attenuated: {window: 3d, suspect: 1}", "attenuated.window", "this holds 864 reports, and 288 are kept");
        check("attenuated: {window: 1h, suspect: 1, fail: 2}", "attenuated.fail", "more than `suspect`");
        check("gap: {suspect: 5m}", "gap", "every reading comes 300s after the one before");
        check("neighbours: {suspect: 5}", "neighbours.within", "this key is missing");
        check("neighbours: {suspect: 5, within: 1h, count_min: 1}", "neighbours.count_min", "from 2 to 16");
        check("climatology: [{suspect: {min: 1, max: 2}}]", "climatology[0]", "this season has no time");
        check("climatology: [{months: [0, 3], suspect: {min: 1, max: 2}}]", "climatology[0].months", "from 1 to 12");
        check("climatology: [{hours: [1, 2, 3], suspect: {min: 1, max: 2}}]", "climatology[0].hours", "hours: [0, 23]");
        check("climatology: [{hours: [1, 2]}]", "climatology[0].suspect", "this key is missing");
        check("valid_when: [{point: echos, above: 1}]", "valid_when[0].point", "did you mean echoes?");
        check("valid_when: [{point: hung, above: 1}]", "valid_when[0].point", "needs a number");
        check("valid_when: [{point: level_mm, above: 1}]", "valid_when[0].point", "does not say of itself");
        check("valid_when: [{point: echoes}]", "valid_when[0]", "one of equals, above, below is needed");
        check(
            "valid_when: [{point: echoes, above: 1, otherwise: good}]",
            "valid_when[0].otherwise",
            "write one of bad, suspect",
        );
        check("without: [spike]", "without", "no kind of point has this test by itself");
        check("spikes: {suspect: 1}", "spikes", "did you mean spike?");
    }

    #[test]
    fn the_example_of_the_guide_is_sound() {
        let guide = include_str!("../../../../../device-profiles/README.md");
        let (_, quality) = guide.split_once("\n## Quality\n").unwrap();
        let points = quality.split("```").nth(1).unwrap().strip_prefix("yaml\n").unwrap();
        let text = format!(
            "profile: a\nversion: 1\nkind: drain\nvendor: A\nmodel: L\ninterval: 5m\npayload: {{format: json}}\n{points}  \
             - {{name: valid_samples, path: n}}\n  - {{name: sensor_tilted, type: boolean, path: t}}\n\
             samples:\n  - {{name: good, json: {{level: 5}}, readings: {{level_mm: 5}}}}\n  - {{name: bad, text: '', error: x}}\n"
        );
        let problems = Problems::default();
        let profile = parse_profile_text("guide", &text, &problems);
        assert_eq!(problems.into_sorted(), []);
        assert!(profile.unwrap().points[0].quality.attenuated.is_some());
    }

    #[test]
    fn a_spike_is_looked_for_where_it_can_be_confirmed() {
        let text = "profile: a\nversion: 1\nkind: drain\nvendor: A\nmodel: L\npayload: {format: json}\npoints:\n  \
                    - {name: distance_mm, path: d, quality: {spike: {suspect: 9}, flat: {tolerance: 1, suspect: 1h}}}\n  \
                    - {name: level_mm, mount_height_minus: distance_mm}\n  \
                    - {name: lock, type: text, path: l, quality: {gap: {suspect: 1h}, drift: {per_week: 1, total: 2}}}\n";
        let problems = Problems::default();
        assert!(parse_profile_text("a.yaml", text, &problems).is_none());
        let found: Vec<String> = problems.into_sorted().iter().map(Problem::to_string).collect();
        let found = found.join("\n");
        assert!(found.contains("write `spike` at level_mm instead"), "{found}");
        assert!(found.contains("the profile does not say how often the device reports"), "{found}");
        assert!(found.contains("points[2].quality.drift"), "{found}");
    }
}
