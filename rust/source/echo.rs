//! Whether a page is the answer to the request that was made.
//!
//! S3 and its kin repeat a request's start-after in the answer (`StartAfter` of `ListObjectsV2`).
//! A proxy or server that mixes up answers would make a listing skip what lies between: such a page
//! is in order and begins after its start.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::page::{Page, PageRequest};

/// So many contradictions without a single agreement: the server writes its echo in a way of its
/// own, which says nothing.
const MOST_CONTRADICTIONS: u32 = 6;

/// What is known of a server's echo.
#[derive(Debug, Default)]
pub(super) struct Echo {
    agreed: AtomicBool,
    contradicted: AtomicU32,
}

impl Echo {
    /// False when `page` is the answer to another request than `request`.
    pub(super) fn answers(&self, request: &PageRequest<'_>, page: &Page) -> bool {
        if request.token.is_some() {
            // Services differ in whether they repeat the start of a continued listing.
            return true;
        }
        let agreed = self.agreed.load(Ordering::Relaxed);
        match (request.start_after, page.echo.as_deref()) {
            (Some(asked), Some(echo)) if asked.as_bytes() == echo => {
                self.agreed.store(true, Ordering::Relaxed);
                true
            }
            (None, None) => true,
            // A server that is known to repeat it has left it out: the answer to another request.
            (Some(_), None) => !agreed,
            (_, Some(_)) => {
                !agreed && self.contradicted.fetch_add(1, Ordering::Relaxed) >= MOST_CONTRADICTIONS
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(echo: Option<&str>) -> Page {
        Page { echo: echo.map(|echo| echo.as_bytes().to_vec()), ..Page::default() }
    }

    fn request(start_after: Option<&str>) -> PageRequest<'_> {
        PageRequest { start_after, ..PageRequest::default() }
    }

    #[test]
    fn the_answer_to_another_request_is_noticed() {
        let echo = Echo::default();
        assert!(echo.answers(&request(None), &page(None)));
        assert!(!echo.answers(&request(Some("a/1")), &page(Some("a/9"))));
        assert!(echo.answers(&request(Some("a/1")), &page(Some("a/1"))));
        for _ in 0..20 {
            assert!(!echo.answers(&request(Some("a/1")), &page(Some("a/9"))));
            assert!(!echo.answers(&request(Some("a/1")), &page(None)));
            assert!(!echo.answers(&request(None), &page(Some("a/9"))));
        }
    }

    #[test]
    fn a_server_without_an_echo_or_with_a_strange_one_is_not_judged_by_it() {
        let echo = Echo::default();
        assert!(echo.answers(&request(Some("a/1")), &page(None)));
        let asked = (0..20).filter(|_| !echo.answers(&request(Some("a 1")), &page(Some("a+1"))));
        assert_eq!(asked.count(), 6);
        assert!(echo.answers(&request(Some("a 1")), &page(Some("a+1"))));
    }
}
