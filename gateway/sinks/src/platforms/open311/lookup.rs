//! Finding our own service requests again.
//!
//! The list around the time of the case comes first. Servers exist that mix up the two ends of the window or refuse
//! it, so when it does not show the case the list without any filter is read too. Pages are followed where the
//! server has them.

use std::collections::BTreeSet;
use std::time::Duration;

use kerbside_model::Timestamp;

use super::{Open311, readable, text, unreadable};
use crate::platforms::PlatformError;
use crate::platforms::answer::{self, Record};

/// The window begins so long before the case and ends so long after now: clocks differ.
const WINDOW_MARGIN: Duration = Duration::from_secs(3_600);
/// The specification's longest window.
const WINDOW_MAX: Duration = Duration::from_secs(90 * 24 * 3_600);
/// Servers that have pages give at least so many requests on each.
const PAGE_REQUESTS_MIN: usize = 10;
/// No more pages than this are read: a million requests at the usual largest page.
const PAGES_MAX: usize = 1_000;

impl Open311 {
    /// The platform's number of the case with our reference. An error means that nobody knows.
    pub(super) async fn look_up(
        &self,
        case_id: &str,
        occurred_at: Timestamp,
        service_code: Option<&str>,
    ) -> Result<Option<String>, PlatformError> {
        let mut window = self.window(occurred_at);
        if let Some(code) = service_code {
            window.push(("service_code", code.to_owned()));
        }
        if let Ok(Some(id)) = self.search(case_id, &window).await {
            return Ok(Some(id));
        }
        self.search(case_id, &[]).await
    }

    /// Whole seconds with a zone: one server refuses fractions.
    fn window(&self, occurred_at: Timestamp) -> Vec<(&'static str, String)> {
        let end = self.clock.now().plus(WINDOW_MARGIN);
        let start = occurred_at.minus(WINDOW_MARGIN).max(end.minus(WINDOW_MAX)).min(end);
        vec![("start_date", whole_seconds(start)), ("end_date", whole_seconds(end))]
    }

    async fn search(&self, case_id: &str, filter: &[(&str, String)]) -> Result<Option<String>, PlatformError> {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for page in 1..=PAGES_MAX {
            let mut parameters = filter.to_vec();
            // The first page is asked for without a number: servers without pages may refuse the parameter.
            if page > 1 {
                parameters.push(("page", page.to_string()));
            }
            let records = match self.list(&parameters).await {
                Ok(records) => records,
                // A page beyond the first that is refused as a parameter is not there.
                Err(PlatformError::Status { status: 400..=499, .. }) if page > 1 => return Ok(None),
                Err(error) => return Err(error),
            };
            if let Some(id) = found(&records, case_id) {
                return Ok(Some(id));
            }
            let ids: Vec<&str> = records.iter().filter_map(|record| record.get("service_request_id")).collect();
            let has_news = ids.iter().filter(|id| seen.insert((**id).to_owned())).count() > 0;
            if !has_news || ids.len() < PAGE_REQUESTS_MIN {
                return Ok(None);
            }
        }
        Err(PlatformError::Unreadable { reason: format!("the list of requests has more than {PAGES_MAX} pages") })
    }

    async fn list(&self, parameters: &[(&str, String)]) -> Result<Vec<Record>, PlatformError> {
        let reply = readable(self.get("list", "requests", parameters).await?)?;
        let answer = answer::parse(&reply.body).map_err(unreadable)?;
        if !answer.is_request_list {
            let reason = "the answer is not a list of service requests".to_owned();
            return Err(PlatformError::Unreadable { reason });
        }
        Ok(answer.records)
    }
}

fn found(records: &[Record], case_id: &str) -> Option<String> {
    let carries = |record: &&Record| {
        record.get("description").is_some_and(|description| text::carries_marker(description, case_id))
    };
    records.iter().filter(carries).find_map(|record| record.get("service_request_id")).map(str::to_owned)
}

fn whole_seconds(time: Timestamp) -> String {
    match jiff::Timestamp::from_second(time.as_millis().div_euclid(1_000)) {
        Ok(time) => time.to_string(),
        Err(_) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_seconds_in_utc() {
        assert_eq!(whole_seconds(Timestamp(1_586_400_800_535)), "2020-04-09T02:53:20Z");
    }
}
