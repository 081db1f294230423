//! Makes manifests anew where references replace others: what is outside the part that was listed
//! stays as it is, what is inside becomes what was found there.
//!
//! References that stay may be of any kind and from any writer, so that this goes through
//! Icechunk's own manifest, one cluster at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use icechunk::format::manifest::{
    Checksum, ChunkInfo, ChunkPayload, Manifest, ManifestExtents, SecondsSinceEpoch,
    VirtualChunkLocation, VirtualChunkRef,
};
use icechunk::format::{ChunkIndices, ManifestId};
use icechunk::storage::ETag;
use serde::{Deserialize, Serialize};

use super::build::{Built, cut_by};
use super::chunks::ChunkRanges;
use super::{Place, Work};
use crate::batch::{Bucket, Packed, sort};
use crate::error::target_error;
use crate::format::files::{FileId, Files};
use crate::grid::chunk_box::ChunkBox;
use crate::plan::MAX_REFERENCES_PER_MANIFEST;
use crate::{Error, ErrorKind, Result};

/// Seconds that a reference may carry more than its object's time: fractions are rounded up, and
/// some servers want the next second.
const REFERENCE_SLACK: i64 = 2;

/// How references differ from those that stood there before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Where there was none.
    pub added: u64,
    /// Where there was another.
    pub changed: u64,
    /// Where there is none now.
    pub removed: u64,
    /// Found to be as they were.
    pub unchanged: u64,
    /// Native chunks, which stay whatever was found.
    #[serde(skip_serializing_if = "KeptNative::is_none", default)]
    pub native: KeptNative,
}

/// Native chunks that stayed as they were, by what the source has for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptNative {
    /// An object of the same length.
    pub alike: u64,
    /// An object of another length.
    pub unlike: u64,
    /// None.
    pub alone: u64,
}

impl KeptNative {
    /// Those that the source has an object for.
    #[must_use]
    pub fn with_object(&self) -> u64 {
        self.alike + self.unlike
    }

    /// Whether there was none at all.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Counts those of another part too.
    pub fn add(&mut self, other: Self) {
        self.alike += other.alike;
        self.unlike += other.unlike;
        self.alone += other.alone;
    }
}

impl Changes {
    /// References that are not what they were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.added + self.changed + self.removed
    }

    /// Counts those of another part too.
    pub fn add(&mut self, other: Self) {
        self.added += other.added;
        self.changed += other.changed;
        self.removed += other.removed;
        self.unchanged += other.unchanged;
        self.native.add(other.native);
    }
}

/// What a cluster becomes.
#[derive(Default)]
pub(super) struct Rewritten {
    /// New manifests with their number of references; none when nothing is left or changed.
    pub(super) made: Vec<(Built, u32)>,
    pub(super) runs: Vec<ChunkRanges>,
    pub(super) changes: Changes,
}

/// Merges the references of `old` manifests with those found in `part`.
pub(super) fn rewrite(
    work: &Work,
    files: &Files,
    part: &ChunkBox,
    old: &[Arc<Manifest>],
    new: Vec<Bucket>,
) -> Result<Rewritten> {
    let mut found: BTreeMap<u64, Vec<Packed>> = BTreeMap::new();
    for Bucket { number, mut references } in new {
        sort(&mut references);
        found.insert(number, references);
    }
    if let Some(changes) = unchanged(work, part, old, &found) {
        return Ok(Rewritten { changes, ..Rewritten::default() });
    }
    let mut existing = existing(&work.place, old)?;
    let mut rewritten = Rewritten::default();
    let mut merged = Vec::new();
    let numbers: BTreeSet<u64> = existing.keys().chain(found.keys()).copied().collect();
    for number in numbers {
        let old = existing.remove(&number).unwrap_or_default();
        let new = found.remove(&number).unwrap_or_default();
        merged.push(merge(work, part, number, old, &new, &mut rewritten)?);
    }
    if rewritten.changes.count() == 0 {
        return Ok(rewritten);
    }
    for references in merged {
        rewritten.made.extend(build_slices(&work.place, files, references)?);
    }
    Ok(rewritten)
}

/// Compares what was found with what stands there while that passes by, in the common case that a
/// manifest is a bucket's: none of it is kept. `None` when anything is not as it was, or cannot be
/// told in this way.
fn unchanged(
    work: &Work,
    part: &ChunkBox,
    old: &[Arc<Manifest>],
    found: &BTreeMap<u64, Vec<Packed>>,
) -> Option<Changes> {
    let ([manifest], 1) = (old, found.len()) else { return None };
    let (number, references) = found.first_key_value()?;
    let grid = &work.place.grid;
    let (origin, shape) = (grid.ranges(*number), grid.grid_shape());
    let mut expected = vec![0; grid.ndim()];
    let mut references = references.iter();
    let mut unchanged = 0;
    for reference in Arc::clone(manifest).iter(work.place.node_id.clone()).ok()? {
        let (ChunkIndices(coords), payload) = reference.ok()?;
        if !is_within(&coords, &shape) || grid.bucket(&coords) != *number {
            return None;
        }
        if !part.contains(&coords) {
            continue;
        }
        let found = references.next()?;
        grid.coords(&origin, found.index(), &mut expected);
        if coords != expected || !is_same(work, &coords, &payload, found).ok()? {
            return None;
        }
        unchanged += 1;
    }
    references.next().is_none().then(|| Changes { unchanged, ..Changes::default() })
}

/// Whether coordinates lie within a grid.
fn is_within(coords: &[u32], shape: &[u64]) -> bool {
    coords.len() == shape.len()
        && coords.iter().zip(shape).all(|(coord, extent)| u64::from(*coord) < *extent)
}

/// The files of the sorted references of one bucket, as many as it takes.
pub(super) fn build_slices(
    place: &Place,
    files: &Files,
    mut references: Vec<ChunkInfo>,
) -> Result<Vec<(Built, u32)>> {
    let coords = |chunk: &ChunkInfo| chunk.coord.0.clone();
    let slices = cut_by(&references, coords, MAX_REFERENCES_PER_MANIFEST as usize);
    let lengths: Vec<_> = slices.into_iter().map(<[_]>::len).collect();
    let mut made = Vec::with_capacity(lengths.len());
    for length in lengths {
        let rest = references.split_off(length);
        made.extend(build(place, files, references)?);
        references = rest;
    }
    Ok(made)
}

/// The references that stand in manifests, by bucket and sorted.
pub(super) fn existing(
    place: &Place,
    manifests: &[Arc<Manifest>],
) -> Result<BTreeMap<u64, Vec<ChunkInfo>>> {
    let reading = || format!("read a manifest of array {}", place.path);
    let shape = place.grid.grid_shape();
    let mut existing: BTreeMap<u64, Vec<ChunkInfo>> = BTreeMap::new();
    for manifest in manifests {
        let references = Arc::clone(manifest)
            .iter(place.node_id.clone())
            .map_err(|error| target_error(&reading(), &error.kind))?;
        for reference in references {
            let (coord, payload) =
                reference.map_err(|error| target_error(&reading(), &error.kind))?;
            if is_within(&coord.0, &shape) {
                let bucket = existing.entry(place.grid.bucket(&coord.0)).or_default();
                bucket.push(ChunkInfo { node: place.node_id.clone(), coord, payload });
            }
        }
    }
    for references in existing.values_mut() {
        references.sort_unstable_by(|one, other| one.coord.cmp(&other.coord));
    }
    Ok(existing)
}

/// Merges the references of one bucket.
fn merge(
    work: &Work,
    part: &ChunkBox,
    number: u64,
    old: Vec<ChunkInfo>,
    new: &[Packed],
    rewritten: &mut Rewritten,
) -> Result<Vec<ChunkInfo>> {
    let origin = work.place.grid.ranges(number);
    let mut coords = vec![0; work.place.grid.ndim()];
    let mut merged = Vec::with_capacity(old.len() + new.len());
    let mut touched = Vec::new();
    let mut old = old.into_iter().peekable();
    let mut previous = None;
    for reference in new {
        if previous.replace(reference.index()) == Some(reference.index()) {
            work.place.grid.coords(&origin, reference.index(), &mut coords);
            return Err(super::build::Problem::Twice(coords).describe(&work.place.path));
        }
        work.place.grid.coords(&origin, reference.index(), &mut coords);
        while let Some(before) = old.next_if(|old| old.coord.0 < coords) {
            keep_or_remove(work, part, before, &mut merged, &mut touched, rewritten)?;
        }
        match old.next_if(|old| old.coord.0 == coords) {
            Some(there) if let Some(length) = native_length(&there) => {
                // The repository's own: a copy, or what somebody has written over a reference.
                let native = &mut rewritten.changes.native;
                let count =
                    if length == reference.size() { &mut native.alike } else { &mut native.unlike };
                *count += 1;
                merged.push(there);
            }
            Some(there) if is_same(work, &coords, &there.payload, reference)? => {
                rewritten.changes.unchanged += 1;
                merged.push(there);
            }
            Some(there) => {
                known_to_listing(work, &there)?;
                rewritten.changes.changed += 1;
                touched.push(work.place.grid.grid_index(&coords));
                merged.push(chunk_info(work, reference, &coords)?);
            }
            None => {
                rewritten.changes.added += 1;
                touched.push(work.place.grid.grid_index(&coords));
                merged.push(chunk_info(work, reference, &coords)?);
            }
        }
    }
    for after in old {
        keep_or_remove(work, part, after, &mut merged, &mut touched, rewritten)?;
    }
    touched.sort_unstable();
    rewritten.runs.push(ChunkRanges::of_indices(touched));
    Ok(merged)
}

/// What was not found: a reference outside the part stays, one inside is removed; native chunks
/// stay.
fn keep_or_remove(
    work: &Work,
    part: &ChunkBox,
    chunk: ChunkInfo,
    merged: &mut Vec<ChunkInfo>,
    touched: &mut Vec<u64>,
    rewritten: &mut Rewritten,
) -> Result<()> {
    if part.contains(&chunk.coord.0) && native_length(&chunk).is_some() {
        rewritten.changes.native.alone += 1;
        merged.push(chunk);
    } else if part.contains(&chunk.coord.0) {
        same_object(work, &chunk.coord.0, &chunk.payload)?;
        known_to_listing(work, &chunk)?;
        rewritten.changes.removed += 1;
        touched.push(work.place.grid.grid_index(&chunk.coord.0));
    } else {
        merged.push(chunk);
    }
    Ok(())
}

fn chunk_info(work: &Work, reference: &Packed, coords: &[u32]) -> Result<ChunkInfo> {
    let location =
        VirtualChunkLocation::from_url(&work.locations.url(coords)).map_err(|error| {
            target_error(&format!("refer to array {}", work.place.path), &error.kind)
        })?;
    Ok(ChunkInfo {
        node: work.place.node_id.clone(),
        coord: ChunkIndices(coords.to_vec()),
        payload: ChunkPayload::Virtual(VirtualChunkRef {
            location,
            offset: 0,
            length: reference.size(),
            checksum: match &work.tags {
                Some(tags) => Some(Checksum::ETag(ETag(tags.get(reference.tag()).to_owned()))),
                // Icechunk reads the time 0 as none.
                None => (reference.seconds() > 0)
                    .then(|| Checksum::LastModified(SecondsSinceEpoch(reference.seconds()))),
            },
        }),
    })
}

/// Bytes of a native chunk; none for a reference.
fn native_length(chunk: &ChunkInfo) -> Option<u64> {
    match &chunk.payload {
        ChunkPayload::Inline(bytes) => Some(bytes.len() as u64),
        ChunkPayload::Ref(chunk) => Some(chunk.length),
        _ => None,
    }
}

/// A reference to what an object became after a listing was made is not for that listing to undo.
fn known_to_listing(work: &Work, there: &ChunkInfo) -> Result<()> {
    let Some(listed_at) = work.listed_at else { return Ok(()) };
    let ChunkPayload::Virtual(reference) = &there.payload else { return Ok(()) };
    let Some(Checksum::LastModified(time)) = &reference.checksum else { return Ok(()) };
    if i64::from(time.0) <= listed_at + REFERENCE_SLACK {
        return Ok(());
    }
    let shown = |seconds: i64| {
        DateTime::from_timestamp(seconds, 0)
            .map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
            .unwrap_or_default()
    };
    Err(Error::new(
        ErrorKind::Listing,
        format!(
            "the listing is of {}, and chunk {:?} of array {} is referenced as of {}: it would be \
             replaced by an older state",
            shown(listed_at),
            there.coord.0,
            work.place.path,
            shown(i64::from(time.0)),
        ),
    )
    .with_hint("leave out --listing, or give a newer one"))
}

/// Whether what stands at `coords` is a reference to the object that was found, in the same state.
fn is_same(work: &Work, coords: &[u32], there: &ChunkPayload, found: &Packed) -> Result<bool> {
    let ChunkPayload::Virtual(reference) = there else { return Ok(false) };
    if !work.locations.is_of(reference.location.url(), coords) {
        same_object(work, coords, there)?;
        return Ok(false);
    }
    let same_state = match (&work.tags, &reference.checksum) {
        (Some(tags), Some(Checksum::ETag(there))) => there.0 == tags.get(found.tag()),
        (None, Some(Checksum::LastModified(there))) => {
            found.seconds() > 0 && there.0 == found.seconds()
        }
        (None, None) => found.seconds() == 0,
        _ => false,
    };
    Ok(same_state && reference.offset == 0 && reference.length == found.size())
}

/// A reference to another chunk's object comes from another source: replacing it would mix two.
fn same_object(work: &Work, coords: &[u32], there: &ChunkPayload) -> Result<()> {
    let ChunkPayload::Virtual(reference) = there else { return Ok(()) };
    let (location, key) = (reference.location.url(), work.locations.key(coords));
    if location.strip_suffix(&key).is_some_and(|before| before.ends_with('/')) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Mismatch,
        format!(
            "chunk {coords:?} of array {} refers to {location}, where this source has {key}",
            work.place.path
        ),
    )
    .with_hint("give the source that the array was ingested from, and a region within it"))
}

/// The file of sorted references; none for none.
fn build(place: &Place, files: &Files, references: Vec<ChunkInfo>) -> Result<Option<(Built, u32)>> {
    let writing = || format!("write a manifest of array {}", place.path);
    let id = ManifestId::random();
    let Some(extents) = extents(&references) else { return Ok(None) };
    let count = u32::try_from(references.len()).unwrap_or(u32::MAX);
    let manifest = Manifest::from_sorted_vec(&id, references, None)
        .map_err(|error| target_error(&writing(), &error.kind))?;
    let Some(manifest) = manifest else { return Ok(None) };
    let compress = || {
        let mut writer = files.begin(FileId::Manifest(&id), manifest.bytes().len())?;
        writer.write(manifest.bytes())?;
        writer.finish()
    };
    let file = compress().map_err(|error: std::io::Error| target_error(&writing(), &error))?;
    Ok(Some((Built { id, file, extents }, count)))
}

fn extents(references: &[ChunkInfo]) -> Option<ManifestExtents> {
    let (first, others) = references.split_first()?;
    let mut ranges: Vec<_> = first.coord.0.iter().map(|coord| *coord..*coord + 1).collect();
    for chunk in others {
        for (range, coord) in ranges.iter_mut().zip(&chunk.coord.0) {
            *range = range.start.min(*coord)..range.end.max(coord + 1);
        }
    }
    Some(ManifestExtents::from_ranges_iter(ranges))
}
