//! One object, read until it is right: as long as it was listed, with the digest of its `ETag`, and
//! no error document in its place.
//!
//! Only what the store says is not there counts as absent. How a store is spoken to is its own
//! file's business; what the bytes mean is the caller's, who may have a say in whether they are
//! right.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use md5::{Digest as _, Md5};

use super::Source;
use super::body::{Body, Failure, too_large};
use super::page_error::{PageError, PageErrorKind};
use super::retry::RetryPolicy;
use crate::{Error, ErrorKind, Result};

/// Reads of an object whose bytes are wrong, before that is an error.
const READS_OF_WRONG_BYTES: u32 = 4;

/// Says what is wrong with an object's bytes.
#[derive(Clone)]
pub struct Accept(pub Arc<AcceptFn>);

/// What an [`Accept`] holds.
pub type AcceptFn = dyn Fn(&Bytes) -> std::result::Result<(), String> + Send + Sync;

impl fmt::Debug for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Accept")
    }
}

/// What is known of an object before it is read.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Bytes, as listed; an object that was listed is there.
    pub size: Option<u64>,
    /// As listed.
    pub e_tag: Option<String>,
    /// Bytes that are too many to be read.
    pub limit: Option<u64>,
    /// Has the last word.
    pub accept: Option<Accept>,
    /// Another object of the store, likely to be there, whose `ETag` tells whether those of this
    /// store are digests.
    pub beside: Option<String>,
}

impl Source {
    /// The bytes of an object; `None` when it is not there and was not listed.
    ///
    /// Waits and reads again, with the source's persistence, after what may pass: an answer that is
    /// lost or breaks off, a service that is busy, and bytes that are not right.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Access`] when it is refused; [`ErrorKind::UnsupportedArray`] when there are more
    /// bytes than the limit; [`ErrorKind::Listing`] when it cannot be got as it should be. All name
    /// the key.
    pub async fn read(&self, key: &str, expected: &Expected) -> Result<Option<Bytes>> {
        let limit = expected.limit.unwrap_or(u64::MAX);
        let bytes = match self {
            Self::Bucket(source) => return read_from_server(source, key, expected).await,
            Self::Web(source) => return read_from_server(source, key, expected).await,
            Self::Local(source) => source.read(key, limit).await?,
            Self::Foreign(source) => match source.read(key).await?.map(Bytes::from) {
                Some(bytes) if expected.size.is_none() && bytes.len() as u64 > limit => {
                    let shown = format!("{}{key}", self.url_prefix());
                    return Err(too_large(&shown, bytes.len() as u64, limit));
                }
                bytes => bytes,
            },
        };
        let shown = || format!("{}{key}", self.url_prefix());
        let Some(bytes) = bytes else {
            return if expected.size.is_some() { Err(gone(&shown())) } else { Ok(None) };
        };
        match wrong(&bytes, None, expected) {
            None => checked(bytes, expected.accept.as_ref())
                .await
                .map(Some)
                .map_err(|(_, what)| damaged(&shown(), &what)),
            Some(what) => Err(damaged(&shown(), &what)),
        }
    }
}

/// A server that objects are read of, once or until they are right.
pub(super) trait Readable {
    /// Reads an object once, unless it is longer than `limit`; `None` when it is not there.
    async fn read_once(&self, key: &str, limit: u64) -> Result<Option<Body>, Failure>;

    /// How persistent reads are.
    fn retries(&self) -> RetryPolicy;

    /// The object's URL, for messages.
    fn shown(&self, key: &str) -> String;

    /// Whether this server was seen to make up `ETag`s that only look like digests.
    fn makes_up_tags(&self) -> &AtomicBool;

    /// The error of a read, of which asking again is of no use.
    fn unreadable(&self, key: &str, error: &PageError) -> Error;
}

async fn read_from_server(
    source: &impl Readable,
    key: &str,
    expected: &Expected,
) -> Result<Option<Bytes>> {
    let limit = expected.size.or(expected.limit).unwrap_or(u64::MAX);
    let retry = source.retries();
    let (mut failures, mut wrong_bytes) = (0, 0);
    let mut before: Option<Vec<u8>> = None;
    loop {
        let error = match source.read_once(key, limit).await {
            Ok(Some(body)) => {
                let tag = expected.e_tag.as_deref().filter(|_| body.e_tag.is_some());
                let tag = tag.or(body.e_tag.as_deref()).and_then(digest_of_tag);
                let what = match wrong(&body.bytes, tag.as_deref(), expected) {
                    None => match checked(body.bytes, expected.accept.as_ref()).await {
                        Ok(bytes) => return Ok(Some(bytes)),
                        Err((_, what)) => what,
                    },
                    Some(what) => {
                        let digest = md5(&body.bytes);
                        let same = before.replace(digest.clone()) == Some(digest);
                        let only_tag = wrong(&body.bytes, None, expected).is_none();
                        let last = wrong_bytes + 1 >= READS_OF_WRONG_BYTES;
                        // Once seen of one document, whole ones of this server are believed at once.
                        let known = source.makes_up_tags().load(Ordering::Relaxed)
                            && expected.beside.is_none()
                            && is_whole(&body.bytes);
                        if only_tag
                            && (known
                                || last && same && made_up(source, &body.bytes, expected).await)
                        {
                            source.makes_up_tags().store(true, Ordering::Relaxed);
                            return match checked(body.bytes, expected.accept.as_ref()).await {
                                Ok(bytes) => Ok(Some(bytes)),
                                Err((_, what)) => Err(damaged(&source.shown(key), &what)),
                            };
                        }
                        what
                    }
                };
                wrong_bytes += 1;
                if wrong_bytes >= READS_OF_WRONG_BYTES {
                    return Err(damaged(&source.shown(key), &what));
                }
                None
            }
            Ok(None) if expected.size.is_some() => {
                wrong_bytes += 1;
                if wrong_bytes >= READS_OF_WRONG_BYTES {
                    return Err(gone(&source.shown(key)));
                }
                None
            }
            Ok(None) => return Ok(None),
            Err(Failure::TooLarge(size)) if expected.size.is_none() => {
                return Err(too_large(&source.shown(key), size, limit));
            }
            Err(Failure::TooLarge(size)) => {
                wrong_bytes += 1;
                let what = format!("it has {size} bytes now, {limit} were listed");
                if wrong_bytes >= READS_OF_WRONG_BYTES {
                    return Err(damaged(&source.shown(key), &what));
                }
                None
            }
            Err(Failure::Page(error)) => Some(error),
        };
        // Bytes that are wrong are read again however few attempts a request has: whether they are
        // is seen only then.
        let wait = match error {
            None => retry.wait(PageErrorKind::Transient, wrong_bytes).unwrap_or(retry.first),
            Some(error) => {
                failures += 1;
                match retry.wait(error.kind, failures) {
                    Some(wait) => wait,
                    None => return Err(source.unreadable(key, &error)),
                }
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// What is wrong with bytes, as far as that can be told without knowing what they mean.
fn wrong(bytes: &Bytes, digest: Option<&[u8]>, expected: &Expected) -> Option<String> {
    let length = bytes.len() as u64;
    if let Some(size) = expected.size.filter(|size| *size != length) {
        return Some(format!("{length} bytes arrived, {size} were listed"));
    }
    match digest {
        Some(digest) if md5(bytes) == digest => None,
        Some(_) => Some("the MD5 of its bytes is not its ETag".to_owned()),
        // Of what a listing says that it is there, an error document may be so long by chance only.
        None => is_error_document(bytes).then(|| "an error document came".to_owned()),
    }
}

/// Asks a caller whether bytes are right, on a thread that may take its time.
async fn checked(
    bytes: Bytes,
    accept: Option<&Accept>,
) -> std::result::Result<Bytes, (Bytes, String)> {
    let Some(Accept(accept)) = accept.cloned() else { return Ok(bytes) };
    let looked_at = bytes.clone();
    match tokio::task::spawn_blocking(move || accept(&looked_at)).await {
        Ok(Ok(())) => Ok(bytes),
        Ok(Err(what)) => Err((bytes, what)),
        Err(failure) => Err((bytes, format!("it could not be checked: {failure}"))),
    }
}

/// Whether this store makes up `ETag`s that only look like digests, as some gateways do.
///
/// Told by another object; where none is named, which is so for metadata, by whether the bytes are
/// whole. Without an answer the tags are what they look like.
async fn made_up(source: &impl Readable, bytes: &Bytes, expected: &Expected) -> bool {
    let Some(beside) = &expected.beside else {
        return is_whole(bytes);
    };
    let mut made_up = false;
    for _ in 0..2 {
        let Ok(Some(body)) = source.read_once(beside, 1 << 26).await else { continue };
        let Some(digest) = body.e_tag.as_deref().and_then(digest_of_tag) else { continue };
        if md5(&body.bytes) == digest {
            return false;
        }
        made_up = true;
    }
    made_up
}

/// Whether bytes are one JSON object from its beginning to its end; Python's `NaN` may be in it.
fn is_whole(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii();
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return *byte == b'}' && at + 1 == bytes.len();
        }
    }
    false
}

/// The bytes of an `ETag` that looks like an MD5: 32 hexadecimal digits, and not weak.
pub(crate) fn digest_of_tag(tag: &str) -> Option<Vec<u8>> {
    let digits = tag.trim().trim_matches('"');
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..32).step_by(2).map(pair).collect()
}

/// The MD5 of bytes.
pub(crate) fn md5(bytes: &[u8]) -> Vec<u8> {
    Md5::digest(bytes).to_vec()
}

/// Whether bytes are the XML by which S3 and its kin tell of an error.
fn is_error_document(bytes: &[u8]) -> bool {
    let mut rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    if let Some(declared) = rest.strip_prefix(b"<?xml") {
        let Some(end) = memchr::memmem::find(declared, b"?>") else { return false };
        rest = declared.get(end + 2..).unwrap_or_default().trim_ascii_start();
    }
    let page = rest.get(..14).is_some_and(|start| start.eq_ignore_ascii_case(b"<!DOCTYPE html"));
    let named = rest.strip_prefix(b"<Error").or_else(|| rest.strip_prefix(b"<html"));
    page || named.is_some_and(|after| {
        after.first().is_some_and(|byte| matches!(byte, b'>' | b'/') || byte.is_ascii_whitespace())
    })
}

fn damaged(shown: &str, what: &str) -> Error {
    Error::new(ErrorKind::Listing, format!("{shown} cannot be read as it should be: {what}"))
        .with_hint(
            "if this happens again while nothing writes to the source, the object is damaged: leave its array \
             out with --skip",
        )
}

fn gone(shown: &str) -> Error {
    Error::new(ErrorKind::Listing, format!("{shown} was listed and is gone"))
        .with_hint("wait until nothing writes to the source, then run the command again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_an_md5_is_compared() {
        let digest = digest_of_tag("\"900150983cd24fb0d6963f7d28e17f72\"").unwrap();
        assert_eq!(digest, md5(b"abc"));
        for tag in [
            "W/\"900150983cd24fb0d6963f7d28e17f72\"",
            "900150983cd24fb0d6963f7d28e17f72-2",
            "\"\"",
            "x",
        ] {
            assert_eq!(digest_of_tag(tag), None, "{tag}");
        }
    }

    #[test]
    fn a_document_is_whole_or_not() {
        for document in ["{}", " {\"a\": {\"b\": [1, NaN]}}\n", "{\"a\": \"}\\\"{\"}"] {
            assert!(is_whole(document.as_bytes()), "{document}");
        }
        for document in ["", "{", "{\"a\": {}", "{}{}", "[1]", "x}", "{\"}", "1"] {
            assert!(!is_whole(document.as_bytes()), "{document}");
        }
    }

    #[test]
    fn error_documents_are_told_from_chunks() {
        for body in [
            "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code></Error>",
            "<Error/>",
            "<!doctype HTML><html>",
            "<html lang=\"en\">",
        ] {
            assert!(is_error_document(body.as_bytes()), "{body}");
        }
        for body in ["", "{}", "<Errors>", "<?xml", "<htm", "\u{1}\u{2}<Error>"] {
            assert!(!is_error_document(body.as_bytes()), "{body}");
        }
    }
}
