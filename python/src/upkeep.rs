//! What looks after a repository, as Python calls it: its ingests, their publication, what they have
//! left, and where its sources are.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use refreeze::jobs::ingest::remove_published as clear_published;
use refreeze::jobs::{GcJob, PublishJob, RelocateJob};

use crate::ingest::{interruptible, target as location};
use crate::runtime::run;
use crate::stores::source as opened_source;

/// The ingests of a repository as JSON; see `refreeze.status`.
#[pyfunction]
pub(crate) fn status(py: Python<'_>, target: &Bound<'_, PyAny>) -> PyResult<String> {
    let location = location(target)?;
    let runs = run(py, |stopped| async move {
        interruptible(refreeze::jobs::status(&location), stopped).await
    })?;
    serde_json::to_string(&runs).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Publishes a staged ingest; see `refreeze.publish`.
#[pyfunction]
#[pyo3(signature = (target, *, run_id, rebase, unsafe_target))]
pub(crate) fn publish(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
    run_id: Option<String>,
    rebase: bool,
    unsafe_target: bool,
) -> PyResult<String> {
    let job = PublishJob { target: location(target)?, run_id, rebase, unsafe_target };
    // One compare-and-set decides: an interruption that comes later would only hide the result.
    let report = run(py, |_stopped| async move { refreeze::jobs::publish(job).await })?;
    serde_json::to_string(&report).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Removes what published runs have left that were killed before they could.
#[pyfunction]
#[pyo3(signature = (target, *, unsafe_target))]
pub(crate) fn remove_published(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
    unsafe_target: bool,
) -> PyResult<()> {
    let target = location(target)?;
    run(py, |stopped| async move {
        interruptible(clear_published(&target, unsafe_target), stopped).await
    })
}

/// Removes what nothing refers to; see `refreeze.gc`.
#[pyfunction]
#[pyo3(signature = (target, *, dry_run, older_than, unsafe_target))]
pub(crate) fn gc(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
    dry_run: bool,
    older_than: f64,
    unsafe_target: bool,
) -> PyResult<String> {
    let older_than = Duration::try_from_secs_f64(older_than)
        .map_err(|error| PyValueError::new_err(format!("older_than: {error}")))?;
    let target = location(target)?;
    let job = GcJob { target, dry_run, older_than, unsafe_target };
    let report =
        run(py, |stopped| async move { interruptible(refreeze::jobs::gc(job), stopped).await })?;
    serde_json::to_string(&report).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Moves a virtual chunk container; see `refreeze.relocate`.
#[pyfunction]
#[pyo3(signature = (target, source, *, prefix, sample, unsafe_target))]
pub(crate) fn relocate(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
    source: (Bound<'_, PyAny>, String),
    prefix: String,
    sample: usize,
    unsafe_target: bool,
) -> PyResult<String> {
    let (store, path) = source;
    let job = RelocateJob {
        target: location(target)?,
        from: prefix,
        to: opened_source(&store, &path)?,
        sample,
        unsafe_target,
    };
    let report = run(py, |stopped| interruptible(refreeze::jobs::relocate(job), stopped))?;
    serde_json::to_string(&report).map_err(|error| PyValueError::new_err(error.to_string()))
}
