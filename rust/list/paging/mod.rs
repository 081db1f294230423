//! What every listing by pages shares: one request at a time, judged, and what has been covered.
//!
//! Which pages are asked for is decided by [`ranked`](super::ranked) and
//! [`by_token`](super::by_token); [`density`](crate::density) asks for a few only.

pub(crate) mod cover;
pub(crate) mod fetch;
pub(crate) mod inspect;
pub(crate) mod seen;
pub(crate) mod standstill;
pub(crate) mod witness;

use std::ops::Range;
use std::sync::Arc;

use crate::key_order::rank_region::RankRegion;
use crate::list::array_keys::ArrayKeys;
use crate::list::limit::ConcurrencyLimit;
use crate::source::page::{Page, PageCapabilities};
use crate::source::retry::RetryPolicy;

/// Empty truncated pages in a row that are followed before a listing is given up.
pub(crate) const MOST_EMPTY_PAGES: u32 = 1000;

/// How a listing is done.
#[derive(Debug, Clone)]
pub struct ScanOptions {
    /// The most keys to ask for at once: what the service gives, 1,000 for S3.
    pub page_size: u32,
    /// How persistent to be.
    pub retry: RetryPolicy,
    /// Requests in flight; may be shared by several listings.
    pub limit: Arc<ConcurrencyLimit>,
    /// Pages come in the order of their keys, each with keys greater than those before.
    ///
    /// A dense region takes no more requests for that, a sparse one about a tenth more, and where
    /// density changes along the region, up to one more for each request in flight and change. In
    /// memory are at most two and a half times as many pages as requests may be in flight. A server
    /// that must be listed serially and does not list in order is an error.
    pub ordered: bool,
    /// All requests are sent at once, without waiting for the first page: every chunk of the region
    /// seems to be there, and the service to honour start-after. That is no more than a guess: each
    /// page still proves what it covers.
    pub full: bool,
}

/// A page and the chunks on it that belong to the listing.
#[derive(Debug, Clone)]
pub struct ScanPage {
    /// The page as the service sent it; it may hold other keys too.
    pub page: Page,
    /// The ranks of which no other page delivers a chunk; those of the whole region after a
    /// serial listing.
    pub ranks: Range<u64>,
    /// Grid coordinates of the chunks, as many numbers each as the grid has dimensions.
    pub coords: Vec<u32>,
    /// The position of each chunk among the entries of the page.
    pub entries: Vec<u32>,
}

/// What all parts of a listing need to know.
pub(crate) struct Context {
    pub(crate) keys: ArrayKeys,
    pub(crate) region: Arc<RankRegion>,
    pub(crate) page_size: u32,
    pub(crate) ordered: bool,
    pub(crate) capabilities: PageCapabilities,
}
