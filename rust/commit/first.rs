//! The first commit of a run, which brings its staging branch into being.

use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::format::snapshot::SnapshotProperties;
use icechunk::store::Store;

use super::branch::lost;
use crate::error::TargetContext as _;
use crate::{Error, ErrorKind, Result};

/// Commits an uncommitted session as the first snapshot of a new branch.
///
/// The snapshot is written first, on no branch, and the branch is created at it: a branch never
/// exists without the commit that says what it is for. What a failure in between leaves behind is
/// garbage that Icechunk's garbage collection removes. The session may stand on any branch, which
/// does not move.
///
/// # Errors
///
/// [`ErrorKind::Conflict`] when the branch exists,
/// [`ErrorKind::Target`] or
/// [`ErrorKind::Access`] when writing fails.
pub async fn commit_first(
    repository: &Repository,
    store: &Store,
    branch: &str,
    message: &str,
    properties: SnapshotProperties,
) -> Result<SnapshotId> {
    let session = store.session();
    let snapshot = session
        .write()
        .await
        .commit(message)
        .properties(properties)
        .anonymous()
        .execute()
        .await
        .doing(|| format!("commit to {branch}"))?;
    create_at(repository, branch, &snapshot).await?;
    Ok(snapshot)
}

/// Creates a staging branch.
pub(super) async fn create_at(
    repository: &Repository,
    branch: &str,
    snapshot: &SnapshotId,
) -> Result<()> {
    match repository.create_branch(branch, snapshot).await {
        Err(error) if lost(&error.kind) => {
            Err(Error::new(ErrorKind::Conflict, format!("the branch {branch} exists already"))
                .with_hint("another process began the same run; wait until it has finished"))
        }
        outcome => outcome.doing(|| format!("create the branch {branch}")),
    }
}
