//! Publishes an ingest that was left staged, on the tip it began with or on one that has moved.

use icechunk::Repository;
use serde::Serialize;

use super::ingest::{Results, unpublished_runs};
use crate::commit::{
    STAGING_PREFIX, StagedRun, Touched, lost_runs, publish as move_branch, remove, replay,
    snapshot_id,
};
use crate::error::TargetContext as _;
use crate::target::{Target, TargetLocation};
use crate::{Error, ErrorKind, Result};

/// What is to be published.
#[derive(Debug)]
pub struct PublishJob {
    /// Where the repository is.
    pub target: TargetLocation,
    /// Which run; the only staged one when nothing is said.
    pub run_id: Option<String>,
    /// Put the run on the branch's tip when that has moved.
    pub rebase: bool,
    /// Take a target that may not be safe for concurrent writers.
    pub unsafe_target: bool,
}

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishReport {
    /// The target, free of credentials.
    pub target: String,
    /// The run.
    pub run_id: String,
    /// The branch.
    pub branch: String,
    /// The branch's tip now.
    pub snapshot_id: String,
    /// Whether the branch had moved and the run was put on its tip.
    pub rebased: bool,
}

/// Publishes a staged run.
///
/// With `rebase`, its commits are repeated on the present tip of the branch, with the same
/// manifests, when nobody has created its arrays there meanwhile.
///
/// # Errors
///
/// [`ErrorKind::TargetNotFound`] when there is no repository or no such run,
/// [`ErrorKind::Mismatch`] for one that is not complete, [`ErrorKind::Conflict`] when the branch
/// has moved and the run cannot be put on its tip; [`ErrorKind::Target`] or [`ErrorKind::Access`]
/// when writing fails.
pub async fn publish(job: PublishJob) -> Result<PublishReport> {
    let target = Target::open(&job.target, job.unsafe_target).await?;
    let repository = target.repository();
    let runs = unpublished_runs(repository).await?;
    let run = match chosen(runs, job.run_id.as_deref(), target.url()) {
        Err(error) if error.kind() == ErrorKind::TargetNotFound => {
            return Err(lost(repository, job.run_id.as_deref()).await?.unwrap_or(error));
        }
        chosen => chosen?,
    };
    let tip = run.to_publish().filter(|_| run.is_complete()).map(|tip| tip.id.clone());
    let Some(tip) = tip else {
        return Err(Error::new(
            ErrorKind::Mismatch,
            format!(
                "the ingest {} is not complete: {} of {} batches",
                run.identity.run_id,
                run.batches_done(),
                run.record.batches_total
            ),
        )
        .with_hint("run its refreeze ingest command again to finish it"));
    };
    let (branch, staging) = (&run.record.branch, run.identity.branch());
    let base = run.record.base.as_deref().map(snapshot_id).transpose()?;
    let mut report = PublishReport {
        target: target.url().to_owned(),
        run_id: run.identity.run_id.clone(),
        branch: branch.clone(),
        snapshot_id: tip.to_string(),
        rebased: false,
    };
    match move_branch(repository, branch, base.as_ref(), &tip, &staging).await {
        Err(error) if error.kind() == ErrorKind::Conflict && job.rebase => {
            let now = repository
                .lookup_branch(branch)
                .await
                .doing(|| format!("read the tip of branch {branch}"))?;
            let staged: Vec<_> = run.snapshots.iter().map(|snapshot| snapshot.id.clone()).collect();
            let touched = Touched { began_with: base.clone(), ..touched(&run) };
            let new = replay(repository, &staged, &touched, &now).await?;
            move_branch(repository, branch, Some(&now), &new, &staging).await?;
            report.rebased = true;
            report.snapshot_id = new.to_string();
        }
        outcome => outcome?,
    }
    // What is left behind is removed by whoever comes next.
    let _ = remove(repository, &staging).await;
    let _ = Results::of(repository, &run.identity.run_id).remove().await;
    Ok(report)
}

/// What a run has made or changed.
fn touched(run: &StagedRun) -> Touched<'_> {
    Touched {
        arrays: run.record.arrays.iter().map(|array| array.path.as_str()).collect(),
        groups: run.record.groups.iter().map(String::as_str).collect(),
        replaced: run.record.replaced.iter().map(String::as_str).collect(),
        began_with: None,
    }
}

/// The error for a run that is there, but has lost its plan.
async fn lost(repository: &Repository, run_id: Option<&str>) -> Result<Option<Error>> {
    let run_id = run_id.map(|id| id.strip_prefix(STAGING_PREFIX).unwrap_or(id));
    let runs = lost_runs(repository).await?;
    let run = runs.iter().find(|run| run_id.is_none_or(|id| run.identity.run_id == id));
    Ok(run.map(|run| {
        Error::new(
            ErrorKind::Mismatch,
            format!(
                "the ingest {} cannot be published: its first commit, which holds its plan, has \
                 expired",
                run.identity.run_id
            ),
        )
        .with_hint("run its refreeze ingest command again, which begins again")
    }))
}

fn chosen(mut runs: Vec<StagedRun>, run_id: Option<&str>, url: &str) -> Result<StagedRun> {
    let missing = |message: String| {
        Err(Error::new(ErrorKind::TargetNotFound, message)
            .with_hint("refreeze status shows what is there"))
    };
    if let Some(run_id) = run_id {
        let run_id = run_id.strip_prefix(STAGING_PREFIX).unwrap_or(run_id);
        return match runs.into_iter().find(|run| run.identity.run_id == run_id) {
            Some(run) => Ok(run),
            None => missing(format!("{url} has no staged ingest {run_id}")),
        };
    }
    // An unfinished run is in nobody's way.
    if runs.len() > 1 {
        runs.retain(StagedRun::is_complete);
    }
    match runs.len() {
        0 => missing(format!("{url} has no staged ingest")),
        1 => Ok(runs.swap_remove(0)),
        _ => {
            let known: Vec<_> = runs.iter().map(|run| run.identity.run_id.as_str()).collect();
            Err(Error::new(
                ErrorKind::Mismatch,
                format!("{url} has several staged ingests: {}", known.join(", ")),
            )
            .with_hint("name one with --run"))
        }
    }
}
