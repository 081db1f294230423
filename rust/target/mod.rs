//! The Icechunk repository that receives references: opened, or created when there is none.
//!
//! What stands in an existing repository is never changed here; its stored configuration is only
//! added to.

mod backend;
mod conditional_writes;
mod config;
pub mod container;
mod contents;
pub mod handed_over;
mod leftovers;
pub mod locations;
pub mod moved;
pub mod origin;
pub(crate) mod outcome;
mod payload;
mod reference_form;
mod storage;
mod stored_chunks;

use std::fs::File;
use std::sync::Arc;

use icechunk::Repository;
use icechunk::Storage;
use icechunk::config::RepositoryConfig;
use icechunk::repository::{DetectedSpecVersion, RepositoryErrorKind};

pub use config::{Additions, effective_split};
pub use contents::{branch_nodes, native_chunks, native_in};
pub use reference_form::{ReferenceForm, reference_form};
pub use storage::TargetLocation;
pub use stored_chunks::{StoredChunks, stored_chunks};

use crate::error::TargetContext as _;
use crate::{Error, ErrorKind, Result};

/// An open repository and how it is shown to a user.
pub struct Target {
    repository: Repository,
    url: String,
    created: bool,
    /// Held until the target is dropped, so that two processes cannot commit to one folder.
    lock: Option<File>,
}

impl Target {
    /// Opens the repository at `location`, or creates one (spec version 2) when there is nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when something else is there, or a repository of spec version 1;
    /// [`ErrorKind::Conflict`] when another process holds a local repository;
    /// [`ErrorKind::Access`] when credentials or permissions are refused.
    ///
    /// With `unsafe_target`, a store is taken without asking whether it honours conditional writes, and
    /// a folder on a file system that has no locks.
    pub async fn open_or_create(location: &TargetLocation, unsafe_target: bool) -> Result<Self> {
        let url = location.url().into_owned();
        let lock = location.lock(unsafe_target).await?;
        let storage = location.storage().await?;
        let created = if is_there(&storage, &url).await? {
            if !unsafe_target && location.is_fresh() {
                check_after_creation(&storage, &url).await?;
            }
            location.is_fresh()
        } else {
            if !unsafe_target && location.is_remote() {
                conditional_writes::check(&storage, &url).await?;
            }
            create(&storage, &url).await?
        };
        Ok(Self { repository: open(storage, &url).await?, url, created, lock })
    }

    /// Opens the repository at `location`, which must be there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TargetNotFound`] when there is none; otherwise as
    /// [`open_or_create`](Self::open_or_create).
    pub async fn open(location: &TargetLocation, unsafe_target: bool) -> Result<Self> {
        let storage = existing(location).await?;
        let lock = location.lock(unsafe_target).await?;
        let url = location.url().into_owned();
        Ok(Self { repository: open(storage, &url).await?, url, created: false, lock })
    }

    /// Opens the repository at `location` for reading, beside whoever is at work on it; also tells
    /// whether another process holds it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), without conflicts.
    pub async fn open_to_read(location: &TargetLocation) -> Result<(Self, bool)> {
        let storage = existing(location).await?;
        let locked = location.is_locked()?;
        let url = location.url().into_owned();
        let repository = open(storage, &url).await?;
        Ok((Self { repository, url, created: false, lock: None }, locked))
    }

    /// Tries whether `location` holds repositories safely: its lock, if it is a folder that is there,
    /// and conditional writes of a server, under one key that is deleted afterwards.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] naming what is wrong with the server or file system,
    /// [`ErrorKind::Conflict`] when another process holds the folder, [`ErrorKind::Access`].
    pub async fn check_writes(location: &TargetLocation) -> Result<()> {
        if location.is_remote() {
            return conditional_writes::check(&location.storage().await?, &location.url()).await;
        }
        location.lock(false).await.map(drop)
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

    /// Whether no other process can be at work on it, because this one holds its lock.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
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
        if additions.is_empty() {
            return Ok(());
        }
        additions.save(&self.repository, &self.url).await?;
        self.repository = open(Arc::clone(self.repository.storage()), &self.url).await?;
        Ok(())
    }
}

/// Tries conditional writes where another library has just created the repository, which is
/// removed again where they are not honoured.
async fn check_after_creation(storage: &Arc<dyn Storage + Send + Sync>, url: &str) -> Result<()> {
    let Err(error) = conditional_writes::check(storage, url).await else { return Ok(()) };
    leftovers::remove_new_repository(storage, url).await?;
    Err(error)
}

/// The storage of a location that holds a repository.
async fn existing(location: &TargetLocation) -> Result<Arc<dyn Storage + Send + Sync>> {
    let url = location.url();
    if location.may_exist() {
        let storage = location.storage().await?;
        if is_there(&storage, &url).await? {
            return Ok(storage);
        }
    }
    Err(Error::new(ErrorKind::TargetNotFound, format!("there is no repository at {url}"))
        .with_hint("check the path or URL"))
}

/// Whether a repository is there, and of a version that can be worked with.
async fn is_there(storage: &Arc<dyn Storage + Send + Sync>, url: &str) -> Result<bool> {
    let found = Repository::fetch_spec_version(Arc::clone(storage), None).await;
    match found.doing(|| format!("open the target {url}"))? {
        Some(DetectedSpecVersion::V1) => Err(Error::new(
            ErrorKind::Target,
            format!("the repository at {url} has Icechunk spec version 1"),
        )
        .with_hint(
            "upgrade it with icechunk.upgrade_icechunk_repository(repo, dry_run=False), or use \
             another target",
        )),
        found => Ok(found.is_some()),
    }
}

/// How often a creation is tried that is cut off, or that meets what an earlier one has left.
const CREATIONS: usize = 4;

/// Creates a repository; `false` when there is one already: another process was quicker, or the
/// answer to this one's creation was lost.
async fn create(storage: &Arc<dyn Storage + Send + Sync>, url: &str) -> Result<bool> {
    let mut must_be_empty = true;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let creation = Repository::create(Arc::clone(storage)).check_clean_root(must_be_empty);
        let Err(error) = creation.execute().await else { return Ok(true) };
        // Listed before the repository is looked for: what another process adds to one that it has
        // just created is then explained by its being there.
        let only_beginnings = matches!(&error.kind, RepositoryErrorKind::ParentDirectoryNotClean)
            && leftovers::only_of_a_creation(storage, url).await?;
        if matches!(Repository::fetch_spec_version(Arc::clone(storage), None).await, Ok(Some(_))) {
            return Ok(false);
        }
        let again = attempts < CREATIONS;
        match &error.kind {
            RepositoryErrorKind::EmptyPrefixCreation => {
                return Err(Error::new(
                    ErrorKind::Target,
                    format!("{url} is the root of a bucket"),
                )
                .with_hint("add a prefix: s3://bucket/name"));
            }
            RepositoryErrorKind::ParentDirectoryNotClean if again && only_beginnings => {
                must_be_empty = false;
            }
            RepositoryErrorKind::ParentDirectoryNotClean => {
                return Err(Error::new(
                    ErrorKind::Target,
                    format!("{url} is not empty and is not an Icechunk repository"),
                )
                .with_hint("use an empty or new folder (or prefix) as the target"));
            }
            _ if again && outcome::cut_off(&error) => must_be_empty = true,
            _ => return Err(error).doing(|| format!("create a repository at {url}")),
        }
    }
}

async fn open(storage: Arc<dyn Storage + Send + Sync>, url: &str) -> Result<Repository> {
    Repository::open(storage).execute().await.doing(|| format!("open the repository at {url}"))
}
