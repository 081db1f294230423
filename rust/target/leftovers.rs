//! What a process that was killed while it created a repository has left behind.
//!
//! Icechunk writes the first snapshot and its log before the file that makes a repository. Both are
//! the same for every repository, so that creating it again does no harm.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use icechunk::Storage;
use icechunk::format::snapshot::Snapshot;
use icechunk::storage::StorageContext;

use super::conditional_writes::TRIAL_PREFIX;
use crate::Result;
use crate::error::target_error;

/// More objects than a creation and its trials can leave.
const TOO_MANY: usize = 100;

/// No trial takes as long as that.
const PROBES_END: chrono::TimeDelta = chrono::TimeDelta::minutes(10);

/// Removes a repository that was created a moment ago and has no commits.
pub(super) async fn remove_new_repository(
    storage: &Arc<dyn Storage + Send + Sync>,
    url: &str,
) -> Result<()> {
    let failed = |error: icechunk::storage::StorageError| {
        target_error(&format!("remove the new repository at {url}"), &error.kind)
    };
    let settings = storage.default_settings().await.map_err(failed)?;
    let context = StorageContext::unattributed(&settings);
    let objects = storage.list_objects(&context, "").await.map_err(failed)?;
    let objects: Vec<_> = objects.take(TOO_MANY).try_collect().await.map_err(failed)?;
    if objects.len() < TOO_MANY {
        let keys = objects.into_iter().map(|object| (object.id, object.size_bytes));
        let keys = futures::stream::iter(keys).boxed();
        storage.delete_objects(&context, "", keys).await.map_err(failed)?;
    }
    Ok(())
}

/// Whether there is nothing but the beginnings of a repository; what old trials have left is deleted.
pub(super) async fn only_of_a_creation(
    storage: &Arc<dyn Storage + Send + Sync>,
    url: &str,
) -> Result<bool> {
    let settings = storage
        .default_settings()
        .await
        .map_err(|error| target_error(&format!("use {url} as a target"), &error.kind))?;
    let context = StorageContext::unattributed(&settings);
    let listing =
        |error: icechunk::storage::StorageError| target_error(&format!("list {url}"), &error.kind);
    let objects = storage.list_objects(&context, "").await.map_err(listing)?;
    let objects: Vec<_> = objects.take(TOO_MANY).try_collect().await.map_err(listing)?;
    let first = Snapshot::INITIAL_SNAPSHOT_ID.to_string();
    let mut trials = Vec::new();
    for object in &objects {
        let key = object.id.as_str();
        if key.starts_with(TRIAL_PREFIX) {
            // A young one may be that of another process, at this very moment.
            if chrono::Utc::now() - object.created_at > PROBES_END {
                trials.push((key.to_owned(), object.size_bytes));
            }
        } else if key != format!("snapshots/{first}") && key != format!("transactions/{first}") {
            return Ok(false);
        }
    }
    if !trials.is_empty() {
        let trials = futures::stream::iter(trials).boxed();
        storage.delete_objects(&context, "", trials).await.map_err(listing)?;
    }
    Ok(objects.len() < TOO_MANY)
}
