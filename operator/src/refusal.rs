//! Why a pod that should be there is not: what its `StatefulSet`'s controller met when it made it, such as a quota.
//!
//! The controller tells it by events, ever more rarely: after a while it tries again only every quarter of an hour, and events
//! are forgotten, too. So what was said last stands in the status until the pod is there.

use k8s_openapi::{
    api::core::v1::Event,
    jiff::{SignedDuration, Timestamp},
};

use crate::{api::ParameterServer, observe, reason::Reason};

/// An event older than this may be about a pod that was made since, unless it is what the status says already.
const RECENT: SignedDuration = SignedDuration::from_mins(5);

/// Why pods of the `StatefulSet` `set` are not there, from the events about it and from what the status of `object` says; to
/// be asked while some are missing.
pub fn refusal(
    object: &ParameterServer,
    set: &str,
    events: &[Event],
    now: Timestamp,
) -> Option<String> {
    let when = |event: &Event| event.last_timestamp.as_ref().map(|t| t.0);
    let newest = events
        .iter()
        .filter(|event| when(event).is_some_and(|t| now.duration_since(t) < RECENT))
        .max_by_key(|event| when(event));
    let words = newest.and_then(|event| event.message.as_deref());
    words
        .map(|words| format!("{}{}", start(set), observe::shortened(words)))
        .or_else(|| said(object, set))
}

fn start(set: &str) -> String {
    format!("StatefulSet {set} cannot make a pod: ")
}

/// What the status says of the `StatefulSet`.
fn said(object: &ParameterServer, set: &str) -> Option<String> {
    let conditions = object.status.iter().flat_map(|s| &s.conditions);
    let refused = conditions
        .into_iter()
        .find(|c| c.type_ == "Degraded" && c.reason == Reason::PodRefused.to_string())?;
    let start = start(set);
    let from = refused.message.find(&start)?;
    // That of another one may follow.
    let rest = &refused.message[from..];
    let end = rest[start.len()..].find("; StatefulSet ");
    Some(rest[..end.map_or(rest.len(), |end| start.len() + end)].to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(said: Option<&str>) -> ParameterServer {
        let condition = said.map(|message| {
            json!({"type": "Degraded", "status": "True", "reason": "PodRefused", "message": message,
                   "lastTransitionTime": "2026-01-01T00:00:00Z"})
        });
        let object = json!({
            "apiVersion": "glint.dev/v1alpha1", "kind": "ParameterServer",
            "metadata": {"name": "lda"}, "spec": {},
            "status": {"conditions": condition.into_iter().collect::<Vec<_>>()},
        });
        serde_json::from_value(object).unwrap_or_else(|e| panic!("{e}"))
    }

    fn event(message: &str, at: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "message": message, "lastTimestamp": at,
        }))
        .unwrap_or_else(|e| panic!("{e}"))
    }

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z"
            .parse()
            .unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn the_newest_words_count_and_stand_until_there_are_others() {
        let events = [
            event("old quota", "2026-01-01T11:57:00Z"),
            event("new quota", "2026-01-01T11:59:00Z"),
        ];
        let first = refusal(&object(None), "lda-server", &events, now());
        let words = "StatefulSet lda-server cannot make a pod: new quota";
        assert_eq!(first.as_deref(), Some(words));
        // Its controller is silent for a quarter of an hour, and Kubernetes forgets the events.
        let late = [event("new quota", "2026-01-01T11:45:00Z")];
        for events in [&late[..], &[]] {
            let kept = refusal(&object(Some(words)), "lda-server", events, now());
            assert_eq!(kept.as_deref(), Some(words));
        }
        let other = [event("another quota", "2026-01-01T11:59:59Z")];
        let now = refusal(&object(Some(words)), "lda-server", &other, now());
        assert_eq!(
            now.as_deref(),
            Some("StatefulSet lda-server cannot make a pod: another quota")
        );
    }

    #[test]
    fn an_old_event_is_not_about_what_is_missing_now() {
        let late = [event("a quota", "2026-01-01T11:45:00Z")];
        assert_eq!(refusal(&object(None), "lda-server", &late, now()), None);
        let of_other = object(Some("StatefulSet lda-server is refused: no"));
        assert_eq!(refusal(&of_other, "lda-server", &late, now()), None);
    }

    #[test]
    fn each_set_keeps_what_was_said_of_it() {
        let servers = "StatefulSet lda-server cannot make a pod: quota; 2 of 3";
        let master = "StatefulSet lda-master cannot make a pod: claims";
        let both = object(Some(&format!("{servers}; {master}")));
        let kept = |set| refusal(&both, set, &[], now());
        assert_eq!(kept("lda-server").as_deref(), Some(servers));
        assert_eq!(kept("lda-master").as_deref(), Some(master));
    }
}
