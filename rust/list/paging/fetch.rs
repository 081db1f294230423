//! One page, got within the limit on requests in flight and with retries.
//!
//! Counts what it costs. What the page says is looked at elsewhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{SOURCE_ACCESS_HINT, network_hint};
use crate::list::limit::ConcurrencyLimit;
use crate::list::stats::ListStats;
use crate::source::page::{Page, PageError, PageErrorKind, PageRequest, PageSource, StartAfter};
use crate::source::retry::RetryPolicy;
use crate::{Error, ErrorKind};

/// Sends requests for one listing.
#[derive(Clone)]
pub(crate) struct Fetcher {
    pub(crate) source: Arc<dyn PageSource>,
    pub(crate) limit: Arc<ConcurrencyLimit>,
    pub(crate) retry: RetryPolicy,
    pub(crate) stats: Arc<Mutex<ListStats>>,
}

impl Fetcher {
    /// The page for `request`, after as many attempts as the policy allows.
    ///
    /// Its keys are greater than the string to start after. A service that includes that string is
    /// asked for one key more, which is taken off and tells whether the start was honoured
    /// ([`Page::found_start`]).
    pub(crate) async fn page(&self, request: PageRequest<'_>) -> Result<Page, PageError> {
        let mut failures = 0;
        loop {
            let permit = self.limit.acquire().await;
            let is_request = self.source.capabilities().sends_requests;
            self.stats().list_requests += u64::from(is_request);
            let error = match self.once(request).await {
                Ok(page) => {
                    // What a neighbour has asked for says nothing of the service.
                    if page.other_requests >= 0 {
                        permit.answered(page.waiting);
                    } else {
                        drop(permit);
                    }
                    let mut stats = self.stats();
                    stats.list_requests =
                        stats.list_requests.saturating_add_signed(page.other_requests);
                    stats.keys_listed += page.len() as u64;
                    drop(stats);
                    return Ok(page);
                }
                Err(error) => error,
            };
            if error.kind == PageErrorKind::Throttled {
                permit.throttled();
            } else {
                drop(permit);
            }
            failures += 1;
            let Some(wait) = self.retry.wait(error.kind, failures) else {
                let message = match failures {
                    1 => error.message,
                    _ => format!("{} (after {failures} attempts)", error.message),
                };
                return Err(PageError { message, ..error });
            };
            self.stats().retries += 1;
            tokio::time::sleep(wait).await;
        }
    }

    /// One request; what the service can do may have been learned from the one before.
    async fn once(&self, request: PageRequest<'_>) -> Result<Page, PageError> {
        let capabilities = self.source.capabilities();
        let (StartAfter::Inclusive, Some(start)) = (capabilities.start_after, request.start_after)
        else {
            return self.source.page(request).await;
        };
        let max_keys = request.max_keys.saturating_add(1).min(capabilities.page_size.max(1));
        let page = self.source.page(PageRequest { max_keys, ..request }).await?;
        Ok(page.after(start))
    }

    pub(crate) fn stats(&self) -> MutexGuard<'_, ListStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error that a user sees when a page below `prefix` could not be got.
pub(crate) fn page_error(prefix: &str, error: &PageError) -> Error {
    let text = format!("cannot list '{prefix}': {}", error.message);
    match error.kind {
        PageErrorKind::AccessDenied => {
            Error::new(ErrorKind::Access, text).with_hint(error.hint.unwrap_or(SOURCE_ACCESS_HINT))
        }
        PageErrorKind::NotFound => Error::new(ErrorKind::SourceNotFound, text)
            .with_hint("check the bucket's name and the endpoint"),
        PageErrorKind::Throttled => Error::new(ErrorKind::Listing, text)
            .with_hint("the server asks for fewer requests: try again with a lower --concurrency"),
        PageErrorKind::Transient => Error::new(ErrorKind::Listing, text)
            .with_hint("check the endpoint and the network, then run the same command again"),
        PageErrorKind::Redirected => Error::new(ErrorKind::Listing, text).of_redirection("source"),
        PageErrorKind::Unsupported | PageErrorKind::Fatal => {
            let usual = "this server does not list as S3 does: check the endpoint";
            let hint = network_hint(&text, usual);
            Error::new(ErrorKind::Listing, text).with_hint(hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use futures::future::BoxFuture;
    use futures::{FutureExt as _, StreamExt as _};
    use tokio::time::Instant;

    use super::*;
    use crate::list::limit::Concurrency;

    /// Asks for so many pages, as many at a time as are found to be worth it.
    async fn all_pages(source: Arc<dyn PageSource>, pages: usize) -> Fetcher {
        let bounds = Concurrency::default().in_flight(usize::MAX);
        let fetcher = Fetcher {
            source,
            limit: ConcurrencyLimit::within(bounds, None),
            retry: RetryPolicy::default(),
            stats: Arc::default(),
        };
        futures::stream::iter(0..pages)
            .map(|_| fetcher.page(PageRequest::default()))
            .buffer_unordered(1_024)
            .for_each(|page| {
                assert!(page.is_ok());
                std::future::ready(())
            })
            .await;
        fetcher
    }

    /// Every tenth page comes at once, because a neighbour has asked for it.
    #[derive(Default)]
    struct Neighbours(AtomicU64);

    impl PageSource for Neighbours {
        fn page<'a>(&'a self, _: PageRequest<'a>) -> BoxFuture<'a, Result<Page, PageError>> {
            let shared = self.0.fetch_add(1, Ordering::Relaxed) % 10 == 9;
            async move {
                if !shared {
                    // Long, because how busy the threads are is measured in real time.
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
                Ok(Page { other_requests: -i64::from(shared), ..Page::default() })
            }
            .boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pages_of_neighbours_are_no_quick_answers_and_no_requests() {
        let fetcher = all_pages(Arc::new(Neighbours::default()), 5_000).await;
        let allowed = fetcher.limit.allowed();
        assert!(allowed > 400, "{allowed}");
        assert_eq!(fetcher.stats().list_requests, 4_500);
    }

    /// Refuses above so many requests a second, at once.
    struct Refusing {
        rate: f64,
        latency: Duration,
        left: Mutex<(f64, Instant)>,
        refused: AtomicU64,
    }

    impl PageSource for Refusing {
        fn page<'a>(&'a self, _: PageRequest<'a>) -> BoxFuture<'a, Result<Page, PageError>> {
            async move {
                let refused = {
                    let mut left = self.left.lock().unwrap();
                    let now = Instant::now();
                    left.0 += (now - left.1).as_secs_f64() * self.rate;
                    left.0 = left.0.min(self.rate / 10.0);
                    left.1 = now;
                    left.0 < 1.0 || {
                        left.0 -= 1.0;
                        false
                    }
                };
                tokio::time::sleep(self.latency).await;
                if refused {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(PageError::new(PageErrorKind::Throttled, "slow down"));
                }
                Ok(Page::default())
            }
            .boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_service_that_refuses_above_a_rate_refuses_few() {
        for (rate, millis) in [(300.0, 1), (600.0, 1), (600.0, 5), (600.0, 20)] {
            let begun = Instant::now();
            let source = Arc::new(Refusing {
                rate,
                latency: Duration::from_millis(millis),
                left: Mutex::new((rate / 10.0, begun)),
                refused: AtomicU64::new(0),
            });
            all_pages(Arc::clone(&source) as Arc<dyn PageSource>, 10_000).await;
            let seconds = begun.elapsed().as_secs_f64();
            let refused = source.refused.load(Ordering::Relaxed);
            let found = format!("{rate} {millis}: {seconds} s, {refused} refused");
            assert!(10_000.0 / seconds >= 0.9 * rate && refused <= 300, "{found}");
        }
    }
}
