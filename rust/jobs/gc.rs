//! Removes what killed processes have left behind: manifests, transaction logs and results of units
//! to which nothing in the repository leads. Snapshots, native chunks and everything that a snapshot
//! refers to, whoever made it, are Icechunk's own garbage collection's to judge.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use icechunk::Repository;
use icechunk::format::{MANIFESTS_FILE_PATH, SnapshotId, TRANSACTION_LOGS_FILE_PATH};
use icechunk::storage::{StorageContext, StorageError};
use serde::Serialize;

use super::ingest::{RESULTS, delete, named_in_results};
use crate::commit::{manifest_ids, run_branches};
use crate::error::{TargetContext as _, target_error};
use crate::target::{Target, TargetLocation};
use crate::{Error, ErrorKind, Result};

/// Snapshots read at a time.
const READ_AT_ONCE: usize = 16;

/// What is to be cleaned, and how far.
#[derive(Debug)]
pub struct GcJob {
    /// Where the repository is.
    pub target: TargetLocation,
    /// Only tell what would be removed.
    pub dry_run: bool,
    /// Younger files are left alone: a worker may be about to say that they are its own.
    pub older_than: Duration,
    /// Take a folder without locks.
    pub unsafe_target: bool,
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// The files, by their keys in the target, sorted.
    pub files: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
    /// The runs whose results are among them.
    pub runs: Vec<String>,
}

/// Removes manifests, logs and results that no snapshot, branch, tag or staged run refers to.
///
/// Whatever any snapshot in the repository refers to stays, also one to which no branch leads any
/// more, and so does what the results of an unfinished run name. Files are listed first and
/// references read afterwards, so that what is committed meanwhile is seen.
///
/// # Errors
///
/// [`ErrorKind::TargetNotFound`] when there is no repository, [`ErrorKind::Conflict`] when another
/// process holds a local one; [`ErrorKind::Target`] or [`ErrorKind::Access`] when a snapshot cannot
/// be read (nothing is removed then) or a file cannot be removed.
pub async fn gc(job: GcJob) -> Result<GcReport> {
    let target = if job.dry_run {
        Target::open_to_read(&job.target).await?.0
    } else {
        Target::open(&job.target, job.unsafe_target).await?
    };
    let repository = target.repository();
    let age = TimeDelta::from_std(job.older_than).unwrap_or(TimeDelta::MAX);
    let Some(cutoff) = Utc::now().checked_sub_signed(age) else {
        return Ok(GcReport::default());
    };
    let old = old_files(repository, cutoff).await?;
    if old.is_empty() {
        return Ok(GcReport::default());
    }
    let standing = Standing::read(repository).await?;
    let garbage: Vec<_> = old.into_iter().filter(|file| !standing.refers_to(file)).collect();
    if !job.dry_run {
        // In an order in which what is left after an interruption is garbage as before.
        for kind in [Kind::Result, Kind::Manifest, Kind::Log] {
            let keys = garbage.iter().filter(|file| file.kind == kind);
            let keys: Vec<_> = keys.map(|file| (file.name.clone(), file.bytes)).collect();
            if !keys.is_empty() {
                remove(repository, kind, keys).await?;
            }
        }
    }
    Ok(report(&garbage))
}

fn report(garbage: &[File]) -> GcReport {
    let mut files: Vec<_> = garbage.iter().map(File::key).collect();
    files.sort();
    let runs: BTreeSet<_> = garbage.iter().filter_map(File::run).map(str::to_owned).collect();
    GcReport {
        files,
        bytes: garbage.iter().map(|file| file.bytes).sum(),
        runs: runs.into_iter().collect(),
    }
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Manifest,
    Log,
    Result,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Manifest, Self::Log, Self::Result];

    fn folder(self) -> &'static str {
        match self {
            Self::Manifest => MANIFESTS_FILE_PATH,
            Self::Log => TRANSACTION_LOGS_FILE_PATH,
            Self::Result => RESULTS,
        }
    }
}

/// A file that is old enough.
#[derive(Debug)]
struct File {
    kind: Kind,
    /// Below the folder of its kind.
    name: String,
    bytes: u64,
}

impl File {
    fn key(&self) -> String {
        format!("{}/{}", self.kind.folder(), self.name)
    }

    /// The run that a result is of.
    fn run(&self) -> Option<&str> {
        let (run, _) = self.name.split_once('/')?;
        (self.kind == Kind::Result).then_some(run)
    }
}

async fn old_files(repository: &Repository, cutoff: DateTime<Utc>) -> Result<Vec<File>> {
    let context = StorageContext::unattributed(repository.storage_settings());
    let mut files = Vec::new();
    for kind in Kind::ALL {
        let failed =
            |error: StorageError| target_error(&format!("list {}", kind.folder()), &error.kind);
        let storage = repository.storage();
        let mut objects = storage.list_objects(&context, kind.folder()).await.map_err(failed)?;
        while let Some(object) = objects.try_next().await.map_err(failed)? {
            if object.created_at <= cutoff {
                files.push(File { kind, name: object.id, bytes: object.size_bytes });
            }
        }
    }
    Ok(files)
}

async fn remove(repository: &Repository, kind: Kind, keys: Vec<(String, u64)>) -> Result<()> {
    let expected = keys.len() as u64;
    let removed = delete(repository, kind.folder(), keys).await?;
    if removed >= expected {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Target,
        format!(
            "{} of {expected} files in {} could not be removed",
            expected - removed,
            kind.folder()
        ),
    )
    .with_hint("check that the credentials may delete objects; run refreeze gc again"))
}

/// What is referred to.
struct Standing {
    manifests: HashSet<String>,
    /// Ids of the snapshots that have a log, and of those whose log another one still needs.
    logs: HashSet<String>,
    /// Runs that have a staging branch.
    runs: HashSet<String>,
    /// Whatever the results of those runs say.
    named: HashSet<String>,
}

impl Standing {
    async fn read(repository: &Repository) -> Result<Self> {
        // The runs first: one that is published afterwards is in the snapshots.
        let runs: HashSet<_> = run_branches(repository).await?.into_iter().collect();
        let mut named = HashSet::new();
        for run in &runs {
            named.extend(named_in_results(repository, run).await?);
        }
        let reading = || "read the repository's snapshots".to_owned();
        let (info, _) = repository.asset_manager().fetch_repo_info().await.doing(reading)?;
        let format_error = |error: icechunk::format::IcechunkFormatError| {
            target_error("read the repository's snapshots", &error.kind)
        };
        let (mut snapshots, mut logs): (Vec<SnapshotId>, HashSet<String>) = Default::default();
        for snapshot in info.all_snapshots().map_err(format_error)? {
            let snapshot = snapshot.map_err(format_error)?;
            logs.insert(snapshot.id.to_string());
            logs.extend(snapshot.pruned_ancestor_tx_logs.iter().map(ToString::to_string));
            snapshots.push(snapshot.id);
        }
        let manifests: Vec<HashSet<_>> = futures::stream::iter(snapshots)
            .map(|id| async move { manifest_ids(repository, &id).await })
            .buffer_unordered(READ_AT_ONCE)
            .try_collect()
            .await?;
        let manifests = manifests.into_iter().flatten().map(|id| id.to_string()).collect();
        Ok(Self { manifests, logs, runs, named })
    }

    fn refers_to(&self, file: &File) -> bool {
        match file.kind {
            Kind::Manifest => {
                self.manifests.contains(&file.name) || self.named.contains(&file.name)
            }
            Kind::Log => self.logs.contains(&file.name),
            // What is no result is not ours.
            Kind::Result => file.run().is_none_or(|run| self.runs.contains(run)),
        }
    }
}
