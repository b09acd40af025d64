//! What an officer reads at three in the morning: the Chinese text first, then one English line.
//!
//! Turns a [`Letter`] into text. Pure functions. Text of devices and platforms is made harmless for the markup of
//! the channel before it is put in.

use jiff::tz::TimeZone;
use kerbside_model::{CaseReport, NoticeReason, Severity, Timestamp};

use crate::channels::Letter;

/// The zone of China.
pub const DEFAULT_ZONE: &str = "Asia/Shanghai";

/// One field of a message is cut here: a message is read on a telephone.
const FIELD_CHARS_MAX: usize = 400;
/// One field in a digest is cut here.
const DIGEST_FIELD_CHARS_MAX: usize = 60;

/// How a channel marks up text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Markup {
    /// None.
    Plain,
    /// DingTalk's markdown: specials are escaped with a backslash.
    DingTalk,
    /// WeCom's markdown has no escape: specials become their full-width look-alikes.
    WeCom,
    /// Feishu's `lark_md`: specials are escaped as HTML character references.
    Feishu,
}

/// The zone that times are written in.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

/// There is no such time zone.
#[derive(Debug, thiserror::Error)]
#[error("find time zone {name:?}")]
pub struct ZoneError {
    name: String,
    #[source]
    source: jiff::Error,
}

impl Zone {
    /// The zone of this IANA name, from the data that the program carries.
    pub fn named(name: &str) -> Result<Zone, ZoneError> {
        let zone = TimeZone::get(name).map_err(|source| ZoneError { name: name.to_owned(), source })?;
        Ok(Zone(zone))
    }

    /// A time in this zone, such as `2026-05-01 03:04:05`.
    pub fn local(&self, time: Timestamp) -> String {
        match jiff::Timestamp::from_millisecond(time.as_millis()) {
            Ok(time) => time.to_zoned(self.0.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
            Err(_) => time.to_string(),
        }
    }

    /// The same with the offset, such as `2026-05-01 03:04:05 +08:00`.
    pub fn local_with_offset(&self, time: Timestamp) -> String {
        match jiff::Timestamp::from_millisecond(time.as_millis()) {
            Ok(time) => time.to_zoned(self.0.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string(),
            Err(_) => time.to_string(),
        }
    }
}

/// The heading of a message, without markup: `【紧急】井盖开启或移位`.
pub fn title(letter: &Letter) -> String {
    let report = &letter.notice.report;
    format!("【{}】{}", report.severity.name_zh(), clean(&report.title_zh, FIELD_CHARS_MAX))
}

/// Why the message comes now, in Chinese.
pub fn reason_zh(letter: &Letter) -> String {
    match letter.notice.reason {
        NoticeReason::Opened => "新案件".to_owned(),
        NoticeReason::Escalated => format!("第{}次升级，无人签收", letter.notice.step.saturating_sub(1).max(1)),
        NoticeReason::Returned => "状况再次出现，案件尚未结案".to_owned(),
        NoticeReason::Worsened => "状况加重".to_owned(),
        NoticeReason::Refused => "平台拒收，须人工处理".to_owned(),
        NoticeReason::Grown => "事件群扩大".to_owned(),
        NoticeReason::Over => "事件群已结束".to_owned(),
    }
}

/// Why the message comes now, in English.
pub fn reason_en(letter: &Letter) -> String {
    match letter.notice.reason {
        NoticeReason::Opened => "new case".to_owned(),
        NoticeReason::Escalated => format!("escalation {}, nobody signed", letter.notice.step.saturating_sub(1).max(1)),
        NoticeReason::Returned => "came back before the case was closed".to_owned(),
        NoticeReason::Worsened => "got worse".to_owned(),
        NoticeReason::Refused => "refused by the platform, a person must act".to_owned(),
        NoticeReason::Grown => "the incident has grown".to_owned(),
        NoticeReason::Over => "the incident is over".to_owned(),
    }
}

/// The Chinese part: a line for each fact that is known, the first one the heading.
pub fn chinese(letter: &Letter, markup: Markup, zone: &Zone) -> String {
    let report = &letter.notice.report;
    let field = |text: &str| escape(&clean(text, FIELD_CHARS_MAX), markup);
    let mut lines = vec![("原因", reason_zh(letter))];
    lines.push(("地点", if report.place.is_empty() { "未登记".to_owned() } else { field(&report.place) }));
    lines.push(("设备", field(&device_zh(report))));
    lines.push(("情况", field(&report.explanation_zh)));
    lines.push(("开始时间", zone.local(report.occurred_at)));
    lines.push(("责任单位", field(&report.unit)));
    lines.push(("案件号", field(&report.case_id)));
    lines.push(("说明", field(&letter.notice.detail)));
    let heading = heading(&title(letter), markup);
    let facts = lines.into_iter().filter(|(_, text)| !text.is_empty());
    let body: Vec<String> = facts.map(|(name, text)| bullet(name, &text, markup)).collect();
    format!("{heading}{}", body.join("\n"))
}

/// The English line.
pub fn english(letter: &Letter, markup: Markup, zone: &Zone) -> String {
    let report = &letter.notice.report;
    let field = |text: &str| escape(&clean(text, FIELD_CHARS_MAX), markup);
    let place = if report.place.is_empty() { "place unknown" } else { &report.place };
    format!(
        "{}: {} ({}), {}, {}. {}. Since {}. Case {}.",
        severity_en(report.severity),
        field(&report.title),
        reason_en(letter),
        field(place),
        field(&report.device),
        field(&report.explanation).trim_end_matches('.'),
        zone.local_with_offset(report.occurred_at),
        field(&report.case_id),
    )
}

/// The link with which an officer signs, or nothing.
pub fn sign_line(letter: &Letter, markup: Markup) -> String {
    match (&letter.sign_url, markup) {
        (None, _) => String::new(),
        (Some(url), Markup::Plain) => format!("签收: {url}"),
        (Some(url), _) => format!("[点此签收 Sign]({url})"),
    }
}

/// The whole message of one letter, no longer than `bytes_max`. The link and the heading always fit.
pub fn message(letter: &Letter, markup: Markup, zone: &Zone, bytes_max: usize) -> String {
    let link = sign_line(letter, markup);
    let room = bytes_max.saturating_sub(link.len() + 2);
    let body = format!("{}\n\n{}", chinese(letter, markup, zone), english(letter, markup, zone));
    let body = cut(&body, room);
    if link.is_empty() { body.to_owned() } else { format!("{body}\n\n{link}") }
}

/// Several letters as one message, no longer than `bytes_max`, with the number of letters that found room.
pub fn digest(letters: &[Letter], markup: Markup, zone: &Zone, bytes_max: usize) -> (String, usize) {
    let mut text = heading(&digest_title(letters), markup);
    let mut included = 0;
    for letter in letters {
        let entry = digest_entry(letter, markup, zone);
        if text.len() + entry.len() > bytes_max && included > 0 {
            break;
        }
        text.push_str(&entry);
        included += 1;
    }
    (cut(&text, bytes_max).to_owned(), included)
}

/// The heading of a digest, without markup.
pub fn digest_title(letters: &[Letter]) -> String {
    let worst = letters.iter().map(|letter| letter.notice.report.severity).max().unwrap_or(Severity::Notice);
    format!("【{}】待处理通知汇总 Kerbside digest", worst.name_zh())
}

/// The beginning of a text that has at most so many bytes, cut between characters.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// Makes text harmless for a markup.
pub fn escape(text: &str, markup: Markup) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match markup {
            Markup::Plain => escaped.push(c),
            Markup::DingTalk if "\\`*_{}[]()#+-!<>|~@".contains(c) => {
                escaped.push('\\');
                escaped.push(c);
            }
            Markup::Feishu if "&\\`*_{}[]()#+-!<>|~@".contains(c) => {
                escaped.push_str(&format!("&#{};", u32::from(c)));
            }
            // U+FF01 to U+FF5E are the full-width forms of U+0021 to U+007E.
            Markup::WeCom if "`*[]<>#@".contains(c) => {
                escaped.push(char::from_u32(u32::from(c) + 0xFEE0).unwrap_or(' '));
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

fn digest_entry(letter: &Letter, markup: Markup, zone: &Zone) -> String {
    let report = &letter.notice.report;
    let field = |text: &str| escape(&clean(text, DIGEST_FIELD_CHARS_MAX), markup);
    let facts = [field(&report.place), field(&report.device), reason_zh(letter), zone.local(report.occurred_at)];
    let facts: Vec<String> = facts.into_iter().filter(|text| !text.is_empty()).collect();
    let head = field(&title(letter));
    let line = format!("{head} {} {}", facts.join("，"), field(&report.case_id));
    let link = sign_line(letter, markup);
    let bullet = if markup == Markup::DingTalk { "\n- " } else { "\n• " };
    if link.is_empty() { format!("{bullet}{line}\n") } else { format!("{bullet}{line} {link}\n") }
}

fn heading(title: &str, markup: Markup) -> String {
    match markup {
        Markup::Plain => format!("{title}\n"),
        Markup::DingTalk => format!("### {}\n", escape(title, markup)),
        Markup::WeCom => format!("**{}**\n", escape(title, markup)),
        // The card carries the title in its own header.
        Markup::Feishu => String::new(),
    }
}

fn bullet(name: &str, text: &str, markup: Markup) -> String {
    match markup {
        Markup::Plain => format!("{name}：{text}"),
        Markup::DingTalk => format!("- {name}：{text}"),
        Markup::WeCom => format!("> {name}：{text}"),
        Markup::Feishu => format!("**{name}**：{text}"),
    }
}

/// Name, id and kind of the device, without saying the id twice.
pub(crate) fn device_zh(report: &CaseReport) -> String {
    if report.device_name.is_empty() || report.device_name == report.device {
        return format!("{}（{}）", report.device, report.kind_zh);
    }
    format!("{}（{}，{}）", report.device_name, report.device, report.kind_zh)
}

/// The severity with a capital letter.
pub(crate) fn severity_en(severity: Severity) -> &'static str {
    match severity {
        Severity::Notice => "Notice",
        Severity::Minor => "Minor",
        Severity::Major => "Major",
        Severity::Critical => "Critical",
    }
}

/// One line without control characters, at most so long.
pub(crate) fn clean(text: &str, chars_max: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    if line.chars().count() <= chars_max {
        return line.to_owned();
    }
    let mut shortened: String = line.chars().take(chars_max.saturating_sub(1)).collect();
    shortened.push('…');
    shortened
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::{letter, report};

    fn zone() -> Zone {
        Zone::named(DEFAULT_ZONE).unwrap()
    }

    fn check(markup: Markup, expected: &str) {
        assert_eq!(message(&letter(NoticeReason::Opened), markup, &zone(), 20_000), expected);
    }

    #[test]
    fn the_plain_text_of_a_new_case() {
        check(
            Markup::Plain,
            "【紧急】井盖开启或移位\n\
             原因：新案件\n\
             地点：人民路与解放路口[东北角]\n\
             设备：1号井盖（MH_001，智能井盖）\n\
             情况：倾角 38.2° 超过 15°\n\
             开始时间：2026-05-01 03:04:05\n\
             责任单位：市政\n\
             案件号：KB-0123456789AB\n\n\
             Critical: manhole cover open or displaced (new case), 人民路与解放路口[东北角], MH_001. \
             tilt 38.2 deg > 15 deg. Since 2026-05-01 03:04:05 +08:00. Case KB-0123456789AB.\n\n\
             签收: https://gateway.example.org/s/KB-0123456789AB/token",
        );
    }

    #[test]
    fn the_dingtalk_text_of_a_new_case() {
        check(
            Markup::DingTalk,
            "### 【紧急】井盖开启或移位\n\
             - 原因：新案件\n\
             - 地点：人民路与解放路口\\[东北角\\]\n\
             - 设备：1号井盖（MH\\_001，智能井盖）\n\
             - 情况：倾角 38.2° 超过 15°\n\
             - 开始时间：2026-05-01 03:04:05\n\
             - 责任单位：市政\n\
             - 案件号：KB\\-0123456789AB\n\n\
             Critical: manhole cover open or displaced (new case), 人民路与解放路口\\[东北角\\], MH\\_001. \
             tilt 38.2 deg \\> 15 deg. Since 2026-05-01 03:04:05 +08:00. Case KB\\-0123456789AB.\n\n\
             [点此签收 Sign](https://gateway.example.org/s/KB-0123456789AB/token)",
        );
    }

    #[test]
    fn the_wecom_text_of_a_new_case() {
        check(
            Markup::WeCom,
            "**【紧急】井盖开启或移位**\n\
             > 原因：新案件\n\
             > 地点：人民路与解放路口［东北角］\n\
             > 设备：1号井盖（MH_001，智能井盖）\n\
             > 情况：倾角 38.2° 超过 15°\n\
             > 开始时间：2026-05-01 03:04:05\n\
             > 责任单位：市政\n\
             > 案件号：KB-0123456789AB\n\n\
             Critical: manhole cover open or displaced (new case), 人民路与解放路口［东北角］, MH_001. \
             tilt 38.2 deg ＞ 15 deg. Since 2026-05-01 03:04:05 +08:00. Case KB-0123456789AB.\n\n\
             [点此签收 Sign](https://gateway.example.org/s/KB-0123456789AB/token)",
        );
    }

    #[test]
    fn every_reason_says_why_now() {
        let lines: Vec<String> = [
            NoticeReason::Opened,
            NoticeReason::Escalated,
            NoticeReason::Returned,
            NoticeReason::Worsened,
            NoticeReason::Refused,
            NoticeReason::Grown,
            NoticeReason::Over,
        ]
        .map(|reason| {
            let mut letter = letter(reason);
            letter.notice.step = 3;
            format!("{} {} / {}", title(&letter), reason_zh(&letter), reason_en(&letter))
        })
        .to_vec();
        let expected = [
            "【紧急】井盖开启或移位 新案件 / new case",
            "【紧急】井盖开启或移位 第2次升级，无人签收 / escalation 2, nobody signed",
            "【紧急】井盖开启或移位 状况再次出现，案件尚未结案 / came back before the case was closed",
            "【紧急】井盖开启或移位 状况加重 / got worse",
            "【紧急】井盖开启或移位 平台拒收，须人工处理 / refused by the platform, a person must act",
            "【紧急】井盖开启或移位 事件群扩大 / the incident has grown",
            "【紧急】井盖开启或移位 事件群已结束 / the incident is over",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_long_message_is_cut_between_characters_and_keeps_its_link() {
        let mut long = letter(NoticeReason::Refused);
        long.notice.detail = "井".repeat(5_000);
        long.notice.report.place = "路".repeat(5_000);
        for bytes_max in [600, 601, 602, 4_096] {
            let text = message(&long, Markup::WeCom, &zone(), bytes_max);
            assert!(text.len() <= bytes_max, "{} bytes", text.len());
            assert!(text.ends_with("/token)"));
            assert!(text.starts_with("**【紧急】井盖开启或移位**"));
        }
    }

    #[test]
    fn device_text_cannot_mention_link_or_format() {
        let mut evil = letter(NoticeReason::Opened);
        evil.notice.report.place = "<@all> [x](http://evil) **x** <at id=all></at>\n# h".to_owned();
        for markup in [Markup::DingTalk, Markup::WeCom, Markup::Feishu] {
            let text = message(&evil, markup, &zone(), 20_000);
            for harm in ["<@all>", "[x](http", " **x**", " <at id", "\n# h"] {
                assert!(!text.contains(harm), "{markup:?} lets {harm:?} through: {text}");
            }
        }
    }

    #[test]
    fn a_digest_has_a_line_for_each_letter_that_fits_and_says_how_many() {
        let letters: Vec<Letter> = (0..30)
            .map(|number| {
                let mut letter = letter(NoticeReason::Opened);
                letter.notice.report.case_id = format!("KB-{number:012}");
                letter
            })
            .collect();
        let (text, included) = digest(&letters, Markup::WeCom, &zone(), 4_096);
        assert!(included > 5 && included < 30, "{included} letters in {} bytes", text.len());
        assert!(text.len() <= 4_096);
        for (number, letter) in letters.iter().enumerate() {
            assert_eq!(text.contains(&letter.notice.report.case_id), number < included);
        }
        let (text, included) = digest(&letters[..2], Markup::DingTalk, &zone(), 20_000);
        assert_eq!(included, 2);
        let first = "### 【紧急】待处理通知汇总 Kerbside digest\n\n- 【紧急】井盖开启或移位 \
                     人民路与解放路口\\[东北角\\]，MH\\_001，新案件，2026-05-01 03:04:05 KB\\-000000000000 \
                     [点此签收 Sign](https://gateway.example.org/s/KB-0123456789AB/token)\n\n- ";
        assert!(text.starts_with(first), "{text}");
    }

    #[test]
    fn an_unknown_zone_is_refused_and_the_zone_data_is_on_board() {
        assert!(Zone::named("Mars/Olympus").is_err());
        let utc = Zone::named("UTC").unwrap();
        assert_eq!(utc.local(report().occurred_at), "2026-04-30 19:04:05");
    }
}
