//! How the manifests of one array divide its chunk grid.

/// The most possible chunks of a manifest: a chunk's place in it is kept in 48 bits.
const MOST_POSSIBLE: u64 = 1 << 40;

/// How the manifests of one array are split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitRule {
    /// Path of the array in the target.
    pub path: String,
    /// Chunks along each dimension that one manifest covers.
    pub split: Vec<u32>,
}

/// Possible chunks of a manifest that is to hold `references`, in a grid of `chunks` of which
/// `expected` exist.
#[must_use]
pub fn possible_chunks(references: u32, chunks: u64, expected: u64) -> u64 {
    let references = u64::from(references.max(1));
    let possible = u128::from(references) * u128::from(chunks) / u128::from(expected.max(1));
    u64::try_from(possible).unwrap_or(u64::MAX).clamp(references, MOST_POSSIBLE.max(references))
}

/// Chunks along each dimension of one manifest of at most `chunks` possible chunks.
///
/// Whole trailing dimensions come first, then as much of the next as fits, then 1: a manifest is
/// then a range of the leading dimension wherever that is possible, and an array that grows along
/// it gets new manifests instead of rewritten ones.
#[must_use]
pub fn manifest_split(grid_shape: &[u64], chunks: u64) -> Vec<u32> {
    let mut room = chunks.max(1);
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

    #[test]
    fn sparse_grids_have_wide_manifests() {
        assert_eq!(possible_chunks(250_000, 1_000, 1_000), 250_000);
        assert_eq!(possible_chunks(250_000, 1_000_000, 500_000), 500_000);
        assert_eq!(possible_chunks(250_000, 1 << 40, 0), MOST_POSSIBLE);
        assert_eq!(possible_chunks(250_000, 0, 0), 250_000);
        let trillion = possible_chunks(250_000, 1_000_000_000_000, 1_000_000);
        assert_eq!(manifest_split(&[1_000_000, 1_000_000], trillion), [250_000, 1_000_000]);
    }

    proptest! {
        #[test]
        fn a_manifest_never_holds_more_than_allowed(
            grid in proptest::collection::vec(0_u64..100_000, 1..6),
            references in 1_u64..1_000_000,
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
    }
}
