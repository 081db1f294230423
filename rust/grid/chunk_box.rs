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
    use proptest::prelude::*;

    use super::*;

    /// Every chunk of a box of two dimensions below 9 by 9.
    fn chunks_of(one: &ChunkBox) -> Vec<[u32; 2]> {
        let all = (0..9).flat_map(|row| (0..9).map(move |column| [row, column]));
        let [rows, columns] = one.ranges() else { return Vec::new() };
        all.filter(|[row, column]| rows.contains(row) && columns.contains(column)).collect()
    }

    fn boxes() -> impl Strategy<Value = ChunkBox> {
        let range =
            || (0_u32..8, 1_u32..8).prop_map(|(start, length)| start..(start + length).min(8));
        (range(), range()).prop_map(|(rows, columns)| ChunkBox::from_ranges(vec![rows, columns]))
    }

    proptest! {
        #[test]
        fn boxes_are_sets_of_chunks(one in boxes(), other in boxes()) {
            let (ours, theirs) = (chunks_of(&one), chunks_of(&other));
            let shared: Vec<_> = ours.iter().copied().filter(|at| theirs.contains(at)).collect();
            let found = one.intersection(&other);
            prop_assert_eq!(found.as_ref().map(chunks_of).unwrap_or_default(), shared.clone());
            prop_assert_eq!(found.is_some(), !shared.is_empty());
            prop_assert_eq!(one.intersects(&other), !shared.is_empty());
            prop_assert_eq!(one.covers(&other), shared == theirs);
            prop_assert_eq!(one.chunks(), ours.len() as u64);
            let hull = one.hull(&other);
            for axis in 0..2 {
                let at = || ours.iter().chain(&theirs).map(|at| at[axis]);
                let (first, last) = (at().min().unwrap(), at().max().unwrap());
                prop_assert_eq!(&hull.ranges()[axis], &(first..last + 1));
                let wide = u64::from(first)..u64::from(last) + 1;
                prop_assert_eq!(&hull.wide_ranges()[axis], &wide);
            }
            for at in ours.iter().chain(&theirs) {
                prop_assert_eq!(one.contains(at), ours.contains(at));
            }
            prop_assert!(!one.contains(&[0]));
        }

        #[test]
        fn halves_are_the_box_and_end_on_the_unit(
            one in boxes(),
            unit in (1_u32..4, 1_u32..4),
        ) {
            let unit = [unit.0, unit.1];
            let Some((low, high)) = one.halves(&unit) else {
                prop_assert_eq!(one.chunks(), 1);
                return Ok(());
            };
            prop_assert_eq!(low.chunks() + high.chunks(), one.chunks());
            prop_assert!(!low.intersects(&high) && one.covers(&low) && one.covers(&high));
            let cut = low.ranges().iter().zip(high.ranges()).position(|(low, high)| low != high);
            let axis = cut.unwrap_or_default();
            let (at, range) = (low.ranges()[axis].end, &one.ranges()[axis]);
            let divides = |axis: usize| {
                let range = &one.ranges()[axis];
                (range.start + 1..range.end).any(|cut| cut % unit[axis] == 0)
            };
            // On the unit where one of its multiples lies within, and nowhere far from the middle.
            prop_assert!(at % unit[axis] == 0 || !(divides(0) || divides(1)));
            let middle = range.start + (range.end - range.start) / 2;
            prop_assert!(at.abs_diff(middle) <= unit[axis]);
        }
    }

    #[test]
    fn boxes_that_follow_each_other_are_joined() {
        let (first, second) =
            (ChunkBox::from_ranges(vec![1..3, 0..4]), ChunkBox::from_ranges(vec![3..7, 0..4]));
        assert_eq!(first.joined(&second), Some(ChunkBox::from_ranges(vec![1..7, 0..4])));
        assert_eq!(second.joined(&first), None);
        assert_eq!(first.joined(&ChunkBox::from_ranges(vec![3..7, 0..3])), None);
    }

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
