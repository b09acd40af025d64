//! What a clerk of the platform reads: Chinese first, then English, and our reference at the end.

use kerbside_model::CaseReport;

use crate::channels::text::{Zone, clean, device_zh, severity_en};

/// The specification's limit of a description.
const DESCRIPTION_CHARS_MAX: usize = 4_000;
/// One field is cut here.
const FIELD_CHARS_MAX: usize = 600;

/// Where it is: the road text, or at least what the device is called.
pub(super) fn address(report: &CaseReport) -> String {
    let known = [&report.place, &report.device_name, &report.device].into_iter().find(|text| !text.is_empty());
    known.map(|text| clean(text, FIELD_CHARS_MAX)).unwrap_or_default()
}

/// The mark that finds the case again.
pub(super) fn marker(case_id: &str) -> String {
    format!("[ref:{case_id}]")
}

/// Whether a description carries the mark. Servers may escape or drop the brackets; the word and the id stay. What
/// follows the id must not continue it.
pub(super) fn carries_marker(description: &str, case_id: &str) -> bool {
    let word = format!("ref:{case_id}");
    description.match_indices(&word).any(|(position, _)| {
        let next = description[position + word.len()..].chars().next();
        !next.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-')
    })
}

/// The whole description.
pub(super) fn description(report: &CaseReport, zone: &Zone) -> String {
    let field = |text: &str| clean(text, FIELD_CHARS_MAX);
    let facts = [
        ("地点", field(&report.place)),
        ("设备", field(&device_zh(report))),
        ("情况", field(&report.explanation_zh)),
        ("开始时间", zone.local(report.occurred_at)),
        ("责任单位", field(&report.unit)),
        ("单元网格", field(&report.grid)),
        ("部件标识码", field(&report.component_code)),
    ];
    let mut lines = vec![format!("【{}】{}", report.severity.name_zh(), field(&report.title_zh))];
    for (name, text) in facts {
        if !text.is_empty() {
            lines.push(format!("{name}：{text}"));
        }
    }
    let english = format!(
        "{}: {}. {}. Device {}. Since {}.",
        severity_en(report.severity),
        field(&report.title),
        field(&report.explanation).trim_end_matches('.'),
        field(&report.device),
        zone.local_with_offset(report.occurred_at),
    );
    lines.push(english);
    let marker = marker(&report.case_id);
    let room = DESCRIPTION_CHARS_MAX.saturating_sub(marker.chars().count() + 1);
    let body: String = lines.join("\n").chars().take(room).collect();
    format!("{body}\n{marker}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::text::DEFAULT_ZONE;
    use crate::test_data::report;

    #[test]
    fn the_description_is_chinese_then_english_and_ends_with_the_reference() {
        let mut report = report();
        report.grid = "310101001001001".to_owned();
        report.component_code = "3101010101000001".to_owned();
        let expected = "【紧急】井盖开启或移位\n\
                        地点：人民路与解放路口[东北角]\n\
                        设备：1号井盖（MH_001，智能井盖）\n\
                        情况：倾角 38.2° 超过 15°\n\
                        开始时间：2026-05-01 03:04:05\n\
                        责任单位：市政\n\
                        单元网格：310101001001001\n\
                        部件标识码：3101010101000001\n\
                        Critical: manhole cover open or displaced. tilt 38.2 deg > 15 deg. Device MH_001. \
                        Since 2026-05-01 03:04:05 +08:00.\n\
                        [ref:KB-0123456789AB]";
        assert_eq!(description(&report, &Zone::named(DEFAULT_ZONE).unwrap()), expected);
    }

    #[test]
    fn a_long_description_is_cut_and_keeps_its_reference() {
        let mut report = report();
        for text in [
            &mut report.place,
            &mut report.device_name,
            &mut report.explanation_zh,
            &mut report.unit,
            &mut report.grid,
            &mut report.component_code,
            &mut report.explanation,
            &mut report.title_zh,
        ] {
            *text = "井".repeat(3_000);
        }
        let text = description(&report, &Zone::named(DEFAULT_ZONE).unwrap());
        assert_eq!(text.chars().count(), DESCRIPTION_CHARS_MAX);
        assert!(text.ends_with("\n[ref:KB-0123456789AB]"));
    }

    #[test]
    fn a_reference_is_found_with_or_without_brackets_and_never_within_a_longer_one() {
        for text in ["x [ref:KB-01]", "ref:KB-01", "&#91;ref:KB-01&#93; y", "a ref:KB-012 [ref:KB-01]"] {
            assert!(carries_marker(text, "KB-01"), "{text}");
        }
        for text in ["", "KB-01", "[ref:KB-012]", "[ref:KB-0]", "[ref:KB-01-2]"] {
            assert!(!carries_marker(text, "KB-01"), "{text}");
        }
    }

    #[test]
    fn a_device_without_a_road_text_is_still_somewhere() {
        let mut report = report();
        report.place.clear();
        assert_eq!(address(&report), "1号井盖");
        report.device_name.clear();
        assert_eq!(address(&report), "MH_001");
    }
}
