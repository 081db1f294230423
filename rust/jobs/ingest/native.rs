//! Copies the chunks of loaded arrays as native chunks: byte for byte, or those that are given.

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use icechunk::Repository;
use icechunk::format::{ChunkIndices, Path};
use icechunk::store::Store;

use super::tally::Tally;
use super::{IngestJob, JobArray, JobSource};
use crate::batch::{ChunkRules, ReferenceBatch};
use crate::commit::{ArrayAddition, Draft};
use crate::error::TargetContext as _;
use crate::format::node_path;
use crate::grid::chunk_box::ChunkBox;
use crate::grid::piece::Shift;
use crate::list::{ListOptions, ListStats, list_chunks, stats_of};
use crate::manifest::NativeChunk;
use crate::source::Source;
use crate::zarr::metadata::ArrayNode;
use crate::{Error, ErrorKind, Result};

/// Chunks read from the source at a time.
const CONCURRENT_COPIES: usize = 16;

/// Writes the chunks of the copied arrays into an uncommitted store; tells how many of each.
pub(super) async fn copy(
    store: &Store,
    job: &IngestJob,
    tally: &mut Tally<'_>,
) -> Result<Vec<ArrayAddition>> {
    let mut additions = Vec::new();
    for (position, array) in job.arrays.iter().enumerate().filter(|(_, array)| array.node.loaded) {
        let Some(chunks) = &array.chunks else {
            let (copied, missing) = copy_all(store, job, position, array, tally).await?;
            tally.misses(position, missing.clone());
            additions.push(ArrayAddition { copied, missing, ..ArrayAddition::of(position) });
            continue;
        };
        let path = node_path(&array.node.path)?;
        for (coords, bytes) in chunks.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            write(store, &path, coords.clone(), Bytes::copy_from_slice(bytes)).await?;
        }
        additions.push(given(position, chunks, tally));
    }
    Ok(additions)
}

/// Changes documents and native chunks of arrays that are there; tells how many chunks of each.
pub(super) async fn change(
    draft: &mut Draft,
    repository: &Repository,
    job: &IngestJob,
    splits: &[Vec<u32>],
    tally: &mut Tally<'_>,
) -> Result<Vec<ArrayAddition>> {
    let mut additions = Vec::new();
    for (position, (array, split)) in job.arrays.iter().zip(splits).enumerate() {
        draft.set_document(&array.node)?;
        if !array.node.loaded {
            continue;
        }
        let chunks = array.chunks.as_deref().unwrap_or_default();
        draft.set_chunks(repository, &array.node, split, chunks).await?;
        additions.push(given(position, chunks, tally));
    }
    Ok(additions)
}

/// Counts chunks that were given; those without bytes are removed.
fn given(position: usize, chunks: &[NativeChunk], tally: &mut Tally<'_>) -> ArrayAddition {
    let copied = chunks.iter().filter(|(_, bytes)| !bytes.is_empty()).count() as u64;
    tally.complete(position, copied, &ListStats::default());
    ArrayAddition { copied, ..ArrayAddition::of(position) }
}

/// Copies every chunk that an array has in its source; tells how many, and one that is missing.
async fn copy_all(
    store: &Store,
    job: &IngestJob,
    position: usize,
    array: &JobArray,
    tally: &mut Tally<'_>,
) -> Result<(u64, Option<Vec<u32>>)> {
    let node = &array.node;
    let from = array.pieces.first().and_then(|piece| job.sources.get(piece.source));
    let Some(JobSource { source, .. }) = from else { return Ok((0, None)) };
    // Copies carry no times.
    let rules = ChunkRules { empty_chunks: job.empty_chunks, next_second: false };
    let region = ChunkBox::whole(&node.layout);
    let mut chunks = ReferenceBatch::new(&node.layout, region.clone(), &[]);
    let mut listing = list_chunks(source, node, region, ListOptions::new(CONCURRENT_COPIES))?;
    while let Some(records) = listing.batches.try_next().await? {
        chunks.extend(&records, node, &Shift::default(), rules)?;
    }
    let stats = stats_of(&listing.stats);
    let count = chunks.len();
    tally.found(position, count, &stats);
    tally.complete(position, count, &stats);
    let missing = if count < node.layout.chunks() { chunks.first_missing() } else { None };
    let path = node_path(&node.path)?;
    let mut copies = futures::stream::iter(chunks.into_sorted())
        .map(|chunk| read(source, node, chunk.index).boxed())
        .buffer_unordered(CONCURRENT_COPIES);
    while let Some((coords, bytes)) = copies.try_next().await? {
        write(store, &path, coords, bytes).await?;
    }
    Ok((count, missing))
}

async fn write(store: &Store, path: &Path, coords: Vec<u32>, bytes: Bytes) -> Result<()> {
    let copying = || format!("copy a chunk of array {path}");
    let coords = ChunkIndices(coords);
    let session = store.session();
    let write = session.read().await.get_chunk_writer(path, &coords).doing(copying)?;
    let payload = write(bytes).await.doing(copying)?;
    let mut session = session.write().await;
    session.set_chunk_ref(path.clone(), coords, Some(payload)).await.doing(copying)
}

/// The coordinates and bytes of the chunk at a row-major index.
async fn read(source: &Source, array: &ArrayNode, index: u64) -> Result<(Vec<u32>, Bytes)> {
    let coords = array.layout.coords(index);
    let key = array.source_key(&coords);
    let bytes = source.get(&key).await?.ok_or_else(|| {
        Error::new(
            ErrorKind::Listing,
            format!("chunk {key} of array {} was listed and is gone", array.path),
        )
        .with_hint("wait until the source is at rest, then run the command again")
    })?;
    Ok((coords, bytes))
}
