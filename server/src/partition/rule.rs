//! Merging updates into values, straight from a frame's bytes: one loop per element type, update rule and form, each so
//! plain that the compiler vectorises it. The sections have been checked: every index is in range.

use glint_protocol::{
    Element, Rule,
    frame::{Form, Indices, Section},
};
use prefetch_index::prefetch_index;

use super::values::{Values, each_type};

/// How many indices ahead of use a value is asked for from memory: about what fits into one access to main memory.
pub(super) const AHEAD: usize = 64;
/// The same for rows, which bring several lines each.
pub(super) const ROWS_AHEAD: usize = 8;

/// Merges sections, one after another.
pub fn apply(values: &mut Values, rule: Rule, cols: u32, sections: &[Section<'_>]) {
    each_type!(values, values => for section in sections {
        merge(values, rule, cols as usize, section);
    });
}

fn merge<T: Element>(values: &mut [T], rule: Rule, cols: usize, section: &Section<'_>) {
    match rule {
        Rule::Add => merge_with(values, cols, section, T::plus),
        Rule::Assign => merge_with(values, cols, section, |_, update| update),
        Rule::Max => merge_with(values, cols, section, T::greater),
        Rule::Min => merge_with(values, cols, section, T::lesser),
    }
}

fn merge_with<T: Element>(
    values: &mut [T],
    cols: usize,
    section: &Section<'_>,
    rule: impl Fn(T, T) -> T + Copy,
) {
    match section.form {
        Form::Range { start } => {
            let start = start as usize;
            run(
                &mut values[start..start + section.count as usize],
                section.values,
                rule,
            );
        }
        Form::Indices(indices) if indices.is_wide() => {
            single(values, wide(indices), section.values, rule);
        }
        Form::Indices(indices) => single(values, narrow(indices), section.values, rule),
        Form::Rows { rows, .. } => {
            let updates = section.values.chunks_exact((cols * T::SIZE).max(1));
            for (at, (row, updates)) in rows.iter().zip(updates).enumerate() {
                if at + ROWS_AHEAD < rows.len() {
                    prefetch_index(&*values, rows.get(at + ROWS_AHEAD) as usize * cols);
                }
                let start = row as usize * cols;
                run(&mut values[start..start + cols], updates, rule);
            }
        }
        Form::Pairs { rows, columns } => {
            let columns = narrow(columns);
            if rows.is_wide() {
                single(
                    values,
                    flat(wide(rows), columns, cols),
                    section.values,
                    rule,
                );
            } else {
                single(
                    values,
                    flat(narrow(rows), columns, cols),
                    section.values,
                    rule,
                );
            }
        }
    }
}

/// Neighbouring values.
fn run<T: Element>(values: &mut [T], updates: &[u8], rule: impl Fn(T, T) -> T) {
    for (value, update) in values.iter_mut().zip(updates.chunks_exact(T::SIZE)) {
        *value = rule(*value, T::from_le(update));
    }
}

/// Single values anywhere.
fn single<T: Element>(
    values: &mut [T],
    indices: impl Iterator<Item = usize> + Clone,
    updates: &[u8],
    rule: impl Fn(T, T) -> T,
) {
    let mut ahead = indices.clone().skip(AHEAD);
    for (index, update) in indices.zip(updates.chunks_exact(T::SIZE)) {
        if let Some(next) = ahead.next() {
            prefetch_index(&*values, next);
        }
        let value = &mut values[index];
        *value = rule(*value, T::from_le(update));
    }
}

/// Indices of 4 bytes.
pub(super) fn narrow(indices: Indices<'_>) -> impl Iterator<Item = usize> + Clone {
    let (numbers, _) = indices.bytes().as_chunks();
    numbers.iter().map(|b| u32::from_le_bytes(*b) as usize)
}

/// Indices of 8 bytes.
pub(super) fn wide(indices: Indices<'_>) -> impl Iterator<Item = usize> + Clone {
    let (numbers, _) = indices.bytes().as_chunks();
    numbers.iter().map(|b| u64::from_le_bytes(*b) as usize)
}

/// Rows and columns as places in a row-major matrix.
pub(super) fn flat(
    rows: impl Iterator<Item = usize> + Clone,
    columns: impl Iterator<Item = usize> + Clone,
    cols: usize,
) -> impl Iterator<Item = usize> + Clone {
    rows.zip(columns)
        .map(move |(row, column)| row * cols + column)
}
