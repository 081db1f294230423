//! The bytes of a native chunk, as long as its reference says and with the digest of its `ETag`.
//!
//! Icechunk's own readers take what comes. Which chunks are wanted is decided elsewhere.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icechunk::Repository;
use icechunk::format::manifest::{ChunkPayload, ChunkRef};
use icechunk::format::{CHUNKS_FILE_PATH, SNAPSHOTS_FILE_PATH, SnapshotId};
use icechunk::storage::{AttributionLabels, RequestAttribution, Settings, Storage, StorageContext};
use tokio::io::{AsyncBufRead, AsyncReadExt as _};

use crate::error::{chain, refused, target_error};
use crate::source::{digest_of_tag, md5};
use crate::{Error, ErrorKind, Result};

/// Reads of one chunk before it is an error.
const ATTEMPTS: u32 = 4;

/// The wait after the first failure; it doubles with every further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Reads native chunks of one snapshot.
pub(super) struct Payloads {
    storage: Arc<dyn Storage + Send + Sync>,
    settings: Settings,
    labels: AttributionLabels,
    snapshot: SnapshotId,
}

/// Bytes that came, and their `ETag`.
type Read = (Bytes, Option<String>);

impl Payloads {
    pub(super) fn of(repository: &Repository, snapshot: &SnapshotId) -> Self {
        Self {
            storage: Arc::clone(repository.storage()),
            settings: repository.storage_settings().clone(),
            labels: AttributionLabels::from(repository.attribution()),
            snapshot: snapshot.clone(),
        }
    }

    /// The bytes of the chunk of array `path` at `coords`; `None` of a virtual one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Access`] when it is refused, [`ErrorKind::Target`] when it cannot be got as it
    /// was written; both name the chunk.
    pub(super) async fn read(
        &self,
        path: &str,
        coords: &[u32],
        payload: ChunkPayload,
    ) -> Result<Option<Bytes>> {
        let chunk = match payload {
            ChunkPayload::Inline(bytes) => return Ok(Some(bytes)),
            ChunkPayload::Ref(chunk) => chunk,
            _ => return Ok(None),
        };
        let shown = || format!("read chunk {coords:?} of array {path} ({})", file(&chunk));
        let about = RequestAttribution {
            labels: &self.labels,
            array: Some(path.trim_start_matches('/')),
            chunk: Some(coords),
        };
        let context = StorageContext::new(&self.settings, about);
        let mut wait = FIRST_WAIT;
        let mut before: Option<Bytes> = None;
        let mut attempt = 1;
        loop {
            let what = match self.once(&context, &file(&chunk), &chunk).await {
                Ok((bytes, tag)) => {
                    let whole = chunk.offset == 0 && bytes.len() as u64 == chunk.length;
                    let digest = tag.as_deref().filter(|_| whole).and_then(digest_of_tag);
                    match digest {
                        _ if bytes.len() as u64 != chunk.length => {
                            format!(
                                "{} bytes arrived, its reference says {}",
                                bytes.len(),
                                chunk.length
                            )
                        }
                        Some(digest) if digest != md5(&bytes) => {
                            let same = before.replace(bytes.clone()).is_some_and(|b| b == bytes);
                            if same && attempt >= ATTEMPTS && !self.tags_are_digests().await {
                                return Ok(Some(bytes));
                            }
                            "the MD5 of its bytes is not its ETag".to_owned()
                        }
                        _ => return Ok(Some(bytes)),
                    }
                }
                Err(error) if attempt >= ATTEMPTS || error.kind() == ErrorKind::Access => {
                    let text = format!("cannot {}: {}", shown(), error.message());
                    let error_of = Error::new(error.kind(), text);
                    return Err(match error.hint() {
                        Some(hint) => error_of.with_hint(hint),
                        None => error_of,
                    });
                }
                Err(error) => error.message().to_owned(),
            };
            if attempt >= ATTEMPTS {
                let text = format!("cannot {} as it was written: {what}", shown());
                return Err(Error::new(ErrorKind::Target, text)
                    .with_hint("if this comes again, the repository's file is damaged"));
            }
            attempt += 1;
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    /// One read: the whole file, or the chunk's part of one that holds several.
    async fn once(
        &self,
        context: &StorageContext<'_>,
        file: &str,
        chunk: &ChunkRef,
    ) -> Result<Read> {
        let range = chunk.offset..chunk.offset.saturating_add(chunk.length);
        let range = (chunk.offset > 0).then_some(&range);
        self.get(context, file, range, chunk.length).await
    }

    /// At most `most` bytes and one.
    async fn get(
        &self,
        context: &StorageContext<'_>,
        file: &str,
        range: Option<&std::ops::Range<u64>>,
        most: u64,
    ) -> Result<Read> {
        let (reader, version) = self
            .storage
            .get_object(context, file, range)
            .await
            .map_err(|error| target_error("read it", &error.kind))?;
        let mut reader: Pin<Box<dyn AsyncBufRead + Send>> = reader;
        let mut bytes = Vec::new();
        let mut limited = (&mut reader).take(most.saturating_add(1));
        limited.read_to_end(&mut bytes).await.map_err(|error| {
            if refused(&error) {
                target_error("read it", &error)
            } else {
                Error::new(ErrorKind::Target, chain(&error))
            }
        })?;
        Ok((bytes.into(), version.etag().cloned()))
    }

    /// Whether the `ETag`s of this store are digests, as one of its files tells: not where a key
    /// service encrypts them.
    async fn tags_are_digests(&self) -> bool {
        let context = StorageContext::without_node(&self.settings, &self.labels);
        let file = format!("{SNAPSHOTS_FILE_PATH}/{}", self.snapshot);
        let Ok((bytes, Some(tag))) = self.get(&context, &file, None, 1 << 28).await else {
            return true;
        };
        digest_of_tag(&tag).is_some_and(|digest| digest == md5(&bytes))
    }
}

fn file(chunk: &ChunkRef) -> String {
    format!("{CHUNKS_FILE_PATH}/{}", chunk.id)
}
