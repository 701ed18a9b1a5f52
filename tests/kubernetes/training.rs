//! A Job that pulls and pushes all the time and knows what every value must be (`client/examples/steady.rs`).

use std::{
    fs::File,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::stories::{Space, eventually, kubectl, note, project};

/// The image with the program.
const IMAGE: &str = "glint-examples:0.1.0";

/// A Job under way.
pub struct Training<'a> {
    space: &'a Space,
    name: String,
    log: std::path::PathBuf,
    follower: Child,
}

/// The manifest of a Job that runs `steady` with `arguments` against a `ParameterServer` of this namespace.
pub fn job(name: &str, server: &str, arguments: &str) -> String {
    format!(
        r"apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  backoffLimit: 0
  template:
    metadata: {{labels: {{glint.dev/client: {server}}}}}
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
        - name: steady
          image: {IMAGE}
          command: [/steady, --tell, '1', {arguments}]
          envFrom: [{{secretRef: {{name: {server}-client}}}}]
          securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
"
    )
}

impl<'a> Training<'a> {
    /// Starts one against the `ParameterServer` of this name, and waits until it pushes.
    pub fn start(space: &'a Space, server: &str, durability: &str) -> Self {
        let name = format!("steady-{server}");
        let arguments = format!("--durability, {durability}");
        space
            .try_apply(&job(&name, server, &arguments))
            .expect("a Job");
        let pod = eventually("the Job runs", 60, || {
            let list = space.find(&["pods", "-l", &format!("job-name={name}")])?;
            let pod = list["items"].as_array()?.first()?.clone();
            (pod["status"]["phase"] != "Pending")
                .then(|| pod["metadata"]["name"].as_str().map(str::to_owned))?
        });
        let folder = project("target/kubernetes/training");
        std::fs::create_dir_all(&folder).expect("a folder");
        let log = folder.join(format!("{}-{server}.log", space.name()));
        let follower = Command::new(project("tests/kubernetes/cluster/cluster"))
            .args([
                "run",
                "timeout",
                "600",
                "kubectl",
                "-n",
                space.name(),
                "logs",
                "--follow",
                &pod,
            ])
            .stdin(Stdio::null())
            .stdout(File::create(&log).expect("a file"))
            .stderr(Stdio::null())
            .spawn()
            .expect("kubectl runs");
        let training = Self {
            space,
            name,
            log,
            follower,
        };
        eventually("the Job pushes", 60, || {
            training.log().contains(" pushes").then_some(())
        });
        training
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How many pushes it has told of.
    pub fn pushes(&self) -> u64 {
        let log = self.log();
        let line = log.lines().rev().find(|line| line.contains(" pushes"));
        line.and_then(|line| line.split(' ').next()?.parse().ok())
            .unwrap_or(0)
    }

    /// Waits until it has gone on: pushes were acknowledged after now.
    pub fn goes_on(&self) {
        let before = self.pushes();
        eventually("the Job goes on", 90, || {
            (self.pushes() > before).then_some(())
        });
    }

    /// It goes on all the time, for some seconds.
    pub fn goes_on_and_on(&self) {
        for _ in 0..5 {
            self.goes_on();
        }
    }

    /// Ends it without a word: there are no servers any more that it could be judged by.
    pub fn give_up(mut self) {
        let arguments = ["delete", "job", &self.name, "--force", "--grace-period=0"];
        self.space.kubectl(&arguments);
        let _ = self.follower.kill();
        let _ = self.follower.wait();
    }

    /// Ends it; no call has failed, every value is what it must be, and none took longer than a moment.
    pub fn finish_without_a_wait(self) {
        // What takes a moment takes a fraction of a second, and more on a machine that is busy. A call that waits for a pod
        // to come back, or for whoever is kept away for some seconds, takes longer.
        const MOMENT_MS: u64 = 5000;
        let slowest = self.finish();
        assert!(slowest < MOMENT_MS, "a call took {slowest} ms");
    }

    /// Ends it; no call has failed, and every value is what it must be. How long the slowest call took, in milliseconds.
    pub fn finish(mut self) -> u64 {
        kubectl(&[
            "-n",
            self.space.name(),
            "delete",
            "job",
            &self.name,
            "--wait=false",
        ]);
        for _ in 0..300 {
            if self.follower.try_wait().expect("a process").is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(200));
        }
        let _ = self.follower.kill();
        let log = self.log();
        let last = log.lines().last().unwrap_or_default();
        assert!(
            last.contains("no call failed, every value right"),
            "the Job ended with: {log}"
        );
        note(&format!("the Job: {last}"));
        let slowest = last.split("the slowest call took ").nth(1);
        let slowest = slowest.and_then(|rest| rest.split(' ').next()?.parse().ok());
        slowest.expect("it says how long the slowest call took")
    }
}
