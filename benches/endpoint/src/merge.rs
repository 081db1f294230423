//! All sources of keys, computed arrays and stored objects, as one sequence in byte order without
//! duplicates. Decides which key comes next; how an entry looks is `entries`' business.

use std::ops::Bound;

use crate::bucket::Bucket;
use crate::cursor::Cursor;
use crate::entries::Writer;
use crate::faults::Faults;
use crate::source::Source;
use crate::start::From;
use crate::time;

/// All sources, as one ordered sequence of keys within the prefix.
pub(crate) struct Merge<'a> {
    bucket: &'a Bucket,
    faults: &'a Faults,
    prefix: &'a [u8],
    sources: Vec<Source<'a>>,
    /// What the keys of the first array begin with that is not among the sources yet.
    rest: Option<&'a [u8]>,
}

/// Arrays that are looked at together: a page of many small ones has keys of so few.
const TOGETHER: usize = 64;

impl<'a> Merge<'a> {
    pub(crate) fn new(
        bucket: &'a Bucket,
        faults: &'a Faults,
        prefix: &'a [u8],
        from: &From,
    ) -> Self {
        let past;
        let (mut bound, mut exclusive): (&[u8], bool) = match from {
            From::Start => (prefix, false),
            From::After(key) => (key, true),
            From::Inclusive(key) => (key, false),
            From::PastPrefix(common) => {
                past = after_prefix(common);
                (&past, false)
            }
        };
        if bound < prefix {
            (bound, exclusive) = (prefix, false);
        }
        let mut merge = Self { bucket, faults, prefix, sources: Vec::new(), rest: None };
        merge.seek(bound, exclusive);
        merge
    }

    fn seek(&mut self, bound: &[u8], exclusive: bool) {
        self.sources.clear();
        if !self.faults.hide_objects {
            let lower = if exclusive { Bound::Excluded(bound) } else { Bound::Included(bound) };
            let range = self.bucket.objects.range::<[u8], _>((lower, Bound::Unbounded));
            self.sources.push(Source::Objects(range.peekable()));
        }
        self.rest = None;
        let arrays = &self.bucket.arrays;
        // Any other one that comes before has all its keys before.
        let around = (0..bound.len()).filter_map(|end| arrays.get_key_value(&bound[..end]));
        let after = arrays.range::<[u8], _>((Bound::Included(bound), Bound::Unbounded));
        for (base, array) in around.chain(after) {
            if self.sources.len() > TOGETHER {
                self.rest = Some(base);
                break;
            }
            let cursor = Cursor::seek(array, bound, exclusive);
            if cursor.is_none() {
                continue;
            }
            self.sources.push(Source::Array {
                array,
                cursor,
                modified: time::rfc3339(array.modified),
                plain: !array.base.iter().any(|b| matches!(b, b'&' | b'<' | b'>' | b'"' | 0..32)),
            });
        }
    }

    fn hidden(&self, key: &[u8], stored: bool) -> bool {
        (!stored && self.bucket.deleted.contains(key))
            || self.faults.hide_keys.iter().any(|hidden| hidden.as_bytes() == key)
    }

    /// Whether no key at all is hidden.
    fn nothing_hidden(&self) -> bool {
        self.bucket.deleted.is_empty() && self.faults.hide_keys.is_empty()
    }

    /// The source with the smallest key, and the smallest key of the others. Hidden keys and keys
    /// that a source before gives too are skipped.
    pub(crate) fn head(&mut self) -> Option<(usize, Option<Vec<u8>>)> {
        loop {
            let mut best: Option<(usize, Vec<u8>)> = None;
            let mut second: Option<Vec<u8>> = None;
            let prefix = self.prefix;
            let mut duplicate = None;
            for (i, source) in self.sources.iter_mut().enumerate() {
                let Some(key) = source.key().filter(|key| key.starts_with(prefix)) else {
                    continue;
                };
                match &best {
                    Some((_, smallest)) if key == smallest => duplicate = Some(i),
                    Some((_, smallest)) if key > smallest.as_slice() => {
                        if second.as_ref().is_none_or(|s| key < s.as_slice()) {
                            second = Some(key.to_vec());
                        }
                    }
                    _ => {
                        let larger = best.replace((i, key.to_vec())).map(|(_, key)| key);
                        second = larger.or(second);
                    }
                }
            }
            if let Some(i) = duplicate {
                self.sources[i].advance();
                continue;
            }
            if let Some(rest) = self.rest {
                if best.as_ref().is_none_or(|(_, key)| key.as_slice() >= rest) {
                    // Nothing before it is left.
                    let bound = rest.max(prefix).to_vec();
                    if !bound.starts_with(prefix) {
                        return None;
                    }
                    self.seek(&bound, false);
                    continue;
                }
                if second.as_ref().is_none_or(|key| key.as_slice() > rest) {
                    second = Some(rest.to_vec());
                }
            }
            let (i, key) = best?;
            let stored = matches!(self.sources[i], Source::Objects(_));
            if !self.nothing_hidden() && self.hidden(&key, stored) {
                self.sources[i].advance();
                continue;
            }
            return Some((i, second));
        }
    }

    /// Writes entries from the source with the smallest key for as long as it has the smallest.
    /// `false` at the end of the listing.
    pub(crate) fn write_run(&mut self, writer: &mut Writer<'_>, max_keys: usize) -> bool {
        let Some((i, second)) = self.head() else {
            return false;
        };
        let quiet = self.nothing_hidden();
        let prefix = self.prefix;
        let source = &mut self.sources[i];
        loop {
            writer.source(source);
            let full = writer.starts.len() >= max_keys;
            if full {
                writer.last = source.key().map_or(From::Start, |key| From::After(key.to_vec()));
            }
            source.advance();
            if full || !quiet {
                return true;
            }
            match (source.key(), &second) {
                (Some(key), None) if key.starts_with(prefix) => {}
                (Some(key), Some(s)) if key < s.as_slice() && key.starts_with(prefix) => {}
                _ => return true,
            }
        }
    }

    /// Writes the next key, or the common prefix that stands for it and those that follow.
    pub(crate) fn write_grouped(
        &mut self,
        writer: &mut Writer<'_>,
        delimiter: &[u8],
        skip: usize,
    ) -> bool {
        let Some((i, _)) = self.head() else {
            return false;
        };
        let key = self.sources[i].key().unwrap_or_default().to_vec();
        if let Some(at) = memchr::memmem::find(&key[skip..], delimiter) {
            let common = &key[..skip + at + delimiter.len()];
            writer.folder(common);
            writer.last = From::PastPrefix(common.to_vec());
            self.seek(&after_prefix(common), false);
        } else {
            writer.source(&mut self.sources[i]);
            self.sources[i].advance();
            writer.last = From::After(key);
        }
        true
    }
}

/// The smallest string after every string that begins with `prefix` (empty for none such, which
/// cannot happen for a prefix that ends in a delimiter).
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut bound = prefix.to_vec();
    while let Some(last) = bound.pop() {
        if last < u8::MAX {
            bound.push(last + 1);
            break;
        }
    }
    bound
}
