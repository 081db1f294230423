//! Walks the keys of one array in byte order from any starting point. `.` and `/` sort before the
//! digits, so that order compares one grid coordinate after another as decimal texts; a seek is
//! one binary search for each dimension. Holds one key, whatever the size of the grid.

use crate::array::{Array, Filter};
use crate::trie;

/// Beyond this many places a jump by rank is cheaper than steps.
const STEPS_BEFORE_JUMP: u64 = 16;

/// A place in the ordered keys of an [`Array`].
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    array: &'a Array,
    coords: Vec<u64>,
    key: Vec<u8>,
    /// Where the text of each coordinate begins in `key`.
    starts: Vec<usize>,
    /// Position among all keys of the grid; kept up only for filters by rank.
    rank: u64,
    /// From this dimension on, `key` is behind `coords`.
    stale: usize,
    /// The smallest text of each dimension.
    first: Vec<u64>,
}

impl<'a> Cursor<'a> {
    /// The first existing key that is ≥ `bound` (> `bound` when `exclusive`), if there is one.
    #[must_use]
    pub fn seek(array: &'a Array, bound: &[u8], exclusive: bool) -> Option<Self> {
        let ndim = array.grid.len();
        let mut first = Vec::with_capacity(ndim);
        for d in 0..ndim {
            first.push(trie::select(0, array.lo[d], array.hi[d])?);
        }
        let mut cursor = Self {
            array,
            coords: first.clone(),
            key: array.base.clone(),
            starts: vec![0; ndim],
            rank: 0,
            stale: 0,
            first,
        };
        let base = array.base.as_slice();
        if ndim == 0 {
            let ahead = base > bound || (base == bound && !exclusive);
            return (ahead && array.contains(&[])).then_some(cursor);
        }
        if base < bound {
            let rest = bound.strip_prefix(base)?;
            if !cursor.descend(0, rest, exclusive) {
                return None;
            }
        }
        if matches!(array.filter, Filter::Every { .. } | Filter::Scatter { .. }) {
            cursor.rank = array.rank(&cursor.coords);
        }
        if !cursor.settle() {
            return None;
        }
        cursor.write_key();
        Some(cursor)
    }

    /// The present key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The present grid coordinates.
    #[must_use]
    pub fn coords(&self) -> &[u64] {
        &self.coords
    }

    /// Moves to the next existing key; `false` at the end, after which the cursor is of no use.
    pub fn advance(&mut self) -> bool {
        let found = self.step() && self.settle();
        if found {
            self.write_key();
        }
        found
    }

    /// Sets the coordinates from dimension `d` on to the first key not before the bound, whose
    /// part for these dimensions is `rest`. `false` when they are all before it.
    fn descend(&mut self, d: usize, rest: &[u8], exclusive: bool) -> bool {
        let (lo, hi) = (self.array.lo[d], self.array.hi[d]);
        let last = d + 1 == self.coords.len();
        let separator = self.array.separator;
        let mut text = Vec::with_capacity(24);
        let (mut low, mut high) = (0, hi - lo);
        while low < high {
            let middle = low + (high - low) / 2;
            write_component(trie::select(middle, lo, hi), last, separator, &mut text);
            let before = if last {
                text.as_slice() < rest || (exclusive && text == rest)
            } else {
                text.as_slice() < rest && !rest.starts_with(&text)
            };
            if before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(found) = trie::select(low, lo, hi) else {
            return false;
        };
        self.coords[d] = found;
        if !last {
            write_component(Some(found), last, separator, &mut text);
            if let Some(rest) = rest.strip_prefix(text.as_slice()) {
                if self.descend(d + 1, rest, exclusive) {
                    return true;
                }
                match trie::successor(found, lo, hi) {
                    Some(next) => self.coords[d] = next,
                    None => return false,
                }
            }
            self.coords[d + 1..].copy_from_slice(&self.first[d + 1..]);
        }
        true
    }

    /// Moves on, if need be, to a key that exists.
    fn settle(&mut self) -> bool {
        let array = self.array;
        match array.filter {
            Filter::All => self.align(),
            Filter::Hash { seed, at_most } => {
                if at_most == 0 {
                    return false;
                }
                while !array.hashed(&self.coords, seed, at_most) {
                    if !self.step() {
                        return false;
                    }
                }
                true
            }
            Filter::Every { .. } | Filter::Scatter { .. } => {
                let Some(target) = array.selected_from(self.rank) else {
                    return false;
                };
                if target - self.rank > STEPS_BEFORE_JUMP {
                    array.select(target, &mut self.coords);
                    self.rank = target;
                    self.stale = 0;
                }
                while self.rank < target {
                    if !self.step() {
                        return false;
                    }
                }
                true
            }
        }
    }

    /// Moves on, if need be, until every coordinate is a multiple of its step.
    fn align(&mut self) -> bool {
        while let Some(d) =
            (0..self.coords.len()).find(|&d| !self.coords[d].is_multiple_of(self.array.steps[d]))
        {
            if !self.bump(d) {
                return false;
            }
        }
        true
    }

    fn step(&mut self) -> bool {
        self.rank = self.rank.wrapping_add(1);
        self.coords.len().checked_sub(1).is_some_and(|last| self.bump(last))
    }

    /// The next coordinate in dimension `d`, carrying to the left; all to the right start anew.
    fn bump(&mut self, mut d: usize) -> bool {
        loop {
            let (lo, hi) = (self.array.lo[d], self.array.hi[d]);
            if let Some(next) = trie::successor(self.coords[d], lo, hi) {
                self.coords[d] = next;
                self.coords[d + 1..].copy_from_slice(&self.first[d + 1..]);
                self.stale = self.stale.min(d);
                return true;
            }
            if d == 0 {
                return false;
            }
            d -= 1;
        }
    }

    /// Brings the key up to the coordinates.
    fn write_key(&mut self) {
        let d = std::mem::replace(&mut self.stale, self.coords.len());
        if d == self.coords.len() {
            return;
        }
        let start = match self.starts.get(d) {
            Some(&start) if d > 0 => start,
            _ => self.array.base.len(),
        };
        self.key.truncate(start);
        for d in d..self.coords.len() {
            self.starts[d] = self.key.len();
            write_decimal(self.coords[d], &mut self.key);
            if d + 1 < self.coords.len() {
                self.key.push(self.array.separator);
            }
        }
    }
}

fn write_component(value: Option<u64>, last: bool, separator: u8, text: &mut Vec<u8>) {
    text.clear();
    if let Some(value) = value {
        write_decimal(value, text);
    }
    if !last {
        text.push(separator);
    }
}

/// Appends the decimal text of `value`.
pub(crate) fn write_decimal(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ArrayConfig, Encoding, Pattern, Separator};
    use proptest::prelude::*;

    /// All existing keys of an array, the slow way.
    pub(crate) fn all_keys(array: &Array) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let total: u64 = array.grid.iter().product();
        for mut linear in 0..total {
            let mut coords = vec![0; array.grid.len()];
            for d in (0..coords.len()).rev() {
                coords[d] = linear % array.grid[d];
                linear /= array.grid[d];
            }
            if array.contains(&coords) {
                keys.push(array.key(&coords));
            }
        }
        keys.sort();
        keys
    }

    fn patterns(ndim: usize) -> impl Strategy<Value = Pattern> {
        prop_oneof![
            Just(Pattern::Dense),
            Just(Pattern::Empty),
            Just(Pattern::FirstHalf),
            (0.0f64..1.0, 0u64..9)
                .prop_map(|(probability, seed)| Pattern::Random { probability, seed }),
            (1u64..60).prop_map(|step| Pattern::Every { step }),
            (1u64..60, 0u64..9).prop_map(|(every, seed)| Pattern::Scatter { every, seed }),
            prop::collection::vec(1u64..7, ndim).prop_map(|steps| Pattern::Lattice { steps }),
            (prop::collection::vec(0u64..12, ndim), prop::collection::vec(0u64..30, ndim))
                .prop_map(|(from, to)| Pattern::Block { from, to }),
        ]
    }

    fn arrays() -> impl Strategy<Value = ArrayConfig> {
        (0usize..4).prop_flat_map(|ndim| {
            let most = [0, 300, 25, 14][ndim];
            let grid = prop::collection::vec(0u64..=most, ndim);
            (grid, any::<(bool, bool)>(), patterns(ndim)).prop_map(|(grid, (v2, dot), pattern)| {
                ArrayConfig {
                    prefix: "x/y".into(),
                    grid,
                    encoding: if v2 { Encoding::V2 } else { Encoding::Default },
                    separator: if dot { Separator::Dot } else { Separator::Slash },
                    pattern,
                    ..ArrayConfig::default()
                }
            })
        })
    }

    proptest! {
        #[test]
        fn walks_and_seeks_like_a_sorted_list(
            config in arrays(),
            tail in "[c]?[./]?[0-9]{0,2}[./]?[0-9]{0,3}[./~]?[0-9a]{0,2}",
            pick in any::<prop::sample::Index>(),
            exclusive: bool,
        ) {
            let array = Array::new(&config).unwrap();
            let keys = all_keys(&array);
            let mut bounds = vec![Vec::new(), b"x".to_vec(), b"y".to_vec(), format!("x/y/{tail}").into_bytes()];
            if !keys.is_empty() {
                bounds.push(keys[pick.index(keys.len())].clone());
            }
            for bound in bounds {
                let from = keys.partition_point(|k| if exclusive { *k <= bound } else { *k < bound });
                let mut found = Vec::new();
                let mut cursor = Cursor::seek(&array, &bound, exclusive);
                while let Some(c) = &mut cursor {
                    found.push(c.key().to_vec());
                    prop_assert_eq!(array.coords(c.key()), Some(c.coords().to_vec()));
                    if !c.advance() { break; }
                }
                prop_assert_eq!(&found, &keys[from..]);
            }
        }
    }
}
