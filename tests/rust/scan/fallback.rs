//! Listings by tokens, where start-after cannot be used: leading coordinates side by side when they
//! are large, and an end that is proven.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use refreeze::ErrorKind;
use refreeze::key_order::rank::KeyOrder;
use refreeze::key_order::rank_region::RankRegion;
use refreeze::list::array_keys::ArrayKeys;

use super::mock::{Fault, Server, encoding, listed, options, order};
use super::properties::{noise, runtime};

/// A server of an array at `a` whose chunks `there` chooses, with strangers.
fn server(order: &KeyOrder, there: impl Fn(u64) -> bool) -> (Server, u64) {
    let mut objects: Vec<_> = (0..order.len())
        .filter(|rank| there(*rank))
        .map(|rank| format!("a/{}", order.key(rank).unwrap()).into_bytes())
        .collect();
    let chunks = objects.len() as u64;
    objects.extend([&b"a/zarr.json"[..], b"b/c/0/0", b"a/c/3/7~"].map(<[u8]>::to_vec));
    (Server::new(objects), chunks)
}

#[test]
fn leading_coordinates_are_listed_side_by_side() {
    for (name, separator) in [("default", "/"), ("v2", ".")] {
        let order = order(encoding(name, separator), &[24, 500]);
        for fault in [Fault::IgnoresStart, Fault::NothingAfterStart, Fault::RefusesStart] {
            let (mut server, _) = server(&order, |_| true);
            server.fault = fault;
            server.delay = Some(Duration::from_millis(50));
            server.log = Some(Mutex::default());
            let server = Arc::new(server);
            let keys = ArrayKeys::new("a", Arc::clone(&order));
            let region = RankRegion::new(Arc::clone(&order), &[2..13, 0..490]).unwrap();
            let (chunks, stats, millis) = runtime().block_on(async {
                let start = tokio::time::Instant::now();
                let (chunks, stats) = listed(&server, &keys, &region, options(100, 16)).await;
                (chunks.unwrap(), stats, start.elapsed().as_millis())
            });
            assert_eq!(chunks.len(), 11 * 490, "{fault:?}");
            assert!(stats.warnings[0].contains("by leading coordinates"), "{:?}", stats.warnings);
            // 11 chains of five pages; a chain of 120 would take 5,000 ms.
            assert!(millis < 1_000, "{millis}");
            assert_eq!(stats.foreign_example.as_deref(), (name == "default").then_some("a/c/3/7~"));
            // The end of each is proven by its last chunk.
            assert!(stats.list_requests <= 11 * 5 + 20, "{}", stats.list_requests);
            let log = server.log.as_ref().unwrap().lock().unwrap();
            for request in log.iter().filter(|request| request.contains("after None")) {
                let below = request.split('"').nth(1).unwrap();
                let coordinate = below.strip_prefix("a/").unwrap().trim_matches(['c', '/', '.']);
                let coordinate: Option<u64> = coordinate.parse().ok();
                assert!(coordinate.is_none_or(|at| (2..13).contains(&at)), "{request}");
            }
        }
    }
}

#[test]
fn the_end_of_a_sparse_chain_takes_a_few_questions() {
    let order = order(encoding("default", "/"), &[10, 2000]);
    for (grid_full, there) in [
        (false, (|rank| noise(rank) < 300) as fn(u64) -> bool),
        (false, |rank| rank < 4000),
        (true, |_| true),
    ] {
        let (mut server, chunks) = server(&order, there);
        server.fault = Fault::IgnoresStart;
        let keys = ArrayKeys::new("a", Arc::clone(&order));
        let region = RankRegion::whole(Arc::clone(&order));
        let (found, stats) =
            runtime().block_on(listed(&Arc::new(server), &keys, &region, options(100, 16)));
        assert_eq!(found.unwrap().len() as u64, chunks);
        let questions = stats.list_requests - chunks.div_ceil(100);
        println!("{} requests for {chunks} chunks", stats.list_requests);
        assert!(questions <= if grid_full { 30 } else { 10 * 25 + 30 }, "{questions}");
    }
}

/// "Complete", said of a page after which more follows: in one chain, and in several.
#[test]
fn a_page_that_is_cut_short_is_noticed() {
    for (grid, page_size) in [(&[100_u64, 80][..], 1000), (&[10, 800], 100), (&[8000], 1000)] {
        let order = order(encoding("default", "."), grid);
        for there in [(|_| true) as fn(u64) -> bool, |rank| noise(rank) < 400] {
            let (mut server, _) = server(&order, there);
            server.fault = Fault::CutsShort;
            let keys = ArrayKeys::new("a", Arc::clone(&order));
            let region = RankRegion::whole(Arc::clone(&order));
            let (chunks, _) = runtime().block_on(listed(
                &Arc::new(server),
                &keys,
                &region,
                options(page_size, 8),
            ));
            let error = chunks.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Listing);
            assert!(error.message().contains("was called complete although 'a/c."), "{error}");
        }
    }
}
