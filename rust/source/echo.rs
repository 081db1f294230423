//! Whether a page is the answer to the request that was made.
//!
//! Services repeat a request's prefix in the answer (`Prefix` of `ListObjectsV2` and of Azure's List
//! Blobs), and S3 and its kin its start-after (`StartAfter`). A proxy or server that mixes up answers
//! would make a listing skip what lies between two starts, or find nothing where another listing had
//! found nothing: such a page is in order and begins after its start.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::page::{Page, PageRequest};

/// So many contradictions without a single agreement: the server writes its echo in a way of its
/// own, which says nothing.
const MOST_CONTRADICTIONS: u32 = 6;

/// What is known of a server's echo.
#[derive(Debug, Default)]
pub(super) struct Echo {
    prefix: Habit,
    start_after: Habit,
}

/// How a server repeats one member of requests.
#[derive(Debug, Default)]
struct Habit {
    agreed: AtomicBool,
    contradicted: AtomicU32,
}

impl Habit {
    fn has_agreed(&self) -> bool {
        self.agreed.load(Ordering::Relaxed)
    }

    /// Whether it repeats what was asked for, or is known to write that in a way of its own.
    fn is_believed(&self, asked: Option<&str>, echo: &[u8]) -> bool {
        if asked.is_some_and(|asked| asked.as_bytes() == echo) {
            self.agreed.store(true, Ordering::Relaxed);
            return true;
        }
        !self.has_agreed()
            && self.contradicted.fetch_add(1, Ordering::Relaxed) >= MOST_CONTRADICTIONS
    }
}

impl Echo {
    /// What shows that `page` is the answer to another request than `request`.
    pub(super) fn contradiction(
        &self,
        request: &PageRequest<'_>,
        page: &Page,
    ) -> Option<&'static str> {
        let echo = page.echo.as_ref()?;
        if let Some(prefix) = &echo.prefix {
            let (asked, mut keys) = (request.prefix.as_bytes(), page.keys());
            if !page.is_empty() && prefix != asked && keys.all(|key| key.starts_with(asked)) {
                // The keys are those that were asked for, unless the server is known to be exact.
                self.prefix.contradicted.store(MOST_CONTRADICTIONS, Ordering::Relaxed);
            }
            if !self.prefix.is_believed(Some(request.prefix), prefix) {
                return Some("Prefix");
            }
        }
        if request.token.is_some() {
            // Services differ in whether they repeat the start of a continued listing.
            return None;
        }
        let is_answer = match (request.start_after, echo.start_after.as_deref()) {
            (None, None) => true,
            // A server that is known to repeat it has left it out: the answer to another request.
            (Some(_), None) => !self.start_after.has_agreed(),
            (asked, Some(echo)) => self.start_after.is_believed(asked, echo),
        };
        if is_answer { None } else { Some("StartAfter") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::page::Echoed;

    fn page(prefix: Option<&str>, start_after: Option<&str>) -> Page {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let echo = Echoed { prefix: prefix.map(bytes), start_after: start_after.map(bytes) };
        Page { echo: Some(echo), ..Page::default() }
    }

    fn from(start_after: Option<&str>) -> PageRequest<'_> {
        PageRequest { start_after, ..PageRequest::default() }
    }

    fn below(prefix: &str) -> PageRequest<'_> {
        PageRequest { prefix, ..PageRequest::default() }
    }

    #[test]
    fn the_answer_to_another_request_is_noticed() {
        let echo = Echo::default();
        let begun = |echo| page(None, echo);
        assert_eq!(echo.contradiction(&from(None), &begun(None)), None);
        let differs = Some("StartAfter");
        assert_eq!(echo.contradiction(&from(Some("a/1")), &begun(Some("a/9"))), differs);
        assert_eq!(echo.contradiction(&from(Some("a/1")), &begun(Some("a/1"))), None);
        for _ in 0..20 {
            assert_eq!(echo.contradiction(&from(Some("a/1")), &begun(Some("a/9"))), differs);
            assert_eq!(echo.contradiction(&from(Some("a/1")), &begun(None)), differs);
            assert_eq!(echo.contradiction(&from(None), &begun(Some("a/9"))), differs);
        }
    }

    #[test]
    fn the_answer_for_another_prefix_is_noticed_whatever_continues_it() {
        let echo = Echo::default();
        assert_eq!(echo.contradiction(&below("a/"), &page(Some("a/"), None)), None);
        for token in [None, Some("next")] {
            let request = PageRequest { token, ..below("a/") };
            let (other, none) = (page(Some("b/"), None), page(None, None));
            for _ in 0..20 {
                assert_eq!(echo.contradiction(&request, &other), Some("Prefix"));
            }
            // Some leave it out where nothing was found.
            assert_eq!(echo.contradiction(&request, &none), None);
        }
        // Of a document that nobody looked at for it.
        assert_eq!(echo.contradiction(&below("a/"), &Page::default()), None);
    }

    #[test]
    fn a_server_without_an_echo_or_with_a_strange_one_is_not_judged_by_it() {
        let echo = Echo::default();
        assert_eq!(echo.contradiction(&from(Some("a/1")), &page(None, None)), None);
        let (spaced, plus) = (from(Some("a 1")), page(None, Some("a+1")));
        let asked = (0..20).filter(|_| echo.contradiction(&spaced, &plus).is_some());
        assert_eq!(asked.count(), 6);
        assert_eq!(echo.contradiction(&spaced, &plus), None);
        let (spaced, plus) = (below("a 1/"), page(Some("a+1/"), None));
        let asked = (0..20).filter(|_| echo.contradiction(&spaced, &plus).is_some());
        assert_eq!(asked.count(), 6);
    }

    #[test]
    fn a_server_that_gives_the_right_keys_below_a_strange_prefix_is_believed_at_once() {
        let keys = |key: &[u8], prefix| {
            let mut builder = crate::source::page::PageBuilder::default();
            assert!(builder.push(key, 1, 1, b""));
            Page { echo: page(Some(prefix), None).echo, ..builder.finish(false, None) }
        };
        let echo = Echo::default();
        assert_eq!(echo.contradiction(&below("a/"), &keys(b"b/0", "tenant/a/")), Some("Prefix"));
        assert_eq!(echo.contradiction(&below("a/"), &keys(b"a/0", "tenant/a/")), None);
        assert_eq!(echo.contradiction(&below("a/"), &page(Some("tenant/a/"), None)), None);
        // What is known to be exact stays so.
        let exact = Echo::default();
        assert_eq!(exact.contradiction(&below("a/"), &page(Some("a/"), None)), None);
        assert_eq!(exact.contradiction(&below("a/"), &keys(b"a/b/0", "a/b/")), Some("Prefix"));
    }
}
