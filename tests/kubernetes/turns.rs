//! Which tests run beside each other. Most mind their own namespace; some take the operator away, change the definition or the
//! machines, or measure: those have the cluster for themselves.

use std::{
    cell::RefCell,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

static CLUSTER: RwLock<()> = RwLock::new(());

enum Turn {
    Beside {
        _guard: RwLockReadGuard<'static, ()>,
    },
    Alone {
        _guard: RwLockWriteGuard<'static, ()>,
    },
}

thread_local! {
    /// What this thread's test has, until the thread ends: each test has a thread of its own, or all have one.
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// This test runs beside others from now on, unless it is alone.
pub fn beside() {
    TURN.with_borrow_mut(|turn| {
        turn.get_or_insert_with(|| Turn::Beside {
            _guard: CLUSTER.read().unwrap_or_else(PoisonError::into_inner),
        });
    });
}

/// This test has the cluster for itself from now on; to be said before anything else.
pub fn alone() {
    TURN.with_borrow_mut(|turn| {
        // Else it would wait for itself.
        drop(turn.take());
        *turn = Some(Turn::Alone {
            _guard: CLUSTER.write().unwrap_or_else(PoisonError::into_inner),
        });
    });
}
