//! The engine and the scratch database of a replay: steps go in as they were recorded, alarms and cases come out.
//!
//! The engine's only time is that of the steps, so that a replay gives the same whatever its speed and however its
//! commits are cut. Nothing leaves: rows of the outbox are counted and thrown away before the commit, so that a gateway
//! that is started on the folder by mistake has nothing to send.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kerbside_engine::Engine;
use kerbside_model::{
    Alarm, Case, CaseEvent, Effects, FrameAgain, Input, Site, StoredInput, Timestamp, UndecodedReason,
};
use kerbside_runtime::{Clock, Health, Metrics};
use kerbside_store::recording::RecordedStep;
use kerbside_store::{AlarmQuery, CaseQuery, Commit, PAGE_ITEMS_MAX, Store, StoreConfig};
use sha2::{Digest, Sha256};

/// A commit is handed over when its frames have so many bytes.
pub(super) const COMMIT_BYTES_MAX: usize = 1 << 20;
/// What was recorded long ago is not old here.
const KEPT: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The last commit must be on the disk after so long.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(600);

/// What a replay counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) steps: u64,
    pub(super) frames: u64,
    pub(super) observations: u64,
    pub(super) readings: u64,
    pub(super) late: u64,
    pub(super) duplicates: u64,
    pub(super) undecoded: BTreeMap<&'static str, u64>,
    pub(super) notices: u64,
    pub(super) first_at: Option<Timestamp>,
    pub(super) last_at: Option<Timestamp>,
}

/// What stands in the scratch database in the end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    /// By begin and id.
    pub(super) alarms: Vec<Alarm>,
    /// By begin and id, each with its history.
    pub(super) cases: Vec<(Case, Vec<CaseEvent>)>,
}

/// An engine over a database of its own.
pub(super) struct Scratch {
    engine: Engine,
    store: Store,
    /// What is not committed yet.
    inputs: Vec<StoredInput>,
    effects: Effects,
    bytes: usize,
    commit_bytes_max: usize,
    stepped_at: Option<Timestamp>,
    tally: Tally,
    /// Of every reading in order: two replays with the same fingerprint gave the same readings.
    fingerprint: Sha256,
    /// Alarms and cases that changed since they were last asked for.
    news: Vec<String>,
}

impl Scratch {
    /// Makes the database in a folder that has none.
    pub(super) fn new(folder: &Path, site: &Arc<Site>, commit_bytes_max: usize) -> anyhow::Result<Scratch> {
        let database = folder.join("kerbside.db");
        if database.try_exists().with_context(|| format!("look into {}", folder.display()))? {
            bail!("replay into {}: there is a database already; name a new folder", folder.display());
        }
        let config = StoreConfig {
            batches_bytes_max: u64::MAX >> 1,
            batches_age_max: KEPT,
            undecoded_bytes_max: u64::MAX >> 1,
            undecoded_age_max: KEPT,
            free_bytes_min: 0,
            writes_per_day: None,
            ..StoreConfig::new(folder.to_owned())
        };
        let store = Store::open(config, Clock::System, &Metrics::default(), &Health::default())?;
        Ok(Scratch {
            engine: Engine::new(Arc::clone(site)),
            store,
            inputs: Vec::new(),
            effects: Effects::default(),
            bytes: 0,
            commit_bytes_max,
            stepped_at: None,
            tally: Tally::default(),
            fingerprint: Sha256::new(),
            news: Vec::new(),
        })
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// When timers are due next.
    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.engine.next_timer()
    }

    /// Alarms and cases that changed, one line each.
    pub(super) fn take_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    /// One step. `site_of` gives the sites that its inputs name.
    pub(super) fn step(
        &mut self,
        step: RecordedStep,
        site_of: &dyn Fn(&str) -> anyhow::Result<Arc<Site>>,
    ) -> anyhow::Result<()> {
        let RecordedStep { at, inputs: stored } = step;
        let mut inputs = Vec::with_capacity(stored.len());
        let mut has_site = false;
        for input in stored {
            self.bytes += bytes_of(&input);
            let Some(input) = input_of(input, site_of)? else { continue };
            has_site |= matches!(input, Input::Site(_) | Input::Change { .. });
            inputs.push(input);
        }
        if has_site {
            // Observations point into one site.
            self.commit()?;
        }
        for input in &inputs {
            if let Input::Site(site) | Input::Change { site, .. } = input {
                self.store.save_site(site)?;
            }
        }
        self.mark_step(at);
        self.engine.step_on(at, &inputs, &mut self.effects);
        self.inputs.extend(inputs.into_iter().map(StoredInput::from));
        self.tally.steps += 1;
        self.tally.first_at.get_or_insert(at);
        self.tally.last_at = Some(at);
        if has_site || self.bytes >= self.commit_bytes_max { self.commit() } else { Ok(()) }
    }

    /// Notes where the step before ended, as the pipeline does.
    fn mark_step(&mut self, at: Timestamp) {
        let Some(before) = self.stepped_at.replace(at) else { return };
        match self.inputs.as_mut_slice() {
            [.., StoredInput::Step(_), StoredInput::Step(idle)] => *idle = before,
            _ => self.inputs.push(StoredInput::Step(before)),
        }
    }

    /// Hands what has gathered to the database.
    fn commit(&mut self) -> anyhow::Result<()> {
        let Some(now) = self.stepped_at.take() else { return Ok(()) };
        self.count();
        let mut effects = std::mem::take(&mut self.effects);
        let mut inputs = std::mem::take(&mut self.inputs);
        let notes = std::mem::take(&mut effects.notes);
        if !notes.is_empty() {
            inputs.push(StoredInput::Notes(notes));
        }
        effects.outbox.clear();
        effects.outbox_changes.clear();
        self.bytes = 0;
        self.store.commit(Commit { now, inputs, effects, snapshot: None, done: Box::new(drop) })?;
        Ok(())
    }

    /// Adds the effects since the last commit to the tally and the fingerprint.
    fn count(&mut self) {
        let (effects, tally) = (&self.effects, &mut self.tally);
        let counts = &effects.counts;
        tally.frames += u64::from(effects.frames);
        tally.observations += effects.observations.len() as u64;
        tally.readings += effects.observations.reading_count() as u64;
        tally.late += counts.observations_late;
        tally.duplicates += counts.frames_duplicate.iter().sum::<u64>();
        tally.notices += counts.notices;
        for (reason, count) in UndecodedReason::ALL.iter().zip(counts.frames_undecoded).filter(|(_, count)| *count > 0)
        {
            *tally.undecoded.entry(reason.name()).or_default() += count;
        }
        let site = self.engine.site();
        for (row, readings) in effects.observations.iter() {
            let device = site.device(row.device);
            let profile = site.profile_of(device);
            let head = format!("{} {} {} {}\n", device.id, row.observed_at, row.received_at, row.late);
            self.fingerprint.update(head);
            for reading in readings {
                let point = &profile.points[usize::from(reading.point)];
                let value = reading.value.as_ref().map(kerbside_model::Value::to_json);
                let quality = (reading.quality.flag.name(), reading.quality.cause.name());
                self.fingerprint.update(format!("{} {value:?} {quality:?}\n", point.name));
            }
        }
        for alarm in &effects.alarms {
            let (at, state) = (alarm.updated_at, alarm.state.name());
            self.news.push(format!("{at}  alarm  {} {} {state}: {}", alarm.device, alarm.condition, alarm.explanation));
        }
        for event in &effects.case_events {
            let (state, by) = (event.state.name(), &event.by);
            self.news.push(format!("{}  case   {} {state} by {by}", event.at, event.case_id));
        }
    }

    /// Commits what is left and waits until it is on the disk.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        let now = self.tally.last_at.unwrap_or_default();
        self.commit()?;
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        // Whoever waited too long is gone.
        let done = Box::new(move |_| sender.send(()).unwrap_or_default());
        self.store.commit(Commit { now, inputs: Vec::new(), effects: Effects::default(), snapshot: None, done })?;
        receiver.recv_timeout(COMMIT_WAIT_MAX).context("wait for the scratch database: the disk takes nothing")
    }

    /// What the readings were, in 64 digits.
    pub(super) fn fingerprint(&self) -> String {
        self.fingerprint.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Closes the database.
    pub(super) fn close(self) -> anyhow::Result<()> {
        Ok(self.store.close()?)
    }
}

/// Alarms and cases of a database.
pub(super) fn outcome(store: &Store) -> anyhow::Result<Outcome> {
    let mut alarms = Vec::new();
    let mut query = AlarmQuery { limit: PAGE_ITEMS_MAX, ..AlarmQuery::default() };
    loop {
        let page = store.alarms(&query)?;
        alarms.extend(page.items);
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    let mut cases = Vec::new();
    let mut query = CaseQuery { limit: PAGE_ITEMS_MAX, ..CaseQuery::default() };
    loop {
        let page = store.cases(&query)?;
        for case in page.items {
            let history = store.case(&case.id)?.map(|(_, history)| history).unwrap_or_default();
            cases.push((case, history));
        }
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    alarms.sort_by(|one, other| (one.opened_at, &one.id).cmp(&(other.opened_at, &other.id)));
    cases.sort_by(|(one, _), (other, _)| (one.opened_at, &one.id).cmp(&(other.opened_at, &other.id)));
    Ok(Outcome { alarms, cases })
}

fn bytes_of(input: &StoredInput) -> usize {
    match input {
        StoredInput::Frame(frame) => frame.payload.len() + frame.address.len(),
        StoredInput::Frames(frames) => frames.memory_bytes(),
        _ => 0,
    }
}

/// The engine's input; `None` for what is none.
fn input_of(stored: StoredInput, site_of: &dyn Fn(&str) -> anyhow::Result<Arc<Site>>) -> anyhow::Result<Option<Input>> {
    Ok(Some(match stored {
        StoredInput::Frame(frame) => Input::Frame(frame),
        StoredInput::Frames(frames) => Input::Frames(frames),
        StoredInput::Site(hash) => Input::Site(site_of(&hash)?),
        StoredInput::Change { hash, by } => Input::Change { site: site_of(&hash)?, by },
        StoredInput::Operator(action) => Input::Operator(action),
        StoredInput::Delivery(delivery) => Input::Delivery(delivery),
        StoredInput::Platform(status) => Input::Platform(status),
        StoredInput::Source(status) => Input::Source(status),
        StoredInput::Gateway(condition) => Input::Gateway(condition),
        StoredInput::Again(frames) => Input::Again(frames.into_iter().map(FrameAgain::from).collect()),
        StoredInput::ReadAgain(frames) => Input::Again(frames),
        StoredInput::Step(_) | StoredInput::Notes(_) => return Ok(None),
    }))
}
