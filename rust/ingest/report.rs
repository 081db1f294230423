//! What an ingest did, in figures.

use serde::Serialize;

use crate::metadata::ArrayNode;

/// The result of an ingest. Counts are of this run; sizes are in bytes.
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
    /// An earlier run had published the same; this one wrote nothing.
    pub already_published: bool,
    /// URL prefix of the virtual chunk container, which readers authorise.
    pub container: String,
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
    /// Virtual references written.
    pub references_written: u64,
    /// Bytes of the objects referenced.
    pub bytes_referenced: u64,
    /// The arrays, in the order of the source.
    pub arrays: Vec<ArrayReport>,
    /// What was odd but not fatal.
    pub warnings: Vec<String>,
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
    /// Chunks that the grid has room for.
    pub chunks_in_region: u64,
    /// Virtual references written; 0 when the chunks were copied.
    pub references: u64,
    /// Chunks that are not in the source; they read as the fill value.
    pub missing: u64,
    /// The chunks were copied as native chunks.
    pub loaded: bool,
}

impl ArrayReport {
    /// The report of an array of which nothing has been found yet.
    #[must_use]
    pub fn new(array: &ArrayNode) -> Self {
        let layout = &array.layout;
        Self {
            path: array.path.clone(),
            shape: layout.shape().to_vec(),
            chunk_shape: layout.chunk_shape().to_vec(),
            grid_shape: layout.grid_shape().to_vec(),
            chunks_in_region: layout.chunks(),
            references: 0,
            missing: layout.chunks(),
            loaded: array.loaded,
        }
    }

    /// The report of an array whose chunks were not looked at.
    pub(super) fn unread(array: &ArrayNode) -> Self {
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
