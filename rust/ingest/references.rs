//! Lists the referenced arrays and commits their references in bounded batches.

use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::json;

use super::tally::Tally;
use crate::Result;
use crate::batch::{ChunkRules, EmptyChunks, ReferenceBatch};
use crate::commit::Staging;
use crate::container::SourceContainer;
use crate::list::limit::ConcurrencyLimit;
use crate::list::{ChunkColumns, ListOptions, ListStats, Listing, list_chunks, stats_of};
use crate::manifest::set_references;
use crate::metadata::ArrayNode;
use crate::plan::{PlanLimits, batches};
use crate::region::ChunkBox;
use crate::source::Source;

/// Arrays listed at a time.
const CONCURRENT_LISTINGS: usize = 8;

/// What is to be listed, and how.
#[derive(Clone)]
pub(super) struct Work<'a> {
    pub(super) source: &'a Source,
    pub(super) container: &'a SourceContainer,
    pub(super) arrays: &'a [ArrayNode],
    pub(super) empty_chunks: EmptyChunks,
    pub(super) limits: PlanLimits,
    /// Requests in flight, over all arrays.
    pub(super) in_flight: Arc<ConcurrencyLimit>,
}

/// A run of listings and commits.
struct Run<'a, 'b> {
    work: &'a Work<'a>,
    staging: &'a mut Staging<'b>,
    tally: &'a mut Tally<'b>,
    /// References that wait for a commit, by position of the array.
    waiting: Vec<ReferenceBatch>,
    references: usize,
    /// Known when the first chunk is: the source is asked about the times it lists.
    rules: Option<ChunkRules>,
}

/// Lists every referenced array and commits what is found, in bounded batches.
///
/// Arrays that fit a commit are listed several at a time and committed together. A larger one is
/// listed batch by batch, each a range of its leading dimension that ends where manifests do, so
/// that no commit rewrites another's manifests.
pub(super) async fn ingest<'b>(
    work: &Work<'_>,
    staging: &mut Staging<'b>,
    tally: &mut Tally<'b>,
) -> Result<()> {
    tally.begin("list");
    let waiting = vec![ReferenceBatch::default(); work.arrays.len()];
    let mut run = Run { work, staging, tally, waiting, references: 0, rules: None };
    let (mut small, mut large) = (Vec::new(), Vec::new());
    for (position, array) in work.arrays.iter().enumerate().filter(|(_, array)| !array.loaded) {
        let batches = batches(&array.layout, work.limits);
        match <[ChunkBox; 1]>::try_from(batches) {
            Ok([whole]) => small.push(listing(position, work, array, whole)),
            Err(batches) => large.push((position, array, batches)),
        }
    }
    let mut pages = futures::stream::iter(small).flatten_unordered(CONCURRENT_LISTINGS);
    while let Some(listed) = pages.next().await {
        run.take(listed).await?;
    }
    for (position, array, batches) in large {
        let (mut possible, mut found) = (0_u64, 0_u64);
        for batch in batches {
            let room = batch.chunks();
            // Sparse batches share a commit: as many as are expected to fit, at the density so far.
            let expected = match possible {
                0 => u128::from(room),
                _ => u128::from(room) * u128::from(found) / u128::from(possible),
            };
            run.make_room(usize::try_from(expected).unwrap_or(usize::MAX)).await?;
            let mut pages = listing(position, work, array, batch);
            while let Some(listed) = pages.next().await {
                found += run.take(listed).await?;
            }
            possible = possible.saturating_add(room);
        }
    }
    run.commit().await
}

impl Run<'_, '_> {
    /// Takes note of a page of a listing; gives back how many references it added.
    async fn take(&mut self, (position, records, stats): Listed) -> Result<u64> {
        let mut added = 0;
        if let Some(records) = records?
            && let Some(array) = self.work.arrays.get(position)
        {
            let rules = match self.rules {
                Some(rules) => rules,
                None => *self.rules.insert(rules_of(self.work, array, &records, self.tally).await?),
            };
            if let Some(waiting) = self.waiting.get_mut(position) {
                let before = waiting.len();
                waiting.extend(&records, array, rules)?;
                added = waiting.len() - before;
            }
        }
        self.references += added;
        self.tally.found(position, added as u64, &stats);
        self.make_room(0).await?;
        Ok(added as u64)
    }

    /// Commits what waits if it would not fit into one commit with `more`.
    async fn make_room(&mut self, more: usize) -> Result<()> {
        let limit = self.work.limits.references_per_commit;
        if self.references >= limit || self.references.saturating_add(more) > limit {
            self.commit().await?;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        if self.references == 0 {
            return Ok(());
        }
        self.tally.begin("commit");
        let store = self.staging.store().await?;
        let mut parts = Vec::new();
        for (position, (array, waiting)) in
            self.work.arrays.iter().zip(&mut self.waiting).enumerate()
        {
            if waiting.is_empty() {
                continue;
            }
            let batch = std::mem::take(waiting);
            self.tally.add(position, &batch);
            parts.push(json!({ "array": array.path, "references": batch.len() }));
            set_references(&store, self.work.container, array, batch).await?;
        }
        let what = format!("{} references", self.references);
        self.staging.commit(&store, &what, json!(parts)).await?;
        self.tally.committed(self.staging.commits());
        self.references = 0;
        Ok(())
    }
}

/// A page of an array's listing, or its end, and what the listing has cost since the last.
type Listed = (usize, Result<Option<RecordBatch>>, ListStats);

/// The listing of a part of one array, which begins when it is first polled.
fn listing(
    position: usize,
    work: &Work<'_>,
    array: &ArrayNode,
    region: ChunkBox,
) -> BoxStream<'static, Listed> {
    let (source, array, limit) = (work.source.clone(), array.clone(), Arc::clone(&work.in_flight));
    futures::stream::once(async move {
        let options = ListOptions { limit, paths: None, flat: false };
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
                        (position, records, since)
                    })
                    .boxed()
            }
            Err(error) => {
                let failed = (position, Err(error), ListStats::default());
                futures::stream::once(std::future::ready(failed)).boxed()
            }
        }
    })
    .flatten()
    .boxed()
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
