//! One page of a listing: keys, sizes and times in two allocations, however many entries.

use std::ops::Range;

use futures::stream::BoxStream;

use crate::Result;

/// Pages of a listing, in the order the store gives them.
pub type PageStream = BoxStream<'static, Result<Page>>;

/// Size and time of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Bytes.
    pub size: u64,
    /// Microseconds since 1970-01-01 UTC; fractions of a microsecond are rounded up.
    pub last_modified: i64,
    /// As the service gave it.
    pub e_tag: Option<String>,
}

#[derive(Debug, Clone)]
struct Entry {
    key: Range<usize>,
    e_tag: Range<usize>,
    size: u64,
    last_modified: i64,
}

/// The objects of one page.
#[derive(Debug, Clone, Default)]
pub struct Page {
    text: Vec<u8>,
    entries: Vec<Entry>,
    requests: u64,
}

impl Page {
    /// Objects on this page.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the page holds no object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Requests (S3) or directory reads (local) that this page cost.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The objects: key, size in bytes, last-modified in µs since 1970 UTC, `ETag` (empty: none).
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64, i64, &[u8])> {
        self.entries.iter().map(|entry| {
            let bytes = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
            (bytes(&entry.key), entry.size, entry.last_modified, bytes(&entry.e_tag))
        })
    }
}

/// Fills a [`Page`].
#[derive(Debug, Default)]
pub struct PageBuilder {
    page: Page,
}

impl PageBuilder {
    /// Adds an object; arguments as [`Page::iter`] gives them.
    pub fn push(&mut self, key: &[u8], size: u64, last_modified: i64, e_tag: &[u8]) {
        let start = self.page.text.len();
        self.page.text.extend_from_slice(key);
        let middle = self.page.text.len();
        self.page.text.extend_from_slice(e_tag);
        let end = self.page.text.len();
        self.page.entries.push(Entry {
            key: start..middle,
            e_tag: middle..end,
            size,
            last_modified,
        });
    }

    /// Counts a request (or a directory read) towards this page.
    pub fn count_request(&mut self) {
        self.page.requests += 1;
    }

    /// Objects so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.page.len()
    }

    /// Whether there is nothing to report: no object and no request.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.page.is_empty() && self.page.requests == 0
    }

    /// The finished page; the builder starts anew.
    #[must_use]
    pub fn take(&mut self) -> Page {
        std::mem::take(&mut self.page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gives_back_what_was_put_in() {
        let mut builder = PageBuilder::default();
        builder.push(b"c/0", 7, -1, b"\"tag\"");
        builder.push(b"\xff", 0, 5, b"");
        builder.count_request();
        let page = builder.take();
        let entries: Vec<_> = page.iter().collect();
        assert_eq!(
            entries,
            [
                (b"c/0".as_slice(), 7, -1, b"\"tag\"".as_slice()),
                (b"\xff".as_slice(), 0, 5, b"".as_slice()),
            ]
        );
        assert_eq!(page.requests(), 1);
        assert!(builder.is_empty());
    }
}
