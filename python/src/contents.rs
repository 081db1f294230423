//! What Python asks of a target before it plans an append or an update.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use refreeze::commit::snapshot_id as parse_id;
use refreeze::target::origin::{Origin, Question, origin};
use refreeze::target::{Target, branch_nodes, native_chunks, stored_chunks as read_stored_chunks};
use refreeze::zarr::compatibility::{Shapes, compare};

use crate::ingest::{PyArraySpec, interruptible, target as location};
use crate::listing::ChunkStream;
use crate::runtime::run;
use crate::stores::source;

/// `native`, `empty` or `virtual`, and then the shift.
type OriginSpec<'py> = (&'static str, Option<Bound<'py, PyTuple>>);

/// The tip of a branch and the metadata documents of its nodes by path.
#[pyfunction]
#[pyo3(signature = (target, *, branch))]
pub(crate) fn target_nodes(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
    branch: String,
) -> PyResult<(String, HashMap<String, Vec<u8>>)> {
    let location = location(target)?;
    let look = async move {
        let (target, _) = Target::open_to_read(&location).await?;
        branch_nodes(target.repository(), &branch).await
    };
    let (tip, nodes) = run(py, |stopped| interruptible(look, stopped))?;
    Ok((tip.to_string(), nodes.into_iter().map(|(path, bytes)| (path, bytes.to_vec())).collect()))
}

/// The native chunks of an array in a snapshot by coordinates.
#[pyfunction]
#[pyo3(signature = (target, *, snapshot_id, path))]
pub(crate) fn target_chunks<'py>(
    py: Python<'py>,
    target: &Bound<'py, PyAny>,
    snapshot_id: String,
    path: String,
) -> PyResult<Bound<'py, PyDict>> {
    let location = location(target)?;
    let look = async move {
        let (target, _) = Target::open_to_read(&location).await?;
        native_chunks(target.repository(), &parse_id(&snapshot_id)?, &path).await
    };
    let found = PyDict::new(py);
    for (coords, bytes) in run(py, |stopped| interruptible(look, stopped))? {
        found.set_item(PyTuple::new(py, coords)?, PyBytes::new(py, &bytes))?;
    }
    Ok(found)
}

/// The chunks of an array in a snapshot, streamed from its manifests.
#[pyfunction]
#[pyo3(signature = (target, *, snapshot_id, path, flat))]
pub(crate) fn stored_chunks(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
    snapshot_id: String,
    path: String,
    flat: bool,
) -> PyResult<ChunkStream> {
    let location = location(target)?;
    let look = async move {
        let (target, _) = Target::open_to_read(&location).await?;
        read_stored_chunks(target.repository(), &parse_id(&snapshot_id)?, &path, flat).await
    };
    let found = run(py, |stopped| interruptible(look, stopped))?;
    Ok(ChunkStream::of(found.schema, found.batches))
}

/// What arrays in a snapshot are made of, and where their chunks are in their sources.
#[pyfunction]
#[pyo3(signature = (target, *, snapshot_id, sources, source_urls, arrays, axes))]
pub(crate) fn origins<'py>(
    py: Python<'py>,
    target: &Bound<'py, PyAny>,
    snapshot_id: String,
    sources: Vec<(Bound<'py, PyAny>, String)>,
    source_urls: Vec<String>,
    arrays: Vec<PyArraySpec>,
    axes: Vec<Option<usize>>,
) -> PyResult<Vec<OriginSpec<'py>>> {
    let location = location(target)?;
    let opened = sources
        .into_iter()
        .zip(source_urls)
        .map(|((store, path), url)| Ok((source(&store, &path)?, url)))
        .collect::<PyResult<Vec<_>>>()?;
    let look = async move {
        let (target, _) = Target::open_to_read(&location).await?;
        let snapshot = parse_id(&snapshot_id)?;
        let mut origins = Vec::with_capacity(arrays.len());
        for (array, axis) in arrays.into_iter().zip(axes) {
            let position = array.source;
            let array = array.spec()?;
            let Some((source, url)) = opened.get(position) else { continue };
            let question = Question { array: &array, source, url, axis };
            origins.push(origin(target.repository(), &snapshot, question).await?);
        }
        Ok(origins)
    };
    run(py, |stopped| interruptible(look, stopped))?
        .into_iter()
        .map(|origin| match origin {
            Origin::Native => Ok(("native", None)),
            Origin::Empty => Ok(("empty", None)),
            Origin::Shift(shift) => Ok(("virtual", Some(PyTuple::new(py, shift)?))),
        })
        .collect()
}

/// What makes two metadata documents of one array incompatible, and their harmless differences.
#[pyfunction]
pub(crate) fn differences(was: &[u8], now: &[u8]) -> (Option<String>, Vec<String>) {
    let mut harmless = Vec::new();
    let incompatible = compare(was, now, Shapes::Equal, &mut harmless).err();
    (incompatible, harmless)
}
