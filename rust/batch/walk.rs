//! A way through the chunks of one bucket that divides only where a row begins.

use std::ops::Range;

use super::split::SplitGrid;

/// The coordinates of chunks of one bucket. Those of a row differ in the last coordinate only, and
/// are found by adding.
pub(crate) struct Walk<'a> {
    grid: &'a SplitGrid,
    origin: &'a [Range<u32>],
    coords: Vec<u32>,
    /// Indices in the bucket of the row's chunks.
    row: Range<u64>,
    /// The last coordinate of the first of them.
    first: u32,
}

impl<'a> Walk<'a> {
    /// Through the bucket that begins where `origin` does; it is nowhere before the first step.
    pub(crate) fn new(grid: &'a SplitGrid, origin: &'a [Range<u32>]) -> Self {
        Self { grid, origin, coords: vec![0; grid.ndim()], row: 0..0, first: 0 }
    }

    /// Goes to the chunk at an index in the bucket; true when it is in another row than the one
    /// before.
    pub(crate) fn go_to(&mut self, index: u64) -> bool {
        if self.row.contains(&index)
            && let Some(last) = self.coords.last_mut()
        {
            *last = self.first + u32::try_from(index - self.row.start).unwrap_or(u32::MAX);
            return false;
        }
        self.grid.coords(self.origin, index, &mut self.coords);
        self.first = self.origin.last().map_or(0, |range| range.start);
        let within = self.coords.last().map_or(0, |last| last - self.first);
        let start = index - u64::from(within);
        self.row = start..start + u64::from(self.grid.row_length());
        true
    }

    /// Where it is.
    pub(crate) fn coords(&self) -> &[u32] {
        &self.coords
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{layout, sparse_batch};

    proptest! {
        #[test]
        fn it_finds_what_division_finds(
            shape in proptest::collection::vec(1_u64..9, 0..4),
            split in proptest::collection::vec(1_u32..5, 4),
            seed in any::<u64>(),
            sorted in any::<bool>(),
        ) {
            let (grid, buckets, _) =
                sparse_batch(&layout(&shape), &split[..shape.len()], seed).into_buckets();
            for mut bucket in buckets {
                if sorted {
                    bucket.references.sort_unstable();
                }
                let origin = grid.ranges(bucket.number);
                let mut walk = Walk::new(&grid, &origin);
                let mut before: Option<Vec<u32>> = None;
                for reference in bucket.references {
                    let mut coords = vec![0; shape.len()];
                    grid.coords(&origin, reference.index(), &mut coords);
                    let another = walk.go_to(reference.index());
                    prop_assert_eq!(walk.coords(), coords.as_slice());
                    let leading = |coords: &[u32]| coords.split_last().map(|(_, row)| row.to_vec());
                    let same = before.as_deref().is_some_and(|before| leading(before) == leading(&coords));
                    prop_assert_eq!(another, !same || shape.is_empty());
                    before = Some(coords);
                }
            }
        }
    }
}
