//! Lists parts and writes their manifests, in bounded memory: what becomes of a schedule and of
//! storage is a value ([`Staged`]), small and serialisable, that somebody else commits.
//!
//! A part is staged only when its listing is complete. Nothing here knows of branches or snapshots
//! but the one that the manifests are to follow.

use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::format::snapshot::ManifestFileInfo;
use serde::{Deserialize, Serialize};

use super::gatherer::{Event, Gatherer, Listed};
use super::schedule::Schedule;
use super::work::Work;
use crate::Result;
use crate::commit::ArrayAddition;
use crate::list::ListStats;
use crate::manifest::{ArrayReferences, CommittedChunks, ManifestWriter, NewManifests, Unwritten};

/// A part that was listed completely, and the manifests that are written of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StagedPart {
    /// What was found in it; how that differs from what stood there too.
    pub(super) addition: ArrayAddition,
    /// What its listing cost and met, warnings included.
    pub(super) listing: ListStats,
    /// What its commit adds; none where nothing was found and nothing can be replaced.
    pub(super) manifests: Option<NewManifests>,
}

/// Parts that belong in one commit: all that is left of their listing, whoever commits it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Staged {
    pub(super) parts: Vec<StagedPart>,
    /// What a user should know.
    pub(super) warnings: Vec<String>,
}

impl Staged {
    /// References found.
    pub(super) fn references(&self) -> u64 {
        self.parts.iter().map(|part| part.addition.references).sum()
    }

    /// The manifests that are written of it.
    pub(super) fn manifests(&self) -> impl Iterator<Item = &ManifestFileInfo> {
        let new = self.parts.iter().filter_map(|part| part.manifests.as_ref());
        new.flat_map(|new| new.written.iter().map(|manifest| &manifest.file))
    }

    /// The chunks for the log, part by part.
    pub(super) fn chunks(&mut self) -> impl Iterator<Item = &mut CommittedChunks> {
        let new = self.parts.iter_mut().filter_map(|part| part.manifests.as_mut());
        new.map(|new| &mut new.chunks)
    }
}

/// Lists parts and writes their manifests; commits nothing.
pub(in crate::jobs) struct Worker<'a> {
    pub(super) gatherer: Gatherer<'a>,
    pub(super) writer: Writer<'a>,
}

/// Writes manifests of what was listed.
pub(super) struct Writer<'a> {
    work: &'a Work<'a>,
    writer: ManifestWriter,
}

impl<'a> Worker<'a> {
    /// A worker that writes manifests of the arrays in `snapshot`.
    pub(in crate::jobs) fn new(
        work: &'a Work<'a>,
        repository: &Repository,
        snapshot: &SnapshotId,
    ) -> Self {
        let limits = work.limits;
        let in_the_making = limits
            .references_per_manifest
            .saturating_mul(u32::try_from(limits.builders).unwrap_or(u32::MAX));
        let writer = ManifestWriter::new(repository, snapshot, in_the_making)
            .with_listing_of(work.listed_at);
        let gatherer = Gatherer::new(work, writer.unwritten());
        Self { gatherer, writer: Writer { work, writer } }
    }

    /// Lists parts until a commit is full or the schedule has no more, and writes their manifests,
    /// to be committed after `parent`. None when there was nothing left.
    pub(super) async fn fill(
        &mut self,
        parent: &SnapshotId,
        schedule: &mut Schedule<'_>,
        tell: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<Option<Staged>> {
        let ready = self.gatherer.gather(schedule, 0, false, tell).await?;
        if ready.parts.is_empty() {
            return Ok(None);
        }
        let parts = self.writer.write(parent, ready.parts, tell).await?;
        // Whoever commits it has its log.
        self.writer.unwritten().committed();
        Ok(Some(Staged { parts, warnings: self.gatherer.take_warnings() }))
    }
}

impl Writer<'_> {
    /// What of the references to be written takes memory.
    pub(super) fn unwritten(&self) -> Unwritten {
        self.writer.unwritten()
    }

    /// Writes the manifests of parts, in their order.
    pub(super) async fn write(
        &self,
        parent: &SnapshotId,
        listed: Vec<Listed<'_>>,
        tell: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<Vec<StagedPart>> {
        let (mut parts, mut arrays) = (Vec::with_capacity(listed.len()), Vec::new());
        for Listed { part, piece, mut batch, stats } in listed {
            let position = part.array;
            let (Some(array), Some(container)) =
                (self.work.arrays.get(position), self.work.containers.get(piece.source))
            else {
                continue;
            };
            let missing =
                if batch.len() < part.region.chunks() { batch.first_missing() } else { None };
            let addition = ArrayAddition {
                references: batch.len(),
                bytes: batch.bytes(),
                sample: batch.first().map(|chunk| chunk.index),
                missing,
                ..ArrayAddition::of(position)
            };
            let changes_something = !batch.is_empty() || self.work.replaces;
            parts.push((addition, stats, changes_something));
            if changes_something {
                let locations = container.piece_locations(piece, self.work.locations)?;
                arrays.push(ArrayReferences { path: array.spec.path.clone(), locations, batch });
            }
        }
        let mut written = Vec::new().into_iter();
        if !arrays.is_empty() {
            tell(Event::Writing);
            written = self.writer.write(parent, arrays).await?.into_iter();
        }
        let staged = parts.into_iter().map(|(mut addition, listing, changes_something)| {
            let manifests = if changes_something { written.next() } else { None };
            if let Some(NewManifests { changes, .. }) = &manifests {
                addition.changed = changes.changed;
                addition.unchanged = changes.unchanged;
                addition.removed = changes.removed;
                addition.native = changes.native;
            }
            StagedPart { addition, listing, manifests }
        });
        Ok(staged.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_staged_can_be_handed_to_another_process() {
        let listing = ListStats {
            list_requests: 3,
            foreign_keys: 1,
            foreign_example: Some("air/README".to_owned()),
            warnings: vec!["the server is slow".to_owned()],
            ..ListStats::default()
        };
        let addition =
            ArrayAddition { references: 9, missing: Some(vec![1, 2]), ..ArrayAddition::of(4) };
        let parts = vec![StagedPart { addition, listing, manifests: None }];
        let staged = Staged { parts, warnings: vec!["clocks differ".to_owned()] };
        let text = serde_json::to_string(&staged).unwrap();
        assert_eq!(serde_json::from_str::<Staged>(&text).unwrap(), staged);
    }
}
