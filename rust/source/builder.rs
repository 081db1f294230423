//! The settings of a bucket, of whichever service, before there is a client.
//!
//! Everything is applied: environment, options, credentials. What the settings mean is
//! `object_store`'s business; here is only what has to be the same for all services.

use std::fmt;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ObjectStore, RetryConfig, StaticCredentialProvider};

use super::credentials::{can_be_sent, unsendable};
use super::service::Service;
use super::transport::Transport;
use crate::error::chain;
use crate::shown::secrets;
use crate::{Error, ErrorKind, Result};

/// The settings of a bucket, all applied.
#[derive(Clone)]
pub enum BucketBuilder {
    /// See [`Service::S3`].
    S3(Box<AmazonS3Builder>),
    /// See [`Service::Gcs`].
    Gcs(Box<GoogleCloudStorageBuilder>),
    /// See [`Service::Azure`].
    Azure(Box<MicrosoftAzureBuilder>),
}

impl fmt::Debug for BucketBuilder {
    /// The service only: builders know credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BucketBuilder").field(&self.service()).finish()
    }
}

/// Settings that are secrets, by service.
const SECRET_OF_S3: [&str; 4] = [
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_sse_customer_key_base64",
];
const SECRET_OF_GCS: [&str; 2] = ["google_service_account_key", "google_bearer_token"];
const SECRET_OF_AZURE: [&str; 6] = [
    "azure_storage_account_key",
    "azure_storage_sas_key",
    "azure_storage_token",
    "azure_storage_client_secret",
    "azure_fabric_session_token",
    "azure_storage_encryption_key",
];

/// Settings that become a part of requests, beside the secret ones.
const SENT_OF_S3: [&str; 4] =
    ["aws_region", "aws_endpoint", "aws_endpoint_url_s3", "aws_sse_kms_key_id"];

impl BucketBuilder {
    /// Which service the bucket is of.
    #[must_use]
    pub const fn service(&self) -> Service {
        match self {
            Self::S3(_) => Service::S3,
            Self::Gcs(_) => Service::Gcs,
            Self::Azure(_) => Service::Azure,
        }
    }

    /// The value of a setting, by `object_store`'s name.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        match self {
            Self::S3(builder) => builder.get_config_value(&name.parse::<AmazonS3ConfigKey>().ok()?),
            Self::Gcs(builder) => builder.get_config_value(&name.parse::<GoogleConfigKey>().ok()?),
            Self::Azure(builder) => builder.get_config_value(&name.parse::<AzureConfigKey>().ok()?),
        }
    }

    /// Whether a setting is on: `object_store` keeps it as it was written.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| {
            !matches!(value.to_ascii_lowercase().as_str(), "" | "0" | "false" | "off" | "no" | "n")
        })
    }

    /// Name of the bucket or container.
    #[must_use]
    pub fn bucket(&self) -> String {
        let name = match self {
            Self::S3(_) => "aws_bucket",
            Self::Gcs(_) => "google_bucket",
            Self::Azure(_) => "azure_container_name",
        };
        self.get(name).unwrap_or_default()
    }

    /// Remembers the secrets among the settings and refuses those that cannot be sent.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Access`] naming the setting, never its value.
    pub(crate) fn check(&self) -> Result<()> {
        let (secret, sent): (&[&str], &[&str]) = match self {
            Self::S3(_) => (&SECRET_OF_S3, &SENT_OF_S3),
            Self::Gcs(_) => (&SECRET_OF_GCS, &["google_base_url"]),
            Self::Azure(_) => (&SECRET_OF_AZURE, &["azure_storage_endpoint"]),
        };
        for value in secret.iter().filter_map(|name| self.get(name)) {
            secrets::remember(&value);
            secrets::remember_parts(&value);
        }
        let endpoints = ["aws_endpoint", "aws_endpoint_url_s3", "google_base_url", "proxy_url"];
        for value in endpoints.into_iter().filter_map(|name| self.get(name)) {
            if let Some(password) =
                url::Url::parse(&value).ok().as_ref().and_then(url::Url::password)
            {
                secrets::remember(password);
            }
        }
        // A service account's key is a document, and not sent.
        let document = |name: &&&str| **name == "google_service_account_key";
        for name in secret.iter().chain(sent).filter(|name| !document(name)) {
            if self.get(name).is_some_and(|value| !can_be_sent(&value)) {
                return Err(unsendable(name, self.service()));
            }
        }
        Ok(())
    }

    /// With other retries.
    #[must_use]
    pub(crate) fn with_retry(self, retry: RetryConfig) -> Self {
        match self {
            Self::S3(builder) => Self::S3(Box::new(builder.with_retry(retry))),
            Self::Gcs(builder) => Self::Gcs(Box::new(builder.with_retry(retry))),
            Self::Azure(builder) => Self::Azure(Box::new(builder.with_retry(retry))),
        }
    }

    /// Reached by this transport, and written to by conditions that the service knows.
    #[must_use]
    pub(crate) fn for_writing(self, transport: Transport) -> Self {
        let anonymous = self.is_anonymous();
        match self {
            Self::S3(builder) => Self::S3(Box::new(
                builder
                    .with_conditional_put(S3ConditionalPut::ETagMatch)
                    .with_http_connector(transport),
            )),
            Self::Gcs(builder) if anonymous => {
                // object_store would look for credentials to write with all the same; an emulator
                // takes any.
                let none = GcpCredential { bearer: String::new() };
                let none = Arc::new(StaticCredentialProvider::new(none));
                let builder = builder.with_credentials(none);
                Self::Gcs(Box::new(builder.with_http_connector(transport)))
            }
            Self::Gcs(builder) => Self::Gcs(Box::new(builder.with_http_connector(transport))),
            Self::Azure(builder) => Self::Azure(Box::new(builder.with_http_connector(transport))),
        }
    }

    /// Whether requests are not signed.
    pub(crate) fn is_anonymous(&self) -> bool {
        match self {
            Self::S3(_) => self.is_on("aws_skip_signature"),
            Self::Gcs(_) => self.is_on("google_skip_signature"),
            Self::Azure(_) => self.is_on("azure_skip_signature"),
        }
    }

    /// Reached by this transport.
    #[must_use]
    pub(crate) fn for_reading(self, transport: Transport) -> Self {
        match self {
            Self::S3(builder) => Self::S3(Box::new(builder.with_http_connector(transport))),
            Self::Gcs(builder) => Self::Gcs(Box::new(builder.with_http_connector(transport))),
            Self::Azure(builder) => Self::Azure(Box::new(builder.with_http_connector(transport))),
        }
    }

    /// A client.
    pub(crate) fn build(self) -> object_store::Result<Arc<dyn ObjectStore>> {
        Ok(match self {
            Self::S3(builder) => Arc::new(builder.build()?),
            Self::Gcs(builder) => Arc::new(builder.build()?),
            Self::Azure(builder) => Arc::new(builder.build()?),
        })
    }
}

/// The error for settings that do not make a client; `side` is `source` or `target`.
pub(crate) fn unusable(service: Service, side: &str, error: &object_store::Error) -> Error {
    let name = service.name();
    Error::new(ErrorKind::Access, format!("cannot use the {name} settings: {}", chain(error)))
        .with_hint(format!(
            "check the {} environment variables and --{side}-option",
            service.variables()
        ))
}
