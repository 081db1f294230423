//! Groups and arrays in the target: what is there already, and creating what is not.

use bytes::Bytes;
use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::format::snapshot::{NodeData, NodeSnapshot};
use icechunk::session::{Session, SessionErrorKind};
use icechunk::store::Store;
use std::collections::{HashMap, HashSet};

use crate::commit::RecordedArray;
use crate::error::TargetContext as _;
use crate::format::node_path;
use crate::format::session::session_at;
use crate::zarr::metadata::{ArraySpec, GroupSpec};
use crate::{Error, ErrorKind, Result};

/// What stands in the target already.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Paths of nodes that are where arrays are to be created.
    pub(super) arrays: Vec<String>,
    /// Paths of groups that are there already and are kept as they are.
    pub(super) groups: HashSet<String>,
    /// The documents of those arrays.
    pub(super) documents: HashMap<String, Bytes>,
    pub(super) warnings: Vec<String>,
}

/// Looks for the nodes of an ingest in a snapshot.
///
/// What stands at the paths of groups that are `replaced` is not kept, unless it is the same.
/// Fails when an array stands where another group is needed.
pub(super) async fn find(
    repository: &Repository,
    snapshot: &SnapshotId,
    groups: &[GroupSpec],
    arrays: &[ArraySpec],
    replaced: &[String],
) -> Result<Found> {
    let session = session_at(repository, snapshot);
    let mut found = Found::default();
    for group in groups {
        match node(&session, &group.path).await? {
            None => {}
            Some((data, document)) if replaced.contains(&group.path) => {
                let same =
                    parsed(&document).is_some_and(|now| Some(now) == parsed(&group.document));
                if matches!(data, NodeData::Group) && same {
                    found.groups.insert(group.path.clone());
                }
            }
            Some((NodeData::Group, document)) => {
                if group.from_source && attributes(&document) != attributes(&group.document) {
                    found.warnings.push(format!(
                        "group {} has other attributes in the target, which were kept",
                        group.path
                    ));
                }
                found.groups.insert(group.path.clone());
            }
            Some((NodeData::Array { .. }, _)) => {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!("the target has an array where the group {} is needed", group.path),
                )
                .with_hint("choose another --target-group"));
            }
        }
    }
    for array in arrays {
        if let Some((_, document)) = node(&session, &array.path).await? {
            found.arrays.push(array.path.clone());
            found.documents.insert(array.path.clone(), document);
        }
    }
    Ok(found)
}

/// The metadata documents of a run's arrays in one of its snapshots.
pub(super) async fn documents(
    repository: &Repository,
    snapshot: Option<&SnapshotId>,
    arrays: &[RecordedArray],
) -> Result<Vec<Vec<u8>>> {
    let gone = |path: &str| {
        Error::new(ErrorKind::Mismatch, format!("the unfinished ingest lost its array {path}"))
            .with_hint("discard it with --restart")
    };
    let Some(snapshot) = snapshot else { return Ok(Vec::new()) };
    let session = session_at(repository, snapshot);
    let mut documents = Vec::with_capacity(arrays.len());
    for array in arrays {
        let (_, document) = node(&session, &array.path).await?.ok_or_else(|| gone(&array.path))?;
        documents.push(document.to_vec());
    }
    Ok(documents)
}

async fn node(session: &Session, path: &str) -> Result<Option<(NodeData, Bytes)>> {
    match session.get_node(&node_path(path)?).await {
        Ok(node) => Ok(Some((node.node_data, node.user_data))),
        Err(error) if matches!(error.kind, SessionErrorKind::NodeNotFound { .. }) => Ok(None),
        Err(error) => Err(error).doing(|| format!("read node {path}")),
    }
}

fn parsed(document: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(document).ok()
}

/// The attributes of a metadata document; absent ones are none.
fn attributes(document: &[u8]) -> serde_json::Value {
    parsed(document)
        .and_then(|mut document| document.get_mut("attributes").map(serde_json::Value::take))
        .filter(|attributes| !attributes.is_null())
        .unwrap_or_else(|| serde_json::json!({}))
}

/// The error for arrays that are in the way of a create.
pub(super) fn already_there(paths: &[String], target: &str) -> Error {
    let shown: Vec<_> = paths.iter().take(3).map(String::as_str).collect();
    let more = paths.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Error::new(ErrorKind::AlreadyExists, format!("{target} already has {}{more}", shown.join(", ")))
        .with_hint("choose another --target-group or --branch, or leave arrays out with --skip")
}

/// Creates groups and arrays in an uncommitted store, or gives them other documents, but for groups
/// that are kept and for arrays that are as they should be.
pub(super) async fn create(
    store: &Store,
    groups: &[GroupSpec],
    arrays: &[ArraySpec],
    existing: &Found,
) -> Result<()> {
    let new_groups = groups
        .iter()
        .filter(|group| !existing.groups.contains(&group.path))
        .map(|group| (&group.path, &group.document));
    let new_arrays = arrays
        .iter()
        .filter(|array| {
            let there = existing.documents.get(&array.path);
            there.is_none_or(|document| *document != array.document)
        })
        .map(|array| (&array.path, &array.document));
    for (path, document) in new_groups.chain(new_arrays) {
        let key = format!("{}/zarr.json", path.trim_end_matches('/'));
        store
            .set(key.trim_start_matches('/'), Bytes::copy_from_slice(document))
            .await
            .doing(|| format!("create {path}"))?;
    }
    Ok(())
}

/// Removes what stands at `paths` in an uncommitted session: arrays, groups and everything in them.
/// Those that are `groups` again stay themselves, since they may be changed but not made anew.
pub(super) async fn remove(
    session: &mut Session,
    paths: &[String],
    groups: &[GroupSpec],
) -> Result<()> {
    for path in paths {
        let root = node_path(path)?;
        let removing = || format!("remove {path}");
        let below: Vec<NodeSnapshot> = match session.get_node(&root).await {
            Ok(NodeSnapshot { node_data: NodeData::Array { .. }, .. }) => {
                session.delete_array(root).await.doing(removing)?;
                continue;
            }
            Ok(_) if !groups.iter().any(|group| group.path == *path) => {
                session.delete_group(root).await.doing(removing)?;
                continue;
            }
            Ok(_) => session
                .list_nodes(&root)
                .await
                .doing(removing)?
                .collect::<std::result::Result<_, _>>()
                .doing(removing)?,
            Err(error) if matches!(error.kind, SessionErrorKind::NodeNotFound { .. }) => continue,
            Err(error) => return Err(error).doing(removing),
        };
        // Those farthest down first.
        for node in below.into_iter().rev() {
            if node.path != root && node.path.starts_with(&root) {
                session.delete_node(node).await.doing(removing)?;
            }
        }
    }
    Ok(())
}
