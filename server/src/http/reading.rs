//! Taking a body apart while it arrives: what is large is used as it lies, and never gathered as a whole. The bounds are those
//! of [`Bodies::read`].

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use glint_protocol::ErrorBody;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::body::{BODY_TIMEOUT, Bodies, Bounds, cut_off, too_large, too_slow};

/// A body that is arriving.
#[derive(Debug)]
pub struct Reading {
    body: Body,
    bodies: Bodies,
    /// What has arrived and is not taken yet.
    here: Bytes,
    limit: usize,
    /// Bytes that have arrived.
    arrived: usize,
    until: Instant,
}

impl Reading {
    /// Begins to read; what has to be gathered counts against the budget of `bodies`.
    ///
    /// # Errors
    /// As [`Bodies::read`], of what can be told from the length that is declared.
    pub fn new(body: Body, bodies: &Bodies, bounds: Bounds) -> Result<Self, ErrorBody> {
        bounds.admits(body.size_hint().exact())?;
        Ok(Self {
            body,
            bodies: bodies.clone(),
            here: Bytes::new(),
            limit: bounds.limit,
            arrived: 0,
            until: Instant::now() + BODY_TIMEOUT,
        })
    }

    /// Waits until something is here; false at the end of the body.
    async fn more(&mut self) -> Result<bool, ErrorBody> {
        while self.here.is_empty() {
            let frame = tokio::time::timeout_at(self.until, self.body.frame());
            let Some(frame) = frame.await.map_err(|_| too_slow())? else {
                return Ok(false);
            };
            if let Ok(data) = frame.map_err(|error| cut_off(&error))?.into_data() {
                self.arrived += data.len();
                if self.arrived > self.limit {
                    return Err(too_large(self.limit));
                }
                self.here = data;
            }
        }
        Ok(true)
    }

    /// Whether the body is at its end.
    ///
    /// # Errors
    /// As [`Bodies::read`].
    pub async fn is_over(&mut self) -> Result<bool, ErrorBody> {
        Ok(!self.more().await?)
    }

    /// The next so many bytes; without a copy where they arrived together.
    ///
    /// # Errors
    /// As [`Bodies::read`]; `bad_request` when the body ends before.
    pub async fn exactly(&mut self, length: usize) -> Result<Bytes, ErrorBody> {
        if self.here.is_empty() && length > 0 {
            self.more().await?;
        }
        if length <= self.here.len() {
            return Ok(self.here.split_to(length));
        }
        // What is announced and cannot come is not made room for.
        let declared = self.body.size_hint().upper().unwrap_or(u64::MAX);
        let allowed = self.limit.saturating_sub(self.arrived) as u64;
        if length > self.here.len() + declared.min(allowed) as usize {
            return Err(if declared < allowed {
                cut_off(&"what is announced in it is longer")
            } else {
                too_large(self.limit)
            });
        }
        let mut gathered = self.bodies.take(length)?;
        while gathered.as_ref().len() < length {
            if !self.more().await? {
                return Err(cut_off(&"there is no more of it"));
            }
            let wanted = length - gathered.as_ref().len();
            let part = self.here.split_to(wanted.min(self.here.len()));
            gathered.bytes_mut().extend_from_slice(&part);
        }
        Ok(gathered.freeze())
    }

    /// The next bytes as they arrived, at most so many: a multiple of `unit`, or all of them.
    ///
    /// # Errors
    /// As [`Self::exactly`].
    pub async fn some(&mut self, most: usize, unit: usize) -> Result<Bytes, ErrorBody> {
        if self.here.is_empty() && most > 0 {
            self.more().await?;
        }
        let here = self.here.len();
        if here >= most {
            return self.exactly(most).await;
        }
        match here - here % unit {
            0 => self.exactly(unit.min(most)).await,
            whole => Ok(self.here.split_to(whole)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use glint_protocol::ErrorCode;
    use http_body_util::StreamBody;

    use super::*;

    /// A body of these numbers, which arrives in pieces of this size.
    fn body(bytes: std::ops::Range<u8>, size: usize) -> Body {
        let bytes: Vec<u8> = bytes.collect();
        let pieces: Vec<_> = bytes
            .chunks(size)
            .map(|piece| Ok::<_, Infallible>(hyper::body::Frame::data(piece.to_vec().into())))
            .collect();
        Body::new(StreamBody::new(stream::iter(pieces)))
    }

    fn reading(body: Body) -> Reading {
        let bounds = Bounds {
            limit: 100,
            declared: false,
        };
        Reading::new(body, &Bodies::new(0), bounds).unwrap()
    }

    #[tokio::test]
    async fn however_a_body_arrives_it_is_taken_apart_alike() {
        for size in 1..30 {
            let mut reading = reading(body(0..30, size));
            assert_eq!(reading.exactly(0).await.unwrap(), "");
            assert_eq!(*reading.exactly(5).await.unwrap(), [0, 1, 2, 3, 4]);
            let mut values = Vec::new();
            while values.len() < 20 {
                let some = reading.some(20 - values.len(), 8).await.unwrap();
                assert!(some.len() % 8 == 0 || values.len() + some.len() == 20);
                values.extend_from_slice(&some);
            }
            assert_eq!(values, (5..25).collect::<Vec<u8>>(), "in pieces of {size}");
            assert!(!reading.is_over().await.unwrap());
            assert_eq!(*reading.exactly(5).await.unwrap(), [25, 26, 27, 28, 29]);
            assert!(reading.is_over().await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_body_that_ends_too_early_or_is_too_long_is_refused() {
        for size in [1, 7, 30] {
            let error = reading(body(0..30, size)).exactly(31).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::BadRequest);
            let mut short = reading(body(0..30, size));
            short.exactly(25).await.unwrap();
            while !short.is_over().await.unwrap() {
                short.some(5, 8).await.unwrap();
            }
            assert!(short.some(5, 8).await.is_err());
            let mut long = reading(body(0..101, size));
            let error = async {
                loop {
                    long.exactly(1).await?;
                }
            };
            let error: Result<(), ErrorBody> = error.await;
            assert_eq!(error.unwrap_err().code, ErrorCode::TooLarge);
        }
        // What is announced is not made room for before it can be there.
        let error = reading(body(0..30, 7))
            .exactly(usize::MAX)
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::TooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let endless = StreamBody::new(stream::pending::<
            Result<hyper::body::Frame<Bytes>, Infallible>,
        >());
        let error = reading(Body::new(endless)).exactly(1).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::TooSlow);
    }
}
