//! Servers that misbehave end in right results or an error, never in chunks missing in silence.

use std::sync::Arc;

use proptest::prelude::*;
use refreeze::ErrorKind;
use refreeze::key_order::rank_region::RankRegion;
use refreeze::list::ScanOptions;
use refreeze::list::array_keys::ArrayKeys;
use refreeze::source::page::StartAfter;

use super::mock::{Fault, Server, coordinates, encoding, listed, options, order};
use super::properties::{cases, runtime};

pub(crate) const FAULTS: [Fault; 19] = [
    Fault::IgnoresStart,
    Fault::IgnoresAbsentStart,
    Fault::NothingAfterStart,
    Fault::NothingAfterAbsentStart,
    Fault::NothingAfterPresentStart,
    Fault::RefusesStart,
    Fault::Descending,
    Fault::Shuffled { filters: false },
    Fault::Shuffled { filters: true },
    Fault::RepeatsFirstPage { fresh: true },
    Fault::RepeatsFirstPage { fresh: false },
    Fault::Stutters,
    Fault::NeverTruncated,
    Fault::CutsShort,
    Fault::IgnoresPrefix,
    Fault::EmptyPagesForever { fresh: true },
    Fault::EmptyPagesForever { fresh: false },
    Fault::AlwaysTruncated { token: false },
    Fault::NoToken,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn right_or_an_error(
        case in cases(),
        fault in prop::sample::select(FAULTS.to_vec()),
        delay in any::<bool>(),
        inclusive in any::<bool>(),
        full in any::<bool>(),
    ) {
        // In pages of one or two keys, no order shows.
        let unordered = matches!(fault, Fault::Descending | Fault::Shuffled { .. });
        // One that sends one key at a time and says each time that this was all cannot be seen
        // through by asking for a known key and what follows it.
        let least = if unordered { 12 } else { 1 + usize::from(fault == Fault::NeverTruncated) };
        let mut server = Server::new(case.objects.clone());
        server.cap = case.cap.max(least + usize::from(inclusive));
        server.start_after =
            if inclusive { StartAfter::Inclusive } else { StartAfter::Exclusive };
        server.fault = fault;
        server.delay = delay.then_some(std::time::Duration::from_millis(40));
        let page_size = case.page_size.max(u32::try_from(least).unwrap());
        let (chunks, _) = runtime().block_on(listed(
            &Arc::new(server),
            &case.keys(),
            &case.region(),
            ScanOptions { full, ..options(page_size, case.concurrency) },
        ));
        match chunks {
            Ok(chunks) => prop_assert_eq!(chunks, case.expected),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Listing),
        }
    }
}

/// What becomes of each fault on an ordinary array with the second half missing, of 4,000 keys.
#[test]
fn outcomes() {
    let order = order(encoding("v2", "."), &[100, 80]);
    let keys = ArrayKeys::new("a", Arc::clone(&order));
    let mut objects: Vec<Vec<u8>> = coordinates(&[0..100, 0..80])
        .iter()
        .map(|coords| order.encoding().encode(coords))
        .filter(|key| order.rank_after(key.as_bytes()) <= 4000)
        .map(|key| format!("a/{key}").into_bytes())
        .collect();
    objects.push(b"b/0.0".to_vec());
    for (fault, right, warned) in [
        (Fault::IgnoresStart, true, true),
        (Fault::IgnoresAbsentStart, true, true),
        (Fault::NothingAfterStart, true, true),
        (Fault::NothingAfterAbsentStart, true, true),
        (Fault::NothingAfterPresentStart, true, true),
        (Fault::RefusesStart, true, true),
        (Fault::Descending, true, true),
        (Fault::Shuffled { filters: false }, true, true),
        (Fault::Shuffled { filters: true }, true, true),
        (Fault::RepeatsFirstPage { fresh: true }, false, true),
        (Fault::RepeatsFirstPage { fresh: false }, false, true),
        (Fault::Stutters, false, true),
        (Fault::NeverTruncated, true, true),
        (Fault::CutsShort, false, true),
        (Fault::IgnoresPrefix, false, false),
        (Fault::EmptyPagesFirst, true, false),
        (Fault::EmptyPagesRun, true, false),
        (Fault::EmptyPagesForever { fresh: true }, false, true),
        (Fault::EmptyPagesForever { fresh: false }, false, true),
        (Fault::AlwaysTruncated { token: true }, true, false),
        (Fault::AlwaysTruncated { token: false }, true, false),
        (Fault::NoToken, true, false),
    ] {
        let mut server = Server::new(objects.clone());
        server.fault = fault;
        let region = RankRegion::whole(Arc::clone(&order));
        let (chunks, stats) =
            runtime().block_on(listed(&Arc::new(server), &keys, &region, options(1000, 8)));
        println!(
            "{fault:?}: {:?}, {} requests, {:?}",
            chunks.as_ref().map(Vec::len).map_err(ToString::to_string),
            stats.list_requests,
            stats.warnings
        );
        assert_eq!(chunks.map(|chunks| chunks.len()).ok(), right.then_some(4000), "{fault:?}");
        assert_eq!(!stats.warnings.is_empty(), warned, "{fault:?}");
    }
}

/// One that begins a page with the key that it starts after is caught when it leaves that out: it
/// may have left out more.
#[test]
fn a_start_that_is_included_is_looked_for() {
    let order = order(encoding("v2", "."), &[100, 80]);
    let keys = ArrayKeys::new("a", Arc::clone(&order));
    let objects: Vec<_> =
        (0..8000).map(|rank| format!("a/{}", order.key(rank).unwrap()).into_bytes()).collect();
    for ordered in [false, true] {
        let mut server = Server::new(objects.clone());
        server.start_after = StartAfter::Inclusive;
        server.fault = Fault::PassesOverPresentStart;
        let region = RankRegion::whole(Arc::clone(&order));
        let options = ScanOptions { ordered, ..options(100, 8) };
        let (chunks, stats) =
            runtime().block_on(listed(&Arc::new(server), &keys, &region, options));
        match chunks {
            Ok(chunks) => assert_eq!(chunks.len(), 8000, "{ordered}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Listing, "{ordered}"),
        }
        assert!(!stats.warnings.is_empty(), "{ordered}");
    }
}
