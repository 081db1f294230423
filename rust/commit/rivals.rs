//! What other runs have put on the branch that an unpublished run is for, since that one began.
//!
//! Object stores have no locks: two processes may do the same work at once, and one of them publishes
//! first. What the other does about it is not decided here.

use std::collections::BTreeSet;

use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::format::snapshot::NodeSnapshot;

use super::branch::snapshot_id;
use super::record::{RunIdentity, RunRecord};
use super::runs::{PublishedRun, StagedRun, history};
use super::stored::{fetch, nodes};
use crate::Result;
use crate::error::TargetContext as _;

/// The run that has published the plan of another one, which is not published, since that began.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when the history cannot be read.
pub async fn published_instead(
    repository: &Repository,
    identity: &RunIdentity,
    record: &RunRecord,
) -> Result<Option<PublishedRun>> {
    let rivals = rivals(repository, identity, record).await?;
    let same = rivals.into_iter().find(|(_, rival)| rival.fingerprint == identity.fingerprint);
    Ok(same.map(|(snapshot_id, rival)| PublishedRun { run_id: rival.run_id, snapshot_id }))
}

/// Whether other runs have changed arrays of a run, on its branch, since it began: it can be
/// published no more, nor put on another base.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when the repository cannot be read.
pub async fn is_overtaken(repository: &Repository, run: &StagedRun) -> Result<bool> {
    let record = &run.record;
    let Some(base) = &record.base else { return Ok(false) };
    if rivals(repository, &run.identity, record).await?.is_empty() {
        return Ok(false);
    }
    let tip = repository.lookup_branch(&record.branch).await;
    let tip = tip.doing(|| format!("read branch {}", record.branch))?;
    let paths: BTreeSet<_> = record.arrays.iter().map(|array| array.path.as_str()).collect();
    let concerned = |node: &NodeSnapshot| paths.contains(node.path.as_str());
    let (before, now) =
        (fetch(repository, &snapshot_id(base)?).await?, fetch(repository, &tip).await?);
    let (before, now) = (nodes(&before)?, nodes(&now)?);
    Ok(!before.iter().filter(|node| concerned(node)).eq(now.iter().filter(|node| concerned(node))))
}

/// The snapshots of other runs on a run's branch since it began, newest first; none when the
/// snapshot that it began with has expired.
async fn rivals(
    repository: &Repository,
    identity: &RunIdentity,
    record: &RunRecord,
) -> Result<Vec<(SnapshotId, RunIdentity)>> {
    let branches = repository.list_branches().await.doing(|| "read the branches".to_owned())?;
    if !branches.contains(&record.branch) {
        return Ok(Vec::new());
    }
    let history = history(repository, &record.branch).await?;
    let began = match &record.base {
        Some(base) => history.iter().position(|snapshot| snapshot.id.to_string() == *base),
        None => Some(history.len()),
    };
    let since = history.into_iter().take(began.unwrap_or_default());
    Ok(since
        .filter_map(|snapshot| RunIdentity::of(&snapshot).map(|rival| (snapshot.id, rival)))
        .filter(|(_, rival)| rival.run_id != identity.run_id)
        .collect())
}
