//! How many requests may be in flight: as configured, half of it after a `SlowDown`, then
//! slowly more again.
//!
//! One limit can be shared by the listings of several arrays of one store. What is requested is
//! not known here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

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
        let most = most.max(1);
        Arc::new(Self {
            most,
            state: Mutex::new(State { allowed: most, in_flight: 0, answered: 0, epoch: 0 }),
            freed: Notify::new(),
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
