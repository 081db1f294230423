//! Raises the service version of Azure's listings from a given key on, which the version that
//! `object_store` asks for does not know, and signs them again where the version is signed.

use std::fmt;

use http::{HeaderName, HeaderValue, header};
use object_store::azure::{AzureAuthorizer, AzureCredential, AzureCredentialProvider};
use object_store::client::{HttpError, HttpErrorKind, HttpRequest};

/// The first version with `startFrom`.
const VERSION: HeaderValue = HeaderValue::from_static("2026-02-06");

const VERSION_HEADER: HeaderName = HeaderName::from_static("x-ms-version");

/// Signs requests to one account.
pub struct AzureSigner {
    provider: AzureCredentialProvider,
    account: String,
    anonymous: bool,
}

impl fmt::Debug for AzureSigner {
    /// Without the provider, which knows credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureSigner").field("account", &self.account).finish_non_exhaustive()
    }
}

impl AzureSigner {
    /// For requests to an account, with what the provider knows; `anonymous` ones are not signed.
    #[must_use]
    pub const fn new(provider: AzureCredentialProvider, account: String, anonymous: bool) -> Self {
        Self { provider, account, anonymous }
    }

    /// Changes a LIST request that begins at a key; others stay as they are.
    pub(super) async fn raise(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        let query = request.uri().query().unwrap_or_default();
        if !query.split('&').any(|pair| pair.starts_with("startFrom=")) {
            return Ok(());
        }
        request.headers_mut().insert(VERSION_HEADER, VERSION);
        if self.anonymous {
            return Ok(());
        }
        let failed = |error| HttpError::new(HttpErrorKind::Request, error);
        let credential = self.provider.get_credential().await.map_err(failed)?;
        // Neither a token nor a shared access signature signs the version.
        if matches!(credential.as_ref(), AzureCredential::AccessKey(_)) {
            request.headers_mut().remove(header::AUTHORIZATION);
            AzureAuthorizer::new(&credential, &self.account)
                .try_authorize(request)
                .map_err(failed)?;
        }
        Ok(())
    }
}
