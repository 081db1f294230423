//! A box of chunk coordinates as a set of ranks, and its contiguous ranges in rank order.
//!
//! The n-th rank of a region, and how many of its ranks come before any other, are arithmetic; so
//! a range is found without a look at the chunks before it, however large the grid. Which of the
//! ranks have an object is not known here.

use std::ops::Range;
use std::sync::Arc;

use crate::key_order::decimal::DecimalSet;
use crate::key_order::rank::KeyOrder;
use crate::{Error, ErrorKind, Result};

/// One dimension of a region.
#[derive(Debug, Clone)]
struct Axis {
    chunks: Range<u64>,
    /// All numbers of the dimension, those in the region, and the others.
    all: DecimalSet,
    inside: DecimalSet,
    outside: DecimalSet,
    /// Ranks of the grid below one value of the coordinate, and those of the region.
    stride: u64,
    inner: u64,
}

/// A box of chunk coordinates in the key order of its grid.
///
/// A position among the region's own ranks is called an *index* here: index 0 is the first rank
/// of the region.
#[derive(Debug, Clone)]
pub struct RankRegion {
    order: Arc<KeyOrder>,
    axes: Vec<Axis>,
    /// The last dimension of which the region leaves something out.
    ragged: Option<usize>,
    len: u64,
}

impl RankRegion {
    /// The chunks with coordinates in `chunks`, one half-open range for each dimension.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Mismatch`] when the number of ranges is not that of the dimensions, or a range
    /// is reversed or reaches outside the grid.
    pub fn new(order: Arc<KeyOrder>, chunks: &[Range<u64>]) -> Result<Self> {
        let grid = order.grid_shape();
        if chunks.len() != grid.len() {
            let (given, ndim) = (chunks.len(), grid.len());
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!("a region of {given} ranges for a grid of {ndim} dimensions"),
            ));
        }
        let mut len = u64::from(!chunks.iter().any(Range::is_empty));
        let mut axes = Vec::with_capacity(grid.len());
        for (axis, ((range, extent), stride)) in
            chunks.iter().zip(grid).zip(order.strides()).enumerate().rev()
        {
            if range.start > range.end || range.end > *extent {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!("chunks {range:?} along dimension {axis} of a grid of {extent} chunks"),
                ));
            }
            axes.push(Axis {
                chunks: range.clone(),
                all: DecimalSet::new(&(0..*extent)),
                inside: DecimalSet::new(range),
                outside: DecimalSet::outside(range, *extent),
                stride: *stride,
                inner: len,
            });
            len *= range.end - range.start;
        }
        axes.reverse();
        let ragged = axes.iter().rposition(|axis| axis.outside.len() > 0);
        Ok(Self { order, axes, ragged, len })
    }

    /// The whole grid.
    pub fn whole(order: Arc<KeyOrder>) -> Self {
        let chunks: Vec<_> = order.grid_shape().iter().map(|extent| 0..*extent).collect();
        // The whole grid is a box inside the grid: this has no error to give.
        Self::new(Arc::clone(&order), &chunks).unwrap_or(Self {
            order,
            axes: Vec::new(),
            ragged: None,
            len: 0,
        })
    }

    /// The order that the ranks are of.
    pub fn order(&self) -> &KeyOrder {
        &self.order
    }

    /// The coordinates along the leading dimension; none in a scalar.
    pub(crate) fn leading(&self) -> Range<u64> {
        self.axes.first().map_or(0..0, |axis| axis.chunks.clone())
    }

    /// Chunks in the region, whether or not there is an object for them.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the region has no chunk.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the chunk at `coords` is in the region.
    pub fn contains(&self, coords: &[u32]) -> bool {
        coords.len() == self.axes.len()
            && coords.iter().zip(&self.axes).all(|(c, axis)| axis.chunks.contains(&u64::from(*c)))
    }

    /// How many ranks of the region are less than `rank`.
    pub fn count_below(&self, rank: u64) -> u64 {
        if rank >= self.order.len() || self.is_empty() {
            return self.len;
        }
        let mut rest = rank;
        let mut count = 0;
        for axis in &self.axes {
            let Some(position) = rest.checked_div(axis.stride) else {
                return count;
            };
            rest %= axis.stride;
            let Some(coord) = axis.all.nth(position) else {
                return count;
            };
            count += axis.inside.before(coord) * axis.inner;
            if !axis.inside.contains(coord) {
                break;
            }
        }
        count
    }

    /// The rank that has `index` ranks of the region before it.
    pub fn select(&self, index: u64) -> Option<u64> {
        if index >= self.len {
            return None;
        }
        let (mut rest, mut rank) = (index, 0);
        for axis in &self.axes {
            let coord = axis.inside.nth(rest.checked_div(axis.inner)?)?;
            rest %= axis.inner;
            rank += axis.all.before(coord) * axis.stride;
        }
        Some(rank)
    }

    /// The first rank of the region that is not less than `rank`.
    pub fn next(&self, rank: u64) -> Option<u64> {
        self.select(self.count_below(rank))
    }

    /// The end of the last rank of the region that is less than `rank`.
    pub fn end_before(&self, rank: u64) -> Option<u64> {
        Some(self.select(self.count_below(rank).checked_sub(1)?)? + 1)
    }

    /// From the first to the last rank of the region; empty in an empty one.
    pub fn bounds(&self) -> Range<u64> {
        match (self.select(0), self.end_before(u64::MAX)) {
            (Some(start), Some(end)) => start..end,
            _ => 0..0,
        }
    }

    /// The range of ranks that `rank`, one of the region, is in: from there to its end.
    pub(crate) fn range_from(&self, rank: u64) -> Option<Range<u64>> {
        let Some(ragged) = self.ragged else {
            return Some(rank..self.order.len());
        };
        let axis = self.axes.get(ragged)?;
        let block = axis.all.len() * axis.stride;
        let gap_after = |coord: u64| {
            axis.outside
                .nth(axis.outside.before(coord))
                .map(|coord| axis.all.before(coord) * axis.stride)
        };
        let base = rank - rank % block;
        let coord = axis.all.nth((rank - base) / axis.stride)?;
        if let Some(end) = gap_after(coord) {
            return Some(rank..base + end);
        }
        // The range reaches the end of this dimension; it goes on where the next value of an outer
        // one belongs to the region and begins with coordinate 0. There it does meet a gap.
        let end = base + block;
        if end < self.order.len() && self.next(end) == Some(end) {
            return Some(rank..end + gap_after(0)?);
        }
        Some(rank..end)
    }

    /// How many consecutive ranks every maximal range has at least.
    pub(crate) fn shortest_range(&self) -> u64 {
        self.ragged.and_then(|axis| self.axes.get(axis)).map_or(self.len, |axis| axis.stride)
    }

    /// The range of ranks that `rank`, one of the region, is in: where it begins, but not before
    /// `least`, which is in the region too.
    pub(crate) fn range_begin(&self, rank: u64, least: u64) -> u64 {
        let (mut low, mut high) = (least.min(rank), rank);
        let index = self.count_below(rank);
        while low < high {
            let middle = low + (high - low) / 2;
            // Nothing is left out between it and `rank`.
            if index - self.count_below(middle) == rank - middle {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// The region's maximal ranges of consecutive ranks, in order. Lazy.
    pub fn ranges(&self) -> RankRanges<'_> {
        RankRanges { region: self, from: 0, gap: 1 }
    }

    /// Ranges with less than `gap` ranks between them made one: what to list before filtering.
    ///
    /// The step from one range to the next looks at the region at intervals of `gap` ranks.
    pub fn scan_ranges(&self, gap: u64) -> RankRanges<'_> {
        RankRanges { region: self, from: 0, gap: gap.max(1) }
    }
}

/// Ranges of ranks in ascending order; see [`RankRegion::ranges`] and [`RankRegion::scan_ranges`].
#[derive(Debug, Clone)]
pub struct RankRanges<'a> {
    region: &'a RankRegion,
    from: u64,
    gap: u64,
}

impl Iterator for RankRanges<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        let mut range = self.region.range_from(self.region.next(self.from)?)?;
        if self.gap > 1 {
            // As far as a step of `gap` reaches, no gap is wider.
            while let Some(end) = self.region.end_before(range.end.saturating_add(self.gap))
                && end > range.end
            {
                range.end = self.region.range_from(end - 1)?.end;
            }
        }
        self.from = range.end;
        Some(range)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{all_keys, encodings, small_grids};
    use crate::zarr::key::ChunkKeyEncoding;

    /// A grid and a box in it, now and then an empty or a full one.
    pub(crate) fn boxes() -> impl Strategy<Value = (Vec<u64>, Vec<Range<u64>>)> {
        (small_grids(), proptest::collection::vec(any::<(u64, u64, u8)>(), 8)).prop_map(
            |(grid, seeds)| {
                let ranges = grid.iter().zip(seeds).map(|(extent, (a, b, kind))| {
                    let (a, b) = (a % (extent + 1), b % (extent + 1));
                    match kind % 8 {
                        0..3 => 0..*extent,
                        3 => a.min(b)..a.min(b).saturating_add(1).min(*extent),
                        4 => 0..b.max(1).min(*extent),
                        _ => a.min(b)..a.max(b).max(a.min(b) + 1).min(*extent),
                    }
                });
                let ranges = ranges.collect();
                (grid, ranges)
            },
        )
    }

    fn merged(ranks: &[u64], gap: u64) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for rank in ranks {
            match ranges.last_mut() {
                Some(range) if rank - range.end < gap => range.end = rank + 1,
                _ => ranges.push(*rank..rank + 1),
            }
        }
        ranges
    }

    #[test]
    fn a_region_of_a_huge_grid_starts_at_once() {
        let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
        let order = Arc::new(KeyOrder::new(encoding, &[1_000_000_000, 1000, 1000]).unwrap());
        let region = RankRegion::new(order, &[0..500_000_000, 3..900, 1..2]).unwrap();
        assert_eq!(region.len(), 500_000_000 * 897);
        assert_eq!(region.ranges().take(1000).count(), 1000);
        assert!(region.scan_ranges(1000).take(1000).count() == 1000);
        let whole = RankRegion::whole(Arc::new(region.order().clone()));
        assert!(whole.ranges().eq(std::iter::once(0..1_000_000_000_000_000)));
    }

    #[test]
    fn misfits_are_errors() {
        let encoding = ChunkKeyEncoding::parse("v2", ".").unwrap();
        let order = Arc::new(KeyOrder::new(encoding, &[5, 7]).unwrap());
        #[expect(clippy::reversed_empty_ranges)]
        for ranges in [&[0..5; 1][..], &[0..6, 0..7], &[3..2, 0..7]] {
            let error = RankRegion::new(Arc::clone(&order), ranges).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Mismatch);
        }
        assert_eq!(RankRegion::new(order, &[2..2, 0..7]).unwrap().ranges().count(), 0);
    }

    proptest! {
        #[test]
        fn a_region_is_its_ranks(
            encoding in encodings(),
            (grid, ranges) in boxes(),
            gap in 1_u64..40,
            probes in proptest::collection::vec(any::<u64>(), 20),
        ) {
            let order = Arc::new(KeyOrder::new(encoding, &grid).unwrap());
            let region = RankRegion::new(Arc::clone(&order), &ranges).unwrap();
            let ranks: Vec<u64> = all_keys(encoding, &grid)
                .iter()
                .enumerate()
                .filter(|(_, (_, coords))| {
                    coords.iter().zip(&ranges).all(|(c, range)| range.contains(&u64::from(*c)))
                })
                .map(|(rank, _)| rank as u64)
                .collect();
            prop_assert_eq!(region.len(), ranks.len() as u64);
            prop_assert_eq!(region.is_empty(), ranks.is_empty());
            for (index, rank) in ranks.iter().enumerate().step_by(3) {
                prop_assert_eq!(region.select(index as u64), Some(*rank));
                prop_assert!(region.contains(&order.select(*rank).unwrap()));
            }
            prop_assert_eq!(region.select(ranks.len() as u64), None);
            for probe in probes {
                let probe = probe % (order.len() + 2);
                let below = ranks.partition_point(|rank| *rank < probe);
                prop_assert_eq!(region.count_below(probe), below as u64);
                prop_assert_eq!(region.next(probe), ranks.get(below).copied());
                let end = below.checked_sub(1).map(|index| ranks[index] + 1);
                prop_assert_eq!(region.end_before(probe), end);
            }
            let runs = merged(&ranks, 1);
            // Trailing dimensions that are taken whole are what no range is shorter than.
            let axes = grid.iter().zip(&ranges).rev();
            let whole = axes.take_while(|(extent, range)| **range == (0..**extent));
            let together: u64 = whole.map(|(extent, _)| extent).product();
            prop_assert!(ranks.is_empty() || region.shortest_range() == together);
            for run in &runs {
                prop_assert!(region.shortest_range() <= run.end - run.start);
                for rank in run.clone().step_by(3) {
                    prop_assert_eq!(region.range_begin(rank, ranks[0]), run.start);
                    prop_assert_eq!(region.range_begin(rank, rank), rank);
                }
            }
            prop_assert_eq!(region.ranges().collect::<Vec<_>>(), runs);
            prop_assert_eq!(region.scan_ranges(gap).collect::<Vec<_>>(), merged(&ranks, gap));
        }
    }
}
