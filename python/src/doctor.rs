//! What `refreeze doctor` asks the core: how a bucket lists, and whether a target is safe.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use refreeze::list::examine_listing as run_examine_listing;
use refreeze::source::Source;
use refreeze::target::Target;

use crate::ingest::{interruptible, target};
use crate::runtime::run;
use crate::stores::source;

/// Lists two pages below a path of a bucket; see `refreeze.doctor`. Returns JSON.
#[pyfunction]
pub(crate) fn examine_listing(
    py: Python<'_>,
    store: &Bound<'_, PyAny>,
    path: &str,
) -> PyResult<String> {
    let Source::Bucket(source) = source(store, path)? else {
        return Err(PyTypeError::new_err("only listings of buckets are examined"));
    };
    let examined =
        run(
            py,
            |stopped| async move { interruptible(run_examine_listing(&source), stopped).await },
        )?;
    serde_json::to_string(&examined).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Raises what makes a target unsafe; see `refreeze.doctor`.
#[pyfunction]
pub(crate) fn check_writes(py: Python<'_>, target: &Bound<'_, PyAny>) -> PyResult<()> {
    let location = self::target(target)?;
    // Not interruptible: an object that was written is to be deleted.
    run(py, |_stopped| async move { Target::check_writes(&location).await })
}
