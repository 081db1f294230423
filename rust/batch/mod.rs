//! The references of a part of one array in compact form: 16 bytes each, no text.
//!
//! A location is not kept: it follows from the array and the chunk's place in the grid. Turning
//! record batches into this form is also where a chunk that cannot be referenced is noticed.
//! References are bucketed by manifest split as they arrive, so that each bucket becomes a
//! manifest by sorting integers. Only buckets that hold something take memory.

mod packed;
mod rules;
mod split;
mod tags;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array as _, RecordBatch};

pub(crate) use packed::{Packed, sort};
pub use rules::{ChecksumBy, ChunkRules, EmptyChunks};
use rules::{empty_chunk, no_tag, outside, time_out_of_range, too_large};
pub(crate) use split::{SplitGrid, advance};
pub(crate) use tags::Tags;
pub(crate) use walk::Walk;

use crate::Result;
use crate::grid::chunk_box::ChunkBox;
use crate::grid::piece::Shift;
use crate::list::ChunkColumns;
use crate::zarr::metadata::{ArrayLayout, ArraySpec};

/// One chunk to be referenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkReference {
    /// Row-major index in the array's chunk grid.
    pub index: u64,
    /// Bytes of the object.
    pub size: u64,
    /// Whole seconds since 1970-01-01 UTC, fractions rounded up; 0 for references without a time.
    pub last_modified: u32,
}

/// The references of one bucket, in the order of their arrival.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    /// Its place among all buckets of the array.
    pub(crate) number: u64,
    pub(crate) references: Vec<Packed>,
}

/// The bucket that references are arriving in; chunks are listed in runs that stay in one.
#[derive(Debug, Clone)]
struct Current {
    position: usize,
    ranges: Vec<Range<u32>>,
    /// What of it is in the batch's part.
    inside: Option<ChunkBox>,
}

impl Current {
    fn contains(&self, coords: &[u32]) -> bool {
        self.inside.as_ref().is_some_and(|inside| inside.contains(coords))
    }
}

/// Chunks of a part of one array.
#[derive(Debug, Clone)]
pub struct ReferenceBatch {
    grid: Arc<SplitGrid>,
    part: ChunkBox,
    buckets: Vec<Bucket>,
    /// Where in `buckets` the bucket of a number is.
    positions: HashMap<u64, usize>,
    current: Option<Current>,
    first: Option<ChunkReference>,
    /// Where references carry those instead of times.
    tags: Option<Tags>,
    references: u64,
    bytes: u64,
    /// References that the buckets have room for.
    room: usize,
}

impl ReferenceBatch {
    /// An empty batch for the chunks of `part`, in manifests of `split` chunks along each dimension
    /// (aligned to the grid's origin; dimensions without one are taken whole).
    #[must_use]
    pub fn new(layout: &ArrayLayout, part: ChunkBox, split: &[u32]) -> Self {
        Self {
            grid: Arc::new(SplitGrid::new(layout, split)),
            part,
            buckets: Vec::new(),
            positions: HashMap::new(),
            current: None,
            first: None,
            tags: None,
            references: 0,
            bytes: 0,
            room: 0,
        }
    }

    /// Adds the chunks of a record batch and gives back how many; empty objects are skipped or
    /// refused. `array` and the coordinates of the records are the source's; `shift` leads from
    /// the batch's coordinates to those.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedArray`](crate::ErrorKind::UnsupportedArray) for an empty object unless
    /// they are skipped and for one of 281 TB or more,
    /// [`ErrorKind::Listing`](crate::ErrorKind::Listing) for a time that Icechunk cannot hold and for a
    /// chunk outside the batch's part of the array.
    pub fn extend(
        &mut self,
        records: &RecordBatch,
        array: &ArraySpec,
        shift: &Shift,
        rules: ChunkRules,
    ) -> Result<u64> {
        let columns = ChunkColumns::of(records)?;
        let ndim = self.grid.ndim();
        let before = self.references;
        let mut moved = Vec::with_capacity(ndim);
        for (row, (&size, &micros)) in columns.sizes.iter().zip(columns.last_modified).enumerate() {
            let coords = columns.coords.get(row * ndim..(row + 1) * ndim).unwrap_or_default();
            let here = if shift.is_none() {
                coords
            } else {
                moved.clear();
                moved.extend_from_slice(coords);
                shift.to_target(&mut moved);
                &moved
            };
            if size == 0 {
                if rules.empty_chunks == EmptyChunks::Error {
                    return Err(empty_chunk(array, coords));
                }
                continue;
            }
            let last_modified = match rules.checksum {
                ChecksumBy::LastModified => whole_seconds(micros, rules.next_second)
                    .ok_or_else(|| time_out_of_range(array, coords))?,
                ChecksumBy::ETag => {
                    let tag = columns.e_tags.is_valid(row).then(|| columns.e_tags.value(row));
                    let tag = tag.filter(|tag| !tag.is_empty());
                    let place = tag.and_then(|tag| self.tags.get_or_insert_default().push(tag));
                    place.ok_or_else(|| no_tag(array, coords))?
                }
                ChecksumBy::None => 0,
            };
            if !self.stays(here) {
                if !self.part.contains(here) {
                    return Err(outside(array, coords));
                }
                self.enter(here);
            }
            self.add(here, size, last_modified).ok_or_else(|| too_large(array, coords, size))?;
        }
        Ok(self.references - before)
    }

    /// Adds a chunk; `None` when its size does not fit.
    #[cfg(test)]
    pub(crate) fn push(&mut self, coords: &[u32], size: u64, last_modified: u32) -> Option<()> {
        if !self.stays(coords) {
            self.enter(coords);
        }
        self.add(coords, size, last_modified)
    }

    /// Adds a chunk of the bucket that was entered last; `None` when its size does not fit.
    fn add(&mut self, coords: &[u32], size: u64, last_modified: u32) -> Option<()> {
        let current = self.current.as_ref()?;
        let index = self.grid.index(&current.ranges, coords);
        let packed = Packed::new(index, size, last_modified)?;
        let bucket = &mut self.buckets.get_mut(current.position)?.references;
        if bucket.len() == bucket.capacity() {
            let before = bucket.capacity();
            // A quarter at a time: doubling would leave half of a large batch's memory unused.
            bucket.reserve_exact((before / 4).max(1));
            self.room += bucket.capacity() - before;
        }
        bucket.push(packed);
        self.first.get_or_insert_with(|| ChunkReference {
            index: self.grid.grid_index(coords),
            size,
            last_modified,
        });
        self.references += 1;
        self.bytes = self.bytes.saturating_add(size);
        Some(())
    }

    /// Whether a chunk is in the bucket of the one before, and in the batch's part.
    fn stays(&self, coords: &[u32]) -> bool {
        self.current.as_ref().is_some_and(|current| current.contains(coords))
    }

    fn enter(&mut self, coords: &[u32]) {
        let number = self.grid.bucket(coords);
        let position = *self.positions.entry(number).or_insert_with(|| {
            self.buckets.push(Bucket { number, references: Vec::new() });
            self.buckets.len() - 1
        });
        let ranges = self.grid.ranges(number);
        let inside = ChunkBox::from_ranges(ranges.clone()).intersection(&self.part);
        self.current = Some(Current { position, ranges, inside });
    }

    /// Chunks in the batch.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.references
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.references == 0
    }

    /// Bytes of all objects together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of memory that the batch takes, by capacity.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        // A hash table keeps an eighth of its slots free and a byte for each.
        let slot = size_of::<(u64, usize)>() + 1;
        self.tags.as_ref().map_or(0, Tags::held_bytes)
            + self.room * size_of::<Packed>()
            + self.buckets.capacity() * size_of::<Bucket>()
            + self.positions.capacity() * 8 / 7 * slot
    }

    /// The part of the array that the batch is for.
    #[must_use]
    pub fn part(&self) -> &ChunkBox {
        &self.part
    }

    /// One of the chunks.
    #[must_use]
    pub fn first(&self) -> Option<ChunkReference> {
        self.first
    }

    /// The coordinates of a chunk of the batch's part that has no reference, the first in the
    /// first incomplete manifest; `None` when all have one.
    ///
    /// Takes time by the references that there are, not by those that there could be.
    pub fn first_missing(&mut self) -> Option<Vec<u32>> {
        for number in self.grid.buckets_of(&self.part) {
            let mut ranges = self.grid.ranges(number);
            for (range, part) in ranges.iter_mut().zip(self.part.ranges()) {
                *range = range.start.max(part.start)..range.end.min(part.end);
            }
            let mut coords: Vec<_> = ranges.iter().map(|range| range.start).collect();
            let position = self.positions.get(&number).copied();
            let Some(bucket) = position.and_then(|at| self.buckets.get_mut(at)) else {
                return Some(coords);
            };
            let possible: u64 =
                ranges.iter().map(|range| u64::from(range.end - range.start)).product();
            if bucket.references.len() as u64 >= possible {
                continue;
            }
            sort(&mut bucket.references);
            let origin = self.grid.ranges(number);
            for reference in &bucket.references {
                if self.grid.index(&origin, &coords) != reference.index() {
                    return Some(coords);
                }
                if !advance(&mut coords, &ranges) {
                    break;
                }
            }
            return Some(coords);
        }
        None
    }

    /// The chunks in row-major order of the grid.
    #[must_use]
    pub fn into_sorted(self) -> Vec<ChunkReference> {
        let mut sorted = Vec::with_capacity(self.buckets.iter().map(|b| b.references.len()).sum());
        let mut coords = vec![0; self.grid.ndim()];
        for bucket in self.buckets {
            let ranges = self.grid.ranges(bucket.number);
            for reference in bucket.references {
                self.grid.coords(&ranges, reference.index(), &mut coords);
                sorted.push(ChunkReference {
                    index: self.grid.grid_index(&coords),
                    size: reference.size(),
                    last_modified: reference.seconds(),
                });
            }
        }
        sorted.sort_unstable_by_key(|reference| reference.index);
        sorted
    }

    /// The grid, the buckets in row-major order, and the tags that references carry instead of
    /// times.
    pub(crate) fn into_buckets(mut self) -> (Arc<SplitGrid>, Vec<Bucket>, Option<Tags>) {
        // A chunk that was refused may have left one without any.
        self.buckets.retain(|bucket| !bucket.references.is_empty());
        self.buckets.sort_unstable_by_key(|bucket| bucket.number);
        (self.grid, self.buckets, self.tags)
    }
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
