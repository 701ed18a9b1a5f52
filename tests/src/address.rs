//! Addresses that stay free while whoever had them is away: a cluster's processes end and come back at the same place.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

/// Ports below those that systems give to outgoing connections: otherwise such a connection could take one meanwhile.
const FIRST: u16 = 10_000;
/// How many there are.
const PORTS: u16 = 20_000;

/// An address of this machine that nobody uses, and that no other caller in this process is given.
///
/// # Panics
/// When every port is in use.
pub fn free_address() -> String {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Test programs that run side by side begin at different places.
    let begin = std::process::id().wrapping_mul(131) % u32::from(PORTS);
    for _ in 0..PORTS {
        let next = u32::from(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + ((begin + next) % u32::from(PORTS)) as u16;
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
    panic!("every port from {FIRST} on is in use");
}
