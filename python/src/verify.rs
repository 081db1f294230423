//! `verify` as Python calls it: a stream of differences, and a report at its end.

use std::sync::{Mutex, PoisonError};

use arrow_array::RecordBatch;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3_arrow::{PyRecordBatch, PySchema};
use refreeze::commit::snapshot_id as parse_id;
use refreeze::grid::chunk_box::ChunkBox;
use refreeze::jobs::verify::{VerifyJob, VerifyReport, difference_schema, verify as run_verify};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::errors::to_python;
use crate::ingest::{IngestOptions, PyArraySpec, callback, job};
use crate::runtime::{enter, wait};

/// Record batches that may wait for the caller.
const WAITING: usize = 4;

/// Begins a comparison; see `refreeze.verify`.
#[pyfunction]
#[pyo3(signature = (
    sources, target, *, source_urls, arrays, compared, options, snapshot_id, sample, progress
))]
#[expect(clippy::too_many_arguments, reason = "the parts of one Python call, most by keyword")]
pub(crate) fn verify(
    py: Python<'_>,
    sources: Vec<(Bound<'_, PyAny>, String)>,
    target: &Bound<'_, PyAny>,
    source_urls: Vec<String>,
    arrays: Vec<PyArraySpec>,
    compared: Vec<Vec<(u32, u32)>>,
    options: IngestOptions,
    snapshot_id: &str,
    sample: u64,
    progress: Option<Py<PyAny>>,
) -> PyResult<Comparison> {
    let listing = job(py, sources, target, source_urls, Vec::new(), arrays, options, None)?;
    let boxes = compared.into_iter().map(|ranges| {
        ChunkBox::from_ranges(ranges.into_iter().map(|(start, stop)| start..stop).collect())
    });
    let snapshot = parse_id(snapshot_id).map_err(|error| to_python(py, &error))?;
    let verify = VerifyJob { listing, compared: boxes.collect(), snapshot, sample };
    let (sender, batches) = mpsc::channel(WAITING);
    let on_progress = callback(progress);
    let _runtime = enter();
    let work = tokio::spawn(run_verify(verify, sender, on_progress));
    Ok(Comparison(Mutex::new(Some(Running { batches, work }))))
}

/// A comparison that runs, and what it finds.
struct Running {
    batches: mpsc::Receiver<RecordBatch>,
    work: JoinHandle<refreeze::Result<VerifyReport>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.work.abort();
    }
}

/// The differences of a comparison as record batches, and then its report.
#[pyclass(frozen, module = "refreeze._refreeze")]
pub(crate) struct Comparison(Mutex<Option<Running>>);

#[pymethods]
impl Comparison {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some(mut running) = self.take() else { return Err(PyStopIteration::new_err(())) };
        let next = py.detach(|| wait(running.batches.recv()))?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        match next {
            None => Err(PyStopIteration::new_err(())),
            Some(batch) => Ok(PyRecordBatch::new(batch).into_arro3(py)?.unbind()),
        }
    }

    /// The schema of the record batches.
    #[getter]
    #[expect(clippy::unused_self, reason = "a property in Python")]
    fn schema(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(PySchema::new(difference_schema()).into_arro3(py)?.unbind())
    }

    /// The report of the core as JSON, after the last record batch.
    fn report(&self, py: Python<'_>) -> PyResult<String> {
        let Some(mut running) = self.take() else {
            return Err(PyValueError::new_err("the comparison has been read to its end"));
        };
        let outcome = py.detach(|| wait(&mut running.work))?;
        let report = outcome
            .map_err(|failure| PyRuntimeError::new_err(format!("internal error: {failure}")))?
            .map_err(|error| to_python(py, &error))?;
        serde_json::to_string(&report).map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

impl Comparison {
    fn take(&self) -> Option<Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
