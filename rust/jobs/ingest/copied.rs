//! Copies the chunks of copied arrays as native chunks: byte for byte, or those that are given.
//!
//! What is copied was listed, has the length and digest that it was listed with, and can be decoded.

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use icechunk::Repository;
use icechunk::format::{ChunkIndices, Path};
use icechunk::store::Store;
use tokio::sync::Semaphore;

use super::decoded::Coding;
use super::tally::Tally;
use super::{IngestJob, JobArray, JobSource};
use crate::Result;
use crate::batch::{ChunkRules, ReferenceBatch};
use crate::commit::{ArrayAddition, Draft};
use crate::error::TargetContext as _;
use crate::format::node_path;
use crate::grid::chunk_box::ChunkBox;
use crate::grid::piece::Shift;
use crate::list::{ChunkColumns, ListOptions, ListStats, Listing, list_chunks, stats_of};
use crate::manifest::NativeChunk;
use crate::source::{Accept, Expected, Source};
use crate::zarr::key::ChunkKeyForm;
use crate::zarr::metadata::ArraySpec;

/// Chunks read from the source at a time.
const CONCURRENT_COPIES: usize = 16;

/// Writes the chunks of the copied arrays into an uncommitted store; tells how many of each.
pub(super) async fn copy(
    store: &Store,
    job: &IngestJob,
    tally: &mut Tally<'_>,
) -> Result<Vec<ArrayAddition>> {
    let mut additions = Vec::new();
    for (position, array) in job.arrays.iter().enumerate().filter(|(_, array)| array.spec.copied) {
        let Some(chunks) = &array.chunks else {
            let (copied, missing) = copy_all(store, job, position, array, tally).await?;
            tally.misses(position, missing.clone());
            additions.push(ArrayAddition { copied, missing, ..ArrayAddition::of(position) });
            continue;
        };
        let path = node_path(&array.spec.path)?;
        for (coords, bytes) in chunks {
            if bytes.is_empty() {
                remove(store, &path, coords.clone()).await?;
            } else {
                write(store, &path, coords.clone(), Bytes::copy_from_slice(bytes)).await?;
            }
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
        draft.set_document(&array.spec)?;
        if !array.spec.copied {
            continue;
        }
        let chunks = array.chunks.as_deref().unwrap_or_default();
        draft.set_chunks(repository, &array.spec, split, chunks).await?;
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
///
/// Chunks are read while they are listed, and no more of them at a time than have room in memory.
async fn copy_all(
    store: &Store,
    job: &IngestJob,
    position: usize,
    array: &JobArray,
    tally: &mut Tally<'_>,
) -> Result<(u64, Option<Vec<u32>>)> {
    let spec = &array.spec;
    let from = array.pieces.first().and_then(|piece| job.sources.get(piece.source));
    let Some(JobSource { source, .. }) = from else { return Ok((0, None)) };
    // Copies carry no times.
    let rules = ChunkRules { empty_chunks: job.empty_chunks, ..ChunkRules::default() };
    let region = ChunkBox::whole(&spec.layout);
    let mut chunks = ReferenceBatch::new(&spec.layout, region.clone(), &[]);
    let Listing { batches, stats, .. } = list_chunks(source, spec, region, listing_options(job))?;
    let copying = Copying::new(store, source, spec, job)?;
    let listed = batches
        .map(|records| {
            let records = records?;
            chunks.extend(&records, spec, &Shift::default(), rules)?;
            Ok(futures::stream::iter(listed(&records, spec)?.into_iter().map(Ok)))
        })
        .try_flatten();
    listed
        .map_ok(|chunk| copying.copy(chunk))
        .try_buffer_unordered(CONCURRENT_COPIES)
        .try_collect::<()>()
        .await?;
    let stats = stats_of(&stats);
    let count = chunks.len();
    tally.found(position, count, &stats);
    tally.complete(position, count, &stats);
    let missing = if count < spec.layout.chunks() { chunks.first_missing() } else { None };
    Ok((count, missing))
}

fn listing_options(job: &IngestJob) -> ListOptions {
    let dangling_links = job.empty_chunks.into();
    // Copies carry no times.
    ListOptions { dangling_links, undated: true, ..ListOptions::new(CONCURRENT_COPIES) }
}

/// A chunk as it was listed.
struct Listed {
    coords: Vec<u32>,
    size: u64,
    e_tag: Option<String>,
}

/// The chunks of a record batch that hold something.
fn listed(records: &RecordBatch, array: &ArraySpec) -> Result<Vec<Listed>> {
    let columns = ChunkColumns::of(records)?;
    let ndim = array.layout.ndim();
    let rows = columns.sizes.iter().zip(columns.e_tags).enumerate();
    let chunks = rows.filter(|(_, (size, _))| **size > 0).map(|(row, (size, e_tag))| Listed {
        coords: columns.coords.get(row * ndim..(row + 1) * ndim).unwrap_or_default().to_vec(),
        size: *size,
        e_tag: e_tag.map(str::to_owned),
    });
    Ok(chunks.collect())
}

/// Copies chunks of one array.
struct Copying<'a> {
    store: &'a Store,
    source: &'a Source,
    array: &'a ArraySpec,
    path: Path,
    coding: Coding,
    accept: Option<Accept>,
    /// For chunks in flight, in units of [`ROOM`] bytes.
    room: Semaphore,
    rooms: u32,
}

/// Bytes that memory is shared out in.
const ROOM: u64 = 1024;

impl<'a> Copying<'a> {
    fn new(
        store: &'a Store,
        source: &'a Source,
        array: &'a ArraySpec,
        job: &IngestJob,
    ) -> Result<Self> {
        let coding = Coding::of(array);
        // Half of it: what is read waits in buffers of the network, too.
        let rooms = u32::try_from(job.limits.memory / 2 / ROOM).unwrap_or(u32::MAX).max(1);
        let rooms = rooms.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Ok(Self {
            store,
            source,
            array,
            path: node_path(&array.path)?,
            coding,
            accept: coding.accept(array, job.decoder.as_ref()),
            room: Semaphore::new(rooms as usize),
            rooms,
        })
    }

    async fn copy(&self, chunk: Listed) -> Result<()> {
        let Listed { coords, size, e_tag } = chunk;
        // One that is larger than all of it is copied by itself.
        let rooms = u32::try_from(self.coding.memory(size) / ROOM).unwrap_or(u32::MAX);
        let _room = self.room.acquire_many(rooms.min(self.rooms)).await;
        let key = self.array.source_key(&coords);
        let document = match self.array.layout.encoding().form {
            ChunkKeyForm::Default => "zarr.json",
            ChunkKeyForm::V2 => ".zarray",
        };
        let expected = Expected {
            size: Some(size),
            e_tag,
            limit: None,
            accept: self.accept.clone(),
            beside: Some(format!("{}{document}", self.array.source_prefix())),
        };
        let Some(bytes) = self.source.read(&key, &expected).await? else { return Ok(()) };
        write(self.store, &self.path, coords, bytes).await
    }
}

async fn remove(store: &Store, path: &Path, coords: Vec<u32>) -> Result<()> {
    let removing = || format!("remove a chunk of array {path}");
    let session = store.session();
    let mut session = session.write().await;
    session.set_chunk_ref(path.clone(), ChunkIndices(coords), None).await.doing(removing)
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
