//! A Zarr store in a folder of a local file system: paths, sizes, times and bytes.
//!
//! How an array's folders are walked is the lister's business.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use icechunk::ObjectStoreConfig;

use super::ObjectInfo;
use super::body::too_large;
use super::inventory::Inventory;
use crate::error::chain;
use crate::{Error, ErrorKind, Result};

/// A folder.
#[derive(Debug, Clone)]
pub struct LocalSource {
    root: PathBuf,
    url_prefix: String,
    e_tags: bool,
    inventory: Option<Inventory>,
}

impl LocalSource {
    /// The same source, whose listings tell of the `ETag`s that Icechunk's client makes of files.
    #[must_use]
    pub fn with_e_tags(self) -> Self {
        Self { e_tags: true, ..self }
    }

    pub(super) fn with_inventory(self, inventory: Inventory) -> Self {
        Self { inventory: Some(inventory), ..self }
    }

    pub(super) const fn inventory(&self) -> Option<&Inventory> {
        self.inventory.as_ref()
    }

    pub(crate) const fn lists_e_tags(&self) -> bool {
        self.e_tags
    }

    /// The folder at `root`, an absolute path.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SourceNotFound`] when the path is not absolute or not UTF-8 (a URL could not
    /// name it).
    pub fn new(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let text = root.to_str().filter(|_| root.is_absolute()).ok_or_else(|| {
            Error::new(
                ErrorKind::SourceNotFound,
                format!("{} is not an absolute path in UTF-8", root.display()),
            )
        })?;
        let url_prefix = format!("file://{}/", text.trim_end_matches('/'));
        Ok(Self { root, url_prefix, e_tags: false, inventory: None })
    }

    pub(super) fn url_prefix(&self) -> String {
        self.url_prefix.clone()
    }

    pub(super) fn container_store(&self) -> ObjectStoreConfig {
        ObjectStoreConfig::LocalFileSystem(self.root.clone())
    }

    /// The file or folder at `key`.
    pub(crate) fn path(&self, key: &str) -> PathBuf {
        if key.is_empty() { self.root.clone() } else { self.root.join(key) }
    }

    /// Size and time of a file; `None` when it is not there or not a file.
    pub(crate) fn info(path: &Path) -> Result<Option<ObjectInfo>> {
        Self::info_of(std::fs::metadata(path), true, || path.to_owned())
    }

    /// The same from what the file system says; `path` is for errors. The tag is made if it is wanted.
    pub(crate) fn info_of(
        metadata: io::Result<Metadata>,
        tag: bool,
        path: impl Fn() -> PathBuf,
    ) -> Result<Option<ObjectInfo>> {
        match metadata {
            Ok(metadata) if metadata.is_file() => {
                let modified = metadata.modified().map_err(|error| unreadable(&path(), &error))?;
                Ok(Some(ObjectInfo {
                    size: metadata.len(),
                    last_modified: microseconds_rounded_up(modified),
                    e_tag: tag.then(|| e_tag(&metadata, modified)),
                }))
            }
            Ok(_) => Ok(None),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(unreadable(&path(), &error)),
        }
    }

    /// The bytes of a file, unless there are more than `limit`; `None` when it is not there or a
    /// folder.
    pub(super) async fn read(&self, key: &str, limit: u64) -> Result<Option<Bytes>> {
        let path = self.path(key);
        let read = tokio::task::spawn_blocking(move || {
            let metadata = match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => return Ok(None),
                Ok(metadata) => metadata,
                Err(error) if is_absent(&error) && !path.is_symlink() => return Ok(None),
                Err(error) => return Err(unreadable(&path, &error)),
            };
            if !metadata.is_file() {
                // Opening a pipe would wait for its other end.
                return Err(no_file(&path));
            }
            if metadata.len() > limit {
                return Err(too_large(&path.display().to_string(), metadata.len(), limit));
            }
            let bytes = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
            Ok(Some(Bytes::from(bytes)))
        });
        read.await.map_err(|error| Error::new(ErrorKind::Listing, chain(&error)))?
    }
}

/// What `object_store`, with which Icechunk reads files, takes for the `ETag` of a file; in quotes
/// once more, because Icechunk takes a pair away before it asks, and here they count.
fn e_tag(metadata: &Metadata, modified: SystemTime) -> String {
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let inode = 0;
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("\"\"{inode:x}-{:x}-{:x}\"\"", since.as_micros(), metadata.len())
}

/// The error for what is neither a file nor a folder.
pub(crate) fn no_file(path: &Path) -> Error {
    Error::new(
        ErrorKind::Listing,
        format!("{} is a named pipe, socket or device, not a file", path.display()),
    )
    .with_hint("remove it from the store")
}

pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Rounded up, because a reader compares with the file's own, finer, time: a reference that is a
/// nanosecond too early makes every read fail.
fn microseconds_rounded_up(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos().div_ceil(1_000)).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_nanos() / 1_000).map_or(i64::MIN, |micros| -micros)
        }
    }
}

pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Error {
    let message = format!("cannot read {}: {error}", path.display());
    if error.kind() == io::ErrorKind::PermissionDenied {
        Error::new(ErrorKind::Access, message)
            .with_hint("give this user permission to read the file and its folders")
    } else {
        Error::new(ErrorKind::Listing, message)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_rounded_up() {
        let at = |nanos| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
        assert_eq!(microseconds_rounded_up(at(1_000)), 1);
        assert_eq!(microseconds_rounded_up(at(1_001)), 2);
        let before = SystemTime::UNIX_EPOCH - Duration::from_nanos(1_500);
        assert_eq!(microseconds_rounded_up(before), -1);
    }

    #[tokio::test]
    async fn what_is_not_a_file_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let source = LocalSource::new(dir.path()).unwrap();
        assert_eq!(LocalSource::info(&source.path("nothing")).unwrap(), None);
        assert_eq!(LocalSource::info(&source.path("")).unwrap(), None);
        assert_eq!(source.read("nothing", u64::MAX).await.unwrap(), None);
        assert_eq!(source.read("", u64::MAX).await.unwrap(), None);
        assert!(LocalSource::new("relative").is_err());
    }
}
