//! Wrong URLs, ports where something else speaks, and deadlines beyond the cluster's.

use std::time::Duration;

use glint::{Client, Error};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::bystander::Bystander;

#[tokio::test]
async fn a_text_that_is_no_url_is_refused_with_an_example() {
    for text in [
        "",
        "localhost:7100",
        "https://localhost:7100",
        "http://localhost:7100/path",
    ] {
        let error = Client::connect(text).await.unwrap_err();
        assert!(matches!(error, Error::Url(_)), "{error:?}");
        assert!(
            error.to_string().contains("http://127.0.0.1:7100"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_url_where_nobody_answers_is_named_after_the_deadline() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{nobody}");
    let error = glint_tests::cluster::connect(&url, Duration::from_millis(200))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&url) && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_port_where_something_else_speaks_is_recognised() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "220 mail.example ESMTP\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let other = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                if stream.read(&mut request).await.is_ok() {
                    stream.write_all(answer.as_bytes()).await.ok();
                }
            }
        });
        let error = glint_tests::cluster::connect(&url, Duration::from_millis(500))
            .await
            .unwrap_err();
        let told = matches!(error, Error::NotGlint { .. });
        assert!(told && error.to_string().contains(&url), "{error:?}");
        other.abort();
    }
}

#[tokio::test]
async fn a_server_given_for_the_master_is_recognised() {
    let mut by = Bystander::new().await;
    let url = by.target.url.clone();
    let error = glint_tests::cluster::connect(&url, Duration::from_millis(500))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotGlint { .. }), "{error:?}");
    assert!(error.to_string().contains("master"), "{error}");
    by.unharmed().await;
    by.end().await;
}

#[tokio::test]
async fn a_deadline_above_the_clusters_longest_is_refused() {
    let by = Bystander::new().await;
    let client = by.cluster.client_for(Duration::from_secs(3600)).await;
    let error = client.open_vector::<i64>("v").await.unwrap_err();
    assert!(matches!(error, Error::DeadlineTooLong { .. }), "{error:?}");
    by.end().await;
}
