//! How a run starts: it is done already, it is new, or an earlier attempt is resumed.
//!
//! What is decided here is what stands before anything is listed for good: the arrays as the run
//! knows them, the repository's configuration, the staging branch. Listing comes after it.

use std::sync::Arc;

use icechunk::format::SnapshotId;
use icechunk::format::snapshot::Snapshot;

use super::prepare::Survey;
use super::resume::Left;
use super::tally::Tally;
use super::{IngestJob, IngestReport, JobArray, begin, nodes, prepare, resume};
use crate::commit::{STAGING_PREFIX, StagedRun, Staging};
use crate::error::TargetContext as _;
use crate::list::limit::ConcurrencyLimit;
use crate::plan::{Fingerprint, PlanLimits};
use crate::progress::OnProgress;
use crate::target::container::SourceContainer;
use crate::target::{Target, effective_split};
use crate::{Error, ErrorKind, Result};

/// How a run starts.
pub(super) enum Start {
    /// Nothing is to be done.
    Done(Box<IngestReport>),
    /// From the beginning.
    New(Box<New>),
    /// Where an earlier attempt was stopped.
    Resumed(Box<Resumed>),
}

/// What a new run begins with.
pub(super) struct New {
    fingerprint: Fingerprint,
    tip: Tip,
    /// What is there of the nodes to be made.
    existing: nodes::Found,
    warnings: Vec<String>,
}

/// An unfinished run that is to be resumed.
pub(super) struct Resumed {
    run: StagedRun,
    warnings: Vec<String>,
}

/// A run that has begun: what listing and committing need of it.
pub(super) struct Begun<'a> {
    pub(super) target: &'a Target,
    pub(super) staging: Staging<'a>,
    pub(super) tally: Tally<'a>,
    /// How full the arrays are.
    pub(super) survey: Survey,
    /// Chunks along each dimension of an array's manifests, by position.
    pub(super) splits: Vec<Vec<u32>>,
    /// Requests in flight, over all arrays.
    pub(super) in_flight: Arc<ConcurrencyLimit>,
}

/// Looks at unfinished runs and at what stands in the target. With `restart` unfinished runs of the
/// same arrays are discarded.
pub(super) async fn look(
    target: &Target,
    job: &IngestJob,
    containers: &[SourceContainer],
) -> Result<Start> {
    let repository = target.repository();
    let tip = branch_tip(target, &job.branch).await?;
    let fingerprint = job.fingerprint();
    let Left { runs, published, mut warnings } =
        resume::look(repository, job, &fingerprint).await?;
    if let Some(run) = published
        && let Some(report) =
            begin::already_there(target, job, &tip.snapshot, &run, containers, &warnings).await?
    {
        return Ok(Start::Done(Box::new(report)));
    }
    if let Some(run) = runs.into_iter().next() {
        resume::check_not_at_work(&run, job.mode, target.is_locked())?;
        return Ok(Start::Resumed(Box::new(Resumed { run, warnings })));
    }
    match begin::look(target, job, &tip.snapshot, &fingerprint, containers).await? {
        begin::Existing::Done(report) => Ok(Start::Done(report)),
        begin::Existing::Found(mut existing) => {
            warnings.append(&mut existing.warnings);
            Ok(Start::New(Box::new(New { fingerprint, tip, existing, warnings })))
        }
    }
}

/// Begins a run with its first commit.
pub(super) async fn anew<'a>(
    target: &'a mut Target,
    job: &IngestJob,
    containers: &[SourceContainer],
    new: Box<New>,
    on_progress: &'a OnProgress,
) -> Result<Begun<'a>> {
    let New { fingerprint, tip, existing, warnings } = *new;
    let limits = PlanLimits::from(job.limits);
    let in_flight = ConcurrencyLimit::within(limits.in_flight, limits.apart);
    let survey = prepare::expectations(job, limits, &in_flight).await?;
    target.configure(&prepare::additions(containers, job, &survey, limits)).await?;
    let target: &'a Target = target;
    let mut tally = Tally::new(&job.arrays, warnings, on_progress);
    tally.requested(survey.list_requests);
    let splits = splits(target, &job.arrays)?;
    let together = references_together(job, &survey, limits).await?;
    let at_once = if job.crew.is_none() { limits.references_at_once } else { together };
    let prepared = begin::Prepared {
        options: job.run_options(),
        fingerprint,
        base: tip.exists.then(|| tip.snapshot.to_string()),
        tip: tip.snapshot,
        batches: prepare::batches(&job.arrays, &splits, &survey, together, at_once),
        splits: &splits,
        job,
    };
    let staging = begin::begin(target.repository(), prepared, &existing, &mut tally).await?;
    Ok(Begun { target, staging, tally, survey, splits, in_flight })
}

/// Resumes a run as it was planned when it began: the job's arrays take the shapes of then.
pub(super) async fn resumed<'a>(
    target: &'a mut Target,
    job: &mut IngestJob,
    containers: &[SourceContainer],
    resumed: Box<Resumed>,
    on_progress: &'a OnProgress,
) -> Result<Begun<'a>> {
    let Resumed { run, mut warnings } = *resumed;
    let repository = target.repository();
    let then = resume::check(repository, &run, &job.run_options(), &job.specs()).await?;
    job.arrays = resume::reshaped(std::mem::take(&mut job.arrays), then.arrays);
    warnings.extend(then.warnings);
    let limits = PlanLimits::from(job.limits);
    let in_flight = ConcurrencyLimit::within(limits.in_flight, limits.apart);
    let survey = if run.is_complete() {
        Survey::dense(&job.arrays)
    } else {
        prepare::expectations(job, limits, &in_flight).await?
    };
    let mut additions = prepare::additions(containers, job, &survey, limits);
    // Its splits were stored when it began.
    additions.splits.clear();
    target.configure(&additions).await?;
    let target: &'a Target = target;
    let mut tally = Tally::new(&job.arrays, warnings, on_progress);
    tally.requested(survey.list_requests);
    let splits = splits(target, &job.arrays)?;
    for addition in run.completed.iter().flat_map(|commit| &commit.arrays) {
        tally.resume(addition);
    }
    let staging = Staging::resume(target.repository(), run, job.message.clone())?;
    Ok(Begun { target, staging, tally, survey, splits, in_flight })
}

/// Expected references of a batch: a commit, or a unit of those who work on it.
pub(super) async fn references_together(
    job: &IngestJob,
    survey: &Survey,
    limits: PlanLimits,
) -> Result<u64> {
    let most = limits.references_per_commit;
    let Some(crew) = &job.crew else { return Ok(most) };
    let least = u64::from(limits.references_per_manifest);
    crew.references_per_unit(survey.expected(), least, most).await
}

fn splits(target: &Target, arrays: &[JobArray]) -> Result<Vec<Vec<u32>>> {
    arrays.iter().map(|array| effective_split(target.repository(), &array.spec)).collect()
}

/// The snapshot to build on.
struct Tip {
    snapshot: SnapshotId,
    /// Whether the branch is there; otherwise publishing creates it.
    exists: bool,
}

/// The tip of a branch, or where one begins that is not there.
async fn branch_tip(target: &Target, branch: &str) -> Result<Tip> {
    let repository = target.repository();
    let reading = || format!("read the branches of {}", target.url());
    let branches = repository.list_branches().await.doing(reading)?;
    if branches.contains(branch) {
        let snapshot = repository.lookup_branch(branch).await.doing(reading)?;
        return Ok(Tip { snapshot, exists: true });
    }
    let main = repository.lookup_branch("main").await.doing(reading)?;
    let nothing_but_staged =
        branches.iter().all(|name| name == "main" || name.starts_with(STAGING_PREFIX));
    if target.is_new() || (nothing_but_staged && main == Snapshot::INITIAL_SNAPSHOT_ID) {
        // Nobody had a chance to create the branch: it begins at the empty first snapshot.
        return Ok(Tip { snapshot: main, exists: false });
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
