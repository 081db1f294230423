//! Lets `object_store` do what it does well (credentials, signatures, endpoints, retries) and reads
//! the pages itself: a connector whose service recognises the responses to [`list_page`], scans
//! their bodies, and hands `object_store` a stub with nothing but the token. Everything else passes
//! through untouched. What is done with pages is not its business.
//!
//! [`list_page`]: super::fetch::list_page

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use http::{Method, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};

use tokio::sync::Semaphore;

use super::blobs;
use super::buffers::Buffers;
use super::document::{Refusal, scan};
use super::exchange::{Answer, Exchange};
use super::json;
use super::signer::AzureSigner;
use super::stock;
use crate::source::page::Page;

/// Default limit of a page's body. 1,000 keys of 1,024 bytes, each byte escaped, are 6 MB.
pub const MAX_BODY: usize = 64 << 20;

/// Pages whose bodies are read at the same time. More requests than that may be in flight: those that
/// are answered wait with their bodies in the sockets, not in memory. Of 300 kB in a tenth of a second
/// each they bring 190 MB a second.
const BODIES_AT_ONCE: usize = 64;

/// Which parser reads the pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PageParser {
    /// The scanner, and the stock parser for what it leaves alone.
    #[default]
    Scan,
    /// Always the stock parser of `object_store`; for support cases.
    Xml,
}

impl FromStr for PageParser {
    type Err = UnknownParser;

    /// `scan` (or nothing) and `xml`, as in `REFREEZE_PAGE_PARSER`.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "" | "scan" => Ok(Self::Scan),
            "xml" => Ok(Self::Xml),
            _ => Err(UnknownParser(name.to_owned())),
        }
    }
}

/// In which form a service's listings come.
#[derive(Debug, Clone, Default)]
pub enum Dialect {
    /// As those of S3, or in JSON where the [`Exchange`] says so.
    #[default]
    S3,
    /// As those of Azure.
    Azure(Arc<AzureSigner>),
}

/// The name of a parser that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown page parser {0:?}: use \"scan\" or \"xml\"")]
pub struct UnknownParser(String);

/// Wraps another connector so that pages are scanned; for `with_http_connector`.
#[derive(Debug)]
pub struct PageConnector<C = ReqwestConnector> {
    inner: C,
    parser: PageParser,
    dialect: Dialect,
    max_body: usize,
}

impl PageConnector {
    /// Over `object_store`'s own transport.
    #[must_use]
    pub fn new(parser: PageParser) -> Self {
        Self::over(ReqwestConnector::default(), parser)
    }
}

impl<C> PageConnector<C> {
    /// Over another transport.
    #[must_use]
    pub fn over(inner: C, parser: PageParser) -> Self {
        Self { inner, parser, dialect: Dialect::default(), max_body: MAX_BODY }
    }

    /// For a service whose listings come in another form than S3's.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Pages of more than this many bytes are errors that are not retried; default [`MAX_BODY`].
    #[must_use]
    pub fn with_max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }
}

impl<C: HttpConnector> HttpConnector for PageConnector<C> {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(PageService {
            inner: self.inner.connect(options)?,
            parser: self.parser,
            dialect: self.dialect.clone(),
            max_body: self.max_body,
            buffers: Buffers::default(),
            reading: Semaphore::new(BODIES_AT_ONCE),
            waiting: AtomicU32::new(0),
        }))
    }
}

struct PageService {
    inner: HttpClient,
    parser: PageParser,
    dialect: Dialect,
    max_body: usize,
    buffers: Buffers,
    reading: Semaphore,
    /// Answers that have come and whose turn to be read has not.
    waiting: AtomicU32,
}

impl fmt::Debug for PageService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageService").field("parser", &self.parser).finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpService for PageService {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if let Some(answer) = request.extensions().get::<Arc<Answer>>().cloned() {
            let response = self.inner.execute(request).await?;
            answer.note(&response);
            return Ok(response);
        }
        let exchange = request.extensions().get::<Arc<Exchange>>().cloned();
        let Some(exchange) = exchange.filter(|_| request.method() == Method::GET) else {
            return self.inner.execute(request).await;
        };
        if exchange.json
            && let Some(uri) = json::request(request.uri())
        {
            *request.uri_mut() = uri;
        }
        if let Dialect::Azure(signer) = &self.dialect {
            signer.raise(&mut request).await?;
        }
        Exchange::count(&exchange.requests);
        let response = self.inner.execute(request).await?;
        exchange.status.store(u64::from(response.status().as_u16()), Ordering::Relaxed);
        match response.status() {
            StatusCode::OK => self.page(response, &exchange).await,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                Exchange::count(&exchange.throttled);
                Ok(response)
            }
            StatusCode::UNAUTHORIZED | StatusCode::REQUEST_TIMEOUT => Ok(response),
            status
                if exchange.json
                    && (status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED) =>
            {
                self.refused_json(response, &exchange).await
            }
            _ => Ok(response),
        }
    }
}

impl PageService {
    /// The response with its page in the extensions and a stub for a body, or with the body that
    /// the stock parser is to read.
    async fn page(
        &self,
        response: HttpResponse,
        exchange: &Exchange,
    ) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = response.into_parts();
        let turn = Turn::among(&self.waiting, exchange);
        // Closed never.
        let _reading = self.reading.acquire().await.ok();
        // A body that is being read may be waiting for the network, not here.
        drop(turn);
        let body = read(body, self.max_body, &self.buffers).await?;
        if exchange.json {
            let page = json_page(&body, exchange)?;
            self.buffers.give(body.into());
            let stub = stub(page.next_token.as_deref());
            return Ok(answered(parts, page, stub));
        }
        if matches!(self.dialect, Dialect::Azure(_)) {
            return self.blobs(parts, body, exchange);
        }
        let (refusal, body) = match self.parser {
            PageParser::Scan => match scan(body) {
                Ok(page) => {
                    let (page, body) = page.compacted();
                    self.buffers.give(body);
                    let stub = stub(page.next_token.as_deref());
                    return Ok(answered(parts, page, stub));
                }
                Err(refused) => refused,
            },
            PageParser::Xml => match scan_root(body) {
                Ok(body) => (Refusal::Unusual("not looked at"), body),
                Err(refused) => refused,
            },
        };
        match refusal {
            Refusal::Unusual(_) => match stock::inspect(&body) {
                Ok(notes) => {
                    Exchange::count(&exchange.stock_pages);
                    parts.extensions.insert(notes);
                    Ok(HttpResponse::from_parts(parts, body.into()))
                }
                // Asking again does not help against a key that cannot be represented.
                Err(refusal @ Refusal::Unusual(_)) => {
                    Err(HttpError::new(HttpErrorKind::Decode, refusal))
                }
                Err(refusal) => Err(HttpError::new(HttpErrorKind::Interrupted, refusal)),
            },
            Refusal::ErrorDocument { code, message } => {
                let status = status_of(&code);
                exchange.status.store(u64::from(status.as_u16()), Ordering::Relaxed);
                if status == StatusCode::SERVICE_UNAVAILABLE {
                    Exchange::count(&exchange.throttled);
                }
                parts.status = status;
                // Written anew: the original need not be UTF-8, which `object_store` expects.
                let text =
                    format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
                Ok(HttpResponse::from_parts(parts, text.into()))
            }
            refusal @ (Refusal::NotAListing | Refusal::Incomplete) => {
                Err(HttpError::new(HttpErrorKind::Interrupted, refusal))
            }
        }
    }
}

impl PageService {
    /// An answer of Azure, as [`page`](Self::page).
    fn blobs(
        &self,
        mut parts: http::response::Parts,
        body: Vec<u8>,
        exchange: &Exchange,
    ) -> Result<HttpResponse, HttpError> {
        let body = if self.parser == PageParser::Scan {
            match blobs::scan(body) {
                Ok(blobs) => {
                    exchange.hierarchical.fetch_or(blobs.hierarchical, Ordering::Relaxed);
                    let (page, body) = blobs.page.compacted();
                    self.buffers.give(body);
                    let stub = blobs_stub(page.next_token.as_deref());
                    return Ok(answered(parts, page, stub));
                }
                Err((Refusal::Unusual(_), body)) => body,
                Err((refusal, _)) => {
                    return Err(HttpError::new(HttpErrorKind::Interrupted, refusal));
                }
            }
        } else {
            body
        };
        if !blobs::looks_whole(&body) {
            return Err(HttpError::new(HttpErrorKind::Interrupted, Refusal::Incomplete));
        }
        Exchange::count(&exchange.stock_pages);
        parts.extensions.insert(stock::Notes::default());
        Ok(HttpResponse::from_parts(parts, body.into()))
    }

    /// A refusal of a request to the JSON API: of one that is not there, if it is not in JSON.
    async fn refused_json(
        &self,
        response: HttpResponse,
        exchange: &Exchange,
    ) -> Result<HttpResponse, HttpError> {
        let (parts, body) = response.into_parts();
        let body = read(body, self.max_body, &self.buffers).await?;
        exchange.json_absent.fetch_or(!json::is_json(&body), Ordering::Relaxed);
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}

/// An answer that has come, until it is its turn to be read.
struct Turn<'a>(&'a AtomicU32);

impl<'a> Turn<'a> {
    fn among(waiting: &'a AtomicU32, exchange: &Exchange) -> Self {
        exchange.waiting.store(waiting.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A page of the JSON API.
fn json_page(body: &[u8], exchange: &Exchange) -> Result<Page, HttpError> {
    if !json::is_json(body) {
        exchange.json_absent.store(true, Ordering::Relaxed);
        return Err(HttpError::new(HttpErrorKind::Decode, Refusal::NotAListing));
    }
    json::read(body).map_err(|refusal| match refusal {
        Refusal::Incomplete => HttpError::new(HttpErrorKind::Interrupted, refusal),
        refusal => HttpError::new(HttpErrorKind::Decode, refusal),
    })
}

/// The response with its page in the extensions, and a stub for a body.
fn answered(mut parts: http::response::Parts, page: Page, stub: String) -> HttpResponse {
    parts.extensions.insert(Arc::new(page));
    parts.headers.remove(header::CONTENT_LENGTH);
    HttpResponse::from_parts(parts, stub.into())
}

/// For the stock path: whether the body is a listing at all, which the stock parser does not ask.
fn scan_root(body: Vec<u8>) -> Result<Vec<u8>, (Refusal, Vec<u8>)> {
    match super::document::root(&body) {
        Ok(()) | Err(Refusal::Unusual(_)) => Ok(body),
        Err(refusal) => Err((refusal, body)),
    }
}

/// The status that an error document under 200 should have had: `object_store` retries 5xx.
fn status_of(code: &str) -> StatusCode {
    match code {
        "SlowDown" | "ServiceUnavailable" | "RequestLimitExceeded" | "TooManyRequests" => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        "AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" => {
            StatusCode::FORBIDDEN
        }
        "NoSuchBucket" => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Reads a whole body. Whatever goes wrong on the way may be asked again.
async fn read(
    mut body: HttpResponseBody,
    limit: usize,
    buffers: &Buffers,
) -> Result<Vec<u8>, HttpError> {
    let too_large = || {
        let text = format!("a listing of more than {limit} bytes");
        HttpError::new_boxed(HttpErrorKind::Decode, text.into())
    };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(too_large());
    }
    let mut bytes = buffers.take(announced);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.kind() {
            HttpErrorKind::Timeout => error,
            _ => HttpError::new(HttpErrorKind::Interrupted, error),
        })?;
        let Ok(data) = frame.into_data() else {
            continue; // trailers
        };
        if bytes.len() + data.len() > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The document that the stock parser gets instead of the page.
fn stub(next_token: Option<&str>) -> String {
    match next_token {
        None => "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>".to_owned(),
        Some(token) => {
            let token = token.replace('&', "&amp;").replace('<', "&lt;");
            format!(
                "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>"
            )
        }
    }
}

/// As [`stub`], for Azure.
fn blobs_stub(marker: Option<&str>) -> String {
    let marker = marker.unwrap_or_default().replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<EnumerationResults><Blobs></Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
    )
}
