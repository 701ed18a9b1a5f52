//! Why a parameter server is as it is: the reasons of its conditions, and of the events that tell when one of them changes.
//! There are no others.

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident $weight:ident;)*) => {
        /// Why.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])* $name,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What it means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*),)* }
            }

            /// Whether a person should look: the event is a warning then.
            pub const fn is_warning(self) -> bool {
                match self { $(Self::$name => reasons!(@warning $weight),)* }
            }

            /// Whether events have it; the others only stand in conditions, since they are no news.
            pub const fn is_told(self) -> bool {
                match self { $(Self::$name => reasons!(@told $weight),)* }
            }
        }
    };
    (@warning warning) => { true };
    (@warning $other:ident) => { false };
    (@told quiet) => { false };
    (@told $other:ident) => { true };
}

reasons! {
    /// Master and servers start for the first time.
    Starting quiet;
    /// Master and all servers answer, and all partitions have their values.
    Available normal;
    /// Nothing is being changed.
    Settled quiet;
    /// Nothing is missing.
    Healthy quiet;
    /// Servers are being added.
    ScalingUp normal;
    /// Servers hand over what they hold, to be taken away.
    ScalingDown normal;
    /// Servers cannot be taken away as things are; nothing was.
    ScaleDownRefused warning;
    /// Pods are brought to what the spec says, one at a time.
    RollingOut normal;
    /// Pods are not as the spec says, and none is restarted, since something would be lost or missing.
    RolloutHeld warning;
    /// It is looked whether a new image can be had, before anything is restarted for it.
    CheckingImage quiet;
    /// An image cannot be had.
    ImageUnavailable warning;
    /// A pod has no Kubernetes node to run on, or no volume.
    Unschedulable warning;
    /// A pod cannot be made: a quota, or what the Kubernetes cluster does not admit.
    PodRefused warning;
    /// A pod cannot start with what the spec says, such as a Secret that is not there.
    PodMisconfigured warning;
    /// A process ends again and again.
    Crashing warning;
    /// The master does not answer.
    MasterUnavailable warning;
    /// Servers are not ready.
    ServersUnavailable warning;
    /// Values of partitions are lost.
    PartitionsLost warning;
    /// The spec cannot be followed; what ran before goes on.
    InvalidSpec warning;
    /// An object that is needed exists and belongs to something else.
    NameTaken warning;
    /// The operator leaves it alone, as the spec says.
    Paused quiet;
    /// The operator looks after it.
    Managed quiet;
    /// Kubernetes nodes may not be read, so copies are kept on different machines, and not in different zones.
    ZonesUnknown warning;
    /// `ParameterServer`s cannot be read, so the operator waits; an event about the operator's own pod.
    DefinitionMissing warning;
    /// Something that was deleted or changed by others was made again.
    Restored normal;
    /// A pod is restarted, since it is not as the spec says.
    RestartingPod normal;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_says_what_it_means() {
        for reason in Reason::ALL {
            assert!(reason.meaning().trim().ends_with('.'), "{reason}");
            assert!(reason.to_string().chars().all(char::is_alphanumeric));
        }
    }

    #[test]
    fn events_have_few_reasons() {
        let told = Reason::ALL.iter().filter(|reason| reason.is_told());
        assert!(told.count() <= 20);
        let warns = |reason: &&Reason| reason.is_warning() && !reason.is_told();
        assert_eq!(Reason::ALL.iter().find(warns), None);
    }

    #[test]
    fn the_page_lists_every_reason_and_no_other() {
        let page = include_str!("../../docs/kubernetes.md");
        for reason in Reason::ALL {
            let mark = match (reason.is_warning(), reason.is_told()) {
                (true, _) => " ⚠",
                (false, true) => "",
                (false, false) => " °",
            };
            let row = format!("| `{reason}`{mark} | {} |", reason.meaning().trim());
            assert!(
                page.contains(&row),
                "docs/kubernetes.md lacks the row {row}"
            );
        }
    }
}
