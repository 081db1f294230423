//! `list_chunks` as Python calls it: a stream of record batches with statistics.
//!
//! The stream can be iterated, which gives `arro3.core.RecordBatch`, or handed to any library
//! through the Arrow C stream interface, which gives all that is left in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{Array, RecordBatch, StructArray};
use arrow_schema::{ArrowError, Field, FieldRef, SchemaRef};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use pyo3::exceptions::{PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyTuple};
use pyo3_arrow::ffi::{ArrayIterator, to_schema_pycapsule, to_stream_pycapsule};
use pyo3_arrow::{PyRecordBatch, PySchema};
use refreeze::density::survey::survey;
use refreeze::estimate::estimate_ingest;
use refreeze::grid::chunk_box::ChunkBox;
use refreeze::grid::region::{addressed_names, chunk_box};
use refreeze::list::limit::{Concurrency, ConcurrencyLimit};
use refreeze::list::{ListOptions, Listing, SharedStats, list_chunks as run_list_chunks, stats_of};
use refreeze::plan::{LimitOptions, PlanLimits};
use refreeze::zarr::metadata::ArraySpec;
use refreeze::{Error, ErrorKind};

use crate::concurrency::PyConcurrency;
use crate::errors::to_python;
use crate::ingest::PyArraySpec;
use crate::region::{SliceBounds, slices};
use crate::runtime::{enter, run, wait};
use crate::stores::source;

/// What of an array is wanted.
#[derive(FromPyObject)]
pub(crate) enum Wanted {
    /// A region in elements, by dimension.
    Region(BTreeMap<String, SliceBounds>),
    /// Chunk coordinates along each dimension, half-open.
    Chunks(Vec<(u64, u64)>),
}

/// Lists the chunks of one array; see `refreeze.list_chunks`.
#[pyfunction]
#[pyo3(signature = (store, path, array, *, region, paths, flat, concurrency, undated=false))]
#[expect(clippy::too_many_arguments, reason = "the options of one Python call, all keywords")]
pub(crate) fn list_chunks(
    py: Python<'_>,
    store: &Bound<'_, PyAny>,
    path: &str,
    array: PyArraySpec,
    region: Wanted,
    paths: bool,
    flat: bool,
    concurrency: PyConcurrency,
    undated: bool,
) -> PyResult<ChunkStream> {
    let source = source(store, path)?;
    let in_flight = Concurrency::try_from(concurrency)?.in_flight(usize::MAX);
    let listed = || {
        let (array, region) = chosen(array, region)?;
        let mut options = ListOptions::with(ConcurrencyLimit::within(in_flight, None));
        options.paths = paths.then(|| path.trim_matches('/').to_owned());
        options.flat = flat;
        options.undated = undated;
        let _runtime = enter();
        run_list_chunks(&source, &array, region, options)
    };
    let Listing { schema, batches, stats } = listed().map_err(|error| to_python(py, &error))?;
    Ok(ChunkStream { schema, stats, batches: Mutex::new(Some(batches)) })
}

/// Estimates the listings of arrays, after a few requests; see `refreeze.plan`. Returns JSON.
#[pyfunction]
#[pyo3(signature = (
    store, path, arrays, *, memory, references_per_manifest, references_per_commit, concurrency
))]
#[expect(clippy::too_many_arguments, reason = "the options of one Python call, all keywords")]
pub(crate) fn estimate_arrays(
    py: Python<'_>,
    store: &Bound<'_, PyAny>,
    path: &str,
    arrays: Vec<(PyArraySpec, Wanted)>,
    memory: u64,
    references_per_manifest: Option<u32>,
    references_per_commit: Option<u64>,
    concurrency: PyConcurrency,
) -> PyResult<String> {
    let source = source(store, path)?;
    let parts: refreeze::Result<Vec<_>> =
        arrays.into_iter().map(|(array, region)| chosen(array, region)).collect();
    let parts = parts.map_err(|error| to_python(py, &error))?;
    let limits = PlanLimits::from(LimitOptions {
        memory,
        references_per_manifest,
        references_per_commit,
        concurrency: concurrency.try_into()?,
        small_buffers: source.has_small_buffers(),
        ..LimitOptions::default()
    });
    let estimates = run(py, |_stop| async move {
        let densities =
            survey(&source, &parts, &ConcurrencyLimit::within(limits.in_flight, None)).await?;
        estimate_ingest(&source, &parts, &densities, limits)
    })?;
    serde_json::to_string(&estimates).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// An array and the chunks of it that are wanted.
fn chosen(array: PyArraySpec, wanted: Wanted) -> refreeze::Result<(ArraySpec, ChunkBox)> {
    let names = array.dimension_names.clone().unwrap_or_default();
    let array = array.spec()?;
    let chunks = match wanted {
        Wanted::Region(region) => {
            let names = addressed_names(&names, array.layout.ndim());
            chunk_box(&array.path, &array.layout, &names, &slices(region))?
        }
        Wanted::Chunks(ranges) => {
            let narrow =
                |(start, stop)| Some(u32::try_from(start).ok()?..u32::try_from(stop).ok()?);
            let ranges = ranges.into_iter().map(narrow);
            ChunkBox::from_ranges(ranges.collect::<Option<_>>().ok_or_else(|| {
                let text = format!("array {}: chunks out of bounds", array.path);
                Error::new(ErrorKind::Region, text)
            })?)
        }
    };
    Ok((array, chunks))
}

/// The chunks of an array, as a stream that can be read once.
#[pyclass(frozen, module = "refreeze")]
pub(crate) struct ChunkStream {
    schema: SchemaRef,
    stats: SharedStats,
    batches: Mutex<Option<BoxStream<'static, refreeze::Result<RecordBatch>>>>,
}

#[pymethods]
impl ChunkStream {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        // The stream is taken out while it is waited for, so that two threads cannot both wait.
        let Some(mut batches) = self.take() else { return Err(PyStopIteration::new_err(())) };
        let next = py.detach(|| wait(batches.next()))?;
        match next {
            None => Err(PyStopIteration::new_err(())),
            Some(Err(error)) => Err(to_python(py, &error)),
            Some(Ok(batch)) => {
                *self.batches.lock().unwrap_or_else(PoisonError::into_inner) = Some(batches);
                Ok(PyRecordBatch::new(batch).into_arro3(py)?.unbind())
            }
        }
    }

    /// The schema of the record batches.
    #[getter]
    fn schema(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(PySchema::new(Arc::clone(&self.schema)).into_arro3(py)?.unbind())
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        Ok(to_schema_pycapsule(py, self.schema.as_ref())?)
    }

    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let fields = self.schema.fields().clone();
        let field: FieldRef = Arc::new(Field::new_struct("", fields, false));
        let batches = Batches(self.take());
        let arrays = batches
            .map(|batch| batch.map(|batch| Arc::new(StructArray::from(batch)) as Arc<dyn Array>));
        Ok(to_stream_pycapsule(py, Box::new(ArrayIterator::new(arrays, field)), requested_schema)?)
    }

    /// What the listing has cost and met so far.
    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let stats = stats_of(&self.stats);
        let fields = PyDict::new(py);
        fields.set_item("list_requests", stats.list_requests)?;
        fields.set_item("keys_listed", stats.keys_listed)?;
        fields.set_item("chunks", stats.chunks)?;
        fields.set_item("foreign_keys", stats.foreign_keys)?;
        fields.set_item("foreign_example", stats.foreign_example)?;
        fields.set_item("retries", stats.retries)?;
        fields.set_item("warnings", PyTuple::new(py, stats.warnings)?)?;
        py.import("refreeze.verbs.report")?.getattr("ListStats")?.call((), Some(&fields))
    }

    /// What to tell a user about foreign keys below the array, so far.
    fn foreign_note(&self, array: &str) -> Option<String> {
        stats_of(&self.stats).foreign_note(array)
    }
}

impl ChunkStream {
    /// A stream that is not a listing: its statistics stay at zero.
    pub(crate) fn of(
        schema: SchemaRef,
        batches: BoxStream<'static, refreeze::Result<RecordBatch>>,
    ) -> Self {
        Self { schema, stats: SharedStats::default(), batches: Mutex::new(Some(batches)) }
    }

    fn take(&self) -> Option<BoxStream<'static, refreeze::Result<RecordBatch>>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What is left of a stream, for a consumer that may or may not hold the GIL.
struct Batches(Option<BoxStream<'static, refreeze::Result<RecordBatch>>>);

impl Iterator for Batches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batches = self.0.as_mut()?;
        let failure = match wait(batches.next()) {
            Ok(Some(Ok(batch))) => return Some(Ok(batch)),
            Ok(None) => {
                self.0 = None;
                return None;
            }
            Ok(Some(Err(error))) => Python::attach(|py| text(py, &to_python(py, &error))),
            Err(raised) => Python::attach(|py| text(py, &raised)),
        };
        self.0 = None;
        Some(Err(ArrowError::ExternalError(failure.into())))
    }
}

/// Class name and message: Arrow carries only text.
fn text(py: Python<'_>, error: &PyErr) -> String {
    let class = error.get_type(py).name().map(|name| name.to_string()).unwrap_or_default();
    format!("{class}: {}", error.value(py))
}
