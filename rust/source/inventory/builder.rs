//! Takes the rows of an inventory: leaves out what is no object of today, and gives each object to
//! the sources that it is below.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;

use super::blocks::Row;
use super::columns::{InventoryColumns, Read};
use super::pages::Inventory;
use super::sorter::Sorter;
use crate::{Error, ErrorKind, Result};

/// Where a source is, as the keys of a listing may name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InventoryPlace {
    /// What the keys of its objects begin with; the first that fits is taken off. An empty one fits
    /// every key that does not begin with a slash and is no URL.
    pub prefixes: Vec<String>,
    /// Its bucket, for inventories that name one.
    pub bucket: Option<String>,
    /// The URL of the source, for messages.
    pub url: String,
}

/// Sorts the rows of an inventory.
#[derive(Debug)]
pub struct InventoryBuilder {
    sorter: Sorter,
    places: Vec<InventoryPlace>,
    /// Objects found below each.
    found: Vec<u64>,
    rows: u64,
    /// Of what is below no source: a key, and its bucket.
    elsewhere: Option<(String, Option<String>)>,
}

impl InventoryBuilder {
    /// For sources at `places`, with files in `folder` and about `memory` bytes of rows in memory.
    #[must_use]
    pub fn new(folder: PathBuf, memory: usize, places: Vec<InventoryPlace>) -> Self {
        let found = vec![0; places.len()];
        Self { sorter: Sorter::new(folder, memory), places, found, rows: 0, elsewhere: None }
    }

    /// Rows taken so far, and objects found below each source.
    #[must_use]
    pub fn counts(&self) -> (u64, &[u64]) {
        (self.rows, &self.found)
    }

    /// Takes rows.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Listing`] for columns that are not there or hold something else, and when the
    /// disk has no room.
    pub fn add(&mut self, batch: &RecordBatch, columns: &InventoryColumns) -> Result<()> {
        let read = Read::new(batch, columns)?;
        let mut row = Row::default();
        for at in 0..batch.num_rows() {
            self.rows += 1;
            if read.is_left_out(at) {
                continue;
            }
            let Some(key) = read.key(at) else { continue };
            let bucket = read.bucket(at);
            let mut taken = false;
            for (index, place) in self.places.iter().enumerate() {
                let elsewhere =
                    bucket.zip(place.bucket.as_deref()).is_some_and(|(it, own)| it != own);
                let Some(relative) = (!elsewhere).then(|| below(&key, place)).flatten() else {
                    continue;
                };
                taken = true;
                // The source's own marker is nothing below it.
                if relative.is_empty() {
                    continue;
                }
                row.key.clear();
                row.key.extend_from_slice(place_of(index).as_bytes());
                row.key.extend_from_slice(relative.as_bytes());
                read.fill(at, &key, &mut row)?;
                self.sorter.push(&row)?;
                if let Some(found) = self.found.get_mut(index) {
                    *found += 1;
                }
            }
            if !taken && self.elsewhere.is_none() {
                self.elsewhere = Some((key.into_owned(), bucket.map(str::to_owned)));
            }
        }
        Ok(())
    }

    /// The inventories of the sources.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Listing`] when there is nothing below one of the sources, or the disk has no
    /// room.
    pub fn finish(self) -> Result<Vec<Inventory>> {
        if let Some(place) = self
            .places
            .iter()
            .zip(&self.found)
            .find_map(|(place, found)| (*found == 0).then_some(place))
        {
            return Err(self.nothing_below(place));
        }
        let table = Arc::new(self.sorter.finish()?);
        Ok((0..self.places.len())
            .map(|index| Inventory::new(Arc::clone(&table), place_of(index)))
            .collect())
    }

    fn nothing_below(&self, place: &InventoryPlace) -> Error {
        let own = place.bucket.as_deref();
        let rows = self.rows;
        let (what, hint) = match &self.elsewhere {
            Some((_, Some(bucket))) if own.is_some_and(|own| own != bucket) => (
                format!(
                    "the listing is one of the bucket {bucket}, not of {}",
                    own.unwrap_or_default()
                ),
                "give the inventory of the source's own bucket",
            ),
            Some((key, _)) => (
                format!(
                    "none of the {rows} keys of the listing is below {}; one is {key}",
                    place.url
                ),
                "give a listing of the source's bucket, with whole keys",
            ),
            None => (
                format!("the listing has no object below {}", place.url),
                "give a listing of the source's bucket",
            ),
        };
        Error::new(ErrorKind::Listing, what).with_hint(hint)
    }
}

/// What the keys of a source begin with in the table.
fn place_of(index: usize) -> String {
    format!("{index:08}/")
}

/// What is left of a key below a source.
fn below<'a>(key: &'a str, place: &InventoryPlace) -> Option<&'a str> {
    place.prefixes.iter().find_map(|prefix| {
        let relative = key.strip_prefix(prefix.as_str())?;
        let relative_key = !key.starts_with('/') && !key.contains("://");
        (!prefix.is_empty() || relative_key).then_some(relative)
    })
}
