//! The operator ends after every single change that it asks of the API server, and begins anew: all that it was asked for is
//! done in the end, as by one that runs through.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use glint_tests_kubernetes::stories::{SYSTEM, Space, eventually, kubectl, operators, project};
use glint_tests_kubernetes::turns;
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

    fn calls() -> usize {
        let log = project("target/kubernetes/crashing/calls.log");
        fs::read_to_string(log).unwrap_or_default().lines().count()
    }
}

impl Drop for Crashing {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        scale(1);
    }
}

fn scale(count: usize) {
    let replicas = format!("--replicas={count}");
    kubectl(&[
        "-n",
        SYSTEM,
        "scale",
        "deployment",
        "glint-operator",
        &replicas,
    ]);
    eventually(&format!("{count} operators are there"), 90, || {
        (operators().len() == count).then_some(())
    });
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
    let space = Space::new("crashing");
    let last = "{servers: 1, storage: {size: 1Gi}, annotations: {example.com/note: third}}";
    {
        let _crashing = Crashing::start();
        space.parameter_server("lda", "{servers: 2, storage: {size: 1Gi}}");
        space.ready("lda", 2);
        eprintln!("    made, with {} crashes", Crashing::calls());
        let rolled = "{servers: 3, storage: {size: 1Gi}, annotations: {example.com/note: second}}";
        space.parameter_server("lda", rolled);
        space.ready("lda", 3);
        eprintln!(
            "    scaled up and rolled, with {} crashes",
            Crashing::calls()
        );
        space.parameter_server("lda", last);
        space.ready("lda", 1);
        eprintln!(
            "    scaled down and rolled, with {} crashes",
            Crashing::calls()
        );
        assert!(
            Crashing::calls() > 40,
            "it crashed {} times",
            Crashing::calls()
        );
    }
    let control = Space::new("steady");
    control.parameter_server("lda", last);
    control.ready("lda", 1);
    space.ready("lda", 1);
    assert_eq!(made(&space), made(&control));
}
