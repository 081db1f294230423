//! Reads the body of a `ListObjectsV2` response in place: no tree, no string for a key.
//! Understands the XML that S3, `MinIO`, Ceph, versitygw, Google's XML API and the like write, in any
//! order of elements. Whatever else XML allows is not guessed at: it is [`Refusal::Unusual`], and
//! the caller hands the body to a full parser. Knows nothing of HTTP.
//!
//! Form of the document:
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>.

use std::ops::Range;

use bytes::Bytes;

use super::instant;
use super::lexer::{Lexer, Step, Text, unusual};
use super::places::{decode, offset};
pub use super::refusal::Refusal;
use crate::source::page::{Echoed, Page, PageEntry};

/// Elements of the document that matter.
const KNOWN_IN_DOCUMENT: &[&[u8]] =
    &[b"Contents", b"IsTruncated", b"NextContinuationToken", b"EncodingType", b"CommonPrefixes"];

/// Elements of an object that matter.
const KNOWN_IN_CONTENTS: &[&[u8]] = &[b"Key", b"LastModified", b"ETag", b"Size"];

/// Reads a page. The body becomes the page's buffer; when it is refused it comes back unchanged.
///
/// # Errors
/// The body, with the reason. Bodies of 2 GiB and more are [`Refusal::Unusual`].
pub fn scan(body: Vec<u8>) -> Result<Page, (Refusal, Vec<u8>)> {
    if i32::try_from(body.len()).is_err() {
        return Err((Refusal::Unusual("2 GiB or more"), body));
    }
    let mut scanner = Scanner::new(&body);
    // An entry takes some 200 bytes of XML.
    scanner.entries.reserve(body.len() / 200 + 1);
    scanner.quotes.reserve(body.len() / 100 + 2);
    if let Err(refusal) = scanner.document() {
        return Err((refusal, body));
    }
    let Scanner {
        xml,
        mut entries,
        mut folders,
        quotes,
        truncated,
        next_token,
        echo,
        url_encoded,
        ..
    } = scanner;
    let side = xml.side;
    let mut buf = body;
    for at in quotes {
        buf[at as usize] = b'"';
    }
    buf.extend_from_slice(&side);
    if url_encoded {
        let keys = entries.iter_mut().map(|entry| &mut entry.key);
        keys.chain(&mut folders).for_each(|key| decode(&mut buf, key));
    }
    let next_token = next_token.filter(|token| !token.is_empty());
    let truncated = truncated.unwrap_or(false) || next_token.is_some();
    // What is escaped twice is not compared.
    let echo = Some(echo).filter(|_| !url_encoded);
    Ok(Page {
        buf: Bytes::from(buf),
        entries,
        folders,
        truncated,
        next_token,
        echo,
        found_start: None,
        other_requests: 0,
        waiting: 0,
    })
}

/// Looks only at how the document begins.
///
/// # Errors
/// As [`scan`]'s, as far as the beginning shows them.
pub(crate) fn root(body: &[u8]) -> Result<(), Refusal> {
    let mut scanner = Scanner::new(body);
    scanner.xml.prolog()?;
    scanner.root()
}

struct Scanner<'a> {
    xml: Lexer<'a>,
    entries: Vec<PageEntry>,
    folders: Vec<Range<u32>>,
    /// Places in the body that are to become `"`, so that most `ETag`s stay where they are.
    quotes: Vec<u32>,
    /// The last date read: listings repeat them.
    date: (&'a [u8], i64),
    truncated: Option<bool>,
    next_token: Option<String>,
    echo: Echoed,
    url_encoded: bool,
}

impl<'a> Scanner<'a> {
    fn new(body: &'a [u8]) -> Self {
        Self {
            xml: Lexer::new(body),
            entries: Vec::new(),
            folders: Vec::new(),
            quotes: Vec::new(),
            date: (b"", 0),
            truncated: None,
            next_token: None,
            echo: Echoed::default(),
            url_encoded: false,
        }
    }

    fn document(&mut self) -> Step<()> {
        self.xml.prolog()?;
        self.root()?;
        self.body()?;
        self.xml.skip_space();
        if self.xml.rest().is_empty() { Ok(()) } else { unusual("something after the document") }
    }

    fn root(&mut self) -> Step<()> {
        match self.xml.rest() {
            [] => Err(Refusal::Incomplete),
            [b'<', b'!' | b'?', ..] | [0xEF, 0xBB, 0xBF, ..] => unusual("before the document"),
            [b'<', ..] => {
                let tag = self.xml.tag()?;
                if tag.ends_with(b"/") {
                    return unusual("a document without contents");
                }
                let name_end = tag.iter().position(u8::is_ascii_whitespace);
                let (name, attributes) = tag.split_at(name_end.unwrap_or(tag.len()));
                match name {
                    b"ListBucketResult" if namespace_only(attributes) => Ok(()),
                    b"ListBucketResult" => unusual("attributes of the document"),
                    b"Error" => Err(self.error_document()),
                    _ if name.contains(&b':') => unusual("a namespace prefix"),
                    _ => Err(Refusal::NotAListing),
                }
            }
            _ => Err(Refusal::NotAListing),
        }
    }

    fn error_document(&self) -> Refusal {
        let text = |open: &[u8], close: &[u8]| {
            let rest = self.xml.rest();
            let start = memchr::memmem::find(rest, open)? + open.len();
            let end = memchr::memmem::find(&rest[start..], close)?;
            let text = String::from_utf8_lossy(&rest[start..start + end]);
            Some(text.chars().take(400).collect::<String>())
        };
        Refusal::ErrorDocument {
            code: text(b"<Code>", b"</Code>").unwrap_or_default(),
            message: text(b"<Message>", b"</Message>").unwrap_or_default(),
        }
    }

    /// The elements of the document, up to and with its end.
    fn body(&mut self) -> Step<()> {
        loop {
            if self.xml.eat(b"<Contents>") {
                let entry = self.contents()?;
                self.entries.push(entry);
            } else if self.xml.eat(b"</ListBucketResult>") {
                return Ok(());
            } else if self.xml.eat(b"<IsTruncated>") {
                let value = match self.xml.leaf(b"</IsTruncated>")? {
                    Text::Plain(b"true") => true,
                    Text::Plain(b"false") => false,
                    _ => return unusual("IsTruncated is neither true nor false"),
                };
                if self.truncated.replace(value).is_some() {
                    return unusual("IsTruncated twice");
                }
            } else if self.xml.eat(b"<NextContinuationToken>") {
                let text = self.xml.leaf(b"</NextContinuationToken>")?;
                let range = self.xml.place(&text);
                let bytes = self.resolve(&range);
                let Ok(token) = std::str::from_utf8(bytes) else {
                    return unusual("a token that is not UTF-8");
                };
                if token.trim_ascii() != token {
                    return unusual("white space around a token");
                }
                let token = token.to_owned();
                if self.next_token.replace(token).is_some() {
                    return unusual("NextContinuationToken twice");
                }
            } else if self.xml.eat(b"<StartAfter>") {
                self.echo.start_after = self.echoed(b"</StartAfter>")?;
            } else if self.xml.eat(b"<Prefix>") {
                self.echo.prefix = self.echoed(b"</Prefix>")?;
            } else if self.xml.eat(b"<CommonPrefixes>") {
                self.common_prefixes()?;
            } else if self.xml.eat(b"<EncodingType>") {
                match self.xml.leaf(b"</EncodingType>")? {
                    Text::Plain(b"url") => self.url_encoded = true,
                    Text::Plain(b"") => {}
                    _ => return unusual("an unknown EncodingType"),
                }
            } else {
                self.xml.ignored(b"</ListBucketResult>", KNOWN_IN_DOCUMENT)?;
            }
        }
    }

    /// What an element repeats of the request, after its opening tag; nothing when it is empty.
    fn echoed(&mut self, close: &[u8]) -> Step<Option<Vec<u8>>> {
        let text = self.xml.leaf(close)?;
        let range = self.xml.place(&text);
        Ok(Some(self.resolve(&range).to_vec()).filter(|echo| !echo.is_empty()))
    }

    /// One `CommonPrefixes` element after its opening tag.
    fn common_prefixes(&mut self) -> Step<()> {
        while !self.xml.eat(b"</CommonPrefixes>") {
            if self.xml.eat(b"<Prefix>") {
                let text = self.xml.leaf(b"</Prefix>")?;
                let folder = self.xml.place(&text);
                self.folders.push(folder);
            } else {
                self.xml.ignored(b"</CommonPrefixes>", &[b"Prefix"])?;
            }
        }
        Ok(())
    }

    /// One `Contents` element after its opening tag.
    fn contents(&mut self) -> Step<PageEntry> {
        let (mut key, mut e_tag, mut size, mut last_modified) = (None, None, None, None);
        loop {
            // The usual order first; each of these falls through when the element is elsewhere.
            let from = self.xml.at;
            if self.xml.eat(b"<Key>") {
                let text = self.xml.leaf(b"</Key>")?;
                once(&mut key, self.xml.place(&text))?;
            }
            if self.xml.eat(b"<LastModified>") {
                once(&mut last_modified, self.date()?)?;
            }
            if self.xml.eat(b"<ETag>") {
                once(&mut e_tag, self.e_tag()?)?;
            }
            if self.xml.eat(b"<Size>") {
                once(&mut size, self.size()?)?;
            }
            if self.xml.eat(b"<StorageClass>STANDARD</StorageClass></Contents>")
                || self.xml.eat(b"</Contents>")
            {
                break;
            }
            if self.xml.at == from {
                self.xml.ignored(b"</Contents>", KNOWN_IN_CONTENTS)?;
            }
        }
        let (Some(key), Some(size), Some(last_modified)) = (key, size, last_modified) else {
            return unusual("an object without key, size or date");
        };
        Ok(PageEntry { key, e_tag: e_tag.unwrap_or(0..0), size, last_modified })
    }

    fn date(&mut self) -> Step<i64> {
        let (repeated, micros) = self.date;
        let after = self.xml.rest().strip_prefix(repeated);
        if after.is_some_and(|after| after.starts_with(b"</LastModified>")) && !repeated.is_empty()
        {
            self.xml.at += repeated.len() + b"</LastModified>".len();
            return Ok(micros);
        }
        let Text::Plain(text) = self.xml.leaf(b"</LastModified>")? else {
            return unusual("an escaped date");
        };
        let Some(micros) = instant::parse(text) else {
            return unusual("a date in another form");
        };
        self.date = (text, micros);
        Ok(micros)
    }

    fn size(&mut self) -> Step<u64> {
        let mut size = 0u64;
        let mut digits = 0;
        for byte in self.xml.rest() {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            let next = size.checked_mul(10).and_then(|s| s.checked_add(u64::from(digit)));
            let Some(next) = next else {
                return unusual("a size beyond 64 bits");
            };
            size = next;
            digits += 1;
        }
        self.xml.at += digits;
        self.xml.expect(b"</Size>", "a size that is not a plain number")?;
        if digits == 0 {
            return unusual("no size");
        }
        Ok(size)
    }

    fn e_tag(&mut self) -> Step<Range<u32>> {
        if let Some(range) = self.quoted(b"&quot;").or_else(|| self.quoted(b"&#34;")) {
            return Ok(range);
        }
        let text = self.xml.leaf(b"</ETag>")?;
        let range = self.xml.place(&text);
        let tag = self.resolve(&range);
        if tag.trim_ascii() != tag || std::str::from_utf8(tag).is_err() {
            return unusual("an ETag with white space around it, or not UTF-8");
        }
        Ok(range)
    }

    /// The usual `ETag`, plain text between two entities for `"`. The last byte of the first entity
    /// and the first of the second are to become the quotes; the text between stays where it is.
    fn quoted<const N: usize>(&mut self, quote: &[u8; N]) -> Option<Range<u32>> {
        let rest = self.xml.rest().strip_prefix(quote)?;
        let text = memchr::memchr3(b'&', b'<', b'\r', rest)?;
        let after = rest[text..].strip_prefix(quote)?;
        if !after.starts_with(b"</ETag>") || !rest[..text].is_ascii() {
            return None;
        }
        let start = self.xml.at + N;
        let (open, close) = (offset(start - 1), offset(start + text));
        self.quotes.push(open);
        self.quotes.push(close);
        self.xml.at = start + text + N + b"</ETag>".len();
        Some(open..close + 1)
    }

    /// The bytes of such a range, before the buffer is put together.
    fn resolve(&self, range: &Range<u32>) -> &[u8] {
        let (start, end) = (range.start as usize, range.end as usize);
        match start.checked_sub(self.xml.body.len()) {
            Some(side) if end > start => &self.xml.side[side..side + (end - start)],
            _ => &self.xml.body[start.min(self.xml.body.len())..end.min(self.xml.body.len())],
        }
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Step<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => unusual("an element twice"),
    }
}

/// Whether these are no attributes, or one `xmlns`.
fn namespace_only(attributes: &[u8]) -> bool {
    let attributes = attributes.trim_ascii();
    let Some(value) = attributes.strip_prefix(b"xmlns=") else {
        return attributes.is_empty();
    };
    let quoted = |quote| match value {
        [first, inner @ .., last] => {
            *first == quote && *last == quote && memchr::memchr3(quote, b'<', b'&', inner).is_none()
        }
        _ => false,
    };
    quoted(b'"') || quoted(b'\'')
}
