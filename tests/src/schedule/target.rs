//! An open model of any shape and element type, behind one interface: cells, and whole numbers to be added to them.

use std::{ops::Range, sync::Arc};

use glint::{Client, Element, Matrix, ModelHandle, Partitioning, Read, Result, Shape, Vector};
use glint_protocol::{ElementType, ModelSpec};
use glint_world::BoxFuture;

use super::plan::ModelPlan as Plan;

/// Which cells an operation names, and in which form. A cell is a key of a vector, or `row × cols + column`.
#[derive(Clone, Debug)]
pub(super) enum Form {
    Keys(Vec<u64>),
    Range(Range<u64>),
    Rows(Vec<u64>),
    RowRange(Range<u64>),
    Pairs(Vec<(u64, u32)>),
}

impl Form {
    /// The cells, in the order of their values.
    pub(super) fn cells(&self, cols: u64) -> Vec<u64> {
        let rows = |rows: &mut dyn Iterator<Item = u64>| {
            rows.flat_map(|row| row * cols..(row + 1) * cols).collect()
        };
        match self {
            Self::Keys(keys) => keys.clone(),
            Self::Range(keys) => keys.clone().collect(),
            Self::Rows(list) => rows(&mut list.iter().copied()),
            Self::RowRange(range) => rows(&mut range.clone()),
            Self::Pairs(pairs) => pairs
                .iter()
                .map(|&(row, col)| row * cols + u64::from(col))
                .collect(),
        }
    }
}

/// An element type as whole numbers go through it, exactly.
pub(super) trait Whole: Element {
    /// How many pushes a cell can tell apart: two bits each.
    const SLOTS: usize;
    fn of(number: u64) -> Self;
    /// None when it is no whole number that pushes could have made.
    fn back(self) -> Option<u64>;
    fn bits(self) -> u64;
    /// A value whose sums are rounded: their bits depend on the order.
    fn rough(number: u64) -> Self;
    /// The bits of the sum of a value of these bits and such a value.
    fn with_rough(bits: u64, number: u64) -> u64;
}

macro_rules! whole {
    ($type:ty, $slots:literal, $bits:expr, $of_bits:expr, $rough:expr) => {
        impl Whole for $type {
            const SLOTS: usize = $slots;

            fn of(number: u64) -> Self {
                number as Self
            }

            fn back(self) -> Option<u64> {
                let number = self as u64;
                (number as Self == self && self >= Self::default()).then_some(number)
            }

            fn bits(self) -> u64 {
                $bits(self)
            }

            fn rough(number: u64) -> Self {
                $rough(number)
            }

            fn with_rough(bits: u64, number: u64) -> u64 {
                let sum: Self = $of_bits(bits) + Self::rough(number);
                sum.bits()
            }
        }
    };
}

whole!(
    i32,
    15,
    |v: i32| u64::from(v as u32),
    |b: u64| b as i32,
    |n: u64| n as i32
);
whole!(i64, 31, |v: i64| v as u64, |b: u64| b as i64, |n: u64| n
    as i64);
whole!(
    f32,
    12,
    |v: f32| u64::from(v.to_bits()),
    |b: u64| f32::from_bits(b as u32),
    |n: u64| (n % 1000) as f32 / 7.0 + 0.1
);
whole!(f64, 26, f64::to_bits, f64::from_bits, |n: u64| (n % 1000)
    as f64
    / 7.0
    + 0.1);

/// The bits of what a rough push of this number makes of a value of these bits.
pub(super) fn with_rough(element: ElementType, bits: u64, number: u64) -> u64 {
    match element {
        ElementType::I32 => i32::with_rough(bits, number),
        ElementType::I64 => i64::with_rough(bits, number),
        ElementType::F32 => f32::with_rough(bits, number),
        ElementType::F64 => f64::with_rough(bits, number),
    }
}

/// How many pushes a cell of this type can tell apart.
pub(super) fn slots(element: ElementType) -> usize {
    match element {
        ElementType::I32 => i32::SLOTS,
        ElementType::I64 => i64::SLOTS,
        ElementType::F32 => f32::SLOTS,
        ElementType::F64 => f64::SLOTS,
    }
}

/// What came back from a pull.
pub(super) struct Pulled {
    /// Per cell the whole number, if it is one.
    pub(super) numbers: Vec<Option<u64>>,
    /// Per cell the bits.
    pub(super) bits: Vec<u64>,
}

/// An open model.
pub(super) trait Target: Send + Sync {
    fn spec(&self) -> &ModelSpec;
    fn handle(&self) -> ModelHandle;
    /// Adds numbers to cells; `rough` makes fractions of them.
    fn push<'a>(
        &'a self,
        form: &'a Form,
        numbers: &'a [u64],
        rough: bool,
    ) -> BoxFuture<'a, Result<()>>;
    fn pull<'a>(&'a self, form: &'a Form, read: Read) -> BoxFuture<'a, Result<Pulled>>;
}

fn values<T: Whole>(numbers: &[u64], rough: bool) -> Vec<T> {
    let value = if rough { T::rough } else { T::of };
    numbers.iter().map(|&number| value(number)).collect()
}

fn pulled<T: Whole>(values: &[T]) -> Pulled {
    Pulled {
        numbers: values.iter().map(|value| value.back()).collect(),
        bits: values.iter().map(|value| value.bits()).collect(),
    }
}

impl<T: Whole> Target for Vector<T> {
    fn spec(&self) -> &ModelSpec {
        Self::spec(self)
    }

    fn handle(&self) -> ModelHandle {
        Self::handle(self)
    }

    fn push<'a>(
        &'a self,
        form: &'a Form,
        numbers: &'a [u64],
        rough: bool,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let values = values::<T>(numbers, rough);
            match form {
                Form::Range(range) => self.push_range(range.start, &values).await,
                other => Self::push(self, &other.cells(1), &values).await,
            }
        })
    }

    fn pull<'a>(&'a self, form: &'a Form, read: Read) -> BoxFuture<'a, Result<Pulled>> {
        Box::pin(async move {
            let copies = self.reading(read);
            let values = match form {
                Form::Range(range) => copies.pull_range(range.clone()).await?,
                other => Self::pull(&copies, &other.cells(1)).await?,
            };
            Ok(pulled(&values))
        })
    }
}

impl<T: Whole> Target for Matrix<T> {
    fn spec(&self) -> &ModelSpec {
        Self::spec(self)
    }

    fn handle(&self) -> ModelHandle {
        Self::handle(self)
    }

    fn push<'a>(
        &'a self,
        form: &'a Form,
        numbers: &'a [u64],
        rough: bool,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let values = values::<T>(numbers, rough);
            match form {
                Form::RowRange(range) => self.push_row_range(range.start, &values).await,
                Form::Rows(rows) => self.push_rows(rows, &values).await,
                other => self.push_pairs(&pairs(other, self.cols()), &values).await,
            }
        })
    }

    fn pull<'a>(&'a self, form: &'a Form, read: Read) -> BoxFuture<'a, Result<Pulled>> {
        Box::pin(async move {
            let copies = self.reading(read);
            let values = match form {
                Form::RowRange(range) => copies.pull_row_range(range.clone()).await?,
                Form::Rows(rows) => copies.pull_rows(rows).await?,
                other => copies.pull_pairs(&pairs(other, self.cols())).await?,
            };
            Ok(pulled(&values))
        })
    }
}

fn pairs(form: &Form, cols: u32) -> Vec<(u64, u32)> {
    let cols = u64::from(cols);
    let cells = form.cells(cols);
    cells
        .iter()
        .map(|cell| (cell / cols, (cell % cols) as u32))
        .collect()
}

/// How a model is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wish {
    Open,
    OpenOrCreate,
}

/// Opens or creates a model, whatever its type.
pub(super) async fn open(client: &Client, plan: &Plan, wish: Wish) -> Result<Arc<dyn Target>> {
    async fn typed<T: Whole>(client: &Client, plan: &Plan, wish: Wish) -> Result<Arc<dyn Target>> {
        let partitioning = if plan.cyclic {
            Partitioning::Cyclic
        } else {
            Partitioning::Range
        };
        macro_rules! made {
            ($builder:expr) => {{
                let builder = $builder
                    .partitioning(partitioning)
                    .partitions(plan.partitions)
                    .durability(plan.durability)
                    .copies(plan.copies)
                    .min_in_sync(plan.min_in_sync);
                Arc::new(match wish {
                    Wish::Open => builder.open().await?,
                    Wish::OpenOrCreate => builder.open_or_create().await?,
                })
            }};
        }
        Ok(match plan.shape {
            Shape::Vector { keys } => made!(client.vector::<T>(&plan.name, keys)),
            Shape::Matrix { rows, cols } => made!(client.matrix::<T>(&plan.name, rows, cols)),
        })
    }
    match plan.element {
        ElementType::I32 => typed::<i32>(client, plan, wish).await,
        ElementType::I64 => typed::<i64>(client, plan, wish).await,
        ElementType::F32 => typed::<f32>(client, plan, wish).await,
        ElementType::F64 => typed::<f64>(client, plan, wish).await,
    }
}
