//! The ingests that a repository knows of, read from its branches and history alone.

use icechunk::Repository;
use serde::Serialize;

use super::ingest::Results;
use crate::Result;
use crate::commit::{
    RunIdentity, StagedRun, completed, lost_runs, mode, published_runs, record, staged_runs,
};
use crate::target::{Target, TargetLocation};

/// One ingest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunStatus {
    /// Its identifier.
    pub run_id: String,
    /// Its source, free of credentials.
    pub source: String,
    /// The branch that it is, or will be, published on; empty when its plan has expired.
    pub branch: String,
    /// `create`; empty when its plan has expired.
    pub mode: String,
    /// `unfinished`, `staged` (complete, to be published) or `published`.
    pub state: &'static str,
    /// Batches that are committed.
    pub batches_done: u64,
    /// All batches of its plan; 0 when an unfinished run's plan has expired, so that nobody can go
    /// on with it.
    pub batches_total: u64,
    /// When its last snapshot was committed, as RFC 3339.
    pub last_commit_at: String,
    /// Another process holds the repository (local repositories only).
    pub locked: bool,
}

/// What a repository knows of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Ingests, the last one first.
    pub runs: Vec<RunStatus>,
    /// Where virtual chunks are.
    pub containers: Vec<ContainerStatus>,
    /// What could harm an unfinished run.
    pub warnings: Vec<String>,
}

/// A virtual chunk container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerStatus {
    /// What references call it; without one they hold whole URLs.
    pub name: Option<String>,
    /// Its prefix, as it is stored.
    pub url_prefix: String,
}

/// The containers of a repository, and its unfinished and finished ingests of a repository, the last one first.
///
/// # Errors
///
/// [`ErrorKind::TargetNotFound`](crate::ErrorKind::TargetNotFound) when there is no repository,
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when it cannot be read.
pub async fn status(location: &TargetLocation) -> Result<Status> {
    let (target, locked) = Target::open_to_read(location).await?;
    let repository = target.repository();
    let published = published_runs(repository).await?;
    let (mut all, mut warnings) = (Vec::new(), Vec::new());
    for run in staged_runs(repository).await? {
        if published.contains_key(&run.identity.run_id) {
            continue;
        }
        warnings.extend(waiting(repository, &run).await?);
        all.push(RunStatus {
            state: if run.is_complete() { "staged" } else { "unfinished" },
            batches_done: run.batches_done(),
            batches_total: run.record.batches_total,
            last_commit_at: run.tip().map(|tip| tip.flushed_at.to_rfc3339()).unwrap_or_default(),
            run_id: run.identity.run_id,
            source: run.identity.source,
            branch: run.record.branch,
            mode: run.record.options.mode,
            locked,
        });
    }
    for run in lost_runs(repository).await? {
        if published.contains_key(&run.identity.run_id) {
            continue;
        }
        // The branch to publish on and the number of batches were part of the plan.
        all.push(RunStatus {
            run_id: run.identity.run_id,
            source: run.identity.source,
            branch: String::new(),
            mode: String::new(),
            state: "unfinished",
            batches_done: 0,
            batches_total: 0,
            last_commit_at: run.tip.flushed_at.to_rfc3339(),
            locked,
        });
    }
    for (run_id, (branch, snapshots)) in published {
        // Newest first. Expired snapshots are gone, the first one with the plan maybe among them.
        let Some(last) = snapshots.first() else { continue };
        let plan = snapshots.iter().find_map(record);
        let done = completed(last).unwrap_or_default();
        let batches = plan.as_ref().map_or(done.next, |plan| plan.batches_total);
        let told = plan
            .as_ref()
            .map(|plan| plan.options.mode.clone())
            .or_else(|| snapshots.iter().find_map(mode));
        all.push(RunStatus {
            run_id,
            mode: told.unwrap_or_else(|| "create".to_owned()),
            source: RunIdentity::of(last).map(|identity| identity.source).unwrap_or_default(),
            branch,
            state: "published",
            batches_done: batches,
            batches_total: batches,
            last_commit_at: last.flushed_at.to_rfc3339(),
            locked: false,
        });
    }
    all.sort_by(|one, other| other.last_commit_at.cmp(&one.last_commit_at));
    let config = target.stored_config().await?;
    let mut containers: Vec<_> = config
        .iter()
        .flat_map(icechunk::config::RepositoryConfig::virtual_chunk_containers)
        .map(|container| ContainerStatus {
            name: container.name().map(str::to_owned),
            url_prefix: container.url_prefix().to_owned(),
        })
        .collect();
    containers.sort_by(|one, other| one.url_prefix.cmp(&other.url_prefix));
    Ok(Status { runs: all, containers, warnings })
}

/// What to know of results that wait for their commit.
async fn waiting(repository: &Repository, run: &StagedRun) -> Result<Option<String>> {
    let results = Results::of(repository, &run.identity.run_id).count().await?;
    if results == 0 || run.is_complete() {
        return Ok(None);
    }
    let since = run.snapshots.first().map(|first| first.flushed_at.to_rfc3339());
    Ok(Some(format!(
        "{results} results of workers wait for the commit of the ingest {}: until it is published, \
         Icechunk's garbage_collect must not delete what is younger than {}",
        run.identity.run_id,
        since.unwrap_or_default()
    )))
}
