//! When the next request may be sent: at most so many a second, and none while a server has asked
//! to be left alone.
//!
//! Shared by everything that asks one server. What is asked is not known here.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
struct State {
    /// When the next request has its turn.
    next: Instant,
    /// Until when the server is left alone.
    held: Instant,
}

/// Spreads requests over time.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    state: Mutex<State>,
}

impl Pace {
    /// At most `most_per_second` requests a second; `None` for as many as there are.
    pub(super) fn new(most_per_second: Option<f64>) -> Self {
        let interval = most_per_second
            .and_then(|most| Duration::try_from_secs_f64(1.0 / most).ok())
            .unwrap_or_default();
        let now = Instant::now();
        Self { interval, state: Mutex::new(State { next: now, held: now }) }
    }

    /// Waits until a request may be sent.
    pub(super) async fn turn(&self) {
        loop {
            let at = self.reserve();
            tokio::time::sleep_until(at).await;
            // The server may have asked for silence meanwhile.
            let held = self.state.lock().unwrap_or_else(PoisonError::into_inner).held;
            if held <= Instant::now() {
                return;
            }
        }
    }

    fn reserve(&self) -> Instant {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let at = state.next.max(state.held).max(Instant::now());
        if !self.interval.is_zero() {
            state.next = at + self.interval;
        }
        at
    }

    /// Lets no request go before `wait` is over.
    pub(super) fn hold(&self, wait: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.held = state.held.max(Instant::now() + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_are_spread_and_wait_when_the_server_asks_for_it() {
        let pace = Pace::new(Some(10.0));
        let started = Instant::now();
        for _ in 0..11 {
            pace.turn().await;
        }
        assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
        pace.hold(Duration::from_secs(30));
        pace.turn().await;
        assert!(started.elapsed() >= Duration::from_secs(31), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_bound_nobody_waits() {
        let pace = Pace::new(None);
        let started = Instant::now();
        for _ in 0..1_000 {
            pace.turn().await;
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
