//! Bodies, frames and connections that are not what they should be.

use std::time::Duration;

use glint_protocol::{
    BINARY, ErrorCode, JSON, MAX_BODY_BYTES,
    frame::{GroupHeader, RequestHeader, write},
};
use glint_tests::{cluster::Cluster, wire::Target};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::bystander::Bystander;

#[tokio::test]
async fn a_body_that_is_truncated_or_longer_than_declared_is_refused() {
    let mut by = Bystander::new().await;
    let whole = by.push();
    for cut in [
        0,
        3,
        RequestHeader::SIZE - 1,
        RequestHeader::SIZE + 10,
        RequestHeader::SIZE + GroupHeader::SIZE,
    ] {
        by.refuses(whole[..cut].to_vec(), ErrorCode::BadRequest, "")
            .await;
    }
    by.refuses(
        whole[..whole.len() - 1].to_vec(),
        ErrorCode::BadRequest,
        "fewer",
    )
    .await;
    let mut longer = whole.clone();
    longer.push(0);
    by.refuses(longer, ErrorCode::BadRequest, "follow").await;
    let mut more_groups = whole.clone();
    more_groups[8] = 2;
    by.refuses(more_groups, ErrorCode::BadRequest, "group 1 of 2")
        .await;
    // A connection that ends in the midst of a body.
    let mut stream = TcpStream::connect(by.target.url.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let head = format!(
        "POST /v1/push HTTP/1.1\r\nhost: x\r\ncontent-type: {BINARY}\r\ncontent-length: {}\r\n\r\n",
        whole.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&whole[..whole.len() - 8]).await.unwrap();
    drop(stream);
    by.unharmed().await;
    by.end().await;
}

#[tokio::test]
async fn a_body_over_the_cap_is_refused_before_it_is_read() {
    let mut by = Bystander::new().await;
    let mut stream = TcpStream::connect(by.target.url.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let length = MAX_BODY_BYTES + 1;
    let head = format!(
        "POST /v1/push HTTP/1.1\r\nhost: x\r\ncontent-type: {BINARY}\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let count = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    by.unharmed().await;
    // A pull whose answer would be above it.
    let large = by
        .client
        .vector::<f64>("large", 2_000_000)
        .partitions(1)
        .create()
        .await
        .unwrap();
    let target = Target::new(&by.master.map("large").await.unwrap(), 0);
    let mut sections = Vec::new();
    write::range(&mut sections, None, 8, 0, 2_000_000);
    let answer = by.server.frame("/v1/pull", target.pull(&sections, 1)).await;
    let code = answer.map_or_else(|error| Some(error.code), |outcomes| outcomes[0].code());
    assert_eq!(code, Some(ErrorCode::TooLarge));
    assert_eq!(
        large.pull_range(0..2_000_000).await.unwrap().len(),
        2_000_000,
        "the client asks in pieces"
    );
    by.unharmed().await;
    by.end().await;
}

#[tokio::test]
async fn a_frame_with_another_magic_version_or_kind_is_refused() {
    let mut by = Bystander::new().await;
    let mut magic = by.push();
    magic[0] = b'X';
    by.refuses(magic, ErrorCode::BadRequest, "GLNT").await;
    let mut version = by.push();
    version[4] = 9;
    by.refuses(version, ErrorCode::UnsupportedProtocol, "version 9")
        .await;
    let mut kind = by.push();
    kind[5] = 1;
    by.refuses(kind, ErrorCode::BadRequest, "pull").await;
    let mut number = by.push();
    number[32..40].fill(0);
    by.refuses(number, ErrorCode::BadRequest, "number 0").await;
    by.end().await;
}

#[tokio::test]
async fn a_client_of_another_protocol_version_is_told_by_master_and_server() {
    let mut by = Bystander::new().await;
    for (wire, path) in [(&by.master, "/v1/models"), (&by.server, "/v1/pull")] {
        let headers = [("glint-protocol", "2"), ("content-type", JSON)];
        let (status, body) = wire
            .send(
                if path == "/v1/pull" { "POST" } else { "GET" },
                path,
                &headers,
                vec![],
            )
            .await;
        let error: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (status, error["code"].as_str()),
            (400, Some("unsupported_protocol")),
            "{error}"
        );
        assert!(error["message"].as_str().unwrap().contains('2'));
    }
    by.unharmed().await;
    by.end().await;
}

/// A connection that keeps a place as long as it can: by saying nothing, or half a head, or a part of a body, or a body in drops,
/// or by never reading its answers.
async fn squat(address: String, kind: usize) {
    let Ok(mut stream) = TcpStream::connect(&address).await else {
        return;
    };
    let body = "POST /v1/push HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-glint\r\ncontent-length: 1000000\r\n\r\nGLNT";
    let part = ["", "POST /v1/push HTTP/1.1\r\nhos", body, body, ""][kind];
    let _ = stream.write_all(part.as_bytes()).await;
    match kind {
        3 => {
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        4 => {
            let ask = b"GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n";
            while stream.write_all(ask).await.is_ok() {}
        }
        _ => {
            let _ = stream.read(&mut [0]).await;
        }
    }
}

#[tokio::test]
async fn a_flood_of_connections_that_only_wait_is_bounded_and_does_not_stop_others() {
    let mut by = Bystander::of(Cluster::with_connections(1, 64).await).await;
    let addresses = [by.target.url.clone(), by.cluster.url().to_owned()]
        .map(|url| url.strip_prefix("http://").unwrap().to_owned());
    for address in addresses {
        let flood: Vec<_> = (0..300)
            .map(|index| tokio::spawn(squat(address.clone(), index % 5)))
            .collect();
        let began = tokio::time::Instant::now();
        for _ in 0..5 {
            by.unharmed().await;
        }
        let newcomer = by.cluster.client().await;
        let vector = newcomer.open_vector::<i64>("v").await.unwrap();
        assert_eq!(vector.pull(&[0]).await.unwrap(), [by.pushes]);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(100), "{took:?}");
        for squatter in flood {
            squatter.abort();
        }
        by.unharmed().await;
    }
    by.end().await;
}

#[tokio::test]
async fn an_unknown_path_or_method_is_answered_with_an_error_of_the_protocol() {
    let mut by = Bystander::new().await;
    for wire in [&by.master, &by.server] {
        let error = wire
            .json("GET", "/v1/nothing", Value::Null)
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound);
        let error = wire.json("PUT", "/livez", Value::Null).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::MethodNotAllowed);
        assert_eq!(wire.send("GET", "/livez", &[], vec![]).await.0, 200);
        assert_eq!(wire.send("GET", "/readyz", &[], vec![]).await.0, 200);
    }
    by.unharmed().await;
    by.end().await;
}
