//! LIST requests stay within their budgets: dense 1.01 × keys / 1000 + 2, sparse 1.10 × keys /
//! 1000 + 2 × concurrency, nothing there at most 3.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use refreeze::key_order::rank_region::RankRegion;
use refreeze::list::ScanOptions;
use refreeze::list::array_keys::ArrayKeys;
use refreeze::source::page::{PageSource as _, StartAfter};

use super::mock::{Server, coordinates, encoding, listed, options, order};
use super::properties::noise;

const N: u64 = 1_000_000;

/// Calls, keys and virtual milliseconds (50 a round trip) for the ranks that `there` says exist.
async fn cost(grid: &[u64], options: ScanOptions, there: impl Fn(u64) -> bool) -> (u64, u64, u64) {
    let order = order(encoding("default", "/"), grid);
    let keys = ArrayKeys::new("store/array", Arc::clone(&order));
    let mut objects: Vec<Vec<u8>> = (0..order.len())
        .filter(|rank| there(*rank))
        .map(|rank| format!("store/array/{}", order.key(rank).unwrap()).into_bytes())
        .collect();
    let count = objects.len() as u64;
    objects.push(b"store/array/zarr.json".to_vec());
    objects.push(b"store/other/c/0".to_vec());
    let mut server = Server::new(objects);
    server.delay = Some(Duration::from_millis(50));
    let start = tokio::time::Instant::now();
    let region = RankRegion::whole(order);
    let (chunks, stats) = listed(&Arc::new(server), &keys, &region, options).await;
    assert_eq!(chunks.unwrap().len() as u64, count);
    assert_eq!(stats.warnings, Vec::<String>::new());
    (stats.list_requests, count, u64::try_from(start.elapsed().as_millis()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn patterns() {
    type Pattern = (&'static str, fn(u64) -> bool);
    let patterns: [Pattern; 8] = [
        ("dense", |_| true),
        ("random 30 %", |rank| noise(rank) < 300),
        ("first half", |rank| rank < N / 2),
        ("second half", |rank| rank >= N / 2),
        ("every tenth", |rank| rank % 10 == 0),
        ("random 2 %", |rank| noise(rank) < 20),
        ("block in the middle", |rank| (450_000..550_000).contains(&rank)),
        ("ten blocks", |rank| rank % 100_000 < 10_000),
    ];
    for (name, there) in patterns {
        for concurrency in [64, 16] {
            let (calls, keys, millis) =
                cost(&[100, 100, 100], options(1000, concurrency), there).await;
            let pages = keys.div_ceil(1000);
            println!(
                "{name:20} C={concurrency:2} calls {calls:5} for {pages:4} pages, {:5.1} round trips (ideal {:.1})",
                millis as f64 / 48.0,
                pages as f64 / concurrency as f64
            );
            let most = if name == "dense" {
                pages * 101 / 100 + 2
            } else {
                pages * 110 / 100 + 2 * concurrency as u64
            };
            assert!(calls <= most, "{name}: {calls} > {most}");
            assert_all_are_used(name, calls, concurrency, millis);
        }
    }
}

/// Requests are in flight all the time, as many as there may be, but for a few round trips.
pub(crate) fn assert_all_are_used(name: &str, calls: u64, concurrency: usize, millis: u64) {
    let (trips, least) = (millis as f64 / 48.0, calls as f64 / concurrency as f64);
    assert!(trips <= least + 6.0, "{name}: {trips:.1} round trips for {calls} calls");
}

#[tokio::test(start_paused = true)]
async fn an_array_that_is_known_to_be_full_needs_no_first_page_to_know_it() {
    let mut costs = Vec::new();
    for full in [false, true] {
        let options = ScanOptions { full, ..options(1000, 64) };
        costs.push(cost(&[100, 100, 100], options, |_| true).await);
    }
    let [(calls, _, millis), (same, _, less)] = costs[..] else { panic!("{costs:?}") };
    assert_eq!(calls, same);
    assert!(
        less < millis,
        "{less} ms of the clock that tests turn, {millis} with a page by itself"
    );
    // And where that was wrong, it costs requests and nothing else.
    let options = ScanOptions { full: true, ..options(1000, 64) };
    let (calls, chunks, _) = cost(&[100, 100, 100], options, |rank| noise(rank) < 300).await;
    assert!(calls <= chunks.div_ceil(1000) * 11 / 10 + 2 * 64, "{calls}");
}

/// Where pages hold less than they are asked for, the first ones tell how much: segments end where
/// pages do then, as many as may be in flight.
#[tokio::test(start_paused = true)]
async fn the_length_of_pages_is_learned() {
    let order = order(encoding("default", "/"), &[100, 50, 40]);
    let objects: Vec<Vec<u8>> = (0..order.len())
        .map(|rank| format!("a/{}", order.key(rank).unwrap()).into_bytes())
        .collect();
    let keys = ArrayKeys::new("a", Arc::clone(&order));
    let region = RankRegion::whole(order);
    for (start_after, start) in [(StartAfter::Exclusive, 0), (StartAfter::Inclusive, 1)] {
        for cap in [1000, 700] {
            let mut server = Server::new(objects.clone());
            server.start_after = start_after;
            server.cap = cap;
            server.learned = true;
            server.delay = Some(Duration::from_millis(50));
            let begun = tokio::time::Instant::now();
            let options = options(server.capabilities().new_keys(), 16);
            let (chunks, stats) = listed(&Arc::new(server), &keys, &region, options).await;
            assert_eq!(chunks.unwrap().len() as u64, region.len());
            let pages = region.len().div_ceil(cap as u64 - start);
            let calls = stats.list_requests;
            assert_eq!(calls, pages, "{start_after:?}, {cap}");
            let millis = u64::try_from(begun.elapsed().as_millis()).unwrap();
            assert_all_are_used("learned", calls, 16, millis);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn small_and_empty_arrays() {
    for (grid, there, most) in [
        (&[1000_u64, 50][..], None, 3),
        (&[1000][..], Some(1000), 1),
        (&[999][..], Some(1000), 1),
        (&[1001][..], Some(2000), 2),
        (&[1000, 50][..], Some(10), 2),
    ] {
        let (calls, ..) =
            cost(grid, options(1000, 64), |rank| there.is_some_and(|most| rank < most)).await;
        assert!(calls <= most, "{grid:?}: {calls}");
    }
}

/// Steps of an archive: after every ten keys' worth of rows lies one with a digit fewer, which is not
/// in the region. Pages reach over that, and none is cut in halves by where segments begin.
#[tokio::test(start_paused = true)]
async fn a_range_of_steps_costs_the_steps_between_and_no_more() {
    let order = order(encoding("default", "/"), &[2000, 8, 12]);
    let objects = coordinates(&[0..2000, 0..8, 0..12])
        .iter()
        .map(|coords| format!("a/{}", order.encoding().encode(coords)).into_bytes())
        .collect();
    let mut server = Server::new(objects);
    server.delay = Some(Duration::from_millis(50));
    let mut server = Arc::new(server);
    let keys = ArrayKeys::new("a", Arc::clone(&order));
    for (rows, concurrency, full) in [
        (1000..2000, 64, false),
        (1000..2000, 64, true),
        (1000..2000, 8, false),
        (1200..1850, 64, true),
        (1203..1849, 32, false),
    ] {
        let region = RankRegion::new(Arc::clone(&order), &[rows, 0..8, 0..12]).unwrap();
        Arc::get_mut(&mut server).unwrap().requests = 0.into();
        let options = ScanOptions { full, ..options(1000, concurrency) };
        let (chunks, stats) = listed(&server, &keys, &region, options).await;
        assert_eq!(chunks.unwrap().len() as u64, region.len());
        let most = region.len().div_ceil(1000) * 118 / 100;
        println!("{concurrency}, {full}: {} of {most}", stats.list_requests);
        assert!(stats.list_requests <= most, "{concurrency}: {} > {most}", stats.list_requests);
    }
}

#[tokio::test(start_paused = true)]
async fn dense_regions_cost_what_they_hold_and_one_request_a_run() {
    let order = order(encoding("v2", "."), &[60, 50, 40]);
    let objects = coordinates(&[0..60, 0..50, 0..40])
        .iter()
        .map(|coords| format!("a/{}", order.encoding().encode(coords)).into_bytes())
        .collect();
    let server = Server::new(objects);
    let mut server = Arc::new(server);
    let keys = ArrayKeys::new("a", Arc::clone(&order));
    for ranges in [
        [0..60, 0..50, 0..40],
        [0..24, 0..50, 0..40],
        [10..20, 0..50, 0..40],
        [7..8, 0..50, 0..40],
        [0..60, 3..4, 0..40],
        [0..60, 0..50, 0..39],
        [0..60, 10..13, 5..9],
        [59..60, 49..50, 39..40],
    ] {
        let region = RankRegion::new(Arc::clone(&order), &ranges).unwrap();
        Arc::get_mut(&mut server).unwrap().requests = 0.into();
        for concurrency in [1, 64] {
            Arc::get_mut(&mut server).unwrap().requests = 0.into();
            let (chunks, stats) = listed(&server, &keys, &region, options(1000, concurrency)).await;
            assert_eq!(chunks.unwrap().len() as u64, region.len());
            let runs = region.ranges().count() as u64;
            let most = region.len().div_ceil(1000) * 101 / 100 + 2 + runs;
            println!(
                "{ranges:?} C={concurrency} {} calls, {} keys for {} chunks in {runs} runs",
                stats.list_requests,
                stats.keys_listed,
                region.len()
            );
            assert!(stats.list_requests <= most, "{ranges:?}: {} > {most}", stats.list_requests);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_region_costs_at_most_four_requests_and_two_of_an_empty_array() {
    let order = order(encoding("default", "/"), &[100, 100]);
    let keys = ArrayKeys::new("a", Arc::clone(&order));
    let half: Vec<_> = coordinates(&[0..50, 0..100])
        .iter()
        .map(|coords| format!("a/{}", order.encoding().encode(coords)).into_bytes())
        .collect();
    for objects in [half, Vec::new()] {
        for range in [60..70, 90..100] {
            let most = if objects.is_empty() { 2 } else { 4 };
            let server = Arc::new(Server::new(objects.clone()));
            let region = RankRegion::new(Arc::clone(&order), &[range, 0..100]).unwrap();
            let (chunks, stats) = listed(&server, &keys, &region, options(1000, 64)).await;
            assert!(chunks.unwrap().is_empty());
            assert!(stats.list_requests <= most, "{}", stats.list_requests);
        }
    }
}

/// Strangers in the middle of a small region are passed over in whole pages, not in pages of so many
/// keys as there are chunks.
#[tokio::test]
async fn many_strangers_cost_whole_pages() {
    let order = order(encoding("default", "/"), &[10, 10]);
    let keys = ArrayKeys::new("a", Arc::clone(&order));
    let mut objects: Vec<_> =
        (0..100).map(|rank| format!("a/{}", order.key(rank).unwrap()).into_bytes()).collect();
    objects.extend((0..10_000).map(|n| format!("a/c/3/4~{n:05}").into_bytes()));
    let server = Arc::new(Server::new(objects));
    for ordered in [false, true] {
        server.requests.store(0, Ordering::SeqCst);
        let region = RankRegion::new(Arc::clone(&order), &[3..4, 0..10]).unwrap();
        let options = ScanOptions { ordered, ..options(1000, 4) };
        let (chunks, stats) = listed(&server, &keys, &region, options).await;
        assert_eq!((chunks.unwrap().len(), stats.foreign_keys), (10, 10_000), "{ordered}");
        assert!(stats.list_requests <= 10 + 4, "{}, {ordered}", stats.list_requests);
    }
}

#[tokio::test]
async fn a_huge_sparse_grid_costs_what_it_holds() {
    let order = order(encoding("default", "/"), &[1_000_000, 1000, 1000]);
    let keys = ArrayKeys::new("a", Arc::clone(&order));
    let objects = (0..100_000_u64)
        .map(|n| format!("a/{}", order.key(n * 9_999_991).unwrap()).into_bytes())
        .collect();
    let server = Arc::new(Server::new(objects));
    let (chunks, stats) =
        listed(&server, &keys, &RankRegion::whole(Arc::clone(&order)), options(1000, 64)).await;
    assert_eq!(chunks.unwrap().len(), 100_000);
    println!("10^12 ranks, 100,000 keys: {} calls", stats.list_requests);
    assert!(stats.list_requests <= 110 + 128);

    // Ten million far runs of a thousand ranks, nearly all empty: as cheap.
    let server = Arc::new(Server::new(
        (0..100_000_u64)
            .map(|n| format!("a/{}", order.key(n * 9_999_991).unwrap()).into_bytes())
            .collect(),
    ));
    let region = RankRegion::new(Arc::clone(&order), &[0..1_000_000, 10..20, 0..1000]).unwrap();
    let (chunks, stats) = listed(&server, &keys, &region, options(1000, 64)).await;
    println!("region of it: {} chunks, {} calls", chunks.unwrap().len(), stats.list_requests);
    assert!(stats.list_requests <= 110 + 128);
}
