//! How many references a commit and a manifest hold, derived from the memory that may be used.
//!
//! The figures per reference were measured (`benches/manifest.rs`); what they leave out of account
//! is the process itself.

use std::time::Duration;

use crate::list::limit::{Concurrency, InFlight};

/// References of one manifest when memory allows: about 3 MB, which a reader fetches at once.
pub const DEFAULT_REFERENCES_PER_MANIFEST: u32 = 250_000;

/// The most references that other readers of Icechunk manifests accept (GDAL).
pub const MAX_REFERENCES_PER_MANIFEST: u32 = 1_000_000;

/// Fewer references than this are not worth a manifest of their own, if it can be helped.
const LEAST_REFERENCES_PER_MANIFEST: u32 = 50_000;

/// The most references of a commit: Icechunk's transaction logs end at 50 million chunks.
const MAX_REFERENCES_PER_COMMIT: u64 = 10_000_000;

/// The fewest references that are worth being listed and written by themselves, before others of
/// their commit: pages for all requests in flight, manifests for every core.
const LEAST_REFERENCES_AT_ONCE: u64 = 1_000_000;

/// A commit is listed and written in as many steps, if they are not too small for that.
const STEPS_OF_A_COMMIT: u64 = 8;

/// The memory that is used when nothing is said.
pub const DEFAULT_MEMORY: u64 = 192 << 20;

/// The least memory that an ingest can work with.
pub const LEAST_MEMORY: u64 = 16 << 20;

/// Bytes of a waiting reference: 16, with the room that its bucket has to spare and what the
/// allocator keeps. Its line in the transaction log takes less, when it is gone.
const BYTES_PER_REFERENCE: u64 = 29;

/// Bytes of a reference in a manifest that is being made and uploaded.
const BYTES_PER_REFERENCE_IN_THE_MAKING: u64 = 20;

/// Bytes of a reference in a manifest that Icechunk has read: the file, and what it is decompressed
/// to.
const BYTES_PER_REFERENCE_READ: u64 = 145;

/// Bytes of a page in flight, text and columns.
const BYTES_PER_PAGE: u64 = 400 << 10;

/// Pages in flight whose text may be in memory at the same time, more or less.
const PAGES_READ: u64 = 64;

/// Bytes of each further request in flight: what is left of a page when it has been read, and of those
/// that wait until it is their turn. With TLS a connection takes a hundred kilobytes besides;
/// references leave room for that, since they are written in steps.
const BYTES_PER_REQUEST: u64 = 75 << 10;

/// The same where connections keep small buffers: nothing needs to be left for these.
const BYTES_PER_REQUEST_WITH_SMALL_BUFFERS: u64 = 44 << 10;

/// The same where answers take so long that few of them wait at a time: what a connection's buffer of up
/// to 64 KB takes on average.
const BYTES_PER_REQUEST_FAR_AWAY: u64 = 24 << 10;

/// For 378 requests in flight, or 599 with small buffers and 1,024 far away.
const PLENTY_FOR_REQUESTS: u64 = 48 << 20;

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitOptions {
    /// Bytes for everything that grows with the work.
    pub memory: u64,
    /// At most this many references in a manifest.
    pub references_per_manifest: Option<u32>,
    /// At most this many references in a commit.
    pub references_per_commit: Option<u64>,
    /// About so many references are listed before the first of their commit are written.
    pub references_at_once: Option<u64>,
    /// LIST requests in flight.
    pub concurrency: Concurrency,
    /// Whether the connections to all sources keep small buffers.
    pub small_buffers: bool,
    /// Time between two LIST requests, at least.
    pub apart: Option<Duration>,
}

impl Default for LimitOptions {
    fn default() -> Self {
        Self {
            memory: DEFAULT_MEMORY,
            references_per_manifest: None,
            references_per_commit: None,
            references_at_once: None,
            concurrency: Concurrency::default(),
            small_buffers: false,
            apart: None,
        }
    }
}

/// How many references go where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLimits {
    /// At most this many references in a manifest.
    pub references_per_manifest: u32,
    /// Whether the user chose the size of manifests, so that it may not be changed.
    pub manifests_as_given: bool,
    /// At most this many references in a commit.
    pub references_per_commit: u64,
    /// About so many references are listed before the first of their commit are written.
    pub references_at_once: u64,
    /// LIST requests in flight that the memory has room for.
    pub in_flight: InFlight,
    /// Time between two LIST requests, at least.
    pub apart: Option<Duration>,
    /// Manifests that are built at the same time.
    pub builders: usize,
}

impl From<LimitOptions> for PlanLimits {
    fn from(options: LimitOptions) -> Self {
        let memory = options.memory.max(LEAST_MEMORY);
        let share = share_of_requests(memory);
        let (each, far_away) = if options.small_buffers {
            (BYTES_PER_REQUEST_WITH_SMALL_BUFFERS, BYTES_PER_REQUEST_FAR_AWAY)
        } else {
            (BYTES_PER_REQUEST, BYTES_PER_REQUEST)
        };
        let room = |each| requests_within(share, each);
        let in_flight = options.concurrency.in_flight_far_away(room(each), room(far_away));
        let taken = bytes_of(in_flight.near, each).max(bytes_of(in_flight.most, far_away));
        let rest = memory - taken.min(share);
        let builders = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        // A fifth for manifests in the making, the rest for references that wait for them.
        let in_the_making = rest / 5;
        let room = in_the_making / builders as u64 / BYTES_PER_REFERENCE_IN_THE_MAKING;
        let derived = u32::try_from(room)
            .unwrap_or(u32::MAX)
            .clamp(LEAST_REFERENCES_PER_MANIFEST, DEFAULT_REFERENCES_PER_MANIFEST);
        let possible = ((rest - in_the_making) / BYTES_PER_REFERENCE)
            .clamp(u64::from(LEAST_REFERENCES_PER_MANIFEST), MAX_REFERENCES_PER_COMMIT);
        let references_per_commit =
            options.references_per_commit.unwrap_or(possible).min(possible).max(1);
        let worthwhile = (references_per_commit / STEPS_OF_A_COMMIT).max(LEAST_REFERENCES_AT_ONCE);
        let references_at_once =
            options.references_at_once.unwrap_or(worthwhile).clamp(1, references_per_commit);
        let few = u32::try_from(references_per_commit).unwrap_or(u32::MAX);
        Self {
            references_per_manifest: options
                .references_per_manifest
                .unwrap_or_else(|| derived.min(few))
                .clamp(1, MAX_REFERENCES_PER_MANIFEST),
            manifests_as_given: options.references_per_manifest.is_some(),
            references_per_commit,
            references_at_once,
            in_flight,
            apart: options.apart,
            builders,
        }
    }
}

/// Of the memory, what requests in flight may take: a quarter, as long as that is not more than most
/// services can use. What they leave is for references, and the more of those the fewer commits.
fn share_of_requests(memory: u64) -> u64 {
    (memory / 4).min(PLENTY_FOR_REQUESTS.max(memory / 8))
}

/// Requests in flight that so many bytes have room for, where those that are not read take so many `each`.
fn requests_within(bytes: u64, each: u64) -> usize {
    let read = PAGES_READ * BYTES_PER_PAGE;
    let requests = match bytes.checked_sub(read) {
        Some(rest) => PAGES_READ + rest / each,
        None => bytes / BYTES_PER_PAGE,
    };
    usize::try_from(requests).unwrap_or(usize::MAX).max(1)
}

/// Bytes that so many requests in flight take.
fn bytes_of(requests: usize, each: u64) -> u64 {
    let requests = requests as u64;
    let read = requests.min(PAGES_READ);
    read * BYTES_PER_PAGE + (requests - read) * each
}

impl PlanLimits {
    /// References of manifests that may be read through Icechunk at a time, when none wait for a
    /// commit any more.
    #[must_use]
    pub fn references_read_at_once(&self) -> u32 {
        let room = self.references_per_commit.saturating_mul(BYTES_PER_REFERENCE);
        u32::try_from(room / BYTES_PER_REFERENCE_READ).unwrap_or(u32::MAX).max(1)
    }

    /// References of a manifest when `arrays` of them are filled side by side, so that a commit
    /// has room for one of each.
    #[must_use]
    pub fn references_per_manifest_of(&self, arrays: usize) -> u32 {
        if self.manifests_as_given {
            return self.references_per_manifest;
        }
        let share = self.references_per_commit / (arrays.max(1) as u64);
        let least = LEAST_REFERENCES_PER_MANIFEST.min(self.references_per_manifest);
        u32::try_from(share).unwrap_or(u32::MAX).clamp(least, self.references_per_manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_the_memory() {
        let of = |memory| PlanLimits::from(LimitOptions { memory, ..LimitOptions::default() });
        let (small, default, large) = (of(64 << 20), of(DEFAULT_MEMORY), of(4 << 30));
        assert_eq!(default.references_per_manifest, DEFAULT_REFERENCES_PER_MANIFEST);
        assert!(small.references_per_commit < default.references_per_commit);
        assert!(default.references_per_commit < large.references_per_commit);
        assert_eq!(large.references_per_commit, MAX_REFERENCES_PER_COMMIT);
        assert_eq!(default.in_flight, InFlight { begin: 64, most: 378, near: 378 });
        assert!(small.in_flight.most < 64);
        assert_eq!(large.in_flight, InFlight { begin: 64, most: 1_024, near: 1_024 });
        let options = LimitOptions { small_buffers: true, ..LimitOptions::default() };
        assert_eq!(
            PlanLimits::from(options).in_flight,
            InFlight { begin: 64, most: 1_024, near: 599 }
        );
        let fixed = |concurrency| {
            let options = LimitOptions { concurrency, ..LimitOptions::default() };
            PlanLimits::from(options).in_flight
        };
        assert_eq!(fixed(Concurrency::Fixed(256)), InFlight::fixed(256));
        assert_eq!(fixed(Concurrency::Fixed(9_999)), InFlight::fixed(378));
        // Less than the least is taken as that.
        assert_eq!(of(0), of(LEAST_MEMORY));
        assert!(small.references_per_commit > of(0).references_per_commit);
    }

    #[test]
    fn what_is_planned_fills_the_memory_and_no_more() {
        for memory in [64_u64 << 20, DEFAULT_MEMORY, 256 << 20] {
            let limits = PlanLimits::from(LimitOptions { memory, ..LimitOptions::default() });
            let requests = bytes_of(limits.in_flight.most, BYTES_PER_REQUEST);
            let waiting = limits.references_per_commit * BYTES_PER_REFERENCE;
            let each = u64::from(limits.references_per_manifest);
            let made = each * limits.builders as u64 * BYTES_PER_REFERENCE_IN_THE_MAKING;
            assert!(requests <= memory / 4 && requests + waiting + made <= memory, "{limits:?}");
            assert!(waiting > memory / 100 * 59, "{limits:?}");
            assert!(made > memory / 100 * 14 || each == 250_000, "{limits:?}");
            // Small buffers mean more requests, not more memory.
            let options = LimitOptions { memory, small_buffers: true, ..LimitOptions::default() };
            let small = PlanLimits::from(options);
            assert!(small.in_flight.most >= limits.in_flight.most, "{small:?}");
            let (one, other) = (small.references_per_commit, limits.references_per_commit);
            assert!(one.abs_diff(other) < other / 500, "{small:?}, {limits:?}");
            let near = bytes_of(small.in_flight.near, BYTES_PER_REQUEST_WITH_SMALL_BUFFERS);
            let far = bytes_of(small.in_flight.most, BYTES_PER_REQUEST_FAR_AWAY);
            assert!(near.max(far) <= memory / 4, "{small:?}");
        }
    }

    #[test]
    fn a_billion_references_take_few_commits_where_there_is_memory() {
        let of = |memory| PlanLimits::from(LimitOptions { memory, ..LimitOptions::default() });
        // Ten rows of a cube of a billion, not nine.
        assert_eq!(of(400 << 20).references_per_commit, MAX_REFERENCES_PER_COMMIT);
    }

    #[test]
    fn requests_take_the_bytes_that_they_have_room_in() {
        for each in [BYTES_PER_REQUEST, BYTES_PER_REQUEST_WITH_SMALL_BUFFERS] {
            let bytes = |requests| bytes_of(requests, each);
            assert_eq!((bytes(1), bytes(64)), (400 << 10, 64 * (400 << 10)));
            assert_eq!(bytes(66), bytes(64) + 2 * each);
            for requests in [1, 2, 63, 64, 65, 300] {
                assert_eq!(requests_within(bytes(requests), each), requests);
                assert_eq!(requests_within(bytes(requests + 1) - 1, each), requests);
            }
            assert_eq!(requests_within(0, each), 1);
        }
    }

    #[test]
    fn arrays_side_by_side_share_the_room_of_a_commit() {
        let of = |references| {
            let references_per_commit = Some(references);
            PlanLimits::from(LimitOptions { references_per_commit, ..LimitOptions::default() })
        };
        let shares = [0, 1, 3, 6, 100].map(|arrays| of(600_000).references_per_manifest_of(arrays));
        assert_eq!(shares, [250_000, 250_000, 200_000, 100_000, LEAST_REFERENCES_PER_MANIFEST]);
        assert_eq!(of(1_450_000).references_read_at_once(), 290_000);
        assert_eq!(of(1).references_read_at_once(), 1);
    }

    #[test]
    fn a_commit_is_listed_in_steps_that_are_worth_it() {
        let of = |references_per_commit| {
            let options = LimitOptions {
                memory: 1 << 30,
                references_per_commit: Some(references_per_commit),
                ..LimitOptions::default()
            };
            PlanLimits::from(options).references_at_once
        };
        let steps = [3, 1_500_000, 4_000_000, 10_000_000].map(of);
        assert_eq!(steps, [3, 1_000_000, 1_000_000, 1_250_000]);
    }

    #[test]
    fn what_the_user_says_is_obeyed() {
        let limits = PlanLimits::from(LimitOptions {
            references_per_manifest: Some(7),
            references_per_commit: Some(3),
            ..LimitOptions::default()
        });
        assert_eq!((limits.references_per_manifest, limits.references_per_commit), (7, 3));
        assert_eq!(limits.references_per_manifest_of(1_000), 7);
        let limits = PlanLimits::from(LimitOptions {
            references_per_commit: Some(3),
            ..LimitOptions::default()
        });
        assert_eq!(limits.references_per_manifest, 3);
    }
}
