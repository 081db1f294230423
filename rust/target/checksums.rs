//! By what the references of a repository notice that their objects have changed, read from one of
//! them. What a reference should carry is not decided here.

use std::sync::Arc;

use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::format::manifest::{Checksum, ChunkPayload};
use icechunk::format::snapshot::NodeData;

use crate::Result;
use crate::batch::ChecksumBy;
use crate::error::{TargetContext as _, target_error};
use crate::format::files::without_cache;
use crate::format::node_path;

/// What the first reference carries that is found in some arrays of a snapshot; times, when none
/// is found.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when the repository cannot be read.
pub async fn checksum_of(
    repository: &Repository,
    snapshot: &SnapshotId,
    paths: impl Iterator<Item = &str>,
) -> Result<ChecksumBy> {
    let assets = without_cache(repository);
    let snapshot =
        assets.fetch_snapshot(snapshot).await.doing(|| format!("read snapshot {snapshot}"))?;
    for path in paths {
        let Ok(node) = snapshot.get_node(&node_path(path)?) else { continue };
        let NodeData::Array { manifests, .. } = &node.node_data else { continue };
        for manifest in manifests {
            let reading = || format!("read a manifest of array {path}");
            let manifest = assets.fetch_manifest_unknown_size(path, &manifest.object_id).await;
            let references = Arc::clone(&manifest.doing(reading)?)
                .iter(node.id.clone())
                .map_err(|error| target_error(&reading(), &error.kind))?;
            for reference in references {
                let (_, payload) =
                    reference.map_err(|error| target_error(&reading(), &error.kind))?;
                if let ChunkPayload::Virtual(reference) = payload {
                    return Ok(match reference.checksum {
                        Some(Checksum::ETag(_)) => ChecksumBy::ETag,
                        Some(Checksum::LastModified(_)) => ChecksumBy::LastModified,
                        None => ChecksumBy::None,
                    });
                }
            }
        }
    }
    Ok(ChecksumBy::default())
}
