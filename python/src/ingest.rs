//! `ingest` as Python calls it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};
use refreeze::ErrorKind;
use refreeze::batch::{ChecksumBy, EmptyChunks};
use refreeze::commit::snapshot_id;
use refreeze::grid::chunk_box::ChunkBox;
use refreeze::grid::piece::Piece;
use refreeze::jobs::ingest::{
    Decoder, Finish, IngestJob, JobArray, JobSource, Mode, ingest as run_ingest,
};
use refreeze::plan::LimitOptions;
use refreeze::progress::{OnProgress, Progress};
use refreeze::target::TargetLocation;
use refreeze::target::locations::Locations;
use refreeze::zarr::key::ChunkKeyEncoding;
use refreeze::zarr::metadata::{ArrayLayout, ArraySpec, GroupSpec};

use tokio::sync::oneshot;

use crate::concurrency::PyConcurrency;
use crate::crew::crew;
use crate::errors::to_python;
use crate::handed_over;
use crate::runtime::run;
use crate::stores::{bucket_builder, prefixed, source, transport};

/// Shortest time between two calls of a progress callback.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// `refreeze.metadata.GroupSpec`.
#[derive(FromPyObject)]
pub(crate) struct PyGroupSpec {
    path: String,
    document: PyBackedBytes,
    from_source: bool,
}

/// `refreeze.metadata.ArraySpec`.
#[derive(FromPyObject)]
pub(crate) struct PyArraySpec {
    path: String,
    source_path: String,
    document: PyBackedBytes,
    shape: Vec<u64>,
    chunk_shape: Vec<u64>,
    key_encoding: String,
    separator: String,
    pub(crate) copied: bool,
    pub(crate) dimension_names: Option<Vec<Option<String>>>,
    pub(crate) source: usize,
    pieces: Option<Vec<PyPiece>>,
    chunks: Option<HashMap<Vec<u32>, PyBackedBytes>>,
}

/// `refreeze.metadata.Piece`.
#[derive(FromPyObject)]
struct PyPiece {
    source: usize,
    source_path: String,
    shape: Vec<u64>,
    chunk_shape: Vec<u64>,
    key_encoding: String,
    separator: String,
    target: Vec<(u32, u32)>,
    shift: Vec<i64>,
}

impl PyPiece {
    fn piece(self, spec: &ArraySpec) -> refreeze::Result<Piece> {
        let layout =
            layout(&spec.path, &self.key_encoding, &self.separator, self.shape, self.chunk_shape)?;
        let array = ArraySpec { source_path: self.source_path, layout, ..spec.clone() };
        let ranges = self.target.into_iter().map(|(start, stop)| start..stop).collect();
        Piece::of(spec, self.source, array, ChunkBox::from_ranges(ranges), self.shift)
    }
}

fn layout(
    path: &str,
    key_encoding: &str,
    separator: &str,
    shape: Vec<u64>,
    chunk_shape: Vec<u64>,
) -> refreeze::Result<ArrayLayout> {
    ChunkKeyEncoding::parse(key_encoding, separator)
        .and_then(|encoding| ArrayLayout::new(shape, chunk_shape, encoding))
        .map_err(|error| {
            refreeze::Error::new(
                error.kind(),
                format!("array {path} cannot be referenced: {}", error.message()),
            )
            .with_hint("leave it out with --skip")
        })
}

impl PyArraySpec {
    pub(crate) fn spec(self) -> refreeze::Result<ArraySpec> {
        let (encoding, separator) = (&self.key_encoding, &self.separator);
        let layout = layout(&self.path, encoding, separator, self.shape, self.chunk_shape)?;
        Ok(ArraySpec {
            path: self.path,
            source_path: self.source_path,
            document: self.document.to_vec(),
            layout,
            copied: self.copied,
        })
    }

    fn job_array(mut self) -> refreeze::Result<JobArray> {
        let (source, pieces) = (self.source, self.pieces.take());
        let chunks = self.chunks.take();
        let spec = self.spec()?;
        let pieces = match pieces {
            Some(pieces) => pieces
                .into_iter()
                .map(|piece| piece.piece(&spec))
                .collect::<refreeze::Result<Vec<_>>>()?,
            None => vec![Piece::whole(source, &spec)],
        };
        let chunks = chunks.map(|chunks| {
            let native = |(coords, bytes): (Vec<u32>, PyBackedBytes)| (coords, bytes.to_vec());
            chunks.into_iter().map(native).collect()
        });
        Ok(JobArray { spec, pieces, chunks })
    }
}

/// `refreeze.stores.LocalTarget`, `.BucketTarget` or `.RepositoryTarget`, told apart by `kind`.
pub(crate) fn target(spec: &Bound<'_, PyAny>) -> PyResult<TargetLocation> {
    let kind: String = spec.getattr("kind")?.extract()?;
    match kind.as_str() {
        "local" => Ok(TargetLocation::Local(spec.getattr("path")?.extract()?)),
        "bucket" => {
            let store = spec.getattr("store")?;
            Ok(TargetLocation::Bucket {
                builder: bucket_builder(&store)?,
                transport: transport(&store)?,
                prefix: prefixed(&store, &spec.getattr("path")?.extract::<String>()?)?,
                url: spec.getattr("url")?.extract()?,
            })
        }
        "repository" => {
            let state: PyBackedBytes = spec.getattr("state")?.extract()?;
            let url: String = spec.getattr("url")?.extract()?;
            let storage = handed_over::storage(&state).map_err(|why| {
                PyTypeError::new_err(format!(
                    "this icechunk storage cannot be taken over ({why}); give the target's URL and \
                     options instead: refreeze.ingest(source, {url:?}, target_options={{…}})"
                ))
            })?;
            Ok(TargetLocation::Storage { storage, url, fresh: spec.getattr("fresh")?.extract()? })
        }
        other => Err(PyValueError::new_err(format!("unknown kind of target {other}"))),
    }
}

/// `refreeze.options.IngestOptions`.
#[derive(FromPyObject)]
#[expect(clippy::struct_excessive_bools, reason = "flags of the interface, all by name")]
pub(crate) struct IngestOptions {
    branch: String,
    mode: String,
    base: Option<String>,
    replaced: Vec<String>,
    added: Vec<String>,
    plan: String,
    listing: Option<String>,
    skip_empty_chunks: bool,
    checksum: String,
    keep_checksum: bool,
    absolute_locations: bool,
    memory: u64,
    references_per_manifest: Option<u32>,
    references_per_commit: Option<u64>,
    concurrency: PyConcurrency,
    requests_per_second: Option<f64>,
    message: Option<String>,
    publish: bool,
    restart: bool,
    expect_complete: bool,
    expect_count: Option<u64>,
    read_check: bool,
    unsafe_target: bool,
}

/// Ingests Zarr stores, each an obstore store and a path in it; see `refreeze.ingest`.
///
/// Returns the report of the core as JSON.
#[pyfunction]
#[pyo3(signature = (
    sources, target, *, source_urls, groups, arrays, options, decoder, progress, crew=None
))]
#[expect(clippy::too_many_arguments, reason = "the parts of one Python call, most by keyword")]
pub(crate) fn ingest(
    py: Python<'_>,
    sources: Vec<(Bound<'_, PyAny>, String)>,
    target: &Bound<'_, PyAny>,
    source_urls: Vec<String>,
    groups: Vec<PyGroupSpec>,
    arrays: Vec<PyArraySpec>,
    options: IngestOptions,
    decoder: Py<PyAny>,
    progress: Option<Py<PyAny>>,
    crew: Option<Py<PyAny>>,
) -> PyResult<String> {
    let (crew, raised) = self::crew(py, crew)?;
    let job = job(py, sources, target, source_urls, groups, arrays, options, Some(decoder))?;
    let job = IngestJob { crew, ..job };
    let on_progress = callback(progress);
    let outcome =
        run(py, |stopped| async move { run_ingest(job, on_progress, stop(stopped)).await });
    // What workers raised has a class of its own.
    let report = outcome.map_err(|error| raised.take().unwrap_or(error))?;
    serde_json::to_string(&report).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// What Python asks for, as the core takes it.
#[expect(clippy::too_many_arguments, reason = "the parts of one Python call")]
pub(crate) fn job(
    py: Python<'_>,
    sources: Vec<(Bound<'_, PyAny>, String)>,
    target: &Bound<'_, PyAny>,
    source_urls: Vec<String>,
    groups: Vec<PyGroupSpec>,
    arrays: Vec<PyArraySpec>,
    options: IngestOptions,
    decoder: Option<Py<PyAny>>,
) -> PyResult<IngestJob> {
    let groups = groups
        .into_iter()
        .map(|group| GroupSpec {
            path: group.path,
            document: group.document.to_vec(),
            from_source: group.from_source,
        })
        .collect();
    let arrays = arrays
        .into_iter()
        .map(PyArraySpec::job_array)
        .collect::<refreeze::Result<Vec<_>>>()
        .map_err(|error| to_python(py, &error))?;
    let sources = sources
        .into_iter()
        .zip(source_urls)
        .map(|((store, path), url)| Ok(JobSource { source: source(&store, &path)?, url }))
        .collect::<PyResult<Vec<_>>>()?;
    let small_buffers = sources.iter().all(|source| source.source.has_small_buffers());
    let base = options.base.as_deref().map(snapshot_id).transpose();
    Ok(IngestJob {
        sources,
        target: self::target(target)?,
        branch: options.branch,
        mode: mode(&options.mode)?,
        base: base.map_err(|error| to_python(py, &error))?,
        replaced: options.replaced,
        added: options.added,
        plan: options.plan,
        listing: options.listing,
        groups,
        arrays,
        empty_chunks: if options.skip_empty_chunks {
            EmptyChunks::Skip
        } else {
            EmptyChunks::Error
        },
        checksum: match options.checksum.as_str() {
            "etag" => ChecksumBy::ETag,
            "none" => ChecksumBy::None,
            _ => ChecksumBy::LastModified,
        },
        keep_checksum: options.keep_checksum,
        locations: if options.absolute_locations {
            Locations::Absolute
        } else {
            Locations::Relative
        },
        limits: LimitOptions {
            memory: options.memory,
            references_per_manifest: options.references_per_manifest,
            references_per_commit: options.references_per_commit,
            concurrency: options.concurrency.try_into()?,
            small_buffers,
            apart: apart(options.requests_per_second),
            ..LimitOptions::default()
        },
        message: options.message,
        finish: Finish {
            publish: options.publish,
            expect_complete: options.expect_complete,
            expect_count: options.expect_count,
            read_check: options.read_check,
        },
        decoder: decoder.map(self::decoder),
        crew: None,
        restart: options.restart,
        unsafe_target: options.unsafe_target,
    })
}

/// The time between two requests, of which there are at most so many a second.
pub(crate) fn apart(requests_per_second: Option<f64>) -> Option<Duration> {
    requests_per_second.and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok())
}

fn mode(name: &str) -> PyResult<Mode> {
    [Mode::Create, Mode::Append, Mode::Overwrite, Mode::Update, Mode::Sync]
        .into_iter()
        .find(|mode| mode.name() == name)
        .ok_or_else(|| PyValueError::new_err(format!("unknown mode {name}")))
}

/// Completes when the caller asks to stop; never, when nobody is left to ask.
pub(crate) async fn stop(stopped: oneshot::Receiver<()>) {
    if stopped.await.is_err() {
        std::future::pending::<()>().await;
    }
}

pub(crate) async fn interruptible<T>(
    work: impl Future<Output = refreeze::Result<T>>,
    stopped: oneshot::Receiver<()>,
) -> refreeze::Result<T> {
    tokio::select! {
        outcome = work => outcome,
        () = stop(stopped) => Err(refreeze::Error::new(ErrorKind::Interrupted, "interrupted")),
    }
}

/// Calls `function` with a metadata document and a chunk; what it raises is what is wrong.
fn decoder(function: Py<PyAny>) -> Decoder {
    Decoder(Arc::new(move |document, chunk| {
        Python::attach(|py| {
            let (document, chunk) = (PyBytes::new(py, document), PyBytes::new(py, chunk));
            function.call1(py, (document, chunk)).map(drop).map_err(|raised| raised.to_string())
        })
    }))
}

/// Calls `function` with a dictionary, not more often than [`PROGRESS_INTERVAL`] but for changes
/// of stage. What it raises is reported as unraisable: progress must not end an ingest.
pub(crate) fn callback(function: Option<Py<PyAny>>) -> OnProgress {
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
    event.set_item("array_chunks_found", progress.array_chunks_found)?;
    event.set_item("array_chunks_possible", progress.array_chunks_possible)?;
    event.set_item("chunks_possible", progress.chunks_possible)?;
    event.set_item("list_requests", progress.list_requests)?;
    event.set_item("keys_listed", progress.keys_listed)?;
    event.set_item("chunks_found", progress.chunks_found)?;
    event.set_item("references_written", progress.references_written)?;
    event.set_item("commits", progress.commits)?;
    Ok(event)
}
