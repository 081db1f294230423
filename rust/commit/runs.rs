//! The runs that a repository knows of: unfinished or staged ones by their branches, published
//! ones by the history of the others.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use futures::TryStreamExt as _;
use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::format::snapshot::SnapshotInfo;
use icechunk::repository::VersionInfo;

use super::record::{Completed, RunIdentity, RunRecord, completed, has_record, mode, record};
use crate::Result;
use crate::error::TargetContext as _;
use crate::plan::Fingerprint;

/// What the name of every staging branch begins with.
pub const STAGING_PREFIX: &str = "refreeze/";

/// The staging branch of a run.
#[must_use]
pub(crate) fn staging_branch(run_id: &str) -> String {
    format!("{STAGING_PREFIX}{run_id}")
}

impl RunIdentity {
    /// Its staging branch.
    #[must_use]
    pub fn branch(&self) -> String {
        staging_branch(&self.run_id)
    }
}

/// A run that is not published.
#[derive(Debug, Clone)]
pub struct StagedRun {
    /// Who it is.
    pub identity: RunIdentity,
    /// Its resolved plan.
    pub record: RunRecord,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// What each of them completes.
    pub completed: Vec<Completed>,
}

impl StagedRun {
    /// The tip of its staging branch, if it has any commit.
    #[must_use]
    pub fn tip(&self) -> Option<&SnapshotInfo> {
        self.snapshots.last()
    }

    /// The snapshot that publishing makes part of the history: the tip, but of a run that was to be
    /// published as one snapshot and could not be, that one. What follows it there only holds the
    /// plan, for those who take it up.
    #[must_use]
    pub fn to_publish(&self) -> Option<&SnapshotInfo> {
        match self.snapshots.as_slice() {
            [whole, _] if mode(whole).is_some() => Some(whole),
            snapshots => snapshots.last(),
        }
    }

    /// Whether nothing is left to be done but publishing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.completed.last().is_some_and(|last| last.all)
    }

    /// Batches that are committed.
    #[must_use]
    pub fn batches_done(&self) -> u64 {
        self.completed.last().map_or(0, |last| last.batches_done(self.record.batches_total))
    }
}

/// An unpublished run of which snapshots have expired, the first one and the plan with it: nobody
/// can resume it or publish it.
#[derive(Debug, Clone)]
pub struct LostRun {
    /// Who it was.
    pub identity: RunIdentity,
    /// The tip of its staging branch, which never expires.
    pub tip: SnapshotInfo,
}

/// An earlier run that published a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedRun {
    /// Its run id.
    pub run_id: String,
    /// The last of its snapshots.
    pub snapshot_id: SnapshotId,
}

/// Looks in the history of `branch` for a run whose plan has this fingerprint.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when the history cannot be read.
pub async fn find_published(
    repository: &Repository,
    branch: &str,
    fingerprint: &Fingerprint,
) -> Result<Option<PublishedRun>> {
    let history = history(repository, branch).await?;
    let run = history.iter().find_map(|snapshot| {
        let identity = RunIdentity::of(snapshot)?;
        let snapshot_id = snapshot.id.clone();
        fingerprint
            .is(&identity.fingerprint)
            .then_some(PublishedRun { run_id: identity.run_id, snapshot_id })
    });
    Ok(run)
}

/// A chunk that is missing, of each array of a published run that misses any, as far as the run's
/// commits on `branch` still tell; arrays by their position.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when the history cannot be read.
pub async fn missing_examples(
    repository: &Repository,
    branch: &str,
    run_id: &str,
) -> Result<BTreeMap<usize, Vec<u32>>> {
    let history = history(repository, branch).await?;
    let own = history.iter().filter(|snapshot| RunIdentity::is_on(snapshot, run_id));
    let additions = own.filter_map(completed).flat_map(|completed| completed.arrays);
    Ok(additions
        .filter_map(|addition| addition.missing.map(|coords| (addition.array, coords)))
        .collect())
}

/// The runs on staging branches, whether they are complete or not; those that another version of
/// refreeze has recorded in its own way are left out.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when the repository cannot be read.
pub async fn staged_runs(repository: &Repository) -> Result<Vec<StagedRun>> {
    let mut runs = Vec::new();
    for snapshots in staged(repository).await? {
        // The first one, but for a run that was to be published with its only commit.
        let first = snapshots.iter().find_map(|one| Some((RunIdentity::of(one)?, record(one)?)));
        let completed: Option<Vec<_>> = snapshots.iter().map(completed).collect();
        // A run that is lost, or of another version: it is left alone.
        let (Some((identity, record)), Some(completed)) = (first, completed) else { continue };
        runs.push(StagedRun { identity, record, snapshots, completed });
    }
    Ok(runs)
}

/// The runs on staging branches that have lost their plan, published ones perhaps among them.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when the repository cannot be read.
pub async fn lost_runs(repository: &Repository) -> Result<Vec<LostRun>> {
    let mut runs = Vec::new();
    for mut snapshots in staged(repository).await? {
        if snapshots.iter().any(has_record) {
            continue;
        }
        let Some(tip) = snapshots.pop() else { continue };
        let Some(identity) = RunIdentity::of(&tip) else { continue };
        runs.push(LostRun { identity, tip });
    }
    Ok(runs)
}

/// The ids of all runs that have a staging branch, whatever has become of them.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when the branches cannot be read.
pub async fn run_branches(repository: &Repository) -> Result<Vec<String>> {
    let branches = branches(repository).await?;
    let ids = branches.iter().filter_map(|branch| branch.strip_prefix(STAGING_PREFIX));
    Ok(ids.map(str::to_owned).collect())
}

/// The snapshots of each run that has a staging branch, oldest first; none for a branch that
/// somebody else has given such a name.
async fn staged(repository: &Repository) -> Result<Vec<Vec<SnapshotInfo>>> {
    let mut runs = Vec::new();
    for branch in branches(repository).await? {
        let Some(run_id) = branch.strip_prefix(STAGING_PREFIX) else { continue };
        let mut snapshots = history(repository, &branch).await?;
        let own = snapshots.iter().take_while(|snapshot| RunIdentity::is_on(snapshot, run_id));
        let own = own.count();
        snapshots.truncate(own);
        snapshots.reverse();
        runs.push(snapshots);
    }
    Ok(runs)
}

/// The published runs with their snapshots, by run id: newest first, over all branches.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when the repository cannot be read.
pub async fn published_runs(
    repository: &Repository,
) -> Result<BTreeMap<String, (String, Vec<SnapshotInfo>)>> {
    let mut runs: BTreeMap<String, (String, Vec<SnapshotInfo>)> = BTreeMap::new();
    for branch in branches(repository).await? {
        if branch.starts_with(STAGING_PREFIX) {
            continue;
        }
        for snapshot in history(repository, &branch).await? {
            let Some(identity) = RunIdentity::of(&snapshot) else { continue };
            let (_, known) =
                runs.entry(identity.run_id).or_insert_with(|| (branch.clone(), Vec::new()));
            if !known.iter().any(|other| other.id == snapshot.id) {
                known.push(snapshot);
            }
        }
    }
    Ok(runs)
}

/// As of when a run's commits on a branch tell of their sources, and which sources those are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldOf {
    /// URLs of the sources as the user named them.
    pub source: String,
    /// When the listing was made that told of them; else when the commit was made, which is after
    /// the source was listed. In microseconds since 1970.
    pub at: i64,
    /// Whether a listing told of them.
    pub by_listing: bool,
    /// When the commit was made, in microseconds since 1970.
    pub committed_at: i64,
}

/// What the commits on `branch` tell, newest first; copies of chunks tell nothing.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when the history cannot be read.
pub async fn told_of(repository: &Repository, branch: &str) -> Result<Vec<ToldOf>> {
    let snapshots = history(repository, branch).await?;
    let copies: BTreeSet<String> = snapshots
        .iter()
        .filter(|one| record(one).is_some_and(|record| record.options.mode == "copy"))
        .filter_map(|one| Some(RunIdentity::of(one)?.run_id))
        .collect();
    let told = snapshots.iter().filter_map(|snapshot| {
        let identity = RunIdentity::of(snapshot)?;
        if copies.contains(&identity.run_id) || mode(snapshot).is_some_and(|mode| mode == "copy") {
            return None;
        }
        let committed_at = snapshot.flushed_at.timestamp_micros();
        let listed = identity
            .listing
            .as_deref()
            .and_then(|date| Some(DateTime::parse_from_rfc3339(date).ok()?.timestamp_micros()));
        let (at, by_listing) = (listed.unwrap_or(committed_at), listed.is_some());
        Some(ToldOf { source: identity.source, at, by_listing, committed_at })
    });
    Ok(told.collect())
}

/// The snapshots of a branch, newest first.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when they cannot be read.
pub async fn history(repository: &Repository, branch: &str) -> Result<Vec<SnapshotInfo>> {
    let reading = || format!("read the history of branch {branch}");
    let version = VersionInfo::BranchTipRef(branch.to_owned());
    let history = repository.ancestry(&version).await.doing(reading)?;
    history.try_collect().await.doing(reading)
}

async fn branches(repository: &Repository) -> Result<Vec<String>> {
    let branches = repository.list_branches().await;
    Ok(branches.doing(|| "read the branches".to_owned())?.into_iter().collect())
}
