//! The main job: metadata, references and their publication, in order.
//!
//! Whatever fails, the target branch stays where it was, and what was committed to the staging
//! branch is kept for the next attempt.

mod begin;
mod check;
mod committer;
mod complete;
mod copied;
mod crew;
mod decoded;
pub(super) mod expectation;
mod finished;
pub(super) mod gatherer;
mod job;
mod nodes;
mod outcome;
mod pipeline;
pub(super) mod prepare;
mod report;
mod resume;
pub(super) mod schedule;
mod start;
pub(super) mod tally;
mod undone;
pub(super) mod work;
pub(super) mod worker;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use icechunk::Repository;
use icechunk::virtual_chunks::VirtualChunkContainer;

use committer::{Committer, Counts};
use crew::Coordinator;
pub use crew::{Crew, Workers, carry_out};
pub(super) use crew::{RESULTS, Results, delete, named_in_results};
pub use decoded::{DecodeFn, Decoder};
pub use finished::remove_published;
pub(super) use finished::unpublished_runs;
pub use job::{Finish, IngestJob, JobArray, JobSource, Mode};
use prepare::Survey;
pub use report::{ArrayReport, IngestReport};
use schedule::Schedule;
use start::{Begun, Start};
use tally::Tally;
use work::Work;
use worker::Worker;

use crate::commit::{PublishedRun, Staging, manifest_boxes};
use crate::plan::PlanLimits;
use crate::progress::OnProgress;
use crate::target::container::SourceContainer;
use crate::target::{Target, reference_form};
use crate::zarr::metadata::ArrayLayout;
use crate::{Error, ErrorKind, Result};

/// Ingests Zarr stores into an Icechunk repository.
///
/// A run that was stopped is resumed: what is committed on its staging branch is not listed
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
    let mut target = if job.mode.keeps_arrays() {
        Target::open(&job.target, job.unsafe_target).await?
    } else {
        Target::open_or_create(&job.target, job.unsafe_target).await?
    };
    keep_form(&target, &mut job).await?;
    job.list_tags();
    let containers = prepare::containers(target.stored_config().await?, &job)?;
    let begun = match start::look(&target, &job, &containers).await? {
        Start::Done(report) => return Ok(*report),
        Start::New(_) if matches!(job.crew, Some(Crew::Nobody)) => return Err(not_begun(&job)),
        Start::New(new) => start::anew(&mut target, &job, &containers, new, on_progress).await?,
        Start::Resumed(run) => {
            start::resumed(&mut target, &mut job, &containers, run, on_progress).await?
        }
    };
    complete_run(&job, &containers, begun, publishing).await
}

/// Lets a sync write references of the form that those have which stand, so that only what has
/// changed in the source differs.
async fn keep_form(target: &Target, job: &mut IngestJob) -> Result<()> {
    let (Mode::Sync, Some(base)) = (job.mode, job.base.as_ref()) else { return Ok(()) };
    let paths = job.arrays.iter().map(|array| array.spec.path.as_str());
    let form = reference_form(target.repository(), base, paths).await?;
    job.locations = form.locations;
    if job.keep_checksum {
        job.checksum = form.checksum;
    }
    Ok(())
}

/// Lists, commits and publishes what a run that has begun lacks.
async fn complete_run(
    job: &IngestJob,
    containers: &[SourceContainer],
    begun: Begun<'_>,
    publishing: &AtomicBool,
) -> Result<IngestReport> {
    let Begun { target, mut staging, mut tally, survey, splits, in_flight } = begun;
    let repository = target.repository();
    let work = Work {
        sources: &job.sources,
        containers,
        arrays: &job.arrays,
        splits: &splits,
        empty_chunks: job.empty_chunks,
        checksum: job.checksum,
        locations: job.locations,
        listed_at: job.listed_at(),
        replaces: job.mode.keeps_arrays(),
        limits: PlanLimits::from(job.limits),
        in_flight,
    };
    tally.committed(staging.commits());
    if job.crew.is_some() {
        // Workers must see what the first commit makes.
        staging.begin_now().await?;
    }
    let units = fill(&work, job, &survey, &mut staging, &mut tally, repository).await?;
    if units.is_some() {
        let report =
            outcome::report(job, target.url(), containers, &staging, tally, &Published::Later);
        return Ok(IngestReport { work_plan: units, ..report });
    }
    let outcome = finish(&work, job, &mut staging, &mut tally, publishing, repository).await;
    let published = match outcome {
        Ok(Published::Before(run)) => {
            return Ok(outcome::published_instead(&run, job, target.url(), containers, tally));
        }
        Ok(published) => published,
        Err(error) => {
            return Err(kept(&mut staging, error).await);
        }
    };
    tally.begin("done");
    let mut report = outcome::report(job, target.url(), containers, &staging, tally, &published);
    if job.mode.keeps_arrays() {
        // What is there already may lie in others.
        let config = repository.config();
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

/// Lists and commits what the staging branch lacks; where others are to do so, gives back the
/// document for them.
async fn fill<'a>(
    work: &Work<'_>,
    job: &IngestJob,
    survey: &Survey,
    staging: &mut Staging<'a>,
    tally: &mut Tally<'a>,
    repository: &Repository,
) -> Result<Option<serde_json::Value>> {
    let last = staging.last();
    let later = matches!(job.crew, Some(Crew::Later));
    if last.all && !later {
        return Ok(None);
    }
    let batches = staging.record().batches.clone();
    let layouts = layouts(work.arrays);
    let pieces: Vec<_> = work.arrays.iter().map(|array| array.pieces.as_slice()).collect();
    let plan = schedule::Workload {
        batches: &batches,
        layouts: &layouts,
        pieces: &pieces,
        splits: work.splits,
    };
    let expectations = survey.expectations(work.arrays);
    let mut schedule = Schedule::new(plan, work.limits, expectations, last.next, last.rest());
    if job.crew.is_none() && !work.replaces {
        // Two steps of a commit might both replace a manifest that stands.
        schedule = schedule.in_steps();
    }
    let together = start::references_together(job, survey, work.limits).await?;
    let outcome = match &job.crew {
        None => list_and_commit(work, &mut schedule, staging, tally, repository).await,
        Some(crew) => {
            return have_done(
                crew,
                work,
                job,
                &mut schedule,
                staging,
                tally,
                (repository, together),
            )
            .await;
        }
    };
    if let Err(error) = &outcome
        && error.kind() != ErrorKind::Conflict
        && staging.is_without_references()
    {
        // Nothing was found that is worth keeping: the next attempt may have other options.
        let _ = staging.remove().await;
    }
    outcome.map(|()| None)
}

/// Has others do what is scheduled: a unit is of about `together` references.
async fn have_done<'a>(
    crew: &Crew,
    work: &Work<'_>,
    job: &IngestJob,
    schedule: &mut Schedule<'_>,
    staging: &mut Staging<'a>,
    tally: &mut Tally<'a>,
    (repository, together): (&Repository, u64),
) -> Result<Option<serde_json::Value>> {
    tally.begin("list");
    let run_id = staging.run_id().to_owned();
    let document = crew::WorkPlan::new(&run_id, job, work.splits, work.limits);
    let (most, resumed) = (work.limits.references_per_commit, staging.is_resumed());
    let paths = work.arrays.iter().map(|array| array.spec.path.as_str());
    let standing = if work.replaces {
        manifest_boxes(repository, staging.tip(), paths).await?
    } else {
        Vec::new()
    };
    let counts = Counts::new(tally);
    let mut committer = Committer::new(staging, &counts);
    macro_rules! coordinator {
        () => {
            Coordinator {
                repository,
                run_id: &run_id,
                committer: &mut committer,
                most,
                waiting: Vec::new(),
                standing: standing.clone(),
            }
        };
    }
    if resumed && !matches!(crew, Crew::Nobody) {
        crew::harvest(coordinator!(), schedule).await?;
    }
    match crew {
        Crew::Later => {
            return Ok(Some(crew::plan(&coordinator!(), schedule, &document, together)));
        }
        Crew::Workers(workers) => {
            crew::drive(coordinator!(), schedule, &document, workers, together).await?;
        }
        Crew::Nobody => {
            let paths: Vec<_> = work.arrays.iter().map(|array| array.spec.path.clone()).collect();
            crew::collect(coordinator!(), schedule, &paths).await?;
        }
    }
    // What has to be done again.
    list_and_commit(work, schedule, staging, tally, repository).await?;
    Ok(None)
}

/// Does all that is scheduled, commit by commit.
async fn list_and_commit<'a>(
    work: &Work<'_>,
    schedule: &mut Schedule<'_>,
    staging: &mut Staging<'a>,
    tally: &mut Tally<'a>,
    repository: &Repository,
) -> Result<()> {
    tally.begin("list");
    let (run_id, most) = (staging.run_id().to_owned(), work.limits.references_per_commit);
    let resumed = staging.is_resumed();
    let mut worker = Worker::new(work, repository, staging.tip());
    let counts = Counts::new(tally);
    let mut committer = Committer::new(staging, &counts);
    if resumed {
        // Workers of an earlier attempt may have left results.
        let earlier = Coordinator {
            repository,
            run_id: &run_id,
            committer: &mut committer,
            most,
            waiting: Vec::new(),
            standing: Vec::new(),
        };
        crew::harvest(earlier, schedule).await?;
    }
    Box::pin(pipeline::run(&mut worker, schedule, &mut committer, &counts)).await
}

/// The error of committing a run that is not there.
fn not_begun(job: &IngestJob) -> Error {
    Error::new(
        ErrorKind::Incomplete,
        format!("there is no unfinished ingest of {} to commit", job.source_urls()),
    )
    .with_hint("it was published or discarded; begin one with refreeze plan --output")
}

/// Checks what is staged, and publishes it unless it is to stay staged or changes nothing.
async fn finish(
    work: &Work<'_>,
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
    if (job.crew.is_some() || staging.is_resumed())
        && Results::of(repository, staging.run_id()).remove().await.is_err()
    {
        tally.warn("results of workers could not be deleted; refreeze gc does that".to_owned());
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

pub(super) fn layouts(arrays: &[JobArray]) -> Vec<ArrayLayout> {
    arrays.iter().map(|array| array.spec.layout.clone()).collect()
}
