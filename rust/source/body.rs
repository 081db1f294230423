//! What one attempt to read an object brings: its bytes, or why they did not come.

use bytes::Bytes;

use super::page::PageError;
use crate::{Error, ErrorKind};

/// What came.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    /// Unless it cannot be a digest.
    pub(super) e_tag: Option<String>,
}

/// Why nothing came.
pub(super) enum Failure {
    Page(PageError),
    /// Bytes of an object that was not read for its size.
    TooLarge(u64),
}

impl From<PageError> for Failure {
    fn from(error: PageError) -> Self {
        Self::Page(error)
    }
}

/// The error for an object that has more bytes than are to be read.
pub(super) fn too_large(shown: &str, size: u64, limit: u64) -> Error {
    Error::new(
        ErrorKind::UnsupportedArray,
        format!("{shown} is too large for a metadata document: {size} bytes, more than {limit}"),
    )
    .with_hint("if it is right, allow it with --max-document")
}
