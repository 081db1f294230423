//! What stands in a repository: its nodes, and the native chunks of an array.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use icechunk::Repository;
use icechunk::format::manifest::ChunkPayload;
use icechunk::format::{ByteRange, Path, SnapshotId};
use icechunk::session::get_chunk;

use crate::error::TargetContext as _;
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
        documents.insert(node.path.to_string(), node.user_data);
    }
    Ok((tip, documents))
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
    let session = session_at(repository, snapshot);
    let node = node_path(path)?;
    let mut coords = Vec::new();
    {
        let chunks = session.array_chunk_iterator(&node).await;
        let mut chunks = std::pin::pin!(chunks);
        while let Some(chunk) = chunks.try_next().await.doing(reading)? {
            if matches!(chunk.payload, ChunkPayload::Virtual(_)) {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!("array {path} has references, not copied chunks"),
                ));
            }
            coords.push(chunk.coord);
        }
    }
    let (session, node) = (&session, &node);
    futures::stream::iter(coords)
        .map(|coord| async move {
            let reader = session.get_chunk_reader(node, &coord, &ByteRange::ALL).await;
            let bytes = get_chunk(reader.doing(reading)?).await.doing(reading)?;
            Ok((coord.0, bytes.unwrap_or_default()))
        })
        .buffer_unordered(CONCURRENT_READS)
        .try_collect()
        .await
}
