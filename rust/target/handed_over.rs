//! Storage of the icechunk package, taken over by what its serialised form says.
//!
//! Buckets that speak S3 get the client of targets that are named by a URL, because Icechunk's own
//! `object_store` client drops some of their settings; other services keep Icechunk's. What is not
//! understood exactly is refused: a commit in the wrong place would be worse. How storage is
//! serialised, and how a call-back in Python is called, is not known here.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use icechunk::Storage;
use icechunk::config::{S3Credentials, S3CredentialsFetcher, S3Options, S3StaticCredentials};
use icechunk::storage::ObjectStorage;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};
use object_store::{ClientConfigKey, CredentialProvider, StaticCredentialProvider};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::Mutex;

use super::backend::{self, Transports};
use crate::source::transport::Transport;
use crate::source::{BucketBuilder, checked};

/// How long before their end credentials are asked for again.
const MARGIN: TimeDelta = TimeDelta::seconds(60);

/// Icechunk storage, or in a few words why it cannot be taken over.
///
/// `written` is what `Arc<dyn Storage>` serialises to.
///
/// # Errors
///
/// Storage in memory, for reading only, of an unknown kind, or with a setting that this client
/// cannot obey.
pub fn storage(written: &Value) -> Result<Arc<dyn Storage + Send + Sync>, String> {
    match written["type"].as_str() {
        Some("S3Storage") => bucket(&NativeS3::deserialize(written).map_err(unknown)?),
        Some("ObjectStorage") => object_storage(written),
        Some(other) => Err(format!("it is of the kind {other}")),
        None => Err("its layout is unknown".to_owned()),
    }
}

fn object_storage(written: &Value) -> Result<Arc<dyn Storage + Send + Sync>, String> {
    let backend = &written["backend"];
    match backend["object_store_provider_type"].as_str() {
        Some("s3_object_store_provider") => {
            let backend = ObjectStoreS3::deserialize(backend).map_err(unknown)?;
            bucket(&NativeS3 {
                _kind: IgnoredAny,
                config: backend.config.unwrap_or_default(),
                credentials: backend.credentials.unwrap_or_default(),
                bucket: backend.bucket,
                prefix: backend.prefix.unwrap_or_default(),
                can_write: true,
                extra_read_headers: backend.extra_read_headers,
                extra_write_headers: backend.extra_write_headers,
                key_layout: STANDARD.to_owned(),
            })
        }
        Some(
            "gcs_object_store_provider"
            | "azure_object_store_provider"
            | "local_file_system_object_store_provider",
        ) => {
            let storage = ObjectStorage::deserialize(written).map_err(unknown)?;
            Ok(Arc::new(storage))
        }
        Some("in_memory_object_store_provider") => {
            Err("it lives in the memory of another library".to_owned())
        }
        Some("http_object_store_provider") => Err("it can only be read".to_owned()),
        Some(other) => Err(format!("it is of the kind {other}")),
        None => Err("its layout is unknown".to_owned()),
    }
}

/// Icechunk storage of Google Cloud Storage or Azure, which keeps Icechunk's own client, or in a few
/// words why it cannot be taken over.
///
/// # Errors
///
/// Storage of another kind.
pub fn of_another_service(
    storage: ObjectStorage,
) -> Result<Arc<dyn Storage + Send + Sync>, String> {
    match storage.storage_info().backend_type {
        "GCS" | "Azure" => Ok(Arc::new(storage)),
        other => Err(format!("it is of the kind {other}")),
    }
}

/// No more of it: what could not be read may be a secret.
fn unknown(_: serde_json::Error) -> String {
    "its layout is unknown".to_owned()
}

/// The layout of keys that other clients expect.
const STANDARD: &str = "Standard";

/// Icechunk's storage over the SDK of AWS: `s3_storage`, `r2_storage`, `tigris_storage`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NativeS3 {
    #[serde(rename = "type", default)]
    _kind: IgnoredAny,
    config: S3Options,
    credentials: S3Credentials,
    bucket: String,
    prefix: String,
    can_write: bool,
    extra_read_headers: Vec<(String, String)>,
    extra_write_headers: Vec<(String, String)>,
    key_layout: String,
}

/// Icechunk's storage over `object_store`: `Storage.new_s3_object_store`.
#[derive(Deserialize)]
struct ObjectStoreS3 {
    bucket: String,
    prefix: Option<String>,
    credentials: Option<S3Credentials>,
    config: Option<S3Options>,
    #[serde(default)]
    extra_read_headers: Vec<(String, String)>,
    #[serde(default)]
    extra_write_headers: Vec<(String, String)>,
}

fn bucket(written: &NativeS3) -> Result<Arc<dyn Storage + Send + Sync>, String> {
    if !written.can_write {
        return Err("it can only be read (a consistent Tigris storage needs a region)".to_owned());
    }
    if written.key_layout != STANDARD || written.prefix.starts_with('/') {
        return Err("its keys begin with a slash".to_owned());
    }
    let builder = builder(written)?;
    let builder = BucketBuilder::S3(Box::new(builder));
    builder.check().map_err(|error| error.message().to_owned())?;
    let transport = |headers: &[(String, String)]| {
        Transport::default().with_headers(headers.iter().map(|(name, value)| (&**name, &**value)))
    };
    let (reading, writing) = (&written.extra_read_headers, &written.extra_write_headers);
    let transports = Transports {
        reading: transport(reading)?,
        writing: (reading != writing).then(|| transport(writing)).transpose()?,
    };
    let storage = backend::storage(builder, transports, &written.prefix);
    storage.map_err(|error| error.message().to_owned())
}

fn builder(written: &NativeS3) -> Result<AmazonS3Builder, String> {
    let config = &written.config;
    let environment = AmazonS3Builder::from_env();
    let mut builder = match &written.credentials {
        S3Credentials::FromEnv => environment,
        S3Credentials::Anonymous => outside(&environment).with_skip_signature(true),
        S3Credentials::Static(credentials) => {
            let provider = StaticCredentialProvider::new(credential(credentials));
            outside(&environment).with_credentials(checked(Arc::new(provider)))
        }
        S3Credentials::Refreshable(fetcher) => {
            outside(&environment).with_credentials(refreshed(Arc::clone(fetcher)))
        }
    };
    if config.anonymous {
        builder = builder.with_skip_signature(true);
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &config.endpoint_url {
        builder = match bucket_in_host(endpoint, &written.bucket, config.force_path_style) {
            Some(with_bucket) => {
                builder.with_endpoint(with_bucket).with_virtual_hosted_style_request(true)
            }
            None => builder.with_endpoint(endpoint).with_virtual_hosted_style_request(false),
        };
    }
    if let Some(algorithm) = config.checksum_algorithm {
        let name = algorithm.to_string();
        if !["sha256", "crc64nvme"].contains(&name.as_str()) {
            return Err(format!("this client cannot send its checksum_algorithm {name}"));
        }
        builder = builder.with_config(AmazonS3ConfigKey::Checksum, name);
    }
    if let Some(seconds) = config.network_stream_timeout_seconds.filter(|seconds| *seconds > 0) {
        let key = AmazonS3ConfigKey::Client(ClientConfigKey::ReadTimeout);
        builder = builder.with_config(key, format!("{seconds} seconds"));
    }
    let allow_http = AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp);
    if config.allow_http {
        builder = builder.with_config(allow_http, "true");
    }
    Ok(builder.with_request_payer(config.requester_pays).with_bucket_name(&written.bucket))
}

/// Of the environment what does not say who asks: where the service is.
fn outside(environment: &AmazonS3Builder) -> AmazonS3Builder {
    let keys =
        [AmazonS3ConfigKey::Region, AmazonS3ConfigKey::Endpoint, AmazonS3ConfigKey::S3Endpoint];
    keys.into_iter().fold(AmazonS3Builder::new(), |builder, key| {
        match environment.get_config_value(&key) {
            Some(value) => builder.with_config(key, value),
            None => builder,
        }
    })
}

/// An endpoint with the bucket before its host, where the SDK of AWS would address it like that.
fn bucket_in_host(endpoint: &str, bucket: &str, path_style: bool) -> Option<String> {
    let mut url = url::Url::parse(endpoint).ok()?;
    let url::Host::Domain(host) = url.host()? else { return None };
    let fits = bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if path_style || !fits {
        return None;
    }
    let host = format!("{bucket}.{host}");
    url.set_host(Some(&host)).ok()?;
    Some(url.as_str().trim_end_matches('/').to_owned())
}

fn credential(written: &S3StaticCredentials) -> AwsCredential {
    AwsCredential {
        key_id: written.access_key_id.clone(),
        secret_key: written.secret_access_key.clone(),
        token: written.session_token.clone(),
    }
}

/// A provider that asks a call-back, and again shortly before what it gave ends.
fn refreshed(fetcher: Arc<dyn S3CredentialsFetcher>) -> AwsCredentialProvider {
    checked(Arc::new(Refreshed { fetcher, last: Mutex::new(None) }))
}

/// Credentials, and when they end, if they do.
type Given = (Arc<AwsCredential>, Option<DateTime<Utc>>);

struct Refreshed {
    fetcher: Arc<dyn S3CredentialsFetcher>,
    last: Mutex<Option<Given>>,
}

impl fmt::Debug for Refreshed {
    /// Nothing of what it gives.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refreshed").finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialProvider for Refreshed {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut last = self.last.lock().await;
        if let Some((credential, ends)) = last.as_ref()
            && ends.is_none_or(|ends| Utc::now() + MARGIN < ends)
        {
            return Ok(Arc::clone(credential));
        }
        let given = self.fetcher.get().await.map_err(|why| {
            let source = format!("the call-back that gives credentials failed: {why}").into();
            object_store::Error::Unauthenticated { path: String::new(), source }
        })?;
        let credential = Arc::new(self::credential(&given));
        *last = Some((Arc::clone(&credential), given.expires_after));
        Ok(credential)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn native() -> Value {
        json!({
            "type": "S3Storage",
            "config": ["auto", "https://t3.storage.dev", false, false, false, 60, true, null],
            "credentials": ["static", "id-that-is-secret", "key-that-is-secret", null, null],
            "bucket": "data", "prefix": "a/b", "can_write": true,
            "extra_read_headers": [["X-Tigris-Consistent", "true"]],
            "extra_write_headers": [], "key_layout": "Standard",
        })
    }

    /// Every setting of the storage is a setting of the client.
    #[test]
    fn settings_of_native_storage_are_obeyed() {
        let builder = builder(&NativeS3::deserialize(&native()).unwrap()).unwrap();
        let value = |key| builder.get_config_value(&key);
        assert_eq!(value(AmazonS3ConfigKey::Region).as_deref(), Some("auto"));
        assert_eq!(
            value(AmazonS3ConfigKey::Endpoint).as_deref(),
            Some("https://data.t3.storage.dev")
        );
        assert_eq!(value(AmazonS3ConfigKey::RequestPayer).as_deref(), Some("true"));
        let timeout = value(AmazonS3ConfigKey::Client(ClientConfigKey::ReadTimeout));
        assert_eq!(timeout.as_deref(), Some("60 seconds"));
        let storage = storage(&native()).unwrap();
        assert!(!format!("{storage:?}").contains("secret"), "{storage:?}");
    }

    /// What cannot be obeyed to the letter is refused, and no value is repeated.
    #[test]
    fn unknown_layouts_are_refused() {
        for (key, value) in [
            ("key_layout", json!("LegacyRooted")),
            ("prefix", json!("/rooted")),
            ("can_write", json!(false)),
            ("type", json!("RedirectStorage")),
            ("credentials", json!(["another-secret", 1])),
            ("more", json!(1)),
            ("config", json!(["auto", null, false, false, false, 60, false, "sha1"])),
        ] {
            let mut written = native();
            written[key] = value;
            let why = storage(&written).unwrap_err();
            assert!(!why.contains("secret"), "{why}");
        }
        assert!(storage(&json!([1, 2])).is_err());
        let memory = json!({
            "type": "ObjectStorage",
            "backend": {"object_store_provider_type": "in_memory_object_store_provider"},
        });
        assert!(storage(&memory).unwrap_err().contains("memory"));
    }
}
