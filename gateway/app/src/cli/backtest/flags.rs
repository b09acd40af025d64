//! The flag of each reading, as the database has it in the end: a flag that the next reading settles counts once.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use kerbside_model::{Cause, DeviceIndex, Flag, Quality, Site, Timestamp, Value};

/// A reading is settled by the one behind it, and so the last two of a point wait.
const WAITING: usize = 2;

/// A reading that may still be settled.
#[derive(Clone, Debug)]
struct Waiting {
    observed_at: Timestamp,
    value: Option<Value>,
    quality: Quality,
}

/// Counts flags, and writes them to a table where one is asked for.
#[derive(Debug, Default)]
pub(super) struct Flags {
    site: Option<Arc<Site>>,
    waiting: BTreeMap<(DeviceIndex, u16), Vec<Waiting>>,
    /// Readings by point, flag and cause.
    pub(super) counts: BTreeMap<(Arc<str>, Flag, Cause), u64>,
    pub(super) readings: u64,
    table: Option<csv::Writer<File>>,
}

impl Flags {
    /// Writes each reading with its flag to the file as well: `time,device,point,value,flag,cause`, the flag as QARTOD
    /// numbers it.
    pub(super) fn write_to(&mut self, path: &Path) -> anyhow::Result<()> {
        let mut table = csv::Writer::from_path(path).with_context(|| format!("write the flags {}", path.display()))?;
        table.write_record(["time", "device", "point", "value", "flag", "cause"])?;
        self.table = Some(table);
        Ok(())
    }

    /// Takes a reading. Readings of one device and point come in any order; one of a time that waits takes its place.
    pub(super) fn take(
        &mut self,
        site: &Arc<Site>,
        device: DeviceIndex,
        point: u16,
        observed_at: Timestamp,
        (value, quality): (Option<&Value>, Quality),
    ) -> anyhow::Result<()> {
        if !self.site.as_ref().is_some_and(|known| Arc::ptr_eq(known, site)) {
            self.settle_all()?;
            self.site = Some(Arc::clone(site));
        }
        let reading = Waiting { observed_at, value: value.cloned(), quality };
        let waiting = self.waiting.entry((device, point)).or_default();
        if let Some(known) = waiting.iter_mut().find(|known| known.observed_at == observed_at) {
            *known = reading;
            return Ok(());
        }
        waiting.push(reading);
        if waiting.len() > WAITING {
            let settled = waiting.remove(0);
            self.settle(device, point, &settled)?;
        }
        Ok(())
    }

    /// Nothing comes any more.
    pub(super) fn settle_all(&mut self) -> anyhow::Result<()> {
        for ((device, point), readings) in std::mem::take(&mut self.waiting) {
            for reading in &readings {
                self.settle(device, point, reading)?;
            }
        }
        if let Some(table) = &mut self.table {
            table.flush().context("write the flags")?;
        }
        Ok(())
    }

    fn settle(&mut self, device: DeviceIndex, point: u16, reading: &Waiting) -> anyhow::Result<()> {
        let Some(site) = &self.site else { return Ok(()) };
        let device = site.device(device);
        let name = &site.profile_of(device).points[usize::from(point)].name;
        self.readings += 1;
        *self.counts.entry((Arc::clone(name), reading.quality.flag, reading.quality.cause)).or_default() += 1;
        let Some(table) = &mut self.table else { return Ok(()) };
        let value = reading.value.as_ref().map(|value| value.to_json().to_string()).unwrap_or_default();
        let time = reading.observed_at.to_string();
        let flag = reading.quality.flag.code().to_string();
        let cause = reading.quality.cause.name();
        table.write_record([&time, &device.id, name.as_ref(), &value, &flag, cause]).context("write the flags")?;
        Ok(())
    }
}
