//! Puts the commits of a run on another base: new snapshots and logs, the same manifests.

use std::collections::HashSet;
use std::sync::Arc;

use icechunk::Repository;
use icechunk::asset_manager::AssetManager;
use icechunk::format::snapshot::{ManifestFileInfo, NodeData, NodeSnapshot, Snapshot};
use icechunk::format::{ManifestId, Path, SnapshotId};

use super::log::with_id;
use super::register::{register, repository_error, write};
use super::snapshot::{build, fetch, manifest_files, nodes};
use crate::error::{TargetContext as _, target_error};
use crate::files::Files;
use crate::manifest::node_path;
use crate::{Error, ErrorKind, Result};

/// Commits the `staged` snapshots of a run (oldest first) anew on top of `base`, and gives back the
/// last of the new ones.
///
/// `arrays` and `groups` are the paths of what the run created; nothing else of it is taken over. The new snapshots are on no branch: publishing is a compare-and-set of a branch
/// from `base` to the result. Until then, or after a failure, they are garbage.
///
/// # Errors
///
/// [`ErrorKind::Conflict`] when a created path exists in `base`, or its parent does not, naming
/// the path; [`ErrorKind::Target`] or [`ErrorKind::Access`] when reading or writing fails.
pub async fn replay(
    repository: &Repository,
    staged: &[SnapshotId],
    arrays: &[String],
    groups: &[String],
    base: &SnapshotId,
) -> Result<SnapshotId> {
    let paths = |nodes: &[String]| {
        nodes.iter().map(|path| node_path(path)).collect::<Result<HashSet<Path>>>()
    };
    let (mut created, groups) = (paths(arrays)?, paths(groups)?);
    let mut parent = fetch(repository, base).await?;
    let base_nodes = nodes(&parent)?;
    let base_files = manifest_files(&parent)?;
    check(&base_nodes, &created, &groups)?;
    // A group that somebody else has created meanwhile is kept as it is.
    let present: HashSet<&Path> = base_nodes.iter().map(|node| &node.path).collect();
    created.extend(groups.into_iter().filter(|path| !present.contains(path)));
    // Logs are large and needed once.
    let assets = AssetManager::new_no_cache(
        Arc::clone(repository.storage()),
        repository.storage_settings().clone(),
        repository.spec_version(),
        repository.config().compression().level(),
        repository.config().max_concurrent_requests(),
    );
    for id in staged {
        let old = fetch(repository, id).await?;
        let ours: Vec<_> =
            nodes(&old)?.into_iter().filter(|node| created.contains(&node.path)).collect();
        let mut files = base_files.clone();
        files.extend(files_of(&old, &ours)?);
        let mut all = base_nodes.clone();
        all.extend(ours);
        // By bytes of the path, as Icechunk looks nodes up.
        all.sort_by(|one, other| one.path.as_str().cmp(other.path.as_str()));
        let properties =
            old.metadata().map_err(repository_error).doing(|| format!("read snapshot {id}"))?;
        let new = build(repository, &old.message(), properties, files, all)?;
        let log = assets
            .fetch_transaction_log(id)
            .await
            .doing(|| format!("read the transaction log of snapshot {id}"))?;
        let (files, new_id) = (Files::of(repository), new.id());
        let log = tokio::task::spawn_blocking(move || with_id(&files, &log, &new_id))
            .await
            .map_err(|error| target_error("copy a transaction log", &error))??;
        write(repository, &parent, &new, log).await?;
        register(repository, &parent.id(), &new, None).await?;
        parent = new;
    }
    Ok(parent.id())
}

/// Whether the created nodes can stand in the base.
fn check(base: &[NodeSnapshot], arrays: &HashSet<Path>, created: &HashSet<Path>) -> Result<()> {
    let conflict = |message: String| {
        Err(Error::new(ErrorKind::Conflict, message).with_hint(
            "the work cannot be put on the branch as it is now; discard it with --restart",
        ))
    };
    let is_group = |node: &NodeSnapshot| matches!(node.node_data, NodeData::Group);
    let in_the_way = |node: &&NodeSnapshot| {
        arrays.contains(&node.path) || (created.contains(&node.path) && !is_group(node))
    };
    if let Some(node) = base.iter().find(in_the_way) {
        return conflict(format!("{} was created on the branch meanwhile", node.path));
    }
    let groups: HashSet<_> =
        base.iter().filter(|node| is_group(node)).map(|node| &node.path).collect();
    for path in arrays.iter().chain(created) {
        if let Some(parent) = parent_of(path)?
            && !created.contains(&parent)
            && !groups.contains(&parent)
        {
            return conflict(format!("{parent}, which holds {path}, is no longer a group there"));
        }
    }
    Ok(())
}

/// The group that a node is in; the root is in none.
fn parent_of(path: &Path) -> Result<Option<Path>> {
    match path.as_str().rsplit_once('/') {
        Some((_, "")) | None => Ok(None),
        Some(("", _)) => Ok(Some(Path::root())),
        Some((parent, _)) => node_path(parent).map(Some),
    }
}

/// The list entries of the manifests that `nodes` refer to.
fn files_of(snapshot: &Snapshot, nodes: &[NodeSnapshot]) -> Result<Vec<ManifestFileInfo>> {
    let wanted: HashSet<&ManifestId> = nodes
        .iter()
        .filter_map(|node| match &node.node_data {
            NodeData::Array { manifests, .. } => Some(manifests),
            NodeData::Group => None,
        })
        .flatten()
        .map(|manifest| &manifest.object_id)
        .collect();
    let files = manifest_files(snapshot)?;
    Ok(files.into_iter().filter(|file| wanted.contains(&file.id)).collect())
}
