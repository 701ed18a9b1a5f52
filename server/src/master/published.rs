//! The published state: readers see the newest one, and wake in the order in which they began to wait. (A channel that
//! wakes its readers in random order would do, but a simulation could not repeat what follows.)

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::state::State;

/// Publishes states. Readers learn when it is dropped.
#[derive(Debug)]
pub(crate) struct Publisher {
    shared: Arc<Shared>,
}

/// Reads the newest state.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
    seen: u64,
}

#[derive(Debug)]
struct Shared {
    current: Mutex<Current>,
    changed: Notify,
}

#[derive(Debug)]
struct Current {
    version: u64,
    state: Arc<State>,
    closed: bool,
}

impl Shared {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A publisher of `state` and its first reader.
pub(crate) fn publish(state: Arc<State>) -> (Publisher, Reader) {
    let shared = Arc::new(Shared {
        current: Mutex::new(Current {
            version: 0,
            state,
            closed: false,
        }),
        changed: Notify::new(),
    });
    let reader = Reader {
        shared: Arc::clone(&shared),
        seen: 0,
    };
    (Publisher { shared }, reader)
}

impl Publisher {
    /// The newest state.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.shared.current().state)
    }

    /// Replaces it.
    pub(crate) fn replace(&self, state: Arc<State>) {
        {
            let mut current = self.shared.current();
            current.state = state;
            current.version += 1;
        }
        self.shared.changed.notify_waiters();
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.current().closed = true;
        self.shared.changed.notify_waiters();
    }
}

impl Reader {
    /// The newest state.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.shared.current().state)
    }

    /// The newest state, which from now on is seen.
    pub(crate) fn see(&mut self) -> Arc<State> {
        let current = self.shared.current();
        self.seen = current.version;
        Arc::clone(&current.state)
    }

    /// Whether there is a state that was not seen.
    pub(crate) fn is_behind(&self) -> bool {
        self.shared.current().version != self.seen
    }

    /// Waits for a state that was not seen; false when none will come.
    pub(crate) async fn changed(&self) -> bool {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            {
                let current = self.shared.current();
                if current.version != self.seen {
                    return true;
                }
                if current.closed {
                    return false;
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use glint_protocol::{ClusterId, ids::Revision};

    use super::*;

    fn state(revision: u64) -> Arc<State> {
        let mut state = State::new(ClusterId(1));
        state.revision = Revision(revision);
        Arc::new(state)
    }

    #[tokio::test(start_paused = true)]
    async fn readers_wake_in_the_order_in_which_they_began_to_wait_and_see_the_newest() {
        let (publisher, reader) = publish(state(0));
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..20 {
            let (mut reader, order) = (reader.clone(), Arc::clone(&order));
            tasks.spawn(async move {
                assert!(reader.changed().await);
                assert_eq!(reader.see().revision, Revision(2));
                order.lock().unwrap().push(index);
                assert!(!reader.changed().await, "the publisher is gone");
            });
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        publisher.replace(state(1));
        publisher.replace(state(2));
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        drop(publisher);
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
        assert_eq!(reader.state().revision, Revision(2));
    }
}
