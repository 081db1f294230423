//! The byte order of decimal numbers: 0, 1, 10, 100, 101, …, 11, …, 2, 20, …
//!
//! It is the preorder of the decimal trie, so positions in it are arithmetic on powers of ten.
//! Everything here is about one dimension; keys of several are in [`rank`](crate::key_order::rank).

use std::ops::Range;

/// Grid coordinates are 32 bits, so extents are at most this.
pub(crate) const MAX_EXTENT: u64 = 1 << 32;

/// A set of numbers below [`MAX_EXTENT`], in the byte order of their decimal forms.
///
/// One or two spans: a range of coordinates, or all of a dimension but a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DecimalSet {
    spans: [(u64, u64); 2],
}

impl DecimalSet {
    /// The numbers of `range`.
    pub(crate) fn new(range: &Range<u64>) -> Self {
        Self { spans: [(range.start, range.end.max(range.start)), (0, 0)] }
    }

    /// The numbers below `extent` that are not in `range`.
    pub(crate) fn outside(range: &Range<u64>, extent: u64) -> Self {
        let start = range.start.min(extent);
        Self { spans: [(0, start), (range.end.clamp(start, extent), extent)] }
    }

    /// How many numbers there are.
    pub(crate) fn len(self) -> u64 {
        self.sum(|bound| bound)
    }

    pub(crate) fn contains(self, number: u64) -> bool {
        self.spans.iter().any(|span| (span.0..span.1).contains(&number))
    }

    /// How many members come before `number`, which need not be one.
    pub(crate) fn before(self, number: u64) -> u64 {
        self.before_digits(Digits::of(number).as_bytes())
    }

    /// How many members come before the string `digits` (any ASCII digits, in any form).
    pub(crate) fn before_digits(self, digits: &[u8]) -> u64 {
        self.sum(|bound| before_digits(bound, digits))
    }

    /// How many members have `digits` as a proper prefix.
    pub(crate) fn extensions(self, digits: &[u8]) -> u64 {
        if digits.is_empty() {
            return self.len();
        }
        let Some(number) = canonical(digits) else {
            return 0;
        };
        if number == 0 {
            return 0;
        }
        self.subtree(number) - u64::from(self.contains(number))
    }

    /// The member that has `index` members before it.
    pub(crate) fn nth(self, index: u64) -> Option<u64> {
        if index >= self.len() {
            return None;
        }
        let mut index = index;
        if self.contains(0) {
            if index == 0 {
                return Some(0);
            }
            index -= 1;
        }
        // Down the trie: past the subtrees that end before the member, into the one that holds it.
        let mut node = 1;
        while node <= 10 * MAX_EXTENT {
            let size = self.subtree(node);
            if index >= size {
                index -= size;
                node += 1;
                continue;
            }
            if self.contains(node) {
                if index == 0 {
                    return Some(node);
                }
                index -= 1;
            }
            node *= 10;
        }
        None
    }

    /// Members whose decimal form begins with that of `node` (not 0), itself included.
    fn subtree(self, node: u64) -> u64 {
        self.sum(|bound| subtree(bound, node))
    }

    /// Counts over spans from a count over the numbers below a bound.
    fn sum(self, below: impl Fn(u64) -> u64) -> u64 {
        self.spans
            .iter()
            .filter(|span| span.1 > span.0)
            .map(|span| below(span.1).saturating_sub(below(span.0)))
            .sum()
    }
}

/// The numbers in `0..bound` whose decimal form begins with that of `node`, which is not 0.
fn subtree(bound: u64, node: u64) -> u64 {
    let (mut low, mut high, mut count) = (node, node + 1, 0);
    while low < bound {
        count += high.min(bound) - low;
        low *= 10;
        high *= 10;
    }
    count
}

/// The numbers in `0..bound` whose decimal form is less than `digits`, byte by byte.
fn before_digits(bound: u64, digits: &[u8]) -> u64 {
    match digits.first() {
        None => return 0,
        Some(b'0') => return u64::from(bound > 0 && digits.len() > 1),
        Some(_) => {}
    }
    let mut digits = digits.iter();
    let (mut low, mut prefix, mut count) = (1, 0, u64::from(bound > 0));
    while low < bound {
        // Numbers as long as `low`: those below the prefix of that length, and the prefix itself
        // when the string goes on after it.
        let mut end = prefix * 10;
        if let Some(digit) = digits.next() {
            end += u64::from(digit.wrapping_sub(b'0'));
        }
        prefix = end;
        if !digits.as_slice().is_empty() {
            end += 1;
        }
        count += end.min(bound).saturating_sub(low);
        low *= 10;
    }
    count
}

/// The number that `digits` is the decimal form of, when it is one and is small enough.
pub(crate) fn canonical(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 10 || (digits.len() > 1 && digits.starts_with(b"0")) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit.wrapping_sub(b'0'))))
}

/// The decimal form of a number, without an allocation.
struct Digits {
    buffer: [u8; 20],
    start: usize,
}

impl Digits {
    fn of(mut number: u64) -> Self {
        let mut digits = Self { buffer: [b'0'; 20], start: 20 };
        for place in digits.buffer.iter_mut().rev() {
            // A remainder of ten fits a byte.
            *place = b'0' + u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
            digits.start -= 1;
            if number == 0 {
                break;
            }
        }
        digits
    }

    fn as_bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(set: DecimalSet, extent: u64) -> Vec<String> {
        let mut all: Vec<_> =
            (0..extent).filter(|n| set.contains(*n)).map(|n| n.to_string()).collect();
        all.sort();
        all
    }

    fn sets() -> impl Strategy<Value = (DecimalSet, u64)> {
        (1_u64..2_500, any::<(u64, u64)>(), any::<bool>()).prop_map(|(extent, (a, b), outside)| {
            let (a, b) = (a % (extent + 1), b % (extent + 1));
            let range = a.min(b)..a.max(b);
            let set =
                if outside { DecimalSet::outside(&range, extent) } else { DecimalSet::new(&range) };
            (set, extent)
        })
    }

    #[test]
    fn numbers_of_up_to_ten_digits_are_numbers() {
        assert_eq!(canonical(b"4294967295"), Some(4_294_967_295));
        assert_eq!(canonical(b"42949672950"), None);
        assert_eq!(canonical(&[b'9'; 60]), None);
        for digits in [&b""[..], b"00", b"01"] {
            assert_eq!(canonical(digits), None);
        }
        assert_eq!(canonical(b"0"), Some(0));
    }

    #[test]
    fn large_extents_do_not_overflow() {
        let set = DecimalSet::new(&(0..MAX_EXTENT));
        for number in [0, 1, 9, 10, 4_294_967_295, 999_999_999, 4_000_000_000] {
            assert_eq!(set.nth(set.before(number)), Some(number));
        }
        assert_eq!(set.nth(MAX_EXTENT - 1), Some(999_999_999));
        assert_eq!(set.before_digits(&[b'9'; 60]), MAX_EXTENT);
        assert_eq!(set.nth(MAX_EXTENT), None);
    }

    proptest! {
        #[test]
        fn positions_are_those_of_sorted_strings((set, extent) in sets()) {
            let all = sorted(set, extent);
            prop_assert_eq!(set.len(), all.len() as u64);
            for (index, text) in all.iter().enumerate().step_by(7) {
                let number = text.parse().unwrap();
                prop_assert_eq!(set.before(number), index as u64);
                prop_assert_eq!(set.nth(index as u64), Some(number));
            }
            prop_assert_eq!(set.nth(all.len() as u64), None);
        }

        #[test]
        fn any_digits_have_a_position((set, extent) in sets(), digits in "[0-9]{0,12}") {
            let all = sorted(set, extent);
            let before = all.iter().filter(|text| **text < digits).count() as u64;
            prop_assert_eq!(set.before_digits(digits.as_bytes()), before);
            let longer =
                all.iter().filter(|text| text.starts_with(&digits) && **text != digits).count();
            prop_assert_eq!(set.extensions(digits.as_bytes()), longer as u64);
        }
    }
}
