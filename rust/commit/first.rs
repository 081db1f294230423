//! The first commit of a run, which brings its staging branch into being.

use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::format::repo_info::RepoInfo;
use icechunk::format::snapshot::SnapshotProperties;
use icechunk::store::Store;

use super::branch::lost;
use crate::target::outcome::{Failure, on_branch, when, write};
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
    let commit = || async {
        let mut session = session.write().await;
        session.commit(message).properties(properties.clone()).anonymous().execute().await
    };
    // The session chooses the snapshot's id and does not tell it when it fails: the properties,
    // which name the run, are what it is known by.
    let committed = |info: &RepoInfo| {
        for snapshot in info.all_snapshots()? {
            let snapshot = snapshot?;
            let own = |(name, value): (&String, _)| snapshot.metadata.get(name) == Some(value);
            if !properties.is_empty() && properties.iter().all(own) {
                return Ok(Some(snapshot.id));
            }
        }
        Ok(None)
    };
    let snapshot = write(repository, commit, committed)
        .await
        .map_err(|failure| failure.doing(|| format!("commit to {branch}")))?;
    create_at(repository, branch, &snapshot).await?;
    Ok(snapshot)
}

/// Creates a staging branch.
pub(super) async fn create_at(
    repository: &Repository,
    branch: &str,
    snapshot: &SnapshotId,
) -> Result<()> {
    let create = || repository.create_branch(branch, snapshot);
    let created = when(|info| on_branch(info, branch, snapshot));
    match write(repository, create, created).await {
        Err(Failure::Undone(error)) if lost(&error.kind) => {
            Err(Error::new(ErrorKind::Conflict, format!("the branch {branch} exists already"))
                .with_hint("another process began the same run; wait until it has finished"))
        }
        outcome => {
            outcome.map_err(|failure| failure.doing(|| format!("create the branch {branch}")))
        }
    }
}
