//! Icechunk storage in a bucket, over a client that obeys every setting.
//!
//! Icechunk's own backends know half a dozen of them and drop the rest: encryption, checksums, who
//! pays, the style of addresses. This one is built from settings as
//! `object_store` resolves them. Where they come from is not known here.
//!
//! Icechunk makes storage of a backend only by reading a serialised one. What is serialised is a
//! number, under which this process finds the settings, once: no credential is ever written.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use icechunk::Storage;
use icechunk::storage::{
    ObjectStorage, ObjectStoreBackend, Role, Settings, StorageError, StorageErrorKind, StorageInfo,
};
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::target_error;
use crate::source::transport::Transport;
use crate::source::{BucketBuilder, Service, unusable};

/// How long a request may be repeated, as in Icechunk's own backend.
const RETRY_TIMEOUT: Duration = Duration::from_mins(5);

/// Makes storage of the settings of a bucket, all applied.
///
/// # Errors
///
/// [`ErrorKind::Access`](crate::ErrorKind::Access) when they do not make a client.
pub(super) fn storage(
    builder: BucketBuilder,
    transports: Transports,
    prefix: &str,
) -> Result<Arc<dyn Storage + Send + Sync>> {
    let service = builder.service();
    let bucket = builder.bucket();
    let differ = transports.writing.is_some();
    let to_write = transports.writing.unwrap_or_else(|| transports.reading.clone());
    let clients = Clients {
        writing: builder.clone().for_writing(to_write),
        reading: builder.for_writing(transports.reading),
        differ,
    };
    // What is wrong with the settings shows before Icechunk asks for a client.
    clients.writing.clone().build().map_err(|error| unusable(service, "target", &error))?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let service = match service {
        Service::S3 => "S3",
        Service::Gcs => "GCS",
        Service::Azure => "Azure",
    };
    let prefix = prefix.to_owned();
    let ticket = Ticket { number, service: service.to_owned(), bucket, prefix };
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.insert(ticket.number, clients);
    drop(waiting);
    let mut backend =
        serde_json::to_value(&ticket).map_err(|error| target_error("open the target", &error))?;
    backend["object_store_provider_type"] = NAME.into();
    let storage: ObjectStorage = serde_json::from_value(serde_json::json!({ "backend": backend }))
        .map_err(|error| target_error("open the target", &error))?;
    Ok(Arc::new(storage))
}

/// How a server is reached.
#[derive(Debug, Clone)]
pub(super) struct Transports {
    /// For everything, unless something else is said of writing.
    pub reading: Transport,
    /// For writing, where that takes other headers.
    pub writing: Option<Transport>,
}

impl From<Transport> for Transports {
    fn from(reading: Transport) -> Self {
        Self { reading, writing: None }
    }
}

/// The settings of a bucket by what is done there.
struct Clients {
    reading: BucketBuilder,
    writing: BucketBuilder,
    differ: bool,
}

/// The name of this backend in Icechunk's registry; it is repeated below.
const NAME: &str = "refreeze_s3";

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Settings between the making of a ticket and its reading.
static WAITING: LazyLock<Mutex<HashMap<u64, Clients>>> = LazyLock::new(Mutex::default);

/// A backend as it is written: without settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ticket {
    number: u64,
    service: String,
    bucket: String,
    prefix: String,
}

#[derive(Serialize, Deserialize)]
#[serde(from = "Ticket")]
struct Bucket {
    #[serde(flatten)]
    ticket: Ticket,
    #[serde(skip)]
    clients: Option<Clients>,
}

impl From<Ticket> for Bucket {
    fn from(ticket: Ticket) -> Self {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        Self { clients: waiting.remove(&ticket.number), ticket }
    }
}

impl fmt::Debug for Bucket {
    /// Without the builder, which knows credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.ticket, f)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refreeze(bucket={}, prefix={})", self.ticket.bucket, self.ticket.prefix)
    }
}

#[typetag::serde(name = "refreeze_s3")]
impl ObjectStoreBackend for Bucket {
    fn mk_object_store(
        &self,
        settings: &Settings,
        role: Role,
    ) -> std::result::Result<Arc<dyn ObjectStore>, StorageError> {
        let Some(clients) = &self.clients else {
            let why = "this storage was written by another process; name the target by its URL";
            return Err(StorageError::capture(StorageErrorKind::ObjectStore(why.into())));
        };
        let retries = settings.retries();
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(u64::from(retries.initial_backoff_ms())),
            max_backoff: Duration::from_millis(u64::from(retries.max_backoff_ms())),
            base: 2.0,
        };
        let retry = RetryConfig {
            backoff,
            max_retries: usize::from(retries.max_tries().get()).saturating_sub(1),
            retry_timeout: RETRY_TIMEOUT,
        };
        let builder = match role {
            Role::Read => &clients.reading,
            Role::Write => &clients.writing,
        };
        let client = builder.clone().with_retry(retry).build();
        let client = client.map_err(|error| {
            StorageError::capture(StorageErrorKind::ObjectStore(Box::new(error)))
        })?;
        Ok(client)
    }

    fn read_write_headers_differ(&self) -> bool {
        self.clients.as_ref().is_some_and(|clients| clients.differ)
    }

    fn prefix(&self) -> String {
        self.ticket.prefix.clone()
    }

    fn ordered_offset_listing(&self) -> bool {
        true
    }

    fn restricts_empty_prefix_creation(&self) -> bool {
        true
    }

    fn storage_info(&self) -> StorageInfo {
        let fields =
            vec![("bucket", self.ticket.bucket.clone()), ("prefix", self.ticket.prefix.clone())];
        let backend_type = match self.ticket.service.as_str() {
            "GCS" => "GCS",
            "Azure" => "Azure",
            _ => "S3",
        };
        StorageInfo { backend_type, fields }
    }

    fn default_settings(&self) -> Settings {
        Settings::default()
    }
}

#[cfg(test)]
mod tests {
    use object_store::aws::AmazonS3Builder;

    use super::*;

    fn builder() -> BucketBuilder {
        let builder = AmazonS3Builder::new()
            .with_bucket_name("bucket")
            .with_access_key_id("id-that-is-secret")
            .with_secret_access_key("key-that-is-secret");
        BucketBuilder::S3(Box::new(builder))
    }

    #[tokio::test]
    async fn neither_written_nor_shown_storage_holds_a_secret() {
        let storage = storage(builder(), Transport::default().into(), "a/b").unwrap();
        let written = serde_json::to_string(&storage).unwrap();
        assert!(written.contains("refreeze_s3") && written.contains("a/b"), "{written}");
        for text in [written.clone(), format!("{storage:?}"), storage.to_string()] {
            assert!(!text.contains("secret"), "{text}");
        }
        // Read elsewhere it has no settings, which is said when it is used.
        let read: Arc<dyn Storage + Send + Sync> = serde_json::from_str(&written).unwrap();
        let settings = Settings::default();
        let context = icechunk::storage::StorageContext::unattributed(&settings);
        let failure = read.get_object_last_modified(&context, "repo").await.unwrap_err();
        assert!(failure.to_string().contains("another process"), "{failure}");
    }

    #[test]
    fn nothing_waits_for_a_backend_that_has_been_made() {
        let _storage = storage(builder(), Transport::default().into(), "x").unwrap();
        let number = NEXT.load(Ordering::Relaxed) - 1;
        let waiting = WAITING.lock().unwrap();
        assert!(!waiting.contains_key(&number));
    }
}
