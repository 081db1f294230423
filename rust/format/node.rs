//! One node of a snapshot, read without keeping the snapshot.

use std::sync::Arc;

use icechunk::asset_manager::AssetManager;
use icechunk::format::SnapshotId;
use icechunk::format::snapshot::NodeSnapshot;

use super::node_path;
use crate::Result;
use crate::error::{TargetContext as _, target_error};

/// The node at a path in a snapshot.
///
/// `doing` completes the sentence "cannot …".
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) or
/// [`ErrorKind::Access`](crate::ErrorKind::Access) when it is not there or cannot be read.
pub(crate) async fn node_at(
    assets: &AssetManager,
    snapshot: &SnapshotId,
    path: &str,
    doing: impl Fn() -> String,
) -> Result<Arc<NodeSnapshot>> {
    let snapshot = assets.fetch_snapshot(snapshot).await.doing(&doing)?;
    snapshot.get_node(&node_path(path)?).map_err(|error| target_error(&doing(), &error.kind))
}
