//! What an ingest will do, decided before anything is listed: manifest splits and commit sizes.
//!
//! A plan is a value. Its fingerprint covers what determines the result (source, nodes, layouts)
//! and not what only determines the work (commit size), so that the same ingest can be recognised.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::batch::EmptyChunks;
use crate::metadata::{ArrayLayout, ArrayNode, GroupNode};
use crate::region::ChunkBox;

/// References of one manifest: about 3 MB, which a reader fetches in one request.
pub const DEFAULT_REFERENCES_PER_MANIFEST: u32 = 250_000;

/// References of one commit. Icechunk's session holds each in a few hundred bytes.
pub const DEFAULT_REFERENCES_PER_COMMIT: usize = 250_000;

/// The most references that other readers of Icechunk manifests accept (GDAL).
pub const MAX_REFERENCES_PER_MANIFEST: u32 = 1_000_000;

/// The largest number of arrays for which a split is stored even when one manifest holds the
/// whole array. Icechunk matches every rule against every array it commits.
const MOST_SMALL_ARRAYS_WITH_RULES: usize = 64;

/// The most parts that one array is listed in.
const MOST_BATCHES: u64 = 1_000;

/// How many references go where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLimits {
    /// At most this many references in a manifest.
    pub references_per_manifest: u32,
    /// A commit is made when this many references are waiting.
    pub references_per_commit: usize,
}

impl Default for PlanLimits {
    fn default() -> Self {
        Self {
            references_per_manifest: DEFAULT_REFERENCES_PER_MANIFEST,
            references_per_commit: DEFAULT_REFERENCES_PER_COMMIT,
        }
    }
}

/// How the manifests of one array are split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitRule {
    /// Path of the array in the target.
    pub path: String,
    /// Chunks along each dimension that one manifest covers.
    pub split: Vec<u32>,
}

/// The whole ingest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Splits to be configured; arrays without one have a single manifest.
    pub splits: Vec<SplitRule>,
    /// Limits that the plan was made with.
    pub limits: PlanLimits,
    /// Hexadecimal digest of everything that determines the result.
    pub fingerprint: String,
}

impl Plan {
    /// Plans the ingest of `groups` and `arrays` from `source_url` (free of credentials).
    #[must_use]
    pub fn new(
        source_url: &str,
        groups: &[GroupNode],
        arrays: &[ArrayNode],
        empty_chunks: EmptyChunks,
        limits: PlanLimits,
    ) -> Self {
        let small =
            |array: &ArrayNode| array.layout.chunks() <= u64::from(limits.references_per_manifest);
        let keep_small =
            arrays.iter().filter(|array| small(array)).count() <= MOST_SMALL_ARRAYS_WITH_RULES;
        let splits = arrays
            .iter()
            .filter(|array| !array.loaded && array.layout.ndim() > 0)
            .filter(|array| keep_small || !small(array))
            .map(|array| SplitRule {
                path: array.path.clone(),
                split: manifest_split(array.layout.grid_shape(), limits.references_per_manifest),
            })
            .collect();
        Self { splits, limits, fingerprint: fingerprint(source_url, groups, arrays, empty_chunks) }
    }
}

/// Chunks along each dimension of one manifest of at most `references` chunks.
///
/// Whole trailing dimensions come first, then as much of the next as fits, then 1: a manifest is
/// then a range of the leading dimension wherever that is possible, and an array that grows along
/// it gets new manifests instead of rewritten ones.
#[must_use]
pub fn manifest_split(grid_shape: &[u64], references: u32) -> Vec<u32> {
    let mut room = u64::from(references.max(1));
    let mut split = vec![1; grid_shape.len()];
    for (axis, (length, extent)) in split.iter_mut().zip(grid_shape).enumerate().rev() {
        let whole = (*extent).max(1);
        // The leading dimension is the one that grows: it gets all the room that is left.
        let taken = if axis == 0 { room } else { whole.min(room) };
        *length = u32::try_from(taken).unwrap_or(u32::MAX);
        room = (room / whole).max(1);
        if whole > taken {
            break;
        }
    }
    split
}

/// The parts in which an array is listed and committed: ranges of its leading dimension that end
/// where manifests do and have room for a commit's references, or the whole grid.
///
/// A grid that would need more than a thousand parts is taken whole: it is not going to be full.
#[must_use]
pub fn batches(layout: &ArrayLayout, limits: PlanLimits) -> Vec<ChunkBox> {
    let whole = ChunkBox::whole(layout);
    let most = u64::try_from(limits.references_per_commit.max(1)).unwrap_or(u64::MAX);
    let Some((&extent, trailing)) = layout.grid_shape().split_first() else { return vec![whole] };
    if layout.chunks() <= most {
        return vec![whole];
    }
    let step: u64 = trailing.iter().product();
    let split = manifest_split(layout.grid_shape(), limits.references_per_manifest);
    let aligned = u64::from(split.first().copied().unwrap_or(1));
    // Manifests larger than a commit are shared by several commits; nothing else is possible.
    let length = match most / step.max(1) {
        fitting if fitting >= aligned => fitting / aligned * aligned,
        fitting => fitting.max(1),
    };
    if extent.div_ceil(length) > MOST_BATCHES {
        return vec![whole];
    }
    let coordinate = |chunk: u64| u32::try_from(chunk.min(extent)).unwrap_or(u32::MAX);
    (0..extent.div_ceil(length))
        .map(|part| whole.with_leading(coordinate(part * length)..coordinate((part + 1) * length)))
        .collect()
}

fn fingerprint(
    source_url: &str,
    groups: &[GroupNode],
    arrays: &[ArrayNode],
    empty_chunks: EmptyChunks,
) -> String {
    let mut digest = Sha256::new();
    // Every field is preceded by its length, so that no two plans share a byte sequence.
    let mut add = |field: &[u8]| {
        digest.update((field.len() as u64).to_le_bytes());
        digest.update(field);
    };
    add(source_url.as_bytes());
    add(format!("{empty_chunks:?}").as_bytes());
    for group in groups {
        add(group.path.as_bytes());
        add(&group.document);
    }
    for array in arrays {
        add(array.path.as_bytes());
        add(array.source_path.as_bytes());
        add(&array.document);
        add(format!("{:?} {}", array.layout, array.loaded).as_bytes());
    }
    hex(&digest.finalize())
}

/// The first `bytes` of a text's digest, in hexadecimal.
pub(crate) fn short_digest(text: &str, bytes: usize) -> String {
    hex(Sha256::digest(text).get(..bytes).unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn splits_are_ranges_of_the_leading_dimension() {
        assert_eq!(manifest_split(&[8760, 10, 10], 250_000), [2_500, 10, 10]);
        assert_eq!(manifest_split(&[10, 2], 250_000), [125_000, 2]);
        assert_eq!(manifest_split(&[10, 1000, 1000], 250_000), [1, 250, 1000]);
        assert_eq!(manifest_split(&[10, 3, 400_000], 250_000), [1, 1, 250_000]);
        assert_eq!(manifest_split(&[0], 10), [10]);
        assert_eq!(manifest_split(&[], 10), [0_u32; 0]);
    }

    fn layout(grid: &[u64]) -> ArrayLayout {
        let encoding = crate::key::ChunkKeyEncoding::parse("default", "/").unwrap();
        ArrayLayout::new(grid.to_vec(), vec![1; grid.len()], encoding).unwrap()
    }

    #[test]
    fn large_arrays_are_cut_where_manifests_end() {
        let limits =
            PlanLimits { references_per_manifest: 250_000, references_per_commit: 600_000 };
        let leading: Vec<_> = batches(&layout(&[8760, 10, 10]), limits)
            .iter()
            .map(|batch| batch.ranges()[0].clone())
            .collect();
        assert_eq!(leading, [0..5_000, 5_000..8_760]);
        assert_eq!(batches(&layout(&[6_000, 100]), limits).len(), 1);
        assert_eq!(batches(&layout(&[]), limits).len(), 1);
        // A grid that nobody fills.
        assert_eq!(batches(&layout(&[1_000_000, 1_000_000]), limits).len(), 1);
    }

    proptest! {
        #[test]
        fn a_manifest_never_holds_more_than_allowed(
            grid in proptest::collection::vec(0_u64..100_000, 1..6),
            references in 1_u32..1_000_000,
        ) {
            let split = manifest_split(&grid, references);
            prop_assert!(split.iter().all(|length| *length >= 1));
            let held: u128 = split
                .iter()
                .zip(&grid)
                .map(|(length, extent)| u128::from(*length).min(u128::from((*extent).max(1))))
                .product();
            prop_assert!(held <= u128::from(references));
            // Half of the room is used, unless the array is smaller than that.
            let chunks: u128 = grid.iter().map(|extent| u128::from((*extent).max(1))).product();
            prop_assert!(held * 2 > u128::from(references).min(chunks));
        }

        #[test]
        fn batches_cover_the_grid_once(
            grid in proptest::collection::vec(1_u64..60, 1..4),
            references_per_commit in 1_usize..500,
            references_per_manifest in 1_u32..500,
        ) {
            let layout = layout(&grid);
            let limits = PlanLimits { references_per_manifest, references_per_commit };
            let parts = batches(&layout, limits);
            let whole = ChunkBox::whole(&layout);
            let mut next = 0;
            for part in &parts {
                prop_assert_eq!(part.ranges()[0].start, next);
                next = part.ranges()[0].end;
                prop_assert_eq!(&part.ranges()[1..], &whole.ranges()[1..]);
            }
            prop_assert_eq!(u64::from(next), grid[0]);
            prop_assert_eq!(parts.iter().map(ChunkBox::chunks).sum::<u64>(), layout.chunks());
        }
    }
}
