//! Arithmetic on the decimal trie: the byte order of the texts of the integers in `lo..hi`.
//! Position, inverse and successor cost a few operations per digit and no memory.
//! Knows nothing about keys, grids or separators.

/// How many of the integers in `0..n` have a decimal text that sorts before the text of `v`.
#[must_use]
pub(crate) fn before(v: u64, n: u64) -> u64 {
    if v == 0 || n == 0 {
        return 0;
    }
    let (v, n) = (u128::from(v), u128::from(n));
    let digits = v.ilog10() + 1;
    let mut count = 1; // the text "0"
    let mut smallest = 1u128; // of this length
    let mut length = 1u32;
    while smallest < n {
        let first_not_before = if length < digits {
            v / 10u128.pow(digits - length) + 1
        } else {
            v.saturating_mul(10u128.saturating_pow(length - digits))
        };
        count += first_not_before.min(n).saturating_sub(smallest);
        smallest *= 10;
        length += 1;
    }
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Position of `v` among the texts of `lo..hi` (`v` itself need not be one of them).
#[cfg(test)]
fn rank(v: u64, lo: u64, hi: u64) -> u64 {
    before(v, hi) - before(v, lo.min(hi))
}

/// How many members of `lo..hi` have a text that begins with the text of `node` (`node` ≥ 1).
fn subtree(node: u64, lo: u64, hi: u64) -> u64 {
    let (mut from, mut to) = (node, node.saturating_add(1));
    let mut size = 0;
    // Saturation is right: nothing in `lo..hi` lies beyond the largest integer.
    while from < hi {
        size += to.min(hi).saturating_sub(from.max(lo));
        from = from.saturating_mul(10);
        to = to.saturating_mul(10);
    }
    size
}

/// The member of `lo..hi` at position `position`, or `None` past the last one.
#[must_use]
pub(crate) fn select(mut position: u64, lo: u64, hi: u64) -> Option<u64> {
    if lo == 0 && hi > 0 {
        if position == 0 {
            return Some(0);
        }
        position -= 1;
    }
    let mut children = 1u64..=9;
    loop {
        let node = 'find: {
            for child in children {
                let size = subtree(child, lo, hi);
                if position < size {
                    break 'find child;
                }
                position -= size;
            }
            return None;
        };
        if (lo..hi).contains(&node) {
            if position == 0 {
                return Some(node);
            }
            position -= 1;
        }
        // A deeper member exists, so this product is below `hi` and cannot overflow.
        children = node * 10..=node * 10 + 9;
    }
}

/// The member of `lo..hi` whose text follows that of `v`.
#[must_use]
pub(crate) fn successor(v: u64, lo: u64, hi: u64) -> Option<u64> {
    let mut node = match v.checked_mul(10) {
        Some(child) if v != 0 && child < hi => child,
        _ => sibling(v, hi)?,
    };
    while node < lo {
        node = if subtree(node, lo, hi) > 0 { node * 10 } else { sibling(node, hi)? };
    }
    Some(node)
}

/// The next node in preorder outside the subtree of `node`.
fn sibling(mut node: u64, hi: u64) -> Option<u64> {
    if node == 0 {
        return (hi > 1).then_some(1);
    }
    while node % 10 == 9 || node + 1 >= hi {
        node /= 10;
        if node == 0 {
            return None;
        }
    }
    Some(node + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_sorted_texts(lo in 0u64..300, len in 0u64..1500) {
            let hi = lo + len;
            let mut texts: Vec<String> = (lo..hi).map(|v| v.to_string()).collect();
            texts.sort();
            let order: Vec<u64> = texts.iter().map(|t| t.parse().unwrap()).collect();
            for (i, &v) in order.iter().enumerate() {
                prop_assert_eq!(rank(v, lo, hi), i as u64);
                prop_assert_eq!(select(i as u64, lo, hi), Some(v));
                prop_assert_eq!(successor(v, lo, hi), order.get(i + 1).copied());
            }
            prop_assert_eq!(select(len, lo, hi), None);
        }

        #[test]
        fn large_grids_are_inverse(hi in 1u64..1 << 63, share in 0.0f64..1.0) {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let position = ((hi as f64 * share) as u64).min(hi - 1);
            let v = select(position, 0, hi).unwrap();
            prop_assert_eq!(rank(v, 0, hi), position);
            prop_assert_eq!(successor(v, 0, hi), select(position + 1, 0, hi));
        }
    }
}
