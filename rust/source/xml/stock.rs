//! What the stock parser of `object_store` does not tell or gets wrong, read off the body beforehand
//! by plain searches, and the way from its result to a [`Page`]. Used for unusual bodies and when
//! the stock parser is asked for.

use bytes::Bytes;
use memchr::memmem;
use object_store::list::PaginatedListResult;

use super::document::Refusal;
use super::entity;
use crate::source::page::{Page, PageEntry};

/// What the body says beyond what the stock parser gives; travels with the response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    /// `IsTruncated` is true.
    truncated: bool,
    /// `encoding-type=url` was applied to the keys.
    url_encoded: bool,
}

/// Looks at a body that the stock parser is to read.
///
/// # Errors
/// A [`Refusal`] when the stock parser would make an empty or short page, or other keys, of it:
/// it takes any document for a listing, and drops slashes at the ends of keys.
pub(crate) fn inspect(body: &[u8]) -> Result<Notes, Refusal> {
    let end = body.trim_ascii_end();
    let has_root = memmem::find(body, b"ListBucketResult").is_some();
    if !has_root {
        return Err(Refusal::NotAListing);
    }
    if !end.ends_with(b"ListBucketResult>") && !end.ends_with(b"/>") {
        return Err(Refusal::Incomplete);
    }
    let says = |element: &[u8], value: &[u8]| {
        memmem::find_iter(body, element).any(|at| {
            let rest = &body[at + element.len()..];
            rest.trim_ascii_start().starts_with(value)
        })
    };
    if memmem::find(body, b"/</Key>").is_some() || memmem::find(body, b"<Key>/").is_some() {
        return Err(Refusal::Unusual("a key that begins or ends with a slash"));
    }
    Ok(Notes {
        truncated: says(b"IsTruncated>", b"true"),
        url_encoded: says(b"EncodingType>", b"url"),
    })
}

/// A page from what the stock parser read. Without notes (a store without our connector) a page
/// counts as truncated when it has a token.
pub(crate) fn page(listed: PaginatedListResult, notes: Option<Notes>) -> Page {
    let mut buf = Vec::new();
    let mut put = |text: &[u8]| {
        let start = buf.len();
        buf.extend_from_slice(text);
        // Bodies are limited far below 4 GiB, and texts are no longer than the body.
        let offset = |at| u32::try_from(at).unwrap_or(u32::MAX);
        offset(start)..offset(buf.len())
    };
    let url_encoded = notes.is_some_and(|notes| notes.url_encoded);
    let mut entries = Vec::with_capacity(listed.result.objects.len());
    for object in &listed.result.objects {
        let key = object.location.as_ref().as_bytes();
        let decoded = url_encoded.then(|| entity::percent_decode(key)).flatten();
        entries.push(PageEntry {
            key: put(decoded.as_deref().unwrap_or(key)),
            e_tag: put(object.e_tag.as_deref().unwrap_or_default().as_bytes()),
            size: object.size,
            last_modified: object.last_modified.timestamp_micros(),
        });
    }
    let mut folders = Vec::with_capacity(listed.result.common_prefixes.len());
    for prefix in &listed.result.common_prefixes {
        let folder = prefix.as_ref().as_bytes();
        let decoded = url_encoded.then(|| entity::percent_decode(folder)).flatten();
        folders.push(put(&[decoded.as_deref().unwrap_or(folder), b"/"].concat()));
    }
    let next_token = listed.page_token.filter(|token| !token.is_empty());
    let truncated = next_token.is_some() || notes.is_some_and(|notes| notes.truncated);
    Page { buf: Bytes::from(buf), entries, folders, truncated, next_token, ..Page::default() }
}
