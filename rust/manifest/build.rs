//! From sorted compact references to the compressed bytes of manifests.

use std::ops::Range;

use icechunk::format::flatbuffers::generated;
use icechunk::format::manifest::ManifestExtents;
use icechunk::format::{ManifestId, NodeId, Path};

use super::record::{Records, TABLE};
use crate::batch::{Packed, SplitGrid, Tags, Walk};
use crate::error::target_error;
use crate::format::files::{FileId, Files};
use crate::format::flat::{FlatStart, fits, small};
use crate::plan::MAX_REFERENCES_PER_MANIFEST;
use crate::target::locations::ArrayLocations;
use crate::{Error, ErrorKind};

/// Why a manifest could not be made.
pub(super) enum Problem {
    /// A chunk, by its coordinates, has two references.
    Twice(Vec<u32>),
    /// The buffer would be larger than its format allows.
    TooLarge,
    /// Compression failed.
    Compression(std::io::Error),
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::Compression(error)
    }
}

impl Problem {
    pub(super) fn describe(self, array: &Path) -> Error {
        match self {
            Self::Twice(coords) => Error::new(
                ErrorKind::Listing,
                format!("chunk {coords:?} of array {array} was listed twice"),
            )
            .with_hint("wait until nothing writes to the source, then run the command again"),
            Self::TooLarge => Error::new(
                ErrorKind::UnsupportedArray,
                format!("a manifest of array {array} would be larger than 2 GiB"),
            )
            .with_hint("use fewer --refs-per-manifest"),
            Self::Compression(error) => {
                target_error(&format!("compress a manifest of array {array}"), &error)
            }
        }
    }
}

/// Cuts sorted references into slices that a manifest may hold.
///
/// All chunks of a slice before the cut have a smaller coordinate along some dimension than all
/// after it, so that the slices' extents do not overlap.
pub(super) fn slices<'a>(
    grid: &SplitGrid,
    origin: &[Range<u32>],
    references: &'a [Packed],
) -> Vec<&'a [Packed]> {
    cut(grid, origin, references, MAX_REFERENCES_PER_MANIFEST as usize)
}

fn cut<'a>(
    grid: &SplitGrid,
    origin: &[Range<u32>],
    references: &'a [Packed],
    most: usize,
) -> Vec<&'a [Packed]> {
    let coords = |reference: &Packed| {
        let mut coords = vec![0; grid.ndim()];
        grid.coords(origin, reference.index(), &mut coords);
        coords
    };
    cut_by(references, coords, most)
}

/// The same for anything sorted that has coordinates.
pub(super) fn cut_by<T>(
    references: &[T],
    coords: impl Fn(&T) -> Vec<u32>,
    most: usize,
) -> Vec<&[T]> {
    let mut slices = Vec::new();
    let mut waiting = vec![references];
    while let Some(slice) = waiting.pop() {
        match cut_position(slice, &coords, most) {
            Some(at) => {
                let (before, after) = slice.split_at(at);
                waiting.extend([after, before]);
            }
            None => slices.push(slice),
        }
    }
    slices
}

/// Where to cut a slice that is too large.
fn cut_position<T>(slice: &[T], coords: impl Fn(&T) -> Vec<u32>, most: usize) -> Option<usize> {
    if slice.len() <= most {
        return None;
    }
    let (first, last) = (coords(slice.first()?), coords(slice.last()?));
    let middle = coords(slice.get(slice.len() / 2)?);
    // Sorted: before the first dimension in which the ends differ, all chunks are alike.
    let axis = first.iter().zip(&last).position(|(first, last)| first != last)?;
    let along = |coords: &[u32]| coords.get(axis).copied().unwrap_or_default();
    let start = along(&middle).max(along(&first) + 1);
    Some(slice.partition_point(|reference| along(&coords(reference)) < start))
}

/// A manifest as it will be stored.
pub(super) struct Built {
    pub(super) id: ManifestId,
    pub(super) file: Vec<u8>,
    /// The box that its chunks fill.
    pub(super) extents: ManifestExtents,
}

/// The manifest of sorted references of one array.
///
/// References are gone through twice: first for their sizes, which the offsets at the beginning
/// of the file are made of, then to write them.
pub(super) fn manifest(
    files: &Files,
    node_id: &NodeId,
    grid: &SplitGrid,
    origin: &[Range<u32>],
    references: &[Packed],
    locations: &ArrayLocations,
    tags: Option<&Tags>,
) -> Result<Built, Problem> {
    let id = ManifestId::random();
    let start = beginning(&id, node_id, references.len());
    let mut extents: Option<Vec<Range<u32>>> = None;
    let mut previous = None;
    let list_end = start.len() + 4 * references.len();
    let first = list_end.next_multiple_of(8);
    let mut end = first;
    let mut offsets = Vec::with_capacity(references.len());
    let mut walk = Walk::new(grid, origin);
    let mut records = Records::new(locations, tags, grid.ndim());
    for (number, reference) in references.iter().enumerate() {
        let index = reference.index();
        let another_row = walk.go_to(index);
        let coords = walk.coords();
        if previous == Some(index) {
            return Err(Problem::Twice(coords.to_vec()));
        }
        previous = Some(index);
        if another_row {
            records.enter(coords);
        }
        grow(&mut extents, coords, another_row);
        offsets.push(small(end + TABLE - (start.len() + 4 * number)));
        end += records.size(*reference, coords);
    }
    if !fits(end) {
        return Err(Problem::TooLarge);
    }

    let mut writer = files.begin(FileId::Manifest(&id), end)?;
    writer.write(&start)?;
    for offset in &offsets {
        writer.buffer().extend_from_slice(&offset.to_le_bytes());
        writer.flush()?;
    }
    writer.buffer().extend(std::iter::repeat_n(0, first - list_end));
    drop(offsets);
    let mut walk = Walk::new(grid, origin);
    for reference in references {
        if walk.go_to(reference.index()) {
            records.enter(walk.coords());
        }
        records.write(*reference, walk.coords(), writer.buffer());
        writer.flush()?;
    }
    let file = writer.finish()?;
    Ok(Built { id, file, extents: ManifestExtents::from_ranges_iter(extents.unwrap_or_default()) })
}

/// Makes room for a chunk in a box; in the row of the one before only its last coordinate differs.
fn grow(extents: &mut Option<Vec<Range<u32>>>, coords: &[u32], another_row: bool) {
    let Some(extents) = extents else {
        *extents = Some(coords.iter().map(|coord| *coord..coord + 1).collect());
        return;
    };
    let same = if another_row { 0 } else { coords.len().saturating_sub(1) };
    for (range, coord) in extents.iter_mut().zip(coords).skip(same) {
        *range = range.start.min(*coord)..range.end.max(coord + 1);
    }
}

/// Everything before the offsets of `references` references.
fn beginning(id: &ManifestId, node_id: &NodeId, references: usize) -> Vec<u8> {
    use generated::{ArrayManifest, Manifest};
    let (mut start, root) = FlatStart::new();
    let manifest = start.layout(
        21,
        &[
            (Manifest::VT_ID, 4),
            (Manifest::VT_ARRAYS, 16),
            (Manifest::VT_COMPRESSION_ALGORITHM, 20),
        ],
    );
    let array = start.layout(16, &[(ArrayManifest::VT_NODE_ID, 4), (ArrayManifest::VT_REFS, 12)]);
    start.table(root, manifest);
    start.raw(&id.0);
    let arrays = start.slot();
    // No dictionary for locations; the field's default means that there is one.
    start.raw(&[0]);
    start.vector(arrays, 1);
    let only = start.slot();
    start.table(only, array);
    start.raw(&node_id.0);
    let list = start.slot();
    start.vector(list, references);
    start.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::ReferenceBatch;
    use crate::testing::{layout, sparse_batch};

    fn boxes(batch: ReferenceBatch, most: usize) -> Vec<(usize, Vec<Range<u32>>)> {
        let (grid, buckets, _) = batch.into_buckets();
        let mut boxes = Vec::new();
        for mut bucket in buckets {
            bucket.references.sort_unstable();
            let origin = grid.ranges(bucket.number);
            for slice in cut(&grid, &origin, &bucket.references, most) {
                let mut coords = vec![0; grid.ndim()];
                grid.coords(&origin, slice[0].index(), &mut coords);
                let mut filled: Vec<_> = coords.iter().map(|coord| *coord..coord + 1).collect();
                for reference in slice {
                    grid.coords(&origin, reference.index(), &mut coords);
                    for (range, coord) in filled.iter_mut().zip(&coords) {
                        *range = range.start.min(*coord)..range.end.max(coord + 1);
                    }
                }
                boxes.push((slice.len(), filled));
            }
        }
        boxes
    }

    #[test]
    fn a_slice_is_cut_in_halves() {
        let dense = sparse_batch(&layout(&[100]), &[], u64::MAX);
        let lengths: Vec<_> = boxes(dense, 10).iter().map(|(held, _)| *held).collect();
        assert!(lengths.len() <= 20 && lengths.iter().all(|held| *held >= 5), "{lengths:?}");
    }

    proptest! {
        #[test]
        fn slices_are_small_enough_and_apart(
            shape in proptest::collection::vec(1_u64..9, 1..4),
            seed in any::<u64>(),
            most in 1_usize..20,
        ) {
            let batch = sparse_batch(&layout(&shape), &[], seed);
            let held = batch.len();
            let boxes = boxes(batch, most);
            prop_assert_eq!(boxes.iter().map(|(held, _)| *held as u64).sum::<u64>(), held);
            for (number, (held, one)) in boxes.iter().enumerate() {
                prop_assert!((1..=most).contains(held));
                for (_, other) in boxes.iter().skip(number + 1) {
                    let shared = one.iter().zip(other).all(|(a, b)| a.start < b.end && b.start < a.end);
                    prop_assert!(!shared, "{one:?} {other:?}");
                }
            }
        }
    }
}
