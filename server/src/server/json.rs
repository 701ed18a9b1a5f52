//! Pull and push as JSON: turned into a frame, judged like one, and the answer turned back.

use glint_protocol::{
    ElementType, ErrorBody, ErrorCode,
    data::{GroupResult, PullRequest, PushRequest, Reply, scalars},
    frame::{ReplyHeader, ResultHeader, Status},
};

use super::{pull, push, state::State};
use crate::http::extract::parse;

/// Bytes of values that a pull in JSON may ask for: as text they take several times as much.
pub(super) const MAX_JSON_VALUES: usize = 1 << 20;

/// Answers a pull in JSON.
pub(super) fn pull(state: &State, body: &[u8]) -> Result<Vec<u8>, ErrorBody> {
    let request: PullRequest = parse(body)?;
    let elements: Vec<_> = request.groups.iter().map(|g| Some(g.element)).collect();
    let reply =
        pull::answer(state, &request.to_frame()?, MAX_JSON_VALUES).map_err(|mut error| {
            if error.code == ErrorCode::TooLarge {
                error.message += "; in binary (application/x-glint) an answer may be larger";
            }
            error
        })?;
    translate(reply.as_ref(), &elements)
}

/// Answers a push in JSON.
pub(super) async fn push(state: &State, body: &[u8]) -> Result<Vec<u8>, ErrorBody> {
    let request: PushRequest = parse(body)?;
    let elements: Vec<_> = request.groups.iter().map(|g| g.element).collect();
    let frame = request.to_frame()?.into();
    let mut judged = push::judge(state, &frame, || state.world.clock.unix_ms())?;
    push::all_settled(state, &mut judged).await?;
    translate(push::reply(state, &judged)?.as_ref(), &elements)
}

/// A binary answer as JSON.
fn translate(reply: &[u8], elements: &[Option<ElementType>]) -> Result<Vec<u8>, ErrorBody> {
    let header = ReplyHeader::decode(reply)?;
    let mut rest = &reply[ReplyHeader::SIZE..];
    let mut results = Vec::with_capacity(header.results as usize);
    for element in elements {
        let head = ResultHeader::decode(rest)?;
        let (payload, after) = rest[ResultHeader::SIZE..]
            .split_at_checked(head.length as usize)
            .ok_or_else(|| broken("a result is longer than its answer"))?;
        rest = after;
        let mut result = GroupResult {
            status: String::new(),
            epoch: head.epoch,
            position: head.position,
            age_ms: head.age_ms,
            after_loss: head.after_loss,
            values: None,
            error: None,
        };
        result.status = match head.status {
            Status::Values => {
                result.values = element.map(|element| scalars(payload, element));
                "values"
            }
            Status::Applied => "applied",
            Status::Skipped => "skipped",
            Status::Error(_) => {
                result.error = Some(ErrorBody::from_json(payload));
                "error"
            }
        }
        .into();
        results.push(result);
    }
    serde_json::to_vec(&Reply { results }).map_err(|error| broken(&error.to_string()))
}

fn broken(why: &str) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Internal,
        format!("the answer cannot be written as JSON: {why}"),
    )
}
