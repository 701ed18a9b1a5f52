//! Orders of the master.

use super::*;

async fn obey(server: &Server, hold: Vec<Hold>, drop: Vec<Drop>) -> Result<(), ErrorCode> {
    let orders = orders(server, hold, drop);
    server.obey(orders).await.map_err(|error| error.code)
}

#[tokio::test]
async fn values_are_made_once_only_while_the_model_is_being_made() {
    let server = serving().await;
    ask(&server, "/v1/push", push(1, &[add(0, 0, &[1])])).await;
    // The same order again, as after an answer that got lost.
    obey(&server, vec![hold(vector(), MODEL, true)], Vec::new())
        .await
        .unwrap();
    assert_eq!(values(&server, 0).await[0], 1);
}

#[tokio::test]
async fn what_it_is_to_hold_and_does_not_have_is_lost_and_never_zeros() {
    let server = unregistered(1 << 20);
    let answer = registration(&server, vec![hold(vector(), MODEL, false)]);
    server.registered(answer).await.unwrap();
    for (path, body) in [
        ("/v1/push", push(1, &[add(0, 0, &[1])])),
        ("/v1/pull", pull(&[read(0)])),
    ] {
        let error = code(&server, path, body).await;
        assert_eq!(error.code, ErrorCode::Lost);
        assert!(
            error.message.contains("glint model reset"),
            "{}",
            error.message
        );
    }
    assert!(
        server.state.copies().is_empty(),
        "what is lost is not reported"
    );
    // Late orders of the time when it was made do not bring zeros.
    obey(&server, vec![hold(vector(), MODEL, true)], Vec::new())
        .await
        .unwrap();
    let error = code(&server, "/v1/pull", pull(&[read(0)])).await;
    assert_eq!(error.code, ErrorCode::Lost);
}

#[tokio::test]
async fn an_epoch_rises_and_never_falls_and_a_late_word_of_loss_is_ignored() {
    let server = serving().await;
    let at = |epoch, lost| {
        let mut hold = hold(vector(), MODEL, false);
        hold.partitions = vec![HeldPartition {
            lost,
            ..held(0, Epoch(epoch))
        }];
        vec![hold]
    };
    obey(&server, at(5, false), Vec::new()).await.unwrap();
    obey(&server, at(4, true), Vec::new()).await.unwrap();
    let error = code(&server, "/v1/pull", pull(&[read(0)])).await;
    assert_eq!(
        (error.code, error.detail.unwrap().epoch),
        (ErrorCode::StaleMap, Some(Epoch(5)))
    );
    let mut fresh = read(0);
    fresh.header.epoch = Epoch(5);
    let results = ask(&server, "/v1/pull", pull(&[fresh])).await;
    assert_eq!(results[0].0, Status::Values);
    obey(&server, at(6, true), Vec::new()).await.unwrap();
    let error = code(&server, "/v1/pull", pull(&[read(0)])).await;
    assert_eq!(error.code, ErrorCode::Lost);
}

#[tokio::test]
async fn orders_of_an_earlier_term_or_for_another_boot_are_refused() {
    let server = serving().await;
    let at = |term, boot| Orders {
        term: Term(term),
        boot,
        ..orders(&server, Vec::new(), Vec::new())
    };
    server.obey(at(4, server.boot())).await.unwrap();
    for (order, hint) in [
        (at(3, server.boot()), "term 4"),
        (at(4, Boot(server.boot().0 ^ 1)), "boot"),
    ] {
        let body = serde_json::to_vec(&order).unwrap();
        let error = refused(&server, "/v1/orders", JSON, body).await;
        assert_eq!(error.code, ErrorCode::StaleOrder);
        assert!(error.message.contains(hint), "{}", error.message);
    }
    let (status, _, body) = post(
        &server,
        "/v1/orders",
        JSON,
        serde_json::to_vec(&at(4, server.boot())).unwrap(),
    )
    .await;
    assert_eq!((status, body.as_slice()), (StatusCode::OK, &b"{}"[..]));
}

#[tokio::test]
async fn another_cluster_is_refused_while_partitions_are_held_and_joined_when_empty() {
    let other = |server: &Server| {
        let mut answer = registration(server, Vec::new());
        answer.cluster = ClusterId(0xc2);
        answer.orders.cluster = ClusterId(0xc2);
        answer
    };
    let server = serving().await;
    server
        .obey(Orders {
            term: Term(9),
            ..orders(&server, Vec::new(), Vec::new())
        })
        .await
        .unwrap();
    let error = server.registered(other(&server)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::WrongCluster);
    assert_eq!(values(&server, 0).await, [0; 5], "it serves on");
    let drop = Drop {
        incarnation: MODEL,
        reason: GoneReason::Deleted,
    };
    server
        .obey(Orders {
            term: Term(9),
            ..orders(&server, Vec::new(), vec![drop])
        })
        .await
        .unwrap();
    // Terms of different clusters have nothing to do with each other: 1 is not below 9 here.
    server.registered(other(&server)).await.unwrap();
}

#[tokio::test]
async fn what_is_lost_binds_a_server_to_no_cluster() {
    let server = unregistered(1000);
    let lost = hold(vector(), MODEL, false);
    server
        .registered(registration(&server, vec![lost]))
        .await
        .unwrap();
    assert!(server.state.copies().is_empty());
    let mut answer = registration(&server, Vec::new());
    answer.cluster = ClusterId(0xc2);
    answer.orders.cluster = ClusterId(0xc2);
    server.registered(answer).await.unwrap();
}

#[tokio::test]
async fn a_dropped_model_is_gone_with_the_reason_and_a_late_order_does_not_bring_it_back() {
    let server = serving().await;
    let drop = Drop {
        incarnation: MODEL,
        reason: GoneReason::Reset,
    };
    let next = Incarnation {
        generation: 2,
        ..MODEL
    };
    obey(&server, vec![hold(vector(), next, true)], vec![drop])
        .await
        .unwrap();
    obey(&server, vec![hold(vector(), MODEL, true)], Vec::new())
        .await
        .unwrap();
    let error = code(&server, "/v1/push", push(1, &[add(0, 0, &[1])])).await;
    assert_eq!(
        (error.code, error.detail.unwrap().reason),
        (ErrorCode::Gone, Some(GoneReason::Reset))
    );
    let mut fresh = read(0);
    fresh.header.incarnation = next;
    let results = ask(&server, "/v1/pull", pull(&[fresh])).await;
    assert_eq!(results[0].0, Status::Values);

    let mut unheard = read(0);
    unheard.header.incarnation.generation = 3;
    let error = code(&server, "/v1/pull", pull(&[unheard])).await;
    assert_eq!(error.code, ErrorCode::StaleMap);
    let mut unknown = read(0);
    unknown.header.incarnation.model = ModelId(99);
    let error = code(&server, "/v1/pull", pull(&[unknown])).await;
    assert_eq!(
        error.code,
        ErrorCode::StaleMap,
        "it may have moved from here: the master knows"
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_the_numbers_and_nothing_is_held() {
    let server = unregistered(79);
    server
        .registered(registration(&server, Vec::new()))
        .await
        .unwrap();
    let order = orders(&server, vec![hold(vector(), MODEL, true)], Vec::new());
    let error = server.obey(order).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::DoesNotFit);
    assert!(
        error.message.contains("40 bytes") && error.message.contains("may hold 79"),
        "{}",
        error.message
    );
    assert!(server.state.models.load().by_incarnation.is_empty());
}

#[tokio::test]
async fn a_spec_that_contradicts_itself_is_refused() {
    let server = serving().await;
    let next = Incarnation {
        model: ModelId(8),
        generation: 1,
    };
    let no_partitions = ModelSpec {
        partition_count: 0,
        ..vector()
    };
    let mut other_spec = vector();
    other_spec.draft.rule = Rule::Max;
    let mut outside = hold(vector(), next, true);
    outside.partitions.push(held(2, EPOCH));
    for (hold, code) in [
        (hold(no_partitions, next, true), ErrorCode::InvalidSpec),
        (hold(other_spec, MODEL, true), ErrorCode::InvalidSpec),
        (outside, ErrorCode::BadRequest),
    ] {
        assert_eq!(obey(&server, vec![hold], Vec::new()).await, Err(code));
    }
    assert_eq!(server.state.models.load().by_incarnation.len(), 1);
}

#[tokio::test]
async fn an_order_in_parts_is_the_same_as_one() {
    let server = unregistered(1 << 20);
    server
        .registered(registration(&server, Vec::new()))
        .await
        .unwrap();
    for partition in [1, 0] {
        let mut part = hold(vector(), MODEL, true);
        part.partitions.retain(|held| held.partition == partition);
        obey(&server, vec![part], Vec::new()).await.unwrap();
    }
    assert_eq!(values(&server, 0).await, values(&server, 1).await);
    assert_eq!(server.state.copies().len(), 2);
}
