//! The one enum of errors that master and servers answer with, and what each asks of the caller.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, ServerId};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $status:literal, $retry:ident;)*) => {
        /// What went wrong. Its name is `code` in JSON, its number the status of a group in a binary reply.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(rename_all = "snake_case")]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $variant = $number,)*
        }

        impl ErrorCode {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code with this number.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            /// Its name in JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// HTTP status when it is the answer to a whole request.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Whether and how to try again.
            pub const fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry,)* }
            }
        }
    };
}

/// Whether a request that got an error may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Never as it is: the request or the model must change.
    Never,
    /// The same request, after a pause.
    Later,
    /// The same sections, lane and number, to the holder that a fresh map names.
    FreshMap,
    /// Only as a new operation: on a new lane.
    NewLane,
}

codes! {
    /// The request is malformed: truncated, too long, wrong magic, JSON of another shape. Nothing changed.
    BadRequest = 16, "bad_request", 400, Never;
    /// A group is not valid for its model: element type, update rule, index, length. Nothing of the group changed.
    Bad = 17, "bad", 400, Never;
    /// The client speaks another version of the protocol.
    UnsupportedProtocol = 18, "unsupported_protocol", 400, Never;
    /// The body, or the reply that was asked for, is above the cap.
    TooLarge = 19, "too_large", 413, Never;
    /// There is nothing at this path.
    NotFound = 20, "not_found", 404, Never;
    /// This path does not take this method.
    MethodNotAllowed = 21, "method_not_allowed", 405, Never;
    /// No model of this name.
    UnknownModel = 22, "unknown_model", 404, Never;
    /// A model of this name exists.
    AlreadyExists = 23, "already_exists", 409, Never;
    /// A model of this name exists, with another spec; `differences` lists where.
    SpecMismatch = 24, "spec_mismatch", 409, Never;
    /// The spec of a model to be made is not valid.
    InvalidSpec = 25, "invalid_spec", 400, Never;
    /// The servers together cannot hold a model of this size.
    DoesNotFit = 26, "does_not_fit", 507, Never;
    /// No server is registered with the master.
    NoServers = 27, "no_servers", 503, Later;
    /// A deadline above the cluster's longest.
    DeadlineTooLong = 28, "deadline_too_long", 400, Never;
    /// A server that holds partitions of the model does not answer, and might still serve them: nothing can replace it.
    ServerSilent = 29, "server_silent", 503, Later;
    /// No server of this name.
    UnknownServer = 30, "unknown_server", 404, Never;
    /// The server lives, so that it cannot be forgotten.
    ServerAlive = 31, "server_alive", 409, Never;

    /// Not now: the server is not registered since its start, or the partition is recovering. Nothing is settled.
    Retry = 32, "retry", 503, Later;
    /// The model was deleted, reset or restored since; `reason` says which.
    Gone = 33, "gone", 410, Never;
    /// The partition's values are lost; only a reset or a restore makes it serve again.
    Lost = 34, "lost", 410, Never;
    /// This server does not hold the partition at this epoch; `hint` may name who does.
    StaleMap = 35, "stale_map", 409, FreshMap;
    /// The request's epoch is above the server's: the server has not heard of it yet.
    NotYet = 36, "not_yet", 503, Later;
    /// The number is below the last of its lane here. No correct client waits for such an answer.
    Superseded = 37, "superseded", 409, NewLane;
    /// The number was used with other sections: two processes share a lane.
    LaneConflict = 38, "lane_conflict", 409, NewLane;
    /// The lane was born at or before the horizon and has no entry: within the client's deadline certainly not applied.
    LaneExpired = 39, "lane_expired", 409, NewLane;
    /// The lane was born more than a day ahead of the server's clock.
    LaneFromFuture = 40, "lane_from_future", 409, NewLane;
    /// The ledger of the partition, or the server, has no room for another; entries are never evicted early for it.
    Busy = 41, "busy", 503, Later;
    /// The disk is full: pushes to durable models wait.
    StorageFull = 42, "storage_full", 507, Later;
    /// Fewer copies than the model's `minInSync` are in sync.
    NotEnoughCopies = 43, "not_enough_copies", 503, Later;

    /// A server of this name with another boot is alive.
    IdentityInUse = 48, "identity_in_use", 409, Later;
    /// The other side belongs to another cluster.
    WrongCluster = 49, "wrong_cluster", 409, Never;
    /// An order of an earlier term of the master, or for an earlier boot of the server.
    StaleOrder = 50, "stale_order", 409, Never;
    /// The server is not registered (the master restarted, or took it for gone): register again.
    NotRegistered = 51, "not_registered", 409, Later;
    /// The master's own storage failed; nothing was acknowledged.
    StorageFailed = 52, "storage_failed", 500, Later;
    /// The request took longer than the server allows for its body to arrive.
    TooSlow = 53, "too_slow", 408, Later;
    /// A defect of the server. Nothing is known of the request's effect.
    Internal = 54, "internal", 500, Later;
    /// The other servers cannot hold what is on a server that was to be drained.
    CannotDrain = 55, "cannot_drain", 409, Never;
    /// A copy of a partition cannot go where an admin wants it.
    CannotMove = 56, "cannot_move", 409, Never;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a model is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum GoneReason {
    /// Deleted.
    Deleted,
    /// Its values were set back to the initial value: a new generation.
    Reset,
    /// Its values were replaced from a checkpoint: a new generation.
    Restored,
    /// The server never heard of it.
    Unknown,
}

/// Where a partition is served, as far as the answering server knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Hint {
    /// The holder's id.
    pub server: ServerId,
    /// The holder's URL.
    pub url: String,
    /// The epoch at which it holds the partition.
    pub epoch: Epoch,
}

/// One field in which a model that exists differs from what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Difference {
    /// Name of the field in the spec.
    pub field: String,
    /// What was asked for.
    pub asked: String,
    /// What the model has.
    pub has: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: asked for {}, the model has {}",
            self.field, self.asked, self.has
        )
    }
}

/// What a program needs of an error beside its code; which fields are there depends on the code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorDetail {
    /// With `stale_map`: who holds the partition, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
    /// With `stale_map` and `not_yet`: the epoch known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// With `gone`: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<GoneReason>,
    /// With `lane_expired`: lanes born at or before this (milliseconds since 1970) are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon: Option<u64>,
    /// With `lane_from_future`: the server's clock, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<u64>,
    /// With `retry` to the first registration of a start of a server: what to repeat in the next, which says that this
    /// start lives now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<u64>,
    /// With `spec_mismatch`: where the specs differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// An error as sent: the body of a whole request's answer, or the payload of one group's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[error("{code}: {message}")]
pub struct ErrorBody {
    /// What went wrong.
    pub code: ErrorCode,
    /// What went wrong with which thing, and what to do, for a person.
    pub message: String,
    /// What a program needs beside the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<ErrorDetail>>,
}

impl ErrorBody {
    /// An error with nothing but its message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            detail: None,
        }
    }

    /// The same error with details filled in.
    #[must_use]
    pub fn with(mut self, fill: impl FnOnce(&mut ErrorDetail)) -> Self {
        fill(self.detail.get_or_insert_default());
        self
    }

    /// As JSON bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self)
            .unwrap_or_else(|_| format!(r#"{{"code":"{}","message":""}}"#, self.code).into_bytes())
    }

    /// From JSON bytes, or, when they are something else, an `internal` error that quotes their beginning.
    pub fn from_json(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
            Self::new(
                ErrorCode::Internal,
                format!("an answer that is no error of Glint: '{text}'"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_name_and_one_number() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code as u16), Some(code));
            assert_eq!(
                serde_json::to_string(&code).unwrap(),
                format!("\"{}\"", code.name())
            );
            assert!(
                code as u16 >= 16,
                "numbers below 16 are verdicts, not errors"
            );
        }
        let numbers: std::collections::BTreeSet<_> =
            ErrorCode::ALL.iter().map(|&c| c as u16).collect();
        assert_eq!(numbers.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn an_error_survives_json_and_an_unreadable_one_is_quoted() {
        let body = ErrorBody::new(ErrorCode::StaleMap, "moved")
            .with(|detail| detail.epoch = Some(Epoch(7)));
        assert_eq!(ErrorBody::from_json(&body.to_json()), body);
        let other = ErrorBody::from_json(b"<html>");
        assert_eq!(other.code, ErrorCode::Internal);
        assert!(other.message.contains("<html>"));
    }
}
