//! What a program is told that watches the training: a line of JSON per sweep, and one at the end.

use serde::{Deserialize, Serialize};

/// How far the training is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Sweeps that are done.
    pub(crate) sweep: usize,
    /// Seconds that the last one took.
    pub(crate) seconds: f64,
    /// Tokens whose topics were drawn anew so far, each as often as it was.
    pub(crate) tokens: u64,
    /// The log-likelihood when it was looked at last.
    pub(crate) log_likelihood: Option<f64>,
    /// Pulls and pushes so far.
    pub(crate) calls: u64,
    /// Those of them that failed.
    pub(crate) failed_calls: u64,
    /// Requests that were sent again for them, since a server did not answer or has given its partition away.
    pub(crate) sent_again: u64,
    /// The training has ended, and the servers' counts were found to be those of the documents, to the last token.
    pub(crate) exact: bool,
}
