//! Turns what was staged into commits: manifests, and the record of what is complete with them.
//!
//! What is staged has been listed and written elsewhere, by this process or another; only the
//! committer knows the staging branch.

use icechunk::format::SnapshotId;

use super::schedule::Schedule;
use super::tally::Tally;
use super::worker::{Event, Staged, StagedPart};
use crate::Result;
use crate::commit::{ArrayAddition, Completed, Staging};
use crate::manifest::NewManifests;

/// Commits what is staged, one after the other.
pub(super) struct Committer<'a, 'b> {
    staging: &'a mut Staging<'b>,
    tally: &'a mut Tally<'b>,
    /// What is complete without a change, to be told with the next commit.
    unchanged: Vec<ArrayAddition>,
}

impl<'a, 'b> Committer<'a, 'b> {
    pub(super) fn new(staging: &'a mut Staging<'b>, tally: &'a mut Tally<'b>) -> Self {
        Self { staging, tally, unchanged: Vec::new() }
    }

    /// The snapshot that the next commit follows.
    pub(super) fn tip(&self) -> &SnapshotId {
        self.staging.tip()
    }

    /// Tells what a user should know.
    pub(super) fn warn(&mut self, text: String) {
        self.tally.warn(text);
    }

    /// Counts what a worker tells.
    pub(super) fn tell(&mut self, event: Event<'_>) {
        match event {
            Event::Found { array, chunks, stats } => self.tally.found(array, chunks, stats),
            Event::GivenUp { array, chunks } => self.tally.dropped(array, chunks),
            Event::Writing => self.tally.begin("commit"),
        }
    }

    /// Commits what is staged, and that it is complete; nothing, when nothing is to be changed.
    /// `schedule` holds what is left to be done after it.
    pub(super) async fn commit(&mut self, staged: Staged, schedule: &Schedule<'_>) -> Result<()> {
        let Staged { parts, warnings } = staged;
        for warning in warnings {
            self.tally.warn(warning);
        }
        let mut written = Vec::new();
        for StagedPart { addition, listing, manifests } in parts {
            self.tally.complete(addition.array, addition.references, &listing);
            let Some(manifests) = manifests else {
                self.tally.misses(addition.array, addition.missing);
                continue;
            };
            self.tally.add(&addition);
            self.unchanged.push(addition);
            written.push(manifests);
        }
        let changes: u64 = written.iter().map(|new| new.changes.count()).sum();
        if changes == 0 {
            return Ok(());
        }
        let weights = written.iter().map(NewManifests::weight);
        let (manifests, manifest_bytes) =
            weights.fold((0, 0), |(count, bytes), (more, size)| (count + more, bytes + size));
        let completed = Completed {
            next: schedule.next(),
            all: schedule.is_done(),
            arrays: std::mem::take(&mut self.unchanged),
            manifests,
            manifest_bytes,
            ..Completed::default()
        }
        .with_rest(schedule.rest());
        self.staging.commit(&format!("{changes} references"), written, completed).await?;
        self.tally.committed(self.staging.commits());
        Ok(())
    }
}
