//! Blocks of one length in which the objects of an inventory lie sorted on disk.
//!
//! A block can be read by itself: its first key is whole, each later one says how much of the key
//! before it it repeats. Blocks of one length are found without an index, so that the number of
//! objects costs no memory. Which objects come into which block is not known here.

use std::io;

/// Bytes of a block.
pub(super) const BLOCK: usize = 64 << 10;

/// Bytes of the number of objects, at the beginning of a block.
const HEADER: usize = 4;

/// Bytes that the key and the tag of an object may have together: such a one fits any block.
pub(super) const LONGEST: usize = BLOCK / 4;

/// One object of an inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    /// In the order of the fields: rows sort by their keys first.
    pub(super) key: Vec<u8>,
    pub(super) size: u64,
    /// Microseconds since 1970-01-01 UTC.
    pub(super) last_modified: i64,
    /// Empty when there is none.
    pub(super) e_tag: Vec<u8>,
}

/// Fills a block.
#[derive(Debug)]
pub(super) struct BlockWriter {
    bytes: Vec<u8>,
    count: u32,
    last: Vec<u8>,
}

impl Default for BlockWriter {
    fn default() -> Self {
        let mut bytes = Vec::with_capacity(BLOCK);
        bytes.resize(HEADER, 0);
        Self { bytes, count: 0, last: Vec::new() }
    }
}

impl BlockWriter {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a row; false, with nothing added, when the block is full.
    pub(super) fn push(&mut self, row: &Row) -> bool {
        let shared = self.last.iter().zip(&row.key).take_while(|(one, other)| one == other).count();
        let before = self.bytes.len();
        put(&mut self.bytes, shared as u64);
        put(&mut self.bytes, (row.key.len() - shared) as u64);
        self.bytes.extend_from_slice(row.key.get(shared..).unwrap_or_default());
        put(&mut self.bytes, row.size);
        put(&mut self.bytes, zigzag(row.last_modified));
        put(&mut self.bytes, row.e_tag.len() as u64);
        self.bytes.extend_from_slice(&row.e_tag);
        if self.bytes.len() > BLOCK {
            self.bytes.truncate(before);
            return false;
        }
        self.count += 1;
        self.last.clear();
        self.last.extend_from_slice(&row.key);
        true
    }

    /// The block, of its whole length.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if let Some(header) = self.bytes.first_chunk_mut::<HEADER>() {
            *header = self.count.to_le_bytes();
        }
        self.bytes.resize(BLOCK, 0);
        self.bytes
    }
}

/// Reads a block row by row.
#[derive(Debug, Default)]
pub(super) struct BlockReader {
    bytes: Vec<u8>,
    at: usize,
    left: u32,
    row: Row,
}

impl BlockReader {
    pub(super) fn new(bytes: Vec<u8>) -> io::Result<Self> {
        let header = bytes.first_chunk::<HEADER>().ok_or_else(damaged)?;
        let left = u32::from_le_bytes(*header);
        Ok(Self { bytes, at: HEADER, left, row: Row::default() })
    }

    /// The row that [`advance`](Self::advance) came to.
    pub(super) fn row(&self) -> &Row {
        &self.row
    }

    /// Goes to the next row; false behind the last.
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        let (shared, length) = (self.length()?, self.length()?);
        let text = self.at..self.at.saturating_add(length);
        let text = self.bytes.get(text).ok_or_else(damaged)?;
        self.row.key.truncate(shared);
        self.row.key.extend_from_slice(text);
        self.at += length;
        self.row.size = self.number()?;
        self.row.last_modified = unzigzag(self.number()?);
        let length = self.length()?;
        let tag = self.bytes.get(self.at..self.at.saturating_add(length)).ok_or_else(damaged)?;
        self.row.e_tag.clear();
        self.row.e_tag.extend_from_slice(tag);
        self.at += length;
        Ok(true)
    }

    fn length(&mut self) -> io::Result<usize> {
        usize::try_from(self.number()?).map_err(|_| damaged())
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or_else(damaged)?;
            self.at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged())
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a temporary file of the inventory is damaged")
}

/// Seven bits a byte, the low ones first.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// Small numbers for numbers near zero, of either sign.
fn zigzag(number: i64) -> u64 {
    (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_block_gives_back_what_was_put_in(
            rows in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..50), any::<u64>(), any::<i64>(), any::<[u8; 3]>()),
                0..50,
            )
        ) {
            let rows: Vec<_> = rows
                .into_iter()
                .map(|(key, size, last_modified, tag)| Row { key, size, last_modified, e_tag: tag.to_vec() })
                .collect();
            let mut writer = BlockWriter::default();
            for row in &rows {
                prop_assert!(writer.push(row));
            }
            let block = writer.finish();
            prop_assert_eq!(block.len(), BLOCK);
            let mut reader = BlockReader::new(block).unwrap();
            for row in &rows {
                prop_assert!(reader.advance().unwrap());
                prop_assert_eq!(reader.row(), row);
            }
            prop_assert!(!reader.advance().unwrap());
        }
    }

    #[test]
    fn a_full_block_takes_no_more_and_keeps_what_it_has() {
        let mut writer = BlockWriter::default();
        let row = |number: u32| Row { key: number.to_be_bytes().repeat(100), ..Row::default() };
        let fit = (0..u32::MAX).take_while(|number| writer.push(&row(*number))).count();
        let mut reader = BlockReader::new(writer.finish()).unwrap();
        let read = (0..u32::MAX)
            .take_while(|number| reader.advance().unwrap() && reader.row() == &row(*number));
        assert_eq!(read.count(), fit);
    }

    #[test]
    fn a_damaged_block_is_an_error() {
        let mut bytes = vec![0xff; 40];
        bytes[..HEADER].copy_from_slice(&9_u32.to_le_bytes());
        assert!(BlockReader::new(bytes).unwrap().advance().is_err());
        assert!(BlockReader::new(vec![1]).is_err());
    }
}
