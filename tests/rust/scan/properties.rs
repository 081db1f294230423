//! Random grids, regions, patterns and pages against the oracle: all keys, sorted and filtered.

use std::ops::Range;
use std::sync::Arc;

use proptest::prelude::*;
use refreeze::ErrorKind;
use refreeze::key_order::rank_region::RankRegion;
use refreeze::list::ScanOptions;
use refreeze::list::array_keys::ArrayKeys;
use refreeze::list::limit::{Concurrency, ConcurrencyLimit};
use refreeze::source::page::StartAfter;
use refreeze::zarr::key::ChunkKeyEncoding;

use super::mock::{Fault, Server, coordinates, encoding, listed, options, order};

/// A store with one array, and what is asked of it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) encoding: ChunkKeyEncoding,
    pub(crate) path: String,
    pub(crate) grid: Vec<u64>,
    pub(crate) ranges: Vec<Range<u64>>,
    /// All objects of the store.
    pub(crate) objects: Vec<Vec<u8>>,
    /// The chunks of the region that have one.
    pub(crate) expected: Vec<Vec<u32>>,
    pub(crate) page_size: u32,
    pub(crate) cap: usize,
    pub(crate) concurrency: usize,
}

impl Case {
    pub(crate) fn keys(&self) -> ArrayKeys {
        ArrayKeys::new(&self.path, order(self.encoding, &self.grid))
    }

    pub(crate) fn region(&self) -> RankRegion {
        RankRegion::new(order(self.encoding, &self.grid), &self.ranges).unwrap()
    }
}

pub(crate) fn encodings() -> impl Strategy<Value = ChunkKeyEncoding> {
    prop_oneof![
        Just(encoding("default", "/")),
        Just(encoding("default", ".")),
        Just(encoding("v2", "/")),
        Just(encoding("v2", ".")),
    ]
}

fn grids() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        1 => proptest::collection::vec(1_u64..=1500, 0..=1),
        3 => proptest::collection::vec(1_u64..=40, 2),
        2 => proptest::collection::vec(1_u64..=12, 3),
        1 => proptest::collection::vec(1_u64..=3, 5),
        1 => (1_u64..=3, 1_u64..=500).prop_map(|(a, b)| vec![a, b]),
        1 => (1_u64..=500, 1_u64..=3).prop_map(|(a, b)| vec![a, b]),
    ]
}

/// Whether the chunk of a position exists, of `all` in key order.
fn there(pattern: u8, seed: u64, position: u64, all: u64) -> bool {
    let noise = (position ^ seed).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    match pattern % 9 {
        0 | 1 => true,
        2 => noise.is_multiple_of(3),
        3 => noise.is_multiple_of(40),
        4 => position < all / 2,
        5 => position >= all / 2,
        6 => position % 10 == seed % 10,
        7 => (all / 3..all / 2).contains(&position),
        _ => false,
    }
}

pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let sizes =
        (1_u32..=1000, 0_u32..10, 1_usize..=40, prop_oneof![1 => 1_usize..50, 2 => Just(1000)]);
    let strays =
        proptest::collection::vec((any::<prop::sample::Index>(), "[-./0-9a~]{0,4}"), 0..12);
    (
        encodings(),
        prop_oneof![Just(""), Just("a"), Just("store/été/a.b")],
        grids(),
        proptest::collection::vec(any::<(u64, u64, u8)>(), 5),
        any::<(u8, u64)>(),
        strays,
        sizes,
    )
        .prop_map(|(encoding, path, grid, seeds, (pattern, seed), strays, sizes)| {
            let ranges: Vec<Range<u64>> = grid
                .iter()
                .zip(seeds)
                .map(|(extent, (a, b, kind))| {
                    let (a, b) = (a % extent, b % extent);
                    match kind % 4 {
                        0 | 1 => 0..*extent,
                        2 => a..a + 1,
                        _ => a.min(b)..a.max(b) + 1,
                    }
                })
                .collect();
            let whole: Vec<_> = grid.iter().map(|extent| 0..*extent).collect();
            let mut all: Vec<(String, Vec<u32>)> = coordinates(&whole)
                .into_iter()
                .map(|coords| (encoding.encode(&coords), coords))
                .collect();
            all.sort();
            let count = all.len() as u64;
            let root = if path.is_empty() { String::new() } else { format!("{path}/") };
            let mut objects = Vec::new();
            let mut expected = Vec::new();
            for (position, (key, coords)) in (0..).zip(&all) {
                if there(pattern, seed, position, count) {
                    objects.push(format!("{root}{key}").into_bytes());
                    if coords.iter().zip(&ranges).all(|(c, range)| range.contains(&u64::from(*c))) {
                        expected.push(coords.clone());
                    }
                }
            }
            expected.sort();
            // Strangers: variations of keys that are not keys of the grid.
            for (index, tail) in strays {
                let stray = format!("{}{tail}", all[index.index(all.len())].0);
                if all.binary_search_by(|(key, _)| key.as_str().cmp(&stray)).is_err() {
                    objects.push(format!("{root}{stray}").into_bytes());
                }
            }
            for name in [".zarray", ".zattrs", "zarr.json", "README", "c", "c/", "~"] {
                if pattern % 2 == 0 && !(grid.is_empty() && name == "c") {
                    objects.push(format!("{root}{name}").into_bytes());
                }
            }
            if !path.is_empty() {
                objects
                    .extend(["a-/c/0", "a/", "0/0", "z/c/0/0"].map(|key| key.as_bytes().to_vec()));
            }
            let (page_size, small, concurrency, cap) = sizes;
            let page_size = if small < 6 { page_size % 60 + 1 } else { page_size };
            let path = path.to_owned();
            Case { encoding, path, grid, ranges, objects, expected, page_size, cap, concurrency }
        })
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_listing_finds_exactly_the_chunks(
        case in cases(),
        delay in any::<bool>(),
        full in any::<bool>(),
        failing in prop_oneof![3 => Just(0_u8), 1 => Just(3)],
        start_after in prop_oneof![Just(StartAfter::Exclusive), Just(StartAfter::Inclusive)],
        fault in prop_oneof![
            6 => Just(Fault::None),
            1 => Just(Fault::EmptyPagesFirst),
            1 => Just(Fault::EmptyPagesRun),
            1 => Just(Fault::AlwaysTruncated { token: true }),
            1 => Just(Fault::NoToken),
        ],
    ) {
        let mut server = Server::new(case.objects.clone());
        // A page of one key would hold nothing but the one to start with.
        server.cap = case.cap.max(1 + usize::from(start_after == StartAfter::Inclusive));
        server.start_after = start_after;
        server.delay = delay.then_some(std::time::Duration::from_millis(40));
        server.failing = failing;
        server.fault = fault;
        let (chunks, stats) = runtime().block_on(listed(
            &Arc::new(server),
            &case.keys(),
            &case.region(),
            ScanOptions { full, ..options(case.page_size, case.concurrency) },
        ));
        // An odd server is not to be told from a wrong one where most of a region that was taken to be
        // full is not there. That is no wrong listing.
        let missing = case.expected.len() < usize::try_from(case.region().len()).unwrap();
        let misled = full && fault != Fault::None && missing;
        let chunks = match chunks {
            Err(error) if misled => {
                prop_assert_eq!(error.kind(), ErrorKind::Listing);
                return Ok(());
            }
            chunks => chunks.unwrap(),
        };
        prop_assert_eq!(&chunks, &case.expected);
        // One key at a time, or none but a foreign one, or only the one that a page is to start with,
        // is too little to tell an odd server from a wrong one; so is one that is said to have a
        // successor.
        let lone = start_after == StartAfter::Inclusive
            || matches!(fault, Fault::AlwaysTruncated { .. });
        let few = case.expected.len() <= usize::from(lone);
        let odd = case.cap <= 2 || fault != Fault::None && few || misled;
        prop_assert!(stats.warnings.is_empty() || odd, "{:?}", stats.warnings);
        if failing == 0 {
            prop_assert_eq!(stats.retries, 0);
        }
    }

    #[test]
    fn dense_regions_keep_their_budget(case in cases(), grows in any::<bool>()) {
        let whole: Vec<_> = case.grid.iter().map(|extent| 0..*extent).collect();
        let keys = case.keys();
        let objects = coordinates(&whole)
            .iter()
            .map(|coords| keys_of(&case, coords))
            .collect();
        let region = case.region();
        let mut options = options(case.page_size, case.concurrency);
        if grows {
            // From two in flight to 32, as far as that pays.
            let bounds = Concurrency::Auto { shares: 32 }.in_flight(usize::MAX);
            options.limit = ConcurrencyLimit::within(bounds, None);
        }
        let mut server = Server::new(objects);
        server.delay = grows.then_some(std::time::Duration::from_millis(12));
        let (chunks, stats) =
            runtime().block_on(listed(&Arc::new(server), &keys, &region, options));
        prop_assert_eq!(chunks.unwrap().len() as u64, region.len());
        let pages = region.len().div_ceil(u64::from(case.page_size));
        let runs = region.ranges().count() as u64;
        prop_assert!(stats.list_requests <= pages * 101 / 100 + 2 + runs, "{} for {} pages, {} runs", stats.list_requests, pages, runs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn sparse_arrays_keep_their_budget(case in cases(), concurrency in 1_usize..20) {
        let region = RankRegion::whole(order(case.encoding, &case.grid));
        // With pages of one key, a request that finds nothing costs as much as a page.
        let page_size = case.page_size.max(2);
        let (chunks, stats) = runtime().block_on(listed(
            &Arc::new(Server::new(case.objects.clone())),
            &case.keys(),
            &region,
            options(page_size, concurrency),
        ));
        prop_assert!(chunks.is_ok());
        let below = |key: &&Vec<u8>| key.starts_with(case.keys().prefix().as_bytes());
        let keys = case.objects.iter().filter(below).count() as u64;
        let most = keys.div_ceil(u64::from(page_size)) * 110 / 100 + 2 * concurrency as u64 + 2;
        prop_assert!(stats.list_requests <= most, "{} > {most}", stats.list_requests);
    }
}

/// Where no text comes after its last key, the token goes on from there.
#[test]
fn a_page_may_end_with_a_key_that_is_no_text() {
    let order = order(encoding("v2", "."), &[10]);
    let keys = ArrayKeys::new("a", Arc::clone(&order));
    let chunks = (0..10).map(|rank| format!("a/{}", order.key(rank).unwrap()).into_bytes());
    let objects: Vec<_> = chunks.chain([b"a/4\xff".to_vec(), b"a/9\xff".to_vec()]).collect();
    for (page_size, ordered) in [(6, false), (6, true), (1000, false), (1000, true)] {
        let server = Arc::new(Server::new(objects.clone()));
        let region = RankRegion::whole(Arc::clone(&order));
        let options = ScanOptions { ordered, ..options(page_size, 1) };
        let (chunks, stats) = runtime().block_on(listed(&server, &keys, &region, options));
        assert_eq!((chunks.unwrap().len(), stats.warnings), (10, Vec::new()), "{page_size}");
        let requests = if page_size == 6 { 2 } else { 1 };
        assert_eq!(stats.list_requests, requests, "{page_size}, {ordered}");
    }
}

fn keys_of(case: &Case, coords: &[u32]) -> Vec<u8> {
    let key = case.encoding.encode(coords);
    if case.path.is_empty() {
        key.into_bytes()
    } else {
        format!("{}/{key}", case.path).into_bytes()
    }
}

/// A number below 1,000 that looks random.
pub(crate) fn noise(rank: u64) -> u64 {
    let mixed = (rank + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)) % 1000
}
