//! The figures of an ingest, as they are reported; what makes them is not here.

use serde::Serialize;

use super::JobArray;
use crate::grid::piece::chunks_of;

/// The result of an ingest; sizes are in bytes.
///
/// References and bytes are those of the whole run; requests, keys, commits and manifests those of
/// this attempt, where an earlier one was stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IngestReport {
    /// The source, free of credentials.
    pub source: String,
    /// The target, free of credentials.
    pub target: String,
    /// The branch that was published on.
    pub branch: String,
    /// Identifier of the run, also in every commit's properties.
    pub run_id: String,
    /// The snapshot that was published.
    pub snapshot_id: String,
    /// Whether it is on the branch: not, when it was to stay staged.
    pub published: bool,
    /// Batches that earlier attempts had committed.
    pub resumed_batches: u64,
    /// An earlier run had published the same; this one wrote nothing.
    pub already_published: bool,
    /// URL prefix of the virtual chunk container of the first source, which readers authorise.
    pub container: String,
    /// Those of all sources.
    pub containers: Vec<String>,
    /// The tip of the branch before.
    pub previous_snapshot_id: Option<String>,
    /// Commits.
    pub commits: u64,
    /// Manifest files written.
    pub manifests_written: u64,
    /// Their bytes.
    pub manifest_bytes: u64,
    /// LIST requests; on a local file system, directories read.
    pub list_requests: u64,
    /// Keys seen in listings.
    pub keys_listed: u64,
    /// Virtual references written: those that are new or other than before.
    pub references_written: u64,
    /// References where there was none before.
    pub added: u64,
    /// References where there was another before.
    pub changed: u64,
    /// References that are no longer there.
    pub removed: u64,
    /// Bytes of the objects referenced.
    pub bytes_referenced: u64,
    /// The arrays, in the order of the source.
    pub arrays: Vec<ArrayReport>,
    /// What was odd but not fatal.
    pub warnings: Vec<String>,
    /// What workers are to do, where the run was only begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work_plan: Option<serde_json::Value>,
}

/// One array's part in an [`IngestReport`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ArrayReport {
    /// Path in the target.
    pub path: String,
    /// Elements along each dimension.
    pub shape: Vec<u64>,
    /// Elements of a chunk (of a shard, for sharded arrays) along each dimension.
    pub chunk_shape: Vec<u64>,
    /// Chunks along each dimension.
    pub grid_shape: Vec<u64>,
    /// Chunks that there is room for where the array was listed or copied.
    pub chunks_in_region: u64,
    /// Chunks found, each of which is referenced now; 0 when the chunks were copied.
    pub references: u64,
    /// Chunks that are not in the source; they read as the fill value.
    pub missing: u64,
    /// The chunks were copied as native chunks.
    pub loaded: bool,
    /// References where there was none before.
    pub added: u64,
    /// References where there was another before.
    pub changed: u64,
    /// References that are no longer there.
    pub removed: u64,
}

impl ArrayReport {
    /// The report of an array of which nothing has been found yet.
    #[must_use]
    pub fn new(array: &JobArray) -> Self {
        let (spec, layout) = (&array.spec, &array.spec.layout);
        let chunks = match &array.chunks {
            Some(chunks) => chunks.len() as u64,
            None => chunks_of(&array.pieces),
        };
        Self {
            path: spec.path.clone(),
            shape: layout.shape().to_vec(),
            chunk_shape: layout.chunk_shape().to_vec(),
            grid_shape: layout.grid_shape().to_vec(),
            chunks_in_region: chunks,
            references: 0,
            missing: chunks,
            loaded: spec.copied,
            ..Self::default()
        }
    }

    /// The report of an array whose chunks were not looked at.
    pub(super) fn unread(array: &JobArray) -> Self {
        Self { missing: 0, ..Self::new(array) }
    }

    /// Counts `chunks` as found.
    pub(super) fn found(&mut self, chunks: u64) {
        self.missing = self.missing.saturating_sub(chunks);
        if !self.loaded {
            self.references += chunks;
        }
    }
}
