//! The binary `glint` as processes of their own, as a person starts and ends them.

use std::{
    fs::{self, File},
    io::{Write, stderr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes to standard error past what the test harness keeps to itself of a test that passes: what was measured is to be seen.
pub(crate) fn show(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// Held by tests that load the machine: two at once would starve each other's servers, which then count as silent.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the binary is; it is built if it is missing or older than its sources.
pub(crate) fn glint() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("a path");
        let directory = test.parent().and_then(Path::parent);
        let binary = directory.expect("target/debug").join("glint");
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let sources = ["server", "client"].map(|folder| newest(&workspace.join(folder)));
        if written(&binary) < sources.into_iter().max().flatten() {
            let packages = ["-p", "glint-tests", "-p", "glint-server", "--bins"];
            let built = Command::new(env!("CARGO"))
                .args(["build", "--quiet"])
                .args(packages)
                .current_dir(workspace)
                .status()
                .expect("cargo runs");
            assert!(built.success(), "the binary does not build");
        }
        binary
    })
}

/// Where an example is, built as [`glint`] is.
pub(crate) fn example(name: &str) -> PathBuf {
    static BUILT: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let binary = glint().with_file_name("examples").join(name);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if written(&binary) < newest(&workspace.join("client")) {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--workspace", "--example", name])
            .current_dir(workspace)
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the example does not build");
    }
    binary
}

fn written(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|m| m.modified()).ok()
}

/// When the newest source below a folder was written.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).expect("a folder of sources");
    let times = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        match path.extension() {
            _ if path.is_dir() => newest(&path),
            Some(kind) if kind == "rs" => written(&path),
            _ => None,
        }
    });
    times.max().flatten()
}

/// A process that runs until it is told to end.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `glint` with these arguments in a directory of its own.
    pub(crate) fn start(directory: &Path, name: &str, arguments: &[&str]) -> Self {
        Self::within(None, directory, name, arguments)
    }

    /// Starts a command against the master at `url` whose output is to be read while it runs.
    pub(crate) fn showing(directory: &Path, name: &str, url: &str, arguments: &[&str]) -> Self {
        let log = directory.join(format!("{name}.log"));
        let file = File::create(&log).expect("a file");
        let child = Command::new(glint())
            .args(arguments)
            .env("GLINT_URL", url)
            .stdin(Stdio::null())
            .stderr(file.try_clone().expect("a file"))
            .stdout(file)
            .spawn()
            .expect("glint starts");
        Self { child, log }
    }

    /// Waits until it has written this behind what it had written before; gives all of it.
    pub(crate) fn until_written(&self, before: &str, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if wanted(&log[before.len()..]) {
                return log;
            }
            assert!(Instant::now() < until, "it writes:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The same within a network namespace, if one is given.
    pub(crate) fn within(
        namespace: Option<&str>,
        directory: &Path,
        name: &str,
        arguments: &[&str],
    ) -> Self {
        let log = directory.join(format!("{name}.log"));
        let mut command = match namespace {
            None => Command::new(glint()),
            // It becomes the program: signals reach that.
            Some(namespace) => {
                let mut ip = Command::new("ip");
                ip.args(["netns", "exec", namespace]).arg(glint());
                ip
            }
        };
        let child = command
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("glint starts");
        Self { child, log }
    }

    /// What it wrote to its log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status;
            }
            assert!(Instant::now() < until, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM: it must end in order, with exit code 0.
    pub(crate) fn terminate(self) {
        self.terminated();
    }

    /// The same, and what it wrote to its log.
    pub(crate) fn terminated(mut self) -> String {
        self.signal("-TERM");
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
        self.log()
    }

    /// Stops it where it is: it hangs, and its connections stay.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(mut self) {
        self.signal("-KILL");
        self.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A test that failed leaves nothing running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a file with a URL in it.
pub(crate) fn url_in(file: &Path) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        match fs::read_to_string(file) {
            Ok(url) => return url,
            Err(error) if Instant::now() > until => panic!("{}: {error}", file.display()),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Runs a command of `glint` to its end, against the master at `url`.
pub(crate) fn run(url: &str, arguments: &[&str]) -> Output {
    Command::new(glint())
        .args(arguments)
        .env("GLINT_URL", url)
        .stdin(Stdio::null())
        .output()
        .expect("glint runs")
}

/// What a command printed; it must succeed.
pub(crate) fn printed(url: &str, arguments: &[&str]) -> String {
    let output = run(url, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "glint {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// What a command complained about; it must fail, with nothing on standard output.
pub(crate) fn complaint(url: &str, arguments: &[&str]) -> String {
    let output = run(url, arguments);
    assert!(!output.status.success(), "glint {arguments:?} succeeded");
    assert!(
        output.stdout.is_empty(),
        "glint {arguments:?} prints to standard output"
    );
    String::from_utf8(output.stderr).expect("text")
}

/// Waits until a command prints this.
pub(crate) fn until_printed(
    url: &str,
    arguments: &[&str],
    wanted: impl Fn(&str) -> bool,
) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let output = run(url, arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && wanted(&text) {
            return text;
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            Instant::now() < until,
            "glint {arguments:?} prints:\n{text}{errors}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
