//! Compares an inventory with what the service lists today, on a few pages of it.
//!
//! What was written since the inventory was made may differ. Anything else is an error, also an
//! object that is gone, since nobody can tell when it was removed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::limit::ConcurrencyLimit;
use super::paging::fetch::{Fetcher, page_error};
use super::stats::SharedStats;
use crate::source::Source;
use crate::source::page::{Page, PageRequest, PageSource, StartAfter};
use crate::{Error, ErrorKind, Result};

/// Differences that are shown.
const EXAMPLES: usize = 3;

/// What a comparison has found, where nothing was wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InventorySample {
    /// LIST requests.
    pub list_requests: u64,
    /// Keys compared.
    pub keys: u64,
    /// Those of them that were written since the inventory was made.
    pub newer: u64,
}

/// Compares `pages` pages of the service with the inventory of a source, which was made at `date`
/// (microseconds since 1970 UTC).
///
/// # Errors
///
/// [`ErrorKind::Listing`] when they differ, with examples; when the source has no inventory, or is
/// not listed page by page; and what the service's listings give.
pub async fn sample_inventory(
    source: &Source,
    pages: usize,
    date: i64,
    limit: &Arc<ConcurrencyLimit>,
) -> Result<InventorySample> {
    let (Some(inventory), Source::Bucket(bucket)) = (source.inventory(), source) else {
        let message = "only listings of buckets are compared with LIST requests";
        return Err(Error::new(ErrorKind::Listing, message).with_hint("leave out --sample-listing"));
    };
    let fetcher = Fetcher {
        source: Arc::new(bucket.clone()),
        limit: Arc::clone(limit),
        retry: bucket.retries(),
        stats: SharedStats::default(),
    };
    let root = PageSource::key(bucket, "");
    let prefix = if root.is_empty() { root } else { format!("{root}/") };
    let starts = if fetcher.source.capabilities().start_after == StartAfter::None {
        // Only its first page can be asked for.
        vec![prefix.clone()]
    } else {
        let shares: Vec<f64> = (0..pages).map(|_| rand::random()).collect();
        inventory.keys_at(&shares)?
    };
    let mut found = InventorySample::default();
    let mut wrong = Vec::new();
    for start in starts {
        let after = (start != prefix).then_some(start.as_str());
        let page = fetcher
            .page(PageRequest { prefix: &prefix, start_after: after, ..PageRequest::default() })
            .await
            .map_err(|error| page_error(&prefix, &error))?;
        let last = page.truncated.then(|| page.ends().map(|(_, last)| last.to_vec())).flatten();
        if page.truncated && last.is_none() {
            continue;
        }
        let mut named = named(inventory, &prefix, after, last.as_deref()).await?;
        for (at, entry) in page.entries.iter().enumerate() {
            let key = page.key(at);
            found.keys += 1;
            let same = named.remove(key).map(|(size, time)| {
                // Services keep whole seconds, inventories may have fractions.
                size == entry.size && (time - entry.last_modified).abs() < 1_000_000
            });
            let text = String::from_utf8_lossy(key);
            match same {
                Some(true) => {}
                // The source's own marker is in no inventory of what is below it.
                None if key == prefix.as_bytes() => {}
                _ if entry.last_modified > date => found.newer += 1,
                Some(false) => wrong.push(format!("{text} has another size or time")),
                None => wrong.push(format!("{text} is not in the listing")),
            }
        }
        let gone = named.into_keys().map(|key| String::from_utf8_lossy(&key).into_owned());
        wrong.extend(gone.map(|key| format!("{key} is gone")));
    }
    found.list_requests = fetcher.stats().list_requests;
    if wrong.is_empty() { Ok(found) } else { Err(differs(&wrong)) }
}

/// Size and time of what an inventory names after `after`, up to `last` or to its end.
async fn named(
    inventory: &dyn PageSource,
    prefix: &str,
    after: Option<&str>,
    last: Option<&[u8]>,
) -> Result<BTreeMap<Vec<u8>, (u64, i64)>> {
    let mut named = BTreeMap::new();
    let mut token: Option<String> = None;
    loop {
        let request = PageRequest {
            prefix,
            start_after: after,
            token: token.as_deref(),
            ..PageRequest::default()
        };
        let page: Page = inventory.page(request).await.map_err(|e| page_error(prefix, &e))?;
        for (at, entry) in page.entries.iter().enumerate() {
            if last.is_some_and(|last| page.key(at) > last) {
                return Ok(named);
            }
            named.insert(page.key(at).to_vec(), (entry.size, entry.last_modified));
        }
        match page.next_token {
            Some(next) => token = Some(next),
            None => return Ok(named),
        }
    }
}

fn differs(wrong: &[String]) -> Error {
    let mut message = "the listing is not what the service lists: ".to_owned();
    message.push_str(&wrong.iter().take(EXAMPLES).cloned().collect::<Vec<_>>().join(", "));
    if let Some(more) = wrong.len().checked_sub(EXAMPLES).filter(|more| *more > 0) {
        let _ = write!(message, " and {more} more");
    }
    Error::new(ErrorKind::Listing, message)
        .with_hint("use a newer listing, or leave out --listing to have the source listed")
}
