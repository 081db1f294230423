//! Reads one reference per array through Icechunk, as a reader would, before publishing.
//!
//! Icechunk takes a manifest into memory whole, uncompressed: how many are held at a time is
//! bounded by their references, and each is dropped when its reference is found.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use icechunk::Repository;
use icechunk::format::manifest::ManifestRef;
use icechunk::format::snapshot::{NodeData, Snapshot};
use icechunk::format::{ByteRange, ChunkIndices, ManifestId, Path, SnapshotId};
use icechunk::session::{Session, get_chunk};
use tokio::sync::Semaphore;

use super::tally::Tally;
use super::work::Work;
use super::{JobArray, JobSource};
use crate::error::{TargetContext as _, chain, target_error};
use crate::format::node_path;
use crate::format::session::authorised_session_at;
use crate::{Error, ErrorKind, Result};

/// Only the first byte is fetched: the object, its time and the container are what is checked.
const CHECKED_BYTES: u64 = 1;

/// Arrays of a source of which a chunk is asked for by our own client first, which follows nobody to
/// another host. What holds of so many holds of thousands, which would cost a request more each.
const TOUCHED: usize = 16;

/// Arrays read at a time, however small their manifests are.
const CONCURRENT_READS: usize = 256;

/// Reads the first bytes of the tally's samples from a snapshot that is not published yet.
pub(super) async fn read_back(
    repository: &Repository,
    snapshot: &SnapshotId,
    work: &Work<'_>,
    tally: &Tally<'_>,
) -> Result<()> {
    let mut credentials = HashMap::new();
    for (source, container) in work.sources.iter().zip(work.containers) {
        let prefix = container.container().url_prefix().to_owned();
        credentials.insert(prefix, source.source.container_credentials().await?);
    }
    let reading = || format!("read snapshot {snapshot}");
    let reader = Reader {
        session: authorised_session_at(repository, snapshot, credentials),
        snapshot: repository.asset_manager().fetch_snapshot(snapshot).await.doing(reading)?,
        repository,
        sources: work.sources,
        room: Semaphore::new(work.limits.references_read_at_once() as usize),
        references_at_once: work.limits.references_read_at_once(),
        touched: work.sources.iter().map(|_| AtomicUsize::new(0)).collect(),
    };
    let mut reads = Vec::new();
    for (array, sample) in work.arrays.iter().zip(&tally.samples) {
        if let Some(index) = sample {
            reads.push(reader.read_one(array, *index).boxed());
        }
    }
    futures::stream::iter(reads)
        .buffer_unordered(CONCURRENT_READS)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await
}

/// Reads through Icechunk, a few manifests at a time.
struct Reader<'a> {
    repository: &'a Repository,
    sources: &'a [JobSource],
    session: Session,
    snapshot: Arc<Snapshot>,
    /// References in manifests that are in memory.
    room: Semaphore,
    references_at_once: u32,
    /// Arrays of each source that were asked for by our own client.
    touched: Vec<AtomicUsize>,
}

impl Reader<'_> {
    async fn read_one(&self, array: &JobArray, index: u64) -> Result<()> {
        let coords = array.spec.layout.coords(index);
        let unreadable = |why: String| {
            Error::new(
                ErrorKind::Target,
                format!(
                    "chunk {} of array {} cannot be read back through Icechunk: {why}",
                    array.source_key(&coords),
                    array.spec.path
                ),
            )
            .with_hint(
                "nothing was published; if the source is being written to, wait until that has \
                 ended and ingest again with --restart",
            )
        };
        let range = ByteRange::Bounded(0..CHECKED_BYTES);
        let path = node_path(&array.spec.path)?;
        let manifest = self.manifest_of(&path, &coords);
        let references = manifest.as_ref().map_or(1, |(_, references)| *references);
        let room = self
            .room
            .acquire_many(references.clamp(1, self.references_at_once))
            .await
            .map_err(|error| target_error("read manifests", &error))?;
        let reader =
            self.session.get_chunk_reader(&path, &ChunkIndices(coords.clone()), &range).await;
        if let Some((manifest, _)) = manifest {
            // Icechunk would keep it for the next reader; there is none.
            self.repository.asset_manager().remove_cached_manifest(&manifest);
        }
        drop(room);
        let reader = reader.map_err(|error| unreadable(chain(&error.kind)))?;
        let piece = array.piece_at(&coords);
        let place = piece.map_or(usize::MAX, |piece| piece.source);
        if let (Some(JobSource { source, .. }), Some(touched)) =
            (self.sources.get(place), self.touched.get(place))
            && (!source.is_read_by_icechunk() || touched.fetch_add(1, Ordering::Relaxed) < TOUCHED)
        {
            // Icechunk's client follows a server to other hosts, credentials and all.
            match source.touch(&array.source_key(&coords)).await {
                Ok(()) if !source.is_read_by_icechunk() && reader.is_some() => return Ok(()),
                Err(error) if error.is_redirection() || !source.is_read_by_icechunk() => {
                    return Err(error);
                }
                _ => {}
            }
        }
        match get_chunk(reader).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(unreadable("the reference is not there".to_owned())),
            Err(error) => Err(unreadable(chain(&error.kind))),
        }
    }

    /// The manifest that a chunk's reference is in, and how many there are in it. None where there
    /// is none, which reading the chunk will tell better.
    fn manifest_of(&self, path: &Path, coords: &[u32]) -> Option<(ManifestId, u32)> {
        let node = self.snapshot.get_node(path).ok()?;
        let NodeData::Array { manifests, .. } = &node.node_data else { return None };
        let holds = |manifest: &&ManifestRef| manifest.extents.contains(coords);
        let id = manifests.iter().find(holds)?.object_id.clone();
        let file = self.snapshot.manifest_info(&id).ok().flatten()?;
        Some((id, file.num_chunk_refs))
    }
}
