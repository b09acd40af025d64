//! The section `store`: turns a preset and the keys beside it into what the store keeps and how it treats the disk.

use std::path::PathBuf;
use std::time::Duration;

use kerbside_model::document::Section;
use kerbside_store::{Packing, StoreConfig};

use super::read;

/// One fsync serves about 5,000 messages of 200 bytes.
const COMMIT_BYTES_MAX: usize = 1 << 20;
const MEBIBYTE: u64 = 1 << 20;
/// Ways to pack batches, as they are written in gateway.yaml.
const PACKINGS: [(&str, Packing); 2] = [("zstd", Packing::Zstd), ("lz4", Packing::Lz4)];
const DAY: Duration = Duration::from_secs(86_400);

/// What is kept on disk, and how often it gets there.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreSettings {
    /// What the other settings are taken from.
    pub preset: Preset,
    /// What the store itself takes.
    pub config: StoreConfig,
    /// A batch without anything urgent is committed at the latest so long after its first input.
    pub commit_interval: Duration,
    /// ... and as soon as it holds so many bytes.
    pub commit_bytes_max: usize,
    /// The engine's state is stored so often while there is something new.
    pub snapshot_interval: Duration,
}

/// What the disk can bear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// An SSD in a machine room: commits at once.
    Fast,
    /// An eMMC or SD card in a street cabinet, whose cells bear some thousand writes: commits together.
    #[default]
    Flash,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Preset; 2] = [Preset::Fast, Preset::Flash];

    /// As it is written in gateway.yaml.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Fast => "fast",
            Preset::Flash => "flash",
        }
    }

    /// Its settings.
    fn settings(self, data_dir: PathBuf) -> StoreSettings {
        let config = StoreConfig::new(data_dir);
        match self {
            // What comes during one sync shares the next one.
            Preset::Fast => StoreSettings {
                preset: self,
                config: StoreConfig {
                    log_bytes_max: 2 * MEBIBYTE,
                    packing: Packing::Lz4,
                    writes_per_day: None,
                    ..config
                },
                commit_interval: Duration::ZERO,
                commit_bytes_max: COMMIT_BYTES_MAX,
                snapshot_interval: Duration::from_secs(60),
            },
            // A page that changes with every commit is copied from the log once in 8 MiB. Five minutes at a thousand
            // messages a second are stepped through again in less than a second.
            Preset::Flash => StoreSettings {
                preset: self,
                config,
                commit_interval: Duration::from_millis(100),
                commit_bytes_max: COMMIT_BYTES_MAX,
                snapshot_interval: Duration::from_secs(300),
            },
        }
    }
}

/// Reads the section.
pub(super) fn read(top: &Section<'_>, data_dir: PathBuf) -> StoreSettings {
    let Some(section) = top.section("store") else { return Preset::default().settings(data_dir) };
    let choices = Preset::ALL.map(|preset| (preset.name(), preset));
    let preset = section.choice("preset", &choices).unwrap_or_default();
    let StoreSettings { config, commit_interval, commit_bytes_max, snapshot_interval, .. } = preset.settings(data_dir);
    let ms = Duration::from_millis;
    let disk = || MEBIBYTE..=1 << 44;
    let ages = || DAY / 24..=DAY * 3_650;
    let budget = read::bytes(&section, "writes_per_day", config.writes_per_day.unwrap_or(0), 0..=1 << 44);
    let settings = StoreSettings {
        preset,
        commit_interval: read::duration(&section, "commit_interval", commit_interval, ms(0)..=ms(10_000)),
        commit_bytes_max: read::memory_bytes(&section, "commit_bytes_max", commit_bytes_max, 4 << 10..=256 << 20),
        snapshot_interval: read::duration(&section, "snapshot_interval", snapshot_interval, ms(1_000)..=ms(3_600_000)),
        config: StoreConfig {
            batches_bytes_max: read::bytes(&section, "batches_bytes_max", config.batches_bytes_max, disk()),
            batches_age_max: read::duration(&section, "batches_age_max", config.batches_age_max, ages()),
            undecoded_bytes_max: read::bytes(&section, "undecoded_bytes_max", config.undecoded_bytes_max, disk()),
            undecoded_age_max: read::duration(&section, "undecoded_age_max", config.undecoded_age_max, ages()),
            free_bytes_min: read::bytes(&section, "free_bytes_min", config.free_bytes_min, 0..=1 << 44),
            log_bytes_max: read::bytes(&section, "log_bytes_max", config.log_bytes_max, MEBIBYTE..=256 * MEBIBYTE),
            packing: section.choice("compress", &PACKINGS).unwrap_or(config.packing),
            writes_per_day: (budget > 0).then_some(budget),
            data_dir: config.data_dir,
        },
    };
    section.finish();
    settings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{MemoryEnvironment, load};

    use super::*;

    fn read_store(section: &str) -> Result<StoreSettings, String> {
        let text = format!("sources: {{b: {{type: broker}}}}\n{section}");
        let environment = MemoryEnvironment::default().with_file("gateway.yaml", text.as_str());
        let loaded = load(Path::new("gateway.yaml"), &environment);
        loaded.map(|config| config.store).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn flash_is_the_preset_and_gathers_commits() {
        for section in ["", "store: {}\n", "store: {preset: flash}\n"] {
            let store = read_store(section).unwrap();
            assert_eq!(store.preset, Preset::Flash, "{section}");
            assert_eq!(store.commit_interval, Duration::from_millis(100));
            assert_eq!(store.snapshot_interval, Duration::from_secs(300));
            assert_eq!(store.config, StoreConfig::new(store.config.data_dir.clone()));
            assert_eq!(store.config.writes_per_day, Some(8 << 30));
        }
    }

    #[test]
    fn fast_commits_at_once_and_has_no_budget() {
        let store = read_store("store: {preset: fast}\n").unwrap();
        assert_eq!(store.commit_interval, Duration::ZERO);
        assert_eq!(store.config.log_bytes_max, 2 << 20);
        assert_eq!(store.config.writes_per_day, None);
        assert_eq!(store.config.batches_bytes_max, 2 << 30, "the quotas are the same");
    }

    #[test]
    fn every_key_wins_over_its_preset() {
        let store = read_store(
            "store:\n  preset: fast\n  commit_interval: 0s\n  commit_bytes_max: 64KiB\n  snapshot_interval: 10s\n  \
             batches_bytes_max: 10MiB\n  batches_age_max: 2h\n  undecoded_bytes_max: 2MiB\n  undecoded_age_max: 3h\n  \
             free_bytes_min: 0B\n  log_bytes_max: 4MiB\n  writes_per_day: 1GiB\n",
        )
        .unwrap();
        assert_eq!((store.commit_interval, store.commit_bytes_max), (Duration::ZERO, 64 << 10));
        assert_eq!(store.snapshot_interval, Duration::from_secs(10));
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let expected = StoreConfig {
            batches_bytes_max: 10 << 20,
            batches_age_max: hours(2),
            undecoded_bytes_max: 2 << 20,
            undecoded_age_max: hours(3),
            free_bytes_min: 0,
            log_bytes_max: 4 << 20,
            writes_per_day: Some(1 << 30),
            ..store.config.clone()
        };
        assert_eq!(store.config, expected);
        assert_eq!(read_store("store: {writes_per_day: 0B}\n").unwrap().config.writes_per_day, None);
    }

    #[test]
    fn what_no_disk_can_do_is_refused_with_a_mend() {
        for (section, key) in [
            ("store: {preset: slow}\n", "store.preset"),
            ("store: {batches_age_max: 5m}\n", "store.batches_age_max"),
            ("store: {undecoded_age_max: 20000d}\n", "store.undecoded_age_max"),
            ("store: {log_bytes_max: 1KiB}\n", "store.log_bytes_max"),
        ] {
            let problems = read_store(section).unwrap_err();
            assert!(problems.contains(key), "{section}: {problems}");
        }
    }
}
