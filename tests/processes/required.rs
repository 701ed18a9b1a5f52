//! `scripts/require.sh`: what is missing is installed where it can be, else it is said what to type.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Output},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/require.sh");

/// A machine on which only these programs are there.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        for tool in ["bash", "sort"] {
            let found = ["/bin", "/usr/bin"].map(|d| Path::new(d).join(tool));
            let found = found.iter().find(|path| path.exists()).unwrap();
            symlink(found, machine.0.path().join(tool)).unwrap();
        }
        machine
    }

    /// A program that runs these lines.
    fn has(&self, name: &str, lines: &str) {
        let path = self.0.path().join(name);
        let bash = self.0.path().join("bash");
        fs::write(&path, format!("#!{}\n{lines}\n", bash.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn require(&self, tools: &[&str]) -> Output {
        Command::new(self.0.path().join("bash"))
            .arg(SCRIPT)
            .args(tools)
            .env("PATH", self.0.path())
            .output()
            .unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn who_may_not_install_is_told_what_to_type() {
    let machine = Machine::new();
    machine.has("id", "echo 1000");
    machine.has("apt-get", "exit 1");
    let missing = machine.require(&["cargo", "curl", "procps"]);
    let text = said(&missing);
    assert!(!missing.status.success(), "{text}");
    assert!(
        text.contains("apt-get install gcc libc6-dev curl procps"),
        "{text}"
    );
    assert!(text.contains("rustup.rs"), "{text}");
    machine.has("curl", "");
    assert!(machine.require(&["curl"]).status.success());
}

#[test]
fn root_has_it_installed() {
    let machine = Machine::new();
    machine.has("id", "echo 0");
    let installed = machine.0.path().join("installed");
    machine.has(
        "apt-get",
        &format!("echo \"$@\" >>'{}'", installed.display()),
    );
    machine.has("cargo", "[ \"$1\" != clippy ]");
    machine.has("rustc", "echo 'rustc 1.91.0-nightly (abc 2025-01-01)'");
    let added = machine.0.path().join("added");
    machine.has("rustup", &format!("echo \"$@\" >>'{}'", added.display()));
    let done = machine.require(&["cargo", "lint", "python3"]);
    assert!(done.status.success(), "{}", said(&done));
    let asked = fs::read_to_string(installed).unwrap();
    assert!(
        asked.contains("install -y --no-install-recommends gcc libc6-dev python3"),
        "{asked}"
    );
    assert_eq!(fs::read_to_string(added).unwrap(), "component add clippy\n");
    machine.has("rustc", "echo 'rustc 1.80.1'");
    let old = machine.require(&["cargo"]);
    assert!(!old.status.success());
    assert!(said(&old).contains("1.80.1 is too old"), "{}", said(&old));
}
