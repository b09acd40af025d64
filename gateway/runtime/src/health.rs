//! What works and what does not, component by component. `/health/ready` and the console show it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// How a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// Not heard of yet.
    Starting,
    /// Works.
    Ok,
    /// Works in part, or waits for something outside.
    Degraded,
    /// Does not work.
    Down,
}

/// A component's state with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComponentHealth {
    /// Such as `source/mqtt` or `sink/influx`.
    pub component: String,
    /// How it is.
    pub state: HealthState,
    /// Why, for people.
    pub detail: String,
    /// Whether the gateway cannot accept and commit without it.
    pub essential: bool,
}

/// All components. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, ComponentHealth>>>);

/// Where one component reports itself. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HealthReporter {
    health: Health,
    component: String,
}

impl Health {
    /// A component that the gateway can do without for a while.
    pub fn component(&self, component: impl Into<String>) -> HealthReporter {
        self.register(component.into(), false)
    }

    /// A component without which nothing can be accepted.
    pub fn essential(&self, component: impl Into<String>) -> HealthReporter {
        self.register(component.into(), true)
    }

    fn register(&self, component: String, essential: bool) -> HealthReporter {
        let entry = ComponentHealth {
            component: component.clone(),
            state: HealthState::Starting,
            detail: String::new(),
            essential,
        };
        self.lock().entry(component.clone()).or_insert(entry);
        HealthReporter { health: self.clone(), component }
    }

    /// A component is no longer part of the gateway.
    pub fn forget(&self, component: &str) {
        self.lock().remove(component);
    }

    /// Every component, by name.
    pub fn snapshot(&self) -> Vec<ComponentHealth> {
        self.lock().values().cloned().collect()
    }

    /// Whether every essential component works at least in part.
    pub fn is_ready(&self) -> bool {
        let works = |component: &ComponentHealth| matches!(component.state, HealthState::Ok | HealthState::Degraded);
        self.lock().values().all(|component| !component.essential || works(component))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, ComponentHealth>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HealthReporter {
    /// The component works. Returns whether that is news.
    pub fn ok(&self) -> bool {
        self.set(HealthState::Ok, String::new())
    }

    /// The component works, and says more of itself. Returns whether that is news.
    pub fn ok_with(&self, detail: impl Into<String>) -> bool {
        self.set(HealthState::Ok, detail.into())
    }

    /// The component works in part. Returns whether that is news.
    pub fn degraded(&self, detail: impl Into<String>) -> bool {
        self.set(HealthState::Degraded, detail.into())
    }

    /// The component does not work. Returns whether that is news.
    pub fn down(&self, detail: impl Into<String>) -> bool {
        self.set(HealthState::Down, detail.into())
    }

    fn set(&self, state: HealthState, detail: String) -> bool {
        let mut components = self.health.lock();
        let Some(entry) = components.get_mut(&self.component) else { return false };
        let is_news = entry.state != state;
        entry.state = state;
        entry.detail = detail;
        is_news
    }
}
