//! One page of a listing and the narrow interface through which pages are asked for.
//!
//! A page holds keys exactly as the service gave them, in two allocations however many entries.
//! How a service is spoken to, and what the keys mean, is not known here.

use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;

pub use super::page_error::{PageError, PageErrorKind};
use super::retry::RetryPolicy;

/// Keys of one page of S3 (`ListObjectsV2`, `MaxKeys`).
pub const PAGE_SIZE: u32 = 1_000;

/// One object of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageEntry {
    /// Where the object's full key is in the page's buffer.
    pub key: Range<u32>,
    /// Bytes.
    pub size: u64,
    /// Microseconds since 1970-01-01 UTC.
    pub last_modified: i64,
    /// Where the `ETag` is in the page's buffer; empty when there is none.
    pub e_tag: Range<u32>,
}

/// What a service repeats of a request in its answer, as the request had it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Echoed {
    /// The string that all keys begin with.
    pub prefix: Option<Vec<u8>>,
    /// The string that all keys are greater than.
    pub start_after: Option<Vec<u8>>,
}

/// The answer to one LIST request.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The text that the entries point into.
    pub buf: Bytes,
    /// The objects, in the order in which the service gave them.
    pub entries: Vec<PageEntry>,
    /// Where the folders are in the page's buffer, each with its final slash; only of a request for
    /// one level of keys.
    pub folders: Vec<Range<u32>>,
    /// Whether the service says that there is more.
    pub truncated: bool,
    /// With what to ask for the next page.
    pub next_token: Option<String>,
    /// What it repeats of the request; None where nobody looked.
    pub echo: Option<Echoed>,
    /// Whether the string to start after came first, as a key, where the service
    /// [includes](StartAfter::Inclusive) it; the key is not among the entries.
    pub found_start: Option<bool>,
    /// LIST requests that were sent for it beside the one that a page is: less than none where it was
    /// cut out of a page that the listing of a neighbour has asked for.
    pub other_requests: i64,
    /// Answers to other requests that had come and whose turn to be read had not when this one came.
    pub waiting: u32,
}

impl Page {
    /// Objects on this page.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the page holds no object.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The full key of entry `index`; empty beyond the last.
    pub fn key(&self, index: usize) -> &[u8] {
        self.entries.get(index).map_or(&[], |entry| self.text(&entry.key))
    }

    /// The `ETag` of entry `index` as the service gave it; empty when there is none.
    pub fn e_tag(&self, index: usize) -> &[u8] {
        self.entries.get(index).map_or(&[], |entry| self.text(&entry.e_tag))
    }

    /// The folders of the page: common prefixes of keys, with their final slashes.
    pub fn folders(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.folders.iter().map(|range| self.text(range))
    }

    /// The first and the last key.
    pub fn ends(&self) -> Option<(&[u8], &[u8])> {
        let last = self.len().checked_sub(1)?;
        Some((self.key(0), self.key(last)))
    }

    /// All keys in the order of the page.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.entries.iter().map(|entry| self.text(&entry.key))
    }

    /// The same page without the key to start after, of a service that includes it.
    #[must_use]
    pub fn after(mut self, start: &str) -> Self {
        let found = self.keys().next().is_some_and(|first| first == start.as_bytes());
        // An empty page that has a successor says nothing yet.
        self.found_start = if self.is_empty() && self.truncated { None } else { Some(found) };
        if found {
            self.entries.remove(0);
        }
        self
    }

    /// How many keys come before the first that `holds` is false of; keys must be in order.
    pub fn partition_point(&self, holds: impl Fn(&[u8]) -> bool) -> usize {
        self.entries.partition_point(|entry| holds(self.text(&entry.key)))
    }

    /// The entries in a range of positions as a page of their own, the last of all there are.
    #[must_use]
    pub fn part(&self, entries: Range<usize>) -> Self {
        let entries = self.entries.get(entries).unwrap_or_default().to_vec();
        Self { buf: self.buf.clone(), entries, ..Self::default() }
    }

    /// The same page with a buffer that holds its keys and tags only, and the buffer that it had.
    ///
    /// A page may wait for a consumer; the document that it came in is several times as large.
    #[must_use]
    pub fn compacted(self) -> (Self, Bytes) {
        let texts = self
            .entries
            .iter()
            .map(|entry| self.text(&entry.key).len() + self.text(&entry.e_tag).len());
        let folders: usize = self.folders().map(<[u8]>::len).sum();
        let mut builder = PageBuilder {
            buf: Vec::with_capacity(texts.sum::<usize>() + folders),
            entries: Vec::with_capacity(self.entries.len()),
            folders: Vec::with_capacity(self.folders.len()),
        };
        for entry in &self.entries {
            let (key, e_tag) = (self.text(&entry.key), self.text(&entry.e_tag));
            if !builder.push(key, entry.size, entry.last_modified, e_tag) {
                return (self, Bytes::new());
            }
        }
        if !self.folders().all(|folder| builder.push_folder(folder)) {
            return (self, Bytes::new());
        }
        let page = builder.finish(self.truncated, self.next_token);
        let page = Self {
            echo: self.echo,
            found_start: self.found_start,
            other_requests: self.other_requests,
            waiting: self.waiting,
            ..page
        };
        (page, self.buf)
    }

    fn text(&self, range: &Range<u32>) -> &[u8] {
        // A u32 fits the usize of every platform that this runs on.
        self.buf.get(range.start as usize..range.end as usize).unwrap_or_default()
    }
}

/// What one LIST request asks for. The default is the first page of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest<'a> {
    /// Only keys that begin with this string, which need not end in `/`.
    pub prefix: &'a str,
    /// Only keys greater than this string, which need not be a key; with a service that
    /// [includes](StartAfter::Inclusive) it, the key itself too.
    pub start_after: Option<&'a str>,
    /// Continue where the page that gave this token ended; counts more than `start_after`.
    pub token: Option<&'a str>,
    /// At most so many keys.
    pub max_keys: u32,
    /// Only one level: of keys with a further `/` behind the prefix, the folders that they are in.
    pub grouped: bool,
}

impl Default for PageRequest<'_> {
    fn default() -> Self {
        Self { prefix: "", start_after: None, token: None, max_keys: 1_000, grouped: false }
    }
}

/// How a service lists from a given string on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StartAfter {
    /// Keys greater than the string: `ListObjectsV2` of S3, with `start-after`.
    #[default]
    Exclusive,
    /// Keys that are not less than it: Azure's `startFrom`, `startOffset` of Google Cloud Storage.
    Inclusive,
    /// It does not: S3 Express, and whatever does not list in byte order.
    None,
}

/// Which strings a service takes for the beginning of the keys that are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Prefixes {
    /// Any.
    #[default]
    Any,
    /// Only those that end in `/`: S3 Express.
    Folders,
}

/// What a service's listings can do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PageCapabilities {
    /// From where on it lists.
    pub start_after: StartAfter,
    /// Below what.
    pub prefixes: Prefixes,
    /// Keys that it gives at most in one page.
    pub page_size: u32,
    /// Whether that is only what is asked for: how many come is learned from the answers.
    pub page_size_is_learned: bool,
    /// Pages that are asked for at most at a time, however many may be in flight.
    pub most_in_flight: Option<usize>,
    /// US dollars for a thousand requests, by list price.
    pub price: f64,
    /// Whether a page is a request; not where an inventory has them all.
    pub sends_requests: bool,
}

impl PageCapabilities {
    /// Keys beyond a start that one request brings: a service that includes the start gives one
    /// key less.
    #[must_use]
    pub fn new_keys(&self) -> u32 {
        let start = u32::from(self.start_after == StartAfter::Inclusive);
        self.page_size.saturating_sub(start).max(1)
    }
}

impl Default for PageCapabilities {
    /// Those of S3.
    fn default() -> Self {
        Self {
            start_after: StartAfter::default(),
            prefixes: Prefixes::default(),
            page_size: PAGE_SIZE,
            page_size_is_learned: false,
            most_in_flight: None,
            price: 0.005,
            sends_requests: true,
        }
    }
}

/// A service that lists objects page by page.
///
/// One call is one request; retrying is the caller's business. Dropping the future gives the
/// request up.
pub trait PageSource: Send + Sync {
    /// Asks for one page. `start_after` means what the [capabilities](Self::capabilities) say.
    fn page<'a>(&'a self, request: PageRequest<'a>) -> BoxFuture<'a, Result<Page, PageError>>;

    /// What its listings can do; those of S3 unless it says otherwise.
    fn capabilities(&self) -> PageCapabilities {
        PageCapabilities::default()
    }

    /// Takes note that its keys do not come in byte order, whatever it says of itself.
    fn note_disorder(&self) {}

    /// The whole key of something relative to the root of the source.
    fn key(&self, relative: &str) -> String {
        relative.to_owned()
    }

    /// How persistent its listings are.
    fn retries(&self) -> RetryPolicy {
        RetryPolicy::default()
    }
}

/// Builds a page key by key, for sources that do not hold a response body to point into.
#[derive(Debug, Default)]
pub struct PageBuilder {
    buf: Vec<u8>,
    entries: Vec<PageEntry>,
    folders: Vec<Range<u32>>,
}

impl PageBuilder {
    /// Makes room for so many objects and bytes of text.
    pub fn reserve(&mut self, objects: usize, text: usize) {
        self.entries.reserve(objects);
        self.buf.reserve(text);
    }

    /// Adds an object; `last_modified` in microseconds since 1970 UTC, `e_tag` empty for none.
    ///
    /// False, with nothing added, when the page's text would exceed 4 GiB.
    pub fn push(&mut self, key: &[u8], size: u64, last_modified: i64, e_tag: &[u8]) -> bool {
        let ends = [0, key.len(), key.len() + e_tag.len()]
            .map(|length| u32::try_from(self.buf.len() + length));
        let [Ok(start), Ok(middle), Ok(end)] = ends else { return false };
        self.buf.extend_from_slice(key);
        self.buf.extend_from_slice(e_tag);
        self.entries.push(PageEntry {
            key: start..middle,
            size,
            last_modified,
            e_tag: middle..end,
        });
        true
    }

    /// Adds a folder, which ends in `/`; false as [`push`](Self::push).
    pub fn push_folder(&mut self, folder: &[u8]) -> bool {
        let ends = [0, folder.len()].map(|length| u32::try_from(self.buf.len() + length));
        let [Ok(start), Ok(end)] = ends else { return false };
        self.buf.extend_from_slice(folder);
        self.folders.push(start..end);
        true
    }

    /// The finished page.
    pub fn finish(self, truncated: bool, next_token: Option<String>) -> Page {
        Page {
            buf: self.buf.into(),
            entries: self.entries,
            folders: self.folders,
            truncated,
            next_token,
            ..Page::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gives_back_what_was_put_in() {
        let mut builder = PageBuilder::default();
        assert!(builder.push(b"a/c/0", 5, 7, b"\"x\""));
        assert!(builder.push(b"a/c/1", 6, 8, b""));
        assert!(builder.push_folder(b"a/c/2/"));
        let page = builder.finish(true, Some("next".to_owned()));
        assert_eq!(page.keys().collect::<Vec<_>>(), [b"a/c/0", b"a/c/1"]);
        assert_eq!((page.e_tag(0), page.e_tag(1)), (b"\"x\"".as_slice(), b"".as_slice()));
        assert_eq!((page.len(), page.key(2)), (2, b"".as_slice()));
        let keys: Vec<_> = page.keys().map(<[u8]>::to_vec).collect();
        let echo = Echoed { prefix: Some(b"a".to_vec()), start_after: None };
        let spread = Page {
            buf: [b"<Key>".as_slice(), &page.buf].concat().into(),
            entries: page
                .entries
                .iter()
                .map(|entry| PageEntry {
                    key: entry.key.start + 5..entry.key.end + 5,
                    e_tag: entry.e_tag.start + 5..entry.e_tag.end + 5,
                    ..entry.clone()
                })
                .collect(),
            folders: page.folders.iter().map(|range| range.start + 5..range.end + 5).collect(),
            echo: Some(echo.clone()),
            ..page.clone()
        };
        let (compact, buf) = spread.compacted();
        assert_eq!((compact.keys().map(<[u8]>::to_vec).collect(), buf.len()), (keys, 24));
        assert_eq!(compact.folders().collect::<Vec<_>>(), [b"a/c/2/"]);
        assert_eq!((compact.entries, compact.buf), (page.entries, page.buf));
        assert_eq!((compact.truncated, compact.next_token.as_deref()), (true, Some("next")));
        assert_eq!(compact.echo, Some(echo));
    }
}
