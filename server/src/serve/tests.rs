use std::net::{Ipv4Addr, SocketAddr};

use axum::routing::{get, post};
use glint_world::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time::Instant,
};

use super::*;

/// A listener whose connections are made by [`Doors::open`], in memory.
struct Memory {
    arriving: mpsc::UnboundedReceiver<io::Result<DuplexStream>>,
}

impl Listener for Memory {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async {
            match self.arriving.recv().await {
                Some(Ok(stream)) => Ok((Box::new(stream) as BoxStream, self.address()?)),
                Some(Err(error)) => Err(error),
                None => std::future::pending().await,
            }
        })
    }

    fn address(&self) -> io::Result<SocketAddr> {
        Ok((Ipv4Addr::LOCALHOST, 1).into())
    }
}

struct Doors {
    arriving: mpsc::UnboundedSender<io::Result<DuplexStream>>,
    shutdown: Shutdown,
    serving: tokio::task::JoinHandle<()>,
}

impl Doors {
    fn new(limits: Limits, router: Router) -> Self {
        let (sender, arriving) = mpsc::unbounded_channel();
        let shutdown = Shutdown::new();
        let serving = serve(
            World::real(),
            Box::new(Memory { arriving }),
            router,
            limits,
            shutdown.clone(),
        );
        Self {
            arriving: sender,
            shutdown,
            serving: tokio::spawn(serving),
        }
    }

    fn open(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1024);
        self.arriving.send(Ok(theirs)).unwrap();
        ours
    }
}

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                "slow"
            }),
        )
        .route("/never", get(std::future::pending::<String>))
        .route("/body", post(async |body: String| body.len().to_string()))
        .route("/large", get(|| async { "x".repeat(1 << 20) }))
}

async fn send(stream: &mut DuplexStream, path: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
}

/// Reads until the answer ends with `end`; false when the connection is closed before.
async fn reads(stream: &mut DuplexStream, end: &str) -> bool {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        match stream.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => return false,
        }
    }
    true
}

const FEW: Limits = Limits {
    connections: 8,
    head: Duration::from_secs(10),
    idle: Duration::from_secs(120),
    stall: Duration::from_secs(30),
    crowded: Duration::from_secs(1),
    grace: Duration::from_secs(10),
};

#[tokio::test(start_paused = true)]
async fn a_flood_of_half_sent_requests_does_not_stop_others() {
    let doors = Doors::new(FEW, router());
    let mut flood = Vec::new();
    for _ in 0..40 {
        let mut half = doors.open();
        half.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        flood.push(half);
    }
    let start = Instant::now();
    let mut other = doors.open();
    send(&mut other, "/").await;
    assert!(reads(&mut other, "hello").await);
    // Five rounds of eight, each closed a few seconds after it was let in.
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    for mut half in flood {
        assert_eq!(half.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_in_is_cut_off_after_the_limit() {
    let doors = Doors::new(FEW, router());
    let mut stream = doors.open();
    let start = Instant::now();
    while stream.write_all(b"G").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(start.elapsed() < Duration::from_secs(60), "never cut off");
    }
    assert!(start.elapsed() >= FEW.head && start.elapsed() < FEW.head * 2);
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_lives_while_it_is_used_and_is_closed_when_idle() {
    let doors = Doors::new(FEW, router());
    let mut stream = doors.open();
    for _ in 0..10 {
        send(&mut stream, "/").await;
        assert!(reads(&mut stream, "hello").await);
        tokio::time::sleep(Duration::from_secs(118)).await;
    }
    let start = Instant::now();
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_its_answer_is_cut_off_sooner_where_others_wait() {
    for (connections, limit) in [(1, FEW.crowded), (100, FEW.stall)] {
        let doors = Doors::new(Limits { connections, ..FEW }, router());
        let mut deaf = doors.open();
        send(&mut deaf, "/large").await;
        let start = Instant::now();
        // All that was written is still there to be read, but no more.
        tokio::time::sleep(limit.mul_f64(0.5)).await;
        assert!(deaf.write_all(b"x").await.is_ok(), "{connections}");
        let mut other = doors.open();
        send(&mut other, "/").await;
        assert!(reads(&mut other, "hello").await);
        while deaf.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(start.elapsed() < limit * 3, "never cut off");
        }
        assert!(start.elapsed() >= limit, "{:?}", start.elapsed());
    }
}

/// A peer that sends a body, or reads an answer, in drops, until it is cut off or has all; how long that took, and whether it
/// has all.
async fn drips(connections: usize, reads: bool, drop: usize) -> (Duration, bool) {
    let doors = Doors::new(Limits { connections, ..FEW }, router());
    let mut stream = doors.open();
    let (start, all) = (Instant::now(), 200 << 10);
    let mut passed = 0;
    if reads {
        send(&mut stream, "/large").await;
    } else {
        let head = format!("POST /body HTTP/1.1\r\nhost: h\r\ncontent-length: {all}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
    }
    while passed < all {
        let size = drop.min(all - passed);
        let alive = if reads {
            stream.read_exact(&mut vec![0; size]).await.is_ok()
        } else {
            stream.write_all(&vec![b'x'; size]).await.is_ok()
        };
        if !alive {
            return (start.elapsed(), false);
        }
        passed += size;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (start.elapsed(), true)
}

#[tokio::test(start_paused = true)]
async fn who_drips_is_cut_off_where_others_wait_and_only_there() {
    for reads in [false, true] {
        // 10 KiB a second are too few, where there is no room: a few seconds later that shows.
        let (took, whole) = drips(1, reads, 1 << 10).await;
        assert!(!whole && took < Duration::from_secs(10), "{reads} {took:?}");
        // With room they are fine, and so are 100 KiB a second without.
        for (connections, drop) in [(100, 1 << 10), (1, 10 << 10)] {
            let (took, whole) = drips(connections, reads, drop).await;
            assert!(whole, "{reads} {connections}: cut off after {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_dripping_bodies_and_of_deaf_readers_does_not_stop_others() {
    for deaf in [false, true] {
        let doors = Doors::new(FEW, router());
        let mut flood = Vec::new();
        for _ in 0..40 {
            let mut stream = doors.open();
            flood.push(tokio::spawn(async move {
                if deaf {
                    send(&mut stream, "/large").await;
                    let mut all = [0; 16];
                    while stream.read_exact(&mut all).await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(900)).await;
                    }
                } else {
                    let head = "POST /body HTTP/1.1\r\nhost: h\r\ncontent-length: 100000\r\n\r\n";
                    let _ = stream.write_all(head.as_bytes()).await;
                    while stream.write_all(b"x").await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(900)).await;
                    }
                }
            }));
        }
        let start = Instant::now();
        let mut other = doors.open();
        send(&mut other, "/").await;
        assert!(reads(&mut other, "hello").await);
        // Five rounds of eight, each closed a few seconds after it was let in.
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{:?}",
            start.elapsed()
        );
        for dripping in flood {
            dripping.await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_shutdown_requests_in_flight_finish_and_stuck_ones_are_cut() {
    let doors = Doors::new(FEW, router());
    let (mut slow, mut stuck, mut idle) = (doors.open(), doors.open(), doors.open());
    send(&mut slow, "/slow").await;
    send(&mut stuck, "/never").await;
    send(&mut idle, "/").await;
    assert!(reads(&mut idle, "hello").await);
    let start = Instant::now();
    doors.shutdown.cancel();
    assert!(reads(&mut slow, "slow").await);
    assert_eq!(idle.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert!(!reads(&mut stuck, "never").await);
    doors.serving.await.unwrap();
    assert!(start.elapsed() >= FEW.grace && start.elapsed() < FEW.grace * 2);
}

#[tokio::test(start_paused = true)]
async fn errors_of_accepting_are_waited_out() {
    let doors = Doors::new(FEW, router());
    for _ in 0..20 {
        doors
            .arriving
            .send(Err(io::Error::other("too many open files")))
            .unwrap();
    }
    let start = Instant::now();
    let mut stream = doors.open();
    send(&mut stream, "/").await;
    assert!(reads(&mut stream, "hello").await);
    assert!(
        start.elapsed() > Duration::from_secs(5),
        "it paused between them"
    );
}
