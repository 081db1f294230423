//! Boxes of an array's chunk grid. What a region means for an array is `region`'s business.

use std::ops::Range;

use crate::zarr::metadata::ArrayLayout;

/// A box of the chunk grid: for each dimension, the chunk coordinates that are in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChunkBox {
    ranges: Vec<Range<u32>>,
}

impl ChunkBox {
    /// The whole grid of an array.
    #[must_use]
    pub fn whole(layout: &ArrayLayout) -> Self {
        let end = |extent: &u64| u32::try_from(*extent).unwrap_or(u32::MAX);
        Self { ranges: layout.grid_shape().iter().map(|extent| 0..end(extent)).collect() }
    }

    /// The same box with other coordinates along the leading dimension; a scalar has none.
    #[must_use]
    pub fn with_leading(&self, range: Range<u32>) -> Self {
        let mut ranges = self.ranges.clone();
        if let Some(leading) = ranges.first_mut() {
            *leading = range;
        }
        Self { ranges }
    }

    /// Box `index`, in row-major order, of the boxes of so many chunks that this one is cut into;
    /// the last along a dimension may be shorter.
    #[must_use]
    pub fn cell(&self, shape: &[u32], mut index: u64) -> Self {
        let mut ranges = self.ranges.clone();
        for (range, length) in ranges.iter_mut().zip(shape).rev() {
            let length = u64::from((*length).max(1));
            let count = (u64::from(range.end - range.start)).div_ceil(length).max(1);
            let start = u64::from(range.start) + index % count * length;
            let end = (start + length).min(u64::from(range.end));
            index /= count;
            let coordinate = |chunk: u64| u32::try_from(chunk).unwrap_or(u32::MAX);
            *range = coordinate(start)..coordinate(end);
        }
        Self { ranges }
    }

    /// Cuts the box in two of about the same size, along its first dimension that is longer than
    /// `unit` and at a multiple of it from the grid's origin; along any if none is. A single chunk
    /// cannot be cut.
    #[must_use]
    pub fn halves(&self, unit: &[u32]) -> Option<(Self, Self)> {
        let long = |at_least: &dyn Fn(usize) -> u32| {
            self.ranges.iter().enumerate().find_map(|(axis, range)| {
                let unit = at_least(axis).max(1);
                let middle = range.start + (range.end - range.start) / 2;
                [middle / unit * unit, (middle / unit + 1) * unit]
                    .into_iter()
                    .find(|cut| range.start < *cut && *cut < range.end)
                    .map(|cut| (axis, cut))
            })
        };
        let given = |axis: usize| unit.get(axis).copied().unwrap_or(1);
        let (axis, cut) = long(&given).or_else(|| long(&|_| 1))?;
        let (mut low, mut high) = (self.clone(), self.clone());
        if let (Some(low), Some(high)) = (low.ranges.get_mut(axis), high.ranges.get_mut(axis)) {
            low.end = cut;
            high.start = cut;
        }
        Some((low, high))
    }

    /// The two boxes as one, when `next` begins along the leading dimension where this one ends.
    #[must_use]
    pub fn joined(&self, next: &Self) -> Option<Self> {
        let (first, trailing) = self.ranges.split_first()?;
        let (second, others) = next.ranges.split_first()?;
        (trailing == others && first.end == second.start)
            .then(|| self.with_leading(first.start..second.end))
    }

    /// A box of these ranges, half-open.
    #[must_use]
    pub fn from_ranges(ranges: Vec<Range<u32>>) -> Self {
        Self { ranges }
    }

    /// Chunk coordinates along each dimension, half-open.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u32>] {
        &self.ranges
    }

    /// The same in 64 bits.
    #[must_use]
    pub fn wide_ranges(&self) -> Vec<Range<u64>> {
        self.ranges.iter().map(|range| u64::from(range.start)..u64::from(range.end)).collect()
    }

    /// Chunks in the box; 1 for a scalar.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        let along = |range: &Range<u32>| u64::from(range.end.saturating_sub(range.start));
        self.ranges.iter().map(along).product()
    }

    /// What two boxes of one grid have in common, if that is anything.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let shared = |(one, other): (&Range<u32>, &Range<u32>)| {
            one.start.max(other.start)..one.end.min(other.end)
        };
        let ranges: Vec<_> = self.ranges.iter().zip(&other.ranges).map(shared).collect();
        ranges.iter().all(|range| range.start < range.end).then_some(Self { ranges })
    }

    /// Whether two boxes of one grid share a chunk.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        let mut pairs = self.ranges.iter().zip(&other.ranges);
        pairs.all(|(one, other)| one.start.max(other.start) < one.end.min(other.end))
    }

    /// The least box that holds both.
    #[must_use]
    pub fn hull(&self, other: &Self) -> Self {
        let both = |(one, other): (&Range<u32>, &Range<u32>)| {
            one.start.min(other.start)..one.end.max(other.end)
        };
        Self { ranges: self.ranges.iter().zip(&other.ranges).map(both).collect() }
    }

    /// Whether all of `other` is in the box.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.intersection(other).is_some_and(|shared| shared == *other)
    }

    /// Whether the chunk at `coords` is in the box.
    #[must_use]
    pub fn contains(&self, coords: &[u32]) -> bool {
        coords.len() == self.ranges.len()
            && self.ranges.iter().zip(coords).all(|(range, coord)| range.contains(coord))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_the_box_in_row_major_order() {
        // Neither length divides the box, which does not begin at the origin.
        let whole = ChunkBox::from_ranges(vec![2..7, 10..13]);
        let cells: Vec<_> = (0..6).map(|index| whole.cell(&[2, 2], index)).collect();
        let expected: Vec<_> = [2..4, 4..6, 6..7]
            .into_iter()
            .flat_map(|row| [10..12, 12..13].map(|column| vec![row.clone(), column]))
            .map(ChunkBox::from_ranges)
            .collect();
        assert_eq!(cells, expected);
        assert_eq!(cells.iter().map(ChunkBox::chunks).sum::<u64>(), whole.chunks());
    }
}
