//! Back-pressure, cancellation, retries, concurrency, and keys that come and go meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use refreeze::ErrorKind;
use refreeze::key_order::rank_region::RankRegion;
use refreeze::list::array_keys::ArrayKeys;
use refreeze::list::limit::{Concurrency, ConcurrencyLimit};
use refreeze::list::{ScanOptions, ranked::scan};
use refreeze::source::page::PageErrorKind;

use super::mock::{Server, coordinates, encoding, listed, options, order};

fn dense() -> (Server, ArrayKeys, RankRegion) {
    let order = order(encoding("default", "/"), &[100, 500]);
    let objects = coordinates(&[0..100, 0..500])
        .iter()
        .map(|coords| format!("a/{}", order.encoding().encode(coords)).into_bytes())
        .collect();
    let region = RankRegion::whole(Arc::clone(&order));
    (Server::new(objects), ArrayKeys::new("a", order), region)
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_stops_stops_the_requests() {
    let (mut server, keys, region) = dense();
    server.delay = Some(Duration::from_millis(10));
    let server = Arc::new(server);
    let mut stream = scan(Arc::clone(&server) as _, keys, region, options(1000, 8));
    stream.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
    // The first page, those waiting in the channel, one that waits for room, and those in flight.
    let requests = server.requests.load(Ordering::SeqCst);
    assert!(requests <= 1 + 3 + 8 + 2, "{requests}");
    drop(stream);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(server.requests.load(Ordering::SeqCst), requests);
    assert_eq!(server.in_flight.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_stream_gives_requests_up() {
    let (mut server, keys, region) = dense();
    server.delay = Some(Duration::from_secs(10));
    let server = Arc::new(server);
    let mut stream = scan(Arc::clone(&server) as _, keys, region, options(1000, 8));
    stream.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.in_flight.load(Ordering::SeqCst), 8);
    drop(stream);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.in_flight.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn throttling_is_obeyed_and_survived() {
    let (mut server, keys, region) = dense();
    server.delay = Some(Duration::from_millis(10));
    server.throttle_above = 5;
    let server = Arc::new(server);
    let options = options(100, 64);
    let limit = Arc::clone(&options.limit);
    let (chunks, stats) = listed(&server, &keys, &region, options).await;
    assert_eq!(chunks.unwrap().len(), 50_000);
    assert!(stats.retries > 0);
    assert!(limit.allowed() < 20, "{}", limit.allowed());
    println!(
        "{} retries for {} requests, limit {}",
        stats.retries,
        stats.list_requests,
        limit.allowed()
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_than_configured_are_in_flight() {
    let (mut server, keys, region) = dense();
    server.delay = Some(Duration::from_millis(10));
    let server = Arc::new(server);
    let (chunks, _) = listed(&server, &keys, &region, options(1000, 7)).await;
    assert_eq!(chunks.unwrap().len(), 50_000);
    assert_eq!(server.most_in_flight.load(Ordering::SeqCst), 7);
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_than_the_service_has_room_for_are_in_flight() {
    for ordered in [false, true] {
        let (mut server, keys, region) = dense();
        server.delay = Some(Duration::from_millis(10));
        server.most = Some(5);
        let server = Arc::new(server);
        let options = ScanOptions { ordered, ..options(1000, 7) };
        let (chunks, _) = listed(&server, &keys, &region, options).await;
        assert_eq!(chunks.unwrap().len(), 50_000);
        assert_eq!(server.most_in_flight.load(Ordering::SeqCst), 5, "{ordered}");
    }
}

/// Where the number of requests in flight is found while they are sent, segments follow it, long
/// before there are many pages.
#[tokio::test(start_paused = true)]
async fn a_dense_listing_spreads_as_far_as_the_limit_grows() {
    let (mut server, keys, region) = dense();
    // Long, because how busy the threads are is measured in real time.
    server.delay = Some(Duration::from_secs(5));
    let server = Arc::new(server);
    let bounds = Concurrency::Auto { shares: 32 }.in_flight(usize::MAX);
    let limit = ConcurrencyLimit::within(bounds, None);
    let options = ScanOptions { limit, ..options(500, 1) };
    let (chunks, stats) = listed(&server, &keys, &region, options).await;
    assert_eq!((chunks.unwrap().len(), stats.list_requests), (50_000, 100));
    let most = server.most_in_flight.load(Ordering::SeqCst);
    assert!(most > 8 * bounds.begin, "{most} from {}", bounds.begin);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_keeps_failing_is_an_error() {
    let (mut server, keys, region) = dense();
    server.failing = 10;
    let (chunks, stats) = listed(&Arc::new(server), &keys, &region, options(1000, 7)).await;
    let error = chunks.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Listing);
    assert!(error.message().contains("connection reset (after 30 attempts)"), "{error}");
    assert_eq!(stats.retries, 29);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_error_at_once() {
    for (kind, expected) in [
        (PageErrorKind::AccessDenied, ErrorKind::Access),
        (PageErrorKind::NotFound, ErrorKind::SourceNotFound),
        (PageErrorKind::Fatal, ErrorKind::Listing),
    ] {
        let (mut server, keys, region) = dense();
        server.refusal = Some(kind);
        let (chunks, stats) = listed(&Arc::new(server), &keys, &region, options(1000, 7)).await;
        assert_eq!((chunks.unwrap_err().kind(), stats.list_requests), (expected, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn keys_may_come_and_go_during_a_listing() {
    for seed in 0..200 {
        let (mut server, keys, region) = dense();
        server.delay = Some(Duration::from_millis(10));
        server.churn = Some(seed);
        let server = Arc::new(server);
        let (chunks, stats) = listed(&server, &keys, &region, options(1000, 16)).await;
        let chunks =
            chunks.unwrap_or_else(|error| panic!("seed {seed}: {error} {:?}", stats.warnings));
        let mut steady = coordinates(&[0..100, 0..500]);
        steady.retain(|coords| !server.churns(&keys.order().encoding().encode(coords)));
        let mut found: Vec<_> = chunks
            .into_iter()
            .filter(|coords| !server.churns(&keys.order().encoding().encode(coords)))
            .collect();
        found.sort();
        assert!(found == steady, "seed {seed}");
        assert_eq!(stats.warnings, Vec::<String>::new(), "seed {seed}");
    }
}
