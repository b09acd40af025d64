//! The engine as it was when the process ended: the last snapshot, stepped through the batches after it. Their effects
//! are in the database already, so they are dropped here: no alarm is raised twice, no hold timer starts afresh.
//!
//! After a salvage of a damaged database that lost batches, the tables win: a state with a hole in its past would not
//! know of a case that was opened in the hole, and open it a second time.

use std::sync::Arc;
use std::time::Duration;

use kerbside_engine::{ENGINE_VERSION, Engine, RestoreError};
use kerbside_model::{FrameAgain, GatewayCondition, Input, Severity, Site, StoredInput, Timestamp};
use kerbside_runtime::Chain;
use kerbside_store::{AuditQuery, SalvageReport, Snapshot, Store, StoreError, StoredBatch};
use tracing::{info, warn};

/// The alarm that the database was damaged stands until a start after so long: long enough for somebody to read it.
const DAMAGE_SHOWN_FOR: Duration = Duration::from_secs(3 * 86_400);
/// Batches read from the disk at once during a replay.
const REPLAY_BYTES: usize = 4 << 20;

/// Why the engine could not be rebuilt from snapshot and batches. The tables are used then.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    #[error("read the store")]
    Store(#[source] StoreError),
    #[error("read the snapshot")]
    Snapshot(#[source] RestoreError),
    #[error("find the site {0} that a batch or snapshot names")]
    UnknownSite(String),
    #[error("find batch {0}: the batches after the snapshot have a hole")]
    Hole(u64),
    #[error("trust the batches: the database was damaged and some of them were lost")]
    Salvaged,
}

/// Rebuilds the engine. `site` is today's; it serves when nothing was stored yet, or when the tables must be used.
pub fn recover(store: &Store, site: &Arc<Site>, now: Timestamp) -> Result<Engine, StoreError> {
    let last = store.last_sequence()?;
    if last == 0 && store.last_salvage()?.is_none() {
        return Ok(Engine::new(Arc::clone(site)));
    }
    match replay(store, site, last) {
        Ok((engine, replayed)) => {
            info!(last_batch = last, replayed, open_cases = engine.open_cases(), "state restored");
            Ok(engine)
        }
        Err(error) => {
            warn!(
                error = %Chain(&error),
                "the snapshot cannot be used: alarms and cases are taken from the tables, detectors warm up again"
            );
            Ok(Engine::from_tables(Arc::clone(site), store.alarms_open()?, store.cases_open()?, now))
        }
    }
}

/// Whether people are still to be told that the database was damaged, as the store sees it at start.
pub fn damage_condition(store: &Store, now: Timestamp) -> Result<GatewayCondition, StoreError> {
    let salvage = store.last_salvage()?;
    let told = |salvage: &SalvageReport| now.since(salvage.at) < DAMAGE_SHOWN_FOR;
    let texts = salvage.as_ref().map(|salvage| (salvage.summary(), salvage.summary_zh()));
    let (detail, detail_zh) = texts.unwrap_or_default();
    Ok(GatewayCondition {
        condition: "store_damaged".to_owned(),
        active: salvage.as_ref().is_some_and(told),
        severity: Severity::Major,
        detail,
        detail_zh,
    })
}

/// The newest time in the store, which had certainly come when it was written; `None` when it is new.
pub fn newest_time(store: &Store) -> Result<Option<Timestamp>, StoreError> {
    let last = store.last_sequence()?;
    if last == 0 {
        return Ok(None);
    }
    // The last batch may be gone, or damaged; the audit log has a line of each start.
    if let Ok(batches) = store.batches_after(last - 1, 1)
        && let Some(batch) = batches.last()
    {
        return Ok(Some(batch.now));
    }
    let newest = store.audit(&AuditQuery { limit: 1, ..AuditQuery::default() })?;
    Ok(newest.items.first().map(|line| line.at))
}

pub(super) fn replay(store: &Store, site: &Arc<Site>, last: u64) -> Result<(Engine, u64), ReplayError> {
    let snapshot = store.latest_snapshot().map_err(ReplayError::Store)?;
    let salvage = store.last_salvage().map_err(ReplayError::Store)?;
    if let Some(salvage) = salvage.filter(|salvage| !salvage.is_gapless)
        && snapshot.as_ref().is_none_or(|snapshot| snapshot.sequence <= salvage.last_sequence)
    {
        return Err(ReplayError::Salvaged);
    }
    let (mut engine, mut sequence) = match snapshot {
        Some(snapshot) => from_snapshot(store, &snapshot)?,
        None => (Engine::new(Arc::clone(site)), 0),
    };
    let first = sequence;
    loop {
        let batches = store.batches_after(sequence, REPLAY_BYTES).map_err(ReplayError::Store)?;
        if batches.is_empty() {
            // Without a snapshot that can be read, and with every batch gone, there would be nothing to begin with.
            if sequence < last {
                return Err(ReplayError::Hole(sequence + 1));
            }
            return Ok((engine, sequence - first));
        }
        for batch in batches {
            if batch.sequence != sequence + 1 {
                return Err(ReplayError::Hole(sequence + 1));
            }
            sequence = batch.sequence;
            step_again(store, &mut engine, batch)?;
        }
    }
}

fn from_snapshot(store: &Store, snapshot: &Snapshot) -> Result<(Engine, u64), ReplayError> {
    let found = snapshot.engine_version;
    if found != ENGINE_VERSION {
        // Its site has the shape of then as well, and is not worth a look.
        return Err(ReplayError::Snapshot(RestoreError::Version { found }));
    }
    let site = stored_site(store, &snapshot.site_hash)?;
    let engine = Engine::restore(site, snapshot.engine_version, &snapshot.body).map_err(ReplayError::Snapshot)?;
    Ok((engine, snapshot.sequence))
}

fn step_again(store: &Store, engine: &mut Engine, batch: StoredBatch) -> Result<(), ReplayError> {
    let mut inputs = Vec::with_capacity(batch.inputs.len());
    for input in batch.inputs {
        inputs.push(match input {
            StoredInput::Frame(frame) => Input::Frame(frame),
            StoredInput::Frames(frames) => Input::Frames(frames),
            StoredInput::Site(hash) => Input::Site(stored_site(store, &hash)?),
            StoredInput::Operator(action) => Input::Operator(action),
            StoredInput::Delivery(delivery) => Input::Delivery(delivery),
            StoredInput::Platform(status) => Input::Platform(status),
            StoredInput::Source(status) => Input::Source(status),
            StoredInput::Gateway(condition) => Input::Gateway(condition),
            StoredInput::Step(stepped_at) => {
                drop(engine.step(stepped_at, &std::mem::take(&mut inputs)));
                continue;
            }
            StoredInput::Notes(_) => continue,
            StoredInput::Change { hash, by } => Input::Change { site: stored_site(store, &hash)?, by },
            StoredInput::Again(frames) => Input::Again(frames.into_iter().map(FrameAgain::from).collect()),
            StoredInput::ReadAgain(frames) => Input::Again(frames),
        });
    }
    // Already in the database.
    drop(engine.step(batch.now, &inputs));
    Ok(())
}

fn stored_site(store: &Store, hash: &str) -> Result<Arc<Site>, ReplayError> {
    let facts = store.site(hash).map_err(ReplayError::Store)?;
    let facts = facts.ok_or_else(|| ReplayError::UnknownSite(hash.to_owned()))?;
    Ok(Arc::new(Site::new(facts)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kerbside_model::site::{LEDGER, SiteFacts};
    use kerbside_model::{AlarmState, ByteText, Case, CaseReport, CaseState, Effects, Frame, Payload};
    use kerbside_runtime::{Clock, Health, Metrics};
    use kerbside_store::{Commit, NewSnapshot, StoreConfig};
    use tempfile::TempDir;

    use super::*;

    fn site() -> Arc<Site> {
        Arc::new(Site::new(SiteFacts::new("test", Vec::new(), Vec::new())))
    }

    /// Bytes that cannot be packed smaller, so that they stand in the file as they are.
    fn noise(seed: u64) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        std::iter::repeat_with(|| random.u8(..)).take(6_000).collect()
    }

    fn open(folder: &Path) -> Store {
        let config = StoreConfig::new(folder.to_owned());
        Store::open(config, Clock::System, &Metrics::default(), &Health::default()).unwrap()
    }

    fn case() -> Case {
        let report = CaseReport {
            case_id: "KB-1".to_owned(),
            device: "MH-1".to_owned(),
            device_name: String::new(),
            kind: "manhole_cover".to_owned(),
            kind_zh: String::new(),
            condition: "displaced".to_owned(),
            title: String::new(),
            title_zh: String::new(),
            severity: Severity::Major,
            occurred_at: Timestamp(1),
            explanation: String::new(),
            explanation_zh: String::new(),
            place: String::new(),
            position: None,
            datum: kerbside_model::Datum::default(),
            grid: String::new(),
            component_code: String::new(),
            unit: String::new(),
        };
        Case {
            id: "KB-1".to_owned(),
            device: "MH-1".to_owned(),
            condition: "displaced".to_owned(),
            state: CaseState::Dispatched,
            severity: Severity::Major,
            opened_at: Timestamp(1),
            updated_at: Timestamp(1),
            platform: LEDGER.to_owned(),
            platform_id: None,
            episodes: vec!["A1".to_owned()],
            standing: true,
            signed: None,
            report,
        }
    }

    /// A snapshot first; then a case that the snapshot does not know, in a batch after it.
    fn stored(folder: &Path) {
        let (store, site) = (open(folder), site());
        store.save_site(&site).unwrap();
        let mut engine = Engine::new(Arc::clone(&site));
        drop(engine.step(Timestamp(1), &[]));
        for number in 0..6_u64 {
            let snapshot = (number == 0).then(|| NewSnapshot {
                engine_version: ENGINE_VERSION,
                site_hash: site.hash().to_owned(),
                body: engine.snapshot(),
            });
            let cases = if number == 3 { vec![case()] } else { Vec::new() };
            let frame = StoredInput::Frame(Frame {
                source: "mqtt".into(),
                address: ByteText::from(format!("strangers/{number}").as_str()),
                payload: Payload::Bytes(noise(number).into()),
                received_at: Timestamp(2),
                retained: false,
            });
            let (sender, receiver) = std::sync::mpsc::sync_channel(1);
            let done = Box::new(move |_| sender.send(()).unwrap());
            let effects = Effects { cases, ..Effects::default() };
            let now = Timestamp(2 + i64::try_from(number).unwrap());
            store.commit(Commit { now, inputs: vec![frame], effects, snapshot, done }).unwrap();
            receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        }
        store.close().unwrap();
    }

    #[test]
    fn a_salvage_with_a_hole_starts_from_the_tables_and_knows_every_case() {
        let folder = TempDir::new().unwrap();
        stored(folder.path());
        let path = folder.path().join("kerbside.db");
        let mut bytes = std::fs::read(&path).unwrap();
        let place =
            bytes.windows(32).position(|window| window == &noise(3)[5_000..5_032]).expect("the batch is in the file");
        bytes[place] ^= 7;
        std::fs::write(&path, bytes).unwrap();
        let to = folder.path().join("new");
        let report = Store::salvage(&path, &to, &Clock::System, &mut |_, _| {}).unwrap();
        assert!(!report.is_gapless, "{report:?}");
        let store = open(&to);
        let last = store.last_sequence().unwrap();
        assert!(matches!(replay(&store, &site(), last), Err(ReplayError::Salvaged)));
        let engine = recover(&store, &site(), Timestamp(9)).unwrap();
        assert_eq!(engine.open_cases(), 1, "the case that was opened after the snapshot");
        store.close().unwrap();
    }

    #[test]
    fn a_salvage_without_a_hole_goes_on_from_the_snapshot() {
        let folder = TempDir::new().unwrap();
        stored(folder.path());
        let to = folder.path().join("new");
        let report = Store::salvage(&folder.path().join("kerbside.db"), &to, &Clock::System, &mut |_, _| {}).unwrap();
        assert!(report.is_gapless && report.lost() == 0, "{report:?}");
        let store = open(&to);
        let (_, replayed) = replay(&store, &site(), 6).unwrap();
        assert_eq!(replayed, 5);
        store.close().unwrap();
    }

    #[test]
    fn the_alarm_of_a_damaged_store_stands_for_days_and_then_ends() {
        let folder = TempDir::new().unwrap();
        stored(folder.path());
        let store = open(folder.path());
        assert!(!damage_condition(&store, Timestamp(5)).unwrap().active, "nothing was ever damaged");
        store.close().unwrap();
        let to = folder.path().join("new");
        let report = Store::salvage(&folder.path().join("kerbside.db"), &to, &Clock::System, &mut |_, _| {}).unwrap();
        let store = open(&to);
        let condition = damage_condition(&store, report.at.plus(Duration::from_secs(60))).unwrap();
        assert!(condition.active && condition.detail.contains("the damaged file is"), "{condition:?}");
        assert!(condition.detail_zh.contains("数据库已损坏"), "{condition:?}");
        // The engine raises it as an alarm of the gateway, once.
        let mut engine = Engine::new(site());
        let effects = engine.step(Timestamp(9), &[Input::Gateway(condition.clone()), Input::Gateway(condition)]);
        assert_eq!(effects.alarms.len(), 1);
        assert_eq!(
            (effects.alarms[0].condition.as_str(), effects.alarms[0].state),
            ("store_damaged", AlarmState::Active)
        );
        let later = damage_condition(&store, report.at.plus(DAMAGE_SHOWN_FOR)).unwrap();
        assert!(!later.active);
        store.close().unwrap();
    }
}
