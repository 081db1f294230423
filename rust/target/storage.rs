//! From a place named by the user to Icechunk storage, and the lock on a local folder.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use icechunk::Storage;
use icechunk::config::{S3Credentials, S3StaticCredentials};
use icechunk::storage::{new_local_filesystem_storage, new_s3_object_store_storage};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

use crate::error::target_error;
use crate::source::S3Settings;
use crate::{Error, ErrorKind, Result};

/// Where a repository is or will be.
pub enum TargetLocation {
    /// A folder, given by its absolute path.
    Local(PathBuf),
    /// A prefix of an S3-compatible bucket.
    S3 {
        /// Bucket, environment, options and credentials applied.
        builder: Box<AmazonS3Builder>,
        /// Without slashes at its ends.
        prefix: String,
        /// `s3://bucket/prefix`, for messages.
        url: String,
    },
    /// Storage that the caller made.
    Storage {
        /// Any Icechunk storage but one in memory.
        storage: Arc<dyn Storage + Send + Sync>,
        /// For messages.
        url: String,
    },
}

impl fmt::Debug for TargetLocation {
    /// The URL only: builders know credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TargetLocation").field(&self.url()).finish()
    }
}

impl TargetLocation {
    /// The place as it may be shown.
    #[must_use]
    pub fn url(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Local(path) => path.to_string_lossy(),
            Self::S3 { url, .. } | Self::Storage { url, .. } => url.into(),
        }
    }

    /// Locks a local folder for this process; object stores need no lock.
    ///
    /// The lock is advisory (`flock`) and is on the folder itself: it leaves nothing behind and
    /// ends with the process, however that ends.
    ///
    /// With `trusted`, a file system without locks is taken as it is.
    pub(super) fn lock(&self, trusted: bool) -> Result<Option<File>> {
        let Some(path) = self.folder() else {
            return Ok(None);
        };
        let fail = |error: &std::io::Error| {
            target_error(&format!("use the folder {} as a target", path.display()), error)
        };
        std::fs::create_dir_all(&path).map_err(|error| fail(&error))?;
        let folder = File::open(&path).map_err(|error| fail(&error))?;
        match folder.try_lock() {
            Ok(()) => Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::Conflict,
                format!("another process is ingesting into {}", path.display()),
            )
            .with_hint("wait until it has finished, then run the same command again")),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                if trusted {
                    return Ok(None);
                }
                Err(Error::new(
                    ErrorKind::Target,
                    format!(
                        "the file system of {} has no locks, so that two processes could commit at \
                         the same time",
                        path.display()
                    ),
                )
                .with_hint("use another folder, or --unsafe-target when nobody else writes there"))
            }
            Err(TryLockError::Error(error)) => Err(fail(&error)),
        }
    }

    /// The folder of a repository on a local file system.
    fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::Local(path) => Some(path.clone()),
            Self::S3 { .. } => None,
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
            Self::S3 { builder, prefix, .. } => {
                let settings = S3Settings::of(builder);
                new_s3_object_store_storage(
                    settings.options(),
                    settings.bucket.clone(),
                    Some(prefix.clone()),
                    Some(credentials(builder, settings.anonymous)),
                    Vec::new(),
                    Vec::new(),
                )
                .await
                .map_err(|error| target_error("open the target", &error.kind))
            }
        }
    }
}

/// Static keys when the settings hold them; otherwise Icechunk asks the environment again (roles,
/// web identities, instance metadata).
fn credentials(builder: &AmazonS3Builder, anonymous: bool) -> S3Credentials {
    let get = |key| builder.get_config_value(&key);
    if anonymous {
        return S3Credentials::Anonymous;
    }
    match (get(AmazonS3ConfigKey::AccessKeyId), get(AmazonS3ConfigKey::SecretAccessKey)) {
        (Some(access_key_id), Some(secret_access_key)) => {
            S3Credentials::Static(S3StaticCredentials {
                access_key_id,
                secret_access_key,
                session_token: get(AmazonS3ConfigKey::Token),
                expires_after: None,
            })
        }
        _ => S3Credentials::FromEnv,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_for_one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let location = TargetLocation::Local(dir.path().join("new"));
        let lock = location.lock(false).unwrap();
        assert_eq!(location.lock(false).unwrap_err().kind(), ErrorKind::Conflict);
        drop(lock);
        assert!(location.lock(false).unwrap().is_some());
    }

    #[test]
    fn static_keys_are_preferred() {
        let builder = AmazonS3Builder::new();
        assert!(matches!(credentials(&builder, true), S3Credentials::Anonymous));
        assert!(matches!(credentials(&builder, false), S3Credentials::FromEnv));
        let builder = builder.with_access_key_id("a").with_secret_access_key("b");
        assert!(matches!(credentials(&builder, false), S3Credentials::Static(_)));
    }
}
