//! Reads what a snapshot holds: its nodes, and the files of their manifests.

use std::collections::HashSet;
use std::sync::Arc;

use icechunk::Repository;
use icechunk::format::manifest::ManifestRef;
use icechunk::format::snapshot::{ManifestFileInfo, NodeData, NodeSnapshot, Snapshot};
use icechunk::format::{ManifestId, SnapshotId};

use super::register::repository_error;
use crate::Result;
use crate::error::TargetContext as _;
use crate::format::node_path;
use crate::grid::chunk_box::ChunkBox;

/// The snapshot with an id.
pub(super) async fn fetch(repository: &Repository, id: &SnapshotId) -> Result<Arc<Snapshot>> {
    repository.asset_manager().fetch_snapshot(id).await.doing(|| format!("read snapshot {id}"))
}

/// The nodes of a snapshot, sorted by path as they are stored.
pub(super) fn nodes(snapshot: &Snapshot) -> Result<Vec<NodeSnapshot>> {
    snapshot
        .iter()
        .collect::<std::result::Result<_, _>>()
        .map_err(repository_error)
        .doing(|| format!("read snapshot {}", snapshot.id()))
}

/// The files of a snapshot's manifests.
pub(super) fn manifest_files(snapshot: &Snapshot) -> Result<Vec<ManifestFileInfo>> {
    snapshot
        .manifest_files()
        .collect::<std::result::Result<_, _>>()
        .map_err(repository_error)
        .doing(|| format!("read snapshot {}", snapshot.id()))
}

/// The manifests that a node refers to.
pub(super) fn manifests_of(node: &NodeSnapshot) -> impl Iterator<Item = &ManifestId> {
    let manifests = match &node.node_data {
        NodeData::Array { manifests, .. } => manifests.as_slice(),
        NodeData::Group => &[],
    };
    manifests.iter().map(|manifest| &manifest.object_id)
}

/// The ids of all manifests of a snapshot.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when it cannot be read.
pub async fn manifest_ids(
    repository: &Repository,
    snapshot: &SnapshotId,
) -> Result<HashSet<ManifestId>> {
    let snapshot = fetch(repository, snapshot).await?;
    Ok(manifest_files(&snapshot)?.into_iter().map(|file| file.id).collect())
}

/// What the manifests of an array hold, as boxes of its chunk grid; none where there is no array.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when the snapshot cannot be read.
pub(crate) async fn manifest_boxes(
    repository: &Repository,
    snapshot: &SnapshotId,
    paths: impl Iterator<Item = &str>,
) -> Result<Vec<Vec<ChunkBox>>> {
    let snapshot = fetch(repository, snapshot).await?;
    let boxes = |path: &str| {
        let Ok(node) = snapshot.get_node(&node_path(path)?) else { return Ok(Vec::new()) };
        let NodeData::Array { manifests, .. } = &node.node_data else { return Ok(Vec::new()) };
        let held = |manifest: &ManifestRef| {
            manifest.extents.iter().map(|range| range.start..range.end).collect()
        };
        Ok(manifests.iter().map(|manifest| ChunkBox::from_ranges(held(manifest))).collect())
    };
    paths.map(boxes).collect()
}
