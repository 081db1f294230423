//! One reference in 16 bytes, such that sorting the integers sorts the chunks.

/// The bits of an index within its bucket.
pub(super) const INDEX_BITS: u32 = 48;
const SIZE_BITS: u32 = 48;
const SECONDS_BITS: u32 = 32;

/// Index in the bucket (48 bits), bytes of the object (48 bits), whole seconds (32 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Packed(u128);

impl Packed {
    /// `None` for a size of 2⁴⁸ bytes (281 TB) or more. `index` is below 2⁴⁸ by construction of
    /// the buckets.
    pub(super) fn new(index: u64, size: u64, seconds: u32) -> Option<Self> {
        debug_assert!(index >> INDEX_BITS == 0);
        if size >> SIZE_BITS != 0 {
            return None;
        }
        let index = u128::from(index) << (SIZE_BITS + SECONDS_BITS);
        Some(Self(index | u128::from(size) << SECONDS_BITS | u128::from(seconds)))
    }

    /// Row-major index in the bucket.
    pub(crate) fn index(self) -> u64 {
        low_bits(self.0 >> (SIZE_BITS + SECONDS_BITS), INDEX_BITS)
    }

    /// Bytes of the object.
    pub(crate) fn size(self) -> u64 {
        low_bits(self.0 >> SECONDS_BITS, SIZE_BITS)
    }

    /// The place of its tag, where it has one instead of a time.
    pub(crate) fn tag(self) -> u32 {
        self.seconds()
    }

    /// Whole seconds since 1970.
    pub(crate) fn seconds(self) -> u32 {
        u32::try_from(low_bits(self.0, SECONDS_BITS)).unwrap_or(u32::MAX)
    }
}

/// In no place of a bucket: its index is the greatest there is.
const NONE: Packed = Packed(u128::MAX);

/// Sorts the references of a bucket by their chunks.
///
/// Most buckets are full: as many references as chunks, so that each index is the place of its
/// reference. Putting them there takes a third of the time of a sort.
pub(crate) fn sort(references: &mut Vec<Packed>) {
    match in_place(references) {
        Some(sorted) => *references = sorted,
        None => references.sort_unstable(),
    }
}

/// The references of a full bucket, each at its place; None when not all places are taken by one.
fn in_place(references: &[Packed]) -> Option<Vec<Packed>> {
    let place = |reference: &Packed| usize::try_from(reference.index()).unwrap_or(usize::MAX);
    if references.iter().any(|reference| place(reference) >= references.len()) {
        return None;
    }
    let mut sorted = vec![NONE; references.len()];
    for reference in references {
        let there = sorted.get_mut(place(reference))?;
        if *there != NONE {
            return None;
        }
        *there = *reference;
    }
    Some(sorted)
}

/// The lowest `bits` (fewer than 64) of a number.
fn low_bits(number: u128, bits: u32) -> u64 {
    u64::try_from(number & ((1 << bits) - 1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Packed::new(0, (1 << 48) - 1, u32::MAX).is_some());
        assert!(Packed::new(0, 1 << 48, 0).is_none());
    }

    proptest! {
        #[test]
        fn what_is_sorted_is_as_sorted_by_comparing(
            indices in proptest::collection::vec(0_u64..12, 0..14),
            full in any::<bool>(),
            order in any::<u64>(),
        ) {
            let mut indices = indices;
            if full {
                indices = (0..indices.len() as u64).collect();
                indices.sort_unstable_by_key(|index| order.rotate_left(u32::try_from(index * 7).unwrap()));
            }
            let size = |number: usize| 100 - number as u64;
            let mut references: Vec<_> = indices
                .iter()
                .enumerate()
                .map(|(number, index)| Packed::new(*index, size(number), 7).unwrap())
                .collect();
            let mut expected = references.clone();
            expected.sort();
            sort(&mut references);
            prop_assert_eq!(references, expected);
        }

        #[test]
        fn packing_keeps_everything_and_the_order(
            one in (0_u64..1 << 48, 0_u64..1 << 48, any::<u32>()),
            other in (0_u64..1 << 48, 0_u64..1 << 48, any::<u32>()),
        ) {
            let pack = |(index, size, seconds)| Packed::new(index, size, seconds).unwrap();
            let packed = pack(one);
            prop_assert_eq!((packed.index(), packed.size(), packed.seconds()), one);
            prop_assert_eq!(packed.tag(), one.2);
            prop_assert_eq!(packed.cmp(&pack(other)), one.cmp(&other));
        }
    }
}
