//! One process of a cluster, as far as a test needs one: tasks of its own that end all at once when it is killed.

use std::sync::{Arc, Mutex, PoisonError};

use glint_world::{BoxFuture, Shutdown, Spawn, World};
use tokio::task::{AbortHandle, JoinHandle};

/// Tasks that can be ended together, in the midst of what they do.
#[derive(Clone, Default)]
struct TaskGroup {
    state: Arc<Mutex<Group>>,
}

#[derive(Default)]
struct Group {
    killed: bool,
    tasks: Vec<AbortHandle>,
}

impl TaskGroup {
    fn kill(&self) {
        let mut group = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        group.killed = true;
        group.tasks.drain(..).for_each(|task| task.abort());
    }
}

impl Spawn for TaskGroup {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let mut group = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if group.killed {
            return;
        }
        if group.tasks.len() > 64 {
            group.tasks.retain(|task| !task.is_finished());
        }
        group.tasks.push(tokio::spawn(task).abort_handle());
    }
}

/// A master or server that runs in this process.
pub(crate) struct Process {
    tasks: TaskGroup,
    shutdown: Shutdown,
    main: JoinHandle<()>,
}

impl Process {
    /// Starts `main` in a world like `world`, with tasks of its own. The signal asks it to end in order.
    pub(crate) fn start<F>(world: &World, main: impl FnOnce(World, Shutdown) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (tasks, shutdown) = (TaskGroup::default(), Shutdown::new());
        let mut world = world.clone();
        world.tasks = Arc::new(tasks.clone());
        let main = tokio::spawn(main(world, shutdown.clone()));
        Self {
            tasks,
            shutdown,
            main,
        }
    }

    /// Asks it to end, as SIGTERM does, and waits until it has.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        if let Err(error) = self.main.await {
            assert!(!error.is_panic(), "a process panicked: {error}");
        }
        self.tasks.kill();
    }

    /// Ends it in the midst of what it does, as SIGKILL does.
    pub(crate) async fn kill(self) {
        self.main.abort();
        self.tasks.kill();
        let _ = self.main.await;
    }
}
