//! The XML of a page's entries. Remembers where each entry begins so that faults can reorder them.

use crate::array::etag_low;
use crate::asked::Dialect;
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
    pub(crate) dialect: Dialect,
    /// Common prefixes as JSON texts, where they stand apart from the entries.
    pub(crate) folders: Vec<String>,
    /// The last entry, when it may be the page's last one.
    pub(crate) last: From,
    /// The last time written, as S3 and as HTTP write it.
    pub(crate) date: (String, String),
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

    /// As [`Self::text`]; `plain` keys need no escaping.
    fn key(&mut self, key: &[u8], plain: bool) {
        if plain && !self.url_encoded {
            self.out.extend_from_slice(key);
        } else {
            self.text(key);
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

    /// One common prefix.
    pub(crate) fn folder(&mut self, common: &[u8]) {
        self.start();
        let (open, close): (&[u8], &[u8]) = match self.dialect {
            Dialect::S3 => (b"<CommonPrefixes><Prefix>", b"</Prefix></CommonPrefixes>"),
            Dialect::Azure => (b"<BlobPrefix><Name>", b"</Name></BlobPrefix>"),
            Dialect::GoogleJson => {
                return self.folders.push(json(common));
            }
        };
        self.out.extend_from_slice(open);
        self.text(common);
        self.out.extend_from_slice(close);
    }

    /// One object; `plain` keys need no escaping.
    pub(crate) fn entry(
        &mut self,
        key: &[u8],
        modified: &str,
        etag: Option<&[u8]>,
        size: u64,
        plain: bool,
    ) {
        match self.dialect {
            Dialect::S3 => self.contents(key, modified, etag, size, plain),
            Dialect::GoogleJson => {
                let name =
                    if plain { String::from_utf8_lossy(key).into_owned() } else { json(key) };
                let quote = if plain { "\"" } else { "" };
                let item = format!(
                    "{{\"name\":{quote}{name}{quote},\"size\":\"{size}\",\"timeCreated\":\"{modified}\"}},"
                );
                self.out.extend_from_slice(item.as_bytes());
            }
            Dialect::Azure => self.blob(key, modified, etag, size, plain),
        }
    }

    /// One blob, with the properties that the service gives.
    fn blob(&mut self, key: &[u8], modified: &str, etag: Option<&[u8]>, size: u64, plain: bool) {
        if self.date.0 != modified {
            let date = time::http_date(time::parse_rfc3339(modified).unwrap_or_default());
            self.date = (modified.to_owned(), date);
        }
        self.out.extend_from_slice(b"<Blob><Name>");
        self.key(key, plain);
        let (out, date) = (&mut *self.out, self.date.1.as_bytes());
        out.extend_from_slice(b"</Name><Properties><Creation-Time>");
        out.extend_from_slice(date);
        out.extend_from_slice(b"</Creation-Time><Last-Modified>");
        out.extend_from_slice(date);
        out.extend_from_slice(b"</Last-Modified><Etag>");
        out.extend_from_slice(etag.unwrap_or_default());
        out.extend_from_slice(b"</Etag><Content-Length>");
        write_decimal(size, out);
        out.extend_from_slice(b"</Content-Length><Content-Type>application/octet-stream</Content-Type><Content-Encoding /><Content-Language /><Content-CRC64 /><Content-MD5 /><Cache-Control /><Content-Disposition /><BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier><AccessTierInferred>true</AccessTierInferred><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState><ServerEncrypted>true</ServerEncrypted></Properties><OrMetadata /></Blob>");
    }

    fn contents(
        &mut self,
        key: &[u8],
        modified: &str,
        etag: Option<&[u8]>,
        size: u64,
        plain: bool,
    ) {
        self.out.extend_from_slice(b"<Contents><Key>");
        self.key(key, plain);
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

/// A JSON text.
fn json(text: &[u8]) -> String {
    serde_json::Value::from(String::from_utf8_lossy(text)).to_string()
}
