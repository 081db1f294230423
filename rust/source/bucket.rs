//! A Zarr store under a prefix of a bucket, of S3, Google Cloud Storage or Azure.
//!
//! Two clients of the same settings: one reads single objects, with `object_store`'s retries; one
//! lists, a page a call and without retries, so that the lister sees every refusal and can slow
//! down. What its listings are like is [`listing`](super::listing)'s business, and which pages to
//! ask for is not known here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use icechunk::ObjectStoreConfig;
use icechunk::config::Credentials;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt as _, RetryConfig};

use super::ObjectInfo;
use super::body::{Body, Failure};
use super::builder::{BucketBuilder, unusable};
use super::client::{Clients, Provider};
use super::inventory::Inventory;
use super::listing::Listings;
use super::object::Readable;
use super::page::{Page, PageCapabilities, PageError, PageErrorKind, PageRequest, PageSource};
use super::plain;
use super::service::Service;
use super::settings::{Settings, is_read_by_icechunk};
use super::transport::Transport;
use super::xml::connector::PageParser;
use super::xml::exchange::Answer;
use crate::error::{chain, network_hint, never_sent, no_tls_ever, redirected, refused};
use crate::source::retry::RetryPolicy;
use crate::{Error, ErrorKind, Result};

/// Environment variable that selects the parser of listings, for support cases: `xml` is
/// `object_store`'s own.
const PAGE_PARSER: &str = "REFREEZE_PAGE_PARSER";

/// A prefix of a bucket.
#[derive(Clone)]
pub struct BucketSource {
    /// With retries.
    pub(super) objects: Arc<dyn ObjectStore>,
    /// Without.
    once: Arc<dyn ObjectStore>,
    provider: Provider,
    /// Whether credentials were found before the first request.
    looked: Arc<tokio::sync::OnceCell<std::result::Result<(), PageError>>>,
    listings: Arc<Listings>,
    settings: Arc<Settings>,
    prefix: String,
    retry: RetryPolicy,
    /// Whether Icechunk's own client could send these requests too.
    plain: bool,
    small_buffers: bool,
    inventory: Option<Inventory>,
    /// Whether its `ETag`s were seen to be no digests, though they look like some.
    made_up_tags: Arc<AtomicBool>,
}

impl fmt::Debug for BucketSource {
    /// Settings only: the clients know credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketSource")
            .field("settings", &self.settings)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl BucketSource {
    /// The keys below `prefix` (without a trailing `/`; empty for the whole bucket).
    ///
    /// `builder` has everything applied: bucket, environment, options, credentials. The variable
    /// `REFREEZE_PAGE_PARSER` (`scan` or `xml`) chooses how listings are read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Access`] when the settings do not make a client.
    pub fn new(builder: BucketBuilder, prefix: &str) -> Result<Self> {
        Self::over(Transport::default(), builder, prefix)
    }

    /// As [`new`](Self::new), over another transport than the usual one.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn over(transport: Transport, builder: BucketBuilder, prefix: &str) -> Result<Self> {
        builder.check()?;
        let service = builder.service();
        let parser: PageParser =
            std::env::var(PAGE_PARSER).unwrap_or_default().parse().map_err(|error| {
                Error::new(ErrorKind::Access, format!("{PAGE_PARSER}: {error}"))
                    .with_hint(format!("set {PAGE_PARSER} to scan or xml, or to nothing"))
            })?;
        let settings = Settings::of(&builder);
        let pays = matches!(&settings, Settings::S3(settings) if settings.requester_pays);
        let plain = transport.is_plain() && !pays && is_read_by_icechunk(&builder);
        // As it was given: the settings leave names and passwords out, which are for the other client.
        let mut names = ["aws_endpoint_url_s3", "aws_endpoint"].into_iter();
        let endpoint = names.find_map(|name| builder.get(name));
        let small_buffers =
            service == Service::S3 && plain::lists(endpoint.as_deref(), |name| builder.get(name));
        let failed = |error: &object_store::Error| unusable(service, "source", error);
        let once = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let objects =
            builder.clone().for_reading(transport.clone()).build().map_err(|e| failed(&e))?;
        let Clients { lister, once, provider } =
            Clients::new(builder.with_retry(once), transport, parser).map_err(|e| failed(&e))?;
        let listings = Listings::new(lister, &settings, parser);
        Ok(Self {
            objects,
            once,
            provider,
            looked: Arc::default(),
            listings: Arc::new(listings),
            settings: Arc::new(settings),
            prefix: prefix.trim_matches('/').to_owned(),
            retry: RetryPolicy::default(),
            plain,
            small_buffers,
            inventory: None,
            made_up_tags: Arc::default(),
        })
    }

    /// The same source, with listings that tell of `ETag`s as reads do; those of Google Cloud
    /// Storage then come in smaller pages.
    #[must_use]
    pub fn with_e_tags(mut self) -> Self {
        self.listings = Arc::new(self.listings.with_e_tags());
        self
    }

    pub(super) fn with_inventory(mut self, inventory: Inventory) -> Self {
        self.inventory = Some(inventory.of_prefix(&self.prefix));
        self
    }

    pub(super) const fn inventory(&self) -> Option<&Inventory> {
        self.inventory.as_ref()
    }

    /// Whether the connections that list it keep small buffers, so that memory has room for more.
    pub(super) const fn has_small_buffers(&self) -> bool {
        self.small_buffers
    }

    /// Whether it is in the bucket that these settings lead to.
    pub(crate) fn is_in(&self, builder: &BucketBuilder) -> bool {
        let other = Settings::of(builder);
        self.service() == other.service()
            && self.settings.bucket() == other.bucket()
            && self.settings.container_store() == other.container_store()
    }

    /// Which service the bucket is of.
    #[must_use]
    pub fn service(&self) -> Service {
        self.settings.service()
    }

    /// Makes sure that there are credentials, once, before the first request.
    pub(super) async fn look_for_credentials(&self) -> std::result::Result<(), PageError> {
        if self.settings.anonymous() || self.service() == Service::S3 {
            return Ok(());
        }
        let look = async {
            let Err(why) = self.provider.search().await else { return Ok(()) };
            let name = self.service().name();
            Err(PageError::new(
                PageErrorKind::AccessDenied,
                format!("no credentials of {name} were found: {why}"),
            )
            .with_hint(self.service().access_hint()))
        };
        // Of many that ask at the same time one looks.
        self.looked.get_or_init(|| look).await.clone()
    }

    /// Lists with this persistence, which the builder does not tell.
    #[must_use]
    pub fn with_list_retries(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    pub(super) fn url_prefix(&self) -> String {
        let root = self.root();
        if self.prefix.is_empty() { format!("{root}/") } else { format!("{root}/{}/", self.prefix) }
    }

    fn root(&self) -> String {
        format!("{}://{}", self.service().scheme(), self.settings.bucket())
    }

    pub(super) fn container_store(&self) -> ObjectStoreConfig {
        self.settings.container_store()
    }

    pub(super) async fn container_credentials(&self) -> Result<Option<Credentials>> {
        let found = self.provider.for_icechunk(self.settings.anonymous()).await;
        found.map_err(|error| self.error("get credentials for", "", &error))
    }

    pub(super) async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        self.look_for_credentials().await.map_err(|error| self.unreadable(key, &error))?;
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
        self.plain && self.provider.is_for_icechunk(self.settings.anonymous())
    }

    /// Reads the first byte of an object. Whoever is sent to another host learns it here, before
    /// credentials are given to a client that would follow.
    pub(super) async fn touch(&self, key: &str) -> Result<()> {
        let options = GetOptions { range: Some((0..1).into()), ..GetOptions::default() };
        let read = async { self.objects.get_opts(&self.path(key)?, options).await };
        read.await.map(|_| ()).map_err(|error| self.error("read", key, &error))
    }

    /// The whole key of something relative to the root.
    pub(crate) fn key(&self, relative: &str) -> String {
        match (self.prefix.is_empty(), relative.is_empty()) {
            (true, _) => relative.to_owned(),
            (false, true) => self.prefix.clone(),
            (false, false) => format!("{}/{relative}", self.prefix),
        }
    }

    pub(super) fn path(&self, key: &str) -> object_store::Result<Path> {
        Ok(Path::parse(self.key(key))?)
    }

    pub(super) fn error(&self, doing: &str, key: &str, error: &object_store::Error) -> Error {
        let url = format!("{}/{}", self.root(), self.key(key));
        let message = format!("cannot {doing} {url}: {}", chain(error));
        match error {
            error if refused(error) => {
                Error::new(ErrorKind::Access, message).with_hint(self.service().access_hint())
            }
            error if redirected(error) => {
                Error::new(ErrorKind::Listing, message).of_redirection("source")
            }
            object_store::Error::NotFound { .. } => Error::new(ErrorKind::SourceNotFound, message)
                .with_hint("check the bucket's name and the endpoint"),
            _ => unreached(message),
        }
    }
}

impl Readable for BucketSource {
    async fn read_once(&self, key: &str, limit: u64) -> Result<Option<Body>, Failure> {
        self.look_for_credentials().await?;
        let answer = Arc::new(Answer::default());
        let read = async {
            let mut options = GetOptions::default();
            options.extensions.insert(Arc::clone(&answer));
            let found = self.once.get_opts(&self.path(key)?, options).await?;
            let (size, e_tag) = (found.meta.size, found.meta.e_tag.clone());
            let bytes = if size > limit { Bytes::new() } else { found.bytes().await? };
            Ok((size, e_tag, bytes))
        };
        match read.await {
            Ok((size, _, _)) if size > limit => Err(Failure::TooLarge(size)),
            Ok((size, e_tag, bytes)) => {
                if bytes.len() as u64 != size {
                    let text = format!("only {} of {size} bytes arrived", bytes.len());
                    return Err(PageError::new(PageErrorKind::Transient, text).into());
                }
                let e_tag = e_tag.filter(|_| !answer.tag_is_no_digest());
                Ok(Some(Body { bytes, e_tag }))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(object_error(&error, answer.status()).into()),
        }
    }

    fn unreadable(&self, key: &str, error: &PageError) -> Error {
        let url = format!("{}/{}", self.root(), self.key(key));
        let message = format!("cannot read {url}: {}", error.message);
        match error.kind {
            PageErrorKind::AccessDenied => {
                Error::new(ErrorKind::Access, message).with_hint(self.service().access_hint())
            }
            PageErrorKind::Redirected => {
                Error::new(ErrorKind::Listing, message).of_redirection("source")
            }
            _ => unreached(message),
        }
    }

    fn retries(&self) -> RetryPolicy {
        self.retry.clone()
    }

    fn shown(&self, key: &str) -> String {
        format!("{}{key}", self.url_prefix())
    }

    fn makes_up_tags(&self) -> &AtomicBool {
        &self.made_up_tags
    }
}

impl PageSource for BucketSource {
    fn key(&self, relative: &str) -> String {
        Self::key(self, relative)
    }

    fn retries(&self) -> RetryPolicy {
        self.retry.clone()
    }

    fn capabilities(&self) -> PageCapabilities {
        self.listings.capabilities()
    }

    fn note_disorder(&self) {
        self.listings.note_disorder();
    }

    fn page<'a>(&'a self, request: PageRequest<'a>) -> BoxFuture<'a, Result<Page, PageError>> {
        async move {
            self.look_for_credentials().await?;
            self.listings.page(request).await
        }
        .boxed()
    }
}

/// The error of a server that was not reached, or did not answer.
fn unreached(message: String) -> Error {
    let usual = "check the endpoint and the network, then run the same command again";
    let hint = network_hint(&message, usual);
    Error::new(ErrorKind::Listing, message).with_hint(hint)
}

/// What can be done about a failed read of an object.
fn object_error(error: &object_store::Error, status: Option<u16>) -> PageError {
    let kind = match (status, error) {
        (_, object_store::Error::InvalidPath { .. }) => PageErrorKind::Fatal,
        _ if refused(error) => PageErrorKind::AccessDenied,
        _ if redirected(error) => PageErrorKind::Redirected,
        _ if never_sent(error) || no_tls_ever(error) => PageErrorKind::Fatal,
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

#[cfg(test)]
mod tests {
    use object_store::aws::AmazonS3Builder;

    use super::*;

    fn builder() -> AmazonS3Builder {
        AmazonS3Builder::new()
            .with_bucket_name("bucket")
            .with_region("eu-west-1")
            .with_access_key_id("id")
            .with_secret_access_key("very-secret")
    }

    fn source(builder: AmazonS3Builder, prefix: &str) -> BucketSource {
        BucketSource::new(BucketBuilder::S3(Box::new(builder)), prefix).unwrap()
    }

    #[test]
    fn settings_are_read_back_from_the_builder() {
        let builder =
            builder().with_endpoint("http://user:pw@127.0.0.1:9000").with_allow_http(true);
        let source = source(builder, "a/b/");
        assert_eq!(source.url_prefix(), "s3://bucket/a/b/");
        let Settings::S3(settings) = source.settings.as_ref() else { unreachable!() };
        assert_eq!(settings.endpoint.as_deref(), Some("http://127.0.0.1:9000/"));
        assert!(settings.options().force_path_style);
        let aws = self::source(self::builder(), "");
        assert_eq!(aws.url_prefix(), "s3://bucket/");
        assert!(matches!(aws.container_store(), ObjectStoreConfig::S3(_)));
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        assert!(!format!("{:?}", source(builder(), "a")).contains("very-secret"));
    }
}
