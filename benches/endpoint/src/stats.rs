//! Counts what was asked of the endpoint and what that cost. Read by tests and benchmarks through
//! `Endpoint::stats` or `GET /__stats`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// Most LIST requests that the log keeps.
const LOG_LIMIT: usize = 200_000;

/// A snapshot of the counters since start or reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// LIST requests, those that failed included.
    pub list: u64,
    /// GET requests.
    pub get: u64,
    /// HEAD requests.
    pub head: u64,
    /// PUT requests.
    pub put: u64,
    /// DELETE requests.
    pub delete: u64,
    /// POST requests (uploads, bulk deletes).
    pub post: u64,
    /// Entries in pages that were sent.
    pub keys: u64,
    /// Bytes of pages that were sent.
    pub list_bytes: u64,
    /// Bytes of answers to GET requests, heads included.
    pub get_bytes: u64,
    /// LIST requests that a fault by rate, or `slow_down_above`, struck.
    pub struck: u64,
    /// LIST requests being answered now.
    pub in_flight: u64,
    /// The most LIST requests that were being answered at a time.
    pub max_in_flight: u64,
    /// User and system CPU time of this *process* since its start, milliseconds (10 ms steps;
    /// 0 where there is no `/proc`).
    pub cpu_ms: u64,
}

/// One LIST request as it came, and how many entries it got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedList {
    /// `prefix`
    pub prefix: String,
    /// `start-after`
    pub start_after: Option<String>,
    /// `continuation-token`
    pub token: Option<String>,
    /// `max-keys` as capped
    pub max_keys: usize,
    /// Entries in the answer; `None` when there was no page.
    pub count: Option<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub list: AtomicU64,
    pub get: AtomicU64,
    pub head: AtomicU64,
    pub put: AtomicU64,
    pub delete: AtomicU64,
    pub post: AtomicU64,
    pub keys: AtomicU64,
    pub list_bytes: AtomicU64,
    pub get_bytes: AtomicU64,
    pub struck: AtomicU64,
    pub in_flight: AtomicU64,
    pub max_in_flight: AtomicU64,
    log: Mutex<Vec<LoggedList>>,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            list: self.list.load(Relaxed),
            get: self.get.load(Relaxed),
            head: self.head.load(Relaxed),
            put: self.put.load(Relaxed),
            delete: self.delete.load(Relaxed),
            post: self.post.load(Relaxed),
            keys: self.keys.load(Relaxed),
            list_bytes: self.list_bytes.load(Relaxed),
            get_bytes: self.get_bytes.load(Relaxed),
            struck: self.struck.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            max_in_flight: self.max_in_flight.load(Relaxed),
            cpu_ms: cpu_ms(),
        }
    }

    /// Sets all but `in_flight` to zero.
    pub(crate) fn reset(&self) {
        for counter in [
            &self.list,
            &self.get,
            &self.head,
            &self.put,
            &self.delete,
            &self.post,
            &self.keys,
            &self.list_bytes,
            &self.get_bytes,
            &self.struck,
            &self.max_in_flight,
        ] {
            counter.store(0, Relaxed);
        }
        self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    pub(crate) fn count(&self, method: &str) {
        let counter = match method {
            "GET" => &self.get,
            "HEAD" => &self.head,
            "PUT" => &self.put,
            "DELETE" => &self.delete,
            _ => &self.post,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn record(&self, entry: LoggedList) {
        let mut log = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if log.len() < LOG_LIMIT {
            log.push(entry);
        }
    }

    pub(crate) fn log(&self) -> Vec<LoggedList> {
        self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// CPU time of this process; Linux counts it in hundredths of a second.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command's name may hold spaces; fields are counted after its closing bracket.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<u64>().ok()).sum::<u64>() * 10
}
