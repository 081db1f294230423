//! The way out when start-after cannot be trusted: chains of continuation tokens, filtered.
//!
//! Lists the array from its beginning, in whatever order the keys come, and delivers the chunks
//! that were not delivered before: in one chain, or in one for each leading coordinate when those
//! hold several pages. It succeeds only when every chain was told that there is no more and no key
//! that may follow was found (`ends`), no token and no chunk came twice, and the intervals that
//! were answered for before the doubt arose hold exactly as many chunks now. Otherwise it is an
//! error: nothing is skipped silently.

mod ends;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::TryStreamExt as _;
use tokio::sync::mpsc;

use super::paging::cover::Cover;
use super::paging::fetch::{Fetcher, page_error};
use super::paging::inspect::{Distrust, Inspected, check_order, check_prefix, decode, shown};
use super::paging::seen::Seen;
use super::paging::standstill::Standstill;
use super::paging::{Context, MOST_EMPTY_PAGES, ScanPage};
use crate::source::page::{Page, PageRequest, Prefixes, StartAfter};
use crate::{Error, ErrorKind, Result};

/// What to do about a server that cannot be believed.
pub(super) const HINT: &str = "this server's listings cannot be trusted; copy the store to one that lists \
                    in byte order and honours start-after";

/// Pages that each leading coordinate of the region must have room for to be listed by itself.
///
/// In a sparse array the end of each takes requests of its own, about five for each digit of the
/// last key.
const LEAST_PAGES: u64 = 4;

/// A listing by tokens, and what its chains have met together.
struct Fallback<'a> {
    context: &'a Context,
    fetcher: &'a Fetcher,
    /// What was answered for before the doubt arose, and the greatest key that was seen then.
    cover: &'a Cover,
    greatest: Option<&'a [u8]>,
    pages: &'a mpsc::Sender<Result<ScanPage>>,
    met: Mutex<Met>,
}

#[derive(Default)]
struct Met {
    seen: Seen,
    /// Chunks met again in the intervals that were answered for before.
    again: BTreeMap<u64, u64>,
}

/// One chain of tokens.
struct Chain {
    prefix: String,
    /// The end of the last rank that is wanted below the prefix.
    end: u64,
    ordered: bool,
    last: Vec<u8>,
    greatest: Option<Vec<u8>>,
}

/// Lists by tokens after `distrust`; `cover` and `greatest` are what the scan has got so far.
pub(super) async fn list(
    context: &Context,
    fetcher: &Fetcher,
    cover: &Cover,
    greatest: Option<&[u8]>,
    pages: &mpsc::Sender<Result<ScanPage>>,
) -> Result<()> {
    let fallback =
        Fallback { context, fetcher, cover, greatest, pages, met: Mutex::new(Met::default()) };
    if leading_coordinates(context) {
        let leading = context.region.leading();
        futures::stream::iter(leading.map(Ok))
            .try_for_each_concurrent(fetcher.limit.begin(), |coordinate| {
                fallback.chain(context.keys.below(coordinate))
            })
            .await?;
    } else {
        fallback.chain(context.keys.prefix().to_owned()).await?;
    }
    fallback.finish()
}

/// Whether each leading coordinate of the region is listed by itself.
///
/// Not in order: which of two is first is not known before the first is listed to its end.
fn leading_coordinates(context: &Context) -> bool {
    let leading = context.region.leading();
    let folders = context.keys.below(leading.start).ends_with('/');
    let capabilities = &context.capabilities;
    // A service that lists in no order, or in one of its own, may know no other prefixes.
    let only_folders =
        capabilities.prefixes == Prefixes::Folders || capabilities.start_after == StartAfter::None;
    if only_folders && !folders {
        return false;
    }
    let coordinates = leading.end.saturating_sub(leading.start);
    let pages = LEAST_PAGES * u64::from(context.page_size);
    !context.ordered
        && context.keys.order().grid_shape().len() > 1
        && coordinates > 1
        && context.region.len() / coordinates >= pages
}

impl Fallback<'_> {
    /// Lists what is below `prefix` to its end.
    async fn chain(&self, prefix: String) -> Result<()> {
        let (fetcher, page_size) = (self.fetcher, self.context.page_size);
        let wanted = self.context.keys.ranks_below(&prefix);
        let bounds = self.context.region.bounds();
        let ranks = wanted.start.max(bounds.start)..wanted.end.min(bounds.end);
        let end = self.context.region.end_before(ranks.end).unwrap_or_default();
        let mut chain = Chain { prefix, end, ordered: true, last: Vec::new(), greatest: None };
        let (mut tokens, mut firsts) = (LoopGuard::default(), LoopGuard::default());
        let mut token: Option<String> = None;
        let mut empty_pages = 0;
        let mut standstill = Standstill::default();
        loop {
            let request = PageRequest {
                prefix: &chain.prefix,
                start_after: None,
                token: token.as_deref(),
                max_keys: page_size,
                grouped: false,
            };
            let page = fetcher.page(request).await.map_err(|e| page_error(&chain.prefix, &e))?;
            if page.keys().next().is_some_and(|first| firsts.repeats(first)) {
                return Err(self.error("the server sends the same page again and again"));
            }
            empty_pages = if page.is_empty() { empty_pages + 1 } else { 0 };
            if empty_pages > MOST_EMPTY_PAGES {
                return Err(self.error("truncated pages without keys never end"));
            }
            let (truncated, next) = (page.truncated, page.next_token.clone());
            let asks_again = standstill.asks_again(&page, token.as_deref());
            let inspected = self.take(&mut chain, page)?;
            fetcher.count(&inspected);
            let page = inspected.into_scan_page(ranks.clone());
            if !page.entries.is_empty() && self.pages.send(Ok(page)).await.is_err() {
                return Ok(());
            }
            if chain.ordered && self.context.keys.rank_after(&chain.last) >= chain.end {
                return Ok(());
            }
            if !truncated {
                return self.end(&chain).await;
            }
            let Some(next) = next else {
                return Err(self.error("a truncated page has no continuation token"));
            };
            if !asks_again && tokens.repeats(next.as_bytes()) {
                return Err(self.error("the continuation tokens go round in a circle"));
            }
            token = Some(next);
        }
    }

    fn error(&self, what: &str) -> Error {
        let prefix = self.context.keys.prefix();
        Error::new(
            ErrorKind::Listing,
            format!("the listing of '{prefix}' cannot be trusted: {what}"),
        )
        .with_hint(HINT)
    }

    fn met(&self) -> MutexGuard<'_, Met> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a page and reduces it to the chunks that are new.
    fn take(&self, chain: &mut Chain, page: Page) -> Result<Inspected> {
        let prefix = &chain.prefix;
        check_prefix(page.keys(), prefix).map_err(|distrust| self.error(&distrust.to_string()))?;
        let first = page.keys().next().unwrap_or_default();
        let follows = page.is_empty() || first > chain.last.as_slice();
        if !follows || check_order(&page, prefix).is_err() {
            chain.ordered = false;
            if self.context.ordered {
                return Err(self.error("keys do not come in order, in which they are wanted"));
            }
        }
        if let Some(last) = page.keys().next_back() {
            chain.last = last.to_vec();
        }
        chain.greatest = page.keys().max().map(<[u8]>::to_vec).max(chain.greatest.take());
        let Context { keys, region, .. } = self.context;
        let mut inspected = decode(page, keys, region);
        let ndim = keys.order().grid_shape().len();
        let (mut coords, mut entries) = (Vec::new(), Vec::new());
        let mut met = self.met();
        for (at, entry) in inspected.entries.iter().enumerate() {
            let coord = inspected.coords.get(at * ndim..(at + 1) * ndim).unwrap_or_default();
            let Some(rank) = keys.order().rank(coord) else {
                continue;
            };
            if !met.seen.insert(region.count_below(rank)) {
                let key = shown(inspected.page.key(*entry as usize));
                return Err(self.error(&format!("'{key}' was listed twice")));
            }
            if let Some(interval) = self.cover.interval_of(rank) {
                *met.again.entry(interval).or_default() += 1;
            } else {
                coords.extend_from_slice(coord);
                entries.push(*entry);
            }
        }
        inspected.coords = coords;
        inspected.entries = entries;
        Ok(inspected)
    }

    /// The server says that this was all below the prefix of a chain.
    async fn end(&self, chain: &Chain) -> Result<()> {
        let known = self.greatest.filter(|key| key.starts_with(chain.prefix.as_bytes()));
        if let Some(key) = known.filter(|key| Some(*key) > chain.greatest.as_deref()) {
            let key = shown(key);
            return Err(self.error(&format!("'{key}', which was listed at first, is missing now")));
        }
        let Context { keys, region, capabilities, .. } = self.context;
        if capabilities.prefixes == Prefixes::Folders {
            // Such a service cannot be asked what lies between two folders.
            return Ok(());
        }
        let later = ends::later(keys, region, &chain.prefix, chain.greatest.as_deref());
        futures::stream::iter(later.into_iter().map(Ok))
            .try_for_each_concurrent(self.fetcher.limit.begin(), |prefix| {
                self.nothing_below(prefix, chain.ordered)
            })
            .await
    }

    /// Makes sure that there is no key below `prefix`.
    async fn nothing_below(&self, prefix: String, ordered: bool) -> Result<()> {
        let mut token: Option<String> = None;
        let mut standstill = Standstill::default();
        for _ in 0..MOST_EMPTY_PAGES {
            let token_now = token.as_deref();
            let request = PageRequest {
                prefix: &prefix,
                token: token_now,
                max_keys: 1,
                ..PageRequest::default()
            };
            let page = match self.fetcher.page(request).await {
                Ok(page) => page,
                // Services that do not list in order may know no prefixes but folders.
                Err(error) if !ordered && ends::is_refusal(&error) => return Ok(()),
                Err(error) => return Err(page_error(&prefix, &error)),
            };
            check_prefix(page.keys(), &prefix).map_err(|found| self.error(&found.to_string()))?;
            if let Some(key) = page.keys().next() {
                return Err(self.error(&format!(
                    "a page was called complete although '{}' follows",
                    shown(key)
                )));
            }
            let asks_again = standstill.asks_again(&page, token.as_deref());
            match page.next_token {
                _ if !page.truncated => return Ok(()),
                Some(_) if asks_again => {}
                Some(next) if token.as_ref() != Some(&next) => token = Some(next),
                _ => break,
            }
        }
        Err(self.error("a truncated page without keys leads nowhere"))
    }

    /// All chains have come to their ends.
    fn finish(&self) -> Result<()> {
        let met = self.met();
        for (ranks, chunks) in self.cover.intervals() {
            let now = met.again.get(&ranks.start).copied().unwrap_or_default();
            if now != chunks {
                return Err(self.error(&format!(
                    "a part that was listed with {chunks} chunks at first has {now} now"
                )));
            }
        }
        Ok(())
    }
}

/// Notices, in constant memory, when a sequence begins to repeat (Brent's algorithm).
#[derive(Debug, Default)]
struct LoopGuard {
    kept: Vec<u8>,
    steps: u64,
    limit: u64,
}

impl LoopGuard {
    /// Whether `value` is the one that was kept; it is met again at the latest after the
    /// sequence has gone round three times.
    fn repeats(&mut self, value: &[u8]) -> bool {
        if self.limit > 0 && self.kept == value {
            return true;
        }
        if self.steps == self.limit {
            self.limit = (2 * self.limit).max(1);
            self.steps = 0;
            self.kept = value.to_vec();
        }
        self.steps += 1;
        false
    }
}

/// The warning that explains a listing by tokens.
pub(super) fn warning(context: &Context, distrust: &Distrust) -> String {
    let prefix = context.keys.prefix();
    if leading_coordinates(context) {
        format!("'{prefix}' was listed by leading coordinates, which is slower: {distrust}")
    } else {
        format!("'{prefix}' was listed serially, which is slow: {distrust}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_of_any_length_is_noticed() {
        for (lead, length) in [(0_u32, 1_u32), (3, 1), (0, 2), (5, 7), (100, 33)] {
            let mut guard = LoopGuard::default();
            let mut steps = 0;
            let mut value = 0;
            while !guard.repeats(&u32::to_be_bytes(value)) {
                value = if value + 1 == lead + length { lead } else { value + 1 };
                steps += 1;
                assert!(steps < 10 * (lead + length + 1));
            }
            let mut guard = LoopGuard::default();
            assert!((0..10_000_u32).all(|value| !guard.repeats(&value.to_be_bytes())));
        }
    }
}
