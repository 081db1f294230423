//! Native chunks of an array that is there: its manifests with some of them changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::format::manifest::{ChunkInfo, ChunkPayload, ManifestRef};
use icechunk::format::snapshot::NodeSnapshot;
use icechunk::format::{ChunkIndices, ManifestId};

use super::chunks::ChunkRanges;
use super::rewrite::{Changes, build_slices, existing};
use super::{CommittedChunks, NewManifests, Place, fetch, store};
use crate::Result;
use crate::batch::SplitGrid;
use crate::error::{TargetContext as _, target_error};
use crate::format::files::{Files, without_cache};
use crate::format::session::session_at;
use crate::zarr::metadata::ArrayLayout;

/// A native chunk: its coordinates and bytes; without bytes it is removed.
pub type NativeChunk = (Vec<u32>, Vec<u8>);

/// Writes chunks of an array, small ones into its manifests, and the manifests that hold them.
///
/// All manifests of the array take part: arrays whose chunks are copied are small ones. They are
/// cut at `split` chunks along each dimension.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) or
/// [`ErrorKind::Access`](crate::ErrorKind::Access) when reading or writing fails.
pub async fn native_manifests(
    repository: &Repository,
    snapshot: &SnapshotId,
    node: (&NodeSnapshot, &[ManifestRef]),
    layout: &ArrayLayout,
    split: &[u32],
    chunks: &[NativeChunk],
) -> Result<NewManifests> {
    let (node, manifests) = node;
    let grid = Arc::new(SplitGrid::new(layout, split));
    let place = Place { path: node.path.clone(), node_id: node.id.clone(), grid };
    let ids: Vec<ManifestId> = manifests.iter().map(|one| one.object_id.clone()).collect();
    let old = fetch(&without_cache(repository), &place.path, &ids).await?;
    let mut buckets: BTreeMap<u64, BTreeMap<Vec<u32>, ChunkInfo>> = existing(&place, &old)?
        .into_iter()
        .map(|(number, chunks)| {
            (number, chunks.into_iter().map(|chunk| (chunk.coord.0.clone(), chunk)).collect())
        })
        .collect();
    let session = session_at(repository, snapshot);
    let mut touched = BTreeSet::new();
    for (coords, bytes) in chunks {
        touched.insert(layout.index(coords));
        let bucket = buckets.entry(place.grid.bucket(coords)).or_default();
        if bytes.is_empty() {
            bucket.remove(coords);
            continue;
        }
        let writing = || format!("write a chunk of array {}", place.path);
        let coord = ChunkIndices(coords.clone());
        let write = session.get_chunk_writer(&place.path, &coord).doing(writing)?;
        let payload: ChunkPayload = write(Bytes::copy_from_slice(bytes)).await.doing(writing)?;
        bucket.insert(coords.clone(), ChunkInfo { node: place.node_id.clone(), coord, payload });
    }
    let files = Files::of(repository);
    let building = files.clone();
    let (made, place) = tokio::task::spawn_blocking(move || {
        let mut made = Vec::new();
        for references in buckets.into_values() {
            made.extend(build_slices(&place, &building, references.into_values().collect())?);
        }
        Ok::<_, crate::Error>((made, place))
    })
    .await
    .map_err(|error| target_error("write manifests", &error))??;
    let mut committed = CommittedChunks::new(place.grid.grid_shape());
    committed.add(ChunkRanges::of_indices(touched));
    let written = store(&files, &place, made).await?;
    let changes = Changes::default();
    let Place { path, node_id, .. } = place;
    Ok(NewManifests { path, node_id, written, replaced: ids, chunks: committed, changes })
}
