//! The main job: metadata, references and their publication, in order.
//!
//! Whatever fails, the target branch is where it was, and what was committed to the staging branch
//! is there for the next attempt.

mod check;
mod complete;
mod native;
mod nodes;
mod prepare;
mod publish;
mod queue;
mod references;
mod report;
mod resume;
mod status;
mod tally;

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::format::snapshot::Snapshot;

pub use publish::{PublishJob, PublishReport, publish};
pub use report::{ArrayReport, IngestReport};
pub use status::{RunStatus, status};
use tally::Tally;

use crate::batch::EmptyChunks;
use crate::commit::{
    RunOptions, STAGING_PREFIX, Staging, find_published, remove, remove_finished, staged_runs,
};
use crate::container::{Locations, SourceContainer};
use crate::error::TargetContext as _;
use crate::list::limit::ConcurrencyLimit;
use crate::metadata::{ArrayLayout, ArrayNode, GroupNode};
use crate::plan::{LimitOptions, PlanLimits, fingerprint};
use crate::progress::OnProgress;
use crate::source::Source;
use crate::target::{Target, TargetLocation, effective_split};
use crate::{Error, ErrorKind, Result};

/// Everything an ingest needs to know.
#[derive(Debug)]
pub struct IngestJob {
    /// Where the chunks are.
    pub source: Source,
    /// The source as the user named it, free of credentials.
    pub source_url: String,
    /// Where the repository is or will be.
    pub target: TargetLocation,
    /// The branch to publish on.
    pub branch: String,
    /// Groups to create, parents before children.
    pub groups: Vec<GroupNode>,
    /// Arrays to create and fill.
    pub arrays: Vec<ArrayNode>,
    /// What to do with empty objects under chunk keys.
    pub empty_chunks: EmptyChunks,
    /// How references name their objects.
    pub locations: Locations,
    /// How many references go where.
    pub limits: LimitOptions,
    /// The user's message for every commit.
    pub message: Option<String>,
    /// What to do when everything is committed.
    pub finish: Finish,
    /// Discard an unfinished run of these arrays instead of going on with it.
    pub restart: bool,
    /// Take a target that may not be safe for concurrent writers.
    pub trust_target: bool,
}

/// What is checked, and done, when everything is committed to the staging branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finish {
    /// Publish; otherwise the run stays staged.
    pub publish: bool,
    /// Every chunk must be there.
    pub expect_complete: bool,
    /// There must be so many references, over all arrays.
    pub expect_count: Option<u64>,
    /// Read one reference of each array.
    pub read_check: bool,
}

impl Default for Finish {
    fn default() -> Self {
        Self { publish: true, expect_complete: false, expect_count: None, read_check: true }
    }
}

/// Ingests a Zarr store into an Icechunk repository (mode *create*).
///
/// A run that was stopped is gone on with: what is committed on its staging branch is not listed
/// again. `cancelled` ends the job when it completes, with an error of kind
/// [`ErrorKind::Interrupted`]. Once publishing has begun it is waited for, so that the result tells
/// what happened.
///
/// # Errors
///
/// Of every kind; the target branch is unchanged whenever there is one.
pub async fn ingest(
    job: IngestJob,
    on_progress: OnProgress,
    cancelled: impl Future<Output = ()>,
) -> Result<IngestReport> {
    let publishing = AtomicBool::new(false);
    let work = run(job, &publishing, &on_progress);
    let mut work = std::pin::pin!(work);
    tokio::select! {
        outcome = &mut work => outcome,
        () = cancelled => {
            if publishing.load(Ordering::Relaxed) {
                work.await
            } else {
                Err(Error::new(ErrorKind::Interrupted, "interrupted")
                    .with_hint("nothing was published; run the same command again to resume"))
            }
        }
    }
}

async fn run(
    mut job: IngestJob,
    publishing: &AtomicBool,
    on_progress: &OnProgress,
) -> Result<IngestReport> {
    let limits = PlanLimits::from(job.limits);
    let mut target = Target::open_or_create(&job.target, job.trust_target).await?;
    let (tip, branch_exists) = branch_tip(&target, &job.branch).await?;
    let container = SourceContainer::new(target.stored_config().await?.as_ref(), &job.source)?;
    let fingerprint = fingerprint(
        &job.source.url_prefix(),
        &job.groups,
        &job.arrays,
        &format!("{:?} {:?}", job.empty_chunks, job.locations),
    );

    let runs =
        remove_finished(target.repository(), staged_runs(target.repository()).await?).await?;
    let mut related = resume::related(runs, &job.branch, &job.arrays, &fingerprint);
    if job.restart {
        for run in related.drain(..) {
            remove(target.repository(), &run.branch()).await?;
        }
    }
    let lost = resume::discard_lost(target.repository(), &job, &fingerprint).await?;
    let unfinished = related.into_iter().next();
    let in_flight = ConcurrencyLimit::new(limits.concurrency);
    let (mut expected, mut existing) = (None, HashSet::new());
    let warnings;
    if let Some(run) = &unfinished {
        let resumed = resume::check(target.repository(), run, &options(&job), &job.arrays).await?;
        job.arrays = resumed.arrays;
        warnings = resumed.warnings;
        if !run.is_complete() {
            expected = Some(prepare::expectations(&job, limits, &in_flight).await?);
        }
    } else {
        let found = nodes::find(target.repository(), &tip, &job.groups, &job.arrays).await?;
        let complete =
            found.arrays.len() == job.arrays.len() && found.groups.len() == job.groups.len();
        if complete || !found.arrays.is_empty() {
            let published = find_published(target.repository(), &job.branch, &fingerprint).await?;
            return match published {
                Some(run) if complete => {
                    complete::check_published(target.repository(), &run, &job).await?;
                    Ok(report::already_published(&run, &job, target.url(), &container))
                }
                _ if found.arrays.is_empty() => {
                    complete::check_nothing(&job)?;
                    let warnings = found.warnings;
                    Ok(report::nothing_to_create(&tip, &job, target.url(), &container, warnings))
                }
                _ => Err(nodes::already_there(&found.arrays, target.url())),
            };
        }
        expected = Some(prepare::expectations(&job, limits, &in_flight).await?);
        (warnings, existing) = (found.warnings, found.groups);
    }

    let expected = expected.unwrap_or_else(|| prepare::Survey::dense(&job.arrays));
    let mut additions = prepare::additions(&container, &job.arrays, &expected, limits);
    if unfinished.is_some() {
        // Its splits were stored when it began.
        additions.splits.clear();
    }
    target.configure(&additions).await?;
    let mut tally = Tally::new(&job.arrays, [lost, warnings].concat(), on_progress);
    tally.requested(expected.list_requests);
    let splits = splits(&target, &job.arrays)?;
    let mut staging = if let Some(run) = unfinished {
        for addition in run.completed.iter().flat_map(|commit| &commit.arrays) {
            tally.resume(addition);
        }
        Staging::resume(target.repository(), run, job.message.clone())?
    } else {
        let prepared = prepare::Prepared {
            options: options(&job),
            fingerprint,
            base: branch_exists.then(|| tip.to_string()),
            tip,
            batches: prepare::batches(&job.arrays, &splits, &expected, limits),
            job: &job,
        };
        prepare::begin(target.repository(), prepared, &existing, &mut tally).await?
    };
    let work = references::Work {
        source: &job.source,
        container: &container,
        arrays: &job.arrays,
        splits: &splits,
        empty_chunks: job.empty_chunks,
        locations: job.locations,
        limits,
        in_flight,
    };
    tally.committed(staging.commits());
    fill(&work, &expected, &mut staging, &mut tally, target.repository()).await?;
    if let Err(error) =
        finish(&work, &job, &mut staging, &mut tally, publishing, target.repository()).await
    {
        // What is complete is said to be, so that it can be published later. The error at hand
        // matters more than one of this.
        let _ = staging.mark_complete().await;
        return Err(error);
    }
    tally.begin("done");
    Ok(report::report(&job, target.url(), &container, &staging, tally))
}

/// Lists and commits what the staging branch lacks.
async fn fill<'a>(
    work: &references::Work<'_>,
    expected: &prepare::Survey,
    staging: &mut Staging<'a>,
    tally: &mut Tally<'a>,
    repository: &Repository,
) -> Result<()> {
    let last = staging.last();
    if last.all {
        return Ok(());
    }
    let batches = staging.record().batches.clone();
    let layouts: Vec<ArrayLayout> = work.arrays.iter().map(|array| array.layout.clone()).collect();
    let expectations = expected.expectations(work.arrays);
    let queue = queue::Queue::new(&batches, &layouts, expectations, last.next, last.rest());
    let outcome = references::ingest(work, queue, staging, tally, repository).await;
    if let Err(error) = &outcome
        && error.kind() != ErrorKind::Conflict
        && staging.is_without_references()
    {
        // Nothing was found that is worth keeping: the next attempt may have other options.
        let _ = staging.remove().await;
    }
    outcome
}

/// Checks what is staged, and publishes it unless it is to stay staged.
async fn finish(
    work: &references::Work<'_>,
    job: &IngestJob,
    staging: &mut Staging<'_>,
    tally: &mut Tally<'_>,
    publishing: &AtomicBool,
    repository: &Repository,
) -> Result<()> {
    complete::check(job, tally)?;
    if job.finish.read_check {
        tally.begin("check");
        check::read_back(repository, staging.tip(), work, tally).await?;
    }
    if !job.finish.publish {
        return staging.mark_complete().await;
    }
    publishing.store(true, Ordering::Relaxed);
    tally.begin("publish");
    staging.publish().await?;
    if staging.remove().await.is_err() {
        tally.warn(format!("the staging branch {} could not be deleted", staging.name()));
    }
    Ok(())
}

/// The options that must be the same when a run is resumed.
fn options(job: &IngestJob) -> RunOptions {
    RunOptions {
        source: job.source.url_prefix(),
        mode: "create".to_owned(),
        empty_chunks: match job.empty_chunks {
            EmptyChunks::Error => "error",
            EmptyChunks::Skip => "skip",
        }
        .to_owned(),
        locations: match job.locations {
            Locations::Relative => "relative",
            Locations::Absolute => "absolute",
        }
        .to_owned(),
    }
}

fn splits(target: &Target, arrays: &[ArrayNode]) -> Result<Vec<Vec<u32>>> {
    arrays.iter().map(|array| effective_split(target.repository(), array)).collect()
}

fn has_references(arrays: &[ArrayNode]) -> bool {
    arrays.iter().any(|array| !array.loaded)
}

/// The snapshot to build on, and whether the branch is there already.
async fn branch_tip(target: &Target, branch: &str) -> Result<(SnapshotId, bool)> {
    let repository = target.repository();
    let reading = || format!("read the branches of {}", target.url());
    let branches = repository.list_branches().await.doing(reading)?;
    if branches.contains(branch) {
        return Ok((repository.lookup_branch(branch).await.doing(reading)?, true));
    }
    let main = repository.lookup_branch("main").await.doing(reading)?;
    let nothing_but_staged =
        branches.iter().all(|name| name == "main" || name.starts_with(STAGING_PREFIX));
    if target.is_new() || (nothing_but_staged && main == Snapshot::INITIAL_SNAPSHOT_ID) {
        // Nobody had a chance to create the branch: it begins at the empty first snapshot.
        return Ok((main, false));
    }
    let known: Vec<_> =
        branches.into_iter().filter(|name| !name.starts_with(STAGING_PREFIX)).collect();
    Err(Error::new(
        ErrorKind::Target,
        format!("{} has no branch {branch} (branches: {})", target.url(), known.join(", ")),
    )
    .with_hint(format!(
        "create it with repo.create_branch(\"{branch}\", snapshot_id), or use another --branch"
    )))
}
