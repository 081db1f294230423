//! Lists the referenced arrays and commits their references in bounded batches.

use arrow_array::RecordBatch;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::json;

use super::tally::Tally;
use crate::Result;
use crate::batch::{ChunkRules, EmptyChunks, ReferenceBatch};
use crate::commit::Staging;
use crate::container::SourceContainer;
use crate::list::{ChunkColumns, ListStats, list_chunks};
use crate::manifest::set_references;
use crate::metadata::ArrayNode;
use crate::source::Source;

/// Arrays listed at a time; each is listed serially.
const CONCURRENT_LISTINGS: usize = 8;

/// What is to be listed, and how.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) source: &'a Source,
    pub(super) container: &'a SourceContainer,
    pub(super) arrays: &'a [ArrayNode],
    pub(super) empty_chunks: EmptyChunks,
    pub(super) references_per_commit: usize,
}

/// References that wait for a commit, by position of the array.
struct Pending {
    batches: Vec<ReferenceBatch>,
    references: usize,
}

/// Lists every referenced array and commits what is found, in bounded batches.
pub(super) async fn ingest(
    work: Work<'_>,
    staging: &mut Staging<'_>,
    tally: &mut Tally<'_>,
) -> Result<()> {
    let mut listings = Vec::new();
    for (position, array) in work.arrays.iter().enumerate() {
        if !array.loaded {
            listings.push(listing(position, work.source, array));
        }
    }
    let mut pages = futures::stream::iter(listings).flatten_unordered(CONCURRENT_LISTINGS);

    let mut pending =
        Pending { batches: vec![ReferenceBatch::default(); work.arrays.len()], references: 0 };
    tally.begin("list");
    // Known when the first chunk is: the source is asked about the times it lists.
    let mut rules = None;
    while let Some((position, records, stats)) = pages.next().await {
        let mut added = 0;
        let records = records?;
        if let (None, Some(records), Some(array)) = (rules, &records, work.arrays.get(position)) {
            rules = Some(rules_of(work, array, records, tally).await?);
        }
        if let Some(records) = records
            && let Some(rules) = rules
            && let Some(array) = work.arrays.get(position)
            && let Some(waiting) = pending.batches.get_mut(position)
        {
            let before = waiting.len();
            waiting.extend(&records, array, rules)?;
            added = waiting.len() - before;
        }
        pending.references += added;
        tally.found(position, added as u64, stats);
        if pending.references >= work.references_per_commit {
            commit(work, staging, &mut pending, tally).await?;
        }
    }
    commit(work, staging, &mut pending, tally).await
}

/// A page of an array's listing, or its end, and what the listing has cost so far.
type Listed = (usize, Result<Option<RecordBatch>>, ListStats);

/// The listing of one array, which begins when it is first polled.
fn listing(position: usize, source: &Source, array: &ArrayNode) -> BoxStream<'static, Listed> {
    let (source, array) = (source.clone(), array.clone());
    futures::stream::once(async move {
        let listing = list_chunks(&source, &array);
        let stats = listing.stats_handle();
        let end = futures::stream::once(std::future::ready(Ok(None)));
        let pages = listing.batches.map(|records| records.map(Some)).chain(end);
        pages.map(move |records| (position, records, stats()))
    })
    .flatten()
    .boxed()
}

/// How this run's chunks become references, judged by the first of them.
async fn rules_of(
    work: Work<'_>,
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

async fn commit(
    work: Work<'_>,
    staging: &mut Staging<'_>,
    pending: &mut Pending,
    tally: &mut Tally<'_>,
) -> Result<()> {
    if pending.references == 0 {
        return Ok(());
    }
    tally.begin("commit");
    let store = staging.store().await?;
    let mut parts = Vec::new();
    for (position, (array, waiting)) in work.arrays.iter().zip(&mut pending.batches).enumerate() {
        if waiting.is_empty() {
            continue;
        }
        let batch = std::mem::take(waiting);
        tally.add(position, &batch);
        parts.push(json!({ "array": array.path, "references": batch.len() }));
        set_references(&store, work.container, array, batch).await?;
    }
    let what = format!("{} references", pending.references);
    staging.commit(&store, &what, json!(parts)).await?;
    tally.committed(staging.commits());
    pending.references = 0;
    Ok(())
}
