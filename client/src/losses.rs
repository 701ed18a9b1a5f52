//! What servers have told this client about acknowledged pushes that are gone: only those of durability `async`, and only
//! when a server's whole machine stopped without warning.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// Losses that are kept for the caller; of more, only the number.
const KEPT: usize = 1024;

/// Acknowledged pushes that a partition has forgotten: its machine stopped before they were on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForgottenPushes {
    /// The model's name.
    pub model: String,
    /// The partition.
    pub partition: u32,
    /// How many pushes of one lane that may be, at most.
    pub at_most: u64,
}

/// Those of one client.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    kept: Mutex<VecDeque<ForgottenPushes>>,
}

impl Losses {
    /// Notes one and tells of it in the log. The oldest goes when there are too many.
    pub(crate) fn note(&self, loss: ForgottenPushes) {
        tracing::warn!(
            model = loss.model,
            partition = loss.partition,
            at_most = loss.at_most,
            "acknowledged pushes are gone: the machine of their server stopped before they were on its disk (durability async)"
        );
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(loss);
    }

    /// Takes all out.
    pub(crate) fn take(&self) -> Vec<ForgottenPushes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.drain(..).collect()
    }
}
