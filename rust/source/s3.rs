//! A Zarr store under a prefix of an S3-compatible bucket.
//!
//! Two clients of the same settings: one reads single objects, with `object_store`'s retries; one
//! lists, a page a call and without retries, so that the lister sees every refusal and can slow
//! down. Which pages to ask for is not known here.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use icechunk::ObjectStoreConfig;
use icechunk::config::{Credentials, S3Credentials, S3StaticCredentials};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore as _, ObjectStoreExt as _, RetryConfig};

use super::ObjectInfo;
use super::body::{Body, Failure};
use super::credentials::check;
use super::echo::Echo;
use super::page::{Page, PageError, PageErrorKind, PageRequest, PageSource};
use super::s3_settings::{S3Settings, is_plain};
use super::transport::Transport;
use super::xml::connector::{Answer, PageConnector, PageParser, Probe};
use super::xml::fetch::list_page;
use crate::error::{SOURCE_ACCESS_HINT, chain, redirected, refused};
use crate::source::retry::RetryPolicy;
use crate::{Error, ErrorKind, Result};

/// Environment variable that selects the parser of listings, for support cases: `xml` is
/// `object_store`'s own.
const PAGE_PARSER: &str = "REFREEZE_PAGE_PARSER";

/// A prefix of a bucket.
#[derive(Clone)]
pub struct S3Source {
    objects: Arc<AmazonS3>,
    lister: Arc<AmazonS3>,
    echo: Arc<Echo>,
    settings: S3Settings,
    prefix: String,
    retry: RetryPolicy,
    /// Whether Icechunk's own client could send these requests too.
    plain: bool,
}

impl fmt::Debug for S3Source {
    /// Settings only: the clients know credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Source")
            .field("settings", &self.settings)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl S3Source {
    /// The keys below `prefix` (without a trailing `/`; empty for the whole bucket).
    ///
    /// `builder` has everything applied: bucket, environment, options, credentials. The variable
    /// `REFREEZE_PAGE_PARSER` (`scan` or `xml`) chooses how listings are read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Access`] when the settings do not make a client.
    pub fn new(builder: AmazonS3Builder, prefix: &str) -> Result<Self> {
        Self::over(Transport::default(), builder, prefix)
    }

    /// As [`new`](Self::new), over another transport than the usual one.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn over(transport: Transport, builder: AmazonS3Builder, prefix: &str) -> Result<Self> {
        check(&builder)?;
        let unusable = |why: String| {
            Error::new(ErrorKind::Access, format!("cannot use the S3 settings: {why}"))
                .with_hint("check the AWS_* environment variables and --source-option")
        };
        let parser: PageParser = std::env::var(PAGE_PARSER)
            .unwrap_or_default()
            .parse()
            .map_err(|error| unusable(format!("{PAGE_PARSER}: {error}")))?;
        let settings = S3Settings::of(&builder);
        let plain = transport.is_plain() && !settings.requester_pays && is_plain(&builder);
        let build = |builder: AmazonS3Builder| {
            builder.build().map(Arc::new).map_err(|error| unusable(chain(&error)))
        };
        let once = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let pages = PageConnector::over(transport.clone(), parser);
        let listing = builder.clone().with_retry(once).with_http_connector(pages);
        Ok(Self {
            objects: build(builder.with_http_connector(transport))?,
            lister: build(listing)?,
            echo: Arc::default(),
            settings,
            prefix: prefix.trim_matches('/').to_owned(),
            retry: RetryPolicy::default(),
            plain,
        })
    }

    /// Lists with this persistence, which the builder does not tell.
    #[must_use]
    pub fn with_list_retries(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    pub(super) fn url_prefix(&self) -> String {
        let bucket = &self.settings.bucket;
        if self.prefix.is_empty() {
            format!("s3://{bucket}/")
        } else {
            format!("s3://{bucket}/{}/", self.prefix)
        }
    }

    pub(super) fn container_store(&self) -> ObjectStoreConfig {
        let options = self.settings.options();
        if self.settings.endpoint.is_some() {
            ObjectStoreConfig::S3Compatible(options)
        } else {
            ObjectStoreConfig::S3(options)
        }
    }

    pub(super) async fn container_credentials(&self) -> Result<Option<Credentials>> {
        if self.settings.anonymous {
            return Ok(Some(Credentials::S3(S3Credentials::Anonymous)));
        }
        let credential = self
            .objects
            .credentials()
            .get_credential()
            .await
            .map_err(|error| self.error("get credentials for", "", &error))?;
        Ok(Some(Credentials::S3(S3Credentials::Static(S3StaticCredentials {
            access_key_id: credential.key_id.clone(),
            secret_access_key: credential.secret_key.clone(),
            session_token: credential.token.clone(),
            expires_after: None,
        }))))
    }

    pub(super) async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        let read = async { self.objects.head(&self.path(key)?).await };
        match read.await {
            Ok(meta) => Ok(Some(ObjectInfo {
                size: meta.size,
                last_modified: meta.last_modified.timestamp_micros(),
                e_tag: meta.e_tag,
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("read", key, &error)),
        }
    }

    /// Whether Icechunk reads chunks with the same requests: of the settings it has few.
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Reads the first byte of an object. Whoever is sent to another host learns it here, before
    /// credentials are given to a client that would follow.
    pub(super) async fn touch(&self, key: &str) -> Result<()> {
        let options = GetOptions { range: Some((0..1).into()), ..GetOptions::default() };
        let read = async { self.objects.get_opts(&self.path(key)?, options).await };
        read.await.map(|_| ()).map_err(|error| self.error("read", key, &error))
    }

    /// Reads an object once, unless it is longer than `limit`; `None` when it is not there.
    pub(super) async fn read_once(&self, key: &str, limit: u64) -> Result<Option<Body>, Failure> {
        let answer = Arc::new(Answer::default());
        let read = async {
            let mut options = GetOptions::default();
            options.extensions.insert(Arc::clone(&answer));
            let found = self.lister.get_opts(&self.path(key)?, options).await?;
            let (size, e_tag) = (found.meta.size, found.meta.e_tag.clone());
            let bytes = if size > limit { Bytes::new() } else { found.bytes().await? };
            Ok((size, e_tag, bytes))
        };
        match read.await {
            Ok((size, _, _)) if size > limit => Err(Failure::TooLarge(size)),
            Ok((size, e_tag, bytes)) => {
                if bytes.len() as u64 != size {
                    let text = format!("{} of {size} bytes came", bytes.len());
                    return Err(PageError::new(PageErrorKind::Transient, text).into());
                }
                let e_tag = e_tag.filter(|_| !answer.tag_is_no_digest());
                Ok(Some(Body { bytes, e_tag }))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(object_error(&error, answer.status()).into()),
        }
    }

    /// The error of a read, of which asking again is of no use.
    pub(super) fn unreadable(&self, key: &str, error: &PageError) -> Error {
        let url = format!("s3://{}/{}", self.settings.bucket, self.key(key));
        let message = format!("cannot read {url}: {}", error.message);
        match error.kind {
            PageErrorKind::AccessDenied => {
                Error::new(ErrorKind::Access, message).with_hint(SOURCE_ACCESS_HINT)
            }
            PageErrorKind::Redirected => {
                Error::new(ErrorKind::Listing, message).of_redirection("source")
            }
            _ => Error::new(ErrorKind::Listing, message)
                .with_hint("check the endpoint and the network, then run the same command again"),
        }
    }

    /// Whether the server refuses a read that carries the object's own time.
    ///
    /// If-Unmodified-Since with the time of Last-Modified must pass (RFC 9110, 13.1.4). Some
    /// gateways compare with the finer time of a file, or take equal for later: a reference with
    /// the listed time could then never be read. Asked of one object, whose listed time is
    /// `last_modified` (µs since 1970).
    pub(super) async fn refuses_listed_times(&self, key: &str, last_modified: i64) -> Result<bool> {
        let Some(time) = DateTime::from_timestamp_micros(last_modified) else { return Ok(false) };
        if last_modified % 1_000_000 != 0 {
            // A fraction is rounded up anyway.
            return Ok(false);
        }
        let options = GetOptions {
            if_unmodified_since: Some(time),
            range: Some((0..1).into()),
            ..GetOptions::default()
        };
        let read = async { self.objects.get_opts(&self.path(key)?, options).await };
        match read.await {
            Err(object_store::Error::Precondition { .. }) => {
                let now = self.head(key).await?;
                Ok(now.is_some_and(|now| now.last_modified == last_modified))
            }
            // Whatever else is wrong with the object shows when it is read back.
            Ok(_) | Err(_) => Ok(false),
        }
    }

    /// The whole key of something relative to the root.
    pub(crate) fn key(&self, relative: &str) -> String {
        match (self.prefix.is_empty(), relative.is_empty()) {
            (true, _) => relative.to_owned(),
            (false, true) => self.prefix.clone(),
            (false, false) => format!("{}/{relative}", self.prefix),
        }
    }

    fn path(&self, key: &str) -> object_store::Result<Path> {
        Ok(Path::parse(self.key(key))?)
    }

    fn error(&self, doing: &str, key: &str, error: &object_store::Error) -> Error {
        let url = format!("s3://{}/{}", self.settings.bucket, self.key(key));
        let message = format!("cannot {doing} {url}: {}", chain(error));
        match error {
            error if refused(error) => {
                Error::new(ErrorKind::Access, message).with_hint(SOURCE_ACCESS_HINT)
            }
            error if redirected(error) => {
                Error::new(ErrorKind::Listing, message).of_redirection("source")
            }
            object_store::Error::NotFound { .. } => Error::new(ErrorKind::SourceNotFound, message)
                .with_hint("check the bucket's name and the endpoint"),
            _ => Error::new(ErrorKind::Listing, message)
                .with_hint("check the endpoint and the network, then run the same command again"),
        }
    }
}

impl PageSource for S3Source {
    fn key(&self, relative: &str) -> String {
        Self::key(self, relative)
    }

    fn retries(&self) -> RetryPolicy {
        self.retry.clone()
    }

    fn page<'a>(&'a self, request: PageRequest<'a>) -> BoxFuture<'a, Result<Page, PageError>> {
        async move {
            let probe = Arc::new(Probe::default());
            let page = list_page(self.lister.as_ref(), request, &probe)
                .await
                .map_err(|error| page_error(&error, probe.status()))?;
            if !request.grouped && page.folders().len() > 0 {
                // What lies in them would go unnoticed.
                let what = "the server puts keys together in folders without being asked";
                Err(PageError::new(PageErrorKind::Fatal, what))
            } else if self.echo.answers(&request, &page) {
                Ok(page)
            } else {
                let what = "the server sent the answer to another request (its StartAfter differs)";
                Err(PageError::new(PageErrorKind::Transient, what))
            }
        }
        .boxed()
    }
}

/// What can be done about a failed LIST; `status` is that of the answer, if there was one.
///
/// `object_store` leaves the status of a LIST in the error's text alone.
fn page_error(error: &object_store::Error, status: Option<u16>) -> PageError {
    let kind = match status {
        Some(401 | 403) => PageErrorKind::AccessDenied,
        Some(404) => PageErrorKind::NotFound,
        Some(429 | 503) => PageErrorKind::Throttled,
        Some(501) => PageErrorKind::Unsupported,
        // Read to its end and not understood: the same page would come again.
        Some(200) if !broke_off(error) => PageErrorKind::Fatal,
        // A 200 whose body broke off or was no listing; a timeout that the service reports.
        Some(200 | 408 | 500..) => PageErrorKind::Transient,
        Some(_) => PageErrorKind::Fatal,
        None if refused(error) => PageErrorKind::AccessDenied,
        None if redirected(error) => PageErrorKind::Redirected,
        None => PageErrorKind::Transient,
    };
    PageError::new(kind, chain(error))
}

/// What can be done about a failed read of an object.
fn object_error(error: &object_store::Error, status: Option<u16>) -> PageError {
    let kind = match (status, error) {
        (_, object_store::Error::InvalidPath { .. }) => PageErrorKind::Fatal,
        _ if refused(error) => PageErrorKind::AccessDenied,
        _ if redirected(error) => PageErrorKind::Redirected,
        // Broken off, or without what every answer has; asking again may help.
        (None | Some(200..=299 | 408 | 500..), _) if status != Some(503) => {
            PageErrorKind::Transient
        }
        (Some(401 | 403), _) => PageErrorKind::AccessDenied,
        (Some(429 | 503), _) => PageErrorKind::Throttled,
        _ => PageErrorKind::Fatal,
    };
    PageError::new(kind, chain(error))
}

/// Whether an answer was lost on its way, rather than not understood.
fn broke_off(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return error.kind() != HttpErrorKind::Decode;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> AmazonS3Builder {
        AmazonS3Builder::new()
            .with_bucket_name("bucket")
            .with_region("eu-west-1")
            .with_access_key_id("id")
            .with_secret_access_key("very-secret")
    }

    #[test]
    fn settings_are_read_back_from_the_builder() {
        let builder =
            builder().with_endpoint("http://user:pw@127.0.0.1:9000").with_allow_http(true);
        let source = S3Source::new(builder, "a/b/").unwrap();
        assert_eq!(source.url_prefix(), "s3://bucket/a/b/");
        assert_eq!(
            source.settings,
            S3Settings {
                bucket: "bucket".to_owned(),
                region: Some("eu-west-1".to_owned()),
                endpoint: Some("http://127.0.0.1:9000/".to_owned()),
                anonymous: false,
                allow_http: true,
                virtual_hosted_style: false,
                requester_pays: false,
            }
        );
        assert!(source.settings.options().force_path_style);
        let aws = S3Source::new(self::builder(), "").unwrap();
        assert_eq!(aws.url_prefix(), "s3://bucket/");
        assert!(matches!(aws.container_store(), ObjectStoreConfig::S3(_)));
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let source = S3Source::new(builder(), "a").unwrap();
        assert!(!format!("{source:?}").contains("very-secret"));
    }
}
