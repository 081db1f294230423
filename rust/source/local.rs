//! A Zarr store in a folder of a local file system.
//!
//! Listing is one walk that follows symbolic links, as zarr-python's reads do; its order is
//! the file system's. Sizes and times come from `stat`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use futures::StreamExt as _;
use icechunk::ObjectStoreConfig;
use tokio::sync::mpsc;

use super::page::{ObjectInfo, Page, PageBuilder, PageStream};
use crate::error::chain;
use crate::{Error, ErrorKind, Result};

/// Files of one page: as many as S3 gives, so that progress looks alike.
const PAGE: usize = 1_000;

/// A folder.
#[derive(Debug, Clone)]
pub struct LocalSource {
    root: PathBuf,
    url_prefix: String,
}

impl LocalSource {
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
        Ok(Self { root, url_prefix })
    }

    pub(super) fn url_prefix(&self) -> String {
        self.url_prefix.clone()
    }

    pub(super) fn container_store(&self) -> ObjectStoreConfig {
        ObjectStoreConfig::LocalFileSystem(self.root.clone())
    }

    pub(super) fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        let path = self.root.join(key);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                object_info(&metadata).map(Some).map_err(|error| unreadable(&path, &error))
            }
            Ok(_) => Ok(None),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let path = self.root.join(key);
        let read = tokio::task::spawn_blocking(move || match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(unreadable(&path, &error)),
        });
        read.await.map_err(|error| Error::new(ErrorKind::Listing, chain(&error)))?
    }

    pub(super) fn pages(&self, folder: &str) -> PageStream {
        let folder = if folder.is_empty() { self.root.clone() } else { self.root.join(folder) };
        let (sender, receiver) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            if let Err(Stopped::Failed(error)) = walk(&folder, &sender) {
                // Nobody listens any more: nothing to tell.
                let _ = sender.blocking_send(Err(error));
            }
        });
        futures::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|page| (page, receiver))
        })
        .boxed()
    }
}

/// Why a walk ended early.
enum Stopped {
    Failed(Error),
    /// The receiving end is gone.
    Dropped,
}

fn walk(folder: &Path, sender: &mpsc::Sender<Result<Page>>) -> std::result::Result<(), Stopped> {
    let send = |page: Page| sender.blocking_send(Ok(page)).map_err(|_| Stopped::Dropped);
    let mut page = PageBuilder::default();
    for entry in walkdir::WalkDir::new(folder).follow_links(true) {
        let entry = match entry {
            Ok(entry) => entry,
            // Listed, and gone before it was looked at; a dangling link likewise.
            Err(error) if error.io_error().is_some_and(is_absent) => continue,
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_owned();
                return Err(Stopped::Failed(unreadable(&path, &io::Error::from(error))));
            }
        };
        if entry.file_type().is_dir() {
            page.count_request();
            continue;
        }
        let info = match entry.metadata().map_err(io::Error::from).and_then(|m| object_info(&m)) {
            Ok(info) => info,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(Stopped::Failed(unreadable(entry.path(), &error))),
        };
        let key = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        page.push(key.as_os_str().as_encoded_bytes(), info.size, info.last_modified, b"");
        if page.len() == PAGE {
            send(page.take())?;
        }
    }
    if !page.is_empty() {
        send(page.take())?;
    }
    Ok(())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn object_info(metadata: &std::fs::Metadata) -> io::Result<ObjectInfo> {
    Ok(ObjectInfo {
        size: metadata.len(),
        last_modified: microseconds_rounded_up(metadata.modified()?),
        e_tag: None,
    })
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

fn unreadable(path: &Path, error: &io::Error) -> Error {
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

    use futures::TryStreamExt as _;

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
    async fn a_walk_gives_files_below_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/c/1")).unwrap();
        std::fs::write(dir.path().join("a/c/1/0"), b"four").unwrap();
        std::fs::write(dir.path().join("a/README"), b"x").unwrap();
        std::fs::write(dir.path().join("b"), b"elsewhere").unwrap();
        let source = LocalSource::new(dir.path()).unwrap();
        let pages: Vec<_> = source.pages("a").try_collect().await.unwrap();
        let mut keys: Vec<_> = pages
            .iter()
            .flat_map(Page::iter)
            .map(|(key, size, ..)| (String::from_utf8_lossy(key).into_owned(), size))
            .collect();
        keys.sort();
        assert_eq!(keys, [("README".to_owned(), 1), ("c/1/0".to_owned(), 4)]);
        assert_eq!(pages.iter().map(Page::requests).sum::<u64>(), 3);
    }

    #[tokio::test]
    async fn an_absent_folder_is_an_empty_listing() {
        let dir = tempfile::tempdir().unwrap();
        let source = LocalSource::new(dir.path()).unwrap();
        assert!(source.pages("nothing").try_collect::<Vec<_>>().await.unwrap().is_empty());
        assert_eq!(source.head("nothing").unwrap(), None);
        assert_eq!(source.get("nothing").await.unwrap(), None);
    }
}
