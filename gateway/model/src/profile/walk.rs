//! What shows in a walk test that a device works: something that a person on the spot can bring about.

use serde::{Deserialize, Serialize};

use super::Profile;
use crate::vocabulary::is_made_by_hand;

/// Something to be seen, and to be seen over again, before a device has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WalkTrigger {
    /// The condition at this position is raised.
    Condition(u16),
    /// The point at this position is true, or not 0.
    Point(u16),
}

impl Profile {
    /// What is to be seen, any one of them: what the profile says, else every condition that a person on the spot can
    /// bring about. Empty for a device that only has to be heard, such as a weather station.
    pub fn walk_triggers(&self) -> Vec<WalkTrigger> {
        if !self.walk_test.is_empty() {
            return self.walk_test.clone();
        }
        let mut triggers = Vec::new();
        for (position, condition) in (0..).zip(&self.conditions) {
            if is_made_by_hand(&condition.name) {
                triggers.push(WalkTrigger::Condition(position));
            }
        }
        triggers
    }

    /// The name of a trigger's condition or point.
    pub fn walk_trigger_name(&self, trigger: WalkTrigger) -> &str {
        match trigger {
            WalkTrigger::Condition(position) => &self.conditions[usize::from(position)].name,
            WalkTrigger::Point(position) => &self.points[usize::from(position)].name,
        }
    }
}
