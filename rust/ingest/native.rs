//! Copies the chunks of loaded arrays, byte for byte, as native chunks.

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use icechunk::format::ChunkIndices;
use icechunk::store::Store;

use super::tally::Tally;
use crate::batch::{ChunkRules, EmptyChunks, ReferenceBatch};
use crate::commit::ArrayAddition;
use crate::error::TargetContext as _;
use crate::list::{ListOptions, list_chunks, stats_of};
use crate::manifest::node_path;
use crate::metadata::ArrayNode;
use crate::region::ChunkBox;
use crate::source::Source;
use crate::{Error, ErrorKind, Result};

/// Chunks read from the source at a time.
const CONCURRENT_COPIES: usize = 16;

/// Copies every chunk of the loaded arrays into an uncommitted store; tells how many of each.
pub(super) async fn copy(
    store: &Store,
    source: &Source,
    arrays: &[ArrayNode],
    empty_chunks: EmptyChunks,
    tally: &mut Tally<'_>,
) -> Result<Vec<ArrayAddition>> {
    let mut additions = Vec::new();
    // Copies carry no times.
    let rules = ChunkRules { empty_chunks, next_second: false };
    for (position, array) in arrays.iter().enumerate() {
        if !array.loaded {
            continue;
        }
        let region = ChunkBox::whole(&array.layout);
        let mut chunks = ReferenceBatch::new(&array.layout, region.clone(), &[]);
        let mut listing = list_chunks(source, array, region, ListOptions::new(CONCURRENT_COPIES))?;
        while let Some(records) = listing.batches.try_next().await? {
            chunks.extend(&records, array, rules)?;
        }
        let stats = stats_of(&listing.stats);
        tally.found(position, chunks.len(), &stats);
        tally.complete(position, chunks.len(), &stats);
        let count = chunks.len();
        let missing = if count < array.layout.chunks() { chunks.first_missing() } else { None };
        tally.misses(position, missing.clone());
        additions.push(ArrayAddition {
            array: position,
            references: 0,
            copied: count,
            bytes: 0,
            sample: None,
            missing,
        });
        let path = node_path(&array.path)?;
        let mut copies = futures::stream::iter(chunks.into_sorted())
            .map(|chunk| read(source, array, chunk.index).boxed())
            .buffer_unordered(CONCURRENT_COPIES);
        while let Some((coords, bytes)) = copies.try_next().await? {
            let copying = || format!("copy a chunk of array {}", array.path);
            let coords = ChunkIndices(coords);
            let session = store.session();
            let write = session.read().await.get_chunk_writer(&path, &coords).doing(copying)?;
            let payload = write(bytes).await.doing(copying)?;
            session
                .write()
                .await
                .set_chunk_ref(path.clone(), coords, Some(payload))
                .await
                .doing(copying)?;
        }
    }
    Ok(additions)
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
