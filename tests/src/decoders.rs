//! Every decoder that reads the network or a disk, fed with bytes that nobody has written: none may panic, and what is taken
//! must hold what its type promises. Each target is one function of bytes; `fuzz/` and a property test run the same ones.
//!
//! A target runs on the bytes as they are, and on what they make of something valid: most bytes are refused at once.

#[path = "decoders/copies.rs"]
mod copies;
#[path = "decoders/directory.rs"]
mod directory;
#[path = "decoders/files.rs"]
mod files;
#[path = "decoders/forms.rs"]
mod forms;
#[path = "decoders/frames.rs"]
mod frames;
// The client's own reader, which is no part of its interface.
#[allow(dead_code, reason = "the client uses more of it")]
#[path = "../../client/src/reply.rs"]
mod reply;

pub use copies::copies;
pub use directory::directory;
pub use files::{master, record, segment, snapshot, volume};
pub use forms::{forms, map};
pub use frames::{headers, pull, push, results};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 13] = [
    ("headers", headers),
    ("push", push),
    ("pull", pull),
    ("results", results),
    ("copies", copies),
    ("forms", forms),
    ("map", map),
    ("record", record),
    ("segment", segment),
    ("snapshot", snapshot),
    ("volume", volume),
    ("directory", directory),
    ("master", master),
];

/// The bytes themselves, and one of `valid` changed as they say: which one, how long it is, and then places (two bytes)
/// with what is put there (one byte).
fn variants(data: &[u8], valid: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut all = vec![data.to_vec()];
    let Some((&which, edits)) = data.split_first() else {
        return all;
    };
    if let Some(base) = valid.get(usize::from(which) % valid.len().max(1)) {
        let mut changed = base.clone();
        if let Some((length, edits)) = edits.split_at_checked(2) {
            let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
            if length < changed.len() {
                changed.truncate(length);
            }
            for edit in edits.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([edit[0], edit[1]]));
                let length = changed.len().max(1);
                if let Some(byte) = changed.get_mut(at % length) {
                    *byte = edit[2];
                }
            }
        }
        all.push(changed);
    }
    all
}

/// Bytes that are taken one after another; zeros when there are no more.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    fn short(&mut self) -> u64 {
        u64::from(self.byte()) << 8 | u64::from(self.byte())
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Runs what never waits for anything outside.
fn run<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_make_a_decoder_panic(data in prop::collection::vec(any::<u8>(), 0..400)) {
            for (_, target) in TARGETS {
                target(&data);
            }
        }

        #[test]
        fn nor_does_something_valid_with_a_few_bytes_changed(
            which in any::<u8>(),
            length in prop_oneof![Just(u16::MAX), any::<u16>()],
            edits in prop::collection::vec((0..400_u16, any::<u8>()), 0..4),
        ) {
            let mut data = vec![which];
            data.extend(length.to_le_bytes());
            for (at, byte) in edits {
                data.extend(at.to_le_bytes());
                data.push(byte);
            }
            for (_, target) in TARGETS {
                target(&data);
            }
        }
    }
}
