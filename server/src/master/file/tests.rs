use glint_protocol::{ErrorCode, copies::CopyRole};

use super::*;
use crate::master::{
    copies::{Claim, Move},
    testing::{self, draft},
};

#[test]
fn a_state_survives_its_file() {
    let mut state = testing::state_with_servers(3);
    testing::make(&mut state, draft("a", 1000), 1);
    testing::make(&mut state, draft("b", 0), 2);
    state.tombstones.push_back(Tombstone {
        incarnation: Incarnation {
            model: glint_protocol::ModelId(9),
            generation: 2,
        },
        reason: GoneReason::Deleted,
        awaited: [ServerId("s1".into())].into(),
        failure: Some(ErrorBody::new(ErrorCode::DoesNotFit, "too large")),
    });
    let model = Arc::make_mut(state.models.get_mut("a").unwrap());
    model.lost.insert(0, LossReason::OlderVolume);
    model.resets.push(RequestId(5));
    state
        .dead
        .insert(ServerId("s9".into()), "http://s9:1".into());
    state.supersede(&ServerId("s1".into()), Boot(8));
    let found = Found {
        spec: state.models["b"].spec.clone(),
        copies: [(
            3,
            vec![FoundCopy {
                server: ServerId("s1".into()),
                epoch: Epoch(5),
                last: (Epoch(4), Position(3)),
                follows: Epoch(6),
                with: Some(vec![ServerId("s2".into())]),
            }],
        )]
        .into(),
        lost: [(1, ServerId("s3".into()))].into(),
    };
    state.adopting = Some(Arc::new(Adopting {
        cluster_known: true,
        servers: [ServerId("s1".into())].into(),
        models: [(Incarnation::default(), found)].into(),
        live: [Incarnation::default()].into(),
        orphans: ["one".to_owned()].into(),
    }));
    let first = state.servers.get_mut(&ServerId("s1".into())).unwrap();
    first.volume = Some(Volume {
        id: glint_protocol::VolumeId(6),
        start: 4,
        clean: true,
    });
    assert_eq!(decode(&encode(&state).unwrap()).unwrap(), state);
}

#[test]
fn a_state_of_the_first_format_still_loads() {
    let json = r#"{"cluster":"000000000000000c","term":3,"epoch":9,"revision":4,
        "servers":[{"id":"s1","url":"http://s1:1","boot":"0000000000000001","capacity_bytes":1000}],
        "models":[{"spec":{"name":"w","shape":{"vector":{"keys":4}},"element":"i64","partitions":{"exactly":2},"partition_count":2},
            "incarnation":{"model":"0000000000000007","generation":1},"live":true,"revision":4,"servers":["s1"],
            "holders":[0,0],"epochs":[[9,2]],"lost":[1]}],
        "tombstones":[]}"#;
    let text = format!(
        "glint-master 1 {:08x}\n{json}",
        checksum(1, json.as_bytes())
    );
    let state = decode(text.as_bytes()).unwrap();
    let model = &state.models["w"];
    assert_eq!(model.lost, [(1, LossReason::Restarted)].into());
    assert_eq!(model.phase, Phase::Live);
    assert_eq!(state.servers[&ServerId("s1".into())].volume, None);
    let again = decode(&encode(&state).unwrap()).unwrap();
    assert_eq!(again, state);
}

#[test]
fn other_copies_survive_the_file_with_all_that_is_known_of_them() {
    let mut state = testing::state_with_servers(4);
    let mut draft = draft("w", 100);
    draft.partitions = glint_protocol::Partitions::Exactly(3);
    testing::make(&mut state, draft, 1);
    let fresh = state.fresh_revision();
    let model = Arc::make_mut(state.models.get_mut("w").unwrap());
    let others: Vec<u32> = ["s2", "s3", "s4"]
        .map(|name| model.intern(&ServerId(name.into())))
        .into();
    model.set_role(0, others[0], Some(CopyRole::InSync));
    model.set_role(0, others[1], Some(CopyRole::Former));
    model.set_role(0, others[2], Some(CopyRole::Learner));
    model.revised(0, fresh);
    model.revised(2, fresh);
    let copies = model.copies.get_mut(&0).unwrap();
    copies.moving = Some(Move {
        from: others[0],
        to: others[2],
    });
    copies.vacant = true;
    copies.claims.push(Claim {
        server: others[1],
        last: (Epoch(3), Position(9)),
    });
    let first = state.servers.get_mut(&ServerId("s1".into())).unwrap();
    first.draining = true;
    first.labels.zone = Some("east".into());
    first.told = Some(glint_protocol::control::Labels {
        node: Some("m1".into()),
        zone: Some("west".into()),
    });
    assert_eq!(decode(&encode(&state).unwrap()).unwrap(), state);
}

#[test]
fn copies_that_contradict_the_holders_are_damage() {
    let mut state = testing::state_with_servers(2);
    testing::make(&mut state, draft("w", 1), 1);
    let model = Arc::make_mut(state.models.get_mut("w").unwrap());
    let holder = model.holders[0];
    model.set_role(0, holder, Some(CopyRole::InSync));
    let error = decode(&encode(&state).unwrap()).unwrap_err();
    assert!(matches!(error, FileError::Damaged(_)), "{error}");
}

#[test]
fn sixty_five_thousand_partitions_stay_compact() {
    let mut state = testing::state_with_servers(8);
    let mut large = draft("large", 1 << 30);
    large.partitions = glint_protocol::Partitions::Exactly(65_536);
    testing::make(&mut state, large, 1);
    let bytes = encode(&state).unwrap();
    assert!(bytes.len() < 200_000, "{} bytes", bytes.len());
    assert_eq!(decode(&bytes).unwrap(), state);
}

#[test]
fn a_newer_format_is_refused_and_said_to_be_newer() {
    let error = decode(b"glint-master 4 whatever\nelse").unwrap_err();
    assert_eq!(error, FileError::Newer { found: 4 });
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[test]
fn any_flipped_byte_is_noticed() {
    let mut state = testing::state_with_servers(2);
    testing::make(&mut state, draft("a", 10), 1);
    let good = encode(&state).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x01;
        assert!(decode(&bad).is_err(), "byte {at}");
        assert!(decode(&good[..at]).is_err(), "cut at {at}");
    }
}
