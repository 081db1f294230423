//! Turns virtual references into native chunks of the repository, so that it no longer needs its
//! sources: manifest by manifest, on the staging branch of a run.
//!
//! What is committed there is not copied again: the manifests tell. How one chunk gets into the
//! repository is [`transfer`]'s business.

mod transfer;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::format::manifest::{ChunkPayload, ManifestRef, VirtualChunkRef};
use icechunk::format::snapshot::{NodeData, NodeSnapshot};
use serde::Serialize;

pub use transfer::CopyPlace;
use transfer::{Moved, Transfer};

use super::ingest::unpublished_runs;
use crate::commit::{
    ArrayAddition, Completed, Draft, RecordedArray, RunIdentity, RunOptions, RunRecord, StagedRun,
    Staging, new_run_id,
};
use crate::error::TargetContext as _;
use crate::format::files::without_cache;
use crate::format::node::node_at;
use crate::grid::chunk_box::ChunkBox;
use crate::list::limit::{Concurrency, ConcurrencyLimit};
use crate::manifest::{ManifestChunks, OneThread};
use crate::progress::{OnProgress, Progress};
use crate::target::{Target, TargetLocation};
use crate::{Error, ErrorKind, Result};

/// Chunks copied before they are committed: what a kill may lose. With every commit a manifest of
/// up to 250,000 references is made anew.
const CHUNKS_PER_COMMIT: usize = 20_000;

/// Bytes copied before they are committed.
const BYTES_PER_COMMIT: u64 = 4 << 30;

/// Chunks that are named in a message.
const EXAMPLES: usize = 3;

/// The mode of such a run, in its plan.
const MODE: &str = "copy";

/// What is to be copied.
#[derive(Debug)]
pub struct CopyJob {
    /// Where the repository is.
    pub target: TargetLocation,
    /// The branch whose references are copied.
    pub branch: String,
    /// A staged run to resume, which is published with what is copied.
    pub run_id: Option<String>,
    /// Paths of arrays, and the chunks to copy of each.
    pub arrays: Vec<(String, ChunkBox)>,
    /// Where the containers' objects are.
    pub places: Vec<CopyPlace>,
    /// What else the run is known by.
    pub plan: String,
    /// Bytes of chunks in flight.
    pub memory: u64,
    /// Chunks in flight.
    pub concurrency: Concurrency,
    /// Chunks of a commit.
    pub chunks_per_commit: Option<u64>,
    /// The user's message for every commit.
    pub message: Option<String>,
    /// Publish; otherwise the run stays staged.
    pub publish: bool,
    /// Take a target that may not be safe for concurrent writers.
    pub unsafe_target: bool,
}

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// The target, free of credentials.
    pub target: String,
    /// The branch.
    pub branch: String,
    /// The run; empty when there was nothing to copy.
    pub run_id: String,
    /// What was published, or staged; `None` when there was nothing to copy.
    pub snapshot_id: Option<String>,
    /// What the branch showed before.
    pub previous_snapshot_id: Option<String>,
    /// Whether the branch shows it.
    pub published: bool,
    /// Chunks copied by this attempt.
    pub chunks_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
    /// Those that the service has copied itself.
    pub server_side: u64,
    /// Commits of this attempt.
    pub commits: u64,
    /// Whether an earlier attempt was resumed.
    pub resumed: bool,
    /// Of each array.
    pub arrays: Vec<CopiedArray>,
}

/// What was copied of one array.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CopiedArray {
    /// Its path.
    pub path: String,
    /// Chunks copied by this attempt.
    pub chunks_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
}

/// Copies chunks.
///
/// # Errors
///
/// [`ErrorKind::Mismatch`] for a chunk that is not what was referenced, or of no known container:
/// what was copied stays staged. [`ErrorKind::TargetNotFound`], [`ErrorKind::Target`],
/// [`ErrorKind::Conflict`] and [`ErrorKind::Access`] as for every target; [`ErrorKind::Listing`]
/// when a source fails; [`ErrorKind::Interrupted`] when `stop` completes.
pub async fn copy(
    job: CopyJob,
    on_progress: OnProgress,
    stop: impl Future<Output = ()>,
) -> Result<CopyReport> {
    tokio::select! {
        done = run(&job, &on_progress) => done,
        () = stop => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
    }
}

async fn run(job: &CopyJob, on_progress: &OnProgress) -> Result<CopyReport> {
    let target = Target::open(&job.target, job.unsafe_target).await?;
    let repository = target.repository();
    let mut report = CopyReport {
        target: target.url().to_owned(),
        branch: job.branch.clone(),
        arrays: job.arrays.iter().map(|(path, _)| of_array(path)).collect(),
        ..CopyReport::default()
    };
    let tip = repository
        .lookup_branch(&job.branch)
        .await
        .doing(|| format!("read the tip of branch {}", job.branch))?;
    report.previous_snapshot_id = Some(tip.to_string());
    let mut staging = begin(repository, job, &tip).await?;
    report.resumed = staging.is_resumed();
    let mut copier = Copier {
        job,
        repository,
        transfer: Transfer::new(repository, job),
        thread: OneThread::start()?,
        in_flight: ConcurrencyLimit::within(job.concurrency.in_flight(usize::MAX), None),
        report: &mut report,
        on_progress,
        progress: Progress { stage: MODE, ..Progress::default() },
    };
    for position in 0..job.arrays.len() {
        copier.array(&mut staging, position).await?;
    }
    if !staging.is_resumed() && staging.commits() == 0 {
        return Ok(report);
    }
    staging.mark_complete().await?;
    report.commits = staging.commits();
    report.run_id = staging.run_id().to_owned();
    report.snapshot_id = Some(staging.tip().to_string());
    if job.publish {
        staging.publish().await?;
        report.published = true;
        // What is left behind is removed by whoever comes next.
        let _ = staging.remove().await;
    }
    Ok(report)
}

fn of_array(path: &str) -> CopiedArray {
    CopiedArray { path: path.to_owned(), ..CopiedArray::default() }
}

/// Goes on with the same run, or begins it.
async fn begin<'a>(
    repository: &'a Repository,
    job: &CopyJob,
    tip: &SnapshotId,
) -> Result<Staging<'a>> {
    let is_same = |run: &StagedRun| match &job.run_id {
        Some(run_id) => run.identity.run_id == *run_id,
        None => {
            run.record.options.mode == MODE
                && run.record.options.plan == job.plan
                && run.record.branch == job.branch
        }
    };
    // One that is published is over, though a killed process has left its branch.
    let found = unpublished_runs(repository).await?.into_iter().find(is_same);
    if let Some(run) = found {
        return Staging::resume(repository, run, job.message.clone());
    }
    if let Some(run_id) = &job.run_id {
        let message = format!("there is no staged ingest {run_id}");
        return Err(Error::new(ErrorKind::TargetNotFound, message));
    }
    let prefixes: Vec<_> = job.places.iter().map(|place| place.prefix.as_str()).collect();
    let options = RunOptions {
        source: prefixes.join(", "),
        mode: MODE.to_owned(),
        empty_chunks: "error".to_owned(),
        locations: "relative".to_owned(),
        checksum: "last-modified".to_owned(),
        plan: job.plan.clone(),
    };
    let arrays = job.arrays.iter().map(|(path, _)| RecordedArray {
        path: path.clone(),
        source_path: String::new(),
        shape: Vec::new(),
        keys: String::new(),
        copied: true,
    });
    let base = Some(tip.to_string());
    let mut record =
        RunRecord::new(job.branch.clone(), base, options, arrays.collect(), Vec::new());
    record.batches_total = job.arrays.len() as u64;
    let identity = RunIdentity {
        run_id: new_run_id(),
        fingerprint: format!("copy {}", job.plan),
        source: prefixes.join(", "),
        listing: None,
    };
    let draft = Draft::of(repository, tip).await?;
    let message = job.message.clone();
    let nothing = Completed::default();
    Ok(Staging::draft(repository, draft, identity, record, message, nothing, false))
}

/// Copies one array after the other.
struct Copier<'a> {
    job: &'a CopyJob,
    repository: &'a Repository,
    transfer: Transfer,
    thread: OneThread,
    in_flight: Arc<ConcurrencyLimit>,
    report: &'a mut CopyReport,
    on_progress: &'a OnProgress,
    progress: Progress,
}

impl Copier<'_> {
    async fn array(&mut self, staging: &mut Staging<'_>, position: usize) -> Result<()> {
        let Some((path, region)) = self.job.arrays.get(position) else { return Ok(()) };
        let (_, manifests) = array_at(self.repository, staging.tip(), path).await?;
        path.clone_into(&mut self.progress.array);
        for manifest in manifests {
            // A manifest that is made anew keeps its place.
            let mut extents = Some(manifest.extents);
            while let Some(place) = extents.take() {
                let (node, now) = array_at(self.repository, staging.tip(), path).await?;
                let Some(manifest) = now.into_iter().find(|one| one.extents == place) else {
                    continue;
                };
                if self.batch(staging, position, &node, &manifest, region).await? {
                    extents = Some(place);
                }
            }
        }
        Ok(())
    }

    /// Copies and commits some chunks of a manifest; whether there may be more.
    async fn batch(
        &mut self,
        staging: &mut Staging<'_>,
        position: usize,
        node: &NodeSnapshot,
        manifest: &ManifestRef,
        region: &ChunkBox,
    ) -> Result<bool> {
        let chunks = ManifestChunks::read(self.repository, node, manifest, &self.thread).await?;
        let most = self.job.chunks_per_commit.and_then(|most| usize::try_from(most).ok());
        let most = most.unwrap_or(CHUNKS_PER_COMMIT).max(1);
        let mut wanted: Vec<(Vec<u32>, VirtualChunkRef)> = Vec::new();
        let mut bytes = 0;
        for (coords, reference) in chunks.virtual_in(region, most) {
            bytes += reference.length;
            wanted.push((coords.to_vec(), reference.clone()));
            if bytes >= BYTES_PER_COMMIT {
                break;
            }
        }
        if wanted.is_empty() {
            return Ok(false);
        }
        let mut copied = BTreeMap::new();
        let outcome = self.copy_all(node, wanted, &mut copied).await;
        // What is there is kept, whatever has become of the others.
        self.commit(staging, position, chunks, copied).await?;
        outcome.map(|()| true)
    }

    async fn copy_all(
        &mut self,
        node: &NodeSnapshot,
        wanted: Vec<(Vec<u32>, VirtualChunkRef)>,
        copied: &mut BTreeMap<Vec<u32>, (ChunkPayload, u64)>,
    ) -> Result<()> {
        let (transfer, limit) = (&self.transfer, &self.in_flight);
        let mut moves = futures::stream::iter(wanted)
            .map(|(coords, reference)| async move {
                let permit = limit.acquire().await;
                let moved = transfer.copy(&node.path, &coords, &reference).await;
                if moved.is_ok() {
                    permit.answered(0);
                }
                (coords, reference, moved)
            })
            .buffer_unordered(limit.most());
        let mut differing = Vec::new();
        let mut failure = None;
        while let Some((coords, reference, moved)) = moves.next().await {
            match moved {
                Ok(Moved::Copied { payload, server_side }) => {
                    self.progress.chunks_found += 1;
                    self.report.server_side += u64::from(server_side);
                    copied.insert(coords, (payload, reference.length));
                    (self.on_progress)(&self.progress);
                }
                Ok(Moved::Differs(what)) => differing.push((coords, what)),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        drop(moves);
        match failure {
            Some(error) => Err(error),
            None if differing.is_empty() => Ok(()),
            None => Err(changed(&node.path.to_string(), &mut differing)),
        }
    }

    async fn commit(
        &mut self,
        staging: &mut Staging<'_>,
        position: usize,
        chunks: ManifestChunks,
        copied: BTreeMap<Vec<u32>, (ChunkPayload, u64)>,
    ) -> Result<()> {
        if copied.is_empty() {
            return Ok(());
        }
        let (count, bytes) = (copied.len() as u64, copied.values().map(|(_, size)| size).sum());
        let payloads = copied.into_iter().map(|(coords, (payload, _))| (coords, payload));
        let new = chunks.write(self.repository, payloads.collect(), &self.thread).await?;
        let (manifests, manifest_bytes) = new.weight();
        let is_ingest = self.job.run_id.is_some();
        let arrays = if is_ingest {
            // Of that run's arrays there is nothing to add.
            Vec::new()
        } else {
            vec![ArrayAddition { copied: count, bytes, ..ArrayAddition::of(position) }]
        };
        let completed = Completed {
            next: if is_ingest { staging.last().next } else { position as u64 },
            all: is_ingest && staging.last().all,
            arrays,
            manifests,
            manifest_bytes,
            ..Completed::default()
        };
        staging.commit("copied chunks", vec![new], completed).await?;
        self.report.chunks_copied += count;
        self.report.bytes_copied += bytes;
        if let Some(array) = self.report.arrays.get_mut(position) {
            array.chunks_copied += count;
            array.bytes_copied += bytes;
        }
        self.progress.commits += 1;
        (self.on_progress)(&self.progress);
        Ok(())
    }
}

/// An array in a snapshot, and its manifests.
async fn array_at(
    repository: &Repository,
    snapshot: &SnapshotId,
    path: &str,
) -> Result<(NodeSnapshot, Vec<ManifestRef>)> {
    let assets = without_cache(repository);
    let node = node_at(&assets, snapshot, path, || format!("read array {path}")).await?;
    let NodeData::Array { manifests, .. } = &node.node_data else {
        return Err(Error::new(ErrorKind::TargetNotFound, format!("{path} is a group")));
    };
    let manifests = manifests.clone();
    Ok(((*node).clone(), manifests))
}

/// The error for chunks that are not what was referenced.
fn changed(path: &str, differing: &mut [(Vec<u32>, String)]) -> Error {
    differing.sort();
    let examples: Vec<_> = differing
        .iter()
        .take(EXAMPLES)
        .map(|(coords, what)| format!("chunk {coords:?} of array {path} ({what})"))
        .collect();
    let more = differing.len().saturating_sub(EXAMPLES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!("not copied, because it has changed: {}{more}", examples.join(", "));
    Error::new(ErrorKind::Mismatch, message).with_hint(
        "what was copied stays staged; bring the references up to date with refreeze sync, then run \
         the same command again",
    )
}
