//! What is still to be listed, in order: parts that were put back, then the batches of the plan.

use std::collections::VecDeque;

use crate::grid::piece::{Piece, piece_of};
use crate::plan::{Batches, Part};
use crate::zarr::metadata::ArrayLayout;

/// The most parts that are listed as one unit.
const MOST_PARTS: usize = 10_000;

/// How many chunks a part of an array is expected to hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expectation {
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
pub(super) struct Plan<'a> {
    pub(super) batches: &'a Batches,
    /// Of all arrays, by position.
    pub(super) layouts: &'a [ArrayLayout],
    /// Of all arrays: batches are listed as far as a piece holds them.
    pub(super) pieces: &'a [&'a [Piece]],
}

impl Plan<'_> {
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
pub(super) struct Queue<'a> {
    plan: Plan<'a>,
    /// Of each array.
    pub(super) expectations: Vec<Expectation>,
    /// Parts of batches that were begun.
    back: VecDeque<Part>,
    next: u64,
    total: u64,
}

impl<'a> Queue<'a> {
    /// Everything from batch `next` on, and before it `rest`.
    pub(super) fn new(
        plan: Plan<'a>,
        expectations: Vec<Expectation>,
        next: u64,
        rest: impl Iterator<Item = Part>,
    ) -> Self {
        let total = plan.batches.count(plan.layouts);
        Self { plan, expectations, back: rest.collect(), next, total }
    }

    /// The next parts that are expected to hold no more than `room` chunks; when nothing fits, the
    /// next ones all the same if `at_least_one`.
    pub(super) fn take(&mut self, room: u64, at_least_one: bool) -> Vec<Part> {
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

    /// Puts parts back, to be taken before everything else.
    pub(super) fn put_back(&mut self, parts: Vec<Part>) {
        for part in parts.into_iter().rev() {
            self.back.push_front(part);
        }
    }

    /// The first batch of which nothing was taken.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Parts of earlier batches.
    pub(super) fn rest(&self) -> impl Iterator<Item = &Part> {
        self.back.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.back.is_empty() && self.next >= self.total
    }

    /// Chunks that a part is expected to hold.
    pub(super) fn expected(&self, part: &Part) -> u64 {
        let chunks = part.region.chunks();
        self.expectations.get(part.array).map_or(chunks, |expected| expected.of(chunks))
    }
}
