//! Pages that came before their turn, when a listing is wanted in the order of its keys.
//!
//! A page is due when every rank before it is answered for. Which pages may be asked for ahead, so
//! that not too many wait here, is decided in [`scanner`](super::scanner).

use std::collections::BTreeMap;

use crate::list::paging::ScanPage;
use crate::list::paging::cover::Cover;

/// Puts pages into the order in which they are delivered: any, or that of their ranks.
#[derive(Debug, Default)]
pub(super) struct Turn {
    ordered: bool,
    /// By first rank.
    held: BTreeMap<u64, ScanPage>,
    /// What was delivered: always the first part of the region when in order.
    delivered: Cover,
}

impl Turn {
    pub(super) fn new(ordered: bool) -> Self {
        Self { ordered, ..Self::default() }
    }

    /// Takes a page that has chunks.
    pub(super) fn hold(&mut self, page: ScanPage) {
        self.held.insert(page.ranks.start, page);
    }

    /// The next page to deliver, when `cover` is answered for and the region begins at `start`.
    pub(super) fn due(&mut self, cover: &Cover, start: u64) -> Option<ScanPage> {
        let first = self.held.first_key_value()?.1;
        if self.ordered && !cover.covers(&(start..first.ranks.start)) {
            return None;
        }
        let (_, page) = self.held.pop_first()?;
        if self.ordered {
            // All of the region up to the end of this page; the parts before had no chunks.
            let before = self.delivered.intervals().next().map_or(start, |(ranks, _)| ranks.end);
            let added = self.delivered.add(&(before..page.ranks.end), page.entries.len() as u64);
            debug_assert!(added, "pages are disjoint and come in order");
        }
        Some(page)
    }

    /// Pages that wait, and the first rank of the last of them.
    pub(super) fn waiting(&self) -> (usize, u64) {
        (self.held.len(), self.held.last_key_value().map_or(0, |(start, _)| *start))
    }

    /// Drops the pages that wait: how many chunks they held, and the ranks that were delivered.
    pub(super) fn give_up(self) -> (u64, Cover) {
        (self.held.values().map(|page| page.entries.len() as u64).sum(), self.delivered)
    }
}
