//! Reading values into a reply: the same forms as updates have. The sections have been checked: every index is in range.

use glint_protocol::{
    Element,
    frame::{Form, Section},
};
use prefetch_index::prefetch_index;

use super::{
    rule::{AHEAD, ROWS_AHEAD, flat, narrow, wide},
    values::{Values, each_type},
};

/// Appends the values of all sections, one after another, little-endian.
pub fn append(values: &Values, cols: u32, sections: &[Section<'_>], out: &mut Vec<u8>) {
    each_type!(values, values => for section in sections {
        append_section(values, cols as usize, section, out);
    });
}

fn append_section<T: Element + bytemuck::NoUninit>(
    values: &[T],
    cols: usize,
    section: &Section<'_>,
    out: &mut Vec<u8>,
) {
    match section.form {
        Form::Range { start } => {
            let start = start as usize;
            run(&values[start..start + section.count as usize], out);
        }
        Form::Indices(indices) if indices.is_wide() => single(values, wide(indices), out),
        Form::Indices(indices) => single(values, narrow(indices), out),
        Form::Rows { rows, .. } => {
            for (at, row) in rows.iter().enumerate() {
                if at + ROWS_AHEAD < rows.len() {
                    prefetch_index(values, rows.get(at + ROWS_AHEAD) as usize * cols);
                }
                let start = row as usize * cols;
                run(&values[start..start + cols], out);
            }
        }
        Form::Pairs { rows, columns } if rows.is_wide() => {
            single(values, flat(wide(rows), narrow(columns), cols), out);
        }
        Form::Pairs { rows, columns } => {
            single(values, flat(narrow(rows), narrow(columns), cols), out);
        }
    }
}

/// Neighbouring values: on a little-endian machine they lie in memory as they do in a frame, so it is one copy.
pub(super) fn run<T: Element + bytemuck::NoUninit>(values: &[T], out: &mut Vec<u8>) {
    if cfg!(target_endian = "little") {
        out.extend_from_slice(bytemuck::cast_slice(values));
    } else {
        T::append(values, out);
    }
}

/// Single values anywhere.
fn single<T: Element>(
    values: &[T],
    indices: impl Iterator<Item = usize> + Clone,
    out: &mut Vec<u8>,
) {
    let mut ahead = indices.clone().skip(AHEAD);
    let start = out.len();
    out.resize(start + indices.clone().count() * T::SIZE, 0);
    for (index, bytes) in indices.zip(out[start..].chunks_exact_mut(T::SIZE)) {
        if let Some(next) = ahead.next() {
            prefetch_index(values, next);
        }
        values[index].write_le(bytes);
    }
}
