//! The master and the servers of Glint, the parameter server, as a library: programs and tests embed them, and the
//! binary `glint` runs them. Everything is taken from a [`glint_world::World`]: nothing here touches the machine itself.
//!
//! - [`partition`]: one slice of a model as a deterministic state machine, without clock or I/O
//! - [`server`]: holds partitions, answers pull and push, obeys the master
//! - [`master`]: which servers live, which models there are, who holds which partition
//! - [`log`](mod@log): the records of partitions on disk, snapshots, and the way back from files
//! - [`safe`]: how far a partition is as safe as its model asks for
//! - [`local`]: a master and servers in one process
//! - [`http`]: what all routers share: errors as answers, bodies, paths and queries
//! - [`serve`](mod@serve): the accept loop, with its bounds
//! - [`openapi`]: the description of every path

pub mod http;
pub mod local;
pub mod log;
pub mod master;
pub mod openapi;
pub mod partition;
pub mod safe;
pub mod serve;
pub mod server;
