//! How keys, shapes and values are written on the command line.

use std::{ops::Range, str::FromStr};

use glint_protocol::{Scalar, Shape};

/// A number that may be grouped by underscores: `1_000_000`.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.replace('_', "").parse().ok()
}

/// A count: `1_000_000`.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    number(text).ok_or_else(|| format!("'{text}' is not a count: give one such as 1_000_000"))
}

/// Rows and columns: `4258x20`.
pub(crate) fn matrix(text: &str) -> Result<Shape, String> {
    text.split_once(['x', 'X', '×'])
        .and_then(|(rows, cols)| {
            Some(Shape::Matrix {
                rows: number(rows)?,
                cols: number(cols)?,
            })
        })
        .ok_or_else(|| format!("'{text}' is not a matrix: give rows and columns, such as 4258x20"))
}

/// One key, or a run of keys whose end is not among them: `7`, `5..9`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys(pub(crate) Range<u64>);

impl FromStr for Keys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = match text.split_once("..") {
            Some((start, end)) => number(start).zip(number(end)),
            None => number(text).and_then(|key: u64| Some((key, key.checked_add(1)?))),
        };
        match range {
            Some((start, end)) if start <= end => Ok(Self(start..end)),
            _ => Err(format!(
                "'{text}' is no key: give one such as 7, or a run such as 5..9 (5, 6, 7, 8)"
            )),
        }
    }
}

/// A row and a column: `3:14`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair(pub(crate) u64, pub(crate) u32);

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once(':')
            .and_then(|(row, column)| Some(Self(number(row)?, number(column)?)))
            .ok_or_else(|| {
                format!("'{text}' is no place in a matrix: give row and column, such as 3:14")
            })
    }
}

/// One value for one place: `7=1.5` in a vector, `3:14=1.5` in a matrix.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Update {
    Key(u64, Scalar),
    Pair(Pair, Scalar),
}

impl FromStr for Update {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, value) = text.split_once('=').ok_or_else(|| {
            format!("'{text}' is no update: give 7=1.5 for a vector, 3:14=1.5 for a matrix")
        })?;
        let value = value.parse()?;
        if place.contains(':') {
            return Ok(Self::Pair(place.parse()?, value));
        }
        number(place)
            .map(|key| Self::Key(key, value))
            .ok_or_else(|| format!("'{place}' is no key: give a number, as in 7=1.5"))
    }
}

/// The values of a whole row: `3=1,2,3`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row(pub(crate) u64, pub(crate) Vec<Scalar>);

impl FromStr for Row {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (row, values) = text
            .split_once('=')
            .and_then(|(row, values)| Some((number(row)?, values)))
            .ok_or_else(|| {
                format!("'{text}' is no row: give its number and all its values, such as 3=1,2,3")
            })?;
        let values: Result<Vec<Scalar>, String> =
            values.split(',').map(|v| v.trim().parse()).collect();
        Ok(Self(row, values?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_counts_are_read_as_people_write_them() {
        assert_eq!(count("1_000_000"), Ok(1_000_000));
        assert_eq!(
            matrix("4_258x20"),
            Ok(Shape::Matrix {
                rows: 4258,
                cols: 20
            })
        );
        for text in ["", "x", "3", "3x", "3x-1", "3x99999999999"] {
            assert!(matrix(text).unwrap_err().contains("4258x20"));
        }
        assert!(count("many").unwrap_err().contains("1_000_000"));
    }

    #[test]
    fn keys_are_single_or_runs_without_their_end() {
        assert_eq!("7".parse(), Ok(Keys(7..8)));
        assert_eq!("5..9".parse(), Ok(Keys(5..9)));
        assert_eq!("5..5".parse(), Ok(Keys(5..5)));
        for text in ["", "a", "9..5", "5..", "-1", "18446744073709551615"] {
            assert!(text.parse::<Keys>().unwrap_err().contains("5..9"), "{text}");
        }
    }

    #[test]
    fn updates_name_their_place_and_value() {
        assert_eq!("7=1.5".parse(), Ok(Update::Key(7, Scalar::Float(1.5))));
        assert_eq!("7=-2".parse(), Ok(Update::Key(7, Scalar::Integer(-2))));
        assert_eq!(
            "3:14=2".parse(),
            Ok(Update::Pair(Pair(3, 14), Scalar::Integer(2)))
        );
        assert_eq!(
            "3=1, 2.5,NaN".parse(),
            Ok(Row(
                3,
                vec![
                    Scalar::Integer(1),
                    Scalar::Float(2.5),
                    Scalar::Float(f64::NAN)
                ]
            ))
        );
        for text in ["7", "x=1", "7=x", "1:=2"] {
            assert!(text.parse::<Update>().is_err(), "{text}");
        }
        for text in ["3", "x=1", "3=1,,2"] {
            assert!(text.parse::<Row>().is_err(), "{text}");
        }
    }
}
