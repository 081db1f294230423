//! Puts the commits of a run on another base: new snapshots and logs, the same manifests.

use std::collections::{BTreeMap, HashSet};

use icechunk::Repository;
use icechunk::format::snapshot::{ManifestFileInfo, NodeData, NodeSnapshot};
use icechunk::format::{ManifestId, Path, SnapshotId};

use super::log::with_id;
use super::record;
use super::register::{register, repository_error, write};
use super::snapshot::build;
use super::stored::{fetch, manifest_files, manifests_of, nodes};
use crate::error::{TargetContext as _, target_error};
use crate::format::files::{Files, without_cache};
use crate::format::node_path;
use crate::{Error, ErrorKind, Result};

/// What a run has made or changed, by path.
#[derive(Debug, Clone, Default)]
pub struct Touched<'a> {
    /// Its arrays.
    pub arrays: Vec<&'a str>,
    /// Groups that it created.
    pub groups: Vec<&'a str>,
    /// Nodes that it removed first, with all that was in them.
    pub replaced: Vec<&'a str>,
    /// The snapshot that it began with, if it began on the branch.
    pub began_with: Option<SnapshotId>,
}

/// Commits the `staged` snapshots of a run (oldest first) anew on top of `base`, and gives back the
/// last of the new ones.
///
/// Nothing but what the run has touched is taken over. The new snapshots are on no branch:
/// publishing is a compare-and-set of a branch from `base` to the result. Until then, or after a
/// failure, they are garbage.
///
/// # Errors
///
/// [`ErrorKind::Conflict`] when something that the run touches is not in `base` as it was when
/// the run began, or its parent is not there, naming the path; [`ErrorKind::Target`] or
/// [`ErrorKind::Access`] when reading or writing fails.
pub async fn replay(
    repository: &Repository,
    staged: &[SnapshotId],
    touched: &Touched<'_>,
    base: &SnapshotId,
) -> Result<SnapshotId> {
    let mut parent = fetch(repository, base).await?;
    let base_files = manifest_files(&parent)?;
    let mut base_nodes = nodes(&parent)?;
    let before = match &touched.began_with {
        Some(id) => nodes(&*fetch(repository, id).await?)?,
        None => Vec::new(),
    };
    check(&before, &base_nodes, touched)?;
    // A group that somebody else has created meanwhile is kept as it is.
    let present: HashSet<String> = base_nodes.iter().map(|node| node.path.to_string()).collect();
    let ours = |node: &NodeSnapshot| {
        let path = node.path.as_str();
        touched.changes(path) || (touched.groups.contains(&path) && !present.contains(path))
    };
    base_nodes.retain(|node| !touched.changes(node.path.as_str()));
    let assets = without_cache(repository);
    for id in staged {
        let old = fetch(repository, id).await?;
        let ours: Vec<_> = nodes(&old)?.into_iter().filter(ours).collect();
        let mut all = base_nodes.clone();
        let mut files = files_of(&base_files, &all);
        files.extend(files_of(&manifest_files(&old)?, &ours));
        all.extend(ours);
        // By bytes of the path, as Icechunk looks nodes up.
        all.sort_by(|one, other| one.path.as_str().cmp(other.path.as_str()));
        let mut properties =
            old.metadata().map_err(repository_error).doing(|| format!("read snapshot {id}"))?;
        record::no_longer_whole(&mut properties);
        let new = build(repository, None, &old.message(), properties, files, all)?;
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

impl Touched<'_> {
    /// Whether the run makes, changes or removes the node at a path.
    fn changes(&self, path: &str) -> bool {
        self.arrays.contains(&path)
            || self.replaced.iter().any(|root| path == *root || is_below(root, path))
    }
}

/// Whether a node lies below another, by their paths.
#[must_use]
pub fn is_below(root: &str, path: &str) -> bool {
    let below = path.strip_prefix(root.trim_end_matches('/'));
    below.is_some_and(|below| below.len() > 1 && below.starts_with('/'))
}

/// Whether what the run touches stands in the base as it did before.
fn check(before: &[NodeSnapshot], base: &[NodeSnapshot], touched: &Touched<'_>) -> Result<()> {
    let conflict = |message: String| {
        Err(Error::new(ErrorKind::Conflict, message).with_hint(
            "the work cannot be put on the branch as it is now; discard it with --restart",
        ))
    };
    let is_group = |node: &NodeSnapshot| matches!(node.node_data, NodeData::Group);
    let concerned = |nodes: &'_ [NodeSnapshot]| -> BTreeMap<String, NodeSnapshot> {
        let concerned = nodes.iter().filter(|node| touched.changes(node.path.as_str()));
        concerned.map(|node| (node.path.to_string(), node.clone())).collect()
    };
    let (then, now) = (concerned(before), concerned(base));
    for path in then.keys().chain(now.keys()) {
        match (then.get(path), now.get(path)) {
            (None, Some(_)) => {
                return conflict(format!("{path} was created on the branch meanwhile"));
            }
            (Some(_), None) => {
                return conflict(format!("{path} was removed from the branch meanwhile"));
            }
            (then, now) if then != now => {
                return conflict(format!("{path} was changed on the branch meanwhile"));
            }
            _ => {}
        }
    }
    let created = |node: &&NodeSnapshot| touched.groups.contains(&node.path.as_str());
    if let Some(node) = base.iter().find(|node| created(node) && !is_group(node)) {
        return conflict(format!("{} was created on the branch meanwhile", node.path));
    }
    let groups: HashSet<_> =
        base.iter().filter(|node| is_group(node)).map(|node| node.path.as_str()).collect();
    for path in touched.arrays.iter().chain(&touched.groups) {
        if let Some(parent) = parent_of(&node_path(path)?)?
            && !touched.groups.contains(&parent.as_str())
            && !groups.contains(parent.as_str())
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
fn files_of(files: &[ManifestFileInfo], nodes: &[NodeSnapshot]) -> Vec<ManifestFileInfo> {
    let wanted: HashSet<&ManifestId> = nodes.iter().flat_map(manifests_of).collect();
    files.iter().filter(|file| wanted.contains(&file.id)).cloned().collect()
}
