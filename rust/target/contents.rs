//! What stands in a repository: its nodes, and the native chunks of an array.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use icechunk::Repository;
use icechunk::format::manifest::ChunkPayload;
use icechunk::format::snapshot::NodeData;
use icechunk::format::{ChunkIndices, Path, SnapshotId};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::payload::Payloads;
use crate::error::TargetContext as _;
use crate::format::extents::box_of;
use crate::format::files::without_cache;
use crate::format::manifest_chunks::manifest_chunks;
use crate::format::node::node_at;
use crate::format::session::session_at;
use crate::grid::chunk_box::ChunkBox;
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

/// Coordinates of a native chunk of an array that lies in a box, if there is one. Only manifests
/// that reach into the box are read.
///
/// # Errors
///
/// [`ErrorKind::TargetNotFound`] when there is no such array; [`ErrorKind::Target`] when the
/// repository cannot be read.
pub async fn native_in(
    repository: &Repository,
    snapshot: &SnapshotId,
    path: &str,
    region: &ChunkBox,
) -> Result<Option<Vec<u32>>> {
    let assets = without_cache(repository);
    let node = node_at(&assets, snapshot, path, || format!("read array {path}")).await?;
    let NodeData::Array { manifests, .. } = &node.node_data else {
        return Err(Error::new(ErrorKind::TargetNotFound, format!("{path} is a group")));
    };
    for manifest in manifests {
        if !box_of(&manifest.extents).intersects(region) {
            continue;
        }
        for chunk in manifest_chunks(&assets, path, &node.id, &manifest.object_id).await? {
            let (coords, payload) = chunk?;
            if region.contains(&coords.0) && !matches!(payload, ChunkPayload::Virtual(_)) {
                return Ok(Some(coords.0));
            }
        }
    }
    Ok(None)
}

/// What an array's document must have (Zarr core specification 3.0, array metadata). What is not
/// looked at here may be anything that is JSON: readers differ in which numbers and texts they take.
#[derive(Deserialize)]
struct ArrayDocument {
    node_type: String,
    shape: Vec<u64>,
    chunk_grid: ChunkGrid,
    #[serde(rename = "data_type")]
    _data_type: IgnoredAny,
    #[serde(rename = "chunk_key_encoding")]
    _chunk_key_encoding: IgnoredAny,
    #[serde(rename = "fill_value")]
    _fill_value: IgnoredAny,
    #[serde(rename = "codecs")]
    _codecs: IgnoredAny,
}

#[derive(Deserialize)]
struct ChunkGrid {
    name: String,
    configuration: Option<ChunkGridConfiguration>,
}

#[derive(Deserialize)]
struct ChunkGridConfiguration {
    chunk_shape: Option<Vec<u64>>,
}

/// What a group's document must have (the same specification, group metadata).
#[derive(Deserialize)]
struct GroupDocument {
    node_type: String,
}

/// Whether a document is what it is taken for wherever it is read.
fn is_metadata(document: &[u8], array: bool) -> bool {
    let Ok(document) = std::str::from_utf8(document) else { return false };
    if !array {
        let group = serde_json::from_str::<GroupDocument>(document);
        return group.is_ok_and(|group| group.node_type == "group");
    }
    serde_json::from_str::<ArrayDocument>(document).is_ok_and(|array| {
        let grid = array.chunk_grid;
        let chunk_shape = grid.configuration.and_then(|configuration| configuration.chunk_shape);
        array.node_type == "array"
            && (grid.name != "regular"
                || chunk_shape.is_some_and(|chunks| chunks.len() == array.shape.len()))
    })
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
    let assets = without_cache(repository);
    let node = node_at(&assets, snapshot, path, || format!("read array {path}")).await?;
    let NodeData::Array { manifests, .. } = &node.node_data else {
        return Err(Error::new(ErrorKind::Target, format!("{path} is a group")));
    };
    let mut payloads = Vec::new();
    // Not a session's iterator over chunks: to that an array that cannot be read has none.
    for manifest in manifests {
        for chunk in manifest_chunks(&assets, path, &node.id, &manifest.object_id).await? {
            let (ChunkIndices(coords), payload) = chunk?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const ARRAY: &str = r#"{"node_type": "array", "zarr_format": 3, "shape": [4, 2],
        "data_type": "int32", "chunk_key_encoding": {"name": "default"}, "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
        "codecs": [], "attributes": {"units": "K"}}"#;

    #[test]
    fn a_damaged_document_is_none() {
        assert!(is_metadata(ARRAY.as_bytes(), true));
        assert!(!is_metadata(ARRAY.as_bytes(), false));
        assert!(is_metadata(br#"{"node_type": "group", "zarr_format": 3}"#, false));
        let without = |from: &str, to: &str| is_metadata(ARRAY.replace(from, to).as_bytes(), true);
        for name in ["shape", "data_type", "chunk_grid", "chunk_shape", "fill_value", "codecs"] {
            assert!(!without(&format!("\"{name}\""), "\"x\""), "{name}");
        }
        for (from, to) in [("[2, 2]", "[2]"), ("[4, 2]", "[-4, 2]"), ("4, 2", "4; 2")] {
            assert!(!without(from, to), "{to}");
        }
        let mut bytes = ARRAY.as_bytes().to_vec();
        *bytes.iter_mut().find(|byte| **byte == b'K').unwrap() = 0x81;
        assert!(!is_metadata(&bytes, true));
    }

    /// Regression: what other readers take is not refused.
    #[test]
    fn attributes_are_not_looked_at() {
        let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
        for odd in [r#"{"\udfff": "\ud800"}"#, "1e999999", &"9".repeat(5_000), &deep, "null"] {
            let document = ARRAY.replace(r#"{"units": "K"}"#, odd);
            assert!(is_metadata(document.as_bytes(), true), "{odd:.40}");
        }
    }
}
