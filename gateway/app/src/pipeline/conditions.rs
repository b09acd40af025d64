//! The store's conditions in the words of the engine: turns what stands into alarms of the gateway itself.
//!
//! They are looked at and not sent, so none is lost while the pipeline waits for a full disk. The first look tells
//! everything: the engine may remember another state from before the restart, and ignores what it knows.

use std::collections::BTreeMap;
use std::time::Duration;

use kerbside_model::{GatewayCondition, Severity};
use kerbside_sinks::channels::text::Zone;
use kerbside_store::{DiskLow, Dropping, Outage, OutageReason, OverBudget, StoreConditions};

const QUOTA: &str = "quota_exceeded";
const UNDECODED: &str = "undecoded_dropped";
const DISK_LOW: &str = "disk_low";
const WRITES: &str = "write_budget_exceeded";
const DISK_FULL: &str = "disk_full";
const DISK_FAILING: &str = "disk_failing";

/// Compares what stands with what the engine was told.
#[derive(Debug)]
pub struct StoreReports {
    zone: Zone,
    /// The last state of every condition, with the latest figures.
    told: BTreeMap<&'static str, GatewayCondition>,
    outages: u64,
}

/// A condition in words.
struct Words {
    severity: Severity,
    english: String,
    chinese: String,
}

impl StoreReports {
    /// Nothing was told yet. Times in texts are of this zone.
    pub fn new(zone: Zone) -> StoreReports {
        StoreReports { zone, told: BTreeMap::new(), outages: 0 }
    }

    /// What the engine must be told now.
    pub fn news(&mut self, conditions: &StoreConditions) -> Vec<GatewayCondition> {
        let zone = &self.zone;
        let standing = [
            (QUOTA, conditions.telemetry_dropped.map(|spell| telemetry_dropped(spell, zone))),
            (UNDECODED, conditions.undecoded_dropped.map(|spell| undecoded_dropped(spell, zone))),
            (DISK_LOW, conditions.disk_low.map(|low| disk_low(low, zone))),
            (WRITES, conditions.over_budget.map(|over| over_budget(over, zone))),
        ];
        let mut news = Vec::new();
        for (condition, words) in standing {
            news.extend(self.tell(condition, words));
        }
        news.extend(self.outage_news(conditions.last_outage));
        news
    }

    /// Remembers the state and the latest figures; gives the condition when its state is new.
    fn tell(&mut self, condition: &'static str, words: Option<Words>) -> Option<GatewayCondition> {
        let before = self.told.get(condition);
        let active = words.is_some();
        let is_news = before.is_none_or(|before| before.active != active);
        let now = match (words, before) {
            (Some(words), _) => words.condition(condition, true),
            // The last figures of the spell are what it cost.
            (None, Some(before)) => GatewayCondition { active: false, ..before.clone() },
            (None, None) => Words::over().condition(condition, false),
        };
        self.told.insert(condition, now.clone());
        is_news.then_some(now)
    }

    /// While the disk refuses commits no alarm can be written: it is told as a whole when it is over.
    fn outage_news(&mut self, last: Option<Outage>) -> Vec<GatewayCondition> {
        let mut news = Vec::new();
        if self.outages == 0 {
            news.extend([DISK_FULL, DISK_FAILING].map(|condition| self.tell(condition, None)).into_iter().flatten());
        }
        if let Some(outage) = last.filter(|outage| outage.number > self.outages) {
            self.outages = outage.number;
            let (condition, words) = refused(outage, &self.zone);
            news.extend(self.tell(condition, Some(words)));
            news.extend(self.tell(condition, None));
        }
        news
    }
}

impl Words {
    fn over() -> Words {
        Words {
            severity: Severity::Notice, english: "does not stand".to_owned(), chinese: "当前无此状况".to_owned()
        }
    }

    fn condition(self, condition: &str, active: bool) -> GatewayCondition {
        GatewayCondition {
            condition: condition.to_owned(),
            active,
            severity: self.severity,
            detail: self.english,
            detail_zh: self.chinese,
        }
    }
}

fn telemetry_dropped(Dropping { since, rows, bytes }: Dropping, zone: &Zone) -> Words {
    let (time, size) = (zone.local(since), size(bytes));
    Words {
        severity: Severity::Major,
        english: format!(
            "since {time} the store's quota has been full: {rows} batches ({size}) of telemetry were dropped unsent; \
             alarms and cases are kept"
        ),
        chinese: format!("自 {time} 起存储配额已满：{rows} 批（{size}）未发送的遥测数据被丢弃；告警和案件不受影响"),
    }
}

fn undecoded_dropped(Dropping { since, rows, bytes }: Dropping, zone: &Zone) -> Words {
    let (time, size) = (zone.local(since), size(bytes));
    Words {
        severity: Severity::Notice,
        english: format!(
            "since {time} the quota of undecoded frames has been full: {rows} frames ({size}) were dropped; \
             mend the profile or adopt the devices"
        ),
        chinese: format!(
            "自 {time} 起未解码报文配额已满：{rows} 条（{size}）报文被丢弃；请修正设备模型或将设备纳入台账"
        ),
    }
}

fn disk_low(DiskLow { since, free_bytes, free_bytes_min }: DiskLow, zone: &Zone) -> Words {
    let (time, free, reserve) = (zone.local(since), size(free_bytes), size(free_bytes_min));
    Words {
        severity: Severity::Major,
        english: format!(
            "since {time} the disk has been short of room: {free} free, {reserve} should be; unsent telemetry makes \
             room for alarms and cases"
        ),
        chinese: format!(
            "自 {time} 起磁盘空间不足：剩余 {free}，应保留 {reserve}；未发送的遥测数据将为告警和案件让出空间"
        ),
    }
}

fn over_budget(OverBudget { since, bytes, bytes_max }: OverBudget, zone: &Zone) -> Words {
    let (time, written, budget) = (zone.local(since), size(bytes), size(bytes_max));
    Words {
        severity: Severity::Minor,
        english: format!(
            "the day's write budget of {budget} was used up at {time} ({written} so far); the flash wears out faster \
             than planned, nothing is held back"
        ),
        chinese: format!(
            "当日写入预算 {budget} 已于 {time} 用完（目前已写入 {written}）；闪存磨损快于计划，写入不受限制"
        ),
    }
}

fn refused(Outage { reason, since, lasted, .. }: Outage, zone: &Zone) -> (&'static str, Words) {
    let time = zone.local(since);
    let (minutes, seconds) = (lasted.as_secs() / 60, lasted.max(Duration::from_secs(1)).as_secs() % 60);
    let (condition, english, chinese) = match reason {
        OutageReason::Full => (DISK_FULL, "was full", "磁盘已满"),
        OutageReason::Failing => (DISK_FAILING, "refused writes", "磁盘拒绝写入"),
    };
    let words = Words {
        severity: Severity::Critical,
        english: format!(
            "the disk {english} from {time} for {minutes} min {seconds} s; nothing was acknowledged meanwhile, \
             brokers kept their messages"
        ),
        chinese: format!(
            "{chinese}：自 {time} 起持续 {minutes} 分 {seconds} 秒；其间未确认任何报文，报文由上游消息代理保留"
        ),
    };
    (condition, words)
}

/// Bytes for people, with one decimal.
fn size(bytes: u64) -> String {
    for (unit, factor) in [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)] {
        if bytes >= factor {
            return format!("{}.{} {unit}", bytes / factor, bytes % factor / (factor / 10));
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use kerbside_model::Timestamp;
    use kerbside_model::vocabulary;

    use super::*;

    /// 2026-11-22 08:00 in Shanghai.
    const SINCE: Timestamp = Timestamp(1_795_305_600_000);

    fn reports() -> StoreReports {
        StoreReports::new(Zone::named("Asia/Shanghai").unwrap())
    }

    fn states(news: &[GatewayCondition]) -> Vec<(&str, bool)> {
        news.iter().map(|condition| (condition.condition.as_str(), condition.active)).collect()
    }

    fn outage(number: u64, reason: OutageReason) -> StoreConditions {
        let lasted = Duration::from_secs(125);
        StoreConditions { last_outage: Some(Outage { number, reason, since: SINCE, lasted }), ..Default::default() }
    }

    #[test]
    fn the_first_look_ends_what_the_last_process_left_standing() {
        let mut reports = reports();
        let news = reports.news(&StoreConditions::default());
        let names = [QUOTA, UNDECODED, DISK_LOW, WRITES, DISK_FULL, DISK_FAILING];
        assert_eq!(states(&news), names.map(|name| (name, false)));
        for name in names {
            let term = vocabulary::condition(name).unwrap_or_else(|| panic!("{name} is in the vocabulary"));
            assert!(!term.zh.is_empty());
        }
        assert_eq!(reports.news(&StoreConditions::default()), []);
    }

    #[test]
    fn a_spell_is_told_once_and_ends_with_what_it_cost() {
        let mut reports = reports();
        reports.news(&StoreConditions::default());
        let dropping = |rows| StoreConditions {
            telemetry_dropped: Some(Dropping { since: SINCE, rows, bytes: rows * 1_234_567 }),
            ..Default::default()
        };
        let news = reports.news(&dropping(1));
        assert_eq!(states(&news), [(QUOTA, true)]);
        assert_eq!(news[0].severity, Severity::Major);
        assert_eq!(reports.news(&dropping(70)), []);
        let news = reports.news(&StoreConditions::default());
        assert_eq!(states(&news), [(QUOTA, false)]);
        assert_eq!(
            news[0].detail,
            "since 2026-11-22 08:00:00 the store's quota has been full: 70 batches (86.4 MB) of telemetry were \
             dropped unsent; alarms and cases are kept"
        );
        assert!(news[0].detail_zh.contains("70 批（86.4 MB）"), "{}", news[0].detail_zh);
    }

    #[test]
    fn a_full_disk_is_told_when_it_is_over_with_how_long_it_lasted() {
        let mut reports = reports();
        reports.news(&StoreConditions::default());
        let news = reports.news(&outage(1, OutageReason::Full));
        assert_eq!(states(&news), [(DISK_FULL, true), (DISK_FULL, false)]);
        assert!(news[0].detail.contains("was full from 2026-11-22 08:00:00 for 2 min 5 s"), "{}", news[0].detail);
        assert!(news[0].detail_zh.contains("2 分 5 秒"), "{}", news[0].detail_zh);
        assert_eq!(reports.news(&outage(1, OutageReason::Full)), []);
        let news = reports.news(&outage(2, OutageReason::Failing));
        assert_eq!(states(&news), [(DISK_FAILING, true), (DISK_FAILING, false)]);
    }

    #[test]
    fn an_outage_before_the_first_look_is_told_too() {
        let news = reports().news(&outage(1, OutageReason::Full));
        assert_eq!(
            states(&news)[4..],
            [(DISK_FULL, false), (DISK_FAILING, false), (DISK_FULL, true), (DISK_FULL, false)]
        );
    }

    #[test]
    fn a_low_disk_and_a_budget_have_words_in_both_languages() {
        let conditions = StoreConditions {
            disk_low: Some(DiskLow { since: SINCE, free_bytes: 99_900_000, free_bytes_min: 268_435_456 }),
            over_budget: Some(OverBudget { since: SINCE, bytes: 5_000_000_000, bytes_max: 4_294_967_296 }),
            undecoded_dropped: Some(Dropping { since: SINCE, rows: 3, bytes: 950 }),
            ..Default::default()
        };
        let news = reports().news(&conditions);
        let texts: Vec<String> =
            news.iter().filter(|news| news.active).map(|news| format!("{}\n{}", news.detail, news.detail_zh)).collect();
        assert_eq!(texts.len(), 3);
        assert!(texts[0].contains("3 frames (950 B)") && texts[0].contains("3 条（950 B）"), "{}", texts[0]);
        assert!(texts[1].contains("99.9 MB free, 268.4 MB should be") && texts[1].contains("剩余 99.9 MB"));
        assert!(texts[2].contains("budget of 4.2 GB") && texts[2].contains("目前已写入 5.0 GB"), "{}", texts[2]);
    }
}
