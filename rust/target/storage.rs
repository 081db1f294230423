//! From a place named by the user to Icechunk storage, and the lock on a local folder.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use icechunk::Storage;
use icechunk::storage::new_local_filesystem_storage;

use super::backend;
use crate::error::target_error;
use crate::source::transport::Transport;
use crate::source::{BucketBuilder, credentials_to_write};
use crate::{Error, ErrorKind, Result};

/// Where a repository is or will be.
pub enum TargetLocation {
    /// A folder, given by its absolute path.
    Local(PathBuf),
    /// A prefix of a bucket.
    Bucket {
        /// Bucket, environment, options and credentials applied.
        builder: BucketBuilder,
        /// How the server is reached.
        transport: Transport,
        /// Without slashes at its ends.
        prefix: String,
        /// such as `s3://bucket/prefix`, for messages.
        url: String,
    },
    /// Storage that the caller made.
    Storage {
        /// Any Icechunk storage but one in memory.
        storage: Arc<dyn Storage + Send + Sync>,
        /// For messages.
        url: String,
        /// Whether the repository was created a moment ago, by a library that does not try whether
        /// conditional writes are honoured.
        fresh: bool,
    },
}

impl fmt::Debug for TargetLocation {
    /// The URL only: builders know credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TargetLocation").field(&self.url()).finish()
    }
}

/// How long somebody who looks whether a folder is locked may need for that.
const LOOK: Duration = Duration::from_millis(10);

/// How often a lock is tried that only such onlookers hold.
const LOOKS_WAITED_FOR: usize = 300;

impl TargetLocation {
    /// The place as it may be shown.
    #[must_use]
    pub fn url(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Local(path) => path.to_string_lossy(),
            Self::Bucket { url, .. } | Self::Storage { url, .. } => url.into(),
        }
    }

    /// Locks a local folder for this process; object stores need no lock.
    ///
    /// The lock is advisory (`flock`) and is on the folder itself: it leaves nothing behind and
    /// ends with the process, however that ends. Who only [looks](Self::is_locked) is waited for.
    ///
    /// With `unsafe_target`, a file system without locks is taken as it is.
    pub(super) async fn lock(&self, unsafe_target: bool) -> Result<Option<File>> {
        let Some(path) = self.folder() else {
            return Ok(None);
        };
        std::fs::create_dir_all(&path).map_err(|error| unusable(&path, &error))?;
        let folder = File::open(&path).map_err(|error| unusable(&path, &error))?;
        for _ in 0..LOOKS_WAITED_FOR {
            match folder.try_lock() {
                Ok(()) => return Ok(Some(folder)),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    return if unsafe_target { Ok(None) } else { Err(no_locks(&path)) };
                }
                Err(TryLockError::Error(error)) => return Err(unusable(&path, &error)),
            }
            if is_held(&folder).map_err(|error| unusable(&path, &error))? {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!("another process is ingesting into {}", path.display()),
        )
        .with_hint("wait until it has finished, then run the same command again"))
    }

    /// Whether another process has [locked](Self::lock) the folder.
    ///
    /// Looking takes a shared lock for an instant: several may look at once.
    pub(super) fn is_locked(&self) -> Result<bool> {
        let Some(path) = self.folder() else {
            return Ok(false);
        };
        let fail = |error: &io::Error| unusable(&path, error);
        let folder = File::open(&path).map_err(|error| fail(&error))?;
        is_held(&folder).map_err(|error| fail(&error))
    }

    /// The folder of a repository on a local file system.
    fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::Local(path) => Some(path.clone()),
            Self::Bucket { .. } => None,
            Self::Storage { storage, .. } => {
                let info = storage.storage_info();
                let path = info.fields.into_iter().find(|(name, _)| *name == "path");
                path.filter(|_| info.backend_type == "local filesystem")
                    .map(|(_, path)| path.into())
            }
        }
    }

    /// Whether it is a server's business that concurrent commits are not lost.
    pub(super) fn is_remote(&self) -> bool {
        self.folder().is_none()
    }

    /// Whether another library has just created the repository on a server, without trying whether
    /// conditional writes are honoured.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_remote() && matches!(self, Self::Storage { fresh: true, .. })
    }

    /// Whether there can be a repository: a folder that is not there has none.
    pub(super) fn may_exist(&self) -> bool {
        self.folder().is_none_or(|path| path.exists())
    }

    pub(super) async fn storage(&self) -> Result<Arc<dyn Storage + Send + Sync>> {
        match self {
            Self::Storage { storage, .. } => Ok(Arc::clone(storage)),
            Self::Local(path) => new_local_filesystem_storage(path)
                .await
                .map_err(|error| target_error("open the target", &error.kind)),
            Self::Bucket { builder, transport, prefix, .. } => {
                builder.check()?;
                credentials_to_write(builder, transport).await?;
                backend::storage(builder.clone(), transport.clone().into(), prefix)
            }
        }
    }
}

/// Whether somebody holds the lock of an open folder for itself.
fn is_held(folder: &File) -> io::Result<bool> {
    match folder.try_lock_shared() {
        Ok(()) => folder.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        // A file system without locks.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    target_error(&format!("use the folder {} as a target", path.display()), error)
}

fn no_locks(path: &Path) -> Error {
    Error::new(
        ErrorKind::Target,
        format!(
            "the file system of {} has no locks, so that two processes could commit at the same \
             time",
            path.display()
        ),
    )
    .with_hint("use another folder, or --unsafe-target when nobody else writes there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_is_locked_for_one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let location = TargetLocation::Local(dir.path().join("new"));
        let lock = location.lock(false).await.unwrap();
        assert_eq!(location.lock(false).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert!(location.is_locked().unwrap());
        drop(lock);
        assert!(!location.is_locked().unwrap());
        assert!(location.lock(false).await.unwrap().is_some());
    }

    /// Regression: who asked for a status at that instant made an ingest fail with a conflict.
    #[tokio::test]
    async fn who_only_looks_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let location = TargetLocation::Local(dir.path().to_owned());
        let looking = File::open(dir.path()).unwrap();
        looking.lock_shared().unwrap();
        assert!(!location.is_locked().unwrap());
        let looked = async {
            tokio::time::sleep(3 * LOOK).await;
            drop(looking);
        };
        let (lock, ()) = tokio::join!(location.lock(false), looked);
        assert!(lock.unwrap().is_some());
    }
}
