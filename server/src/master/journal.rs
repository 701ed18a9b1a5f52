//! Makes changes of the state durable, and only then visible: one task writes, everyone else asks it.
//!
//! Changes that gather while one write is under way are written together by the next. A change whose writing fails did
//! not happen: the state that is published, and the counters it draws from, stay as they were. A sync that fails is
//! another matter: nobody knows what the disk has, and asking it again would be answered as if all were well. Then the
//! master ends, and begins again from what its disk gives back.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use glint_protocol::{ErrorBody, ErrorCode};
use glint_world::{Shutdown, disk::is_unsynced};
use tokio::sync::{mpsc, oneshot};

use super::{
    file,
    published::{Publisher, Reader, publish},
    register::{NotSwapped, Register, Version},
    state::State,
};

/// Changes that may wait to be written; whoever brings another waits for room.
const QUEUE: usize = 1024;

/// The way to the state. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Journal {
    queue: mpsc::Sender<Box<dyn Change>>,
    published: Reader,
    broken: Broken,
}

/// Whether the master must end: the disk has failed, or another master has taken over.
#[derive(Clone, Default)]
pub(crate) struct Broken {
    error: Arc<OnceLock<io::Error>>,
    signal: Shutdown,
}

impl Broken {
    /// Waits until it has; for ever, if it does not.
    pub(crate) async fn wait(&self) -> String {
        self.signal.cancelled().await;
        self.error
            .get()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// Why it has, if it has.
    pub(crate) fn error(&self) -> Option<String> {
        self.error.get().map(ToString::to_string)
    }

    fn set(&self, error: io::Error) {
        let _ = self.error.set(error);
        self.signal.cancel();
    }
}

/// The writing side.
pub(crate) struct Writer {
    register: Arc<dyn Register>,
    /// Of the value that is published.
    version: Version,
    queue: mpsc::Receiver<Box<dyn Change>>,
    published: Publisher,
    broken: Broken,
}

/// One change with whoever waits for it.
trait Change: Send {
    /// Applies it; the state is untouched when it answers with an error.
    fn apply(&mut self, state: &mut State);
    /// Tells its asker: what it answered itself, or why it could not be written.
    fn settle(self: Box<Self>, written: Result<(), ErrorBody>);
}

struct Asked<T, F> {
    change: Option<F>,
    answer: Option<Result<T, ErrorBody>>,
    asker: oneshot::Sender<Result<T, ErrorBody>>,
}

impl<T, F> Change for Asked<T, F>
where
    T: Send,
    F: FnOnce(&mut State) -> Result<T, ErrorBody> + Send,
{
    fn apply(&mut self, state: &mut State) {
        let Some(change) = self.change.take() else {
            return;
        };
        let mut attempt = state.clone();
        let answer = change(&mut attempt);
        if answer.is_ok() {
            *state = attempt;
        }
        self.answer = Some(answer);
    }

    fn settle(self: Box<Self>, written: Result<(), ErrorBody>) {
        let Some(answer) = self.answer else { return };
        // An asker that has gone (its connection broke) asks again and finds what was done.
        let _ = self.asker.send(match written {
            Ok(()) => answer,
            Err(error) => answer.and(Err(error)),
        });
    }
}

/// A journal that begins with `state`, which the register has at this version.
pub(crate) fn open(
    register: Arc<dyn Register>,
    version: Version,
    state: State,
) -> (Journal, Writer) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let (published, reader) = publish(Arc::new(state));
    let broken = Broken::default();
    let journal = Journal {
        queue: sender,
        published: reader,
        broken: broken.clone(),
    };
    let writer = Writer {
        register,
        version,
        queue,
        published,
        broken,
    };
    (journal, writer)
}

impl Journal {
    /// What is durable now.
    pub(crate) fn state(&self) -> Arc<State> {
        self.published.state()
    }

    /// Whether the disk has failed for good.
    pub(crate) fn broken(&self) -> &Broken {
        &self.broken
    }

    /// Tells of every durable change.
    pub(crate) fn watch(&self) -> Reader {
        self.published.clone()
    }

    /// Changes the state; when it returns, the change is durable and published. When the future is dropped, the change
    /// may happen or not, as a whole.
    ///
    /// # Errors
    /// Those of `change`, `storage_failed` when it could not be written, `retry` when the master is about to end.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, ErrorBody> + Send + 'static,
    ) -> Result<T, ErrorBody> {
        let (asker, answer) = oneshot::channel();
        let asked = Asked {
            change: Some(change),
            answer: None,
            asker,
        };
        let ending = || ErrorBody::new(ErrorCode::Retry, "the master is about to end; try again");
        self.queue
            .send(Box::new(asked))
            .await
            .map_err(|_| ending())?;
        answer.await.unwrap_or_else(|_| Err(ending()))
    }
}

impl Writer {
    /// Writes what it is asked to until `shutdown`, what was asked before included, or until a sync fails.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        loop {
            let first = tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    // No more is taken; what is in the queue is the last.
                    self.queue.close();
                    self.queue.recv().await
                }
                first = self.queue.recv() => first,
            };
            let Some(first) = first else { return };
            let mut changes = vec![first];
            while changes.len() < QUEUE
                && let Ok(next) = self.queue.try_recv()
            {
                changes.push(next);
            }
            self.write(changes).await;
            if self.broken.signal.is_cancelled() {
                return;
            }
        }
    }

    async fn write(&mut self, mut changes: Vec<Box<dyn Change>>) {
        let before = self.published.state();
        let mut state = State::clone(&before);
        for change in &mut changes {
            change.apply(&mut state);
        }
        let written = if state == *before {
            Ok(())
        } else {
            match store(&*self.register, self.version, &state).await {
                Ok(version) => {
                    self.version = version;
                    self.published.replace(Arc::new(state));
                    Ok(())
                }
                Err(failed) => {
                    let told = failed.told();
                    match failed {
                        Failed::Disk(error) if is_unsynced(&error) => {
                            tracing::error!(%error, "the master ends: nobody knows what its disk has; start it again");
                            self.broken.set(error);
                        }
                        Failed::Overtaken => {
                            tracing::error!("the master ends: another has changed its state");
                            self.broken.set(io::Error::other(NotSwapped::Overtaken));
                        }
                        Failed::Disk(_) | Failed::Encode(_) => {}
                    }
                    Err(told)
                }
            }
        };
        for change in changes {
            change.settle(written.clone());
        }
    }
}

/// Why a state could not be written.
#[derive(Debug)]
pub(crate) enum Failed {
    Encode(serde_json::Error),
    Disk(io::Error),
    Overtaken,
}

impl Failed {
    /// What whoever asked is told.
    pub(crate) fn told(&self) -> ErrorBody {
        let (error, outcome): (&dyn std::fmt::Display, _) = match self {
            Self::Overtaken => {
                return ErrorBody::new(
                    ErrorCode::Retry,
                    "another master has taken over, and this one is about to end; nothing was changed, try again",
                );
            }
            Self::Disk(error) if is_unsynced(error) => (
                error,
                "it ends, and knows after its restart whether it was done",
            ),
            Self::Disk(error) => (error, "nothing was changed"),
            Self::Encode(error) => (error, "nothing was changed"),
        };
        tracing::error!(%error, "the master's state cannot be written; what was asked is refused");
        ErrorBody::new(
            ErrorCode::StorageFailed,
            format!(
                "the master cannot write its state ({error}); {outcome}: mend its data directory, then try again"
            ),
        )
    }
}

/// Writes a state as a whole, in the place of the one that has this version.
pub(crate) async fn store(
    register: &dyn Register,
    seen: Version,
    state: &State,
) -> Result<Version, Failed> {
    let bytes = file::encode(state).map_err(Failed::Encode)?;
    let swapped = register.swap(seen, bytes).await;
    swapped.map_err(|error| match error {
        NotSwapped::Overtaken => Failed::Overtaken,
        NotSwapped::Disk(error) => Failed::Disk(error),
    })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use glint_protocol::Epoch;
    use glint_world::{MemoryStorage, Storage, TokioTasks};

    use super::*;
    use crate::master::{
        register::FileRegister,
        testing::{self, FaultyStorage},
    };

    fn start(storage: Arc<dyn Storage>) -> (Journal, Shutdown) {
        start_on(Arc::new(FileRegister::new(storage, file::NAME)))
    }

    fn start_on(register: Arc<dyn Register>) -> (Journal, Shutdown) {
        let seen = register.read().now_or_never();
        let (version, _) = seen.expect("a read takes no time").unwrap();
        let (journal, writer) = open(register, version, testing::state_with_servers(1));
        let shutdown = Shutdown::new();
        glint_world::Spawn::spawn(&TokioTasks, Box::pin(writer.run(shutdown.clone())));
        (journal, shutdown)
    }

    #[allow(clippy::unnecessary_wraps, reason = "a change may refuse")]
    fn raise(state: &mut State) -> Result<Epoch, ErrorBody> {
        Ok(state.fresh_epoch())
    }

    async fn on_disk(storage: &dyn Storage) -> Option<State> {
        let bytes = storage.load(file::NAME).await.unwrap()?;
        Some(file::decode(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_change_is_on_disk_before_it_is_answered_or_seen() {
        let storage = Arc::new(FaultyStorage::default());
        let (journal, _shutdown) = start(storage.clone());
        let mut watch = journal.watch();
        let gate = storage.hold();
        let waiting = tokio::spawn({
            let journal = journal.clone();
            async move { journal.change(raise).await }
        });
        storage.reached().await;
        assert_eq!(watch.changed().now_or_never(), None);
        assert!(!waiting.is_finished());
        drop(gate);
        assert_eq!(waiting.await.unwrap().unwrap(), Epoch(1));
        assert_eq!(watch.changed().now_or_never(), Some(true));
        assert_eq!(watch.see(), journal.state());
        assert_eq!(on_disk(&*storage).await.unwrap(), *journal.state());
    }

    #[tokio::test]
    async fn a_change_that_cannot_be_written_did_not_happen() {
        let storage = Arc::new(FaultyStorage::default());
        let (journal, _shutdown) = start(storage.clone());
        storage.fail_next(1);
        let error = journal.change(raise).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::StorageFailed);
        assert!(
            error.message.contains("data directory"),
            "{}",
            error.message
        );
        assert_eq!(journal.state().epoch, Epoch(0));
        assert_eq!(journal.change(raise).await.unwrap(), Epoch(1));
    }

    #[tokio::test]
    async fn a_master_whose_state_another_has_changed_decides_nothing_more_and_ends() {
        let storage = Arc::new(MemoryStorage::default());
        let register = Arc::new(FileRegister::new(storage.clone(), file::NAME));
        let (first, _one) = start_on(register.clone());
        let (second, _two) = start_on(register);
        assert_eq!(first.change(raise).await.unwrap(), Epoch(1));
        let error = second.change(raise).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Retry);
        assert!(second.broken().error().is_some());
        assert_eq!(second.state().epoch, Epoch(0));
        assert_eq!(first.change(raise).await.unwrap(), Epoch(2));
        assert_eq!(on_disk(&*storage).await.unwrap().epoch, Epoch(2));
    }

    #[tokio::test]
    async fn a_refused_change_leaves_nothing_and_is_not_written() {
        let storage = Arc::new(MemoryStorage::default());
        let (journal, _shutdown) = start(storage.clone());
        let refused = journal
            .change(|state| {
                state.fresh_epoch();
                Err::<(), _>(ErrorBody::new(ErrorCode::Busy, "no"))
            })
            .await;
        assert_eq!(refused.unwrap_err().code, ErrorCode::Busy);
        assert_eq!(journal.state().epoch, Epoch(0));
        assert_eq!(on_disk(&*storage).await, None);
    }

    #[tokio::test]
    async fn changes_that_gather_are_written_together() {
        let storage = Arc::new(FaultyStorage::default());
        let (journal, _shutdown) = start(storage.clone());
        let gate = storage.hold();
        let asked: Vec<_> = (0..50)
            .map(|_| {
                let journal = journal.clone();
                tokio::spawn(async move { journal.change(raise).await.unwrap() })
            })
            .collect();
        storage.reached().await;
        tokio::task::yield_now().await;
        drop(gate);
        let mut epochs = Vec::new();
        for asked in asked {
            epochs.push(asked.await.unwrap());
        }
        epochs.sort_unstable();
        assert_eq!(epochs, (1..=50).map(Epoch).collect::<Vec<_>>());
        assert!(storage.writes() <= 3, "{} writes", storage.writes());
    }

    #[tokio::test]
    async fn what_was_asked_before_the_end_is_written_and_what_comes_after_is_told() {
        let storage = Arc::new(MemoryStorage::default());
        let (journal, shutdown) = start(storage.clone());
        assert_eq!(journal.change(raise).await.unwrap(), Epoch(1));
        shutdown.cancel();
        tokio::task::yield_now().await;
        let late = journal.change(raise).await.unwrap_err();
        assert_eq!(late.code, ErrorCode::Retry);
        assert_eq!(on_disk(&*storage).await.unwrap().epoch, Epoch(1));
    }
}
