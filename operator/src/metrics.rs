//! What the operator counts, for Prometheus. No label has more values than there are namespaces.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// Labels of reconciliations.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciliation {
    namespace: String,
    result: &'static str,
}

/// Labels of writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    kind: String,
    verb: &'static str,
}

/// All counters of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciliations: Family<Reconciliation, Counter>,
    durations: Histogram,
    writes: Family<Write, Counter>,
    watch_errors: Counter,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("glint_operator");
        let reconciliations = Family::default();
        registry.register(
            "reconciliations",
            "Looks at a ParameterServer, by namespace and result (ok, error)",
            reconciliations.clone(),
        );
        let durations = Histogram::new(exponential_buckets(0.005, 2.0, 12));
        registry.register(
            "reconciliation_seconds",
            "How long a look at a ParameterServer took",
            durations.clone(),
        );
        let writes = Family::default();
        registry.register(
            "writes",
            "Changes asked of the API server, by kind and verb",
            writes.clone(),
        );
        let watch_errors = Counter::default();
        registry.register(
            "watch_errors",
            "Watches that broke and were opened again",
            watch_errors.clone(),
        );
        let leader = Gauge::default();
        registry.register(
            "leader",
            "Whether this operator is the one that works",
            leader.clone(),
        );
        Self {
            registry,
            reconciliations,
            durations,
            writes,
            watch_errors,
            leader,
        }
    }
}

impl Metrics {
    /// One look at an object of `namespace` took `duration`.
    pub fn reconciled(&self, namespace: &str, ok: bool, duration: Duration) {
        let labels = Reconciliation {
            namespace: namespace.to_owned(),
            result: if ok { "ok" } else { "error" },
        };
        self.reconciliations.get_or_create(&labels).inc();
        self.durations.observe(duration.as_secs_f64());
    }

    /// The API server was asked for a change.
    pub fn wrote(&self, kind: &str, verb: &'static str) {
        let labels = Write {
            kind: kind.to_owned(),
            verb,
        };
        self.writes.get_or_create(&labels).inc();
    }

    /// A watch broke.
    pub fn watch_failed(&self) {
        self.watch_errors.inc();
    }

    /// Whether this operator is the one that works.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All of them in the text form of `OpenMetrics`.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::default();
        metrics.reconciled("news", true, Duration::from_millis(3));
        metrics.wrote("StatefulSet", "patch");
        metrics.leads(true);
        let text = metrics.text();
        for line in [
            r#"glint_operator_reconciliations_total{namespace="news",result="ok"} 1"#,
            r#"glint_operator_writes_total{kind="StatefulSet",verb="patch"} 1"#,
            "glint_operator_leader 1",
            "glint_operator_watch_errors_total 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
