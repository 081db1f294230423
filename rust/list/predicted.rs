//! Finds an array's chunks on a server that cannot list: every key that a chunk of the region may
//! have is asked for, one request each.
//!
//! Keys are made as they are asked for, in their byte order, so that memory is that of the requests
//! in flight. How a server says that there is nothing is the source's business.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::RecordBatch;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};

use super::limit::ConcurrencyLimit;
use super::ranked_region;
use super::stats::{SharedStats, update};
use super::wanted::Wanted;
use crate::source::WebSource;
use crate::source::page::{PAGE_SIZE, PageErrorKind};
use crate::source::web::{Described, Sent, Unanswered};
use crate::{Error, ErrorKind, Result};

/// A chunk that is there.
type Found = (Vec<u32>, Described);

pub(super) fn list(
    source: WebSource,
    wanted: Wanted,
    stats: SharedStats,
    limit: Arc<ConcurrencyLimit>,
    ordered: bool,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    source.check_allowed(&wanted.array.path, wanted.region.chunks())?;
    let (order, region) = ranked_region(&wanted.array, &wanted.region)?;
    let at_once = limit.most();
    let asked = Arc::new(Asked { source, wanted, stats, limit, sent: Sent::default() });
    let batches = Arc::clone(&asked);
    let begun = async move {
        let folder = asked.wanted.array.source_prefix();
        let prepared = asked.source.prepare(&folder, &asked.sent).await;
        asked.count(false);
        prepared?;
        let mut next = 0;
        let coords = std::iter::from_fn(move || {
            let rank = region.next(next)?;
            next = rank + 1;
            order.select(rank)
        });
        let answers = futures::stream::iter(coords).map(move |coords| {
            let asked = Arc::clone(&asked);
            async move { asked.ask(coords).await }
        });
        let answers = if ordered {
            answers.buffered(at_once).boxed()
        } else {
            answers.buffer_unordered(at_once).boxed()
        };
        Ok::<_, Error>(answers.try_filter_map(|found| std::future::ready(Ok(found))))
    };
    // What has come is handed on at once: a slow server shall not look as if nothing happened.
    let pages = futures::stream::once(begun).try_flatten().ready_chunks(PAGE_SIZE as usize);
    Ok(pages.map(move |found| batches.records(found)).boxed())
}

/// A listing that is running.
struct Asked {
    source: WebSource,
    wanted: Wanted,
    stats: SharedStats,
    limit: Arc<ConcurrencyLimit>,
    sent: Sent,
}

impl Asked {
    async fn ask(&self, coords: Vec<u32>) -> Result<Option<Found>> {
        let key = self.wanted.array.source_key(&coords);
        let found = self.describe(&key).await;
        self.count(matches!(found, Ok(Some(_))));
        let Some(found) = found? else { return Ok(None) };
        // Of an object without bytes no reference is made.
        if found.last_modified.is_none() && !self.wanted.undated && found.size > 0 {
            return Err(undated(&self.source, &key, &found));
        }
        Ok(Some((coords, found)))
    }

    /// Asks for a key until it is answered, with fewer at a time when the server wants that.
    async fn describe(&self, key: &str) -> Result<Option<Described>> {
        let mut failures = 0;
        loop {
            let permit = self.limit.acquire().await;
            let error = match self.source.describe_once(key, &self.sent).await {
                Ok(found) => {
                    permit.answered(0);
                    return Ok(found);
                }
                Err(Unanswered::Ever(error)) => return Err(error),
                Err(Unanswered::Now(error)) => error,
            };
            if error.kind == PageErrorKind::Throttled {
                permit.throttled();
            } else {
                drop(permit);
            }
            failures += 1;
            let wait = self.source.wait(key, &error, failures)?;
            self.sent.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(wait).await;
        }
    }

    /// Tells of requests that were sent since the last time, and of a chunk.
    fn count(&self, is_chunk: bool) {
        let requests = self.sent.requests.swap(0, Ordering::Relaxed);
        let retries = self.sent.retries.swap(0, Ordering::Relaxed);
        update(&self.stats, |stats| {
            stats.list_requests += requests;
            stats.retries += retries;
            stats.keys_listed += u64::from(is_chunk);
            stats.chunks += u64::from(is_chunk);
        });
    }

    fn records(&self, found: Vec<Result<Found>>) -> Result<RecordBatch> {
        let mut records = self.wanted.records();
        for chunk in found {
            let (coords, Described { size, last_modified, e_tag }) = chunk?;
            records.push(&coords, size, last_modified.unwrap_or_default(), e_tag.as_deref());
        }
        records.finish()
    }
}

fn undated(source: &WebSource, key: &str, found: &Described) -> Error {
    let what = format!(
        "the server does not say when {}{key} was last modified (no Last-Modified): readers could \
         not notice that it has changed",
        source.url_prefix()
    );
    let hint = if found.has_strong_tag() {
        "it has an ETag: use --checksum etag --restart; or --checksum none --restart, if the source \
         never changes"
    } else {
        "if the source never changes, use --checksum none --restart; else copy it elsewhere"
    };
    Error::new(ErrorKind::Listing, what).with_hint(hint)
}
