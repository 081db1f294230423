//! obstore's store objects, which may come from another compiled library, as the crate's sources.
//!
//! A store is rebuilt from what it tells of itself (configuration, client options, retries,
//! credential provider); connections are not shared. One that cannot be rebuilt, because it lives in
//! memory or says something of itself that is not known here, is listed by its own library.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::RetryConfig;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredentialProvider};
use object_store::azure::{AzureConfigKey, AzureCredentialProvider, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorageBuilder, GoogleConfigKey};
use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyAttributeError, PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3_object_store::{PyAzureStore, PyClientOptions, PyGCSStore, PyS3Store};
use refreeze::source::retry::RetryPolicy;
use refreeze::source::transport::Transport;
use refreeze::source::{BucketBuilder, BucketSource, ForeignSource, LocalSource, Source, checked};

use crate::errors::to_python;
use crate::foreign::PythonStore;

/// A source that several listings share, and its connections with it; see `refreeze.ZarrParser`.
#[pyclass(frozen, module = "refreeze._refreeze")]
pub(crate) struct OpenedSource(pub(crate) Source);

impl OpenedSource {
    pub(crate) fn new(source: Source) -> Self {
        Self(source)
    }
}

#[pymethods]
impl OpenedSource {
    /// Whether only the store's own library lists and reads it.
    #[getter]
    fn is_foreign(&self) -> bool {
        matches!(self.0, Source::Foreign(_))
    }
}

/// Opens the source at `path` in an obstore store.
#[pyfunction]
pub(crate) fn open_source(store: &Bound<'_, PyAny>, path: &str) -> PyResult<OpenedSource> {
    source(store, path).map(OpenedSource)
}

/// The source at `path` in an obstore store, or one that has been opened there.
pub(crate) fn source(store: &Bound<'_, PyAny>, path: &str) -> PyResult<Source> {
    let py = store.py();
    if let Ok(opened) = store.cast::<OpenedSource>() {
        return Ok(opened.get().0.clone());
    }
    let result = match kind(store)?.as_str() {
        "S3Store" | "GCSStore" | "AzureStore" => match bucket(store, path) {
            Ok(result) => result.map(Source::Bucket),
            Err(error) if is_unknown(py, &error) => Ok(foreign(store, path, Some(&error))?),
            Err(error) => return Err(error),
        },
        "LocalStore" => LocalSource::new(local_path(store, path)?).map(Source::Local),
        "WebStore" => return on_the_web(store, path),
        _ => Ok(foreign(store, path, None)?),
    };
    result.map_err(|error| to_python(py, &error))
}

/// The class of obstore's that a store is of, its subclasses included; `refreeze.stores.kinds` knows.
fn kind(store: &Bound<'_, PyAny>) -> PyResult<String> {
    store.py().import("refreeze.stores.kinds")?.call_method1("kind_of", (store,))?.extract()
}

/// Whether a store says something of itself that this library does not understand.
fn is_unknown(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyValueError>(py)
        || error.is_instance_of::<PyTypeError>(py)
        || error.is_instance_of::<PyAttributeError>(py)
        || error.is_instance_of::<PyKeyError>(py)
}

/// A store that is listed by its own library, because of an error or of what it is.
fn foreign(store: &Bound<'_, PyAny>, path: &str, why: Option<&PyErr>) -> PyResult<Source> {
    if !store.hasattr("list")? {
        return Err(PyTypeError::new_err(format!(
            "a {} cannot be listed; use a store of obstore",
            class_name(store)?
        )));
    }
    let class = class_name(store)?;
    let because = why.map(|error| {
        format!(" ({})", refreeze::error::first_line(&error.value(store.py()).to_string()))
    });
    // What is in memory is listed at once by any library.
    let warning = (kind(store)? != "MemoryStore").then(|| {
        format!(
            "this {class} cannot be rebuilt here{}: its own library lists it, one page after the other",
            because.unwrap_or_default()
        )
    });
    let pages = Arc::new(PythonStore::new(store, path));
    Ok(Source::Foreign(ForeignSource::new(pages, class, warning)))
}

/// The folder at `path` of a `refreeze.stores.web_store.WebStore`, which keeps its server open.
fn on_the_web(store: &Bound<'_, PyAny>, path: &str) -> PyResult<Source> {
    match &store.getattr("opened")?.cast::<OpenedSource>()?.get().0 {
        Source::Web(server) => Ok(Source::Web(server.below(path))),
        _ => Err(PyTypeError::new_err("the store is no web server")),
    }
}

/// A bucket; listings are as persistent as the store says, if it does.
fn bucket(store: &Bound<'_, PyAny>, path: &str) -> PyResult<refreeze::Result<BucketSource>> {
    let mut list_retries = RetryPolicy::default();
    let config = store.getattr("retry_config")?;
    if !config.is_none() {
        let config = retries(&config)?;
        list_retries.attempts =
            u32::try_from(config.max_retries).unwrap_or(u32::MAX).saturating_add(1);
        list_retries.first = config.backoff.init_backoff;
        list_retries.longest = config.backoff.max_backoff;
    }
    let prefix = prefixed(store, path)?;
    let source = BucketSource::over(transport(store)?, bucket_builder(store)?, &prefix);
    Ok(source.map(|source| source.with_list_retries(list_retries)))
}

fn class_name(store: &Bound<'_, PyAny>) -> PyResult<String> {
    store.get_type().name()?.extract()
}

/// A path in the store's bucket: the store's own prefix comes first.
pub(crate) fn prefixed(store: &Bound<'_, PyAny>, path: &str) -> PyResult<String> {
    let prefix = store.getattr("prefix")?;
    let prefix = if prefix.is_none() { String::new() } else { prefix.str()?.to_string() };
    let parts = [prefix.trim_matches('/'), path.trim_matches('/')];
    Ok(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"))
}

fn local_path(store: &Bound<'_, PyAny>, path: &str) -> PyResult<PathBuf> {
    let prefix: Option<PathBuf> = store.getattr("prefix")?.extract()?;
    let root = prefix.unwrap_or_else(|| PathBuf::from("/"));
    Ok(if path.is_empty() { root } else { root.join(path) })
}

/// The settings of an obstore `S3Store`, `GCSStore` or `AzureStore`, environment first, as obstore
/// itself applies them.
pub(crate) fn bucket_builder(store: &Bound<'_, PyAny>) -> PyResult<BucketBuilder> {
    let provided = !store.getattr("credential_provider")?.is_none();
    let client = store.getattr("client_options")?;
    let client = (!client.is_none()).then(|| client.extract::<PyClientOptions>()).transpose()?;
    let retry = store.getattr("retry_config")?;
    let retry = (!retry.is_none()).then(|| retries(&retry)).transpose()?;
    let config = store.getattr("config")?.cast_into::<PyDict>()?;
    // The three builders are alike, and have nothing in common that says so.
    macro_rules! applied {
        ($builder:expr, $key:ty, $prefix:literal, $credentials:expr) => {{
            let mut builder = $builder;
            if let Some(client) = client {
                builder = builder.with_client_options(client.into());
            }
            if let Some(retry) = retry {
                builder = builder.with_retry(retry);
            }
            for (key, value) in config {
                let key: String = key.extract()?;
                // obstore leaves the prefix away, also where object_store knows no name without it.
                let parsed = key
                    .parse::<$key>()
                    .or_else(|_| format!(concat!($prefix, "{}"), key).parse())
                    .map_err(|_| PyValueError::new_err(format!("unknown setting {key}")))?;
                builder = builder.with_config(parsed, value.str()?.to_string());
            }
            if provided {
                builder = builder.with_credentials(checked($credentials(store)?));
            }
            Box::new(builder)
        }};
    }
    Ok(match kind(store)?.as_str() {
        "GCSStore" => BucketBuilder::Gcs(applied!(
            GoogleCloudStorageBuilder::from_env(),
            GoogleConfigKey,
            "google_",
            gcs_credentials
        )),
        "AzureStore" => BucketBuilder::Azure(applied!(
            MicrosoftAzureBuilder::from_env(),
            AzureConfigKey,
            "azure_",
            azure_credentials
        )),
        _ => BucketBuilder::S3(applied!(
            AmazonS3Builder::from_env(),
            AmazonS3ConfigKey,
            "aws_",
            s3_credentials
        )),
    })
}

/// How the server of an obstore store is reached. Certificates that it trusts are the one setting
/// that its client options hold and do not tell.
pub(crate) fn transport(store: &Bound<'_, PyAny>) -> PyResult<Transport> {
    let transport = Transport::default();
    let options = store.getattr("client_options")?;
    if options.is_none() {
        return Ok(transport);
    }
    let Some(pem) = part(&options, "root_certificate")? else { return Ok(transport) };
    let pem = match pem.extract::<String>() {
        Ok(text) => text.into_bytes(),
        Err(_) => pem.extract::<Vec<u8>>()?,
    };
    transport
        .with_root_certificates(&pem)
        .map_err(|error| PyValueError::new_err(format!("root_certificate: {error}")))
}

/// obstore's `RetryConfig`, a dictionary of which every part may be left out.
fn retries(config: &Bound<'_, PyAny>) -> PyResult<RetryConfig> {
    let mut retries = RetryConfig::default();
    if let Some(most) = part(config, "max_retries")? {
        retries.max_retries = most.extract()?;
    }
    if let Some(timeout) = part(config, "retry_timeout")? {
        retries.retry_timeout = timeout.extract::<Duration>()?;
    }
    if let Some(backoff) = part(config, "backoff")? {
        if let Some(first) = part(&backoff, "init_backoff")? {
            retries.backoff.init_backoff = first.extract()?;
        }
        if let Some(longest) = part(&backoff, "max_backoff")? {
            retries.backoff.max_backoff = longest.extract()?;
        }
        if let Some(base) = part(&backoff, "base")? {
            retries.backoff.base = base.extract()?;
        }
    }
    Ok(retries)
}

/// An entry of a dictionary that may be absent or None.
fn part<'py>(config: &Bound<'py, PyAny>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(config.cast::<PyDict>()?.get_item(name)?.filter(|value| !value.is_none()))
}

/// The store once more, made by this library: its credential provider comes with it, Python
/// call-back included.
fn rebuilt<'py, S: PyTypeInfo>(store: &Bound<'py, PyAny>) -> PyResult<Bound<'py, S>> {
    let (args, kwargs): (Bound<'_, PyTuple>, Bound<'_, PyDict>) =
        store.call_method0("__getnewargs_ex__")?.extract()?;
    if let Some(provider) = part(&kwargs, "credential_provider")? {
        // It will be called where no event loop of Python runs.
        let providers = store.py().import("refreeze.stores.providers")?;
        let provider = providers.call_method1("callable_anywhere", (provider,))?;
        kwargs.set_item("credential_provider", provider)?;
    }
    let rebuilt = store.py().get_type::<S>().call(args, Some(&kwargs))?;
    Ok(rebuilt.cast_into::<S>()?)
}

fn s3_credentials(store: &Bound<'_, PyAny>) -> PyResult<AwsCredentialProvider> {
    let store = rebuilt::<PyS3Store>(store)?.get().clone().into_inner();
    Ok(Arc::clone(store.inner().credentials()))
}

fn gcs_credentials(store: &Bound<'_, PyAny>) -> PyResult<GcpCredentialProvider> {
    let store = rebuilt::<PyGCSStore>(store)?.get().clone().into_inner();
    Ok(Arc::clone(store.inner().credentials()))
}

fn azure_credentials(store: &Bound<'_, PyAny>) -> PyResult<AzureCredentialProvider> {
    let store = rebuilt::<PyAzureStore>(store)?.get().clone().into_inner();
    Ok(Arc::clone(store.inner().credentials()))
}
