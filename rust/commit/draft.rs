//! Changes of arrays that are there, before they are committed: metadata documents and native
//! chunks, to be committed by themselves or with references.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use icechunk::Repository;
use icechunk::format::snapshot::{
    ArrayShape, DimensionName, ManifestFileInfo, NodeData, NodeSnapshot, Snapshot,
};
use icechunk::format::{NodeId, SnapshotId};

use super::stored::{fetch, manifest_files, nodes};
use crate::manifest::{CommittedChunks, NativeChunk, native_manifests};
use crate::zarr::metadata::ArraySpec;
use crate::{Error, ErrorKind, Result};

/// A snapshot's nodes with changes.
pub struct Draft {
    pub(super) parent: Arc<Snapshot>,
    pub(super) nodes: Vec<NodeSnapshot>,
    pub(super) files: Vec<ManifestFileInfo>,
    /// Arrays whose metadata has changed.
    pub(super) updated: BTreeSet<NodeId>,
    /// Native chunks that have changed.
    pub(super) touched: BTreeMap<NodeId, CommittedChunks>,
    /// Manifests written, and their bytes.
    pub(super) written: (u64, u64),
}

impl Draft {
    /// A snapshot as it is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when it cannot be read.
    pub async fn of(repository: &Repository, parent: &SnapshotId) -> Result<Self> {
        let parent = fetch(repository, parent).await?;
        Ok(Self {
            nodes: nodes(&parent)?,
            files: manifest_files(&parent)?,
            parent,
            updated: BTreeSet::new(),
            touched: BTreeMap::new(),
            written: (0, 0),
        })
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.updated.is_empty() && self.touched.is_empty()
    }

    /// Gives an array the document, and with it the shape, of `array`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when there is no such array.
    pub fn set_document(&mut self, array: &ArraySpec) -> Result<()> {
        let node = self.node(array)?;
        if same_document(&node.user_data, &array.document) {
            return Ok(());
        }
        let layout = &array.layout;
        let extents = layout.grid_shape().iter().map(|extent| u32::try_from(*extent));
        let extents = extents.collect::<std::result::Result<Vec<_>, _>>();
        let grown = extents
            .ok()
            .and_then(|extents| ArrayShape::new(layout.shape().iter().copied().zip(extents)));
        let NodeData::Array { shape, dimension_names, .. } = &mut node.node_data else {
            return Err(not_there(array));
        };
        *shape = grown.ok_or_else(|| not_there(array))?;
        let names = array.dimension_names();
        let given = names.iter().map(|name| DimensionName::from(name.as_deref()));
        *dimension_names = if names.is_empty() { None } else { Some(given.collect()) };
        node.user_data = Bytes::copy_from_slice(&array.document);
        let id = node.id.clone();
        self.updated.insert(id);
        Ok(())
    }

    /// Sets native chunks of an array, whose manifests are cut at `split` chunks along each
    /// dimension.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when there is no such array, or when writing fails;
    /// [`ErrorKind::Access`] when it is refused.
    pub async fn set_chunks(
        &mut self,
        repository: &Repository,
        array: &ArraySpec,
        split: &[u32],
        chunks: &[NativeChunk],
    ) -> Result<()> {
        if chunks.is_empty() {
            return Ok(());
        }
        let id = self.parent.id();
        let node = self.node(array)?;
        let NodeData::Array { manifests, .. } = &node.node_data else {
            return Err(not_there(array));
        };
        let place = (&*node, manifests.as_slice());
        let new = native_manifests(repository, &id, place, &array.layout, split, chunks).await?;
        if let NodeData::Array { manifests, .. } = &mut node.node_data {
            *manifests = new.written.iter().map(|manifest| manifest.reference.clone()).collect();
        }
        let replaced: BTreeSet<_> = new.replaced.iter().collect();
        self.files.retain(|file| !replaced.contains(&file.id));
        for manifest in &new.written {
            self.written.0 += 1;
            self.written.1 += manifest.file.size_bytes;
            self.files.push(manifest.file.clone());
        }
        self.touched.insert(new.node_id, new.chunks);
        Ok(())
    }

    fn node(&mut self, array: &ArraySpec) -> Result<&mut NodeSnapshot> {
        let node = self.nodes.iter_mut().find(|node| node.path.as_str() == array.path);
        node.ok_or_else(|| not_there(array))
    }
}

/// Whether documents say the same, however they are spaced.
fn same_document(one: &[u8], other: &[u8]) -> bool {
    let parsed = |document: &[u8]| serde_json::from_slice::<serde_json::Value>(document).ok();
    one == other || parsed(one).is_some_and(|one| Some(one) == parsed(other))
}

fn not_there(array: &ArraySpec) -> Error {
    Error::new(ErrorKind::Target, format!("the target has no array {}", array.path))
        .with_hint("run the same command again")
}
