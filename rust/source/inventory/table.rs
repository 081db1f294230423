//! The objects of an inventory in the byte order of their keys, in a file without a name: it is
//! gone with the process, however that ends.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::blocks::{BLOCK, BlockReader, BlockWriter, Row};

/// Rows in the order of their keys.
#[derive(Debug)]
pub(super) struct Table {
    file: File,
    blocks: u64,
    #[cfg(test)]
    rows: u64,
}

impl Table {
    /// How many rows there are.
    #[cfg(test)]
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// How many blocks there are.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The first key of a block.
    pub(super) fn first_key(&self, block: u64) -> io::Result<Vec<u8>> {
        let mut reader = self.block(block)?;
        reader.advance()?;
        Ok(reader.row().key.clone())
    }

    fn block(&self, block: u64) -> io::Result<BlockReader> {
        if block >= self.blocks {
            return Ok(BlockReader::default());
        }
        let mut bytes = vec![0; BLOCK];
        self.file.read_exact_at(&mut bytes, block * BLOCK as u64)?;
        BlockReader::new(bytes)
    }

    /// The block that `key` is in, if it is anywhere.
    fn block_of(&self, key: &[u8]) -> io::Result<u64> {
        // The first block that begins with a greater key; the one before it is wanted.
        let (mut low, mut high) = (0, self.blocks);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.first_key(middle)?.as_slice() <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.saturating_sub(1))
    }
}

/// A position in a table: at a row, or behind the last.
#[derive(Debug)]
pub(super) struct Cursor {
    table: Arc<Table>,
    block: u64,
    reader: BlockReader,
    at_end: bool,
}

impl Cursor {
    /// At the first row.
    pub(super) fn first(table: Arc<Table>) -> io::Result<Self> {
        let reader = table.block(0)?;
        let mut cursor = Self { table, block: 0, reader, at_end: false };
        cursor.advance()?;
        Ok(cursor)
    }

    /// At the first row whose key is not less than `key`.
    pub(super) fn at(table: Arc<Table>, key: &[u8]) -> io::Result<Self> {
        let block = table.block_of(key)?;
        let reader = table.block(block)?;
        let mut cursor = Self { table, block, reader, at_end: false };
        cursor.advance()?;
        while cursor.row().is_some_and(|row| row.key.as_slice() < key) {
            cursor.advance()?;
        }
        Ok(cursor)
    }

    /// The row; none behind the last.
    pub(super) fn row(&self) -> Option<&Row> {
        (!self.at_end).then(|| self.reader.row())
    }

    pub(super) fn advance(&mut self) -> io::Result<()> {
        while !self.reader.advance()? {
            self.block += 1;
            if self.block >= self.table.blocks {
                self.at_end = true;
                return Ok(());
            }
            self.reader = self.table.block(self.block)?;
        }
        Ok(())
    }
}

/// Writes a table, row by row in the order of the keys.
#[derive(Debug)]
pub(super) struct TableWriter {
    file: BufWriter<File>,
    block: BlockWriter,
    blocks: u64,
    #[cfg(test)]
    rows: u64,
}

impl TableWriter {
    pub(super) fn new(file: File) -> Self {
        let file = BufWriter::with_capacity(BLOCK, file);
        Self {
            file,
            block: BlockWriter::default(),
            blocks: 0,
            #[cfg(test)]
            rows: 0,
        }
    }

    /// Adds a row, which fits a block.
    pub(super) fn push(&mut self, row: &Row) -> io::Result<()> {
        if !self.block.push(row) {
            self.end_block()?;
            if !self.block.push(row) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a key is too long"));
            }
        }
        #[cfg(test)]
        {
            self.rows += 1;
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        if !block.is_empty() {
            self.file.write_all(&block.finish())?;
            self.blocks += 1;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<Table> {
        self.end_block()?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Table {
            file,
            blocks: self.blocks,
            #[cfg(test)]
            rows: self.rows,
        })
    }
}
