//! `overrides`: what is different about some devices of a model here, in a file beside the inventory.
//!
//! Turns the file and the joined inventory into profiles with overrides laid over them, one for each set of overrides
//! that some device has, and gives the devices those. The engine sees ordinary profiles. A mistake in the file is a
//! problem like one in a profile; a tag or device that nobody has is a warning like a row of the inventory, since rows
//! come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kerbside_model::document::{self, Problem, Problems, Section, closest};
use kerbside_model::profile::{Chosen, Laid, Overridable, Override, parse_overrides};
use kerbside_model::{Device, Profile};

use super::profiles::Profiles;
use super::read::Context;

/// Sets of overrides on a profile that devices have. Each costs what a profile and its decoder cost.
const COMBINATIONS_MAX: usize = 1_000;
/// Words of another kind that a message names.
const NAMED_MAX: usize = 3;

/// Reads the file that the key `overrides` names.
pub(super) fn read(top: &Section<'_>, context: &Context<'_>, problems: &Problems) -> Vec<Override> {
    let Some(name) = top.text("overrides") else { return Vec::new() };
    let path = context.resolve(&name);
    let file = path.display().to_string();
    let read = context.environment.read(&path).map_err(|error| error.to_string());
    let text = read.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()));
    match text {
        Ok(text) => {
            let variables = |name: &str| context.environment.variable(name);
            let node = document::parse(&file, &text, &variables, problems);
            node.map(|node| parse_overrides(&file, &node, problems)).unwrap_or_default()
        }
        Err(error) => {
            let what = format!("this file cannot be read: {error}");
            top.problem("overrides", &name, what, "correct the path, or leave the key out");
            Vec::new()
        }
    }
}

/// What overrides are laid over.
pub(super) struct Ground<'a> {
    pub(super) profiles: &'a Profiles,
    pub(super) context: &'a Context<'a>,
    /// What nobody has.
    pub(super) warnings: &'a Problems,
    /// What is wrong with the overrides.
    pub(super) problems: &'a Problems,
}

/// Gives every device its profile with the overrides that mean it. All profiles come back: those that were there at
/// their places, and behind them those that are new.
pub(super) fn lay(overrides: &[Override], devices: &mut [Device], ground: &Ground<'_>) -> Vec<Arc<Profile>> {
    if overrides.is_empty() {
        return ground.profiles.sound.clone();
    }
    let mut laying = Laying {
        overrides,
        ground,
        all: ground.profiles.sound.clone(),
        known: BTreeMap::new(),
        uses: vec![Use::default(); overrides.len()],
        is_full: false,
    };
    for device in devices.iter_mut() {
        let profile = &ground.profiles.sound[usize::from(device.profile)];
        let meant = (0..overrides.len()).filter(|position| overrides[*position].means(device, profile));
        let chain: Vec<usize> = meant.collect();
        chain.iter().for_each(|position| laying.uses[*position].devices += 1);
        if let Some(found) = laying.with(device.profile, &chain) {
            device.profile = found.position;
        }
    }
    laying.tell_of_uses(devices);
    laying.all
}

struct Laying<'a> {
    overrides: &'a [Override],
    ground: &'a Ground<'a>,
    all: Vec<Arc<Profile>>,
    /// What became of a profile with these overrides, in their order; `None` when it is wrong.
    known: BTreeMap<(u16, Vec<usize>), Option<Found>>,
    uses: Vec<Use>,
    is_full: bool,
}

/// A profile with overrides, and its place among all profiles.
#[derive(Clone)]
struct Found {
    profile: Overridable,
    position: u16,
}

/// What an override met.
#[derive(Clone, Default)]
struct Use {
    devices: usize,
    fits: bool,
    is_wrong: bool,
    /// Profiles of which it says nothing, and what it says of the first of them in vain.
    foreign: BTreeSet<String>,
    misses: Vec<Problem>,
}

impl Laying<'_> {
    /// A profile with a chain of overrides, of which each is laid over what came of those before it.
    fn with(&mut self, base: u16, chain: &[usize]) -> Option<Found> {
        let key = (base, chain.to_vec());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let found = match chain.split_last() {
            None => {
                let profile = self.ground.profiles.overridable(usize::from(base));
                profile.map(|profile| Found { profile, position: base })
            }
            Some((last, before)) => self.with(base, before).and_then(|before| self.lay_one(*last, before)),
        };
        self.known.insert(key, found.clone());
        found
    }

    fn lay_one(&mut self, position: usize, before: Found) -> Option<Found> {
        let over = &self.overrides[position];
        let plain = before.profile.profile.name.clone();
        match self.ground.profiles.lay(&before.profile, over, self.ground.context) {
            Laid::Fits(profile) => {
                self.uses[position].fits = true;
                if self.all.len() - self.ground.profiles.sound.len() == COMBINATIONS_MAX {
                    self.tell_full(over);
                    return None;
                }
                let position = u16::try_from(self.all.len()).ok()?;
                self.all.push(Arc::clone(&profile.profile));
                Some(Found { profile, position })
            }
            Laid::Foreign(misses) => {
                let used = &mut self.uses[position];
                used.foreign.insert(plain);
                if used.misses.is_empty() {
                    used.misses = misses;
                }
                Some(before)
            }
            Laid::Wrong(problems) => {
                self.uses[position].is_wrong = true;
                problems.into_iter().for_each(|problem| self.ground.problems.push(problem));
                None
            }
        }
    }

    fn tell_full(&mut self, over: &Override) {
        if std::mem::replace(&mut self.is_full, true) {
            return;
        }
        let what = format!("devices have more than {COMBINATIONS_MAX} different sets of overrides on their profiles");
        let mend = "take devices with the same limits together by a tag".to_owned();
        self.ground.problems.push(over.problem(("", over.line), &over.name, what, mend));
    }

    /// Overrides that mean nobody, and those that say nothing of what they mean.
    fn tell_of_uses(&self, devices: &[Device]) {
        let tags: BTreeSet<&str> = devices.iter().flat_map(|device| &device.tags).map(String::as_str).collect();
        let ids: BTreeSet<&str> = devices.iter().map(|device| device.id.as_str()).collect();
        let sound = self.ground.profiles.sound.iter().map(|profile| profile.name.as_str());
        let names: BTreeSet<&str> = sound.chain(self.ground.profiles.broken.iter().map(String::as_str)).collect();
        for (over, used) in self.overrides.iter().zip(&self.uses) {
            let mut is_misspelt = false;
            let warn = |problem| self.ground.warnings.push(problem);
            is_misspelt |= unknown(over, ("tags", &over.tags, "no device has this tag"), &tags, &warn);
            is_misspelt |= unknown(over, ("devices", &over.devices, "there is no device of this id"), &ids, &warn);
            let refuse = |problem| self.ground.problems.push(problem);
            let said = ("profile", &over.profiles, "there is no profile of this name");
            is_misspelt |= unknown(over, said, &names, &refuse);
            if used.devices == 0 && !is_misspelt {
                let what = "no device is meant: all of tags, devices, profile and kind must hold".to_owned();
                let mend = "mean other devices, or take the override out".to_owned();
                self.ground.warnings.push(over.problem(("", over.line), &over.name, what, mend));
            }
            if used.fits || used.is_wrong {
                self.note_foreign(over, used);
            } else {
                used.misses.iter().for_each(|miss| self.ground.problems.push(miss.clone()));
            }
        }
    }

    fn note_foreign(&self, over: &Override, used: &Use) {
        if used.foreign.is_empty() {
            return;
        }
        let mut named: Vec<&str> = used.foreign.iter().map(String::as_str).collect();
        let more = named.len().saturating_sub(NAMED_MAX);
        named.truncate(NAMED_MAX);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        self.ground.context.notice(format!(
            "override {}: it says nothing of {}{rest}, whose devices run as their profile says",
            over.name,
            named.join(", ")
        ));
    }
}

/// Reports words that mean nobody; whether there are any.
fn unknown(
    over: &Override,
    (key, chosen, what): (&str, &Chosen, &str),
    known: &BTreeSet<&str>,
    report: &dyn Fn(Problem),
) -> bool {
    let mut is_any = false;
    for name in chosen.names.iter().filter(|name| !known.contains(name.as_str())) {
        let words: Vec<&str> = known.iter().copied().collect();
        let mend = match closest(name, &words) {
            Some(word) => format!("did you mean {word}?"),
            None => "correct it here or in the inventory".to_owned(),
        };
        report(over.problem((key, chosen.line), name, what.to_owned(), mend));
        is_any = true;
    }
    is_any
}
