//! A commit made directly from manifests: the parent's nodes with more manifests, or with others.
//!
//! The parent's manifests stay as they are, byte for byte, but for those that were made anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use icechunk::Repository;
use icechunk::format::manifest::{ManifestExtents, ManifestRef};
use icechunk::format::snapshot::{
    ManifestFileInfo, NodeData, NodeSnapshot, Snapshot, SnapshotProperties,
};
use icechunk::format::{IcechunkFormatError, ManifestId, NodeId, Path, SnapshotId};

use super::draft::Draft;
use super::log::change_log;
use super::register::{register, repository_error, write};
use super::stored::manifests_of;
use crate::error::{TargetContext as _, target_error};
use crate::format::files::Files;
use crate::manifest::{NewManifests, WrittenManifest};
use crate::{Error, ErrorKind, Result};

/// The most chunks that one commit may hold. Icechunk reads no log of more than 50 million.
pub const MOST_CHUNKS_PER_COMMIT: u64 = 10_000_000;

/// Commits manifests to `branch`, which must stand at `parent`.
///
/// An array may appear several times, with parts that do not overlap; parts in which nothing has
/// changed are left out.
///
/// # Errors
///
/// [`ErrorKind::Conflict`] when the branch has moved; the manifests can be committed again on its
/// new tip. [`ErrorKind::Target`] when there is nothing to commit or more than
/// [`MOST_CHUNKS_PER_COMMIT`], when an array is not there or has manifests where the new ones are,
/// when clocks disagree, or when writing fails; [`ErrorKind::Access`] when it is refused.
pub async fn commit_manifests(
    repository: &Repository,
    branch: &str,
    parent: &SnapshotId,
    message: &str,
    properties: SnapshotProperties,
    arrays: Vec<NewManifests>,
) -> Result<SnapshotId> {
    check_size(arrays.iter().map(|array| array.chunks.len()).sum())?;
    let draft = Draft::of(repository, parent).await?;
    commit_draft(repository, Some(branch), draft, message, properties, arrays).await
}

/// Commits changes of arrays, and manifests with them, to `branch`; without one, to none: the
/// snapshot is then in the repository for a branch to be moved to it.
///
/// # Errors
///
/// As [`commit_manifests`], but there may be no manifests.
pub async fn commit_draft(
    repository: &Repository,
    branch: Option<&str>,
    draft: Draft,
    message: &str,
    properties: SnapshotProperties,
    arrays: Vec<NewManifests>,
) -> Result<SnapshotId> {
    let written = write_draft(repository, draft, None, message, properties, arrays).await?;
    written.register(repository, branch).await?;
    Ok(written.id())
}

/// A snapshot whose files are written, of which the repository does not know yet.
pub(super) struct Written {
    parent: SnapshotId,
    snapshot: Arc<Snapshot>,
}

impl Written {
    pub(super) fn id(&self) -> SnapshotId {
        self.snapshot.id()
    }

    /// Makes it part of the history; see [`register`].
    pub(super) async fn register(
        &self,
        repository: &Repository,
        branch: Option<&str>,
    ) -> Result<()> {
        register(repository, &self.parent, &self.snapshot, branch).await
    }
}

/// Writes what [`commit_draft`] commits, as a snapshot with an id that is given or a new one.
pub(super) async fn write_draft(
    repository: &Repository,
    draft: Draft,
    id: Option<SnapshotId>,
    message: &str,
    properties: SnapshotProperties,
    arrays: Vec<NewManifests>,
) -> Result<Written> {
    let Draft { parent, mut nodes, mut files, updated, mut touched, .. } = draft;
    let mut added: HashMap<NodeId, (Path, Vec<WrittenManifest>)> = HashMap::new();
    let mut replaced = HashSet::new();
    for new in arrays.into_iter().filter(|new| !new.chunks.is_empty()) {
        let NewManifests { path, node_id, written, replaced: old, chunks, .. } = new;
        replaced.extend(old);
        added.entry(node_id.clone()).or_insert_with(|| (path, Vec::new())).1.extend(written);
        match touched.entry(node_id) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(chunks);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                entry.get_mut().merge(chunks);
            }
        }
    }
    for (_, written) in added.values_mut() {
        // A part may have replaced what an earlier one of the same commit has written.
        written.retain(|manifest| !replaced.contains(&manifest.file.id));
        files.extend(written.iter().map(|manifest| manifest.file.clone()));
    }
    for node in &mut nodes {
        if let Some((_, written)) = added.remove(&node.id) {
            exchange(node, &replaced, written)?;
        }
    }
    if let Some((path, _)) = added.values().next() {
        return Err(Error::new(
            ErrorKind::Target,
            format!(
                "snapshot {} has no array {path} with the id that manifests are for",
                parent.id()
            ),
        ));
    }
    let referred: HashSet<_> = nodes.iter().flat_map(manifests_of).collect();
    files.retain(|file| referred.contains(&file.id));
    let snapshot = build(repository, id, message, properties, files, nodes)?;
    let (touched, updated): (Vec<_>, Vec<_>) =
        (touched.into_iter().collect(), updated.into_iter().collect());
    let (files, id) = (Files::of(repository), snapshot.id());
    let log = tokio::task::spawn_blocking(move || change_log(&files, &id, &updated, &touched))
        .await
        .map_err(|error| target_error("write a transaction log", &error))??;
    write(repository, &parent, &snapshot, log).await?;
    Ok(Written { parent: parent.id(), snapshot })
}

/// Commits a snapshot that holds what its parent does, for what its properties say.
///
/// # Errors
///
/// As [`commit_manifests`].
pub async fn commit_nothing(
    repository: &Repository,
    branch: &str,
    parent: &SnapshotId,
    message: &str,
    properties: SnapshotProperties,
) -> Result<SnapshotId> {
    let draft = Draft::of(repository, parent).await?;
    commit_draft(repository, Some(branch), draft, message, properties, Vec::new()).await
}

fn check_size(chunks: u64) -> Result<()> {
    if chunks == 0 {
        return Err(Error::new(ErrorKind::Target, "there are no references to commit"));
    }
    if chunks > MOST_CHUNKS_PER_COMMIT {
        return Err(Error::new(
            ErrorKind::Target,
            format!(
                "a commit of {chunks} references; at most {MOST_CHUNKS_PER_COMMIT} are possible"
            ),
        )
        .with_hint("use fewer --max-refs-per-commit"));
    }
    Ok(())
}

/// Takes manifests from an array's node and adds others.
fn exchange(
    node: &mut NodeSnapshot,
    replaced: &HashSet<ManifestId>,
    written: Vec<WrittenManifest>,
) -> Result<()> {
    let NodeData::Array { manifests, .. } = &mut node.node_data else {
        return Err(Error::new(
            ErrorKind::Target,
            format!("{} is a group, not an array", node.path),
        ));
    };
    manifests.retain(|manifest| !replaced.contains(&manifest.object_id));
    manifests.extend(written.into_iter().map(|manifest| manifest.reference));
    if let Some((one, other)) = overlap(manifests) {
        // A reader takes the first manifest whose extents hold a chunk: the other would be hidden.
        return Err(Error::new(
            ErrorKind::Target,
            format!(
                "array {} has references in {} already, where {} are to be added",
                node.path,
                shown(&one.extents),
                shown(&other.extents)
            ),
        )
        .with_hint("the array was filled before; start over with --restart"));
    }
    Ok(())
}

/// Two manifests whose extents share a chunk.
///
/// Sorted by where they begin along the leading dimension, only those that begin before another
/// has ended need to be compared.
fn overlap(manifests: &[ManifestRef]) -> Option<(&ManifestRef, &ManifestRef)> {
    let leading = |manifest: &ManifestRef| manifest.extents.iter().next().cloned();
    let mut sorted: Vec<_> = manifests.iter().collect();
    sorted.sort_by_key(|manifest| leading(manifest).map(|range| range.start));
    let mut open: Vec<&ManifestRef> = Vec::new();
    for manifest in sorted {
        let start = leading(manifest).map(|range| range.start);
        open.retain(|other| leading(other).is_none_or(|range| Some(range.end) > start));
        let hit = |other: &&&ManifestRef| other.extents.intersection(&manifest.extents).is_some();
        if let Some(other) = open.iter().find(hit) {
            return Some((other, manifest));
        }
        open.push(manifest);
    }
    None
}

fn shown(extents: &ManifestExtents) -> String {
    let ranges: Vec<_> = extents.iter().map(|range| format!("{range:?}")).collect();
    format!("[{}]", ranges.join(", "))
}

/// A snapshot of `nodes`, not written yet.
pub(super) fn build(
    repository: &Repository,
    id: Option<SnapshotId>,
    message: &str,
    properties: SnapshotProperties,
    files: Vec<ManifestFileInfo>,
    nodes: Vec<NodeSnapshot>,
) -> Result<Arc<Snapshot>> {
    let mut all = repository.default_commit_metadata().clone();
    all.extend(properties);
    let snapshot = Snapshot::from_iter(
        id,
        // Spec version 2 keeps parents in the repository info.
        None,
        repository.spec_version(),
        message,
        Some(all),
        files,
        None,
        nodes.into_iter().map(Ok::<_, IcechunkFormatError>),
    )
    .map_err(repository_error)
    .doing(|| "build a snapshot".to_owned())?;
    Ok(Arc::new(snapshot))
}
