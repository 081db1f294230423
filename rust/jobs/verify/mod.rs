//! Compares a fresh listing of sources with the references of a repository, part by part, in
//! bounded memory. Nothing is ever written to the target.
//!
//! Parts are scheduled and listed as by an ingest. While the next ones are listed, the manifests
//! that share chunks with those that are complete pass by, one after the other. References where
//! nothing was listed are looked at afterwards.

mod compare;
mod comparer;
mod differences;
mod found;
mod sample;

use arrow_array::RecordBatch;
use icechunk::format::SnapshotId;
use serde::Serialize;
use tokio::sync::mpsc;

use comparer::Comparer;
use differences::Differences;
pub use differences::{Difference, Kind, Side, difference_schema};

use super::ingest::gatherer::{Event, Gatherer};
use super::ingest::schedule::{Schedule, Workload};
use super::ingest::tally::Tally;
use super::ingest::work::Work;
use super::ingest::{IngestJob, layouts, prepare};
use crate::Result;
use crate::grid::chunk_box::ChunkBox;
use crate::list::limit::ConcurrencyLimit;
use crate::manifest::Unwritten;
use crate::plan::PlanLimits;
use crate::progress::OnProgress;
use crate::target::{Target, effective_split, reference_form};

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
/// [`ErrorKind::TargetNotFound`](crate::ErrorKind::TargetNotFound) when there is no repository, and
/// as a listing has them.
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
    limits.references_at_once = limits.references_at_once.min(limits.references_per_commit);
    let in_flight = ConcurrencyLimit::within(limits.in_flight, limits.apart);
    let survey = prepare::expectations(&job.listing, limits, &in_flight).await?;
    let arrays = &job.listing.arrays;
    let splits = arrays
        .iter()
        .map(|array| effective_split(repository, &array.spec))
        .collect::<Result<Vec<_>>>()?;
    let (most, at_once) = (limits.references_per_commit, limits.references_at_once);
    let batches_planned = prepare::batches(arrays, &splits, &survey, most, at_once);
    let all_layouts = layouts(arrays);
    let pieces: Vec<_> = arrays.iter().map(|array| array.pieces.as_slice()).collect();
    let plan = Workload {
        batches: &batches_planned,
        layouts: &all_layouts,
        pieces: &pieces,
        splits: &splits,
    };
    let expectations = survey.expectations(arrays);
    let mut schedule = Schedule::new(plan, limits, expectations, 0, std::iter::empty()).in_steps();
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
    let mut gatherer = Gatherer::new(&work, Unwritten::default());
    let mut ready = Vec::new();
    loop {
        let mut tell = |event: Event<'_>| told(&mut tally, event);
        let listed = gatherer.gather(&mut schedule, 0, true, &mut tell);
        let (next, checked) = tokio::join!(listed, comparer.compare_all(ready));
        comparer.add(checked?);
        ready = next?.parts;
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
