//! Errors of the crate as exceptions of `refreeze.exceptions`.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use refreeze::{Error, ErrorKind};

/// The exception for an error: the class that is named after its kind, with message and hint.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error.kind() {
        ErrorKind::Region => "RegionError",
        ErrorKind::UnsupportedArray => "UnsupportedArrayError",
        ErrorKind::SourceNotFound => "SourceNotFoundError",
        ErrorKind::TargetNotFound => "TargetNotFoundError",
        ErrorKind::Incomplete => "IncompleteError",
        ErrorKind::AlreadyExists => "AlreadyExistsError",
        ErrorKind::Mismatch => "MismatchError",
        ErrorKind::Listing => "ListingError",
        ErrorKind::Target => "TargetError",
        ErrorKind::Conflict => "ConflictError",
        ErrorKind::Access => "AccessError",
        ErrorKind::Interrupted => return PyKeyboardInterrupt::new_err(error.message().to_owned()),
        _ => "RefreezeError",
    };
    let exception = py
        .import("refreeze.exceptions")
        .and_then(|module| module.getattr(class))
        .and_then(|class| class.call1((error.message(), error.hint())));
    match exception {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}
