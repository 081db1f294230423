//! The work queue of an ingest: parts that were put back, then the batches of the plan, as many at
//! a time as are expected to fit a commit.
//!
//! Batches are sized by what is expected, and expectations learn from what is found: sparse
//! neighbours are taken together, and a part that holds more than a commit may is cut in two. All of
//! it is arithmetic; listing and committing are not done here.

use std::collections::{BTreeMap, VecDeque};

use super::expectation::Expectation;
use crate::grid::piece::{Piece, piece_of};
use crate::plan::{Batches, Part, PlanLimits};
use crate::zarr::metadata::ArrayLayout;

/// The most parts that are listed as one unit.
const MOST_PARTS: usize = 10_000;

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
#[derive(Clone)]
pub(in crate::jobs) struct Schedule<'a> {
    plan: Workload<'a>,
    limits: PlanLimits,
    /// References that are listed together, if they come in batches as small as that.
    at_once: u64,
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
        let at_once = limits.references_per_commit;
        Self { plan, limits, at_once, expectations, back, lent, units: 0, next, total }
    }

    /// Gives out less than whole commits at once, so that the manifests of some parts are written
    /// while others of the same commit are listed.
    #[must_use]
    pub(in crate::jobs) fn in_steps(self) -> Self {
        Self { at_once: self.limits.references_at_once, ..self }
    }

    pub(super) fn at_once(&self) -> u64 {
        self.at_once
    }

    /// Whether there is something that fits a commit of which `references` are ready.
    pub(super) fn has_more_for(&self, references: u64) -> bool {
        !self.clone().take(references).is_empty()
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

    /// The next parts that are expected to hold no more than `room` chunks, and as many as are given
    /// out at once; when nothing fits the room, the next ones all the same if `at_least_one`.
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
            let with_more = held.saturating_add(more);
            let fits = with_more <= room && (taken.is_empty() || with_more <= self.at_once);
            if !(fits || (taken.is_empty() && at_least_one)) {
                break;
            }
            held = with_more;
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

    /// What is taken after `parts`, one after the other, when all hold what they are expected to: for
    /// the same commit, of which `references` were ready before them, or for the next. With each of
    /// them, whether it is known, rather than guessed.
    pub(super) fn after(
        &self,
        parts: &[Part],
        references: u64,
    ) -> impl Iterator<Item = (Vec<Part>, bool)> + use<'_, 'a> {
        let mut held = references.saturating_add(self.expected_of(parts));
        let mut is_known = self.are_full(parts);
        // A copy is worth its price only where somebody asks.
        let mut later = None;
        std::iter::from_fn(move || {
            let later = later.get_or_insert_with(|| Box::new(self.clone()));
            let mut next = later.take(held);
            if next.is_empty() {
                held = 0;
                next = later.take(held);
            }
            held = held.saturating_add(later.expected_of(&next));
            let was_known = is_known;
            is_known &= later.are_full(&next);
            (!next.is_empty()).then_some((next, was_known))
        })
    }

    /// Whether parts are of arrays in which no chunk is expected to be missing.
    fn are_full(&self, parts: &[Part]) -> bool {
        let expected = |part: &Part| self.expectations.get(part.array);
        parts.iter().filter_map(expected).all(|expected| expected.is_full())
    }

    /// Of each array whether no chunk was missing wherever somebody looked last.
    pub(super) fn seen_full(&self) -> Vec<bool> {
        self.expectations.iter().map(|expected| expected.is_seen_full()).collect()
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
            if let Some(expected) = self.expectations.get_mut(part.array) {
                let possible = part.region.chunks();
                expected.suppose(possible, found.saturating_mul(2).min(possible));
            }
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
        let all: u64 =
            self.expectations.iter().map(|expected| expected.in_all()).fold(0, u64::saturating_add);
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
mod tests;
