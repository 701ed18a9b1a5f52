//! Data directories of real processes: lost, emptied, swapped, given back; servers given up; masters that adopt.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
};

use glint_tests::address::free_address;

use crate::program::{Program, complaint, printed, run, until_printed};

/// The arguments of a durable server of its own name.
pub(crate) fn server<'a>(url: &'a str, name: &'a str) -> Vec<&'a str> {
    // Small segments and early snapshots, so that all that a log goes through happens many times.
    vec![
        "server",
        "--master",
        url,
        "--id",
        name,
        "--data-dir",
        name,
        "--memory",
        "64MiB",
        "--log-segment",
        "128KiB",
        "--log-floor",
        "256KiB",
    ]
}

/// The arguments of a master that notices silence soon.
pub(crate) fn master(address: &str) -> Vec<&str> {
    vec![
        "master",
        "--listen",
        address,
        "--data-dir",
        "master",
        "--heartbeat-ms",
        "30",
        "--silent-after-ms",
        "150",
    ]
}

/// A master with one durable server, whose data directories a test may harm while they are down.
struct Pair {
    directory: tempfile::TempDir,
    address: String,
    url: String,
    starts: Cell<u32>,
}

impl Pair {
    fn new() -> Self {
        let address = free_address();
        Self {
            directory: tempfile::tempdir().unwrap(),
            url: format!("http://{address}"),
            address,
            starts: Cell::new(0),
        }
    }

    fn log(&self, name: &str) -> String {
        self.starts.set(self.starts.get() + 1);
        format!("{name}-{}", self.starts.get())
    }

    fn master(&self, more: &[&str]) -> Program {
        let arguments = [&master(&self.address), more].concat();
        Program::start(self.directory.path(), &self.log("master"), &arguments)
    }

    fn server(&self) -> Program {
        Program::start(
            self.directory.path(),
            &self.log("s1"),
            &server(&self.url, "s1"),
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The first line of what `glint pull` says of key 1, or its complaint.
    fn key_1(&self, model: &str) -> String {
        let output = run(&self.url, &["pull", model, "1"]);
        let text = if output.status.success() {
            output.stdout
        } else {
            output.stderr
        };
        String::from_utf8(text).unwrap()
    }

    /// Makes a vector of four.
    fn create(&self, name: &str, durability: &str) {
        let arguments = [
            "model",
            "create",
            name,
            "--vector",
            "4",
            "--durability",
            durability,
        ];
        printed(&self.url, &arguments);
    }

    fn until_alive(&self) {
        until_printed(&self.url, &["status"], |text| text.contains("alive"));
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn an_emptied_an_older_and_a_foreign_data_directory_are_each_recognised_and_reset_begins_anew() {
    let pair = Pair::new();
    let master = pair.master(&[]);
    let server = pair.server();
    pair.until_alive();
    let url = &pair.url;
    pair.create("m", "memory");
    printed(
        url,
        &[
            "model",
            "create",
            "w",
            "--vector",
            "4",
            "--durability",
            "sync",
            "--initial",
            "7",
        ],
    );
    printed(url, &["push", "w", "1=5"]);
    server.kill();
    copy(&pair.path("s1"), &pair.path("older"));
    let server = pair.server();
    pair.until_alive();
    assert_eq!(
        pair.key_1("w"),
        "1\t12.0\n",
        "the volume brings back what was pushed"
    );
    let said = pair.key_1("m");
    assert!(
        said.contains("durability `memory` does not survive")
            && said.contains("glint model reset m"),
        "{said}"
    );
    printed(url, &["model", "reset", "m"]);
    assert_eq!(pair.key_1("m"), "1\t0.0\n");
    printed(url, &["push", "w", "1=1"]);
    server.kill();

    copy(&pair.path("older"), &pair.path("s1"));
    let server = pair.server();
    until_printed(url, &["status"], |text| {
        text.contains("older copy of its data directory")
    });
    assert!(
        pair.key_1("w").contains("older copy"),
        "{}",
        pair.key_1("w")
    );
    assert!(printed(url, &["models"]).contains("lost (1 partitions)"));
    printed(url, &["model", "reset", "w"]);
    assert_eq!(pair.key_1("w"), "1\t7.0\n", "its initial value");
    printed(url, &["push", "w", "1=1"]);
    server.kill();

    fs::remove_dir_all(pair.path("s1")).unwrap();
    let server = pair.server();
    until_printed(url, &["status"], |text| {
        text.contains("emptied data directory")
    });
    assert!(pair.key_1("w").contains("emptied"), "{}", pair.key_1("w"));
    printed(url, &["model", "reset", "w"]);
    assert_eq!(pair.key_1("w"), "1\t7.0\n");
    server.terminate();
    master.terminate();

    // Another cluster takes the address of the first: the server keeps what it holds, and the status says so.
    fs::rename(pair.path("master"), pair.path("first-master")).unwrap();
    let other = pair.master(&[]);
    let server = pair.server();
    until_printed(url, &["status"], |text| {
        text.contains("was refused") && text.contains("--adopt")
    });
    server.kill();
    other.terminate();
    fs::remove_dir_all(pair.path("master")).unwrap();
    fs::rename(pair.path("first-master"), pair.path("master")).unwrap();
    let master = pair.master(&[]);
    let server = pair.server();
    until_printed(url, &["pull", "w", "1"], |text| text == "1\t7.0\n");
    server.terminate();
    master.terminate();
}

#[test]
fn a_master_that_lost_its_directory_takes_over_what_servers_hold_when_an_admin_says_so() {
    let pair = Pair::new();
    let master = pair.master(&[]);
    let server = pair.server();
    pair.until_alive();
    let url = &pair.url;
    pair.create("w", "async");
    printed(url, &["push", "w", "1=5"]);
    let before = printed(url, &["status"]);
    master.kill();
    fs::remove_dir_all(pair.path("master")).unwrap();

    let refusing = pair.master(&[]);
    until_printed(url, &["status"], |text| {
        text.contains("was refused") && text.contains("--adopt")
    });
    assert!(complaint(url, &["adopt", "--finish"]).contains("adopts nothing"));
    refusing.kill();
    fs::remove_dir_all(pair.path("master")).unwrap();

    let adopting = pair.master(&["--adopt"]);
    until_printed(url, &["pull", "w", "1"], |text| text == "1\t5.0\n");
    let status = printed(url, &["status"]);
    assert!(status.contains("glint adopt --finish"), "{status}");
    let word = |text: &str| text.split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(word(&status), word(&before), "it is the same cluster");
    let early = complaint(
        url,
        &["model", "create", "x", "--vector", "4", "--timeout", "0"],
    );
    assert!(early.contains("glint adopt --finish"), "{early}");
    assert!(printed(url, &["adopt", "--finish"]).contains("serves"));
    printed(url, &["model", "create", "x", "--vector", "4"]);
    printed(url, &["push", "w", "1=1"]);
    adopting.kill();
    let again = complaint(url, &["status"]);
    assert!(again.contains("glint local"), "{again}");
    let output = run(
        url,
        &[
            "master",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            pair.path("master").to_str().unwrap(),
            "--adopt",
        ],
    );
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("without --adopt"),
        "{said}"
    );
    let master = pair.master(&[]);
    until_printed(url, &["pull", "w", "1"], |text| text == "1\t6.0\n");
    server.terminate();
    master.terminate();
}

#[test]
fn a_server_that_is_gone_for_good_is_given_up_and_the_rest_goes_on() {
    let pair = Pair::new();
    let master = pair.master(&[]);
    let server = pair.server();
    pair.until_alive();
    let url = &pair.url;
    pair.create("w", "sync");
    assert!(complaint(url, &["server", "forget", "s1"]).contains("stop it first"));
    assert!(complaint(url, &["server", "forget", "nobody"]).contains("nobody"));
    server.kill();
    until_printed(url, &["status"], |text| text.contains("silent"));
    let said = complaint(url, &["server", "forget", "s1"]);
    assert!(said.contains("--dead"), "{said}");
    let said = complaint(url, &["model", "reset", "w", "--timeout", "0"]);
    assert!(said.contains("glint server forget s1 --dead"), "{said}");
    printed(url, &["server", "forget", "s1", "--dead"]);
    assert!(printed(url, &["status"]).contains("the server that held them is dead"));
    assert!(pair.key_1("w").contains("are lost"), "{}", pair.key_1("w"));
    let second = Program::start(
        pair.directory.path(),
        "s2",
        &crate::durable::server(url, "s2"),
    );
    pair.until_alive();
    printed(url, &["model", "reset", "w"]);
    assert_eq!(pair.key_1("w"), "1\t0.0\n");
    second.terminate();
    master.terminate();
}

#[test]
fn a_server_that_starts_before_the_one_before_has_ended_waits_for_its_directory() {
    let pair = Pair::new();
    let master = pair.master(&[]);
    let first = pair.server();
    pair.until_alive();
    let url = &pair.url;
    pair.create("w", "sync");
    printed(url, &["push", "w", "1=5"]);
    let arguments = [&server(url, "s1")[..], &["--data-dir-wait-seconds", "60"]].concat();
    let second = Program::start(pair.directory.path(), &pair.log("s1"), &arguments);
    let waits = "waiting for the data directory";
    assert!(
        (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            second.log().contains(waits)
        }),
        "{}",
        second.log()
    );
    first.kill();
    until_printed(url, &["pull", "w", "1"], |text| text.contains("1\t5"));
    assert!(second.log().contains("registered"), "{}", second.log());
    second.terminate();
    master.terminate();
}

#[test]
fn a_data_directory_that_cannot_be_used_is_refused_at_the_start_and_nothing_in_it_is_touched() {
    let pair = Pair::new();
    let master = pair.master(&[]);
    let server = pair.server();
    pair.until_alive();
    let url = &pair.url;
    pair.create("w", "sync");
    let refused = |directory: &Path| {
        let directory = directory.to_str().unwrap();
        let output = run(
            url,
            &[
                "server",
                "--master",
                url,
                "--id",
                "other",
                "--data-dir",
                directory,
            ],
        );
        assert!(!output.status.success(), "{directory} is taken");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(&pair.path("s1"));
    assert!(
        said.contains("another process uses the data directory"),
        "{said}"
    );
    fs::write(pair.path("file"), "x").unwrap();
    let said = refused(&pair.path("file"));
    assert!(said.contains("file") && said.contains("error:"), "{said}");
    server.kill();

    let manifest = pair.path("s1").join("volume.json");
    let whole = fs::read_to_string(&manifest).unwrap();
    let newer = whole.replacen("\"format\":1", "\"format\":99", 1);
    assert_ne!(whole, newer, "{whole}");
    fs::write(&manifest, &newer).unwrap();
    let before = listing(&pair.path("s1"));
    let said = refused(&pair.path("s1"));
    assert!(said.contains("later version"), "{said}");
    assert_eq!(listing(&pair.path("s1")), before);

    fs::remove_file(&manifest).unwrap();
    let before = listing(&pair.path("s1"));
    let said = refused(&pair.path("s1"));
    assert!(said.contains("volume.json"), "{said}");
    assert_eq!(listing(&pair.path("s1")), before);
    fs::write(&manifest, &whole).unwrap();
    let server = pair.server();
    until_printed(url, &["pull", "w", "1"], |text| text == "1\t0.0\n");
    server.terminate();
    master.terminate();
}

/// Names and contents of a directory's files.
fn listing(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}
