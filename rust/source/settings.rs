//! Settings of a bucket that are no secret: what takes part in naming it in a repository, and what
//! readers of references need to reach it.
//!
//! Read back from a builder that has everything applied; nothing is decided here.

use std::collections::HashMap;

use icechunk::ObjectStoreConfig;

use super::builder::BucketBuilder;
use super::s3_settings::{S3Settings, is_plain, without_user_info};
use super::service::Service;

/// What every reader may know of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settings {
    /// Of S3 and its kin.
    S3(S3Settings),
    /// Of Google Cloud Storage.
    Gcs(GcsSettings),
    /// Of Azure.
    Azure(AzureSettings),
}

/// Settings of a bucket of Google Cloud Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcsSettings {
    /// Bucket name.
    pub bucket: String,
    /// Where the service is, unless it is Google's own.
    pub base_url: Option<String>,
    /// Requests are not signed.
    pub anonymous: bool,
    /// Plain HTTP is allowed.
    pub allow_http: bool,
}

/// Settings of a container of Azure Blob Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureSettings {
    /// Storage account.
    pub account: String,
    /// Container name.
    pub container: String,
    /// Where the service is, unless it is the account's own host at Azure.
    pub endpoint: Option<String>,
    /// The account is a workspace of `OneLake`.
    pub fabric: bool,
    /// Requests are not signed.
    pub anonymous: bool,
    /// Plain HTTP is allowed.
    pub allow_http: bool,
}

impl Settings {
    /// Reads back what a builder resolved from environment and options.
    #[must_use]
    pub fn of(builder: &BucketBuilder) -> Self {
        let url = |name: &str| builder.get(name).map(|url| without_user_info(&url));
        // Google's builder allows it unless it is told otherwise.
        let plain =
            |url: &Option<String>| url.as_deref().is_some_and(|url| url.starts_with("http:"));
        match builder {
            BucketBuilder::S3(builder) => Self::S3(S3Settings::of(builder)),
            BucketBuilder::Gcs(_) => {
                let base_url = url("google_base_url").or_else(|| base_url_of_key(builder));
                Self::Gcs(GcsSettings {
                    bucket: builder.bucket(),
                    anonymous: builder.is_on("google_skip_signature"),
                    allow_http: plain(&base_url),
                    base_url,
                })
            }
            BucketBuilder::Azure(_) => {
                let endpoint = url("azure_storage_endpoint").or_else(|| emulator(builder));
                Self::Azure(AzureSettings {
                    account: builder.get("azure_storage_account_name").unwrap_or_default(),
                    container: builder.bucket(),
                    fabric: builder.is_on("azure_use_fabric_endpoint"),
                    anonymous: builder.is_on("azure_skip_signature"),
                    allow_http: plain(&endpoint),
                    endpoint,
                })
            }
        }
    }

    pub(super) const fn service(&self) -> Service {
        match self {
            Self::S3(_) => Service::S3,
            Self::Gcs(_) => Service::Gcs,
            Self::Azure(_) => Service::Azure,
        }
    }

    /// Name of the bucket or container.
    pub(super) fn bucket(&self) -> &str {
        match self {
            Self::S3(settings) => &settings.bucket,
            Self::Gcs(settings) => &settings.bucket,
            Self::Azure(settings) => &settings.container,
        }
    }

    /// Whether requests are not signed.
    pub(super) const fn anonymous(&self) -> bool {
        match self {
            Self::S3(settings) => settings.anonymous,
            Self::Gcs(settings) => settings.anonymous,
            Self::Azure(settings) => settings.anonymous,
        }
    }

    /// The same settings in Icechunk's terms, as a repository's configuration stores them.
    pub(super) fn container_store(&self) -> ObjectStoreConfig {
        let mut stored = HashMap::new();
        let mut keep = |name: &str, value: &str| stored.insert(name.to_owned(), value.to_owned());
        match self {
            Self::S3(settings) if settings.endpoint.is_some() => {
                ObjectStoreConfig::S3Compatible(settings.options())
            }
            Self::S3(settings) => ObjectStoreConfig::S3(settings.options()),
            Self::Gcs(settings) => {
                if let Some(url) = &settings.base_url {
                    keep("google_base_url", url);
                }
                if settings.allow_http {
                    keep("allow_http", "true");
                }
                ObjectStoreConfig::Gcs(stored)
            }
            Self::Azure(settings) => {
                keep("account", &settings.account);
                if let Some(endpoint) = &settings.endpoint {
                    keep("azure_storage_endpoint", endpoint);
                }
                if settings.fabric {
                    keep("azure_use_fabric_endpoint", "true");
                }
                if settings.allow_http {
                    keep("allow_http", "true");
                }
                ObjectStoreConfig::Azure(stored)
            }
        }
    }
}

/// Whether no setting changes requests in a way that Icechunk's client knows nothing of.
pub(super) fn is_read_by_icechunk(builder: &BucketBuilder) -> bool {
    let of_clients = ["allow_invalid_certificates", "disable_system_certificates", "proxy_url"];
    match builder {
        BucketBuilder::S3(builder) => is_plain(builder),
        BucketBuilder::Gcs(_) => !of_clients.iter().any(|name| builder.is_on(name)),
        BucketBuilder::Azure(_) => {
            !of_clients.iter().any(|name| builder.is_on(name))
                && builder.get("azure_storage_encryption_key").is_none()
        }
    }
}

/// The base URL that a service account's key names; emulators are configured in this way.
fn base_url_of_key(builder: &BucketBuilder) -> Option<String> {
    let key = builder
        .get("google_service_account_key")
        .or_else(|| std::fs::read_to_string(builder.get("google_service_account")?).ok())?;
    let key: serde_json::Value = serde_json::from_str(&key).ok()?;
    Some(without_user_info(key.get("gcs_base_url")?.as_str()?))
}

/// Where `object_store` looks for the emulator, with its account.
fn emulator(builder: &BucketBuilder) -> Option<String> {
    builder.is_on("azure_storage_use_emulator").then(|| {
        let url = std::env::var("AZURITE_BLOB_STORAGE_URL")
            .unwrap_or_else(|_| "http://127.0.0.1:10000".to_owned());
        let account = builder
            .get("azure_storage_account_name")
            .unwrap_or_else(|| "devstoreaccount1".to_owned());
        format!("{}/{account}", without_user_info(&url).trim_end_matches('/'))
    })
}

#[cfg(test)]
mod tests {
    use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
    use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

    use super::*;

    #[test]
    fn stored_settings_hold_no_secret() {
        let gcs = GoogleCloudStorageBuilder::new()
            .with_bucket_name("b")
            .with_config(GoogleConfigKey::BaseUrl, "https://user:hidden@gcs.example.org")
            .with_bearer_token("hidden");
        let azure = MicrosoftAzureBuilder::new()
            .with_container_name("c")
            .with_account("acc")
            .with_access_key("hidden")
            .with_config(AzureConfigKey::SasKey, "sv=1&sig=hidden");
        let stores = [BucketBuilder::Gcs(Box::new(gcs)), BucketBuilder::Azure(Box::new(azure))]
            .map(|builder| format!("{:?}", Settings::of(&builder).container_store()));
        assert_eq!(stores[0], r#"Gcs({"google_base_url": "https://gcs.example.org/"})"#);
        assert_eq!(stores[1], r#"Azure({"account": "acc"})"#);
    }

    #[test]
    fn a_key_that_names_another_service_is_obeyed() {
        let key = r#"{"gcs_base_url": "http://127.0.0.1:9", "disable_oauth": true,
            "client_email": "", "private_key": "", "private_key_id": ""}"#;
        let gcs =
            GoogleCloudStorageBuilder::new().with_bucket_name("b").with_service_account_key(key);
        let Settings::Gcs(settings) = Settings::of(&BucketBuilder::Gcs(Box::new(gcs))) else {
            unreachable!()
        };
        assert_eq!(settings.base_url.as_deref(), Some("http://127.0.0.1:9"));
    }
}
