//! What a run's commits say of it, in their properties: the repository is the record of progress.
//!
//! The first commit of several carries the resolved plan, so that a stopped run resumes with the
//! shapes and batches that it began with, whatever the source, the memory or the version are by
//! then. Every commit carries what it completes. Snapshots' properties are repeated in the
//! repository's info file, which every commit rewrites: they are kept short.

use std::ops::Range;

use icechunk::format::SnapshotId;
use icechunk::format::snapshot::{SnapshotInfo, SnapshotProperties};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::grid::chunk_box::ChunkBox;
use crate::manifest::KeptNative;
use crate::plan::{Batches, Part};

/// Property: identifier of the run.
const RUN: &str = "refreeze.run";
/// Property: fingerprint of the plan.
const FINGERPRINT: &str = "refreeze.plan";
/// Property: when the listing was made that stood for the source's own, as ISO 8601.
const LISTING: &str = "refreeze.listing";
/// Property: URL of the source, free of credentials.
const SOURCE: &str = "refreeze.source";
/// Property of an only commit, which has none of the others.
const WHOLE: &str = "refreeze.whole";
/// Property: what the commit completes.
const BATCHES: &str = "refreeze.batches";
/// Property of the first commit of several: the resolved plan.
const RECORD: &str = "refreeze.resolved";

/// Layout of [`RunRecord`]; a run of another layout cannot be resumed.
const FORMAT: u32 = 1;

/// An array of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedArray {
    /// Path in the target.
    pub path: String,
    /// Path in the source, relative to its root.
    pub source_path: String,
    /// Elements along each dimension when the run began.
    pub shape: Vec<u64>,
    /// How chunk coordinates become keys in the source.
    pub keys: String,
    /// Whether its chunks were copied.
    #[serde(rename = "loaded")]
    pub copied: bool,
}

/// The options that determine a run's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOptions {
    /// What every object of the source begins with, as a URL.
    pub source: String,
    /// `create`, `append`, `overwrite` or `update`.
    pub mode: String,
    /// `error` or `skip`.
    pub empty_chunks: String,
    /// `relative` or `absolute`.
    pub locations: String,
    /// `last-modified`, `etag` or `none`.
    #[serde(skip_serializing_if = "is_usual", default = "usual_checksum")]
    pub checksum: String,
    /// Others, as text.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub plan: String,
}

/// What references of earlier versions carry.
fn usual_checksum() -> String {
    "last-modified".to_owned()
}

fn is_usual(checksum: &str) -> bool {
    checksum == usual_checksum()
}

/// The resolved plan of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    format: u32,
    /// The branch to publish on.
    pub branch: String,
    /// Its tip when the run began; `None` when publishing creates the branch.
    pub base: Option<String>,
    /// Options that determine the result.
    pub options: RunOptions,
    /// All arrays, copied ones included; batches know them by position.
    pub arrays: Vec<RecordedArray>,
    /// Paths of the groups that the run created.
    pub groups: Vec<String>,
    /// Paths of the nodes that it removed first, with all that was in them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub replaced: Vec<String>,
    /// What is committed together.
    pub batches: Batches,
    /// How many batches that makes.
    pub batches_total: u64,
}

impl RunRecord {
    /// A record in the present layout.
    #[must_use]
    pub fn new(
        branch: String,
        base: Option<String>,
        options: RunOptions,
        arrays: Vec<RecordedArray>,
        groups: Vec<String>,
    ) -> Self {
        let (batches, batches_total) = (Batches::default(), 0);
        Self {
            format: FORMAT,
            branch,
            base,
            options,
            arrays,
            groups,
            replaced: Vec::new(),
            batches,
            batches_total,
        }
    }
}

/// What a commit adds to one array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayAddition {
    /// Position of the array.
    pub array: usize,
    /// Chunks found, each of which has a reference now.
    pub references: u64,
    /// Those of them that had another reference before.
    #[serde(skip_serializing_if = "none", default)]
    pub changed: u64,
    /// Those of them whose reference was there already.
    #[serde(skip_serializing_if = "none", default)]
    pub unchanged: u64,
    /// References removed.
    #[serde(skip_serializing_if = "none", default)]
    pub removed: u64,
    /// Native chunks that stayed as they were.
    #[serde(skip_serializing_if = "KeptNative::is_none", default)]
    pub native: KeptNative,
    /// Chunks copied.
    #[serde(skip_serializing_if = "none", default)]
    pub copied: u64,
    /// Bytes of the objects referenced.
    pub bytes: u64,
    /// Row-major index of one of them.
    pub sample: Option<u64>,
    /// Coordinates of a chunk that is missing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub missing: Option<Vec<u32>>,
}

impl ArrayAddition {
    /// Nothing yet, of the array at a position.
    #[must_use]
    pub fn of(array: usize) -> Self {
        Self {
            array,
            references: 0,
            changed: 0,
            unchanged: 0,
            removed: 0,
            native: KeptNative::default(),
            copied: 0,
            bytes: 0,
            sample: None,
            missing: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
fn none(number: &u64) -> bool {
    *number == 0
}

/// A part that is still to be done, in the form it is stored in.
pub(crate) type StoredPart = (usize, Vec<(u32, u32)>);

/// What a commit completes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// Batches before this one are complete, but for `rest`.
    pub next: u64,
    /// Parts of earlier batches that are not.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) rest: Vec<StoredPart>,
    /// Nothing is left to be done but publishing.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub all: bool,
    /// What was added, by array.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub arrays: Vec<ArrayAddition>,
    /// Manifests written.
    pub manifests: u64,
    /// Their bytes.
    pub manifest_bytes: u64,
}

impl Completed {
    /// Leaves parts of earlier batches for later.
    #[must_use]
    pub fn with_rest<'a>(mut self, rest: impl IntoIterator<Item = &'a Part>) -> Self {
        self.rest = rest.into_iter().map(stored).collect();
        self
    }

    /// Batches that are committed, of `total`.
    #[must_use]
    pub fn batches_done(&self, total: u64) -> u64 {
        if self.all { total } else { self.next.saturating_sub(u64::from(!self.rest.is_empty())) }
    }

    /// Parts of earlier batches that are still to be done.
    pub fn rest(&self) -> impl Iterator<Item = Part> {
        self.rest.iter().map(restored)
    }
}

/// A part in the form it is stored in.
pub(crate) fn stored(part: &Part) -> StoredPart {
    let ends = |range: &Range<u32>| (range.start, range.end);
    (part.array, part.region.ranges().iter().map(ends).collect())
}

/// A part from the form it is stored in.
pub(crate) fn restored((array, ranges): &StoredPart) -> Part {
    let ranges = ranges.iter().map(|(start, end)| *start..*end).collect();
    Part { array: *array, region: ChunkBox::from_ranges(ranges) }
}

/// An identifier for a new run: the text of an id that its snapshot may have.
#[must_use]
pub fn new_run_id() -> String {
    run_id_of(&SnapshotId::random())
}

fn run_id_of(snapshot: &SnapshotId) -> String {
    snapshot.to_string().to_lowercase()
}

/// What identifies a run on each of its commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunIdentity {
    /// The run's identifier.
    pub run_id: String,
    /// Fingerprint of its plan.
    pub fingerprint: String,
    /// URL of its source as the user named it, free of credentials.
    pub source: String,
    /// When the listing was made, as ISO 8601, if the source was not listed.
    pub listing: Option<String>,
}

impl RunIdentity {
    /// The id of the snapshot of a run that has one only.
    pub(super) fn snapshot_id(&self) -> Option<SnapshotId> {
        SnapshotId::try_from(self.run_id.to_uppercase().as_str()).ok()
    }

    /// Whether a commit is one of the run with an id.
    pub(super) fn is_on(snapshot: &SnapshotInfo, run_id: &str) -> bool {
        Self::of(snapshot).is_some_and(|identity| identity.run_id == run_id)
    }

    /// The identity on a commit, if it is one of refreeze's.
    #[must_use]
    pub fn of(snapshot: &SnapshotInfo) -> Option<Self> {
        if let Some(whole) = property::<WholeRun>(snapshot, WHOLE) {
            let (run_id, fingerprint) = (run_id_of(&snapshot.id), String::new());
            let listing = snapshot.metadata.get(LISTING).and_then(Value::as_str).map(str::to_owned);
            return Some(Self { run_id, fingerprint, source: whole.source, listing });
        }
        let text = |name| snapshot.metadata.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            run_id: text(RUN)?,
            fingerprint: text(FINGERPRINT).unwrap_or_default(),
            source: text(SOURCE).unwrap_or_default(),
            listing: text(LISTING),
        })
    }

    /// The properties of a commit; `record` is given to the first.
    #[must_use]
    pub fn properties(
        &self,
        completed: &Completed,
        record: Option<&RunRecord>,
    ) -> SnapshotProperties {
        let mut properties = SnapshotProperties::from([
            (RUN.to_owned(), json!(self.run_id)),
            (FINGERPRINT.to_owned(), json!(self.fingerprint)),
            (SOURCE.to_owned(), json!(self.source)),
            (BATCHES.to_owned(), json!(completed)),
        ]);
        if let Some(record) = record {
            properties.insert(RECORD.to_owned(), json!(record));
        }
        self.tell_of_listing(&mut properties);
        properties
    }

    /// The properties of the only commit of a run, which publishes it: nobody will have to resume
    /// it. Repositories that grow every day carry these forever, so they are few, and the run has
    /// its snapshot's id.
    #[must_use]
    pub fn properties_of_all(&self, record: &RunRecord) -> SnapshotProperties {
        let whole = WholeRun {
            source: self.source.clone(),
            mode: record.options.mode.clone(),
            batches: record.batches_total,
        };
        let mut properties = SnapshotProperties::from([(WHOLE.to_owned(), json!(whole))]);
        self.tell_of_listing(&mut properties);
        properties
    }

    fn tell_of_listing(&self, properties: &mut SnapshotProperties) {
        if let Some(date) = &self.listing {
            properties.insert(LISTING.to_owned(), json!(date));
        }
    }
}

/// What the only commit of a run says.
#[derive(Serialize, Deserialize)]
struct WholeRun {
    source: String,
    mode: String,
    batches: u64,
}

/// The mode of a run of which a snapshot is the only one.
#[must_use]
pub fn mode(snapshot: &SnapshotInfo) -> Option<String> {
    property(snapshot, WHOLE).map(|whole: WholeRun| whole.mode)
}

/// Takes from a copy of a run's only commit what ties the run to the id of the original; a commit
/// that follows says all of it.
pub(super) fn no_longer_whole(properties: &mut SnapshotProperties) {
    properties.remove(WHOLE);
}

/// What a commit completes, as its properties say; none when they are not what this version writes.
#[must_use]
pub fn completed(snapshot: &SnapshotInfo) -> Option<Completed> {
    let whole = property(snapshot, WHOLE).map(|whole: WholeRun| Completed {
        next: whole.batches,
        all: true,
        ..Completed::default()
    });
    whole.or_else(|| property(snapshot, BATCHES))
}

/// The resolved plan, if `snapshot` carries one that this version can resume.
#[must_use]
pub fn record(snapshot: &SnapshotInfo) -> Option<RunRecord> {
    property(snapshot, RECORD).filter(|record: &RunRecord| record.format == FORMAT)
}

/// Whether `snapshot` carries a plan, of this version or another.
pub(super) fn has_record(snapshot: &SnapshotInfo) -> bool {
    snapshot.metadata.contains_key(RECORD)
}

fn property<T: DeserializeOwned>(snapshot: &SnapshotInfo, name: &str) -> Option<T> {
    snapshot.metadata.get(name).and_then(|value| T::deserialize(value).ok())
}

#[cfg(test)]
mod golden;
