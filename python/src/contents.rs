//! What Python asks of a target before it plans an append or an update.

use std::sync::Arc;

use icechunk::format::SnapshotId;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use refreeze::commit::told_of;
use refreeze::grid::chunk_box::ChunkBox;
use refreeze::target::origin::{Origin, Question, origin};
use refreeze::target::{
    Target, branch_nodes, native_chunks, native_in, stored_chunks as read_stored_chunks,
};
use refreeze::zarr::compatibility::{Shapes, compare};

use crate::ingest::{PyArraySpec, interruptible, target as location};
use crate::listing::ChunkStream;
use crate::runtime::run;
use crate::stores::source;

/// `native`, `empty`, `virtual` or `elsewhere`; then the shift, or the other source's URL.
type OriginSpec<'py> = (&'static str, Option<Bound<'py, PyTuple>>, Option<String>);

/// A branch of a repository as it was when it was opened; what Python asks of it is answered by
/// that snapshot.
#[pyclass(frozen, module = "refreeze._refreeze")]
pub(crate) struct OpenedTarget {
    target: Arc<Target>,
    branch: String,
    snapshot: SnapshotId,
    nodes: Vec<(String, Vec<u8>)>,
}

/// Opens a repository to read what is on a branch.
#[pyfunction]
#[pyo3(signature = (target, *, branch))]
pub(crate) fn open_target(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
    branch: String,
) -> PyResult<OpenedTarget> {
    let location = location(target)?;
    let look = async move {
        let (target, _) = Target::open_to_read(&location).await?;
        let (snapshot, nodes) = branch_nodes(target.repository(), &branch).await?;
        let nodes = nodes.into_iter().map(|(path, document)| (path, document.to_vec())).collect();
        Ok(OpenedTarget { target: Arc::new(target), branch, snapshot, nodes })
    };
    run(py, |stopped| interruptible(look, stopped))
}

#[pymethods]
impl OpenedTarget {
    /// The tip of the branch.
    #[getter]
    fn snapshot_id(&self) -> String {
        self.snapshot.to_string()
    }

    /// The metadata documents of all nodes by path.
    #[getter]
    fn nodes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(py);
        for (path, document) in &self.nodes {
            found.set_item(path, PyBytes::new(py, document))?;
        }
        Ok(found)
    }

    /// The native chunks of an array by coordinates.
    fn chunks<'py>(&self, py: Python<'py>, path: String) -> PyResult<Bound<'py, PyDict>> {
        let (target, snapshot) = (Arc::clone(&self.target), self.snapshot.clone());
        let look = async move { native_chunks(target.repository(), &snapshot, &path).await };
        let found = PyDict::new(py);
        for (coords, bytes) in run(py, |stopped| interruptible(look, stopped))? {
            found.set_item(PyTuple::new(py, coords)?, PyBytes::new(py, &bytes))?;
        }
        Ok(found)
    }

    /// Coordinates of a native chunk within a box, half-open along each dimension; None without one.
    #[pyo3(signature = (path, *, region))]
    fn native_in<'py>(
        &self,
        py: Python<'py>,
        path: String,
        region: Vec<(u32, u32)>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let region = ChunkBox::from_ranges(region.into_iter().map(|(a, b)| a..b).collect());
        let (target, snapshot) = (Arc::clone(&self.target), self.snapshot.clone());
        let look = async move { native_in(target.repository(), &snapshot, &path, &region).await };
        let found = run(py, |stopped| interruptible(look, stopped))?;
        found.map(|coords| PyTuple::new(py, coords)).transpose()
    }

    /// What the branch's commits tell of their sources, newest first: the sources, as of when (the
    /// listing's date, else the commit's), whether a listing told of them, and when the commit was
    /// made. In microseconds since 1970.
    fn told_of(&self, py: Python<'_>) -> PyResult<Vec<(String, i64, bool, i64)>> {
        let (target, branch) = (Arc::clone(&self.target), self.branch.clone());
        let look = async move { told_of(target.repository(), &branch).await };
        let found = run(py, |stopped| interruptible(look, stopped))?;
        Ok(found
            .into_iter()
            .map(|one| (one.source, one.at, one.by_listing, one.committed_at))
            .collect())
    }

    /// The chunks of an array, streamed from its manifests.
    #[pyo3(signature = (path, *, flat))]
    fn stored_chunks(&self, py: Python<'_>, path: String, flat: bool) -> PyResult<ChunkStream> {
        let (target, snapshot) = (Arc::clone(&self.target), self.snapshot.clone());
        let look =
            async move { read_stored_chunks(target.repository(), &snapshot, &path, flat).await };
        let found = run(py, |stopped| interruptible(look, stopped))?;
        Ok(ChunkStream::of(found.schema, found.batches))
    }

    /// What arrays are made of, and where their chunks are in a source.
    #[pyo3(signature = (store, path, *, arrays, axes))]
    fn origins<'py>(
        &self,
        py: Python<'py>,
        store: &Bound<'py, PyAny>,
        path: &str,
        arrays: Vec<PyArraySpec>,
        axes: Vec<Option<usize>>,
    ) -> PyResult<Vec<OriginSpec<'py>>> {
        let source = source(store, path)?;
        let (target, snapshot) = (Arc::clone(&self.target), self.snapshot.clone());
        let look = async move {
            let mut origins = Vec::with_capacity(arrays.len());
            for (array, axis) in arrays.into_iter().zip(axes) {
                let question = Question { array: &array.spec()?, source: &source, axis };
                origins.push(origin(target.repository(), &snapshot, question).await?);
            }
            Ok(origins)
        };
        run(py, |stopped| interruptible(look, stopped))?
            .into_iter()
            .map(|origin| match origin {
                Origin::Native => Ok(("native", None, None)),
                Origin::Empty => Ok(("empty", None, None)),
                Origin::Shift(shift) => Ok(("virtual", Some(PyTuple::new(py, shift)?), None)),
                Origin::Elsewhere(url) => Ok(("elsewhere", None, Some(url))),
            })
            .collect()
    }
}

/// What makes two metadata documents of one array incompatible, and their harmless differences.
#[pyfunction]
pub(crate) fn differences(was: &[u8], now: &[u8]) -> (Option<String>, Vec<String>) {
    let mut harmless = Vec::new();
    let incompatible = compare(was, now, Shapes::Equal, &mut harmless).err();
    (incompatible, harmless)
}
