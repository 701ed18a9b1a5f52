//! The client of Glint, the parameter server: training programs pull and push the values of vectors and matrices that
//! live on servers, and every push counts exactly once.
//!
//! ```no_run
//! # async fn train() -> glint::Result<()> {
//! let client = glint::Client::connect("http://127.0.0.1:7100").await?;
//! let weights: glint::Vector<f32> = client.vector("weights", 1_000_000).open_or_create().await?;
//! weights.push(&[3, 141, 59], &[0.5, -0.25, 1.0]).await?;
//! let values = weights.pull(&[3, 141, 59]).await?;
//! # Ok(())
//! # }
//! ```
//!
//! What you use:
//! - [`Client`] and [`ClientBuilder`]: a connection to a cluster; [`ClientOptions`]: its knobs
//! - [`Vector`], [`Matrix`]: pull and push; [`ModelHandle`] names one in another process
//! - [`BufferedVector`], [`BufferedMatrix`]: many small updates combined and pushed together
//! - [`RowBlocks`], [`Rows`], [`Columns`]: going through a matrix, with the next ones pulled ahead
//! - [`Read`]: reads that scale over the copies of a model, for values that need not be the newest
//! - [`blocking`]: the same without async
//! - [`Error`], [`Applied`]: what went wrong, and what a failed push has done
//!
//! What is beneath, from top to bottom: `operation` checks and cuts, `plan` says which values of which partition go where,
//! `pull` and `push` carry it out (`push` through lanes, the numbered streams that make a push count once), `routing`
//! knows who holds a partition, `follow` keeps that fresh, `change` tells those who wait, `control` talks to the master, `transport` to servers, `retry` says when to try again.

/// The example of the README, which is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

pub mod blocking;
mod buffer;
mod builder;
mod change;
mod client;
mod control;
mod error;
mod follow;
mod handle;
mod iterate;
mod losses;
mod matrix;
mod open;
mod operation;
mod options;
mod plan;
mod pull;
mod push;
mod read;
mod reply;
mod retry;
mod routing;
mod spread;
mod stats;
#[cfg(test)]
mod testing;
mod transport;
mod vector;

pub use glint_protocol::{
    Durability, Element, ElementType, Location, ModelMap, ModelSpec, Partitioner, Partitioning,
    Partitions, Rule, Scalar, Shape,
    control::{ClusterStatus, ModelState, ModelSummary, ServerState, ServerSummary},
    error::{Difference, GoneReason},
};
pub use glint_world::World;

pub use crate::{
    buffer::{BufferOptions, BufferedMatrix, BufferedVector, OnLoss},
    builder::ClientBuilder,
    client::{Attach, Client},
    error::{Applied, Axis, Error, Result, Tried},
    handle::ModelHandle,
    iterate::{Block, Columns, RowBlocks, Rows},
    losses::ForgottenPushes,
    matrix::Matrix,
    open::{MatrixBuilder, VectorBuilder},
    options::ClientOptions,
    read::{Positions, Read},
    stats::ClientStats,
    vector::Vector,
};
