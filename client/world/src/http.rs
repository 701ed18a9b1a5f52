//! HTTP/1.1 requests over a [`crate::Network`]: bodies of shared bytes, addresses, and connections that are kept.

mod body;
mod connection;
mod url;

pub use body::Frames;
pub use connection::{Connections, HttpError, Response};
pub use url::{Url, UrlError};
