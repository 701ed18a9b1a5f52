//! What all routers share: errors as answers, bodies within bounds, typed paths and queries, and the layer around a
//! router that checks the protocol version and turns a panic into an answer.

pub mod body;
pub mod error;
pub mod extract;
pub mod health;
pub mod layers;
pub mod reading;

pub use error::{Answer, Failure};
pub use extract::{Json, Path, Query};
pub use layers::{finish, guarded};
