//! The small page that the link in a message opens: the officer reads the case and signs (签收).
//!
//! The link carries a token that only this gateway can make. Opening it changes nothing, because chat programs open
//! links to show previews; the signature is the button. It can be given once.

use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use jiff::tz::TimeZone;
use kerbside_model::geo::{Datum, convert};
use kerbside_model::{Case, OperatorAction, Timestamp};
use serde::Deserialize;

use super::ApiState;
use super::actions::act;
use super::lists::stored;
use crate::html::escape;

/// Longer names are cut.
const NAME_CHARACTERS_MAX: usize = 40;

#[derive(Debug, Deserialize)]
pub(super) struct SignForm {
    #[serde(default)]
    by: String,
}

pub(super) async fn show(State(state): State<ApiState>, Path((case_id, token)): Path<(String, String)>) -> Response {
    match find(&state, &case_id, &token).await {
        Ok(case) => Html(page(&case, &state.sign_links.url(&case.id), &state.zone)).into_response(),
        Err(response) => response,
    }
}

pub(super) async fn sign(
    State(state): State<ApiState>,
    Path((case_id, token)): Path<(String, String)>,
    Form(form): Form<SignForm>,
) -> Response {
    let case = match find(&state, &case_id, &token).await {
        Ok(case) => case,
        Err(response) => return response,
    };
    let by: String = form.by.trim().chars().take(NAME_CHARACTERS_MAX).collect();
    let by = if by.is_empty() { "值班员".to_owned() } else { by };
    if case.signed.is_none() && !case.state.is_final() {
        let action = OperatorAction::Sign { case_id: case.id.clone(), by };
        if let Err(error) = act(&state, action).await {
            return error.into_response();
        }
    }
    match find(&state, &case_id, &token).await {
        Ok(case) => Html(page(&case, &state.sign_links.url(&case.id), &state.zone)).into_response(),
        Err(response) => response,
    }
}

async fn find(state: &ApiState, case_id: &str, token: &str) -> Result<Case, Response> {
    let unknown = || {
        let text = "链接无效。请联系值班室。 This link is not valid. Ask the duty room.";
        (StatusCode::NOT_FOUND, Html(frame("链接无效 · Not valid", text))).into_response()
    };
    if !state.sign_links.verify(case_id, token) {
        return Err(unknown());
    }
    let wanted = case_id.to_owned();
    let found = stored(state, move |store| store.case(&wanted)).await.map_err(IntoResponse::into_response)?;
    found.map(|(case, _)| case).ok_or_else(unknown)
}

fn page(case: &Case, url: &str, zone: &TimeZone) -> String {
    let report = &case.report;
    let row = |name: &str, value: &str| {
        if value.is_empty() { String::new() } else { format!("<dt>{name}</dt><dd>{}</dd>", escape(value)) }
    };
    // The maps on phones in China are drawn on GCJ-02.
    let place = |position, datum, name: &str| {
        let (lon, lat) = convert(position, report.datum, datum);
        format!("{lat:.6}, {lon:.6} ({name})")
    };
    let position = report.position.map(|position| {
        let wgs84 = place(position, Datum::Wgs84, "WGS84");
        format!("{wgs84}\n{}", place(position, Datum::Gcj02, "GCJ-02 高德、腾讯"))
    });
    let position = position.unwrap_or_default();
    let facts = [
        row("地点 Place", &report.place),
        row("设备 Device", &format!("{} {} {}", report.kind_zh, report.device_name, report.device)),
        row("情况 What", &format!("{}\n{}", report.explanation_zh, report.explanation)),
        row("发生时间 Since", &local(report.occurred_at, zone)),
        row("坐标 Position", &position),
        row("责任单位 Unit", &report.unit),
        row("案件 Case", &case.id),
        row("状态 State", &format!("{} {}", case.state.name_zh(), case.state.name())),
    ]
    .concat();
    let action = match &case.signed {
        Some((by, at)) => {
            format!("<p class=done>已签收 Signed：{}，{}</p>", escape(by), local(*at, zone))
        }
        None if case.state.is_final() => "<p class=done>案件已结束。 The case is over.</p>".to_owned(),
        None => format!(
            "<form method=post action=\"{}\"><label>姓名 Name <input name=by maxlength={NAME_CHARACTERS_MAX} \
             autocomplete=name></label><button>签收 Sign</button></form>",
            escape(path_of(url))
        ),
    };
    let heading = format!("【{}】{}", report.severity.name_zh(), report.title_zh);
    frame(&heading, &format!("<p>{}</p><dl>{facts}</dl>{action}", escape(&report.title)))
}

/// The form goes back to where the page came from, whatever name the phone reached us by.
fn path_of(url: &str) -> &str {
    url.find("/s/").map_or(url, |start| &url[start..])
}

/// What the officer's watch shows.
fn local(at: Timestamp, zone: &TimeZone) -> String {
    match jiff::Timestamp::from_millisecond(at.as_millis()) {
        Ok(time) => time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => at.to_string(),
    }
}

fn frame(heading: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=zh-CN><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{0}</title><style>body{{font:18px/1.5 sans-serif;margin:1em auto;max-width:34em;padding:0 1em}}\
         h1{{font-size:1.4em}}dt{{color:#666;font-size:.8em}}dd{{margin:0 0 .6em;white-space:pre-line}}\
         button{{font-size:1.3em;padding:.6em 2em;background:#c00;color:#fff;border:0;border-radius:.3em;width:100%}}\
         input{{font-size:1em;padding:.4em;width:100%;box-sizing:border-box;margin-bottom:.8em}}\
         .done{{background:#dfd;padding:1em;border-radius:.3em}}</style><h1>{0}</h1>{body}</html>",
        escape(heading)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_bring_markup_into_the_page() {
        assert_eq!(escape("<script>\"x\"&'"), "&lt;script&gt;&quot;x&quot;&amp;&#39;");
    }

    #[test]
    fn times_are_those_of_the_officers_watch() {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        assert_eq!(local(Timestamp(1_586_400_800_535), &zone), "2020-04-09 10:53:20");
    }
}
