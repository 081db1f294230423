//! A Zarr store on a web server that cannot be listed: single objects, read, described, and asked
//! for where a caller predicts that they could be.
//!
//! The client is our own: `object_store`'s takes refusals of a method for absence, and a missing
//! time for 1970. Which keys are asked for is decided elsewhere.

mod answer;
mod client;
mod habits;
mod pace;
mod reading;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use icechunk::ObjectStoreConfig;
use icechunk::config::HttpConfig;
use object_store::ClientOptions;
use reqwest::Response;
use tokio::sync::OnceCell;
use url::Url;

pub(crate) use answer::Described;
use answer::is_strong;
use client::{WebClient, done_with, first_byte};
use habits::{Habits, is_gone};

use super::ObjectInfo;
use super::object::Readable;
use super::page_error::PageError;
use super::retry::RetryPolicy;
use super::transport::Transport;
use crate::{Error, ErrorKind, Result};

/// Requests that need no further consent.
pub const MOST_REQUESTS: u64 = 1_000_000;

/// What a user allows to be asked of a server that cannot be listed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Probing {
    /// Every predicted key may be asked for.
    pub allowed: bool,
    /// More than [`MOST_REQUESTS`] requests, and taking 403 for absence, are agreed to.
    pub yes: bool,
    /// Requests a second.
    pub most_per_second: Option<f64>,
}

/// How a web server is reached.
pub struct WebSettings {
    /// Scheme, host and port, such as `https://example.org`.
    pub base: String,
    /// Sent to this host only; neither stored nor shown.
    pub headers: Vec<(String, String)>,
    /// Time-outs, proxies and so on.
    pub options: ClientOptions,
    /// Certificates that are trusted.
    pub transport: Transport,
    /// What may be asked.
    pub probing: Probing,
}

/// A folder of a web server.
#[derive(Clone)]
pub struct WebSource {
    site: Arc<Site>,
    /// Of the folder, not percent-encoded, without slashes at its ends.
    path: String,
    /// Whether descriptions have tags in the form in which Icechunk asks with them.
    e_tags: bool,
}

/// What all folders of a server share.
struct Site {
    base: Url,
    client: WebClient,
    probing: Probing,
    retry: RetryPolicy,
    /// Whether Icechunk's own client could send these requests too.
    plain: bool,
    habits: OnceCell<Habits>,
    /// Requests that taught them, until a listing counts them as its own.
    controls: Sent,
    /// The path of an object that was read.
    known: Mutex<Option<String>>,
    /// Whether its `ETag`s were seen to be no digests, though they look like some.
    made_up_tags: AtomicBool,
}

impl fmt::Debug for WebSource {
    /// Without the client, which knows headers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSource").field("url", &self.url_prefix()).finish_non_exhaustive()
    }
}

/// Why an object was not described.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// Asking again may help.
    Now(PageError),
    /// Nothing would change.
    Ever(Error),
}

impl From<PageError> for Unanswered {
    fn from(error: PageError) -> Self {
        Self::Now(error)
    }
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Self::Ever(error)
    }
}

/// What a listing has sent, for its statistics.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Requests, those that were sent again included.
    pub(crate) requests: AtomicU64,
    /// Those that were sent again after a failure.
    pub(crate) retries: AtomicU64,
}

impl WebSource {
    /// The root of a server.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Access`] when the settings do not make a client.
    pub fn new(settings: WebSettings) -> Result<Self> {
        let unusable = |what: String| {
            Error::new(
                ErrorKind::Access,
                format!("the settings of the source do not make a client: {what}"),
            )
            .with_hint("check --source-option")
        };
        let base = Url::parse(&settings.base)
            .map_err(|error| unusable(format!("{}: {error}", settings.base)))?;
        let WebSettings { headers, options, transport, probing, .. } = settings;
        let options = options.with_allow_http(base.scheme() == "http");
        let client = WebClient::new(&transport, &options, &headers, probing.most_per_second)
            .map_err(unusable)?;
        let site = Site {
            plain: !client.has_headers() && transport.is_plain(),
            base,
            client,
            probing,
            retry: RetryPolicy::default(),
            habits: OnceCell::new(),
            controls: Sent::default(),
            known: Mutex::new(None),
            made_up_tags: AtomicBool::new(false),
        };
        Ok(Self { site: Arc::new(site), path: String::new(), e_tags: false })
    }

    /// The folder at `path` below this one.
    #[must_use]
    pub fn below(&self, path: &str) -> Self {
        Self { path: join(&self.path, path.trim_matches('/')), ..self.clone() }
    }

    /// The same source, whose descriptions have tags in the form that Icechunk is to keep.
    #[must_use]
    pub fn with_e_tags(self) -> Self {
        Self { e_tags: true, ..self }
    }

    pub(crate) fn url_prefix(&self) -> String {
        let base = self.site.base.as_str().trim_end_matches('/');
        if self.path.is_empty() { format!("{base}/") } else { format!("{base}/{}/", self.path) }
    }

    pub(super) fn is_plain(&self) -> bool {
        self.site.plain
    }

    /// Headers are given by readers when they open: what is stored would be read by all.
    pub(super) fn container_store() -> ObjectStoreConfig {
        ObjectStoreConfig::Http(HttpConfig { opts: HashMap::new(), headers: HashMap::new() })
    }

    /// Whether `chunks` keys may be asked for.
    pub(crate) fn check_allowed(&self, array: &str, chunks: u64) -> Result<()> {
        let Probing { allowed, yes, .. } = self.site.probing;
        let url = self.url_prefix();
        if !allowed {
            let what = format!("{url} is on a web server, which cannot be listed");
            return Err(Error::new(ErrorKind::Listing, what).with_hint(format!(
                "--probe asks for every predicted key: {chunks} requests for array {array}; a \
                 store of many chunks is better read from a bucket"
            )));
        }
        if chunks > MOST_REQUESTS && !yes {
            let what = format!("array {array} of {url} takes {chunks} requests, one for each key");
            return Err(Error::new(ErrorKind::Listing, what)
                .with_hint("agree to more than a million with --yes, or choose a --region"));
        }
        Ok(())
    }

    /// Learns how the server tells of absence, before anything is asked for.
    ///
    /// Counts the requests that this took, whoever caused them.
    pub(crate) async fn prepare(&self, folder: &str, sent: &Sent) -> Result<()> {
        let habits = self.habits(folder).await?;
        for (controls, sent) in [
            (&self.site.controls.requests, &sent.requests),
            (&self.site.controls.retries, &sent.retries),
        ] {
            sent.fetch_add(controls.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
        if habits.absent_is_forbidden() && !self.site.probing.yes {
            let what = format!(
                "{} answers 403 for a key that cannot exist: a missing chunk cannot be told from \
                 one that is forbidden",
                self.url_prefix()
            );
            return Err(Error::new(ErrorKind::Listing, what)
                .with_hint("take 403 for missing with --yes, if nothing there is forbidden"));
        }
        Ok(())
    }

    /// Asks for one object, which may be absent: with HEAD, or with a GET of its first byte where
    /// the server refuses HEAD. Does not ask again after a failure.
    pub(crate) async fn describe_once(
        &self,
        key: &str,
        sent: &Sent,
    ) -> Result<Option<Described>, Unanswered> {
        let habits = self.habits("").await?;
        let url = self.site.url(&join(&self.path, key));
        loop {
            let head = habits.answers_head();
            let (method, headers) =
                if head { (Method::HEAD, HeaderMap::new()) } else { (Method::GET, first_byte()) };
            sent.requests.fetch_add(1, Ordering::Relaxed);
            let response = self.site.client.ask(&method, url.clone(), &headers).await?;
            let status = response.status();
            let described = Described::of(status, response.headers());
            done_with(response).await;
            match status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => match described {
                    // Some servers say so of everything.
                    Some(found) if head && found.size == 0 => habits.give_up_head(),
                    Some(found) => return Ok(Some(self.tagged(found))),
                    None if head => habits.give_up_head(),
                    None => return Err(self.without_length(key).into()),
                },
                // An object without a byte has no first one.
                StatusCode::RANGE_NOT_SATISFIABLE if described.is_some() => return Ok(described),
                status if is_gone(status) => return Ok(None),
                // It may be the method that is refused.
                _ if head && !habits.is_absent(status) => habits.give_up_head(),
                status if habits.is_absent(status) => return Ok(None),
                StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                    return Err(self.refused(key, &format!("it answers {status}")).into());
                }
                _ => {
                    let what = format!("the server answers {status} for {}", self.shown(key));
                    return Err(Error::new(ErrorKind::Listing, what)
                        .with_hint("check the URL, then run the same command again")
                        .into());
                }
            }
        }
    }

    /// The same, with the source's persistence.
    async fn describe(&self, key: &str) -> Result<Option<Described>> {
        let mut failures = 0;
        loop {
            match self.describe_once(key, &Sent::default()).await {
                Ok(found) => return Ok(found),
                Err(Unanswered::Ever(error)) => return Err(error),
                Err(Unanswered::Now(error)) => {
                    failures += 1;
                    tokio::time::sleep(self.wait(key, &error, failures)?).await;
                }
            }
        }
    }

    /// How long to wait after `failures` requests for a key that failed.
    ///
    /// # Errors
    ///
    /// When it is time to give up: what is wrong.
    pub(crate) fn wait(&self, key: &str, error: &PageError, failures: u32) -> Result<Duration> {
        let wait = self.site.retry.wait(error.kind, failures);
        wait.ok_or_else(|| self.unreadable(key, error))
    }

    fn tagged(&self, found: Described) -> Described {
        if !self.e_tags {
            return found;
        }
        // Icechunk takes a pair of quotes away before it asks, and servers want theirs.
        let e_tag = found.e_tag.filter(|tag| is_strong(tag)).map(|tag| format!("\"{tag}\""));
        Described { e_tag, ..found }
    }

    /// Size and time of one object.
    pub(super) async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        let found = self.describe(key).await?;
        let Some(Described { size, last_modified, e_tag }) = found else { return Ok(None) };
        Ok(Some(ObjectInfo { size, last_modified: last_modified.unwrap_or_default(), e_tag }))
    }

    /// Reads the first byte of an object with the source's own settings.
    pub(super) async fn touch(&self, key: &str) -> Result<()> {
        let response =
            self.persistently(&Method::GET, key, &first_byte(), &Sent::default()).await?;
        let status = response.status();
        done_with(response).await;
        match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(self.refused(key, &format!("it answers {status}")))
            }
            _ => {
                let what = format!("cannot read {}: it answers {status}", self.shown(key));
                Err(Error::new(ErrorKind::SourceNotFound, what).with_hint("check the URL"))
            }
        }
    }

    /// Asks until an answer comes that asking again would not change.
    async fn persistently(
        &self,
        method: &Method,
        key: &str,
        headers: &HeaderMap,
        sent: &Sent,
    ) -> Result<Response> {
        let mut failures = 0;
        let url = self.site.url(&join(&self.path, key));
        loop {
            sent.requests.fetch_add(1, Ordering::Relaxed);
            match self.site.client.ask(method, url.clone(), headers).await {
                Ok(response) => return Ok(response),
                Err(error) => {
                    failures += 1;
                    let wait = self.wait(key, &error, failures)?;
                    sent.retries.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    fn known(&self) -> Option<String> {
        self.site.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refused(&self, key: &str, why: &str) -> Error {
        let what = format!("cannot read {}: {why}", self.shown(key));
        Error::new(ErrorKind::Access, what).with_hint(
            "check the URL; pass what the server requires of its users with --source-option \
             header.NAME=VALUE",
        )
    }

    fn without_length(&self, key: &str) -> Error {
        let what = format!(
            "the server does not say how long {} is: its answer has neither Content-Length nor a \
             length in Content-Range (chunked, or compressed on its way)",
            self.shown(key)
        );
        Error::new(ErrorKind::Listing, what).with_hint(
            "such a server cannot be referenced, since readers need ranges; copy the store to a \
             bucket or a folder",
        )
    }
}

impl Site {
    /// The URL of an object; its path is encoded as Icechunk's client encodes it.
    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        url
    }
}

fn join(folder: &str, key: &str) -> String {
    match (folder.is_empty(), key.is_empty()) {
        (true, _) => key.to_owned(),
        (false, true) => folder.to_owned(),
        (false, false) => format!("{folder}/{key}"),
    }
}
