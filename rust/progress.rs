//! What a running ingest tells of itself.

use serde::Serialize;

/// How far an ingest is; every figure is a total since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// What is being done: `metadata`, `list`, `commit`, `check`, `publish` or `done`.
    pub stage: &'static str,
    /// Path of the array that was listed or committed last.
    pub array: String,
    /// Chunks found of this array, committed or not.
    pub array_chunks_found: u64,
    /// Chunks that this array's grid has room for.
    pub array_chunks_possible: u64,
    /// Chunks that the grids of all referenced arrays have room for.
    pub chunks_possible: u64,
    /// LIST requests (local: directories read).
    pub list_requests: u64,
    /// Keys seen in listings.
    pub keys_listed: u64,
    /// Chunks found, committed or not.
    pub chunks_found: u64,
    /// References committed to the staging branch.
    pub references_written: u64,
    /// Commits made on the staging branch.
    pub commits: u64,
}

/// Receives [`Progress`]; called often, so it must return at once.
pub type OnProgress = Box<dyn Fn(&Progress) + Send + Sync>;
