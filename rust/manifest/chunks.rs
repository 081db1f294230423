//! Which chunks a commit touches, in a form much smaller than coordinates.
//!
//! A chunk is its row-major index in the grid; consecutive indices are one range. A dense bucket is
//! then two integers, and a chunk on its own is one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::batch::{Packed, SplitGrid, Walk};

/// Set in the last index of a range. Grids have fewer than 2⁶³ chunks, so it is free.
const LAST: u64 = 1 << 63;

/// The chunks of one bucket, ascending: an index stands for itself, and one marked as last for
/// all from the index before it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkRanges {
    #[serde(rename = "runs")]
    ranges: Box<[u64]>,
    chunks: u64,
}

impl ChunkRanges {
    /// The chunks of sorted references.
    pub(super) fn new(grid: &SplitGrid, origin: &[Range<u32>], references: &[Packed]) -> Self {
        let mut walk = Walk::new(grid, origin);
        // Of the grid's row that the chunk is in.
        let mut begin = 0;
        let last = |coords: &[u32]| coords.last().copied().map_or(0, u64::from);
        Self::of_indices(references.iter().map(|reference| {
            if walk.go_to(reference.index()) {
                begin = grid.grid_index(walk.coords()) - last(walk.coords());
            }
            begin + last(walk.coords())
        }))
    }

    /// The chunks at ascending row-major indices of the grid.
    pub(super) fn of_indices(indices: impl IntoIterator<Item = u64>) -> Self {
        let mut ranges = Vec::new();
        let mut range: Option<(u64, u64)> = None;
        let mut chunks = 0;
        for index in indices {
            chunks += 1;
            range = match range {
                Some((first, last)) if last + 1 == index => Some((first, index)),
                _ => {
                    close(range, &mut ranges);
                    Some((index, index))
                }
            };
        }
        close(range, &mut ranges);
        Self { ranges: ranges.into_boxed_slice(), chunks }
    }

    pub(super) fn chunks(&self) -> u64 {
        self.chunks
    }

    /// The ranges of indices, ascending.
    fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let mut entries = self.ranges.iter().peekable();
        std::iter::from_fn(move || {
            let first = *entries.next()?;
            let last = entries.next_if(|entry| *entry & LAST != 0);
            Some(first..last.map_or(first, |entry| entry & !LAST) + 1)
        })
    }
}

fn close(range: Option<(u64, u64)>, ranges: &mut Vec<u64>) {
    if let Some((first, last)) = range {
        ranges.push(first);
        if last > first {
            ranges.push(last | LAST);
        }
    }
}

/// The chunks of one array that a commit touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedChunks {
    grid_shape: Vec<u64>,
    buckets: Vec<ChunkRanges>,
}

impl CommittedChunks {
    pub(super) fn new(grid_shape: Vec<u64>) -> Self {
        Self { grid_shape, buckets: Vec::new() }
    }

    pub(super) fn add(&mut self, ranges: ChunkRanges) {
        self.buckets.push(ranges);
    }

    /// Takes the chunks out, to be kept elsewhere; the grid stays.
    pub(crate) fn take(&mut self) -> Self {
        let buckets = std::mem::take(&mut self.buckets);
        Self { grid_shape: self.grid_shape.clone(), buckets }
    }

    /// Takes over the chunks of another part of the same array.
    pub(crate) fn merge(&mut self, other: Self) {
        self.buckets.extend(other.buckets);
    }

    /// Chunks.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.chunks).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dimensions.
    pub(crate) fn ndim(&self) -> usize {
        self.grid_shape.len()
    }

    /// Bytes of memory that they take.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let entries: usize = self.buckets.iter().map(|bucket| bucket.ranges.len()).sum();
        entries * size_of::<u64>() + self.buckets.capacity() * size_of::<ChunkRanges>()
    }

    /// Calls `each` with the coordinates of every chunk in row-major order, until it fails.
    pub(crate) fn for_each<E>(
        &self,
        mut each: impl FnMut(&[u32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut coords = vec![0; self.grid_shape.len()];
        let row = self.grid_shape.last().map_or(1, |extent| (*extent).max(1));
        self.for_each_range(|Range { mut start, end }| {
            while start < end {
                let mut index = start;
                for (coord, extent) in coords.iter_mut().zip(&self.grid_shape).rev() {
                    *coord = u32::try_from(index % extent).unwrap_or(u32::MAX);
                    index /= extent;
                }
                let in_row = (row - start % row).min(end - start);
                each(&coords)?;
                for _ in 1..in_row {
                    if let Some(last) = coords.last_mut() {
                        *last += 1;
                    }
                    each(&coords)?;
                }
                start += in_row;
            }
            Ok(())
        })
    }

    /// Calls `each` with ranges of row-major indices in ascending order, until it fails.
    fn for_each_range<E>(
        &self,
        mut each: impl FnMut(Range<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut sources: Vec<_> = self.buckets.iter().map(ChunkRanges::ranges).collect();
        let mut next: BinaryHeap<_> = sources
            .iter_mut()
            .enumerate()
            .filter_map(|(source, ranges)| Some((ranges.next()?, source)))
            .map(|(range, source)| Reverse((range.start, range.end, source)))
            .collect();
        while let Some(Reverse((start, end, source))) = next.pop() {
            let limit = next.peek().map_or(u64::MAX, |Reverse((start, ..))| *start);
            // Where two hold the same chunk, each gives it once.
            let until = end.min(limit.max(start + 1));
            each(start..until)?;
            if until < end {
                next.push(Reverse((until, end, source)));
            } else if let Some(range) = sources.get_mut(source).and_then(Iterator::next) {
                next.push(Reverse((range.start, range.end, source)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{layout, sparse_batch};

    fn seen(chunks: &CommittedChunks) -> Vec<Vec<u32>> {
        let mut seen = Vec::new();
        let Ok(()) = chunks.for_each(|coords| {
            seen.push(coords.to_vec());
            Ok::<_, Infallible>(())
        });
        seen
    }

    #[test]
    fn a_dense_bucket_is_one_run() {
        let (grid, mut buckets, _) = sparse_batch(&layout(&[40, 5]), &[], u64::MAX).into_buckets();
        let references = &mut buckets[0].references;
        references.sort_unstable();
        let ranges = ChunkRanges::new(&grid, &grid.ranges(0), references);
        assert_eq!((ranges.chunks, ranges.ranges.as_ref()), (200, [0, LAST + 199].as_slice()));
    }

    #[test]
    fn what_they_take_is_counted() {
        let mut chunks = CommittedChunks::new(vec![10_000]);
        assert_eq!(chunks.held_bytes(), 0);
        for start in 0..1_000 {
            chunks.add(ChunkRanges::of_indices([start * 10, start * 10 + 2, start * 10 + 4]));
        }
        // Three integers each, and as many for where they are and how many.
        assert!((48_000..=74_000).contains(&chunks.held_bytes()), "{}", chunks.held_bytes());
    }

    #[test]
    fn chunks_of_two_parts_are_all_of_both() {
        let mut one = CommittedChunks::new(vec![100]);
        let mut other = CommittedChunks::new(vec![100]);
        one.add(ChunkRanges::of_indices([3, 4, 5, 40]));
        other.add(ChunkRanges::of_indices([0, 6, 41]));
        one.merge(other);
        assert_eq!((seen(&one), one.len()), ([0, 3, 4, 5, 6, 40, 41].map(|at| vec![at]).into(), 7));
    }

    #[test]
    fn a_chunk_that_two_buckets_hold_comes_twice() {
        let mut chunks = CommittedChunks::new(vec![100]);
        chunks.add(ChunkRanges::of_indices(0..4));
        chunks.add(ChunkRanges::of_indices([2, 3, 4]));
        assert_eq!(seen(&chunks), [0, 1, 2, 2, 3, 3, 4].map(|at| vec![at]));
    }

    proptest! {
        #[test]
        fn chunks_come_back_in_order_whatever_the_splits(
            shape in proptest::collection::vec(1_u64..9, 0..4),
            split in proptest::collection::vec(1_u32..5, 4),
            seed in any::<u64>(),
        ) {
            let batch = sparse_batch(&layout(&shape), &split[..shape.len()], seed);
            let layout = layout(&shape);
            let sorted = batch.clone().into_sorted();
            let expected: Vec<_> = sorted.iter().map(|chunk| layout.coords(chunk.index)).collect();
            let (grid, buckets, _) = batch.into_buckets();
            let mut chunks = CommittedChunks::new(grid.grid_shape());
            for mut bucket in buckets {
                bucket.references.sort_unstable();
                chunks.add(ChunkRanges::new(&grid, &grid.ranges(bucket.number), &bucket.references));
            }
            prop_assert_eq!(chunks.len(), expected.len() as u64);
            prop_assert_eq!(seen(&chunks), expected);
        }
    }
}
