//! `profiles`: the shipped device models, and the ones in a folder of the operator's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kerbside_model::Profile;
use kerbside_model::document::{self, NodeKind, Problem, Problems, Section};
use kerbside_model::profile::{PayloadFormat, parse_profile};

use super::read::Context;
use crate::shipped;

/// Device models that are known here.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    /// The sound ones; a folder's own replace shipped ones of the same name.
    pub(super) sound: Vec<Arc<Profile>>,
    /// Names of those with problems, so that inventory rows which use them are not reported as well.
    pub(super) broken: Vec<String>,
    /// The site's zone: devices that send local times are set to it.
    zone: String,
}

/// Reads shipped profiles and the folder that the key `profiles` names.
pub(super) fn read(top: &Section<'_>, zone: &str, context: &Context<'_>, problems: &Problems) -> Profiles {
    let mut profiles = Profiles { zone: zone.to_owned(), ..Profiles::default() };
    for (name, text) in shipped::PROFILES {
        let file = Path::new(shipped::FOLDER).join(name);
        if let Some(profile) = profiles.parse(&file.display().to_string(), text, problems) {
            profiles.sound.push(Arc::new(profile));
        }
    }
    let Some(folder) = top.text("profiles") else { return profiles };
    let files = match context.environment.list(&context.resolve(&folder)) {
        Ok(files) => files,
        Err(error) => {
            let what = format!("this folder cannot be read: {error}");
            top.problem("profiles", &folder, what, "correct the path, or leave the key out to use the shipped ones");
            return profiles;
        }
    };
    let mut own: Vec<(String, PathBuf)> = Vec::new();
    for path in files {
        let is_profile = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        let Some(profile) = is_profile.then(|| profiles.of_file(&path, context, problems)).flatten() else { continue };
        if let Some((_, first)) = own.iter().find(|(name, _)| *name == profile.name) {
            problems.push(Problem {
                file: path.display().to_string(),
                line: 1,
                key: "profile".to_owned(),
                value: profile.name,
                what: format!("{} has a profile of the same name", first.display()),
                mend: "give each profile its own name".to_owned(),
            });
            continue;
        }
        own.push((profile.name.clone(), path));
        profiles.insert(profile, context);
    }
    profiles
}

impl Profiles {
    fn of_file(&mut self, path: &Path, context: &Context<'_>, problems: &Problems) -> Option<Profile> {
        let file = path.display().to_string();
        let text = context.environment.read(path).map_err(|error| error.to_string());
        let text = text.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()));
        match text {
            Ok(text) => self.parse(&file, &text, problems),
            Err(error) => {
                problems.push(Problem {
                    file,
                    line: 0,
                    key: String::new(),
                    value: String::new(),
                    what: format!("this profile cannot be read: {error}"),
                    mend: "correct its permissions, or take it out of the folder".to_owned(),
                });
                None
            }
        }
    }

    fn parse(&mut self, file: &str, text: &str, problems: &Problems) -> Option<Profile> {
        let before = problems.len();
        let no_variables = |_: &str| None;
        let node = document::parse(file, text, &no_variables, problems)?;
        let mut profile = parse_profile(file, &node, problems);
        if problems.len() == before {
            if let Some(PayloadFormat::Json { time: Some(time) }) = profile.as_mut().map(|it| &mut it.payload) {
                time.zone.get_or_insert_with(|| self.zone.clone());
            }
            return profile;
        }
        if let NodeKind::Map(entries) = &node.kind
            && let Some((_, _, name)) = entries.iter().find(|(key, _, _)| key == "profile")
            && let NodeKind::Scalar { text, .. } = &name.kind
        {
            self.broken.push(text.clone());
        }
        None
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
