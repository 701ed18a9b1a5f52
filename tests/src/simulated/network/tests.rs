use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn network(weather: Weather) -> Network {
    Network::new(Dice::new(3), weather, Trace::off())
}

fn life() -> Life {
    Life::new(|_| {})
}

/// A listener on host `b` that gives whatever each connection brings until its end, or until it breaks.
async fn sink(network: &Network, life: &Life) -> mpsc::UnboundedReceiver<Vec<u8>> {
    let mut listener = network
        .at("b", life.clone())
        .listen("0.0.0.0:1")
        .await
        .unwrap();
    let (found, finds) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let found = found.clone();
            tokio::spawn(async move {
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all).await;
                let _ = found.send(all);
            });
        }
    });
    finds
}

#[tokio::test(start_paused = true)]
async fn bytes_arrive_later_and_in_order() {
    let (network, life) = (network(Weather::fair()), life());
    let mut finds = sink(&network, &life).await;
    let from = network.at("a", life.clone());
    let mut stream = from.connect("b:1").await.unwrap();
    let sent: Vec<u8> = (0..600_000_u32).map(|i| i as u8).collect();
    let before = Instant::now();
    stream.write_all(&sent).await.unwrap();
    drop(stream);
    assert!(finds.recv().await.unwrap() == sent);
    assert!(before.elapsed() >= Duration::from_millis(1));
    assert!(from.connect("c:1").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_connection_breaks_at_any_byte_and_both_ends_learn_of_it() {
    let weather = Weather {
        breaks: 1.0,
        ..Weather::fair()
    };
    let (network, life) = (network(weather), life());
    let mut finds = sink(&network, &life).await;
    let mut lengths = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let from = network.at("a", life.clone());
        let mut stream = from.connect("b:1").await.unwrap();
        let _ = stream.write_all(&[7; 20]).await;
        assert!(stream.read_u8().await.is_err());
        lengths.insert(finds.recv().await.unwrap().len());
    }
    assert_eq!(lengths.len(), 21, "{lengths:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_over_a_cut_link_arrives_when_it_is_whole_again() {
    let (network, life) = (network(Weather::fair()), life());
    let mut finds = sink(&network, &life).await;
    let mut stream = network.at("a", life.clone()).connect("b:1").await.unwrap();
    network.cut("b", "a", Duration::from_secs(9));
    let before = Instant::now();
    stream.write_all(b"abc").await.unwrap();
    drop(stream);
    assert_eq!(finds.recv().await.unwrap(), b"abc");
    assert!(before.elapsed() >= Duration::from_secs(9));
}

#[tokio::test(start_paused = true)]
async fn a_half_open_connection_tells_nobody_and_a_killed_process_closes_its_own() {
    let (network, here, there) = (network(Weather::fair()), life(), life());
    let _finds = sink(&network, &there).await;
    let from = network.at("a", here.clone());
    let mut stream = from.connect("b:1").await.unwrap();
    network.sever("b", "a", true);
    stream.write_all(b"abc").await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(3600), stream.read_u8()).await;
    assert!(heard.is_err(), "nothing is heard");
    let mut other = from.connect("b:1").await.unwrap();
    there.end(End::Process);
    network.ended("b", End::Process);
    assert!(other.read_u8().await.is_err());
    assert!(from.connect("b:1").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_request_comes_again_and_one_that_went_astray_comes_through_another_connection() {
    let request = b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nab";
    for (copies, strays) in [(1.0, 0.0), (0.0, 1.0)] {
        let weather = Weather {
            copies,
            strays,
            copy_delay_ms: 1000,
            ..Weather::fair()
        };
        let (network, life) = (network(weather), life());
        let mut finds = sink(&network, &life).await;
        let mut stream = network.at("a", life.clone()).connect("b:1").await.unwrap();
        let sent = stream.write_all(request).await;
        assert!(sent.is_ok());
        drop(stream);
        let mut found = vec![finds.recv().await.unwrap(), finds.recv().await.unwrap()];
        found.sort();
        let first: &[u8] = if strays > 0.0 { b"" } else { request };
        assert_eq!(found, [first.to_vec(), request.to_vec()]);
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(network.copies(), 0);
    }
}
