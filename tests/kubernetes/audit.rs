//! What the operator asked of the API server, from its audit log.

use std::fs;

use serde_json::Value;

use crate::{installation::SYSTEM, stories::state};

/// Everything that the operator has asked so far, watches and reviews of itself included.
pub fn operator() -> Vec<Value> {
    let log = state("log/audit.json");
    let text = fs::read_to_string(log).expect("the audit log");
    let user = format!("system:serviceaccount:{SYSTEM}:glint-operator");
    text.lines()
        .filter(|line| line.contains(&user))
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|entry: &Value| entry["user"]["username"] == user.as_str())
        .collect()
}

/// How many calls there were about objects of a namespace.
pub fn calls(namespace: &str) -> usize {
    let of_it = |entry: &&Value| entry["objectRef"]["namespace"] == namespace;
    operator().iter().filter(of_it).count()
}

/// What the operator changes from now on.
pub struct Writes {
    before: usize,
}

impl Writes {
    /// From now on.
    pub fn from_now() -> Self {
        Self {
            before: operator().len(),
        }
    }

    /// Every change that it has asked for since, events included, whether it was made or not: `verb resource namespace/name`. The
    /// lease is no change: it says that an operator lives.
    pub fn so_far(&self) -> Vec<String> {
        let all = operator();
        all.iter()
            .skip(self.before)
            .filter(|entry| {
                let verb = entry["verb"].as_str().unwrap_or_default();
                !["get", "list", "watch"].contains(&verb)
                    && entry["objectRef"]["resource"] != "leases"
            })
            .map(|entry| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let target = &entry["objectRef"];
                let [verb, resource] = [text(&entry["verb"]), text(&target["resource"])];
                let [namespace, name] = [text(&target["namespace"]), text(&target["name"])];
                format!("{verb} {resource} {namespace}/{name}")
            })
            .collect()
    }
}
