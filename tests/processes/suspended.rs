//! Programs that are stopped in the midst of their work, for longer than a call may take, while servers die, come back and are
//! drained: they go on, and everything that they were told is so.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use glint::{Client, Error, Vector};
use glint_tests::address::free_address;
use serde::{Deserialize, Serialize};

use crate::{
    durable::{master, server},
    program::{Program, alone, printed, until_printed},
};

const MODELS: [&str; 3] = ["memory", "async", "sync"];
const KEYS: u64 = 32;
/// What a worker is told: the master's URL, the directory of its files, and the deadline of its calls in milliseconds.
const TOLD: [&str; 3] = ["GLINT_TEST_URL", "GLINT_TEST_FILES", "GLINT_TEST_DEADLINE"];

/// What has come of a worker's pushes to one model.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Count {
    /// Acknowledged.
    sure: i64,
    /// Nobody knows.
    unknown: i64,
    /// Certainly not applied.
    not: i64,
}

/// Another program: this one once more, which only works.
struct Worker {
    child: Child,
    files: PathBuf,
}

impl Worker {
    fn start(url: &str, files: &Path, deadline: Duration) -> Self {
        fs::create_dir(files).unwrap();
        let told = [
            url.to_owned(),
            files.to_str().unwrap().to_owned(),
            deadline.as_millis().to_string(),
        ];
        let log = fs::File::create(files.join("log")).unwrap();
        let child = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "suspended::a_worker", "--nocapture"])
            .envs(TOLD.into_iter().zip(told))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let files = files.to_owned();
        Self { child, files }
    }

    fn counts(&self) -> [Count; MODELS.len()] {
        let text = fs::read(self.files.join("counts")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Waits until so many more pushes to each model are acknowledged.
    fn until_pushed(&mut self, more: i64) {
        let from = self.counts();
        let until = Instant::now() + Duration::from_secs(30);
        let enough = |now: [Count; 3]| now.iter().zip(&from).all(|(n, f)| n.sure >= f.sure + more);
        while !enough(self.counts()) {
            let ended = self.child.try_wait().unwrap();
            let late = Instant::now() > until;
            assert!(
                ended.is_none() && !late,
                "it does not go on: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.files.join("log")).unwrap_or_default();
        format!("{:?}\n{log}", self.counts())
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Has it end, and says what came of its pushes.
    fn end(mut self) -> [Count; MODELS.len()] {
        fs::write(self.files.join("stop"), "").unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{}", self.log());
                return self.counts();
            }
            assert!(Instant::now() < until, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A test that failed leaves nothing running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pushes once to every key of a model, and reads: what was acknowledged before is there.
async fn work(vector: &Vector<i64>, count: &mut Count) {
    match vector.push_range(0, &[1; KEYS as usize]).await {
        Ok(()) => count.sure += 1,
        // Of the keys of a part some are in.
        Err(Error::Unknown { .. } | Error::Partial { .. }) => count.unknown += 1,
        Err(Error::DeadlineExceeded { .. }) => count.not += 1,
        Err(other) => panic!("{}: {other}", vector.name()),
    }
    match vector.pull_range(0..KEYS).await {
        Ok(values) => {
            let least = values.iter().min().unwrap();
            assert!(
                *least >= count.sure,
                "{}: {values:?} {count:?}",
                vector.name()
            );
        }
        Err(Error::DeadlineExceeded { .. }) => {}
        Err(other) => panic!("{}: {other}", vector.name()),
    }
}

#[test]
#[ignore = "a worker of its own process, started by programs_that_are_stopped"]
fn a_worker() {
    let [url, files, deadline] = TOLD.map(|name| env::var(name).unwrap());
    let files = PathBuf::from(files);
    let deadline = Duration::from_millis(deadline.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = Client::builder(&url).deadline(deadline).connect();
        let client = client.await.unwrap();
        let mut vectors = Vec::new();
        for model in MODELS {
            vectors.push(client.open_vector::<i64>(model).await.unwrap());
        }
        let mut counts = [Count::default(); MODELS.len()];
        while !files.join("stop").exists() {
            for (vector, count) in vectors.iter().zip(&mut counts) {
                work(vector, count).await;
            }
            let (partial, whole) = (files.join("partial"), files.join("counts"));
            fs::write(&partial, serde_json::to_vec(&counts).unwrap()).unwrap();
            fs::rename(partial, whole).unwrap();
        }
    });
}

#[test]
fn programs_that_are_stopped_while_servers_die_and_move_what_they_hold_go_on_and_lose_nothing() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let url = format!("http://{address}");
    let _master = Program::start(directory.path(), "master", &master(&address));
    let start = |name: &str, log: &str| Program::start(directory.path(), log, &server(&url, name));
    let does = |line: &str| printed(&url, &line.split(' ').collect::<Vec<_>>());
    let until = |line: &str, wanted: &dyn Fn(&str) -> bool| {
        until_printed(&url, &line.split(' ').collect::<Vec<_>>(), wanted);
    };
    let whole = |text: &str| !text.contains("degraded") && !text.contains("lost");
    let mut first = start("s1", "s1-1");
    let others = [start("s2", "s2"), start("s3", "s3")];
    until("status", &|text| text.matches("alive").count() == 3);
    for model in MODELS {
        does(&format!(
            "model create {model} --vector {KEYS} --element i64 --durability {model} --partitions 6 --copies 2"
        ));
    }
    until("models", &whole);
    // One whose calls have time left when it goes on, and one whose calls are all past their deadlines.
    let deadlines = [Duration::from_secs(60), Duration::from_secs(1)];
    let mut workers: Vec<Worker> = deadlines
        .into_iter()
        .map(|deadline| {
            let files = directory
                .path()
                .join(format!("worker-{}", deadline.as_secs()));
            Worker::start(&url, &files, deadline)
        })
        .collect();
    for round in 0..3 {
        for worker in &mut workers {
            worker.until_pushed(5);
            worker.signal("-STOP");
        }
        let asleep = Instant::now();
        // Who holds what is another than when they fell asleep, everywhere.
        first.kill();
        first = start("s1", &format!("s1-{}", round + 2));
        until("models", &whole);
        does("drain s2 --wait");
        does("drain s2 --cancel");
        does("drain s3 --wait");
        does("drain s3 --cancel");
        until("models", &whole);
        while asleep.elapsed() < deadlines[1] * 2 {
            std::thread::sleep(Duration::from_millis(50));
        }
        for worker in &workers {
            worker.signal("-CONT");
        }
        for worker in &mut workers {
            worker.until_pushed(5);
        }
    }
    let mut all = [Count::default(); MODELS.len()];
    for (worker, deadline) in workers.into_iter().zip(deadlines) {
        let counts = worker.end();
        println!("deadline {deadline:?}: {counts:?}");
        for (sum, count) in all.iter_mut().zip(counts) {
            assert!(count.sure >= 30, "{counts:?}");
            if deadline == deadlines[0] {
                assert_eq!(
                    (count.unknown, count.not),
                    (0, 0),
                    "no call fails: {counts:?}"
                );
            }
            sum.sure += count.sure;
            sum.unknown += count.unknown;
        }
    }
    for (model, count) in MODELS.into_iter().zip(all) {
        let keys: Vec<String> = (0..KEYS).map(|key| key.to_string()).collect();
        let words = ["pull", model]
            .into_iter()
            .chain(keys.iter().map(String::as_str));
        let text = printed(&url, &words.collect::<Vec<_>>());
        let values = text.lines().map(|line| line.split('\t').nth(1).unwrap());
        for value in values.map(|value| value.parse::<i64>().unwrap()) {
            let may = count.sure..=count.sure + count.unknown;
            assert!(may.contains(&value), "{model}: {value}, {count:?}");
        }
    }
    first.terminate();
    others.into_iter().for_each(Program::terminate);
}
