//! `copy` as Python calls it, and the containers that it reads from.

use std::collections::HashMap;

use icechunk::config::RepositoryConfig;
use icechunk::virtual_chunks::VirtualChunkContainer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use refreeze::grid::chunk_box::ChunkBox;
use refreeze::jobs::{CopyJob, CopyPlace, copy as run_copy};
use refreeze::target::Target;
use refreeze::target::container::settings_of;

use crate::concurrency::PyConcurrency;
use crate::ingest::{callback, interruptible, stop, target as location};
use crate::runtime::run;
use crate::stores::source;

/// Name, URL prefix and settings of a container.
type ContainerSpec = (Option<String>, String, HashMap<String, String>);

/// The virtual chunk containers of a repository, and how their stores are reached; see
/// `refreeze.copy`.
#[pyfunction]
pub(crate) fn containers(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
) -> PyResult<Vec<ContainerSpec>> {
    let location = location(target)?;
    let look = async move {
        let (target, _) = Target::open_to_read(&location).await?;
        let config = target.stored_config().await?;
        let all = config.iter().flat_map(RepositoryConfig::virtual_chunk_containers);
        let spec = |container: &VirtualChunkContainer| {
            let name = container.name().map(str::to_owned);
            (name, container.url_prefix().to_owned(), settings_of(&container.store))
        };
        Ok(all.map(spec).collect())
    };
    run(py, |stopped| interruptible(look, stopped))
}

/// A container's name and prefix, and the obstore store there with the path in it.
type Place<'py> = (Option<String>, String, (Bound<'py, PyAny>, String));

/// Turns references into native chunks; see `refreeze.copy`. Returns the report as JSON.
#[pyfunction]
#[pyo3(signature = (
    target, *, branch, run_id, arrays, places, plan, memory, concurrency, chunks_per_commit,
    message, publish, unsafe_target, progress
))]
#[expect(clippy::too_many_arguments, reason = "the options of one Python call, all keywords")]
pub(crate) fn copy(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
    branch: String,
    run_id: Option<String>,
    arrays: Vec<(String, Vec<(u32, u32)>)>,
    places: Vec<Place<'_>>,
    plan: String,
    memory: u64,
    concurrency: PyConcurrency,
    chunks_per_commit: Option<u64>,
    message: Option<String>,
    publish: bool,
    unsafe_target: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let places = places
        .into_iter()
        .map(|(name, prefix, (store, path))| {
            Ok(CopyPlace { name, prefix, source: source(&store, &path)? })
        })
        .collect::<PyResult<Vec<_>>>()?;
    let region = |ranges: Vec<(u32, u32)>| {
        ChunkBox::from_ranges(ranges.into_iter().map(|(start, stop)| start..stop).collect())
    };
    let job = CopyJob {
        target: location(target)?,
        branch,
        run_id,
        arrays: arrays.into_iter().map(|(path, ranges)| (path, region(ranges))).collect(),
        places,
        plan,
        memory,
        concurrency: concurrency.try_into()?,
        chunks_per_commit,
        message,
        publish,
        unsafe_target,
    };
    let on_progress = callback(progress);
    let report = run(py, |stopped| async move { run_copy(job, on_progress, stop(stopped)).await })?;
    serde_json::to_string(&report).map_err(|error| PyValueError::new_err(error.to_string()))
}
