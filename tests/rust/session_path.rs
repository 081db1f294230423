//! The reference implementation of writing references: Icechunk's own session and change set.
//!
//! The crate writes manifests itself; what a session makes of the same references is what tests
//! compare that with.

use icechunk::format::ChunkIndices;
use icechunk::format::manifest::{Checksum, VirtualChunkLocation, VirtualChunkRef};
use icechunk::store::{SetVirtualRefsResult, Store};
use refreeze::batch::{ChunkReference, ReferenceBatch};
use refreeze::format::node_path;
use refreeze::target::locations::ArrayLocations;
use refreeze::zarr::metadata::ArraySpec;

/// Sets the references of `batch` in `store`, an uncommitted session; `checksum` tells what each
/// carries, by the chunk and its coordinates.
pub(crate) async fn set_references(
    store: &Store,
    locations: &ArrayLocations,
    array: &ArraySpec,
    batch: ReferenceBatch,
    checksum: impl Fn(&ChunkReference, &[u32]) -> Checksum,
) {
    let references: Vec<_> = batch
        .into_sorted()
        .into_iter()
        .map(|chunk| {
            let coords = array.layout.coords(chunk.index);
            let reference = VirtualChunkRef {
                location: VirtualChunkLocation::from_url(&locations.url(&coords)).unwrap(),
                offset: 0,
                length: chunk.size,
                checksum: Some(checksum(&chunk, &coords)),
            };
            (ChunkIndices(coords), reference)
        })
        .collect();
    let path = node_path(&array.path).unwrap();
    let set = store.set_virtual_refs(&path, true, references).await.unwrap();
    assert!(matches!(set, SetVirtualRefsResult::Done));
}
