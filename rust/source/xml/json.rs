//! Pages of Google Cloud Storage's JSON API: the request made of that for the XML API, which
//! `object_store` knows and signs, and the answer read without a tree.
//!
//! Form of the documents: <https://docs.cloud.google.com/storage/docs/json_api/v1/objects/list>.

use std::borrow::Cow;
use std::fmt;

use http::Uri;
use serde::Deserialize;
use serde::de::{Error as _, Visitor};

use super::instant;
use super::refusal::Refusal;
use crate::source::page::{Page, PageBuilder};

/// What is asked for of each object; all else would be most of the answer.
const FIELDS: &str = "nextPageToken,prefixes,items(name,size,timeCreated)";

/// The same request to the JSON API; `None` when it does not look as expected.
pub(super) fn request(list: &Uri) -> Option<Uri> {
    let mut url = url::Url::parse(&list.to_string()).ok()?;
    let pairs: Vec<(String, String)> = url
        .query_pairs()
        .filter_map(|(name, value)| {
            let name = match name.as_ref() {
                "prefix" | "delimiter" => name.as_ref(),
                "continuation-token" => "pageToken",
                "start-after" => "startOffset",
                "max-keys" => "maxResults",
                _ => return None,
            };
            Some((name.to_owned(), value.into_owned()))
        })
        .collect();
    let (base, bucket) = url.path().trim_end_matches('/').rsplit_once('/')?;
    let path = format!("{base}/storage/v1/b/{bucket}/o");
    url.set_path(&path);
    // An offset is of no use beside a token.
    let continued = pairs.iter().any(|(name, _)| name == "pageToken");
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs.iter().filter(|(name, _)| !continued || name != "startOffset"));
    query.append_pair("projection", "noAcl").append_pair("fields", FIELDS);
    url.set_query(Some(&query.finish()));
    url.as_str().parse().ok()
}

/// Whether an answer is from the JSON API at all.
pub(super) fn is_json(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{")
}

/// Reads a page; its keys are copied out of the body.
///
/// # Errors
///
/// [`Refusal::Incomplete`] when the body breaks off, [`Refusal::Unusual`] when it is not a listing.
pub(super) fn read(body: &[u8]) -> Result<Page, Refusal> {
    let listing: Listing<'_> = serde_json::from_slice(body).map_err(|error| {
        if error.is_eof() { Refusal::Incomplete } else { Refusal::Unusual("not a JSON listing") }
    })?;
    let mut builder = PageBuilder::default();
    builder.reserve(listing.items.len(), body.len() / 2);
    let mut last: (Cow<'_, str>, i64) = (Cow::Borrowed(""), 0);
    for item in listing.items {
        if item.time != last.0 || last.0.is_empty() {
            let Some(micros) = instant::parse(item.time.as_bytes()) else {
                return Err(Refusal::Unusual("a date in another form"));
            };
            last = (item.time, micros);
        }
        if !builder.push(item.name.as_bytes(), item.size.0, last.1, b"") {
            return Err(Refusal::Unusual("4 GiB or more"));
        }
    }
    if !listing.prefixes.iter().all(|folder| builder.push_folder(folder.as_bytes())) {
        return Err(Refusal::Unusual("4 GiB or more"));
    }
    let token = listing.next_page_token.filter(|token| !token.is_empty());
    Ok(builder.finish(token.is_some(), token))
}

#[derive(Deserialize)]
struct Listing<'a> {
    #[serde(borrow, default)]
    items: Vec<Item<'a>>,
    #[serde(default)]
    prefixes: Vec<String>,
    #[serde(default, rename = "nextPageToken")]
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    size: Size,
    /// Not `updated`, which changes with metadata: reads are judged by the time of the content.
    #[serde(borrow, rename = "timeCreated")]
    time: Cow<'a, str>,
}

/// A number that is written as text.
struct Size(u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map(Size).map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Size, E> {
                Ok(Size(number))
            }
        }
        deserializer.deserialize_any(Digits).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_what_it_asks_for() {
        let list = "http://h:1/base/my-bucket?list-type=2&prefix=a%2Fb+c&start-after=a%2Fb%2F9&max-keys=5000";
        let asked = request(&list.parse().unwrap()).unwrap().to_string();
        assert!(asked.starts_with("http://h:1/base/storage/v1/b/my-bucket/o?prefix=a%2Fb+c&startOffset=a%2Fb%2F9&maxResults=5000&projection=noAcl"), "{asked}");
        let next = "http://h/b?list-type=2&continuation-token=t%3D&start-after=x";
        let asked = request(&next.parse().unwrap()).unwrap().to_string();
        assert!(asked.contains("pageToken=t%3D") && !asked.contains("startOffset"), "{asked}");
    }

    #[test]
    fn a_page_is_read_whatever_else_it_holds() {
        let page = read(
            br#"{"kind": "storage#objects", "nextPageToken": "t", "prefixes": ["a/c/"],
            "items": [{"name": "a/\u00fc\"", "size": "7", "timeCreated": "2024-02-29T23:59:58.120Z",
            "md5Hash": "x", "metadata": {"a": "b"}},
            {"size": 8, "timeCreated": "2024-02-29T23:59:58.120Z", "name": "b"}]}"#,
        )
        .unwrap();
        assert_eq!(page.keys().collect::<Vec<_>>(), ["a/ü\"".as_bytes(), b"b"]);
        assert_eq!(page.folders().collect::<Vec<_>>(), [b"a/c/"]);
        assert_eq!((page.truncated, page.next_token.as_deref()), (true, Some("t")));
        let (size, time) = (page.entries[1].size, page.entries[1].last_modified);
        assert_eq!((size, time), (8, 1_709_251_198_120_000));
        let empty = read(b"{}").unwrap();
        assert!(empty.is_empty() && !empty.truncated);
    }

    #[test]
    fn what_breaks_off_is_told_from_what_is_wrong() {
        assert_eq!(read(br#"{"items": [{"name": "a"#).unwrap_err(), Refusal::Incomplete);
        for wrong in [r#"{"items": 5}"#, r#"{"items": [{"name": "a", "size": "-1"}]}"#] {
            assert!(matches!(read(wrong.as_bytes()), Err(Refusal::Unusual(_))), "{wrong}");
        }
    }
}
