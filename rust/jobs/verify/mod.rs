//! Compares a fresh listing of sources with the references of a repository, part by part, in
//! bounded memory. Nothing is ever written to the target.
//!
//! Parts are scheduled and listed as by an ingest. While the next ones are listed, the manifests
//! that share chunks with those that are complete pass by, one after the other. References where
//! nothing was listed are looked at afterwards.

mod compare;
mod differences;
mod found;
mod sample;

use std::sync::{Arc, PoisonError};

use arrow_array::RecordBatch;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use icechunk::Repository;
use icechunk::asset_manager::AssetManager;
use icechunk::format::manifest::{Manifest, ManifestRef};
use icechunk::format::snapshot::{NodeData, Snapshot};
use icechunk::format::{NodeId, SnapshotId};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};

use compare::{Compared, ListedPart, Owner, Place, unlisted};
use differences::Differences;
pub use differences::{Difference, Kind, Side, difference_schema};
use found::Found;
use sample::{Kept, Reservoir, Sampler, choose, room_of_each};

use super::ingest::schedule::{Schedule, Workload};
use super::ingest::tally::Tally;
use super::ingest::worker::{Event, Gatherer, Listed, Work};
use super::ingest::{IngestJob, layouts, prepare};
use crate::error::{TargetContext as _, target_error};
use crate::format::files::without_cache;
use crate::format::node_path;
use crate::grid::chunk_box::ChunkBox;
use crate::list::limit::ConcurrencyLimit;
use crate::plan::PlanLimits;
use crate::progress::OnProgress;
use crate::target::container::SourceContainer;
use crate::target::{Target, effective_split, reference_form};
use crate::{Error, ErrorKind, Result};

/// What is to be compared.
#[derive(Debug)]
pub struct VerifyJob {
    /// What an ingest of the sources would list: its arrays are those that are compared, with
    /// room for what the target and the sources hold of them.
    pub listing: IngestJob,
    /// Of each array, the chunks whose references are looked at.
    pub compared: Vec<ChunkBox>,
    /// The snapshot to compare with.
    pub snapshot: SnapshotId,
    /// References to be read both ways.
    pub sample: u64,
}

/// What a comparison has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Chunks that were compared: with a reference, an object, or both.
    pub checked: u64,
    /// References read both ways.
    pub sampled: u64,
    /// LIST requests; on a local file system, folders read.
    pub list_requests: u64,
    /// Keys seen in listings.
    pub keys_listed: u64,
    /// The arrays, in the order of the job.
    pub arrays: Vec<ArrayComparison>,
    /// Some differences of each kind.
    pub examples: Vec<Difference>,
    /// What is odd.
    pub warnings: Vec<String>,
}

/// One array's part in a [`VerifyReport`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ArrayComparison {
    /// Path in the target.
    pub path: String,
    /// Chunks compared.
    pub checked: u64,
    /// References that lie outside what was listed and lead to none of the sources.
    pub elsewhere: u64,
    /// Differences by the name of their kind.
    pub kinds: std::collections::BTreeMap<&'static str, u64>,
}

/// Compares sources with a repository. Every difference goes to `batches`, in
/// [`difference_schema`]; the receiver must take them, or be dropped.
///
/// # Errors
///
/// [`ErrorKind::TargetNotFound`] when there is no repository, and as a listing has them.
pub async fn verify(
    mut job: VerifyJob,
    batches: mpsc::Sender<RecordBatch>,
    on_progress: OnProgress,
) -> Result<VerifyReport> {
    let (target, _) = Target::open_to_read(&job.listing.target).await?;
    let config = target.stored_config().await?;
    let containers = prepare::containers(config, &job.listing)?;
    let repository = target.repository();
    let paths = job.listing.arrays.iter().map(|array| array.spec.path.as_str());
    job.listing.checksum = reference_form(repository, &job.snapshot, paths).await?.checksum;
    job.listing.list_tags();
    let mut limits = PlanLimits::from(job.listing.limits);
    // What was listed waits while more is listed.
    limits.references_per_commit = (limits.references_per_commit / 2).max(1);
    let in_flight = ConcurrencyLimit::within(limits.in_flight, limits.apart);
    let survey = prepare::expectations(&job.listing, limits, &in_flight).await?;
    let arrays = &job.listing.arrays;
    let splits = arrays
        .iter()
        .map(|array| effective_split(repository, &array.spec))
        .collect::<Result<Vec<_>>>()?;
    let batches_planned = prepare::batches(arrays, &splits, &survey, limits.references_per_commit);
    let all_layouts = layouts(arrays);
    let pieces: Vec<_> = arrays.iter().map(|array| array.pieces.as_slice()).collect();
    let plan = Workload {
        batches: &batches_planned,
        layouts: &all_layouts,
        pieces: &pieces,
        splits: &splits,
    };
    let expectations = survey.expectations(arrays);
    let mut schedule = Schedule::new(plan, limits, expectations, 0, std::iter::empty());
    let work = Work {
        sources: &job.listing.sources,
        containers: &containers,
        arrays,
        splits: &splits,
        empty_chunks: job.listing.empty_chunks,
        checksum: job.listing.checksum,
        locations: job.listing.locations,
        listed_at: None,
        replaces: true,
        limits,
        in_flight,
    };
    let comparer =
        Comparer::new(repository, &job, &containers, limits, Differences::new(batches)).await?;
    let mut tally = Tally::new(arrays, Vec::new(), &on_progress);
    tally.requested(survey.list_requests);
    tally.begin("list");
    let mut gatherer = Gatherer::new(&work);
    let mut ready = Vec::new();
    loop {
        let mut tell = |event: Event<'_>| told(&mut tally, event);
        let listed = gatherer.gather(&mut schedule, &mut tell);
        let (next, checked) = tokio::join!(listed, comparer.compare_all(ready));
        comparer.add(checked?);
        ready = next?;
        if ready.is_empty() {
            break;
        }
        for one in &ready {
            tally.complete(one.part.array, one.batch.len(), &one.stats);
        }
    }
    tally.begin("check");
    comparer.look_elsewhere().await?;
    let sampled = comparer.sample().await?;
    for warning in gatherer.take_warnings() {
        tally.warn(warning);
    }
    let tally = tally.finish(arrays);
    let mut report = comparer.report().await?;
    report.sampled = sampled;
    report.list_requests = tally.list_requests;
    report.keys_listed = tally.keys_listed;
    report.warnings = tally.warnings;
    report.warnings.extend(comparer.native_warnings());
    Ok(report)
}

fn told(tally: &mut Tally<'_>, event: Event<'_>) {
    match event {
        Event::Found { array, chunks, stats } => tally.found(array, chunks, stats),
        Event::GivenUp { array, chunks } => tally.dropped(array, chunks),
        Event::Writing => {}
    }
}

/// Compares what is listed with the manifests of one snapshot.
struct Comparer<'a> {
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
    figures: std::sync::Mutex<Vec<(u64, u64)>>,
    /// Native chunks of each array, of which only lengths were compared.
    native: std::sync::Mutex<Vec<u64>>,
}

impl<'a> Comparer<'a> {
    async fn new(
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
            figures: std::sync::Mutex::new(vec![(0, 0); job.listing.arrays.len()]),
            native: std::sync::Mutex::new(vec![0; job.listing.arrays.len()]),
            job,
        })
    }

    /// Compares parts that were listed completely; gives back how many chunks of each array.
    async fn compare_all(&self, listed: Vec<Listed<'_>>) -> Result<Vec<(usize, u64)>> {
        let mut checked = Vec::with_capacity(listed.len());
        for part in listed {
            checked.push((part.part.array, self.compare(part).await?));
        }
        Ok(checked)
    }

    /// What was not compared of arrays that have native chunks beside references.
    fn native_warnings(&self) -> Vec<String> {
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
    fn add(&self, checked: Vec<(usize, u64)>) {
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
            if !box_of(manifest).intersects(&work.region) {
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
    async fn look_elsewhere(&self) -> Result<()> {
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
                let extents = box_of(manifest);
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
    async fn sample(&self) -> Result<u64> {
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

    async fn report(&self) -> Result<VerifyReport> {
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

/// A manifest's extents as a box.
fn box_of(manifest: &ManifestRef) -> ChunkBox {
    ChunkBox::from_ranges(manifest.extents.iter().cloned().collect())
}

/// Does work that computes, or waits for whoever reads differences.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Error::new(ErrorKind::Target, format!("the comparison was broken off: {error}"))
    })?
}
