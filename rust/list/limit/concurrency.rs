//! What a user says of the requests in flight: a number, or that it is to be found.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Requests in flight at the beginning, when their number is to be found.
pub const FIRST_CONCURRENCY: usize = 64;

/// Requests in flight at most, when their number is to be found.
pub const MOST_CONCURRENCY: usize = 1_024;

/// How many requests may be in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// As many as bring more answers a second; this process has one of so many shares.
    Auto {
        /// Processes that work side by side.
        shares: usize,
    },
    /// This many.
    Fixed(usize),
}

impl Default for Concurrency {
    fn default() -> Self {
        Self::Auto { shares: 1 }
    }
}

impl Concurrency {
    /// The number at the beginning and at most, where there is room for `room`.
    #[must_use]
    pub fn in_flight(self, room: usize) -> InFlight {
        let (begin, most) = match self {
            Self::Auto { shares } => {
                (FIRST_CONCURRENCY / shares.max(1), MOST_CONCURRENCY / shares.max(1))
            }
            Self::Fixed(number) => (number, number),
        };
        let most = most.min(room).max(1);
        InFlight { begin: begin.clamp(1, most), most, near: most }
    }

    /// The same where there is more room, for `far`, as long as few answers wait to be read at a time.
    #[must_use]
    pub fn in_flight_far_away(self, room: usize, far: usize) -> InFlight {
        let bounds = self.in_flight(room);
        match self {
            Self::Auto { .. } => {
                InFlight { most: self.in_flight(far).most.max(bounds.most), ..bounds }
            }
            Self::Fixed(_) => bounds,
        }
    }
}

/// The bounds of a number of requests in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct InFlight {
    /// At the beginning.
    pub begin: usize,
    /// At most; the same where the number is fixed.
    pub most: usize,
    /// At most where answers come so quickly that many may wait to be read.
    #[serde(skip)]
    pub near: usize,
}

impl InFlight {
    /// Always this many, and at least one.
    #[must_use]
    pub fn fixed(number: usize) -> Self {
        Concurrency::Fixed(number).in_flight(usize::MAX)
    }

    /// No more than so many.
    #[must_use]
    pub(super) fn no_more_than(self, room: usize) -> Self {
        let within = |number: usize| number.min(room.max(1));
        Self { begin: within(self.begin), most: within(self.most), near: within(self.near) }
    }

    /// Whether there is nothing to be found.
    #[must_use]
    pub fn is_fixed(self) -> bool {
        self.begin == self.most
    }
}

/// What is neither a number nor `auto`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("concurrency is \"auto\" or a number from 1 on, not {0:?}")]
pub struct UnknownConcurrency(String);

impl FromStr for Concurrency {
    type Err = UnknownConcurrency;

    /// `auto`, `auto/8` for an eighth of it, or a number.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let positive = |text: &str| text.parse().ok().filter(|number: &usize| *number > 0);
        let known = match text.strip_prefix("auto") {
            Some("") => Some(Self::default()),
            Some(rest) => {
                rest.strip_prefix('/').and_then(positive).map(|shares| Self::Auto { shares })
            }
            None => positive(text).map(Self::Fixed),
        };
        known.ok_or_else(|| UnknownConcurrency(text.to_owned()))
    }
}

impl fmt::Display for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto { shares: 1 } => f.write_str("auto"),
            Self::Auto { shares } => write!(f, "auto/{shares}"),
            Self::Fixed(number) => write!(f, "{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_are_read_and_nothing_else() {
        for text in ["auto", "auto/8", "1", "64", "5000"] {
            assert_eq!(text.parse::<Concurrency>().unwrap().to_string(), text);
        }
        for text in ["", "0", "-1", "many", "auto/", "auto/0", "auto8", "1.5", "Auto"] {
            text.parse::<Concurrency>().unwrap_err();
        }
    }

    #[test]
    fn bounds_keep_to_the_room_and_to_the_share() {
        let auto = Concurrency::default();
        let bounds = |begin, near, most| InFlight { begin, most, near };
        assert_eq!(auto.in_flight(usize::MAX), bounds(64, 1_024, 1_024));
        assert_eq!(auto.in_flight(100), bounds(64, 100, 100));
        assert_eq!(auto.in_flight(10), bounds(10, 10, 10));
        assert_eq!(auto.in_flight(0), bounds(1, 1, 1));
        assert_eq!(auto.in_flight_far_away(100, 5_000), bounds(64, 100, 1_024));
        assert_eq!(auto.in_flight_far_away(100, 50), bounds(64, 100, 100));
        assert_eq!(auto.in_flight_far_away(100, 5_000).no_more_than(90), bounds(64, 90, 90));
        assert_eq!(Concurrency::Fixed(200).in_flight_far_away(100, 5_000), InFlight::fixed(100));
        let share = Concurrency::Auto { shares: 8 };
        assert_eq!(share.in_flight(usize::MAX), bounds(8, 128, 128));
        let tiny = Concurrency::Auto { shares: 5_000 };
        assert_eq!(tiny.in_flight(usize::MAX), bounds(1, 1, 1));
        assert!(Concurrency::Fixed(2_000).in_flight(5_000).is_fixed());
        assert_eq!(Concurrency::Fixed(2_000).in_flight(5_000).most, 2_000);
        assert!(!auto.in_flight(100).is_fixed());
    }
}
