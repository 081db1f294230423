//! Compares what is listed with the manifests of one snapshot, each read when there is room for it.
//!
//! What is listed, and when, is not decided here.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use icechunk::Repository;
use icechunk::asset_manager::AssetManager;
use icechunk::format::NodeId;
use icechunk::format::manifest::{Manifest, ManifestRef};
use icechunk::format::snapshot::{NodeData, Snapshot};
use tokio::sync::Semaphore;

use super::compare::{Compared, ListedPart, Owner, Place, unlisted};
use super::differences::Differences;
use super::found::Found;
use super::sample::{Kept, Reservoir, Sampler, choose, room_of_each};
use super::{ArrayComparison, VerifyJob, VerifyReport};
use crate::error::{TargetContext as _, target_error};
use crate::format::extents::box_of;
use crate::format::files::without_cache;
use crate::format::node_path;
use crate::jobs::ingest::gatherer::Listed;
use crate::plan::PlanLimits;
use crate::target::container::SourceContainer;
use crate::{Error, ErrorKind, Result};

/// Compares what is listed with the manifests of one snapshot.
pub(super) struct Comparer<'a> {
    repository: &'a Repository,
    job: &'a VerifyJob,
    containers: &'a [SourceContainer],
    snapshot: Arc<Snapshot>,
    /// Keeps no manifest.
    assets: AssetManager,
    /// Of each array; none where the target does not have it.
    places: Vec<Option<(Arc<Place>, Vec<ManifestRef>)>>,
    differences: Arc<Differences>,
    /// References in manifests that are in memory.
    room: Semaphore,
    references_at_once: u32,
    threads: usize,
    kept: Kept,
    /// References of each manifest that are kept for the sample.
    keep: usize,
    /// Chunks compared, and references elsewhere, of each array.
    figures: Mutex<Vec<(u64, u64)>>,
    /// Native chunks of each array, of which only lengths were compared.
    native: Mutex<Vec<u64>>,
}

impl<'a> Comparer<'a> {
    pub(super) async fn new(
        repository: &'a Repository,
        job: &'a VerifyJob,
        containers: &'a [SourceContainer],
        limits: PlanLimits,
        differences: Differences,
    ) -> Result<Self> {
        let assets = without_cache(repository);
        let id = &job.snapshot;
        let snapshot = assets.fetch_snapshot(id).await.doing(|| format!("read snapshot {id}"))?;
        let differences = Arc::new(differences);
        let mut places = Vec::new();
        let mut manifests = 0;
        for (position, array) in job.listing.arrays.iter().enumerate() {
            let node = snapshot.get_node(&node_path(&array.spec.path)?).ok();
            places.push(node.and_then(|node| {
                let NodeData::Array { manifests: found, .. } = &node.node_data else { return None };
                manifests += found.len();
                let place = Place {
                    array: position,
                    path: array.spec.path.clone(),
                    node: node.id.clone(),
                    config: repository.config().clone(),
                    differences: Arc::clone(&differences),
                };
                Some((Arc::new(place), found.clone()))
            }));
        }
        // A part of memory as large as that of what waits.
        let references_at_once = limits.references_read_at_once();
        Ok(Self {
            repository,
            containers,
            snapshot,
            assets,
            places,
            differences,
            room: Semaphore::new(references_at_once as usize),
            references_at_once,
            threads: limits.builders.max(1),
            kept: Kept::default(),
            keep: room_of_each(job.sample, manifests),
            figures: Mutex::new(vec![(0, 0); job.listing.arrays.len()]),
            native: Mutex::new(vec![0; job.listing.arrays.len()]),
            job,
        })
    }

    /// Compares parts that were listed completely; gives back how many chunks of each array.
    pub(super) async fn compare_all(&self, listed: Vec<Listed<'_>>) -> Result<Vec<(usize, u64)>> {
        let mut checked = Vec::with_capacity(listed.len());
        for part in listed {
            checked.push((part.part.array, self.compare(part).await?));
        }
        Ok(checked)
    }

    /// What was not compared of arrays that have native chunks beside references.
    pub(super) fn native_warnings(&self) -> Vec<String> {
        let counts = self.native.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.job.listing.arrays.iter().zip(counts.iter().copied());
        known
            .filter(|(_, native)| *native > 0)
            .map(|(array, native)| {
                format!(
                    "array {}: {native} chunks are native ones of the repository: their lengths \
                     were compared with the source's, their bytes only where --sample reads them",
                    array.spec.path
                )
            })
            .collect()
    }

    /// Takes note of chunks that were compared.
    pub(super) fn add(&self, checked: Vec<(usize, u64)>) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        for (array, chunks) in checked {
            if let Some((count, _)) = figures.get_mut(array) {
                *count += chunks;
            }
        }
    }

    async fn compare(&self, listed: Listed<'_>) -> Result<u64> {
        let Listed { part, piece, batch, .. } = listed;
        let (Some(container), Some(source)) =
            (self.containers.get(piece.source), self.job.listing.sources.get(piece.source))
        else {
            return Ok(0);
        };
        let (path, part_path) = (piece.array.path.clone(), piece.array.path.clone());
        let (place, manifests) = match self.places.get(part.array) {
            Some(Some((place, manifests))) => (Arc::clone(place), manifests.as_slice()),
            _ => (self.nowhere(part.array, &path), &[][..]),
        };
        let work = Arc::new(ListedPart {
            place,
            piece: piece.clone(),
            source: source.source.clone(),
            locations: container.piece_locations(piece, self.job.listing.locations)?,
            found: on_a_thread(move || Found::new(&path, batch)).await?,
            region: part.region,
        });
        let mut comparisons = Vec::new();
        for manifest in manifests {
            if !box_of(&manifest.extents).intersects(&work.region) {
                continue;
            }
            let (work, kept, keep) = (Arc::clone(&work), Arc::clone(&self.kept), self.keep);
            let compare = move |manifest| {
                let mut reservoir = Reservoir::new(keep);
                let compared = work.compare(&manifest, &mut reservoir)?;
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(reservoir);
                Ok(compared)
            };
            comparisons.push(self.with_manifest(part_path.clone(), manifest, compare).boxed());
        }
        let compared = futures::stream::iter(comparisons)
            .buffer_unordered(self.threads)
            .try_fold(Compared::default(), async |sum, one| Ok(sum.and(one)))
            .await?;
        let left = on_a_thread(move || work.left()).await?;
        if let Some(native) =
            self.native.lock().unwrap_or_else(PoisonError::into_inner).get_mut(part.array)
        {
            *native += compared.native;
        }
        Ok(compared.both + compared.only_in_target + left)
    }

    /// The place of an array that the target does not have.
    fn nowhere(&self, array: usize, path: &str) -> Arc<Place> {
        Arc::new(Place {
            array,
            path: path.to_owned(),
            node: NodeId::random(),
            config: self.repository.config().clone(),
            differences: Arc::clone(&self.differences),
        })
    }

    /// Looks at references where nothing was listed.
    pub(super) async fn look_elsewhere(&self) -> Result<()> {
        let known = self.job.listing.arrays.iter().zip(&self.job.compared).zip(&self.places);
        for (position, ((array, compared), place)) in known.enumerate() {
            let Some((place, manifests)) = place else { continue };
            let listed: Arc<Vec<_>> =
                Arc::new(array.pieces.iter().map(|piece| piece.target.clone()).collect());
            let sources = &self.job.listing.sources;
            let mut owners: Vec<_> = sources
                .iter()
                .map(|one| Owner { source: one.source.clone(), array: array.spec.clone() })
                .collect();
            owners.extend(array.pieces.iter().filter_map(|piece| {
                let source = sources.get(piece.source)?.source.clone();
                Some(Owner { source, array: piece.array.clone() })
            }));
            let owners = Arc::new(owners);
            for manifest in manifests {
                let extents = box_of(&manifest.extents);
                if !extents.intersects(compared) || listed.iter().any(|one| one.covers(&extents)) {
                    continue;
                }
                let (listed, owners) = (Arc::clone(&listed), Arc::clone(&owners));
                let (place, compared) = (Arc::clone(place), compared.clone());
                let (missing, elsewhere) = self
                    .with_manifest(array.spec.path.clone(), manifest, move |manifest| {
                        unlisted(&place, &manifest, &compared, &listed, &owners)
                    })
                    .await?;
                self.add(vec![(position, missing)]);
                let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((_, others)) = figures.get_mut(position) {
                    *others += elsewhere;
                }
            }
        }
        Ok(())
    }

    /// Reads a manifest when there is room for it, and does `work` on another thread.
    async fn with_manifest<T: Send + 'static>(
        &self,
        path: String,
        manifest: &ManifestRef,
        work: impl FnOnce(Arc<Manifest>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let id = &manifest.object_id;
        let file = self.snapshot.manifest_info(id).ok().flatten();
        let references = file.map_or(1, |file| file.num_chunk_refs);
        let _room = self
            .room
            .acquire_many(references.clamp(1, self.references_at_once))
            .await
            .map_err(|error| target_error("read manifests", &error))?;
        let manifest = self.assets.fetch_manifest_unknown_size(&path, id).await;
        let manifest = manifest.doing(|| format!("read manifest {id} of array {path}"))?;
        on_a_thread(move || work(manifest)).await
    }

    /// Reads references both ways; gives back how many.
    pub(super) async fn sample(&self) -> Result<u64> {
        if self.job.sample == 0 {
            return Ok(0);
        }
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        let chosen = choose(kept, usize::try_from(self.job.sample).unwrap_or(usize::MAX));
        let sampled = chosen.len() as u64;
        let listing = &self.job.listing;
        let reader = Sampler::new(
            self.repository,
            &self.job.snapshot,
            &listing.arrays,
            &listing.sources,
            self.containers,
        )
        .await?;
        let unequal = reader.read(chosen).await?;
        let differences = Arc::clone(&self.differences);
        on_a_thread(move || {
            unequal.into_iter().try_for_each(|(array, one)| differences.push(array, one))
        })
        .await?;
        Ok(sampled)
    }

    pub(super) async fn report(&self) -> Result<VerifyReport> {
        let (counts, examples) = self.differences.finish().await?;
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = self.job.listing.arrays.iter().zip(figures).enumerate();
        let arrays: Vec<_> = known
            .map(|(position, (array, (checked, elsewhere)))| ArrayComparison {
                path: array.spec.path.clone(),
                checked,
                elsewhere,
                kinds: counts
                    .iter()
                    .filter(|((of, _), _)| *of == position)
                    .map(|((_, kind), count)| (kind.name(), *count))
                    .collect(),
            })
            .collect();
        let checked = arrays.iter().map(|array| array.checked).sum();
        Ok(VerifyReport { checked, arrays, examples, ..VerifyReport::default() })
    }
}

/// Does work that computes, or waits for whoever reads differences.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Error::new(ErrorKind::Target, format!("the comparison was broken off: {error}"))
    })?
}
