//! Where a Zarr store is: lists its keys page by page and reads single objects.
//!
//! A closed set of stores behind a narrow interface. Keys are relative to the source's root,
//! which is a folder or a key prefix; nothing here knows about arrays or chunks.

mod body;
mod bucket;
mod builder;
mod client;
mod credentials;
mod echo;
mod foreign;
pub mod inventory;
mod listing;
mod local;
mod object;
pub mod page;
mod page_error;
mod plain;
pub mod retry;
mod s3_settings;
mod service;
mod settings;
mod staleness;
pub mod transport;
mod unchanged;
pub mod web;
pub mod xml;

use icechunk::ObjectStoreConfig;
use icechunk::config::Credentials;

pub use bucket::BucketSource;
pub use builder::BucketBuilder;
pub(crate) use builder::unusable;
pub(crate) use client::credentials_to_write;
pub use credentials::{Secrets, checked};
pub use foreign::{ForeignObject, ForeignSource, ForeignStore};
use inventory::Inventory;
pub use local::LocalSource;
pub(crate) use local::{is_absent, no_file, unreadable};
pub use object::{Accept, AcceptFn, Expected};
pub(crate) use object::{digest_of_tag, md5};
pub use s3_settings::S3Settings;
pub use service::Service;
pub use settings::{AzureSettings, GcsSettings, Settings};
pub use staleness::Staleness;
pub use unchanged::Referenced;
pub use web::{Probing, WebSettings, WebSource};

use crate::Result;

/// Size and time of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Bytes.
    pub size: u64,
    /// Microseconds since 1970-01-01 UTC; fractions of a microsecond are rounded up.
    pub last_modified: i64,
    /// As the service gave it.
    pub e_tag: Option<String>,
}

/// A Zarr store (or a part of one) that can be listed and read.
#[derive(Debug, Clone)]
pub enum Source {
    /// A prefix of a bucket.
    Bucket(BucketSource),
    /// A folder of a web server that cannot be listed.
    Web(WebSource),
    /// A folder of a local file system.
    Local(LocalSource),
    /// A store that only its own library can speak to; can be listed, not referenced.
    Foreign(ForeignSource),
}

impl Source {
    /// The URL that all objects' URLs begin with; ends in `/`, not percent-encoded.
    #[must_use]
    pub fn url_prefix(&self) -> String {
        match self {
            Self::Bucket(source) => source.url_prefix(),
            Self::Web(source) => source.url_prefix(),
            Self::Local(source) => source.url_prefix(),
            Self::Foreign(_) => "memory:///".to_owned(),
        }
    }

    /// Size and time of one object; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Access`] or [`crate::ErrorKind::Listing`].
    pub async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        match self {
            Self::Bucket(source) => source.head(key).await,
            Self::Web(source) => source.head(key).await,
            Self::Local(source) => LocalSource::info(&source.path(key)),
            Self::Foreign(source) => source.head(key).await,
        }
    }

    /// Reads the first byte of an object with the store's own settings.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Access`] or [`crate::ErrorKind::Listing`]; [`crate::ErrorKind::SourceNotFound`] when it is not
    /// there.
    pub async fn touch(&self, key: &str) -> Result<()> {
        match self {
            Self::Bucket(source) => source.touch(key).await,
            Self::Web(source) => source.touch(key).await,
            // Nobody is sent elsewhere.
            Self::Local(_) | Self::Foreign(_) => Ok(()),
        }
    }

    /// Whether Icechunk's client can read this store as refreeze does: it sends no header of a
    /// requester who pays, no customer's key, and knows no certificates.
    #[must_use]
    pub fn is_read_by_icechunk(&self) -> bool {
        match self {
            Self::Bucket(source) => source.is_plain(),
            Self::Web(source) => source.is_plain(),
            Self::Local(_) | Self::Foreign(_) => true,
        }
    }

    /// Whether the connections that list it keep small buffers, so that memory has room for more of
    /// them: plain HTTP does, TLS does not.
    #[must_use]
    pub fn has_small_buffers(&self) -> bool {
        match self {
            Self::Bucket(source) => source.has_small_buffers(),
            Self::Web(_) | Self::Local(_) | Self::Foreign(_) => false,
        }
    }

    /// How the store tells that an object has changed since it was listed; asked of one object and
    /// its listed time (µs since 1970 UTC), or with `tag` of its tag.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Access`] or [`crate::ErrorKind::Listing`].
    pub async fn staleness(&self, key: &str, last_modified: i64, tag: bool) -> Result<Staleness> {
        match self {
            Self::Bucket(source) => staleness::staleness(source, key, last_modified, tag).await,
            Self::Web(source) => staleness::staleness(source, key, last_modified, tag).await,
            // Files are judged by the reader itself.
            Self::Local(_) | Self::Foreign(_) if tag => Ok(Staleness::ByTag),
            Self::Local(_) | Self::Foreign(_) => Ok(Staleness::ByTime),
        }
    }

    /// The same source, which is not listed any more: an inventory says what is there.
    ///
    /// A web server, and a store that its own library lists, stay as they are.
    #[must_use]
    pub fn with_inventory(self, inventory: Inventory) -> Self {
        match self {
            Self::Bucket(source) => Self::Bucket(source.with_inventory(inventory)),
            Self::Local(source) => Self::Local(source.with_inventory(inventory)),
            Self::Foreign(_) | Self::Web(_) => self,
        }
    }

    /// The inventory that stands for its listings, if there is one.
    #[must_use]
    pub fn inventory(&self) -> Option<&Inventory> {
        match self {
            Self::Bucket(source) => source.inventory(),
            Self::Local(source) => source.inventory(),
            Self::Foreign(_) | Self::Web(_) => None,
        }
    }

    /// The same source, whose listings tell of the `ETag`s that reads give.
    #[must_use]
    pub fn with_e_tags(self) -> Self {
        match self {
            Self::Bucket(source) => Self::Bucket(source.with_e_tags()),
            Self::Web(source) => Self::Web(source.with_e_tags()),
            Self::Local(source) => Self::Local(source.with_e_tags()),
            Self::Foreign(source) => Self::Foreign(source),
        }
    }

    /// The settings a reader of virtual chunks needs to reach this store; holds no secrets.
    #[must_use]
    pub fn container_store(&self) -> ObjectStoreConfig {
        match self {
            Self::Bucket(source) => source.container_store(),
            Self::Web(_) => WebSource::container_store(),
            Self::Local(source) => source.container_store(),
            Self::Foreign(_) => ObjectStoreConfig::InMemory,
        }
    }

    /// Credentials for reading back through Icechunk in this process; they are never stored.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Access`] when there are none to be had, [`crate::ErrorKind::Target`] for a store
    /// of another library, which Icechunk cannot refer to.
    pub async fn container_credentials(&self) -> Result<Option<Credentials>> {
        match self {
            Self::Bucket(source) => source.container_credentials().await,
            Self::Web(_) => Ok(Some(Credentials::HttpAccess)),
            Self::Local(_) => Ok(Some(Credentials::LocalFileSystemAccess)),
            Self::Foreign(source) => Err(source.not_referenced()),
        }
    }
}
