//! Models with two copies on real processes, of which one after another is killed or hangs under load: no call fails, nothing is
//! lost, nothing is doubled.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use glint::{Client, Vector, World};
use glint_protocol::ModelMap;
use glint_tests::{address::free_address, wire::Wire};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    durable::{master, server},
    program::{Program, alone, printed, until_printed},
};

const KEYS: u64 = 256;
const SERVERS: [&str; 4] = ["s1", "s2", "s3", "s4"];
const MODELS: [&str; 3] = ["memory", "async", "sync"];
/// How long it goes on.
const LASTING: Duration = Duration::from_secs(60);

/// How long each push took.
type Times = Arc<Mutex<Vec<Duration>>>;

/// Pushes until it is told to stop, and says how often.
async fn work(
    url: String,
    model: &'static str,
    stop: Arc<AtomicBool>,
    times: Times,
) -> (Vector<i64>, i64) {
    let client = Client::builder(&url)
        .deadline(Duration::from_secs(60))
        .connect()
        .await
        .unwrap();
    let vector = client.open_vector::<i64>(model).await.unwrap();
    let mut pushed = 0;
    while !stop.load(Relaxed) {
        let began = Instant::now();
        vector.push_range(0, &[1; KEYS as usize]).await.unwrap();
        times.lock().unwrap().push(began.elapsed());
        pushed += 1;
    }
    (vector, pushed)
}

struct Fleet {
    directory: tempfile::TempDir,
    url: String,
    _master: Program,
    servers: Vec<Option<Program>>,
    starts: u32,
}

impl Fleet {
    fn start() -> Self {
        let address = free_address();
        let directory = tempfile::tempdir().unwrap();
        let started = Program::start(directory.path(), "master", &master(&address));
        let mut fleet = Self {
            directory,
            url: format!("http://{address}"),
            _master: started,
            servers: Vec::new(),
            starts: 0,
        };
        for name in SERVERS {
            let program = fleet.server(name);
            fleet.servers.push(Some(program));
        }
        until_printed(&fleet.url, &["status"], |text| {
            text.matches("alive").count() == SERVERS.len()
        });
        fleet
    }

    fn server(&mut self, name: &str) -> Program {
        self.starts += 1;
        let log = format!("log-{name}-{}", self.starts);
        Program::start(self.directory.path(), &log, &server(&self.url, name))
    }

    /// Waits until every partition of every model has two copies in sync: then any one server may go.
    fn wait_until_whole(&self, runtime: &Runtime) {
        let until = Instant::now() + Duration::from_secs(60);
        for model in MODELS {
            let path = format!("/v1/models/{model}");
            loop {
                let map = runtime.block_on(Wire::to(&self.url).json("GET", &path, Value::Null));
                let map: Option<ModelMap> =
                    map.ok().and_then(|map| serde_json::from_value(map).ok());
                if map
                    .is_some_and(|map| map.followers.iter().filter(|f| !f.is_empty()).count() == 6)
                {
                    break;
                }
                assert!(Instant::now() < until, "{model} is not whole again");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Kills one server, or has it hang, and lets it come back, again and again; how often.
    fn strike(&mut self, runtime: &Runtime) -> (u32, u32) {
        let seed = World::real().random.bits();
        println!("strikes by seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let (mut kills, mut freezes) = (0, 0);
        let until = Instant::now() + LASTING;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(random.random_range(50..500)));
            // Without a second copy in sync, what is only in memory is lost with its server: so right before the strike.
            self.wait_until_whole(runtime);
            let which = random.random_range(0..SERVERS.len());
            let absent = Duration::from_millis(random.random_range(100..1500));
            if random.random_bool(0.6) {
                kills += 1;
                if let Some(program) = self.servers[which].take() {
                    program.kill();
                }
                std::thread::sleep(absent);
                let program = self.server(SERVERS[which]);
                self.servers[which] = Some(program);
            } else if let Some(program) = &self.servers[which] {
                freezes += 1;
                program.freeze();
                std::thread::sleep(absent);
                program.thaw();
            }
        }
        self.wait_until_whole(runtime);
        (kills, freezes)
    }
}

#[test]
fn a_minute_of_kills_and_hangs_of_servers_with_two_copies_fails_no_call_and_loses_nothing() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut fleet = Fleet::start();
    let url = fleet.url.clone();
    let keys = KEYS.to_string();
    for model in MODELS {
        let arguments = [
            "model",
            "create",
            model,
            "--vector",
            &keys,
            "--element",
            "i64",
            "--durability",
            model,
            "--partitions",
            "6",
            "--copies",
            "2",
        ];
        printed(&url, &arguments);
    }
    fleet.wait_until_whole(&runtime);
    let stop = Arc::new(AtomicBool::new(false));
    let times = Times::default();
    let start = |model| {
        let work = work(url.clone(), model, Arc::clone(&stop), Arc::clone(&times));
        (model, runtime.spawn(work))
    };
    let working: Vec<_> = MODELS.into_iter().map(start).collect();
    let (kills, freezes) = fleet.strike(&runtime);
    stop.store(true, Relaxed);
    for (model, worker) in working {
        runtime.block_on(async {
            let (vector, pushed) = worker.await.unwrap();
            let values = vector.pull_range(0..KEYS).await.unwrap();
            assert_eq!(values, [pushed; KEYS as usize], "{model}");
        });
    }
    let mut times = times.lock().unwrap().clone();
    times.sort();
    let slow: Vec<_> = times.iter().filter(|t| t.as_millis() > 100).collect();
    let at = |q: usize| slow.get(slow.len() * q / 100).copied();
    println!(
        "{kills} kills, {freezes} hangs, {} pushes; {} took over 100 ms: p50 {:?}, p90 {:?}, p99 {:?}, longest {:?}",
        times.len(),
        slow.len(),
        at(50),
        at(90),
        at(99),
        times.last()
    );
    assert!(kills + freezes >= 10, "{kills} kills and {freezes} hangs");
    let text = printed(&url, &["status"]);
    assert!(!text.contains("lost"), "{text}");
}
