//! The estimate from a few pages: right where it says so, near where chunks lie evenly, rather too
//! high elsewhere, and never more than its requests.

use std::sync::Arc;

use proptest::prelude::*;
use refreeze::density::sample::sample;
use refreeze::density::{Density, Looks};
use refreeze::key_order::rank_region::RankRegion;
use refreeze::list::array_keys::ArrayKeys;

use super::misbehaviour::FAULTS;
use super::mock::{Fault, Server, encoding, options, order};
use super::properties::{Case, cases, noise, runtime};

const EIGHT: [Looks; 2] =
    [Looks { requests: 8, at_once: false }, Looks { requests: 8, at_once: true }];

fn sampled(case: &Case, server: Server, looks: Looks) -> Density {
    let options = options(case.page_size, case.concurrency);
    let sampled = sample(Arc::new(server), case.keys(), case.region(), looks, options);
    runtime().block_on(sampled).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A count is right, an estimate possible, and what a page shows is never left out.
    #[test]
    fn counts_are_right(case in cases(), requests in 1_usize..12, at_once in any::<bool>()) {
        let mut server = Server::new(case.objects.clone());
        server.cap = case.cap;
        let density = sampled(&case, server, Looks { requests, at_once });
        prop_assert!(density.chunks_expected <= case.region().len());
        if density.exact {
            prop_assert_eq!(density.chunks_expected, case.expected.len() as u64);
        }
        // Small pages full of strangers are followed.
        prop_assert!(density.list_requests <= 3 * requests.max(3) as u64);
    }

    /// A server that cannot be trusted has no say: no error, and no less than is there.
    #[test]
    fn untrusted_servers_are_taken_to_be_full(
        case in cases(),
        fault in prop::sample::select(FAULTS.to_vec()),
        looks in prop::sample::select(EIGHT.to_vec()),
    ) {
        let mut server = Server::new(case.objects.clone());
        server.fault = fault;
        let density = sampled(&case, server, looks);
        prop_assert!(density.chunks_expected <= case.region().len());
    }
}

const N: u64 = 1_000_000;

#[test]
fn patterns() {
    type Pattern = (&'static str, fn(u64) -> bool, f64, f64);
    // Bounds of estimate / truth.
    let patterns: [Pattern; 9] = [
        ("dense", |_| true, 1.0, 1.0),
        ("random 30 %", |rank| noise(rank) < 300, 0.97, 1.1),
        ("first half", |rank| rank < N / 2, 1.0, 1.4),
        ("second half", |rank| rank >= N / 2, 1.0, 1.4),
        ("every tenth", |rank| rank % 10 == 0, 0.99, 1.02),
        ("random 2 %", |rank| noise(rank) < 20, 0.97, 1.1),
        ("block in the middle", |rank| (450_000..550_000).contains(&rank), 1.0, 2.0),
        ("ten blocks", |rank| rank % 100_000 < 10_000, 1.0, 10.0),
        ("one in 10,000", |rank| rank % 10_000 == 77, 1.0, 1.0),
    ];
    for (name, there, least, most) in patterns {
        let order = order(encoding("default", "/"), &[100, 100, 100]);
        let objects: Vec<Vec<u8>> = (0..N)
            .filter(|rank| there(*rank))
            .map(|rank| format!("a/{}", order.key(rank).unwrap()).into_bytes())
            .collect();
        let truth = objects.len() as f64;
        let keys = ArrayKeys::new("a", Arc::clone(&order));
        let region = RankRegion::whole(order);
        let server = Arc::new(Server::new(objects));
        for looks in EIGHT {
            let (server, keys) = (Arc::clone(&server), keys.clone());
            let sampled = sample(server, keys, region.clone(), looks, options(1000, 64));
            let density = runtime().block_on(sampled).unwrap();
            println!("{name:20} {looks:?} {density:?}, {truth} are there");
            let ratio = density.chunks_expected as f64 / truth;
            // Those that are sent at once begin elsewhere, where the first page does not tell.
            let most = if looks.at_once { most * 1.1 } else { most };
            assert!(least <= ratio && ratio <= most, "{name}: {ratio}");
            assert!(density.list_requests <= 8, "{name}");
        }
    }
}

/// "Nothing follows" is held against a key that is known.
#[test]
fn silence_is_not_emptiness() {
    let order = order(encoding("v2", "."), &[100, 80]);
    let objects: Vec<_> =
        (0..8000).map(|rank| format!("a/{}", order.key(rank).unwrap()).into_bytes()).collect();
    for (fault, expected) in [
        (Fault::NothingAfterStart, 4000),
        (Fault::NothingAfterAbsentStart, 4000),
        (Fault::IgnoresStart, 4000),
        (Fault::RefusesStart, 4000),
        (Fault::None, 0),
    ] {
        for (looks, most) in EIGHT.into_iter().zip([4, 8]) {
            let mut server = Server::new(objects.iter().take(2000).cloned().collect());
            server.fault = fault;
            let keys = ArrayKeys::new("a", Arc::clone(&order));
            let region = RankRegion::new(Arc::clone(&order), &[50..100, 0..80]).unwrap();
            let sampled = sample(Arc::new(server), keys, region, looks, options(1000, 8));
            let density = runtime().block_on(sampled).unwrap();
            assert_eq!(density.chunks_expected, expected, "{fault:?}, {looks:?}");
            assert!(density.list_requests <= most);
        }
    }
}
