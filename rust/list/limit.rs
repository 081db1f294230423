//! How many requests may be in flight: as configured, half of it after a `SlowDown`, then
//! slowly more again; and how many may be sent in a second, where that is bounded.
//!
//! One limit can be shared by the listings of several arrays of one store. What is requested is
//! not known here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

#[derive(Debug)]
struct State {
    allowed: usize,
    in_flight: usize,
    /// Answers since the limit last changed.
    answered: usize,
    /// Counts the decreases: requests sent before one do not cause another.
    epoch: u64,
}

/// An adaptive bound on requests in flight.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    most: usize,
    state: Mutex<State>,
    freed: Notify,
    pace: Option<Pace>,
}

/// A time at which each request may be sent, so that they are apart.
#[derive(Debug)]
struct Pace {
    apart: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// Waits until the next request may be sent.
    async fn turn(&self) {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + self.apart;
            turn
        };
        sleep_until(turn).await;
    }
}

/// The right to have one request in flight; given back when dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    limit: &'a ConcurrencyLimit,
    epoch: u64,
}

impl ConcurrencyLimit {
    /// At most `most` requests in flight (and at least one).
    pub fn new(most: usize) -> Arc<Self> {
        Self::paced(most, None)
    }

    /// The same, and no two of them sent closer together than `apart`.
    pub fn paced(most: usize, apart: Option<Duration>) -> Arc<Self> {
        let most = most.max(1);
        Arc::new(Self {
            most,
            state: Mutex::new(State { allowed: most, in_flight: 0, answered: 0, epoch: 0 }),
            freed: Notify::new(),
            pace: apart.map(|apart| Pace { apart, next: Mutex::new(Instant::now()) }),
        })
    }

    /// What was configured.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How many requests may be in flight now.
    pub fn allowed(&self) -> usize {
        self.state().allowed
    }

    /// Waits until a request may be sent.
    pub async fn acquire(&self) -> Permit<'_> {
        let permit = self.permit().await;
        if let Some(pace) = &self.pace {
            pace.turn().await;
        }
        permit
    }

    async fn permit(&self) -> Permit<'_> {
        loop {
            // Registered before the look, so that a permit freed in between is not missed.
            let freed = self.freed.notified();
            {
                let mut state = self.state();
                if state.in_flight < state.allowed {
                    state.in_flight += 1;
                    let more = state.in_flight < state.allowed;
                    let epoch = state.epoch;
                    drop(state);
                    if more {
                        self.freed.notify_one();
                    }
                    return Permit { limit: self, epoch };
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
    /// The request was answered: after two rounds of answers without a throttling, one more.
    pub fn answered(self) {
        let mut state = self.limit.state();
        state.answered += 1;
        if state.answered >= 2 * state.allowed && state.allowed < self.limit.most {
            state.allowed += 1;
            state.answered = 0;
        }
    }

    /// The service asked for less: half, once for all requests that were in flight together.
    pub fn throttled(self) {
        let mut state = self.limit.state();
        state.answered = 0;
        if self.epoch == state.epoch {
            state.epoch += 1;
            state.allowed = (state.allowed / 2).max(1);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.limit.state().in_flight -= 1;
        self.limit.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
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
        for _ in 0..8 {
            limit.acquire().await.answered();
        }
        assert_eq!(limit.allowed(), 5);
        for _ in 0..200 {
            limit.acquire().await.answered();
        }
        assert_eq!(limit.allowed(), 8);
        for _ in 0..10 {
            limit.acquire().await.throttled();
        }
        assert_eq!(limit.allowed(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_as_far_apart_as_was_asked_for() {
        let limit = ConcurrencyLimit::paced(8, Some(Duration::from_millis(50)));
        let begun = Instant::now();
        for _ in 0..5 {
            limit.acquire().await.answered();
        }
        assert_eq!(begun.elapsed(), Duration::from_millis(200));
        // What was not used is not saved up.
        tokio::time::sleep(Duration::from_secs(9)).await;
        let begun = Instant::now();
        for _ in 0..3 {
            limit.acquire().await.answered();
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
