//! What the references of a repository look like, read from one of them: by what they notice that
//! their objects have changed, and how they name them. What a reference should be is not decided
//! here.

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
use crate::target::locations::Locations;

/// How references are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReferenceForm {
    /// By what readers notice that an object has changed.
    pub checksum: ChecksumBy,
    /// How objects are named.
    pub locations: Locations,
}

/// What the first reference looks like that is found in some arrays of a snapshot; the default,
/// when none is found.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when the repository cannot be read.
pub async fn reference_form(
    repository: &Repository,
    snapshot: &SnapshotId,
    paths: impl Iterator<Item = &str>,
) -> Result<ReferenceForm> {
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
                    let checksum = match reference.checksum {
                        Some(Checksum::ETag(_)) => ChecksumBy::ETag,
                        Some(Checksum::LastModified(_)) => ChecksumBy::LastModified,
                        None => ChecksumBy::None,
                    };
                    let locations = if reference.location.url().starts_with("vcc://") {
                        Locations::Relative
                    } else {
                        Locations::Absolute
                    };
                    return Ok(ReferenceForm { checksum, locations });
                }
            }
        }
    }
    Ok(ReferenceForm::default())
}
