//! Pods are changed while a Job pulls and pushes to models in memory: what is on a server is moved before its pod is replaced.

use glint_tests_kubernetes::{
    stories::{Space, eventually},
    training::Training,
};
use serde_json::Value;

fn note(servers: u32, text: &str) -> String {
    format!("{{servers: {servers}, annotations: {{example.com/note: {text}}}}}")
}

fn pods(space: &Space) -> Vec<Value> {
    let list = space.find(&["pods", "-l", "app.kubernetes.io/instance=lda"]);
    let items = list.and_then(|list| list["items"].as_array().cloned());
    items.unwrap_or_default()
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn with_rollout_drain_every_server_is_emptied_before_its_pod_is_replaced() {
    let space = Space::new("emptied");
    // Without volumes and with one copy: a server that is restarted with anything on it loses that.
    space.parameter_server("lda", &note(3, "before"));
    space.ready("lda", 3);
    let training = Training::start(&space, "lda", "memory");
    let uids = || [0, 1, 2].map(|n| space.uid("pod", &format!("lda-server-{n}")));
    let before = uids();
    space.parameter_server("lda", &note(3, "after"));
    space.ready("lda", 3);
    for (n, (before, after)) in before.iter().zip(uids()).enumerate() {
        assert!(
            after.is_some() && *before != after,
            "server {n} was not replaced"
        );
    }
    let events = space.events("lda");
    let told = events.iter().filter(|reason| *reason == "RestartingPod");
    assert_eq!(told.count(), 4, "three servers and the master: {events:?}");
    eventually(
        "all have their share again, and none is being emptied",
        90,
        || {
            let status = space.look("lda")["status"].clone();
            let servers = status["servers"].as_array()?;
            let settled = |s: &Value| s["draining"] == false && s["partitions"].as_i64() > Some(0);
            servers.iter().all(settled).then_some(())
        },
    );
    training.goes_on();
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn a_single_server_with_values_is_not_restarted_and_it_is_said_what_to_do() {
    let space = Space::new("single");
    space.parameter_server("lda", &note(1, "before"));
    space.ready("lda", 1);
    let training = Training::start(&space, "lda", "memory");
    let before = space.uid("pod", "lda-server-0");
    space.parameter_server("lda", &note(1, "after"));
    let said = space.condition("lda", "Progressing", "False", "RolloutHeld");
    assert!(
        said.contains("last one that lives") && said.contains("start another server"),
        "{said}"
    );
    training.goes_on();
    assert_eq!(space.uid("pod", "lda-server-0"), before);
    // As it says: with another one there is somewhere to go.
    space.parameter_server("lda", &note(2, "after"));
    space.ready("lda", 2);
    assert_ne!(space.uid("pod", "lda-server-0"), before);
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn a_spec_that_is_edited_during_a_roll_is_what_all_pods_have_in_the_end() {
    let space = Space::new("edited");
    space.parameter_server("lda", &note(3, "first"));
    space.ready("lda", 3);
    let training = Training::start(&space, "lda", "memory");
    space.parameter_server("lda", &note(3, "second"));
    eventually("one server is done, and others are not", 90, || {
        let has =
            |pod: &Value, text: &str| pod["metadata"]["annotations"]["example.com/note"] == text;
        let pods = pods(&space);
        let done = pods.iter().filter(|pod| has(pod, "second")).count();
        (done > 0 && done < pods.len()).then_some(())
    });
    space.parameter_server("lda", &note(4, "third"));
    space.ready("lda", 4);
    let pods = pods(&space);
    assert_eq!(pods.len(), 5, "four servers and the master");
    for pod in pods {
        assert_eq!(
            pod["metadata"]["annotations"]["example.com/note"], "third",
            "{}",
            pod["metadata"]["name"]
        );
    }
    training.goes_on();
    training.finish();
}
