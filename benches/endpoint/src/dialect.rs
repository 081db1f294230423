//! The three forms in which listings are asked for and answered: S3's (and Google's XML API), Google's
//! JSON API, and Azure's. What a page holds is `list`'s business.

use crate::asked::{Dialect, ListRequest, Page};
use crate::http::Request;
use crate::xml::{escape, url_encode};

/// The first version of Azure's service with `startFrom`.
const VERSION_WITH_START: &str = "2026-02-06";

impl Dialect {
    /// Which one a request is in, and the bucket that it names; `None` when it is no LIST.
    pub(crate) fn of(request: &Request) -> Option<(Self, &[u8])> {
        let path = request.path.strip_prefix(b"/").unwrap_or_default();
        if request.method != "GET" {
            return None;
        }
        if let Some(rest) = path.strip_prefix(b"storage/v1/b/") {
            return Some((Self::GoogleJson, rest.strip_suffix(b"/o")?));
        }
        let slash = memchr::memchr(b'/', path).unwrap_or(path.len());
        if path.len() > slash + 1 {
            return None;
        }
        let azure = request.query("comp") == Some(b"list");
        Some((if azure { Self::Azure } else { Self::S3 }, &path[..slash]))
    }

    /// Whether the request is one that the service understands.
    pub(crate) fn understands(self, request: &Request) -> bool {
        self != Self::S3 || request.query_text("list-type").as_deref() == Some("2")
    }

    /// What is asked for, of pages of at most `page_size` keys.
    pub(crate) fn request(self, request: &Request, page_size: usize) -> ListRequest {
        let (start, token, most) = match self {
            Self::S3 => ("start-after", "continuation-token", "max-keys"),
            Self::GoogleJson => ("startOffset", "pageToken", "maxResults"),
            Self::Azure => ("startFrom", "marker", "maxresults"),
        };
        let usual = if self == Self::Azure { 5000 } else { 1000 };
        let wanted = request.query_text(most).and_then(|text| text.parse().ok());
        let version = request.header("x-ms-version").unwrap_or_default();
        let knows_start = self != Self::Azure || version >= VERSION_WITH_START;
        ListRequest {
            dialect: self,
            prefix: request.query("prefix").unwrap_or_default().to_vec(),
            delimiter: request.query("delimiter").unwrap_or_default().to_vec(),
            start_after: request.query(start).filter(|_| knows_start).map(<[u8]>::to_vec),
            token: request.query_text(token).filter(|token| !token.is_empty()),
            max_keys: wanted.unwrap_or(usual).min(page_size),
            url_encoded: request.query("encoding-type") == Some(b"url"),
        }
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::S3 | Self::Azure => "application/xml",
            Self::GoogleJson => "application/json",
        }
    }

    /// The document up to the first entry.
    pub(crate) fn head(self, name: &str, list: &ListRequest, page: &Page) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        match self {
            Self::S3 => head_of_s3(name, list, page, &mut out),
            Self::GoogleJson => out.extend_from_slice(br#"{"kind":"storage#objects","items":["#),
            Self::Azure => {
                out.extend_from_slice(
                    b"\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"http://127.0.0.1/\" ContainerName=\"",
                );
                escape(name.as_bytes(), &mut out);
                out.extend_from_slice(b"\"><Prefix>");
                escape(&list.prefix, &mut out);
                out.extend_from_slice(b"</Prefix><Blobs>");
            }
        }
        out
    }

    /// Ends the document whose entries `out` holds.
    pub(crate) fn end(self, page: &Page, out: &mut Vec<u8>) {
        let token = page.next_token.as_deref();
        match self {
            Self::S3 => out.extend_from_slice(b"</ListBucketResult>"),
            Self::GoogleJson => {
                if out.last() == Some(&b',') {
                    out.pop();
                }
                out.extend_from_slice(b"],\"prefixes\":[");
                out.extend_from_slice(page.folders.join(",").as_bytes());
                out.push(b']');
                if let Some(token) = token {
                    out.extend_from_slice(format!(",\"nextPageToken\":\"{token}\"").as_bytes());
                }
                out.push(b'}');
            }
            Self::Azure => {
                out.extend_from_slice(b"</Blobs>");
                match token {
                    Some(token) => {
                        out.extend_from_slice(
                            format!("<NextMarker>{token}</NextMarker>").as_bytes(),
                        );
                    }
                    None => out.extend_from_slice(b"<NextMarker />"),
                }
                out.extend_from_slice(b"</EnumerationResults>");
            }
        }
    }
}

fn head_of_s3(name: &str, list: &ListRequest, page: &Page, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
    );
    let mut element = |name: &str, text: &[u8], url: bool| {
        out.extend_from_slice(format!("<{name}>").as_bytes());
        if url {
            url_encode(text, out);
        } else {
            escape(text, out);
        }
        out.extend_from_slice(format!("</{name}>").as_bytes());
    };
    element("Name", name.as_bytes(), false);
    element("Prefix", &list.prefix, list.url_encoded);
    if !list.delimiter.is_empty() {
        element("Delimiter", &list.delimiter, list.url_encoded);
    }
    if let Some(start_after) = &list.start_after {
        element("StartAfter", start_after, list.url_encoded);
    }
    if let Some(token) = &list.token {
        element("ContinuationToken", token.as_bytes(), false);
    }
    if let Some(token) = &page.next_token {
        element("NextContinuationToken", token.as_bytes(), false);
    }
    if list.url_encoded {
        element("EncodingType", b"url", false);
    }
    element("KeyCount", page.count.to_string().as_bytes(), false);
    element("MaxKeys", list.max_keys.to_string().as_bytes(), false);
    element("IsTruncated", page.truncated.to_string().as_bytes(), false);
}
