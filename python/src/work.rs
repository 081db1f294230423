//! The task of a worker: one unit of a plan. Who hands it out is not known here.

use pyo3::prelude::*;
use refreeze::jobs::ingest::{JobSource, carry_out as run_unit};
use refreeze::plan::LimitOptions;

use crate::concurrency::PyConcurrency;
use crate::ingest::{apart, interruptible, target};
use crate::runtime::run;
use crate::stores::source;

/// Does one unit of a plan; see `refreeze.work.carry_out`. Documents are JSON.
#[pyfunction]
#[pyo3(signature = (
    plan, unit, sources, target, *, source_urls, memory, concurrency, requests_per_second=None
))]
#[expect(clippy::too_many_arguments, reason = "the parts of one Python call, most by keyword")]
pub(crate) fn carry_out(
    py: Python<'_>,
    plan: String,
    unit: String,
    sources: Vec<(Bound<'_, PyAny>, String)>,
    target: &Bound<'_, PyAny>,
    source_urls: Vec<String>,
    memory: u64,
    concurrency: PyConcurrency,
    requests_per_second: Option<f64>,
) -> PyResult<String> {
    let location = self::target(target)?;
    let sources = sources
        .into_iter()
        .zip(source_urls)
        .map(|((store, path), url)| Ok(JobSource { source: source(&store, &path)?, url }))
        .collect::<PyResult<Vec<_>>>()?;
    let limits = LimitOptions {
        memory,
        concurrency: concurrency.try_into()?,
        small_buffers: sources.iter().all(|source| source.source.has_small_buffers()),
        apart: apart(requests_per_second),
        ..LimitOptions::default()
    };
    run(py, |stopped| async move {
        interruptible(run_unit(&plan, &unit, &sources, &location, limits), stopped).await
    })
}
