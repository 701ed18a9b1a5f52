//! One stream to another server: takes what has gathered for it, sends it, and hands on the answers. What gathers meanwhile goes
//! out next, so that no timer makes anybody wait.

use std::{sync::Arc, time::Duration};

use glint_protocol::{BINARY, ErrorBody, ErrorCode};
use glint_world::http::Frames;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{
    attach,
    peer::{Peer, Way},
    wire::{self, Answers, Frame},
};
use crate::server::state::State;

/// Bytes that go out at once, about.
const BATCH: usize = 4 << 20;
/// How long an answer may take: the other side may have to wait for its disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The longest answer.
const ANSWER_BYTES: usize = 8 << 20;
/// The first and the longest pause after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// Sends until the way to the peer ends.
pub(super) async fn run(state: Arc<State>, peer: Peer, stream: usize) {
    let end = peer.end().clone();
    tokio::select! {
        biased;
        () = end.cancelled() => {}
        () = send_all(&state, &peer, stream) => {}
    }
}

async fn send_all(state: &Arc<State>, peer: &Peer, stream: usize) {
    let mut next_piece = Instant::now();
    loop {
        feed(state, peer, stream, &mut next_piece).await;
        if peer.is_due(stream) {
            let frames = peer.take(stream, BATCH);
            let answers = exchange(state, peer, &frames).await;
            attach::answered(state, peer, Way::of(stream), answers);
            continue;
        }
        match peer.feeding(stream) {
            Some(_) => tokio::select! {
                biased;
                () = peer.woken(stream) => {}
                () = tokio::time::sleep_until(next_piece) => {}
            },
            None => peer.woken(stream).await,
        }
    }
}

/// Puts pieces of states, and of records that were missed, behind what waits, up to what goes out at once, as far as the rate allows.
async fn feed(state: &State, peer: &Peer, stream: usize, next_piece: &mut Instant) {
    while peer.waiting(stream) < BATCH
        && Instant::now() >= *next_piece
        && let Some(slot) = peer.feeding(stream)
    {
        let sent = attach::send_piece(state, &slot, peer).await;
        *next_piece = Instant::now() + state.move_rate.take(sent.bytes);
        if sent.was_last {
            peer.fed(stream);
        }
    }
}

/// Sends frames until they are answered: taking them twice is the same as once.
async fn exchange(state: &State, peer: &Peer, frames: &[Frame]) -> Answers {
    let mut pause = PAUSE.0;
    loop {
        let body = wire::encode(&peer.hello(state), frames)
            .into_iter()
            .collect();
        match post(peer, "/v1/copies", body, ANSWER_WITHIN).await {
            Ok(answers) => return answers,
            Err(error) => {
                tracing::debug!(peer = %peer.id(), %error, "a follower did not answer");
            }
        }
        tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * state.world.random.unit())).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Posts to another server, and reads its answer.
pub(super) async fn post<T: DeserializeOwned>(
    peer: &Peer,
    path: &'static str,
    body: Frames,
    within: Duration,
) -> Result<T, ErrorBody> {
    let failed = |why: String| ErrorBody::new(ErrorCode::Retry, why);
    let length = body.length();
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, BINARY)
        .header(http::header::CONTENT_LENGTH, length)
        .body(body)
        .map_err(|error| failed(error.to_string()))?;
    let exchange = async {
        let response = peer.connections().send(request).await?;
        let status = response.head.status;
        Ok::<_, glint_world::http::HttpError>((status, response.collect(ANSWER_BYTES).await?))
    };
    match tokio::time::timeout(within, exchange).await {
        Err(_) => Err(failed(format!("no answer for {within:?}"))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Ok(Ok((status, body))) if !status.is_success() => Err(ErrorBody::from_json(&body)),
        Ok(Ok((_, body))) => {
            serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))
        }
    }
}
