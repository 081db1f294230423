//! Where the chunks of a manifest lie.

use icechunk::format::manifest::ManifestExtents;

use crate::grid::chunk_box::ChunkBox;

/// A manifest's extents as a box.
pub(crate) fn box_of(extents: &ManifestExtents) -> ChunkBox {
    ChunkBox::from_ranges(extents.iter().cloned().collect())
}
