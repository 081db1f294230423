//! Regions: from slices of elements, as a user gives them, to a box of the chunk grid.
//!
//! A region is given per dimension name with Python's slice rules. It must begin and end on chunk
//! boundaries (or at the array's end), because a chunk is referenced whole or not at all. Nothing
//! here knows what a region is used for.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::zarr::metadata::ArrayLayout;
use crate::{Error, ErrorKind, Result};

/// A slice of one dimension, in elements, as Python's `slice` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct DimensionSlice {
    /// First element; negative counts from the end; `None` is the beginning.
    pub start: Option<i64>,
    /// First element that is left out; negative counts from the end; `None` is the end.
    pub stop: Option<i64>,
    /// Distance between elements; only `None` and 1 are regions.
    pub step: Option<i64>,
}

/// Slices by dimension name. Dimensions that are not named are taken whole.
pub type Region = BTreeMap<String, DimensionSlice>;

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

/// The names by which an array's dimensions are addressed: `dim_0`, `dim_1`, … where it has none.
#[must_use]
pub fn addressed_names(names: &[Option<String>], ndim: usize) -> Vec<String> {
    (0..ndim)
        .map(|axis| match names.get(axis) {
            Some(Some(name)) => name.clone(),
            _ => format!("dim_{axis}"),
        })
        .collect()
}

/// The box of `layout`'s grid that `region` names.
///
/// `array` names the array in errors; `dimensions` are its addressed names, one an axis.
///
/// # Errors
///
/// [`ErrorKind::Region`] for a name that no dimension has, a step other than 1, an empty slice, or
/// a bound inside a chunk; the message names the dimension, the bound, and the nearest legal ones.
pub fn chunk_box(
    array: &str,
    layout: &ArrayLayout,
    dimensions: &[String],
    region: &Region,
) -> Result<ChunkBox> {
    for name in region.keys() {
        if !dimensions.contains(name) {
            return Err(region_error(format!(
                "array {array} has no dimension {name} (dimensions: {})",
                if dimensions.is_empty() { "none".to_owned() } else { dimensions.join(", ") }
            )));
        }
    }
    let mut chosen = ChunkBox::whole(layout);
    let axes = dimensions.iter().zip(layout.shape()).zip(layout.chunk_shape());
    for (range, ((name, &length), &chunk)) in chosen.ranges.iter_mut().zip(axes) {
        if let Some(slice) = region.get(name) {
            *range = chunk_range(array, name, length, chunk, *slice)?;
        }
    }
    Ok(chosen)
}

fn chunk_range(
    array: &str,
    dimension: &str,
    length: u64,
    chunk: u64,
    slice: DimensionSlice,
) -> Result<Range<u32>> {
    if !matches!(slice.step, None | Some(1)) {
        return Err(region_error(format!(
            "the region's step along {dimension} is {}; only 1 is possible",
            slice.step.unwrap_or_default()
        )));
    }
    let start = slice.start.map_or(0, |bound| resolve(bound, length));
    let stop = slice.stop.map_or(length, |bound| resolve(bound, length));
    if start >= stop {
        return Err(region_error(format!(
            "the region is empty along {dimension}: {start}:{stop} of {length} elements"
        )));
    }
    if !start.is_multiple_of(chunk) {
        return Err(unaligned(array, dimension, "start", start, length, chunk));
    }
    if !stop.is_multiple_of(chunk) && stop != length {
        return Err(unaligned(array, dimension, "stop", stop, length, chunk));
    }
    let coordinate = |chunks: u64| u32::try_from(chunks).unwrap_or(u32::MAX);
    Ok(coordinate(start / chunk)..coordinate(stop.div_ceil(chunk)))
}

/// A bound as Python resolves it: negative from the end, clipped to the dimension.
fn resolve(bound: i64, length: u64) -> u64 {
    match u64::try_from(bound) {
        Ok(bound) => bound.min(length),
        Err(_) => length.saturating_sub(bound.unsigned_abs()),
    }
}

fn unaligned(
    array: &str,
    dimension: &str,
    which: &str,
    bound: u64,
    length: u64,
    chunk: u64,
) -> Error {
    let below = bound / chunk * chunk;
    let above = (below + chunk).min(length);
    region_error(format!(
        "the region's {which} {bound} along {dimension} is inside a chunk of array {array} \
         (chunks of {chunk}, {length} elements); the nearest legal bounds are {below} and {above}"
    ))
}

fn region_error(message: String) -> Error {
    Error::new(ErrorKind::Region, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::zarr::key::ChunkKeyEncoding;

    fn layout(length: u64, chunk: u64) -> ArrayLayout {
        let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
        ArrayLayout::new(vec![length, 4], vec![chunk, 2], encoding).unwrap()
    }

    fn names() -> Vec<String> {
        addressed_names(&[Some("time".to_owned()), None], 2)
    }

    fn cut(length: u64, chunk: u64, start: Option<i64>, stop: Option<i64>) -> Result<Range<u32>> {
        let slice = DimensionSlice { start, stop, step: None };
        let region = Region::from([("time".to_owned(), slice)]);
        chunk_box("/air", &layout(length, chunk), &names(), &region)
            .map(|chosen| chosen.ranges()[0].clone())
    }

    #[test]
    fn bounds_follow_slices() {
        assert_eq!(cut(100, 24, Some(24), Some(72)).unwrap(), 1..3);
        assert_eq!(cut(100, 24, None, None).unwrap(), 0..5);
        assert_eq!(cut(100, 24, Some(96), Some(100)).unwrap(), 4..5);
        assert_eq!(cut(100, 24, Some(96), Some(1_000)).unwrap(), 4..5);
        assert_eq!(cut(100, 24, Some(-4), None).unwrap(), 4..5);
        assert_eq!(cut(100, 24, Some(i64::MIN), Some(-4)).unwrap(), 0..4);
    }

    #[test]
    fn what_is_not_a_region_is_refused_by_name() {
        for (start, stop, said) in [
            (Some(10), None, "start 10 along time"),
            (Some(10), None, "0 and 24"),
            (None, Some(97), "96 and 100"),
            (Some(24), Some(24), "empty"),
            (Some(48), Some(24), "empty"),
            (Some(500), None, "empty"),
        ] {
            let error = cut(100, 24, start, stop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Region);
            assert!(error.message().contains(said), "{error}");
        }
    }

    #[test]
    fn unknown_dimensions_and_steps_are_refused() {
        let of = |name: &str, slice| Region::from([(name.to_owned(), slice)]);
        let whole = DimensionSlice::default();
        let error = chunk_box("/a", &layout(9, 3), &names(), &of("lat", whole)).unwrap_err();
        assert!(error.message().contains("time, dim_1"), "{error}");
        let stepped = DimensionSlice { step: Some(2), ..whole };
        assert!(chunk_box("/a", &layout(9, 3), &names(), &of("time", stepped)).is_err());
        assert!(chunk_box("/a", &layout(9, 3), &names(), &of("dim_1", whole)).is_ok());
    }

    proptest! {
        #[test]
        fn a_box_covers_exactly_the_elements(
            length in 1_u64..500, chunk in 1_u64..60,
            start in -600_i64..600, stop in -600_i64..600,
        ) {
            let python = |bound: i64| if bound < 0 {
                (bound + i64::try_from(length).unwrap()).max(0)
            } else {
                bound.min(i64::try_from(length).unwrap())
            }.unsigned_abs();
            let (first, end) = (python(start), python(stop));
            let legal = first < end
                && first % chunk == 0
                && (end % chunk == 0 || end == length);
            match cut(length, chunk, Some(start), Some(stop)) {
                Ok(range) => {
                    prop_assert!(legal);
                    prop_assert_eq!(u64::from(range.start) * chunk, first);
                    prop_assert_eq!((u64::from(range.end) * chunk).min(length), end);
                }
                Err(_) => prop_assert!(!legal),
            }
        }
    }
}
