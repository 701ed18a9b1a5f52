//! What the operator counts, for Prometheus. No label has more values than there are namespaces.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

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
    reason: &'static str,
}

/// Labels of writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    kind: String,
    verb: &'static str,
}

/// Labels of objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Namespace {
    namespace: String,
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
    definition: Gauge,
    /// Objects by namespace and name, and whether each is paused.
    objects: Mutex<BTreeMap<(String, String), bool>>,
    resources: Family<Namespace, Gauge>,
    paused: Family<Namespace, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("glint_operator");
        let reconciliations = Family::default();
        registry.register(
            "reconciliations",
            "Looks at a ParameterServer, by namespace, result (ok, error) and, of an error, its reason",
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
        let definition = Gauge::default();
        registry.register(
            "definition",
            "Whether ParameterServers can be read: their definition is installed, and the role allows it",
            definition.clone(),
        );
        let resources = Family::default();
        registry.register(
            "resources",
            "ParameterServers that this operator has looked at, by namespace",
            resources.clone(),
        );
        let paused = Family::default();
        registry.register(
            "paused_resources",
            "Those of them that are paused",
            paused.clone(),
        );
        Self {
            objects: Mutex::default(),
            resources,
            paused,
            registry,
            reconciliations,
            durations,
            writes,
            watch_errors,
            leader,
            definition,
        }
    }
}

impl Metrics {
    /// One look at an object of `namespace` took `duration`, and failed for a reason or did not.
    pub fn reconciled(&self, namespace: &str, failed: Option<&'static str>, duration: Duration) {
        let labels = Reconciliation {
            namespace: namespace.to_owned(),
            result: if failed.is_some() { "error" } else { "ok" },
            reason: failed.unwrap_or_default(),
        };
        self.reconciliations.get_or_create(&labels).inc();
        self.durations.observe(duration.as_secs_f64());
    }

    /// An object is there, paused or not.
    pub fn is_there(&self, namespace: &str, name: &str, paused: bool) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.insert((namespace.to_owned(), name.to_owned()), paused);
        self.count(namespace, &objects);
    }

    /// An object is not there any more.
    pub fn is_gone(&self, namespace: &str, name: &str) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.remove(&(namespace.to_owned(), name.to_owned()));
        self.count(namespace, &objects);
    }

    fn count(&self, namespace: &str, objects: &BTreeMap<(String, String), bool>) {
        let of_it = objects.iter().filter(|((of, _), _)| of == namespace);
        let (mut all, mut paused) = (0, 0);
        for (_, is_paused) in of_it {
            all += 1;
            paused += i64::from(*is_paused);
        }
        let labels = Namespace {
            namespace: namespace.to_owned(),
        };
        if all == 0 {
            // A namespace that is gone is not shown for ever.
            self.resources.remove(&labels);
            self.paused.remove(&labels);
            return;
        }
        self.resources.get_or_create(&labels).set(all);
        self.paused.get_or_create(&labels).set(paused);
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

    /// Whether `ParameterServer`s can be read.
    pub fn is_defined(&self, defined: bool) {
        self.definition.set(i64::from(defined));
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

    fn some() -> Metrics {
        let metrics = Metrics::default();
        metrics.reconciled("news", None, Duration::from_millis(3));
        metrics.reconciled("news", Some("Conflict"), Duration::from_millis(3));
        metrics.wrote("StatefulSet", "patch");
        metrics.leads(true);
        metrics.is_there("news", "lda", false);
        metrics.is_there("news", "lda", true);
        metrics.is_there("news", "ads", false);
        metrics.is_there("old", "lda", false);
        metrics.is_gone("old", "lda");
        metrics
    }

    #[test]
    fn what_is_counted_is_shown() {
        let text = some().text();
        assert!(!text.contains("old"), "{text}");
        for line in [
            r#"glint_operator_resources{namespace="news"} 2"#,
            r#"glint_operator_paused_resources{namespace="news"} 1"#,
            r#"glint_operator_reconciliations_total{namespace="news",result="ok",reason=""} 1"#,
            r#"glint_operator_reconciliations_total{namespace="news",result="error",reason="Conflict"} 1"#,
            r#"glint_operator_writes_total{kind="StatefulSet",verb="patch"} 1"#,
            "glint_operator_leader 1",
            "glint_operator_watch_errors_total 0",
            "glint_operator_definition 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_page_lists_every_metric_and_no_other() {
        let page = include_str!("../../docs/kubernetes.md");
        let text = some().text();
        let mut known = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap_or((line, ""));
            let name = if kind == "counter" {
                format!("{name}_total")
            } else {
                name.to_owned()
            };
            assert!(
                page.contains(&format!("| `{name}` | {kind} |")),
                "docs/kubernetes.md lacks `{name}`, a {kind}"
            );
            known.push(name);
        }
        let rows = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `glint_operator_"));
        for row in rows {
            let name = format!(
                "glint_operator_{}",
                row.split('`').next().unwrap_or_default()
            );
            assert!(known.contains(&name), "there is no metric {name}");
        }
    }
}
