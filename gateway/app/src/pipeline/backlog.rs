//! Batches read back from the store and decoded again, for a telemetry sink that fell behind.

use std::sync::{Arc, Mutex, PoisonError};

use kerbside_engine::decode::decode_again;
use kerbside_model::port::{Backlog, BacklogError, RefusedPoint, TelemetryBatch};
use kerbside_model::{FrameView, Site, StoredInput};
use kerbside_runtime::Chain;
use kerbside_store::{Store, StoreError, StoredBatch};
use tracing::warn;

use super::eras::{Arrivals, ClockEras, Held};
use super::lens::{Lens, behind};
use crate::live::Live;

/// The store as telemetry sinks see it. Frames are decoded with the site of today: a mended profile mends the past.
/// Devices that were known when a batch was committed and are gone since are decoded as they were known then.
/// What the engine noted about them stands beside them, so that a batch gives the observations that it gave when live.
#[derive(Debug)]
pub struct StoreBacklog {
    store: Store,
    lens: Live<Lens>,
    /// For batches of an earlier site, the last one that was asked for.
    earlier: Mutex<Option<Earlier>>,
    eras: Option<Arc<ClockEras>>,
}

/// What the batches of an earlier site are decoded with today.
#[derive(Clone, Debug)]
struct Earlier {
    today: String,
    hash: String,
    lens: Arc<Lens>,
}

impl StoreBacklog {
    /// A backlog that decodes with this site.
    pub fn new(store: Store, site: Arc<Site>) -> StoreBacklog {
        StoreBacklog { store, lens: Live::new(Lens::of(site)), earlier: Mutex::default(), eras: None }
    }

    /// The site changed: what is read from now on is decoded with this one.
    pub fn set_site(&self, site: Arc<Site>) {
        self.lens.set(Lens::of(site));
    }

    /// Holds back and sets right what was committed with assumed times.
    pub fn with_eras(mut self, eras: Arc<ClockEras>) -> StoreBacklog {
        self.eras = Some(eras);
        self
    }

    /// What the frames of a batch are decoded with.
    fn lens_at(&self, sequence: u64) -> Result<Arc<Lens>, BacklogError> {
        let today = self.lens.get();
        let today_hash = today.site.hash().to_owned();
        let Some(hash) = self.store.site_after(sequence).map_err(failed)? else { return Ok(today) };
        if hash == today_hash {
            return Ok(today);
        }
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = earlier.as_ref().filter(|known| known.hash == hash && known.today == today_hash) {
            return Ok(Arc::clone(&known.lens));
        }
        let lens = match self.store.site(&hash) {
            Ok(facts) => facts.and_then(|facts| behind(&today.site, &facts)).map_or(today, Lens::of),
            Err(cause) => {
                warn!(cause = %Chain(&cause), "batches of an earlier site are decoded without the devices that are gone");
                today
            }
        };
        *earlier = Some(Earlier { today: today_hash, hash, lens: Arc::clone(&lens) });
        Ok(lens)
    }

    /// Leaves out what must wait. An error when nothing else is left: an empty answer would mean that it is gone.
    fn without_held(&self, mut batches: Vec<StoredBatch>) -> Result<Vec<StoredBatch>, BacklogError> {
        let Some(first) = self.eras.as_ref().and_then(|eras| eras.held_from()) else { return Ok(batches) };
        let had_any = !batches.is_empty();
        batches.retain(|batch| batch.sequence < first);
        if had_any && batches.is_empty() { Err(BacklogError::Waits(Held.to_string())) } else { Ok(batches) }
    }
}

fn failed(error: StoreError) -> BacklogError {
    BacklogError::Store(Box::new(error))
}

impl Backlog for StoreBacklog {
    fn read_after(&self, sequence: u64, bytes_max: usize) -> Result<Vec<TelemetryBatch>, BacklogError> {
        let batches = self.store.readable_batches_after(sequence, bytes_max).map_err(failed)?;
        let batches = self.without_held(batches)?;
        let mut telemetry = Vec::with_capacity(batches.len());
        for batch in batches {
            let lens = self.lens_at(batch.sequence)?;
            let arrivals = self.eras.as_ref().map_or(Arrivals::SURE, |eras| eras.arrivals(batch.sequence));
            let as_arrived = |frame: FrameView<'_>| arrivals.actual(frame.received_at);
            let frames = batch.inputs.iter().flat_map(StoredInput::frames);
            let frames = frames.map(|frame| FrameView { received_at: as_arrived(frame), ..frame });
            let notes = StoredInput::notes(&batch.inputs);
            let observations = decode_again(&lens.site, &lens.decoders, frames, arrivals.certainty(), notes);
            let observations = Arc::new(observations);
            telemetry.push(TelemetryBatch { sequence: batch.sequence, site: Arc::clone(&lens.site), observations });
        }
        Ok(telemetry)
    }

    fn delivered_through(&self, sink: &str, sequence: u64) -> Result<(), BacklogError> {
        self.store.set_cursor(sink, sequence).map_err(failed)
    }

    fn cursor(&self, sink: &str) -> Result<u64, BacklogError> {
        self.store.cursor(sink).map_err(failed)
    }

    fn keep_refused(&self, sink: &str, points: &[RefusedPoint]) -> Result<(), BacklogError> {
        self.store.keep_refused(sink, points).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kerbside_engine::Engine;
    use kerbside_model::document::Problems;
    use kerbside_model::inventory::Device;
    use kerbside_model::profile::parse_profile_text;
    use kerbside_model::site::{FrameLimits, SiteFacts};
    use kerbside_model::{FrameFlags, Frames, Input, Observations, PointReading, Tag, Tags, Timestamp};
    use kerbside_runtime::trust::Rebase;
    use kerbside_runtime::{Clock, Health, Metrics, Submission};
    use kerbside_store::{Commit, StoreConfig};
    use tempfile::TempDir;

    use super::super::gather::{Gathered, Taken};
    use super::*;

    const COVER: &str = include_str!("../../../../device-profiles/json-manhole-cover.yaml");
    const AT: Timestamp = Timestamp(1_776_643_200_000);
    const DAY_MS: i64 = 86_400_000;

    fn site() -> Arc<Site> {
        let profile = parse_profile_text("cover", COVER, &Problems::default()).expect("the shipped profile is sound");
        let device = Device { id: "MH-1".to_owned(), address: "covers/MH-1".to_owned(), ..Device::default() };
        Arc::new(Site::new(SiteFacts {
            limits: FrameLimits { device_frames_per_second: 1, device_burst: 3, ..FrameLimits::default() },
            ..SiteFacts::new("test", vec![Arc::new(profile)], vec![device])
        }))
    }

    /// What the database gets of an observation, its times so much later.
    type Row = (Timestamp, Timestamp, Option<Tags>, Vec<PointReading>);

    fn rows(observations: &Observations, later_ms: i64) -> Vec<Row> {
        let later = |at: Timestamp| Timestamp(at.0 + later_ms);
        let rows = observations.iter();
        rows.map(|(row, readings)| {
            (later(row.observed_at), later(row.received_at), observations.tags(row).cloned(), readings.to_vec())
        })
        .collect()
    }

    fn messages(source: &str, tilts: &[u32]) -> Input {
        let tags: Tags = Arc::from([Tag { name: "way".into(), value: source.into() }]);
        let mut frames = Frames::new(source.into(), AT);
        for tilt in tilts {
            frames.push("covers/MH-1", format!("{{\"tilt\":{tilt}}}").as_bytes(), FrameFlags::default(), Some(&tags));
        }
        Input::Frames(frames)
    }

    /// Steps and commits as the pipeline does: one step for each input. Gives what went to the database at once.
    fn commit(store: &Store, engine: &mut Engine, inputs: Vec<Input>) -> Arc<Observations> {
        let mut gathered = Gathered::default();
        for input in inputs {
            gathered.begin_step(AT);
            let inputs = vec![input];
            engine.step_on(AT, &inputs, &mut gathered.effects);
            gathered.add(Submission::unmetered(inputs));
            gathered.end_step();
        }
        let Taken { inputs, effects, .. } = gathered.take();
        let live = Arc::clone(&effects.observations);
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let done = Box::new(move |_| sender.send(()).unwrap());
        store.commit(Commit { now: AT, inputs, effects, snapshot: None, done }).unwrap();
        receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        live
    }

    #[test]
    fn what_a_device_sent_before_it_was_taken_out_is_read_back_all_the_same() {
        let folder = TempDir::new().unwrap();
        let config = StoreConfig::new(folder.path().to_owned());
        let store = Store::open(config, Clock::System, &Metrics::default(), &Health::default()).unwrap();
        let (before, mut facts) = (site(), site().facts().clone());
        facts.devices[0] = Device { id: "MH-2".to_owned(), address: "covers/MH-2".to_owned(), ..Device::default() };
        let after = Arc::new(Site::new(facts));
        let mut engine = Engine::new(Arc::clone(&before));
        store.save_site(&before).unwrap();
        store.save_site(&after).unwrap();
        commit(&store, &mut engine, vec![Input::Site(Arc::clone(&before))]);
        let live = commit(&store, &mut engine, vec![messages("city", &[1])]);
        commit(&store, &mut engine, vec![Input::Change { site: Arc::clone(&after), by: "wu".to_owned() }]);
        let unknown = commit(&store, &mut engine, vec![messages("city", &[2])]);
        assert_eq!((live.len(), unknown.len()), (1, 0));

        // The gateway that goes on, and one that starts with the new inventory.
        let goes_on = StoreBacklog::new(store.clone(), before);
        goes_on.set_site(Arc::clone(&after));
        for backlog in [goes_on, StoreBacklog::new(store.clone(), after)] {
            let read = backlog.read_after(0, 1 << 20).unwrap();
            let ids = read.iter().flat_map(|batch| {
                batch.observations.iter().map(|(row, _)| batch.site.device(row.device).id.clone()).collect::<Vec<_>>()
            });
            assert_eq!(ids.collect::<Vec<_>>(), ["MH-1"], "and nothing that came when it was gone");
            assert_eq!(read.iter().flat_map(|batch| rows(&batch.observations, 0)).collect::<Vec<_>>(), rows(&live, 0));
        }
        store.close().unwrap();
    }

    #[test]
    fn what_is_read_back_is_what_was_sent_at_once_also_when_the_clock_was_put_right() {
        let folder = TempDir::new().unwrap();
        let config = StoreConfig::new(folder.path().to_owned());
        let store = Store::open(config, Clock::System, &Metrics::default(), &Health::default()).unwrap();
        let site = site();
        let mut engine = Engine::new(Arc::clone(&site));
        engine.step(AT, &[Input::Site(Arc::clone(&site))]);
        let eras = Arc::new(ClockEras::load(folder.path(), 0));
        eras.begin(1, AT);
        let live = [
            // Untimed at once, then the last of them on another way, then too many.
            commit(&store, &mut engine, vec![messages("city", &[1, 2]), messages("bridge", &[2])]),
            commit(&store, &mut engine, vec![messages("city", &[3, 4, 3, 4])]),
        ];
        assert_eq!(live.iter().map(|observations| observations.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(rows(&live[1], 0)[0].0, Timestamp(AT.0 + 2), "placed behind those of the commit before");

        let backlog = StoreBacklog::new(store.clone(), Arc::clone(&site));
        let read = backlog.read_after(0, 1 << 20).unwrap();
        let again: Vec<Vec<Row>> = read.iter().map(|batch| rows(&batch.observations, 0)).collect();
        assert_eq!(again, live.each_ref().map(|observations| rows(observations, 0)));
        let alone = backlog.read_after(1, 1 << 20).unwrap();
        assert_eq!(rows(&alone[0].observations, 0), again[1], "without the batch before");

        let backlog = backlog.with_eras(Arc::clone(&eras));
        let held = backlog.read_after(0, 1 << 20);
        assert!(
            matches!(&held, Err(BacklogError::Waits(words)) if words.starts_with("waiting for the clock")),
            "{held:?}"
        );
        // The last assumed time is the time of arrival itself: what was placed behind it moves with it.
        eras.found(Rebase { assumed: AT, actual: Timestamp(AT.0 + DAY_MS) });
        eras.end(2);
        let read = backlog.read_after(0, 1 << 20).unwrap();
        let moved: Vec<Vec<Row>> = read.iter().map(|batch| rows(&batch.observations, 0)).collect();
        assert_eq!(moved, live.each_ref().map(|observations| rows(observations, DAY_MS)));
        store.close().unwrap();
    }
}
