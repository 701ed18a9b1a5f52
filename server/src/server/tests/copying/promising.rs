//! What a server has promised to a holder it keeps, whatever becomes of its copy: two that answer at once would be the end of
//! fresh pulls.

use glint_protocol::Durability;

use super::*;
use crate::{
    log::snapshot::{self, About},
    partition::Ledger,
};

/// A promise lasts longer than a busy machine needs for what these tests do meanwhile, and only the first beacon comes: the
/// holder before does not hear that there is another, and does not yield.
const PATIENT: Pulse = Pulse {
    beacon_ms: 60_000,
    lease_ms: 2_000,
    suspicion_ms: 60_000,
};

/// Server 0 holds, with all others in sync, and may answer since they have promised.
async fn promised(servers: usize, pulse: Pulse) -> Servers {
    let mut servers = Servers::start(servers, spec(Durability::Memory, 10)).await;
    for running in &servers.all {
        let answer = Registered {
            pulse,
            ..registration(&running.server, Vec::new())
        };
        running.server.registered(answer).await.unwrap();
    }
    let mut configured = Configured::default();
    servers.order(0, &configured, true).await;
    configured.learners = vec![1];
    servers.configure(&configured).await;
    servers.asked(0).await;
    configured.in_sync = std::mem::take(&mut configured.learners);
    servers.configure(&configured).await;
    assert_eq!(servers.push(0, 1, 0, &[5]).await, Status::Applied);
    servers.same(0, 1).await;
    servers
}

/// A frame of another server that says that it holds partition 0 at the present epoch.
fn frame(servers: &Servers, kind: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for number in [kind, 0, MODEL.generation, content.len() as u32] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    // Its session, and the place of the values.
    for number in [MODEL.model.0, servers.epoch, 1, 0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(content);
    out
}

/// Has server 1 take frames of a server that sends no beacon.
async fn says(servers: &Servers, frames: &[Vec<u8>]) -> serde_json::Value {
    let to = &servers.all[1].server;
    let hello = serde_json::json!({
        "cluster": ClusterId(0xc1),
        "server": "s9",
        "boot": Boot(77),
        "to": to.boot(),
    });
    let hello = hello.to_string();
    let mut body = (hello.len() as u32).to_le_bytes().to_vec();
    body.extend_from_slice(hello.as_bytes());
    body.extend(frames.concat());
    to.copies_body(body.into()).await.unwrap()
}

/// Server 1 is made the holder at the next epoch, and answers only once its promise to server 0 has ended.
async fn waits_for_its_promise(servers: &mut Servers) {
    let before = servers.epoch;
    servers.epoch += 1;
    let alone = Configured {
        holder: 1,
        ..Configured::default()
    };
    servers.order(1, &alone, false).await;
    assert_eq!(servers.pull(1, 1).await, Err(ErrorCode::Retry));
    // Who held it first knows nothing of all this, and may well answer.
    let now = std::mem::replace(&mut servers.epoch, before - 1);
    assert_eq!(servers.pull(0, 1).await, Ok(vec![5]));
    servers.epoch = now;
    loop {
        match servers.pull(1, 1).await {
            Ok(values) => break assert_eq!(values, [5]),
            Err(code) => assert_eq!(code, ErrorCode::Retry),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_promise_outlives_another_attachment() {
    let mut servers = promised(2, PATIENT).await;
    servers.epoch += 1;
    let answers = says(&servers, &[frame(&servers, 1, &[])]).await;
    assert!(answers.to_string().contains("attached"), "{answers}");
    waits_for_its_promise(&mut servers).await;
}

#[tokio::test]
async fn a_promise_outlives_the_copy_that_is_replaced() {
    let mut servers = promised(2, PATIENT).await;
    let about = About {
        version: snapshot::VERSION,
        incarnation: MODEL,
        partition: 0,
        position: Position(1),
        epoch: servers.epoch(),
        offset: 0,
        spec: servers.spec.clone(),
    };
    let about = serde_json::to_vec(&about).unwrap();
    let mut begin = (about.len() as u32).to_le_bytes().to_vec();
    begin.extend_from_slice(&about);
    begin.extend_from_slice(&snapshot::encode_ledger(&Ledger::default()));
    let mut values = Vec::new();
    i64::append(&[5, 0, 0, 0, 0, 0, 0, 0, 0, 0], &mut values);
    servers.epoch += 1;
    let frames = [
        frame(&servers, 1, &[]),
        frame(&servers, 2, &begin),
        frame(&servers, 3, &values),
        frame(&servers, 4, &[]),
    ];
    let answers = says(&servers, &frames).await;
    assert!(answers.to_string().contains("\"has\""), "{answers}");
    waits_for_its_promise(&mut servers).await;
}

#[tokio::test]
async fn who_waits_for_the_end_of_its_promise_adds_no_follower_that_would_not_wait() {
    let pulse = Pulse {
        beacon_ms: 500,
        ..PATIENT
    };
    let mut servers = promised(3, pulse).await;
    servers.epoch += 1;
    let learning = Configured {
        holder: 1,
        learners: vec![2],
        ..Configured::default()
    };
    servers.order(1, &learning, false).await;
    servers.same(1, 2).await;
    let asked = servers.asked(1).await;
    assert_eq!(asked.in_sync, [servers.all[2].id.clone()]);
    assert_eq!(servers.pull(1, 1).await, Ok(vec![5]), "it has begun");
}
