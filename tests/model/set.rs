//! Small sets of servers.

use std::fmt;

/// A set of servers, numbered from 0.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Set(u8);

impl Set {
    pub(crate) const NONE: Self = Self(0);

    /// The servers of `members`.
    pub(crate) const fn of(members: &[u8]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < members.len() {
            bits |= 1 << members[i];
            i += 1;
        }
        Self(bits)
    }

    pub(crate) fn has(self, server: u8) -> bool {
        self.0 & 1 << server != 0
    }

    pub(crate) fn with(self, server: u8) -> Self {
        Self(self.0 | 1 << server)
    }

    pub(crate) fn without(self, server: u8) -> Self {
        Self(self.0 & !(1 << server))
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn len(self) -> u8 {
        self.0.count_ones() as u8
    }

    pub(crate) fn members(self) -> impl Iterator<Item = u8> {
        (0..8).filter(move |&server| self.has(server))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.members()).finish()
    }
}
