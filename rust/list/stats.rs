//! What a listing costs and meets, counted while it runs.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// What a listing cost and met; complete once its stream has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListStats {
    /// LIST requests, retries included; on a local file system, folders read; on a web server,
    /// requests for keys.
    pub list_requests: u64,
    /// Keys met.
    pub keys_listed: u64,
    /// Chunks of the region.
    pub chunks: u64,
    /// Keys that are neither chunks of the array nor Zarr metadata.
    pub foreign_keys: u64,
    /// One of those.
    pub foreign_example: Option<String>,
    /// Symbolic links under keys of chunks that lead nowhere, and were taken as missing chunks.
    pub dangling_links: u64,
    /// One of those.
    pub dangling_example: Option<String>,
    /// Requests sent again after a failure.
    pub retries: u64,
    /// What a user should know about the server.
    pub warnings: Vec<String>,
}

impl ListStats {
    /// What has come since `earlier`, a former state of the same statistics.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            list_requests: self.list_requests - earlier.list_requests,
            keys_listed: self.keys_listed - earlier.keys_listed,
            chunks: self.chunks - earlier.chunks,
            foreign_keys: self.foreign_keys - earlier.foreign_keys,
            foreign_example: self.foreign_example.clone(),
            dangling_links: self.dangling_links - earlier.dangling_links,
            dangling_example: self.dangling_example.clone(),
            retries: self.retries - earlier.retries,
            warnings: self.warnings.iter().skip(earlier.warnings.len()).cloned().collect(),
        }
    }

    /// What to tell a user about foreign keys among the chunks of `array`, when there are any.
    #[must_use]
    pub fn foreign_note(&self, array: &str) -> Option<String> {
        let example = self.foreign_example.as_deref()?;
        let keys = if self.foreign_keys == 1 { "key" } else { "keys" };
        Some(format!(
            "array {array}: {} {keys} below it are not chunks and were ignored, for example {example}",
            self.foreign_keys
        ))
    }

    /// Adds the statistics of another part of the same array; a warning is kept once.
    pub fn add(&mut self, other: &Self) {
        self.list_requests += other.list_requests;
        self.keys_listed += other.keys_listed;
        self.chunks += other.chunks;
        self.foreign_keys += other.foreign_keys;
        self.foreign_example =
            self.foreign_example.take().or_else(|| other.foreign_example.clone());
        self.dangling_links += other.dangling_links;
        self.dangling_example =
            self.dangling_example.take().or_else(|| other.dangling_example.clone());
        self.retries += other.retries;
        for warning in &other.warnings {
            if !self.warnings.contains(warning) {
                self.warnings.push(warning.clone());
            }
        }
    }
}

/// Statistics that a listing keeps up to date.
pub type SharedStats = Arc<Mutex<ListStats>>;

/// The present state of shared statistics.
#[must_use]
pub fn stats_of(stats: &SharedStats) -> ListStats {
    stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

pub(crate) fn update(stats: &SharedStats, change: impl FnOnce(&mut ListStats)) {
    change(&mut stats.lock().unwrap_or_else(PoisonError::into_inner));
}
