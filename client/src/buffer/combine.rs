//! Updates combined key by key: the most frequent rows in an array, the others in a map.

use std::collections::HashMap;

use glint_protocol::{Element, Rule};

use crate::spread::Spreading;

/// Updates that wait to be pushed.
#[derive(Debug)]
pub(super) struct Combined<T> {
    hot_rows: usize,
    cols: usize,
    /// Values of the hot rows, row-major; empty until the first is touched.
    hot: Vec<Option<T>>,
    touched: usize,
    others: HashMap<(u64, u32), T, Spreading>,
}

impl<T: Element> Combined<T> {
    pub(super) fn new(hot_rows: usize, cols: usize) -> Self {
        Self {
            hot_rows,
            cols,
            hot: Vec::new(),
            touched: 0,
            others: HashMap::default(),
        }
    }

    /// Distinct values held.
    pub(super) fn len(&self) -> usize {
        self.touched + self.others.len()
    }

    pub(super) fn add(&mut self, rule: Rule, row: u64, col: u32, value: T) {
        let merge = |held: T| match rule {
            Rule::Add => held.plus(value),
            Rule::Assign => value,
            Rule::Max => held.greater(value),
            Rule::Min => held.lesser(value),
        };
        if row < self.hot_rows as u64 {
            if self.hot.is_empty() {
                self.hot = vec![None; self.hot_rows * self.cols];
            }
            let place = &mut self.hot[row as usize * self.cols + col as usize];
            self.touched += usize::from(place.is_none());
            *place = Some(place.map_or(value, merge));
        } else {
            self.others
                .entry((row, col))
                .and_modify(|held| *held = merge(*held))
                .or_insert(value);
        }
    }

    /// Takes everything, ordered by row and column, so that the same updates make the same push.
    pub(super) fn take(&mut self) -> (Vec<(u64, u32)>, Vec<T>) {
        let mut others: Vec<((u64, u32), T)> = self.others.drain().collect();
        others.sort_unstable_by_key(|&(place, _)| place);
        let mut places = Vec::with_capacity(self.touched + others.len());
        let mut values = Vec::with_capacity(self.touched + others.len());
        if self.touched > 0 {
            for (at, held) in self.hot.iter_mut().enumerate() {
                if let Some(value) = held.take() {
                    places.push(((at / self.cols) as u64, (at % self.cols) as u32));
                    values.push(value);
                }
            }
        }
        self.touched = 0;
        for (place, value) in others {
            places.push(place);
            values.push(value);
        }
        (places, values)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn combining_gives_what_pushing_one_by_one_would(
            updates in prop::collection::vec((0u64..9, 0u32..3, -50i64..50), 0..200), hot in 0usize..9, rule in 0usize..4,
        ) {
            let rule = Rule::ALL[rule];
            let mut combined = Combined::new(hot, 3);
            let mut expected: BTreeMap<(u64, u32), i64> = BTreeMap::new();
            for &(row, col, value) in &updates {
                combined.add(rule, row, col, value);
                expected.entry((row, col)).and_modify(|held| *held = match rule {
                    Rule::Add => *held + value,
                    Rule::Assign => value,
                    Rule::Max => (*held).max(value),
                    Rule::Min => (*held).min(value),
                }).or_insert(value);
            }
            prop_assert_eq!(combined.len(), expected.len());
            let (places, values) = combined.take();
            prop_assert!(places.is_sorted());
            let taken: BTreeMap<_, _> = places.into_iter().zip(values).collect();
            prop_assert_eq!(taken, expected);
            prop_assert_eq!(combined.len(), 0);
            prop_assert!(combined.take().0.is_empty());
        }
    }
}
