//! The image of new pods: a new one reaches nobody before it is known to be there.

use kube::ResourceExt;

use super::{Progress, Step};
use crate::{
    api::ParameterServer,
    build::{Installation, wanted_image},
    observe::{self, Observed, Trouble},
    reason::Reason,
};

/// The image of new pods, and what is done to find out about a new one.
pub(super) struct ImageDecision {
    pub(super) image: String,
    pub(super) steps: Vec<Step>,
    pub(super) progress: Option<Progress>,
}

pub(super) fn image(
    object: &ParameterServer,
    installation: &Installation,
    observed: &Observed,
) -> ImageDecision {
    let wanted = wanted_image(object, installation);
    let remove = observed.image_pod.as_ref().and_then(|pod| {
        let gone = pod.metadata.deletion_timestamp.is_some();
        let uid = pod.uid()?;
        (!gone).then_some(Step::RemoveImageCheck { uid })
    });
    let former = observed
        .servers
        .as_ref()
        .and_then(|set| {
            set.spec
                .as_ref()?
                .template
                .spec
                .as_ref()?
                .containers
                .first()
        })
        .and_then(|container| container.image.clone());
    let running = observed
        .server_pods
        .iter()
        .any(|(_, pod)| observe::is_ready(pod));
    let former = match former {
        // Nothing that runs could be hurt by it, or it is what there is.
        Some(former) if former != wanted && running => former,
        _ => {
            return ImageDecision {
                image: wanted,
                steps: remove.into_iter().collect(),
                progress: None,
            };
        }
    };
    let waits = |steps, progress| ImageDecision {
        image: former.clone(),
        steps,
        progress: Some(progress),
    };
    let checking = Progress::under_way(
        Reason::CheckingImage,
        format!("looking whether {wanted} can be had before anything is restarted"),
    );
    let Some(pod) = &observed.image_pod else {
        return waits(vec![Step::CheckImage], checking);
    };
    if observe::image(pod) != Some(wanted.as_str()) || pod.metadata.deletion_timestamp.is_some() {
        return waits(remove.into_iter().collect(), checking);
    }
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    match (phase, observe::trouble(pod)) {
        (Some("Succeeded"), _) => ImageDecision {
            image: wanted,
            steps: Vec::new(),
            progress: None,
        },
        (Some("Failed"), _) => waits(
            Vec::new(),
            Progress::held(
                Reason::ImageUnavailable,
                format!(
                    "{wanted} does not run `glint --version`: name an image of Glint; what runs goes on with {former}"
                ),
            ),
        ),
        (_, Some(Trouble { reason, message })) => waits(
            Vec::new(),
            Progress::held(
                reason,
                format!("{message}; what runs goes on with {former}"),
            ),
        ),
        _ => waits(Vec::new(), checking),
    }
}
