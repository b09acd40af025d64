//! `sinks`: where readings go.

use std::time::Duration;

use kerbside_model::document::Section;
use kerbside_sinks::influx::{Gzip, InfluxConfig};

use super::read::{self, Context};
use super::secrets;

/// What InfluxData recommends for one write.
const LINES_MAX: usize = 5_000;
/// 5,000 lines of 200 bytes.
const BYTES_MAX: usize = 1 << 20;
/// While one request is under way, lines gather for so long before another one is sent beside it: on a far link the
/// answers take longer than that, and lines must not wait for them.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// Each of them holds up to `bytes_max` in memory, twice when it is compressed.
const REQUESTS_MAX: usize = 4;
/// In percent: with half of one request's time a day at 1,000 lines a second follows in about a quarter of an hour.
const BACKLOG_SHARE: i64 = 50;
const TIMEOUT: Duration = Duration::from_secs(10);
/// A database that is back must be noticed well within a minute: by then dashboards are to be fresh.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Batches that wait in memory before the sink falls back to the store.
const QUEUE_BATCHES_MAX: usize = 256;

/// Reads the key `sinks`.
pub(super) fn read(top: &Section<'_>, context: &Context<'_>) -> Vec<InfluxConfig> {
    let mut sinks = Vec::new();
    for (name, section) in top.named_sections("sinks") {
        read::check_name(&section, &name);
        if read::required_choice(&section, "type", &[("influx", ())]).is_none() {
            continue;
        }
        sinks.push(influx(name, &section, context));
        section.finish();
    }
    if sinks.is_empty() {
        context.notice("no sink is configured: readings are decoded and watched, but go into no database");
    }
    sinks
}

fn influx(name: String, section: &Section<'_>, context: &Context<'_>) -> InfluxConfig {
    let ms = Duration::from_millis;
    InfluxConfig {
        name,
        url: read::required_base_url(section, "url", "write the database's address, such as http://127.0.0.1:8086"),
        org: section.required_text("org", "write the organisation of the database"),
        bucket: section.required_text("bucket", "write the bucket that takes the readings"),
        token: secrets::optional(section, "token", context),
        ca: read::optional_pem(section, "ca", context),
        gzip: section
            .choice("gzip", &[("auto", Gzip::Auto), ("off", Gzip::Off), ("on", Gzip::On)])
            .unwrap_or(Gzip::Auto),
        lines_max: read::count(section, "lines_max", LINES_MAX, 1..=100_000),
        bytes_max: read::memory_bytes(section, "bytes_max", BYTES_MAX, 4 << 10..=64 << 20),
        flush_interval: read::duration(section, "flush_interval", FLUSH_INTERVAL, ms(1)..=ms(60_000)),
        requests_max: read::count(section, "requests_max", REQUESTS_MAX, 1..=64),
        backlog_share_percent: share(section),
        timeout: read::duration(section, "timeout", TIMEOUT, ms(100)..=ms(300_000)),
        backoff_max: super::mqtt::backoff_max(section, BACKOFF_MAX),
        queue_batches_max: read::count(section, "queue_batches_max", QUEUE_BATCHES_MAX, 1..=100_000),
    }
}

fn share(section: &Section<'_>) -> u32 {
    let percent = section.integer("backlog_share_percent", 1, 100).unwrap_or(BACKLOG_SHARE);
    u32::try_from(percent).expect("it is between 1 and 100")
}
