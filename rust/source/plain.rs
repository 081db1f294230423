//! The HTTP client of listings in plain HTTP, whose connections keep small buffers.
//!
//! A connection of [`transport`](super::transport)'s client keeps a buffer that has grown to what the
//! network once brought at a time, up to 400 KB, also while it waits for an answer; reqwest has no
//! setting for that. This is the client that reqwest is made of, with that setting. With TLS it would
//! help little: there it is not this buffer that takes the memory. Redirections and proxies are not
//! its business.

use std::error::Error;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _, TryFutureExt as _};
use http::uri::{Scheme, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::client::{
    HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
};
use rand::seq::SliceRandom as _;
use tokio::time::Sleep;
use tower_service::Service;

use super::xml::exchange::Exchange;

/// Bytes that a connection reads at a time, at most.
const MOST_BUFFERED: usize = 64 << 10;

/// As reqwest probes connections, so that one whose other end is gone is noticed.
const PROBES: (Duration, u32) = (Duration::from_secs(15), 3);

/// What a client is told of the settings.
pub(super) struct PlainSettings {
    /// Sent with every request that does not say otherwise.
    pub(super) headers: HeaderMap,
    /// From sending to the end of the answer.
    pub(super) timeout: Option<Duration>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) pool_idle_timeout: Option<Duration>,
    pub(super) pool_max_idle_per_host: Option<usize>,
    pub(super) randomize_addresses: bool,
}

/// Whether this client lists what is at an endpoint, with settings as in [`fits`].
pub(super) fn lists(endpoint: Option<&str>, get: impl Fn(&str) -> Option<String>) -> bool {
    endpoint.and_then(|url| url.parse().ok()).is_some_and(|uri| is_plain(&uri, &proxies()))
        && fits(get)
}

/// Whether this client does what settings ask for, given by the names that `object_store` has for them.
pub(super) fn fits(get: impl Fn(&str) -> Option<String>) -> bool {
    ["proxy_url", "read_timeout", "http2_only"].into_iter().all(|name| {
        get(name).is_none_or(|value| value.is_empty() || value.eq_ignore_ascii_case("false"))
    })
}

/// Names and passwords in URLs become headers, but not here.
fn is_plain(uri: &Uri, proxies: &Matcher) -> bool {
    uri.scheme() == Some(&Scheme::HTTP)
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        && proxies.intercept(uri).is_none()
}

/// Those of the environment, as reqwest finds them.
fn proxies() -> Matcher {
    Matcher::from_system()
}

/// A client for requests without a body.
pub(super) struct PlainHttp {
    client: Client<HttpConnector<Names>, HttpRequestBody>,
    proxies: Matcher,
    headers: HeaderMap,
    timeout: Option<Duration>,
}

impl fmt::Debug for PlainHttp {
    /// Nothing of the headers, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainHttp").finish_non_exhaustive()
    }
}

impl PlainHttp {
    pub(super) fn new(settings: PlainSettings) -> Self {
        let mut connector =
            HttpConnector::new_with_resolver(Names { shuffled: settings.randomize_addresses });
        connector.set_connect_timeout(settings.connect_timeout);
        connector.set_nodelay(true);
        connector.set_keepalive(Some(PROBES.0));
        connector.set_keepalive_interval(Some(PROBES.0));
        connector.set_keepalive_retries(Some(PROBES.1));
        #[cfg(target_os = "linux")]
        connector.set_tcp_user_timeout(Some(2 * PROBES.0));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.http1_max_buf_size(MOST_BUFFERED).timer(TokioTimer::new());
        builder.pool_timer(TokioTimer::new());
        if let Some(timeout) = settings.pool_idle_timeout {
            builder.pool_idle_timeout(timeout);
        }
        if let Some(most) = settings.pool_max_idle_per_host {
            builder.pool_max_idle_per_host(most);
        }
        let mut headers = settings.headers;
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        Self {
            client: builder.build(connector),
            proxies: proxies(),
            headers,
            timeout: settings.timeout,
        }
    }

    /// Whether a request is one for a listing in plain HTTP, and not to a proxy.
    pub(super) fn takes(&self, request: &HttpRequest) -> bool {
        request.extensions().get::<Arc<Exchange>>().is_some()
            && is_plain(request.uri(), &self.proxies)
    }

    /// Sends a request, and gives back what comes, a redirection too.
    ///
    /// # Errors
    ///
    /// Of the kinds by which `object_store` tells what can be tried again.
    pub(super) async fn send(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        for (name, value) in &self.headers {
            if !request.headers().contains_key(name) {
                request.headers_mut().append(HeaderName::clone(name), value.clone());
            }
        }
        let mut deadline = self.timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
        let sent = self.client.request(request);
        let response = match &mut deadline {
            None => sent.await,
            Some(deadline) => tokio::select! {
                response = sent => response,
                () = deadline => return Err(too_late()),
            },
        };
        let (parts, body) = response.map_err(lost)?.into_parts();
        let body = HttpResponseBody::new(Timely { body, deadline });
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// The body of an answer, which fails when it takes too long.
struct Timely {
    body: Incoming,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Body for Timely {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending()
            && let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err(too_late())));
        }
        frame.map(|frame| frame.map(|frame| frame.map_err(lost)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn too_late() -> HttpError {
    HttpError::new_boxed(HttpErrorKind::Timeout, "the answer took too long".into())
}

/// What went wrong, by the causes that `object_store` looks for in errors of reqwest.
fn lost(error: impl Error + Send + Sync + 'static) -> HttpError {
    HttpError::new(kind_of(&error), error)
}

fn kind_of(error: &(dyn Error + 'static)) -> HttpErrorKind {
    if error.downcast_ref::<ClientError>().is_some_and(ClientError::is_connect) {
        return HttpErrorKind::Connect;
    }
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(kind) = kind_of_cause(error) {
            return kind;
        }
        cause = error.source();
    }
    HttpErrorKind::Unknown
}

fn kind_of_cause(error: &(dyn Error + 'static)) -> Option<HttpErrorKind> {
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        let is_cut = error.is_closed() || error.is_incomplete_message();
        if is_cut || error.is_body_write_aborted() {
            return Some(HttpErrorKind::Request);
        }
        return error.is_timeout().then_some(HttpErrorKind::Timeout);
    }
    match error.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::TimedOut => Some(HttpErrorKind::Timeout),
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(HttpErrorKind::Interrupted),
        _ => None,
    }
}

/// The addresses of a host, with a port that says nothing.
pub(super) async fn addresses(name: String, shuffled: bool) -> io::Result<Vec<SocketAddr>> {
    let found = tokio::task::spawn_blocking(move || {
        Ok::<Vec<SocketAddr>, io::Error>((name.as_str(), 0).to_socket_addrs()?.collect())
    });
    let mut found = found.await??;
    if shuffled {
        found.shuffle(&mut rand::rng());
    }
    Ok(found)
}

/// Finds the addresses of a host.
#[derive(Debug, Clone)]
struct Names {
    shuffled: bool,
}

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        addresses(name.as_str().to_owned(), self.shuffled).map_ok(Vec::into_iter).boxed()
    }
}

#[cfg(test)]
mod tests {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

    use super::*;
    use crate::source::BucketBuilder;

    #[test]
    fn proxies_and_tls_are_for_the_other_client() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        let none = Matcher::builder().build();
        assert!(is_plain(&uri("http://minio:9000"), &none));
        assert!(!is_plain(&uri("https://minio:9000"), &none));
        assert!(!is_plain(&uri("minio:9000"), &none));
        assert!(!is_plain(&uri("http://name:word@minio:9000"), &none));
        let proxy = Matcher::builder().all("http://proxy:3128").no("minio").build();
        assert!(is_plain(&uri("http://minio:9000"), &proxy));
        assert!(!is_plain(&uri("http://other:9000"), &proxy));
    }

    #[test]
    fn settings_that_it_does_not_know_are_for_the_other_client() {
        let fits_with = |name: &str, value: &str| {
            let key: AmazonS3ConfigKey = name.parse().unwrap();
            let builder = AmazonS3Builder::new().with_config(key, value.to_owned());
            let builder = BucketBuilder::S3(Box::new(builder));
            fits(|name| builder.get(name))
        };
        assert!(fits_with("allow_http", "true") && fits_with("http2_only", "false"));
        for (name, value) in
            [("proxy_url", "http://proxy"), ("read_timeout", "5s"), ("http2_only", "on")]
        {
            assert!(!fits_with(name, value), "{name}");
        }
    }
}
