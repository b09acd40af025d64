//! Profiles that a command names: shipped ones, files, folders.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use kerbside_model::Profile;
use kerbside_model::document::{Problem, Problems, closest};
use kerbside_model::profile::{Layer, ZONE_DEFAULT};

use crate::shelf::{read_profile, shipped_profiles, shipped_shelf};

/// The shipped profiles, or what is wrong with them.
pub(super) fn shipped() -> Result<Vec<Arc<Profile>>, Vec<Problem>> {
    let problems = Problems::default();
    let profiles = shipped_profiles(&problems).into_iter().map(Arc::new).collect();
    if problems.is_empty() { Ok(profiles) } else { Err(problems.into_sorted()) }
}

/// The profiles of files and folders; problems are noted. They may extend shipped ones and what lies beside them.
pub(super) fn of_paths(paths: &[PathBuf], problems: &Problems) -> anyhow::Result<Vec<Arc<Profile>>> {
    let mut wanted: Vec<PathBuf> = Vec::new();
    let mut beside: Vec<PathBuf> = Vec::new();
    for path in paths {
        if path.is_dir() {
            wanted.extend(yaml_files(path)?);
            continue;
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // One that is named may lie anywhere; its parents are looked for beside it.
        beside.extend(yaml_files(folder).unwrap_or_default());
        wanted.push(path.clone());
    }
    beside.retain(|path| !wanted.iter().any(|other| is_same(path, other)));
    let mut shelf = shipped_shelf(problems);
    for file in &wanted {
        let text = std::fs::read_to_string(file).with_context(|| format!("read the profile {}", file.display()))?;
        shelf.add(Layer::Own, &file.display().to_string(), &text, problems);
    }
    let others = Problems::default();
    for file in &beside {
        if let Ok(text) = std::fs::read_to_string(file) {
            shelf.add(Layer::Own, &file.display().to_string(), &text, &others);
        }
    }
    let names: Vec<String> = wanted.iter().map(|file| file.display().to_string()).collect();
    let is_wanted = |file: &String| names.contains(file);
    let own = shelf.documents().iter().filter(|document| document.layer == Layer::Own && is_wanted(&document.file));
    let read = |document| read_profile(&shelf, document, ZONE_DEFAULT, &|path: &Path| std::fs::read(path), problems);
    Ok(own.filter_map(read).map(Arc::new).collect())
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

fn yaml_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let reading = || format!("read the folder {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(reading)? {
        let file = entry.with_context(reading)?.path();
        if file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a word is a path and not a name.
pub(super) fn is_file(name: &str) -> bool {
    name.contains('/') || name.ends_with(".yaml") || name.ends_with(".yml")
}

/// The profile of a file, or the shipped one of a name.
pub(in crate::cli) fn find(name: &str) -> anyhow::Result<Result<Arc<Profile>, Vec<Problem>>> {
    if is_file(name) {
        let problems = Problems::default();
        let found = of_paths(&[PathBuf::from(name)], &problems)?;
        return Ok(found.into_iter().next().ok_or_else(|| problems.into_sorted()));
    }
    let profiles = match shipped() {
        Ok(profiles) => profiles,
        Err(problems) => return Ok(Err(problems)),
    };
    let names: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
    let hint = closest(name, &names).map(|known| format!("; did you mean {known}?"));
    let found = profiles.iter().find(|profile| profile.name == name).map(Arc::clone);
    Ok(Ok(found.with_context(|| format!("find the profile {name:?}{}", hint.unwrap_or_default()))?))
}
