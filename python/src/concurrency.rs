//! Requests in flight, as Python says them: a number, or a word that the core knows.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use refreeze::list::limit::Concurrency;

/// `int | "auto"`.
#[derive(FromPyObject)]
pub(crate) enum PyConcurrency {
    Number(usize),
    Word(String),
}

impl TryFrom<PyConcurrency> for Concurrency {
    type Error = PyErr;

    fn try_from(given: PyConcurrency) -> PyResult<Self> {
        match given {
            PyConcurrency::Number(number) => Ok(Self::Fixed(number)),
            PyConcurrency::Word(word) => {
                word.parse().map_err(|error| PyValueError::new_err(format!("{error}")))
            }
        }
    }
}
