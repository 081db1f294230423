//! Rank space cut into segments, each listed by one chain of pages, and work stealing between them.
//!
//! Decides where chains begin and end and how much a request asks for, from the ranks that past
//! pages covered. Keys, requests and proofs are not known here.
//!
//! Cuts are made at multiples of the page size among the region's own ranks, so that in a dense
//! region every page but the last of a range is full, whoever lists it.

mod in_order;

use std::ops::Range;
use std::sync::Arc;

use crate::key_order::rank_region::RankRegion;
use crate::list::paging::inspect::Inspected;

/// What a chain does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Waits to be listed further.
    Ready,
    /// One of its pages is being asked for.
    InFlight,
    /// A page said that no key follows: nothing more to list, unless that turns out to be wrong.
    Ended,
}

/// What past pages of a chain tell about the next ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Ranks of the region that one page covers.
    per_page: u64,
    /// Keys for each rank of the grid, at most 1.
    density: f64,
}

/// Keys for each rank from which on pages are planned to the rank.
const FULL: f64 = 0.999;

impl Pace {
    /// Whether every chunk seems to be there.
    fn is_full(self) -> bool {
        self.density >= FULL
    }
}

/// A half-open interval of ranks and the chain of pages that lists it.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) id: u64,
    /// Ranks from here on are still to be listed, up to `end`.
    pub(super) position: u64,
    pub(super) end: u64,
    pub(super) state: State,
    /// `position` and `end` among the region's ranks.
    index: u64,
    end_index: u64,
    pace: Pace,
}

impl Segment {
    fn remaining(&self) -> u64 {
        self.end_index - self.index
    }
}

/// All segments that are not listed to their end.
#[derive(Debug)]
pub(super) struct Segments {
    region: Arc<RankRegion>,
    /// Whether every range of the region's ranks is as long as a page or longer.
    long_ranges: bool,
    /// Whether every page held all the chunks of the ranks that it covered.
    even: bool,
    /// Keys that a page is expected to hold, and that it is asked for.
    page_size: u64,
    asked: u64,
    /// Whether the first is known from a page, where the service does not tell.
    learned: bool,
    list: Vec<Segment>,
    next_id: u64,
    /// The most segments to cut at once: of a dense region, and of one whose segments cost pages.
    allowed: u64,
    most: u64,
    pages: u64,
    /// Pages that reached into the next segment, or held nothing.
    wasted: u64,
    /// What the pages that came last told.
    recent: Option<Pace>,
    /// From where to where the page went that went furthest.
    furthest: Range<u64>,
}

impl Segments {
    /// One segment from the first to the last rank of the region.
    pub(super) fn new(region: Arc<RankRegion>, page_size: u32, most: usize) -> Self {
        let page_size = u64::from(page_size.max(1));
        let bounds = region.bounds();
        let gapless = region.len() == bounds.end - bounds.start;
        let long_ranges = gapless || region.shortest_range() >= page_size;
        let mut segments = Self {
            region,
            long_ranges,
            even: true,
            page_size,
            asked: page_size,
            learned: false,
            list: Vec::new(),
            next_id: 0,
            allowed: most.max(1) as u64,
            most: most.max(1) as u64,
            pages: 0,
            wasted: 0,
            recent: None,
            furthest: 0..0,
        };
        if !bounds.is_empty() {
            segments.push(&bounds, Pace { per_page: page_size, density: 1.0 });
        }
        segments
    }

    /// Whether there may be more segments than at first because they cost nothing: they end where a
    /// page ends anyway, as long as every page was full. Between short ranges pages end anywhere.
    fn cuts_are_free(&self, pace: Pace) -> bool {
        self.allowed > self.most && self.long_ranges && self.even && pace.is_full()
    }

    /// So many segments may be listed at the same time, where they cost nothing.
    pub(super) fn allow(&mut self, allowed: usize) {
        self.allowed = allowed.max(1) as u64;
    }

    fn push(&mut self, ranks: &Range<u64>, pace: Pace) {
        self.list.push(Segment {
            id: self.next_id,
            position: ranks.start,
            end: ranks.end,
            state: State::Ready,
            index: self.region.count_below(ranks.start),
            end_index: self.region.count_below(ranks.end),
            pace,
        });
        self.next_id += 1;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.list.iter()
    }

    pub(super) fn get(&self, id: u64) -> Option<&Segment> {
        self.list.iter().find(|segment| segment.id == id)
    }

    pub(super) fn set_state(&mut self, id: u64, state: State) {
        if let Some(segment) = self.list.iter_mut().find(|segment| segment.id == id) {
            segment.state = state;
        }
    }

    /// The segment to list next: the longest that waits.
    pub(super) fn ready(&self) -> Option<u64> {
        let waiting = self.list.iter().filter(|segment| segment.state == State::Ready);
        waiting.max_by_key(|segment| segment.remaining()).map(|segment| segment.id)
    }

    /// The first rank that the next page of a segment is wanted for, and the most keys to ask for.
    ///
    /// A page reaches over the gaps to the following ranges of the region as long as it is expected
    /// to cover them, and is no longer than the last rank of those.
    pub(super) fn wanted(&self, id: u64) -> Option<(u64, u32)> {
        let segment = self.get(id)?;
        let start = self.region.next(segment.position)?;
        let reach = reach(self.asked, segment.pace.density);
        let end = self.region.end_before(start.saturating_add(reach).min(segment.end))?;
        let wanted = end.saturating_sub(start).clamp(1, self.asked);
        Some((start, u32::try_from(wanted).unwrap_or(u32::MAX)))
    }

    /// Moves a segment on to where its page ended; it is gone when nothing is left of it.
    pub(super) fn advance(&mut self, id: u64, page: &Inspected) {
        let Some(at) = self.list.iter().position(|segment| segment.id == id) else {
            return;
        };
        let Some(segment) = self.list.get_mut(at) else {
            return;
        };
        self.pages += 1;
        self.wasted += u64::from(page.end > segment.end);
        let start = self.region.next(segment.position).unwrap_or(segment.position);
        let covered = self.region.count_below(page.end).saturating_sub(segment.index);
        if page.end > start {
            // The second half of the page tells better what comes than the whole: there may have
            // been a long gap before.
            let middle = self.region.count_below(page.middle.max(segment.position));
            let half = (covered + segment.index).saturating_sub(middle);
            let per_page = if page.page.len() > 2 { covered.min(2 * half) } else { covered };
            segment.pace = Pace {
                per_page: per_page.max(1),
                density: ratio(page.page.len() as u64, page.end - start).min(1.0),
            };
        }
        segment.position = page.end.clamp(segment.position, segment.end);
        segment.index = self.region.count_below(segment.position).min(segment.end_index);
        let latest = segment.pace;
        self.even &= latest.is_full();
        if segment.remaining() == 0 {
            self.list.swap_remove(at);
        }
        if page.end > start {
            self.note_pace(latest);
        }
        if page.end > self.furthest.end {
            self.furthest = start..page.end;
        }
    }

    /// Takes note of how many keys a page held that was asked for as many as can be, and is not the
    /// last.
    pub(super) fn note_length(&mut self, keys: u64) {
        let known = if self.learned { self.page_size } else { 1 };
        self.page_size = keys.clamp(known, self.asked);
        self.learned = true;
    }

    /// Counts a page that held nothing.
    pub(super) fn count_empty(&mut self) {
        self.pages += 1;
        self.wasted += 1;
        self.even = false;
    }

    /// Removes a segment of which nothing is left to be listed.
    pub(super) fn remove(&mut self, id: u64) -> Option<Segment> {
        let at = self.list.iter().position(|segment| segment.id == id)?;
        Some(self.list.swap_remove(at))
    }

    /// After the first page: cuts the rest into segments of a page or more.
    pub(super) fn spread(&mut self) {
        let Some(segment) = self.list.first().cloned() else {
            return;
        };
        let pages = segment.remaining().div_ceil(segment.pace.per_page);
        let most = if self.cuts_are_free(segment.pace) { self.allowed } else { self.most };
        let parts = pages.min(most);
        for part in (1..parts).rev() {
            let share = u128::from(segment.remaining()) * u128::from(part) / u128::from(parts);
            let target = segment.index.saturating_add(u64::try_from(share).unwrap_or_default());
            self.cut(segment.id, target, segment.index);
        }
    }

    /// Takes the upper half of the longest chain away from it, when that saves a round trip.
    ///
    /// The new segment is ready. True when there was something to take.
    pub(super) fn steal(&mut self) -> bool {
        // In a sparse array a segment costs half a page more than the keys in it, so there must
        // not be too many: 1.75 for each request in flight at first, and one for every eleven pages.
        // Where every chunk is there they end with a page, and cost nothing.
        let costly =
            |segment: &&Segment| segment.state != State::Ended && !self.cuts_are_free(segment.pace);
        let active = self.list.iter().filter(costly).count();
        if 4 * (self.wasted + active as u64) >= 7 * self.most + self.pages * 4 / 11 {
            return false;
        }
        // Above a claimed end there is nothing to be had.
        let ended = self.list.iter().filter(|segment| segment.state == State::Ended);
        let ceiling = ended.map(|segment| segment.index).min().unwrap_or(u64::MAX);
        let mut best: Option<(f64, u64, u64, u64)> = None;
        for segment in self.list.iter().filter(|segment| segment.state == State::InFlight) {
            let per_page = segment.pace.per_page;
            let rest = segment.end_index.min(ceiling).saturating_sub(segment.index);
            let pages = ratio(rest, per_page);
            let least = if self.cuts_are_free(segment.pace) { 1.0 } else { 2.0 };
            if pages > least && best.is_none_or(|(most, ..)| pages > most) {
                // What the page on its way will cover is not up for taking.
                let floor = segment.index + per_page.min(self.page_size).saturating_sub(1);
                let target = segment.index + per_page + (rest - per_page).saturating_sub(1) / 2;
                best = Some((pages, segment.id, target, floor));
            }
        }
        best.is_some_and(|(_, id, target, floor)| self.cut(id, target, floor))
    }

    /// Ends segment `id` near index `target`, above index `floor`, and begins a new one there.
    fn cut(&mut self, id: u64, target: u64, floor: u64) -> bool {
        let Some(segment) = self.get(id) else {
            return false;
        };
        let end_index = segment.end_index;
        let fits = |index: &u64| *index > floor && *index < end_index;
        let candidates = [self.page_boundary(segment, target), self.end_of_ranges(target)];
        let index = candidates.into_iter().flatten().find(fits);
        index.is_some_and(|index| self.cut_at(id, index, floor))
    }

    /// Ends segment `id` at `index`, if that is above index `floor`, and begins a new one there.
    fn cut_at(&mut self, id: u64, index: u64, floor: u64) -> bool {
        let Some(segment) = self.get(id).filter(|segment| index < segment.end_index) else {
            return false;
        };
        if index <= floor {
            return false;
        }
        let (end, pace) = (segment.end, segment.pace);
        let Some(rank) = self.region.select(index) else {
            return false;
        };
        if let Some(segment) = self.list.iter_mut().find(|segment| segment.id == id) {
            segment.end = rank;
            segment.end_index = index;
        }
        self.push(&(rank..end), pace);
        true
    }
}

impl Segments {
    /// An index near `target` at which a dense region has a page end anyway.
    fn page_boundary(&self, segment: &Segment, target: u64) -> Option<u64> {
        let page = self.page_size;
        let round = |number: u64| number.saturating_add(page / 2) / page * page;
        let start = self.region.next(segment.position)?;
        let rank = self.region.select(target)?;
        let ranks = rank.checked_sub(start)?;
        // Where the region leaves out little, pages reach over the gaps and end at multiples of
        // the page size among all ranks.
        if ranks <= (target - segment.index).saturating_mul(5) / 4 {
            return Some(self.region.count_below(start.saturating_add(round(ranks))));
        }
        if self.long_ranges && segment.pace.is_full() {
            // Pages follow one another from the beginning of a range to its end.
            let begin = self.region.range_begin(rank, start);
            return Some(self.region.count_below(begin.saturating_add(round(rank - begin))));
        }
        Some(round(target))
    }

    /// The end of the range that `target` is in and of those within a page of it.
    fn end_of_ranges(&self, target: u64) -> Option<u64> {
        let mut end = self.region.range_from(self.region.select(target)?)?.end;
        // A bounded search: any end of a range will do.
        for _ in 0..16 {
            match self.region.end_before(end.saturating_add(self.page_size)) {
                Some(next) if next > end => end = self.region.range_from(next - 1)?.end,
                _ => break,
            }
        }
        Some(self.region.count_below(end))
    }
}

/// Ranks that a page of `page_size` keys is expected to cover at `density` keys a rank.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an estimate; the cast saturates"
)]
fn reach(page_size: u64, density: f64) -> u64 {
    (page_size as f64 / density.max(1e-18)) as u64
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}
