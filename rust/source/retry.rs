//! When to ask again, and how long to wait before: jittered exponential back-off.
//!
//! Decides only; sending requests and counting them is the executor's business.

use std::time::Duration;

use super::page_error::PageErrorKind;

/// How persistent a listing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Requests for one page, the first included.
    pub attempts: u32,
    /// The longest wait after the first failure; it doubles with every further one.
    pub first: Duration,
    /// The longest wait of all.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 10, first: Duration::from_millis(100), longest: Duration::from_secs(15) }
    }
}

impl RetryPolicy {
    /// How long to wait after `failures` failed requests; `None` to give up.
    ///
    /// The wait is random between half and all of its bound, so that clients that failed
    /// together do not come back together.
    pub fn wait(&self, kind: PageErrorKind, failures: u32) -> Option<Duration> {
        let again = matches!(kind, PageErrorKind::Throttled | PageErrorKind::Transient);
        if !again || failures >= self.attempts {
            return None;
        }
        let doublings = failures.saturating_sub(1).min(20);
        let bound = self.first.saturating_mul(1 << doublings).min(self.longest);
        Some(bound.mul_f64(rand::random_range(0.5..=1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_end() {
        let policy = RetryPolicy::default();
        for (failures, bound) in [(1, 100), (2, 200), (5, 1600), (9, 15_000)] {
            let wait = policy.wait(PageErrorKind::Transient, failures).unwrap().as_millis();
            assert!((bound / 2 - 1..=bound).contains(&wait), "{failures}: {wait}");
        }
        assert_eq!(policy.wait(PageErrorKind::Transient, 10), None);
    }

    #[test]
    fn what_will_not_pass_is_not_asked_again() {
        let policy = RetryPolicy::default();
        for kind in [
            PageErrorKind::AccessDenied,
            PageErrorKind::Fatal,
            PageErrorKind::NotFound,
            PageErrorKind::Redirected,
            PageErrorKind::Unsupported,
        ] {
            assert_eq!(policy.wait(kind, 1), None);
        }
    }
}
