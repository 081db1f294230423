//! The end of a run: its publication in one step, and the removal of its staging branch.

use super::super::branch::{moved, publish, remove, snapshot_id};
use super::super::rivals::published_instead;
use super::super::runs::PublishedRun;
use super::super::stored::{fetch, nodes};
use super::{Stage, Staging};
use crate::{ErrorKind, Result};

impl Staging<'_> {
    /// Whether the staging tip holds anything else than the snapshot that the run began with.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when they cannot be read.
    pub async fn changes_anything(&self) -> Result<bool> {
        if let Stage::Pending(pending) = &self.stage {
            return Ok(!pending.draft.is_empty());
        }
        let Some(base) = self.record.base.as_deref() else { return Ok(true) };
        let before = fetch(self.repository, &snapshot_id(base)?).await?;
        let after = fetch(self.repository, &self.tip).await?;
        Ok(nodes(&before)? != nodes(&after)?)
    }

    /// Moves the target branch to the staging tip, if it still is where the run began.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when the branch has moved: nothing is published and the staging
    /// branch is kept. [`ErrorKind::Target`] or [`ErrorKind::Access`] when writing fails.
    pub async fn publish(&mut self) -> Result<()> {
        let branch = &self.record.branch;
        if let Stage::Written(written) = &self.stage {
            return match written.register(self.repository, Some(branch)).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    Err(moved(branch, &self.name()))
                }
                outcome => outcome,
            };
        }
        let base = self.record.base.as_deref().map(snapshot_id).transpose()?;
        publish(self.repository, branch, base.as_ref(), &self.tip, &self.name()).await
    }

    /// The run that has published this one's plan since this one began.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when the history cannot be read.
    pub async fn published_instead(&self) -> Result<Option<PublishedRun>> {
        published_instead(self.repository, &self.identity, &self.record).await
    }

    /// Removes the staging branch; its snapshots stay reachable if they were published.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when it cannot be removed.
    pub async fn remove(&self) -> Result<()> {
        match self.stage {
            Stage::Branch => remove(self.repository, &self.name()).await,
            Stage::Pending(_) | Stage::Nothing | Stage::Written(_) => Ok(()),
        }
    }
}
