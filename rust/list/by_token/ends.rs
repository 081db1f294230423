//! Where keys can be that follow a given one, as prefixes: what proves the end of a listing on a
//! server whose start-after cannot be used.
//!
//! A string greater than another has a first byte that is greater, or goes on after it. The keys of
//! a grid are made of digits and separators, so there are about ten such prefixes for each byte.

use crate::key_order::rank_region::RankRegion;
use crate::list::array_keys::ArrayKeys;
use crate::source::page::{PageError, PageErrorKind};

/// What keys of a grid are made of, below an array's folder.
const ALPHABET: &[u8; 13] = b"./0123456789c";

/// The prefixes below `prefix` that hold every chunk key of the region that is greater than `last`,
/// or all of them when nothing was listed; none of them holds `last` or a lesser key.
pub(super) fn later(
    keys: &ArrayKeys,
    region: &RankRegion,
    prefix: &str,
    last: Option<&[u8]>,
) -> Vec<String> {
    let last = last.unwrap_or(prefix.as_bytes());
    let mut prefixes = Vec::new();
    for length in prefix.len()..=last.len() {
        let next = last.get(length);
        // Beyond a byte that no chunk key has, nothing agrees with `last` but foreign keys.
        let Some(same) = last.get(..length).and_then(|same| str::from_utf8(same).ok()) else {
            break;
        };
        for byte in ALPHABET.iter().filter(|byte| next.is_none_or(|next| *byte > next)) {
            let beyond = |byte: u8| {
                let mut bound = same.as_bytes().to_vec();
                bound.extend([byte, 0xff]);
                region.count_below(keys.rank_after(&bound))
            };
            if beyond(*byte) > beyond(byte - 1) {
                prefixes.push(format!("{same}{}", char::from(*byte)));
            }
        }
        if next.is_some_and(|next| !ALPHABET.contains(next)) {
            break;
        }
    }
    prefixes
}

/// Whether a service says that it does not answer such a request.
pub(super) fn is_refusal(error: &PageError) -> bool {
    matches!(error.kind, PageErrorKind::Fatal | PageErrorKind::Unsupported)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::key_order::rank::KeyOrder;
    use crate::key_order::rank_region::tests::boxes;
    use crate::testing::{all_keys, encodings};

    proptest! {
        #[test]
        fn they_hold_the_later_keys_and_no_others(
            encoding in encodings(),
            (grid, ranges) in boxes(),
            pick in any::<prop::sample::Index>(),
            tail in "[-./0-9a~]{0,3}",
            whole in any::<bool>(),
        ) {
            prop_assume!(!grid.is_empty());
            let order = Arc::new(KeyOrder::new(encoding, &grid).unwrap());
            let keys = ArrayKeys::new("a", Arc::clone(&order));
            let region = RankRegion::new(Arc::clone(&order), &ranges).unwrap();
            let all: Vec<String> = all_keys(encoding, &grid)
                .into_iter()
                .map(|(key, _)| format!("a/{}", String::from_utf8(key).unwrap()))
                .collect();
            prop_assume!(!all.is_empty());
            let last = format!("{}{tail}", all[pick.index(all.len())]);
            let prefix = if whole || grid.len() < 2 {
                keys.prefix().to_owned()
            } else {
                let coords = order.select(pick.index(all.len()) as u64).unwrap();
                keys.below(u64::from(coords[0]))
            };
            prop_assume!(last.starts_with(&prefix));
            let mut wanted: Vec<&String> = all
                .iter()
                .filter(|key| key.starts_with(&prefix))
                .filter(|key| {
                    let rank = order.rank_after(&key.as_bytes()[2..]) - 1;
                    region.contains(&order.select(rank).unwrap())
                })
                .collect();
            let below = |prefixes: &[String], key: &str| {
                prefixes.iter().filter(|prefix| key.starts_with(prefix.as_str())).count()
            };
            let nothing_seen = later(&keys, &region, &prefix, None);
            prop_assert!(wanted.iter().all(|key| below(&nothing_seen, key) == 1));
            wanted.retain(|key| key.as_str() > last.as_str());
            let prefixes = later(&keys, &region, &prefix, Some(last.as_bytes()));
            prop_assert!(wanted.iter().all(|key| below(&prefixes, key) == 1), "{prefixes:?}");
            prop_assert!(prefixes.iter().all(|prefix| wanted.iter().any(|k| k.starts_with(prefix))));
            prop_assert!(prefixes.iter().all(|prefix| prefix.as_str() > last.as_str()));
        }
    }
}
