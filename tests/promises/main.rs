//! What Glint promises, each promise a test: clusters on real sockets in this process, with and without faults.

mod page;
