//! One start of a process: the tasks that it runs, and its end, which may come between any two polls, in the middle of a
//! write, or together with its machine.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use glint_world::{BoxFuture, Spawn};
use tokio::task::AbortHandle;

use super::lock;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process is killed; its machine goes on, with all that was handed to it.
    Process,
    /// The machine stops: what was not synced may be gone.
    Machine,
}

/// When a process is to end.
#[derive(Clone, Copy, Debug)]
pub enum Doom {
    /// After so many more polls of its tasks.
    Polls(u64),
    /// At the so many-th operation on its disk from now on, perhaps in the middle of it.
    Writes(u64),
}

type Farewell = Box<dyn FnOnce(End) + Send>;

struct Shared {
    dead: AtomicBool,
    polls: AtomicU64,
    writes: AtomicU64,
    last_poll: AtomicU64,
    last_write: AtomicU64,
    by_machine: AtomicBool,
    next_task: AtomicU64,
    tasks: Mutex<BTreeMap<u64, AbortHandle>>,
    farewell: Mutex<Option<Farewell>>,
}

/// One start of a process. Cheap to clone.
#[derive(Clone)]
pub struct Life {
    shared: Arc<Shared>,
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life")
            .field("dead", &self.is_over())
            .finish_non_exhaustive()
    }
}

impl Life {
    /// A process that starts now. `farewell` is called at the very instant of its end.
    pub fn new(farewell: impl FnOnce(End) + Send + 'static) -> Self {
        Self {
            shared: Arc::new(Shared {
                dead: AtomicBool::new(false),
                polls: AtomicU64::new(0),
                writes: AtomicU64::new(0),
                last_poll: AtomicU64::new(u64::MAX),
                last_write: AtomicU64::new(u64::MAX),
                by_machine: AtomicBool::new(false),
                next_task: AtomicU64::new(0),
                tasks: Mutex::default(),
                farewell: Mutex::new(Some(Box::new(farewell))),
            }),
        }
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.shared.dead.load(Ordering::Relaxed)
    }

    /// Lets it end later. The last doom holds.
    pub fn doom(&self, doom: Doom, end: End) {
        let shared = &self.shared;
        shared
            .by_machine
            .store(end == End::Machine, Ordering::Relaxed);
        match doom {
            Doom::Polls(more) => {
                let at = shared.polls.load(Ordering::Relaxed) + more;
                shared.last_poll.store(at, Ordering::Relaxed);
            }
            Doom::Writes(more) => {
                let at = shared.writes.load(Ordering::Relaxed) + more.max(1);
                shared.last_write.store(at, Ordering::Relaxed);
            }
        }
    }

    /// Takes back what [`Self::doom`] said.
    pub fn spare(&self) {
        self.shared.last_poll.store(u64::MAX, Ordering::Relaxed);
        self.shared.last_write.store(u64::MAX, Ordering::Relaxed);
    }

    /// Ends it now: none of its tasks is polled again.
    pub fn end(&self, end: End) {
        let shared = &self.shared;
        if shared.dead.swap(true, Ordering::Relaxed) {
            return;
        }
        let farewell = lock(&shared.farewell).take();
        if let Some(farewell) = farewell {
            farewell(end);
        }
        let tasks = std::mem::take(&mut *lock(&shared.tasks));
        for task in tasks.values() {
            task.abort();
        }
    }

    fn doomed(&self) -> End {
        if self.shared.by_machine.load(Ordering::Relaxed) {
            End::Machine
        } else {
            End::Process
        }
    }

    /// An operation on the disk begins: whether it is the one that the process does not survive. Whoever is told so does a
    /// part of it and calls [`Self::perish`].
    pub(super) fn is_last_write(&self) -> bool {
        let shared = &self.shared;
        let write = shared.writes.fetch_add(1, Ordering::Relaxed) + 1;
        write >= shared.last_write.load(Ordering::Relaxed)
    }

    /// Ends it as [`Self::doom`] said.
    pub(super) fn perish(&self) {
        self.end(self.doomed());
    }
}

impl Spawn for Life {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if self.is_over() {
            return;
        }
        let id = self.shared.next_task.fetch_add(1, Ordering::Relaxed);
        let tracked = Tracked {
            life: self.clone(),
            id,
            task,
        };
        // Registered before it can run: the runtime has one thread, which is busy here.
        let handle = tokio::spawn(tracked).abort_handle();
        lock(&self.shared.tasks).insert(id, handle);
    }
}

struct Tracked {
    life: Life,
    id: u64,
    task: BoxFuture<'static, ()>,
}

impl Future for Tracked {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.life.shared);
        let poll = shared.polls.fetch_add(1, Ordering::Relaxed);
        if poll >= shared.last_poll.load(Ordering::Relaxed) {
            self.life.perish();
        }
        if self.life.is_over() {
            return Poll::Ready(());
        }
        let polled = self.task.as_mut().poll(context);
        if polled.is_ready() {
            lock(&shared.tasks).remove(&self.id);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_doomed_process_ends_between_two_polls_and_none_of_its_tasks_runs_again() {
        for last in 0..20 {
            let steps = Arc::new(AtomicU64::new(0));
            let ended = Arc::new(Mutex::new(None));
            let told = Arc::clone(&ended);
            let life = Life::new(move |end| *lock(&told) = Some(end));
            for _ in 0..3 {
                let steps = Arc::clone(&steps);
                life.spawn(Box::pin(async move {
                    loop {
                        steps.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                }));
            }
            life.doom(Doom::Polls(last), End::Machine);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(life.is_over());
            assert_eq!(*lock(&ended), Some(End::Machine));
            assert_eq!(steps.load(Ordering::Relaxed), last);
        }
    }
}
