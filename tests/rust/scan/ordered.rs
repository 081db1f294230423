//! Pages in the order of their keys: the same chunks, ascending, few pages held, few requests more.
//!
//! That the order is right is checked by [`listed`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use proptest::prelude::*;
use refreeze::ErrorKind;
use refreeze::key_order::rank_region::RankRegion;
use refreeze::list::array_keys::ArrayKeys;
use refreeze::list::{ScanOptions, ranked::scan};

use super::budget::assert_all_are_used;
use super::misbehaviour::FAULTS;
use super::mock::{Fault, Server, encoding, listed, options, order};
use super::properties::{cases, noise, runtime};

fn in_order(page_size: u32, concurrency: usize) -> ScanOptions {
    ScanOptions { ordered: true, ..options(page_size, concurrency) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_listing_in_order_finds_exactly_the_chunks(
        case in cases(),
        delay in any::<bool>(),
        failing in prop_oneof![3 => Just(0_u8), 1 => Just(3)],
        fault in prop_oneof![
            6 => Just(Fault::None),
            1 => Just(Fault::EmptyPagesFirst),
            1 => Just(Fault::EmptyPagesRun),
            1 => Just(Fault::AlwaysTruncated { token: true }),
            1 => Just(Fault::NoToken),
        ],
    ) {
        let mut server = Server::new(case.objects.clone());
        server.cap = case.cap;
        server.delay = delay.then_some(Duration::from_millis(40));
        server.failing = failing;
        server.fault = fault;
        let (chunks, _) = runtime().block_on(listed(
            &Arc::new(server),
            &case.keys(),
            &case.region(),
            in_order(case.page_size, case.concurrency),
        ));
        prop_assert_eq!(&chunks.unwrap(), &case.expected);
    }

    #[test]
    fn right_and_in_order_or_an_error(
        case in cases(),
        fault in prop::sample::select(FAULTS.to_vec()),
        delay in any::<bool>(),
    ) {
        let unordered = matches!(fault, Fault::Descending | Fault::Shuffled { .. });
        // As in `misbehaviour`: less shows nothing.
        let least = if unordered { 12 } else { 1 + usize::from(fault == Fault::NeverTruncated) };
        let mut server = Server::new(case.objects.clone());
        server.cap = case.cap.max(least);
        server.fault = fault;
        server.delay = delay.then_some(Duration::from_millis(40));
        let page_size = case.page_size.max(u32::try_from(least).unwrap());
        let (chunks, _) = runtime().block_on(listed(
            &Arc::new(server),
            &case.keys(),
            &case.region(),
            in_order(page_size, case.concurrency),
        ));
        match chunks {
            Ok(chunks) => prop_assert_eq!(chunks, case.expected),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Listing),
        }
    }
}

const N: u64 = 400_000;

/// Requests, the most pages asked for and not delivered, and round trips of a quick consumer or of
/// one that takes longer for a page than the server; a request of the server's may be late.
async fn cost(
    there: impl Fn(u64) -> bool,
    concurrency: usize,
    slow: bool,
    late: Option<u64>,
) -> (u64, u64, u64, u64) {
    let order = order(encoding("default", "/"), &[200, 100, 20]);
    let objects: Vec<_> = (0..N)
        .filter(|rank| there(*rank))
        .map(|rank| format!("a/{}", order.key(rank).unwrap()).into_bytes())
        .collect();
    let pages = (objects.len() as u64).div_ceil(500);
    let mut server = Server::new(objects);
    server.delay = Some(Duration::from_millis(50));
    server.late = late;
    let server = Arc::new(server);
    let start = tokio::time::Instant::now();
    let keys = ArrayKeys::new("a", Arc::clone(&order));
    let options = in_order(500, concurrency);
    let mut stream = scan(Arc::clone(&server) as _, keys, RankRegion::whole(order), options);
    // Pages that hold no chunk, or none that another has not, are never seen here: requests that
    // have been answered and not delivered are an upper bound only for full pages.
    let (mut delivered, mut most, mut chunks, mut next) = (0, 0, 0, 0);
    while let Some(page) = stream.next().await {
        let page = page.unwrap();
        assert!(page.ranks.start >= next);
        next = page.ranks.end;
        chunks += page.entries.len() as u64;
        delivered += 1;
        most = most.max(server.requests.load(Ordering::SeqCst) - delivered);
        if slow {
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }
    assert_eq!(stream.stats().chunks, chunks);
    let millis = u64::try_from(start.elapsed().as_millis()).unwrap();
    (server.requests.load(Ordering::SeqCst), pages, most, millis)
}

#[tokio::test(start_paused = true)]
async fn patterns() {
    type Pattern = (&'static str, fn(u64) -> bool);
    let patterns: [Pattern; 10] = [
        ("dense", |_| true),
        ("random 30 %", |rank| noise(rank) < 300),
        ("first half", |rank| rank < N / 2),
        ("second half", |rank| rank >= N / 2),
        ("every tenth", |rank| rank % 10 == 0),
        ("random 2 %", |rank| noise(rank) < 20),
        ("block in the middle", |rank| (180_000..220_000).contains(&rank)),
        ("ten blocks", |rank| rank % 40_000 < 4_000),
        ("sparse, then dense", |rank| rank % 100 == 0 || rank > N / 2),
        ("dense, then sparse", |rank| rank % 10 == 0 || rank < N / 2),
    ];
    for (name, there) in patterns {
        for concurrency in [32, 8] {
            let (calls, pages, _, millis) = cost(there, concurrency, false, None).await;
            println!(
                "{name:20} C={concurrency:2} calls {calls:5} for {pages:4} pages, {:5.1} round trips (ideal {:.1})",
                millis as f64 / 48.0,
                pages as f64 / concurrency as f64
            );
            let most = match name {
                "dense" => pages * 101 / 100 + 2,
                "ten blocks" => pages * 115 / 100 + 10 * concurrency as u64,
                _ => pages * 115 / 100 + 2 * concurrency as u64,
            };
            assert!(calls <= most, "{name}: {calls} > {most}");
            assert_all_are_used(name, calls, concurrency, millis);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn few_pages_are_held_whatever_the_consumer_does() {
    for slow in [false, true] {
        for concurrency in [1, 4, 16] {
            let (_, _, most, _) = cost(|_| true, concurrency, slow, None).await;
            // Two and a half a request in flight, those in the channel and the one beside it, and
            // the one that is counted when it is asked for.
            let bound = 5 * concurrency as u64 / 2 + 5;
            assert!(most <= bound, "{most} > {bound}, {slow}");
        }
    }
}

/// While a page is late, no more than one and a half for each request in flight are asked for ahead.
#[tokio::test(start_paused = true)]
async fn few_pages_are_held_for_a_late_one() {
    for concurrency in [1, 4, 16] {
        let (calls, pages, most, millis) = cost(|_| true, concurrency, false, Some(40)).await;
        assert!(millis > 60_000, "{millis}");
        assert_eq!(calls, pages);
        let bound = 3 * concurrency as u64 / 2 + 5;
        assert!(most <= bound, "{most} > {bound}");
    }
}

/// What a serial listing of a server that does not honour start-after delivers goes on where the
/// first one stopped; one in another order is refused.
#[test]
fn a_serial_listing_stays_in_order() {
    let order = order(encoding("v2", "."), &[100, 80]);
    let keys = ArrayKeys::new("a", Arc::clone(&order));
    let objects: Vec<_> =
        (0..8000).map(|rank| format!("a/{}", order.key(rank).unwrap()).into_bytes()).collect();
    for (fault, right) in [
        (Fault::IgnoresStart, true),
        (Fault::NothingAfterStart, true),
        (Fault::RefusesStart, true),
        (Fault::Descending, false),
        (Fault::Shuffled { filters: true }, false),
    ] {
        let mut server = Server::new(objects.clone());
        server.fault = fault;
        let region = RankRegion::whole(Arc::clone(&order));
        let (chunks, stats) =
            runtime().block_on(listed(&Arc::new(server), &keys, &region, in_order(1000, 8)));
        assert_eq!(chunks.map(|chunks| chunks.len()).ok(), right.then_some(8000), "{fault:?}");
        assert!(!stats.warnings.is_empty());
    }
}
