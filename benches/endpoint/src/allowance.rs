//! How many requests a second are answered, where the configuration says a number.

use std::time::Instant;

/// Requests that may still come, at a rate.
#[derive(Debug)]
pub(crate) struct Allowance {
    requests: f64,
    at: Instant,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { requests: f64::MAX, at: Instant::now() }
    }
}

impl Allowance {
    /// Whether one more request may come, of `rate` a second.
    pub(crate) fn take(&mut self, rate: f64) -> bool {
        let now = Instant::now();
        let more = (now - self.at).as_secs_f64() * rate;
        self.requests = (self.requests + more).min((rate / 10.0).max(1.0));
        self.at = now;
        let allowed = self.requests >= 1.0;
        self.requests -= f64::from(u8::from(allowed));
        allowed
    }
}
