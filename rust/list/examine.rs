//! What a bucket's listings are like, by two pages: in byte order or not, and whether a start is
//! honoured. For people who want to know what is wrong; no listing rests on it.

use std::sync::Arc;

use serde::Serialize;

use super::limit::ConcurrencyLimit;
use super::paging::fetch::{Fetcher, page_error};
use super::stats::SharedStats;
use crate::Result;
use crate::source::BucketSource;
use crate::source::page::{PAGE_SIZE, Page, PageRequest, PageSource as _, StartAfter};
use crate::source::retry::RetryPolicy;

/// Whoever waits for a diagnosis does not wait for long.
const ATTEMPTS: u32 = 3;

/// What two pages have told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListingTraits {
    /// Keys of the first page.
    pub keys: usize,
    /// Whether the service says that there are more.
    pub truncated: bool,
    /// Whether the keys ascend byte by byte; unknown with fewer than two.
    pub ascending: Option<bool>,
    /// Whether a listing that starts at a key begins behind it; unknown with fewer than two keys.
    pub start_after: Option<bool>,
    /// Whether the service is known to list from no key on, so that it was not asked to.
    pub never_starts: bool,
    /// LIST requests, retries included.
    pub list_requests: u64,
}

/// Asks for the first page below the source's root, and for one that starts at its next-to-last key.
///
/// # Errors
///
/// [`ErrorKind::Access`](crate::ErrorKind::Access), [`ErrorKind::Listing`](crate::ErrorKind::Listing)
/// and [`ErrorKind::SourceNotFound`](crate::ErrorKind::SourceNotFound) (no such bucket).
pub async fn examine_listing(source: &BucketSource) -> Result<ListingTraits> {
    let fetcher = Fetcher {
        source: Arc::new(source.clone()),
        limit: ConcurrencyLimit::new(1),
        retry: RetryPolicy { attempts: ATTEMPTS, ..source.retries() },
        stats: SharedStats::default(),
    };
    let root = source.key("");
    let prefix = if root.is_empty() { root } else { format!("{root}/") };
    let request = PageRequest { prefix: &prefix, max_keys: PAGE_SIZE, ..PageRequest::default() };
    let first = fetcher.page(request).await.map_err(|error| page_error(&prefix, &error))?;
    let never_starts = source.capabilities().start_after == StartAfter::None;
    let mut start_after = None;
    if let (false, Some(start), Some(next)) =
        (never_starts, nth_from_end(&first, 2), nth_from_end(&first, 1))
    {
        let request = PageRequest { start_after: Some(&start), ..request };
        start_after = match fetcher.page(request).await {
            Ok(page) => Some(page.keys().next() == Some(next.as_bytes())),
            // Services that know no start refuse the request.
            Err(_) => Some(false),
        };
    }
    let list_requests = fetcher.stats().list_requests;
    Ok(ListingTraits {
        keys: first.len(),
        truncated: first.truncated,
        ascending: (first.len() > 1).then(|| ascends(&first)),
        start_after,
        never_starts,
        list_requests,
    })
}

fn ascends(page: &Page) -> bool {
    page.keys().zip(page.keys().skip(1)).all(|(one, next)| one < next)
}

/// The key at a place counted from the end, if it is one that a request can hold.
fn nth_from_end(page: &Page, place: usize) -> Option<String> {
    let index = page.len().checked_sub(place)?;
    String::from_utf8(page.key(index).to_vec()).ok()
}
