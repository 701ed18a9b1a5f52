//! What pulls and pushes have in common: their form, their groups, and the results of their groups.

use glint_protocol::{
    BINARY, Epoch, ErrorBody, ErrorCode, JSON, Position,
    frame::{Group, Request, ResultHeader, Status},
};
use http::{HeaderMap, HeaderValue, header};

/// The form of a request, and so of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Binary,
    Json,
}

impl Format {
    /// By the content type.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ErrorBody> {
        let named = headers
            .get(header::CONTENT_TYPE)
            .map_or(&b""[..], |value| value.as_bytes());
        // As clients send it, it is not taken apart.
        if named == BINARY.as_bytes() {
            return Ok(Self::Binary);
        }
        let bare = named.split(|&b| b == b';').next().unwrap_or_default();
        let bare = bare.trim_ascii();
        if bare.eq_ignore_ascii_case(BINARY.as_bytes()) {
            Ok(Self::Binary)
        } else if bare.eq_ignore_ascii_case(JSON.as_bytes()) {
            Ok(Self::Json)
        } else {
            Err(ErrorBody::new(
                ErrorCode::BadRequest,
                format!(
                    "content-type '{}' is not known here; send {BINARY} or {JSON}",
                    String::from_utf8_lossy(&bare[..bare.len().min(100)])
                ),
            ))
        }
    }

    pub(super) fn content_type(self) -> HeaderValue {
        // Made once: every letter is checked.
        static NAMES: [HeaderValue; 2] = [
            HeaderValue::from_static(BINARY),
            HeaderValue::from_static(JSON),
        ];
        let [binary, json] = &NAMES;
        match self {
            Self::Binary => binary.clone(),
            Self::Json => json.clone(),
        }
    }
}

/// Whether a request names no partition twice: its groups are judged one by one, and two for one partition under one
/// number could not be told apart.
pub(super) fn check_distinct(request: &Request<'_>) -> Result<(), ErrorBody> {
    let name = |group: &Group<'_>| (group.header.incarnation, group.header.partition);
    // Most requests are sorted: then a look at the neighbours is enough.
    if request
        .groups
        .windows(2)
        .all(|pair| name(&pair[0]) < name(&pair[1]))
    {
        return Ok(());
    }
    let mut named: Vec<_> = request.groups.iter().map(name).collect();
    named.sort_unstable();
    match named.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(ErrorBody::new(
            ErrorCode::BadRequest,
            format!(
                "partition {} of model {} is named by two groups; put their sections into one",
                pair[0].1, pair[0].0
            ),
        )),
    }
}

/// Appends a result without values.
pub(super) fn put_result(
    out: &mut Vec<u8>,
    status: Result<Status, &ErrorBody>,
    epoch: Epoch,
    position: Position,
) {
    let payload = status.err().map_or_else(Vec::new, ErrorBody::to_json);
    let header = ResultHeader {
        status: status.unwrap_or_else(|error| Status::Error(error.code)),
        length: payload.len() as u32,
        epoch,
        position,
        after_loss: None,
        age_ms: None,
    };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(&payload);
}
