//! Where results of units wait for their commit: `refreeze/<run>/<digest>.json` in the target,
//! each created once. What they say is not known here.

use std::collections::HashSet;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use icechunk::Repository;
use icechunk::format::{MANIFESTS_FILE_PATH, ManifestId};
use icechunk::storage::{
    StorageContext, StorageError, StorageErrorKind, VersionInfo, VersionedUpdateResult,
};
use tokio::io::AsyncReadExt as _;

use crate::Result;
use crate::error::target_error;

/// The folder of all results.
pub(in crate::jobs) const RESULTS: &str = "refreeze";

/// How often a write is tried whose answer is lost.
const ATTEMPTS: usize = 3;

/// How the name of a file ends that belongs to a result and is too large for it.
const BESIDE: &str = ".chunks";

/// Files that are looked for at a time.
const HEADS_AT_ONCE: usize = 16;

/// The results of one run.
pub(in crate::jobs) struct Results<'a> {
    repository: &'a Repository,
    folder: String,
}

impl<'a> Results<'a> {
    pub(in crate::jobs) fn of(repository: &'a Repository, run_id: &str) -> Self {
        Self { repository, folder: format!("{RESULTS}/{run_id}") }
    }

    fn context(&self) -> StorageContext<'_> {
        StorageContext::unattributed(self.repository.storage_settings())
    }

    /// The result of a unit, if there is one.
    pub(super) async fn get(&self, digest: &str) -> Result<Option<String>> {
        self.read(&format!("{}/{digest}.json", self.folder)).await
    }

    async fn read(&self, key: &str) -> Result<Option<String>> {
        let storage = self.repository.storage();
        let found = storage.get_object(&self.context(), key, None).await;
        let (mut object, _) = match found {
            Ok(found) => found,
            Err(error) if matches!(error.kind, StorageErrorKind::ObjectNotFound) => {
                return Ok(None);
            }
            Err(error) => return Err(target_error(&format!("read {key}"), &error.kind)),
        };
        let mut text = String::new();
        object
            .read_to_string(&mut text)
            .await
            .map_err(|error| target_error(&format!("read {key}"), &error))?;
        Ok(Some(text))
    }

    /// Creates the result of a unit; gives back the one that is there when somebody was quicker.
    pub(super) async fn create(&self, digest: &str, text: &str) -> Result<Option<String>> {
        let key = format!("{}/{digest}.json", self.folder);
        let mut last: Option<StorageError> = None;
        for _ in 0..ATTEMPTS {
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            let create = VersionInfo::for_creation();
            let storage = self.repository.storage();
            let put = storage
                .put_object(&self.context(), &key, bytes, None, Vec::new(), Some(&create))
                .await;
            if let Ok(VersionedUpdateResult::Updated { .. }) = put {
                return Ok(None);
            }
            // An earlier attempt whose answer was lost may have been ours.
            if let Some(there) = self.read(&key).await? {
                return Ok((there != text).then_some(there));
            }
            last = put.err();
        }
        match last {
            Some(error) => Err(target_error(&format!("write {key}"), &error.kind)),
            // It was there and is not any more: the run is over.
            None => Ok(None),
        }
    }

    /// Writes what belongs to a result and is too large for it; gives back the file's name.
    pub(super) async fn put_beside(&self, digest: &str, bytes: Vec<u8>) -> Result<String> {
        // Two workers may do the same unit, each with chunks of its own manifests.
        let name = format!("{digest}-{}{BESIDE}", ManifestId::random());
        let key = format!("{}/{name}", self.folder);
        let bytes = Bytes::from(bytes);
        let storage = self.repository.storage();
        let written =
            storage.put_object(&self.context(), &key, bytes, None, Vec::new(), None).await;
        written.map_err(|error| target_error(&format!("write {key}"), &error.kind))?;
        Ok(name)
    }

    /// What was written beside a result.
    pub(super) async fn beside(&self, name: &str) -> Result<Vec<u8>> {
        let key = self.key(name);
        let found = self.repository.storage().get_object(&self.context(), &key, None).await;
        let (mut object, _) =
            found.map_err(|error| target_error(&format!("read {key}"), &error.kind))?;
        let mut bytes = Vec::new();
        object
            .read_to_end(&mut bytes)
            .await
            .map_err(|error| target_error(&format!("read {key}"), &error))?;
        Ok(bytes)
    }

    /// Where a file of the run is.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    /// Removes a file that belongs to no result.
    pub(super) async fn remove_beside(&self, name: String) -> Result<()> {
        delete(self.repository, &self.folder, vec![(name, 0)]).await.map(drop)
    }

    /// Removes the result of one unit, which is to be done again.
    pub(super) async fn forget(&self, digest: &str) -> Result<()> {
        delete(self.repository, &self.folder, vec![(format!("{digest}.json"), 0)]).await.map(drop)
    }

    /// All results that are there.
    pub(super) async fn all(&self) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        for (key, _) in self.keys().await?.into_iter().filter(|(key, _)| is_result(key)) {
            texts.extend(self.read(&format!("{}/{key}", self.folder)).await?);
        }
        Ok(texts)
    }

    async fn keys(&self) -> Result<Vec<(String, u64)>> {
        let listing =
            |error: StorageError| target_error(&format!("list {}", self.folder), &error.kind);
        let context = self.context();
        let storage = self.repository.storage();
        let objects = storage.list_objects(&context, &self.folder).await.map_err(listing)?;
        objects.map_ok(|object| (object.id, object.size_bytes)).try_collect().await.map_err(listing)
    }

    /// How many there are.
    pub(in crate::jobs) async fn count(&self) -> Result<usize> {
        Ok(self.keys().await?.iter().filter(|(key, _)| is_result(key)).count())
    }

    /// Removes all of them: the run is over.
    pub(in crate::jobs) async fn remove(&self) -> Result<()> {
        let keys = self.keys().await?;
        if keys.is_empty() {
            return Ok(());
        }
        delete(self.repository, &self.folder, keys).await.map(drop)
    }
}

fn is_result(key: &str) -> bool {
    !key.ends_with(BESIDE)
}

/// Whether all of these files are in the repository: Icechunk's own garbage collection deletes
/// manifests that wait for a commit when its cutoff is later than they are.
pub(super) async fn are_there(repository: &Repository, keys: Vec<String>) -> Result<bool> {
    let context = StorageContext::unattributed(repository.storage_settings());
    let look = |key: String| {
        let context = &context;
        async move {
            match repository.storage().get_object_last_modified(context, &key).await {
                Ok(_) => Ok(true),
                Err(error) if is_not_found(&error.kind) => Ok(false),
                Err(error) => Err(target_error(&format!("look for {key}"), &error.kind)),
            }
        }
    };
    let found = futures::stream::iter(keys).map(look).buffer_unordered(HEADS_AT_ONCE);
    found.try_all(std::future::ready).await
}

/// Whether an object is not there; some calls give `object_store`'s own error.
fn is_not_found(kind: &StorageErrorKind) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(kind);
    while let Some(error) = cause {
        let boxed = error.downcast_ref::<Box<object_store::Error>>().map(AsRef::as_ref);
        let stored = error.downcast_ref::<object_store::Error>().or(boxed);
        let own = error.downcast_ref::<StorageErrorKind>();
        if matches!(stored, Some(object_store::Error::NotFound { .. }))
            || matches!(own, Some(StorageErrorKind::ObjectNotFound))
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Removes manifests that nobody refers to.
pub(super) async fn delete_manifests(repository: &Repository, ids: Vec<String>) -> Result<()> {
    let keys = ids.into_iter().map(|id| (id, 0)).collect();
    delete(repository, MANIFESTS_FILE_PATH, keys).await.map(drop)
}

/// Every text in the results of a run: the ids of their manifests among others, whichever version
/// has written them.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) when one cannot be read.
pub(in crate::jobs) async fn named_in_results(
    repository: &Repository,
    run_id: &str,
) -> Result<HashSet<String>> {
    let mut named = HashSet::new();
    for text in Results::of(repository, run_id).all().await? {
        // Documents of JSON quote every text, and no id needs an escape.
        named.extend(text.split('"').map(str::to_owned));
    }
    Ok(named)
}

/// Removes objects of a folder, and gives back how many.
pub(in crate::jobs) async fn delete(
    repository: &Repository,
    folder: &str,
    keys: Vec<(String, u64)>,
) -> Result<u64> {
    let context = StorageContext::unattributed(repository.storage_settings());
    let keys = futures::stream::iter(keys).boxed();
    let deleted = repository.storage().delete_objects(&context, folder, keys).await;
    deleted
        .map(|deleted| deleted.deleted_objects)
        .map_err(|error| target_error(&format!("delete in {folder}"), &error.kind))
}
