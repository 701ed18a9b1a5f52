//! Running tasks beside the caller.

use crate::BoxFuture;

/// Starts tasks. Whoever spawns keeps a way to learn of the task's end (a channel, a tracker): no task is lost sight of.
pub trait Spawn: Send + Sync {
    /// Runs a future to its end beside the caller.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

/// Tasks of the tokio runtime that the caller is in.
#[derive(Clone, Copy, Debug)]
pub struct TokioTasks;

impl Spawn for TokioTasks {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}
