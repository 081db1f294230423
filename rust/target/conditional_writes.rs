//! Whether a store honours conditional writes, tried before a repository is created on it.
//!
//! Icechunk's commits are safe only where a conditional PUT is atomic. Some servers ignore the
//! condition, or test it without a lock: racing commits would be lost silently. A write whose
//! answer is lost says nothing of that: then the object itself tells whose it is.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::StreamExt as _;
use icechunk::Storage;
use icechunk::format::NodeId;
use icechunk::storage::{
    Settings, StorageContext, StorageError, StorageErrorKind, VersionInfo, VersionedUpdateResult,
};
use tokio::io::AsyncReadExt as _;

use super::outcome::cut_off;
use crate::error::target_error;
use crate::{Error, ErrorKind, Result};

/// What the name of an object of a trial begins with.
pub(super) const TRIAL_PREFIX: &str = "refreeze-probe-";

/// Writers that try to create the same object at the same time.
const RACERS: usize = 8;

/// How often a write is tried that is cut off before it is answered.
const ATTEMPTS: usize = 4;

/// Tries conditional writes under one random key, which is deleted afterwards.
///
/// # Errors
///
/// [`ErrorKind::Target`] naming what the store does wrong; [`ErrorKind::Access`] or
/// [`ErrorKind::Target`] when it cannot be written at all.
pub(super) async fn check(storage: &Arc<dyn Storage + Send + Sync>, url: &str) -> Result<()> {
    let settings = storage
        .default_settings()
        .await
        .map_err(|error| target_error(&format!("use {url} as a target"), &error.kind))?;
    let trial = Trial {
        storage,
        settings: &settings,
        url,
        key: format!("{TRIAL_PREFIX}{}", NodeId::random().to_string().to_lowercase()),
    };
    let outcome = trial.run().await;
    let removed = trial.remove().await;
    outcome.and(removed)
}

struct Trial<'a> {
    storage: &'a Arc<dyn Storage + Send + Sync>,
    settings: &'a Settings,
    url: &'a str,
    key: String,
}

/// What became of one conditional write.
#[derive(Debug)]
enum Put {
    Written(VersionInfo),
    /// The condition was not met.
    Refused,
    /// There was no answer, or one of an error: it may have been made.
    Unknown(StorageError),
}

impl Trial<'_> {
    async fn run(&self) -> Result<()> {
        let create = VersionInfo::for_creation();
        let racers = (0..RACERS).map(|racer| self.put(racer, &create));
        let outcomes = futures::future::join_all(racers).await;
        let first = self.winner(outcomes).await?;
        let second = self.replace(&first).await?;
        self.replace_another_version(&first, &second).await
    }

    /// The version of the one writer that has created the object.
    async fn winner(&self, outcomes: Vec<Put>) -> Result<VersionInfo> {
        let mut winners = Vec::new();
        let mut doubt = None;
        for outcome in outcomes {
            match outcome {
                Put::Written(version) => winners.push(version),
                Put::Refused => {}
                Put::Unknown(error) => doubt = Some(error),
            }
        }
        match (winners.as_slice(), doubt) {
            ([winner], None) => Ok(winner.clone()),
            // Who was not told may have won too.
            ([winner], Some(_)) => match self.read().await? {
                Some((_, version)) if version == *winner => Ok(version),
                _ => Err(self.several_winners(2)),
            },
            // One of them may have won, and not have been told. That it was there first makes the
            // others lose.
            ([], doubt) => match (self.read().await?, doubt) {
                (Some((_, version)), _) => Ok(version),
                (None, Some(error)) => Err(self.not_written(&error)),
                (None, None) => {
                    Err(self.unsafe_store("refuses to create an object (If-None-Match: *)"))
                }
            },
            (several, _) => Err(self.several_winners(several.len())),
        }
    }

    /// Replaces the object's present version, and gives back the new one.
    async fn replace(&self, present: &VersionInfo) -> Result<VersionInfo> {
        let refuses =
            || self.unsafe_store("refuses to replace an object's present version (If-Match)");
        for _ in 0..ATTEMPTS {
            let outcome = self.put(RACERS, present).await;
            if let Put::Written(version) = outcome {
                return Ok(version);
            }
            match (self.read().await?, outcome) {
                (Some((writer, version)), _) if writer == text(RACERS) => return Ok(version),
                (_, Put::Unknown(error)) if cut_off(&error) => {}
                (_, Put::Unknown(error)) => return Err(self.not_written(&error)),
                _ => return Err(refuses()),
            }
        }
        Err(refuses())
    }

    /// Tries to replace a version that is no longer the object's.
    async fn replace_another_version(
        &self,
        former: &VersionInfo,
        present: &VersionInfo,
    ) -> Result<()> {
        let ignores =
            || self.unsafe_store("replaces an object whose version is another (If-Match)");
        if former == present {
            return Err(ignores());
        }
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.put(RACERS + 1, former).await {
                Put::Refused => return Ok(()),
                Put::Written(_) => return Err(ignores()),
                Put::Unknown(error) => {
                    if self.read().await?.is_some_and(|(writer, _)| writer == text(RACERS + 1)) {
                        return Err(ignores());
                    }
                    let again = cut_off(&error);
                    last = Some(error);
                    if !again {
                        break;
                    }
                }
            }
        }
        last.map_or(Ok(()), |error| Err(self.not_written(&error)))
    }

    async fn put(&self, writer: usize, previous: &VersionInfo) -> Put {
        let context = StorageContext::unattributed(self.settings);
        let bytes = Bytes::from(text(writer));
        let written = self
            .storage
            .put_object(&context, &self.key, bytes, None, Vec::new(), Some(previous))
            .await;
        match written {
            Ok(VersionedUpdateResult::Updated { new_version }) => Put::Written(new_version),
            Ok(VersionedUpdateResult::NotOnLatestVersion) => Put::Refused,
            Err(error) => Put::Unknown(error),
        }
    }

    /// What the object holds and its version, if it is there.
    async fn read(&self) -> Result<Option<(String, VersionInfo)>> {
        let reading = |error: &(dyn std::error::Error + Send + Sync + 'static)| {
            target_error(&format!("read {} in {}", self.key, self.url), error)
        };
        let context = StorageContext::unattributed(self.settings);
        let (mut object, version) = match self.storage.get_object(&context, &self.key, None).await {
            Ok(found) => found,
            Err(error) if matches!(error.kind, StorageErrorKind::ObjectNotFound) => {
                return Ok(None);
            }
            Err(error) => return Err(reading(&error.kind)),
        };
        let mut bytes = Vec::new();
        object.read_to_end(&mut bytes).await.map_err(|error| reading(&error))?;
        Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), version)))
    }

    async fn remove(&self) -> Result<()> {
        let context = StorageContext::unattributed(self.settings);
        let key = futures::stream::iter([(self.key.clone(), 0)]).boxed();
        let removed = self.storage.delete_objects(&context, "", key).await;
        removed.map(|_| ()).map_err(|error| {
            target_error(&format!("delete {} in {}", self.key, self.url), &error.kind)
        })
    }

    fn not_written(&self, error: &StorageError) -> Error {
        target_error(&format!("write to {}", self.url), &error.kind)
    }

    fn several_winners(&self, winners: usize) -> Error {
        self.unsafe_store(&format!(
            "let {winners} of {RACERS} writers create the same object (If-None-Match: *)"
        ))
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

/// What a writer writes.
fn text(writer: usize) -> String {
    format!("refreeze asks whether conditional writes work: {writer}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_with_conditional_writes_passes_and_keeps_nothing() {
        let storage = icechunk::new_in_memory_storage().await.unwrap();
        check(&storage, "memory").await.unwrap();
        let settings = Settings::default();
        let context = StorageContext::unattributed(&settings);
        let left: Vec<_> = storage.list_objects(&context, "").await.unwrap().collect().await;
        assert!(left.is_empty(), "{left:?}");
    }
}
