//! Models, keys, rows, columns, lengths and sizes that do not fit.

use glint::{Axis, Error};
use glint_protocol::{ElementType, ErrorCode, Rule, frame::write};
use glint_tests::{cluster::Cluster, wire::Target};

use super::bystander::{Bystander, KEYS};

#[tokio::test]
async fn an_unknown_model_is_named() {
    let mut by = Bystander::new().await;
    let error = by.client.open_vector::<i64>("nothing").await.unwrap_err();
    assert!(matches!(&error, Error::UnknownModel { model } if model == "nothing"));
    assert!(error.to_string().contains("create"), "{error}");
    let error = by.master.map("nothing").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::UnknownModel);
    let mut stranger = by.target.clone();
    stranger.incarnation.model.0 ^= 1;
    let mut sections = Vec::new();
    write::range(&mut sections, None, 8, 0, 1);
    let body = stranger.pull(&sections, 1);
    let unknown = stranger.incarnation.to_string();
    // It might have moved from here: what became of it the master knows.
    let told = [unknown.as_str(), "fresh map"];
    by.refuses_group("/v1/pull", body, ErrorCode::StaleMap, &told)
        .await;
    by.end().await;
}

#[tokio::test]
async fn a_model_opened_with_another_element_type_or_shape_is_refused_with_the_right_one() {
    let mut by = Bystander::new().await;
    let error = by.client.open_vector::<f32>("v").await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::WrongElement {
                has: ElementType::I64,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("i64"), "{error}");
    let error = by.client.open_matrix::<i64>("v").await.unwrap_err();
    assert!(matches!(error, Error::WrongShape { .. }), "{error:?}");
    let wrong = Target {
        element: ElementType::F64,
        ..by.target.clone()
    };
    let mut sections = Vec::new();
    write::indices(&mut sections, Some(Rule::Add), 8, &[3], false);
    sections.extend_from_slice(&1_f64.to_le_bytes());
    let body = wrong.push(Bystander::lane(), 1, 0, &sections, 1);
    by.refuses_group("/v1/push", body, ErrorCode::Bad, &["i64", "f64"])
        .await;
    by.end().await;
}

#[tokio::test]
async fn another_update_rule_than_the_models_is_refused() {
    let mut by = Bystander::new().await;
    let mut sections = Vec::new();
    write::indices(&mut sections, Some(Rule::Assign), 8, &[3], false);
    sections.extend_from_slice(&1_i64.to_le_bytes());
    let body = by.target.push(Bystander::lane(), 1, 0, &sections, 1);
    by.refuses_group("/v1/push", body, ErrorCode::Bad, &["add", "assign"])
        .await;
    by.end().await;
}

#[tokio::test]
async fn a_key_out_of_range_is_named_with_the_size_and_nothing_is_sent() {
    let mut by = Bystander::new().await;
    let requests = by.client.stats().requests;
    for key in [KEYS, u64::MAX] {
        let error = by.vector.pull(&[0, key, 1]).await.unwrap_err();
        let named = matches!(error, Error::OutOfRange { axis: Axis::Key, index, size: KEYS, .. } if index == key);
        assert!(named, "{error:?}");
        assert!(error.to_string().contains(&key.to_string()), "{error}");
        assert!(by.vector.push(&[0, key], &[1, 1]).await.is_err());
    }
    assert!(by.vector.pull_range(5..11).await.is_err());
    assert!(by.vector.push_range(5, &[1; 6]).await.is_err());
    assert!(by.vector.push_range(u64::MAX, &[1; 2]).await.is_err());
    assert_eq!(by.client.stats().requests, requests);
    by.unharmed().await;
    // A client that does not check is refused by the server, though the other index is fine.
    let mut sections = Vec::new();
    write::indices(&mut sections, Some(Rule::Add), 8, &[3, 10], false);
    sections.extend_from_slice(&[1_i64, 1].map(i64::to_le_bytes).concat());
    let body = by.target.push(Bystander::lane(), 1, 0, &sections, 1);
    by.refuses_group("/v1/push", body, ErrorCode::Bad, &["10"])
        .await;
    let mut sections = Vec::new();
    write::range(&mut sections, None, 8, u64::MAX, 2);
    let body = by.target.pull(&sections, 1);
    by.refuses_group("/v1/pull", body, ErrorCode::Bad, &["10"])
        .await;
    by.end().await;
}

#[tokio::test]
async fn a_row_or_column_out_of_range_is_named_with_the_size() {
    let mut by = Bystander::new().await;
    let matrix = by.client.matrix::<f32>("m", 6, 4).create().await.unwrap();
    let error = matrix.pull_rows(&[5, 6]).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::OutOfRange {
                axis: Axis::Row,
                index: 6,
                size: 6,
                ..
            }
        ),
        "{error:?}"
    );
    let error = matrix
        .push_pairs(&[(5, 3), (0, 4)], &[1.0, 1.0])
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::OutOfRange {
                axis: Axis::Column,
                index: 4,
                size: 4,
                ..
            }
        ),
        "{error:?}"
    );
    let error = matrix.pull_pairs(&[(7, 0)]).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::OutOfRange {
                axis: Axis::Row,
                index: 7,
                size: 6,
                ..
            }
        ),
        "{error:?}"
    );
    let target = Target::new(&by.master.map("m").await.unwrap(), 0);
    let mut sections = Vec::new();
    write::pairs(&mut sections, Some(Rule::Add), 4, &[5, 0], &[3, 4], false);
    sections.extend_from_slice(&[1_f32, 1.0].map(f32::to_le_bytes).concat());
    let body = target.push(Bystander::lane(), 1, 0, &sections, 1);
    by.refuses_group("/v1/push", body, ErrorCode::Bad, &["4"])
        .await;
    let mut sections = Vec::new();
    write::rows(&mut sections, None, 4, &[6], 4, false);
    by.refuses_group(
        "/v1/pull",
        target.pull(&sections, 1),
        ErrorCode::Bad,
        &["6"],
    )
    .await;
    let mut sections = Vec::new();
    write::rows(&mut sections, None, 4, &[5], 5, false);
    by.refuses_group(
        "/v1/pull",
        target.pull(&sections, 1),
        ErrorCode::Bad,
        &["4", "5"],
    )
    .await;
    assert_eq!(matrix.pull_row_range(0..6).await.unwrap(), [0.0; 24]);
    by.end().await;
}

#[tokio::test]
async fn lengths_that_do_not_match_are_refused_with_both() {
    let mut by = Bystander::new().await;
    let error = by.vector.push(&[1, 2, 3], &[1, 2]).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Length {
                expected: 3,
                given: 2,
                ..
            }
        ),
        "{error:?}"
    );
    let mut small = [0; 1];
    assert!(matches!(
        by.vector.pull_into(&[1, 2], &mut small).await,
        Err(Error::Length { .. })
    ));
    let matrix = by.client.matrix::<f32>("m", 6, 4).create().await.unwrap();
    let error = matrix.push_rows(&[1, 2], &[1.0; 7]).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Length {
                expected: 8,
                given: 7,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(matches!(
        matrix.push_pairs(&[(1, 1)], &[]).await,
        Err(Error::Length { .. })
    ));
    let mut sections = Vec::new();
    write::indices(&mut sections, Some(Rule::Add), 8, &[3, 4], false);
    sections.extend_from_slice(&1_i64.to_le_bytes());
    let length = sections.len() - 16;
    sections[24..28].copy_from_slice(&8_u32.to_le_bytes());
    assert_eq!(
        length, 32,
        "header, two indices, and one value of eight bytes"
    );
    let body = by.target.push(Bystander::lane(), 1, 0, &sections, 1);
    by.refuses_group("/v1/push", body, ErrorCode::Bad, &["16", "8"])
        .await;
    by.end().await;
}

#[tokio::test]
async fn a_model_that_overflows_or_exceeds_what_the_servers_hold_is_refused_with_the_sum() {
    let mut by = Bystander::new().await;
    let error = by
        .client
        .matrix::<f64>("overflow", u64::MAX, u32::MAX)
        .create()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InvalidSpec { .. }), "{error:?}");
    let error = by
        .client
        .vector::<f64>("huge", 1 << 50)
        .create()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DoesNotFit { .. }), "{error:?}");
    let text = error.to_string();
    // What it needs, what there is and where, and what to do.
    for part in [
        "model 'huge' needs 8.0 PiB (9007199254740992 bytes)",
        "have 1.0 GiB free (server-0: 1.0 GiB)",
        "add servers",
    ] {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    let error = by
        .client
        .matrix::<f64>("empty", 10, 0)
        .create()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InvalidSpec { .. }), "{error:?}");
    let error = by
        .client
        .vector::<f64>("a/b", 10)
        .create()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InvalidSpec { .. }), "{error:?}");
    assert_eq!(
        by.client.models().await.unwrap().len(),
        1,
        "nothing was made"
    );
    by.unharmed().await;
    by.end().await;
}

#[tokio::test]
async fn what_many_models_hold_together_is_counted() {
    let cluster = Cluster::with_capacity(2, 1 << 20).await;
    let client = cluster.client().await;
    client
        .vector::<f64>("a", 100_000)
        .partitions(2)
        .create()
        .await
        .unwrap();
    client
        .vector::<f64>("b", 100_000)
        .partitions(2)
        .create()
        .await
        .unwrap();
    let error = client
        .vector::<f64>("c", 100_000)
        .partitions(2)
        .create()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DoesNotFit { .. }), "{error:?}");
    client.delete("a").await.unwrap();
    client
        .vector::<f64>("c", 100_000)
        .partitions(2)
        .create()
        .await
        .unwrap();
    cluster.stop().await;
}
