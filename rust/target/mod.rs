//! The Icechunk repository that receives references: opened, or created when there is none.
//!
//! What stands in an existing repository is never changed here; its stored configuration is only
//! added to.

mod config;
mod storage;

use std::fs::File;
use std::sync::Arc;

use icechunk::Repository;
use icechunk::Storage;
use icechunk::config::RepositoryConfig;
use icechunk::repository::{DetectedSpecVersion, RepositoryErrorKind};

pub use config::Additions;
pub use storage::TargetLocation;

use crate::error::TargetContext as _;
use crate::{Error, ErrorKind, Result};

/// An open repository and how it is shown to a user.
pub struct Target {
    repository: Repository,
    url: String,
    created: bool,
    /// Held until the target is dropped, so that two processes cannot commit to one folder.
    _lock: Option<File>,
}

impl Target {
    /// Opens the repository at `location`, or creates one (spec version 2) when there is nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when something else is there, or a repository of spec version 1;
    /// [`ErrorKind::Conflict`] when another process holds a local repository;
    /// [`ErrorKind::Access`] when credentials or permissions are refused.
    pub async fn open_or_create(location: &TargetLocation) -> Result<Self> {
        let url = location.url().into_owned();
        let lock = location.lock()?;
        let storage = location.storage().await?;
        let found = Repository::fetch_spec_version(Arc::clone(&storage), None)
            .await
            .doing(|| format!("open the target {url}"))?;
        let created = match found {
            Some(DetectedSpecVersion::V1) => {
                return Err(Error::new(
                    ErrorKind::Target,
                    format!("the repository at {url} has Icechunk spec version 1"),
                )
                .with_hint(
                    "upgrade it with icechunk.upgrade_icechunk_repository(repo, dry_run=False), \
                     or use another target",
                ));
            }
            Some(_) => false,
            None => {
                create(storage.clone(), &url).await?;
                true
            }
        };
        let repository = open(storage, &url).await?;
        Ok(Self { repository, url, created, _lock: lock })
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Where it is, free of credentials.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it was created by [`open_or_create`](Self::open_or_create).
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.created
    }

    /// The stored configuration, if there is one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when it cannot be read.
    pub async fn stored_config(&self) -> Result<Option<RepositoryConfig>> {
        config::stored(&self.repository, &self.url).await
    }

    /// Adds to the stored configuration and works with the result from here on.
    ///
    /// # Errors
    ///
    /// As [`Additions::save`].
    pub async fn configure(&mut self, additions: &Additions) -> Result<()> {
        additions.save(&self.repository, &self.url).await?;
        self.repository = open(Arc::clone(self.repository.storage()), &self.url).await?;
        Ok(())
    }
}

async fn create(storage: Arc<dyn Storage + Send + Sync>, url: &str) -> Result<()> {
    match Repository::create(storage).execute().await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind, RepositoryErrorKind::ParentDirectoryNotClean) => {
            Err(Error::new(
                ErrorKind::Target,
                format!("{url} is not empty and is not an Icechunk repository"),
            )
            .with_hint("use an empty or new folder (or prefix) as the target"))
        }
        Err(error) if matches!(error.kind, RepositoryErrorKind::EmptyPrefixCreation) => {
            Err(Error::new(ErrorKind::Target, format!("{url} is the root of a bucket"))
                .with_hint("add a prefix: s3://bucket/name"))
        }
        Err(error) => Err(error).doing(|| format!("create a repository at {url}")),
    }
}

async fn open(storage: Arc<dyn Storage + Send + Sync>, url: &str) -> Result<Repository> {
    Repository::open(storage).execute().await.doing(|| format!("open the repository at {url}"))
}
