//! The way out when start-after cannot be trusted: one chain of continuation tokens, filtered.
//!
//! Lists the array from its beginning, in whatever order the keys come, and delivers the chunks
//! that were not delivered before. It succeeds only when the server says that there is no more, no
//! token and no chunk came twice, and the intervals that were answered for before the doubt arose
//! hold exactly as many chunks now. Otherwise it is an error: nothing is passed over in silence.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use super::cover::Cover;
use super::fetch::{Fetcher, page_error};
use super::inspect::{Distrust, Inspected, check_order, check_prefix, decode, shown};
use super::scanner::MOST_EMPTY_PAGES;
use super::seen::Seen;
use super::{Context, ScanPage};
use crate::source::page::{Page, PageRequest};
use crate::{Error, ErrorKind, Result};

/// What to do about a server that cannot be believed.
pub(super) const HINT: &str = "this server's listings cannot be trusted; copy the store to one that lists \
                    in byte order and honours start-after";

/// What one serial listing has met.
struct Serial<'a> {
    context: &'a Context,
    cover: &'a Cover,
    seen: Seen,
    /// Chunks met again in the intervals that were answered for before.
    again: BTreeMap<u64, u64>,
    ordered: bool,
    last: Vec<u8>,
    greatest: Vec<u8>,
}

/// Lists serially after `distrust`; `cover` and `greatest` are what the scan has got so far.
pub(super) async fn list(
    context: &Context,
    fetcher: &Fetcher,
    cover: &Cover,
    greatest: Option<&[u8]>,
    pages: &mpsc::Sender<Result<ScanPage>>,
) -> Result<()> {
    let mut serial = Serial {
        context,
        cover,
        seen: Seen::default(),
        again: BTreeMap::new(),
        ordered: true,
        last: Vec::new(),
        greatest: Vec::new(),
    };
    let bounds = context.region.bounds();
    let mut token: Option<String> = None;
    let mut tokens = LoopGuard::default();
    let mut firsts = LoopGuard::default();
    let mut empty_pages = 0;
    loop {
        let request = PageRequest {
            prefix: context.keys.prefix(),
            start_after: None,
            token: token.as_deref(),
            max_keys: context.page_size,
        };
        let page = fetcher
            .page(request)
            .await
            .map_err(|error| page_error(context.keys.prefix(), &error))?;
        if page.keys().next().is_some_and(|first| firsts.repeats(first)) {
            return Err(serial.error("the server sends the same page again and again"));
        }
        empty_pages = if page.is_empty() { empty_pages + 1 } else { 0 };
        if empty_pages > MOST_EMPTY_PAGES {
            return Err(serial.error("truncated pages without keys lead to ever more of them"));
        }
        let (truncated, next) = (page.truncated, page.next_token.clone());
        let inspected = serial.take(page)?;
        fetcher.count(&inspected);
        let page = inspected.into_scan_page(bounds.clone());
        if !page.entries.is_empty() && pages.send(Ok(page)).await.is_err() {
            return Ok(());
        }
        let past_the_end = serial.ordered && context.keys.rank_after(&serial.last) >= bounds.end;
        if past_the_end || !truncated {
            return serial.finish(greatest, past_the_end);
        }
        let Some(next) = next else {
            return Err(serial.error("a truncated page has no continuation token"));
        };
        if tokens.repeats(next.as_bytes()) {
            return Err(serial.error("the continuation tokens go round in a circle"));
        }
        token = Some(next);
    }
}

impl Serial<'_> {
    fn error(&self, what: &str) -> Error {
        let prefix = self.context.keys.prefix();
        Error::new(
            ErrorKind::Listing,
            format!("the listing of '{prefix}' cannot be trusted: {what}"),
        )
        .with_hint(HINT)
    }

    /// Checks a page and reduces it to the chunks that are new.
    fn take(&mut self, page: Page) -> Result<Inspected> {
        let prefix = self.context.keys.prefix();
        check_prefix(page.keys(), prefix).map_err(|distrust| self.error(&distrust.to_string()))?;
        let first = page.keys().next().unwrap_or_default();
        let follows = page.is_empty() || first > self.last.as_slice();
        if !follows || check_order(&page, prefix).is_err() {
            self.ordered = false;
        }
        if let Some(last) = page.keys().next_back() {
            self.last = last.to_vec();
        }
        if let Some(key) = page.keys().max().filter(|key| *key > self.greatest.as_slice()) {
            self.greatest = key.to_vec();
        }
        let mut inspected = decode(page, &self.context.keys, &self.context.region);
        let ndim = self.context.keys.order().grid_shape().len();
        let (mut coords, mut entries) = (Vec::new(), Vec::new());
        for (at, entry) in inspected.entries.iter().enumerate() {
            let coord = inspected.coords.get(at * ndim..(at + 1) * ndim).unwrap_or_default();
            let Some(rank) = self.context.keys.order().rank(coord) else {
                continue;
            };
            if !self.seen.insert(self.context.region.count_below(rank)) {
                let key = shown(inspected.page.key(*entry as usize));
                return Err(self.error(&format!("'{key}' was listed twice")));
            }
            if let Some(interval) = self.cover.interval_of(rank) {
                *self.again.entry(interval).or_default() += 1;
            } else {
                coords.extend_from_slice(coord);
                entries.push(*entry);
            }
        }
        inspected.coords = coords;
        inspected.entries = entries;
        Ok(inspected)
    }

    /// The server says that this was all, or all of the region was passed.
    fn finish(&self, greatest: Option<&[u8]>, past_the_end: bool) -> Result<()> {
        for (ranks, chunks) in self.cover.intervals() {
            let now = self.again.get(&ranks.start).copied().unwrap_or_default();
            if now != chunks {
                return Err(self.error(&format!(
                    "a part that was listed with {chunks} chunks at first has {now} now"
                )));
            }
        }
        match greatest {
            Some(key) if !past_the_end && key > self.greatest.as_slice() => {
                Err(self
                    .error(&format!("'{}', which was listed at first, is missing now", shown(key))))
            }
            _ => Ok(()),
        }
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

/// The warning that explains a serial listing.
pub(super) fn warning(prefix: &str, distrust: &Distrust) -> String {
    format!("'{prefix}' was listed serially, which is slow: {distrust}")
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
