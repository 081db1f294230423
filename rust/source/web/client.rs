//! One request to a web server: in its turn, through redirections, with the user's headers to the
//! user's host only.
//!
//! Failures say whether asking again may help; how often that is done is the callers' business, and
//! so is what a status means.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, LOCATION, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use object_store::ClientOptions;
use reqwest::{Client, Response};
use url::Url;

use super::answer::{retry_after, text};
use super::pace::Pace;
use crate::error::{chain, no_tls_ever};
use crate::source::page_error::{PageError, PageErrorKind};
use crate::source::transport::Transport;

/// Redirections that are followed one after the other.
const MOST_REDIRECTIONS: usize = 10;

/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Connections that are tried before a server counts as one that is not there.
const CONNECTIONS_TRIED: u32 = 3;

/// Bodies up to this many bytes are read to the end, so that their connection can be used again.
const WORTH_READING: u64 = 64 << 10;

/// The client of one server.
#[derive(Debug)]
pub(super) struct WebClient {
    client: Client,
    /// Sent to the server itself, never to where it redirects to.
    headers: HeaderMap,
    pace: Pace,
    /// Whether anything has ever answered.
    reached: AtomicBool,
    /// Connections that were not made, before anything has.
    unreached: AtomicU32,
}

impl WebClient {
    /// A client with the settings of `options`, that sends `headers` to the server itself.
    ///
    /// # Errors
    ///
    /// What is wrong with a setting or a header, without its value.
    pub(super) fn new(
        transport: &Transport,
        options: &ClientOptions,
        headers: &[(String, String)],
        most_per_second: Option<f64>,
    ) -> Result<Self, String> {
        let client = transport.without_redirections(options).map_err(|error| chain(&error))?;
        let mut sent = HeaderMap::new();
        for (name, value) in headers {
            let unfit = || format!("no request can carry the header {name}");
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| unfit())?;
            value.set_sensitive(true);
            sent.insert(key, value);
        }
        Ok(Self {
            client,
            headers: sent,
            pace: Pace::new(most_per_second),
            reached: AtomicBool::new(false),
            unreached: AtomicU32::new(0),
        })
    }

    /// Whether requests carry headers of the user.
    pub(super) fn has_headers(&self) -> bool {
        !self.headers.is_empty()
    }

    /// Asks once. An answer of any status but those that pass (429, 5xx) is an answer.
    pub(super) async fn ask(
        &self,
        method: &Method,
        url: Url,
        further: &HeaderMap,
    ) -> Result<Response, PageError> {
        let mut at = url.clone();
        for _ in 0..=MOST_REDIRECTIONS {
            self.pace.turn().await;
            let mut headers =
                if at.origin() == url.origin() { self.headers.clone() } else { HeaderMap::new() };
            headers.extend(further.clone());
            // A compressed answer would have another length.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            let request = self.client.request(method.clone(), at.clone()).headers(headers);
            let response = request.send().await.map_err(|error| self.lost(error))?;
            self.reached.store(true, Ordering::Relaxed);
            let Some(next) = redirection(&at, &response)? else {
                return self.judged(response);
            };
            at = next;
        }
        let what = format!("it redirects more than {MOST_REDIRECTIONS} times");
        Err(PageError::new(PageErrorKind::Fatal, what))
    }

    /// The error of a request that was not answered. A name or a port that is wrong stays so.
    fn lost(&self, error: reqwest::Error) -> PageError {
        let never = error.is_connect() && !self.reached.load(Ordering::Relaxed);
        let distrusted = no_tls_ever(&error);
        let failure = lost(error);
        if distrusted {
            return PageError { kind: PageErrorKind::Fatal, ..failure };
        }
        if never && self.unreached.fetch_add(1, Ordering::Relaxed) + 1 >= CONNECTIONS_TRIED {
            return PageError { kind: PageErrorKind::Fatal, ..failure };
        }
        failure
    }

    /// Takes answers that may be others the next time for failures.
    fn judged(&self, response: Response) -> Result<Response, PageError> {
        let status = response.status();
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                PageErrorKind::Throttled
            }
            StatusCode::REQUEST_TIMEOUT => PageErrorKind::Transient,
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => {
                return Ok(response);
            }
            status if status.is_server_error() => PageErrorKind::Transient,
            _ => return Ok(response),
        };
        if let Some(wait) = retry_after(response.headers()) {
            if wait > LONGEST_WAIT {
                let what = format!("it answers {status} and asks to wait {} s", wait.as_secs());
                return Err(PageError::new(PageErrorKind::Fatal, what));
            }
            self.pace.hold(wait);
        }
        Err(PageError::new(kind, format!("it answers {status}")))
    }
}

/// The header that asks for an object's first byte.
pub(super) fn first_byte() -> HeaderMap {
    HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-0"))])
}

/// Gives a connection back, if that is worth reading what is left.
pub(super) async fn done_with(response: Response) {
    if response.content_length().is_some_and(|length| length <= WORTH_READING) {
        // What it says is of no interest.
        let _ = response.bytes().await;
    }
}

/// The error of an answer that broke off.
pub(super) fn lost(error: reqwest::Error) -> PageError {
    PageError::new(PageErrorKind::Transient, chain(&error.without_url()))
}

fn redirection(from: &Url, response: &Response) -> Result<Option<Url>, PageError> {
    match response.status() {
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => {}
        _ => return Ok(None),
    }
    let fatal = |what: &str| Err(PageError::new(PageErrorKind::Fatal, what));
    let location = text(response.headers(), &LOCATION);
    let Some(mut next) = location.and_then(|location| from.join(location).ok()) else {
        return fatal("it redirects to a place that it does not name");
    };
    if !matches!(next.scheme(), "http" | "https") {
        return fatal("it redirects to something that is no web server");
    }
    if from.scheme() == "https" && next.scheme() == "http" {
        return fatal("it redirects from https to http, where anybody could answer");
    }
    // Credentials in there would be another server's idea.
    let _ = next.set_username("");
    let _ = next.set_password(None);
    Ok(Some(next))
}
