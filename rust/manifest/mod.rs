//! From compact references to manifests in the repository, without a session's change set.
//!
//! Each bucket of a batch is sorted and made into compressed bytes on a worker thread, and then
//! uploaded; what is being made or uploaded at a time is bounded by references, because that is
//! what takes memory.
//! Nothing refers to a manifest before a [commit](crate::commit) does: what is left behind by a
//! failure is garbage that Icechunk's garbage collection removes.

mod build;
mod chunks;

use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use icechunk::Repository;
use icechunk::format::manifest::{ManifestRef, VirtualChunkLocation};
use icechunk::format::snapshot::{ManifestFileInfo, NodeData};
use icechunk::format::{NodeId, Path, SnapshotId};
use icechunk::repository::VersionInfo;
use icechunk::session::Session;
use tokio::sync::Semaphore;

use build::{Built, manifest, pieces};
use chunks::ChunkRuns;
pub use chunks::CommittedChunks;

use crate::batch::{Bucket, ReferenceBatch, SplitGrid};
use crate::container::ArrayLocations;
use crate::error::{TargetContext as _, target_error};
use crate::files::{FileId, Files};
use crate::{Error, ErrorKind, Result};

/// Buckets being made or uploaded at a time, however small they are.
const BUCKETS_AT_ONCE: usize = 64;

/// The Icechunk path of a node.
///
/// # Errors
///
/// [`ErrorKind::UnsupportedArray`] when Icechunk cannot hold the path.
pub fn node_path(path: &str) -> Result<Path> {
    Path::try_from(path).map_err(|error| {
        Error::new(
            ErrorKind::UnsupportedArray,
            format!("Icechunk cannot hold a node at {path}: {error}"),
        )
    })
}

/// The references of one array that are to be written.
#[derive(Debug, Clone)]
pub struct ArrayReferences {
    /// Path of the array in the target.
    pub path: String,
    /// Where its chunks are.
    pub locations: ArrayLocations,
    /// Which chunks there are.
    pub batch: ReferenceBatch,
}

/// A manifest in the repository that no snapshot refers to yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenManifest {
    /// What the array's node will hold.
    pub reference: ManifestRef,
    /// What the snapshot's list of files will hold.
    pub file: ManifestFileInfo,
}

/// The manifests written for one array, to be committed.
#[derive(Debug)]
pub struct NewManifests {
    /// The array.
    pub path: Path,
    /// Its id, which chunks are filed under.
    pub node_id: NodeId,
    /// The manifests, by the place of their bucket in the grid.
    pub written: Vec<WrittenManifest>,
    /// The chunks in them.
    pub chunks: CommittedChunks,
}

/// Writes manifests into one repository.
pub struct ManifestWriter {
    files: Files,
    /// Knows the arrays and the configured containers.
    session: Session,
    /// References in manifests that are being made or uploaded.
    room: Arc<Semaphore>,
    references_at_once: u32,
    /// Threads that make manifests: a compressor takes some megabytes.
    threads: Arc<Semaphore>,
}

impl ManifestWriter {
    /// A writer for the arrays in `snapshot`, with manifests of about `references_at_once`
    /// references being made or uploaded at a time.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when the snapshot cannot be read.
    pub async fn new(
        repository: &Repository,
        snapshot: &SnapshotId,
        references_at_once: u32,
    ) -> Result<Self> {
        let session = repository
            .readonly_session(&VersionInfo::SnapshotId(snapshot.clone()))
            .await
            .doing(|| format!("read snapshot {snapshot}"))?;
        let references_at_once = references_at_once.max(1);
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self {
            files: Files::of(repository),
            session,
            room: Arc::new(Semaphore::new(references_at_once as usize)),
            references_at_once,
            threads: Arc::new(Semaphore::new(threads)),
        })
    }

    /// Writes the references of several arrays; their memory is given back as they are written.
    /// Arrays without references are left out of the result.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedArray`] when no configured container takes an array's locations,
    /// [`ErrorKind::Listing`] for a chunk that was listed twice, [`ErrorKind::Target`] or
    /// [`ErrorKind::Access`] when an array is not there or writing fails.
    pub async fn write(&self, arrays: Vec<ArrayReferences>) -> Result<Vec<NewManifests>> {
        let mut new = Vec::new();
        let mut jobs = Vec::new();
        for ArrayReferences { path, locations, batch } in arrays {
            let Some(first) = batch.first() else { continue };
            let (grid, buckets) = batch.into_buckets();
            let chunks = CommittedChunks::new(grid.grid_shape());
            self.validate(&path, &locations, &chunks.coords(first.index))?;
            let path = node_path(&path)?;
            let node_id = self.node_id(&path).await?;
            let work = Work { path, node_id, grid, locations };
            let position = new.len();
            new.push(NewManifests {
                path: work.path.clone(),
                node_id: work.node_id.clone(),
                written: Vec::new(),
                chunks,
            });
            let work = Arc::new(work);
            jobs.extend(buckets.into_iter().map(|bucket| (position, Arc::clone(&work), bucket)));
        }
        // In the order of the buckets, so that results fall into place.
        let mut made = futures::stream::iter(jobs)
            .map(|(position, work, bucket)| {
                self.make(work, bucket).map(move |made| made.map(|made| (position, made))).boxed()
            })
            .buffered(BUCKETS_AT_ONCE);
        while let Some((position, (written, runs))) = made.try_next().await? {
            if let Some(new) = new.get_mut(position) {
                new.written.extend(written);
                new.chunks.add(runs);
            }
        }
        Ok(new)
    }

    /// Every location of an array begins with the same prefix: one that no container takes is
    /// found by looking at one.
    fn validate(&self, path: &str, locations: &ArrayLocations, coords: &[u32]) -> Result<()> {
        let url = locations.url(coords);
        VirtualChunkLocation::from_url(&url)
            .and_then(|location| self.session.validate_virtual_chunk_location(&location))
            .map_err(|error| {
                Error::new(
                    ErrorKind::UnsupportedArray,
                    format!(
                        "array {path} has chunks that Icechunk cannot refer to: {}",
                        error.kind
                    ),
                )
            })
    }

    async fn node_id(&self, path: &Path) -> Result<NodeId> {
        let node = self.session.get_node(path).await.doing(|| format!("read node {path}"))?;
        match node.node_data {
            NodeData::Array { .. } => Ok(node.id),
            NodeData::Group => {
                Err(Error::new(ErrorKind::Target, format!("{path} is a group, not an array")))
            }
        }
    }

    /// Makes and stores the manifests of one bucket when there is room for them.
    async fn make(
        &self,
        work: Arc<Work>,
        bucket: Bucket,
    ) -> Result<(Vec<WrittenManifest>, ChunkRuns)> {
        let references = u32::try_from(bucket.references.len()).unwrap_or(u32::MAX);
        let _room = self
            .room
            .acquire_many(references.clamp(1, self.references_at_once))
            .await
            .map_err(|error| target_error("write manifests", &error))?;
        let thread = Arc::clone(&self.threads)
            .acquire_owned()
            .await
            .map_err(|error| target_error("write manifests", &error))?;
        let (files, maker) = (self.files.clone(), Arc::clone(&work));
        let (made, runs) = tokio::task::spawn_blocking(move || {
            let made = maker.make(&files, bucket);
            drop(thread);
            made
        })
        .await
        .map_err(|error| target_error("write manifests", &error))??;
        let mut written = Vec::with_capacity(made.len());
        for (built, references) in made {
            let size_bytes = built.file.len() as u64;
            let id = FileId::Manifest(&built.id);
            self.files.store(id, Some(work.path.as_str()), built.file).await?;
            written.push(WrittenManifest {
                reference: ManifestRef { object_id: built.id.clone(), extents: built.extents },
                file: ManifestFileInfo { id: built.id, size_bytes, num_chunk_refs: references },
            });
        }
        Ok((written, runs))
    }
}

/// What the buckets of one array have in common.
struct Work {
    path: Path,
    node_id: NodeId,
    grid: Arc<SplitGrid>,
    locations: ArrayLocations,
}

impl Work {
    /// The manifests of a bucket with their number of references, and the chunks in them.
    fn make(&self, files: &Files, bucket: Bucket) -> Result<(Vec<(Built, u32)>, ChunkRuns)> {
        let Bucket { number, mut references } = bucket;
        references.sort_unstable();
        let (grid, origin) = (&self.grid, self.grid.ranges(number));
        let runs = ChunkRuns::new(grid, &origin, &references);
        let mut made = Vec::new();
        for piece in pieces(grid, &origin, &references) {
            let built = manifest(files, &self.node_id, grid, &origin, piece, &self.locations)
                .map_err(|problem| problem.describe(&self.path))?;
            made.push((built, u32::try_from(piece.len()).unwrap_or(u32::MAX)));
        }
        Ok((made, runs))
    }
}
