//! Between the caller's slice and the bytes of sections.

use glint_protocol::{
    Element, Rule,
    frame::{SectionHeader, write},
};

use super::{Listing, Part, Place, Plan};

impl Plan {
    /// Bytes of a part's section; `size` is that of a value.
    pub(crate) fn section_length(&self, part: &Part, size: usize, with_values: bool) -> usize {
        let values = if with_values { part.values * size } else { 0 };
        let indices = match part.place {
            Place::Run { .. } | Place::Stride { .. } => 0,
            Place::Listed { wide, .. } => {
                let columns = if self.listing == Listing::Pairs { 4 } else { 0 };
                part.values / self.width * (if wide { 8 } else { 4 } + columns)
            }
        };
        SectionHeader::SIZE + indices + values
    }

    /// Appends a part's section, without values.
    pub(crate) fn write_section(
        &self,
        part: &Part,
        rule: Option<Rule>,
        size: usize,
        out: &mut Vec<u8>,
    ) {
        match part.place {
            Place::Run { local, .. } | Place::Stride { local, .. } => {
                write::range(out, rule, size, local, part.values);
            }
            Place::Listed { from, wide } => {
                let to = from + part.values / self.width;
                let locals = &self.locals[from..to];
                match self.listing {
                    Listing::Indices => write::indices(out, rule, size, locals, wide),
                    Listing::Rows => {
                        write::rows(out, rule, size, locals, self.width as u32, wide);
                    }
                    Listing::Pairs => {
                        write::pairs(out, rule, size, locals, &self.columns[from..to], wide);
                    }
                }
            }
        }
    }

    /// Appends a part's values, taken from the caller's slice.
    pub(crate) fn gather<T: Element>(&self, part: &Part, values: &[T], out: &mut Vec<u8>) {
        match part.place {
            Place::Run { first, .. } => T::append(&values[first..first + part.values], out),
            Place::Listed { from, .. } if self.order.is_empty() => {
                let first = from * self.width;
                T::append(&values[first..first + part.values], out);
            }
            Place::Stride { .. } | Place::Listed { .. } if self.width == 1 => {
                let start = out.len();
                out.resize(start + part.values * T::SIZE, 0);
                let bytes = out[start..].chunks_exact_mut(T::SIZE);
                match part.place {
                    Place::Listed { from, .. } => {
                        for (bytes, &item) in bytes.zip(&self.order[from..]) {
                            values[item as usize].write_le(bytes);
                        }
                    }
                    Place::Stride { first, stride, .. } => {
                        for (bytes, value) in bytes.zip(values[first..].iter().step_by(stride)) {
                            value.write_le(bytes);
                        }
                    }
                    Place::Run { .. } => {}
                }
            }
            Place::Stride { .. } | Place::Listed { .. } => {
                for item in 0..part.values / self.width {
                    let first = self.item(part, item) * self.width;
                    T::append(&values[first..first + self.width], out);
                }
            }
        }
    }

    /// Writes values of a part, from the `skip`-th on, into the caller's slice.
    pub(crate) fn scatter<T: Element>(
        &self,
        part: &Part,
        skip: usize,
        bytes: &[u8],
        out: &mut [T],
    ) {
        match part.place {
            Place::Run { first, .. } => T::decode(bytes, &mut out[first + skip..]),
            Place::Listed { from, .. } if self.order.is_empty() => {
                T::decode(bytes, &mut out[from * self.width + skip..]);
            }
            Place::Listed { from, .. } if self.width == 1 => {
                let items = &self.order[from + skip..];
                for (bytes, &item) in bytes.chunks_exact(T::SIZE).zip(items) {
                    out[item as usize] = T::from_le(bytes);
                }
            }
            Place::Stride { first, stride, .. } if self.width == 1 => {
                let places = out[first + skip * stride..].iter_mut().step_by(stride);
                for (place, bytes) in places.zip(bytes.chunks_exact(T::SIZE)) {
                    *place = T::from_le(bytes);
                }
            }
            Place::Stride { .. } | Place::Listed { .. } => {
                let (mut value, mut rest) = (skip, bytes);
                while !rest.is_empty() {
                    let column = value % self.width;
                    let count = (self.width - column).min(rest.len() / T::SIZE);
                    let first = self.item(part, value / self.width) * self.width + column;
                    let (now, later) = rest.split_at(count * T::SIZE);
                    T::decode(now, &mut out[first..first + count]);
                    value += count;
                    rest = later;
                }
            }
        }
    }

    /// The caller's item for the `at`-th item of a part.
    fn item(&self, part: &Part, at: usize) -> usize {
        match part.place {
            Place::Run { first, .. } => first / self.width + at,
            Place::Stride { first, stride, .. } => first + at * stride,
            Place::Listed { from, .. } => self
                .order
                .get(from + at)
                .map_or(from + at, |&item| item as usize),
        }
    }
}
