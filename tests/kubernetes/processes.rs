//! What tests do besides talking to Kubernetes: `glint` as an admin runs it, and processes of pods, which run on this machine.

use std::process::Command;

use crate::stories::{Space, project, run};

/// Runs `glint` against a `ParameterServer`, and gives what it says.
pub fn glint(space: &Space, name: &str, arguments: &[&str]) -> String {
    let service = space
        .find(&["service", &format!("{name}-master")])
        .expect("the master has a Service");
    let address = service["spec"]["clusterIP"].as_str().expect("an address");
    let program = project("target/images/glint/glint");
    let mut all = vec![format!("GLINT_URL=http://{address}:7100")];
    all.push(program.to_str().expect("a path").to_owned());
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    run("env", &all, "").unwrap_or_else(|e| panic!("glint {}: {e}", arguments.join(" ")))
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
        let found = Command::new("pgrep")
            .args(["--full", "--", &pattern])
            .output()
            .expect("pgrep runs");
        let found = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        assert!(
            found.parse::<u32>().is_ok(),
            "one process of server {ordinal}: {found:?}"
        );
        let frozen = Self { process: found };
        frozen.signal("STOP");
        frozen
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
