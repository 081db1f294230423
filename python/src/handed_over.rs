//! Storage of the icechunk package: its serialised form, and the Python call-backs in it.
//!
//! The package pickles a function that gives credentials. Here it is called again, by the name that
//! the package's own fetchers have in Icechunk's registry. What becomes of the storage is decided by
//! the crate.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use icechunk::Storage;
use icechunk::config::{
    AzureCredentialsFetcher, AzureRefreshableCredential, GcsBearerCredential,
    GcsCredentialsFetcher, S3CredentialsFetcher, S3StaticCredentials,
};
use icechunk::storage::ObjectStorage;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use refreeze::target::handed_over;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The first byte of a serialised repository: an array of nine fields.
const NINE_FIELDS: u8 = 0x99;

/// By position: version, configuration, its version, settings, storage, and what it is used with.
type Fields<S> = (
    IgnoredAny,
    IgnoredAny,
    IgnoredAny,
    IgnoredAny,
    S,
    IgnoredAny,
    IgnoredAny,
    IgnoredAny,
    IgnoredAny,
);

/// The storage in the serialised form of an `icechunk.Repository`, or why there is none.
pub(crate) fn storage(state: &[u8]) -> Result<Arc<dyn Storage + Send + Sync>, String> {
    let unknown = || "its layout is unknown".to_owned();
    if state.first() != Some(&NINE_FIELDS) {
        return Err(unknown());
    }
    if let Ok(fields) = rmp_serde::from_slice::<Fields<Value>>(state) {
        return handed_over::storage(&fields.4);
    }
    // Settings of the clients of Google and Azure have names that are no texts.
    let fields: Fields<ObjectStorage> = rmp_serde::from_slice(state).map_err(|_| unknown())?;
    handed_over::of_another_service(fields.4)
}

/// A function of the caller's, pickled, that gives credentials.
#[derive(Serialize, Deserialize)]
struct PythonCredentialsFetcher {
    pickled_function: Vec<u8>,
}

impl fmt::Debug for PythonCredentialsFetcher {
    /// Nothing of the function, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PythonCredentialsFetcher").finish_non_exhaustive()
    }
}

impl PythonCredentialsFetcher {
    /// Calls the function in a thread that may wait, and takes what it gives apart.
    async fn call<T: Send + 'static>(
        &self,
        take: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T> + Send + 'static,
    ) -> Result<T, String> {
        let pickled = self.pickled_function.clone();
        let called = tokio::task::spawn_blocking(move || {
            Python::attach(|py| {
                let function =
                    py.import("pickle")?.call_method1("loads", (PyBytes::new(py, &pickled),))?;
                take(&function.call0()?)
            })
        });
        match called.await {
            Ok(given) => given.map_err(|error: PyErr| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// When credentials end, if they do.
fn ends(given: &Bound<'_, PyAny>) -> PyResult<Option<DateTime<Utc>>> {
    given.getattr("expires_after")?.extract()
}

#[typetag::serde]
#[async_trait]
impl S3CredentialsFetcher for PythonCredentialsFetcher {
    async fn get(&self) -> Result<S3StaticCredentials, String> {
        self.call(|given| {
            Ok(S3StaticCredentials {
                access_key_id: given.getattr("access_key_id")?.extract()?,
                secret_access_key: given.getattr("secret_access_key")?.extract()?,
                session_token: given.getattr("session_token")?.extract()?,
                expires_after: ends(given)?,
            })
        })
        .await
    }
}

#[typetag::serde]
#[async_trait]
impl GcsCredentialsFetcher for PythonCredentialsFetcher {
    async fn get(&self) -> Result<GcsBearerCredential, String> {
        self.call(|given| {
            let bearer = remembered(given.getattr("bearer")?.extract()?);
            Ok(GcsBearerCredential { bearer, expires_after: ends(given)? })
        })
        .await
    }
}

#[typetag::serde]
#[async_trait]
impl AzureCredentialsFetcher for PythonCredentialsFetcher {
    async fn get(&self) -> Result<AzureRefreshableCredential, String> {
        self.call(|given| {
            let expires_after = ends(given)?;
            let text = |name: &str| given.getattr(name)?.extract().map(remembered);
            Ok(if given.hasattr("bearer")? {
                AzureRefreshableCredential::BearerToken { bearer: text("bearer")?, expires_after }
            } else if given.hasattr("token")? {
                AzureRefreshableCredential::SASToken { token: text("token")?, expires_after }
            } else {
                AzureRefreshableCredential::AccessKey { key: text("key")?, expires_after }
            })
        })
        .await
    }
}

/// A secret, which is shown nowhere from now on.
fn remembered(secret: String) -> String {
    refreeze::shown::secrets::remember(&secret);
    secret
}
