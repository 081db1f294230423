//! From compact references to manifests in the repository, without a session's change set.
//!
//! Each bucket of a batch is sorted and made into compressed bytes on a worker thread, and then
//! uploaded; what is being made or uploaded at a time is bounded by references, because that is
//! what takes memory.
//! Nothing refers to a manifest before a [commit](crate::commit) does: what is left behind by a
//! failure is garbage that Icechunk's garbage collection removes.

mod build;
mod chunks;
mod clusters;
mod copied;
mod native;
mod one_thread;
mod record;
mod rewrite;
mod unwritten;
mod written;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use icechunk::Repository;
use icechunk::asset_manager::AssetManager;
use icechunk::format::manifest::{Manifest, ManifestRef, VirtualChunkLocation};
use icechunk::format::snapshot::{ManifestFileInfo, NodeData, Snapshot};
use icechunk::format::{ManifestId, NodeId, Path, SnapshotId};
use icechunk::session::Session;
use tokio::sync::Semaphore;

use build::{Built, manifest, slices};
use chunks::ChunkRanges;
pub use chunks::CommittedChunks;
use clusters::clusters;
pub use copied::ManifestChunks;
pub use native::{NativeChunk, native_manifests};
pub use one_thread::OneThread;
pub use rewrite::{Changes, KeptNative};
use rewrite::{Rewritten, rewrite};
pub use unwritten::Unwritten;
pub use written::{NewManifests, WrittenManifest};

use crate::batch::{Bucket, ReferenceBatch, SplitGrid, Tags, sort};
use crate::error::{TargetContext as _, target_error};
use crate::format::extents::box_of;
use crate::format::files::{FileId, Files, without_cache};
use crate::format::node_path;
use crate::format::session::session_at;
use crate::grid::chunk_box::ChunkBox;
use crate::target::locations::ArrayLocations;
use crate::{Error, ErrorKind, Result};

/// Buckets being made or uploaded at a time, however small they are.
const BUCKETS_AT_ONCE: usize = 64;

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

/// Writes manifests into one repository.
pub struct ManifestWriter {
    files: Files,
    /// Reads manifests that are made anew; keeps none of them.
    assets: AssetManager,
    /// Knows the arrays and the configured containers.
    session: Session,
    /// References in manifests that are being made or uploaded.
    room: Arc<Semaphore>,
    references_at_once: u32,
    /// Threads that make manifests: a compressor takes some megabytes.
    threads: Arc<Semaphore>,
    /// When the listing was made, in seconds since 1970, unless the source was listed.
    listed_at: Option<i64>,
    unwritten: Unwritten,
}

impl ManifestWriter {
    /// A writer for the arrays in `snapshot`, with manifests of about `references_at_once`
    /// references being made or uploaded at a time.
    #[must_use]
    pub fn new(repository: &Repository, snapshot: &SnapshotId, references_at_once: u32) -> Self {
        let session = session_at(repository, snapshot);
        let references_at_once = references_at_once.max(1);
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            files: Files::of(repository),
            assets: without_cache(repository),
            session,
            room: Arc::new(Semaphore::new(references_at_once as usize)),
            references_at_once,
            threads: Arc::new(Semaphore::new(threads)),
            listed_at: None,
            unwritten: Unwritten::default(),
        }
    }

    /// What of [`write`](Self::write)'s references is still in memory, as long as it runs and until
    /// the caller says that they are committed.
    #[must_use]
    pub fn unwritten(&self) -> Unwritten {
        self.unwritten.clone()
    }

    /// Refuses to replace references that are younger than the listing that tells what is there.
    #[must_use]
    pub fn with_listing_of(mut self, listed_at: Option<i64>) -> Self {
        self.listed_at = listed_at;
        self
    }

    /// Writes the references of several parts of arrays, to be committed after `parent`; their
    /// memory is given back as they are written. What stands in a part of an array is replaced, but
    /// for native chunks: manifests are made anew where something has changed. Parts without a change are left out of
    /// the result, but for their [`Changes::unchanged`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedArray`] when no configured container takes an array's locations,
    /// [`ErrorKind::Listing`] for a chunk that was listed twice, or a reference that is younger than
    /// the listing that would replace it, [`ErrorKind::Mismatch`] for a
    /// reference to another source that would be replaced, [`ErrorKind::Target`] or
    /// [`ErrorKind::Access`] when an array is not there, or reading or writing fails.
    pub async fn write(
        &self,
        parent: &SnapshotId,
        arrays: Vec<ArrayReferences>,
    ) -> Result<Vec<NewManifests>> {
        let snapshot =
            self.assets.fetch_snapshot(parent).await.doing(|| format!("read snapshot {parent}"))?;
        self.unwritten.begin(arrays.iter().map(|array| array.batch.len()).sum());
        let mut new: Vec<NewManifests> = Vec::new();
        let (mut jobs, mut rewrites) = (Vec::new(), Vec::new());
        for ArrayReferences { path, locations, batch } in arrays {
            let path = node_path(&path)?;
            let (node_id, existing) = array_node(&snapshot, &path)?;
            let (first, part) = (batch.first(), batch.part().clone());
            let (grid, mut buckets, tags) = batch.into_buckets();
            if let Some(first) = first {
                self.validate(path.as_str(), &locations, &grid.grid_coords(first.index))?;
            }
            let position = new.len();
            let chunks = CommittedChunks::new(grid.grid_shape());
            let work = Arc::new(Work {
                place: Place { path, node_id, grid },
                locations,
                tags,
                listed_at: self.listed_at,
            });
            new.push(NewManifests {
                path: work.place.path.clone(),
                node_id: work.place.node_id.clone(),
                written: Vec::new(),
                replaced: Vec::new(),
                chunks,
                changes: Changes::default(),
            });
            if existing.iter().any(|manifest| box_of(&manifest.extents).intersects(&part)) {
                // One after the other: an earlier part may have changed what stands there.
                let buckets = std::mem::take(&mut buckets);
                rewrites.push((position, Arc::clone(&work), part, buckets));
            }
            jobs.extend(buckets.into_iter().map(|bucket| (position, Arc::clone(&work), bucket)));
        }
        self.make_all(jobs, &mut new).await?;
        for (position, work, part, buckets) in rewrites {
            let jobs = self.replace(&snapshot, position, &work, part, buckets, &mut new).await?;
            self.make_all(jobs, &mut new).await?;
        }
        Ok(new)
    }

    /// Makes manifests of buckets where nothing stands yet.
    async fn make_all(&self, jobs: Vec<Job>, new: &mut [NewManifests]) -> Result<()> {
        // In the order of the buckets, so that results fall into place.
        let mut made = futures::stream::iter(jobs)
            .map(|(position, work, bucket)| {
                self.make(work, bucket).map(move |made| made.map(|made| (position, made))).boxed()
            })
            .buffered(BUCKETS_AT_ONCE);
        while let Some((position, (written, runs))) = made.try_next().await? {
            if let Some(new) = new.get_mut(position) {
                new.written.extend(written);
                new.changes.added += runs.chunks();
                new.chunks.add(runs);
            }
        }
        Ok(())
    }

    /// Makes manifests anew where references of a part stand already; gives back the buckets of
    /// which nothing does.
    async fn replace(
        &self,
        snapshot: &Snapshot,
        position: usize,
        work: &Arc<Work>,
        part: ChunkBox,
        buckets: Vec<Bucket>,
        new: &mut [NewManifests],
    ) -> Result<Vec<Job>> {
        let existing = existing_now(snapshot, work, new)?;
        let boxes: Vec<_> = existing.iter().map(|manifest| box_of(&manifest.extents)).collect();
        let ranges = |bucket: &Bucket| ChunkBox::from_ranges(work.place.grid.ranges(bucket.number));
        let bucket_boxes: Vec<_> = buckets.iter().map(ranges).collect();
        let mut buckets: Vec<_> = buckets.into_iter().map(Some).collect();
        let mut untouched = Vec::new();
        for cluster in clusters(&part, &boxes, &bucket_boxes) {
            let take = |at: &usize| buckets.get_mut(*at).and_then(Option::take);
            let taken: Vec<_> = cluster.buckets.iter().filter_map(take).collect();
            if cluster.manifests.is_empty() {
                untouched
                    .extend(taken.into_iter().map(|bucket| (position, Arc::clone(work), bucket)));
                continue;
            }
            let ids = cluster.manifests.iter().filter_map(|at| existing.get(*at));
            let ids: Vec<_> = ids.map(|manifest| manifest.object_id.clone()).collect();
            let references: usize = taken.iter().map(|bucket| bucket.references.len()).sum();
            let rewritten = self.rewrite(work, &part, &ids, taken).await?;
            self.unwritten.made(references as u64);
            let Some(new) = new.get_mut(position) else { continue };
            new.changes.add(rewritten.changes);
            if rewritten.changes.count() > 0 {
                new.replaced.extend(ids);
                rewritten.runs.into_iter().for_each(|runs| new.chunks.add(runs));
                new.written.extend(store(&self.files, &work.place, rewritten.made).await?);
            }
        }
        Ok(untouched)
    }

    async fn rewrite(
        &self,
        work: &Arc<Work>,
        part: &ChunkBox,
        ids: &[ManifestId],
        buckets: Vec<Bucket>,
    ) -> Result<Rewritten> {
        let old = fetch(&self.assets, &work.place.path, ids).await?;
        let (files, work, part) = (self.files.clone(), Arc::clone(work), part.clone());
        tokio::task::spawn_blocking(move || rewrite(&work, &files, &part, &old, buckets))
            .await
            .map_err(|error| target_error("write manifests", &error))?
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

    /// Makes and stores the manifests of one bucket when there is room for them.
    async fn make(
        &self,
        work: Arc<Work>,
        bucket: Bucket,
    ) -> Result<(Vec<WrittenManifest>, ChunkRanges)> {
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
        self.unwritten.made(u64::from(references));
        Ok((store(&self.files, &work.place, made).await?, runs))
    }
}

/// Stores the manifests of an array, given with their number of references.
async fn store(
    files: &Files,
    place: &Place,
    made: Vec<(Built, u32)>,
) -> Result<Vec<WrittenManifest>> {
    let mut written = Vec::with_capacity(made.len());
    for (built, references) in made {
        let size_bytes = built.file.len() as u64;
        let id = FileId::Manifest(&built.id);
        files.store(id, Some(place.path.as_str()), built.file).await?;
        written.push(WrittenManifest {
            reference: ManifestRef { object_id: built.id.clone(), extents: built.extents },
            file: ManifestFileInfo { id: built.id, size_bytes, num_chunk_refs: references },
        });
    }
    Ok(written)
}

/// Reads manifests of an array.
async fn fetch(
    assets: &AssetManager,
    path: &Path,
    ids: &[ManifestId],
) -> Result<Vec<Arc<Manifest>>> {
    let mut fetched = Vec::with_capacity(ids.len());
    for id in ids {
        let manifest = assets.fetch_manifest_unknown_size(path.as_str(), id).await;
        fetched.push(manifest.doing(|| format!("read manifest {id} of array {path}"))?);
    }
    Ok(fetched)
}

/// A bucket whose manifest is to be made, for a position in the result.
type Job = (usize, Arc<Work>, Bucket);

/// An array's id and manifests in a snapshot.
fn array_node(snapshot: &Snapshot, path: &Path) -> Result<(NodeId, Vec<ManifestRef>)> {
    let node = snapshot
        .get_node(path)
        .map_err(|error| target_error(&format!("read node {path}"), &error.kind))?;
    match &node.node_data {
        NodeData::Array { manifests, .. } => Ok((node.id.clone(), manifests.clone())),
        NodeData::Group => {
            Err(Error::new(ErrorKind::Target, format!("{path} is a group, not an array")))
        }
    }
}

/// The manifests of an array with those that are written for it already.
fn existing_now(
    snapshot: &Snapshot,
    work: &Work,
    new: &[NewManifests],
) -> Result<Vec<ManifestRef>> {
    let (_, mut existing) = array_node(snapshot, &work.place.path)?;
    let own = || new.iter().filter(|new| new.node_id == work.place.node_id);
    let written = own().flat_map(|new| &new.written);
    existing.extend(written.map(|manifest| manifest.reference.clone()));
    let replaced: HashSet<_> = own().flat_map(|new| &new.replaced).collect();
    existing.retain(|manifest| !replaced.contains(&manifest.object_id));
    Ok(existing)
}

/// An array's manifests.
struct Place {
    path: Path,
    node_id: NodeId,
    grid: Arc<SplitGrid>,
}

/// What the buckets of one array have in common.
struct Work {
    place: Place,
    locations: ArrayLocations,
    tags: Option<Tags>,
    /// When the listing was made, in seconds since 1970, unless the source was listed.
    listed_at: Option<i64>,
}

impl Work {
    /// The manifests of a bucket with their number of references, and the chunks in them.
    fn make(&self, files: &Files, bucket: Bucket) -> Result<(Vec<(Built, u32)>, ChunkRanges)> {
        let Bucket { number, mut references } = bucket;
        sort(&mut references);
        let Place { path, node_id, grid } = &self.place;
        let origin = grid.ranges(number);
        let runs = ChunkRanges::new(grid, &origin, &references);
        let mut made = Vec::new();
        for slice in slices(grid, &origin, &references) {
            let tags = self.tags.as_ref();
            let built = manifest(files, node_id, grid, &origin, slice, &self.locations, tags)
                .map_err(|problem| problem.describe(path))?;
            made.push((built, u32::try_from(slice.len()).unwrap_or(u32::MAX)));
        }
        Ok((made, runs))
    }
}
