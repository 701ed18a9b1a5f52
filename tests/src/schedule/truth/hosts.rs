//! What has happened to hosts and their disks, and what that may have taken with it.

use glint_protocol::Durability;
use tokio::time::Instant;

use super::{ASYNC_WINDOW, SLOW_WINDOW, Truth};
use crate::simulated::{End, Flip};

impl Truth {
    /// The start of a process, to be compared with what [`Self::has_served_since`].
    pub(in crate::schedule) fn started(&self) -> u64 {
        self.lock().tick()
    }

    /// Whether a server has answered what was asked after some time: then the master knows this start of it.
    pub(in crate::schedule) fn has_served_since(&self, host: &str, start: u64) -> bool {
        self.lock().served.get(host).is_some_and(|&at| at > start)
    }

    /// The master has lost its state, and is to adopt what servers hold.
    ///
    /// With it goes what it knew of their disks: one that was set back and that has not come to it since is believed.
    pub(in crate::schedule) fn master_lost(&self) {
        let mut known = self.lock();
        let order = known.tick();
        known.master_losses.push(order);
        let known = &mut *known;
        for (host, harmed) in &known.harms {
            if known.served.get(host).is_none_or(|served| served < harmed) {
                for model in known.models.values_mut() {
                    model.excuse(host, None);
                }
            }
        }
    }

    /// Whether the master has ever lost its state.
    pub(in crate::schedule) fn has_lost_master(&self) -> bool {
        !self.lock().master_losses.is_empty()
    }

    /// Whether a model was being deleted or reset when the master lost its state: the copies that are left of it may be those
    /// that had least.
    pub(in crate::schedule) fn was_cut_short(&self) -> bool {
        let known = self.lock();
        let mut models = known.models.values();
        models.any(|model| known.may_be_partial(model))
    }

    /// An admin gives up, for good, what no copy has for certain.
    pub(in crate::schedule) fn giving_up(&self) {
        let mut known = self.lock();
        known.given_up = known.tick();
    }

    /// The admin ends an adoption.
    pub(in crate::schedule) fn adopting(&self) {
        self.lock().adopting += 1;
    }

    /// An adoption has ended, without these servers; or it could not be ended.
    pub(in crate::schedule) fn adopted(&self, missing: Option<&[String]>) {
        for server in missing.into_iter().flatten() {
            self.damaged(server);
        }
        let mut known = self.lock();
        known.adopting -= 1;
        if missing.is_some() {
            known.adopted = known.tick();
        }
    }

    /// A process of a host has ended.
    pub(in crate::schedule) fn died(
        &self,
        host: &str,
        end: End,
        failed_sync: Option<Instant>,
        slow: bool,
    ) {
        let window = if slow { SLOW_WINDOW } else { ASYNC_WINDOW };
        let mut known = self.lock();
        let order = known.tick();
        known.deaths.entry(host.to_owned()).or_default().push(order);
        if end == End::Machine || failed_sync.is_some() {
            let last = (end == End::Machine).then(Instant::now);
            for model in known.models.values_mut() {
                if model.plan.durability == Durability::Async {
                    for at in [last, failed_sync].into_iter().flatten() {
                        model.excuse(host, at.checked_sub(window));
                    }
                }
            }
        }
    }

    /// The disk of a host was harmed, so that whatever is missing must be noticed.
    pub(in crate::schedule) fn damaged(&self, host: &str) {
        self.harmed(host, None);
    }

    /// A bit of a host's disk has flipped. Where a crash may leave damage as well, the log is cut there: what was acknowledged
    /// since then may be gone without a word. Anywhere else whatever is missing must be noticed.
    pub(in crate::schedule) fn flipped(&self, host: &str, flip: &Flip) {
        let unnoticed = !flip.settled && flip.file.starts_with("log-");
        self.harmed(host, unnoticed.then_some(flip.since));
    }

    /// The disk of a host was harmed; what was acknowledged since then, if anything, may be gone without a word.
    fn harmed(&self, host: &str, unnoticed: Option<Instant>) {
        let mut known = self.lock();
        let order = known.tick();
        known.harms.push((host.to_owned(), order));
        // A master that has lost its state, and has not heard of all servers since, does not know what they had.
        let lost = known.master_losses.last();
        let unknown = lost.is_some_and(|&lost| known.adopted < lost);
        for model in known.models.values_mut() {
            model.harmed.insert(host.to_owned());
            if let Some(since) = unnoticed {
                model.excuse(host, Some(since));
            }
            if unknown {
                model.excuse(host, None);
            }
        }
    }

    /// Whether the disk of a host was harmed.
    pub(in crate::schedule) fn is_damaged(&self, host: &str) -> bool {
        self.lock().harms.iter().any(|(harmed, _)| harmed == host)
    }
}
