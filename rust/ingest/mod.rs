//! The main job: metadata, references and their publication, in order.
//!
//! Whatever fails, the target branch is where it was. A run that fails removes its staging
//! branch, except when it lost the race for the target branch: then its work is kept.

mod check;
mod native;
mod nodes;
mod references;
mod report;
mod tally;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use icechunk::format::SnapshotId;
use serde_json::json;

pub use report::{ArrayReport, IngestReport};
use tally::Tally;

use crate::batch::EmptyChunks;
use crate::commit::{PublishedRun, RunDescription, Staging, find_published};
use crate::container::SourceContainer;
use crate::error::TargetContext as _;
use crate::list::limit::ConcurrencyLimit;
use crate::metadata::{ArrayNode, GroupNode};
use crate::plan::{Plan, PlanLimits};
use crate::progress::OnProgress;
use crate::source::Source;
use crate::target::{Additions, Target, TargetLocation};
use crate::{Error, ErrorKind, Result};

/// Time given to removing a staging branch after a failure; what is left is harmless.
const CLEAN_UP: Duration = Duration::from_millis(1_200);

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
    /// How many references go where.
    pub limits: PlanLimits,
    /// LIST requests in flight, over all arrays.
    pub concurrency: usize,
    /// The user's message for every commit.
    pub message: Option<String>,
}

/// Ingests a Zarr store into an Icechunk repository (mode *create*).
///
/// `cancelled` ends the job when it completes: the staging branch is removed and the result is an
/// error of kind [`ErrorKind::Interrupted`]. Once publishing has begun it is waited for, so that
/// the result tells what happened.
///
/// # Errors
///
/// Of every kind; the target branch is unchanged whenever there is one.
pub async fn ingest(
    job: IngestJob,
    on_progress: OnProgress,
    cancelled: impl Future<Output = ()>,
) -> Result<IngestReport> {
    let mut target = None;
    let mut staged = None;
    let publishing = AtomicBool::new(false);
    let outcome = {
        let work = run(job, &mut target, &mut staged, &publishing, &on_progress);
        let mut work = std::pin::pin!(work);
        tokio::select! {
            outcome = &mut work => outcome,
            () = cancelled => {
                if publishing.load(Ordering::Relaxed) {
                    work.await
                } else {
                    Err(Error::new(ErrorKind::Interrupted, "interrupted")
                        .with_hint("nothing was published; run the same command again"))
                }
            }
        }
    };
    if let (Err(error), Some(target), Some(branch)) = (&outcome, &target, &staged)
        && error.kind() != ErrorKind::Conflict
    {
        // Best effort: the error at hand matters more, and a left-over branch shows nothing.
        let removal = Target::repository(target).delete_branch(branch);
        let _ = tokio::time::timeout(CLEAN_UP, removal).await;
    }
    outcome
}

async fn run(
    job: IngestJob,
    opened: &mut Option<Target>,
    staged: &mut Option<String>,
    publishing: &AtomicBool,
    on_progress: &OnProgress,
) -> Result<IngestReport> {
    let IngestJob { source, target, branch, groups, arrays, empty_chunks, .. } = &job;
    let plan = Plan::new(&source.url_prefix(), groups, arrays, *empty_chunks, job.limits);
    let target = opened.insert(Target::open_or_create(target).await?);
    let (tip, branch_exists) = branch_tip(target, branch).await?;
    let container = SourceContainer::new(target.stored_config().await?.as_ref(), source)?;

    let found = nodes::find(target.repository(), &tip, groups, arrays).await?;
    let complete = found.arrays.len() == arrays.len() && found.groups.len() == groups.len();
    if complete || !found.arrays.is_empty() {
        let published = find_published(target.repository(), branch, &plan.fingerprint).await?;
        return match published {
            Some(run) if complete => Ok(already_published(&run, &job, target.url(), &container)),
            _ if found.arrays.is_empty() => {
                Ok(nothing_to_create(&tip, &job, target.url(), &container, found.warnings))
            }
            _ => Err(nodes::already_there(&found.arrays, target.url())),
        };
    }

    target.configure(&additions(&container, &plan, arrays)).await?;
    let target = &*target;
    let mut staging =
        Staging::begin(target.repository(), branch, branch_exists, tip, describe(&job, &plan))
            .await?;
    *staged = Some(staging.name());

    let mut tally = Tally::new(arrays, found.warnings, on_progress);
    let store = staging.store().await?;
    nodes::create(&store, groups, arrays, &found.groups).await?;
    native::copy(&store, source, arrays, *empty_chunks, &mut tally).await?;
    let created: Vec<_> = arrays.iter().map(|array| array.path.as_str()).collect();
    staging.commit(&store, "metadata and coordinates", json!({ "created": created })).await?;

    let work = references::Work {
        source,
        container: &container,
        arrays,
        empty_chunks: *empty_chunks,
        limits: plan.limits,
        in_flight: ConcurrencyLimit::new(job.concurrency),
    };
    references::ingest(&work, &mut staging, &mut tally).await?;

    tally.begin("check");
    check::read_back(target.repository(), staging.tip(), &work, &tally).await?;
    publishing.store(true, Ordering::Relaxed);
    tally.begin("publish");
    staging.publish().await?;
    *staged = None;
    if staging.remove().await.is_err() {
        tally.warn(format!("the staging branch {} could not be deleted", staging.name()));
    }
    tally.begin("done");
    Ok(report(&job, target.url(), &container, &staging, tally))
}

/// What the repository's configuration lacks for this ingest.
fn additions(container: &SourceContainer, plan: &Plan, arrays: &[ArrayNode]) -> Additions {
    let needed = !container.is_configured() && has_references(arrays);
    Additions {
        container: needed.then(|| container.container().clone()),
        splits: plan.splits.clone(),
    }
}

fn has_references(arrays: &[ArrayNode]) -> bool {
    arrays.iter().any(|array| !array.loaded)
}

fn describe(job: &IngestJob, plan: &Plan) -> RunDescription {
    RunDescription {
        plan: plan.fingerprint.clone(),
        source: job.source_url.clone(),
        message: job.message.clone(),
    }
}

fn report(
    job: &IngestJob,
    target: &str,
    container: &SourceContainer,
    staging: &Staging<'_>,
    tally: Tally<'_>,
) -> IngestReport {
    let (manifests_written, manifest_bytes) = staging.manifests();
    let tally = tally.finish(&job.arrays);
    IngestReport {
        run_id: staging.run_id().to_owned(),
        snapshot_id: staging.tip().to_string(),
        commits: staging.commits(),
        manifests_written,
        manifest_bytes,
        list_requests: tally.list_requests,
        keys_listed: tally.keys_listed,
        references_written: tally.references_written,
        bytes_referenced: tally.bytes_referenced,
        arrays: tally.reports,
        warnings: tally.warnings,
        ..blank_report(job, target, container)
    }
}

fn already_published(
    run: &PublishedRun,
    job: &IngestJob,
    target: &str,
    container: &SourceContainer,
) -> IngestReport {
    IngestReport {
        run_id: run.run_id.clone(),
        snapshot_id: run.snapshot_id.to_string(),
        already_published: true,
        arrays: job.arrays.iter().map(ArrayReport::unread).collect(),
        warnings: vec![format!(
            "this ingest was published before, as snapshot {}; nothing was written",
            run.snapshot_id
        )],
        ..blank_report(job, target, container)
    }
}

/// The report of groups without arrays that are all in the target.
fn nothing_to_create(
    tip: &SnapshotId,
    job: &IngestJob,
    target: &str,
    container: &SourceContainer,
    mut warnings: Vec<String>,
) -> IngestReport {
    warnings.push(format!(
        "{} has no arrays to ingest, and its groups are in the target; nothing was written",
        job.source_url
    ));
    IngestReport {
        snapshot_id: tip.to_string(),
        already_published: true,
        warnings,
        ..blank_report(job, target, container)
    }
}

/// What a report says of the job itself.
fn blank_report(job: &IngestJob, target: &str, container: &SourceContainer) -> IngestReport {
    let prefix = container.container().url_prefix();
    IngestReport {
        source: job.source_url.clone(),
        target: target.to_owned(),
        branch: job.branch.clone(),
        container: if has_references(&job.arrays) { prefix.to_owned() } else { String::new() },
        ..IngestReport::default()
    }
}

/// The snapshot to build on, and whether the branch is there already.
async fn branch_tip(target: &Target, branch: &str) -> Result<(SnapshotId, bool)> {
    let repository = target.repository();
    let reading = || format!("read the branches of {}", target.url());
    let branches = repository.list_branches().await.doing(reading)?;
    if branches.contains(branch) {
        return Ok((repository.lookup_branch(branch).await.doing(reading)?, true));
    }
    if target.is_new() {
        // Nobody had a chance to create the branch: it begins at the empty first snapshot.
        return Ok((repository.lookup_branch("main").await.doing(reading)?, false));
    }
    let known: Vec<_> =
        branches.into_iter().filter(|name| !name.starts_with("refreeze/")).collect();
    Err(Error::new(
        ErrorKind::Target,
        format!("{} has no branch {branch} (branches: {})", target.url(), known.join(", ")),
    )
    .with_hint(format!(
        "create it with repo.create_branch(\"{branch}\", snapshot_id), or use another --branch"
    )))
}
