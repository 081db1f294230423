//! Why a LIST request gave no page, and what can be done about that.

/// What can be done about a [`PageError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageErrorKind {
    /// The service asks for fewer requests (429, 503 `SlowDown`): later, and with less at a time.
    Throttled,
    /// Connection, timeout, another 5xx, an error in the middle of a body, a 200 whose body is an
    /// error document or no listing: the same request again may succeed.
    Transient,
    /// The service knows no start-after: there may be another way to list.
    Unsupported,
    /// Credentials are missing or were refused.
    AccessDenied,
    /// There is no such bucket.
    NotFound,
    /// Anything else; asking again is of no use.
    Fatal,
    /// The server sends the request to another host, where credentials do not follow.
    Redirected,
}

/// Why there is no page.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct PageError {
    /// What can be done about it.
    pub kind: PageErrorKind,
    /// What is wrong, without credentials and without a trailing period.
    pub message: String,
    /// What to do about a refusal, where that depends on the service.
    pub hint: Option<&'static str>,
}

impl PageError {
    /// An error of `kind`.
    pub fn new(kind: PageErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// The same error with what to do about it.
    #[must_use]
    pub fn with_hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}
