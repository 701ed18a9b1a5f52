//! The values of a partition: dense, of one element type, of exactly the size they need.

use std::collections::TryReserveError;

use super::read::run;
use glint_protocol::{Element, ElementType, Scalar};

/// Values of one element type.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// 32-bit integers.
    I32(Vec<i32>),
    /// 64-bit integers.
    I64(Vec<i64>),
    /// Single precision.
    F32(Vec<f32>),
    /// Double precision.
    F64(Vec<f64>),
}

/// Runs an expression for the vector within, whatever its type is.
macro_rules! each_type {
    ($values:expr, $vec:ident => $body:expr) => {
        match $values {
            $crate::partition::Values::I32($vec) => $body,
            $crate::partition::Values::I64($vec) => $body,
            $crate::partition::Values::F32($vec) => $body,
            $crate::partition::Values::F64($vec) => $body,
        }
    };
}
pub(super) use each_type;

impl Values {
    /// `count` values, all `initial`.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn new(
        element: ElementType,
        count: usize,
        initial: Scalar,
    ) -> Result<Self, TryReserveError> {
        fn filled<T: Element>(count: usize, initial: Scalar) -> Result<Vec<T>, TryReserveError> {
            let mut values = Vec::new();
            values.try_reserve_exact(count)?;
            values.resize(count, T::from_scalar(initial).unwrap_or_default());
            Ok(values)
        }
        Ok(match element {
            ElementType::I32 => Self::I32(filled(count, initial)?),
            ElementType::I64 => Self::I64(filled(count, initial)?),
            ElementType::F32 => Self::F32(filled(count, initial)?),
            ElementType::F64 => Self::F64(filled(count, initial)?),
        })
    }

    /// No values.
    pub fn empty(element: ElementType) -> Self {
        match element {
            ElementType::I32 => Self::I32(Vec::new()),
            ElementType::I64 => Self::I64(Vec::new()),
            ElementType::F32 => Self::F32(Vec::new()),
            ElementType::F64 => Self::F64(Vec::new()),
        }
    }

    /// No values, with room for `count`.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn with_capacity(element: ElementType, count: usize) -> Result<Self, TryReserveError> {
        let mut values = Self::empty(element);
        each_type!(&mut values, values => values.try_reserve_exact(count))?;
        Ok(values)
    }

    /// Appends values from their little-endian bytes; bytes that are no whole value are left out.
    pub fn extend_from_le(&mut self, bytes: &[u8]) {
        fn extend<T: Element>(values: &mut Vec<T>, bytes: &[u8]) {
            values.extend(bytes.chunks_exact(T::SIZE).map(T::from_le));
        }
        each_type!(self, values => extend(values, bytes));
    }

    /// Puts the values of these little-endian bytes from this place on: in the place of others, and behind the last.
    pub fn put_le(&mut self, at: usize, bytes: &[u8]) {
        fn put<T: Element + bytemuck::Pod>(values: &mut [T], bytes: &[u8]) {
            if cfg!(target_endian = "little") {
                // As they lie: one copy, whatever the alignment.
                bytemuck::cast_slice_mut(values).copy_from_slice(bytes);
            } else {
                T::decode(bytes, values);
            }
        }
        let count = bytes.len() / self.element().size();
        self.grow(at + count);
        each_type!(self, values => put(&mut values[at..at + count], bytes));
    }

    /// Appends zeros, up to so many values.
    pub fn grow(&mut self, count: usize) {
        fn grow<T: Element>(values: &mut Vec<T>, count: usize) {
            values.resize(count.max(values.len()), T::default());
        }
        each_type!(self, values => grow(values, count));
    }

    /// The little-endian bytes of the values at these places.
    pub fn to_le(&self, places: std::ops::Range<usize>) -> Vec<u8> {
        fn append<T: Element + bytemuck::NoUninit>(values: &[T]) -> Vec<u8> {
            let mut out = Vec::with_capacity(std::mem::size_of_val(values));
            run(values, &mut out);
            out
        }
        each_type!(self, values => append(&values[places]))
    }

    /// The type of the values.
    pub fn element(&self) -> ElementType {
        match self {
            Self::I32(_) => ElementType::I32,
            Self::I64(_) => ElementType::I64,
            Self::F32(_) => ElementType::F32,
            Self::F64(_) => ElementType::F64,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        each_type!(self, values => values.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that they take in memory.
    pub fn bytes(&self) -> usize {
        each_type!(self, values => std::mem::size_of_val(values.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_start_at_the_initial_value_and_take_no_more_than_they_need() {
        let values = Values::new(ElementType::F32, 1000, Scalar::Float(1.5)).unwrap();
        let Values::F32(inner) = &values else {
            panic!("{values:?}")
        };
        assert!(inner.iter().all(|&v| v == 1.5));
        assert_eq!((inner.capacity(), values.bytes()), (1000, 4000));
    }

    #[test]
    fn what_no_machine_can_hold_is_an_error_and_no_abort() {
        for element in ElementType::ALL {
            assert!(Values::new(element, usize::MAX / 16, Scalar::default()).is_err());
        }
    }
}
