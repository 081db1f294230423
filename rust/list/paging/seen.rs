//! A roaring-style bitmap: which chunks a listing has delivered.
//!
//! Needed only where the order of a listing does not show it, in the serial fallback.

use std::collections::BTreeMap;

/// More members than this are smaller as one bit for each number of a block.
const MOST_LISTED: usize = 4096;
const BLOCK_BITS: u32 = 16;

/// The members of one block of 65,536 numbers.
#[derive(Debug, Clone)]
enum Block {
    /// Sorted.
    Listed(Vec<u16>),
    Bits(Box<[u64; 1024]>),
}

/// A set of numbers: 2 bytes a member where they are sparse, 1 bit a number where dense.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    blocks: BTreeMap<u64, Block>,
}

impl Seen {
    /// Adds `number`; false when it was there.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        let low = u16::try_from(number & 0xffff).unwrap_or_default();
        let block =
            self.blocks.entry(number >> BLOCK_BITS).or_insert_with(|| Block::Listed(Vec::new()));
        match block {
            Block::Listed(members) => {
                let Err(place) = members.binary_search(&low) else {
                    return false;
                };
                members.insert(place, low);
                if members.len() > MOST_LISTED {
                    let mut bits = Box::new([0; 1024]);
                    for member in members.iter() {
                        set(&mut bits, *member);
                    }
                    *block = Block::Bits(bits);
                }
                true
            }
            Block::Bits(bits) => set(bits, low),
        }
    }
}

/// Sets one bit; false when it was set.
fn set(bits: &mut [u64; 1024], number: u16) -> bool {
    let Some(word) = bits.get_mut(usize::from(number >> 6)) else {
        return false;
    };
    let bit = 1 << (number & 63);
    let new = *word & bit == 0;
    *word |= bit;
    new
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dense_blocks_become_bits() {
        let mut seen = Seen::default();
        assert!((0..100_000).all(|number| seen.insert(number)));
        assert!((0..100_000).all(|number| !seen.insert(number)));
        assert!(seen.insert(u64::MAX) && !seen.insert(u64::MAX));
        assert!(seen.blocks.values().filter(|block| matches!(block, Block::Bits(_))).count() == 2);
    }

    proptest! {
        #[test]
        fn it_is_a_set(numbers in proptest::collection::vec(0_u64..200_000, 0..300)) {
            let (mut seen, mut oracle) = (Seen::default(), HashSet::new());
            for number in numbers {
                prop_assert_eq!(seen.insert(number), oracle.insert(number));
            }
        }
    }
}
