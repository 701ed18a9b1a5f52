//! Copies of partitions: how followers get what their holder has, who may answer, and how a follower takes over.
//!
//! Moving a partition is the same: a follower is attached, added to the in-sync set, promoted. The holder speaks to each server
//! that follows it over a [`peer`]; what it says is in [`wire`].
//!
//! - `held`: what the lock of a slot guards: the partition, its role here, its followers
//! - `answering`: whether a holder may answer now (its lease, and the wait after a promotion)
//! - `tail`: its last records, for followers that lack only these
//! - `configure`: obeying the master: promoted, deposed, given other followers
//! - `peer`, `stream`: what is sent to one other server, in the order of each partition; states of partitions go by streams of their
//!   own, so that no acknowledgement waits behind them
//! - `trail`: where more of them lie in the log
//! - `attach`: how a follower comes to have everything: by the tail, or by the whole state in pieces
//! - `behind`: by records that memory has no more
//! - `receive`, `incoming`, `install`: the follower's side of the same
//! - `beacon`: promises not to take over, and who is silent
//! - `change`: asking the master for another in-sync set
//! - `detach`: letting a copy go
//! - `rate`: how fast states are sent

mod answering;
mod attach;
mod beacon;
mod behind;
mod change;
mod configure;
mod detach;
mod held;
mod incoming;
mod install;
mod peer;
mod rate;
mod receive;
mod stream;
mod tail;
mod trail;
mod wire;

pub(super) use answering::{Answering, Origin};
pub(super) use beacon::{hear_beacon, hear_yield};
pub(super) use change::run as run_changes;
#[cfg(test)]
pub(super) use change::{suspected, wanted};
pub(super) use configure::{follow, hold};
pub(super) use held::{Following, Held, Role};
pub(super) use peer::Peers;
pub(super) use rate::Rate;
pub(super) use receive::{Receiving, take};
pub(super) use wire::{Answers, Heard, Hello};
