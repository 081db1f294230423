//! What published runs have left behind: a process that is killed between publishing and tidying up
//! leaves the staging branch, and results of workers. Whoever comes next removes both.

use icechunk::Repository;

use super::crew::Results;
use crate::Result;
use crate::commit::{Sorted, StagedRun, remove_finished, run_branches, staged_runs};
use crate::target::{Target, TargetLocation};

/// The runs that are not published; what the others have left is removed.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when the repository cannot be read.
pub(in crate::jobs) async fn unpublished_runs(repository: &Repository) -> Result<Vec<StagedRun>> {
    let Sorted { unpublished, published } =
        remove_finished(repository, staged_runs(repository).await?).await?;
    for run in published {
        // Best effort: without its branch a run's results are garbage, which gc removes.
        let _ = Results::of(repository, &run.identity.run_id).remove().await;
    }
    Ok(unpublished)
}

/// Removes what published runs have left in a repository, for a command that has nothing else to
/// write. Where there is nothing of the kind, the repository is only read, and not locked.
///
/// # Errors
///
/// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) when another process holds a local
/// repository; otherwise as [`Target::open`].
pub async fn remove_published(location: &TargetLocation, unsafe_target: bool) -> Result<()> {
    let (target, _) = Target::open_to_read(location).await?;
    if run_branches(target.repository()).await?.is_empty() {
        return Ok(());
    }
    let target = Target::open(location, unsafe_target).await?;
    unpublished_runs(target.repository()).await.map(drop)
}
