//! What travels with a request in its extensions: how its response is to be read, and what became
//! of it. The connector fills them in; its callers read them.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use object_store::client::HttpResponse;

/// Marks a request whose response is wanted as a page, and counts what became of it. One exchange can
/// serve many requests; it travels in the request's extensions.
#[derive(Debug, Default)]
pub struct Exchange {
    pub(super) requests: AtomicU64,
    pub(super) throttled: AtomicU64,
    pub(super) stock_pages: AtomicU64,
    pub(super) status: AtomicU64,
    pub(super) waiting: AtomicU32,
    pub(super) json: bool,
    pub(super) json_absent: AtomicBool,
    pub(super) hierarchical: AtomicBool,
}

impl Exchange {
    /// For a request that goes to Google's JSON API instead of its XML API.
    #[must_use]
    pub fn json() -> Self {
        Self { json: true, ..Self::default() }
    }

    /// Whether the answer came from a server that has no JSON API.
    #[must_use]
    pub fn json_absent(&self) -> bool {
        self.json_absent.load(Ordering::Relaxed)
    }

    /// Whether the page showed that folders are listed as such, in an order of their own.
    #[must_use]
    pub fn hierarchical(&self) -> bool {
        self.hierarchical.load(Ordering::Relaxed)
    }

    /// Requests sent, each retry of `object_store` included.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Answers that ask for fewer requests: 429, 503, or `SlowDown` in a document under 200.
    #[must_use]
    pub fn throttled(&self) -> u64 {
        self.throttled.load(Ordering::Relaxed)
    }

    /// Status of the last answer, after error documents under 200 were given their own; `None`
    /// when nothing was answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        u16::try_from(self.status.load(Ordering::Relaxed)).ok().filter(|status| *status > 0)
    }

    /// Answers to other requests that had come and whose turn to be read had not, when the last one
    /// came.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Pages that went to the stock parser.
    #[must_use]
    pub fn stock_pages(&self) -> u64 {
        self.stock_pages.load(Ordering::Relaxed)
    }

    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the answer to the read of an object said, beside what `object_store` tells of it; travels
/// in the request's extensions.
#[derive(Debug, Default)]
pub struct Answer {
    status: AtomicU64,
    tag_is_no_digest: AtomicBool,
}

impl Answer {
    /// Status; `None` when nothing was answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        u16::try_from(self.status.load(Ordering::Relaxed)).ok().filter(|status| *status > 0)
    }

    /// Whether the object is encrypted in a way in which S3's `ETag` is no digest of its bytes,
    /// although it looks like one.
    #[must_use]
    pub fn tag_is_no_digest(&self) -> bool {
        self.tag_is_no_digest.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, response: &HttpResponse) {
        self.status.store(u64::from(response.status().as_u16()), Ordering::Relaxed);
        let headers = response.headers();
        let by_key_service = headers
            .get("x-amz-server-side-encryption")
            .is_some_and(|value| value.as_bytes().starts_with(b"aws:kms"));
        let by_customer = headers.contains_key("x-amz-server-side-encryption-customer-algorithm");
        self.tag_is_no_digest.store(by_key_service || by_customer, Ordering::Relaxed);
    }
}
