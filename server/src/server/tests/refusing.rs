//! Requests that are refused, and that they change nothing.

use glint_protocol::{MAX_BODY_BYTES, VERSION_HEADER};

use super::*;

#[tokio::test]
async fn a_server_that_has_not_registered_says_retry() {
    let server = unregistered(1 << 20);
    for (path, body) in [
        ("/v1/push", push(1, &[add(0, 0, &[1])])),
        ("/v1/pull", pull(&[read(0)])),
    ] {
        assert_eq!(code(&server, path, body).await.code, ErrorCode::Retry);
    }
    let request = || Request::get("/readyz").body(Body::empty()).unwrap();
    let response = server.router().oneshot(request()).await.unwrap();
    assert_eq!(response.status().as_u16(), ErrorCode::Retry.http_status());
    let answer = registration(&server, Vec::new());
    server.registered(answer).await.unwrap();
    let response = server.router().oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_broken_request_is_refused_as_a_whole_and_nothing_of_it_is_applied() {
    let server = serving().await;
    let whole = push(1, &[add(0, 0, &[1]), add(1, 0, &[1])]);
    let mut versioned = whole.clone();
    versioned[4] = 9;
    let twice = push(1, &[add(0, 0, &[1]), add(0, 1, &[1])]);
    for (body, code, hint) in [
        (
            whole[..whole.len() - 1].to_vec(),
            ErrorCode::BadRequest,
            "group 1",
        ),
        (
            [&whole[..], &[0]].concat(),
            ErrorCode::BadRequest,
            "1 bytes follow",
        ),
        (b"PUT me".to_vec(), ErrorCode::BadRequest, "header"),
        (vec![b'x'; 100], ErrorCode::BadRequest, "GLNT"),
        (versioned, ErrorCode::UnsupportedProtocol, "version 9"),
        (twice, ErrorCode::BadRequest, "two groups"),
        (pull(&[read(0)]), ErrorCode::BadRequest, "pull"),
        (
            push(0, &[add(0, 0, &[1])]),
            ErrorCode::BadRequest,
            "number 0",
        ),
        (Vec::new(), ErrorCode::BadRequest, "0 of the 48 bytes"),
    ] {
        let error = refused(&server, "/v1/push", BINARY, body).await;
        assert_eq!(error.code, code, "{hint}");
        assert!(error.message.contains(hint), "{}", error.message);
    }
    assert_eq!(values(&server, 0).await, [0; 5]);
    let results = ask(&server, "/v1/push", whole).await;
    assert_eq!(results[0].1, Position(1), "no position was used up");
}

#[tokio::test]
async fn json_that_is_not_understood_is_refused_with_the_place() {
    let server = serving().await;
    for (body, hint) in [
        ("{", "EOF"),
        (
            r#"{"lane":{"birth":1,"random":"a"},"number":1,"group":[]}"#,
            "group",
        ),
        (
            r#"{"lane":{"birth":1,"random":"a"},"number":1,"groups":[{"model":"7","generation":1,"partition":0,"epoch":3,
               "element":"i64","sections":[{"form":"indices","indices":[0],"values":[0.5]}]}]}"#,
            "does not fit",
        ),
    ] {
        let error = refused(&server, "/v1/push", JSON, body).await;
        assert_eq!(error.code, ErrorCode::BadRequest);
        assert!(error.message.contains(hint), "{}", error.message);
    }
    let error = refused(&server, "/v1/push", "text/plain", "{}").await;
    assert!(error.message.contains(JSON) && error.message.contains(BINARY));
}

#[tokio::test]
async fn a_request_is_answered_alike_past_the_router_and_by_it() {
    let server = serving().await;
    let requests: [(&str, &str, Option<&str>, Vec<u8>); 7] = [
        ("POST", "/v1/push", None, push(1, &[add(0, 0, &[1])])),
        (
            "POST",
            "/v1/push?a=b",
            Some("1"),
            push(1, &[add(0, 0, &[1])]),
        ),
        ("POST", "/v1/pull", Some("1"), pull(&[read(0)])),
        ("POST", "/v1/push", Some("2"), push(2, &[add(0, 0, &[1])])),
        ("POST", "/v1/push", None, Vec::new()),
        ("GET", "/v1/push", None, Vec::new()),
        ("POST", "/v1/push/", None, Vec::new()),
    ];
    for (method, path, version, body) in requests {
        let request = || {
            let mut request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::CONTENT_TYPE, BINARY);
            if let Some(version) = version {
                request = request.header(VERSION_HEADER, version);
            }
            request.body(Body::from(body.clone())).unwrap()
        };
        let (mut past, by) = (
            server.paths().respond(request()).await,
            server.router().oneshot(request()).await.unwrap(),
        );
        assert_eq!(past.headers()[VERSION_HEADER], "1");
        // Where the router says how long an answer is, else the connection does.
        if let Some(length) = by.headers().get(header::CONTENT_LENGTH) {
            past.headers_mut()
                .insert(header::CONTENT_LENGTH, length.clone());
        }
        assert_eq!(
            (past.status(), past.headers()),
            (by.status(), by.headers()),
            "{method} {path}"
        );
        let (past, by) = (past.into_body().collect(), by.into_body().collect());
        assert_eq!(past.await.unwrap().to_bytes(), by.await.unwrap().to_bytes());
    }
}

#[tokio::test]
async fn a_body_or_an_answer_above_the_cap_is_too_large() {
    let server = serving().await;
    let error = refused(&server, "/v1/push", BINARY, vec![0; MAX_BODY_BYTES + 1]).await;
    assert_eq!(error.code, ErrorCode::TooLarge);

    // A small request that asks for much: the same five values again and again.
    let mut bytes = Vec::new();
    let sections = u16::MAX;
    for _ in 0..sections {
        write::range(&mut bytes, None, 8, 0, 5);
    }
    let ask_for = |partition| {
        let mut group = group(Op::Pull, partition, bytes.clone());
        group.header.sections = sections;
        group
    };
    let body = pull(&[ask_for(0), ask_for(1)]);
    assert!(2 * usize::from(sections) * 40 <= MAX_BODY_BYTES);
    let results = ask(&server, "/v1/pull", body).await;
    assert_eq!(results[1].2.len(), usize::from(sections) * 40);

    let draft = ModelDraft::new("large", Shape::Vector { keys: 1 << 21 }, ElementType::I64);
    let large = ModelDraft {
        partitions: Partitions::Exactly(1),
        ..draft
    };
    let incarnation = Incarnation {
        model: ModelId(8),
        generation: 1,
    };
    let server = unregistered(1 << 30);
    let answer = registration(
        &server,
        vec![hold(large.resolve(1).unwrap(), incarnation, true)],
    );
    server.registered(answer).await.unwrap();
    let mut bytes = Vec::new();
    write::range(&mut bytes, None, 8, 0, 1 << 21);
    let mut group = group(Op::Pull, 0, bytes);
    group.header.incarnation = incarnation;
    let error = refused(&server, "/v1/pull", BINARY, pull(&[group])).await;
    assert_eq!(error.code, ErrorCode::TooLarge);
    assert!(
        error.message.contains("16777216 bytes"),
        "{}",
        error.message
    );
}

#[tokio::test]
async fn a_json_pull_of_much_is_sent_to_the_binary_form() {
    let server = serving().await;
    let section = r#"{"form":"range","start":0,"count":5}"#;
    let sections = vec![section; 30_000].join(",");
    let body = format!(
        r#"{{"groups":[{{"model":"7","generation":1,"partition":0,"epoch":3,"element":"i64","sections":[{sections}]}}]}}"#
    );
    let error = refused(&server, "/v1/pull", JSON, body).await;
    assert_eq!(error.code, ErrorCode::TooLarge);
    assert!(error.message.contains(BINARY));
}

#[tokio::test]
async fn a_partition_that_is_not_here_is_told_apart_from_one_that_does_not_exist() {
    let server = unregistered(1 << 20);
    let mut one = hold(vector(), MODEL, true);
    one.partitions.truncate(1);
    let answer = registration(&server, vec![one]);
    server.registered(answer).await.unwrap();
    let error = code(&server, "/v1/pull", pull(&[read(1)])).await;
    assert_eq!(error.code, ErrorCode::StaleMap);
    let error = code(&server, "/v1/pull", pull(&[read(2)])).await;
    assert_eq!(error.code, ErrorCode::Bad);
    assert!(
        error.message.contains("has 2 partitions"),
        "{}",
        error.message
    );
}

#[tokio::test]
async fn a_push_interrupted_by_a_defect_makes_its_partition_lost_and_harms_no_other() {
    let server = serving().await;
    let models = server.state.models.load_full();
    let slot = Arc::clone(models.slots().next().unwrap());
    let broken = std::thread::spawn(move || {
        let _partition = slot.lock();
        panic!("in the midst of an update");
    });
    assert!(broken.join().is_err());
    let error = code(&server, "/v1/push", push(1, &[add(0, 0, &[1])])).await;
    assert_eq!(error.code, ErrorCode::Lost);
    let results = ask(&server, "/v1/push", push(1, &[add(1, 0, &[1])])).await;
    assert_eq!(results[0].0, Status::Applied);
}
