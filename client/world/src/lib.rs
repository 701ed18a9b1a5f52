//! What a Glint process takes from outside: network, clock, randomness, tasks and storage, gathered in a [`World`].
//!
//! Client, master and servers touch the machine only through this crate, so that the same code runs on real sockets and
//! files, and in a deterministic simulation where one seed decides everything. Timers are tokio's, which a simulation
//! drives itself.
//!
//! - [`network`]: connecting and listening
//! - [`clock`]: the time of day
//! - [`random`]: random numbers
//! - [`tasks`]: spawning, and the signal to end
//! - [`disk`]: files that are appended to
//! - [`storage`]: small files that are replaced as a whole
//! - [`http`]: HTTP/1.1 requests over a [`network::Network`]

pub mod clock;
pub mod disk;
pub mod http;
pub mod network;
pub mod random;
pub mod storage;
pub mod tasks;

use std::sync::Arc;

pub use clock::{Clock, SystemClock};
pub use disk::{DirectoryDisk, Disk, DiskFile, MemoryDisk};
pub use network::{BoxStream, Listener, Network, Tcp};
pub use random::Random;
pub use storage::{MemoryStorage, Storage};
pub use tasks::{Spawn, TokioTasks};
pub use tokio_util::sync::CancellationToken as Shutdown;

/// A future on the heap, as trait objects need it.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The outside of a process. Cheap to clone.
#[derive(Clone)]
pub struct World {
    /// Connects and listens.
    pub network: Arc<dyn Network>,
    /// Tells the time of day.
    pub clock: Arc<dyn Clock>,
    /// Gives random numbers.
    pub random: Random,
    /// Runs tasks.
    pub tasks: Arc<dyn Spawn>,
    /// This start of the operating system: what was handed to it, and not to the disk, lives as long.
    pub os_boot: u64,
}

impl World {
    /// The real one: TCP, the system's clock, a seed from the operating system, tokio's tasks.
    pub fn real() -> Self {
        Self {
            network: Arc::new(Tcp),
            clock: Arc::new(SystemClock),
            random: Random::from_system(),
            tasks: Arc::new(TokioTasks),
            os_boot: os_boot(),
        }
    }
}

/// The number of this start of the operating system; a random one, which makes each start of a process look like one of the
/// system, where the system does not tell.
fn os_boot() -> u64 {
    let told = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = told.chars().filter(char::is_ascii_hexdigit).collect();
    // Sixteen of the thirty-two digits of a random UUID, without those that are the same in all of them.
    let spread = digits.get(0..12).zip(digits.get(20..24));
    spread
        .and_then(|(a, b)| u64::from_str_radix(&format!("{a}{b}"), 16).ok())
        .unwrap_or_else(|| Random::from_system().bits())
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_operating_system_has_one_number_from_start_to_end() {
        assert_eq!(super::os_boot(), super::os_boot());
    }
}
