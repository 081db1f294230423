//! The chunks that one manifest of a repository holds of an array, with errors that name the array.

use icechunk::asset_manager::AssetManager;
use icechunk::format::manifest::ChunkPayload;
use icechunk::format::{ChunkIndices, ManifestId, NodeId};

use crate::Result;
use crate::error::{TargetContext as _, target_error};

/// Reads a manifest, and gives its chunks of the array at `path`, which is `node`.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) or
/// [`ErrorKind::Access`](crate::ErrorKind::Access) when it cannot be read, through the iterator too.
pub(crate) async fn manifest_chunks(
    assets: &AssetManager,
    path: &str,
    node: &NodeId,
    manifest: &ManifestId,
) -> Result<impl Iterator<Item = Result<(ChunkIndices, ChunkPayload)>>> {
    let reading = move || format!("read a manifest of array {path}");
    let manifest = assets.fetch_manifest_unknown_size(path, manifest).await.doing(reading)?;
    let chunks =
        manifest.iter(node.clone()).map_err(|error| target_error(&reading(), &error.kind))?;
    Ok(chunks.map(move |chunk| chunk.map_err(|error| target_error(&reading(), &error.kind))))
}
