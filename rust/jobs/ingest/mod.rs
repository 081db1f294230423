//! The main job: metadata, references and their publication, in order.
//!
//! Whatever fails, the target branch is where it was, and what was committed to the staging branch
//! is there for the next attempt.

mod begin;
mod check;
mod complete;
mod decoded;
mod job;
mod native;
mod nodes;
mod prepare;
mod queue;
mod references;
mod report;
mod resume;
mod tally;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::format::snapshot::Snapshot;
use icechunk::virtual_chunks::VirtualChunkContainer;

pub use decoded::{DecodeFn, Decoder};
pub use job::{Finish, IngestJob, JobArray, JobSource, Mode};
pub use report::{ArrayReport, IngestReport};
use tally::Tally;

use crate::commit::{PublishedRun, STAGING_PREFIX, Staging};
use crate::error::TargetContext as _;
use crate::list::limit::ConcurrencyLimit;
use crate::plan::PlanLimits;
use crate::progress::OnProgress;
use crate::target::{Target, effective_split};
use crate::zarr::metadata::ArrayLayout;
use crate::{Error, ErrorKind, Result};

/// Ingests Zarr stores into an Icechunk repository.
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
    let mut target = if job.mode.keeps_arrays() {
        Target::open(&job.target, job.trust_target).await?
    } else {
        Target::open_or_create(&job.target, job.trust_target).await?
    };
    let (tip, branch_exists) = branch_tip(&target, &job.branch).await?;
    let containers = prepare::containers(target.stored_config().await?, &job)?;
    let fingerprint = job.fingerprint();

    let resume::Left { runs, published, warnings: left } =
        resume::look(target.repository(), &job, &fingerprint).await?;
    if let Some(run) = published
        && let Some(report) =
            begin::already_there(&target, &job, &tip, &run, &containers, &left).await?
    {
        return Ok(report);
    }
    let unfinished = runs.into_iter().next();
    let in_flight = ConcurrencyLimit::new(limits.concurrency);
    let (mut expected, mut standing) = (None, nodes::Found::default());
    let warnings;
    if let Some(run) = &unfinished {
        resume::check_not_at_work(run, job.mode, target.is_locked())?;
        let resumed =
            resume::check(target.repository(), run, &job.run_options(), &job.nodes()).await?;
        job.arrays = resume::reshaped(std::mem::take(&mut job.arrays), resumed.arrays);
        warnings = resumed.warnings;
        if !run.is_complete() {
            expected = Some(prepare::expectations(&job, limits, &in_flight).await?);
        }
    } else {
        match begin::look(&target, &job, &tip, &fingerprint, &containers).await? {
            begin::Standing::Done(report) => return Ok(*report),
            begin::Standing::Found(found) => standing = found,
        }
        expected = Some(prepare::expectations(&job, limits, &in_flight).await?);
        warnings = std::mem::take(&mut standing.warnings);
    }

    let expected = expected.unwrap_or_else(|| prepare::Survey::dense(&job.arrays));
    let mut additions = prepare::additions(&containers, &job, &expected, limits);
    if unfinished.is_some() {
        // Its splits were stored when it began.
        additions.splits.clear();
    }
    target.configure(&additions).await?;
    let mut tally = Tally::new(&job.arrays, [left, warnings].concat(), on_progress);
    tally.requested(expected.list_requests);
    let splits = splits(&target, &job.arrays)?;
    let mut staging = if let Some(run) = unfinished {
        for addition in run.completed.iter().flat_map(|commit| &commit.arrays) {
            tally.resume(addition);
        }
        Staging::resume(target.repository(), run, job.message.clone())?
    } else {
        let prepared = begin::Prepared {
            options: job.run_options(),
            fingerprint,
            base: branch_exists.then(|| tip.to_string()),
            tip,
            batches: prepare::batches(&job.arrays, &splits, &expected, limits),
            splits: &splits,
            job: &job,
        };
        begin::begin(target.repository(), prepared, &standing, &mut tally).await?
    };
    let work = references::Work {
        sources: &job.sources,
        containers: &containers,
        arrays: &job.arrays,
        splits: &splits,
        empty_chunks: job.empty_chunks,
        locations: job.locations,
        replaces: job.mode.keeps_arrays(),
        limits,
        in_flight,
    };
    tally.committed(staging.commits());
    fill(&work, &expected, &mut staging, &mut tally, target.repository()).await?;
    let outcome =
        finish(&work, &job, &mut staging, &mut tally, publishing, target.repository()).await;
    let published = match outcome {
        Ok(Published::Before(run)) => {
            return Ok(report::published_instead(&run, &job, target.url(), &containers, tally));
        }
        Ok(published) => published,
        Err(error) => {
            return Err(kept(&mut staging, error).await);
        }
    };
    tally.begin("done");
    let mut report = report::report(&job, target.url(), &containers, &staging, tally, &published);
    if job.mode.keeps_arrays() {
        // What is there already may lie in others.
        let config = target.repository().config();
        let all = config.virtual_chunk_containers().map(VirtualChunkContainer::url_prefix);
        let more: Vec<_> =
            all.filter(|prefix| !report.containers.iter().any(|c| c == prefix)).collect();
        report.containers.extend(more.into_iter().map(str::to_owned));
    }
    Ok(report)
}

/// Says that what is complete is so, that it can be published later. The error at hand matters more
/// than one of this.
async fn kept(staging: &mut Staging<'_>, error: Error) -> Error {
    match staging.mark_complete().await {
        Err(_) if error.kind() == ErrorKind::Conflict => {
            let branch = &staging.record().branch;
            let message = format!(
                "branch {branch} moved while this ingest was running; nothing was published, and \
                 what was listed could not be kept"
            );
            Error::new(ErrorKind::Conflict, message).with_hint("run the same command again")
        }
        _ => error,
    }
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
    let layouts = layouts(work.arrays);
    let pieces: Vec<_> = work.arrays.iter().map(|array| array.pieces.as_slice()).collect();
    let plan = queue::Plan { batches: &batches, layouts: &layouts, pieces: &pieces };
    let expectations = expected.expectations(work.arrays);
    let queue = queue::Queue::new(plan, expectations, last.next, last.rest());
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

/// Checks what is staged, and publishes it unless it is to stay staged or changes nothing.
async fn finish(
    work: &references::Work<'_>,
    job: &IngestJob,
    staging: &mut Staging<'_>,
    tally: &mut Tally<'_>,
    publishing: &AtomicBool,
    repository: &Repository,
) -> Result<Published> {
    complete::check(job, tally)?;
    if job.mode.keeps_arrays() && !staging.changes_anything().await? {
        staging.remove().await?;
        return Ok(Published::Nothing);
    }
    staging.settle().await?;
    if job.finish.read_check {
        tally.begin("check");
        check::read_back(repository, staging.tip(), work, tally).await?;
    }
    if !job.finish.publish {
        staging.mark_complete().await?;
        return Ok(Published::Later);
    }
    publishing.store(true, Ordering::Relaxed);
    tally.begin("publish");
    if let Err(error) = staging.publish().await {
        return match staging.published_instead().await {
            Ok(Some(rival)) if error.kind() == ErrorKind::Conflict => {
                staging.remove().await?;
                complete::check_published(repository, &rival, job).await?;
                Ok(Published::Before(rival))
            }
            _ => Err(error),
        };
    }
    if staging.remove().await.is_err() {
        tally.warn(format!("the staging branch {} could not be deleted", staging.name()));
    }
    Ok(Published::Now)
}

/// What has become of a run that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Published {
    Now,
    /// The same, by another run at the same time.
    Before(PublishedRun),
    /// It stays staged.
    Later,
    /// There was nothing to change.
    Nothing,
}

fn splits(target: &Target, arrays: &[JobArray]) -> Result<Vec<Vec<u32>>> {
    arrays.iter().map(|array| effective_split(target.repository(), &array.node)).collect()
}

fn layouts(arrays: &[JobArray]) -> Vec<ArrayLayout> {
    arrays.iter().map(|array| array.node.layout.clone()).collect()
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
