//! What a region means for an array, for callers that need to know before anything is listed.

use std::collections::BTreeMap;

use pyo3::prelude::*;

use crate::errors::to_python;
use crate::ingest::PyArraySpec;
use crate::listing::{SliceBounds, chosen};

/// The chunk coordinates of a region along each dimension, half-open; see `refreeze.ZarrParser`.
#[pyfunction]
#[pyo3(signature = (array, *, region))]
pub(crate) fn region_box(
    py: Python<'_>,
    array: PyArraySpec,
    region: BTreeMap<String, SliceBounds>,
) -> PyResult<Vec<(u32, u32)>> {
    let (_, chunks) = chosen(array, region).map_err(|error| to_python(py, &error))?;
    Ok(chunks.ranges().iter().map(|range| (range.start, range.end)).collect())
}
