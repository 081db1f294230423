//! Lists the referenced arrays and commits their references, part by part, in bounded memory.
//!
//! A part is committed only when its listing is complete. When a part holds more chunks than a
//! commit may, which happens where an array is fuller than its plan supposed, its listing is given
//! up and it is cut in two.

use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::queue::Queue;
use super::tally::Tally;
use crate::Result;
use crate::batch::{ChunkRules, EmptyChunks, ReferenceBatch};
use crate::commit::{ArrayAddition, Completed, Staging};
use crate::container::{Locations, SourceContainer};
use crate::list::limit::ConcurrencyLimit;
use crate::list::{
    ChunkColumns, ListOptions, ListStats, Listing, PAGE_SIZE, list_chunks, stats_of,
};
use crate::manifest::{ArrayReferences, ManifestWriter, NewManifests};
use crate::metadata::ArrayNode;
use crate::plan::{Part, PlanLimits};
use crate::region::ChunkBox;
use crate::source::Source;

/// Parts listed at a time, when they are small. Each keeps pages of its own that wait, so that
/// large ones, which have requests enough, are listed two at a time.
const CONCURRENT_LISTINGS: usize = 8;

/// Parts of so many pages together keep every request busy.
const BUSY_PAGES: u64 = 64;

/// What is to be listed, and how.
#[derive(Clone)]
pub(super) struct Work<'a> {
    pub(super) source: &'a Source,
    pub(super) container: &'a SourceContainer,
    pub(super) arrays: &'a [ArrayNode],
    /// Chunks along each dimension of an array's manifests, by position.
    pub(super) splits: &'a [Vec<u32>],
    pub(super) empty_chunks: EmptyChunks,
    pub(super) locations: Locations,
    pub(super) limits: PlanLimits,
    /// Requests in flight, over all arrays.
    pub(super) in_flight: Arc<ConcurrencyLimit>,
}

/// A part that is listed completely.
struct Complete {
    part: Part,
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
    ready: Vec<Complete>,
    references: u64,
    /// Known when the first chunk is: the source is asked about the times it lists.
    rules: Option<ChunkRules>,
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
    let writer = ManifestWriter::new(repository, staging.tip(), in_the_making).await?;
    let mut run =
        Run { work, staging, tally, writer, ready: Vec::new(), references: 0, rules: None };
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

impl Run<'_, '_> {
    /// Lists parts until all are complete or a commit is full; gives back those that are not.
    async fn list(&mut self, unit: Vec<Part>, queue: &mut Queue<'_>) -> Result<Vec<Part>> {
        let mut open: Vec<Option<Complete>> = unit.iter().map(|part| self.begin(part)).collect();
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
            let position = current.part.array;
            let Some(array) = self.work.arrays.get(position) else { continue };
            let mut added = 0;
            if let Some(records) = &records {
                let rules = if let Some(rules) = self.rules {
                    rules
                } else {
                    *self.rules.insert(rules_of(self.work, array, records, self.tally).await?)
                };
                added = current.batch.extend(records, array, rules)?;
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

    fn begin(&self, part: &Part) -> Option<Complete> {
        let array = self.work.arrays.get(part.array)?;
        let split = self.work.splits.get(part.array)?;
        let batch = ReferenceBatch::new(&array.layout, part.region.clone(), split);
        Some(Complete { part: part.clone(), batch, stats: ListStats::default() })
    }

    fn accept(&mut self, complete: Complete, queue: &mut Queue<'_>) {
        let found = complete.batch.len();
        self.references += found;
        self.tally.complete(complete.part.array, found, &complete.stats);
        if let Some(expected) = queue.expectations.get_mut(complete.part.array) {
            expected.learn(complete.part.region.chunks(), found);
        }
        self.ready.push(complete);
    }

    /// The parts that are not complete; a lone one that fills a commit by itself is cut in two.
    fn give_up(&mut self, open: Vec<Option<Complete>>, queue: &mut Queue<'_>) -> Vec<Part> {
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

    /// Commits what is ready, and what that completes.
    async fn commit(&mut self, queue: &Queue<'_>) -> Result<()> {
        let ready = std::mem::take(&mut self.ready);
        let mut arrays = Vec::new();
        let mut additions: Vec<ArrayAddition> = Vec::new();
        for Complete { part, mut batch, .. } in ready {
            let position = part.array;
            let Some(array) = self.work.arrays.get(position) else { continue };
            let missing =
                if batch.len() < part.region.chunks() { batch.first_missing() } else { None };
            self.tally.misses(position, missing.clone());
            if batch.is_empty() {
                continue;
            }
            additions.push(ArrayAddition {
                array: position,
                references: batch.len(),
                copied: 0,
                bytes: batch.bytes(),
                sample: batch.first().map(|chunk| chunk.index),
                missing,
            });
            let locations = self.work.container.locations(array, self.work.locations)?;
            arrays.push(ArrayReferences { path: array.path.clone(), locations, batch });
        }
        if self.references == 0 {
            return Ok(());
        }
        self.tally.begin("commit");
        let written = self.writer.write(arrays).await?;
        let (manifests, manifest_bytes) = weight(&written);
        for addition in &additions {
            self.tally.add(addition);
        }
        let completed = Completed {
            next: queue.next(),
            all: queue.is_empty(),
            arrays: additions,
            manifests,
            manifest_bytes,
            ..Completed::default()
        }
        .with_rest(queue.rest());
        let what = format!("{} references", self.references);
        self.staging.commit(&what, written, completed).await?;
        self.tally.committed(self.staging.commits());
        self.references = 0;
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
    let array = work.arrays.get(part.array)?.clone();
    let (source, limit) = (work.source.clone(), Arc::clone(&work.in_flight));
    let region: ChunkBox = part.region.clone();
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

/// How this run's chunks become references, judged by the first of them.
async fn rules_of(
    work: &Work<'_>,
    array: &ArrayNode,
    records: &RecordBatch,
    tally: &mut Tally<'_>,
) -> Result<ChunkRules> {
    let columns = ChunkColumns::of(records)?;
    let coords = columns.coords.get(..array.layout.ndim()).unwrap_or_default();
    let next_second = match columns.last_modified.first() {
        Some(time) => work.source.refuses_listed_times(&array.source_key(coords), *time).await?,
        None => false,
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
