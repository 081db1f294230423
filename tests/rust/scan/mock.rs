//! A server in memory whose faults are settings, and what a listing of it should find.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use refreeze::key_order::rank::KeyOrder;
use refreeze::key_order::rank_region::RankRegion;
use refreeze::list::ListStats;
use refreeze::list::array_keys::ArrayKeys;
use refreeze::list::limit::ConcurrencyLimit;
use refreeze::list::{ScanOptions, ranked::scan};
use refreeze::source::page::{
    Page, PageBuilder, PageCapabilities, PageError, PageErrorKind, PageRequest, PageSource,
    StartAfter,
};
use refreeze::source::retry::RetryPolicy;
use refreeze::zarr::key::ChunkKeyEncoding;
use refreeze::{Error, Result};

/// What a server does wrong (or differently).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Start-after is ignored: always, or when it is no key.
    IgnoresStart,
    IgnoresAbsentStart,
    /// Nothing follows any start-after, or any that is no key.
    NothingAfterStart,
    NothingAfterAbsentStart,
    /// Nothing follows a start-after that is a key.
    NothingAfterPresentStart,
    /// Says that it cannot.
    RefusesStart,
    /// A start-after that is a key is passed over, and the key that follows it too.
    PassesOverPresentStart,
    /// Pages in descending order; start-after and tokens count in that order, or start-after is a filter.
    Descending,
    /// In an order of its own, as the last; start-after is ignored or is a filter.
    Shuffled {
        filters: bool,
    },
    /// The first page again and again, with fresh tokens, or with the same.
    RepeatsFirstPage {
        fresh: bool,
    },
    /// Every answer to a token or start-after begins a page too early.
    Stutters,
    /// Never truncated, although pages are cut at the cap.
    NeverTruncated,
    /// The same of pages after the first of a listing, and start-after is ignored.
    CutsShort,
    /// Keys of other prefixes too.
    IgnoresPrefix,
    /// An empty truncated page before every page.
    EmptyPagesFirst,
    /// Five of them before every page, each with a token of its own, as some servers do.
    EmptyPagesRun,
    /// The same, but the token leads to itself, or to ever new tokens.
    EmptyPagesForever {
        fresh: bool,
    },
    /// The last page is truncated too.
    AlwaysTruncated {
        token: bool,
    },
    /// Truncated pages have no token.
    NoToken,
}

pub(crate) struct Server {
    keys: Vec<Vec<u8>>,
    /// The order in which an unordered server lists.
    shuffled: Vec<usize>,
    pub(crate) fault: Fault,
    /// Whether a page begins with the string to start after, or knows none.
    pub(crate) start_after: StartAfter,
    pub(crate) cap: usize,
    /// Pages may hold less than they are asked for, and how many is learned from them.
    pub(crate) learned: bool,
    /// The most requests in flight that the service has room for.
    pub(crate) most: Option<usize>,
    pub(crate) delay: Option<Duration>,
    /// The number of a request that takes a minute.
    pub(crate) late: Option<u64>,
    /// Of ten requests so many fail.
    pub(crate) failing: u8,
    pub(crate) requests: AtomicU64,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) most_in_flight: AtomicUsize,
    pub(crate) throttle_above: usize,
    pub(crate) refusal: Option<PageErrorKind>,
    /// Some keys are there or not, as it happens.
    pub(crate) churn: Option<u64>,
    pub(crate) log: Option<Mutex<Vec<String>>>,
    noise: AtomicU64,
}

impl Server {
    pub(crate) fn new(mut keys: Vec<Vec<u8>>) -> Self {
        keys.sort();
        keys.dedup();
        let mut shuffled: Vec<usize> = (0..keys.len()).collect();
        shuffled.sort_by_key(|index| (*index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7);
        Self {
            keys,
            shuffled,
            fault: Fault::None,
            start_after: StartAfter::Exclusive,
            cap: 1000,
            learned: false,
            most: None,
            delay: None,
            late: None,
            failing: 0,
            requests: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            throttle_above: usize::MAX,
            refusal: None,
            churn: None,
            log: None,
            noise: AtomicU64::new(1),
        }
    }

    fn random(&self) -> u64 {
        let state = self.noise.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 31)
    }

    /// Whether a key is created or deleted during the listing: one in seven, and with odd seeds
    /// all of the last ones.
    pub(crate) fn churns(&self, key: &str) -> bool {
        let Some(seed) = self.churn else { return false };
        let name = key.strip_prefix("a/").unwrap_or(key);
        seed % 2 == 1 && name.starts_with("c/99/") || Self::hash(seed, name) % 7 == 0
    }

    fn hash(seed: u64, name: &str) -> u64 {
        let hash = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3_u64);
        name.bytes().fold(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), hash) >> 20
    }

    /// Whether a key that churns is not there at this moment.
    fn is_away(&self, key: &str) -> bool {
        let Some(seed) = self.churn.filter(|_| self.churns(key)) else {
            return false;
        };
        let hash = Self::hash(seed, key.strip_prefix("a/").unwrap_or(key)) / 7;
        let changed = self.requests.load(Ordering::SeqCst) > hash / 2 % 80;
        changed == (hash % 2 == 0)
    }

    fn after(&self, start: &str) -> usize {
        self.keys.partition_point(|key| self.precedes(key, start))
    }

    /// Whether a key comes before what follows `start`.
    fn precedes(&self, key: &[u8], start: &str) -> bool {
        let same = self.start_after == StartAfter::Exclusive && key == start.as_bytes();
        same || key < start.as_bytes()
    }

    fn is_key(&self, text: &str) -> bool {
        self.keys.binary_search_by(|key| key.as_slice().cmp(text.as_bytes())).is_ok()
    }

    /// A truncated page without keys, before the one that begins at `from`.
    fn empty_page(&self, from: usize, token: Option<&str>) -> Page {
        let next = match self.fault {
            Fault::EmptyPagesRun => {
                let depth = token.and_then(|token| token.split('.').nth(1));
                let depth: u64 = depth.map_or(0, |depth| depth.parse().unwrap());
                format!("{}{from}.{}", if depth == 4 { 'e' } else { 'n' }, depth + 1)
            }
            Fault::EmptyPagesForever { fresh: true } => format!("n{from}.{}", self.random()),
            Fault::EmptyPagesForever { fresh: false } => format!("n{from}"),
            _ => format!("e{from}"),
        };
        PageBuilder::default().finish(true, Some(next))
    }

    /// The keys below a prefix in the order of this server, from a position in that order on.
    fn page_of(&self, request: PageRequest<'_>) -> Page {
        let prefix =
            if self.fault == Fault::IgnoresPrefix { &b""[..] } else { request.prefix.as_bytes() };
        let cap = self.cap.min(request.max_keys as usize);
        let start = request.start_after.filter(|_| request.token.is_none());
        let absent = start.is_some_and(|start| !self.is_key(start));
        let nothing = match self.fault {
            Fault::NothingAfterStart => start.is_some(),
            Fault::NothingAfterAbsentStart => absent,
            Fault::NothingAfterPresentStart => start.is_some() && !absent,
            _ => false,
        };
        if nothing {
            return Page::default();
        }
        let start = match self.fault {
            Fault::IgnoresStart
            | Fault::CutsShort
            | Fault::Shuffled { filters: false }
            | Fault::RepeatsFirstPage { .. } => None,
            Fault::IgnoresAbsentStart if absent => None,
            _ => start,
        };
        let token = request.token.map(|token| &token[1..]);
        let empties = matches!(
            self.fault,
            Fault::EmptyPagesFirst | Fault::EmptyPagesRun | Fault::EmptyPagesForever { .. }
        );
        if empties && request.token.is_none_or(|token| token.starts_with('n')) {
            let from = token.map_or_else(
                || start.map_or(0, |start| self.after(start)),
                |token| token.split('.').next().unwrap().parse().unwrap(),
            );
            return self.empty_page(from, token);
        }
        let key_at = |position: usize| match self.fault {
            Fault::Descending => &self.keys[self.keys.len() - 1 - position],
            Fault::Shuffled { .. } => &self.keys[self.shuffled[position]],
            _ => &self.keys[position],
        };
        let ordered = !matches!(self.fault, Fault::Descending | Fault::Shuffled { .. });
        let mut position = match token {
            _ if matches!(self.fault, Fault::RepeatsFirstPage { .. }) => 0,
            Some(token) => token.split('.').next().unwrap().parse().unwrap(),
            None => start.filter(|_| ordered).map_or(0, |start| self.after(start)),
        };
        if self.fault == Fault::PassesOverPresentStart && start.is_some() && !absent {
            position += 2;
        }
        if self.fault == Fault::Stutters && position > 0 {
            position = position.saturating_sub(cap);
        }
        let filter = start.filter(|_| !ordered);
        let mut builder = PageBuilder::default();
        let mut count = 0;
        let mut more = false;
        if ordered && position == 0 {
            position = self.keys.partition_point(|key| key.as_slice() < prefix);
        }
        while position < self.keys.len() {
            let key = key_at(position);
            if !key.starts_with(prefix) {
                if ordered && key.as_slice() > prefix {
                    break;
                }
                position += 1;
                continue;
            }
            if filter.is_some_and(|start| self.precedes(key, start)) {
                position += 1;
                continue;
            }
            if self.churn.is_some() && self.is_away(str::from_utf8(key).unwrap()) {
                position += 1;
                continue;
            }
            if count == cap {
                more = true;
                break;
            }
            builder.push(key, 7, 1, b"");
            count += 1;
            position += 1;
        }
        let truncated = match self.fault {
            Fault::NeverTruncated => false,
            Fault::CutsShort => more && request.token.is_none(),
            Fault::AlwaysTruncated { .. } => count > 0,
            Fault::RepeatsFirstPage { .. } => true,
            _ => more,
        };
        let token = match self.fault {
            Fault::NoToken | Fault::AlwaysTruncated { token: false } => None,
            Fault::RepeatsFirstPage { fresh: true } => Some(format!("n0.{}", self.random())),
            Fault::RepeatsFirstPage { fresh: false } => Some("n0".to_owned()),
            _ => Some(format!("n{position}")),
        };
        builder.finish(truncated, token.filter(|_| truncated))
    }
}

impl PageSource for Server {
    fn capabilities(&self) -> PageCapabilities {
        PageCapabilities {
            start_after: self.start_after,
            page_size: 5000,
            page_size_is_learned: self.learned,
            most_in_flight: self.most,
            ..PageCapabilities::default()
        }
    }

    fn page<'a>(
        &'a self,
        request: PageRequest<'a>,
    ) -> BoxFuture<'a, std::result::Result<Page, PageError>> {
        Box::pin(async move {
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            let guard = InFlight::new(&self.in_flight);
            self.most_in_flight.fetch_max(guard.now, Ordering::SeqCst);
            if let Some(delay) = self.delay {
                let share = u32::try_from(self.random() % 16).unwrap() + 8;
                tokio::time::sleep(delay * share / 16).await;
            }
            if self.late == Some(number) {
                tokio::time::sleep(Duration::from_mins(1)).await;
            }
            if guard.now > self.throttle_above {
                return Err(PageError::new(PageErrorKind::Throttled, "SlowDown"));
            }
            if self.random() % 10 < u64::from(self.failing) {
                return Err(PageError::new(PageErrorKind::Transient, "connection reset"));
            }
            if let Some(kind) = self.refusal {
                return Err(PageError::new(kind, "no"));
            }
            if self.fault == Fault::RefusesStart && request.start_after.is_some() {
                return Err(PageError::new(PageErrorKind::Unsupported, "no StartAfter here"));
            }
            let page = self.page_of(request);
            if let Some(log) = &self.log {
                let last = page.keys().next_back().map(String::from_utf8_lossy);
                log.lock().unwrap().push(format!(
                    "below {:?} after {:?} token {:?} max {} -> {} keys to {last:?}{}",
                    request.prefix,
                    request.start_after,
                    request.token,
                    request.max_keys,
                    page.len(),
                    if page.truncated { " …" } else { "" }
                ));
            }
            Ok(page)
        })
    }
}

struct InFlight<'a> {
    count: &'a AtomicUsize,
    now: usize,
}

impl<'a> InFlight<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        Self { count, now: count.fetch_add(1, Ordering::SeqCst) + 1 }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn encoding(name: &str, separator: &str) -> ChunkKeyEncoding {
    ChunkKeyEncoding::parse(name, separator).unwrap()
}

pub(crate) fn order(encoding: ChunkKeyEncoding, grid: &[u64]) -> Arc<KeyOrder> {
    Arc::new(KeyOrder::new(encoding, grid).unwrap())
}

pub(crate) fn options(page_size: u32, concurrency: usize) -> ScanOptions {
    let retry = RetryPolicy {
        attempts: 30,
        first: Duration::from_micros(100),
        longest: Duration::from_millis(1),
    };
    let limit = ConcurrencyLimit::new(concurrency);
    ScanOptions { page_size, retry, limit, ordered: false, full: false }
}

/// The chunks that a listing gave, sorted, and its statistics. Panics when one came twice, or
/// outside the region, or does not fit its key, or out of turn.
pub(crate) async fn listed(
    server: &Arc<Server>,
    keys: &ArrayKeys,
    region: &RankRegion,
    options: ScanOptions,
) -> (Result<Vec<Vec<u32>>, Error>, ListStats) {
    let ndim = keys.order().grid_shape().len();
    let ordered = options.ordered;
    let mut next = 0;
    let mut stream = scan(Arc::clone(server) as _, keys.clone(), region.clone(), options);
    let mut chunks = HashSet::new();
    let mut error = None;
    while let Some(page) = stream.next().await {
        let page = match page {
            Ok(page) => page,
            Err(failed) => {
                error = Some(failed);
                break;
            }
        };
        for (at, entry) in page.entries.iter().enumerate() {
            let coords = page.coords[at * ndim..(at + 1) * ndim].to_vec();
            assert!(region.contains(&coords));
            let key = keys.order().encoding().encode(&coords);
            assert_eq!(keys.relative(page.page.key(*entry as usize)), Some(key.as_bytes()));
            let rank = keys.order().rank(&coords).unwrap();
            assert!(page.ranks.contains(&rank));
            assert!(!ordered || rank >= next, "{coords:?} after a greater one");
            next = rank + 1;
            assert!(chunks.insert(coords.clone()), "{coords:?} twice");
        }
    }
    let stats = stream.stats();
    let mut chunks: Vec<_> = chunks.into_iter().collect();
    chunks.sort();
    if error.is_none() {
        assert_eq!(stats.chunks, chunks.len() as u64);
        assert_eq!(stats.list_requests, server.requests.load(Ordering::SeqCst));
    }
    (error.map_or(Ok(chunks), Err), stats)
}

/// Every coordinate of a box.
pub(crate) fn coordinates(ranges: &[Range<u64>]) -> Vec<Vec<u32>> {
    ranges.iter().fold(vec![vec![]], |heads, range| {
        heads
            .iter()
            .flat_map(|head| {
                range.clone().map(move |coord| {
                    let mut coords = head.clone();
                    coords.push(u32::try_from(coord).unwrap());
                    coords
                })
            })
            .collect()
    })
}
