//! Counts what an ingest has found and written, and tells the caller as it goes.

use super::JobArray;
use super::report::ArrayReport;
use crate::commit::ArrayAddition;
use crate::grid::piece::chunks_of;
use crate::list::ListStats;
use crate::manifest::{Changes, KeptNative};
use crate::progress::{OnProgress, Progress};
use crate::zarr::metadata::ArraySpec;

/// Running figures; arrays are known by their position.
pub(in crate::jobs) struct Tally<'a> {
    pub(super) reports: Vec<ArrayReport>,
    pub(in crate::jobs) list_requests: u64,
    pub(in crate::jobs) keys_listed: u64,
    /// How references differ from those of before.
    pub(super) changes: Changes,
    pub(super) bytes_referenced: u64,
    pub(in crate::jobs) warnings: Vec<String>,
    /// Row-major index of one committed chunk of each array that has any.
    pub(super) samples: Vec<Option<u64>>,
    /// Coordinates of a missing chunk of each array that misses any.
    pub(super) missing: Vec<Option<Vec<u32>>>,
    /// Native chunks of each array that stayed.
    native: Vec<KeptNative>,
    /// Chunks found of each array, in listings that are not complete too.
    live: Vec<u64>,
    live_total: u64,
    /// Strangers and warnings of each array's listing.
    listings: Vec<ListStats>,
    progress: Progress,
    on_progress: &'a OnProgress,
}

impl<'a> Tally<'a> {
    pub(in crate::jobs) fn new(
        arrays: &[JobArray],
        warnings: Vec<String>,
        on_progress: &'a OnProgress,
    ) -> Self {
        let referenced = arrays.iter().filter(|array| !array.spec.copied);
        let chunks_possible =
            referenced.map(|array| chunks_of(&array.pieces)).fold(0, u64::saturating_add);
        let mut tally = Self {
            reports: arrays.iter().map(ArrayReport::new).collect(),
            list_requests: 0,
            keys_listed: 0,
            changes: Changes::default(),
            bytes_referenced: 0,
            warnings,
            samples: vec![None; arrays.len()],
            missing: vec![None; arrays.len()],
            native: vec![KeptNative::default(); arrays.len()],
            live: vec![0; arrays.len()],
            live_total: 0,
            listings: vec![ListStats::default(); arrays.len()],
            progress: Progress { chunks_possible, ..Progress::default() },
            on_progress,
        };
        tally.begin("metadata");
        tally
    }

    /// A new stage has begun.
    pub(in crate::jobs) fn begin(&mut self, stage: &'static str) {
        self.progress.stage = stage;
        (self.on_progress)(&self.progress);
    }

    pub(in crate::jobs) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Requests were made besides the listing proper.
    pub(in crate::jobs) fn requested(&mut self, list_requests: u64) {
        self.list_requests += list_requests;
        self.progress.list_requests = self.list_requests;
    }

    /// Chunks of an array were found, at the cost in `stats`.
    pub(in crate::jobs) fn found(&mut self, position: usize, chunks: u64, stats: &ListStats) {
        self.list_requests += stats.list_requests;
        self.keys_listed += stats.keys_listed;
        if let Some(report) = self.reports.get(position) {
            self.progress.array.clone_from(&report.path);
            self.progress.array_chunks_possible = report.chunks_in_region;
        }
        if let Some(live) = self.live.get_mut(position) {
            *live += chunks;
            self.progress.array_chunks_found = *live;
        }
        self.live_total += chunks;
        // A listing that is given up does not take back what was told.
        self.progress.chunks_found = self.progress.chunks_found.max(self.live_total);
        self.progress.list_requests = self.list_requests;
        self.progress.keys_listed = self.keys_listed;
        (self.on_progress)(&self.progress);
    }

    /// A listing of an array that had found `chunks` was given up.
    pub(in crate::jobs) fn dropped(&mut self, position: usize, chunks: u64) {
        if let Some(live) = self.live.get_mut(position) {
            *live = live.saturating_sub(chunks);
        }
        self.live_total = self.live_total.saturating_sub(chunks);
    }

    /// A part of an array has been listed completely.
    pub(in crate::jobs) fn complete(&mut self, position: usize, chunks: u64, stats: &ListStats) {
        if let Some(listing) = self.listings.get_mut(position) {
            listing.add(stats);
        }
        if let Some(report) = self.reports.get_mut(position) {
            report.found(chunks);
        }
    }

    /// A chunk of an array is missing.
    pub(super) fn misses(&mut self, position: usize, coords: Option<Vec<u32>>) {
        if let Some(missing) = self.missing.get_mut(position) {
            *missing = missing.take().or(coords);
        }
    }

    /// References of an array are committed, or were by an earlier attempt.
    pub(super) fn add(&mut self, addition: &ArrayAddition) {
        if let Some(sample) = self.samples.get_mut(addition.array) {
            *sample = sample.or(addition.sample);
        }
        self.misses(addition.array, addition.missing.clone());
        let ArrayAddition { references, changed, unchanged, removed, native, .. } = *addition;
        let added = references.saturating_sub(changed + unchanged + native.with_object());
        self.changes.add(Changes { added, changed, removed, unchanged, ..Changes::default() });
        if let Some(stayed) = self.native.get_mut(addition.array) {
            stayed.add(native);
        }
        self.bytes_referenced += addition.bytes;
        if let Some(report) = self.reports.get_mut(addition.array) {
            report.added += added;
            report.changed += changed;
            report.removed += removed;
            self.progress.array.clone_from(&report.path);
        }
    }

    /// What an earlier attempt has committed of an array.
    pub(super) fn resume(&mut self, addition: &ArrayAddition) {
        if let Some(report) = self.reports.get_mut(addition.array) {
            report.found(addition.references + addition.copied);
        }
        if let Some(live) = self.live.get_mut(addition.array) {
            *live += addition.references;
        }
        self.live_total += addition.references;
        self.progress.chunks_found = self.live_total;
        self.add(addition);
        self.progress.references_written = self.references_written();
    }

    /// What was added has been committed.
    pub(super) fn committed(&mut self, commits: u64) {
        self.progress.references_written = self.references_written();
        self.progress.commits = commits;
        self.begin("list");
    }

    /// References that are new or other than before.
    pub(super) fn references_written(&self) -> u64 {
        self.changes.added + self.changes.changed
    }

    /// The figures with all warnings.
    pub(in crate::jobs) fn finish(mut self, arrays: &[JobArray]) -> Self {
        for (array, stats) in arrays.iter().map(|array| &array.spec).zip(&self.listings) {
            self.warnings.extend(stats.foreign_note(&array.path));
            self.warnings.extend(dangling_warning(array, stats));
            let about = stats.warnings.iter();
            self.warnings.extend(about.map(|text| format!("array {}: {text}", array.path)));
        }
        let stayed = arrays.iter().map(|array| &array.spec).zip(&self.native);
        self.warnings.extend(stayed.filter_map(|(array, native)| native_warning(array, *native)));
        self
    }
}

/// What to tell a user about native chunks in the place of references.
fn native_warning(array: &ArraySpec, native: KeptNative) -> Option<String> {
    let stayed = native.with_object() + native.alone;
    if stayed == 0 {
        return None;
    }
    let differ = match native.unlike + native.alone {
        0 => "all are as long as the source's objects, their bytes were not compared".to_owned(),
        differ => {
            format!("{differ} of them have another length than the source's objects, or have none")
        }
    };
    let path = &array.path;
    Some(format!(
        "array {path}: native chunks of the repository stay as they are, {stayed} here; {differ} \
         (refreeze verify --sample tells; --mode overwrite refers to the source again)"
    ))
}

/// What to tell a user about links under keys of chunks that lead nowhere.
fn dangling_warning(array: &ArraySpec, stats: &ListStats) -> Option<String> {
    let example = stats.dangling_example.as_deref()?;
    let links = if stats.dangling_links == 1 { "chunk is" } else { "chunks are" };
    Some(format!(
        "array {}: {} {links} behind symbolic links that lead nowhere and taken as missing, for \
         example {example}",
        array.path, stats.dangling_links
    ))
}
