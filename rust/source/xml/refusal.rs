//! Why the body of an answer is not read as a page: for the lexer, which meets it, and for whoever
//! decides what is done then.

/// Why a body did not become a [`Page`](crate::source::page::Page).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Perhaps a page, in a form that this scanner leaves to a full parser.
    #[error("unusual XML: {0}")]
    Unusual(&'static str),
    /// The service reports a failure under status 200.
    #[error("the service answered with an error document: {code}: {message}")]
    ErrorDocument {
        /// As in `<Code>`; empty when there is none.
        code: String,
        /// As in `<Message>`; empty when there is none.
        message: String,
    },
    /// The document is something else, or no XML at all.
    #[error("the answer is not a listing")]
    NotAListing,
    /// The document ends too early.
    #[error("the listing ends in the middle")]
    Incomplete,
}
