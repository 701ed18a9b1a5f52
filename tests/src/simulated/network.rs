//! A network between named hosts: streams of bytes that are late, break at any byte, go silent, and requests that arrive
//! twice or long after they were given up.
//!
//! As over TCP, the bytes of one stream arrive in order or not at all. What does happen to a request is that its connection
//! breaks when all, a part or nothing of it has arrived, and that a copy of it comes through another connection later,
//! also after the original, or after its repetition by the client, has been answered: see `copies`.

mod copies;
mod pipe;
mod stream;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use glint_world::{BoxFuture, BoxStream, Listener};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use super::{Dice, End, Life, Trace, lock};
use copies::Recorder;
use pipe::Pipe;
use stream::Stream;

/// How much of the network fails.
#[derive(Clone, Debug)]
pub struct Weather {
    /// How long bytes are under way, in milliseconds.
    pub latency_ms: Range<u64>,
    /// How often a write is late, by up to a second.
    pub late: f64,
    /// How often a connection breaks at a write.
    pub breaks: f64,
    /// How often a request is copied, to arrive again later.
    pub copies: f64,
    /// How often a request is taken out of its connection, which breaks, to arrive later.
    pub strays: f64,
    /// How late copies are at most, in milliseconds.
    pub copy_delay_ms: u64,
}

impl Weather {
    /// Nothing fails.
    pub fn fair() -> Self {
        Self {
            latency_ms: 1..4,
            late: 0.0,
            breaks: 0.0,
            copies: 0.0,
            strays: 0.0,
            copy_delay_ms: 1,
        }
    }
}

/// The network. Cheap to clone; clones are one network.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Mutex<State>>,
    trace: Trace,
}

struct State {
    dice: Dice,
    weather: Weather,
    listeners: BTreeMap<String, Entry>,
    /// Pairs of hosts, in the order of their names, and until when nothing passes between them.
    cuts: BTreeMap<(String, String), Instant>,
    /// The same of pairs whose bytes take up to so much longer.
    lags: BTreeMap<(String, String), (Instant, Duration)>,
    /// Machines that stopped: nobody there even refuses a connection.
    dark: BTreeSet<String>,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    /// Copies that are under way.
    copies: u64,
}

struct Entry {
    id: u64,
    door: mpsc::UnboundedSender<(BoxStream, SocketAddr)>,
    life: Life,
}

/// A connection, as long as one of its ends lives.
struct Connection {
    hosts: [Arc<str>; 2],
    pipes: [Weak<Pipe>; 2],
}

fn pair(a: &str, b: &str) -> (String, String) {
    if a < b {
        (a.to_owned(), b.to_owned())
    } else {
        (b.to_owned(), a.to_owned())
    }
}

impl Network {
    /// A network without hosts.
    pub fn new(dice: Dice, weather: Weather, trace: Trace) -> Self {
        Self {
            shared: Arc::new(Mutex::new(State {
                dice,
                weather,
                listeners: BTreeMap::new(),
                cuts: BTreeMap::new(),
                lags: BTreeMap::new(),
                dark: BTreeSet::new(),
                connections: BTreeMap::new(),
                next: 0,
                copies: 0,
            })),
            trace,
        }
    }

    /// The network as a process on `host` has it.
    pub fn at(&self, host: &str, life: Life) -> Arc<dyn glint_world::Network> {
        Arc::new(Host {
            network: self.clone(),
            name: host.into(),
            life,
            is_copied: true,
        })
    }

    /// The same for somebody whose requests arrive once, if at all: nothing tells a late copy of what an admin asked for, and
    /// took back since, from asking for it again.
    pub fn without_copies_at(&self, host: &str, life: Life) -> Arc<dyn glint_world::Network> {
        Arc::new(Host {
            network: self.clone(),
            name: host.into(),
            life,
            is_copied: false,
        })
    }

    /// Another weather from now on.
    pub fn set_weather(&self, weather: Weather) {
        lock(&self.shared).weather = weather;
    }

    /// Lets nothing pass between two hosts for a while: what is sent meanwhile arrives afterwards.
    pub fn cut(&self, a: &str, b: &str, time: Duration) {
        let until = Instant::now() + time;
        lock(&self.shared).cuts.insert(pair(a, b), until);
    }

    /// Lets half of what two hosts send to each other for a while take up to `most` longer.
    pub fn lag(&self, a: &str, b: &str, time: Duration, most: Duration) {
        let until = Instant::now() + time;
        lock(&self.shared).lags.insert(pair(a, b), (until, most));
    }

    /// Every link is whole again, and what was half-open is found to be broken.
    pub fn mend(&self) {
        let pipes: Vec<Arc<Pipe>> = {
            let mut state = lock(&self.shared);
            state.cuts.clear();
            state.lags.clear();
            let all = state.connections.values();
            all.flat_map(|c| c.pipes.iter().filter_map(Weak::upgrade))
                .collect()
        };
        for pipe in pipes {
            pipe.end_silence();
        }
    }

    /// Breaks every connection between two hosts, or leaves it half-open: then neither side hears of it.
    pub fn sever(&self, a: &str, b: &str, half_open: bool) {
        let between = |c: &Connection| {
            (&*c.hosts[0] == a && &*c.hosts[1] == b) || (&*c.hosts[0] == b && &*c.hosts[1] == a)
        };
        self.harm(between, half_open);
    }

    /// A process has ended. The connections of a killed one are closed by its machine; those of a machine that stopped are
    /// half-open, or broken by whatever is between.
    pub fn ended(&self, host: &str, end: End) {
        let half_open = {
            let mut state = lock(&self.shared);
            state.listeners.retain(|_, entry| !entry.life.is_over());
            let half_open = end == End::Machine && state.dice.chance(0.5);
            if end == End::Machine {
                state.dark.insert(host.to_owned());
            }
            half_open
        };
        self.harm(|c| c.hosts.iter().any(|h| &**h == host), half_open);
    }

    /// How many copies of requests are still under way.
    pub fn copies(&self) -> u64 {
        lock(&self.shared).copies
    }

    fn harm(&self, which: impl Fn(&Connection) -> bool, half_open: bool) {
        let pipes: Vec<Arc<Pipe>> = {
            let mut state = lock(&self.shared);
            state
                .connections
                .retain(|_, c| c.pipes.iter().any(|p| p.strong_count() > 0));
            let harmed = state.connections.values().filter(|c| which(c));
            harmed
                .flat_map(|c| c.pipes.iter().filter_map(Weak::upgrade))
                .collect()
        };
        for pipe in pipes {
            if half_open {
                pipe.go_silent();
            } else {
                pipe.tear();
            }
        }
    }

    /// When bytes that are sent now arrive.
    fn arrival(&self, hosts: &[Arc<str>; 2]) -> Instant {
        let mut state = lock(&self.shared);
        let state = &mut *state;
        let mut delay = state.dice.millis(state.weather.latency_ms.clone());
        if state.dice.chance(state.weather.late) {
            delay += Duration::from_millis(state.dice.magnitude(1000));
        }
        let now = Instant::now();
        if !state.lags.is_empty()
            && let Some(&(until, most)) = state.lags.get(&pair(&hosts[0], &hosts[1]))
            && now < until
            && state.dice.chance(0.5)
        {
            delay += state.dice.millis(0..most.as_millis() as u64);
        }
        let healed = if state.cuts.is_empty() {
            now
        } else {
            let cut = state.cuts.get(&pair(&hosts[0], &hosts[1]));
            cut.copied().unwrap_or(now).max(now)
        };
        healed + delay
    }

    fn breaks(&self) -> bool {
        let mut state = lock(&self.shared);
        let often = state.weather.breaks;
        state.dice.chance(often)
    }

    fn dice(&self) -> Dice {
        let mut state = lock(&self.shared);
        let bits = state.dice.bits();
        Dice::new(bits)
    }

    /// Makes a connection and hands its far end to the listener at `address`; none when nobody listens there.
    fn join(
        &self,
        from: &Arc<str>,
        address: &str,
        life: Option<Life>,
        recorder: Option<Recorder>,
    ) -> Option<BoxStream> {
        let mut state = lock(&self.shared);
        let host = address.split(':').next().unwrap_or(address);
        let there = state.listeners.get(address)?;
        if there.life.is_over() {
            return None;
        }
        let hosts: [Arc<str>; 2] = [Arc::clone(from), host.into()];
        let (door, far_life) = (there.door.clone(), there.life.clone());
        state.next += 1;
        let id = state.next;
        let there = Pipe::new(self.clone(), hosts.clone(), recorder);
        let back = Pipe::new(self.clone(), hosts.clone(), None);
        let connection = Connection {
            hosts,
            pipes: [Arc::downgrade(&there), Arc::downgrade(&back)],
        };
        if state.connections.len() > 256 {
            state
                .connections
                .retain(|_, c| c.pipes.iter().any(|p| p.strong_count() > 0));
        }
        state.connections.insert(id, connection);
        drop(state);
        let near = Stream::new(Arc::clone(&back), Arc::clone(&there), life);
        let far = Stream::new(there, back, Some(far_life));
        let peer = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), (id % 60_000) as u16 + 1024));
        door.send((Box::new(far), peer)).ok()?;
        Some(Box::new(near))
    }
}

struct Host {
    network: Network,
    name: Arc<str>,
    life: Life,
    is_copied: bool,
}

impl glint_world::Network for Host {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let network = &self.network;
            let to: Arc<str> = address.split(':').next().unwrap_or(address).into();
            let hosts = [Arc::clone(&self.name), Arc::clone(&to)];
            sleep_until(network.arrival(&hosts)).await;
            let dark = lock(&network.shared).dark.contains(&*to);
            if dark {
                // Nobody answers; the caller has a limit of its own.
                sleep(Duration::from_secs(60)).await;
            }
            let recorder = Recorder::new(network, &self.name, address);
            let recorder = self.is_copied.then_some(recorder);
            let joined = network.join(&self.name, address, Some(self.life.clone()), recorder);
            let found = joined.is_some();
            let outcome = if found { "reaches" } else { "cannot reach" };
            network
                .trace
                .note(&self.name, format_args!("{outcome} {address}"));
            joined.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let mut state = lock(&self.network.shared);
        state.next += 1;
        let id = state.next;
        let port = address.rsplit(':').next().unwrap_or_default();
        let name = format!("{}:{port}", self.name);
        let (door, arrivals) = mpsc::unbounded_channel();
        let entry = Entry {
            id,
            door,
            life: self.life.clone(),
        };
        state.dark.remove(&*self.name);
        state.listeners.insert(name.clone(), entry);
        let listener = Door {
            network: self.network.clone(),
            name,
            id,
            arrivals,
        };
        Box::pin(std::future::ready(Ok(
            Box::new(listener) as Box<dyn Listener>
        )))
    }
}

struct Door {
    network: Network,
    name: String,
    id: u64,
    arrivals: mpsc::UnboundedReceiver<(BoxStream, SocketAddr)>,
}

impl Listener for Door {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            // The network has the other end as long as this listens.
            let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
            self.arrivals.recv().await.ok_or_else(gone)
        })
    }

    fn address(&self) -> io::Result<SocketAddr> {
        let port = self.name.rsplit(':').next().and_then(|p| p.parse().ok());
        Ok(SocketAddr::from((
            Ipv4Addr::new(10, 0, 0, 2),
            port.unwrap_or(0),
        )))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let mut state = lock(&self.network.shared);
        if state
            .listeners
            .get(&self.name)
            .is_some_and(|e| e.id == self.id)
        {
            state.listeners.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests;
