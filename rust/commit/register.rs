//! Makes a snapshot part of the repository's history, with the checks that a session makes.

use std::sync::Arc;

use icechunk::Repository;
use icechunk::format::repo_info::UpdateType;
use icechunk::format::snapshot::{Snapshot, SnapshotInfo};
use icechunk::format::{IcechunkFormatError, SnapshotId};
use icechunk::repository::{RepositoryError, RepositoryErrorKind};

use crate::error::TargetContext as _;
use crate::format::files::{FileId, Files};
use crate::{Error, ErrorKind, Result};

/// The most that this machine's clock and the object store's may differ, in seconds.
const CLOCK_TOLERANCE: i64 = 600;

/// Entries of the operations log that stay in the repository info, where the user has not said how
/// many. Everybody who opens a repository reads that file, and each commit writes it twice; older
/// entries stay where they are, in the file's former versions, which it names.
const UPDATES_KEPT: u16 = 20;

/// Writes the files of a snapshot that will follow `parent`, after checking its time.
///
/// Icechunk orders history and expires snapshots by time, so that a child must be younger than its
/// parent and all clocks must roughly agree.
pub(super) async fn write(
    repository: &Repository,
    parent: &Snapshot,
    snapshot: &Arc<Snapshot>,
    log: Vec<u8>,
) -> Result<()> {
    let id = snapshot.id();
    let time = flushed_at(snapshot)?;
    let parent_time = flushed_at(parent)?;
    if time <= parent_time {
        return Err(clock(format!(
            "this machine's clock ({time}) is behind the last commit ({parent_time})"
        )));
    }
    let snapshots = repository.asset_manager();
    let writing = || format!("write snapshot {id}");
    let write_snapshot = async {
        snapshots.write_snapshot(Arc::clone(snapshot)).await.doing(writing)?;
        snapshots.get_snapshot_last_modified(&id).await.doing(writing)
    };
    let files = Files::of(repository);
    let write_log = files.store(FileId::TransactionLog(&id), None, log);
    let (stored, ()) = futures::try_join!(write_snapshot, write_log)?;
    if (stored - time).num_seconds().abs() > CLOCK_TOLERANCE {
        return Err(clock(format!(
            "this machine's clock ({time}) and the target's ({stored}) differ by more than ten \
             minutes"
        )));
    }
    Ok(())
}

fn flushed_at(snapshot: &Snapshot) -> Result<chrono::DateTime<chrono::Utc>> {
    snapshot
        .flushed_at()
        .map_err(repository_error)
        .doing(|| format!("read snapshot {}", snapshot.id()))
}

fn clock(message: String) -> Error {
    Error::new(ErrorKind::Target, message)
        .with_hint("set the clock of this machine, then run the same command again")
}

/// Adds a written snapshot after `parent`; `branch`, which must stand at `parent`, moves to it.
/// Without a branch the snapshot is in the history and on no branch.
pub(super) async fn register(
    repository: &Repository,
    parent: &SnapshotId,
    snapshot: &Snapshot,
    branch: Option<&str>,
) -> Result<()> {
    let id = snapshot.id();
    let update_type = match branch {
        Some(branch) => {
            UpdateType::NewCommitUpdate { branch: branch.to_owned(), new_snap_id: id.clone() }
        }
        None => UpdateType::NewDetachedSnapshotUpdate { new_snap_id: id.clone() },
    };
    let config = repository.config();
    let kept = config.num_updates_per_repo_info_file.unwrap_or(UPDATES_KEPT);
    repository
        .asset_manager()
        .update_repo_info(config.repo_update_retries(), |info, backup, _| {
            if let Some(branch) = branch {
                let tip = info.resolve_branch(branch).map_err(repository_error)?;
                if tip != *parent {
                    return Err(RepositoryError::capture(RepositoryErrorKind::Conflict {
                        expected_parent: Some(parent.clone()),
                        actual_parent: Some(tip),
                    }));
                }
            }
            let added = SnapshotInfo {
                parent_id: Some(parent.clone()),
                ..SnapshotInfo::from_snapshot_file(snapshot).map_err(repository_error)?
            };
            let updated = info
                .add_snapshot(
                    repository.spec_version(),
                    added,
                    branch,
                    update_type.clone(),
                    None,
                    backup,
                    kept,
                )
                .map_err(repository_error)?;
            Ok(Arc::new(updated))
        })
        .await
        .doing(|| match branch {
            Some(branch) => format!("commit to branch {branch}"),
            None => format!("record snapshot {id}"),
        })?;
    Ok(())
}

pub(super) fn repository_error(error: IcechunkFormatError) -> RepositoryError {
    RepositoryError::capture(RepositoryErrorKind::FormatError(error.kind))
}
