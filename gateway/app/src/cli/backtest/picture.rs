//! A picture of a backtest in SVG: series, limits, and when which alarm stood, on one time axis.

use std::fmt::{Arguments, Write as _};
use std::sync::Arc;

use jiff::tz::TimeZone;
use kerbside_model::profile::{Detector, Profile, Rule, Side};
use kerbside_model::{Alarm, Severity, Timestamp, vocabulary};

use super::outcome::Outcome;
use super::trace::Trace;
use crate::html::escape;

const WIDTH: f64 = 1_200.0;
const LEFT: f64 = 210.0;
const RIGHT: f64 = 24.0;
const HEAD: f64 = 76.0;
const LANE: f64 = 24.0;
const PANEL: f64 = 190.0;
const GAP: f64 = 26.0;
const AXIS: f64 = 44.0;
/// More series make no picture any more; those that rules watch come first.
const PANELS_MAX: usize = 6;
/// About so many marks on an axis.
const TIME_MARKS: i64 = 9;
const VALUE_MARKS: f64 = 6.0;
/// Distances between marks of time, in seconds.
const TIME_STEPS: [i64; 17] = [
    1, 5, 15, 60, 300, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000,
    7_776_000,
];
const DAY_SECONDS: i64 = 86_400;

/// One side of the comparison.
pub(super) struct Drawn<'a> {
    /// Such as `--set detectors.surcharged.raise=150`; empty for the profile itself.
    pub(super) title: &'a str,
    pub(super) outcome: &'a Outcome,
    pub(super) profile: &'a Profile,
}

/// Draws it. The first side is the profile as it is; its series are those of the picture.
pub(super) fn draw(sides: &[Drawn<'_>], zone: &TimeZone) -> Option<String> {
    let first = sides.first()?;
    let (from, until) = (first.outcome.first_at?, first.outcome.last_at?);
    let device = first.outcome.pictured()?;
    let canvas = Canvas { from, until: until.max(Timestamp(from.0 + 1)), zone: zone.clone() };
    let panels = panels(first);
    let lanes: Vec<(usize, Arc<str>)> = lanes(sides, device);
    let height =
        HEAD + lanes.len() as f64 * LANE + sides.len() as f64 * LANE + panels.len() as f64 * (PANEL + GAP) + AXIS;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"Noto Sans CJK SC, Noto Sans SC, Microsoft YaHei, PingFang SC, WenQuanYi Zen Hei, sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    head(&mut svg, first, device, &canvas);
    let mut top = HEAD;
    for (position, side) in sides.iter().enumerate() {
        let title = if side.title.is_empty() { "as it is · 现行规则".to_owned() } else { escape(side.title) };
        line(&mut svg, format_args!("<text x=\"12\" y=\"{}\" font-weight=\"bold\">{title}</text>", top + 16.0));
        top += LANE;
        for (_, condition) in lanes.iter().filter(|(of, _)| *of == position) {
            lane(&mut svg, &canvas, side, device, condition, top);
            top += LANE;
        }
    }
    top += GAP / 2.0;
    for (name, trace) in panels {
        panel(&mut svg, &canvas, first, device, (&name, trace), top);
        top += PANEL + GAP;
    }
    axis(&mut svg, &canvas, HEAD + LANE, top - GAP + 6.0);
    svg.push_str("</svg>\n");
    Some(svg)
}

/// Adds a line.
fn line(svg: &mut String, words: Arguments<'_>) {
    piece(svg, words);
    svg.push('\n');
}

/// Adds something to the line.
fn piece(svg: &mut String, words: Arguments<'_>) {
    svg.write_fmt(words).expect("a text takes everything");
}

/// Places on the picture.
struct Canvas {
    from: Timestamp,
    until: Timestamp,
    zone: TimeZone,
}

impl Canvas {
    fn x(&self, at: Timestamp) -> f64 {
        let share = (at.0 - self.from.0) as f64 / (self.until.0 - self.from.0) as f64;
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn spelt(&self, at: Timestamp, format: &str) -> String {
        match jiff::Timestamp::from_millisecond(at.0) {
            Ok(time) => time.to_zoned(self.zone.clone()).strftime(format).to_string(),
            Err(_) => at.to_string(),
        }
    }
}

/// Series that rules watch, then the others.
fn panels<'a>(side: &Drawn<'a>) -> Vec<(Arc<str>, &'a Trace)> {
    let is_watched = |name: &str| {
        let point = side.profile.point_index(name);
        side.profile.detectors.iter().any(|detector| detector.point.map(usize::from) == point && point.is_some())
    };
    let mut panels: Vec<(Arc<str>, &Trace)> =
        side.outcome.traces.iter().map(|(name, trace)| (Arc::clone(name), trace)).collect();
    panels.sort_by_key(|(name, _)| (!is_watched(name), side.profile.point_index(name)));
    panels.truncate(PANELS_MAX);
    panels
}

/// Conditions that stood on some side, one lane for each on every side.
fn lanes(sides: &[Drawn<'_>], device: &str) -> Vec<(usize, Arc<str>)> {
    let mut conditions: Vec<Arc<str>> = Vec::new();
    for side in sides {
        for alarm in side.outcome.alarms() {
            if alarm.device == device && !conditions.iter().any(|known| **known == *alarm.condition) {
                conditions.push(Arc::from(alarm.condition.as_str()));
            }
        }
    }
    conditions.sort();
    (0..sides.len()).flat_map(|side| conditions.iter().map(move |name| (side, Arc::clone(name)))).collect()
}

fn colour(severity: Severity) -> &'static str {
    match severity {
        Severity::Notice => "#4c7fd8",
        Severity::Minor => "#c9a400",
        Severity::Major => "#e8790c",
        Severity::Critical => "#d42a2a",
    }
}

fn head(svg: &mut String, side: &Drawn<'_>, device: &str, canvas: &Canvas) {
    let (alarms, cases) = (side.outcome.alarms().len(), side.outcome.cases().len());
    let span = format!(
        "{} – {}",
        canvas.spelt(canvas.from, "%Y-%m-%d %H:%M"),
        canvas.spelt(canvas.until, "%Y-%m-%d %H:%M %:z")
    );
    line(
        svg,
        format_args!(
            "<text x=\"12\" y=\"26\" font-size=\"17\" font-weight=\"bold\">{} · {}</text>\n\
         <text x=\"12\" y=\"46\" fill=\"#555\">{span} · {alarms} alarms 告警 · {cases} would-be cases 拟立案件</text>",
            escape(&side.profile.name),
            escape(device)
        ),
    );
    let mut x = 12.0;
    for severity in Severity::ALL {
        let words = format!("{} {}", severity.name_zh(), severity.name());
        line(
            svg,
            format_args!(
                "<rect x=\"{x}\" y=\"56\" width=\"14\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"66\">{words}</text>",
                colour(severity),
                x + 19.0
            ),
        );
        x += 110.0;
    }
    line(
        svg,
        format_args!(
            "<circle cx=\"{}\" cy=\"62\" r=\"3\" fill=\"#b00020\"/><text x=\"{}\" y=\"66\">质量不好 not good</text>",
            x + 6.0,
            x + 16.0
        ),
    );
}

fn end_of(alarm: &Alarm, canvas: &Canvas) -> Timestamp {
    alarm.cleared_at.unwrap_or(canvas.until)
}

fn lane(svg: &mut String, canvas: &Canvas, side: &Drawn<'_>, device: &str, condition: &str, top: f64) {
    let (title, title_zh) = titles(side.profile, condition);
    let alarms = side.outcome.alarms().into_iter().filter(|alarm| alarm.device == device);
    line(
        svg,
        format_args!(
            "<text x=\"24\" y=\"{}\">{} <tspan fill=\"#666\" font-size=\"11\">{}</tspan></text>\n\
         <rect x=\"{LEFT}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"#f3f4f6\"/>",
            top + 15.0,
            escape(&title_zh),
            escape(&shortened(&title)),
            top + 3.0,
            WIDTH - LEFT - RIGHT,
            LANE - 6.0
        ),
    );
    for alarm in alarms.filter(|alarm| alarm.condition == condition) {
        let mut until = canvas.x(end_of(alarm, canvas));
        for (at, severity) in side.outcome.grades(alarm).into_iter().rev() {
            let from = canvas.x(at);
            line(
                svg,
                format_args!(
                    "<rect x=\"{from:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"><title>{} {}\n{}\n{}</title></rect>",
                    top + 3.0,
                    (until - from).max(2.0),
                    LANE - 6.0,
                    colour(severity),
                    escape(&title_zh),
                    canvas.spelt(at, "%Y-%m-%d %H:%M:%S"),
                    escape(&alarm.explanation_zh),
                    escape(&alarm.explanation)
                ),
            );
            until = from;
        }
    }
}

/// Room beside the lanes is short.
fn shortened(title: &str) -> String {
    const LETTERS_MAX: usize = 22;
    if title.chars().count() <= LETTERS_MAX {
        return title.to_owned();
    }
    title.chars().take(LETTERS_MAX - 1).chain(['…']).collect()
}

fn titles(profile: &Profile, condition: &str) -> (String, String) {
    let found = profile.conditions.iter().find(|known| *known.name == *condition);
    found.map_or((condition.to_owned(), condition.to_owned()), |found| (found.title.clone(), found.title_zh.clone()))
}

/// The scale of one panel.
struct Scale {
    low: f64,
    high: f64,
    top: f64,
}

impl Scale {
    fn y(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        self.top + PANEL - share.clamp(0.0, 1.0) * PANEL
    }
}

fn panel(svg: &mut String, canvas: &Canvas, side: &Drawn<'_>, device: &str, (name, trace): (&str, &Trace), top: f64) {
    let watching = watching(side.profile, name);
    let limits = limits(&watching);
    let scale = scale(trace, &limits, top);
    let term = vocabulary::point(name);
    let unit = side.profile.point_index(name).map_or("", |point| side.profile.points[point].unit.as_str());
    line(
        svg,
        format_args!(
            "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{}\" height=\"{PANEL}\" fill=\"#fcfcfd\" stroke=\"#d5d8dd\"/>\n\
         <text x=\"12\" y=\"{}\" font-weight=\"bold\">{}</text>\n<text x=\"12\" y=\"{}\" fill=\"#555\">{}{}</text>",
            WIDTH - LEFT - RIGHT,
            top + 16.0,
            escape(term.map_or(name, |term| term.zh)),
            top + 33.0,
            escape(name),
            if unit.is_empty() { String::new() } else { format!(" ({})", escape(unit)) }
        ),
    );
    shade(svg, canvas, side, device, &watching, top);
    values(svg, &scale);
    series(svg, canvas, trace, &scale);
    for (limit, words) in limits {
        let y = scale.y(limit);
        line(
            svg,
            format_args!(
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#b3541e\" stroke-dasharray=\"6 4\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#b3541e\" font-size=\"11\">{}</text>",
                WIDTH - RIGHT,
                WIDTH - RIGHT - 4.0,
                y - 3.0,
                escape(&words)
            ),
        );
    }
}

fn watching<'a>(profile: &'a Profile, name: &str) -> Vec<&'a Detector> {
    let point = profile.point_index(name);
    profile.detectors.iter().filter(|detector| detector.point.map(usize::from) == point && point.is_some()).collect()
}

fn limits(detectors: &[&Detector]) -> Vec<(f64, String)> {
    let mut limits: Vec<(f64, String)> = Vec::new();
    for detector in detectors {
        if let Rule::Threshold { side, raise, .. } = &detector.rule {
            let sign = if *side == Side::Below { "≤" } else { "≥" };
            let words = format!("{} {sign} {raise}", detector.severity.name_zh());
            if !limits.iter().any(|(limit, _)| limit == raise) {
                limits.push((*raise, words));
            }
        }
    }
    limits
}

/// From the least to the greatest of series and limits, with some air.
fn scale(trace: &Trace, limits: &[(f64, String)], top: f64) -> Scale {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for (_, span) in trace.iter().filter(|(_, span)| span.has_good) {
        (low, high) = (low.min(span.least), high.max(span.greatest));
    }
    if low > high {
        (low, high) = (0.0, 1.0);
    }
    // A limit far away would press the series flat.
    let reach = (high - low).max(high.abs() * 0.1).max(1e-9);
    let near = (low - 2.0 * reach)..=(high + 2.0 * reach);
    for (limit, _) in limits.iter().filter(|(limit, _)| near.contains(limit)) {
        (low, high) = (low.min(*limit), high.max(*limit));
    }
    let air = ((high - low) * 0.06).max(high.abs() * 0.01).max(0.05);
    Scale { low: low - air, high: high + air, top }
}

fn shade(svg: &mut String, canvas: &Canvas, side: &Drawn<'_>, device: &str, watching: &[&Detector], top: f64) {
    let names: Vec<&str> = watching
        .iter()
        .map(|detector| side.profile.conditions[usize::from(detector.condition)].name.as_ref())
        .collect();
    let is_of_panel = |alarm: &&Alarm| alarm.device == device && names.contains(&alarm.condition.as_str());
    for alarm in side.outcome.alarms().into_iter().filter(is_of_panel) {
        let (from, until) = (canvas.x(alarm.opened_at), canvas.x(end_of(alarm, canvas)));
        let width = (until - from).max(2.0);
        line(
            svg,
            format_args!(
                "<rect x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{PANEL}\" fill=\"{}\" fill-opacity=\"0.16\"/>",
                colour(alarm.severity)
            ),
        );
        let (_, title_zh) = titles(side.profile, &alarm.condition);
        let room = title_zh.chars().count() as f64 * 12.0 + 6.0;
        if width > room {
            let row = names.iter().position(|name| *name == alarm.condition).unwrap_or(0) as f64;
            line(
                svg,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{}\" fill=\"{}\" font-size=\"11\">{}</text>",
                    from + 3.0,
                    top + 13.0 + row.min(4.0) * 13.0,
                    colour(alarm.severity),
                    escape(&title_zh)
                ),
            );
        }
    }
}

fn values(svg: &mut String, scale: &Scale) {
    let rough = (scale.high - scale.low) / VALUE_MARKS;
    let power = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * power).find(|step| *step >= rough).unwrap_or(rough);
    let mut mark = (scale.low / step).ceil() * step;
    while mark <= scale.high {
        let y = scale.y(mark);
        let digits = if step < 1.0 { (-step.log10().floor()).clamp(0.0, 6.0) } else { 0.0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 6")]
        let digits = digits as usize;
        let shown = if mark.abs() < step / 2.0 { 0.0 } else { mark };
        line(
            svg,
            format_args!(
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#eceef1\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\" font-size=\"11\">{shown:.digits$}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0
            ),
        );
        mark += step;
    }
}

fn series(svg: &mut String, canvas: &Canvas, trace: &Trace, scale: &Scale) {
    let mut band = String::new();
    let mut way = String::new();
    let mut bad = String::new();
    for (at, span) in trace.iter() {
        let x = canvas.x(at);
        if span.has_bad {
            let y = scale.top + PANEL - 4.0;
            piece(&mut bad, format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"#b00020\"/>"));
        }
        if !span.has_good {
            continue;
        }
        let (low, high) = (scale.y(span.least), scale.y(span.greatest));
        if low - high > 1.0 {
            piece(&mut band, format_args!("M{x:.1} {low:.1}V{high:.1}"));
        }
        let step = if way.is_empty() { "M" } else { "L" };
        piece(&mut way, format_args!("{step}{x:.1} {:.1}", scale.y(span.last)));
    }
    line(
        svg,
        format_args!(
            "<path d=\"{band}\" stroke=\"#9bb7dd\" stroke-width=\"1\" fill=\"none\"/>\n\
         <path d=\"{way}\" stroke=\"#1f4e8c\" stroke-width=\"1.3\" fill=\"none\" stroke-linejoin=\"round\"/>\n{bad}"
        ),
    );
}

fn axis(svg: &mut String, canvas: &Canvas, top: f64, bottom: f64) {
    let seconds = (canvas.until.0 - canvas.from.0) / 1_000;
    let step = TIME_STEPS.into_iter().find(|step| seconds / step <= TIME_MARKS).unwrap_or(TIME_STEPS[16]);
    let offset = jiff::Timestamp::from_millisecond(canvas.from.0)
        .map_or(0, |time| i64::from(time.to_zoned(canvas.zone.clone()).offset().seconds()));
    let format = match step {
        DAY_SECONDS.. => "%Y-%m-%d",
        60.. => "%m-%d %H:%M",
        _ => "%H:%M:%S",
    };
    let first = (canvas.from.0 / 1_000 + offset).div_euclid(step) + 1;
    let mut mark = first * step - offset;
    while mark * 1_000 <= canvas.until.0 {
        let at = Timestamp(mark * 1_000);
        let x = canvas.x(at);
        line(
            svg,
            format_args!(
                "<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#d5d8dd\" stroke-dasharray=\"2 4\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#333\">{}</text>",
                bottom + 16.0,
                canvas.spelt(at, format)
            ),
        );
        mark += step;
    }
}
