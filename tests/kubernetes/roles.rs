//! What the operator asked of the API server in all other tests, from the audit log, compared with what the chart grants.

use std::collections::{BTreeMap, BTreeSet};

use glint_tests_kubernetes::{audit, installation::SYSTEM, stories::find};

/// `verb resource.group`, as in `patch statefulsets.apps`.
type Right = String;

fn right(verb: &str, resource: &str, group: &str) -> Right {
    let dot = if group.is_empty() { "" } else { "." };
    format!("{verb} {resource}{dot}{group}")
}

fn granted() -> BTreeSet<Right> {
    let role =
        find(&["clusterrole", "glint-system-glint-operator"]).expect("the role of the chart");
    let zones =
        find(&["clusterrole", "glint-system-glint-operator-zones"]).expect("that for zones");
    let own = find(&["-n", SYSTEM, "role", "glint-operator-own"]).expect("the role for the lease");
    let mut rights = BTreeSet::new();
    for role in [role, zones, own] {
        for rule in role["rules"].as_array().expect("rules") {
            let list = |field: &str| -> Vec<String> {
                let items = rule[field].as_array().cloned().unwrap_or_default();
                items
                    .iter()
                    .filter_map(|item| item.as_str().map(str::to_owned))
                    .collect()
            };
            for group in list("apiGroups") {
                for resource in list("resources") {
                    for verb in list("verbs") {
                        rights.insert(right(&verb, &resource, &group));
                    }
                }
            }
        }
    }
    assert!(
        !rights.iter().any(|right| right.contains('*')),
        "{rights:?}"
    );
    rights
}

/// What was asked, and what was denied.
fn asked() -> (BTreeSet<Right>, BTreeMap<Right, String>) {
    let (mut asked, mut denied) = (BTreeSet::new(), BTreeMap::new());
    for entry in audit::operator() {
        if entry["objectRef"].is_null() {
            continue;
        }
        let target = &entry["objectRef"];
        let mut resource = target["resource"].as_str().unwrap_or_default().to_owned();
        if let Some(sub) = target["subresource"].as_str() {
            resource = format!("{resource}/{sub}");
        }
        let group = target["apiGroup"].as_str().unwrap_or_default();
        let this = right(entry["verb"].as_str().unwrap_or_default(), &resource, group);
        let code = entry["responseStatus"]["code"].as_i64().unwrap_or(0);
        if entry["annotations"]["authorization.k8s.io/decision"] == "forbid" {
            denied.insert(this.clone(), entry.to_string());
        }
        // An apply of what is not there is also a creation, and needs that right.
        if code == 201 && entry["verb"] == "patch" {
            asked.insert(right("create", &resource, group));
        }
        asked.insert(this);
    }
    (asked, denied)
}

/// Run last: `make test-kubernetes` does.
#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn whole_run_the_operator_was_granted_what_it_used_and_nothing_else() {
    let granted = granted();
    let (asked, mut denied) = asked();
    // While the chart is uninstalled, its role goes before the operator does.
    denied.retain(|right, _| !granted.contains(right));
    assert!(denied.is_empty(), "asked and denied: {denied:#?}");
    let unused: Vec<_> = granted.difference(&asked).collect();
    let ungranted: Vec<_> = asked.difference(&granted).collect();
    assert!(unused.is_empty(), "granted and never used: {unused:?}");
    assert!(
        ungranted.is_empty(),
        "used without the chart granting it: {ungranted:?}"
    );
    eprintln!("    {} rights, all used", granted.len());
}
