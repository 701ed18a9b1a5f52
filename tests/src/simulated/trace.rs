//! What happened in a simulation, in order: so that two runs of one seed can be compared, and a failing one be read.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use tokio::time::Instant;

use super::lock;

/// What becomes of the events.
#[derive(Clone, Debug, Default)]
enum Sink {
    #[default]
    Nothing,
    Kept(Arc<Mutex<Vec<String>>>),
    Printed,
}

/// Takes notes. Cheap to clone; clones share the events.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    sink: Sink,
    start: Option<Instant>,
}

impl Trace {
    /// Notes nothing: the fastest.
    pub fn off() -> Self {
        Self::default()
    }

    /// Keeps every event.
    pub fn kept() -> Self {
        Self {
            sink: Sink::Kept(Arc::default()),
            start: None,
        }
    }

    /// Prints every event at once.
    pub fn printed() -> Self {
        Self {
            sink: Sink::Printed,
            start: None,
        }
    }

    /// The same trace, with times counted from now on.
    #[must_use]
    pub fn from_now(&self) -> Self {
        Self {
            sink: self.sink.clone(),
            start: Some(Instant::now()),
        }
    }

    /// Whether anything is noted at all.
    pub fn is_on(&self) -> bool {
        !matches!(self.sink, Sink::Nothing)
    }

    /// Notes something at the simulated time, under the host's name.
    pub fn note(&self, host: &str, what: fmt::Arguments<'_>) {
        if matches!(self.sink, Sink::Nothing) {
            return;
        }
        let millis = self.start.map_or(0, |start| start.elapsed().as_millis());
        match &self.sink {
            Sink::Nothing => {}
            Sink::Kept(events) => lock(events).push(format!("{millis} {host} {what}")),
            Sink::Printed => println!("{millis:>7} {host:<9} {what}"),
        }
    }

    /// Everything that was kept.
    pub fn events(&self) -> Vec<String> {
        match &self.sink {
            Sink::Kept(events) => lock(events).clone(),
            Sink::Nothing | Sink::Printed => Vec::new(),
        }
    }
}

/// A short name for bytes, to be noted in their place.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
