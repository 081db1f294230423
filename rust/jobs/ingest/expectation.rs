//! How many chunks a part of an array is likely to hold, from what was found in others.

/// A few requests that found next to no hole found none: what they tell is that coarse.
const NEXT_TO_NONE: u64 = 64;

/// How many chunks a part of an array is expected to hold.
#[derive(Debug, Clone, Copy)]
pub(in crate::jobs) struct Expectation {
    /// Chunks that a part seen before had room for, and those that it held.
    seen: (u64, u64),
    /// Whether no more than a guess.
    guessed: bool,
    /// Whether somebody has looked, and no chunk was missing there.
    seen_full: bool,
}

impl Expectation {
    /// Of an array with room for `possible` chunks, `expected` of which exist.
    pub(super) fn new(possible: u64, expected: u64) -> Self {
        let full = possible - expected.min(possible) <= possible / NEXT_TO_NONE;
        let held = if full { possible } else { expected };
        Self { seen: (possible, held), guessed: expected < possible, seen_full: false }
    }

    /// The same where the number comes from a look at the array, if it was `looked_at`.
    pub(super) fn where_looked_at(self, looked_at: bool) -> Self {
        Self { seen_full: looked_at && !self.guessed, ..self }
    }

    /// A part with room for `possible` chunks held `found`.
    pub(super) fn learn(&mut self, possible: u64, found: u64) {
        self.suppose(possible, found);
        self.seen_full = found == possible;
    }

    /// A part with room for `possible` chunks is taken to hold `held`; nobody has seen that.
    pub(super) fn suppose(&mut self, possible: u64, held: u64) {
        self.seen_full = false;
        if self.guessed && possible > 0 {
            self.seen = (possible, held);
        }
    }

    /// Whether the last part seen held all that it had room for, so that the next very likely does.
    pub(super) fn is_full(self) -> bool {
        self.seen.1 >= self.seen.0
    }

    /// Whether no chunk was missing wherever somebody looked last; never without a look.
    pub(super) fn is_seen_full(self) -> bool {
        self.seen_full
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

    /// Chunks expected in a part like the one seen last.
    pub(super) fn in_all(self) -> u64 {
        self.of(self.seen.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_what_is_expected_and_a_little_more() {
        let mut sparse = Expectation::new(1_000, 500);
        assert_eq!((sparse.of(100), sparse.in_all(), sparse.is_full()), (63, 626, false));
        sparse.learn(100, 10);
        assert_eq!((sparse.of(100), sparse.of(1_000)), (13, 126));
        sparse.learn(100, 100);
        assert!(sparse.is_full() && sparse.of(64) == 64);
    }

    #[test]
    fn a_few_requests_that_found_next_to_no_hole_found_none() {
        let mut nearly = Expectation::new(10_000_000, 9_990_000);
        assert!(nearly.is_full());
        // But that is learned otherwise.
        nearly.learn(1_000_000, 10);
        assert!(!nearly.is_full() && nearly.of(1_000_000) < 100);
        assert!(!Expectation::new(6_400, 6_299).is_full());
        assert!(Expectation::new(6_400, 6_300).is_full());
    }

    #[test]
    fn of_what_has_not_been_looked_at_everything_is_expected() {
        let mut dense = Expectation::new(1_000, 1_000);
        dense.learn(100, 1);
        assert!(dense.is_full() && dense.of(77) == 77);
    }

    #[test]
    fn only_what_was_looked_at_is_seen_to_be_full() {
        let dense = Expectation::new(1_000, 1_000);
        assert!(!dense.is_seen_full() && !dense.where_looked_at(false).is_seen_full());
        assert!(!Expectation::new(1_000, 999).where_looked_at(true).is_seen_full());
        let mut dense = dense.where_looked_at(true);
        assert!(dense.is_seen_full());
        dense.learn(100, 99);
        assert!(!dense.is_seen_full());
        dense.learn(100, 100);
        assert!(dense.is_seen_full());
        dense.suppose(100, 100);
        assert!(!dense.is_seen_full() && dense.is_full());
    }
}
