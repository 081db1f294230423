//! Objects and folders of a source as `refreeze.reading` asks for them.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use refreeze::list::limit::ConcurrencyLimit;
use refreeze::list::{FolderRequest, Lister, list_folders as run_list_folders};
use refreeze::source::Expected;

use crate::ingest::interruptible;
use crate::runtime::run;
use crate::stores::source;

/// Key, and size and `ETag` as they were listed.
type Wanted = (String, Option<u64>, Option<String>);

/// Reads objects; see `refreeze.reading.Reader`.
#[pyfunction]
#[pyo3(signature = (store, path, wanted, *, limit, beside, concurrency))]
pub(crate) fn read_objects<'py>(
    py: Python<'py>,
    store: &Bound<'py, PyAny>,
    path: &str,
    wanted: Vec<Wanted>,
    limit: Option<u64>,
    beside: Option<String>,
    concurrency: usize,
) -> PyResult<Vec<Option<Bound<'py, PyBytes>>>> {
    let source = Arc::new(source(store, path)?);
    let read = async move {
        futures::stream::iter(wanted)
            .map(|(key, size, e_tag)| {
                let source = Arc::clone(&source);
                let beside = beside.clone();
                async move {
                    let expected = Expected { size, e_tag, limit, accept: None, beside };
                    source.read(&key, &expected).await
                }
            })
            .buffered(concurrency.max(1))
            .try_collect::<Vec<_>>()
            .await
    };
    let found = run(py, |stopped| interruptible(read, stopped))?;
    Ok(found.into_iter().map(|bytes| bytes.map(|bytes| PyBytes::new(py, &bytes))).collect())
}

/// Names of folders and of objects.
type Names = (Vec<String>, Vec<String>);

/// Lists folders, each with names of objects that are known to be there; see
/// `refreeze.reading.Reader`.
#[pyfunction]
#[pyo3(signature = (store, path, folders, *, concurrency))]
pub(crate) fn list_folders(
    py: Python<'_>,
    store: &Bound<'_, PyAny>,
    path: &str,
    folders: Vec<(String, Vec<String>)>,
    concurrency: usize,
) -> PyResult<Vec<Names>> {
    let Lister::Pages(source) = Lister::of(&source(store, path)?) else {
        return Err(PyTypeError::new_err("folders are listed of buckets and inventories only"));
    };
    let wanted: Vec<_> =
        folders.into_iter().map(|(path, known)| FolderRequest { path, known }).collect();
    let list =
        async move { run_list_folders(source, wanted, &ConcurrencyLimit::new(concurrency)).await };
    let found = run(py, |stopped| interruptible(list, stopped))?;
    Ok(found
        .into_iter()
        .map(|folder| (folder.folders.into_iter().collect(), folder.objects.into_iter().collect()))
        .collect())
}
