//! An allocator that ends the process when a few KiB of input have made a decoder ask for more memory than any may need.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

/// Bytes that may be asked for at once: twice the largest body.
const AT_ONCE: usize = 16 << 20;
/// Bytes that may be held together.
const TOGETHER: usize = 256 << 20;

struct Capped {
    held: AtomicUsize,
}

#[global_allocator]
static ALLOCATOR: Capped = Capped {
    held: AtomicUsize::new(0),
};

impl Capped {
    fn take(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if bytes > AT_ONCE || held > TOGETHER {
            eprintln!("{bytes} bytes were asked for at once, {held} are held: above the cap");
            std::process::abort();
        }
    }
}

// SAFETY: everything is done by the system's allocator; this one only counts.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        self.held.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.take(size);
        self.held.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}
