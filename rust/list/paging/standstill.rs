//! Empty pages that lead back to themselves.

use crate::source::page::Page;

/// How often such a page is asked for once more.
const MOST: u32 = 10;

/// Empty pages in a row whose token is the one that they were asked for by: the service has not got
/// on. It may the next time, so that this alone is no circle.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standstill {
    times: u32,
}

impl Standstill {
    /// Whether `page`, which was asked for with `token`, is to be asked for again in the same way.
    pub(crate) fn asks_again(&mut self, page: &Page, token: Option<&str>) -> bool {
        let stands = token.is_some()
            && page.next_token.as_deref() == token
            && page.is_empty()
            && page.folders().next().is_none();
        self.times = if stands { self.times + 1 } else { 0 };
        stands && self.times <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_stands_still_is_asked_for_ten_times_more() {
        let page = |token: &str| Page {
            truncated: true,
            next_token: Some(token.to_owned()),
            ..Page::default()
        };
        let mut standstill = Standstill::default();
        assert!(!standstill.asks_again(&page("a"), None));
        for _ in 0..2 {
            assert!((0..10).all(|_| standstill.asks_again(&page("a"), Some("a"))));
            assert!(!standstill.asks_again(&page("a"), Some("a")));
            assert!(!standstill.asks_again(&page("b"), Some("a")));
        }
        assert!(!standstill.asks_again(&Page::default(), None));
    }
}
