//! A virtual chunk container whose objects have moved: what it becomes, and changing it.
//!
//! References name their container, so that none of them changes. Whether the objects are at the new
//! place is not known here.

use std::collections::HashMap;

use icechunk::ObjectStoreConfig;
use icechunk::Repository;
use icechunk::config::RepositoryConfig;
use icechunk::virtual_chunks::VirtualChunkContainer;

use super::config::{change, stored};
use super::container::{plain_prefix, same_store, with_slash};
use crate::source::Source;
use crate::{Error, ErrorKind, Result};

/// A container as it is and as it will be; both have the same name.
#[derive(Debug, Clone)]
pub struct Move {
    old: VirtualChunkContainer,
    new: VirtualChunkContainer,
    name: String,
}

impl Move {
    /// The container with the stored prefix `from`, moved to where `to` is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Mismatch`] when there is no such container, it has no name, it is there already,
    /// or another one lies where it would go; [`ErrorKind::Target`] when no container can have the
    /// new prefix.
    pub fn new(config: Option<&RepositoryConfig>, from: &str, to: &Source) -> Result<Self> {
        let containers = || config.into_iter().flat_map(RepositoryConfig::virtual_chunk_containers);
        let from = with_slash(from);
        let Some(old) = containers().find(|one| with_slash(one.url_prefix()) == from) else {
            let there: Vec<_> = containers().map(VirtualChunkContainer::url_prefix).collect();
            let hint = if there.is_empty() {
                "the repository has none; refreeze status shows what there is".to_owned()
            } else {
                format!("give one of the stored prefixes as --from: {}", there.join(", "))
            };
            let what = format!("the repository has no virtual chunk container {from}");
            return Err(Error::new(ErrorKind::Mismatch, what).with_hint(hint));
        };
        let Some(name) = old.name().map(str::to_owned) else {
            let what = format!(
                "the virtual chunk container {from} has no name, so that its references hold whole \
                 URLs, which stay as they are"
            );
            return Err(Error::new(ErrorKind::Mismatch, what).with_hint(OVERWRITE));
        };
        let prefix = to.url_prefix();
        if plain_prefix(&prefix) != prefix {
            let what = format!("no virtual chunk container can be made for {prefix}");
            let hint = "move the objects to a path of letters, digits, '-', '_' and '.'";
            return Err(Error::new(ErrorKind::Target, what).with_hint(hint));
        }
        let store = match to.container_store() {
            ObjectStoreConfig::LocalFileSystem(_) => {
                let folder = prefix.strip_prefix("file://").unwrap_or(&prefix);
                ObjectStoreConfig::LocalFileSystem(folder.into())
            }
            store => store,
        };
        if from == prefix && store == old.store {
            let what = format!("the container {from} is there already, with the same settings");
            let hint = "give another --to, or the --source-option that has changed (endpoint=…)";
            return Err(Error::new(ErrorKind::Mismatch, what).with_hint(hint));
        }
        for other in containers().filter(|other| other.url_prefix() != old.url_prefix()) {
            let theirs = with_slash(other.url_prefix());
            if theirs == prefix
                || (theirs.starts_with(&prefix) || prefix.starts_with(&theirs))
                    && !same_store(&other.store, &store)
            {
                let what = format!("{prefix} is where the virtual chunk container {theirs} is");
                let hint = "give another --to, or ingest from there with --mode overwrite";
                return Err(Error::new(ErrorKind::Mismatch, what).with_hint(hint));
            }
        }
        let new = VirtualChunkContainer::new_named(name.clone(), prefix.clone(), store);
        let new = new.map_err(|error| {
            let what = format!("no virtual chunk container can be made for {prefix}: {error}");
            Error::new(ErrorKind::Target, what).with_hint("give another --to")
        })?;
        Ok(Self { old: old.clone(), new, name })
    }

    /// The container's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its prefix as it is stored, and the one that it will have.
    #[must_use]
    pub fn prefixes(&self) -> (&str, &str) {
        (self.old.url_prefix(), self.new.url_prefix())
    }

    /// Changes the container in the stored configuration, in one compare-and-set.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] or [`ErrorKind::Access`] when it cannot be written;
    /// [`ErrorKind::Conflict`] when somebody has changed the container meanwhile.
    pub async fn save(&self, repository: &Repository, url: &str) -> Result<()> {
        let saved = |stored: Option<RepositoryConfig>| self.is_in(stored.as_ref());
        change(repository, url, |stored| self.applied(stored), saved).await?;
        if self.is_in(stored(repository, url).await?.as_ref()) {
            return Ok(());
        }
        let what = format!("the container {} was changed meanwhile", self.old.url_prefix());
        Err(Error::new(ErrorKind::Conflict, what).with_hint("run the same command again"))
    }

    fn is_in(&self, config: Option<&RepositoryConfig>) -> bool {
        let mut containers =
            config.into_iter().flat_map(RepositoryConfig::virtual_chunk_containers);
        containers.any(|container| *container == self.new)
    }

    /// A configuration with the change; `None` when the container is not what it was.
    fn applied(&self, config: Option<RepositoryConfig>) -> Option<RepositoryConfig> {
        let mut config = config?;
        let containers = config.virtual_chunk_containers.get_or_insert_with(HashMap::new);
        if containers.get(self.old.url_prefix()) != Some(&self.old) {
            return None;
        }
        containers.remove(self.old.url_prefix());
        containers.insert(self.new.url_prefix().to_owned(), self.new.clone());
        Some(config)
    }
}

/// What to do where a container cannot be moved.
pub const OVERWRITE: &str = "ingest the new place: refreeze ingest NEW-PLACE TARGET --mode \
                             overwrite";
