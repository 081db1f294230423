//! The page requests that a region takes when all its chunks exist, as a value to print.
//!
//! A sparse array takes fewer. Nothing is asked here; the executor in `ranked` comes
//! to the same requests from what it meets.

use std::fmt;
use std::ops::Range;

use crate::key_order::rank_region::RankRegion;
use crate::list::array_keys::ArrayKeys;

/// Ranges and requests beyond this many are estimated from those before.
const MOST_COUNTED: u64 = 20_000;

/// One request of a dense region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DensePage {
    /// The ranks from the first to the last that the page is for.
    pub ranks: Range<u64>,
    /// The key to start after.
    pub start_after: String,
    /// How many keys to ask for.
    pub max_keys: u32,
}

/// How a region's chunks lie among the keys, and what listing them takes at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageSummary {
    /// Chunks in the region, whether or not there is an object for them.
    pub chunks: u64,
    /// Contiguous ranges of keys.
    pub ranges: u64,
    /// LIST requests when every chunk exists.
    pub pages: u64,
    /// Whether `ranges` and `pages` are counted rather than estimated.
    pub exact: bool,
}

/// The requests for a dense region, in rank order. Lazy.
#[derive(Debug, Clone)]
pub struct Pages<'a> {
    keys: &'a ArrayKeys,
    region: &'a RankRegion,
    page_size: u32,
    from: u64,
}

/// The requests of at most `page_size` keys that list `region` when all of its chunks exist.
///
/// A page reaches over gaps between ranges that are shorter than what is left of it, and ends with
/// the last chunk of the region that it can hold.
pub fn pages<'a>(keys: &'a ArrayKeys, region: &'a RankRegion, page_size: u32) -> Pages<'a> {
    Pages { keys, region, page_size: page_size.max(1), from: 0 }
}

impl Pages<'_> {
    fn next_ranks(&mut self) -> Option<Range<u64>> {
        let start = self.region.next(self.from)?;
        let end = self.region.end_before(start.saturating_add(u64::from(self.page_size)))?;
        self.from = end;
        Some(start..end)
    }
}

impl Iterator for Pages<'_> {
    type Item = DensePage;

    fn next(&mut self) -> Option<DensePage> {
        let ranks = self.next_ranks()?;
        Some(DensePage {
            start_after: self.keys.before(ranks.start),
            max_keys: u32::try_from(ranks.end - ranks.start).unwrap_or(self.page_size),
            ranks,
        })
    }
}

/// Counts ranges and requests of `region`: exactly when there are few or when the region is one range.
pub fn summary(keys: &ArrayKeys, region: &RankRegion, page_size: u32) -> PageSummary {
    let chunks = region.len();
    let (ranges, ranges_exact) = count(chunks, region, region.ranges().map(|range| range.end));
    if ranges_exact && ranges <= 1 {
        let pages = chunks.div_ceil(u64::from(page_size.max(1)));
        return PageSummary { chunks, ranges, pages, exact: true };
    }
    let mut list = pages(keys, region, page_size);
    let ends = std::iter::from_fn(|| list.next_ranks().map(|ranks| ranks.end));
    let (pages, pages_exact) = count(chunks, region, ends);
    PageSummary { chunks, ranges, pages, exact: ranges_exact && pages_exact }
}

/// Counts pieces of a region, given where each ends; estimates when there are very many.
fn count(chunks: u64, region: &RankRegion, ends: impl Iterator<Item = u64>) -> (u64, bool) {
    let mut counted = 0;
    for end in ends {
        counted += 1;
        if counted == MOST_COUNTED {
            let seen = region.count_below(end);
            if seen >= chunks {
                break;
            }
            let all = u128::from(counted) * u128::from(chunks) / u128::from(seen.max(1));
            return (u64::try_from(all).unwrap_or(u64::MAX), false);
        }
    }
    (counted, true)
}

impl fmt::Display for PageSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = if self.exact { "" } else { "about " };
        let Self { chunks, ranges, pages, .. } = self;
        write!(
            f,
            "{chunks} chunks in {about}{ranges} ranges of keys: at most {about}{pages} LIST requests"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::key_order::rank::KeyOrder;
    use crate::key_order::rank_region::tests::boxes;
    use crate::testing::encodings;
    use crate::zarr::key::ChunkKeyEncoding;

    fn array(grid: &[u64]) -> (ArrayKeys, Arc<KeyOrder>) {
        let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
        let order = Arc::new(KeyOrder::new(encoding, grid).unwrap());
        (ArrayKeys::new("a", Arc::clone(&order)), order)
    }

    #[test]
    fn a_dense_array_is_exact_pages() {
        let (keys, order) = array(&[25, 100]);
        let region = RankRegion::whole(order);
        let plan: Vec<_> = pages(&keys, &region, 1000).collect();
        assert_eq!(
            plan.iter().map(|page| (page.start_after.as_str(), page.max_keys)).collect::<Vec<_>>(),
            [("a/c//", 1000), ("a/c/17/99", 1000), ("a/c/4/99", 500)]
        );
        let summary = summary(&keys, &region, 1000);
        assert_eq!(summary.to_string(), "2500 chunks in 1 ranges of keys: at most 3 LIST requests");
    }

    #[test]
    fn billions_of_chunks_are_planned_in_no_time() {
        let (keys, order) = array(&[1_000_000, 1000, 1000]);
        let whole = summary(&keys, &RankRegion::whole(Arc::clone(&order)), 1000);
        assert_eq!((whole.pages, whole.exact), (1_000_000_000, true));
        let region = RankRegion::new(order, &[0..500_000, 3..900, 0..1000]).unwrap();
        let part = summary(&keys, &region, 1000);
        assert!(!part.exact && part.pages >= 448_500_000 && part.pages < 460_000_000, "{part}");
    }

    proptest! {
        #[test]
        fn pages_cover_the_region_and_fit(
            encoding in encodings(),
            (grid, ranges) in boxes(),
            size in 1_u32..50,
        ) {
            let order = Arc::new(KeyOrder::new(encoding, &grid).unwrap());
            let keys = ArrayKeys::new("a", Arc::clone(&order));
            let region = RankRegion::new(order, &ranges).unwrap();
            let plan: Vec<_> = pages(&keys, &region, size).collect();
            let mut covered = 0;
            let mut from = 0;
            for page in &plan {
                prop_assert!(page.ranks.start >= from && page.max_keys <= size);
                prop_assert_eq!(page.ranks.end - page.ranks.start, u64::from(page.max_keys));
                covered += region.count_below(page.ranks.end) - region.count_below(page.ranks.start);
                from = page.ranks.end;
            }
            prop_assert_eq!(covered, region.len());
            let summary = summary(&keys, &region, size);
            prop_assert!(summary.exact);
            prop_assert_eq!(summary.pages, plan.len() as u64);
            prop_assert_eq!(summary.ranges, region.ranges().count() as u64);
            prop_assert!(summary.pages <= region.len().div_ceil(u64::from(size)) + summary.ranges);
        }
    }
}
