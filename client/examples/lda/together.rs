//! Several processes that train one model, each with a share of the documents: where they wait for each other, and what
//! they add up. Also a use of Glint: a vector whose first value counts who has arrived.

use std::time::Duration;

use anyhow::{Result, ensure};
use glint::{Client, Error, Vector};
use tokio::time::{Instant, sleep};

/// How long one process waits for another, which may start much later, and may be made again on another machine.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// The processes as one of them sees them.
pub(crate) struct Together {
    /// Which one this is: number 0 makes and deletes the models, and tells what came out.
    pub(crate) index: usize,
    /// How many there are.
    pub(crate) processes: usize,
    /// Arrivals, and then one value per sum; none for a process that is alone.
    board: Option<Vector<f64>>,
    arrivals: usize,
    sums: u64,
}

impl Together {
    /// Makes, or waits for, what they share; `sums` is how many sums there will be.
    pub(crate) async fn start(
        client: &Client,
        name: &str,
        index: usize,
        processes: usize,
        sums: u64,
    ) -> Result<Self> {
        ensure!(
            index < processes,
            "--process is 0 to {}, one less than --processes",
            processes - 1
        );
        let name = format!("{name}-together");
        let board = match (processes, index) {
            (1, _) => None,
            (_, 0) => Some(client.vector(&name, 1 + sums).create().await?),
            _ => Some(waiting_for(|| client.open_vector(&name)).await?),
        };
        Ok(Self {
            index,
            processes,
            board,
            arrivals: 0,
            sums: 0,
        })
    }

    /// Waits until all processes have come here.
    pub(crate) async fn arrive(&mut self) -> Result<()> {
        let Some(board) = &self.board else {
            return Ok(());
        };
        self.arrivals += 1;
        board.push(&[0], &[1.0]).await?;
        let all = (self.arrivals * self.processes) as f64;
        let started = Instant::now();
        while board.pull(&[0]).await?[0] < all {
            ensure!(
                started.elapsed() < PATIENCE,
                "the other processes have not come for {PATIENCE:?}"
            );
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Says that this process has come to its end; number 0 waits until all have.
    pub(crate) async fn leave(&mut self) -> Result<()> {
        match &self.board {
            Some(board) if self.index > 0 => Ok(board.push(&[0], &[1.0]).await?),
            _ => self.arrive().await,
        }
    }

    /// The sum of what all processes say; waits for all of them.
    pub(crate) async fn sum(&mut self, mine: f64) -> Result<f64> {
        self.sums += 1;
        let Some(board) = self.board.clone() else {
            return Ok(mine);
        };
        board.push(&[self.sums], &[mine]).await?;
        self.arrive().await?;
        Ok(board.pull(&[self.sums]).await?[0])
    }

    /// Deletes what was shared.
    pub(crate) async fn delete(&self, client: &Client) -> Result<()> {
        if let (Some(board), 0) = (&self.board, self.index) {
            client.delete(board.name()).await?;
        }
        Ok(())
    }
}

/// Opens a model that another process makes.
pub(crate) async fn waiting_for<T, F: Future<Output = glint::Result<T>>>(
    open: impl Fn() -> F,
) -> Result<T> {
    let started = Instant::now();
    loop {
        match open().await {
            Err(Error::UnknownModel { .. }) if started.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(100)).await;
            }
            other => return Ok(other?),
        }
    }
}
