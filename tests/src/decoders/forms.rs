//! JSON, as the paths of the master and of the servers take it, and as clients take answers.

use glint_protocol::{
    ErrorBody, Layout, ModelDraft, ModelMap, ModelSpec,
    admin::{Adoption, DrainServers, ForgetServer, MoveCopy, ResetModel},
    control::{
        ClusterStatus, CreateModel, Heartbeat, Labels, Leave, Left, Orders, Recovering, Register,
        Registered,
    },
    copies::{ChangeCopies, Suspect},
    data::{PullRequest, PushRequest, Reply},
    frame::{Kind, Request},
    partitioner::partition_size,
};
use glint_world::http::Url;
use serde::de::DeserializeOwned;

use super::variants;

const SPEC: &str = r#"{"name":"w","shape":{"vector":{"keys":40}},"element":"f32","partitions":{"exactly":2},"rule":"add","durability":"sync","partition_count":2}"#;

fn valid() -> Vec<Vec<u8>> {
    let orders = format!(
        r#"{{"cluster":"000000000000000c","term":3,"boot":"0000000000000001","hold":[{{"spec":{SPEC},"incarnation":{{"model":"0000000000000007","generation":1}},"creating":true,"partitions":[{{"partition":0,"epoch":3}}]}}],"drop":[{{"incarnation":{{"model":"0000000000000007","generation":1}},"reason":"deleted"}}]}}"#
    );
    [
        SPEC.to_owned(),
        r#"{"name":"m","shape":{"matrix":{"rows":9,"cols":4}},"element":"i64","partitioning":"cyclic"}"#.into(),
        r#"{"name":"b","shape":{"vector":{"keys":9}},"element":"i32","partitioning":{"boundaries":{"starts":[0,3,5]}}}"#.into(),
        r#"{"lane":{"birth":1,"random":"a"},"number":1,"groups":[{"model":"7","generation":1,"partition":0,"epoch":1,"element":"i32","sections":[{"form":"indices","indices":[3,1],"values":[10,-20]},{"form":"range","start":2,"values":[5]}]}]}"#.into(),
        r#"{"groups":[{"model":"7","generation":1,"partition":0,"epoch":1,"element":"f64","sections":[{"form":"rows","rows":[3,1],"cols":2},{"form":"pairs","rows":[1],"columns":[0]},{"form":"range","start":2,"count":5}]}]}"#.into(),
        format!(r#"{{"cluster":"000000000000000c","heartbeat_ms":100,"orders":{orders}}}"#),
        format!(r#"{{"orders":{orders}}}"#),
        orders,
        map_text(),
        r#"{"from":"s1","to":"s2"}"#.into(),
        r#"{"servers":["s1","s2"]}"#.into(),
        r#"{"node":"n1","zone":"z1"}"#.into(),
        r#"{"server":"s1","boot":"0000000000000001","changes":[{"incarnation":{"model":"0000000000000007","generation":1},"partition":0,"epoch":9,"revision":4,"in_sync":["s2"],"detached":["s3"]}]}"#.into(),
        r#"{"server":"s2","boot":"0000000000000002","silent":[{"server":"s1","boot":"0000000000000001","silent_ms":260}]}"#.into(),
        "http://glint-master.default.svc:7100/".into(),
        "http://[::1]:7100".into(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}

fn map_text() -> String {
    format!(
        r#"{{"cluster":"000000000000000c","spec":{SPEC},"incarnation":{{"model":"0000000000000007","generation":1}},"revision":4,"max_deadline_ms":1000,"servers":[{{"id":"s1","url":"http://s1:1"}}],"holders":[0,0],"epochs":[9,9],"lost":[1]}}"#
    )
}

fn take<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

fn check_spec(spec: &ModelSpec) {
    if spec.check().is_err() {
        return;
    }
    let count = spec.partition_count;
    assert!(count >= 1);
    let some = [0, 1, count / 2, count - 1];
    for partition in some.into_iter().filter(|&p| p < count) {
        assert!(partition_size(spec, partition) <= spec.shape.keys());
    }
    if let Ok(layout) = Layout::new(spec, |_| None) {
        let keys = layout.keys();
        for key in [0, 1, keys / 2, keys.saturating_sub(1)] {
            if key >= keys {
                continue;
            }
            let location = layout.locate(key).expect("a key of the model");
            assert_eq!(layout.key(location.partition, location.local), key);
            assert!(location.local < layout.size(location.partition));
        }
        assert_eq!(layout.locate(keys), None);
    }
}

/// Everything in JSON that is posted or answered.
pub fn forms(data: &[u8]) {
    for bytes in variants(data, &valid()) {
        if let Some(pull) = take::<PullRequest>(&bytes)
            && let Ok(frame) = pull.to_frame()
        {
            Request::parse(&frame, Kind::Pull).expect("a frame of our own");
        }
        if let Some(push) = take::<PushRequest>(&bytes)
            && push.number.0 > 0
            && let Ok(frame) = push.to_frame()
        {
            let request = Request::parse(&frame, Kind::Push).expect("a frame of our own");
            for group in request.groups {
                group.sections().expect("sections of our own");
            }
        }
        if let Some(draft) = take::<ModelDraft>(&bytes)
            && let Ok(spec) = draft.resolve(3)
        {
            spec.check().expect("what was resolved is valid");
            check_spec(&spec);
        }
        if let Some(spec) = take::<ModelSpec>(&bytes) {
            check_spec(&spec);
        }
        take::<Reply>(&bytes);
        take::<ErrorBody>(&bytes);
        take::<CreateModel>(&bytes);
        take::<Heartbeat>(&bytes);
        take::<Leave>(&bytes);
        take::<Orders>(&bytes);
        take::<Recovering>(&bytes);
        take::<Register>(&bytes);
        take::<Registered>(&bytes);
        take::<ClusterStatus>(&bytes);
        take::<ResetModel>(&bytes);
        take::<ForgetServer>(&bytes);
        take::<Adoption>(&bytes);
        take::<MoveCopy>(&bytes);
        take::<DrainServers>(&bytes);
        take::<Labels>(&bytes);
        take::<ChangeCopies>(&bytes);
        take::<Suspect>(&bytes);
        take::<Left>(&bytes);
        if let Ok(text) = std::str::from_utf8(&bytes)
            && let Ok(url) = text.parse::<Url>()
        {
            assert_eq!(url.to_string().parse().as_ref(), Ok(&url));
            // It goes into the head of every request.
            assert!(url.authority().bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}

/// The partition map.
pub fn map(data: &[u8]) {
    for bytes in variants(data, &[map_text().into_bytes()]) {
        let Some(map) = take::<ModelMap>(&bytes) else {
            continue;
        };
        check_spec(&map.spec);
        let consistent = map.is_consistent();
        for partition in 0..map.spec.partition_count.min(100) {
            assert!(map.holder(partition).is_some() || !consistent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_targets_start_from_is_valid() {
        let valid = valid();
        assert!(take::<ModelSpec>(&valid[0]).unwrap().check().is_ok());
        for text in &valid[1..3] {
            take::<ModelDraft>(text).unwrap().resolve(3).unwrap();
        }
        let push = take::<PushRequest>(&valid[3]).unwrap();
        push.to_frame().unwrap();
        let pull = take::<PullRequest>(&valid[4]).unwrap();
        pull.to_frame().unwrap();
        assert!(take::<Registered>(&valid[5]).is_some());
        assert!(take::<Left>(&valid[6]).unwrap().orders.is_some());
        assert!(take::<Orders>(&valid[7]).is_some());
        assert!(take::<ModelMap>(&valid[8]).unwrap().is_consistent());
        assert!(take::<MoveCopy>(&valid[9]).is_some());
        assert_eq!(take::<DrainServers>(&valid[10]).unwrap().servers.len(), 2);
        assert!(take::<Labels>(&valid[11]).unwrap().zone.is_some());
        assert_eq!(take::<ChangeCopies>(&valid[12]).unwrap().changes.len(), 1);
        assert_eq!(take::<Suspect>(&valid[13]).unwrap().silent.len(), 1);
        for url in &valid[14..16] {
            std::str::from_utf8(url).unwrap().parse::<Url>().unwrap();
        }
    }
}
