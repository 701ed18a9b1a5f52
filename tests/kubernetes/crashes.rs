//! The operator ends after every single change that it asks of the API server, and begins anew, and now and then is answered with
//! an error: all that it was asked for is done in the end, as by one that runs through, and training goes on meanwhile.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use glint_tests_kubernetes::{
    installation::scale,
    stories::{Space, eventually, find, note, project},
    training::Training,
    turns,
};
use serde_json::Value;

/// Operators that live for one change each, while this is not dropped.
struct Crashing {
    process: Child,
}

impl Crashing {
    /// In place of the installed operator.
    fn start() -> Self {
        scale(0);
        let folder = project("target/kubernetes/crashing");
        fs::create_dir_all(&folder).expect("a folder");
        // As the pods of the cluster have it: masters are called by name.
        let names = folder.join("resolv.conf");
        fs::write(
            &names,
            "nameserver 10.250.0.1\nsearch cluster.local\noptions ndots:5\n",
        )
        .expect("a file");
        let inside = format!(
            "mount --bind {} /etc/resolv.conf && exec {} {} {}",
            names.display(),
            env!("CARGO_BIN_EXE_crash-after-each-call"),
            folder.join("calls.log").display(),
            project("target/images/glint/glint-operator").display(),
        );
        let process = Command::new(project("tests/kubernetes/cluster/cluster"))
            .args(["run", "unshare", "--mount", "sh", "-c", &inside])
            .stdin(Stdio::piped())
            .stdout(fs::File::create(folder.join("operators.log")).expect("a file"))
            .stderr(fs::File::create(folder.join("errors.log")).expect("a file"))
            .spawn()
            .expect("it starts");
        Self { process }
    }

    /// How often it crashed, and how often it was answered with an error in place of what it had asked for.
    fn calls() -> (usize, usize) {
        let log = project("target/kubernetes/crashing/calls.log");
        let log = fs::read_to_string(log).unwrap_or_default();
        let refused = log.lines().filter(|line| line.starts_with("refused "));
        let refused = refused.count();
        (log.lines().count() - refused, refused)
    }
}

impl Drop for Crashing {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        scale(1);
    }
}

/// What was made, without what differs from namespace to namespace.
fn made(space: &Space) -> Vec<(String, Value)> {
    let kinds = "statefulsets,services,secrets,poddisruptionbudgets,networkpolicies";
    let list = space.find(&[kinds]).expect("a list");
    let mut made: Vec<(String, Value)> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|object| {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
            let mut spec = object["spec"].clone();
            for field in ["clusterIP", "clusterIPs"] {
                if let Some(fields) = spec.as_object_mut()
                    && fields.get(field).is_some_and(|value| value != "None")
                {
                    fields.remove(field);
                }
            }
            let text = spec.to_string().replace(space.name(), "NAMESPACE");
            (name, serde_json::from_str(&text).expect("JSON"))
        })
        .collect();
    made.sort_by(|a, b| a.0.cmp(&b.0));
    made
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn an_operator_that_crashes_after_each_single_call_comes_to_the_same_end() {
    turns::alone();
    // What other tests had may still be going: its changes would be counted as crashes, and those of this test come late.
    eventually("no other object is there", 120, || {
        let others = find(&["parameterservers", "--all-namespaces"]);
        let none = |list: Value| list["items"].as_array().is_some_and(Vec::is_empty);
        others.is_none_or(none).then_some(())
    });
    let space = Space::new("crashing");
    let storage = "storage: {size: 1Gi}, annotations: {example.com/note";
    let last = format!("{{servers: 1, {storage}: third}}}}");
    {
        let _crashing = Crashing::start();
        let told = |what: &str| {
            let (crashes, refusals) = Crashing::calls();
            note(&format!(
                "{what}, with {crashes} crashes and {refusals} refusals"
            ));
        };
        space.parameter_server("lda", "{servers: 2, storage: {size: 1Gi}}");
        space.ready("lda", 2);
        told("made");
        // What a server holds is in memory, with one copy: a pod that is stopped with it loses it.
        let training = Training::start(&space, "lda", "memory");
        space.parameter_server("lda", &format!("{{servers: 3, {storage}: second}}}}"));
        space.ready("lda", 3);
        told("scaled up and rolled");
        training.goes_on();
        space.parameter_server("lda", &format!("{{servers: 1, {storage}: second}}}}"));
        space.ready("lda", 1);
        told("scaled down");
        training.goes_on();
        training.finish();
        space.parameter_server("lda", &last);
        space.ready("lda", 1);
        told("rolled");
        let (crashes, refusals) = Crashing::calls();
        // Those of this object alone: about 42.
        assert!(crashes > 30, "it crashed {crashes} times");
        assert!(refusals > 10, "it was refused {refusals} times");
    }
    let control = Space::new("steady");
    control.parameter_server("lda", &last);
    control.ready("lda", 1);
    space.ready("lda", 1);
    assert_eq!(made(&space), made(&control));
}
