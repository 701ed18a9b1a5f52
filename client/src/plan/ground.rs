//! What a plan needs to know of its model, and the checks that come before anything is sent.

use std::ops::Range;

use glint_protocol::{Layout, ModelSpec};

use crate::{Error, Result, error::Axis};

/// What a plan needs to know of its model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) spec: &'a ModelSpec,
    pub(crate) layout: &'a Layout,
    pub(crate) request_bytes: usize,
}

impl Ground<'_> {
    pub(super) fn cols(&self) -> usize {
        self.spec.shape.cols() as usize
    }

    pub(super) fn most_values(&self) -> usize {
        self.request_bytes / self.spec.element.size()
    }

    pub(crate) fn axis(&self) -> Axis {
        if self.spec.shape.is_matrix() {
            Axis::Row
        } else {
            Axis::Key
        }
    }

    /// Refuses an index that the model does not have.
    pub(crate) fn out_of_range(&self, axis: Axis, index: u64, size: u64) -> Error {
        Error::OutOfRange {
            model: self.spec.name.clone(),
            axis,
            index,
            size,
        }
    }

    /// Refuses a range that ends behind the model, or before it starts.
    pub(crate) fn check_range(&self, range: &Range<u64>) -> Result<usize> {
        let keys = self.layout.keys();
        if range.start > range.end || range.end > keys {
            let index = if range.end > keys {
                range.end - 1
            } else {
                range.start
            };
            return Err(self.out_of_range(self.axis(), index, keys));
        }
        Ok((range.end - range.start) as usize)
    }

    pub(super) fn locate(&self, key: u64) -> Result<(u32, u64)> {
        let Some(at) = self.layout.locate(key) else {
            return Err(self.out_of_range(self.axis(), key, self.layout.keys()));
        };
        // Only a partitioner of the user's own can be wrong here; the servers would refuse its indices too.
        if at.partition >= self.layout.partitions() || at.local >= self.layout.size(at.partition) {
            return Err(Error::InvalidSpec {
                message: format!(
                    "partitioner '{}' puts {} {key} of model '{}' at index {} of partition {}, which there is not; correct it",
                    self.spec.partitioning.name(),
                    self.axis(),
                    self.spec.name,
                    at.local,
                    at.partition
                ),
            });
        }
        Ok((at.partition, at.local))
    }
}
