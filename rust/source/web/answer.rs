//! What the headers of an answer say of an object: its length, time and tag, and when to ask again.
//!
//! Source: RFC 9110 (Content-Range, Last-Modified, `ETag`, Retry-After, dates in three forms).

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, LAST_MODIFIED, RETRY_AFTER,
};
use http::{HeaderMap, StatusCode};

/// An object as an answer describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// Bytes.
    pub(crate) size: u64,
    /// Microseconds since 1970-01-01 UTC; servers may say nothing.
    pub(crate) last_modified: Option<i64>,
    /// As the server gave it.
    pub(crate) e_tag: Option<String>,
}

impl Described {
    /// Reads the headers of an answer with 200, 206 or 416; `None` when they do not tell how long
    /// the object is.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let size = match status {
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                text(headers, &CONTENT_RANGE)?.rsplit_once('/')?.1.trim().parse().ok()?
            }
            // What is compressed on its way has another length than the object.
            _ if text(headers, &CONTENT_ENCODING).is_some_and(|coding| coding != "identity") => {
                return None;
            }
            _ => text(headers, &CONTENT_LENGTH)?.trim().parse().ok()?,
        };
        let last_modified = text(headers, &LAST_MODIFIED).and_then(date);
        Some(Self {
            size,
            last_modified: last_modified.map(|time| time.timestamp_micros()),
            e_tag: text(headers, &ETAG).map(str::to_owned),
        })
    }
}

impl Described {
    /// Whether there is a tag that If-Match can be asked with.
    pub(crate) fn has_strong_tag(&self) -> bool {
        self.e_tag.as_deref().is_some_and(is_strong)
    }
}

/// Whether a tag stands for bytes, so that If-Match can be asked with it (RFC 9110, 8.8.3.2).
pub(super) fn is_strong(tag: &str) -> bool {
    tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"')
}

/// How long a server asks to be left alone.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let said = text(headers, &RETRY_AFTER)?.trim();
    if let Ok(seconds) = said.parse() {
        return Some(Duration::from_secs(seconds));
    }
    (date(said)? - Utc::now()).to_std().ok()
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A date in any of the forms of RFC 9110, 5.6.7.
fn date(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc2822(text) {
        return Some(time.to_utc());
    }
    ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn dates_come_in_three_forms() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(date(text).map(|time| time.timestamp()), Some(784_111_777), "{text}");
        }
        assert_eq!(date("yesterday"), None);
    }

    fn size(status: StatusCode, headers: &HeaderMap) -> Option<u64> {
        Described::of(status, headers).map(|found| found.size)
    }

    #[test]
    fn lengths_are_of_the_whole_object() {
        let part = headers(&[(&CONTENT_RANGE, "bytes 0-0/77"), (&CONTENT_LENGTH, "1")]);
        assert_eq!(size(StatusCode::PARTIAL_CONTENT, &part), Some(77));
        assert_eq!(size(StatusCode::OK, &headers(&[(&CONTENT_LENGTH, "9")])), Some(9));
        let empty = headers(&[(&CONTENT_RANGE, "bytes */0")]);
        assert_eq!(size(StatusCode::RANGE_NOT_SATISFIABLE, &empty), Some(0));
        for unknown in [
            headers(&[]),
            headers(&[(&CONTENT_LENGTH, "9"), (&CONTENT_ENCODING, "gzip")]),
            headers(&[(&CONTENT_LENGTH, "many")]),
        ] {
            assert_eq!(size(StatusCode::OK, &unknown), None, "{unknown:?}");
        }
        let unknown = headers(&[(&CONTENT_RANGE, "bytes 0-0/*"), (&CONTENT_LENGTH, "1")]);
        assert_eq!(size(StatusCode::PARTIAL_CONTENT, &unknown), None);
    }

    #[test]
    fn a_wait_is_a_number_or_a_date() {
        assert_eq!(retry_after(&headers(&[(&RETRY_AFTER, "3")])), Some(Duration::from_secs(3)));
        let later = (Utc::now() + chrono::TimeDelta::seconds(90)).to_rfc2822();
        let wait = retry_after(&headers(&[(&RETRY_AFTER, &later)])).unwrap();
        assert!((80..=90).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(retry_after(&headers(&[(&RETRY_AFTER, "soon")])), None);
    }

    #[test]
    fn only_strong_tags_can_be_asked_for() {
        assert!(is_strong("\"abc\""));
        for tag in ["W/\"abc\"", "abc", "\"\"", "\""] {
            assert!(!is_strong(tag), "{tag}");
        }
    }
}
