//! Listings that exist already, as Python hands them over: record batches in, opened sources out.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3_arrow::PyRecordBatch;
use refreeze::list::limit::{Concurrency, ConcurrencyLimit};
use refreeze::list::sample_inventory;
use refreeze::source::inventory::{InventoryColumns, InventoryPlace};

use crate::concurrency::PyConcurrency;
use crate::errors::to_python;
use crate::ingest::interruptible;
use crate::runtime::run;
use crate::stores::{OpenedSource, source};

/// `refreeze.stores.listing_tables.Columns`.
#[derive(FromPyObject)]
struct Columns {
    key: String,
    size: String,
    last_modified: String,
    e_tag: Option<String>,
    md5: Option<String>,
    bucket: Option<String>,
    of_bucket: Option<String>,
    is_latest: Vec<String>,
    is_left_out: Vec<String>,
    is_absent: Vec<String>,
    encoded_keys: bool,
    quoted_tags: bool,
}

impl From<Columns> for InventoryColumns {
    fn from(given: Columns) -> Self {
        Self {
            key: given.key,
            size: given.size,
            last_modified: given.last_modified,
            e_tag: given.e_tag,
            md5: given.md5,
            bucket: given.bucket,
            of_bucket: given.of_bucket,
            is_latest: given.is_latest,
            is_left_out: given.is_left_out,
            is_absent: given.is_absent,
            encoded_keys: given.encoded_keys,
            quoted_tags: given.quoted_tags,
        }
    }
}

/// Prefixes, bucket and URL of a source; see `InventoryPlace`.
type Place = (Vec<String>, Option<String>, String);

/// Sorts the rows of a listing; see `refreeze.stores.listings`.
#[pyclass(frozen, module = "refreeze._refreeze")]
pub(crate) struct InventoryBuilder(Mutex<Option<refreeze::source::inventory::InventoryBuilder>>);

#[pymethods]
impl InventoryBuilder {
    #[new]
    fn new(folder: PathBuf, memory: usize, places: Vec<Place>) -> Self {
        let places = places
            .into_iter()
            .map(|(prefixes, bucket, url)| InventoryPlace { prefixes, bucket, url })
            .collect();
        let builder = refreeze::source::inventory::InventoryBuilder::new(folder, memory, places);
        Self(Mutex::new(Some(builder)))
    }

    /// Takes the rows of a record batch.
    fn add(&self, py: Python<'_>, batch: PyRecordBatch, columns: Columns) -> PyResult<()> {
        let (batch, columns) = (batch.into_inner(), columns.into());
        let added = py.detach(|| self.builder().as_mut().map(|all| all.add(&batch, &columns)));
        added.ok_or_else(finished)?.map_err(|error| to_python(py, &error))
    }

    /// Rows taken, and objects found below each source.
    fn counts(&self) -> PyResult<(u64, Vec<u64>)> {
        let builder = self.builder();
        let (rows, found) = builder.as_ref().ok_or_else(finished)?.counts();
        Ok((rows, found.to_vec()))
    }

    /// The sources, each listed by its part of the rows.
    fn finish(
        &self,
        py: Python<'_>,
        sources: Vec<(Bound<'_, PyAny>, String)>,
    ) -> PyResult<Vec<OpenedSource>> {
        let opened = sources
            .into_iter()
            .map(|(store, path)| source(&store, &path))
            .collect::<PyResult<Vec<_>>>()?;
        let builder = self.builder().take().ok_or_else(finished)?;
        let inventories = py.detach(|| builder.finish()).map_err(|error| to_python(py, &error))?;
        let pairs = opened.into_iter().zip(inventories);
        Ok(pairs.map(|(source, all)| OpenedSource::new(source.with_inventory(all))).collect())
    }
}

impl InventoryBuilder {
    fn builder(&self) -> MutexGuard<'_, Option<refreeze::source::inventory::InventoryBuilder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn finished() -> PyErr {
    PyValueError::new_err("the listing has been sorted already")
}

/// Compares pages of a listing with those of the service; LIST requests, keys, and newer ones.
#[pyfunction]
#[pyo3(signature = (opened, *, pages, date, concurrency))]
pub(crate) fn sample_listing(
    py: Python<'_>,
    opened: &Bound<'_, PyAny>,
    pages: usize,
    date: i64,
    concurrency: PyConcurrency,
) -> PyResult<(u64, u64, u64)> {
    let source = source(opened, "")?;
    let in_flight = Concurrency::try_from(concurrency)?.in_flight(usize::MAX);
    let limit: Arc<ConcurrencyLimit> = ConcurrencyLimit::within(in_flight, None);
    let look = async move { sample_inventory(&source, pages, date, &limit).await };
    let found = run(py, |stopped| interruptible(look, stopped))?;
    Ok((found.list_requests, found.keys, found.newer))
}
