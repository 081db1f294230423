//! Whether a store honours conditional writes, tried before a repository is created on it.
//!
//! Icechunk's commits are safe only where a conditional PUT is atomic. Some servers ignore the
//! condition, or test it without a lock: racing commits would be lost in silence.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::StreamExt as _;
use icechunk::Storage;
use icechunk::format::NodeId;
use icechunk::storage::{Settings, StorageContext, VersionInfo, VersionedUpdateResult};

use crate::error::target_error;
use crate::{Error, ErrorKind, Result};

/// What the name of an object of a probe begins with.
pub(super) const PROBE_PREFIX: &str = "refreeze-probe-";

/// Writers that try to create the same object at the same time.
const RACERS: usize = 8;

/// Tries conditional writes under one random key, which is deleted afterwards.
///
/// # Errors
///
/// [`ErrorKind::Target`] naming what the store does wrong; [`ErrorKind::Access`] or
/// [`ErrorKind::Target`] when it cannot be written at all.
pub(super) async fn conditional_writes(
    storage: &Arc<dyn Storage + Send + Sync>,
    url: &str,
) -> Result<()> {
    let settings = storage
        .default_settings()
        .await
        .map_err(|error| target_error(&format!("use {url} as a target"), &error.kind))?;
    let probe = Probe {
        storage,
        settings: &settings,
        url,
        key: format!("{PROBE_PREFIX}{}", NodeId::random().to_string().to_lowercase()),
    };
    let outcome = probe.run().await;
    let removed = probe.remove().await;
    outcome.and(removed)
}

struct Probe<'a> {
    storage: &'a Arc<dyn Storage + Send + Sync>,
    settings: &'a Settings,
    url: &'a str,
    key: String,
}

impl Probe<'_> {
    async fn run(&self) -> Result<()> {
        let create = VersionInfo::for_creation();
        let racers = (0..RACERS).map(|racer| self.put(racer, &create));
        let outcomes = futures::future::try_join_all(racers).await?;
        let winners: Vec<_> = outcomes.into_iter().flatten().collect();
        let first = match winners.as_slice() {
            [first] => first,
            [] => return Err(self.unsafe_store("refuses to create an object (If-None-Match: *)")),
            several => {
                let what = format!(
                    "let {} of {RACERS} writers create the same object (If-None-Match: *)",
                    several.len()
                );
                return Err(self.unsafe_store(&what));
            }
        };
        let Some(second) = self.put(RACERS, first).await? else {
            return Err(
                self.unsafe_store("refuses to replace an object's present version (If-Match)")
            );
        };
        if self.put(RACERS + 1, first).await?.is_some() || second == *first {
            return Err(self.unsafe_store("replaces an object whose version is another (If-Match)"));
        }
        Ok(())
    }

    /// The version written, or none if the condition was not met.
    async fn put(&self, writer: usize, previous: &VersionInfo) -> Result<Option<VersionInfo>> {
        let context = StorageContext::unattributed(self.settings);
        let bytes = Bytes::from(format!("refreeze asks whether conditional writes work: {writer}"));
        let written = self
            .storage
            .put_object(&context, &self.key, bytes, None, Vec::new(), Some(previous))
            .await
            .map_err(|error| target_error(&format!("write to {}", self.url), &error.kind))?;
        Ok(match written {
            VersionedUpdateResult::Updated { new_version } => Some(new_version),
            VersionedUpdateResult::NotOnLatestVersion => None,
        })
    }

    async fn remove(&self) -> Result<()> {
        let context = StorageContext::unattributed(self.settings);
        let key = futures::stream::iter([(self.key.clone(), 0)]).boxed();
        let removed = self.storage.delete_objects(&context, "", key).await;
        removed.map(|_| ()).map_err(|error| {
            target_error(&format!("delete {} in {}", self.key, self.url), &error.kind)
        })
    }

    fn unsafe_store(&self, what: &str) -> Error {
        Error::new(
            ErrorKind::Target,
            format!(
                "{} is not safe as a target: its server {what}, so that commits can be lost",
                self.url
            ),
        )
        .with_hint(
            "use a store with conditional writes, or a local folder; --unsafe-target takes this \
             one, for a single writer at your own risk",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_with_conditional_writes_passes_and_keeps_nothing() {
        let storage = icechunk::new_in_memory_storage().await.unwrap();
        conditional_writes(&storage, "memory").await.unwrap();
        let settings = Settings::default();
        let context = StorageContext::unattributed(&settings);
        let left: Vec<_> = storage.list_objects(&context, "").await.unwrap().collect().await;
        assert!(left.is_empty(), "{left:?}");
    }
}
