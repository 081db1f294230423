//! Stores that this library cannot make anew: listed and read by calls into Python, page by page.
//!
//! Calls run on threads that may wait, and hold the GIL for a page at a time. Which stores those are
//! is decided in [`stores`](crate::stores).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use pyo3::exceptions::{PyFileNotFoundError, PyPermissionError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use refreeze::source::{ForeignObject, ForeignStore, ObjectInfo};
use refreeze::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

/// Objects that one call into Python gives.
const PAGE: usize = 1_000;

/// Pages that wait for whoever takes them.
const WAITING: usize = 2;

/// A path in an obstore store, or in one that has the same methods.
pub(crate) struct PythonStore(Arc<Inner>);

struct Inner {
    store: Py<PyAny>,
    folder: String,
}

impl PythonStore {
    pub(crate) fn new(store: &Bound<'_, PyAny>, path: &str) -> Self {
        let folder = path.trim_matches('/').to_owned();
        Self(Arc::new(Inner { store: store.clone().unbind(), folder }))
    }

    /// Makes a call on a thread that may wait; `None` where the store says that nothing is there.
    fn call<T: Send + 'static>(
        &self,
        doing: &'static str,
        key: &str,
        call: impl FnOnce(&Bound<'_, PyAny>, &str) -> PyResult<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<Option<T>>> {
        let (inner, key) = (Arc::clone(&self.0), self.0.key(key));
        async move {
            let called = tokio::task::spawn_blocking(move || {
                Python::attach(|py| match call(inner.store.bind(py), &key) {
                    Ok(found) => Ok(Some(found)),
                    Err(error) if error.is_instance_of::<PyFileNotFoundError>(py) => Ok(None),
                    Err(error) => Err(failed(py, doing, &key, &error)),
                })
            });
            called.await.unwrap_or_else(|failure| Err(ended(&failure)))
        }
        .boxed()
    }
}

impl Inner {
    /// A key relative to the source's root, as the store knows it.
    fn key(&self, relative: &str) -> String {
        match (self.folder.is_empty(), relative.is_empty()) {
            (true, _) => relative.to_owned(),
            (false, true) => self.folder.clone(),
            (false, false) => format!("{}/{relative}", self.folder),
        }
    }

    /// Sends pages until there are no more, or nobody wants them.
    fn send_pages(&self, prefix: &str, pages: &mpsc::Sender<Result<Vec<ForeignObject>>>) {
        let prefix = self.key(prefix);
        let started = Python::attach(|py| {
            let listed = listed(self.store.bind(py), prefix.trim_end_matches('/'));
            listed.map(Bound::unbind).map_err(|error| failed(py, "list", &prefix, &error))
        });
        let listed = match started {
            Ok(listed) => listed,
            Err(error) => return drop(pages.blocking_send(Err(error))),
        };
        loop {
            let page = Python::attach(|py| {
                let next = listed.bind(py).try_iter()?.next();
                next.map(|page| self.objects(&page?)).transpose()
            });
            let sent = match page {
                Ok(None) => return,
                Ok(Some(page)) => pages.blocking_send(Ok(page)),
                Err(error) => {
                    let error = Python::attach(|py| failed(py, "list", &prefix, &error));
                    return drop(pages.blocking_send(Err(error)));
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }

    fn objects(&self, page: &Bound<'_, PyAny>) -> PyResult<Vec<ForeignObject>> {
        let mut objects = Vec::with_capacity(page.len().unwrap_or_default());
        for object in page.try_iter()? {
            let object = object?;
            let key: String = object.get_item("path")?.extract()?;
            let relative = key.strip_prefix(&self.folder).unwrap_or(&key).trim_start_matches('/');
            objects.push(ForeignObject { key: relative.to_owned(), info: info(&object)? });
        }
        Ok(objects)
    }
}

impl ForeignStore for PythonStore {
    fn list(&self, prefix: &str) -> BoxStream<'static, Result<Vec<ForeignObject>>> {
        let (inner, prefix) = (Arc::clone(&self.0), prefix.to_owned());
        let start = async move {
            let (send, receive) = mpsc::channel(WAITING);
            let listing = tokio::task::spawn_blocking(move || inner.send_pages(&prefix, &send));
            // The task's own end comes after the last page, and is an error only if it panicked.
            futures::stream::unfold((receive, Some(listing)), |(mut receive, listing)| async {
                match (receive.recv().await, listing) {
                    (Some(page), listing) => Some((page, (receive, listing))),
                    (None, Some(listing)) => match listing.await {
                        Ok(()) => None,
                        Err(failure) => Some((Err(ended(&failure)), (receive, None))),
                    },
                    (None, None) => None,
                }
            })
        };
        start.flatten_stream().boxed()
    }

    fn head(&self, key: &str) -> BoxFuture<'static, Result<Option<ObjectInfo>>> {
        self.call("read", key, |store, key| info(&store.call_method1("head", (key,))?))
    }

    fn read(&self, key: &str) -> BoxFuture<'static, Result<Option<Vec<u8>>>> {
        self.call("read", key, |store, key| {
            let bytes = store.call_method1("get", (key,))?.call_method0("bytes")?;
            let bytes = store.py().import("builtins")?.call_method1("bytes", (bytes,))?;
            bytes.extract::<Vec<u8>>()
        })
    }
}

/// The iterator of a store's pages; not every library lets the size of a page be chosen.
fn listed<'py>(store: &Bound<'py, PyAny>, prefix: &str) -> PyResult<Bound<'py, PyAny>> {
    let chunked = PyDict::new(store.py());
    chunked.set_item("chunk_size", PAGE)?;
    let pages = match store.call_method("list", (prefix,), Some(&chunked)) {
        Err(error) if error.is_instance_of::<PyTypeError>(store.py()) => {
            store.call_method1("list", (prefix,))?
        }
        pages => pages?,
    };
    Ok(pages.try_iter()?.into_any())
}

/// What obstore's `ObjectMeta`, a dictionary, says.
fn info(object: &Bound<'_, PyAny>) -> PyResult<ObjectInfo> {
    let modified: DateTime<Utc> = object.get_item("last_modified")?.extract()?;
    Ok(ObjectInfo {
        size: object.get_item("size")?.extract()?,
        last_modified: modified.timestamp_micros(),
        e_tag: object.get_item("e_tag")?.extract()?,
    })
}

fn failed(py: Python<'_>, doing: &str, key: &str, error: &PyErr) -> Error {
    let name = |class: PyResult<_>| class.map(|name: Bound<'_, _>| name.to_string());
    let class = name(error.get_type(py).name()).unwrap_or_default();
    let refused = error.is_instance_of::<PyPermissionError>(py)
        || ["PermissionDeniedError", "UnauthenticatedError"].contains(&class.as_str());
    let kind = if refused { ErrorKind::Access } else { ErrorKind::Listing };
    let said = refreeze::error::first_line(&error.value(py).to_string());
    Error::new(kind, format!("cannot {doing} {key}: {class}: {said}"))
        .with_hint("the store's own library said so; check the store's settings and the network")
}

fn ended(failure: &tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Listing, format!("the call into Python did not end: {failure}"))
}
