//! Everything up to the first commit: how full the arrays are, manifest splits, batches, and the
//! metadata and coordinates that the run begins with.

use std::collections::HashSet;
use std::sync::Arc;

use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::store::Store;
use tokio::sync::RwLock;

use super::queue::Expectation;
use super::tally::Tally;
use super::{IngestJob, has_references, native, nodes, resume};
use crate::commit::{Completed, RunIdentity, RunOptions, RunRecord, Staging, new_run_id};
use crate::container::SourceContainer;
use crate::error::TargetContext as _;
use crate::list::limit::ConcurrencyLimit;
use crate::list::probe::{DEFAULT_PROBE_REQUESTS, probe};
use crate::metadata::{ArrayLayout, ArrayNode};
use crate::plan::{Batches, ExpectedArray, PlanLimits, split_rules};
use crate::region::ChunkBox;
use crate::target::Additions;
use crate::{Error, ErrorKind, Result};

/// How many chunks each array is expected to have.
#[derive(Debug, Clone)]
pub(super) struct Survey {
    chunks: Vec<u64>,
    pub(super) list_requests: u64,
}

impl Survey {
    /// Every chunk is expected.
    pub(super) fn dense(arrays: &[ArrayNode]) -> Self {
        let chunks = arrays.iter().map(|array| array.layout.chunks()).collect();
        Self { chunks, list_requests: 0 }
    }

    /// What the queue works with.
    pub(super) fn expectations(&self, arrays: &[ArrayNode]) -> Vec<Expectation> {
        let known = arrays.iter().zip(&self.chunks);
        known.map(|(array, expected)| Expectation::new(array.layout.chunks(), *expected)).collect()
    }
}

/// Looks at the arrays that have room for more than one commit.
pub(super) async fn expectations(
    job: &IngestJob,
    limits: PlanLimits,
    limit: &Arc<ConcurrencyLimit>,
) -> Result<Survey> {
    let mut survey = Survey::dense(&job.arrays);
    for (array, chunks) in job.arrays.iter().zip(&mut survey.chunks) {
        if array.loaded || *chunks <= limits.references_per_commit {
            continue;
        }
        // One request for every hundred pages: what is saved is never worth more.
        let worthwhile = usize::try_from(*chunks / 100_000).unwrap_or(usize::MAX);
        let requests = worthwhile.min(DEFAULT_PROBE_REQUESTS);
        if requests == 0 {
            continue;
        }
        let region = ChunkBox::whole(&array.layout);
        let density = probe(&job.source, array, &region, requests, Arc::clone(limit)).await?;
        *chunks = density.chunks_expected.min(*chunks);
        survey.list_requests += density.list_requests;
    }
    Ok(survey)
}

/// What the repository's configuration lacks for this ingest.
pub(super) fn additions(
    container: &SourceContainer,
    arrays: &[ArrayNode],
    survey: &Survey,
    limits: PlanLimits,
) -> Additions {
    let needed = !container.is_configured() && has_references(arrays);
    Additions {
        container: needed.then(|| container.container().clone()),
        splits: split_rules(arrays, &survey.chunks, limits),
    }
}

/// The batches of the referenced arrays.
pub(super) fn batches(
    arrays: &[ArrayNode],
    splits: &[Vec<u32>],
    survey: &Survey,
    limits: PlanLimits,
) -> Batches {
    let expectations = survey.expectations(arrays);
    let names: Vec<_> = arrays.iter().map(ArrayNode::dimension_names).collect();
    let known = arrays.iter().zip(splits).zip(&expectations).zip(&names).enumerate();
    let expected: Vec<_> = known
        .filter(|(_, (((array, _), _), _))| !array.loaded)
        .map(|(position, (((array, split), expectation), names))| ExpectedArray {
            array: position,
            layout: &array.layout,
            leading: names.first().and_then(Option::as_deref),
            split: split.clone(),
            expected: expectation.of(array.layout.chunks()),
        })
        .collect();
    Batches::new(&expected, limits.references_per_commit)
}

/// What the first commit is made of.
pub(super) struct Prepared<'a> {
    pub(super) job: &'a IngestJob,
    pub(super) options: RunOptions,
    pub(super) fingerprint: String,
    /// The snapshot to build on.
    pub(super) tip: SnapshotId,
    /// The same, if the branch exists.
    pub(super) base: Option<String>,
    pub(super) batches: Batches,
}

/// Commits metadata and copied chunks, and with them the resolved plan.
pub(super) async fn begin<'a>(
    repository: &'a Repository,
    prepared: Prepared<'_>,
    existing: &HashSet<String>,
    tally: &mut Tally<'_>,
) -> Result<Staging<'a>> {
    let Prepared { job, options, fingerprint, tip, base, batches } = prepared;
    let on = if base.is_some() { job.branch.as_str() } else { "main" };
    let session =
        repository.writable_session(on).await.doing(|| format!("open a session on branch {on}"))?;
    if *session.snapshot_id() != tip {
        return Err(Error::new(ErrorKind::Conflict, format!("branch {on} has just moved"))
            .with_hint("run the same command again"));
    }
    let store = Store::from_session(Arc::new(RwLock::new(session))).await;
    nodes::create(&store, &job.groups, &job.arrays, existing).await?;
    let arrays = native::copy(&store, &job.source, &job.arrays, job.empty_chunks, tally).await?;
    let created = job.groups.iter().filter(|group| !existing.contains(&group.path));
    let layouts: Vec<ArrayLayout> = job.arrays.iter().map(|array| array.layout.clone()).collect();
    let batches_total = batches.count(&layouts);
    let mut record = RunRecord::new(
        job.branch.clone(),
        base,
        options,
        job.arrays.iter().map(resume::recorded).collect(),
        created.map(|group| group.path.clone()).collect(),
    );
    record.batches = batches;
    record.batches_total = batches_total;
    let identity =
        RunIdentity { run_id: new_run_id(), fingerprint, source: job.source_url.clone() };
    let completed = Completed { all: batches_total == 0, arrays, ..Completed::default() };
    Staging::begin(repository, &store, identity, record, job.message.clone(), completed).await
}
