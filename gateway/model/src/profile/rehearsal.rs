//! The profile of a device whose readings are written down: all but the reading of frames is as it was.

use super::{DocumentFormat, JsonPath, Origin, PayloadFormat, Profile, TimeField, TimeUnit, ValueType};
use crate::reading::Value;

/// The key of the time in a message that tells points by their names; no point can be called so.
pub const REHEARSAL_TIME_KEY: &str = "@";

impl Profile {
    /// The same profile for messages in JSON that tell its points by their names, in the points' own units, and the time
    /// in ms. `given` are the points that come so; a level that is computed from one of them still is.
    pub fn for_rehearsal(&self, given: &[u16]) -> Profile {
        let time = TimeField::new(JsonPath(vec![REHEARSAL_TIME_KEY.to_owned()]), TimeUnit::Milliseconds);
        let mut points = self.points.clone();
        for (position, point) in points.iter_mut().enumerate() {
            let is_given = given.iter().any(|given| usize::from(*given) == position);
            let is_computed = matches!(point.origin, Origin::MountHeightMinus(source) if given.contains(&source));
            // What nobody wrote down is not missing.
            point.required &= is_given;
            if is_computed && !is_given {
                continue;
            }
            point.origin = Origin::Json(vec![JsonPath(vec![point.name.to_string()])]);
            (point.scale, point.offset) = (1.0, 0.0);
            point.invalid.clear();
            match point.value_type {
                ValueType::Enumeration => {
                    for (raw, label) in &mut point.map {
                        if let Value::Text(text) = label {
                            *raw = super::RawValue::Text(text.to_string());
                        }
                    }
                }
                _ => point.map.clear(),
            }
        }
        let payload = PayloadFormat::Json(DocumentFormat { time: Some(time), history: None });
        Profile { payload, points, samples: Vec::new(), tests: Vec::new(), ..self.clone() }
    }
}
