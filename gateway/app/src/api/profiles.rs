//! The profiles of the site, with their editions.

use axum::Json;
use axum::extract::{Path, State};
use kerbside_model::{Profile, Site};
use serde_json::{Value, json};

use super::ApiState;
use super::error::ApiError;
use super::view::List;
use crate::config::Lineages;
use crate::shelf::{Difference, differences, facts};

pub(super) async fn profiles(State(state): State<ApiState>) -> Json<List> {
    let site = state.site.get();
    let mut counts = vec![0_usize; site.facts().profiles.len()];
    for device in site.devices() {
        counts[usize::from(device.profile)] += 1;
    }
    let lineages = state.lineages.get();
    let view = |(profile, devices): (&std::sync::Arc<Profile>, usize)| edition(profile, devices, &lineages);
    Json(List { items: site.facts().profiles.iter().zip(counts).map(view).collect(), next: None })
}

/// One profile with all that it says, by its name; with overrides by its title, such as `json-level + low-road`, and
/// then with what they change.
pub(super) async fn profile(State(state): State<ApiState>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let site = state.site.get();
    let position = site.facts().profiles.iter().position(|profile| profile.title() == name);
    let position = position.ok_or_else(|| ApiError::not_found("profile in use", &name))?;
    let profile = &site.facts().profiles[position];
    let mut view = edition(profile, devices_of(&site, position), &state.lineages.get());
    view["facts"] = json!(facts(profile));
    if !profile.overrides.is_empty() {
        let below = site.facts().profiles.iter().find(|below| below.title() == profile.name);
        let found = below.map(|below| differences(&facts(below), &facts(profile))).unwrap_or_default();
        view["differences"] = found.iter().map(Difference::to_json).collect();
    }
    Ok(Json(view))
}

fn devices_of(site: &Site, profile: usize) -> usize {
    site.devices().iter().filter(|device| usize::from(device.profile) == profile).count()
}

/// What a profile extends, its own parent first.
pub(super) fn ancestors(lineages: &Lineages, profile: &str) -> Value {
    let of = lineages.get(profile).map_or(&[][..], Vec::as_slice);
    of.iter().map(|(profile, version)| json!({ "profile": profile, "version": version })).collect()
}

fn edition(profile: &Profile, devices: usize, lineages: &Lineages) -> Value {
    json!({
        "profile": profile.name,
        "overrides": profile.overrides,
        "title": profile.title(),
        "version": profile.version,
        "hash": profile.content_hash(),
        "extends": ancestors(lineages, &profile.name),
        "kind": profile.kind.name(),
        "vendor": profile.vendor,
        "model": profile.model,
        "points": profile.points.len(),
        "devices": devices,
    })
}
