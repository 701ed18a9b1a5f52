//! What goes wrong between hosts.

use std::time::Duration;

use super::{Fault, Faults};
use crate::schedule::cluster::{MASTER, Role};

impl Faults {
    /// Two hosts that are to have trouble with each other; servers among themselves only where they have to do with each other.
    fn two_hosts(&mut self) -> (String, String) {
        let servers = self.cluster.names(Role::Server);
        let clients = self.cluster.names(Role::Client);
        let server = self.dice.pick(&servers).clone();
        let client = self.dice.pick(&clients).clone();
        let others: Vec<&String> = servers.iter().filter(|other| **other != server).collect();
        if self.cluster.plan.copied && !others.is_empty() && self.dice.chance(0.4) {
            let other = (*self.dice.pick(&others)).clone();
            return (server, other);
        }
        match self.dice.weighted(&[1, 2, 4]) {
            0 => (client, MASTER.to_owned()),
            1 => (server, MASTER.to_owned()),
            _ => (client, server),
        }
    }

    pub(super) fn between_hosts(&mut self, fault: Fault) {
        let (a, b) = self.two_hosts();
        if fault == Fault::Cut {
            let time = Duration::from_millis(self.dice.magnitude(2500));
            self.note(format_args!("{a} and {b} are cut off for {time:?}"));
            self.cluster.network.cut(&a, &b, time);
        } else {
            let half_open = self.dice.chance(0.5);
            let how = if half_open { "fall silent" } else { "break" };
            self.note(format_args!("connections of {a} and {b} {how}"));
            self.cluster.network.sever(&a, &b, half_open);
        }
    }

    /// A server that only clients reach: it may believe for a while that it is still the holder of what others hold now, and
    /// what it has sent to them arrives when it is not any more.
    pub(super) fn isolate(&mut self) {
        let servers = self.cluster.names(Role::Server);
        let server = self.dice.pick(&servers).clone();
        let suspicion = self.cluster.plan.pulse.suspicion_ms;
        // Often it ends just when the others have gone on without it: what is late then fits best behind what they have.
        let time = if self.dice.chance(0.6) {
            self.dice.millis(suspicion..suspicion * 5 / 2)
        } else {
            self.dice.millis(200..3000)
        };
        self.note(format_args!(
            "{server} is cut off from all but clients for {time:?}"
        ));
        let others = servers.into_iter().chain([MASTER.to_owned()]);
        for other in others.filter(|other| *other != server) {
            self.cluster.network.cut(&server, &other, time);
        }
    }

    /// Two servers whose messages to each other take longer, each as long as it happens to.
    pub(super) fn lag(&mut self) {
        let servers = self.cluster.names(Role::Server);
        let at = self.dice.below(servers.len() as u64 - 1) as usize;
        let other = at + 1 + self.dice.below((servers.len() - at - 1) as u64) as usize;
        let time = self.dice.millis(200..3000);
        let most = Duration::from_millis(self.dice.magnitude(600));
        let (a, b) = (&servers[at], &servers[other]);
        self.note(format_args!(
            "messages of {a} and {b} take up to {most:?} for {time:?}"
        ));
        self.cluster.network.lag(a, b, time, most);
    }
}
