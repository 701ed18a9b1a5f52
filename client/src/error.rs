//! What can go wrong, and what a failed push has done.

use std::{fmt, time::Duration};

use glint_protocol::{
    ElementType, ErrorBody, ErrorCode, Shape,
    error::{Difference, GoneReason},
};
use glint_world::http::UrlError;

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether a push that failed has changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Certainly not: nothing of it was applied, nor ever will be. It may be pushed again.
    No,
    /// All, a part or nothing of it was applied: pushing it again may count it twice.
    Unknown,
}

/// How often something was tried, for how long, and what came of the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// How often it was sent.
    pub attempts: u32,
    /// From the first attempt to the end.
    pub elapsed: Duration,
    /// Why the last attempt failed; none when there was no answer to any yet.
    pub last: Option<String>,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.attempts == 1 { "" } else { "s" };
        write!(
            f,
            "{} attempt{plural} in {:.3} s",
            self.attempts,
            self.elapsed.as_secs_f64()
        )?;
        match &self.last {
            Some(last) => write!(f, ", the last failed with: {last}"),
            None => f.write_str(", none was answered"),
        }
    }
}

/// What an index counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Keys of a vector.
    Key,
    /// Rows of a matrix.
    Row,
    /// Columns of a matrix.
    Column,
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Row => "row",
            Self::Column => "column",
        })
    }
}

/// Everything that can go wrong. [`Error::is_retryable`] says whether the same call may succeed later,
/// [`Error::applied`] what a failed push has done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text given as the master's URL is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// An option has a value that makes no sense.
    #[error("client option '{option}': {problem}")]
    Options {
        /// The field of [`crate::ClientOptions`].
        option: &'static str,
        /// What is wrong with it, and what to give.
        problem: String,
    },
    /// A deadline above the longest that the cluster allows.
    #[error(
        "a deadline of {asked:?} is longer than the cluster's longest, {longest:?}; set `deadline` in the client's options to at most that"
    )]
    DeadlineTooLong {
        /// What the client has.
        asked: Duration,
        /// What the cluster allows.
        longest: Duration,
    },
    /// Something answers at the URL, but it is no master of Glint.
    #[error(
        "what answers at {url} is no master of Glint ({found}); give the URL of the master, such as http://127.0.0.1:7100"
    )]
    NotGlint {
        /// Where.
        url: String,
        /// What it answered.
        found: String,
    },
    /// Client and cluster speak different versions of the protocol.
    #[error("{url} speaks another version of the protocol: {message}")]
    UnsupportedProtocol {
        /// Where.
        url: String,
        /// What it said.
        message: String,
    },
    /// The master belongs to another cluster than at the start: another one took its address, or it lost its storage.
    #[error(
        "the master at {url} belongs to cluster {found} now, this client to cluster {expected}; make a new client"
    )]
    WrongCluster {
        /// Where.
        url: String,
        /// The cluster that this client was connected to.
        expected: String,
        /// The cluster that answers now.
        found: String,
    },
    /// The master did not answer until the deadline.
    #[error("no master answered at {url}: {tried}; check the URL and that it runs")]
    Unreachable {
        /// Where.
        url: String,
        /// What was tried.
        tried: Box<Tried>,
    },
    /// No server had registered with the master until the deadline.
    #[error("the cluster has no servers: {tried}; start one with `glint server --master URL`")]
    NoServers {
        /// What was tried.
        tried: Box<Tried>,
    },
    /// There is no model of this name.
    #[error("there is no model '{model}'; create it, or look at the names with `models`")]
    UnknownModel {
        /// Its name.
        model: String,
    },
    /// There is a model of this name already.
    #[error("a model '{model}' exists already; open it, or delete it first")]
    AlreadyExists {
        /// Its name.
        model: String,
    },
    /// There is a model of this name, with another spec.
    #[error("model '{model}' exists with another spec ({}); ask for the same, or choose another name", list(.differences))]
    SpecMismatch {
        /// Its name.
        model: String,
        /// Where it differs.
        differences: Vec<Difference>,
    },
    /// What was asked for cannot be a model, or this client cannot lay it out.
    #[error("{message}")]
    InvalidSpec {
        /// What is wrong, and what to do.
        message: String,
    },
    /// The servers cannot hold a model of this size.
    #[error("{message}")]
    DoesNotFit {
        /// The sizes.
        message: String,
    },
    /// The model's values are of another type.
    #[error("model '{model}' has values of {has}, it was opened for {asked}; open it with {has}")]
    WrongElement {
        /// Its name.
        model: String,
        /// The type asked for.
        asked: ElementType,
        /// The type it has.
        has: ElementType,
    },
    /// The model is a matrix and was opened as a vector, or the other way round.
    #[error("model '{model}' is a {has}, it was opened as a {asked}")]
    WrongShape {
        /// Its name.
        model: String,
        /// `vector` or `matrix`.
        asked: &'static str,
        /// What it is.
        has: Shape,
    },
    /// A key, row or column that the model does not have. Nothing was sent.
    #[error("{axis} {index} is not one of model '{model}', whose {axis}s are 0..{size}")]
    OutOfRange {
        /// The model's name.
        model: String,
        /// What the index counts.
        axis: Axis,
        /// The offending index.
        index: u64,
        /// How many there are.
        size: u64,
    },
    /// Lists whose lengths do not belong together. Nothing was sent.
    #[error("model '{model}': {given} values for {items} need {expected}; make them equal")]
    Length {
        /// The model's name.
        model: String,
        /// What was named: `3 rows of 5 columns`.
        items: String,
        /// How many values that takes.
        expected: u64,
        /// How many there were.
        given: u64,
    },
    /// The model was deleted, reset or restored since it was opened: open it again.
    #[error("model '{model}' is gone ({}); open it again", reason_name(*.reason))]
    Gone {
        /// Its name.
        model: String,
        /// What happened to it.
        reason: GoneReason,
        /// What a push has done before.
        applied: Applied,
    },
    /// The values of a partition are lost: the model must be reset, which starts it again from its initial value.
    #[error("{why}")]
    Lost {
        /// The model's name.
        model: String,
        /// The partition.
        partition: u32,
        /// What the server says: which values, why they are lost, and what to do.
        why: String,
        /// What a push has done.
        applied: Applied,
    },
    /// The deadline passed. A push that fails so is certainly not applied.
    #[error("{what} was not done by its deadline: {tried}")]
    DeadlineExceeded {
        /// What was to be done.
        what: String,
        /// What was tried.
        tried: Box<Tried>,
    },
    /// A push whose end could not be learnt: it was applied once or not at all.
    #[error("whether a push to model '{model}' was applied is unknown ({cause}): {tried}")]
    Unknown {
        /// The model's name.
        model: String,
        /// Why it could not be learnt.
        cause: String,
        /// What was tried.
        tried: Box<Tried>,
    },
    /// A push larger than one request of which a part was applied and another part failed.
    #[error("of a push of {of} values to model '{model}' {applied} were applied, then: {cause}")]
    Partial {
        /// The model's name.
        model: String,
        /// Values that are certainly applied.
        applied: u64,
        /// Values of the whole push.
        of: u64,
        /// Why the rest failed.
        cause: Box<Error>,
    },
    /// The cluster refused the request as it is, and changed nothing.
    #[error("the cluster refused: {0}")]
    Refused(Box<ErrorBody>),
    /// The runtime that this client's tasks ran in has ended.
    #[error(
        "the client's tasks have ended with their runtime; keep the runtime alive as long as the client"
    )]
    Closed,
    /// The blocking client was used inside an async runtime, where it would stop other tasks.
    #[error(
        "the blocking client was called inside an async runtime; use `glint::Client` there, or call it from a thread of its own"
    )]
    InsideAsync,
    /// The blocking client could not start its runtime.
    #[error("the blocking client cannot start its runtime: {message}")]
    Runtime {
        /// What the system said.
        message: String,
    },
}

fn list(differences: &[Difference]) -> String {
    let texts: Vec<_> = differences.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

fn reason_name(reason: GoneReason) -> &'static str {
    match reason {
        GoneReason::Deleted => "it was deleted",
        GoneReason::Reset => "its values were reset",
        GoneReason::Restored => "its values were restored from a checkpoint",
        GoneReason::Unknown => "its servers do not know it",
    }
}

impl Error {
    /// A refusal by whoever answers at `url`, which another attempt would not change.
    pub(crate) fn refusal(body: ErrorBody, url: String) -> Self {
        match body.code {
            ErrorCode::UnsupportedProtocol => Self::UnsupportedProtocol {
                url,
                message: body.message,
            },
            _ => Self::Refused(Box::new(body)),
        }
    }

    /// Whether the same call may succeed later, without anything else being changed. A push may only be repeated when
    /// [`Self::applied`] is [`Applied::No`].
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoServers { .. } | Self::DeadlineExceeded { .. } => {
                true
            }
            Self::Refused(body) => body.code.retry() == glint_protocol::error::Retry::Later,
            _ => false,
        }
    }

    /// Whether the push that failed so has changed anything; for other calls it says nothing.
    pub fn applied(&self) -> Applied {
        match self {
            Self::Gone { applied, .. } | Self::Lost { applied, .. } => *applied,
            Self::Unknown { .. } | Self::Partial { .. } | Self::Closed => Applied::Unknown,
            _ => Applied::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays_small() {
        assert!(size_of::<Error>() <= 80, "{}", size_of::<Error>());
    }

    #[test]
    fn what_was_tried_is_told() {
        let error = Error::Unreachable {
            url: "http://h:1".into(),
            tried: Box::new(Tried {
                attempts: 3,
                elapsed: Duration::from_millis(1500),
                last: Some("connection refused".into()),
            }),
        };
        let text = error.to_string();
        assert!(text.contains("3 attempts in 1.500 s"), "{text}");
        assert!(text.contains("connection refused"), "{text}");
        assert!(error.is_retryable());
    }
}
