//! Where a Zarr store is: lists its keys page by page and reads single objects.
//!
//! A closed set of stores behind a narrow interface. Keys are relative to the source's root,
//! which is a folder or a key prefix; nothing here knows about arrays or chunks.

mod local;
mod page;
mod s3;

use bytes::Bytes;
use icechunk::ObjectStoreConfig;
use icechunk::config::Credentials;

pub use local::LocalSource;
pub use page::{ObjectInfo, Page, PageBuilder, PageStream};
pub use s3::{S3Settings, S3Source};

use crate::Result;

/// A Zarr store (or a part of one) that can be listed and read.
#[derive(Debug, Clone)]
pub enum Source {
    /// A prefix of an S3-compatible bucket.
    S3(S3Source),
    /// A folder of a local file system.
    Local(LocalSource),
}

impl Source {
    /// The URL that all objects' URLs begin with; ends in `/`, not percent-encoded.
    #[must_use]
    pub fn url_prefix(&self) -> String {
        match self {
            Self::S3(source) => source.url_prefix(),
            Self::Local(source) => source.url_prefix(),
        }
    }

    /// Size and time of one object; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Access`](crate::ErrorKind::Access) or
    /// [`ErrorKind::Listing`](crate::ErrorKind::Listing).
    pub async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        match self {
            Self::S3(source) => source.head(key).await,
            Self::Local(source) => source.head(key),
        }
    }

    /// The bytes of one object; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Access`](crate::ErrorKind::Access) or
    /// [`ErrorKind::Listing`](crate::ErrorKind::Listing).
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match self {
            Self::S3(source) => source.get(key).await,
            Self::Local(source) => source.get(key).await,
        }
    }

    /// All objects below `folder` (relative to the root; empty for the root), page by page.
    ///
    /// Page keys are relative to `folder`. Pages of S3 come in byte order, those of a local file
    /// system in no order. The stream ends early on the first error, and stops work when dropped.
    #[must_use]
    pub fn pages(&self, folder: &str) -> PageStream {
        match self {
            Self::S3(source) => source.pages(folder),
            Self::Local(source) => source.pages(folder),
        }
    }

    /// Whether [`pages`](Self::pages) come in byte order of their keys.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        matches!(self, Self::S3(_))
    }

    /// Whether [`pages`](Self::pages) may hold markers of folders, `a/` listed as an empty `a`.
    #[must_use]
    pub fn has_markers(&self) -> bool {
        matches!(self, Self::S3(_))
    }

    /// Whether the store refuses a read that carries the object's own time; asked of one object
    /// and its listed time (µs since 1970 UTC).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Access`](crate::ErrorKind::Access) or
    /// [`ErrorKind::Listing`](crate::ErrorKind::Listing).
    pub async fn refuses_listed_times(&self, key: &str, last_modified: i64) -> Result<bool> {
        match self {
            Self::S3(source) => source.refuses_listed_times(key, last_modified).await,
            Self::Local(_) => Ok(false),
        }
    }

    /// The settings a reader of virtual chunks needs to reach this store; holds no secrets.
    #[must_use]
    pub fn container_store(&self) -> ObjectStoreConfig {
        match self {
            Self::S3(source) => source.container_store(),
            Self::Local(source) => source.container_store(),
        }
    }

    /// Credentials for reading back through Icechunk in this process; they are never stored.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Access`](crate::ErrorKind::Access) when there are none to be had.
    pub async fn container_credentials(&self) -> Result<Option<Credentials>> {
        match self {
            Self::S3(source) => source.container_credentials().await,
            Self::Local(_) => Ok(Some(Credentials::LocalFileSystemAccess)),
        }
    }
}
