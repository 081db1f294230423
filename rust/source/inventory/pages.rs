//! The objects of an inventory below one source, page by page, as a service would list them: the
//! scanners of listings work as they do with one, and no request is sent.

use std::io;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::table::{Cursor, Table};
use crate::source::ObjectInfo;
use crate::source::page::{
    Page, PageBuilder, PageCapabilities, PageError, PageErrorKind, PageRequest, PageSource,
    Prefixes, StartAfter,
};
use crate::{Error, ErrorKind, Result};

/// Keys of a page.
const PAGE: u32 = 4_096;

/// Pages that are made at a time: more would only wait for each other's turn at the processor.
const AT_ONCE: usize = 4;

/// What an inventory says of the objects below a source.
#[derive(Debug, Clone)]
pub struct Inventory {
    table: Arc<Table>,
    /// What the keys below the source begin with in the table.
    place: String,
    /// What whole keys begin with, ending in `/` unless it is empty.
    prefix: String,
}

impl Inventory {
    pub(super) fn new(table: Arc<Table>, place: String) -> Self {
        Self { table, place, prefix: String::new() }
    }

    /// The same, with whole keys that begin with `prefix`.
    #[must_use]
    pub(in crate::source) fn of_prefix(mut self, prefix: &str) -> Self {
        self.prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        self
    }

    /// What the inventory says of one object; `key` is relative to the source.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Listing`] when its temporary file cannot be read.
    pub fn find(&self, key: &str) -> Result<Option<ObjectInfo>> {
        let wanted = [self.place.as_bytes(), key.as_bytes()].concat();
        let cursor = Cursor::at(Arc::clone(&self.table), &wanted).map_err(|e| unreadable(&e))?;
        let found = cursor.row().filter(|row| row.key == wanted);
        Ok(found.map(|row| ObjectInfo {
            size: row.size,
            last_modified: row.last_modified,
            e_tag: std::str::from_utf8(&row.e_tag)
                .ok()
                .filter(|t| !t.is_empty())
                .map(str::to_owned),
        }))
    }

    /// A whole key before which a page of the inventory may begin, for each of `shares`: the first
    /// keys of blocks that lie that far (between 0 and 1) into it, of this source.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Listing`] when its temporary file cannot be read.
    pub fn keys_at(&self, shares: &[f64]) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        for share in shares {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "any block will do"
            )]
            let block = (self.table.blocks() as f64 * share.clamp(0.0, 1.0)) as u64;
            let block = block.min(self.table.blocks().saturating_sub(1));
            let key = self.table.first_key(block).map_err(|error| unreadable(&error))?;
            // A block of another source: this one's keys from their beginning.
            let below = key.strip_prefix(self.place.as_bytes()).unwrap_or_default();
            keys.push(format!("{}{}", self.prefix, String::from_utf8_lossy(below)));
        }
        Ok(keys)
    }

    /// The page, made here and now.
    fn made(&self, request: &PageRequest<'_>) -> io::Result<Page> {
        let place = self.place.as_bytes();
        // In the table keys are relative to the source.
        let inner = |whole: &str| -> Option<Vec<u8>> {
            let relative = whole.strip_prefix(self.prefix.as_str())?;
            Some([place, relative.as_bytes()].concat())
        };
        let prefix = match inner(request.prefix) {
            Some(prefix) => prefix,
            // A prefix of the prefix holds all of it; any other holds nothing.
            None if self.prefix.starts_with(request.prefix) => place.to_vec(),
            None => return Ok(Page::default()),
        };
        let mut from = prefix.clone();
        for after in [request.token.or(request.start_after)].into_iter().flatten() {
            let after = match inner(after) {
                Some(mut after) => {
                    // The least string that is greater.
                    after.push(0);
                    after
                }
                None if after < self.prefix.as_str() => continue,
                None => return Ok(Page::default()),
            };
            from = from.max(after);
        }
        let mut cursor = Cursor::at(Arc::clone(&self.table), &from)?;
        let mut page = PageBuilder::default();
        let (mut key, mut last) = (Vec::new(), String::new());
        let mut count = 0;
        while let Some(row) = cursor.row().filter(|row| row.key.starts_with(&prefix)) {
            if count == request.max_keys.min(PAGE) && !request.grouped {
                return Ok(page.finish(true, Some(last)));
            }
            key.clear();
            key.extend_from_slice(self.prefix.as_bytes());
            key.extend_from_slice(row.key.get(place.len()..).unwrap_or_default());
            let behind = row.key.get(prefix.len()..).unwrap_or_default();
            let slash = behind.iter().position(|byte| *byte == b'/').filter(|_| request.grouped);
            if let Some(at) = slash {
                let length = key.len() - behind.len() + at + 1;
                page.push_folder(key.get(..length).unwrap_or_default());
                // The first key behind the folder.
                let mut next = row.key.get(..prefix.len() + at).unwrap_or_default().to_vec();
                next.push(b'/' + 1);
                cursor = Cursor::at(Arc::clone(&self.table), &next)?;
                continue;
            }
            if !page.push(&key, row.size, row.last_modified, &row.e_tag) {
                return Err(io::Error::other("the page is too large"));
            }
            count += 1;
            if count == request.max_keys.min(PAGE) {
                last = String::from_utf8_lossy(&key).into_owned();
            }
            cursor.advance()?;
        }
        Ok(page.finish(false, None))
    }
}

impl PageSource for Inventory {
    fn page<'a>(&'a self, request: PageRequest<'a>) -> BoxFuture<'a, Result<Page, PageError>> {
        let made = async move {
            self.made(&request)
                .map_err(|error| PageError::new(PageErrorKind::Fatal, error.to_string()))
        };
        made.boxed()
    }

    fn capabilities(&self) -> PageCapabilities {
        PageCapabilities {
            start_after: StartAfter::Exclusive,
            prefixes: Prefixes::Any,
            page_size: PAGE,
            page_size_is_learned: false,
            most_in_flight: Some(AT_ONCE),
            price: 0.0,
            sends_requests: false,
        }
    }

    fn key(&self, relative: &str) -> String {
        if relative.is_empty() {
            self.prefix.trim_end_matches('/').to_owned()
        } else {
            format!("{}{relative}", self.prefix)
        }
    }
}

pub(super) fn unreadable(error: &io::Error) -> Error {
    Error::new(ErrorKind::Listing, format!("cannot read the sorted listing: {error}"))
        .with_hint("run the same command again")
}

#[cfg(test)]
mod tests {
    use super::super::blocks::Row;
    use super::super::sorter::Sorter;
    use super::*;

    fn inventory(keys: &[&str], prefix: &str) -> Inventory {
        let mut sorter = Sorter::new(std::env::temp_dir(), 1 << 20);
        for (size, key) in (1..).zip(keys) {
            let key = format!("1/{key}").into_bytes();
            sorter.push(&Row { key, size, last_modified: 5, e_tag: b"\"x-3\"".to_vec() }).unwrap();
        }
        for other in ["0/a", "2/a"] {
            sorter.push(&Row { key: other.into(), ..Row::default() }).unwrap();
        }
        let table = Arc::new(sorter.finish().unwrap());
        Inventory::new(table, "1/".to_owned()).of_prefix(prefix)
    }

    fn texts<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
        texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }

    #[test]
    fn pages_are_those_of_a_service() {
        let source = inventory(&["a/c/0", "a/c/1", "a/zarr.json", "b/0"], "s/t");
        let request = PageRequest { prefix: "s/t/a/", max_keys: 2, ..PageRequest::default() };
        let first = source.made(&request).unwrap();
        assert_eq!(texts(first.keys()), ["s/t/a/c/0", "s/t/a/c/1"]);
        assert_eq!((first.truncated, first.e_tag(0)), (true, b"\"x-3\"".as_slice()));
        let second =
            source.made(&PageRequest { token: first.next_token.as_deref(), ..request }).unwrap();
        assert_eq!(
            (texts(second.keys()), second.truncated),
            (vec!["s/t/a/zarr.json".into()], false)
        );
        let after = PageRequest { start_after: Some("s/t/a/c/0"), ..request };
        assert_eq!(texts(source.made(&after).unwrap().keys()), ["s/t/a/c/1", "s/t/a/zarr.json"]);
        let between = PageRequest { start_after: Some("s/t/a/c/00"), ..request };
        assert_eq!(texts(source.made(&between).unwrap().keys()), ["s/t/a/c/1", "s/t/a/zarr.json"]);
        let behind = PageRequest { start_after: Some("s/u"), ..request };
        assert!(source.made(&behind).unwrap().is_empty());
        let exact = PageRequest { prefix: "s/t/b/", max_keys: 1, ..request };
        assert!(!source.made(&exact).unwrap().truncated);
    }

    #[test]
    fn a_level_is_its_objects_and_folders() {
        let source = inventory(&["a/c/0", "a/c/1", "a0", "a/zarr.json", "zarr.json"], "");
        let request = PageRequest { grouped: true, ..PageRequest::default() };
        let page = source.made(&request).unwrap();
        assert_eq!(
            (texts(page.folders()), texts(page.keys())),
            (vec!["a/".into()], vec!["a0".into(), "zarr.json".into()])
        );
        let below = source.made(&PageRequest { prefix: "a/", ..request }).unwrap();
        assert_eq!(
            (texts(below.folders()), texts(below.keys())),
            (vec!["a/c/".into()], vec!["a/zarr.json".into()])
        );
    }

    #[test]
    fn one_object_is_found_by_its_key() {
        let source = inventory(&["a/0", "b/0"], "s");
        assert_eq!(source.find("b/0").unwrap().map(|info| info.size), Some(2));
        assert_eq!(source.find("a").unwrap(), None);
        assert_eq!(source.keys_at(&[0.0, 1.0]).unwrap(), ["s/", "s/"]);
    }
}
