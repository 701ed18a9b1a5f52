//! A pod that runs an image once and ends: so an image that cannot be had is known before a server is stopped for it.

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Component, Names, labels, metadata, pods};
use crate::api::ParameterServer;

pub(super) fn pod(object: &ParameterServer, image: &str) -> Pod {
    let mut metadata = metadata(object, Names::of(object).image_check());
    metadata.labels = Some(labels(object, Some(Component::ImageCheck)));
    let little = || {
        let amounts = [("cpu", "10m"), ("memory", "32Mi")];
        let amounts = amounts.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())));
        Some(amounts.into_iter().collect())
    };
    let mut container = pods::container(object, "image", image, vec!["--version".to_owned()]);
    container.resources = Some(ResourceRequirements {
        requests: little(),
        limits: little(),
        ..ResourceRequirements::default()
    });
    let mut spec = pods::pod(object, container);
    spec.restart_policy = Some("Never".to_owned());
    Pod {
        metadata,
        spec: Some(spec),
        ..Pod::default()
    }
}
