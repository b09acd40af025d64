//! The metrics registry. Names are `kerbside_<noun>_<unit>_total`; labels have few values, never a device id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// The registry of one gateway. Cheap to clone; a metric asked for twice is the same metric.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

#[derive(Clone, Debug)]
enum Known {
    Counters(IntCounterVec),
    Gauges(IntGaugeVec),
    Histogram(Histogram),
}

impl Default for Metrics {
    fn default() -> Metrics {
        let registry = Registry::new();
        let process = prometheus::process_collector::ProcessCollector::for_self();
        registry.register(Box::new(process)).expect("a new registry is empty");
        Metrics { registry, known: Arc::default() }
    }
}

impl Metrics {
    /// A counter.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.counters(name, help, &[]).with_label_values::<&str>(&[])
    }

    /// Counters by label.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let make = || IntCounterVec::new(Opts::new(name, help), labels).map(Known::Counters);
        match self.known(name, make) {
            Known::Counters(counters) => counters,
            other => unreachable!("{name} is a counter here and {other:?} elsewhere"),
        }
    }

    /// A gauge of whole numbers.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.gauges(name, help, &[]).with_label_values::<&str>(&[])
    }

    /// Gauges of whole numbers by label.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let make = || IntGaugeVec::new(Opts::new(name, help), labels).map(Known::Gauges);
        match self.known(name, make) {
            Known::Gauges(gauges) => gauges,
            other => unreachable!("{name} is a gauge here and {other:?} elsewhere"),
        }
    }

    /// A histogram of seconds with the given upper bounds.
    pub fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        match self.known(name, || Histogram::with_opts(options).map(Known::Histogram)) {
            Known::Histogram(histogram) => histogram,
            other => unreachable!("{name} is a histogram here and {other:?} elsewhere"),
        }
    }

    /// Everything in Prometheus' text format.
    pub fn encode(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    fn known(&self, name: &str, make: impl FnOnce() -> prometheus::Result<Known>) -> Known {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metric) = known.get(name) {
            return metric.clone();
        }
        let metric = make().expect("names and labels of metrics are constants of this program");
        let collector: Box<dyn Collector> = match &metric {
            Known::Counters(counters) => Box::new(counters.clone()),
            Known::Gauges(gauges) => Box::new(gauges.clone()),
            Known::Histogram(histogram) => Box::new(histogram.clone()),
        };
        self.registry.register(collector).expect("a metric is registered once");
        known.insert(name.to_owned(), metric.clone());
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_asked_for_twice_is_the_same_one() {
        let metrics = Metrics::default();
        metrics.counters("kerbside_test_total", "test", &["source"]).with_label_values(&["a"]).inc();
        metrics.counters("kerbside_test_total", "test", &["source"]).with_label_values(&["a"]).inc();
        assert!(metrics.encode().contains("kerbside_test_total{source=\"a\"} 2"));
    }
}
