//! Which ranks pages have answered for: the proof that a listing has no hole.
//!
//! Each rank may be answered for once; neighbouring intervals are merged, so that the record stays
//! as small as the number of chains. How the answers are obtained is not known here.

use std::collections::BTreeMap;
use std::ops::Range;

/// What is known of one interval of ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    end: u64,
    chunks: u64,
}

/// Disjoint intervals of ranks and the number of chunks delivered from each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cover {
    /// By the start of the interval.
    intervals: BTreeMap<u64, Known>,
}

impl Cover {
    /// Records that `ranks` hold the `chunks` that were delivered, and no others.
    ///
    /// False, with nothing recorded, when some of `ranks` were answered for before.
    #[must_use]
    pub(crate) fn add(&mut self, ranks: &Range<u64>, chunks: u64) -> bool {
        if ranks.is_empty() {
            return chunks == 0;
        }
        let (mut start, mut known) = (ranks.start, Known { end: ranks.end, chunks });
        if let Some((left, before)) = self.intervals.range(..ranks.end).next_back() {
            if before.end > ranks.start {
                return false;
            }
            if before.end == ranks.start {
                start = *left;
                known.chunks += before.chunks;
            }
        }
        if let Some(after) = self.intervals.remove(&ranks.end) {
            known = Known { end: after.end, chunks: known.chunks + after.chunks };
        }
        self.intervals.insert(start, known);
        true
    }

    /// Whether every one of `ranks` is answered for.
    pub(crate) fn covers(&self, ranks: &Range<u64>) -> bool {
        ranks.is_empty()
            || self
                .intervals
                .range(..=ranks.start)
                .next_back()
                .is_some_and(|(_, known)| known.end >= ranks.end)
    }

    /// The start of the interval that `rank` is in.
    pub(crate) fn interval_of(&self, rank: u64) -> Option<u64> {
        let (start, known) = self.intervals.range(..=rank).next_back()?;
        (rank < known.end).then_some(*start)
    }

    /// The intervals and the chunks delivered from each, in order.
    pub(crate) fn intervals(&self) -> impl Iterator<Item = (Range<u64>, u64)> {
        self.intervals.iter().map(|(start, known)| (*start..known.end, known.chunks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_merge_and_holes_show() {
        let mut cover = Cover::default();
        assert!(cover.add(&(10..20), 5));
        assert!(cover.add(&(30..40), 1));
        assert!(!cover.covers(&(10..40)));
        assert!(cover.add(&(20..30), 0));
        assert!(cover.covers(&(10..40)) && cover.covers(&(12..13)) && cover.covers(&(50..50)));
        assert!(!cover.covers(&(9..11)) && !cover.covers(&(39..41)));
        assert_eq!(cover.intervals().collect::<Vec<_>>(), [(10..40, 6)]);
        assert_eq!((cover.interval_of(39), cover.interval_of(40)), (Some(10), None));
    }

    #[test]
    fn nothing_is_answered_for_twice() {
        let mut cover = Cover::default();
        assert!(cover.add(&(10..20), 0));
        for ranks in [9..11, 19..21, 12..13, 0..100, 10..20] {
            assert!(!cover.add(&ranks, 0), "{ranks:?}");
        }
        assert!(cover.add(&(0..10), 0) && cover.add(&(20..21), 0));
        assert!(cover.covers(&(0..21)));
    }
}
