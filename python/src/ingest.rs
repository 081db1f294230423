//! `ingest` as Python calls it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyDict;
use refreeze::batch::EmptyChunks;
use refreeze::ingest::{IngestJob, ingest as run_ingest};
use refreeze::key::ChunkKeyEncoding;
use refreeze::metadata::{ArrayLayout, ArrayNode, GroupNode};
use refreeze::plan::PlanLimits;
use refreeze::progress::{OnProgress, Progress};
use refreeze::target::TargetLocation;

use crate::errors::to_python;
use crate::runtime::run;
use crate::stores::{prefixed, s3_builder, source};

/// Shortest time between two calls of a progress callback.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// `refreeze.metadata.GroupSpec`.
#[derive(FromPyObject)]
pub(crate) struct GroupSpec {
    path: String,
    document: PyBackedBytes,
    from_source: bool,
}

/// `refreeze.metadata.ArraySpec`.
#[derive(FromPyObject)]
pub(crate) struct ArraySpec {
    path: String,
    source_path: String,
    document: PyBackedBytes,
    shape: Vec<u64>,
    chunk_shape: Vec<u64>,
    key_encoding: String,
    separator: String,
    loaded: bool,
    pub(crate) dimension_names: Option<Vec<Option<String>>>,
}

impl ArraySpec {
    pub(crate) fn node(self) -> refreeze::Result<ArrayNode> {
        let layout = ChunkKeyEncoding::parse(&self.key_encoding, &self.separator)
            .and_then(|encoding| ArrayLayout::new(self.shape, self.chunk_shape, encoding))
            .map_err(|error| {
                refreeze::Error::new(
                    error.kind(),
                    format!("array {} cannot be referenced: {}", self.path, error.message()),
                )
                .with_hint("leave it out with --skip")
            })?;
        Ok(ArrayNode {
            path: self.path,
            source_path: self.source_path,
            document: self.document.to_vec(),
            layout,
            loaded: self.loaded,
        })
    }
}

/// `refreeze.stores.LocalTarget`, `.S3Target` or `.RepositoryTarget`, told apart by `kind`.
fn target(spec: &Bound<'_, PyAny>) -> PyResult<TargetLocation> {
    let kind: String = spec.getattr("kind")?.extract()?;
    match kind.as_str() {
        "local" => Ok(TargetLocation::Local(spec.getattr("path")?.extract()?)),
        "s3" => {
            let store = spec.getattr("store")?;
            Ok(TargetLocation::S3 {
                builder: Box::new(s3_builder(&store)?),
                prefix: prefixed(&store, &spec.getattr("path")?.extract::<String>()?)?,
                url: spec.getattr("url")?.extract()?,
            })
        }
        "repository" => {
            let bytes: PyBackedBytes = spec.getattr("state")?.extract()?;
            let repository = icechunk::Repository::from_bytes(&bytes).map_err(|error| {
                PyTypeError::new_err(format!(
                    "this icechunk repository or storage cannot be taken over ({}); give its URL \
                     and options instead",
                    error.kind
                ))
            })?;
            Ok(TargetLocation::Storage {
                storage: Arc::clone(repository.storage()),
                url: spec.getattr("url")?.extract()?,
            })
        }
        other => Err(PyValueError::new_err(format!("unknown kind of target {other}"))),
    }
}

/// Ingests a Zarr store; see `refreeze.ingest`.
///
/// Returns the report of the core as JSON.
#[pyfunction]
#[pyo3(signature = (
    store, path, target, *, source_url, branch, groups, arrays, skip_empty_chunks,
    references_per_manifest, references_per_commit, concurrency, message, progress
))]
#[expect(clippy::too_many_arguments, reason = "the options of one Python call, all keywords")]
pub(crate) fn ingest(
    py: Python<'_>,
    store: &Bound<'_, PyAny>,
    path: &str,
    target: &Bound<'_, PyAny>,
    source_url: String,
    branch: String,
    groups: Vec<GroupSpec>,
    arrays: Vec<ArraySpec>,
    skip_empty_chunks: bool,
    references_per_manifest: u32,
    references_per_commit: usize,
    concurrency: usize,
    message: Option<String>,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let groups = groups
        .into_iter()
        .map(|group| GroupNode {
            path: group.path,
            document: group.document.to_vec(),
            from_source: group.from_source,
        })
        .collect();
    let arrays = arrays
        .into_iter()
        .map(ArraySpec::node)
        .collect::<refreeze::Result<Vec<_>>>()
        .map_err(|error| to_python(py, &error))?;
    let job = IngestJob {
        source: source(store, path)?,
        source_url,
        target: self::target(target)?,
        branch,
        groups,
        arrays,
        empty_chunks: if skip_empty_chunks { EmptyChunks::Skip } else { EmptyChunks::Error },
        limits: PlanLimits { references_per_manifest, references_per_commit },
        concurrency,
        message,
    };
    let on_progress = callback(progress);
    let report = run(py, |stopped| async move {
        let cancelled = async {
            // A dropped sender means that nobody waits for a stop: never complete.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        run_ingest(job, on_progress, cancelled).await
    })?;
    serde_json::to_string(&report).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Calls `function` with a dictionary, not more often than [`PROGRESS_INTERVAL`] but for changes
/// of stage. What it raises is reported as unraisable: progress must not end an ingest.
fn callback(function: Option<Py<PyAny>>) -> OnProgress {
    let Some(function) = function else {
        return Box::new(|_: &Progress| {});
    };
    let last = Mutex::new((None::<Instant>, ""));
    Box::new(move |progress| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.0.is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL);
        if !due && last.1 == progress.stage {
            return;
        }
        *last = (Some(Instant::now()), progress.stage);
        drop(last);
        Python::attach(|py| {
            if let Err(raised) = report(py, progress).and_then(|event| function.call1(py, (event,)))
            {
                raised.write_unraisable(py, None);
            }
        });
    })
}

fn report<'py>(py: Python<'py>, progress: &Progress) -> PyResult<Bound<'py, PyDict>> {
    let event = PyDict::new(py);
    event.set_item("stage", progress.stage)?;
    event.set_item("array", &progress.array)?;
    event.set_item("chunks_possible", progress.chunks_possible)?;
    event.set_item("list_requests", progress.list_requests)?;
    event.set_item("keys_listed", progress.keys_listed)?;
    event.set_item("chunks_found", progress.chunks_found)?;
    event.set_item("references_written", progress.references_written)?;
    event.set_item("commits", progress.commits)?;
    Ok(event)
}
