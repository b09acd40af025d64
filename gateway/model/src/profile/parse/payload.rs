//! Keys of `payload` that several formats have.

use super::{Place, Report, read_path, read_time};
use crate::document::Section;
use crate::profile::{DocumentFormat, HistoryList, JsonPath, Newest, TimeField, TimeUnit};

/// Which row of several is no history.
pub(super) const NEWEST: [(&str, Newest); 3] =
    [("none", Newest::None), ("first", Newest::First), ("last", Newest::Last)];

/// Time and history of a document.
pub(super) fn read_document(payload: &Section<'_>, report: Report<'_>) -> DocumentFormat {
    DocumentFormat {
        time: payload.section("time").map(|time| read_time(time, report)),
        history: payload.section("history").map(|list| read_history(&list, report)),
    }
}

fn read_history(list: &Section<'_>, report: Report<'_>) -> HistoryList {
    let path = list.text("path").map(|text| {
        let place = Place { line: list.line(), key: list.path_of("path") };
        read_path(&text, &place, report)
    });
    if !list.has("time") {
        list.missing("time", "write where the time stands in an element of the list: `time: {path: ts, unit: s}`");
    }
    let empty = || TimeField::new(JsonPath(Vec::new()), TimeUnit::Auto);
    let time = list.section("time").map_or_else(empty, |time| read_time(time, report));
    let newest = list.choice("newest", &NEWEST).unwrap_or_default();
    list.known_only();
    HistoryList { path, time, newest }
}
