//! A manifest some of whose virtual references become native chunks; the others stay as they are.
//!
//! References may be of any writer, so that this goes through Icechunk's own manifest, one at a
//! time. Who copies the bytes, and what is worth copying, is not known here.

use std::collections::BTreeMap;
use std::sync::Arc;

use icechunk::Repository;
use icechunk::format::manifest::{ChunkInfo, ChunkPayload, ManifestRef, VirtualChunkRef};
use icechunk::format::snapshot::{NodeData, NodeSnapshot};

use super::chunks::ChunkRanges;
use super::one_thread::OneThread;
use super::rewrite::{Changes, build_slices, existing};
use super::{CommittedChunks, NewManifests, Place, fetch, store};
use crate::batch::SplitGrid;
use crate::format::files::{Files, without_cache};
use crate::grid::chunk_box::ChunkBox;
use crate::zarr::key::ChunkKeyEncoding;
use crate::zarr::metadata::ArrayLayout;
use crate::{Error, ErrorKind, Result};

/// The references of one manifest of an array.
pub struct ManifestChunks {
    place: Place,
    manifest: ManifestRef,
    references: Vec<ChunkInfo>,
}

impl ManifestChunks {
    /// Reads a manifest of an array.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when it cannot be read.
    pub async fn read(
        repository: &Repository,
        node: &NodeSnapshot,
        manifest: &ManifestRef,
        thread: &OneThread,
    ) -> Result<Self> {
        let NodeData::Array { shape, .. } = &node.node_data else {
            return Err(Error::new(ErrorKind::Target, format!("{} is a group", node.path)));
        };
        // Chunks are all that counts here: an array of one element a chunk has the same grid.
        let extents: Vec<u64> = shape.num_chunks().map(u64::from).collect();
        let encoding = ChunkKeyEncoding::parse("default", "/")?;
        let layout = ArrayLayout::new(extents.clone(), vec![1; extents.len()], encoding)?;
        let grid = Arc::new(SplitGrid::new(&layout, &[]));
        let place = Place { path: node.path.clone(), node_id: node.id.clone(), grid };
        let ids = [manifest.object_id.clone()];
        let old = fetch(&without_cache(repository), &place.path, &ids).await?;
        let read = move || {
            let mut references: Vec<_> = existing(&place, &old)?.into_values().flatten().collect();
            references.sort_unstable_by(|one, other| one.coord.cmp(&other.coord));
            Ok::<_, Error>((place, references))
        };
        let (place, references) = thread.run(read).await?;
        Ok(Self { place, manifest: manifest.clone(), references })
    }

    /// The first `most` virtual references to chunks of `region`, with their coordinates.
    pub fn virtual_in<'a>(
        &'a self,
        region: &'a ChunkBox,
        most: usize,
    ) -> impl Iterator<Item = (&'a [u32], &'a VirtualChunkRef)> {
        let found = self.references.iter().filter_map(|chunk| match &chunk.payload {
            ChunkPayload::Virtual(reference) if region.contains(&chunk.coord.0) => {
                Some((chunk.coord.0.as_slice(), reference))
            }
            _ => None,
        });
        found.take(most)
    }

    /// Writes the manifest anew, with other payloads for the chunks of `copied`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] or [`ErrorKind::Access`] when writing fails.
    pub async fn write(
        self,
        repository: &Repository,
        mut copied: BTreeMap<Vec<u32>, ChunkPayload>,
        thread: &OneThread,
    ) -> Result<NewManifests> {
        let Self { place, manifest, mut references } = self;
        let files = Files::of(repository);
        let making = files.clone();
        let count = copied.len() as u64;
        let rewritten = move || {
            let mut touched = Vec::with_capacity(copied.len());
            for chunk in &mut references {
                if let Some(payload) = copied.remove(&chunk.coord.0) {
                    touched.push(place.grid.grid_index(&chunk.coord.0));
                    chunk.payload = payload;
                }
            }
            touched.sort_unstable();
            Ok::<_, Error>((build_slices(&place, &making, references)?, touched, place))
        };
        let (made, touched, place) = thread.run(rewritten).await?;
        let mut chunks = CommittedChunks::new(place.grid.grid_shape());
        chunks.add(ChunkRanges::of_indices(touched));
        let written = store(&files, &place, made).await?;
        let Place { path, node_id, .. } = place;
        let changes = Changes { changed: count, ..Changes::default() };
        Ok(NewManifests {
            path,
            node_id,
            written,
            replaced: vec![manifest.object_id],
            chunks,
            changes,
        })
    }
}
