//! The rules of the custom resource, on the real API server: the same table as in the operator's own tests.

use serde_json::{Value, json};

use glint_tests_kubernetes::installation::operator;
use glint_tests_kubernetes::stories::{Space, project, run};

fn manifest(name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "glint.dev/v1alpha1",
        "kind": "ParameterServer",
        "metadata": {"name": name},
        "spec": spec,
    })
    .to_string()
}

/// The table of the operator's own tests.
fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(project("operator/tests/specs.yaml")).expect("the table");
    serde_saphyr::from_str(&text).expect("a list of cases")
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn the_api_server_accepts_and_refuses_what_the_table_says_with_the_words_of_the_rules() {
    operator();
    let space = Space::new("rules");
    let mut tried = 0;
    for case in cases() {
        let name = case["name"].as_str().expect("a name");
        let object = case["object"].as_str().unwrap_or("lda");
        let new = manifest(object, &case["new"]);
        // Paused, so that nothing is made for it. What is made is only looked at by the API server.
        let answer = if case["old"].is_null() {
            dry_run(&space, &["create", "--dry-run=server"], &new)
        } else {
            space.kubectl(&["delete", "pserver", "--all", "--wait"]);
            let mut old = case["old"].clone();
            old["paused"] = true.into();
            run(
                "kubectl",
                &["-n", space.name(), "create", "-f", "-"],
                &manifest(object, &old),
            )
            .unwrap_or_else(|e| panic!("{name}: the old object: {e}"));
            dry_run(&space, &["replace", "--dry-run=server"], &new)
        };
        match case["refused"].as_str() {
            None => assert!(answer.is_ok(), "{name}: {answer:?}"),
            Some(words) => {
                let said = answer.expect_err(name);
                assert!(said.contains(words), "{name}: {said}");
            }
        }
        tried += 1;
    }
    assert!(tried > 40, "{tried} cases");
}

fn dry_run(space: &Space, what: &[&str], manifest: &str) -> Result<String, String> {
    let mut arguments = vec!["-n", space.name()];
    arguments.extend(what);
    arguments.extend(["-f", "-"]);
    // The operator writes the status at the same time.
    for _ in 0..5 {
        match run("kubectl", &arguments, manifest) {
            Err(said) if said.contains("the object has been modified") => {}
            other => return other,
        }
    }
    panic!("the object was modified five times in a row")
}
