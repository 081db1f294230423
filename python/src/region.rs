//! What a region means for arrays, for callers that need to know before anything is listed.

use std::collections::BTreeMap;
use std::ops::Range;

use pyo3::prelude::*;
use refreeze::grid::region::{self, DimensionSlice, Region, RegionArray};

use crate::errors::to_python;
use crate::ingest::PyArraySpec;

/// Start, stop and step of a slice, in elements.
pub(crate) type SliceBounds = (Option<i64>, Option<i64>, Option<i64>);

/// Start and stop along each dimension.
type Bounds = Vec<(u64, u64)>;

/// `refreeze.metadata.dimensions.GriddedArray`.
#[derive(FromPyObject)]
pub(crate) struct PyGriddedArray {
    path: String,
    shape: Vec<u64>,
    chunk_shape: Vec<u64>,
    names: Vec<String>,
    coordinate: bool,
}

impl PyGriddedArray {
    fn region_array(self, copied: bool) -> RegionArray {
        let Self { path, shape, chunk_shape, names: dimensions, coordinate } = self;
        RegionArray { path, dimensions, shape, chunk_shape, coordinate, copied }
    }
}

pub(crate) fn slices(region: BTreeMap<String, SliceBounds>) -> Region {
    region.into_iter().map(|(name, bounds)| (name, slice(bounds))).collect()
}

fn slice(bounds: SliceBounds) -> DimensionSlice {
    DimensionSlice { start: bounds.0, stop: bounds.1, step: bounds.2 }
}

fn bounds(ranges: &[Range<u64>]) -> Bounds {
    ranges.iter().map(|range| (range.start, range.end)).collect()
}

/// What a region takes of each array of a store: elements, chunks, and for a coordinate whose
/// values are to be carried the step between legal bounds. Arrays come with their grids.
#[pyfunction]
#[pyo3(signature = (arrays, *, region))]
pub(crate) fn resolve_region(
    py: Python<'_>,
    arrays: Vec<(PyArraySpec, PyGriddedArray)>,
    region: BTreeMap<String, SliceBounds>,
) -> PyResult<Vec<(Bounds, Bounds, Option<u64>)>> {
    let resolved = || {
        let mut known = Vec::with_capacity(arrays.len());
        for (spec, grid) in arrays {
            let copied = spec.copied;
            if !copied {
                // Refuses a grid that cannot be referenced.
                spec.spec()?;
            }
            known.push(grid.region_array(copied));
        }
        region::resolve(&known, &slices(region))
    };
    let taken = resolved().map_err(|error: refreeze::Error| to_python(py, &error))?;
    let taken = taken.into_iter();
    Ok(taken.map(|one| (bounds(&one.elements), bounds(&one.chunks), one.carried)).collect())
}

/// The elements of a region along each dimension of an array, half-open.
#[pyfunction]
#[pyo3(signature = (array, *, region))]
pub(crate) fn region_elements(
    py: Python<'_>,
    array: PyGriddedArray,
    region: BTreeMap<String, SliceBounds>,
) -> PyResult<Bounds> {
    let found = region::elements(&array.region_array(false), &slices(region));
    found.map(|ranges| bounds(&ranges)).map_err(|error| to_python(py, &error))
}

/// The chunk coordinates of a region along each dimension of an array, half-open.
#[pyfunction]
#[pyo3(signature = (array, *, region))]
pub(crate) fn region_box(
    py: Python<'_>,
    array: PyArraySpec,
    region: BTreeMap<String, SliceBounds>,
) -> PyResult<Bounds> {
    let chosen = || {
        let names = array.dimension_names.clone().unwrap_or_default();
        let array = array.spec()?;
        let names = region::addressed_names(&names, array.layout.ndim());
        region::chunk_box(&array.path, &array.layout, &names, &slices(region))
    };
    let chunks = chosen().map_err(|error: refreeze::Error| to_python(py, &error))?;
    Ok(bounds(&chunks.wide_ranges()))
}

/// The elements of a slice of so many; reversed or empty where it is.
#[pyfunction]
pub(crate) fn slice_elements(
    py: Python<'_>,
    dimension: &str,
    length: u64,
    bounds: SliceBounds,
) -> PyResult<(u64, u64)> {
    let range = region::slice_elements(dimension, length, slice(bounds));
    range.map(|range| (range.start, range.end)).map_err(|error| to_python(py, &error))
}

/// The names by which an array's dimensions are addressed.
#[pyfunction]
pub(crate) fn addressed_names(names: Option<Vec<Option<String>>>, ndim: usize) -> Vec<String> {
    region::addressed_names(&names.unwrap_or_default(), ndim)
}

/// The least number of elements along a dimension that is whole chunks of every array.
#[pyfunction]
pub(crate) fn alignment(arrays: Vec<PyGriddedArray>, dimension: &str) -> u64 {
    let arrays: Vec<_> = arrays.into_iter().map(|array| array.region_array(false)).collect();
    region::alignment(&arrays, dimension)
}

/// Refuses dimensions that no array has.
#[expect(clippy::needless_pass_by_value, reason = "what comes from Python is taken by value")]
#[pyfunction]
pub(crate) fn check_known(
    py: Python<'_>,
    arrays: Vec<PyGriddedArray>,
    dimensions: Vec<String>,
) -> PyResult<()> {
    let known = arrays.iter().flat_map(|array| &array.names);
    region::check_known(known, &dimensions).map_err(|error| to_python(py, &error))
}
