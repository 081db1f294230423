//! The HTTP client of all object stores: `object_store`'s settings, and no request that follows a
//! server to another host.
//!
//! `object_store`'s own client follows redirections, and reqwest then takes only the headers away
//! that it knows to be secret; `x-amz-security-token` is none of them. What is sent, signed and
//! retried is not decided here.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Certificate, NoProxy, Proxy};

use super::plain::{self, PlainHttp, PlainSettings, addresses};
use crate::error::Redirected;

/// What servers get to know, unless the settings say otherwise.
const USER_AGENT: &str = concat!("refreeze/", env!("CARGO_PKG_VERSION"));

/// Redirections within a host that are followed one after the other.
const MOST_REDIRECTIONS: usize = 5;

/// Says where an answer redirects to.
fn redirected(response: &HttpResponse) -> Redirected {
    let header = |name| response.headers().get(name)?.to_str().ok();
    let host = header(header::LOCATION.as_str())
        .and_then(|location| url::Url::parse(location).ok())
        .and_then(|url| Some((url.host_str()?.to_owned(), url.port())));
    let to = match host {
        Some((host, Some(port))) => format!("to another host, {host}:{port}"),
        Some((host, None)) => format!("to another host, {host}"),
        None => "to a place that it does not name".to_owned(),
    };
    let region = header("x-amz-bucket-region")
        .map_or_else(String::new, |region| format!("; the bucket is in region {region}"));
    Redirected { status: response.status().as_u16(), to, region }
}

/// Makes clients that follow redirections within a host only; for `with_http_connector`.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    root_certificates: Vec<Certificate>,
    /// Sent with every request, besides what the settings say.
    headers: HeaderMap,
}

impl Transport {
    /// Trusts further certificates, given as a bundle in PEM form.
    ///
    /// `object_store`'s options hold them too, but do not tell them.
    ///
    /// # Errors
    ///
    /// When the bundle cannot be read.
    pub fn with_root_certificates(mut self, pem: &[u8]) -> object_store::Result<Self> {
        let certificates = Certificate::from_pem_bundle(pem);
        self.root_certificates.extend(certificates.map_err(unusable)?);
        Ok(self)
    }

    /// Sends further headers with every request; they are neither stored nor shown.
    ///
    /// # Errors
    ///
    /// The name of the first one that no request can carry.
    pub fn with_headers<'a>(
        mut self,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> std::result::Result<Self, String> {
        for (name, value) in headers {
            let unfit = || format!("no request can carry the header {name}");
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| unfit())?;
            value.set_sensitive(true);
            self.headers.insert(key, value);
        }
        Ok(self)
    }

    /// Whether it trusts what every client of the system trusts, and sends nothing of its own.
    pub(crate) fn is_plain(&self) -> bool {
        self.root_certificates.is_empty() && self.headers.is_empty()
    }
}

impl HttpConnector for Transport {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let settings = Settings(options);
        let client = HttpClient::new(self.client(&settings, Policy::custom(within_host))?);
        Ok(HttpClient::new(WithinHost { client, plain: self.plain(&settings)? }))
    }
}

impl Transport {
    /// A client whose user follows redirections itself.
    pub(super) fn without_redirections(
        &self,
        options: &ClientOptions,
    ) -> object_store::Result<reqwest::Client> {
        self.client(&Settings(options), Policy::none())
    }

    /// A client for listings in plain HTTP, unless the settings need another one.
    fn plain(&self, settings: &Settings<'_>) -> object_store::Result<Option<PlainHttp>> {
        let fits = plain::fits(|name| settings.text(name.parse().ok()?));
        if !fits || !settings.flag(ClientConfigKey::AllowHttp)? {
            return Ok(None);
        }
        Ok(Some(PlainHttp::new(PlainSettings {
            headers: self.headers(settings)?,
            timeout: settings.duration(ClientConfigKey::Timeout)?,
            connect_timeout: settings.duration(ClientConfigKey::ConnectTimeout)?,
            pool_idle_timeout: settings.duration(ClientConfigKey::PoolIdleTimeout)?,
            pool_max_idle_per_host: settings.number(ClientConfigKey::PoolMaxIdlePerHost)?,
            randomize_addresses: settings.flag(ClientConfigKey::RandomizeAddresses)?,
        })))
    }

    /// What is sent with every request.
    fn headers(&self, settings: &Settings<'_>) -> object_store::Result<HeaderMap> {
        let agent = settings.text(ClientConfigKey::UserAgent);
        let agent = HeaderValue::from_str(agent.as_deref().unwrap_or(USER_AGENT));
        let agent = agent.map_err(|_| wrong(ClientConfigKey::UserAgent, "text for a header"))?;
        let mut headers = HeaderMap::from_iter([(header::USER_AGENT, agent)]);
        headers.extend(settings.0.get_default_headers().cloned().unwrap_or_default());
        headers.extend(self.headers.clone());
        Ok(headers)
    }

    /// A client with all settings, as `object_store` itself applies them.
    fn client(
        &self,
        settings: &Settings<'_>,
        redirections: Policy,
    ) -> object_store::Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .redirect(redirections)
            // A compressed answer would have no length.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .default_headers(self.headers(settings)?)
            .https_only(!settings.flag(ClientConfigKey::AllowHttp)?);
        if let Some(url) = settings.text(ClientConfigKey::ProxyUrl) {
            let mut proxy = Proxy::all(url).map_err(unusable)?;
            if let Some(pem) = settings.text(ClientConfigKey::ProxyCaCertificate) {
                let certificate = Certificate::from_pem(pem.as_bytes()).map_err(unusable)?;
                builder = builder.tls_certs_merge([certificate]);
            }
            if let Some(excludes) = settings.text(ClientConfigKey::ProxyExcludes) {
                proxy = proxy.no_proxy(NoProxy::from_string(&excludes));
            }
            builder = builder.proxy(proxy);
        }
        let certificates = self.root_certificates.clone();
        builder = if settings.flag(ClientConfigKey::NoSystemCertificates)? {
            builder.tls_certs_only(certificates)
        } else {
            builder.tls_certs_merge(certificates)
        };
        if let Some(timeout) = settings.duration(ClientConfigKey::Timeout)? {
            builder = builder.timeout(timeout);
        }
        if let Some(timeout) = settings.duration(ClientConfigKey::ConnectTimeout)? {
            builder = builder.connect_timeout(timeout);
        }
        if let Some(timeout) = settings.duration(ClientConfigKey::ReadTimeout)? {
            builder = builder.read_timeout(timeout);
        }
        if let Some(timeout) = settings.duration(ClientConfigKey::PoolIdleTimeout)? {
            builder = builder.pool_idle_timeout(timeout);
        }
        if let Some(most) = settings.number(ClientConfigKey::PoolMaxIdlePerHost)? {
            builder = builder.pool_max_idle_per_host(most);
        }
        if let Some(interval) = settings.duration(ClientConfigKey::Http2KeepAliveInterval)? {
            builder = builder.http2_keep_alive_interval(interval);
        }
        if let Some(timeout) = settings.duration(ClientConfigKey::Http2KeepAliveTimeout)? {
            builder = builder.http2_keep_alive_timeout(timeout);
        }
        if settings.flag(ClientConfigKey::Http2KeepAliveWhileIdle)? {
            builder = builder.http2_keep_alive_while_idle(true);
        }
        if let Some(size) = settings.number::<u32>(ClientConfigKey::Http2MaxFrameSize)? {
            builder = builder.http2_max_frame_size(size);
        }
        if settings.flag(ClientConfigKey::Http1Only)? {
            builder = builder.http1_only();
        }
        if settings.flag(ClientConfigKey::Http2Only)? {
            builder = builder.http2_prior_knowledge();
        }
        if settings.flag(ClientConfigKey::AllowInvalidCertificates)? {
            builder = builder.danger_accept_invalid_certs(true);
        }
        if settings.flag(ClientConfigKey::RandomizeAddresses)? {
            builder = builder.dns_resolver(Arc::new(Shuffled));
        }
        builder.build().map_err(unusable)
    }
}

fn unusable(error: reqwest::Error) -> object_store::Error {
    object_store::Error::Generic { store: "HTTP client", source: Box::new(error.without_url()) }
}

/// Options by their keys, read as `object_store` reads them.
struct Settings<'a>(&'a ClientOptions);

impl Settings<'_> {
    fn text(&self, key: ClientConfigKey) -> Option<String> {
        self.0.get_config_value(&key)
    }

    fn flag(&self, key: ClientConfigKey) -> object_store::Result<bool> {
        let value = self.text(key).unwrap_or_default().to_ascii_lowercase();
        match value.as_str() {
            "1" | "true" | "on" | "yes" | "y" => Ok(true),
            "" | "0" | "false" | "off" | "no" | "n" => Ok(false),
            _ => Err(wrong(key, "true or false")),
        }
    }

    fn duration(&self, key: ClientConfigKey) -> object_store::Result<Option<Duration>> {
        let parsed = self.text(key).map(|value| humantime::parse_duration(&value));
        parsed.transpose().map_err(|_| wrong(key, "a duration such as \"30 seconds\""))
    }

    fn number<T: FromStr>(&self, key: ClientConfigKey) -> object_store::Result<Option<T>> {
        let parsed = self.text(key).map(|value| value.parse());
        parsed.transpose().map_err(|_| wrong(key, "a number"))
    }
}

fn wrong(key: ClientConfigKey, what: &str) -> object_store::Error {
    let source = format!("the setting {} is not {what}", key.as_ref()).into();
    object_store::Error::Generic { store: "HTTP client", source }
}

/// Whether a redirection leads to the same server, by the same scheme, and keeps the method.
fn within_host(attempt: Attempt<'_>) -> Action {
    let followed = attempt.previous();
    let stays = followed.first().is_some_and(|asked| asked.origin() == attempt.url().origin());
    if stays && followed.len() <= MOST_REDIRECTIONS && attempt.status() != StatusCode::SEE_OTHER {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

/// Turns redirections that were not followed into errors that say where they lead.
struct WithinHost {
    client: HttpClient,
    plain: Option<PlainHttp>,
}

impl fmt::Debug for WithinHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithinHost").finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpService for WithinHost {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = match &self.plain {
            Some(plain) if plain.takes(&request) => {
                let again = request.clone();
                let response = plain.send(request).await?;
                if !response.status().is_redirection() {
                    return Ok(response);
                }
                self.client.execute(again).await?
            }
            _ => self.client.execute(request).await?,
        };
        match response.status() {
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => {
                // A kind that is not retried: the next answer would be the same.
                Err(HttpError::new(HttpErrorKind::Unknown, redirected(&response)))
            }
            _ => Ok(response),
        }
    }
}

/// Spreads connections over the addresses of a service.
#[derive(Debug)]
struct Shuffled;

impl Resolve for Shuffled {
    fn resolve(&self, name: Name) -> Resolving {
        let found = addresses(name.as_str().to_owned(), true);
        Box::pin(async { Ok(Box::new(found.await?.into_iter()) as Addrs) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_read_are_named() {
        for (key, value) in [
            (ClientConfigKey::AllowHttp, "perhaps"),
            (ClientConfigKey::Timeout, "soon"),
            (ClientConfigKey::Http2MaxFrameSize, "large"),
        ] {
            let options = ClientOptions::new().with_config(key, value);
            let error = Transport::default().connect(&options).unwrap_err().to_string();
            assert!(error.contains(key.as_ref()), "{error}");
        }
    }
}
