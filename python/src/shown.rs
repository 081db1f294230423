//! What of a text may be shown, for Python's own messages, logs and reports.

use pyo3::prelude::*;
use refreeze::shown;

/// A text as a message shows it: one line, without secrets, of a length that can be read.
#[pyfunction]
#[pyo3(name = "shown_text")]
pub(crate) fn shown_text(text: &str) -> String {
    shown::text(text)
}

/// A text without secrets, and otherwise as it is.
#[pyfunction]
pub(crate) fn redact(text: &str) -> String {
    shown::secrets::redact(text).into_owned()
}

/// One line of what a library's error says, without the body of a server's answer.
#[pyfunction]
pub(crate) fn error_line(text: &str) -> String {
    shown::text(&refreeze::error::first_line(text))
}

/// Takes note of values that must not be shown from now on.
#[pyfunction]
pub(crate) fn remember_secrets(secrets: Vec<String>) {
    for secret in secrets {
        shown::secrets::remember(&secret);
    }
}
