//! The staging branch of one run: its commits, and their publication in one step.
//!
//! Everything is committed on `refreeze/<run id>`, a branch that comes into being with the first
//! commit; readers of the target branch see nothing of it. Publishing is a compare-and-set of the
//! target branch from the tip that the run began with to the tip of the staging branch. An append
//! or update that is all in one commit needs no branch: publishing adds it to the target branch.

use std::collections::HashSet;

use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::store::Store;

use super::branch::snapshot_id;
use super::draft::Draft;
use super::first::{commit_first, create_at};
use super::record::{Completed, RunIdentity, RunRecord};
use super::runs::{StagedRun, staging_branch};
use super::snapshot::{Written, commit_draft, commit_manifests, commit_nothing, write_draft};
use crate::error::TargetContext as _;
use crate::manifest::NewManifests;
use crate::{Error, ErrorKind, Result};

mod publication;

/// The staging branch of a run.
pub struct Staging<'a> {
    repository: &'a Repository,
    identity: RunIdentity,
    record: RunRecord,
    /// The user's message for every commit, if there is one.
    message: Option<String>,
    tip: SnapshotId,
    /// What each commit completes, oldest first.
    completed: Vec<Completed>,
    /// Those of an earlier attempt.
    resumed: usize,
    /// Manifests of copied chunks, and their bytes, which the first commit has brought.
    copied: (u64, u64),
    stage: Stage,
}

/// Where a run's commits are.
enum Stage {
    /// On the staging branch.
    Branch,
    /// The first one is not made yet: it may become one with the second.
    Pending(Box<Pending>),
    /// Nowhere: making the first one has failed.
    Nothing,
    /// All of the run is in one snapshot, which is written and in no history yet.
    Written(Written),
}

/// A first commit that is not made yet.
struct Pending {
    draft: Draft,
    completed: Completed,
    /// Whether the run is to be published as soon as it is complete.
    publish: bool,
}

impl<'a> Staging<'a> {
    /// Begins a run with the commit of `store`, an uncommitted session on the run's base; the
    /// staging branch appears with it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] or [`ErrorKind::Access`] when writing fails.
    pub async fn begin(
        repository: &'a Repository,
        store: &Store,
        identity: RunIdentity,
        record: RunRecord,
        message: Option<String>,
        completed: Completed,
    ) -> Result<Self> {
        let branch = staging_branch(&identity.run_id);
        let properties = identity.properties(&completed, Some(&record));
        let text = text(message.as_deref(), "metadata and coordinates");
        let tip = commit_first(repository, store, &branch, &text, properties).await?;
        let copied = manifests_since(repository, record.base.as_deref(), &tip).await?;
        Ok(Self {
            repository,
            identity,
            record,
            message,
            tip,
            completed: vec![completed],
            resumed: 0,
            copied,
            stage: Stage::Branch,
        })
    }

    /// Begins a run with changes of arrays that are there. They are committed with what follows:
    /// where that is all and is to be published, in one commit and without a branch of its own;
    /// repositories that grow every day would otherwise be full of those.
    #[must_use]
    pub fn draft(
        repository: &'a Repository,
        draft: Draft,
        identity: RunIdentity,
        record: RunRecord,
        message: Option<String>,
        completed: Completed,
        publish: bool,
    ) -> Self {
        let (tip, copied) = (draft.parent.id(), draft.written);
        Self {
            repository,
            identity,
            record,
            message,
            tip,
            completed: Vec::new(),
            resumed: 0,
            copied,
            stage: Stage::Pending(Box::new(Pending { draft, completed, publish })),
        }
    }

    /// Goes on with a run that was stopped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] for a run without a commit, which cannot be.
    pub fn resume(
        repository: &'a Repository,
        run: StagedRun,
        message: Option<String>,
    ) -> Result<Self> {
        let Some(tip) = run.to_publish().map(|tip| tip.id.clone()) else {
            return Err(Error::new(
                ErrorKind::Target,
                format!("{} has no commit", run.identity.branch()),
            ));
        };
        let StagedRun { identity, record, completed, .. } = run;
        let resumed = completed.len();
        Ok(Self {
            repository,
            identity,
            record,
            message,
            tip,
            completed,
            resumed,
            copied: (0, 0),
            stage: Stage::Branch,
        })
    }

    /// The run's identifier.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.identity.run_id
    }

    /// The resolved plan.
    #[must_use]
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// The staging branch's name.
    #[must_use]
    pub fn name(&self) -> String {
        self.identity.branch()
    }

    /// The last snapshot committed.
    #[must_use]
    pub fn tip(&self) -> &SnapshotId {
        &self.tip
    }

    /// What each commit completes, oldest first, those of earlier attempts included.
    #[must_use]
    pub fn completed(&self) -> &[Completed] {
        &self.completed
    }

    /// What is complete with the last commit.
    #[must_use]
    pub fn last(&self) -> Completed {
        let pending = match &self.stage {
            Stage::Pending(pending) => Some(&pending.completed),
            _ => None,
        };
        self.completed.last().or(pending).cloned().unwrap_or_default()
    }

    /// Whether no reference has been committed.
    #[must_use]
    pub fn is_without_references(&self) -> bool {
        self.completed.iter().flat_map(|commit| &commit.arrays).all(|array| array.references == 0)
    }

    /// Batches that earlier attempts have committed.
    #[must_use]
    pub fn resumed_batches(&self) -> u64 {
        let last = self.resumed.checked_sub(1).and_then(|last| self.completed.get(last));
        last.map_or(0, |last| last.batches_done(self.record.batches_total))
    }

    /// Commits of this attempt.
    #[must_use]
    pub fn commits(&self) -> u64 {
        (self.completed.len() - self.resumed) as u64
    }

    /// Manifests written by this attempt, and their bytes.
    #[must_use]
    pub fn manifests(&self) -> (u64, u64) {
        self.completed.iter().skip(self.resumed).fold(self.copied, |(count, bytes), commit| {
            (count + commit.manifests, bytes + commit.manifest_bytes)
        })
    }

    /// Commits manifests; `what` is the default message.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when somebody else committed to the staging branch,
    /// [`ErrorKind::Target`] or [`ErrorKind::Access`] when writing fails.
    pub async fn commit(
        &mut self,
        what: &str,
        arrays: Vec<NewManifests>,
        completed: Completed,
    ) -> Result<()> {
        if let Some(pending) = self.take_pending() {
            if completed.all && pending.publish {
                return self.write_all(pending, what, arrays, completed).await;
            }
            self.begin_branch(pending).await?;
        }
        let text = text(self.message.as_deref(), what);
        let properties = self.identity.properties(&completed, None);
        let (repository, branch) = (self.repository, self.name());
        let done =
            commit_manifests(repository, &branch, &self.tip, &text, properties, arrays).await;
        self.tip = match done {
            Ok(tip) => tip,
            Err(error) => return Err(self.taken_over(error).await),
        };
        self.completed.push(completed);
        Ok(())
    }

    fn take_pending(&mut self) -> Option<Pending> {
        match std::mem::replace(&mut self.stage, Stage::Nothing) {
            Stage::Pending(pending) => Some(*pending),
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// Writes the whole run as one snapshot, which publishing makes part of the history.
    async fn write_all(
        &mut self,
        pending: Pending,
        what: &str,
        arrays: Vec<NewManifests>,
        mut completed: Completed,
    ) -> Result<()> {
        let Pending { draft, completed: first, .. } = pending;
        completed.arrays.splice(0..0, first.arrays);
        let text = text(self.message.as_deref(), what);
        let properties = self.identity.properties_of_all(&self.record);
        let id = self.identity.snapshot_id();
        let written = write_draft(self.repository, draft, id, &text, properties, arrays).await?;
        self.tip = written.id();
        self.completed.push(completed);
        self.stage = Stage::Written(written);
        Ok(())
    }

    /// Makes the first commit, and the staging branch at it.
    async fn begin_branch(&mut self, pending: Pending) -> Result<()> {
        let Pending { draft, completed, .. } = pending;
        let text = text(self.message.as_deref(), "metadata and coordinates");
        let properties = self.identity.properties(&completed, Some(&self.record));
        self.tip =
            commit_draft(self.repository, None, draft, &text, properties, Vec::new()).await?;
        self.completed.push(completed);
        create_at(self.repository, &self.name(), &self.tip).await?;
        self.stage = Stage::Branch;
        Ok(())
    }

    /// Commits what no references came after, if that is anything.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn settle(&mut self) -> Result<()> {
        match self.take_pending() {
            Some(pending) if pending.publish => {
                let completed = self.all_complete();
                self.write_all(pending, "metadata and coordinates", Vec::new(), completed).await
            }
            Some(pending) => self.begin_branch(pending).await,
            None => Ok(()),
        }
    }

    /// Makes the staging branch, if it is not there yet, that others may work on the run.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn begin_now(&mut self) -> Result<()> {
        match self.take_pending() {
            Some(pending) => self.begin_branch(pending).await,
            None => Ok(()),
        }
    }

    /// Whether an earlier attempt has committed anything.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed > 0
    }

    fn all_complete(&self) -> Completed {
        Completed { next: self.record.batches_total, all: true, ..Completed::default() }
    }

    /// Records that everything is complete, when no commit on the staging branch has said so.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn mark_complete(&mut self) -> Result<()> {
        if let Some(pending) = self.take_pending() {
            self.begin_branch(pending).await?;
        }
        let (repository, branch) = (self.repository, self.name());
        let text = text(self.message.as_deref(), "complete");
        if let Stage::Written(written) = &self.stage {
            // Its properties do not hold the plan, without which nobody could publish it: another
            // commit does, and the branch begins there.
            written.register(repository, None).await?;
            let properties = self.identity.properties(&self.last(), Some(&self.record));
            let nothing = Draft::of(repository, &self.tip).await?;
            self.tip =
                commit_draft(repository, None, nothing, &text, properties, Vec::new()).await?;
            create_at(repository, &branch, &self.tip).await?;
            self.stage = Stage::Branch;
            return Ok(());
        }
        if self.last().all || matches!(self.stage, Stage::Nothing) {
            return Ok(());
        }
        let completed = self.all_complete();
        let properties = self.identity.properties(&completed, None);
        let done = commit_nothing(repository, &branch, &self.tip, &text, properties).await;
        self.tip = match done {
            Ok(tip) => tip,
            Err(error) => return Err(self.taken_over(error).await),
        };
        self.completed.push(completed);
        Ok(())
    }

    /// What an error means when another process works on the same run, or has finished it.
    async fn taken_over(&self, error: Error) -> Error {
        let gone = || async {
            let branches = self.repository.list_branches().await;
            branches.is_ok_and(|branches| !branches.contains(&self.name()))
        };
        let run_id = &self.identity.run_id;
        if error.kind() == ErrorKind::Conflict {
            let message = format!("another process is at work on the run {run_id}");
            return Error::new(ErrorKind::Conflict, message).with_hint(
                "nothing is lost: let the other process finish, or stop it and run the same \
                 command again",
            );
        }
        if gone().await {
            let message = format!("another process has finished or discarded the run {run_id}");
            return Error::new(ErrorKind::Conflict, message)
                .with_hint("run the same command again to see what is published");
        }
        error
    }
}

/// The manifests that a snapshot has and an earlier one has not, and their bytes.
async fn manifests_since(
    repository: &Repository,
    base: Option<&str>,
    tip: &SnapshotId,
) -> Result<(u64, u64)> {
    let files = async |id: &SnapshotId| {
        let files = repository.lookup_manifest_files(id).await;
        files.doing(|| format!("read snapshot {id}")).map(Iterator::collect::<Vec<_>>)
    };
    let before: HashSet<_> = match base {
        Some(base) => files(&snapshot_id(base)?).await?.into_iter().map(|file| file.id).collect(),
        None => HashSet::new(),
    };
    let new = files(tip).await?.into_iter().filter(|file| !before.contains(&file.id));
    Ok(new.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.size_bytes)))
}

fn text(message: Option<&str>, what: &str) -> String {
    message.map_or_else(|| format!("refreeze: {what}"), str::to_owned)
}
