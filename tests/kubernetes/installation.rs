//! The operator: installed by its chart, looked at, scaled.

use std::sync::OnceLock;

use serde_json::Value;

use crate::{
    stories::{eventually, find, kubectl, project, run},
    turns,
};

/// The namespace of the operator.
pub const SYSTEM: &str = "glint-system";
/// The operator's pods.
pub const OPERATOR: &str = "app.kubernetes.io/name=glint-operator";
/// What a namespace is labelled with that admits only restricted pods.
pub const RESTRICTED: &str = "pod-security.kubernetes.io/enforce: restricted";

/// The operator, installed by the chart, once for all tests.
pub fn operator() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    turns::beside();
    INSTALLED.get_or_init(install);
    // A test that failed may have left none.
    let deployment =
        find(&["-n", SYSTEM, "deployment", "glint-operator"]).expect("it is installed");
    if deployment["spec"]["replicas"] != 1 {
        scale(1);
    }
    eventually("the operator is there", 90, || {
        (!operators().is_empty()).then_some(())
    });
}

/// Has so many operators, and waits until they are ready, and all others gone: one that is told to end works on for a moment.
pub fn scale(count: usize) {
    let replicas = format!("--replicas={count}");
    kubectl(&[
        "-n",
        SYSTEM,
        "scale",
        "deployment",
        "glint-operator",
        &replicas,
    ]);
    eventually(&format!("{count} operators are ready"), 90, || {
        let all = kubectl(&["-n", SYSTEM, "get", "pods", "-l", OPERATOR, "-o", "name"]);
        (operators().len() == count && all.lines().count() == count).then_some(())
    });
}

/// Installs or upgrades the operator by the chart, as it is when nobody says anything.
pub fn install() {
    let chart = project("charts/glint");
    install_from(chart.to_str().expect("a path"), &[]);
}

/// Installs or upgrades the operator by a chart, and waits until it is ready.
pub fn install_from(chart: &str, more: &[&str]) {
    // Only restricted pods are admitted there, too.
    let namespace = format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {SYSTEM}, labels: {{{RESTRICTED}}}}}}}"
    );
    run("kubectl", &["apply", "-f", "-"], &namespace).unwrap_or_else(|e| panic!("{SYSTEM}: {e}"));
    let mut arguments = vec!["upgrade", "--install", "glint", chart];
    // Else it would keep what was set before.
    arguments.extend(["--namespace", SYSTEM, "--reset-values"]);
    arguments.extend(["--wait", "--timeout", "120s"]);
    arguments.extend(more);
    run("helm", &arguments, "").unwrap_or_else(|e| panic!("helm install: {e}"));
}

/// Removes the operator, as its chart was installed.
pub fn uninstall() {
    let arguments = ["uninstall", "glint", "-n", SYSTEM, "--wait"];
    run("helm", &arguments, "").unwrap_or_else(|e| panic!("helm uninstall: {e}"));
}

/// The operator's pods that are ready.
pub fn operators() -> Vec<String> {
    let list = find(&["-n", SYSTEM, "pods", "-l", OPERATOR]);
    let pods = list.and_then(|list| list["items"].as_array().cloned());
    pods.unwrap_or_default()
        .iter()
        .filter(|pod| {
            let conditions = pod["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            pod["metadata"]["deletionTimestamp"].is_null()
                && conditions
                    .iter()
                    .any(|c| c["type"] == "Ready" && c["status"] == "True")
        })
        .filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned()))
        .collect()
}

/// The sum of a counter of the operator that works, over the lines that contain all of `labels`.
pub fn counted(pod: &str, metric: &str, labels: &[&str]) -> f64 {
    let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/metrics");
    let text = kubectl(&["get", "--raw", &path]);
    text.lines()
        .filter(|line| line.starts_with(metric) && labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Which operator holds the lease.
pub fn holder() -> Option<String> {
    let lease = find(&["-n", SYSTEM, "lease", "glint-operator"])?;
    let holder = lease["spec"]["holderIdentity"].as_str()?;
    (!holder.is_empty()).then(|| holder.to_owned())
}

/// The operator's pod, ready or not; one that is on its way out does not count.
pub fn pod() -> Option<Value> {
    let list = find(&["-n", SYSTEM, "pods", "-l", OPERATOR])?;
    let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    list["items"].as_array()?.iter().find(stays).cloned()
}
