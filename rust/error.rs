//! The crate's one error type: what went wrong, where, and what to do next.
//!
//! Kinds are grouped by what a caller would do about them; each is one exception class of the
//! Python package. Messages and hints hold no secrets and are of a length that can be read: all of
//! them go through [`crate::shown`].

use std::fmt::Write as _;

use icechunk::repository::{RepositoryError, RepositoryErrorKind};
use icechunk::session::{SessionError, SessionErrorKind};
use icechunk::store::{StoreError, StoreErrorKind};

use crate::shown;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A region that does not align with chunks, is empty, or names an unknown dimension.
    Region,
    /// Metadata or data that cannot be referenced, naming the array and the feature.
    UnsupportedArray,
    /// There is nothing at the source's URL.
    SourceNotFound,
    /// There is no repository at the target's URL, or not what is asked for in it.
    TargetNotFound,
    /// A create onto arrays that exist.
    AlreadyExists,
    /// The source or the options do not agree with what the target holds.
    Mismatch,
    /// Fewer or more chunks than the caller expects.
    Incomplete,
    /// A listing that cannot be trusted, or that the server did not give.
    Listing,
    /// The target cannot hold the repository.
    Target,
    /// The branch moved, or another process holds the target.
    Conflict,
    /// Credentials are missing or were refused.
    Access,
    /// The caller asked to stop.
    Interrupted,
}

/// An error with a remedy.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    redirection: bool,
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `message` says what is wrong and where, without a trailing period.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: shown::text(&message.into()), hint: None, redirection: false }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(shown::text(&hint.into()));
        self
    }

    /// Says that a server sent a request to another host; `side` is `source` or `target`.
    #[must_use]
    pub(crate) fn of_redirection(self, side: &str) -> Self {
        let hint = format!(
            "credentials are sent to no other host; set the bucket's own --{side}-option region=… \
             (AWS_REGION) and endpoint=…"
        );
        Self { redirection: true, ..self.with_hint(hint) }
    }

    /// Whether a server sent a request to another host.
    pub(crate) fn is_redirection(&self) -> bool {
        self.redirection
    }

    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What is wrong and where.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// The messages of an error and of everything that caused it, on one line, without repetition.
///
/// Libraries differ in whether an outer message repeats the inner one; a part that the text
/// already holds is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = first_line(&error.to_string());
    let mut source = error.source();
    while let Some(inner) = source {
        let part = first_line(&inner.to_string());
        if !part.is_empty() && !text.contains(&part) {
            let _ = write!(text, ": {part}");
        }
        source = inner.source();
    }
    text
}

/// One line of what an error says: without the body of a server's answer, and without the span
/// trace that Icechunk appends after an empty line.
#[must_use]
pub fn first_line(text: &str) -> String {
    let text = shown::answer::without_answer(text);
    let text = text.split("\n\n").next().unwrap_or_default();
    text.trim().trim_end_matches('.').replace('\n', " ")
}

/// Whether the cause of an error, at any depth, is a refusal of credentials or permissions.
pub(crate) fn refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(store) = inner.downcast_ref::<object_store::Error>()
            && refused_by_store(store)
        {
            return true;
        }
        if let Some(io) = inner.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::PermissionDenied
        {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// Whether a request was not made because its endpoint is without encryption and nobody allowed
/// that; the HTTP client says so in its text alone.
pub(crate) fn never_sent(error: &(dyn std::error::Error + 'static)) -> bool {
    chain(error).contains("URL scheme is not allowed")
}

/// `object_store` sorts the answers to most requests by their status, but not those to LIST: there
/// the status is in the text alone.
fn refused_by_store(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => true,
        object_store::Error::Generic { .. } => {
            let text = chain(error);
            ["status code: 401", "status code: 403"].iter().any(|status| text.contains(status))
        }
        _ => false,
    }
}

/// The answer of a server that sends a request to another host; it is not followed there.
#[derive(Debug, thiserror::Error)]
#[error("the server answers {status} and redirects {to}{region}")]
pub(crate) struct Redirected {
    pub(crate) status: u16,
    /// Where to, as a part of a sentence.
    pub(crate) to: String,
    /// Which region is the right one, if the server says so.
    pub(crate) region: String,
}

/// Whether the cause of an error, at any depth, is a redirection that was not followed.
pub(crate) fn redirected(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if inner.is::<Redirected>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// Whether no connection by TLS will ever come about: the server speaks plain HTTP, or has a
/// certificate that is not trusted.
pub(crate) fn no_tls_ever(error: &(dyn std::error::Error + 'static)) -> bool {
    // The library that finds out is three layers below; its errors have no other signs.
    let text = chain(error);
    text.contains("InvalidContentType") || text.contains(BAD_CERTIFICATE)
}

const BAD_CERTIFICATE: &str = "invalid peer certificate";

/// What to do about a server that was not reached, unless its error says more.
pub(crate) fn network_hint<'a>(message: &str, usual: &'a str) -> &'a str {
    match message.split_once(BAD_CERTIFICATE) {
        Some((_, reason)) if reason.contains("UnknownIssuer") => UNKNOWN_AUTHORITY,
        _ => usual,
    }
}

const UNKNOWN_AUTHORITY: &str = "nobody here knows the authority that signed the certificate: set SSL_CERT_FILE to a file (PEM) \
     with the authority's own, and those of all others that are trusted";

/// What to do when the source refuses.
pub(crate) const SOURCE_ACCESS_HINT: &str = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set --source-option access_key_id=… \
     and secret_access_key=… (skip_signature=true for public data)";

const TARGET_ACCESS_HINT: &str = "check the credentials and permissions for the target: AWS_ACCESS_KEY_ID and \
     AWS_SECRET_ACCESS_KEY, or --target-option access_key_id=… and secret_access_key=…; \
     on Google Cloud and Azure, the GOOGLE_* and AZURE_* variables; on local disk, the folder's permissions";

/// An error while `doing` something with the target.
pub(crate) fn target_error(
    doing: &str,
    error: &(dyn std::error::Error + Send + Sync + 'static),
) -> Error {
    let text = format!("cannot {doing}: {}", chain(error));
    if refused(error) {
        Error::new(ErrorKind::Access, text).with_hint(TARGET_ACCESS_HINT)
    } else if redirected(error) {
        Error::new(ErrorKind::Target, text).of_redirection("target")
    } else if text.contains("NoSuchBucket") {
        Error::new(ErrorKind::Target, text)
            .with_hint("create the bucket first, or check its name and the endpoint")
    } else if never_sent(error) {
        Error::new(ErrorKind::Target, text).with_hint(
            "nothing is sent to an endpoint without encryption unless allow_http=true is set",
        )
    } else {
        let usual = "check the target's path or URL, its settings and the network";
        let hint = network_hint(&text, usual);
        Error::new(ErrorKind::Target, text).with_hint(hint)
    }
}

/// Turns Icechunk's results into this crate's, saying what was being done.
pub(crate) trait TargetContext<T> {
    /// `doing` completes the sentence "cannot …".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> TargetContext<T> for std::result::Result<T, RepositoryError> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| repository_error(&doing(), &error.kind))
    }
}

impl<T> TargetContext<T> for std::result::Result<T, SessionError> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| match &error.kind {
            SessionErrorKind::RepositoryError(kind) => repository_error(&doing(), kind),
            SessionErrorKind::Conflict { expected_parent, actual_parent } => {
                conflict(&doing(), &format!("{expected_parent:?}"), &format!("{actual_parent:?}"))
            }
            kind => target_error(&doing(), kind),
        })
    }
}

impl<T> TargetContext<T> for std::result::Result<T, StoreError> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| match &error.kind {
            StoreErrorKind::RepositoryError(kind) => repository_error(&doing(), kind),
            kind => target_error(&doing(), kind),
        })
    }
}

fn repository_error(doing: &str, kind: &RepositoryErrorKind) -> Error {
    match kind {
        RepositoryErrorKind::Conflict { expected_parent, actual_parent } => {
            conflict(doing, &format!("{expected_parent:?}"), &format!("{actual_parent:?}"))
        }
        kind => target_error(doing, kind),
    }
}

fn conflict(doing: &str, expected: &str, actual: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("cannot {doing}: expected the branch at {expected}, found it at {actual}"),
    )
    .with_hint("another client is writing to this repository; run the same command again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer\n\ncontext:\nspans")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_is_one_line_without_span_traces() {
        let error = Outer(std::io::Error::other("inner"));
        assert_eq!(chain(&error), "outer: inner");
    }

    #[test]
    fn of_an_error_document_only_code_and_message_are_shown() {
        let document = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n\
             <Error><Code>SignatureDoesNotMatch</Code><Message>wrong</Message>\n\
             <CanonicalRequest>x-amz-security-token:hidden</CanonicalRequest></Error>";
        assert_eq!(
            first_line(document),
            "Server returned non-2xx status code: 403 Forbidden: SignatureDoesNotMatch: wrong"
        );
        let store = |text: &'static str| object_store::Error::Generic {
            store: "S3",
            source: Box::new(std::io::Error::other(text)),
        };
        assert!(refused(&store(document)));
        assert!(!refused(&store("Server returned non-2xx status code: 503 Slow Down: ")));
    }

    #[test]
    fn a_refused_file_is_an_access_error() {
        let error = Outer(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        assert_eq!(target_error("write", &error).kind(), ErrorKind::Access);
        let error = Outer(std::io::Error::other("disk full"));
        assert_eq!(target_error("write", &error).kind(), ErrorKind::Target);
    }
}
