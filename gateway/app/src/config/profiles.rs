//! `profiles`: the shipped device models, and the ones in a folder of the operator's own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kerbside_engine::sample::run_sample;
use kerbside_model::Profile;
use kerbside_model::document::{Problem, Problems, Section};
use kerbside_model::profile::{Document, Laid, Layer, Overridable, Override, Shelf, no_scripts};

use super::read::Context;
use crate::shelf::{read_profile, scripts_beside, shipped_shelf};

/// Device models that are known here.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    /// The sound ones; a folder's own replace shipped ones of the same name.
    pub(super) sound: Vec<Arc<Profile>>,
    /// Names of those with problems, so that inventory rows which use them are not reported as well.
    pub(super) broken: Vec<String>,
    /// What the sound ones extend.
    pub(super) lineages: Lineages,
    /// All of them as text.
    shelf: Shelf,
    zone: String,
}

/// Name and version of what a profile extends, its own parent first, by the profile's name. Those that extend nothing
/// are not in it.
pub type Lineages = BTreeMap<String, Vec<(String, u32)>>;

/// Reads shipped profiles and the folder that the key `profiles` names.
pub(super) fn read(top: &Section<'_>, zone: &str, context: &Context<'_>, problems: &Problems) -> Profiles {
    let mut shelf = shipped_shelf(problems);
    if let Some(folder) = top.text("profiles") {
        match context.environment.list(&context.resolve(&folder)) {
            Ok(files) => files.iter().for_each(|path| add_file(&mut shelf, path, context, problems)),
            Err(error) => {
                let what = format!("this folder cannot be read: {error}");
                let mend = "correct the path, or leave the key out to use the shipped ones";
                top.problem("profiles", &folder, what, mend);
            }
        }
    }
    let mut profiles = Profiles::default();
    let mut own: Vec<&Document> = Vec::new();
    for document in shelf.documents() {
        if document.layer == Layer::Own && !document.name.is_empty() {
            if let Some(first) = own.iter().find(|other| other.name == document.name) {
                problems.push(same_name(document, first));
                continue;
            }
            own.push(document);
        }
        match read_profile(&shelf, document, zone, &|path| context.environment.read(path), problems) {
            Some(profile) if document.layer == Layer::Own && fails_samples(&profile, document, problems) => {
                profiles.broken.push(profile.name);
            }
            Some(profile) => {
                let ancestors = shelf.ancestors(document);
                profiles.lineages.remove(&profile.name);
                if !ancestors.is_empty() {
                    profiles.lineages.insert(profile.name.clone(), ancestors);
                }
                profiles.insert(profile, context);
            }
            None => profiles.broken.push(document.name.clone()),
        }
    }
    (profiles.shelf, profiles.zone) = (shelf, zone.to_owned());
    profiles
}

fn add_file(shelf: &mut Shelf, path: &Path, context: &Context<'_>, problems: &Problems) {
    if !path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
        return;
    }
    let file = path.display().to_string();
    let text = context.environment.read(path).map_err(|error| error.to_string());
    let text = text.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()));
    match text {
        Ok(text) => shelf.add(Layer::Own, &file, &text, problems),
        Err(error) => problems.push(Problem {
            file,
            line: 0,
            key: String::new(),
            value: String::new(),
            what: format!("this profile cannot be read: {error}"),
            mend: "correct its permissions, or take it out of the folder".to_owned(),
        }),
    }
}

/// Runs the samples of a profile that nobody else has tested.
fn fails_samples(profile: &Profile, document: &Document, problems: &Problems) -> bool {
    let before = problems.len();
    let profile = Arc::new(profile.clone());
    for sample in &profile.samples {
        let wrong = run_sample(&profile, sample);
        if wrong.is_empty() {
            continue;
        }
        problems.push(Problem {
            file: document.file.clone(),
            line: 1,
            key: "samples".to_owned(),
            value: sample.name.clone(),
            what: wrong.join("; "),
            mend: "mend the profile or the sample; `kerbside profile test` runs them".to_owned(),
        });
    }
    problems.len() > before
}

fn same_name(document: &Document, first: &Document) -> Problem {
    Problem {
        file: document.file.clone(),
        line: 1,
        key: "profile".to_owned(),
        value: document.name.clone(),
        what: format!("{} has a profile of the same name", first.file),
        mend: "give each profile its own name".to_owned(),
    }
}

impl Profiles {
    /// The sound profile at a position, for overrides to be laid over.
    pub(super) fn overridable(&self, position: usize) -> Option<Overridable> {
        let profile = &self.sound[position];
        let document = self.document_of(profile)?;
        // It was read from this before, so there are no problems.
        let node = self.shelf.resolved(document, &Problems::default())?;
        Some(Overridable::new(Arc::clone(profile), node))
    }

    /// Lays an override over one of them.
    pub(super) fn lay(&self, profile: &Overridable, over: &Override, context: &Context<'_>) -> Laid {
        let read = |path: &Path| context.environment.read(path);
        match self.document_of(&profile.profile) {
            Some(document) => profile.with(over, &self.zone, &scripts_beside(document, &read)),
            None => profile.with(over, &self.zone, &no_scripts),
        }
    }

    fn document_of(&self, profile: &Profile) -> Option<&Document> {
        let is_it =
            |layer: Layer| self.shelf.documents().iter().find(|it| it.layer == layer && it.name == profile.name);
        is_it(Layer::Own).or_else(|| is_it(Layer::Shipped))
    }

    fn insert(&mut self, profile: Profile, context: &Context<'_>) {
        match self.sound.iter_mut().find(|other| other.name == profile.name) {
            Some(shipped) => {
                context.notice(format!("profile {}: the folder's own replaces the shipped one", profile.name));
                *shipped = Arc::new(profile);
            }
            None => self.sound.push(Arc::new(profile)),
        }
    }
}
