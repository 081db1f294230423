//! Reads the body of a List Blobs response of Azure in place, as [`document`](super::document)
//! reads those of S3. What is written otherwise than Azure writes it is [`Refusal::Unusual`].
//!
//! Form of the document: <https://learn.microsoft.com/rest/api/storageservices/list-blobs>.

use std::ops::Range;

use bytes::Bytes;

use super::instant;
use super::lexer::{Lexer, Step, Text, unusual};
use super::places::decode;
use super::refusal::Refusal;
use super::repeats::Repeats;
use crate::source::page::{Echoed, Page, PageEntry};

const KNOWN_IN_DOCUMENT: &[&[u8]] = &[b"Blobs", b"NextMarker"];
const KNOWN_IN_BLOBS: &[&[u8]] = &[b"Blob", b"BlobPrefix"];
const KNOWN_IN_BLOB: &[&[u8]] = &[b"Name", b"Properties"];
const KNOWN_IN_PROPERTIES: &[&[u8]] =
    &[b"Last-Modified", b"Etag", b"Content-Length", b"ResourceType"];

/// A page, and whether the account keeps folders as such: it then lists them among the blobs, and
/// not in the order of keys.
#[derive(Debug)]
pub(super) struct Blobs {
    pub(super) page: Page,
    pub(super) hierarchical: bool,
}

/// Reads a page. The body becomes the page's buffer; when it is refused it comes back unchanged.
///
/// # Errors
/// The body, with the reason. Bodies of 2 GiB and more are [`Refusal::Unusual`].
pub(super) fn scan(body: Vec<u8>) -> Result<Blobs, (Refusal, Vec<u8>)> {
    if i32::try_from(body.len()).is_err() {
        return Err((Refusal::Unusual("2 GiB or more"), body));
    }
    let mut scanner = Scanner {
        xml: Lexer::new(&body),
        entries: Vec::with_capacity(body.len() / 600 + 1),
        folders: Vec::new(),
        encoded: Vec::new(),
        date: (b"", 0),
        repeats: Repeats::default(),
        marker: None,
        prefix: None,
        hierarchical: false,
    };
    if let Err(refusal) = scanner.document() {
        return Err((refusal, body));
    }
    let Scanner { xml, mut entries, mut folders, encoded, marker, prefix, hierarchical, .. } =
        scanner;
    let side = xml.side;
    let mut buf = body;
    buf.extend_from_slice(&side);
    for name in encoded {
        let range = match name {
            Encoded::Entry(at) => entries.get_mut(at).map(|entry| &mut entry.key),
            Encoded::Folder(at) => folders.get_mut(at),
        };
        if let Some(range) = range {
            decode(&mut buf, range);
        }
    }
    let token = marker.filter(|marker| !marker.is_empty());
    let truncated = token.is_some();
    let buf = Bytes::from(buf);
    let echo = Some(Echoed { prefix, start_after: None });
    let page =
        Page { buf, entries, folders, truncated, next_token: token, echo, ..Page::default() };
    Ok(Blobs { page, hierarchical })
}

/// Whether a body is a whole listing, as far as its ends show it.
pub(super) fn looks_whole(body: &[u8]) -> bool {
    memchr::memmem::find(body, b"<EnumerationResults").is_some()
        && body.trim_ascii_end().ends_with(b"</EnumerationResults>")
}

/// A name that is percent-encoded, by its place.
enum Encoded {
    Entry(usize),
    Folder(usize),
}

struct Scanner<'a> {
    xml: Lexer<'a>,
    entries: Vec<PageEntry>,
    folders: Vec<Range<u32>>,
    encoded: Vec<Encoded>,
    /// The last date read: listings repeat them.
    date: (&'a [u8], i64),
    /// The properties that do not matter.
    repeats: Repeats,
    marker: Option<String>,
    /// Of the request, as the service repeats it.
    prefix: Option<Vec<u8>>,
    hierarchical: bool,
}

impl Scanner<'_> {
    fn document(&mut self) -> Step<()> {
        let _ = self.xml.eat(b"\xef\xbb\xbf");
        self.xml.prolog()?;
        match self.xml.rest() {
            [] => return Err(Refusal::Incomplete),
            [b'<', b'!' | b'?', ..] => return unusual("before the document"),
            [b'<', ..] => {}
            _ => return Err(Refusal::NotAListing),
        }
        let tag = self.xml.tag()?;
        let name = tag.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        if name != b"EnumerationResults" || tag.ends_with(b"/") {
            return Err(Refusal::NotAListing);
        }
        while !self.xml.eat(b"</EnumerationResults>") {
            if self.xml.eat(b"<Blobs>") {
                self.blobs()?;
            } else if self.xml.eat(b"<Blobs />")
                || self.xml.eat(b"<Blobs/>")
                || self.xml.eat(b"<NextMarker />")
                || self.xml.eat(b"<NextMarker/>")
            {
                // Nothing is in it.
            } else if self.xml.eat(b"<NextMarker>") {
                let Ok(marker) = String::from_utf8(self.text(b"</NextMarker>")?) else {
                    return unusual("a marker that is not UTF-8");
                };
                self.marker = Some(marker);
            } else if self.xml.eat(b"<Prefix>") {
                let prefix = self.text(b"</Prefix>")?;
                self.prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
            } else {
                self.xml.ignored(b"</EnumerationResults>", KNOWN_IN_DOCUMENT)?;
            }
        }
        self.xml.skip_space();
        if self.xml.rest().is_empty() { Ok(()) } else { unusual("something after the document") }
    }

    /// The text of an element after its opening tag.
    fn text(&mut self, close: &[u8]) -> Step<Vec<u8>> {
        Ok(match self.xml.leaf(close)? {
            Text::Plain(text) => text.to_vec(),
            Text::Escaped(range) => self.xml.side.get(range).unwrap_or_default().to_vec(),
        })
    }

    fn blobs(&mut self) -> Step<()> {
        while !self.xml.eat(b"</Blobs>") {
            if self.xml.eat(b"<Blob>") {
                self.blob()?;
            } else if self.xml.eat(b"<BlobPrefix>") {
                self.prefix()?;
            } else {
                self.xml.ignored(b"</Blobs>", KNOWN_IN_BLOBS)?;
            }
        }
        Ok(())
    }

    /// A name after its opening tag or before it; whether it is percent-encoded.
    fn name(&mut self) -> Step<Option<(Range<u32>, bool)>> {
        let encoded = if self.xml.eat(b"<Name>") {
            false
        } else if self.xml.eat(b"<Name Encoded=\"true\">") {
            true
        } else {
            return Ok(None);
        };
        let text = self.xml.leaf(b"</Name>")?;
        Ok(Some((self.xml.place(&text), encoded)))
    }

    fn prefix(&mut self) -> Step<()> {
        while !self.xml.eat(b"</BlobPrefix>") {
            if let Some((name, encoded)) = self.name()? {
                if encoded {
                    self.encoded.push(Encoded::Folder(self.folders.len()));
                }
                self.folders.push(name);
            } else {
                self.xml.ignored(b"</BlobPrefix>", &[b"Name"])?;
            }
        }
        Ok(())
    }

    /// One `Blob` element after its opening tag.
    fn blob(&mut self) -> Step<()> {
        let mut name = None;
        let mut properties = Properties::default();
        while !self.xml.eat(b"</Blob>") {
            if let Some(found) = self.name()? {
                name = Some(found);
            } else if self.xml.eat(b"<Properties>") {
                properties = self.properties()?;
            } else {
                self.xml.ignored(b"</Blob>", KNOWN_IN_BLOB)?;
            }
        }
        if properties.folder {
            self.hierarchical = true;
            return Ok(());
        }
        let Properties { size: Some(size), last_modified: Some(last_modified), e_tag, .. } =
            properties
        else {
            return unusual("a blob without size or date");
        };
        let Some((key, encoded)) = name else { return unusual("a blob without a name") };
        if encoded {
            self.encoded.push(Encoded::Entry(self.entries.len()));
        }
        self.entries.push(PageEntry { key, size, last_modified, e_tag });
        Ok(())
    }

    fn properties(&mut self) -> Step<Properties> {
        let mut found = Properties::default();
        self.repeats.rewind();
        while !self.xml.eat(b"</Properties>") {
            if self.xml.eat(b"<Last-Modified>") {
                found.last_modified = Some(self.date()?);
            } else if self.xml.eat(b"<Etag>") {
                let text = self.xml.leaf(b"</Etag>")?;
                found.e_tag = self.xml.place(&text);
            } else if self.xml.eat(b"<Content-Length>") {
                let Text::Plain(text) = self.xml.leaf(b"</Content-Length>")? else {
                    return unusual("an escaped size");
                };
                let size = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
                let Some(size) = size else { return unusual("a size that is not a plain number") };
                found.size = Some(size);
            } else if self.xml.eat(b"<ResourceType>") {
                let kind = self.xml.leaf(b"</ResourceType>")?;
                found.folder = matches!(kind, Text::Plain(b"directory"));
            } else {
                self.repeats.ignored(&mut self.xml, b"</Properties>", KNOWN_IN_PROPERTIES)?;
            }
        }
        Ok(found)
    }

    fn date(&mut self) -> Step<i64> {
        let Text::Plain(text) = self.xml.leaf(b"</Last-Modified>")? else {
            return unusual("an escaped date");
        };
        if text == self.date.0 && !text.is_empty() {
            return Ok(self.date.1);
        }
        let Some(micros) = instant::parse_http(text) else {
            return unusual("a date in another form");
        };
        self.date = (text, micros);
        Ok(micros)
    }
}

#[derive(Default)]
struct Properties {
    size: Option<u64>,
    last_modified: Option<i64>,
    e_tag: Range<u32>,
    folder: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\
        <EnumerationResults ServiceEndpoint=\"http://h/acc\" ContainerName=\"c\">\
        <Prefix>a/</Prefix><MaxResults>2</MaxResults><StartFrom>a/1</StartFrom>";

    fn blob(name: &str, kind: &str) -> String {
        format!(
            "<Blob>{name}<Properties><Creation-Time>x</Creation-Time>\
             <Last-Modified>Mon, 06 May 2024 07:08:09 GMT</Last-Modified><Etag>0x8D</Etag>{kind}\
             <Content-Length>17</Content-Length><Content-Encoding />\
             <LeaseStatus>unlocked</LeaseStatus></Properties><OrMetadata /></Blob>"
        )
    }

    fn scanned(blobs: &str, end: &str) -> Blobs {
        let text = format!("{HEAD}<Blobs>{blobs}</Blobs>{end}</EnumerationResults>");
        scan(text.into_bytes()).map_err(|(refusal, _)| refusal).unwrap()
    }

    #[test]
    fn a_page_is_read_as_azure_writes_it() {
        let names = [
            blob("<Name>a/1&amp;2</Name>", ""),
            blob("<Name Encoded=\"true\">a/%EF%BF%BE</Name>", "<ResourceType>file</ResourceType>"),
        ];
        let folder = "<BlobPrefix><Name>a/c/</Name></BlobPrefix>";
        let found = scanned(&format!("{}{folder}", names.concat()), "<NextMarker>2!m</NextMarker>");
        let page = found.page;
        assert_eq!(page.keys().collect::<Vec<_>>(), [b"a/1&2".as_slice(), "a/\u{fffe}".as_bytes()]);
        assert_eq!(page.folders().collect::<Vec<_>>(), [b"a/c/"]);
        assert_eq!((page.e_tag(0), page.entries[0].size), (b"0x8D".as_slice(), 17));
        assert_eq!(page.entries[0].last_modified, 1_714_979_289_000_000);
        assert_eq!((page.truncated, page.next_token.as_deref()), (true, Some("2!m")));
        assert!(!found.hierarchical);
    }

    #[test]
    fn folders_of_a_hierarchical_namespace_are_no_blobs() {
        let folder = blob("<Name>a/c</Name>", "<ResourceType>directory</ResourceType>");
        let found = scanned(&(folder + &blob("<Name>a/c/0</Name>", "")), "<NextMarker />");
        assert!(found.hierarchical && !found.page.truncated);
        assert_eq!(found.page.keys().collect::<Vec<_>>(), [b"a/c/0"]);
    }

    #[test]
    fn what_is_no_whole_listing_is_refused() {
        let text = format!("{HEAD}<Blobs>{}", blob("<Name>a/1</Name>", ""));
        for end in [HEAD.len(), text.len() - 9, text.len()] {
            let body = text.as_bytes()[..end].to_vec();
            assert_eq!(scan(body).unwrap_err().0, Refusal::Incomplete, "{end}");
        }
        for other in ["<html></html>", "what", "<EnumerationResults/>"] {
            assert_eq!(scan(other.into()).unwrap_err().0, Refusal::NotAListing, "{other}");
        }
    }

    /// Properties of one blob: those that matter, among any of those that do not.
    fn properties() -> impl Strategy<Value = (u64, Vec<usize>)> {
        (0..1000u64, proptest::collection::vec(0..IGNORED.len() + 3, 0..12))
    }

    const IGNORED: [&str; 7] = [
        "<Content-MD5 />",
        "<Content-MD5>aQ==</Content-MD5>",
        "<Content-MD5>aR==</Content-MD5>",
        "<AccessTier>Hot</AccessTier>",
        "<AccessTier>Hot</AccessTier>\n ",
        "<Metadata><Etag>no</Etag><Content-Length>5</Content-Length></Metadata>",
        "<Tags />",
    ];

    proptest! {
        #[test]
        fn what_is_the_same_in_many_blobs_is_skipped_and_nothing_else(
            blobs in proptest::collection::vec(properties(), 0..12)
        ) {
            let mut text = String::new();
            for (at, (size, places)) in blobs.iter().enumerate() {
                let known = [
                    "<Last-Modified>Mon, 06 May 2024 07:08:09 GMT</Last-Modified>".to_owned(),
                    format!("<Etag>{at}</Etag>"),
                    format!("<Content-Length>{size}</Content-Length>"),
                ];
                let mut left = 0..known.len();
                text += &["<Blob><Name>", &at.to_string(), "</Name><Properties>"].concat();
                for place in places {
                    text += match IGNORED.get(*place) {
                        Some(ignored) => ignored,
                        None => left.next().map_or("", |next| known[next].as_str()),
                    };
                }
                text += &known[left].concat();
                text += "</Properties><OrMetadata /></Blob>";
            }
            let page = scanned(&text, "<NextMarker />").page;
            let found: Vec<_> = (0..page.entries.len())
                .map(|at| (page.key(at).to_vec(), page.e_tag(at).to_vec(), page.entries[at].size))
                .collect();
            let expected: Vec<_> = blobs
                .iter()
                .enumerate()
                .map(|(at, (size, _))| {
                    (at.to_string().into_bytes(), at.to_string().into_bytes(), *size)
                })
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
