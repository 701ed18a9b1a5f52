//! Everything that may differ: servers, their copies, the master's register, what is under way, what clients know.

use crate::{
    copy::Copy,
    message::{Message, Push},
    scenario::{Counts, Durability, NOTHING, Scenario},
    set::Set,
};

/// Servers at most.
pub(crate) const SERVERS: usize = 3;
/// A restarted server does not know whom it has promised what.
pub(crate) const UNKNOWN: u8 = u8::MAX;
/// Partitions at most.
pub(crate) const PARTITIONS: usize = 2;

/// A partition's configuration: one record at the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Configuration {
    pub(crate) incarnation: u8,
    pub(crate) epoch: u8,
    pub(crate) revision: u8,
    pub(crate) holder: u8,
    /// The in-sync set, the holder included.
    pub(crate) set: Set,
    /// Of each member, the identity under which it is one.
    pub(crate) identities: [u8; SERVERS],
}

/// A process, and the machine it runs on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) up: bool,
    /// Rises at each start.
    pub(crate) boot: u8,
    /// What its acknowledgements survive: another one means that they did not.
    pub(crate) identity: u8,
}

/// What one server keeps of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Site {
    pub(crate) memory: Option<Copy>,
    pub(crate) disk: Option<Copy>,
    /// Copies below this epoch were dropped here and may not come back.
    pub(crate) floor: u8,
    pub(crate) floor_on_disk: u8,
    /// The epoch of the holder that this server last promised not to serve; 0 if it knows of no promise.
    pub(crate) promised: u8,
    /// This process has heard that the holder of this epoch, and so every one before, has ceased to serve.
    pub(crate) yielded: u8,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Partition {
    pub(crate) sites: Vec<Site>,
    /// What the master has decided.
    pub(crate) decided: Configuration,
    /// What is on its disk, and so what it tells.
    pub(crate) durable: Configuration,
    /// The next epoch or revision: one counter for both, never reused.
    pub(crate) next: u8,
    pub(crate) next_durable: u8,
    /// Messages that were ever sent and still mean something. Each may come at any time, again and again, or never.
    pub(crate) net: Vec<Message>,
    /// Pushes that were ever sent: the same.
    pub(crate) sent: Vec<Push>,
    pub(crate) history: History,
}

/// What an observer who sees everything remembers of a partition; nobody decides by it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something that must never have happened"
)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    /// What clients were told.
    pub(crate) told: Vec<Told>,
    /// The newest incarnation that served.
    pub(crate) served: u8,
    /// An incarnation acknowledged after a newer one had served.
    pub(crate) dead_incarnation_acknowledged: bool,
    /// A copy acknowledged a lane's push though it lacked an earlier one that was acknowledged.
    pub(crate) silent_gap: bool,
    /// A holder found by `prev` that it had lost something: the partition is lost.
    pub(crate) accused: bool,
    /// Which copies ever had which push, where `minInSync` matters.
    pub(crate) held: Vec<Held>,
    /// An acknowledgement had fewer copies than `minInSync`.
    pub(crate) too_few_copies: bool,
    pub(crate) checkpoint: Option<Checkpoint>,
}

/// That a client was told how a push ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Told {
    pub(crate) id: u8,
    pub(crate) incarnation: u8,
    pub(crate) lane: u8,
    pub(crate) number: u8,
    /// Certainly not applied; else applied.
    pub(crate) skipped: bool,
}

/// That a copy once had a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Held {
    pub(crate) id: u8,
    pub(crate) server: u8,
    pub(crate) identity: u8,
}

/// A checkpoint that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checkpoint {
    pub(crate) epoch: u8,
    pub(crate) position: u8,
    /// What had been acknowledged when it was asked for.
    pub(crate) before: Vec<Told>,
    pub(crate) done: bool,
    pub(crate) lacks_something: bool,
}

/// A client with one lane at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) incarnation: u8,
    pub(crate) lane: u8,
    /// The last number it gave.
    pub(crate) number: u8,
    /// Requests that it has begun.
    pub(crate) begun: u8,
    /// Groups that have not settled, each with its partition.
    pub(crate) open: Vec<(u8, Push)>,
    /// Per partition, what its lane was last acknowledged for.
    pub(crate) acknowledged: [Acknowledged; PARTITIONS],
}

/// The last number that a lane was acknowledged for at a partition, and the epoch of who did it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Acknowledged {
    pub(crate) number: u8,
    pub(crate) epoch: u8,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) servers: Vec<Server>,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) clients: Vec<Client>,
    /// An older state of a server's disk: the server, and its copy of each partition.
    pub(crate) backup: Option<(u8, Vec<Option<Copy>>)>,
    pub(crate) used: Counts,
}

impl Partition {
    pub(crate) fn site(&self, server: u8) -> &Site {
        &self.sites[server as usize]
    }

    pub(crate) fn site_mut(&mut self, server: u8) -> &mut Site {
        &mut self.sites[server as usize]
    }

    pub(crate) fn copy(&self, server: u8) -> Option<&Copy> {
        self.site(server).memory.as_ref()
    }

    pub(crate) fn copy_mut(&mut self, server: u8) -> Option<&mut Copy> {
        self.site_mut(server).memory.as_mut()
    }

    pub(crate) fn send(&mut self, message: Message) {
        insert(&mut self.net, message);
    }

    /// Updates that were acknowledged in an incarnation.
    pub(crate) fn acknowledged(&self, incarnation: u8) -> impl Iterator<Item = u8> {
        self.told(incarnation, false)
    }

    /// Updates of which a client was told that they are certainly not applied.
    pub(crate) fn skipped(&self, incarnation: u8) -> impl Iterator<Item = u8> {
        self.told(incarnation, true)
    }

    fn told(&self, incarnation: u8, skipped: bool) -> impl Iterator<Item = u8> {
        let told = self.history.told.iter();
        told.filter(move |t| t.incarnation == incarnation && t.skipped == skipped)
            .map(|t| t.id)
    }
}

impl State {
    pub(crate) fn server(&self, server: u8) -> &Server {
        &self.servers[server as usize]
    }

    pub(crate) fn partition(&self, partition: u8) -> &Partition {
        &self.partitions[partition as usize]
    }

    pub(crate) fn partition_mut(&mut self, partition: u8) -> &mut Partition {
        &mut self.partitions[partition as usize]
    }
}

/// Into a sorted list, once: so that the order in which things were sent makes no difference.
pub(crate) fn insert<T: Ord>(list: &mut Vec<T>, item: T) {
    if let Err(place) = list.binary_search(&item) {
        list.insert(place, item);
    }
}

fn first_report(from: u8) -> Message {
    Message::Have {
        from,
        epoch: 1,
        session: 1,
        length: 0,
    }
}

impl Scenario {
    /// Everything up and in sync.
    pub(crate) fn beginning(&self) -> State {
        let servers = (0..self.servers)
            .map(|_| Server {
                up: true,
                boot: 1,
                identity: 1,
            })
            .collect();
        let partitions = self.holders.iter().map(|&h| self.first_copies(h));
        let clients = (0..self.clients).map(|client| Client {
            incarnation: 1,
            lane: crate::client::first_lane(client),
            number: 0,
            begun: 0,
            open: Vec::new(),
            acknowledged: [Acknowledged::default(); PARTITIONS],
        });
        State {
            servers,
            partitions: partitions.collect(),
            clients: clients.collect(),
            backup: None,
            used: NOTHING,
        }
    }

    fn first_copies(&self, holder: u8) -> Partition {
        let set = self.in_sync.with(holder);
        let first = Configuration {
            incarnation: 1,
            epoch: 1,
            revision: 1,
            holder,
            set,
            identities: [1; SERVERS],
        };
        let site = |server| {
            let memory = if server == holder {
                Some(Copy::serving_from_the_start(first))
            } else {
                set.has(server).then(|| Copy::follower(1, 1, 1, Vec::new()))
            };
            let on_disk = self.durability == Durability::Sync;
            Site {
                disk: memory.clone().filter(|_| on_disk).map(Copy::at_rest),
                memory,
                floor: 0,
                floor_on_disk: 0,
                promised: u8::from(set.has(server) && server != holder),
                yielded: 0,
            }
        };
        Partition {
            sites: (0..self.servers).map(site).collect(),
            decided: first,
            durable: first,
            next: 2,
            next_durable: 2,
            // Its first followers have reported that they have all of an empty log.
            net: set.without(holder).members().map(first_report).collect(),
            sent: Vec::new(),
            history: History {
                served: 1,
                ..History::default()
            },
        }
    }
}
