//! The staging branch of one ingest: its commits, and their publication in one step.
//!
//! Everything is committed on `refreeze/<run id>`; readers of the target branch see nothing of
//! it. Publishing is a compare-and-set of the target branch from the tip that the run began with
//! to the tip of the staging branch. Commit properties tell which run and plan a commit is of.

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt as _;
use icechunk::Repository;
use icechunk::format::snapshot::SnapshotProperties;
use icechunk::format::{IcechunkFormatErrorKind, ManifestId, NodeId, SnapshotId};
use icechunk::repository::{RepositoryErrorKind, VersionInfo};
use icechunk::store::Store;
use serde_json::{Value, json};
use tokio::sync::RwLock;

use crate::error::TargetContext as _;
use crate::{Error, ErrorKind, Result};

/// Property: identifier of the run.
const RUN: &str = "refreeze.run";
/// Property: fingerprint of the plan.
const PLAN: &str = "refreeze.plan";
/// Property: what the commit completes.
const BATCHES: &str = "refreeze.batches";
/// Property: URL of the source, free of credentials.
const SOURCE: &str = "refreeze.source";

/// What every commit of a run says of it.
#[derive(Debug, Clone)]
pub struct RunDescription {
    /// Fingerprint of the plan.
    pub plan: String,
    /// URL of the source, free of credentials.
    pub source: String,
    /// The user's message for every commit, if there is one.
    pub message: Option<String>,
}

/// An earlier run that published the same plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedRun {
    /// Its run id.
    pub run_id: String,
    /// The last of its snapshots.
    pub snapshot_id: SnapshotId,
}

/// Looks in the history of `branch` for a run of `plan`.
///
/// # Errors
///
/// [`ErrorKind::Target`] when the history cannot be read.
pub async fn find_published(
    repository: &Repository,
    branch: &str,
    plan: &str,
) -> Result<Option<PublishedRun>> {
    let version = VersionInfo::BranchTipRef(branch.to_owned());
    let reading = || format!("read the history of branch {branch}");
    let history = repository.ancestry(&version).await.doing(reading)?;
    let mut history = std::pin::pin!(history);
    while let Some(snapshot) = history.try_next().await.doing(reading)? {
        let property = |name| snapshot.metadata.get(name).and_then(Value::as_str);
        if property(PLAN) == Some(plan) {
            return Ok(Some(PublishedRun {
                run_id: property(RUN).unwrap_or_default().to_owned(),
                snapshot_id: snapshot.id.clone(),
            }));
        }
    }
    Ok(None)
}

/// Whether somebody else moved or created the branch first.
fn lost(error: &RepositoryErrorKind) -> bool {
    matches!(
        error,
        RepositoryErrorKind::Conflict { .. }
            | RepositoryErrorKind::FormatError(IcechunkFormatErrorKind::BranchAlreadyExists { .. })
    )
}

/// The staging branch of a run.
pub struct Staging<'a> {
    repository: &'a Repository,
    run: RunDescription,
    run_id: String,
    /// The branch to publish on.
    branch: String,
    /// Its tip when the run began; `None` when it is created by publishing.
    base: Option<SnapshotId>,
    tip: SnapshotId,
    manifests: HashSet<ManifestId>,
    commits: u64,
    manifests_written: u64,
    manifest_bytes: u64,
}

impl<'a> Staging<'a> {
    /// Begins a run on top of `tip`, which is `branch`'s when the branch exists.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] or [`ErrorKind::Access`] when the branch cannot be created.
    pub async fn begin(
        repository: &'a Repository,
        branch: &str,
        branch_exists: bool,
        tip: SnapshotId,
        run: RunDescription,
    ) -> Result<Self> {
        let run_id = NodeId::random().to_string().to_lowercase();
        let mut staging = Self {
            repository,
            run,
            run_id,
            branch: branch.to_owned(),
            base: branch_exists.then(|| tip.clone()),
            tip: tip.clone(),
            manifests: HashSet::new(),
            commits: 0,
            manifests_written: 0,
            manifest_bytes: 0,
        };
        staging.manifests = staging.manifest_files().await?.into_iter().map(|(id, _)| id).collect();
        repository
            .create_branch(&staging.name(), &tip)
            .await
            .doing(|| format!("create the staging branch {}", staging.name()))?;
        Ok(staging)
    }

    /// The run's identifier.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// The staging branch's name.
    #[must_use]
    pub fn name(&self) -> String {
        format!("refreeze/{}", self.run_id)
    }

    /// The last snapshot committed, or the one that the run began with.
    #[must_use]
    pub fn tip(&self) -> &SnapshotId {
        &self.tip
    }

    /// Commits so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Manifests written so far, and their bytes.
    #[must_use]
    pub fn manifests(&self) -> (u64, u64) {
        (self.manifests_written, self.manifest_bytes)
    }

    /// A writable store on the staging branch; nothing of it is seen before it is committed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when it cannot be opened.
    pub async fn store(&self) -> Result<Store> {
        let session = self
            .repository
            .writable_session(&self.name())
            .await
            .doing(|| format!("open a session on branch {}", self.name()))?;
        Ok(Store::from_session(Arc::new(RwLock::new(session))).await)
    }

    /// Commits a store; `what` is its default message, `batches` what it completes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when somebody else committed to the staging branch,
    /// [`ErrorKind::Target`] or [`ErrorKind::Access`] when writing fails.
    pub async fn commit(&mut self, store: &Store, what: &str, batches: Value) -> Result<()> {
        let message = self.run.message.clone().unwrap_or_else(|| format!("refreeze: {what}"));
        let properties: SnapshotProperties = [
            (RUN, json!(self.run_id)),
            (PLAN, json!(self.run.plan)),
            (SOURCE, json!(self.run.source)),
            (BATCHES, batches),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        self.tip = store
            .session()
            .write()
            .await
            .commit(message)
            .properties(properties)
            .execute()
            .await
            .doing(|| format!("commit {what}"))?;
        self.commits += 1;
        for (id, bytes) in self.manifest_files().await? {
            if self.manifests.insert(id) {
                self.manifests_written += 1;
                self.manifest_bytes += bytes;
            }
        }
        Ok(())
    }

    async fn manifest_files(&self) -> Result<Vec<(ManifestId, u64)>> {
        let files = self
            .repository
            .lookup_manifest_files(&self.tip)
            .await
            .doing(|| format!("read snapshot {}", self.tip))?;
        Ok(files.map(|file| (file.id, file.size_bytes)).collect())
    }

    /// Moves the target branch to the staging tip, if it still is where the run began.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when the branch has moved: nothing is published and the staging
    /// branch is kept. [`ErrorKind::Target`] or [`ErrorKind::Access`] when writing fails.
    pub async fn publish(&self) -> Result<()> {
        let outcome = match &self.base {
            Some(base) => self.repository.reset_branch(&self.branch, &self.tip, Some(base)).await,
            None => self.repository.create_branch(&self.branch, &self.tip).await,
        };
        match outcome {
            Err(error) if lost(&error.kind) => Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "branch {} moved while this ingest was running; nothing was published, and \
                     the ingest is kept on branch {}",
                    self.branch,
                    self.name()
                ),
            )
            .with_hint(
                "run the same command again to ingest onto the new tip (publish --rebase and \
                 --restart, which reuse or discard the kept work, are not in this version)",
            )),
            outcome => outcome.doing(|| format!("publish on branch {}", self.branch)),
        }
    }

    /// Removes the staging branch; its snapshots stay reachable if they were published.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when it cannot be removed.
    pub async fn remove(&self) -> Result<()> {
        self.repository
            .delete_branch(&self.name())
            .await
            .doing(|| format!("delete the staging branch {}", self.name()))
    }
}
