//! Reading bodies: into one reused buffer, within a size, a time, and a memory budget that all requests share.

use std::{sync::Arc, task::Poll, time::Duration};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use glint_protocol::{
    ErrorBody, ErrorCode, MAX_BODY_BYTES, REQUEST_BYTES,
    buffer::{Buffer, BufferPool},
};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest body of a request that is not a pull or push, in bytes: orders and registrations list partitions.
pub const MAX_CONTROL_BYTES: usize = 64 << 20;
/// How long a body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Buffers for bodies, and the budget of memory that bodies and answers of all requests share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bodies {
    pool: BufferPool,
    budget: Arc<Semaphore>,
}

/// Bytes of one permit of the budget.
const UNIT: usize = 64 << 10;
/// Buffers that are kept between requests, and the largest of them: clients aim at requests of [`REQUEST_BYTES`].
const KEPT_BUFFERS: usize = 32;
const KEPT_BYTES: usize = 2 * REQUEST_BYTES;

/// A buffer whose bytes count against the budget until it is dropped.
#[derive(Debug)]
pub struct Charged {
    buffer: Buffer,
    charge: Option<OwnedSemaphorePermit>,
}

/// What a body must be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Its largest size in bytes.
    pub limit: usize,
    /// Whether it must declare its length.
    pub declared: bool,
}

impl Bounds {
    /// Of a pull or push.
    pub const DATA: Self = Self {
        limit: MAX_BODY_BYTES,
        declared: true,
    };
    /// Of everything else.
    pub const CONTROL: Self = Self {
        limit: MAX_CONTROL_BYTES,
        declared: false,
    };

    /// Whether a body that declares this length may be read.
    pub(super) fn admits(self, declared: Option<u64>) -> Result<(), ErrorBody> {
        if self.declared && declared.is_none() {
            return Err(ErrorBody::new(
                ErrorCode::BadRequest,
                "the body has no length; send the header Content-Length (chunked bodies are not taken here)",
            ));
        }
        if declared.is_some_and(|length| length > self.limit as u64) {
            return Err(too_large(self.limit));
        }
        Ok(())
    }
}

impl Bodies {
    /// A budget of `bytes`, at least one body of the largest size.
    pub fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).clamp(2 * MAX_CONTROL_BYTES / UNIT, Semaphore::MAX_PERMITS);
        Self {
            pool: BufferPool::new(KEPT_BUFFERS, KEPT_BYTES),
            budget: Arc::new(Semaphore::new(units)),
        }
    }

    /// An empty buffer with room for `capacity` bytes, which count against the budget at once.
    ///
    /// # Errors
    /// `busy` when the budget is used up.
    pub fn take(&self, capacity: usize) -> Result<Charged, ErrorBody> {
        let mut taken = Charged {
            buffer: self.pool.take(capacity),
            charge: None,
        };
        self.charge(&mut taken, capacity)?;
        Ok(taken)
    }

    /// Reads a body to its end.
    ///
    /// # Errors
    /// `bad_request` when it declares no length and must, or ends before it; `too_large` before anything is read when it
    /// declares more than the limit; `too_slow` when it takes longer than [`BODY_TIMEOUT`]; `busy` when the budget is
    /// used up.
    pub async fn read(&self, body: Body, bounds: Bounds) -> Result<Charged, ErrorBody> {
        let mut reading = std::pin::pin!(self.read_all(body, bounds));
        // A small body has come with its head: there is nothing to wait for, and the clock need not be asked.
        if let Poll::Ready(read) = futures_util::poll!(reading.as_mut()) {
            return read;
        }
        match tokio::time::timeout(BODY_TIMEOUT, reading).await {
            Ok(read) => read,
            Err(_) => Err(too_slow()),
        }
    }

    async fn read_all(&self, mut body: Body, bounds: Bounds) -> Result<Charged, ErrorBody> {
        let declared = body.size_hint().exact();
        bounds.admits(declared)?;
        let expected = declared.unwrap_or(0) as usize;
        // Room for all of it: what is not yet written takes no memory, so it is charged as it arrives, and those who
        // announce much and send nothing hold nothing.
        let mut read = Charged {
            buffer: self.pool.take(expected),
            charge: None,
        };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| cut_off(&error))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let length = read.buffer.len() + data.len();
            if length > bounds.limit {
                return Err(too_large(bounds.limit));
            }
            self.charge(&mut read, length)?;
            read.buffer.extend_from_slice(&data);
        }
        if declared.is_some_and(|length| length != read.buffer.len() as u64) {
            return Err(ErrorBody::new(
                ErrorCode::BadRequest,
                format!(
                    "the body has {} of its declared {expected} bytes",
                    read.buffer.len()
                ),
            ));
        }
        Ok(read)
    }

    /// Raises what `charged` counts to that of `bytes`.
    fn charge(&self, charged: &mut Charged, bytes: usize) -> Result<(), ErrorBody> {
        let has = charged
            .charge
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let needed = bytes.div_ceil(UNIT).saturating_sub(has);
        if needed == 0 {
            return Ok(());
        }
        let busy = |_| {
            ErrorBody::new(
                ErrorCode::Busy,
                "the requests in flight use all memory that is set aside for them; send again after a pause",
            )
        };
        let more = Arc::clone(&self.budget)
            .try_acquire_many_owned(needed as u32)
            .map_err(busy)?;
        match &mut charged.charge {
            Some(charge) => charge.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

impl Charged {
    /// Its bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// As shared bytes, without a copy.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

pub(super) fn too_slow() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::TooSlow,
        format!(
            "the body did not arrive within {} seconds; send it faster or in smaller requests",
            BODY_TIMEOUT.as_secs()
        ),
    )
}

pub(super) fn cut_off(why: &dyn std::fmt::Display) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::BadRequest,
        format!("the body ended before its declared length, or is malformed: {why}"),
    )
}

pub(super) fn too_large(limit: usize) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::TooLarge,
        format!("the body is above {limit} bytes; split it into several requests"),
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    fn chunked(pieces: usize, size: usize) -> Body {
        let pieces = (0..pieces).map(move |_| {
            Ok::<_, Infallible>(hyper::body::Frame::data(Bytes::from(vec![7; size])))
        });
        Body::new(StreamBody::new(stream::iter(pieces)))
    }

    fn bodies() -> Bodies {
        Bodies::new(0)
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_refused_where_one_is_needed() {
        let error = bodies()
            .read(chunked(1, 10), Bounds::DATA)
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest);
        assert!(error.message.contains("Content-Length"));
        let read = bodies()
            .read(chunked(3, 10), Bounds::CONTROL)
            .await
            .unwrap();
        assert_eq!(read.as_ref(), [7; 30]);
    }

    #[tokio::test]
    async fn a_body_above_the_cap_is_refused_declared_or_not() {
        let declared = Body::from(vec![0; MAX_BODY_BYTES + 1]);
        let error = bodies().read(declared, Bounds::DATA).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::TooLarge);
        let bounds = Bounds {
            limit: 100,
            declared: false,
        };
        let error = bodies().read(chunked(11, 10), bounds).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::TooLarge);
        let exact = Body::from(vec![0; MAX_BODY_BYTES]);
        assert!(bodies().read(exact, Bounds::DATA).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let endless = StreamBody::new(stream::pending::<
            Result<hyper::body::Frame<Bytes>, Infallible>,
        >());
        let error = bodies()
            .read(Body::new(endless), Bounds::CONTROL)
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::TooSlow);
    }

    #[tokio::test]
    async fn bodies_together_stay_within_the_budget_and_give_it_back() {
        let bodies = bodies();
        let mut taken = Vec::new();
        let error = loop {
            match bodies.take(MAX_BODY_BYTES) {
                Ok(charged) => taken.push(charged),
                Err(error) => break error,
            }
        };
        assert_eq!(error.code, ErrorCode::Busy);
        assert_eq!(taken.len(), 2 * MAX_CONTROL_BYTES / MAX_BODY_BYTES);
        let body = || Body::from(vec![0; 100]);
        assert_eq!(
            bodies.read(body(), Bounds::DATA).await.unwrap_err().code,
            ErrorCode::Busy
        );
        let bytes = taken.pop().map(Charged::freeze);
        assert!(bodies.read(body(), Bounds::DATA).await.is_err());
        drop(bytes);
        assert!(bodies.read(body(), Bounds::DATA).await.is_ok());
    }
}
