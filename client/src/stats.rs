//! Counters of what a client has done.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a client has done since its start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct ClientStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counters {
            pub(crate) fn read(&self) -> ClientStats {
                ClientStats { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Operations that pull.
    pulls,
    /// Operations that push.
    pushes,
    /// Operations of those that ended with an error, for whatever reason.
    failed,
    /// Values that were pulled.
    values_pulled,
    /// Values whose push was acknowledged.
    values_pushed,
    /// Requests sent to servers, retries among them.
    requests,
    /// Requests sent again, and requests to the master that failed.
    retries,
    /// Parts of pulls that were asked of a copy which is not the holder.
    follower_reads,
    /// Maps asked of the master because an operation was in trouble.
    map_refreshes,
    /// Polls of the master for the next map of a model that is used.
    map_polls,
    /// Requests that were not waited for any more, at least for some of their partitions, because these had moved.
    aborted,
    /// Lanes opened.
    lanes_opened,
    /// Numbers given up and settled by a skip.
    skips,
    /// Bytes of bodies received from servers.
    bytes_in,
    /// Bytes of bodies sent to servers.
    bytes_out,
    /// Answers that told of acknowledged pushes which are gone: see [`crate::Client::take_losses`].
    losses,
    /// Values that a buffer held and that were never pushed, because it was dropped or its flush failed.
    values_unflushed,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}
