//! What the core needs to know of a Zarr node: its place, its version 3 document, its layout.
//!
//! The documents come from zarr-python, which knows codecs and data types; nothing here
//! interprets them. Shapes are in elements, grid shapes in chunks. "Chunk" is the stored object:
//! for a sharded array, the shard.

use crate::zarr::key::ChunkKeyEncoding;
use crate::{Error, ErrorKind, Result};

/// How an array's elements are laid out in objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayLayout {
    shape: Vec<u64>,
    chunk_shape: Vec<u64>,
    grid_shape: Vec<u64>,
    encoding: ChunkKeyEncoding,
}

impl ArrayLayout {
    /// A regular grid of `chunk_shape` over `shape`, both in elements.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedArray`] when the two differ in length, a chunk length is zero, the
    /// grid holds 2⁶³ chunks or more, or a coordinate does not fit 32 bits (Icechunk's limit).
    pub fn new(shape: Vec<u64>, chunk_shape: Vec<u64>, encoding: ChunkKeyEncoding) -> Result<Self> {
        let unsupported = |what: String| Err(Error::new(ErrorKind::UnsupportedArray, what));
        if shape.len() != chunk_shape.len() {
            return unsupported(format!(
                "the shape has {} dimensions, the chunk shape {}",
                shape.len(),
                chunk_shape.len()
            ));
        }
        let mut grid_shape = Vec::with_capacity(shape.len());
        let mut chunks: u64 = 1;
        for (length, chunk) in shape.iter().zip(&chunk_shape) {
            if *chunk == 0 {
                return unsupported("a chunk length is zero".to_owned());
            }
            let extent = length.div_ceil(*chunk);
            if extent > u64::from(u32::MAX) {
                return unsupported(format!(
                    "{extent} chunks along one dimension; Icechunk holds at most {}",
                    u32::MAX
                ));
            }
            grid_shape.push(extent);
            chunks = match chunks.checked_mul(extent) {
                Some(chunks) if chunks < 1 << 63 => chunks,
                _ => return unsupported("a grid of 2^63 chunks or more".to_owned()),
            };
        }
        Ok(Self { shape, chunk_shape, grid_shape, encoding })
    }

    /// Elements along each dimension.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Elements of one chunk along each dimension.
    #[must_use]
    pub fn chunk_shape(&self) -> &[u64] {
        &self.chunk_shape
    }

    /// Chunks along each dimension, the ragged last one included.
    #[must_use]
    pub fn grid_shape(&self) -> &[u64] {
        &self.grid_shape
    }

    /// Dimensions.
    #[must_use]
    pub fn ndim(&self) -> usize {
        self.grid_shape.len()
    }

    /// Chunks that the grid has room for; 1 for a scalar, 0 when a dimension is empty.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.grid_shape.iter().product()
    }

    /// How chunk coordinates become keys in the source.
    #[must_use]
    pub fn encoding(&self) -> ChunkKeyEncoding {
        self.encoding
    }

    /// The row-major index of `coords` in the grid.
    #[must_use]
    pub fn index(&self, coords: &[u32]) -> u64 {
        coords
            .iter()
            .zip(&self.grid_shape)
            .fold(0, |index, (coord, extent)| index * extent + u64::from(*coord))
    }

    /// The coordinates at a row-major index; the inverse of [`index`](Self::index).
    #[must_use]
    pub fn coords(&self, mut index: u64) -> Vec<u32> {
        let mut coords = vec![0; self.grid_shape.len()];
        for (coord, extent) in coords.iter_mut().zip(&self.grid_shape).rev() {
            // Extents fit 32 bits, so does a remainder of one.
            *coord = u32::try_from(index % extent).unwrap_or(u32::MAX);
            index /= extent;
        }
        coords
    }
}

/// A group to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    /// Path in the target, `/` for the root, `/a/b` otherwise.
    pub path: String,
    /// Its version 3 metadata document (`zarr.json`).
    pub document: Vec<u8>,
    /// Whether it stands for a group of the source; other groups are parents that `path` needs.
    pub from_source: bool,
}

/// An array to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArraySpec {
    /// Path in the target, such as `/group/air`.
    pub path: String,
    /// Path in the source, relative to its root; empty when the source is the array.
    pub source_path: String,
    /// Its version 3 metadata document (`zarr.json`), with Icechunk's chunk keys.
    pub document: Vec<u8>,
    /// Shape, chunks and keys in the source.
    pub layout: ArrayLayout,
    /// Whether its chunks are copied as native chunks instead of referenced.
    pub copied: bool,
}

impl ArraySpec {
    /// The names of its dimensions, as the document has them; none when it has none.
    #[must_use]
    pub fn dimension_names(&self) -> Vec<Option<String>> {
        #[derive(serde::Deserialize)]
        struct Named {
            dimension_names: Option<Vec<Option<String>>>,
        }
        let named = serde_json::from_slice::<Named>(&self.document).ok();
        named.and_then(|named| named.dimension_names).unwrap_or_default()
    }

    /// The key of a chunk in the source, relative to the source's root.
    #[must_use]
    pub fn source_key(&self, coords: &[u32]) -> String {
        format!("{}{}", self.source_prefix(), self.layout.encoding().encode(coords))
    }

    /// What every key of this array begins with: empty, or a path that ends in `/`.
    #[must_use]
    pub fn source_prefix(&self) -> String {
        if self.source_path.is_empty() { String::new() } else { format!("{}/", self.source_path) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(shape: &[u64], chunk_shape: &[u64]) -> Result<ArrayLayout> {
        let encoding = ChunkKeyEncoding::parse("default", "/")?;
        ArrayLayout::new(shape.to_vec(), chunk_shape.to_vec(), encoding)
    }

    #[test]
    fn ragged_ends_count_as_whole_chunks() {
        let layout = layout(&[10, 7, 0], &[3, 7, 5]).unwrap();
        assert_eq!(layout.grid_shape(), [4, 1, 0]);
        assert_eq!(layout.chunks(), 0);
    }

    #[test]
    fn a_scalar_is_one_chunk() {
        assert_eq!(layout(&[], &[]).unwrap().chunks(), 1);
    }

    #[test]
    fn impossible_grids_are_refused() {
        for (shape, chunks) in [
            (vec![1], vec![]),
            (vec![1], vec![0]),
            (vec![1 << 40], vec![1]),
            (vec![u64::from(u32::MAX); 3], vec![1; 3]),
        ] {
            let error = layout(&shape, &chunks).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnsupportedArray);
        }
    }

    proptest! {
        #[test]
        fn coordinates_and_indices_are_inverse(
            grid in proptest::collection::vec(1_u64..50, 0..5),
            seed in any::<u64>(),
        ) {
            let layout = layout(&grid, &vec![1; grid.len()]).unwrap();
            let index = seed % layout.chunks();
            prop_assert_eq!(layout.index(&layout.coords(index)), index);
        }
    }
}
