//! Whether a group is valid for its partition, judged from the spec and the bytes alone, before anything changes.

use glint_protocol::{
    ErrorBody, ErrorCode,
    frame::{Form, Group, Indices, Op, Section},
};

use super::Description;

/// A group whose every index and length fits its partition.
#[derive(Clone, Debug)]
pub struct Checked<'a> {
    /// Its sections.
    pub sections: Vec<Section<'a>>,
    /// How many values they name together.
    pub values: u64,
}

/// Checks a whole group: element type, update rule, forms, lengths, every index and column.
///
/// # Errors
/// `bad`, naming what does not fit and what would.
pub fn check<'a>(
    description: &Description,
    group: &Group<'a>,
    number: u64,
) -> Result<Checked<'a>, ErrorBody> {
    let header = &group.header;
    if header.op != Op::Pull && header.prev.0 >= number {
        return Err(bad(format!(
            "prev {} is not below the number {number}; prev is the last number that was acknowledged before it",
            header.prev
        )));
    }
    if header.op == Op::Skip && (header.sections != 0 || !group.bytes.is_empty()) {
        return Err(bad("a skip has sections; it changes no value"));
    }
    if let Some(element) = header.element
        && element != description.element
    {
        return Err(bad(format!(
            "model '{}' has values of {}, the group has {element}; open the model with its element type",
            description.model, description.element
        )));
    }
    let sections = group.sections()?;
    let mut values = 0u64;
    for (index, section) in sections.iter().enumerate() {
        check_section(description, header.op, section).map_err(|mut error| {
            error.message = format!("section {index}: {}", error.message);
            error
        })?;
        values = values.saturating_add(section.value_count());
    }
    Ok(Checked { sections, values })
}

fn check_section(
    description: &Description,
    op: Op,
    section: &Section<'_>,
) -> Result<(), ErrorBody> {
    if let Some(rule) = section.rule
        && op == Op::Update
        && rule != description.rule
    {
        return Err(bad(format!(
            "update rule '{rule}'; model '{}' has '{}', fixed at its creation",
            description.model, description.rule
        )));
    }
    match section.form {
        Form::Range { start } => {
            let (count, size) = (section.count, description.value_count());
            match start.checked_add(count) {
                Some(end) if end <= size => Ok(()),
                _ => Err(out_of_range(
                    description,
                    &format!("the range of {count} values from {start} on"),
                    "values",
                    size,
                )),
            }
        }
        Form::Indices(indices) if !description.matrix => check_indices(description, indices, "key"),
        Form::Rows { rows, cols } if description.matrix => {
            if cols != description.cols {
                return Err(bad(format!(
                    "rows of {cols} columns; matrix '{}' has {}",
                    description.model, description.cols
                )));
            }
            check_indices(description, rows, "row")
        }
        Form::Pairs { rows, columns } if description.matrix => {
            check_indices(description, rows, "row")?;
            let limit = u64::from(description.cols);
            match first_above(columns, limit) {
                None => Ok(()),
                Some((at, column)) => Err(bad(format!(
                    "column {column} (at place {at}) is out of range: matrix '{}' has {limit} columns",
                    description.model
                ))),
            }
        }
        Form::Indices(_) => Err(bad(format!(
            "'{}' is a matrix: name rows, pairs or a range, not keys",
            description.model
        ))),
        Form::Rows { .. } | Form::Pairs { .. } => Err(bad(format!(
            "'{}' is a vector: name keys or a range, not rows",
            description.model
        ))),
    }
}

fn check_indices(
    description: &Description,
    indices: Indices<'_>,
    what: &str,
) -> Result<(), ErrorBody> {
    match first_above(indices, description.keys) {
        None => Ok(()),
        Some((at, index)) => Err(out_of_range(
            description,
            &format!("local {what} {index} (at place {at})"),
            &format!("{what}s"),
            description.keys,
        )),
    }
}

/// The first index that is not below `limit`, and its place. One fast pass where all is well.
fn first_above(indices: Indices<'_>, limit: u64) -> Option<(usize, u64)> {
    if indices.max().is_none_or(|max| max < limit) {
        return None;
    }
    indices
        .iter()
        .enumerate()
        .find(|&(_, index)| index >= limit)
}

fn out_of_range(description: &Description, named: &str, what: &str, size: u64) -> ErrorBody {
    bad(format!(
        "{named} is out of range: partition {} of model '{}' has {size} {what}, counted from 0 within the partition",
        description.partition, description.model
    ))
}

fn bad(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::Bad, message)
}
