//! Lists the referenced arrays and commits their references, part by part, in bounded memory.
//!
//! A part is committed only when its listing is complete. When a part holds more chunks than a
//! commit may, which happens where an array is fuller than its plan supposed, its listing is given
//! up and it is cut in two.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::queue::Queue;
use super::tally::Tally;
use super::{JobArray, JobSource};
use crate::Result;
use crate::batch::{ChunkRules, EmptyChunks, ReferenceBatch};
use crate::commit::{ArrayAddition, Completed, Staging};
use crate::grid::piece::{Piece, piece_of};
use crate::list::limit::ConcurrencyLimit;
use crate::list::{
    ChunkColumns, ListOptions, ListStats, Listing, PAGE_SIZE, list_chunks, stats_of,
};
use crate::manifest::{ArrayReferences, Changes, ManifestWriter, NewManifests};
use crate::plan::{Part, PlanLimits};
use crate::source::Source;
use crate::target::container::{Locations, SourceContainer};

/// Parts listed at a time, when they are small. Each keeps pages of its own that wait, so that
/// large ones, which have requests enough, are listed two at a time.
const CONCURRENT_LISTINGS: usize = 8;

/// Parts of so many pages together keep every request busy.
const BUSY_PAGES: u64 = 64;

/// What is to be listed, and how.
#[derive(Clone)]
pub(super) struct Work<'a> {
    pub(super) sources: &'a [JobSource],
    /// Of each source, by position.
    pub(super) containers: &'a [SourceContainer],
    pub(super) arrays: &'a [JobArray],
    /// Chunks along each dimension of an array's manifests, by position.
    pub(super) splits: &'a [Vec<u32>],
    pub(super) empty_chunks: EmptyChunks,
    pub(super) locations: Locations,
    /// Whether there may be references already, which what is found takes the place of.
    pub(super) replaces: bool,
    pub(super) limits: PlanLimits,
    /// Requests in flight, over all arrays.
    pub(super) in_flight: Arc<ConcurrencyLimit>,
}

impl<'a> Work<'a> {
    /// Where the chunks of a part are.
    fn piece(&self, part: &Part) -> Option<(&'a Piece, &'a Source)> {
        let piece = piece_of(&self.arrays.get(part.array)?.pieces, &part.region)?;
        Some((piece, &self.sources.get(piece.source)?.source))
    }
}

/// A part that is listed completely.
struct Complete<'a> {
    part: Part,
    piece: &'a Piece,
    batch: ReferenceBatch,
    stats: ListStats,
}

/// A run of listings and commits.
struct Run<'a, 'b> {
    work: &'a Work<'a>,
    staging: &'a mut Staging<'b>,
    tally: &'a mut Tally<'b>,
    writer: ManifestWriter,
    /// Parts that wait for a commit, and their references.
    ready: Vec<Complete<'a>>,
    references: u64,
    /// What is complete without a change, to be told with the next commit.
    unchanged: Vec<ArrayAddition>,
    /// Of each source; known when its first chunk is: it is asked about the times it lists.
    rules: HashMap<usize, ChunkRules>,
}

/// Lists everything in the queue and commits what is found.
///
/// What fits a commit together is listed together, several parts at a time.
pub(super) async fn ingest<'b>(
    work: &Work<'_>,
    mut queue: Queue<'_>,
    staging: &mut Staging<'b>,
    tally: &mut Tally<'b>,
    repository: &icechunk::Repository,
) -> Result<()> {
    tally.begin("list");
    let limits = work.limits;
    let in_the_making = limits
        .references_per_manifest
        .saturating_mul(u32::try_from(limits.builders).unwrap_or(u32::MAX));
    let writer = ManifestWriter::new(repository, staging.tip(), in_the_making);
    let mut run = Run {
        work,
        staging,
        tally,
        writer,
        ready: Vec::new(),
        references: 0,
        unchanged: Vec::new(),
        rules: HashMap::new(),
    };
    loop {
        let room = limits.references_per_commit.saturating_sub(run.references);
        let unit = queue.take(room, run.references == 0);
        if unit.is_empty() {
            if queue.is_empty() {
                break;
            }
            run.commit(&queue).await?;
            continue;
        }
        if let [part] = unit.as_slice()
            && let Some(halves) = run.halves_if_too_large(part, &queue)
        {
            queue.put_back(halves);
            continue;
        }
        let undone = run.list(unit, &mut queue).await?;
        if !undone.is_empty() {
            queue.put_back(undone);
            run.commit(&queue).await?;
        }
    }
    run.commit(&queue).await
}

impl<'a> Run<'a, '_> {
    /// Lists parts until all are complete or a commit is full; gives back those that are not.
    async fn list(&mut self, unit: Vec<Part>, queue: &mut Queue<'_>) -> Result<Vec<Part>> {
        let mut open: Vec<Option<Complete<'_>>> =
            unit.iter().map(|part| self.begin(part)).collect();
        let listings: Vec<_> = unit
            .iter()
            .enumerate()
            .filter_map(|(number, part)| listing(number, self.work, part))
            .collect();
        let expected = unit.iter().map(|part| queue.expected(part)).fold(0, u64::saturating_add);
        let each = expected / u64::from(PAGE_SIZE) / (unit.len().max(1) as u64);
        let busy = usize::try_from(BUSY_PAGES / each.max(1)).unwrap_or(CONCURRENT_LISTINGS);
        let at_once = busy.clamp(2, CONCURRENT_LISTINGS);
        let mut pages = futures::stream::iter(listings).flatten_unordered(at_once);
        let mut listed = 0;
        while let Some((number, records, stats)) = pages.next().await {
            let records = records?;
            let Some(slot) = open.get_mut(number) else { continue };
            let Some(current) = slot.as_mut() else { continue };
            current.stats.add(&stats);
            let (position, piece) = (current.part.array, current.piece);
            let mut added = 0;
            if let Some(records) = &records {
                let rules = if let Some(rules) = self.rules.get(&piece.source) {
                    *rules
                } else {
                    let rules = rules_of(self.work, piece, records, self.tally).await?;
                    *self.rules.entry(piece.source).or_insert(rules)
                };
                added = current.batch.extend(records, &piece.array, &piece.shift, rules)?;
            }
            listed += added;
            self.tally.found(position, added, &stats);
            if records.is_none()
                && let Some(complete) = slot.take()
            {
                listed -= complete.batch.len();
                self.accept(complete, queue);
            }
            if self.references + listed > self.work.limits.references_per_commit {
                drop(pages);
                return Ok(self.give_up(open, queue));
            }
        }
        Ok(Vec::new())
    }

    fn begin(&self, part: &Part) -> Option<Complete<'a>> {
        let array = self.work.arrays.get(part.array)?;
        let split = self.work.splits.get(part.array)?;
        let (piece, _) = self.work.piece(part)?;
        let batch = ReferenceBatch::new(&array.node.layout, part.region.clone(), split);
        Some(Complete { part: part.clone(), piece, batch, stats: ListStats::default() })
    }

    fn accept(&mut self, complete: Complete<'a>, queue: &mut Queue<'_>) {
        let found = complete.batch.len();
        self.references += found;
        self.tally.complete(complete.part.array, found, &complete.stats);
        if let Some(expected) = queue.expectations.get_mut(complete.part.array) {
            expected.learn(complete.part.region.chunks(), found);
        }
        self.ready.push(complete);
    }

    /// The parts that are not complete; a lone one that fills a commit by itself is cut in two.
    fn give_up(&mut self, open: Vec<Option<Complete<'_>>>, queue: &mut Queue<'_>) -> Vec<Part> {
        let alone = self.references == 0;
        let open: Vec<_> = open.into_iter().flatten().collect();
        for given_up in &open {
            // At least as full as that: what is left is taken in smaller bites.
            let (found, possible) = (given_up.batch.len(), given_up.part.region.chunks());
            self.tally.dropped(given_up.part.array, found);
            if let Some(expected) = queue.expectations.get_mut(given_up.part.array) {
                expected.learn(possible, found.saturating_mul(2).min(possible));
            }
        }
        let mut parts: Vec<_> = open.into_iter().map(|given_up| given_up.part).collect();
        if let ([part], true) = (parts.as_slice(), alone)
            && let Some(halves) = self.halves(part)
        {
            parts = halves;
        }
        parts
    }

    /// What is known to be too much for a commit is not listed in vain.
    fn halves_if_too_large(&self, part: &Part, queue: &Queue<'_>) -> Option<Vec<Part>> {
        let too_large = queue.expected(part) > self.work.limits.references_per_commit;
        if too_large { self.halves(part) } else { None }
    }

    /// A part cut in two, where its manifests end if that is possible.
    fn halves(&self, part: &Part) -> Option<Vec<Part>> {
        let split = self.work.splits.get(part.array).map_or(&[][..], Vec::as_slice);
        let (low, high) = part.region.halves(split)?;
        let array = part.array;
        Some(vec![Part { array, region: low }, Part { array, region: high }])
    }

    /// Commits what is ready, and what that completes; nothing, when nothing is to be changed.
    async fn commit(&mut self, queue: &Queue<'_>) -> Result<()> {
        let ready = std::mem::take(&mut self.ready);
        let mut arrays = Vec::new();
        let mut additions: Vec<ArrayAddition> = Vec::new();
        for Complete { part, piece, mut batch, .. } in ready {
            let position = part.array;
            let (Some(array), Some(container)) =
                (self.work.arrays.get(position), self.work.containers.get(piece.source))
            else {
                continue;
            };
            let missing =
                if batch.len() < part.region.chunks() { batch.first_missing() } else { None };
            self.tally.misses(position, missing.clone());
            if batch.is_empty() && !self.work.replaces {
                continue;
            }
            additions.push(ArrayAddition {
                references: batch.len(),
                bytes: batch.bytes(),
                sample: batch.first().map(|chunk| chunk.index),
                missing,
                ..ArrayAddition::of(position)
            });
            let locations = container.piece_locations(piece, self.work.locations)?;
            arrays.push(ArrayReferences { path: array.node.path.clone(), locations, batch });
        }
        self.references = 0;
        if arrays.is_empty() {
            return Ok(());
        }
        self.tally.begin("commit");
        let written = self.writer.write(self.staging.tip(), arrays).await?;
        let mut changes = Changes::default();
        for (addition, array) in additions.iter_mut().zip(&written) {
            changes.add(array.changes);
            addition.changed = array.changes.changed;
            addition.unchanged = array.changes.unchanged;
            addition.removed = array.changes.removed;
            self.tally.add(addition);
        }
        let mut arrays = std::mem::take(&mut self.unchanged);
        arrays.extend(additions);
        if changes.count() == 0 {
            self.unchanged = arrays;
            return Ok(());
        }
        let (manifests, manifest_bytes) = weight(&written);
        let completed = Completed {
            next: queue.next(),
            all: queue.is_empty(),
            arrays,
            manifests,
            manifest_bytes,
            ..Completed::default()
        }
        .with_rest(queue.rest());
        let what = format!("{} references", changes.count());
        self.staging.commit(&what, written, completed).await?;
        self.tally.committed(self.staging.commits());
        Ok(())
    }
}

/// How many manifests were written, and their bytes.
fn weight(written: &[NewManifests]) -> (u64, u64) {
    let manifests = written.iter().flat_map(|array| &array.written);
    manifests.fold((0, 0), |(count, bytes), manifest| (count + 1, bytes + manifest.file.size_bytes))
}

/// A page of a part's listing, or its end, and what the listing has cost since the last.
type Listed = (usize, Result<Option<RecordBatch>>, ListStats);

/// The listing of one part, which begins when it is first polled.
fn listing(number: usize, work: &Work<'_>, part: &Part) -> Option<BoxStream<'static, Listed>> {
    let (piece, source) = work.piece(part)?;
    let (source, array) = (source.clone(), piece.array.clone());
    let (region, limit) = (piece.shift.box_in_source(&part.region), Arc::clone(&work.in_flight));
    let pages = futures::stream::once(async move {
        let options = ListOptions { limit, ..ListOptions::new(1) };
        match list_chunks(&source, &array, region, options) {
            Ok(Listing { batches, stats, .. }) => {
                let end = futures::stream::once(std::future::ready(Ok(None)));
                let pages = batches.map(|records| records.map(Some)).chain(end);
                let mut last = ListStats::default();
                pages
                    .map(move |records| {
                        let now = stats_of(&stats);
                        let since = now.since(&last);
                        last = now;
                        (number, records, since)
                    })
                    .boxed()
            }
            Err(error) => {
                let failed = (number, Err(error), ListStats::default());
                futures::stream::once(std::future::ready(failed)).boxed()
            }
        }
    });
    Some(pages.flatten().boxed())
}

/// How a source's chunks become references, judged by the first of them.
async fn rules_of(
    work: &Work<'_>,
    piece: &Piece,
    records: &RecordBatch,
    tally: &mut Tally<'_>,
) -> Result<ChunkRules> {
    let array = &piece.array;
    let columns = ChunkColumns::of(records)?;
    let coords = columns.coords.get(..array.layout.ndim()).unwrap_or_default();
    let source = work.sources.get(piece.source);
    let next_second = match (columns.last_modified.first(), source) {
        (Some(time), Some(JobSource { source, .. })) => {
            source.refuses_listed_times(&array.source_key(coords), *time).await?
        }
        _ => false,
    };
    if next_second {
        tally.warn(
            "the source's server refuses reads that carry an object's own time \
             (If-Unmodified-Since): references carry the next whole second"
                .to_owned(),
        );
    }
    Ok(ChunkRules { empty_chunks: work.empty_chunks, next_second })
}
