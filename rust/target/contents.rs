//! What stands in a repository: its nodes, and the native chunks of an array.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use icechunk::Repository;
use icechunk::format::manifest::ChunkPayload;
use icechunk::format::snapshot::NodeData;
use icechunk::format::{ChunkIndices, Path, SnapshotId};

use super::payload::Payloads;
use crate::error::{TargetContext as _, target_error};
use crate::format::files::without_cache;
use crate::format::node_path;
use crate::format::session::session_at;
use crate::{Error, ErrorKind, Result};

/// Chunks read at a time.
const CONCURRENT_READS: usize = 16;

/// The tip of a branch, and the metadata documents of all its nodes by path.
///
/// # Errors
///
/// [`ErrorKind::TargetNotFound`] when there is no such branch, [`ErrorKind::Target`] when it
/// cannot be read.
pub async fn branch_nodes(
    repository: &Repository,
    branch: &str,
) -> Result<(SnapshotId, BTreeMap<String, Bytes>)> {
    let reading = || format!("read branch {branch}");
    let branches = repository.list_branches().await.doing(reading)?;
    if !branches.contains(branch) {
        return Err(Error::new(
            ErrorKind::TargetNotFound,
            format!("the target has no branch {branch}"),
        )
        .with_hint("choose another --branch"));
    }
    let tip = repository.lookup_branch(branch).await.doing(reading)?;
    let session = session_at(repository, &tip);
    let mut documents = BTreeMap::new();
    for node in session.list_nodes(&Path::root()).await.doing(reading)? {
        let node = node.doing(reading)?;
        if !is_metadata(&node.user_data, matches!(node.node_data, NodeData::Array { .. })) {
            let text = format!("the metadata document of {} in the target is damaged", node.path);
            return Err(Error::new(ErrorKind::Target, text)
                .with_hint("reset the branch to a snapshot that can be read, or ingest it anew"));
        }
        documents.insert(node.path.to_string(), node.user_data);
    }
    Ok((tip, documents))
}

/// Whether a document is one of Zarr version 3, with what its readers rely on (Zarr core
/// specification 3.0, array and group metadata).
fn is_metadata(document: &[u8], array: bool) -> bool {
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(document) else { return false };
    let lengths = |value: &serde_json::Value| {
        let lengths = value.as_array()?;
        lengths.iter().all(serde_json::Value::is_u64).then_some(lengths.len())
    };
    let attributes = document.get("attributes").is_none_or(serde_json::Value::is_object);
    if !array {
        return attributes && document["node_type"] == "group";
    }
    let grid = &document["chunk_grid"];
    let regular = grid["name"] == "regular";
    let ndim = lengths(&document["shape"]);
    attributes
        && document["node_type"] == "array"
        && ndim.is_some()
        && (!regular || lengths(&grid["configuration"]["chunk_shape"]) == ndim)
}

/// The native chunks of an array in a snapshot, by coordinates.
///
/// # Errors
///
/// [`ErrorKind::Mismatch`] when it has virtual chunks, [`ErrorKind::Target`] when it is not there
/// or cannot be read.
pub async fn native_chunks(
    repository: &Repository,
    snapshot: &SnapshotId,
    path: &str,
) -> Result<Vec<(Vec<u32>, Bytes)>> {
    let reading = || format!("read array {path}");
    let assets = without_cache(repository);
    let found = assets.fetch_snapshot(snapshot).await.doing(reading)?;
    let node =
        found.get_node(&node_path(path)?).map_err(|error| target_error(&reading(), &error.kind))?;
    let NodeData::Array { manifests, .. } = &node.node_data else {
        return Err(Error::new(ErrorKind::Target, format!("{path} is a group")));
    };
    let mut payloads = Vec::new();
    // Not a session's iterator over chunks: to that an array that cannot be read has none.
    for manifest in manifests {
        let manifest = assets.fetch_manifest_unknown_size(path, &manifest.object_id).await;
        let chunks = manifest
            .doing(reading)?
            .iter(node.id.clone())
            .map_err(|error| target_error(&reading(), &error.kind))?;
        for chunk in chunks {
            let (ChunkIndices(coords), payload) =
                chunk.map_err(|error| target_error(&reading(), &error.kind))?;
            if matches!(payload, ChunkPayload::Virtual(_)) {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!("array {path} has references, not copied chunks"),
                ));
            }
            payloads.push((coords, payload));
        }
    }
    let reader = &Payloads::of(repository, snapshot);
    futures::stream::iter(payloads)
        .map(|(coords, payload)| async move {
            let bytes = reader.read(path, &coords, payload).await?.ok_or_else(|| {
                let text = format!("chunk {coords:?} of array {path} is of an unknown kind");
                Error::new(ErrorKind::Target, text)
            })?;
            Ok((coords, bytes))
        })
        .buffer_unordered(CONCURRENT_READS)
        .try_collect()
        .await
}
