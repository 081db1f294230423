//! Web servers as `refreeze.stores.web_store` describes them, as the crate's sources.

use std::collections::HashMap;

use object_store::{ClientConfigKey, ClientOptions};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use refreeze::source::transport::Transport;
use refreeze::source::{Probing, Source, WebSettings, WebSource};

use crate::errors::to_python;
use crate::stores::OpenedSource;

/// Opens the root of a web server; what is learned of it is shared by all that is read below.
#[pyfunction]
#[pyo3(signature = (
    base, *, headers, client, root_certificate, probe, yes, max_requests_per_second
))]
#[expect(clippy::too_many_arguments, reason = "the settings of one Python call, all by name")]
pub(crate) fn open_web(
    py: Python<'_>,
    base: String,
    headers: Vec<(String, String)>,
    client: HashMap<String, String>,
    root_certificate: Option<Vec<u8>>,
    probe: bool,
    yes: bool,
    max_requests_per_second: Option<f64>,
) -> PyResult<OpenedSource> {
    let mut options = ClientOptions::new();
    for (name, value) in client {
        let key = name
            .parse::<ClientConfigKey>()
            .map_err(|_| PyValueError::new_err(format!("unknown setting {name}")))?;
        options = options.with_config(key, value);
    }
    let mut transport = Transport::default();
    if let Some(pem) = root_certificate {
        transport = transport
            .with_root_certificates(&pem)
            .map_err(|error| PyValueError::new_err(format!("root_certificate: {error}")))?;
    }
    let probing = Probing { allowed: probe, yes, most_per_second: max_requests_per_second };
    WebSource::new(WebSettings { base, headers, options, transport, probing })
        .map(|source| OpenedSource(Source::Web(source)))
        .map_err(|error| to_python(py, &error))
}
