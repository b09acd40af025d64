//! `overrides`: which devices run by which, and what is said when none does.

use kerbside_model::profile::Rule;

use super::*;

const INVENTORY: &str = "id,profile,address,tags\nD-1,json-level,D-1,low-road\nD-2,json-level,D-2,low-road;school\n\
                         D-3,json-level,D-3,\nM-1,json-manhole-cover,M-1,low-road\n";

/// The site with these overrides.
fn with(overrides: &str) -> Result<Config, Vec<Problem>> {
    let environment = MemoryEnvironment::default()
        .with_file("etc/devices.csv", INVENTORY)
        .with_file("etc/overrides.yaml", overrides)
        .with_variable("WATCH_MM", "210");
    read_in(environment, &format!("{SOUND}inventory: devices.csv\noverrides: overrides.yaml\n"))
}

fn sound_with(overrides: &str) -> Config {
    with(overrides).unwrap_or_else(|problems| panic!("{}", texts(&problems)))
}

/// The profile of a device by its title, and the limit of its first threshold of `level_mm` that finds `condition`.
fn limit(config: &Config, id: &str, condition: &str) -> (String, f64) {
    let profile = config.site.profile_of(config.site.device(config.site.find(id).unwrap()));
    let is_it = |position: u16| profile.conditions[usize::from(position)].name.as_ref() == condition;
    let found = profile.detectors.iter().filter(|detector| is_it(detector.condition)).find_map(|it| match it.rule {
        Rule::Threshold { raise, .. } => Some(raise),
        _ => None,
    });
    (profile.title(), found.unwrap_or(f64::NAN))
}

const BATTERY: &str = "overrides:\n  - name: low-road\n    tags: [low-road]\n    profile: json-level\n    detectors:\n      \
                       - {condition: battery_low, threshold: {below: 3.3, clear: 3.4}}\n";

#[test]
fn devices_with_the_same_overrides_share_one_profile_and_the_others_keep_theirs() {
    let config = sound_with(BATTERY);
    assert_eq!(config.warnings, []);
    let with = ("json-level + low-road".to_owned(), 3.3);
    assert_eq!(limit(&config, "D-1", "battery_low"), with);
    assert_eq!(limit(&config, "D-2", "battery_low"), with);
    assert_eq!(limit(&config, "D-3", "battery_low"), ("json-level".to_owned(), 3.1));
    assert_eq!(limit(&config, "M-1", "battery_low").0, "json-manhole-cover");
    let titles: Vec<String> = config.site.facts().profiles.iter().map(|profile| profile.title()).collect();
    assert_eq!(titles, ["json-level", "json-manhole-cover", "json-level + low-road"]);
}

#[test]
fn the_profile_below_overrides_stays_and_values_may_come_from_the_environment() {
    let all = "overrides:\n  - name: drains\n    kind: drain\n    detectors:\n      \
               - {condition: battery_low, threshold: {below: \"${WATCH_MM:-1}\", clear: 250}}\n    \
               points: [{name: battery_v, range: {max: 300}}]\n  \
               - name: school\n    devices: D-2\n    detectors: [{condition: battery_low, count: 9}]\n";
    let config = sound_with(all);
    assert_eq!(limit(&config, "D-1", "battery_low"), ("json-level + drains".to_owned(), 210.0));
    assert_eq!(limit(&config, "D-2", "battery_low").0, "json-level + drains + school");
    let plain: Vec<&str> = config
        .site
        .facts()
        .profiles
        .iter()
        .filter(|profile| profile.overrides.is_empty())
        .map(|profile| profile.name.as_str())
        .collect();
    assert_eq!(plain, ["json-level", "json-manhole-cover"]);
}

#[test]
fn one_limit_of_a_shipped_profile_is_changed_by_the_name_of_its_detector() {
    let text = "overrides:\n  - name: low-road\n    tags: low-road\n    detectors:\n      \
                - {name: watch_level, threshold: {above: 200, clear: 170}}\n";
    let config = sound_with(text);
    assert_eq!(limit(&config, "D-1", "surcharged"), ("json-level + low-road".to_owned(), 200.0));
    assert_eq!(limit(&config, "D-3", "surcharged"), ("json-level".to_owned(), 150.0));
    assert_eq!(limit(&config, "M-1", "surcharged").0, "json-manhole-cover");
    let wrong = with(&text.replace("above: 200", "above: 20000")).unwrap_err();
    assert_eq!((wrong[0].line, wrong[0].key.as_str()), (5, "overrides[0].detectors[0].threshold.above"));
}

#[test]
fn an_override_that_says_nothing_of_some_profile_leaves_it_and_says_so() {
    let by_tag = BATTERY.replace("    profile: json-level\n", "").replace("battery_low", "level_creeping");
    let by_tag = by_tag.replace("threshold: {below: 3.3, clear: 3.4}", "hold: 1h");
    let config = sound_with(&by_tag);
    assert_eq!(limit(&config, "M-1", "battery_low").0, "json-manhole-cover");
    assert_eq!(limit(&config, "D-1", "battery_low").0, "json-level + low-road");
    let told = "override low-road: it says nothing of json-manhole-cover, whose devices run as their profile says";
    assert!(config.notices.iter().any(|notice| notice == told), "{:?}", config.notices);
}

#[test]
fn what_nobody_has_is_a_warning_and_what_no_profile_has_is_a_mistake() {
    let warned = |text: &str, words: &str| {
        let config = sound_with(text);
        let found = texts(&config.warnings);
        assert!(found.contains(words), "{words}: {found}");
    };
    warned(
        &BATTERY.replace("[low-road]", "[low-raod]"),
        "etc/overrides.yaml:3: overrides[0].tags = \"low-raod\": no device has",
    );
    warned(&BATTERY.replace("[low-road]", "[low-raod]"), "did you mean low-road?");
    warned(&BATTERY.replace("tags: [low-road]", "devices: [D-1, D-9]"), "overrides[0].devices = \"D-9\"");
    warned(&BATTERY.replace("json-level", "json-pole"), "no device is meant");
    let wrong = |text: &str, words: &str| {
        let found = texts(&with(text).map(|config| format!("{config:?}")).unwrap_err());
        assert!(found.contains(words), "{words}: {found}");
    };
    wrong(&BATTERY.replace("json-level", "json-levle"), "etc/overrides.yaml:4: overrides[0].profile = \"json-levle\"");
    wrong(&BATTERY.replace("battery_low", "lamp_out"), "etc/overrides.yaml:6: overrides[0].detectors = \"lamp_out\"");
    wrong(
        &BATTERY.replace("below: 3.3", "below: 99"),
        "overrides.yaml:6: overrides[0].detectors[0].threshold.below = \"99\"",
    );
    wrong(&BATTERY.replace("detectors:", "detecters:"), "did you mean detectors?");
    wrong("nothing: 1\n", "overrides: this key is missing");
    wrong("overrides: {\n", "not valid YAML");
}

#[test]
fn a_file_of_overrides_that_is_not_there_is_a_problem_of_the_configuration() {
    assert_eq!(wrong("overrides: nowhere.yaml\n"), [(1, "overrides".to_owned())]);
}

#[test]
fn groups_may_go_by_tags_and_one_that_nobody_has_is_pointed_out() {
    let groups = "incidents: {groups: [{condition: lamp_out, becomes: circuit_out, tag: low-*}, \
                  {condition: lamp_out, becomes: circuit_out, tag: c-7}]}\n";
    let environment = MemoryEnvironment::default().with_file("etc/devices.csv", INVENTORY);
    let config = sound_in(environment, &format!("{SOUND}inventory: devices.csv\n{groups}"));
    let tags: Vec<_> = config.site.facts().incidents.groups.iter().filter_map(|rule| rule.tag.clone()).collect();
    assert!(tags[0].is("low-road") && !tags[0].is("high") && tags[1].is("c-7") && !tags[1].is("c-77"));
    let told: Vec<&String> = config.notices.iter().filter(|notice| notice.contains("no device has the tag")).collect();
    assert_eq!(told, ["incidents.groups: no device has the tag c-7"]);
    let twice = "incidents:\n  groups:\n    - {condition: lamp_out, becomes: a, tag: c}\n    - {condition: lamp_out, becomes: b, tag: c}\n";
    assert_eq!(wrong(twice), [(4, "incidents.groups[1].condition".to_owned())]);
    let star = "incidents: {groups: [{condition: lamp_out, becomes: a, tag: \"c*7\"}]}\n";
    assert_eq!(wrong(star), [(1, "incidents.groups[0].tag".to_owned())]);
}
