//! What the references of a repository look like, read from one of them: by what they notice that
//! their objects have changed, and how they name them. What a reference should be is not decided
//! here.

use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::format::manifest::{Checksum, ChunkPayload};
use icechunk::format::snapshot::NodeData;

use crate::Result;
use crate::batch::ChecksumBy;
use crate::error::TargetContext as _;
use crate::format::files::without_cache;
use crate::format::manifest_chunks::manifest_chunks;
use crate::format::node_path;
use crate::target::locations::Locations;

/// How references are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReferenceForm {
    /// How readers notice that an object has changed.
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
            for chunk in manifest_chunks(&assets, path, &node.id, &manifest.object_id).await? {
                let (_, payload) = chunk?;
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
