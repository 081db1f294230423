//! How full arrays are, judged by a few requests before anything is planned.
//!
//! [`survey`] decides which arrays are worth a look, [`probe`] how to look at one: at pages spread
//! over the region (`sample`), at a few folders (`folders`), or at what another library lists. That a
//! listing is complete never rests on such an estimate.

mod folders;
pub mod probe;
pub mod sample;
pub mod survey;

/// How full a part of an array's grid is, judged by a few requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Density {
    /// Chunks expected in the region; never more than it has room for.
    pub chunks_expected: u64,
    /// Whether that is a count, not an estimate: all of the region was seen, as far as a store can
    /// be believed without the proof of a listing.
    pub exact: bool,
    /// LIST requests made, retries included; on a local file system, folders read.
    pub list_requests: u64,
}

/// Requests for one array when nothing else is asked for.
pub const DEFAULT_PROBE_REQUESTS: usize = 8;

/// How an array is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Looks {
    /// How many requests it takes, about.
    pub requests: usize,
    /// All are sent at once. Otherwise the first page comes first: it may be the only one that is
    /// needed, where there are few chunks.
    pub at_once: bool,
}

impl Default for Looks {
    fn default() -> Self {
        Self { requests: DEFAULT_PROBE_REQUESTS, at_once: false }
    }
}
