//! Chunk coordinates to object keys and back, exactly as the Zarr specification writes them.
//!
//! A key that differs in a single character from what the array's encoding gives for coordinates
//! inside the grid is not a chunk. Nothing here touches a store.
//!
//! Source: Zarr v3 core specification, "Chunk key encoding" (`default` and `v2`); Zarr v2
//! specification, "Chunks".

use crate::{Error, ErrorKind, Result};

/// The character between the coordinates of a chunk key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkKeySeparator {
    /// `/`, the default of `default` keys.
    Slash,
    /// `.`, the default of `v2` keys.
    Dot,
}

impl ChunkKeySeparator {
    /// The separator as a byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Slash => b'/',
            Self::Dot => b'.',
        }
    }
}

/// Which of the two forms of chunk keys an array uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkKeyForm {
    /// `c`, then the coordinates: `c/0/1`, `c.0.1`; a scalar is `c`.
    Default,
    /// The coordinates alone: `0/1`, `0.1`; a scalar is `0`.
    V2,
}

/// An array's chunk key encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkKeyEncoding {
    /// With or without the leading `c`.
    pub form: ChunkKeyForm,
    /// The character between coordinates.
    pub separator: ChunkKeySeparator,
}

impl ChunkKeyEncoding {
    /// Parses the name and separator of Zarr metadata: `default` or `v2`, `/` or `.`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedArray`] for anything else.
    pub fn parse(name: &str, separator: &str) -> Result<Self> {
        let form = match name {
            "default" => ChunkKeyForm::Default,
            "v2" => ChunkKeyForm::V2,
            other => {
                return Err(Error::new(
                    ErrorKind::UnsupportedArray,
                    format!("unknown chunk key encoding '{other}' (known: default, v2)"),
                ));
            }
        };
        let separator = match separator {
            "/" => ChunkKeySeparator::Slash,
            "." => ChunkKeySeparator::Dot,
            other => {
                return Err(Error::new(
                    ErrorKind::UnsupportedArray,
                    format!("unknown chunk key separator '{other}' (known: '/' and '.')"),
                ));
            }
        };
        Ok(Self { form, separator })
    }

    /// Its name in what is stored: form and separator, such as `default/` and `v2.`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match (self.form, self.separator) {
            (ChunkKeyForm::Default, ChunkKeySeparator::Slash) => "default/",
            (ChunkKeyForm::Default, ChunkKeySeparator::Dot) => "default.",
            (ChunkKeyForm::V2, ChunkKeySeparator::Slash) => "v2/",
            (ChunkKeyForm::V2, ChunkKeySeparator::Dot) => "v2.",
        }
    }

    /// Appends the key of the chunk at `coords` (grid coordinates), relative to the array.
    pub fn encode_into(self, coords: &[u32], key: &mut Vec<u8>) {
        match self.form {
            ChunkKeyForm::Default => key.push(b'c'),
            ChunkKeyForm::V2 if coords.is_empty() => key.push(b'0'),
            ChunkKeyForm::V2 => {}
        }
        for (axis, coord) in coords.iter().enumerate() {
            if axis > 0 || self.form == ChunkKeyForm::Default {
                key.push(self.separator.byte());
            }
            push_decimal(*coord, key);
        }
    }

    /// The key of the chunk at `coords` (grid coordinates), relative to the array.
    #[must_use]
    pub fn encode(self, coords: &[u32]) -> String {
        let mut key = Vec::with_capacity(2 + 4 * coords.len());
        self.encode_into(coords, &mut key);
        String::from_utf8_lossy(&key).into_owned()
    }

    /// Reads `key`, relative to the array, into `coords`.
    ///
    /// True only when `key` is, byte for byte, what [`encode`](Self::encode) gives for coordinates
    /// inside `grid_shape` (chunks along each dimension). `coords` must be as long as
    /// `grid_shape`; its content is unspecified when the answer is false.
    pub fn decode(self, key: &[u8], grid_shape: &[u64], coords: &mut [u32]) -> bool {
        if coords.len() != grid_shape.len() {
            return false;
        }
        let mut rest = key;
        match self.form {
            ChunkKeyForm::Default => match rest.split_first() {
                Some((b'c', tail)) => rest = tail,
                _ => return false,
            },
            ChunkKeyForm::V2 if grid_shape.is_empty() => return key == b"0",
            ChunkKeyForm::V2 => {}
        }
        for (axis, (extent, coord)) in grid_shape.iter().zip(coords.iter_mut()).enumerate() {
            if axis > 0 || self.form == ChunkKeyForm::Default {
                match rest.split_first() {
                    Some((&byte, tail)) if byte == self.separator.byte() => rest = tail,
                    _ => return false,
                }
            }
            let Some((value, tail)) = leading_number(rest) else {
                return false;
            };
            if u64::from(value) >= *extent {
                return false;
            }
            *coord = value;
            rest = tail;
        }
        rest.is_empty()
    }
}

/// Digits of a number in decimal.
pub(crate) fn decimal_len(number: u32) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Appends a number in decimal; the formatting machinery takes several times as long.
pub(crate) fn push_decimal(mut number: u32, text: &mut Vec<u8>) {
    let start = text.len();
    loop {
        // A remainder of ten fits a byte.
        text.push(b'0' + u8::try_from(number % 10).unwrap_or_default());
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = text.get_mut(start..) {
        digits.reverse();
    }
}

/// The coordinate that `text` is, in full.
pub(crate) fn coordinate(text: &[u8]) -> Option<u32> {
    leading_number(text).and_then(|(value, rest)| rest.is_empty().then_some(value))
}

/// The canonical decimal number (no sign, no leading zero) at the front of `text`, and the rest.
fn leading_number(text: &[u8]) -> Option<(u32, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    if digits == 0 || (digits > 1 && number.first() == Some(&b'0')) {
        return None;
    }
    let mut value: u32 = 0;
    for digit in number {
        value = value.checked_mul(10)?.checked_add(u32::from(digit - b'0'))?;
    }
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encodings() -> impl Strategy<Value = ChunkKeyEncoding> {
        (
            prop_oneof![Just(ChunkKeyForm::Default), Just(ChunkKeyForm::V2)],
            prop_oneof![Just(ChunkKeySeparator::Slash), Just(ChunkKeySeparator::Dot)],
        )
            .prop_map(|(form, separator)| ChunkKeyEncoding { form, separator })
    }

    /// A grid of 0 to 5 dimensions and coordinates inside it.
    fn grids() -> impl Strategy<Value = (Vec<u64>, Vec<u32>)> {
        proptest::collection::vec((1_u64..=3_000, any::<u32>()), 0..=5).prop_map(|axes| {
            axes.into_iter()
                .map(|(extent, seed)| (extent, u32::try_from(u64::from(seed) % extent).unwrap()))
                .unzip()
        })
    }

    #[test]
    fn keys_are_those_of_the_specification() {
        let key = |name, separator, coords: &[u32]| {
            ChunkKeyEncoding::parse(name, separator).unwrap().encode(coords)
        };
        assert_eq!(key("default", "/", &[1, 23, 45]), "c/1/23/45");
        assert_eq!(key("default", ".", &[1, 23]), "c.1.23");
        assert_eq!(key("v2", ".", &[1, 23]), "1.23");
        assert_eq!(key("v2", "/", &[1, 23]), "1/23");
        assert_eq!(key("default", "/", &[]), "c");
        assert_eq!(key("v2", ".", &[]), "0");
    }

    #[test]
    fn look_alikes_are_not_chunks() {
        let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
        for key in [
            "",
            "c",
            "c/",
            "c/0",
            "c/0/",
            "c/0/0/",
            "c/0/0/0",
            "c/00/0",
            "c/+1/0",
            "c/0_1/0",
            "c/-1/0",
            "c/ 1/0",
            "c/1e0/0",
            "c/٣/0",
            "c.0.0",
            "0/0",
            "c/5/0",
            "c/0/7",
            "c/4294967296/0",
            "c/99999999999999999999/0",
            "C/0/0",
            "c//0",
            "zarr.json",
        ] {
            assert!(!encoding.decode(key.as_bytes(), &[5, 7], &mut [0; 2]), "{key}");
        }
    }

    #[test]
    fn unknown_encodings_are_refused() {
        for (name, separator) in [("v4", "/"), ("default", "-"), ("v2", "")] {
            let error = ChunkKeyEncoding::parse(name, separator).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnsupportedArray);
        }
    }

    proptest! {
        #[test]
        fn the_length_of_a_number_is_known(number in prop_oneof![any::<u32>(), 0_u32..2_000]) {
            let mut text = Vec::new();
            push_decimal(number, &mut text);
            prop_assert_eq!(decimal_len(number), text.len());
            prop_assert_eq!(text, number.to_string().into_bytes());
        }

        #[test]
        fn decode_inverts_encode(encoding in encodings(), (grid, coords) in grids()) {
            let mut decoded = vec![0; grid.len()];
            let key = encoding.encode(&coords);
            prop_assert!(encoding.decode(key.as_bytes(), &grid, &mut decoded));
            prop_assert_eq!(decoded, coords);
        }

        #[test]
        fn whatever_decodes_is_canonical(
            encoding in encodings(),
            (grid, _) in grids(),
            key in "c?[0-9./+_c]{0,8}",
        ) {
            let mut coords = vec![0; grid.len()];
            if encoding.decode(key.as_bytes(), &grid, &mut coords) {
                prop_assert_eq!(encoding.encode(&coords), key);
                prop_assert!(coords.iter().zip(&grid).all(|(c, g)| u64::from(*c) < *g));
            }
        }
    }
}
