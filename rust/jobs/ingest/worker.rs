//! Lists parts and writes their manifests, in bounded memory: what becomes of a schedule and of
//! storage is a value ([`Staged`]), small and serialisable, that somebody else commits.
//!
//! A part is staged only when its listing is complete. A listing that would fill more than a commit
//! is given up and goes back to the schedule. Nothing here knows of branches or snapshots but the
//! one that the manifests are to follow.

use std::collections::HashMap;

use arrow_array::RecordBatch;
use futures::StreamExt as _;
use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::format::snapshot::ManifestFileInfo;
use serde::{Deserialize, Serialize};

use super::JobSource;
use super::schedule::Schedule;
use super::work::{Work, in_order, is_paged, listing};
use crate::batch::{ChecksumBy, ChunkRules, ReferenceBatch};
use crate::commit::ArrayAddition;
use crate::grid::piece::Piece;
use crate::list::{ChunkColumns, ListStats, PAGE_SIZE};
use crate::manifest::{ArrayReferences, CommittedChunks, ManifestWriter, NewManifests, Unwritten};
use crate::plan::Part;
use crate::source::Staleness;
use crate::{Error, ErrorKind, Result};

/// Parts listed at a time, when they are small. Each keeps pages of its own that wait, so that
/// large ones, which have requests enough, are listed two at a time.
const CONCURRENT_LISTINGS: usize = 64;

/// The same where listings are no requests: of a file system, each has threads of its own.
const CONCURRENT_WALKS: usize = 8;

/// Parts of so many pages together keep every request busy.
const BUSY_PAGES: u64 = 64;

/// What is to be told as it happens; the rest comes with what is staged.
#[derive(Debug, Clone, Copy)]
pub(in crate::jobs) enum Event<'a> {
    /// Chunks of an array were found, at this cost.
    Found { array: usize, chunks: u64, stats: &'a ListStats },
    /// The listing of a part that had found so many chunks was given up.
    GivenUp { array: usize, chunks: u64 },
    /// Manifests are being written.
    Writing,
}

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

/// A part whose listing is running or complete.
pub(in crate::jobs) struct Listed<'a> {
    pub(in crate::jobs) part: Part,
    pub(in crate::jobs) piece: &'a Piece,
    pub(in crate::jobs) batch: ReferenceBatch,
    pub(in crate::jobs) stats: ListStats,
}

/// Parts listed together: those that are complete, and those that were given up with the number of
/// chunks that they held until then.
#[derive(Default)]
struct Outcome<'a> {
    complete: Vec<Listed<'a>>,
    given_up: Vec<(Part, u64)>,
}

/// Lists parts and writes their manifests; commits nothing.
pub(in crate::jobs) struct Worker<'a> {
    pub(super) gatherer: Gatherer<'a>,
    pub(super) writer: Writer<'a>,
}

/// Lists parts.
pub(in crate::jobs) struct Gatherer<'a> {
    work: &'a Work<'a>,
    /// What shares the memory with what is listed.
    unwritten: Unwritten,
    /// Of each source; known when its first chunk is: it is asked about the times it lists.
    rules: HashMap<usize, ChunkRules>,
    warnings: Vec<String>,
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
        let (unwritten, rules, warnings) = (writer.unwritten(), HashMap::new(), Vec::new());
        let gatherer = Gatherer { work, unwritten, rules, warnings };
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
        let ready = self.gatherer.gather(schedule, tell).await?;
        if ready.is_empty() {
            return Ok(None);
        }
        let parts = self.writer.write(parent, ready, tell).await?;
        // Whoever commits it has its log.
        self.writer.unwritten().committed();
        Ok(Some(Staged { parts, warnings: self.gatherer.take_warnings() }))
    }
}

impl<'a> Gatherer<'a> {
    /// One that writes nothing.
    pub(in crate::jobs) fn new(work: &'a Work<'a>) -> Self {
        let (rules, warnings) = (HashMap::new(), Vec::new());
        Self { work, unwritten: Unwritten::default(), rules, warnings }
    }

    /// Lists parts until a commit is full or the schedule has no more; none when nothing was left.
    pub(in crate::jobs) async fn gather(
        &mut self,
        schedule: &mut Schedule<'_>,
        tell: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<Vec<Listed<'a>>> {
        let mut ready: Vec<Listed<'a>> = Vec::new();
        let mut references = 0;
        loop {
            let parts = schedule.take(references);
            if parts.is_empty() {
                break;
            }
            let room = self.work.limits.references_per_commit.saturating_sub(references);
            let expected = schedule.expected_of(&parts);
            let Outcome { complete, given_up } = self.list(&parts, room, expected, tell).await?;
            for listed in complete {
                references += listed.batch.len();
                schedule.learn(&listed.part, listed.batch.len());
                ready.push(listed);
            }
            if !given_up.is_empty() {
                schedule.give_up(given_up, references == 0);
                if !ready.is_empty() {
                    break;
                }
            }
        }
        Ok(ready)
    }

    /// What a user should know of what was listed since the last time.
    pub(in crate::jobs) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Lists parts, several at a time, until all are complete or they hold more than `room` chunks;
    /// `expected` tells how many are likely.
    async fn list(
        &mut self,
        parts: &[Part],
        room: u64,
        expected: u64,
        tell: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<Outcome<'a>> {
        let mut open: Vec<_> = parts.iter().map(|part| self.begin(part)).collect();
        let listings: Vec<_> = in_order(self.work, parts)
            .into_iter()
            .filter_map(|(number, shared)| listing(number, self.work, parts.get(number)?, shared))
            .collect();
        let each = expected / u64::from(PAGE_SIZE) / (parts.len().max(1) as u64);
        let busy = usize::try_from(BUSY_PAGES / each.max(1)).unwrap_or(CONCURRENT_LISTINGS);
        let walked = parts.iter().any(|part| !is_paged(self.work, part));
        let most = if walked { CONCURRENT_WALKS } else { CONCURRENT_LISTINGS };
        let at_once = busy.clamp(2, most);
        let mut pages = futures::stream::iter(listings).flatten_unordered(at_once);
        let mut outcome = Outcome::default();
        let mut found = 0;
        loop {
            // A fifth stays free: manifests in the making and pages take memory at the same time.
            self.unwritten.room_for(found, room - room / 5).await;
            let Some((number, records, stats)) = pages.next().await else { break };
            let records = records?;
            let Some(slot) = open.get_mut(number) else { continue };
            let Some(current) = slot.as_mut() else { continue };
            current.stats.add(&stats);
            let (array, piece) = (current.part.array, current.piece);
            let mut chunks = 0;
            if let Some(records) = &records {
                let rules = self.rules_of(piece, records).await?;
                chunks = current.batch.extend(records, &piece.array, &piece.shift, rules)?;
            }
            found += chunks;
            tell(Event::Found { array, chunks, stats: &stats });
            if records.is_none()
                && let Some(listed) = slot.take()
            {
                outcome.complete.push(listed);
            }
            if found > room {
                break;
            }
        }
        for Listed { part, batch, .. } in open.into_iter().flatten() {
            tell(Event::GivenUp { array: part.array, chunks: batch.len() });
            outcome.given_up.push((part, batch.len()));
        }
        Ok(outcome)
    }

    fn begin(&self, part: &Part) -> Option<Listed<'a>> {
        let array = self.work.arrays.get(part.array)?;
        let split = self.work.splits.get(part.array)?;
        let (piece, _) = self.work.piece(part)?;
        let batch = ReferenceBatch::new(&array.spec.layout, part.region.clone(), split);
        Some(Listed { part: part.clone(), piece, batch, stats: ListStats::default() })
    }

    /// How a source's chunks become references, judged by the first of them.
    async fn rules_of(&mut self, piece: &Piece, records: &RecordBatch) -> Result<ChunkRules> {
        if let Some(rules) = self.rules.get(&piece.source) {
            return Ok(*rules);
        }
        let array = &piece.array;
        let columns = ChunkColumns::of(records)?;
        // Of an object without bytes none can be read.
        let row = columns.sizes.iter().position(|size| *size > 0).unwrap_or_default();
        let ndim = array.layout.ndim();
        let coords = columns.coords.get(row * ndim..(row + 1) * ndim).unwrap_or_default();
        let source = self.work.sources.get(piece.source);
        let key = array.source_key(coords);
        let staleness = match (columns.last_modified.get(row), source) {
            (Some(time), Some(JobSource { source, .. })) if columns.sizes.get(row) != Some(&0) => {
                match self.work.checksum {
                    ChecksumBy::LastModified => source.staleness(&key, *time, false).await?,
                    ChecksumBy::ETag => source.staleness(&key, *time, true).await?,
                    ChecksumBy::None => Staleness::ByTime,
                }
            }
            _ => Staleness::ByTime,
        };
        let next_second = staleness == Staleness::ByNextSecond;
        let unnoticed = match (self.work.checksum, staleness) {
            (ChecksumBy::LastModified, Staleness::ByTag) => {
                Some("it honours If-Match: use --checksum etag --restart")
            }
            (_, Staleness::Ignored) => Some(
                "if the source never changes, use --checksum none --restart; else copy it elsewhere",
            ),
            _ => None,
        };
        if let (Some(what), Some(JobSource { source, .. })) = (unnoticed, source) {
            let condition = match self.work.checksum {
                ChecksumBy::ETag => "If-Match",
                _ => "If-Unmodified-Since",
            };
            let place = format!("{}{key}", source.url_prefix());
            return Err(Error::new(
                ErrorKind::Listing,
                format!(
                    "the source's server ignores {condition} ({place}): readers would \
                     silently get other bytes when an object changes"
                ),
            )
            .with_hint(what));
        }
        if next_second {
            self.warnings.push(
                "the source's server refuses reads with an object's own time \
                 (If-Unmodified-Since): references carry the next whole second"
                    .to_owned(),
            );
        }
        let (empty_chunks, checksum) = (self.work.empty_chunks, self.work.checksum);
        let rules = ChunkRules { empty_chunks, checksum, next_second };
        self.rules.insert(piece.source, rules);
        Ok(rules)
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
