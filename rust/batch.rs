//! The references of one commit in compact form: 24 bytes each, no text.
//!
//! A location is not kept: it follows from the array and the chunk's place in the grid. Turning
//! record batches into this form is also where a chunk that cannot be referenced is noticed.

use arrow_array::RecordBatch;

use crate::list::ChunkColumns;
use crate::metadata::ArrayNode;
use crate::{Error, ErrorKind, Result};

/// What to do with an object of zero bytes under a chunk's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmptyChunks {
    /// Stop: no codec decodes nothing, so it is a damaged chunk.
    #[default]
    Error,
    /// Treat the chunk as missing (it reads as the fill value).
    Skip,
}

/// How listed chunks become references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChunkRules {
    /// What to do with empty objects.
    pub empty_chunks: EmptyChunks,
    /// The store refuses reads that carry an object's own time, so that references need the next
    /// second ([`Source::refuses_listed_times`](crate::source::Source::refuses_listed_times)).
    pub next_second: bool,
}

/// One chunk to be referenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkReference {
    /// Row-major index in the array's chunk grid.
    pub index: u64,
    /// Bytes of the object.
    pub size: u64,
    /// Whole seconds since 1970-01-01 UTC, fractions rounded up.
    pub last_modified: u32,
}

/// Chunks of one array.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReferenceBatch {
    references: Vec<ChunkReference>,
}

impl ReferenceBatch {
    /// Adds the chunks of a record batch; empty objects are skipped or refused.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedArray`] for an empty object unless they are skipped,
    /// [`ErrorKind::Listing`] for a time that Icechunk cannot hold.
    pub fn extend(
        &mut self,
        batch: &RecordBatch,
        array: &ArrayNode,
        rules: ChunkRules,
    ) -> Result<()> {
        let columns = ChunkColumns::of(batch)?;
        let ndim = array.layout.ndim();
        self.references.reserve(columns.sizes.len());
        for (row, (&size, &micros)) in columns.sizes.iter().zip(columns.last_modified).enumerate() {
            let coords = columns.coords.get(row * ndim..(row + 1) * ndim).unwrap_or_default();
            if size == 0 {
                if rules.empty_chunks == EmptyChunks::Error {
                    return Err(empty_chunk(array, coords));
                }
                continue;
            }
            let last_modified = whole_seconds(micros, rules.next_second).ok_or_else(|| {
                Error::new(
                    ErrorKind::Listing,
                    format!(
                        "chunk {} of array {} was last modified after the year 2105, which \
                         Icechunk cannot record",
                        array.source_key(coords),
                        array.path
                    ),
                )
                .with_hint("correct the object's time")
            })?;
            self.references.push(ChunkReference {
                index: array.layout.index(coords),
                size,
                last_modified,
            });
        }
        Ok(())
    }

    /// Chunks in the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.references.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.references.is_empty()
    }

    /// Bytes of all objects together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.references.iter().map(|reference| reference.size).sum()
    }

    /// One of the chunks.
    #[must_use]
    pub fn first(&self) -> Option<ChunkReference> {
        self.references.first().copied()
    }

    /// The chunks in row-major order of the grid.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<ChunkReference> {
        self.references.sort_unstable_by_key(|reference| reference.index);
        self.references
    }
}

fn empty_chunk(array: &ArrayNode, coords: &[u32]) -> Error {
    Error::new(
        ErrorKind::UnsupportedArray,
        format!("chunk {} of array {} is an empty object", array.source_key(coords), array.path),
    )
    .with_hint("restore the object, or treat empty objects as missing with --empty-chunks skip")
}

/// Icechunk compares whole seconds: rounding down would make every read of a file with a
/// fractional time fail. Times before 1970 become 1970, which any such object satisfies.
///
/// With `next_second`, a whole second stands for anything up to the next.
fn whole_seconds(micros: i64, next_second: bool) -> Option<u32> {
    let up = next_second || micros.rem_euclid(1_000_000) > 0;
    let seconds = micros.div_euclid(1_000_000) + i64::from(up);
    u32::try_from(seconds.max(0)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seconds_are_rounded_up_and_clamped() {
        assert_eq!(whole_seconds(0, false), Some(0));
        assert_eq!(whole_seconds(1, false), Some(1));
        assert_eq!(whole_seconds(1_000_000, false), Some(1));
        assert_eq!(whole_seconds(-5, false), Some(0));
        assert_eq!(whole_seconds(i64::from(u32::MAX) * 1_000_000, false), Some(u32::MAX));
        assert_eq!(whole_seconds(i64::from(u32::MAX) * 1_000_000 + 1, false), None);
        assert_eq!(whole_seconds(i64::MAX, false), None);
        assert_eq!(whole_seconds(i64::MIN, false), Some(0));
        assert_eq!(whole_seconds(7_000_000, true), Some(8));
        assert_eq!(whole_seconds(7_000_001, true), Some(8));
    }

    proptest! {
        #[test]
        fn a_recorded_second_is_never_before_the_time(micros in 0_i64..4_000_000_000_000_000) {
            let seconds = i64::from(whole_seconds(micros, false).unwrap());
            prop_assert!(seconds * 1_000_000 >= micros);
            prop_assert!(seconds * 1_000_000 - micros < 1_000_000);
        }
    }
}
