//! Segments for a listing in the order of its keys: one page each, taken off the front.
//!
//! The region is not spread over the workers but consumed from its beginning: what one page is
//! expected to cover becomes a segment, the rest waits. Where a page answers for less, the
//! remainder is first in line for the next request.

use super::{Pace, Segment, Segments, State, reach};

impl Segments {
    /// The first segment that waits, by rank: where it begins, its name, and whether a request for
    /// a part before it is on its way.
    pub(in crate::list::ranked) fn first_ready(&self) -> Option<(u64, u64, bool)> {
        let ready = self.list.iter().filter(|segment| segment.state == State::Ready);
        let first = ready.min_by_key(|segment| segment.position)?;
        let before = |segment: &Segment| {
            segment.state == State::InFlight && segment.position < first.position
        };
        Some((first.position, first.id, self.list.iter().any(before)))
    }

    /// Leaves to segment `id` what one page is expected to answer for.
    ///
    /// The rest becomes a segment that waits, except above a claimed end of the listing: nothing is
    /// expected there, and one request for all of it is enough.
    pub(in crate::list::ranked) fn leave_a_page(&mut self, id: u64) {
        let ended = |segment: &Segment| segment.state == State::Ended;
        let Some(segment) = self.get(id).filter(|_| !self.list.iter().any(ended)) else {
            return;
        };
        let (floor, pace) = (segment.index, segment.pace);
        let Some(start) = self.region.next(segment.position) else { return };
        let ranks = self.safely(reach(self.page_size, pace.density), pace);
        let Some(end) = self.region.end_before(start.saturating_add(ranks.max(1))) else { return };
        let mut index = self.region.count_below(end);
        if !pace.is_full() {
            index = index.min(floor + self.safely(pace.per_page, pace).max(1));
        }
        if self.furthest.contains(&start) {
            // There is a gap: a page that begins later does not end earlier.
            index = index.max(self.region.count_below(self.furthest.end));
        }
        self.cut_at(id, index, floor);
    }

    /// What nearly every page answers for, when a mean one answers for `ranks`.
    ///
    /// Pages of a sparse array end where chance wants it. One that ends too early costs a request
    /// more, one that ends late only what the next has too: two and a half deviations are let go.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an estimate; the cast saturates"
    )]
    fn safely(&self, ranks: u64, pace: Pace) -> u64 {
        if pace.is_full() {
            return ranks;
        }
        let deviation = ((1.0 - pace.density) / self.page_size as f64).sqrt();
        (ranks as f64 * (1.0 - 2.5 * deviation).max(0.5)) as u64
    }

    /// Gives to segment `id` what follows it and waits untouched, up to `end`: the page that has come
    /// answers for that too.
    pub(in crate::list::ranked) fn take_over(
        &mut self,
        id: u64,
        end: u64,
        untouched: impl Fn(u64) -> bool,
    ) {
        while let Some(segment) = self.get(id)
            && segment.end < end
            && let Some(next) = self.list.iter().find(|next| next.position == segment.end)
            && next.state == State::Ready
            && untouched(next.id)
        {
            let (next, last, last_index) = (next.id, next.end, next.end_index);
            // Regression: what was left could be a gap between two ranges, with nothing to ask for.
            let nothing_left = self.region.count_below(end.min(last)) >= last_index;
            let end = if nothing_left { last } else { end.min(last) };
            let index = self.region.count_below(end);
            if end == last {
                self.remove(next);
            } else if let Some(next) = self.list.iter_mut().find(|other| other.id == next) {
                next.position = end;
                next.index = index;
            }
            if let Some(segment) = self.list.iter_mut().find(|segment| segment.id == id) {
                segment.end = end;
                segment.end_index = index;
            }
        }
    }

    /// Lets the next segment that waits above `position` have the pace of the pages that came last.
    pub(in crate::list::ranked) fn hand_on_pace(&mut self, position: u64) {
        let Some(pace) = self.recent else { return };
        let waiting = self.list.iter_mut().filter(|segment| segment.state == State::Ready);
        let next = waiting.filter(|segment| segment.position >= position);
        if let Some(next) = next.min_by_key(|segment| segment.position) {
            next.pace = pace;
        }
    }

    /// Takes note of the pace of one page: a mean, unless it has changed.
    pub(super) fn note_pace(&mut self, new: Pace) {
        self.recent = Some(match self.recent {
            Some(mean) if mean.is_like(new) => Pace {
                per_page: mean.per_page - mean.per_page / 8 + new.per_page / 8,
                density: mean.density + (new.density - mean.density) / 8.0,
            },
            _ => new,
        });
    }
}

impl Pace {
    /// Whether pages of both may be of an evenly filled array.
    fn is_like(self, other: Self) -> bool {
        let (less, more) = (self.per_page.min(other.per_page), self.per_page.max(other.per_page));
        more - less <= less / 2
    }
}
