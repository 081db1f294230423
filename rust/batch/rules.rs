//! How listed chunks become references, as the user chose, and what is said of those that cannot.

use crate::list::DanglingLinks;
use crate::zarr::metadata::ArraySpec;
use crate::{Error, ErrorKind};

/// What to do with an object of zero bytes under a chunk's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmptyChunks {
    /// Stop: no codec decodes nothing, so it is a damaged chunk.
    #[default]
    Error,
    /// Treat the chunk as missing (it reads as the fill value).
    Skip,
}

/// A link that leads nowhere holds as little as an empty object.
impl From<EmptyChunks> for DanglingLinks {
    fn from(empty: EmptyChunks) -> Self {
        match empty {
            EmptyChunks::Error => Self::Error,
            EmptyChunks::Skip => Self::Skip,
        }
    }
}

impl EmptyChunks {
    /// Its name in options and in what is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Skip => "skip",
        }
    }
}

/// By what a reader of a reference notices that its object has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChecksumBy {
    /// The object's time, to the second.
    #[default]
    LastModified,
    /// Its `ETag`.
    ETag,
    /// Nothing.
    None,
}

impl ChecksumBy {
    /// Its name in options and in what is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LastModified => "last-modified",
            Self::ETag => "etag",
            Self::None => "none",
        }
    }
}

/// How listed chunks become references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChunkRules {
    /// What to do with empty objects.
    pub empty_chunks: EmptyChunks,
    /// What references carry.
    pub checksum: ChecksumBy,
    /// The store refuses reads that carry an object's own time, so that references need the next
    /// second ([`Staleness::ByNextSecond`](crate::source::Staleness::ByNextSecond)).
    pub next_second: bool,
}

pub(super) fn time_out_of_range(array: &ArraySpec, coords: &[u32]) -> Error {
    Error::new(
        ErrorKind::Listing,
        format!(
            "chunk {} of array {} was last modified after the year 2105, which Icechunk cannot \
             record",
            array.source_key(coords),
            array.path
        ),
    )
    .with_hint("correct the object's time")
}

pub(super) fn no_tag(array: &ArraySpec, coords: &[u32]) -> Error {
    Error::new(
        ErrorKind::Listing,
        format!(
            "chunk {} of array {} was listed without an ETag",
            array.source_key(coords),
            array.path
        ),
    )
    .with_hint("this source gives none: use --checksum last-modified (or none)")
}

pub(super) fn outside(array: &ArraySpec, coords: &[u32]) -> Error {
    Error::new(
        ErrorKind::Listing,
        format!(
            "chunk {} of array {} was listed outside the requested part",
            array.source_key(coords),
            array.path
        ),
    )
}

pub(super) fn too_large(array: &ArraySpec, coords: &[u32], size: u64) -> Error {
    Error::new(
        ErrorKind::UnsupportedArray,
        format!(
            "chunk {} of array {} has {size} bytes; a reference holds fewer than 2^48",
            array.source_key(coords),
            array.path
        ),
    )
}

pub(super) fn empty_chunk(array: &ArraySpec, coords: &[u32]) -> Error {
    Error::new(
        ErrorKind::UnsupportedArray,
        format!("chunk {} of array {} is an empty object", array.source_key(coords), array.path),
    )
    .with_hint(
        "restore the object, or treat empty objects as missing with --empty-chunks skip --restart",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_the_names_that_are_stored() {
        assert_eq!(
            [EmptyChunks::Error, EmptyChunks::Skip].map(EmptyChunks::name),
            ["error", "skip"]
        );
        assert_eq!(
            [ChecksumBy::LastModified, ChecksumBy::ETag, ChecksumBy::None].map(ChecksumBy::name),
            ["last-modified", "etag", "none"]
        );
    }

    #[test]
    fn dangling_links_are_skipped_where_empty_chunks_are() {
        assert_eq!(DanglingLinks::from(EmptyChunks::Error), DanglingLinks::Error);
        assert_eq!(DanglingLinks::from(EmptyChunks::Skip), DanglingLinks::Skip);
    }
}
