//! Taking an operation apart: which values of which partition it touches, in pieces that fit a request, and where each
//! value belongs in the caller's slice. Pure arithmetic; everything is checked here before anything is sent.

mod copy;
mod ground;

use std::ops::Range;

use glint_protocol::frame::write;

pub(crate) use self::ground::Ground;
use crate::{Result, error::Axis};

/// Items (keys, rows, pairs) that are planned at once; longer lists are worked off in such runs, which bounds the memory.
pub(crate) const RUN: usize = 1 << 20;
/// Bytes of a request per listed item, so that a request of 1 MiB lists at most 64 Ki.
const BYTES_PER_ITEM: usize = 16;

/// What a list names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    Indices,
    Rows,
    Pairs,
}

/// One section of one partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) partition: u32,
    /// How many values it reads or updates.
    pub(crate) values: usize,
    place: Place,
}

/// Where the values are, in the partition and in the caller's slice.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// A run there and here.
    Run { local: u64, first: usize },
    /// A run there, every `stride`-th item here.
    Stride {
        local: u64,
        first: usize,
        stride: usize,
    },
    /// Items of the plan's lists from `from` on.
    Listed { from: usize, wide: bool },
}

/// An operation, taken apart. Parts are ordered by partition; several parts of one partition are in the order in which
/// they must be applied.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) parts: Vec<Part>,
    /// Whether no two parts touch the same value.
    pub(crate) distinct: bool,
    listing: Listing,
    /// Values per item in the caller's slice.
    width: usize,
    locals: Vec<u64>,
    columns: Vec<u32>,
    /// The place of each listed item in the request; empty when the lists are in the request's order.
    order: Vec<u32>,
}

impl Plan {
    fn empty(listing: Listing, width: usize) -> Self {
        Self {
            parts: Vec::new(),
            distinct: false,
            listing,
            width,
            locals: Vec::new(),
            columns: Vec::new(),
            order: Vec::new(),
        }
    }

    /// All values of a run of keys or rows, which [`Ground::check_range`] has found to be in the model.
    pub(crate) fn range(ground: &Ground<'_>, range: Range<u64>) -> Result<Self> {
        let mut plan = match ground.layout.stride() {
            Some(1) => Self::runs(ground, range)?,
            Some(_) => Self::strides(ground, range)?,
            None => {
                let keys: Vec<u64> = range.collect();
                Self::keys(ground, &keys)?
            }
        };
        plan.distinct = true;
        Ok(plan)
    }

    fn runs(ground: &Ground<'_>, range: Range<u64>) -> Result<Self> {
        let width = ground.cols();
        let mut plan = Self::empty(Listing::Indices, width);
        let mut key = range.start;
        while key < range.end {
            let (partition, local) = ground.locate(key)?;
            let keys = (ground.layout.size(partition) - local).min(range.end - key) as usize;
            let first = (key - range.start) as usize * width;
            plan.push_run(ground, partition, local * width as u64, first, keys * width);
            key += keys as u64;
        }
        Ok(plan)
    }

    fn push_run(
        &mut self,
        ground: &Ground<'_>,
        partition: u32,
        local: u64,
        first: usize,
        values: usize,
    ) {
        let mut done = 0;
        while done < values {
            let values = ground.most_values().min(values - done);
            self.parts.push(Part {
                partition,
                values,
                place: Place::Run {
                    local: local + done as u64,
                    first: first + done,
                },
            });
            done += values;
        }
    }

    fn strides(ground: &Ground<'_>, range: Range<u64>) -> Result<Self> {
        let width = ground.cols();
        let stride = ground.layout.partitions() as usize;
        let items = (range.end - range.start) as usize;
        let most_items = ground.most_values() / width;
        let mut plan = Self::empty(Listing::Indices, width);
        for first in 0..items.min(stride) {
            let (partition, local) = ground.locate(range.start + first as u64)?;
            let count = (items - first).div_ceil(stride);
            let mut done = 0;
            while done < count {
                let item = first + done * stride;
                let local = (local + done as u64) * width as u64;
                if most_items <= 1 || count == 1 {
                    plan.push_run(ground, partition, local, item * width, width);
                    done += 1;
                    continue;
                }
                let take = most_items.min(count - done);
                plan.parts.push(Part {
                    partition,
                    values: take * width,
                    place: Place::Stride {
                        local,
                        first: item,
                        stride,
                    },
                });
                done += take;
            }
        }
        plan.parts.sort_by_key(|part| part.partition);
        Ok(plan)
    }

    /// Single values of a vector, or whole rows of a matrix; at most [`RUN`] of them.
    pub(crate) fn keys(ground: &Ground<'_>, keys: &[u64]) -> Result<Self> {
        let width = ground.cols();
        let listing = if ground.spec.shape.is_matrix() {
            Listing::Rows
        } else {
            Listing::Indices
        };
        let mut plan = Self::empty(listing, width);
        let (partitions, locals) = locate_all(ground, keys.iter().copied(), keys.len())?;
        if width * ground.spec.element.size() + BYTES_PER_ITEM > ground.request_bytes {
            // Rows so long that each takes requests of its own.
            for (item, (&partition, &local)) in partitions.iter().zip(&locals).enumerate() {
                plan.push_run(ground, partition, local * width as u64, item * width, width);
            }
            plan.parts.sort_by_key(|part| part.partition);
            return Ok(plan);
        }
        plan.group(ground, &partitions, locals, &[]);
        Ok(plan)
    }

    /// Single values of a matrix; at most [`RUN`] of them.
    pub(crate) fn pairs(ground: &Ground<'_>, pairs: &[(u64, u32)]) -> Result<Self> {
        let cols = ground.spec.shape.cols();
        if let Some(&(_, column)) = pairs.iter().find(|&&(_, column)| column >= cols) {
            return Err(ground.out_of_range(Axis::Column, column.into(), cols.into()));
        }
        let (partitions, locals) =
            locate_all(ground, pairs.iter().map(|&(row, _)| row), pairs.len())?;
        let columns: Vec<u32> = pairs.iter().map(|&(_, column)| column).collect();
        let mut plan = Self::empty(Listing::Pairs, 1);
        plan.group(ground, &partitions, locals, &columns);
        Ok(plan)
    }

    /// Brings the items into the order of their partitions, each partition's in the order of the request.
    fn group(
        &mut self,
        ground: &Ground<'_>,
        partitions: &[u32],
        locals: Vec<u64>,
        columns: &[u32],
    ) {
        if partitions.is_sorted() {
            self.locals = locals;
            self.columns = columns.to_vec();
        } else {
            self.order = sorted_order(partitions, ground.layout.partitions() as usize);
            self.locals = self.order.iter().map(|&at| locals[at as usize]).collect();
            if !columns.is_empty() {
                self.columns = self.order.iter().map(|&at| columns[at as usize]).collect();
            }
        }
        let item_bytes = (self.width * ground.spec.element.size() + 8).max(BYTES_PER_ITEM);
        let most = (ground.request_bytes / item_bytes).max(1);
        let mut from = 0;
        while from < partitions.len() {
            let partition = self.partition_at(partitions, from);
            // They are sorted: the end of a partition is found by bisection.
            let to = partitions.len().min(from + most);
            let count = if self.order.is_empty() {
                partitions[from..to].partition_point(|&other| other == partition)
            } else {
                self.order[from..to].partition_point(|&item| partitions[item as usize] == partition)
            };
            let wide = write::needs_wide(ground.layout.size(partition));
            self.parts.push(Part {
                partition,
                values: count * self.width,
                place: Place::Listed { from, wide },
            });
            from += count;
        }
    }

    fn partition_at(&self, partitions: &[u32], at: usize) -> u32 {
        match self.order.get(at) {
            Some(&item) => partitions[item as usize],
            None => partitions[at],
        }
    }
}

fn locate_all(
    ground: &Ground<'_>,
    keys: impl Iterator<Item = u64>,
    count: usize,
) -> Result<(Vec<u32>, Vec<u64>)> {
    let mut partitions = Vec::with_capacity(count);
    let mut locals = Vec::with_capacity(count);
    for key in keys {
        let (partition, local) = ground.locate(key)?;
        partitions.push(partition);
        locals.push(local);
    }
    Ok((partitions, locals))
}

/// The items ordered by partition; those of one partition stay in the order of the request.
fn sorted_order(partitions: &[u32], count: usize) -> Vec<u32> {
    if partitions.len() < count / 4 {
        let mut order: Vec<u32> = (0..partitions.len() as u32).collect();
        order.sort_by_key(|&at| partitions[at as usize]);
        return order;
    }
    let mut next = vec![0u32; count + 1];
    for &partition in partitions {
        next[partition as usize + 1] += 1;
    }
    for at in 1..next.len() {
        next[at] += next[at - 1];
    }
    let mut order = vec![0; partitions.len()];
    for (item, &partition) in partitions.iter().enumerate() {
        let place = &mut next[partition as usize];
        order[*place as usize] = item as u32;
        *place += 1;
    }
    order
}

#[cfg(test)]
mod tests;
