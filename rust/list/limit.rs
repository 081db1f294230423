//! How many requests may be in flight, and how many may be sent in a second: learned from the answers
//! within bounds (see `limit/controller.rs`), half of it after a `SlowDown`, and less where that is configured.
//! The bounds are the caller's, and that of the process's open files.
//!
//! One limit can be shared by the listings of several arrays of one store. What is requested is
//! not known here.

mod concurrency;
mod controller;
mod pace;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

pub use concurrency::{
    Concurrency, FIRST_CONCURRENCY, InFlight, MOST_CONCURRENCY, UnknownConcurrency,
};
use controller::Controller;

/// An adaptive bound on requests in flight.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    bounds: InFlight,
    begun: Instant,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    controller: Controller,
    busy: Busy,
}

/// How busy the threads of this process's runtime were.
#[derive(Debug, Default)]
struct Busy {
    /// When it was last asked, and for how long all threads together had been busy by then.
    last: (Duration, Duration),
}

/// The right to have one request in flight; given back when dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    limit: &'a ConcurrencyLimit,
    epoch: u64,
    sent: Instant,
}

impl ConcurrencyLimit {
    /// At most `most` requests in flight (and at least one).
    pub fn new(most: usize) -> Arc<Self> {
        Self::within(InFlight::fixed(most), None)
    }

    /// As many requests in flight as pay, within bounds, and no two of them sent closer together
    /// than `apart`, and no more than there are [sockets](within_open_files) for.
    pub fn within(bounds: InFlight, apart: Option<Duration>) -> Arc<Self> {
        let bounds = within_open_files(bounds);
        let state = State { controller: Controller::new(bounds, apart), busy: Busy::default() };
        Arc::new(Self {
            bounds,
            begun: Instant::now(),
            state: Mutex::new(state),
            freed: Notify::new(),
        })
    }

    /// The most that there may ever be.
    pub fn most(&self) -> usize {
        self.bounds.most
    }

    /// How many there may be at the beginning: so many are worth their price before anything is known.
    pub fn begin(&self) -> usize {
        self.bounds.begin
    }

    /// How many requests may be in flight now.
    pub fn allowed(&self) -> usize {
        self.state().controller.allowed()
    }

    /// Waits until a request may be sent.
    pub async fn acquire(&self) -> Permit<'_> {
        let mut permit = self.permit().await;
        loop {
            let turn = self.begun + self.state().controller.turn(permit.sent - self.begun);
            if turn > permit.sent {
                sleep_until(turn).await;
                permit.sent = Instant::now();
            }
            // There may have been a refusal meanwhile.
            if let Some(epoch) = self.state().controller.send(permit.sent - self.begun) {
                permit.epoch = epoch;
                return permit;
            }
        }
    }

    async fn permit(&self) -> Permit<'_> {
        loop {
            // Registered before the look, so that a permit freed in between is not missed.
            let freed = self.freed.notified();
            {
                let sent = Instant::now();
                let mut state = self.state();
                if state.controller.take(sent - self.begun) {
                    let more = state.controller.has_room();
                    drop(state);
                    if more {
                        self.freed.notify_one();
                    }
                    return Permit { limit: self, epoch: 0, sent };
                }
            }
            freed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The request was answered; when the answer came, so many others were `waiting` to be read.
    pub fn answered(self, waiting: u32) {
        let now = Instant::now();
        let mut state = self.limit.state();
        let State { controller, busy } = &mut *state;
        let since_begin = now - self.limit.begun;
        let latency = now - self.sent;
        controller.answered(since_begin, latency, waiting, || busy.since_last(since_begin));
    }

    /// The service asked for less.
    pub fn throttled(self) {
        let now = Instant::now() - self.limit.begun;
        self.limit.state().controller.throttled(now, self.epoch);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.limit.state().controller.give_back();
        self.limit.freed.notify_one();
    }
}

/// The same bounds, but no more than three quarters of the files that this process may open: each request
/// in flight has a socket.
#[must_use]
pub fn within_open_files(bounds: InFlight) -> InFlight {
    match open_files() {
        Some(files) => bounds.no_more_than(sockets_within(files)),
        None => bounds,
    }
}

/// Files, sockets among them, that this process may have open, if that has a limit: `ulimit -n`.
#[cfg(unix)]
fn open_files() -> Option<u64> {
    let (files, _) = rlimit::Resource::NOFILE.get().ok()?;
    (files != rlimit::INFINITY).then_some(files)
}

#[cfg(not(unix))]
fn open_files() -> Option<u64> {
    None
}

/// Of so many files, those that may be sockets of listings: a quarter is left for all others.
fn sockets_within(files: u64) -> usize {
    usize::try_from(files - files / 4).unwrap_or(usize::MAX)
}

impl Busy {
    /// The share of the time since the last call, from 0 to 1.
    fn since_last(&mut self, now: Duration) -> f64 {
        let Ok(runtime) = Handle::try_current() else { return 0.0 };
        let metrics = runtime.metrics();
        let threads = metrics.num_workers();
        let busy = (0..threads).map(|thread| metrics.worker_total_busy_duration(thread)).sum();
        let (before, busy_before) = std::mem::replace(&mut self.last, (now, busy));
        let elapsed = now.saturating_sub(before).as_secs_f64()
            * f64::from(u32::try_from(threads).unwrap_or(u32::MAX));
        if elapsed > 0.0 { busy.saturating_sub(busy_before).as_secs_f64() / elapsed } else { 0.0 }
    }
}

#[cfg(test)]
mod of_permits {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slowdown_halves_once_and_answers_bring_it_back() {
        let limit = ConcurrencyLimit::new(8);
        let mut permits = Vec::new();
        for _ in 0..8 {
            permits.push(limit.acquire().await);
        }
        for permit in permits {
            permit.throttled();
        }
        assert_eq!(limit.allowed(), 4);
        for _ in 0..200 {
            limit.acquire().await.answered(0);
        }
        assert_eq!(limit.allowed(), 8);
        for _ in 0..10 {
            limit.acquire().await.throttled();
        }
        assert_eq!(limit.allowed(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_as_far_apart_as_was_asked_for() {
        let limit = ConcurrencyLimit::within(InFlight::fixed(8), Some(Duration::from_millis(50)));
        let begun = Instant::now();
        for _ in 0..5 {
            limit.acquire().await.answered(0);
        }
        assert_eq!(begun.elapsed(), Duration::from_millis(200));
        // What was not used is not saved up.
        tokio::time::sleep(Duration::from_secs(9)).await;
        let begun = Instant::now();
        for _ in 0..3 {
            limit.acquire().await.answered(0);
        }
        assert_eq!(begun.elapsed(), Duration::from_millis(100));
    }

    #[tokio::test]
    async fn no_more_than_allowed_are_in_flight() {
        let limit = ConcurrencyLimit::new(2);
        let first = limit.acquire().await;
        let _second = limit.acquire().await;
        let third = tokio::spawn({
            let limit = Arc::clone(&limit);
            async move { drop(limit.acquire().await) }
        });
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        drop(first);
        third.await.unwrap();
    }
}
