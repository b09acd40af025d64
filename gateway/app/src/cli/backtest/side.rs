//! One side of a backtest: the real engine with a profile as it is, or with other limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use kerbside_engine::Engine;
use kerbside_model::site::SiteFacts;
use kerbside_model::{Input, Profile, Site, Timestamp};

use super::outcome::Outcome;
use super::source::{Fed, Step};
use super::variant::{Change, varied};

/// An engine with what came out of it.
pub(super) struct Side {
    pub(super) title: String,
    changes: Vec<Change>,
    /// Takes the place of the recorded profile of its name.
    replacing: Option<Arc<Profile>>,
    /// Only what happens with this device counts.
    device: Option<String>,
    engine: Option<Engine>,
    /// Sites of this side, by the hash of the recorded ones.
    sites: BTreeMap<String, Arc<Site>>,
    pub(super) outcome: Outcome,
}

impl Side {
    pub(super) fn new(
        title: String,
        changes: Vec<Change>,
        replacing: Option<Arc<Profile>>,
        device: Option<String>,
        is_drawn: bool,
    ) -> Side {
        let outcome = Outcome::new(is_drawn, device.clone());
        Side { title, changes, replacing, device, engine: None, sites: BTreeMap::new(), outcome }
    }

    /// The profile of the device in the picture, as this side has it.
    pub(super) fn pictured_profile(&self) -> Option<Arc<Profile>> {
        let site = self.engine.as_ref()?.site();
        let index = site.find(self.outcome.pictured()?)?;
        Some(Arc::clone(site.profile_of(site.device(index))))
    }

    pub(super) fn feed(&mut self, step: &Step) -> anyhow::Result<()> {
        let mut inputs = Vec::with_capacity(step.inputs.len());
        for fed in &step.inputs {
            inputs.push(match fed {
                Fed::Input(input) => input.clone(),
                Fed::Site(site) => Input::Site(self.own(site)?),
                Fed::Change(site, by) => Input::Change { site: self.own(site)?, by: by.clone() },
            });
        }
        let begin = inputs.iter().find_map(|input| match input {
            Input::Site(site) => Some(Arc::clone(site)),
            _ => None,
        });
        if let (None, Some(site)) = (&self.engine, begin) {
            self.engine = Some(Engine::new(site));
        }
        self.step(step.at, &inputs)
    }

    /// Lets time run on without any input.
    pub(super) fn run_on(&mut self, until: Timestamp) -> anyhow::Result<()> {
        self.step(until, &[])
    }

    fn step(&mut self, at: Timestamp, inputs: &[Input]) -> anyhow::Result<()> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let effects = engine.step(at, inputs);
        self.outcome.take(engine.site(), effects, at, self.device.as_deref())
    }

    /// The site of this side in the place of a recorded one.
    fn own(&mut self, site: &Arc<Site>) -> anyhow::Result<Arc<Site>> {
        if let Some(known) = self.sites.get(site.hash()) {
            return Ok(Arc::clone(known));
        }
        let mut own = Arc::clone(site);
        if let Some(profile) = &self.replacing {
            let mut facts: SiteFacts = own.facts().clone();
            // Devices with overrides keep what their site made of the profile then.
            let is_plain = |known: &&mut Arc<Profile>| known.name == profile.name && known.overrides.is_empty();
            for known in facts.profiles.iter_mut().filter(is_plain) {
                *known = Arc::clone(profile);
            }
            own = Arc::new(Site::new(facts));
        }
        if !self.changes.is_empty() {
            own = varied(&own, &self.changes)?;
        }
        self.sites.insert(site.hash().to_owned(), Arc::clone(&own));
        Ok(own)
    }
}
