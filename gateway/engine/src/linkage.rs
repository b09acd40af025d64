//! Streaming single linkage: which alarms are near one another, without looking at all of them.
//!
//! An area keeps the newest place of each cell of half a reach, so that an alarm costs 25 looks whatever the number of
//! those before it, and a chain of limited extent has a limited number of cells. Two alarms in one cell are always
//! within reach; across cells the newest one speaks for its cell.

use std::collections::{BTreeMap, BTreeSet};

use kerbside_model::Timestamp;
use kerbside_model::incident::Linkage;
use serde::{Deserialize, Serialize};

/// Metres in a degree of latitude: the mean radius of the earth, 6,371,009 m, times pi / 180.
const DEGREE_M: f64 = 111_195.0;
/// A place reaches over so many cells of half a reach to either side.
const CELLS_AROUND: i32 = 2;

/// Where one alarm stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Longitude and latitude in degrees of WGS84.
    pub(crate) position: Option<(f64, f64)>,
    /// The asset that the device hangs on, or empty.
    pub(crate) parent: &'a str,
}

/// Where and when the alarms of one incident are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Area {
    /// Latitude in degrees at which degrees of longitude are measured: that of the first place.
    latitude: f64,
    /// The newest place of each cell, in metres.
    cells: BTreeMap<(i32, i32), (f64, f64)>,
    /// West, south, east and north end, in metres.
    bounds: Option<(f64, f64, f64, f64)>,
    parents: BTreeSet<String>,
    /// Whether some of its devices have no position: then parents count.
    has_unplaced: bool,
    /// When the newest alarm was raised.
    pub(crate) last_at: Timestamp,
}

impl Area {
    /// Whether an alarm that was raised at `at` belongs here. While a member stands, time sets no limit.
    pub(crate) fn links(&self, place: &Place<'_>, at: Timestamp, rule: &Linkage, is_standing: bool) -> bool {
        let apart_ms = u128::from(at.0.abs_diff(self.last_at.0));
        if !is_standing && apart_ms > rule.within.as_millis() {
            return false;
        }
        let is_kin = !place.parent.is_empty() && self.parents.contains(place.parent);
        let Some(position) = place.position else { return is_kin };
        let spot = self.metres(position);
        if self.extent_with(spot) > rule.extent_m {
            return false;
        }
        (is_kin && self.has_unplaced) || self.is_near(spot, rule)
    }

    /// Takes an alarm in.
    pub(crate) fn add(&mut self, place: &Place<'_>, at: Timestamp, rule: &Linkage) {
        self.last_at = self.last_at.max(at);
        if !place.parent.is_empty() {
            self.parents.insert(place.parent.to_owned());
        }
        let Some(position) = place.position else {
            self.has_unplaced = true;
            return;
        };
        if self.bounds.is_none() {
            self.latitude = position.1;
        }
        let spot = self.metres(position);
        self.cells.insert(cell_of(spot, rule), spot);
        self.bounds = Some(self.bounds_with(spot));
    }

    fn metres(&self, (longitude, latitude): (f64, f64)) -> (f64, f64) {
        let reference = if self.bounds.is_some() { self.latitude } else { latitude };
        (longitude * reference.to_radians().cos() * DEGREE_M, latitude * DEGREE_M)
    }

    fn bounds_with(&self, (x, y): (f64, f64)) -> (f64, f64, f64, f64) {
        let (west, south, east, north) = self.bounds.unwrap_or((x, y, x, y));
        (west.min(x), south.min(y), east.max(x), north.max(y))
    }

    fn extent_with(&self, spot: (f64, f64)) -> f64 {
        let (west, south, east, north) = self.bounds_with(spot);
        (east - west).hypot(north - south)
    }

    fn is_near(&self, spot: (f64, f64), rule: &Linkage) -> bool {
        let (column, row) = cell_of(spot, rule);
        for x in column.saturating_sub(CELLS_AROUND)..=column.saturating_add(CELLS_AROUND) {
            for y in row.saturating_sub(CELLS_AROUND)..=row.saturating_add(CELLS_AROUND) {
                let other = self.cells.get(&(x, y));
                if other.is_some_and(|other| (other.0 - spot.0).hypot(other.1 - spot.1) <= rule.reach_m) {
                    return true;
                }
            }
        }
        false
    }
}

#[expect(clippy::cast_possible_truncation, reason = "half a reach is a metre at least, and the earth has 40,000 km")]
fn cell_of((x, y): (f64, f64), rule: &Linkage) -> (i32, i32) {
    let side = rule.reach_m.max(2.0) / 2.0;
    ((x / side).floor() as i32, (y / side).floor() as i32)
}

#[cfg(test)]
mod tests {
    use kerbside_model::incident::IncidentPolicy;

    use super::*;

    /// Whether a second alarm, so many metres north and minutes later, belongs to the first one.
    fn links(north_m: f64, minutes: i64, is_standing: bool) -> bool {
        let rule = IncidentPolicy::default().storm;
        let place = |latitude| Place { position: Some((116.3, latitude)), parent: "" };
        let mut area = Area::default();
        area.add(&place(39.9), Timestamp(0), &rule);
        area.links(&place(39.9 + north_m / DEGREE_M), Timestamp(minutes * 60_000), &rule, is_standing)
    }

    #[test]
    fn alarms_within_five_kilometres_and_an_hour_are_linked() {
        assert!(links(4_900.0, 59, false));
        assert!(!links(5_100.0, 1, false), "too far");
        assert!(!links(100.0, 61, false), "too late");
        assert!(links(100.0, 600, true), "the first one still stands");
    }

    #[test]
    fn a_chain_ends_at_its_extent() {
        let rule = IncidentPolicy::default().storm;
        let mut area = Area::default();
        let mut linked = 0;
        for step in 0..10 {
            let position = Some((116.3, 39.9 + f64::from(step) * 4_000.0 / DEGREE_M));
            let place = Place { position, parent: "" };
            if step == 0 || area.links(&place, Timestamp(0), &rule, true) {
                area.add(&place, Timestamp(0), &rule);
                linked += 1;
            }
        }
        assert_eq!(linked, 4, "0, 4, 8 and 12 km");
    }

    #[test]
    fn a_device_without_a_position_is_linked_by_its_parent() {
        let rule = IncidentPolicy::default().storm;
        let mut area = Area::default();
        area.add(&Place { position: Some((116.3, 39.9)), parent: "BASIN-2" }, Timestamp(0), &rule);
        assert!(area.links(&Place { position: None, parent: "BASIN-2" }, Timestamp(0), &rule, true));
        assert!(!area.links(&Place { position: None, parent: "BASIN-3" }, Timestamp(0), &rule, true));
        assert!(!area.links(&Place { position: None, parent: "" }, Timestamp(0), &rule, true));
    }
}
