//! The status of an object that cannot be read, as an older version of the definition may have admitted it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Fact;
use crate::{
    api::{ParameterServerStatus, Phase},
    reason::Reason,
};

/// What was known stays: what runs goes on, and who scales it or looks at its servers goes by the status. Only that it is not
/// followed is new.
pub fn unreadable(
    before: &ParameterServerStatus,
    generation: Option<i64>,
    why: &str,
    now: &Time,
) -> ParameterServerStatus {
    let mut status = before.clone();
    status.observed_generation = generation;
    status.phase = Some(Phase::Invalid);
    for (kind, holds) in [("Ready", false), ("Degraded", true)] {
        let place = status.conditions.iter().position(|c| c.type_ == kind);
        let old = place.map(|place| status.conditions[place].clone());
        let new: Condition = Fact::new(holds, Reason::InvalidSpec, why).condition(
            kind,
            old.as_ref(),
            generation,
            now,
        );
        match place {
            Some(place) => status.conditions[place] = new,
            None => status.conditions.push(new),
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn time(seconds: i64) -> Time {
        Time(Timestamp::from_second(seconds).unwrap_or_default())
    }

    fn condition(kind: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: "before".to_owned(),
            observed_generation: Some(3),
            last_transition_time: time(1),
        }
    }

    #[test]
    fn what_was_known_stays_and_is_not_written_again() {
        let before = ParameterServerStatus {
            observed_generation: Some(3),
            phase: Some(Phase::Ready),
            conditions: vec![
                condition("Ready", "True", "Available"),
                condition("Progressing", "False", "Settled"),
            ],
            current_servers: Some(2),
            ready_servers: Some(2),
            partitions: Some(16),
            selector: Some("a=b".to_owned()),
            ..ParameterServerStatus::default()
        };
        let status = unreadable(&before, Some(4), "what is this?", &time(2));
        assert_eq!(status.observed_generation, Some(4));
        assert_eq!(status.phase, Some(Phase::Invalid));
        let kept = |s: &ParameterServerStatus| {
            (
                s.current_servers,
                s.ready_servers,
                s.partitions,
                s.selector.clone(),
            )
        };
        assert_eq!(kept(&status), kept(&before));
        let [ready, progressing, degraded] = status.conditions.as_slice() else {
            panic!("three conditions: {status:?}");
        };
        assert_eq!(*progressing, before.conditions[1]);
        for (condition, holds) in [(ready, "False"), (degraded, "True")] {
            assert_eq!(condition.status, holds);
            assert_eq!(condition.reason, "InvalidSpec");
            assert_eq!(condition.message, "what is this?");
            assert_eq!(condition.observed_generation, Some(4));
            assert_eq!(condition.last_transition_time, time(2));
        }
        let later = unreadable(&status, Some(4), "what is this?", &time(9));
        assert_eq!(later, status, "nothing is new");
    }
}
