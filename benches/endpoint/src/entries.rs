//! The XML of a page's entries. Remembers where each entry begins so that faults can reorder them.

use crate::array::etag_low;
use crate::cursor::write_decimal;
use crate::faults::{Faults, Order, mix};
use crate::source::Source;
use crate::start::From;
use crate::time;
use crate::xml::{escape, hex16, url_encode};

/// Writes entries and remembers where each begins.
pub(crate) struct Writer<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) starts: Vec<usize>,
    pub(crate) url_encoded: bool,
    /// The last entry, when it may be the page's last one.
    pub(crate) last: From,
}

impl Writer<'_> {
    pub(crate) fn start(&mut self) {
        self.starts.push(self.out.len());
    }

    pub(crate) fn text(&mut self, text: &[u8]) {
        if self.url_encoded {
            url_encode(text, self.out);
        } else {
            escape(text, self.out);
        }
    }

    pub(crate) fn source(&mut self, source: &mut Source<'_>) {
        self.start();
        match source {
            Source::Objects(range) => {
                if let Some((key, stored)) = range.peek() {
                    let modified = time::rfc3339(stored.modified);
                    let etag = Some(stored.etag.trim_matches('"').as_bytes());
                    self.entry(key, &modified, etag, stored.body.len() as u64, false);
                }
            }
            Source::Array { array, cursor: Some(cursor), modified, plain } => {
                let identity = array.identity(cursor.coords());
                let mut etag = [0; 32];
                if array.etag {
                    hex16(identity, &mut etag[..16]);
                    hex16(etag_low(identity), &mut etag[16..]);
                }
                let etag = array.etag.then_some(etag.as_slice());
                self.entry(cursor.key(), modified, etag, array.size(identity), *plain);
            }
            Source::Array { cursor: None, .. } => {}
        }
    }

    /// One `Contents` element; `plain` keys need no escaping.
    pub(crate) fn entry(
        &mut self,
        key: &[u8],
        modified: &str,
        etag: Option<&[u8]>,
        size: u64,
        plain: bool,
    ) {
        self.out.extend_from_slice(b"<Contents><Key>");
        if plain && !self.url_encoded {
            self.out.extend_from_slice(key);
        } else {
            self.text(key);
        }
        let out = &mut *self.out;
        out.extend_from_slice(b"</Key><LastModified>");
        out.extend_from_slice(modified.as_bytes());
        out.extend_from_slice(b"</LastModified>");
        if let Some(etag) = etag {
            out.extend_from_slice(b"<ETag>&quot;");
            out.extend_from_slice(etag);
            out.extend_from_slice(b"&quot;</ETag>");
        }
        out.extend_from_slice(b"<Size>");
        write_decimal(size, out);
        out.extend_from_slice(b"</Size><StorageClass>STANDARD</StorageClass></Contents>");
    }

    /// Puts the entries into the order that the faults ask for.
    pub(crate) fn reorder(&mut self, faults: &Faults) {
        if faults.order == Order::Ascending || self.starts.len() < 2 {
            return;
        }
        let first = self.starts[0];
        let entries = self.out[first..].to_vec();
        let end = self.out.len();
        let ends = self.starts.iter().skip(1).chain([&end]);
        let mut ranges: Vec<_> =
            self.starts.iter().zip(ends).map(|(a, b)| a - first..b - first).collect();
        match faults.order {
            Order::Ascending => {}
            Order::Descending => ranges.reverse(),
            Order::Shuffled => {
                for i in (1..ranges.len()).rev() {
                    let roll = mix(faults.seed, i as u64) % (i as u64 + 1);
                    ranges.swap(i, usize::try_from(roll).unwrap_or(0));
                }
            }
        }
        self.out.truncate(first);
        for range in ranges {
            self.out.extend_from_slice(&entries[range]);
        }
    }
}
