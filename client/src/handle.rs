//! Handles that travel: a model's name and identity, to be opened in another process.

use glint_protocol::{ElementType, Incarnation, ModelMap, Shape, error::GoneReason};
use serde::{Deserialize, Serialize};

use crate::{Applied, Error, Result, routing::Model};

/// Names one model, from its creation to its deletion or reset. It can be serialised, sent to another process, and opened
/// there with [`crate::Client::attach`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelHandle {
    /// The model's name.
    pub name: String,
    /// Which model of that name.
    pub incarnation: Incarnation,
    /// Vector or matrix, and how large.
    pub shape: Shape,
    /// Type of its values.
    pub element: ElementType,
}

impl ModelHandle {
    pub(crate) fn of(model: &Model) -> Self {
        Self {
            name: model.spec.name.clone(),
            incarnation: model.incarnation,
            shape: model.spec.shape,
            element: model.spec.element,
        }
    }

    pub(crate) fn gone(&self) -> Error {
        Error::Gone {
            model: self.name.clone(),
            reason: GoneReason::Deleted,
            applied: Applied::No,
        }
    }

    /// Refuses another model, or another generation of it.
    pub(crate) fn check(&self, map: &ModelMap) -> Result<()> {
        if map.incarnation == self.incarnation {
            return Ok(());
        }
        Err(if map.incarnation.model == self.incarnation.model {
            Error::Gone {
                model: self.name.clone(),
                reason: GoneReason::Reset,
                applied: Applied::No,
            }
        } else {
            self.gone()
        })
    }
}
