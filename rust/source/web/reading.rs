//! Objects of a web server, read whole, and the conditions that a server keeps of them.

use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;

use http::header::{IF_MATCH, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::answer::Described;
use super::client::{done_with, first_byte, lost};
use super::habits::is_gone;
use super::{Sent, WebSource, join};
use crate::error::network_hint;
use crate::source::body::{Body, Failure};
use crate::source::object::Readable;
use crate::source::page_error::{PageError, PageErrorKind};
use crate::source::retry::RetryPolicy;
use crate::source::staleness::{Condition, Conditional};
use crate::{Error, ErrorKind, Result};

impl Readable for WebSource {
    async fn read_once(&self, key: &str, limit: u64) -> Result<Option<Body>, Failure> {
        let path = join(&self.path, key);
        let url = self.site.url(&path);
        let mut response = self.site.client.ask(&Method::GET, url, &HeaderMap::new()).await?;
        let status = response.status();
        if !status.is_success() {
            done_with(response).await;
            if is_gone(status) {
                return Ok(None);
            }
            let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            // Some servers forbid what is not there.
            if status == StatusCode::FORBIDDEN
                && self.habits("").await.is_ok_and(|habits| habits.is_absent(status))
            {
                return Ok(None);
            }
            let kind = if refused { PageErrorKind::AccessDenied } else { PageErrorKind::Fatal };
            return Err(PageError::new(kind, format!("it answers {status}")).into());
        }
        let described = Described::of(status, response.headers());
        if let Some(size) = described.as_ref().map(|found| found.size).filter(|size| *size > limit)
        {
            return Err(Failure::TooLarge(size));
        }
        let mut bytes = bytes::BytesMut::new();
        while let Some(part) = response.chunk().await.map_err(lost)? {
            bytes.extend_from_slice(&part);
            if bytes.len() as u64 > limit {
                return Err(Failure::TooLarge(bytes.len() as u64));
            }
        }
        let bytes = bytes.freeze();
        if let Some(size) = described.as_ref().map(|found| found.size)
            && size != bytes.len() as u64
        {
            let text = format!("only {} of {size} bytes arrived", bytes.len());
            return Err(PageError::new(PageErrorKind::Transient, text).into());
        }
        *self.site.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
        Ok(Some(Body { bytes, e_tag: described.and_then(|found| found.e_tag) }))
    }

    fn retries(&self) -> RetryPolicy {
        self.site.retry.clone()
    }

    fn shown(&self, key: &str) -> String {
        format!("{}{key}", self.url_prefix())
    }

    fn makes_up_tags(&self) -> &AtomicBool {
        &self.site.made_up_tags
    }

    fn unreadable(&self, key: &str, error: &PageError) -> Error {
        if error.kind == PageErrorKind::AccessDenied {
            return self.refused(key, &error.message);
        }
        let what = format!("cannot read {}: {}", self.shown(key), error.message);
        let usual = "check the URL and the network, then run the same command again";
        let hint = network_hint(&what, usual);
        Error::new(ErrorKind::Listing, what).with_hint(hint)
    }
}

impl Conditional for WebSource {
    async fn refuses(&self, key: &str, condition: Condition<'_>) -> Result<bool> {
        let mut headers = first_byte();
        let (name, value) = match condition {
            Condition::UnmodifiedSince(time) => {
                (IF_UNMODIFIED_SINCE, time.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
            }
            Condition::Match(tag) => (IF_MATCH, tag.to_owned()),
        };
        let value = HeaderValue::from_str(&value).map_err(|error| {
            Error::new(ErrorKind::Listing, format!("no request can carry {name}: {error}"))
        })?;
        headers.insert(name, value);
        let response = self.persistently(&Method::GET, key, &headers, &Sent::default()).await?;
        let status = response.status();
        done_with(response).await;
        match status {
            // What is gone is not read either.
            StatusCode::PRECONDITION_FAILED => Ok(true),
            status if is_gone(status) => Ok(true),
            StatusCode::PARTIAL_CONTENT => Ok(false),
            StatusCode::OK => {
                let what = format!(
                    "the server ignores Range and answers with the whole of {}: Icechunk reads \
                     ranges only",
                    self.shown(key)
                );
                Err(Error::new(ErrorKind::Listing, what)
                    .with_hint("copy the store to a bucket or a folder"))
            }
            _ => Err(self.unreadable(
                key,
                &PageError::new(PageErrorKind::Fatal, format!("it answers {status}")),
            )),
        }
    }

    async fn time_of(&self, key: &str) -> Result<Option<i64>> {
        let found = self.describe(key).await?;
        Ok(found.and_then(|found| found.last_modified))
    }
}
