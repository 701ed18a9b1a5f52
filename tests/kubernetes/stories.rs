//! The cluster as tests use it: through `kubectl` and `helm`, as people do; a namespace per test; waiting; and what is kept
//! when a test fails.

use std::{
    env, fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::installation::{OPERATOR, SYSTEM, operator};

/// A path in the project.
pub fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// A path in what the cluster keeps while it runs.
pub fn state(path: &str) -> PathBuf {
    let state = env::var_os("CLUSTER_STATE")
        .map_or_else(|| project("target/kubernetes/state"), PathBuf::from);
    state.join(path)
}

/// Runs a command in the network of the cluster; its output, or what it said when it failed.
pub fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(project("tests/kubernetes/cluster/cluster"))
        .args(["run", "timeout", "180", program])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the cluster's script runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("input is taken");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}

/// `kubectl`, which must succeed.
pub fn kubectl(arguments: &[&str]) -> String {
    run("kubectl", arguments, "").unwrap_or_else(|e| panic!("kubectl {}: {e}", arguments.join(" ")))
}

/// An object as JSON, if it is there.
pub fn find(arguments: &[&str]) -> Option<Value> {
    let mut all = vec!["get", "-o", "json", "--ignore-not-found"];
    all.extend(arguments);
    let text = kubectl(&all);
    (!text.trim().is_empty()).then(|| serde_json::from_str(&text).expect("JSON"))
}

/// Says something of the test that runs on this thread.
pub fn note(text: &str) {
    let thread = thread::current();
    let name = thread.name().unwrap_or_default();
    let name: String = name.chars().take(40).collect();
    eprintln!("    {name:40} {text}");
}

/// Waits until `look` finds something, and says how long that took.
pub fn eventually<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            note(&format!(
                "{what}: after {:.1} s",
                started.elapsed().as_secs_f64()
            ));
            return found;
        }
        assert!(
            started.elapsed() < Duration::from_secs(seconds),
            "not within {seconds} s: {what}"
        );
        thread::sleep(Duration::from_millis(300));
    }
}

/// A namespace that admits only restricted pods, and goes with the test.
pub struct Space {
    name: String,
    /// In what tests keep when they fail.
    folder: PathBuf,
}

impl Space {
    /// A new one, with the operator at hand.
    pub fn new(name: &str) -> Self {
        operator();
        Self::bare(name)
    }

    /// A new one.
    pub fn bare(name: &str) -> Self {
        // One of the name may still be on its way out, from a run before.
        eventually("no namespace of the name is there", 60, || {
            find(&["namespace", name]).is_none().then_some(())
        });
        kubectl(&["create", "namespace", name]);
        kubectl(&[
            "label",
            "namespace",
            name,
            "pod-security.kubernetes.io/enforce=restricted",
        ]);
        Self {
            name: name.to_owned(),
            folder: project("target/kubernetes/failed").join(name),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `kubectl` in it, which must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(arguments);
        kubectl(&all)
    }

    /// An object in it, if it is there.
    pub fn find(&self, arguments: &[&str]) -> Option<Value> {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(arguments);
        find(&all)
    }

    /// Applies a manifest; what was refused, and why.
    pub fn try_apply(&self, manifest: &str) -> Result<String, String> {
        run("kubectl", &["-n", &self.name, "apply", "-f", "-"], manifest)
    }

    /// Applies a `ParameterServer` of this spec (YAML in one line).
    pub fn parameter_server(&self, name: &str, spec: &str) {
        self.try_apply(&parameter_server(name, spec))
            .unwrap_or_else(|e| panic!("{name} {spec}: {e}"));
    }

    /// A `ParameterServer` as it is.
    pub fn look(&self, name: &str) -> Value {
        self.find(&["parameterserver", name])
            .expect("the ParameterServer is there")
    }

    /// Waits until all servers answer, and nothing is being changed.
    pub fn ready(&self, name: &str, servers: i64) {
        eventually(
            &format!("{name} is ready with {servers} servers"),
            120,
            || {
                let object = self.look(name);
                let status = &object["status"];
                (status["observedGeneration"] == object["metadata"]["generation"]
                    && status["phase"] == "Ready"
                    && status["readyServers"] == servers
                    && status["updatedServers"] == servers)
                    .then_some(())
            },
        );
    }

    /// Waits until a condition has this status and reason, and gives its message.
    pub fn condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> String {
        let what = format!("{name} has {kind}={status} because of {reason}");
        eventually(&what, 90, || {
            let object = self.look(name);
            let conditions = object["status"]["conditions"].as_array()?.clone();
            let found = conditions
                .iter()
                .find(|c| c["type"] == kind && c["status"] == status && c["reason"] == reason)?;
            Some(found["message"].as_str()?.to_owned())
        })
    }

    /// The unique id of an object: another one when it was made again.
    pub fn uid(&self, kind: &str, name: &str) -> Option<String> {
        let object = self.find(&[kind, name])?;
        Some(object["metadata"]["uid"].as_str()?.to_owned())
    }

    /// Kills a pod without a word, and waits until another one of its name is ready.
    pub fn kill_pod(&self, name: &str) {
        let before = self.uid("pod", name).expect("the pod is there");
        self.kubectl(&["delete", "pod", name, "--force", "--grace-period=0"]);
        eventually(&format!("another {name} is ready"), 90, || {
            let pod = self.find(&["pod", name])?;
            let conditions = pod["status"]["conditions"].as_array()?.clone();
            let ready = conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
            (ready && pod["metadata"]["uid"] != before.as_str()).then_some(())
        });
    }

    /// Waits until everything that was made for a `ParameterServer` is gone, but claims of volumes that are kept.
    pub fn nothing_is_left(&self, seconds: u64) {
        let kinds = "statefulsets,pods,services,secrets,poddisruptionbudgets,networkpolicies";
        eventually("everything that was made is gone", seconds, || {
            let list = self.find(&[kinds]);
            let items = list.and_then(|list| list["items"].as_array().cloned());
            items.unwrap_or_default().is_empty().then_some(())
        });
    }

    /// How many volumes are claimed.
    pub fn claims(&self) -> usize {
        let list = self.find(&["pvc"]);
        list.and_then(|list| list["items"].as_array().map(Vec::len))
            .unwrap_or(0)
    }

    /// Reasons of the events about an object.
    pub fn events(&self, name: &str) -> Vec<String> {
        let selector = format!("involvedObject.name={name}");
        let list = self.find(&["events", "--field-selector", &selector]);
        let items = list
            .and_then(|list| list["items"].as_array().cloned())
            .unwrap_or_default();
        items
            .iter()
            .filter_map(|event| Some(event["reason"].as_str()?.to_owned()))
            .collect()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if thread::panicking() {
            self.keep();
        }
        let _ = run(
            "kubectl",
            &["delete", "namespace", &self.name, "--wait=false"],
            "",
        );
    }
}

impl Space {
    /// Keeps what there is and what pods said, and says where.
    fn keep(&self) {
        let _ = fs::create_dir_all(&self.folder);
        let keep = |file: &str, arguments: &[&str]| {
            let text = run("kubectl", arguments, "").unwrap_or_else(|e| e);
            let _ = fs::write(self.folder.join(file), text);
        };
        let kinds = "parameterservers,statefulsets,pods,pvc,services,jobs,events";
        keep(
            "objects.yaml",
            &["-n", &self.name, "get", kinds, "-o", "yaml"],
        );
        keep(
            "operator.log",
            &[
                "-n",
                SYSTEM,
                "logs",
                "-l",
                OPERATOR,
                "--tail=-1",
                "--prefix",
            ],
        );
        let pods = run(
            "kubectl",
            &["-n", &self.name, "get", "pods", "-o", "name"],
            "",
        );
        for pod in pods.unwrap_or_default().lines() {
            let file = format!("{}.log", pod.trim_start_matches("pod/"));
            keep(&file, &["-n", &self.name, "logs", pod, "--all-containers"]);
        }
        eprintln!("    what there was is kept in {}", self.folder.display());
        eprintln!(
            "    the logs of Kubernetes are in {}",
            state("log").display()
        );
    }
}

/// A manifest of a `ParameterServer`.
pub fn parameter_server(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: glint.dev/v1alpha1\nkind: ParameterServer\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}
