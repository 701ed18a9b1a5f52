//! What tests do besides talking to Kubernetes: `glint` as an admin runs it, and processes of pods, which run on this machine.

use std::{fs, process::Command};

use crate::stories::{Space, project, run};

/// Runs `glint` against a `ParameterServer`, and gives what it says; it must succeed.
pub fn glint(space: &Space, name: &str, arguments: &[&str]) -> String {
    try_glint(space, name, arguments)
        .unwrap_or_else(|e| panic!("glint {}: {e}", arguments.join(" ")))
}

/// The same, when the master may be away: what it says, or why not.
pub fn try_glint(space: &Space, name: &str, arguments: &[&str]) -> Result<String, String> {
    let service = space
        .find(&["service", &format!("{name}-master")])
        .expect("the master has a Service");
    let address = service["spec"]["clusterIP"].as_str().expect("an address");
    let program = project("target/images/glint/glint");
    let mut all = vec![format!("GLINT_URL=http://{address}:7100")];
    all.push(program.to_str().expect("a path").to_owned());
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    run("env", &all, "")
}

/// The process of a pod of this cluster whose command line is like `pattern`; there is one. Pods of other clusters on this
/// machine are told apart by their control groups.
pub fn one(pattern: &str) -> String {
    let name = Command::new(project("tests/kubernetes/cluster/cluster"))
        .arg("name")
        .output()
        .expect("the cluster's script runs");
    let name = String::from_utf8_lossy(&name.stdout).trim().to_owned();
    of_group(pattern, &format!("/{name}-"))
}

/// The process whose command line is like `pattern`, and that is in a control group of which `group` is a part; there is one.
fn of_group(pattern: &str, group: &str) -> String {
    let found = Command::new("pgrep")
        .args(["--full", "--", pattern])
        .output()
        .expect("pgrep runs");
    let of_group = |process: &&str| {
        let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
        groups.contains(group)
    };
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    let found: Vec<&str> = found.lines().filter(of_group).collect();
    assert_eq!(found.len(), 1, "one process of {pattern}: {found:?}");
    found[0].to_owned()
}

/// A process that stands still until this is dropped.
pub struct Frozen {
    process: String,
}

impl Frozen {
    /// That of a server. Its probes fail meanwhile: it is ended after a minute.
    pub fn server(space: &Space, name: &str, ordinal: u32) -> Self {
        let master = format!("http://{name}-master.{}.svc:7100", space.name());
        let pattern = format!("--master {master} .* --id {name}-server-{ordinal}( |$)");
        let frozen = Self {
            process: one(&pattern),
        };
        frozen.signal("STOP");
        frozen
    }

    /// That of a pod that runs `glint`.
    pub fn pod(space: &Space, name: &str) -> Self {
        let uid = space.uid("pod", name).expect("the pod is there");
        let frozen = Self {
            process: of_group("^/glint ", &format!("/pod{uid}/")),
        };
        frozen.signal("STOP");
        frozen
    }

    /// Whether it still stands still, and is there.
    pub fn stands(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process));
        // After its name, which is in brackets, comes its state.
        stat.is_ok_and(|stat| {
            stat.rsplit(')')
                .next()
                .unwrap_or_default()
                .starts_with(" T")
        })
    }

    fn signal(&self, signal: &str) {
        let signal = format!("-{signal}");
        let _ = Command::new("kill").args([&signal, &self.process]).status();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal("CONT");
    }
}
