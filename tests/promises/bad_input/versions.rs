//! Another version of the protocol, at the master or at a server: each call says so, with a typed error, at once.

use std::time::Duration;

use glint::{Client, Error};
use glint_protocol::{ErrorBody, ErrorCode, ModelMap};
use glint_tests::{cluster::Cluster, wire::Wire};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};

/// Somebody who speaks HTTP, and answers everything as it is told.
struct Fake {
    url: String,
    says: watch::Sender<String>,
}

fn answer(status: u16, version: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Told\r\nglint-protocol: {version}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn refusal(version: &str) -> String {
    let body = ErrorBody::new(ErrorCode::UnsupportedProtocol, "the two do not match");
    answer(400, version, &serde_json::to_string(&body).unwrap())
}

impl Fake {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (says, heard) = watch::channel(String::new());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let heard = heard.clone();
                tokio::spawn(async move {
                    let (mut read, mut piece) = (Vec::new(), [0; 4096]);
                    while let Ok(count @ 1..) = stream.read(&mut piece).await {
                        read.extend_from_slice(&piece[..count]);
                        let whole = |read: &[u8]| {
                            let text = String::from_utf8_lossy(read).to_lowercase();
                            let head = text.find("\r\n\r\n")? + 4;
                            let length = text[..head].split("content-length: ").nth(1);
                            let length = length.and_then(|l| l.split('\r').next()?.parse().ok());
                            (read.len() >= head + length.unwrap_or(0)).then_some(())
                        };
                        if whole(&read).is_some() {
                            read.clear();
                            let said = heard.borrow().clone();
                            if stream.write_all(said.as_bytes()).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        Self { url, says }
    }

    fn says(&self, what: String) {
        self.says.send_replace(what);
    }
}

#[track_caller]
fn is_told<T: std::fmt::Debug>(result: Result<T, Error>, url: &str) {
    let error = result.unwrap_err();
    let Error::UnsupportedProtocol { url: at, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(at, url, "{error}");
    assert!(!error.is_retryable());
}

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_master_of_another_version_is_told_by_every_call() {
    let cluster = Cluster::start(1).await;
    let real = Wire::to(cluster.url());
    let status = real
        .json("GET", "/v1/status", serde_json::Value::Null)
        .await
        .unwrap();
    cluster
        .client()
        .await
        .vector::<i64>("v", 10)
        .create()
        .await
        .unwrap();
    let map = serde_json::to_string(&real.map("v").await.unwrap()).unwrap();
    let fake = Fake::start().await;
    // As by its own header, whatever it answers; and by its refusal.
    for other in [answer(200, "2", "{}"), refusal("2"), refusal("1")] {
        fake.says(other.clone());
        let connected = tokio::time::timeout(SOON, Client::connect(&fake.url)).await;
        is_told(connected.unwrap(), &fake.url);
        fake.says(answer(200, "1", &status.to_string()));
        let client = Client::connect(&fake.url).await.unwrap();
        fake.says(answer(200, "1", &map));
        let vector = client.open_vector::<i64>("v").await.unwrap();
        fake.says(other);
        let all = async {
            is_told(client.status().await, &fake.url);
            is_told(client.models().await, &fake.url);
            is_told(client.open_vector::<i64>("v").await, &fake.url);
            is_told(client.vector::<i64>("w", 10).create().await, &fake.url);
            is_told(client.delete("v").await, &fake.url);
            is_told(client.reset("v").await, &fake.url);
        };
        tokio::time::timeout(SOON, all).await.expect("at once");
        drop(vector);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_server_of_another_version_is_told_by_pulls_and_pushes() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    client.vector::<i64>("v", 10).create().await.unwrap();
    let real = Wire::to(cluster.url());
    let (master, server) = (Fake::start().await, Fake::start().await);
    let mut map: ModelMap = real.map("v").await.unwrap();
    map.servers[0].url.clone_from(&server.url);
    let status = real
        .json("GET", "/v1/status", serde_json::Value::Null)
        .await
        .unwrap();
    for other in [
        refusal("2"),
        refusal("1"),
        answer(400, "2", "no JSON of ours"),
    ] {
        master.says(answer(200, "1", &status.to_string()));
        let client = Client::connect(&master.url).await.unwrap();
        master.says(answer(200, "1", &serde_json::to_string(&map).unwrap()));
        let vector = client.open_vector::<i64>("v").await.unwrap();
        server.says(other);
        let all = async {
            is_told(vector.pull(&[3]).await, &server.url);
            is_told(vector.pull_range(0..10).await, &server.url);
            is_told(vector.push(&[3], &[1]).await, &server.url);
        };
        tokio::time::timeout(SOON, all).await.expect("at once");
    }
    cluster.stop().await;
}
