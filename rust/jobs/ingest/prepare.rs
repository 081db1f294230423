//! What is decided before the first commit: how full arrays are, containers, splits, batches.

use std::sync::Arc;

use icechunk::config::RepositoryConfig;

use super::expectation::Expectation;
use super::{IngestJob, JobArray, JobSource};
use crate::density::probe::probe;
use crate::density::{DEFAULT_PROBE_REQUESTS, Looks};
use crate::grid::piece::chunks_of;
use crate::list::limit::ConcurrencyLimit;
use crate::plan::{Batches, ExpectedArray, PlanLimits, split_rules};
use crate::target::Additions;
use crate::target::container::SourceContainer;
use crate::zarr::metadata::ArraySpec;
use crate::{Error, ErrorKind, Result};

/// How many chunks each array is expected to have where it is listed.
#[derive(Debug, Clone)]
pub(in crate::jobs) struct Survey {
    chunks: Vec<u64>,
    /// Which arrays were looked at.
    looked_at: Vec<bool>,
    pub(in crate::jobs) list_requests: u64,
}

impl Survey {
    /// Every chunk is expected.
    pub(in crate::jobs) fn dense(arrays: &[JobArray]) -> Self {
        let chunks = arrays.iter().map(|array| chunks_of(&array.pieces)).collect();
        Self { chunks, looked_at: vec![false; arrays.len()], list_requests: 0 }
    }

    /// Chunks expected in all.
    pub(super) fn expected(&self) -> u64 {
        self.chunks.iter().copied().fold(0, u64::saturating_add)
    }

    /// What the queue works with.
    pub(in crate::jobs) fn expectations(&self, arrays: &[JobArray]) -> Vec<Expectation> {
        let known = arrays.iter().zip(&self.chunks).zip(&self.looked_at);
        known
            .map(|((array, expected), looked_at)| {
                Expectation::new(chunks_of(&array.pieces), *expected).where_looked_at(*looked_at)
            })
            .collect()
    }
}

/// Looks at the arrays that have room for more than one commit.
pub(in crate::jobs) async fn expectations(
    job: &IngestJob,
    limits: PlanLimits,
    limit: &Arc<ConcurrencyLimit>,
) -> Result<Survey> {
    let mut survey = Survey::dense(&job.arrays);
    let known = survey.chunks.iter_mut().zip(&mut survey.looked_at);
    for (array, (chunks, looked_at)) in job.arrays.iter().zip(known) {
        if array.spec.copied || *chunks <= limits.references_per_commit {
            continue;
        }
        let mut expected = 0_u64;
        *looked_at = true;
        for piece in &array.pieces {
            let possible = piece.target.chunks();
            // One request for every hundred pages: what is saved is never worth more.
            let worthwhile = usize::try_from(possible / 100_000).unwrap_or(usize::MAX);
            let requests = worthwhile.min(DEFAULT_PROBE_REQUESTS);
            let Some(source) = job.sources.get(piece.source) else { continue };
            if requests == 0 {
                *looked_at = false;
                expected = expected.saturating_add(possible);
                continue;
            }
            let region = piece.shift.box_in_source(&piece.target);
            let limit = Arc::clone(limit);
            let looks = Looks { requests, at_once: true };
            let density = probe(&source.source, &piece.array, &region, looks, limit).await?;
            *looked_at &= density.list_requests > 0;
            expected = expected.saturating_add(density.chunks_expected.min(possible));
            survey.list_requests += density.list_requests;
        }
        *chunks = expected;
    }
    Ok(survey)
}

/// The virtual chunk container of each source, by position.
pub(in crate::jobs) fn containers(
    stored: Option<RepositoryConfig>,
    job: &IngestJob,
) -> Result<Vec<SourceContainer>> {
    containers_of(stored, &job.sources)
}

/// The same for sources alone.
pub(super) fn containers_of(
    stored: Option<RepositoryConfig>,
    sources: &[JobSource],
) -> Result<Vec<SourceContainer>> {
    let mut config = stored;
    let mut containers = Vec::with_capacity(sources.len());
    for source in sources {
        let container = SourceContainer::new(config.as_ref(), &source.source)?;
        if !container.is_configured() {
            // A later source may lie in it.
            config
                .get_or_insert_default()
                .set_virtual_chunk_container(container.container().clone())
                .map_err(|error| {
                    let doing = format!("use {} as a source", source.url);
                    Error::new(ErrorKind::Target, format!("cannot {doing}: {error}"))
                })?;
        }
        containers.push(container);
    }
    Ok(containers)
}

/// What the repository's configuration lacks for this ingest.
pub(in crate::jobs) fn additions(
    containers: &[SourceContainer],
    job: &IngestJob,
    survey: &Survey,
    limits: PlanLimits,
) -> Additions {
    let referenced = job.arrays.iter().filter(|array| !array.spec.copied);
    let pieces: Vec<_> = referenced.flat_map(|array| &array.pieces).collect();
    let needed = containers.iter().enumerate().filter(|(position, container)| {
        !container.is_configured() && pieces.iter().any(|piece| piece.source == *position)
    });
    let containers = needed.map(|(_, container)| container.container().clone()).collect();
    // Arrays that stay keep the splits that they have.
    let made = |path: &String| !job.mode.keeps_arrays() || job.added.contains(path);
    let (nodes, chunks): (Vec<_>, Vec<_>) =
        job.specs().into_iter().zip(&survey.chunks).filter(|(spec, _)| made(&spec.path)).unzip();
    let splits = if nodes.is_empty() { Vec::new() } else { split_rules(&nodes, &chunks, limits) };
    Additions { containers, splits }
}

/// The batches of the referenced arrays: of about `references`, or several that are about as many
/// where it is possible to have fewer `at_once`.
pub(in crate::jobs) fn batches(
    arrays: &[JobArray],
    splits: &[Vec<u32>],
    survey: &Survey,
    references: u64,
    at_once: u64,
) -> Batches {
    let expectations = survey.expectations(arrays);
    let nodes = || arrays.iter().map(|array| &array.spec);
    let names: Vec<_> = nodes().map(ArraySpec::dimension_names).collect();
    let known = arrays.iter().zip(splits).zip(&expectations).zip(&names).enumerate();
    let expected: Vec<_> = known
        .filter(|(_, (((array, _), _), _))| !array.spec.copied && !array.pieces.is_empty())
        .map(|(position, (((array, split), expectation), names))| ExpectedArray {
            array: position,
            layout: &array.spec.layout,
            leading: names.first().and_then(Option::as_deref),
            split: split.clone(),
            expected: expectation.of(array.spec.layout.chunks()),
        })
        .collect();
    Batches::in_steps(&expected, references, at_once)
}
