//! Binary bodies of pull and push. All numbers are little-endian; nothing is aligned, nothing is compressed.
//!
//! ```text
//! request = request header, group*                    reply = reply header, result*
//! group   = group header, section*                    result = result header, payload
//! section = section header, extension, indices, values (push only)
//! ```
//!
//! A request is a list of groups, at most one per partition; the reply has one result per group, in order. The payload of
//! a result is the values of a pull's sections one after another, or an [`crate::ErrorBody`] in JSON.
//!
//! - [`header`]: the fixed headers, field by field
//! - [`read`]: which copies may answer a pull
//! - [`section`]: which values a section names
//! - [`request`]: taking a request apart, and the digest of a group
//! - [`write`](mod@write): putting sections, groups and requests together

pub mod header;
pub mod read;
pub mod request;
pub mod section;
pub mod write;

pub use header::{
    GroupHeader, Kind, Op, ReplyHeader, RequestHeader, ResultHeader, SectionHeader, Status,
};
pub use read::ReadMode;
pub use request::{Group, Request, digest};
pub use section::{Form, FormCode, Indices, Section};
