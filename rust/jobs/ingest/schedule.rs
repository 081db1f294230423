//! The work queue of an ingest: parts that were put back, then the batches of the plan, as many at
//! a time as are expected to fit a commit.
//!
//! Batches are sized by what is expected, and expectations learn from what is found: sparse
//! neighbours are taken together, and a part that holds more than a commit may is cut in two. All of
//! it is arithmetic; listing and committing are not done here.

use std::collections::{BTreeMap, VecDeque};

use crate::grid::piece::{Piece, piece_of};
use crate::plan::{Batches, Part, PlanLimits};
use crate::zarr::metadata::ArrayLayout;

/// The most parts that are listed as one unit.
const MOST_PARTS: usize = 10_000;

/// How many chunks a part of an array is expected to hold.
#[derive(Debug, Clone, Copy)]
pub(in crate::jobs) struct Expectation {
    /// Chunks that a part seen before had room for, and those that it held.
    seen: (u64, u64),
    /// Whether no more than a guess.
    guessed: bool,
}

impl Expectation {
    /// Of an array with room for `possible` chunks, `expected` of which exist.
    pub(super) fn new(possible: u64, expected: u64) -> Self {
        Self { seen: (possible, expected), guessed: expected < possible }
    }

    /// A part with room for `possible` chunks held `found`.
    pub(super) fn learn(&mut self, possible: u64, found: u64) {
        if self.guessed && possible > 0 {
            self.seen = (possible, found);
        }
    }

    /// Chunks expected where there is room for `possible`: rather too many than too few.
    pub(super) fn of(self, possible: u64) -> u64 {
        let (room, held) = self.seen;
        if !self.guessed || room == 0 {
            return possible;
        }
        let share = u128::from(possible) * u128::from(held) / u128::from(room);
        let with_margin = u64::try_from(share + share / 4 + 1).unwrap_or(u64::MAX);
        with_margin.min(possible)
    }
}

/// What is to be listed, and in which order.
#[derive(Clone, Copy)]
pub(in crate::jobs) struct Workload<'a> {
    pub(in crate::jobs) batches: &'a Batches,
    /// Of all arrays, by position.
    pub(in crate::jobs) layouts: &'a [ArrayLayout],
    /// Of all arrays: batches are listed as far as a piece holds them.
    pub(in crate::jobs) pieces: &'a [&'a [Piece]],
    /// Chunks along each dimension of an array's manifests.
    pub(in crate::jobs) splits: &'a [Vec<u32>],
}

impl Workload<'_> {
    /// What is to be listed of a batch. Every part lies in one piece.
    fn parts(&self, batch: u64) -> Vec<Part> {
        let mut within = Vec::new();
        for Part { array, region } in self.batches.parts(batch, self.layouts) {
            let pieces = self.pieces.get(array).copied().unwrap_or_default();
            let shared = pieces.iter().filter_map(|piece| piece.target.intersection(&region));
            within.extend(shared.map(|region| Part { array, region }));
        }
        within
    }

    /// Adds a part; one that continues the last part of its array becomes one with it, so that
    /// sparse neighbours are listed as one range.
    fn append(&self, parts: &mut Vec<Part>, part: Part) {
        let pieces = self.pieces.get(part.array).copied().unwrap_or_default();
        let last = parts.iter_mut().rev().take(64).find(|last| last.array == part.array);
        let joined = last.and_then(|last| {
            let joined = last.region.joined(&part.region)?;
            piece_of(pieces, &joined).is_some().then_some((last, joined))
        });
        match joined {
            Some((last, joined)) => last.region = joined,
            None => parts.push(part),
        }
    }
}

/// The parts that are still to be listed.
pub(in crate::jobs) struct Schedule<'a> {
    plan: Workload<'a>,
    limits: PlanLimits,
    /// Of each array.
    expectations: Vec<Expectation>,
    /// Parts of batches that were begun.
    back: VecDeque<Part>,
    /// What others are at work on, by the number of their unit.
    lent: BTreeMap<u64, Vec<Part>>,
    units: u64,
    next: u64,
    total: u64,
}

/// What is lent: the number of the unit, its batches, if it is made of whole ones, and its parts.
pub(super) type Loan = (u64, Option<(u64, u64)>, Vec<Part>);

/// What is left to be done at some time.
pub(super) struct Mark {
    /// The first batch of which nothing was taken.
    pub(super) next: u64,
    /// Whether nothing is left.
    pub(super) all: bool,
    /// Parts of earlier batches, lent ones included.
    pub(super) rest: Vec<Part>,
}

impl<'a> Schedule<'a> {
    /// Everything from batch `next` on, and before it `rest`.
    pub(in crate::jobs) fn new(
        plan: Workload<'a>,
        limits: PlanLimits,
        expectations: Vec<Expectation>,
        next: u64,
        rest: impl Iterator<Item = Part>,
    ) -> Self {
        let total = plan.batches.count(plan.layouts);
        let (back, lent) = (rest.collect(), BTreeMap::new());
        Self { plan, limits, expectations, back, lent, units: 0, next, total }
    }

    /// The next parts, to be listed together; none when those that follow do not fit a commit of
    /// which `references` are ready, or when everything has been taken.
    ///
    /// What is known to be too much for a commit is cut before it is listed in vain.
    pub(super) fn take(&mut self, references: u64) -> Vec<Part> {
        let room = self.limits.references_per_commit.saturating_sub(references);
        self.take_at_most(room, references == 0)
    }

    fn take_at_most(&mut self, room: u64, at_least_one: bool) -> Vec<Part> {
        loop {
            let parts = self.take_within(room, at_least_one);
            if let [part] = parts.as_slice()
                && self.expected(part) > self.limits.references_per_commit
                && let Some(halves) = self.halves(part)
            {
                self.put_back(halves);
                continue;
            }
            return parts;
        }
    }

    /// The next parts that are expected to hold no more than `room` chunks; when nothing fits, the
    /// next ones all the same if `at_least_one`.
    fn take_within(&mut self, room: u64, at_least_one: bool) -> Vec<Part> {
        let mut taken: Vec<Part> = Vec::new();
        let mut held = 0_u64;
        while taken.len() < MOST_PARTS {
            let put_back = self.back.front().cloned();
            let parts = match &put_back {
                Some(part) => vec![part.clone()],
                None if self.next < self.total => self.plan.parts(self.next),
                None => break,
            };
            let expected = parts.iter().map(|part| self.expected(part));
            let more = expected.fold(0, u64::saturating_add);
            if held.saturating_add(more) > room && !(taken.is_empty() && at_least_one) {
                break;
            }
            held = held.saturating_add(more);
            if put_back.is_some() {
                self.back.pop_front();
            } else {
                self.next += 1;
            }
            for part in parts {
                self.plan.append(&mut taken, part);
            }
        }
        taken
    }

    /// A part was listed completely and held `found` chunks.
    pub(super) fn learn(&mut self, part: &Part, found: u64) {
        if let Some(expected) = self.expectations.get_mut(part.array) {
            expected.learn(part.region.chunks(), found);
        }
    }

    /// Puts parts back whose listing was given up, with the chunks that it had found of each. When
    /// `alone` nothing else is in the commit: one part that fills it by itself is cut in two.
    pub(super) fn give_up(&mut self, given_up: Vec<(Part, u64)>, alone: bool) {
        for (part, found) in &given_up {
            // At least as full as that: what is left is taken in smaller bites.
            self.learn(part, found.saturating_mul(2).min(part.region.chunks()));
        }
        let mut parts: Vec<_> = given_up.into_iter().map(|(part, _)| part).collect();
        if let ([part], true) = (parts.as_slice(), alone)
            && let Some(halves) = self.halves(part)
        {
            parts = halves;
        }
        self.put_back(parts);
    }

    /// A part cut in two, where its manifests end if that is possible.
    fn halves(&self, part: &Part) -> Option<Vec<Part>> {
        let split = self.plan.splits.get(part.array).map_or(&[][..], Vec::as_slice);
        let (low, high) = part.region.halves(split)?;
        let array = part.array;
        Some(vec![Part { array, region: low }, Part { array, region: high }])
    }

    /// Lends the next parts of about `room` expected chunks to somebody else: of whole batches, or
    /// of what was left over of others.
    pub(super) fn lend(&mut self, room: u64) -> Option<Loan> {
        let left_over = !self.back.is_empty();
        let first = self.next;
        let (next, total) = (self.next, self.total);
        if left_over {
            // What is left over is not mixed with batches.
            self.total = next;
        }
        let parts = self.take_at_most(room, true);
        self.total = total;
        if parts.is_empty() {
            // A batch may have no part within the pieces.
            return if self.is_empty() { None } else { self.lend(room) };
        }
        // One that had to be cut is no whole batch any more.
        let whole = !left_over && self.back.is_empty();
        let number = self.units;
        self.units += 1;
        self.lent.insert(number, parts.clone());
        Some((number, whole.then_some((first, self.next)), parts))
    }

    /// What comes after all that was taken.
    pub(super) fn next_parts(&self) -> Vec<Part> {
        if self.next < self.total { self.plan.parts(self.next) } else { Vec::new() }
    }

    /// Lends the next batch too, to whom the batches before it are lent: where these end then, and
    /// all parts.
    pub(super) fn lend_more(&mut self, number: u64) -> Option<(u64, Vec<Part>)> {
        let more = self.next_parts();
        let parts = self.lent.get_mut(&number)?;
        for part in more {
            self.plan.append(parts, part);
        }
        self.next = self.total.min(self.next + 1);
        Some((self.next, parts.clone()))
    }

    /// A unit that was lent is done.
    pub(super) fn returned(&mut self, number: u64) {
        self.lent.remove(&number);
    }

    /// A unit that was lent is to be done again.
    pub(super) fn take_back(&mut self, number: u64) {
        let parts = self.lent.remove(&number).unwrap_or_default();
        self.put_back(parts);
    }

    /// The number under which parts were lent.
    pub(super) fn lent_as(&self, parts: &[Part]) -> Option<u64> {
        self.lent.iter().find(|(_, lent)| lent.as_slice() == parts).map(|(number, _)| *number)
    }

    /// Lends a unit that somebody has done already, if nothing of it was done otherwise.
    pub(super) fn claim(&mut self, batches: Option<(u64, u64)>, parts: &[Part]) -> Option<u64> {
        if parts.iter().all(|part| self.back.contains(part)) {
            self.back.retain(|part| !parts.contains(part));
        } else {
            let (first, end) = batches
                .filter(|(first, end)| self.next <= *first && first < end && *end <= self.total)?;
            for batch in self.next..first {
                let between = self.plan.parts(batch);
                self.back.extend(between);
            }
            self.next = end;
        }
        let number = self.units;
        self.units += 1;
        self.lent.insert(number, parts.to_vec());
        Some(number)
    }

    /// Whether nothing is left to be done by anybody.
    pub(super) fn is_done(&self) -> bool {
        self.is_empty() && self.lent.is_empty()
    }

    /// Chunks that are expected in what nobody has begun.
    pub(super) fn expected_left(&self) -> u64 {
        let all: u64 = self
            .expectations
            .iter()
            .map(|expected| expected.of(expected.seen.0))
            .fold(0, u64::saturating_add);
        let left = u128::from(self.total.saturating_sub(self.next));
        let share = u128::from(all) * left / u128::from(self.total.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// What nobody has begun: arrays, and boxes of them as text.
    pub(super) fn missing(&self) -> Vec<(usize, String)> {
        let mut parts: Vec<Part> = self.back.iter().cloned().collect();
        for batch in self.next..self.total.min(self.next.saturating_add(MOST_PARTS as u64)) {
            parts.extend(self.plan.parts(batch));
        }
        parts.iter().map(|part| (part.array, format!("{:?}", part.region.ranges()))).collect()
    }

    /// Puts parts back, to be taken before everything else.
    pub(super) fn put_back(&mut self, parts: Vec<Part>) {
        for part in parts.into_iter().rev() {
            self.back.push_front(part);
        }
    }

    /// What is left to be done now.
    pub(super) fn mark(&self) -> Mark {
        Mark { next: self.next, all: self.is_done(), rest: self.rest().cloned().collect() }
    }

    /// Parts of earlier batches, lent ones included.
    pub(super) fn rest(&self) -> impl Iterator<Item = &Part> {
        self.back.iter().chain(self.lent.values().flatten())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.back.is_empty() && self.next >= self.total
    }

    /// Chunks that a part is expected to hold.
    fn expected(&self, part: &Part) -> u64 {
        let chunks = part.region.chunks();
        self.expectations.get(part.array).map_or(chunks, |expected| expected.of(chunks))
    }

    /// Chunks that parts are expected to hold together.
    pub(super) fn expected_of(&self, parts: &[Part]) -> u64 {
        parts.iter().map(|part| self.expected(part)).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ExpectedArray, LimitOptions};
    use crate::testing::layout;
    use crate::zarr::metadata::ArraySpec;

    /// Gives the schedule of one array of 64 chunks, of which `expected` exist, in manifests of
    /// `split` chunks and commits of 8 references.
    fn with_schedule(expected: u64, split: u32, test: impl FnOnce(Schedule<'_>)) {
        let layout = layout(&[64]);
        let (path, source_path, document) = ("/x".to_owned(), "x".to_owned(), Vec::new());
        let spec = ArraySpec { path, source_path, document, layout: layout.clone(), copied: false };
        let pieces = [Piece::whole(0, &spec)];
        let splits = [vec![split]];
        let known = ExpectedArray {
            array: 0,
            layout: &layout,
            leading: None,
            split: vec![split],
            expected,
        };
        let batches = Batches::new(&[known], 8);
        let options = LimitOptions { references_per_commit: Some(8), ..LimitOptions::default() };
        let plan = Workload {
            batches: &batches,
            layouts: std::slice::from_ref(&layout),
            pieces: &[&pieces],
            splits: &splits,
        };
        let expectations = vec![Expectation::new(64, expected)];
        test(Schedule::new(plan, PlanLimits::from(options), expectations, 0, std::iter::empty()));
    }

    /// First chunk of each part, and the first one behind it.
    fn ranges(parts: &[Part]) -> Vec<(u32, u32)> {
        let bounds = |part: &Part| (part.region.ranges()[0].start, part.region.ranges()[0].end);
        parts.iter().map(bounds).collect()
    }

    #[test]
    fn what_is_expected_to_fit_a_commit_is_taken_and_no_more() {
        with_schedule(64, 4, |mut schedule| {
            assert_eq!(ranges(&schedule.take(0)), [(0, 8)]);
            assert!(schedule.take(8).is_empty() && !schedule.is_empty());
            assert_eq!(ranges(&schedule.take(0)), [(8, 16)]);
            assert_eq!(schedule.mark().next, 2);
        });
    }

    #[test]
    fn what_was_given_up_comes_first_and_halved_when_it_was_alone() {
        with_schedule(4, 4, |mut schedule| {
            let parts = schedule.take(0);
            let given_up = |parts: &[Part]| vec![(parts[0].clone(), 9)];
            assert_eq!(ranges(&parts), [(0, 64)]);
            schedule.give_up(given_up(&parts), false);
            assert_eq!(ranges(&schedule.rest().cloned().collect::<Vec<_>>()), [(0, 64)]);
            // Now known to be too much for a commit, however much is ready: cut until it is not.
            let halved = schedule.take(0);
            assert_eq!(halved.len(), 1);
            let (start, end) = ranges(&halved)[0];
            assert!(start == 0 && end < 64, "{start}..{end}");
            schedule.give_up(given_up(&halved), true);
            let rest = ranges(&schedule.rest().cloned().collect::<Vec<_>>());
            assert_eq!(rest[..2], [(0, end / 2), (end / 2, end)]);
            assert_eq!(rest.iter().map(|(start, end)| end - start).sum::<u32>(), 64);
        });
    }

    #[test]
    fn sparse_neighbours_are_taken_together_once_they_are_known_to_be_sparse() {
        with_schedule(32, 4, |mut schedule| {
            let first = schedule.take(0);
            schedule.learn(&first[0], 0);
            let next = schedule.take(0);
            assert_eq!(ranges(&next), [(ranges(&first)[0].1, 64)]);
            assert!(schedule.is_empty());
        });
    }

    #[test]
    fn nothing_is_lost_or_taken_twice() {
        with_schedule(64, 1, |mut schedule| {
            let mut seen = Vec::new();
            let mut failures = 5;
            while !schedule.is_empty() {
                let parts = schedule.take(0);
                if failures > 0 {
                    failures -= 1;
                    schedule.give_up(parts.into_iter().map(|part| (part, 9)).collect(), true);
                    continue;
                }
                seen.extend(ranges(&parts).into_iter().flat_map(|(start, end)| start..end));
            }
            assert_eq!(seen, (0..64).collect::<Vec<_>>());
        });
    }
}
