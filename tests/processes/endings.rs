//! How servers end and what is left: both copies killed, told to end in each way there is, two of one name at once.

use std::{
    fs,
    time::{Duration, Instant},
};

use glint_tests::{address::free_address, wire::Wire};
use serde_json::{Value, json};

use crate::{
    durable::{master, server},
    program::{Program, alone, complaint, printed, run, until_printed},
};

/// A master, and servers that are started as a test needs them.
struct Place {
    directory: tempfile::TempDir,
    url: String,
    _master: Program,
    starts: u32,
}

impl Place {
    fn new() -> Self {
        let address = free_address();
        let directory = tempfile::tempdir().unwrap();
        let started = Program::start(directory.path(), "master", &master(&address));
        Self {
            directory,
            url: format!("http://{address}"),
            _master: started,
            starts: 0,
        }
    }

    /// A server with a data directory and more arguments.
    fn server(&mut self, name: &str, more: &[&str]) -> Program {
        let url = self.url.clone();
        let arguments = [&server(&url, name), more].concat();
        self.program(&arguments)
    }

    fn program(&mut self, arguments: &[&str]) -> Program {
        self.starts += 1;
        Program::start(
            self.directory.path(),
            &format!("log-{}", self.starts),
            arguments,
        )
    }

    fn does(&self, line: &str) -> String {
        printed(&self.url, &line.split(' ').collect::<Vec<_>>())
    }

    fn until(&self, line: &str, wanted: impl Fn(&str) -> bool) {
        until_printed(&self.url, &line.split(' ').collect::<Vec<_>>(), wanted);
    }

    fn until_alive(&self, count: usize) {
        self.until("status", |text| text.matches("alive").count() == count);
    }

    /// What a pull of key 1 of a model says, or complains of.
    fn key_1(&self, model: &str) -> String {
        let output = run(&self.url, &["pull", model, "1"]);
        let text = if output.status.success() {
            output.stdout
        } else {
            output.stderr
        };
        String::from_utf8(text).unwrap()
    }

    fn ask(&self, path: &str) -> Value {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let asked = async { Wire::to(&self.url).json("GET", path, Value::Null).await };
        runtime.block_on(asked).unwrap()
    }
}

#[test]
fn when_both_copies_of_a_memory_model_are_killed_it_is_lost_by_name_until_it_is_reset() {
    let _alone = alone();
    let mut place = Place::new();
    let servers = [place.server("s1", &[]), place.server("s2", &[])];
    place.until_alive(2);
    place.does("model create counts --vector 64 --element i64 --partitions 4 --copies 2");
    place.does(
        "model create kept --vector 64 --element i64 --partitions 4 --copies 2 --durability sync",
    );
    let whole = |text: &str| !text.contains("degraded");
    place.until("models", whole);
    place.does("push counts 1=5");
    place.does("push kept 1=5");
    // Nobody waits for anything to be in sync again.
    servers.into_iter().for_each(Program::kill);
    let servers = [place.server("s1", &[]), place.server("s2", &[])];
    place.until("status", |text| {
        text.contains("Values of 'counts' are lost") && text.contains("does not survive")
    });
    let status = place.does("status");
    assert!(status.contains("glint model reset counts"), "{status}");
    assert!(status.contains("lost (4 partitions)"), "{status}");
    assert!(!status.contains("Values of 'kept'"), "{status}");
    let said = place.key_1("counts");
    assert!(
        said.contains("'counts'") && said.contains("are lost"),
        "{said}"
    );
    // The code of the protocol, for programs.
    let map = place.ask("/v1/models/counts");
    assert_eq!(map["lost"], json!([0, 1, 2, 3]));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(async {
        let client = glint::Client::connect(&place.url).await.unwrap();
        let vector = client.open_vector::<i64>("counts").await.unwrap();
        vector.push(&[1], &[1]).await.unwrap_err()
    });
    assert!(
        matches!(&error, glint::Error::Lost { model, .. } if model == "counts"),
        "{error}"
    );
    place.until("pull kept 1", |text| text == "1\t5\n");

    assert!(
        place
            .does("model reset counts")
            .contains("every value is 0 again")
    );
    assert_eq!(place.key_1("counts"), "1\t0\n");
    place.does("push counts 1=7");
    place.until("models", |text| whole(text) && !text.contains("lost"));
    // It is as it was: one of them may go.
    let [first, second] = servers;
    first.kill();
    place.until("pull counts 1", |text| text == "1\t7\n");
    second.terminate();
}

const DURABILITIES: [&str; 3] = ["memory", "async", "sync"];
const KEYS: u64 = 64;

impl Place {
    /// A model of each durability, of four partitions with one copy.
    fn create(&self) {
        for durability in DURABILITIES {
            self.does(&format!(
                "model create {durability} --vector {KEYS} --element i64 --partitions 4 --durability {durability}"
            ));
        }
    }

    /// Pushes to every key of every model.
    fn fill(&self) {
        let pairs: Vec<String> = (0..KEYS).map(|key| format!("{key}={}", key + 1)).collect();
        for durability in DURABILITIES {
            self.does(&format!("push {durability} {}", pairs.join(" ")));
        }
    }

    fn until_all_filled(&self, models: &[&str]) {
        let keys: Vec<String> = (0..KEYS).map(|key| key.to_string()).collect();
        let filled: Vec<String> = (0..KEYS)
            .map(|key| format!("{key}\t{}\n", key + 1))
            .collect();
        for model in models {
            let pull = format!("pull {model} {}", keys.join(" "));
            self.until(&pull, |text| text == filled.concat());
        }
    }

    /// Whether a server's data directory says that its end was in order.
    fn ended_clean(&self, name: &str) -> bool {
        let manifest = self.directory.path().join(name).join("volume.json");
        let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        manifest["clean"].as_bool().unwrap()
    }
}

#[test]
fn a_server_that_is_told_to_end_drains_flushes_or_does_neither_as_it_was_told() {
    for how in ["drain", "flush", "none"] {
        let mut place = Place::new();
        let ends = place.server("s1", &["--on-shutdown", how]);
        place.until_alive(1);
        place.create();
        let stays = place.server("s2", &[]);
        place.until_alive(2);
        // Everything is on s1, s2 takes half; back to s1, so that it has something to lose.
        place.does("drain s2 --wait");
        place.does("drain s2 --cancel");
        place.fill();
        let began = Instant::now();
        let log = ends.terminated();
        assert!(began.elapsed() < Duration::from_secs(20), "{how}: {log}");
        place.until("status", |text| text.contains("left"));
        let says_what_ends = log.contains("values end with this process") && log.contains("memory");
        assert_eq!(says_what_ends, how != "drain", "{how}: {log}");
        assert_eq!(place.ended_clean("s1"), how != "none", "{how}: {log}");
        if how == "drain" {
            // All of it is at the other.
            place.until_all_filled(&DURABILITIES);
        }
        let back = place.server("s1", &["--on-shutdown", how]);
        place.until_alive(2);
        place.until_all_filled(&["async", "sync"]);
        if how == "drain" {
            place.until_all_filled(&["memory"]);
        } else {
            let models = place.does("models");
            assert!(models.contains("lost ("), "{how}: {models}");
            place.until("status", |text| {
                text.contains("Values of 'memory' are lost") && !text.contains("Values of 'async'")
            });
        }
        back.terminate();
        stays.terminate();
    }
}

#[test]
fn a_server_that_drained_itself_to_end_gets_its_fair_share_again_when_it_starts() {
    let mut place = Place::new();
    let stays = place.server("s2", &[]);
    let mut ends = place.server("s1", &["--on-shutdown", "drain"]);
    place.until_alive(2);
    place.create();
    place.fill();
    let level = |place: &Place| {
        let status = place.ask("/v1/status");
        let servers = status["servers"].as_array().unwrap();
        let shares = servers.iter().map(|s| s["copies"].as_u64().unwrap());
        let drains = servers.iter().any(|s| !s["drain"].is_null());
        let moves = status["transfers"]["levelling"] != json!(false);
        (shares.collect::<Vec<_>>(), drains || moves)
    };
    // More than once: what it has from the time before does no harm.
    for _ in 0..2 {
        ends.terminate();
        assert_eq!(
            level(&place).0.iter().max(),
            Some(&12),
            "all is at the other"
        );
        ends = place.server("s1", &["--on-shutdown", "drain"]);
        let until = Instant::now() + Duration::from_secs(20);
        while level(&place) != (vec![6, 6], false) {
            let now = level(&place);
            assert!(Instant::now() < until, "it does not get its share: {now:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        place.until_all_filled(&DURABILITIES);
    }
    // One that an admin has drained stays so, whichever start of it.
    place.does("drain s1 --wait");
    ends.terminate();
    let back = place.server("s1", &["--on-shutdown", "drain"]);
    place.until_alive(2);
    place.until("status", |text| text.contains("drained"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(level(&place).0.contains(&12), "{:?}", level(&place));
    back.terminate();
    stays.terminate();
}

#[test]
fn a_server_with_nowhere_to_drain_to_says_so_and_what_ends_with_it_and_ends_in_time() {
    let mut place = Place::new();
    let alone = place.server("s1", &["--on-shutdown", "drain"]);
    place.until_alive(1);
    place.create();
    place.fill();
    let began = Instant::now();
    let log = alone.terminated();
    assert!(began.elapsed() < Duration::from_secs(5), "{log}");
    assert!(log.contains("cannot be moved before it ends"), "{log}");
    let ends: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("values end with this process"))
        .collect();
    assert_eq!(ends.len(), 1, "{log}");
    assert!(ends[0].contains("model=\"memory\" partitions=4"), "{log}");
    let back = place.server("s1", &[]);
    place.until_all_filled(&["async", "sync"]);
    assert!(place.key_1("memory").contains("are lost"));
    back.terminate();
}

#[test]
fn a_second_server_of_one_name_is_refused_with_the_reason_while_the_first_lives() {
    let mut place = Place::new();
    let first = place.server("s1", &[]);
    place.until_alive(1);
    place.does("model create w --vector 4 --element i64");
    place.does("push w 1=5");
    let url = place.url.clone();
    let twin = [
        "server",
        "--master",
        &url,
        "--id",
        "s1",
        "--data-dir",
        "twin",
        "--memory",
        "64MiB",
    ];
    let second = place.program(&twin);
    let reason = "another server named s1 was heard";
    place.until("status", |text| {
        text.contains("was refused") && text.contains(reason) && text.contains("--id")
    });
    let status = place.does("status");
    assert_eq!(status.matches("alive").count(), 1, "{status}");
    // The first serves as if nothing were.
    place.does("push w 1=1");
    assert_eq!(place.key_1("w"), "1\t6\n");
    let until = Instant::now() + Duration::from_secs(10);
    while !second.log().contains(reason) {
        assert!(Instant::now() < until, "{}", second.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Once the first is silent the name is free: and it is known that it is not the same.
    first.kill();
    place.until("status", |text| text.contains("Values of 'w' are lost"));
    assert!(complaint(&url, &["pull", "w", "1"]).contains("are lost"));
    second.terminate();
}
