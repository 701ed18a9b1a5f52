//! What the operator asked of the API server, from its audit log.

use std::fs;

use serde_json::Value;

use crate::stories::{SYSTEM, state};

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
