//! Durable models in real processes on a real disk: killed at any moment, lost, given back.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use glint::{Client, Element, Vector, World};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::program::{Program, complaint, printed, run, until_printed};
use glint_tests::address::free_address;

const KEYS: u64 = 512;

/// The arguments of a durable server of its own name.
fn server<'a>(url: &'a str, name: &'a str) -> Vec<&'a str> {
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

fn master(address: &str) -> Vec<&str> {
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

/// What one worker has pushed, per key.
struct Pushed<T> {
    vector: Vector<T>,
    sums: Vec<u64>,
}

/// Pushes and pulls until it is told to stop; every push must be acknowledged, and seen by the pulls after it.
async fn work<T: Element + Into<f64> + From<u8>>(
    url: String,
    name: &'static str,
    seed: u64,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> Pushed<T> {
    let client = Client::builder(&url)
        .deadline(Duration::from_secs(120))
        .connect_deadline(Duration::from_secs(60))
        .connect()
        .await
        .unwrap();
    let vector = client.open_vector::<T>(name).await.unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut sums = vec![0_u64; KEYS as usize];
    while !stop.load(Relaxed) {
        let count = random.random_range(1..64);
        let keys: Vec<u64> = (0..count).map(|_| random.random_range(0..KEYS)).collect();
        let values: Vec<u8> = (0..count).map(|_| random.random_range(0..10)).collect();
        let pushed: Vec<T> = values.iter().map(|&v| T::from(v)).collect();
        vector.push(&keys, &pushed).await.unwrap();
        for (key, value) in keys.iter().zip(values) {
            sums[*key as usize] += u64::from(value);
        }
        let seen = vector.pull(&keys).await.unwrap();
        for (key, seen) in keys.iter().zip(seen) {
            let own = sums[*key as usize] as f64;
            assert!(
                seen.into() >= own,
                "{name}[{key}] lacks what was acknowledged"
            );
        }
        done.fetch_add(1, Relaxed);
    }
    Pushed { vector, sums }
}

/// Whether the model is exactly what all workers together have pushed.
async fn is_exact<T: Element + Into<f64>>(pushed: &[Pushed<T>]) {
    let values = pushed[0].vector.pull_range(0..KEYS).await.unwrap();
    for (key, value) in values.into_iter().enumerate() {
        let sum: u64 = pushed.iter().map(|p| p.sums[key]).sum();
        assert_eq!(value.into(), sum as f64, "key {key}");
    }
}

/// A master and three durable servers as processes.
struct Fleet {
    directory: tempfile::TempDir,
    address: String,
    url: String,
    running: Vec<Option<Program>>,
    kills: u32,
}

const SERVERS: [&str; 3] = ["s1", "s2", "s3"];

impl Fleet {
    fn start() -> Self {
        let address = free_address();
        let mut fleet = Self {
            directory: tempfile::tempdir().unwrap(),
            url: format!("http://{address}"),
            address,
            running: Vec::new(),
            kills: 0,
        };
        for which in 0..=SERVERS.len() {
            let program = fleet.program(which);
            fleet.running.push(Some(program));
        }
        until_printed(&fleet.url, &["status"], |text| {
            text.matches("alive").count() == SERVERS.len()
        });
        fleet
    }

    /// Server `which`, or the master after all of them.
    fn program(&self, which: usize) -> Program {
        let log = format!("log-{which}-{}", self.kills);
        let directory = self.directory.path();
        match SERVERS.get(which) {
            Some(name) => Program::start(directory, &log, &server(&self.url, name)),
            None => Program::start(directory, &log, &master(&self.address)),
        }
    }

    /// Kills one process after another at random moments and starts it again, for so long.
    fn kill_at_random(&mut self, lasting: Duration) {
        let seed = World::real().random.bits();
        println!("kills by seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let until = Instant::now() + lasting;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(random.random_range(20..900)));
            let which = random.random_range(0..self.running.len());
            if let Some(program) = self.running[which].take() {
                program.kill();
            }
            self.kills += 1;
            std::thread::sleep(Duration::from_millis(random.random_range(0..200)));
            self.running[which] = Some(self.program(which));
        }
    }

    fn logs(&self) -> String {
        self.running.iter().flatten().map(Program::log).collect()
    }
}

#[test]
fn a_minute_of_kill_9_on_master_and_servers_under_load_loses_and_doubles_nothing() {
    let mut fleet = Fleet::start();
    let url = fleet.url.clone();
    for (name, element, durability) in [("counts", "i32", "sync"), ("sums", "f64", "async")] {
        let keys = KEYS.to_string();
        let arguments = [
            "model",
            "create",
            name,
            "--vector",
            &keys,
            "--element",
            element,
            "--durability",
            durability,
            "--partitions",
            "6",
        ];
        printed(&url, &arguments);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut counts = Vec::new();
    let mut sums = Vec::new();
    for seed in 0..2 {
        let start = || (url.clone(), Arc::clone(&stop), Arc::clone(&done));
        let (to, until, number) = start();
        counts.push(runtime.spawn(work::<i32>(to, "counts", seed, until, number)));
        let (to, until, number) = start();
        sums.push(runtime.spawn(work::<f64>(to, "sums", 100 + seed, until, number)));
    }
    fleet.kill_at_random(Duration::from_secs(60));
    stop.store(true, Relaxed);
    runtime.block_on(async {
        let settled = async {
            let mut pushed = (Vec::new(), Vec::new());
            for (counts, sums) in counts.into_iter().zip(sums) {
                pushed.0.push(counts.await.unwrap());
                pushed.1.push(sums.await.unwrap());
            }
            is_exact(&pushed.0).await;
            is_exact(&pushed.1).await;
            for client in pushed.0.iter().map(|p| p.vector.client()) {
                assert!(client.take_losses().is_empty(), "a kill loses nothing");
            }
        };
        let settled = tokio::time::timeout(Duration::from_secs(180), settled).await;
        assert!(
            settled.is_ok(),
            "it does not come to an end:\n{}",
            fleet.logs()
        );
    });
    let (kills, done) = (fleet.kills, done.load(Relaxed));
    println!("{kills} kills, {done} pushes");
    assert!(kills >= 40 && done >= 500, "{kills} kills, {done} pushes");
    let text = printed(&url, &["status"]);
    assert!(!text.contains("lost"), "{text}");
}

/// A master with one durable server, whose data directories a test may harm while they are down.
struct Pair {
    directory: tempfile::TempDir,
    address: String,
    url: String,
    starts: std::cell::Cell<u32>,
}

impl Pair {
    fn new() -> Self {
        let address = free_address();
        Self {
            directory: tempfile::tempdir().unwrap(),
            url: format!("http://{address}"),
            address,
            starts: std::cell::Cell::new(0),
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

    fn until_alive(&self) {
        until_printed(&self.url, &["status"], |text| text.contains("alive"));
    }
}

fn copy(from: &Path, to: &Path) {
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
    printed(
        url,
        &[
            "model",
            "create",
            "m",
            "--vector",
            "4",
            "--durability",
            "memory",
        ],
    );
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
    printed(
        url,
        &[
            "model",
            "create",
            "w",
            "--vector",
            "4",
            "--durability",
            "async",
        ],
    );
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
        ],
    );
    assert!(complaint(url, &["server", "forget", "s1"]).contains("stop it first"));
    assert!(complaint(url, &["server", "forget", "nobody"]).contains("nobody"));
    server.kill();
    until_printed(url, &["status"], |text| text.contains("silent"));
    let said = complaint(url, &["server", "forget", "s1"]);
    assert!(said.contains("--dead"), "{said}");
    let said = complaint(url, &["model", "reset", "w", "--timeout", "0"]);
    assert!(said.contains("glint server forget s1 --dead"), "{said}");
    printed(url, &["server", "forget", "s1", "--dead"]);
    assert!(printed(url, &["status"]).contains("an admin said that its server is dead"));
    assert!(pair.key_1("w").contains("are lost"), "{}", pair.key_1("w"));
    let second = Program::start(pair.directory.path(), "s2", &self::server(url, "s2"));
    pair.until_alive();
    printed(url, &["model", "reset", "w"]);
    assert_eq!(pair.key_1("w"), "1\t0.0\n");
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
        ],
    );
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
