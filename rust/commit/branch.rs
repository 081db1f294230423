//! Branches: the target's, which publishing moves, and the staging branches, which it removes.

use std::time::Duration;

use icechunk::Repository;
use icechunk::format::snapshot::SnapshotInfo;
use icechunk::format::{IcechunkFormatErrorKind, SnapshotId};
use icechunk::repository::RepositoryErrorKind;

use super::record::RunIdentity;
use super::runs::{StagedRun, history};
use crate::error::TargetContext as _;
use crate::target::outcome::{Failure, on_branch, when, write};
use crate::{Error, ErrorKind, Result};

/// The wait before a branch that could not be deleted is deleted again.
const BEFORE_ONCE_MORE: Duration = Duration::from_millis(100);

/// Whether somebody else moved or created the branch first.
pub(super) fn lost(error: &RepositoryErrorKind) -> bool {
    matches!(
        error,
        RepositoryErrorKind::Conflict { .. }
            | RepositoryErrorKind::FormatError(IcechunkFormatErrorKind::BranchAlreadyExists { .. })
    )
}

/// The snapshot that a text names.
///
/// # Errors
///
/// [`ErrorKind::Mismatch`] when it names none.
pub fn snapshot_id(text: &str) -> Result<SnapshotId> {
    SnapshotId::try_from(text).map_err(|error| {
        Error::new(ErrorKind::Mismatch, format!("{text} is not a snapshot id: {error}"))
    })
}

/// Moves `branch` from `base` to `tip`, or creates it when there is no base.
///
/// # Errors
///
/// As [`Staging::publish`](super::Staging::publish).
pub async fn publish(
    repository: &Repository,
    branch: &str,
    base: Option<&SnapshotId>,
    tip: &SnapshotId,
    staging: &str,
) -> Result<()> {
    let move_branch = || async {
        match base {
            Some(base) => repository.reset_branch(branch, tip, Some(base)).await,
            None => repository.create_branch(branch, tip).await,
        }
    };
    let published = when(|info| on_branch(info, branch, tip));
    match write(repository, move_branch, published).await {
        Err(Failure::Undone(error)) if lost(&error.kind) => Err(moved(branch, staging)),
        outcome => {
            outcome.map_err(|failure| failure.doing(|| format!("publish on branch {branch}")))
        }
    }
}

/// The error for a run that finds its target branch moved.
pub(super) fn moved(branch: &str, staging: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!(
            "branch {branch} moved while this ingest was running; nothing was published, and the \
             ingest is kept on branch {staging}"
        ),
    )
    .with_hint(
        "refreeze publish --rebase puts it on the new tip when its arrays were left alone; \
         otherwise ingest again with --restart",
    )
}

/// Deletes a staging branch; one that is gone already is deleted.
///
/// # Errors
///
/// [`ErrorKind::Target`] when it cannot be deleted.
pub async fn remove(repository: &Repository, staging: &str) -> Result<()> {
    let delete = || repository.delete_branch(staging);
    let gone = || when(|info| Ok(info.resolve_branch(staging).is_err()));
    let mut deleted = write(repository, delete, gone()).await;
    if deleted.is_err() {
        // Whatever it was: what is published stays so, and a branch that is left shows for ever.
        tokio::time::sleep(BEFORE_ONCE_MORE).await;
        deleted = write(repository, delete, gone()).await;
    }
    deleted.map_err(|failure| failure.doing(|| format!("delete the staging branch {staging}")))
}

/// Runs on staging branches, by what has become of them.
#[derive(Debug, Default)]
pub struct Sorted {
    /// Those that are not published.
    pub unpublished: Vec<StagedRun>,
    /// Those that are.
    pub published: Vec<StagedRun>,
}

/// Removes the staging branches of runs that are published already, which a process that was
/// killed has left behind.
///
/// # Errors
///
/// [`ErrorKind::Target`] when the repository cannot be read.
pub async fn remove_finished(repository: &Repository, runs: Vec<StagedRun>) -> Result<Sorted> {
    let mut sorted = Sorted::default();
    if runs.is_empty() {
        return Ok(sorted);
    }
    let branches = repository.list_branches().await.doing(|| "read the branches".to_owned())?;
    for run in runs {
        let id = &run.identity.run_id;
        let own = |snapshot: &SnapshotInfo| RunIdentity::is_on(snapshot, id);
        // A rebased run was published with other snapshots, but all of a run or nothing.
        let published = branches.contains(&run.record.branch)
            && history(repository, &run.record.branch).await?.iter().any(own);
        if published {
            // Best effort: a left-over branch shows nothing to anybody.
            let _ = remove(repository, &run.identity.branch()).await;
            sorted.published.push(run);
        } else {
            sorted.unpublished.push(run);
        }
    }
    Ok(sorted)
}
