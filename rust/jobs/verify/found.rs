//! The chunks that a listing found of a part of an array, to be looked up by their coordinates and
//! ticked off. How references compare with them is not decided here.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::batch::{Bucket, Packed, ReferenceBatch, SplitGrid, Tags};
use crate::{Error, ErrorKind, Result};

/// What was listed of a part.
pub(super) struct Found {
    grid: Arc<SplitGrid>,
    /// In the order of their numbers.
    buckets: Vec<FoundBucket>,
    /// Where objects are known by those instead of times.
    tags: Option<Tags>,
}

/// What tells the state of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State<'a> {
    /// Whole seconds since 1970, fractions rounded up; 0 when times were not listed.
    Seconds(u32),
    /// Its `ETag`.
    Tag(&'a str),
}

struct FoundBucket {
    number: u64,
    ranges: Vec<Range<u32>>,
    /// In the order of their indices.
    references: Vec<Packed>,
    seen: Vec<AtomicBool>,
}

/// Where the last chunk was found: references are looked up in about the order of their indices.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hint {
    bucket: usize,
    at: usize,
}

impl Found {
    /// Sorts what was listed of the array at `path`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Listing`] for a chunk that was listed twice.
    pub(super) fn new(path: &str, batch: ReferenceBatch) -> Result<Self> {
        let (grid, buckets, tags) = batch.into_buckets();
        let mut sorted = Vec::with_capacity(buckets.len());
        for Bucket { number, mut references } in buckets {
            references.sort_unstable();
            let ranges = grid.ranges(number);
            let twice = references.windows(2).find_map(|pair| match pair {
                [one, other] if one.index() == other.index() => Some(one.index()),
                _ => None,
            });
            if let Some(index) = twice {
                let mut coords = vec![0; grid.ndim()];
                grid.coords(&ranges, index, &mut coords);
                return Err(Error::new(
                    ErrorKind::Listing,
                    format!("chunk {coords:?} of array {path} was listed twice"),
                ));
            }
            let seen = references.iter().map(|_| AtomicBool::new(false)).collect();
            sorted.push(FoundBucket { number, ranges, references, seen });
        }
        Ok(Self { grid, buckets: sorted, tags })
    }

    /// Finds a chunk and ticks it off; gives back its bytes and state.
    pub(super) fn take(&self, coords: &[u32], hint: &mut Hint) -> Option<(u64, State<'_>)> {
        let number = self.grid.bucket(coords);
        let there = |at: usize| self.buckets.get(at).filter(|bucket| bucket.number == number);
        if there(hint.bucket).is_none() {
            let bucket = self.buckets.binary_search_by_key(&number, |bucket| bucket.number);
            *hint = Hint { bucket: bucket.ok()?, at: 0 };
        }
        let bucket = there(hint.bucket)?;
        let index = self.grid.index(&bucket.ranges, coords);
        let guess = bucket.references.get(hint.at).filter(|packed| packed.index() == index);
        let at = match guess {
            Some(_) => hint.at,
            None => bucket.references.binary_search_by_key(&index, |packed| packed.index()).ok()?,
        };
        hint.at = at + 1;
        bucket.seen.get(at)?.store(true, Ordering::Relaxed);
        let packed = bucket.references.get(at)?;
        Some((packed.size(), self.state(*packed)))
    }

    fn state(&self, packed: Packed) -> State<'_> {
        match &self.tags {
            Some(tags) => State::Tag(tags.get(packed.tag())),
            None => State::Seconds(packed.seconds()),
        }
    }

    /// Calls `tell` with the coordinates, bytes and state of every chunk that was not
    /// ticked off.
    pub(super) fn left(
        &self,
        mut tell: impl FnMut(&[u32], u64, State<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut coords = vec![0; self.grid.ndim()];
        for bucket in &self.buckets {
            for (packed, seen) in bucket.references.iter().zip(&bucket.seen) {
                if !seen.load(Ordering::Relaxed) {
                    self.grid.coords(&bucket.ranges, packed.index(), &mut coords);
                    tell(&coords, packed.size(), self.state(*packed))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::chunk_box::ChunkBox;
    use crate::testing::layout;

    #[test]
    fn what_is_not_looked_up_is_left() {
        let layout = layout(&[7, 5]);
        let mut batch = ReferenceBatch::new(&layout, ChunkBox::whole(&layout), &[2, 5]);
        for coords in [[6, 4], [0, 0], [3, 1]] {
            batch.push(&coords, 10, 77).unwrap();
        }
        let found = Found::new("/x", batch).unwrap();
        let mut hint = Hint::default();
        assert_eq!(found.take(&[3, 1], &mut hint), Some((10, State::Seconds(77))));
        assert_eq!(found.take(&[3, 2], &mut hint), None);
        assert_eq!(found.take(&[0, 0], &mut hint), Some((10, State::Seconds(77))));
        let mut left = Vec::new();
        let note = |coords: &[u32], _, _: State<'_>| {
            left.push(coords.to_vec());
            Ok(())
        };
        found.left(note).unwrap();
        assert_eq!(left, [[6, 4]]);
    }

    #[test]
    fn a_chunk_that_was_listed_twice_is_an_error() {
        let layout = layout(&[7]);
        let mut batch = ReferenceBatch::new(&layout, ChunkBox::whole(&layout), &[]);
        batch.push(&[1], 10, 77).unwrap();
        batch.push(&[1], 11, 78).unwrap();
        assert_eq!(Found::new("/x", batch).err().map(|e| e.kind()), Some(ErrorKind::Listing));
    }
}
