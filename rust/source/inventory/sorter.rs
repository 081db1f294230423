//! Sorts the objects of an inventory, however many, in bounded memory: runs that fit are sorted and
//! written to disk, and merged.
//!
//! A key that comes again with the same size, time and tag counts once; with others it is an error.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::blocks::{LONGEST, Row};
use super::table::{Cursor, Table, TableWriter};
use crate::{Error, ErrorKind, Result};

/// Runs that are merged at a time; each holds a block in memory.
const MOST_RUNS: usize = 64;

/// Bytes of a row beside its texts: size, time and the lengths of key and tag.
const FIXED: usize = 24;

/// Collects rows in any order.
#[derive(Debug)]
pub(super) struct Sorter {
    folder: PathBuf,
    memory: usize,
    /// Rows one after the other: size, time, lengths of key and tag, key, tag.
    arena: Vec<u8>,
    starts: Vec<u32>,
    /// Runs on disk; those of each level were merged from those of the level before.
    levels: Vec<Vec<Table>>,
}

impl Sorter {
    /// Files come into `folder`; rows take about `memory` bytes before they are written there.
    pub(super) fn new(folder: PathBuf, memory: usize) -> Self {
        let memory = memory.clamp(BLOCK_OF_ROWS, u32::MAX as usize / 2);
        Self { folder, memory, arena: Vec::new(), starts: Vec::new(), levels: Vec::new() }
    }

    pub(super) fn push(&mut self, row: &Row) -> Result<()> {
        if row.key.len() + row.e_tag.len() > LONGEST {
            let key = String::from_utf8_lossy(row.key.get(..100).unwrap_or(&row.key)).into_owned();
            let length = row.key.len();
            let message = format!("the listing has a key of {length} bytes: {key}…");
            return Err(Error::new(ErrorKind::Listing, message)
                .with_hint("check which of its columns are the keys: --listing-columns key=…"));
        }
        let needed = FIXED + row.key.len() + row.e_tag.len();
        let taken = self.arena.len() + self.starts.len() * size_of::<u32>();
        if taken + needed > self.memory {
            self.spill()?;
        }
        if let Ok(start) = u32::try_from(self.arena.len()) {
            self.starts.push(start);
        }
        self.arena.extend_from_slice(&row.size.to_le_bytes());
        self.arena.extend_from_slice(&row.last_modified.to_le_bytes());
        for length in [row.key.len(), row.e_tag.len()] {
            self.arena.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        }
        self.arena.extend_from_slice(&row.key);
        self.arena.extend_from_slice(&row.e_tag);
        Ok(())
    }

    /// All rows, in the order of their keys.
    pub(super) fn finish(mut self) -> Result<Table> {
        if !self.starts.is_empty() || self.levels.is_empty() {
            self.spill()?;
        }
        self.arena = Vec::new();
        self.starts = Vec::new();
        let mut runs: Vec<Table> = std::mem::take(&mut self.levels).into_iter().flatten().collect();
        while runs.len() > 1 {
            let rest = runs.split_off(runs.len().min(MOST_RUNS));
            let merged = self.merged(runs)?;
            runs = rest;
            runs.push(merged);
        }
        match runs.pop() {
            Some(table) => Ok(table),
            None => TableWriter::new(self.file()?).finish().map_err(|error| self.failed(&error)),
        }
    }

    fn file(&self) -> Result<File> {
        tempfile::tempfile_in(&self.folder).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Error {
        let folder = self.folder.display();
        Error::new(ErrorKind::Listing, format!("cannot sort the listing in {folder}: {error}"))
            .with_hint("set TMPDIR to a folder with room for the listing")
    }

    /// Sorts what is in memory and writes it to disk.
    fn spill(&mut self) -> Result<()> {
        let mut starts = std::mem::take(&mut self.starts);
        let arena = std::mem::take(&mut self.arena);
        starts.sort_unstable_by(|one, other| compared(&arena, *one, *other));
        let mut writer = Once::new(TableWriter::new(self.file()?));
        let mut row = Row::default();
        for start in &starts {
            read(&arena, *start, &mut row);
            writer.push(&row).map_err(|error| self.of(error))?;
        }
        let run = writer.writer.finish().map_err(|error| self.failed(&error))?;
        // Both are filled again.
        self.arena = arena;
        self.starts = starts;
        self.arena.clear();
        self.starts.clear();
        self.add(run, 0)
    }

    /// Adds a run to a level; a full level becomes one run of the next.
    fn add(&mut self, run: Table, level: usize) -> Result<()> {
        if self.levels.len() <= level {
            self.levels.push(Vec::new());
        }
        let Some(runs) = self.levels.get_mut(level) else { return Ok(()) };
        runs.push(run);
        if runs.len() < MOST_RUNS {
            return Ok(());
        }
        let full = std::mem::take(runs);
        let merged = self.merged(full)?;
        self.add(merged, level + 1)
    }

    fn merged(&self, runs: Vec<Table>) -> Result<Table> {
        let mut heap = BinaryHeap::with_capacity(runs.len());
        for run in runs {
            let cursor = Cursor::first(Arc::new(run)).map_err(|error| self.failed(&error))?;
            heap.push(Reverse(Head(cursor)));
        }
        let mut writer = Once::new(TableWriter::new(self.file()?));
        while let Some(mut head) = heap.peek_mut() {
            let Some(row) = head.0.0.row() else {
                std::collections::binary_heap::PeekMut::pop(head);
                continue;
            };
            writer.push(row).map_err(|error| self.of(error))?;
            head.0.0.advance().map_err(|error| self.failed(&error))?;
        }
        writer.writer.finish().map_err(|error| self.failed(&error))
    }

    fn of(&self, failure: Failure) -> Error {
        match failure {
            Failure::File(error) => self.failed(&error),
            Failure::Twice(key) => {
                let key = String::from_utf8_lossy(&key).into_owned();
                let message =
                    format!("the listing names {key} twice, with different sizes, times or tags");
                Error::new(ErrorKind::Listing, message).with_hint(
                    "an inventory of all versions needs a column that tells which are the latest: \
                     --listing-columns is_latest=…; and give the files of one inventory only",
                )
            }
        }
    }
}

/// The least memory that a sorter works with: rows of the longest keys fit.
const BLOCK_OF_ROWS: usize = 1 << 16;

fn number<const N: usize>(arena: &[u8], at: usize) -> [u8; N] {
    arena.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}

/// Key and tag of the row at `start`.
fn texts(arena: &[u8], start: u32) -> (&[u8], &[u8]) {
    let start = start as usize;
    let key = u32::from_le_bytes(number(arena, start + 16)) as usize;
    let tag = u32::from_le_bytes(number(arena, start + 20)) as usize;
    let rest = arena.get(start + FIXED..).unwrap_or_default();
    let (key, rest) = rest.split_at_checked(key).unwrap_or_default();
    (key, rest.get(..tag).unwrap_or_default())
}

fn compared(arena: &[u8], one: u32, other: u32) -> Ordering {
    let ((key, tag), (other_key, other_tag)) = (texts(arena, one), texts(arena, other));
    key.cmp(other_key).then_with(|| {
        let numbers = |start: u32| number::<16>(arena, start as usize);
        numbers(one).cmp(&numbers(other)).then_with(|| tag.cmp(other_tag))
    })
}

fn read(arena: &[u8], start: u32, row: &mut Row) {
    let (key, tag) = texts(arena, start);
    row.key.clear();
    row.key.extend_from_slice(key);
    row.e_tag.clear();
    row.e_tag.extend_from_slice(tag);
    row.size = u64::from_le_bytes(number(arena, start as usize));
    row.last_modified = i64::from_le_bytes(number(arena, start as usize + 8));
}

/// Why a row cannot be written.
enum Failure {
    File(io::Error),
    Twice(Vec<u8>),
}

/// Writes each row once.
struct Once {
    writer: TableWriter,
    last: Option<Row>,
}

impl Once {
    fn new(writer: TableWriter) -> Self {
        Self { writer, last: None }
    }

    fn push(&mut self, row: &Row) -> Result<(), Failure> {
        match &mut self.last {
            Some(last) if last == row => return Ok(()),
            Some(last) if last.key == row.key => return Err(Failure::Twice(row.key.clone())),
            Some(last) => last.clone_from(row),
            None => self.last = Some(row.clone()),
        }
        self.writer.push(row).map_err(Failure::File)
    }
}

/// A run, by the row that comes next; one at its end comes first, to be taken away.
struct Head(Cursor);

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.row().cmp(&other.0.row())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(key: &str, size: u64) -> Row {
        Row { key: key.as_bytes().to_vec(), size, last_modified: 7, e_tag: b"\"t\"".to_vec() }
    }

    fn keys(table: Table) -> Vec<String> {
        let mut cursor = Cursor::first(Arc::new(table)).unwrap();
        let mut keys = Vec::new();
        while let Some(row) = cursor.row() {
            keys.push(String::from_utf8(row.key.clone()).unwrap());
            cursor.advance().unwrap();
        }
        keys
    }

    #[test]
    fn more_rows_than_fit_are_sorted_by_runs_of_runs() {
        let mut sorter = Sorter::new(std::env::temp_dir(), 0);
        // 400,000 rows of about 110 bytes in 64 KiB: some 700 runs, in two levels.
        let total = 400_000_u64;
        for number in 0..total {
            let scattered = number * 157_001 % total;
            sorter.push(&row(&format!("{scattered:0>80}"), scattered)).unwrap();
        }
        assert!(sorter.levels.len() > 1, "{:?}", sorter.levels.len());
        let table = sorter.finish().unwrap();
        assert_eq!(table.rows(), total);
        let found = keys(table);
        assert!(found.is_sorted() && found.len() as u64 == total);
    }

    #[test]
    fn a_key_that_comes_twice_counts_once_or_is_an_error() {
        let sorted = |sizes: [u64; 2], between: u64| {
            let mut sorter = Sorter::new(std::env::temp_dir(), 0);
            sorter.push(&row("a", sizes[0]))?;
            for number in 0..between {
                sorter.push(&row(&format!("b{number:0>80}"), 1))?;
            }
            sorter.push(&row("a", sizes[1]))?;
            sorter.finish()
        };
        assert_eq!(keys(sorted([1, 1], 1).unwrap()).len(), 2);
        // In two runs.
        assert_eq!(sorted([1, 1], 1_000).unwrap().rows(), 1_001);
        for between in [1, 1_000] {
            let error = sorted([1, 2], between).unwrap_err();
            assert!(error.message().contains("names a twice"), "{error}");
        }
    }

    #[test]
    fn a_position_is_found_between_any_two_keys() {
        let mut sorter = Sorter::new(std::env::temp_dir(), 1 << 20);
        for number in 0..5_000 {
            sorter.push(&row(&format!("k{number:05}{:0>60}", ""), number)).unwrap();
        }
        let table = Arc::new(sorter.finish().unwrap());
        assert!(table.blocks() > 1);
        for (key, first) in
            [("", 0), ("k", 0), ("k02500", 2_500), ("k02500z", 2_501), ("k04999", 4_999)]
        {
            let cursor = Cursor::at(Arc::clone(&table), key.as_bytes()).unwrap();
            assert_eq!(cursor.row().map(|row| row.size), Some(first), "{key}");
        }
        assert_eq!(Cursor::at(table, b"l").unwrap().row(), None);
    }

    proptest! {
        #[test]
        fn rows_come_in_the_order_of_their_keys(given in prop::collection::btree_set("[a-c/]{0,6}", 0..40)) {
            let mut sorter = Sorter::new(std::env::temp_dir(), 0);
            for key in given.iter().rev() {
                sorter.push(&row(key, 1)).unwrap();
            }
            prop_assert_eq!(keys(sorter.finish().unwrap()), given.into_iter().collect::<Vec<_>>());
        }
    }
}
