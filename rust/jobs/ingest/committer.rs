//! Turns what was staged into commits: manifests, and the record of what is complete with them.
//!
//! What is staged has been listed and written elsewhere, by this process or another; only the
//! committer knows the staging branch.

use std::sync::{Mutex, MutexGuard, PoisonError};

use icechunk::format::SnapshotId;

use super::gatherer::Event;
use super::schedule::Mark;
use super::tally::Tally;
use super::worker::{Staged, StagedPart};
use crate::Result;
use crate::commit::{ArrayAddition, Completed, Staging};
use crate::manifest::NewManifests;

/// Figures that are counted from two sides: by what is listed, and by what is committed meanwhile.
pub(super) struct Counts<'a, 'b>(Mutex<&'a mut Tally<'b>>);

impl<'a, 'b> Counts<'a, 'b> {
    pub(super) fn new(tally: &'a mut Tally<'b>) -> Self {
        Self(Mutex::new(tally))
    }

    fn now(&self) -> MutexGuard<'_, &'a mut Tally<'b>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what a worker tells.
    pub(super) fn tell(&self, event: Event<'_>) {
        match event {
            Event::Found { array, chunks, stats } => self.now().found(array, chunks, stats),
            Event::GivenUp { array, chunks } => self.now().dropped(array, chunks),
            Event::Writing => self.now().begin("commit"),
        }
    }
}

/// Commits what is staged, one after the other.
pub(super) struct Committer<'a, 'b> {
    staging: &'a mut Staging<'b>,
    counts: &'a Counts<'a, 'b>,
    /// What is complete without a change, to be told with the next commit.
    unchanged: Vec<ArrayAddition>,
}

impl<'a, 'b> Committer<'a, 'b> {
    pub(super) fn new(staging: &'a mut Staging<'b>, counts: &'a Counts<'a, 'b>) -> Self {
        Self { staging, counts, unchanged: Vec::new() }
    }

    /// The snapshot that the next commit follows.
    pub(super) fn tip(&self) -> &SnapshotId {
        self.staging.tip()
    }

    /// Tells what a user should know.
    pub(super) fn warn(&mut self, text: String) {
        self.counts.now().warn(text);
    }

    /// Counts what a worker tells.
    pub(super) fn tell(&self, event: Event<'_>) {
        self.counts.tell(event);
    }

    /// Commits what is staged, and that it is complete; nothing, when nothing is to be changed.
    /// `left` is what is left to be done after it.
    pub(super) async fn commit(&mut self, staged: Staged, left: Mark) -> Result<()> {
        let written = self.count(staged);
        let changes: u64 = written.iter().map(|new| new.changes.count()).sum();
        if changes == 0 {
            return Ok(());
        }
        let weights = written.iter().map(NewManifests::weight);
        let (manifests, manifest_bytes) =
            weights.fold((0, 0), |(count, bytes), (more, size)| (count + more, bytes + size));
        let completed = Completed {
            next: left.next,
            all: left.all,
            arrays: std::mem::take(&mut self.unchanged),
            manifests,
            manifest_bytes,
            ..Completed::default()
        }
        .with_rest(&left.rest);
        self.staging.commit(&format!("{changes} references"), written, completed).await?;
        self.counts.now().committed(self.staging.commits());
        Ok(())
    }

    /// Counts what is staged; gives back its manifests.
    fn count(&mut self, staged: Staged) -> Vec<NewManifests> {
        let mut tally = self.counts.now();
        for warning in staged.warnings {
            tally.warn(warning);
        }
        let mut written = Vec::new();
        for StagedPart { addition, listing, manifests } in staged.parts {
            tally.complete(addition.array, addition.references, &listing);
            let Some(manifests) = manifests else {
                tally.misses(addition.array, addition.missing);
                continue;
            };
            tally.add(&addition);
            self.unchanged.push(addition);
            written.push(manifests);
        }
        written
    }
}
