//! The outside of processes in a simulation, all of it decided by one seed: a network that loses, delays, cuts and repeats,
//! disks that tear and forget, clocks that jump, processes that end at any await.
//!
//! Everything runs in one current-thread runtime with paused time: when every task waits, time jumps to the next event. So
//! nothing costs real time but what the processes do, and one seed gives one run, to the byte.
//!
//! - [`Dice`]: the numbers that decide
//! - [`Trace`]: what happened, in order
//! - [`Network`]: streams of bytes between named hosts
//! - [`Disk`]: files, and what a crash leaves of them
//! - [`Life`]: one start of a process, and its end at any instant
//! - [`Clock`]: the time of day as one host sees it

mod clock;
mod dice;
mod disk;
mod life;
mod network;
mod trace;

pub use clock::Clock;
pub use dice::Dice;
pub use disk::{Copy, Disk, Flip, Trouble};
pub use life::{Doom, End, Life};
pub use network::{Network, Weather};
pub use trace::Trace;

use std::sync::{Mutex, MutexGuard, PoisonError};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
