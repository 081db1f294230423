//! One page for several small arrays whose keys follow one another in a store.
//!
//! Ten thousand arrays of a few chunks each would take a request each. Here the first of a few
//! neighbours that asks has a page listed that goes over all of them, and each takes its keys from
//! it. What a page says of an array is believed only where it goes on behind the array's last key,
//! in ascending order: a page that ends there, or does not reach it, is left alone, and the array is
//! listed as if it had no neighbours. Nothing else changes: the scanners ask, judge and prove as
//! they do with any source of pages.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::OnceCell;

use super::paging::inspect::check_order;
use crate::source::page::{
    PAGE_SIZE, Page, PageCapabilities, PageError, PageRequest, PageSource, StartAfter,
};
use crate::source::retry::RetryPolicy;

/// Keys that neighbours may have together; a page has room for some that are none of their chunks.
const MOST_KEYS: u64 = 900;

/// Keys of an array beside its chunks: its documents.
const DOCUMENTS: u64 = 3;

/// Pages that are asked for before anything else is taken from them. Neighbours in a row would wait
/// for one page, and then for the next; more pages would take memory for longer.
const PAGES_AHEAD: usize = 64;

/// The page of a few neighbours; it is listed when the first of them asks.
#[derive(Debug)]
pub struct SharedPage {
    /// Relative to the source: less than all keys of the first neighbour, greater than those before.
    start: String,
    /// None where what came cannot be shared.
    page: OnceCell<Option<Page>>,
}

/// Which arrays, given by their paths and the chunks that each has room for, share which page, with
/// the position of each; those without neighbours have none. In the order in which they are to be
/// listed: the first of each page, so that many pages are on their way at a time, then the others.
pub fn neighbours(arrays: &[(&str, u64)]) -> Vec<(usize, Option<Arc<SharedPage>>)> {
    let mut sorted: Vec<_> =
        arrays.iter().enumerate().map(|(at, (path, _))| (format!("{path}/"), at)).collect();
    sorted.sort();
    let keys = |at: usize| arrays.get(at).map_or(0, |(_, chunks)| chunks.saturating_add(DOCUMENTS));
    let mut pages = Vec::new();
    let mut rest = sorted.as_slice();
    while let Some((start, first)) = rest.first() {
        let mut held = keys(*first);
        let mut count = 1;
        while let Some((_, next)) = rest.get(count) {
            held = held.saturating_add(keys(*next));
            if held > MOST_KEYS {
                break;
            }
            count += 1;
        }
        // A dot sorts before the slash: an object that stands for a folder is seen too.
        let before = format!("{}.", start.trim_end_matches('/'));
        let page = || SharedPage { start: before.clone(), page: OnceCell::new() };
        let shared = (count > 1).then(|| Arc::new(page()));
        let (these, others) = rest.split_at(count);
        pages.push((these, shared));
        rest = others;
    }
    let mut found = Vec::with_capacity(sorted.len());
    for ahead in pages.chunks(PAGES_AHEAD) {
        let of = |(arrays, page): &(&[(String, usize)], _)| -> Vec<_> {
            arrays.iter().map(|(_, at)| (*at, Option::clone(page))).collect()
        };
        found.extend(ahead.iter().flat_map(|page| of(page).into_iter().take(1)));
        found.extend(ahead.iter().flat_map(|page| of(page).into_iter().skip(1)));
    }
    found
}

/// A source of pages for one array that has neighbours.
pub(super) struct WithNeighbours {
    source: Arc<dyn PageSource>,
    shared: Arc<SharedPage>,
    /// Strings to start after that were answered from the shared page: whoever asks again wants to
    /// hear it from the service.
    answered: Mutex<HashSet<Option<String>>>,
}

impl WithNeighbours {
    pub(super) fn new(source: Arc<dyn PageSource>, shared: Arc<SharedPage>) -> Self {
        Self { source, shared, answered: Mutex::default() }
    }

    /// The answer to a request from the shared page, and how many requests were sent for that.
    async fn look_into_shared(
        &self,
        request: PageRequest<'_>,
    ) -> Result<(Option<Page>, i64), PageError> {
        let start = self.source.key(&self.shared.start);
        // Of the whole source, so that what comes behind the last neighbour is seen too.
        let root = self.source.key("");
        let prefix = if root.is_empty() { root } else { format!("{root}/") };
        let mut sent = 0;
        let list = async {
            sent = 1;
            let request = PageRequest {
                prefix: &prefix,
                start_after: Some(&start),
                max_keys: PAGE_SIZE,
                ..PageRequest::default()
            };
            let page = self.source.page(request).await?;
            let honoured = page.keys().next().is_some_and(|first| first > start.as_bytes());
            let in_order = check_order(&page, &prefix).is_ok();
            Ok((honoured && in_order).then_some(page))
        };
        let page = self.shared.page.get_or_try_init(|| list).await?;
        let answer = page.as_ref().and_then(|page| answer(page, &start, request));
        Ok((answer, sent))
    }
}

/// What a page that begins after `start` tells of a request; none where it does not go on behind
/// the keys that are asked for.
fn answer(page: &Page, start: &str, request: PageRequest<'_>) -> Option<Page> {
    let prefix = request.prefix.as_bytes();
    let first = match request.start_after {
        None if start < request.prefix => page.partition_point(|key| key < prefix),
        Some(after) if start <= after && after.as_bytes().starts_with(prefix) => {
            page.partition_point(|key| key <= after.as_bytes())
        }
        _ => return None,
    };
    let end = page.partition_point(|key| key < prefix || key.starts_with(prefix));
    if end >= page.len() {
        return None;
    }
    let most = first.saturating_add(request.max_keys as usize);
    let part = page.part(first..end.min(most));
    // One that is cut short and one that is empty both go on after their last key, or not at all.
    Some(Page { truncated: end > most, ..part })
}

impl PageSource for WithNeighbours {
    fn page<'a>(&'a self, request: PageRequest<'a>) -> BoxFuture<'a, Result<Page, PageError>> {
        async move {
            let fresh = || {
                let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
                answered.insert(request.start_after.map(str::to_owned))
            };
            let ordered = self.capabilities().start_after == StartAfter::Exclusive;
            if !ordered || request.token.is_some() || request.grouped || !fresh() {
                return self.source.page(request).await;
            }
            let (answer, sent) = self.look_into_shared(request).await?;
            if let Some(page) = answer {
                return Ok(Page { other_requests: sent - 1, ..page });
            }
            let page = self.source.page(request).await?;
            Ok(Page { other_requests: sent, ..page })
        }
        .boxed()
    }

    fn capabilities(&self) -> PageCapabilities {
        self.source.capabilities()
    }

    fn note_disorder(&self) {
        self.source.note_disorder();
    }

    fn key(&self, relative: &str) -> String {
        self.source.key(relative)
    }

    fn retries(&self) -> RetryPolicy {
        self.source.retries()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::page::PageBuilder;

    fn page(keys: &[&str]) -> Page {
        let mut builder = PageBuilder::default();
        assert!(keys.iter().all(|key| builder.push(key.as_bytes(), 1, 0, b"")));
        builder.finish(false, None)
    }

    #[test]
    fn neighbours_follow_one_another_in_the_order_of_their_keys() {
        let found = neighbours(&[("b", 400), ("a-1", 400), ("a", 400), ("huge", 10_000)]);
        let starts: Vec<_> = found
            .iter()
            .map(|(at, page)| (*at, page.as_ref().map(|page| page.start.as_str())))
            .collect();
        // `a-1/` sorts before `a/`; the first of each page comes first.
        assert_eq!(starts, [(1, Some("a-1.")), (0, None), (3, None), (2, Some("a-1."))]);
    }

    #[test]
    fn many_pages_are_asked_for_before_any_is_looked_into_again() {
        let paths: Vec<_> = (0..1_000).map(|number| format!("a{number:04}")).collect();
        let arrays: Vec<_> = paths.iter().map(|path| (path.as_str(), 97)).collect();
        let found = neighbours(&arrays);
        let positions: Vec<_> = found.iter().map(|(at, _)| *at).collect();
        // Nine arrays of 97 chunks and three documents have 900 keys.
        let first: Vec<_> = (0..PAGES_AHEAD).map(|page| 9 * page).collect();
        assert_eq!(positions[..PAGES_AHEAD], first);
        assert_eq!(positions[PAGES_AHEAD..PAGES_AHEAD + 3], [1, 2, 3]);
        let mut sorted = positions.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..arrays.len()).collect::<Vec<_>>());
        for (at, page) in found {
            let start = page.map(|page| page.start.clone());
            let first = at / 9 * 9;
            // The last array is alone.
            assert_eq!(start, (first < 999).then(|| format!("a{first:04}.")));
        }
    }

    #[test]
    fn a_page_tells_of_an_array_only_where_it_goes_on_behind_it() {
        let shared = page(&["a/c/0", "a/c/1", "a/zarr.json", "b/c/0"]);
        let told = |prefix: &'static str, after: Option<&'static str>, max_keys: u32| {
            let asked =
                PageRequest { prefix, start_after: after, max_keys, ..PageRequest::default() };
            let found = answer(&shared, "a.", asked)?;
            let keys: Vec<_> =
                found.keys().map(|key| String::from_utf8(key.to_vec()).unwrap()).collect();
            Some((keys, found.truncated))
        };
        let all = ["a/c/0", "a/c/1", "a/zarr.json"].map(str::to_owned);
        assert_eq!(told("a/", Some("a/c//"), 64), Some((all.to_vec(), false)));
        assert_eq!(told("a/", None, 64), Some((all.to_vec(), false)));
        assert_eq!(told("a/", None, 2), Some((all[..2].to_vec(), true)));
        assert_eq!(told("a/", Some("a/c/0"), 1), Some((vec![all[1].clone()], true)));
        // Nothing follows `b/c/0`: that is for the service to say.
        assert_eq!(told("b/", None, 64), None);
        assert_eq!(told("0/", None, 64), None);
        assert_eq!(told("0/", Some("0/x"), 64), None);
    }
}
