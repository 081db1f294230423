//! obstore's store objects, which may come from another compiled library, as the crate's sources.
//!
//! A store is rebuilt from what it tells of itself (configuration, client options, retries,
//! credential provider); connections are not shared.

use std::path::PathBuf;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3_object_store::{PyClientOptions, PyS3Store};
use refreeze::source::{LocalSource, S3Settings, S3Source, Source};

use crate::errors::to_python;

/// The source at `path` in an obstore store.
pub(crate) fn source(store: &Bound<'_, PyAny>, path: &str) -> PyResult<Source> {
    let py = store.py();
    let result = match class_name(store)?.as_str() {
        "S3Store" => {
            let settings = S3Settings::of(&s3_builder(store)?);
            let prefix = prefixed(store, path)?;
            Ok(Source::S3(S3Source::with_client(s3_client(store)?, settings, &prefix)))
        }
        "LocalStore" => LocalSource::new(local_path(store, path)?).map(Source::Local),
        other => {
            return Err(PyTypeError::new_err(format!(
                "a source in {other} is not in this version; use an obstore S3Store or LocalStore"
            )));
        }
    };
    result.map_err(|error| to_python(py, &error))
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

/// The settings of an obstore `S3Store`, environment first, as obstore itself applies them.
pub(crate) fn s3_builder(store: &Bound<'_, PyAny>) -> PyResult<AmazonS3Builder> {
    let mut builder = AmazonS3Builder::from_env();
    let client_options = store.getattr("client_options")?;
    if !client_options.is_none() {
        builder = builder.with_client_options(client_options.extract::<PyClientOptions>()?.into());
    }
    for (key, value) in store.getattr("config")?.cast_into::<PyDict>()? {
        let key: String = key.extract()?;
        let parsed = key
            .parse::<AmazonS3ConfigKey>()
            .map_err(|_| PyValueError::new_err(format!("unknown S3 setting {key}")))?;
        builder = builder.with_config(parsed, value.str()?.to_string());
    }
    Ok(builder)
}

/// A client like the store's own, with its retries and its credential provider (Python call-back
/// included).
fn s3_client(store: &Bound<'_, PyAny>) -> PyResult<AmazonS3> {
    let (args, kwargs): (Bound<'_, PyTuple>, Bound<'_, PyDict>) =
        store.call_method0("__getnewargs_ex__")?.extract()?;
    let rebuilt = store.py().get_type::<PyS3Store>().call(args, Some(&kwargs))?;
    let rebuilt = rebuilt.cast::<PyS3Store>()?.get().clone();
    Ok(rebuilt.into_inner().inner().clone())
}
