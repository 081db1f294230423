//! Regions: from slices of elements, as a user gives them, to elements and a box of the chunk grid.
//!
//! A region is given per dimension name with Python's slice rules. It must begin and end on chunk
//! boundaries (or at the array's end), because a chunk is referenced whole or not at all; only
//! arrays whose values are copied may be cut anywhere. Nothing here knows what a region is used for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::chunk_box::ChunkBox;
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

/// What regions need to know of an array. Shapes are in elements, a chunk is a stored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionArray {
    /// Names the array in errors.
    pub path: String,
    /// The names by which its dimensions are addressed; see [`addressed_names`].
    pub dimensions: Vec<String>,
    /// Elements along each dimension.
    pub shape: Vec<u64>,
    /// Elements of a chunk along each dimension.
    pub chunk_shape: Vec<u64>,
    /// Whether it is a one-dimensional coordinate: its values can be carried where it does not
    /// align, and it does not count for where others can be cut.
    pub coordinate: bool,
    /// Whether its values are copied, so that it can be cut anywhere.
    pub copied: bool,
}

/// What a region takes of one array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Elements along each dimension.
    pub elements: Vec<Range<u64>>,
    /// Chunks along each dimension; those of an array that is copied or carried hold at least the
    /// elements.
    pub chunks: Vec<Range<u64>>,
    /// Of a coordinate whose values are to be carried, because regions of this many elements need
    /// not end where its chunks do.
    pub carried: Option<u64>,
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

/// Refuses dimensions that no array has.
///
/// # Errors
///
/// [`ErrorKind::Region`], with those that there are.
pub fn check_known<'a>(
    known: impl IntoIterator<Item = &'a String>,
    wanted: impl IntoIterator<Item = &'a String>,
) -> Result<()> {
    let known: BTreeSet<&String> = known.into_iter().collect();
    match wanted.into_iter().find(|dimension| !known.contains(dimension)) {
        None => Ok(()),
        Some(dimension) => {
            let names: Vec<_> = known.iter().map(|name| name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let hint = format!("dimensions: {names}");
            Err(region_error(format!("no array has the dimension {dimension}")).with_hint(hint))
        }
    }
}

/// The least number of elements along a dimension that is whole chunks of every array.
///
/// One-dimensional coordinates do not count, unless nothing else has the dimension. A number
/// beyond 64 bits is longer than any array, and so is the one that is returned then.
pub fn alignment<'a>(arrays: impl IntoIterator<Item = &'a RegionArray>, dimension: &str) -> u64 {
    let having: Vec<_> = arrays
        .into_iter()
        .filter(|array| array.dimensions.iter().any(|d| d == dimension))
        .collect();
    let only_coordinates = having.iter().all(|array| array.coordinate);
    let counted = having.into_iter().filter(|array| only_coordinates || !array.coordinate);
    counted
        .flat_map(|array| array.dimensions.iter().zip(&array.chunk_shape))
        .filter(|(name, _)| *name == dimension)
        .fold(1, |step, (_, chunk)| least_common_multiple(step, (*chunk).max(1)))
}

/// What `region` takes of each of the arrays of a store. Dimensions that an array does not have
/// are left to the others: see [`check_known`].
///
/// # Errors
///
/// [`ErrorKind::Region`] for a step other than 1, an empty slice, or a bound inside a chunk of an
/// array that is neither copied nor carried; the message names the array, the dimension, the
/// bound, and the nearest legal ones.
pub fn resolve(arrays: &[RegionArray], region: &Region) -> Result<Vec<Taken>> {
    let steps: BTreeMap<&String, u64> =
        region.keys().map(|name| (name, alignment(arrays, name))).collect();
    let taken = |array: &RegionArray| {
        let elements = elements(array, region)?;
        // Decided without the region's bounds, so that one region after another agrees; a whole
        // dimension needs no cut.
        let step = array.dimensions.first().and_then(|name| steps.get(name)).copied();
        let fits = |step: u64| {
            let chunk = array.chunk_shape.first().map_or(1, |chunk| (*chunk).max(1));
            step.is_multiple_of(chunk)
                || elements.iter().zip(&array.shape).all(|(part, length)| *part == (0..*length))
        };
        let carried = step.filter(|step| array.coordinate && !fits(*step));
        let chunks = if array.copied || carried.is_some() {
            covering(&elements, &array.chunk_shape)
        } else {
            aligned(array, &elements)?
        };
        Ok(Taken { elements, chunks, carried })
    };
    arrays.iter().map(taken).collect()
}

/// The elements that `region` takes of an array, along each dimension.
///
/// # Errors
///
/// [`ErrorKind::Region`] for a step other than 1 or an empty slice.
pub fn elements(array: &RegionArray, region: &Region) -> Result<Vec<Range<u64>>> {
    let along = |(name, length): (&String, &u64)| {
        let Some(slice) = region.get(name) else { return Ok(0..*length) };
        let range = slice_elements(name, *length, *slice)?;
        if range.is_empty() {
            let (start, stop) = (range.start, range.end);
            return Err(region_error(format!(
                "the region is empty along {name}: {start}:{stop} of {length} elements of array \
                 {}",
                array.path
            ))
            .with_hint("give a start that is less than the stop and the length"));
        }
        Ok(range)
    };
    array.dimensions.iter().zip(&array.shape).map(along).collect()
}

/// The elements of a slice of so many, as Python resolves it: negative bounds count from the end,
/// and none lies beyond it. The range is reversed where the slice is.
///
/// # Errors
///
/// [`ErrorKind::Region`] for a step other than 1.
pub fn slice_elements(dimension: &str, length: u64, slice: DimensionSlice) -> Result<Range<u64>> {
    if let Some(step) = slice.step.filter(|step| *step != 1) {
        return Err(region_error(format!("the region's step along {dimension} is {step}"))
            .with_hint("leave it out"));
    }
    let resolve = |bound: i64| match u64::try_from(bound) {
        Ok(bound) => bound.min(length),
        Err(_) => length.saturating_sub(bound.unsigned_abs()),
    };
    Ok(slice.start.map_or(0, resolve)..slice.stop.map_or(length, resolve))
}

/// The box of `layout`'s grid that `region` names.
///
/// `array` names the array in errors; `dimensions` are its addressed names, one an axis.
///
/// # Errors
///
/// [`ErrorKind::Region`] for a name that no dimension has, and as [`resolve`].
pub fn chunk_box(
    array: &str,
    layout: &ArrayLayout,
    dimensions: &[String],
    region: &Region,
) -> Result<ChunkBox> {
    if let Some(name) = region.keys().find(|name| !dimensions.contains(name)) {
        return Err(region_error(format!(
            "array {array} has no dimension {name} (dimensions: {})",
            if dimensions.is_empty() { "none".to_owned() } else { dimensions.join(", ") }
        )));
    }
    let array = RegionArray {
        path: array.to_owned(),
        dimensions: dimensions.to_vec(),
        shape: layout.shape().to_vec(),
        chunk_shape: layout.chunk_shape().to_vec(),
        coordinate: false,
        copied: false,
    };
    let coordinate = |chunk: u64| u32::try_from(chunk).unwrap_or(u32::MAX);
    let chunks = aligned(&array, &elements(&array, region)?)?;
    let ranges = chunks.iter().map(|range| coordinate(range.start)..coordinate(range.end));
    Ok(ChunkBox::from_ranges(ranges.collect()))
}

/// The chunks that hold `elements`, along each dimension.
#[must_use]
pub fn covering(elements: &[Range<u64>], chunk_shape: &[u64]) -> Vec<Range<u64>> {
    let along = |(range, chunk): (&Range<u64>, &u64)| {
        let chunk = (*chunk).max(1);
        range.start / chunk..range.end.div_ceil(chunk)
    };
    elements.iter().zip(chunk_shape).map(along).collect()
}

/// The chunks whose elements `elements` are, along each dimension.
fn aligned(array: &RegionArray, elements: &[Range<u64>]) -> Result<Vec<Range<u64>>> {
    let axes = array.dimensions.iter().zip(&array.shape).zip(&array.chunk_shape);
    for (((name, length), chunk), range) in axes.zip(elements) {
        let chunk = (*chunk).max(1);
        let misplaced = |bound: u64| !bound.is_multiple_of(chunk);
        let found = match range {
            range if misplaced(range.start) => Some(("start", range.start)),
            range if misplaced(range.end) && range.end != *length => Some(("stop", range.end)),
            _ => None,
        };
        if let Some((which, bound)) = found {
            let below = bound / chunk * chunk;
            let above = (below + chunk).min(*length);
            return Err(region_error(format!(
                "the region's {which} {bound} along {name} is inside a chunk of array {} (chunks \
                 of {chunk}, {length} elements); the nearest legal bounds are {below} and {above}",
                array.path
            )));
        }
    }
    Ok(covering(elements, &array.chunk_shape))
}

fn least_common_multiple(one: u64, other: u64) -> u64 {
    let (mut divisor, mut rest) = (one, other);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (one / divisor).saturating_mul(other)
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

    fn array(path: &str, length: u64, chunk: u64, coordinate: bool) -> RegionArray {
        RegionArray {
            path: path.to_owned(),
            dimensions: vec!["time".to_owned()],
            shape: vec![length],
            chunk_shape: vec![chunk],
            coordinate,
            copied: false,
        }
    }

    /// A coordinate in one chunk is carried by value beside an array that is cut; whole it is not.
    #[test]
    fn coordinates_that_do_not_fit_are_carried() {
        let arrays = [array("/air", 100, 24, false), array("/time", 100, 100, true)];
        let of = |start, stop| {
            let slice = DimensionSlice { start, stop, step: None };
            resolve(&arrays, &Region::from([("time".to_owned(), slice)])).unwrap()
        };
        let taken = of(Some(24), Some(72));
        let [air, time] = taken.as_slice() else { panic!("two arrays") };
        assert_eq!((air.chunks.len(), &air.chunks[0], air.carried), (1, &(1..3), None));
        assert_eq!((time.elements.len(), &time.elements[0]), (1, &(24..72)));
        assert_eq!((time.chunks.len(), &time.chunks[0], time.carried), (1, &(0..1), Some(24)));
        assert_eq!(of(None, None)[1].carried, None);
    }

    /// Copied arrays are cut anywhere, others are not; dimensions of others are not theirs.
    #[test]
    fn only_what_is_copied_is_cut_inside_a_chunk() {
        let slice = DimensionSlice { start: Some(10), stop: Some(30), step: None };
        let region = Region::from([("time".to_owned(), slice), ("x".to_owned(), slice)]);
        let copied = RegionArray { copied: true, ..array("/time", 100, 24, false) };
        assert_eq!(resolve(&[copied], &region).unwrap()[0].chunks, vec![0..2]);
        let error = resolve(&[array("/air", 100, 24, false)], &region).unwrap_err();
        assert!(error.message().contains("array /air (chunks of 24"), "{error}");
    }

    /// Coordinates count where nothing else has the dimension, and no number overflows.
    #[test]
    fn arrays_are_cut_where_the_chunks_of_all_end() {
        let (air, time) = (array("/air", 100, 24, false), array("/time", 100, 7, true));
        assert_eq!(alignment([&air, &array("/b", 9, 10, false), &time], "time"), 120);
        assert_eq!(alignment([&time], "time"), 7);
        assert_eq!(alignment([&air], "x"), 1);
        let (big, huge) = (array("/a", 1, u64::MAX, false), array("/b", 1, u64::MAX - 1, false));
        assert_eq!(alignment([&big, &huge], "time"), u64::MAX);
    }

    /// Unknown dimensions are refused together with those that there are.
    #[test]
    fn known_dimensions_are_listed() {
        let (time, x, lat) = ("time".to_owned(), "x".to_owned(), "lat".to_owned());
        assert!(check_known([&x, &time, &x], [&time]).is_ok());
        let error = check_known([&x, &time, &x], [&time, &lat]).unwrap_err();
        assert_eq!(error.message(), "no array has the dimension lat");
        assert_eq!(error.hint(), Some("dimensions: time, x"));
        assert_eq!(check_known([], [&lat]).unwrap_err().hint(), Some("dimensions: none"));
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
