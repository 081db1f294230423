//! How full arrays are, judged by a few requests before anything is planned.
//!
//! [`survey`] decides which arrays are worth a look, [`probe`] how to look at one: at pages spread
//! over the region (`sample`), at a few folders (`folders`), or at what another library lists. No
//! listing rests on such an estimate.

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
