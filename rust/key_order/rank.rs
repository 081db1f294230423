//! The position of a chunk's key among all possible keys of its array, and back, by arithmetic.
//!
//! Both separators sort before the digits, so byte order compares the coordinates one after the
//! other, each as a decimal string: a product order. No table grows with the grid. What is stored
//! under the keys, and in which region a reader is interested, is not known here.
//!
//! Source: Zarr v3 core specification, "Chunk key encoding"; S3 API reference, `ListObjectsV2`
//! (keys come in UTF-8 byte order).

use crate::key_order::decimal::{DecimalSet, MAX_EXTENT, canonical};
use crate::zarr::key::{ChunkKeyEncoding, ChunkKeyForm};
use crate::{Error, ErrorKind, Result};

/// The byte order of all keys of one chunk grid. Keys are relative to the array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOrder {
    encoding: ChunkKeyEncoding,
    grid_shape: Vec<u64>,
    /// Keys below one value of each coordinate; all 0 in an empty grid.
    strides: Vec<u64>,
    len: u64,
}

impl KeyOrder {
    /// The order of the keys that `encoding` gives for a grid of `grid_shape` chunks.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedArray`] for more than 2³² chunks along one dimension or 2⁶³ in all.
    pub fn new(encoding: ChunkKeyEncoding, grid_shape: &[u64]) -> Result<Self> {
        if let Some(extent) = grid_shape.iter().find(|extent| **extent > MAX_EXTENT) {
            return Err(Error::new(
                ErrorKind::UnsupportedArray,
                format!("{extent} chunks along one dimension, more than 32 bits can number"),
            ));
        }
        let empty = grid_shape.contains(&0);
        let mut strides = vec![0; grid_shape.len()];
        let mut len = u64::from(!empty);
        for (stride, extent) in strides.iter_mut().zip(grid_shape).rev() {
            *stride = len;
            len = match len.checked_mul(*extent) {
                Some(len) if len <= 1 << 63 => len,
                _ => {
                    return Err(Error::new(
                        ErrorKind::UnsupportedArray,
                        "a grid of more than 2^63 chunks",
                    ));
                }
            };
        }
        Ok(Self { encoding, grid_shape: grid_shape.to_vec(), strides, len })
    }

    /// How keys are written.
    pub fn encoding(&self) -> ChunkKeyEncoding {
        self.encoding
    }

    /// Chunks along each dimension.
    pub fn grid_shape(&self) -> &[u64] {
        &self.grid_shape
    }

    /// Possible keys in all.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the grid has no chunk at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keys between two that differ by one position in each dimension.
    pub(crate) fn strides(&self) -> &[u64] {
        &self.strides
    }

    /// How many keys of the grid come before that of `coords`; `None` outside the grid.
    pub fn rank(&self, coords: &[u32]) -> Option<u64> {
        if coords.len() != self.grid_shape.len() {
            return None;
        }
        let mut rank = 0;
        for ((coord, extent), stride) in coords.iter().zip(&self.grid_shape).zip(&self.strides) {
            let coord = u64::from(*coord);
            if coord >= *extent {
                return None;
            }
            rank += DecimalSet::new(&(0..*extent)).before(coord) * stride;
        }
        Some(rank)
    }

    /// The coordinates of the chunk whose key has `rank` keys before it; `None` beyond the last.
    pub fn select(&self, rank: u64) -> Option<Vec<u32>> {
        if rank >= self.len {
            return None;
        }
        let mut rest = rank;
        let mut coords = Vec::with_capacity(self.grid_shape.len());
        for (extent, stride) in self.grid_shape.iter().zip(&self.strides) {
            let index = rest.checked_div(*stride)?;
            rest %= *stride;
            coords.push(u32::try_from(DecimalSet::new(&(0..*extent)).nth(index)?).ok()?);
        }
        Some(coords)
    }

    /// The key at `rank`, relative to the array; `None` beyond the last.
    pub fn key(&self, rank: u64) -> Option<String> {
        Some(self.encoding.encode(&self.select(rank)?))
    }

    /// How many keys of the grid are not greater than `key`, which may be any bytes.
    pub fn rank_after(&self, key: &[u8]) -> u64 {
        let mut rest = key;
        if self.encoding.form == ChunkKeyForm::Default {
            match rest.split_first() {
                None => return 0,
                Some((byte, _)) if *byte < b'c' => return 0,
                Some((byte, _)) if *byte > b'c' => return self.len,
                Some((_, tail)) => rest = tail,
            }
        } else if self.grid_shape.is_empty() {
            return u64::from(key >= b"0".as_slice());
        }
        let separator = self.encoding.separator.byte();
        let mut count = 0;
        // The keys that agree with `key` so far.
        let mut agreeing = self.len;
        for (axis, (extent, stride)) in self.grid_shape.iter().zip(&self.strides).enumerate() {
            if axis > 0 || self.encoding.form == ChunkKeyForm::Default {
                match rest.split_first() {
                    // A proper prefix of the keys that agree, or less than all of them.
                    None => return count,
                    Some((byte, _)) if *byte < separator => return count,
                    Some((byte, _)) if *byte > separator => return count + agreeing,
                    Some((_, tail)) => rest = tail,
                }
            }
            let numbers = DecimalSet::new(&(0..*extent));
            let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (digits, tail) = rest.split_at(length);
            count += numbers.before_digits(digits) * stride;
            let exact = canonical(digits).filter(|number| numbers.contains(*number));
            if tail.first().is_some_and(|byte| *byte > b'9') {
                // `1x` is greater than `1`, `1/…` and `10…`.
                return count + (numbers.extensions(digits) + u64::from(exact.is_some())) * stride;
            }
            if exact.is_none() {
                return count;
            }
            agreeing = *stride;
            rest = tail;
        }
        // The key of one chunk, or that with something after it.
        count + agreeing
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{all_keys, encodings, small_grids};

    fn order(grid: &[u64]) -> KeyOrder {
        KeyOrder::new(ChunkKeyEncoding::parse("default", "/").unwrap(), grid).unwrap()
    }

    #[test]
    fn a_scalar_has_one_key() {
        let scalar = order(&[]);
        assert_eq!((scalar.len(), scalar.rank(&[]), scalar.select(0)), (1, Some(0), Some(vec![])));
        assert_eq!((scalar.rank_after(b"b~"), scalar.rank_after(b"c")), (0, 1));
        let scalar = KeyOrder::new(ChunkKeyEncoding::parse("v2", ".").unwrap(), &[]).unwrap();
        assert_eq!((scalar.rank_after(b".zarray"), scalar.rank_after(b"0")), (0, 1));
    }

    #[test]
    fn an_empty_grid_has_no_key() {
        let empty = order(&[3, 0, 2]);
        assert!(empty.is_empty() && !order(&[3, 1, 2]).is_empty());
        assert_eq!((empty.select(0), empty.rank(&[0, 0, 0])), (None, None));
        assert_eq!(empty.rank_after(b"c/1/0/0"), 0);
    }

    #[test]
    fn grids_of_up_to_2_63_chunks_work_and_larger_ones_are_refused() {
        let full = order(&[1 << 32, 1 << 31]);
        assert_eq!(full.len(), 1 << 63);
        for rank in [0, 1, (1 << 63) - 1, 1 << 62, 12_345_678_901_234_567] {
            let coords = full.select(rank).unwrap();
            assert_eq!(full.rank(&coords), Some(rank));
        }
        let eight = order(&[200; 8]);
        assert_eq!(
            eight.rank(&eight.select(1_234_567_890_123_456_789).unwrap()).unwrap(),
            1_234_567_890_123_456_789
        );
        let encoding = full.encoding();
        for grid in [vec![(1 << 32) + 1], vec![1 << 32, 1 << 32], vec![1 << 32; 8]] {
            let error = KeyOrder::new(encoding, &grid).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnsupportedArray);
        }
    }

    proptest! {
        #[test]
        fn rank_is_the_position_among_sorted_keys(encoding in encodings(), grid in small_grids()) {
            let order = KeyOrder::new(encoding, &grid).unwrap();
            let keys = all_keys(encoding, &grid);
            prop_assert_eq!(order.len(), keys.len() as u64);
            for (rank, (key, coords)) in keys.iter().enumerate() {
                let rank = rank as u64;
                prop_assert_eq!(order.rank(coords), Some(rank));
                prop_assert_eq!(&order.select(rank).unwrap(), coords);
                prop_assert_eq!(order.rank_after(key), rank + 1);
            }
            prop_assert_eq!(order.select(keys.len() as u64), None);
        }

        #[test]
        fn any_string_has_a_position(
            encoding in encodings(),
            grid in small_grids(),
            texts in proptest::collection::vec("c?[-./0-9:_~a-d\u{e9}]{0,7}", 1..40),
            bytes in proptest::collection::vec(any::<u8>(), 0..5),
            edit in (any::<prop::sample::Index>(), 0_usize..8, any::<u8>()),
        ) {
            let order = KeyOrder::new(encoding, &grid).unwrap();
            let keys = all_keys(encoding, &grid);
            let mut strings: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
            if !keys.is_empty() {
                // Near misses: a real key with something after it, cut short, or changed.
                let key = &keys[edit.0.index(keys.len())].0;
                let cut = edit.1.min(key.len());
                strings.push(key[..cut].to_vec());
                strings.push([key, &bytes[..]].concat());
                strings.push([&key[..cut], &[edit.2], &key[cut..]].concat());
                strings.push([key.as_slice(), b"/"].concat());
            }
            strings.push(bytes);
            for text in strings {
                let expected = keys.iter().filter(|(key, _)| *key <= text).count() as u64;
                prop_assert_eq!(order.rank_after(&text), expected, "{:?}", text);
            }
        }
    }
}
