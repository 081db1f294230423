//! How one chunk gets from its source into the repository: the service copies it where source and
//! target are one bucket, else its bytes come through here; either way it must be what was
//! referenced.

use std::sync::Arc;

use icechunk::Repository;
use icechunk::format::manifest::{Checksum, ChunkPayload, ChunkRef, VirtualChunkRef};
use icechunk::format::{CHUNKS_FILE_PATH, ChunkId, ChunkIndices, Path};
use icechunk::session::Session;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};
use percent_encoding::percent_decode_str;
use tokio::sync::Semaphore;

use super::CopyJob;
use crate::error::{TargetContext as _, chain};
use crate::format::session::session_at;
use crate::source::{Referenced, Source};
use crate::target::TargetLocation;
use crate::{Error, ErrorKind, Result};

/// Memory is given out in pieces of so many bytes.
const PIECE: u64 = 1 << 10;

/// What a chunk in flight takes besides its bytes: two connections, a thread that writes a file.
const OF_EACH: u64 = 512 << 10;

/// The pieces that a chunk of so many bytes takes of all there are; one that is larger goes alone.
fn pieces_of(length: u64, all: u32) -> u32 {
    let pieces = length.saturating_add(OF_EACH).div_ceil(PIECE);
    u32::try_from(pieces).unwrap_or(u32::MAX).clamp(1, all)
}

/// The pieces of a job's memory; the other half is for the manifest that is made anew.
fn pieces_in(memory: u64) -> u32 {
    u32::try_from(memory / 2 / PIECE).unwrap_or(u32::MAX).max(1)
}

/// What a container's references lead to.
#[derive(Debug, Clone)]
pub struct CopyPlace {
    /// The container's name, if it has one.
    pub name: Option<String>,
    /// Its URL prefix, as it is stored.
    pub prefix: String,
    /// The store there.
    pub source: Source,
}

/// What has become of a chunk.
pub(super) enum Moved {
    /// It is in the repository.
    Copied {
        /// What the manifest says of it from now on.
        payload: ChunkPayload,
        /// Whether the service has copied it.
        server_side: bool,
    },
    /// It is not what was referenced; why.
    Differs(String),
}

/// Copies chunks.
pub(super) struct Transfer {
    session: Session,
    places: Vec<CopyPlace>,
    /// The bucket of the target, and what keys of its chunks begin with.
    bucket: Option<(Arc<dyn ObjectStore>, String)>,
    /// Positions of the places in that bucket.
    within: Vec<bool>,
    room: Semaphore,
    pieces: u32,
    /// Chunks that are no longer than this lie in manifests.
    inline: u64,
}

impl Transfer {
    pub(super) fn new(repository: &Repository, job: &CopyJob) -> Self {
        let pieces = pieces_in(job.memory);
        let bucket = match &job.target {
            TargetLocation::Bucket { builder, transport, prefix, .. } => {
                let store = builder.clone().for_writing(transport.clone()).build();
                store.ok().map(|store| (store, prefix.clone()))
            }
            TargetLocation::Local(_) | TargetLocation::Storage { .. } => None,
        };
        let within = job
            .places
            .iter()
            .map(|place| match (&place.source, &job.target) {
                (Source::Bucket(source), TargetLocation::Bucket { builder, .. }) => {
                    source.is_in(builder)
                }
                _ => false,
            })
            .collect();
        Self {
            // Chunk writers do not look at the snapshot.
            session: session_at(
                repository,
                &icechunk::format::snapshot::Snapshot::INITIAL_SNAPSHOT_ID,
            ),
            places: job.places.clone(),
            bucket,
            within,
            room: Semaphore::new(pieces as usize),
            pieces,
            inline: u64::from(repository.config().inline_chunk_threshold_bytes()),
        }
    }

    /// Copies a chunk; the inner value tells when it is not what was referenced.
    pub(super) async fn copy(
        &self,
        path: &Path,
        coords: &[u32],
        reference: &VirtualChunkRef,
    ) -> Result<Moved> {
        let location = reference.location.url();
        let (at, key) = self.place(location).ok_or_else(|| unknown(location))?;
        let Some(place) = self.places.get(at) else { return Err(unknown(location)) };
        let (last_modified, e_tag) = match &reference.checksum {
            Some(Checksum::LastModified(time)) => (Some(time.0), None),
            Some(Checksum::ETag(tag)) => (None, Some(tag.0.clone())),
            None => (None, None),
        };
        let wanted = Referenced {
            key,
            offset: reference.offset,
            length: reference.length,
            last_modified,
            e_tag,
        };
        if self.within.get(at) == Some(&true)
            && wanted.offset == 0
            && wanted.length > self.inline
            && let Some(moved) = self.within_bucket(&place.source, &wanted).await?
        {
            return Ok(moved);
        }
        let room = self.room.acquire_many(pieces_of(wanted.length, self.pieces)).await;
        let _room = room.map_err(|_| Error::new(ErrorKind::Interrupted, "interrupted"))?;
        let bytes = match place.source.read_unchanged(&wanted).await? {
            Ok(bytes) => bytes,
            Err(what) => return Ok(Moved::Differs(what)),
        };
        let writing = || format!("write chunk {coords:?} of array {path}");
        let write =
            self.session.get_chunk_writer(path, &ChunkIndices(coords.to_vec())).doing(writing)?;
        let payload = write(bytes).await.doing(writing)?;
        Ok(Moved::Copied { payload, server_side: false })
    }

    /// Lets the service copy an object; `None` where it does not.
    async fn within_bucket(&self, source: &Source, wanted: &Referenced) -> Result<Option<Moved>> {
        let (Some((store, prefix)), Source::Bucket(bucket)) = (&self.bucket, source) else {
            return Ok(None);
        };
        let id = ChunkId::random();
        let to = match prefix.as_str() {
            "" => format!("{CHUNKS_FILE_PATH}/{id}"),
            prefix => format!("{prefix}/{CHUNKS_FILE_PATH}/{id}"),
        };
        let from = bucket.key(&wanted.key);
        let paths = ObjectPath::parse(&from).and_then(|from| Ok((from, ObjectPath::parse(&to)?)));
        let Ok((from, to)) = paths else { return Ok(None) };
        match store.copy(&from, &to).await {
            Ok(()) => {}
            Err(object_store::Error::NotFound { .. }) => {
                return Ok(Some(Moved::Differs("is gone".to_owned())));
            }
            // A server that does not copy, or an object that is too large for one request.
            Err(error) => {
                tracing::debug!("{to} is copied through this process: {}", chain(&error));
                return Ok(None);
            }
        }
        // Looked at afterwards: what is unchanged now was so when it was copied. And the copy must
        // be all of it.
        let now = source.head(&wanted.key).await?;
        let different = wanted.difference(now.as_ref()).or_else(|| {
            let size = now.map_or(0, |now| now.size);
            (size != wanted.length)
                .then(|| format!("has {size} bytes now, {} were referenced", wanted.length))
        });
        if let Some(what) = different {
            // Nothing refers to it.
            let _ = store.delete(&to).await;
            return Ok(Some(Moved::Differs(what)));
        }
        let payload = ChunkPayload::Ref(ChunkRef { id, offset: 0, length: wanted.length });
        Ok(Some(Moved::Copied { payload, server_side: true }))
    }

    /// Position of the place that a location leads to, and the key there.
    fn place(&self, location: &str) -> Option<(usize, String)> {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        if let Some(rest) = location.strip_prefix("vcc://") {
            let (name, key) = rest.split_once('/')?;
            let at = self.places.iter().position(|place| place.name.as_deref() == Some(name))?;
            return Some((at, decoded(key)));
        }
        let whole = decoded(location);
        let below = |place: &CopyPlace| -> Option<String> {
            let prefix = format!("{}/", place.prefix.trim_end_matches('/'));
            whole.strip_prefix(&prefix).map(str::to_owned)
        };
        let candidates = self.places.iter().enumerate();
        candidates
            .filter_map(|(at, place)| Some((place.prefix.len(), at, below(place)?)))
            .max_by_key(|(length, ..)| *length)
            .map(|(_, at, key)| (at, key))
    }
}

fn unknown(location: &str) -> Error {
    let message = format!("no virtual chunk container of the repository covers {location}");
    Error::new(ErrorKind::Mismatch, message)
        .with_hint("add its container to the repository's configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_chunks_as_there_is_memory_for() {
        let all = pieces_in(192 << 20);
        let at_a_time = |length| all / pieces_of(length, all);
        assert_eq!(at_a_time(2_000), 191);
        assert_eq!(at_a_time(16 << 20), 5);
        assert_eq!(at_a_time(1 << 40), 1);
        assert_eq!(pieces_of(u64::MAX, pieces_in(0)), 1);
    }
}
