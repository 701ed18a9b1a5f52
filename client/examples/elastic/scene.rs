//! What is known at this moment: asked of the master, told by the training, and done by our own hand.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use anyhow::{Context, Result};
use glint::Client;
use tokio::time::{Instant, timeout};

use crate::{fleet::Fate, training::Told};

/// How long the master may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Over how long rates are taken.
const WINDOW: Duration = Duration::from_secs(1);
/// How often the training's rate is noted, and how many of these are kept.
const NOTED_EVERY: Duration = Duration::from_millis(500);
const NOTED: usize = 40;

/// One server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) fate: Fate,
    /// Partitions that it serves, and further copies that it has.
    pub(crate) holds: usize,
    pub(crate) follows: usize,
    /// Pulls and pushes so far.
    requests: u64,
    /// The same per second.
    pub(crate) rate: f64,
}

/// All of it.
pub(crate) struct Scene {
    pub(crate) servers: BTreeMap<String, Server>,
    /// Partitions of all models.
    pub(crate) partitions: usize,
    /// Those of them whose two copies are in sync.
    pub(crate) whole: usize,
    /// Copies that move to another server, and that are made anew.
    pub(crate) moving: u64,
    pub(crate) making: u64,
    /// Whether the master has more moves in mind.
    levelling: bool,
    pub(crate) told: Told,
    /// Tokens per second of late.
    pub(crate) rate: f64,
    /// The same over the last while.
    pub(crate) rates: VecDeque<f64>,
    seen: VecDeque<Seen>,
    noted: Instant,
}

/// Counters at some time.
struct Seen {
    at: Instant,
    tokens: u64,
    requests: BTreeMap<String, u64>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self {
            servers: BTreeMap::new(),
            partitions: 0,
            whole: 0,
            moving: 0,
            making: 0,
            levelling: false,
            told: Told::default(),
            rate: 0.0,
            rates: VecDeque::new(),
            seen: VecDeque::new(),
            noted: Instant::now(),
        }
    }

    /// Notes what became of a server.
    pub(crate) fn fate(&mut self, name: &str, fate: Fate) {
        let server = self.servers.entry(name.to_owned()).or_insert(Server {
            fate,
            holds: 0,
            follows: 0,
            requests: 0,
            rate: 0.0,
        });
        server.fate = fate;
    }

    /// Asks the master.
    pub(crate) async fn look(&mut self, client: &Client, told: Told) -> Result<()> {
        let asked = async {
            let status = client.status().await?;
            let mut maps = Vec::new();
            for model in &status.models {
                maps.push(client.map(&model.spec.name).await?);
            }
            Ok::<_, glint::Error>((status, maps))
        };
        let (status, maps) = timeout(ANSWER_WITHIN, asked)
            .await
            .context("the master does not answer")??;
        for (name, server) in &mut self.servers {
            (server.holds, server.follows) = (0, 0);
            if let Some(known) = status.servers.iter().find(|s| s.id.0 == *name) {
                server.requests = known.load.pulls + known.load.pushes;
            }
        }
        (self.partitions, self.whole) = (0, 0);
        for map in &maps {
            self.partitions += map.holders.len();
            let name = |index: u32| map.servers.get(index as usize).map(|s| s.id.0.as_str());
            for &holder in &map.holders {
                if let Some(server) = name(holder).and_then(|n| self.servers.get_mut(n)) {
                    server.holds += 1;
                }
            }
            for followers in &map.followers {
                self.whole += usize::from(!followers.is_empty());
                for &follower in followers {
                    if let Some(server) = name(follower).and_then(|n| self.servers.get_mut(n)) {
                        server.follows += 1;
                    }
                }
            }
        }
        let transfers = &status.transfers;
        self.moving = transfers.moving;
        self.making = transfers.learning;
        self.levelling = transfers.levelling;
        self.told = told;
        self.note_rates();
        Ok(())
    }

    fn note_rates(&mut self) {
        let now = Instant::now();
        let servers = self.servers.iter();
        self.seen.push_back(Seen {
            at: now,
            tokens: self.told.last.tokens,
            requests: servers.map(|(n, s)| (n.clone(), s.requests)).collect(),
        });
        while self.seen.len() > 2 && now - self.seen[1].at >= WINDOW {
            self.seen.pop_front();
        }
        let first = &self.seen[0];
        let seconds = (now - first.at).as_secs_f64().max(0.05);
        self.rate = self.told.last.tokens.saturating_sub(first.tokens) as f64 / seconds;
        for (name, server) in &mut self.servers {
            let before = first.requests.get(name).copied();
            let more = before.map_or(0, |before| server.requests.saturating_sub(before));
            server.rate = more as f64 / seconds;
        }
        if now - self.noted >= NOTED_EVERY {
            self.noted = now;
            self.rates.push_back(self.rate);
            if self.rates.len() > NOTED {
                self.rates.pop_front();
            }
        }
    }

    /// Whether every partition has both copies, and nothing is on its way.
    pub(crate) fn is_settled(&self) -> bool {
        self.partitions > 0
            && self.whole == self.partitions
            && (self.moving, self.making, self.levelling) == (0, 0, false)
    }

    /// How many partitions these servers serve.
    pub(crate) fn held_by(&self, names: &[&str]) -> usize {
        let held = names.iter().filter_map(|name| self.servers.get(*name));
        held.map(|server| server.holds).sum()
    }

    /// Copies that a server has.
    pub(crate) fn copies_on(&self, name: &str) -> usize {
        self.servers.get(name).map_or(0, |s| s.holds + s.follows)
    }
}
