//! Where the steps of a backtest come from: written-down readings, a recording, or the database of a gateway.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kerbside_engine::rehearsal::Rehearsal;
use kerbside_model::inventory::Device;
use kerbside_model::profile::{Profile, Slot};
use kerbside_model::{Input, Site, StoredInput, Timestamp};
use kerbside_store::StoreReader;
use kerbside_store::recording::{RecordedStep, RecordingReader, steps_of};

use super::rows::{Devices, ROWS_IN_MEMORY_MAX, Row, RowsError, in_order};
use super::table::Table;

/// Rows that go through the engine at once.
const ROWS_AT_ONCE: usize = 256;

/// What a device is like whose readings are written down.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) mount_height_mm: Option<f64>,
    pub(super) interval: Option<Duration>,
}

/// What the engine is told in one step. Sites are those that were recorded: each side puts its own in their place.
pub(super) struct Step {
    pub(super) at: Timestamp,
    pub(super) inputs: Vec<Fed>,
}

/// One input.
pub(super) enum Fed {
    Input(Input),
    Site(Arc<Site>),
    Change(Arc<Site>, String),
}

/// Steps in the order of time.
pub(super) enum Source<'a> {
    Rows(Rows<'a>),
    Recording(Recording),
    Store(Stored),
}

impl Source<'_> {
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Step>> {
        match self {
            Source::Rows(rows) => Ok(rows.next()?),
            Source::Recording(recording) => recording.next(),
            Source::Store(stored) => stored.next(),
        }
    }

    /// How much of it is done, from 0 to 1; `None` when nobody knows.
    pub(super) fn share(&self) -> Option<f64> {
        match self {
            Source::Rows(rows) => Some(rows.share()),
            Source::Recording(_) => None,
            Source::Store(stored) => Some(stored.share()),
        }
    }
}

/// Written-down readings.
pub(super) struct Rows<'a> {
    rehearsal: Rehearsal,
    devices: Devices,
    left: Left<'a>,
    /// The site comes first.
    begun: bool,
    first: Option<Timestamp>,
    /// The engine's time never goes back.
    now: Timestamp,
}

enum Left<'a> {
    Table(Box<Table<'a>>),
    Memory(std::vec::IntoIter<Row>, usize),
}

impl<'a> Rows<'a> {
    /// A table: looked through once for its devices and its order, and read a second time when it is in order.
    pub(super) fn of_table(
        open: impl Fn() -> Result<Table<'a>, RowsError>,
        file: &str,
        profile: &Profile,
        facts: &Facts,
    ) -> Result<Rows<'a>, RowsError> {
        let mut devices = Devices::default();
        let mut table = open()?;
        let given = table.given();
        let (mut first, mut last, mut is_in_order) = (None, Timestamp::default(), true);
        while let Some(row) = table.next(&mut devices)? {
            is_in_order &= row.at >= last;
            last = row.at;
            first = Some(first.map_or(row.at, |first: Timestamp| first.min(row.at)));
        }
        let mut table = open()?;
        let left = if is_in_order {
            Left::Table(Box::new(table))
        } else {
            let mut rows = Vec::new();
            while let Some(row) = table.next(&mut devices)? {
                rows.push(row);
                if rows.len() > ROWS_IN_MEMORY_MAX {
                    return Err(RowsError::TooLong { file: file.to_owned() });
                }
            }
            in_memory(rows)
        };
        Ok(Rows::new(profile, &given, devices, facts, left, first))
    }

    /// Rows that lie in memory.
    pub(super) fn of_rows(rows: Vec<Row>, profile: &Profile, devices: Devices, facts: &Facts) -> Rows<'a> {
        let mut given: Vec<u16> = rows.iter().flat_map(|row| row.slots.iter().map(|(point, _)| *point)).collect();
        given.sort_unstable();
        given.dedup();
        let first = rows.iter().map(|row| row.at).min();
        Rows::new(profile, &given, devices, facts, in_memory(rows), first)
    }

    fn new(
        profile: &Profile,
        given: &[u16],
        devices: Devices,
        facts: &Facts,
        left: Left<'a>,
        first: Option<Timestamp>,
    ) -> Rows<'a> {
        let of_id = |id: &String| Device {
            id: id.clone(),
            address: id.clone(),
            mount_height_mm: facts.mount_height_mm,
            interval: facts.interval,
            ..Device::default()
        };
        let rehearsal = Rehearsal::new(profile, given, devices.ids().iter().map(of_id).collect());
        Rows { rehearsal, devices, left, begun: false, first, now: Timestamp::default() }
    }

    fn share(&self) -> f64 {
        match &self.left {
            Left::Table(table) => table.position() as f64 / table.bytes.max(1) as f64,
            Left::Memory(rows, all) => 1.0 - rows.len() as f64 / (*all).max(1) as f64,
        }
    }

    fn next(&mut self) -> Result<Option<Step>, RowsError> {
        if !self.begun {
            self.begun = true;
            let Some(first) = self.first else { return Ok(None) };
            self.now = first;
            return Ok(Some(Step { at: first, inputs: vec![Fed::Site(Arc::clone(self.rehearsal.site()))] }));
        }
        let mut inputs = Vec::with_capacity(ROWS_AT_ONCE);
        let mut is_over = true;
        while inputs.len() < ROWS_AT_ONCE {
            let row = match &mut self.left {
                Left::Table(table) => table.next(&mut self.devices)?,
                Left::Memory(rows, _) => rows.next(),
            };
            let Some(row) = row else { break };
            is_over = false;
            self.now = self.now.max(row.at);
            let slots: Vec<(u16, &Slot)> = row.slots.iter().map(|(point, slot)| (*point, slot)).collect();
            let address = &self.devices.ids()[row.device];
            inputs.extend(self.rehearsal.frame(address, row.at, &slots).map(|frame| Fed::Input(Input::Frame(frame))));
        }
        Ok((!is_over).then_some(Step { at: self.now, inputs }))
    }
}

fn in_memory<'a>(rows: Vec<Row>) -> Left<'a> {
    let rows = in_order(rows);
    let all = rows.len();
    Left::Memory(rows.into_iter(), all)
}

/// A recording of `kerbside record`.
pub(super) struct Recording {
    reader: RecordingReader<'static>,
    sites: BTreeMap<String, Arc<Site>>,
    first: Option<RecordedStep>,
}

impl Recording {
    pub(super) fn open(path: &Path) -> anyhow::Result<Recording> {
        let mut reader = RecordingReader::open(path)?;
        let first = reader.next_step()?;
        let mut recording = Recording { reader, sites: BTreeMap::new(), first: None };
        if let Some(first) = first {
            let mut first = first;
            if !first.inputs.iter().any(|input| matches!(input, StoredInput::Site(_))) {
                // In the middle of a run: as if the gateway had begun to listen then.
                first.inputs.insert(0, StoredInput::Site(recording.reader.header().site_hash.clone()));
            }
            recording.first = Some(first);
        }
        Ok(recording)
    }

    fn next(&mut self) -> anyhow::Result<Option<Step>> {
        let step = match self.first.take() {
            Some(first) => Some(first),
            None => self.reader.next_step()?,
        };
        let Some(step) = step else { return Ok(None) };
        let (reader, sites) = (&self.reader, &mut self.sites);
        fed(step, &mut |hash| {
            if let Some(site) = sites.get(hash) {
                return Ok(Arc::clone(site));
            }
            let found = reader.site(hash).with_context(|| format!("find the profiles and inventory {hash}"))?;
            let site = Arc::new(found.open()?);
            sites.insert(hash.to_owned(), Arc::clone(&site));
            Ok(site)
        })
        .map(Some)
    }
}

/// The batches that a gateway keeps.
pub(super) struct Stored {
    reader: StoreReader,
    sites: BTreeMap<String, Arc<Site>>,
    span: std::ops::Range<Timestamp>,
    sequence: u64,
    steps: std::vec::IntoIter<RecordedStep>,
    begun: bool,
    batches: u64,
    read: u64,
}

impl Stored {
    pub(super) fn open(folder: &Path, span: std::ops::Range<Timestamp>) -> anyhow::Result<Stored> {
        let reader = StoreReader::open(folder)?;
        let batches = reader.batches_in(span.clone())?;
        if batches == 0 {
            bail!("read the database in {}: it keeps no batch of this time", folder.display());
        }
        let steps = Vec::new().into_iter();
        Ok(Stored { reader, sites: BTreeMap::new(), span, sequence: 0, steps, begun: false, batches, read: 0 })
    }

    fn share(&self) -> f64 {
        self.read as f64 / self.batches.max(1) as f64
    }

    fn next(&mut self) -> anyhow::Result<Option<Step>> {
        loop {
            if let Some(mut step) = self.steps.next() {
                let is_first = !std::mem::replace(&mut self.begun, true);
                if is_first && !step.inputs.iter().any(|input| matches!(input, StoredInput::Site(_))) {
                    let before = self.sequence.saturating_sub(1);
                    // Of a gateway's very first steps none came before, and its site is among them.
                    if let Some(hash) = self.reader.site_after(before)? {
                        step.inputs.insert(0, StoredInput::Site(hash));
                    }
                }
                let (reader, sites) = (&self.reader, &mut self.sites);
                return fed(step, &mut |hash| {
                    if let Some(site) = sites.get(hash) {
                        return Ok(Arc::clone(site));
                    }
                    let facts =
                        reader.site(hash)?.with_context(|| format!("find the profiles and inventory {hash}"))?;
                    let site = Arc::new(Site::new(facts));
                    sites.insert(hash.to_owned(), Arc::clone(&site));
                    Ok(site)
                })
                .map(Some);
            }
            let Some(batch) = self.reader.batch_after(self.sequence, self.span.clone())? else { return Ok(None) };
            self.sequence = batch.sequence;
            self.read += 1;
            let content = batch.content.with_context(|| format!("read batch {}", batch.sequence))?;
            self.steps = steps_of(content).into_iter();
        }
    }
}

/// What people, platforms and outboxes did then is left out, but for masks: it belongs to the cases of then.
fn fed(step: RecordedStep, site_of: &mut dyn FnMut(&str) -> anyhow::Result<Arc<Site>>) -> anyhow::Result<Step> {
    let mut inputs = Vec::with_capacity(step.inputs.len());
    for input in step.inputs {
        inputs.push(match input {
            StoredInput::Site(hash) => Fed::Site(site_of(&hash)?),
            StoredInput::Change { hash, by } => Fed::Change(site_of(&hash)?, by),
            StoredInput::Frame(frame) => Fed::Input(Input::Frame(frame)),
            StoredInput::Frames(frames) => Fed::Input(Input::Frames(frames)),
            StoredInput::Operator(action) => Fed::Input(Input::Operator(action)),
            StoredInput::Source(status) => Fed::Input(Input::Source(status)),
            StoredInput::Gateway(condition) => Fed::Input(Input::Gateway(condition)),
            StoredInput::Again(_)
            | StoredInput::ReadAgain(_)
            | StoredInput::Delivery(_)
            | StoredInput::Platform(_)
            | StoredInput::Step(_)
            | StoredInput::Notes(_) => continue,
        });
    }
    Ok(Step { at: step.at, inputs })
}
