//! Counts what an ingest has found and written, and tells the caller as it goes.

use super::report::ArrayReport;
use crate::batch::{ChunkReference, ReferenceBatch};
use crate::list::ListStats;
use crate::metadata::ArrayNode;
use crate::progress::{OnProgress, Progress};

/// Running figures; arrays are known by their position.
pub(super) struct Tally<'a> {
    pub(super) reports: Vec<ArrayReport>,
    pub(super) list_requests: u64,
    pub(super) keys_listed: u64,
    pub(super) references_written: u64,
    pub(super) bytes_referenced: u64,
    pub(super) warnings: Vec<String>,
    /// One committed chunk of each array that has any.
    pub(super) samples: Vec<Option<ChunkReference>>,
    /// Listing statistics of each array.
    listings: Vec<ListStats>,
    progress: Progress,
    on_progress: &'a OnProgress,
}

impl<'a> Tally<'a> {
    pub(super) fn new(
        arrays: &[ArrayNode],
        warnings: Vec<String>,
        on_progress: &'a OnProgress,
    ) -> Self {
        let referenced = arrays.iter().filter(|array| !array.loaded);
        let chunks_possible =
            referenced.map(|array| array.layout.chunks()).fold(0, u64::saturating_add);
        let mut tally = Self {
            reports: arrays.iter().map(ArrayReport::new).collect(),
            list_requests: 0,
            keys_listed: 0,
            references_written: 0,
            bytes_referenced: 0,
            warnings,
            samples: vec![None; arrays.len()],
            listings: vec![ListStats::default(); arrays.len()],
            progress: Progress { chunks_possible, ..Progress::default() },
            on_progress,
        };
        tally.begin("metadata");
        tally
    }

    /// A new stage has begun.
    pub(super) fn begin(&mut self, stage: &'static str) {
        self.progress.stage = stage;
        (self.on_progress)(&self.progress);
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Chunks of an array were found, at the cost in `stats`.
    pub(super) fn found(&mut self, position: usize, chunks: u64, stats: &ListStats) {
        self.list_requests += stats.list_requests;
        self.keys_listed += stats.keys_listed;
        if let Some(listing) = self.listings.get_mut(position) {
            listing.add(stats);
        }
        if let Some(report) = self.reports.get_mut(position) {
            report.found(chunks);
            self.progress.array.clone_from(&report.path);
        }
        self.progress.chunks_found += chunks;
        self.progress.list_requests = self.list_requests;
        self.progress.keys_listed = self.keys_listed;
        (self.on_progress)(&self.progress);
    }

    /// References of an array are about to be committed.
    pub(super) fn add(&mut self, position: usize, batch: &ReferenceBatch) {
        if let Some(sample) = self.samples.get_mut(position) {
            *sample = sample.or_else(|| batch.first());
        }
        self.references_written += batch.len() as u64;
        self.bytes_referenced += batch.bytes();
    }

    /// What was added has been committed.
    pub(super) fn committed(&mut self, commits: u64) {
        self.progress.references_written = self.references_written;
        self.progress.commits = commits;
        self.begin("list");
    }

    /// The figures with all warnings.
    pub(super) fn finish(mut self, arrays: &[ArrayNode]) -> Self {
        for (array, stats) in arrays.iter().zip(&self.listings) {
            self.warnings.extend(foreign_warning(array, stats));
            let about = stats.warnings.iter();
            self.warnings.extend(about.map(|text| format!("array {}: {text}", array.path)));
        }
        self
    }
}

/// What to tell a user about strangers among an array's chunks.
fn foreign_warning(array: &ArrayNode, stats: &ListStats) -> Option<String> {
    let example = stats.foreign_example.as_deref()?;
    let keys = if stats.foreign_keys == 1 { "key" } else { "keys" };
    Some(format!(
        "array {}: {} {keys} below it are not chunks and were ignored, for example {example}",
        array.path, stats.foreign_keys
    ))
}
