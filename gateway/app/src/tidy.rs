//! The project's own rules that neither Cargo nor clippy checks: who may know whom, how long a file may be, and that
//! dashboards and deployment files name only what exists. Runs as ordinary tests over the files of the repository.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use kerbside_runtime::Clock;
use kerbside_simulator::{District, DistrictConfig};

/// A file that needs more is two files.
const LINES_MAX: usize = 800;

/// What each crate may import of the others, besides crates of strangers.
const CRATES: &[(&str, &[&str])] = &[
    ("kerbside-model", &[]),
    ("kerbside-engine", &["kerbside-learner", "kerbside-model"]),
    ("kerbside-learner", &[]),
    ("kerbside-runtime", &["kerbside-model"]),
    ("kerbside-sources", &["kerbside-model", "kerbside-runtime"]),
    ("kerbside-store", &["kerbside-model", "kerbside-runtime"]),
    ("kerbside-sinks", &["kerbside-model", "kerbside-runtime"]),
    ("kerbside-simulator", &["kerbside-model", "kerbside-runtime"]),
    // Crates of tests look at one crate from outside, or at the insides of several; nothing imports them.
    ("kerbside-powercut", &["kerbside-model", "kerbside-runtime", "kerbside-store"]),
    (
        "kerbside-fuzz-targets",
        &["kerbside-engine", "kerbside-model", "kerbside-runtime", "kerbside-sources", "kerbside-store"],
    ),
    ("kerbside-fuzz", &["kerbside-fuzz-targets"]),
    (
        "kerbside",
        &[
            "kerbside-engine",
            "kerbside-learner",
            "kerbside-model",
            "kerbside-runtime",
            "kerbside-simulator",
            "kerbside-sinks",
            "kerbside-sources",
            "kerbside-store",
        ],
    ),
];

/// What only the tests of a crate may import besides.
const FOR_TESTS: &[(&str, &str)] = &[("kerbside-engine", "kerbside-simulator")];

/// What would bring I/O, a clock or threads into the engine, even through another crate.
const NOT_IN_THE_ENGINE: &[&str] = &["async-std", "axum", "hyper", "mio", "reqwest", "rusqlite", "socket2", "tokio"];

/// The engine's modules in layers: each knows its own layer and those before it.
const ENGINE_LAYERS: &[&[&str]] = &[
    &["claim", "duplicates", "local"],
    &["quality"],
    &["decode"],
    &["probe", "sample"],
    &["detect"],
    &["timers"],
    &["budget", "drift", "uplinks", "weather"],
    // A device holds the states of its conditions, and a condition looks at its device.
    &["alarms", "device", "last", "together"],
    &["carry"],
    &["explain"],
    &["evidence"],
    &["linkage"],
    &["grouping"],
    &["incident_text"],
    &["cases", "walk"],
    // The engine at its parts: what they take in common stands in either.
    &["engine", "grading", "kin", "rows", "surroundings"],
    &[
        "adopt",
        "again",
        "babble",
        "change",
        "clocks",
        "conditions",
        "due",
        "gone",
        "incident_view",
        "incidents",
        "learners",
        "losses",
        "masks",
        "rain",
        "snapshot",
        "view",
        "walk_test",
    ],
    // They put readings that are written down into a whole engine.
    &["rehearsal", "rule_test"],
];

/// What lib.rs of the engine exports at its top, and the module that it comes from.
const ENGINE_EXPORTS: &[(&str, &str)] = &[
    ("Engine", "engine"),
    ("Incident", "incident_view"),
    ("IncidentDetail", "incident_view"),
    ("IncidentMember", "incident_view"),
    ("ENGINE_VERSION", "snapshot"),
    ("RestoreError", "snapshot"),
    ("DeviceView", "view"),
    ("ReadingView", "view"),
    ("LearnerTally", "learners"),
    ("MASKS_MAX", "masks"),
    ("Seen", "walk"),
    ("WalkView", "walk_test"),
];

/// The app's modules, and what each may not know.
const APP_BANS: &[(&str, &[&str])] = &[
    ("config", &["api", "cli", "console", "gateway", "pipeline"]),
    ("live", &["api", "cli", "config", "console", "gateway", "pipeline"]),
    ("reload", &["api", "cli", "config", "console", "gateway", "pipeline"]),
    ("html", &["api", "cli", "config", "console", "gateway", "pipeline"]),
    ("wiretap", &["api", "cli", "config", "console", "gateway", "pipeline"]),
    ("trial", &["api", "cli", "console", "gateway", "pipeline"]),
    ("pipeline", &["api", "cli", "config", "console", "gateway"]),
    ("console", &["api", "cli", "config", "gateway", "pipeline"]),
    ("shelf", &["api", "cli", "config", "console", "gateway", "pipeline"]),
    ("shipped", &["api", "cli", "config", "console", "gateway", "pipeline"]),
    ("api", &["cli", "gateway"]),
    ("gateway", &["cli"]),
];

fn root() -> PathBuf {
    let app = Path::new(env!("CARGO_MANIFEST_DIR"));
    app.ancestors().nth(2).expect("the app lies two folders below the root").to_owned()
}

/// Every text file of the repository with its path from the root; nothing that git ignores.
fn texts() -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            let is_ignored = ["target", ".git", "deploy/secrets"].contains(&name.as_str());
            if is_ignored || entry.file_type().unwrap().is_symlink() {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if let Ok(text) = String::from_utf8(fs::read(&path).unwrap()) {
                found.push((name, text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 100, "the repository has more files than these: {found:?}");
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Package name and direct dependencies of a Cargo.toml; those for tests only when asked for.
fn manifest(text: &str, with_tests: bool) -> (String, BTreeSet<String>) {
    let (mut name, mut dependencies, mut section) = (String::new(), BTreeSet::new(), "");
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = header;
            // [dependencies.NAME]
            if let Some((kind, dependency)) = header.rsplit_once('.')
                && kind.ends_with("dependencies")
            {
                dependencies.insert(dependency.to_owned());
            }
            continue;
        }
        let Some(key) = line.split(['.', '=', ' ']).next().filter(|key| !key.is_empty() && !key.starts_with('#'))
        else {
            continue;
        };
        let is_for_tests = section.ends_with("dev-dependencies");
        if section == "package" && key == "name" {
            name = line.split('"').nth(1).expect("a package has a name").to_owned();
        } else if section.ends_with("dependencies") && (with_tests || !is_for_tests) {
            dependencies.insert(key.to_owned());
        }
    }
    (name, dependencies)
}

/// Direct dependencies of every package in Cargo.lock, versions taken together.
fn lock() -> BTreeMap<String, BTreeSet<String>> {
    let mut packages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in read("Cargo.lock").lines() {
        if let Some(name) = line.strip_prefix("name = ") {
            current = name.trim_matches('"').to_owned();
        } else if let Some(dependency) = line.strip_prefix(" \"") {
            let dependency = dependency.split([' ', '"']).next().expect("a split gives at least one part").to_owned();
            packages.entry(current.clone()).or_default().insert(dependency);
        }
    }
    packages
}

/// Lines of code with their numbers: no comments, and nothing of the tests at the end of a file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_code = |line: &str| !line.trim_start().starts_with("//");
    let lines = text.lines().enumerate().take_while(|(_, line)| *line != "mod tests {");
    lines.filter(move |(_, line)| is_code(line)).map(|(index, line)| (index + 1, line))
}

/// The first names after `crate::` in a line, also in `crate::{a, b}`.
fn crate_paths(line: &str) -> Vec<&str> {
    let word = |text: &str| text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len());
    let mut names = Vec::new();
    for (at, found) in line.match_indices("crate::") {
        let is_whole = !line[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        let rest = &line[at + found.len()..];
        match rest.strip_prefix('{') {
            _ if !is_whole => {}
            Some(list) => names.extend(list.split(',').map(|part| part.trim()).map(|part| &part[..word(part)])),
            None => names.push(&rest[..word(rest)]),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The module at the top of a crate that a file belongs to; none for lib.rs, main.rs and tests.
fn module_of<'a>(path: &'a str, sources: &str) -> Option<&'a str> {
    let inside = path.strip_prefix(sources)?.strip_suffix(".rs")?;
    if inside.split('/').any(|part| part == "tests") {
        return None;
    }
    let module = inside.split('/').next()?;
    (!["lib", "main", "tidy"].contains(&module)).then_some(module)
}

/// Fails with every offence at once.
fn expect_none(offences: &[String], rule: &str) {
    assert!(offences.is_empty(), "{rule}:\n{}", offences.join("\n"));
}

#[test]
fn siblings_do_not_import_each_other() {
    let allowed: BTreeMap<&str, &[&str]> = CRATES.iter().copied().collect();
    let mut offences = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, text) in texts().iter().filter(|(path, _)| path.ends_with("/Cargo.toml")) {
        let (name, mut dependencies) = manifest(text, true);
        let (_, always) = manifest(text, false);
        dependencies.retain(|dependency| {
            always.contains(dependency) || !FOR_TESTS.contains(&(name.as_str(), dependency.as_str()))
        });
        let Some(may) = allowed.get(name.as_str()) else {
            offences.push(format!("{path}: the crate {name} is not in the table of this test"));
            continue;
        };
        let ours = dependencies.iter().filter(|dependency| dependency.starts_with("kerbside"));
        for dependency in ours.filter(|dependency| !may.contains(&dependency.as_str())) {
            offences.push(format!("{path}: {name} imports {dependency}"));
        }
        seen.insert(name);
    }
    expect_none(&offences, "only the app sees everything");
    assert_eq!(seen.len(), CRATES.len(), "crates of the table are missing: found {seen:?}");
}

#[test]
fn the_engine_has_no_io_not_even_through_others() {
    let packages = lock();
    let (name, direct) = manifest(&read("gateway/engine/Cargo.toml"), false);
    let (_, of_model) = manifest(&read("gateway/model/Cargo.toml"), false);
    let (_, of_learner) = manifest(&read("gateway/learner/Cargo.toml"), false);
    assert_eq!(name, "kerbside-engine");
    // Cargo.lock mixes in what the tests of a workspace member need, so that ours are taken from their Cargo.toml.
    let mut next: Vec<(String, String)> = Vec::new();
    let ours = [("kerbside-engine", direct), ("kerbside-model", of_model), ("kerbside-learner", of_learner)];
    for (by, names) in ours {
        next.extend(names.into_iter().map(|dependency| (dependency, by.to_owned())));
    }
    let mut reached: BTreeMap<String, String> = BTreeMap::new();
    while let Some((package, by)) = next.pop() {
        if package.starts_with("kerbside") || reached.contains_key(&package) {
            continue;
        }
        let onwards = packages.get(&package).into_iter().flatten();
        next.extend(onwards.map(|dependency| (dependency.clone(), package.clone())));
        reached.insert(package, by);
    }
    assert!(reached.contains_key("serde_core"), "the walk through Cargo.lock found only {reached:?}");
    let offences: Vec<String> = NOT_IN_THE_ENGINE
        .iter()
        .filter_map(|banned| reached.get(*banned).map(|by| format!("{banned}, which {by} needs")))
        .collect();
    expect_none(&offences, "the engine does no I/O");
}

#[test]
fn the_engines_modules_know_only_those_before_them() {
    let layer = |module: &str| ENGINE_LAYERS.iter().position(|layer| layer.contains(&module));
    let mut offences = Vec::new();
    let (files, mut seen) = (texts(), BTreeSet::new());
    for (path, text) in &files {
        let Some(module) = module_of(path, "gateway/engine/src/") else { continue };
        let Some(own) = layer(module) else {
            offences.push(format!("{path}: the module {module} is not in the layers of this test"));
            continue;
        };
        seen.insert(module);
        for (line, words) in code(text) {
            for name in crate_paths(words) {
                let exported = ENGINE_EXPORTS.iter().find(|(export, _)| *export == name);
                let target = exported.map_or(name, |(_, from)| from);
                match layer(target) {
                    Some(other) if other <= own => {}
                    Some(_) => offences.push(format!("{path}:{line}: {module} knows {target}")),
                    None => offences.push(format!("{path}:{line}: {target} is in no layer of this test")),
                }
            }
        }
    }
    expect_none(&offences, "a layer of the engine knows only those before it");
    assert_eq!(seen.len(), ENGINE_LAYERS.iter().map(|layer| layer.len()).sum::<usize>(), "found only {seen:?}");
}

#[test]
fn the_apps_modules_keep_their_distance() {
    let bans: BTreeMap<&str, &[&str]> = APP_BANS.iter().copied().collect();
    let mut offences = Vec::new();
    let (files, mut seen) = (texts(), BTreeSet::new());
    for (path, text) in &files {
        let Some(module) = module_of(path, "gateway/app/src/") else { continue };
        let Some(banned) = bans.get(module) else { continue };
        seen.insert(module);
        for (line, words) in code(text) {
            for name in crate_paths(words).into_iter().filter(|name| banned.contains(name)) {
                offences.push(format!("{path}:{line}: {module} knows {name}"));
            }
        }
    }
    expect_none(&offences, "modules of the app know only what they build on");
    assert_eq!(seen.len(), APP_BANS.len(), "found only {seen:?}");
}

#[test]
fn no_rust_file_outside_tests_is_too_long() {
    let is_test = |path: &str| {
        // tests/simulator is a crate like the others; tests/e2e and every crate's own tests are not.
        let inside = path.strip_prefix("tests/simulator/").unwrap_or(path);
        inside.split('/').any(|part| part == "tests" || part == "tests.rs")
    };
    let offences: Vec<String> = texts()
        .iter()
        .filter(|(path, _)| path.ends_with(".rs") && !is_test(path))
        .filter(|(_, text)| text.lines().count() > LINES_MAX)
        .map(|(path, text)| format!("{path}: {} lines", text.lines().count()))
        .collect();
    expect_none(&offences, &format!("a Rust file has at most {LINES_MAX} lines"));
}

#[test]
fn lints_are_expected_and_never_allowed() {
    let allow = ["#[", "#!["].map(|open| format!("{open}{}", "allow("));
    let mut offences = Vec::new();
    for (path, text) in texts().iter().filter(|(path, _)| path.ends_with(".rs")) {
        for (index, line) in text.lines().enumerate() {
            if allow.iter().any(|allow| line.contains(allow.as_str())) {
                offences.push(format!("{path}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    expect_none(&offences, "write #[expect(lint, reason = \"...\")], which says when it is no longer needed");
}

#[test]
fn no_file_names_a_folder_of_somebodys_machine() {
    let folders = ["work", "root", "home"].map(|folder| format!("/{folder}/"));
    let mut offences = Vec::new();
    for (path, text) in &texts() {
        for (index, line) in text.lines().enumerate() {
            let is_there = |folder: &String| {
                line.match_indices(folder.as_str()).any(|(at, _)| {
                    // The middle of a longer path is somebody else's folder of that name.
                    !line[..at].ends_with(|letter: char| letter.is_alphanumeric() || "_-./}".contains(letter))
                })
            };
            if folders.iter().any(is_there) {
                offences.push(format!("{path}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    expect_none(&offences, "paths are relative, or those of an installed system");
}

#[test]
fn dashboards_and_rules_name_metrics_that_exist() {
    let files = texts();
    let program: String = files
        .iter()
        .filter(|(path, _)| path.ends_with(".rs") && !path.ends_with("tidy.rs"))
        .map(|(_, text)| text.as_str())
        .collect();
    let mut offences = BTreeSet::new();
    let mut names = 0;
    for (path, text) in files.iter().filter(|(path, _)| path.starts_with("dashboards/")) {
        for (at, _) in text.match_indices("kerbside_") {
            let rest = &text[at..];
            let end = rest.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_').unwrap_or(rest.len());
            let name = &rest[..end];
            // What Prometheus makes of a histogram.
            let plain = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let is_known = |name: &str| program.contains(&format!("\"{name}\""));
            names += 1;
            if !is_known(name) && !plain.is_some_and(is_known) {
                offences.insert(format!("{path}: {name}"));
            }
        }
    }
    expect_none(&offences.into_iter().collect::<Vec<_>>(), "dashboards and rules name metrics that the gateway has");
    assert!(names > 20, "dashboards and rules were not found");
}

#[test]
fn grafana_dashboards_are_json_with_panels_and_known_datasources() {
    let files = texts();
    let is_dashboard = |path: &str| path.starts_with("dashboards/") && path.ends_with(".json");
    let provisioned = read("dashboards/provisioning/datasources/kerbside.yml");
    let mut dashboards = 0;
    for (path, text) in files.iter().filter(|(path, _)| is_dashboard(path)) {
        let dashboard: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let panels = dashboard["panels"].as_array().unwrap_or_else(|| panic!("{path} has no panels"));
        let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len(), "{path}: every panel has an id of its own");
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            let uid = panel["datasource"]["uid"].as_str().unwrap_or_default();
            assert!(
                provisioned.contains(&format!("uid: {uid}\n")),
                "{path}: {} uses datasource {uid:?}",
                panel["title"]
            );
            assert!(
                panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()),
                "{path}: {}",
                panel["title"]
            );
        }
        dashboards += 1;
    }
    assert!(dashboards > 0, "no dashboards were found");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = root();
    let mut offences = Vec::new();
    let mut links = 0;
    for (path, text) in texts().iter().filter(|(path, _)| path.ends_with(".md")) {
        let folder = root.join(path).parent().expect("a file lies in a folder").to_owned();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            links += 1;
            if fs::metadata(folder.join(file)).is_err() {
                offences.push(format!("{path}: {target}"));
            }
        }
    }
    expect_none(&offences, "links lead to files of the repository");
    assert!(links > 20, "no links were found");
}

#[test]
fn the_inventory_for_compose_is_that_of_the_simulated_district() {
    let district = District::new(DistrictConfig::demo(1, Clock::System));
    assert_eq!(
        read("deploy/inventory.csv"),
        district.inventory_csv(),
        "write it anew with `kerbside-simulator inventory`"
    );
}
