//! Workers that Python knows (executors, clusters), as the core calls them; their task is not here.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use refreeze::ErrorKind;
use refreeze::jobs::ingest::{Crew, Workers};

/// What a call of Python has raised, for whoever called the core.
#[derive(Clone, Default)]
pub(crate) struct Raised(Arc<Mutex<Option<PyErr>>>);

impl Raised {
    pub(crate) fn take(&self) -> Option<PyErr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, error: PyErr) -> refreeze::Error {
        let text = error.to_string();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        refreeze::Error::new(ErrorKind::Target, format!("workers failed: {text}"))
    }
}

/// `refreeze.distributed.crew.Crew`.
struct PyWorkers {
    crew: Py<PyAny>,
    raised: Raised,
}

impl PyWorkers {
    fn call<T: for<'a, 'py> FromPyObject<'a, 'py, Error = PyErr>>(
        &self,
        method: &str,
        argument: Option<&str>,
    ) -> refreeze::Result<T> {
        Python::attach(|py| {
            let crew = self.crew.bind(py);
            let result = match argument {
                Some(argument) => crew.call_method1(method, (argument,)),
                None => crew.call_method0(method),
            };
            result.and_then(|value| value.extract())
        })
        .map_err(|error| self.raised.keep(error))
    }
}

impl Workers for PyWorkers {
    fn count(&self) -> refreeze::Result<u64> {
        self.call("count", None)
    }

    fn start(&self, plan: &str) -> refreeze::Result<()> {
        self.call::<Option<bool>>("start", Some(plan)).map(drop)
    }

    fn submit(&self, unit: &str) -> refreeze::Result<()> {
        self.call::<Option<bool>>("submit", Some(unit)).map(drop)
    }

    fn arrived(&self) -> refreeze::Result<Vec<String>> {
        self.call("arrived", None)
    }
}

/// The crew that an object of Python stands for, and what its calls raise.
pub(crate) fn crew(py: Python<'_>, crew: Option<Py<PyAny>>) -> PyResult<(Option<Crew>, Raised)> {
    let raised = Raised::default();
    let Some(crew) = crew else { return Ok((None, raised)) };
    let kind: String = crew.getattr(py, "kind")?.extract(py)?;
    let crew = match kind.as_str() {
        "later" => Crew::Later,
        "nobody" => Crew::Nobody,
        "workers" => Crew::Workers(Arc::new(PyWorkers { crew, raised: raised.clone() })),
        other => return Err(PyValueError::new_err(format!("unknown kind of crew {other}"))),
    };
    Ok((Some(crew), raised))
}
