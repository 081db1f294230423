//! The chunk grid cut into buckets: boxes that lie within one manifest split each.
//!
//! A bucket is a split, unless a split has room for 2⁴⁸ chunks or more: then it is cut further,
//! leading dimensions first, so that an index within a bucket always fits its 48 bits.

use std::ops::Range;

use super::packed::INDEX_BITS;
use crate::grid::chunk_box::ChunkBox;
use crate::zarr::metadata::ArrayLayout;

/// One dimension of the grid.
#[derive(Debug, Clone, Copy)]
struct Axis {
    /// Chunks along it.
    extent: u32,
    /// Chunks of one split.
    split: u32,
    /// Chunks of one bucket; the last of a split may be shorter.
    step: u32,
}

impl Axis {
    /// Buckets in a split.
    fn per_split(self) -> u32 {
        self.split.div_ceil(self.step)
    }

    /// Buckets along the dimension. There are not more of them than chunks.
    fn buckets(self) -> u64 {
        let whole = u64::from(self.extent / self.split) * u64::from(self.per_split());
        whole + u64::from((self.extent % self.split).div_ceil(self.step))
    }

    /// The bucket of a coordinate.
    fn bucket(self, coord: u32) -> u64 {
        let within = (coord % self.split) / self.step;
        u64::from(coord / self.split) * u64::from(self.per_split()) + u64::from(within)
    }

    /// The coordinates of a bucket.
    fn range(self, bucket: u64) -> Range<u32> {
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let split = narrow(bucket / u64::from(self.per_split())).saturating_mul(self.split);
        let within = narrow(bucket % u64::from(self.per_split())).saturating_mul(self.step);
        let start = split.saturating_add(within);
        let end = start.saturating_add(self.step).min(split.saturating_add(self.split));
        start.min(self.extent)..end.min(self.extent)
    }
}

/// How the references of one array are bucketed.
#[derive(Debug, Clone)]
pub(crate) struct SplitGrid {
    axes: Vec<Axis>,
}

impl SplitGrid {
    /// Buckets of `split` chunks along each dimension (missing ones are taken whole).
    pub(crate) fn new(layout: &ArrayLayout, split: &[u32]) -> Self {
        let mut axes: Vec<_> = layout
            .grid_shape()
            .iter()
            .enumerate()
            .map(|(axis, extent)| {
                let extent = u32::try_from(*extent).unwrap_or(u32::MAX);
                let whole = extent.max(1);
                let split = split.get(axis).map_or(whole, |length| (*length).clamp(1, whole));
                Axis { extent, split, step: split }
            })
            .collect();
        let mut room: u128 = axes.iter().map(|axis| u128::from(axis.step)).product();
        for axis in &mut axes {
            while room >> INDEX_BITS != 0 && axis.step > 1 {
                room /= u128::from(axis.step);
                axis.step = axis.step.div_ceil(2);
                room *= u128::from(axis.step);
            }
        }
        Self { axes }
    }

    /// Dimensions.
    pub(crate) fn ndim(&self) -> usize {
        self.axes.len()
    }

    /// Chunks of a bucket along the last dimension, those beyond a cut included; 1 for a scalar.
    pub(super) fn row_length(&self) -> u32 {
        self.axes.last().map_or(1, |axis| axis.step)
    }

    /// The bucket of a chunk: its row-major place among all buckets.
    pub(crate) fn bucket(&self, coords: &[u32]) -> u64 {
        self.axes
            .iter()
            .zip(coords)
            .fold(0, |bucket, (axis, coord)| bucket * axis.buckets() + axis.bucket(*coord))
    }

    /// The chunks of a bucket.
    pub(crate) fn ranges(&self, mut bucket: u64) -> Vec<Range<u32>> {
        let mut ranges = vec![0..0; self.axes.len()];
        for (range, axis) in ranges.iter_mut().zip(&self.axes).rev() {
            let buckets = axis.buckets().max(1);
            *range = axis.range(bucket % buckets);
            bucket /= buckets;
        }
        ranges
    }

    /// The row-major index of a chunk in its bucket, which begins where `ranges` do.
    ///
    /// Indices count whole steps, also where a bucket is cut short by the grid.
    pub(crate) fn index(&self, ranges: &[Range<u32>], coords: &[u32]) -> u64 {
        self.axes.iter().zip(ranges).zip(coords).fold(0, |index, ((axis, range), coord)| {
            index * u64::from(axis.step) + u64::from(coord - range.start)
        })
    }

    /// The coordinates at an index of the bucket that begins where `ranges` do.
    pub(crate) fn coords(&self, ranges: &[Range<u32>], mut index: u64, coords: &mut [u32]) {
        for ((axis, range), coord) in self.axes.iter().zip(ranges).zip(coords).rev() {
            let step = u64::from(axis.step);
            *coord = range.start + u32::try_from(index % step).unwrap_or(u32::MAX);
            index /= step;
        }
    }

    /// The row-major index of a chunk in the whole grid.
    pub(crate) fn grid_index(&self, coords: &[u32]) -> u64 {
        self.axes
            .iter()
            .zip(coords)
            .fold(0, |index, (axis, coord)| index * u64::from(axis.extent) + u64::from(*coord))
    }

    /// The coordinates at a row-major index of the whole grid.
    pub(crate) fn grid_coords(&self, mut index: u64) -> Vec<u32> {
        let mut coords = vec![0; self.axes.len()];
        for (coord, axis) in coords.iter_mut().zip(&self.axes).rev() {
            let extent = u64::from(axis.extent.max(1));
            *coord = u32::try_from(index % extent).unwrap_or(u32::MAX);
            index /= extent;
        }
        coords
    }

    /// Chunks along each dimension.
    pub(crate) fn grid_shape(&self) -> Vec<u64> {
        self.axes.iter().map(|axis| u64::from(axis.extent)).collect()
    }

    /// The buckets that a box touches, in row-major order.
    pub(super) fn buckets_of(&self, part: &ChunkBox) -> impl Iterator<Item = u64> {
        let spans: Vec<_> = self
            .axes
            .iter()
            .zip(part.ranges())
            .map(|(axis, range)| match range.end.checked_sub(1) {
                Some(last) if last >= range.start => {
                    axis.bucket(range.start)..axis.bucket(last) + 1
                }
                _ => 0..0,
            })
            .collect();
        let sizes: Vec<_> = self.axes.iter().map(|axis| axis.buckets()).collect();
        let count: u64 = spans.iter().map(|span| span.end - span.start).product();
        (0..count).map(move |mut number| {
            let (mut bucket, mut weight) = (0, 1);
            for (span, size) in spans.iter().zip(&sizes).rev() {
                let length = span.end - span.start;
                bucket += (span.start + number % length) * weight;
                number /= length;
                weight *= size;
            }
            bucket
        })
    }
}

/// Moves `coords` to the next chunk of a box in row-major order; false after the last.
pub(crate) fn advance(coords: &mut [u32], ranges: &[Range<u32>]) -> bool {
    for (coord, range) in coords.iter_mut().zip(ranges).rev() {
        *coord += 1;
        if *coord < range.end {
            return true;
        }
        *coord = range.start;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::zarr::key::ChunkKeyEncoding;

    fn grid(shape: &[u64], split: &[u32]) -> SplitGrid {
        let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
        let layout = ArrayLayout::new(shape.to_vec(), vec![1; shape.len()], encoding).unwrap();
        SplitGrid::new(&layout, split)
    }

    #[test]
    fn splits_beyond_48_bits_are_cut_along_the_leading_dimensions() {
        let wide = u64::from(u32::MAX);
        let grid = grid(&[wide, 1 << 31], &[u32::MAX, 1 << 31]);
        let room: u64 = grid.axes.iter().map(|axis| u64::from(axis.step)).product();
        assert!(room >> INDEX_BITS == 0 && room >> (INDEX_BITS - 2) != 0, "{room}");
        let coords = [u32::MAX - 1, (1 << 31) - 1];
        let bucket = grid.bucket(&coords);
        let ranges = grid.ranges(bucket);
        let mut back = [0; 2];
        grid.coords(&ranges, grid.index(&ranges, &coords), &mut back);
        assert_eq!(back, coords);
    }

    #[test]
    fn a_part_touches_each_of_its_buckets_once() {
        let grid = grid(&[9, 10], &[3, 2]);
        let touched = |ranges: [Range<u32>; 2]| {
            let part = ChunkBox::from_ranges(ranges.into());
            grid.buckets_of(&part).collect::<Vec<_>>()
        };
        assert_eq!(touched([3..9, 5..8]), [7, 8, 12, 13]);
        assert_eq!(touched([8..9, 9..10]), [14]);
        assert_eq!(touched([3..9, 5..5]), [0; 0]);
    }

    proptest! {
        #[test]
        fn an_axis_is_cut_at_its_splits_and_within_them(
            extent in 1_u32..40, split in 1_u32..12, step in 1_u32..12,
        ) {
            let split = split.min(extent);
            let axis = Axis { extent, split, step: step.min(split) };
            let starts: Vec<_> = (0..extent).filter(|at| at % split % axis.step == 0).collect();
            prop_assert_eq!(axis.buckets(), starts.len() as u64);
            for coord in 0..extent {
                let bucket = starts.partition_point(|start| *start <= coord) - 1;
                let end = starts.get(bucket + 1).copied().unwrap_or(extent);
                prop_assert_eq!(axis.bucket(coord), bucket as u64);
                prop_assert_eq!(axis.range(bucket as u64), starts[bucket]..end);
            }
        }

        #[test]
        fn every_chunk_has_one_place(
            shape in proptest::collection::vec(1_u64..9, 0..4),
            split in proptest::collection::vec(1_u32..5, 4),
        ) {
            let split = &split[..shape.len()];
            let grid = grid(&shape, split);
            let whole: Vec<_> = shape.iter().map(|extent| 0..u32::try_from(*extent).unwrap()).collect();
            let mut coords = vec![0; shape.len()];
            let mut seen = std::collections::HashSet::new();
            prop_assert_eq!((grid.ndim(), grid.grid_shape()), (shape.len(), shape.clone()));
            loop {
                let place = seen.len() as u64;
                prop_assert_eq!(grid.grid_index(&coords), place);
                prop_assert_eq!(grid.grid_coords(place), coords.clone());
                let bucket = grid.bucket(&coords);
                let ranges = grid.ranges(bucket);
                prop_assert!(ranges.iter().zip(&coords).all(|(range, coord)| range.contains(coord)));
                for ((range, coord), length) in ranges.iter().zip(&coords).zip(split) {
                    prop_assert_eq!(range.start, coord / length * length);
                }
                let index = grid.index(&ranges, &coords);
                prop_assert!(seen.insert((bucket, index)));
                let mut back = vec![0; shape.len()];
                grid.coords(&ranges, index, &mut back);
                prop_assert_eq!(&back, &coords);
                if !advance(&mut coords, &whole) {
                    break;
                }
            }
            let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
            let layout = ArrayLayout::new(shape.clone(), vec![1; shape.len()], encoding).unwrap();
            let touched: Vec<_> = grid.buckets_of(&ChunkBox::whole(&layout)).collect();
            let mut expected: Vec<_> = seen.iter().map(|(bucket, _)| *bucket).collect();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(touched, expected);
        }
    }
}
